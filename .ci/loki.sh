#!/usr/bin/env bash
# The test with a real Loki: .ci/loki.sh AGENT. Takes the Loki that ALLOY_TEST_LOKI names, or the one in ALLOY_CI_CACHE; else it is
# built from its Go modules, for LOKI_BUILD_SECONDS (120) at most: what is compiled by then is kept, so that a later run ends it. Where
# that can't be had it says so and does nothing.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
agent=$(realpath "${1:?the agent}")
cache="${ALLOY_CI_CACHE:-$HOME/.cache/alloy-ci}"
loki="${ALLOY_TEST_LOKI:-$cache/bin/loki}"
version=v3.5.0
# A module of its own that the zip of Loki's is without; its go.mod wants it in the folder.
push=github.com/grafana/loki/pkg/push@v0.0.0-20240924133635-758364c7775f

folder_of() {
    (cd / && go mod download -json "$1" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
}

build() {
    local source="$cache/loki-source"
    rm -rf "$source"
    mkdir -p "$cache/bin"
    cp -r "$(folder_of "github.com/grafana/loki/v3@$version")" "$source"
    chmod -R u+w "$source"
    rm -rf "$source/pkg/push"
    cp -r "$(folder_of "$push")" "$source/pkg/push"
    chmod -R u+w "$source"
    (cd "$source" && CGO_ENABLED=0 GOFLAGS="-mod=mod -buildvcs=false" go build -ldflags "-s -w" -o "$cache/bin/loki.new" ./cmd/loki)
    mv "$cache/bin/loki.new" "$cache/bin/loki"
}

if [ "${2:-}" = --build ]; then
    build
    exit
fi
if [ ! -x "$loki" ] && [ -z "${ALLOY_TEST_LOKI:-}" ] && command -v go >/dev/null; then
    echo "no Loki yet: building $version"
    timeout "${LOKI_BUILD_SECONDS:-120}" "$0" "$agent" --build || echo "it could not be built in time"
    rm -rf "$cache/loki-source"
fi
if [ ! -x "$loki" ]; then
    echo "DID NOT RUN: no Loki at $loki, and none could be built here (it needs Go and its module proxy)."
    echo "ALLOY_TEST_LOKI names one; LOKI_BUILD_SECONDS=900 .ci/loki.sh AGENT builds one."
    exit 0
fi
exec python3 "$here/loki.py" --alloy "$agent" --loki "$loki"
