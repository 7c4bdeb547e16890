#!/usr/bin/env bash
# The agent's pages in a real browser: .ci/ui/run.sh ALLOY [FOLDER FOR SCREENSHOTS]
#
# Without npm (the driver and the checker of accessibility are npm's) it says so and runs nothing.
set -euo pipefail
alloy=$(realpath "$1")
shots=${2:+$(realpath -m "$2")}
pages=$(realpath "$(dirname "$0")/pages.mjs")
cache="${ALLOY_CI_CACHE:-$HOME/.cache/alloy-ci}/ui"

if ! command -v npm >/dev/null; then
    echo "NOT RUN: no npm here, so no browser can be driven"
    exit 0
fi
if [ ! -x "${CHROMIUM:-/usr/bin/chromium}" ]; then
    echo "NOT RUN: no Chromium here (Debian's package chromium, or CHROMIUM=PATH)"
    exit 0
fi
mkdir -p "$cache"
if [ ! -e "$cache/ready" ]; then
    (cd "$cache" && npm init -y >/dev/null && npm install --silent --no-fund --no-audit playwright-core@1.64.1 axe-core@4.14.1)
    touch "$cache/ready"
fi
cd "$cache"
node "$pages" "$alloy" ${shots:+"$shots"}
