#!/usr/bin/env bash
# Fuzzes every target in fuzz_targets, or those named, for so many seconds each (60), two at a time:
#
#     fuzz/run.sh [SECONDS] [TARGET...]
#
# Stable Rust is enough: the coverage passes are in every compiler, and libfuzzer-sys brings libFuzzer. What a target finds is
# left in fuzz/artifacts, what it learns in fuzz/corpus; seeds are only read.
set -euo pipefail
cd "$(dirname "$0")"

seconds=${1:-60}
shift || true
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
    for file in fuzz_targets/*.rs; do targets+=("$(basename "$file" .rs)"); done
fi

host=$(rustc -vV | sed -n 's/^host: //p')
# A folder of its own: the flags differ from everybody else's. With --target they do not reach build scripts.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}/fuzz"
coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
coverage+=" -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
coverage+=" -Cllvm-args=-sanitizer-coverage-trace-compares"
RUSTFLAGS="--cfg fuzzing $coverage -Cdebug-assertions -Coverflow-checks -Ccodegen-units=1" \
    cargo build --release --quiet --target "$host"

# fuzz TARGET: prints one line if nothing is found, else what was.
fuzz() {
    local target=$1 log="$CARGO_TARGET_DIR/$1.log"
    local folders=("corpus/$target")
    mkdir -p "corpus/$target" "artifacts/$target"
    if [ -d "seeds/$target" ]; then folders+=("seeds/$target"); fi
    if "$CARGO_TARGET_DIR/$host/release/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
        -artifact_prefix="artifacts/$target/" "${folders[@]}" >"$log" 2>&1; then
        printf '%-20s %s\n' "$target" "$(grep '^Done' "$log")"
    else
        tail -n 40 "$log"
        printf '%-20s FAILED: the input is in fuzz/artifacts/%s\n' "$target" "$target"
        return 1
    fi
}
export -f fuzz
export host seconds
printf '%s\n' "${targets[@]}" | xargs -P 2 -I{} bash -c 'fuzz {}'
