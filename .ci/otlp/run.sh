#!/usr/bin/env bash
# The OTLP tests with the SDKs of Python and JavaScript, and with a real Prometheus behind the agent. The SDKs are installed into a
# temporary folder (kept in ALLOY_CI_CACHE).
#
#     .ci/otlp/run.sh PROGRAM [SECONDS]
set -euo pipefail
program=$(realpath "$1")
here=$(dirname "$(realpath "$0")")
cache="${ALLOY_CI_CACHE:-$HOME/.cache/alloy-ci}/otlp"
mkdir -p "$cache/node"
if [ ! -e "$cache/python/ready" ]; then
    python3 -m venv "$cache/python"
    "$cache/python/bin/pip" install --quiet --no-input 'opentelemetry-sdk>=1.39,<2' \
        opentelemetry-exporter-otlp-proto-grpc opentelemetry-exporter-otlp-proto-http
    touch "$cache/python/ready"
fi
modules=()
if command -v npm >/dev/null; then
    if [ ! -e "$cache/node/ready" ]; then
        (cd "$cache/node" && npm init -y >/dev/null && npm install --silent --no-fund --no-audit \
            @opentelemetry/{resources,sdk-metrics,sdk-logs,sdk-trace-base,api,api-logs} \
            @opentelemetry/exporter-{metrics,logs,trace}-otlp-{grpc,http,proto})
        touch "$cache/node/ready"
    fi
    modules=(--node-modules "$cache/node")
else
    echo "no npm here: the JavaScript SDK is left out"
fi
"$cache/python/bin/python" "$here/run.py" --alloy "$program" --seconds "${2:-20}" "${modules[@]}"
if command -v prometheus >/dev/null; then
    "$cache/python/bin/python" "$here/prometheus.py" --alloy "$program"
else
    echo "no prometheus here: metrics are not compared with what it has"
fi
