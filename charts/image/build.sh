#!/usr/bin/env bash
# Builds the image for amd64 and arm64 without Docker: static binaries, then an OCI image layout as one tar; if asked also tarballs for
# machines with systemd.
#
#   charts/image/build.sh [--tarballs FOLDER] [OUT.tar] [ARCH...]
#
# Needs rustup's toolchain, Python 3.9 or newer with venv, and ca-certificates. The C parts are compiled for both by zig, which comes
# with cargo-zigbuild from PyPI. The same commit with the same toolchain gives the same bytes, wherever it is built.
set -euo pipefail
cd "$(dirname "$0")/../.."
tarballs=
if [ "${1:-}" = --tarballs ]; then
    tarballs=${2:?a folder}
    shift 2
fi
out=${1:-target/alloy-image.tar}
shift || true
arches=("$@")
[ ${#arches[@]} -gt 0 ] || arches=(amd64 arm64)

cache="${ALLOY_CI_CACHE:-$HOME/.cache/alloy-ci}/image"
zigbuild=0.24.0
if [ ! -x "$cache/$zigbuild/bin/cargo-zigbuild" ]; then
    python3 -m venv --clear "$cache/$zigbuild"
    "$cache/$zigbuild/bin/pip" install --quiet --disable-pip-version-check "cargo-zigbuild==$zigbuild" "ziglang==0.15.2"
fi
export PATH="$cache/$zigbuild/bin:$PATH"
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}"
# No path of this machine in the binaries.
export RUSTFLAGS="--remap-path-prefix=$PWD=/alloy --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
export CARGO_INCREMENTAL=0
# zig names every feature of the processor it compiles for, and so forbids registers of 512 bits even in the functions of libdeflate
# that ask for them and are called only where they exist.
export CFLAGS_x86_64_unknown_linux_musl="-mevex512"

images=()
runs=
for arch in "${arches[@]}"; do
    case $arch in
        amd64) target=x86_64-unknown-linux-musl page=12 ;;
        # Kernels for arm64 have pages of up to 64 KiB, and an allocator that is made for less does not start there.
        arm64) target=aarch64-unknown-linux-musl page=16 ;;
        *) echo "no such architecture: $arch (amd64, arm64)" >&2 && exit 2 ;;
    esac
    if ! rustup target list --installed | grep -qx "$target" && ! rustup target add "$target"; then
        echo "no standard library for $target: install it with rustup where the network allows, or name another architecture" >&2
        exit 1
    fi
    JEMALLOC_SYS_WITH_LG_PAGE=$page cargo zigbuild --locked --release -p alloy-bin --target "$target"
    cargo metadata --locked --format-version 1 --filter-platform "$target" >"$cache/$target.json"
    python3 charts/image/sbom.py "$cache/$target.json" Cargo.lock >"$cache/$target.spdx.json"
    case "$(uname -m)/$arch" in x86_64/amd64 | aarch64/arm64) runs="${CARGO_TARGET_DIR:-target}/$target/release/alloy" ;; esac
    images+=("$arch=${CARGO_TARGET_DIR:-target}/$target/release/alloy,$cache/$target.spdx.json")
done
python3 charts/image/oci.py "$out" "${images[@]}"
if [ -n "$tarballs" ]; then
    : "${runs:?the tarballs need a binary that runs here, which makes their manual pages}"
    python3 charts/image/tarball.py "$tarballs" "$runs" "${images[@]}"
fi
