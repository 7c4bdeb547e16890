#!/usr/bin/env bash
# The test with a real kube-apiserver and etcd, and with the discovery of Prometheus itself and the generator of the Prometheus operator beside
# the agent's.
#
#     .ci/kubernetes.sh PROGRAM [--build] [arguments of kubernetes.py]
#
# The API server is that of ALLOY_TEST_KUBE_APISERVER, or the one in ALLOY_CI_CACHE, where --build puts it: Go needs five minutes and 3 GB of
# memory for it. Without one, without etcd (Debian: etcd-server), or without Go the test does not run, and says so.
set -euo pipefail
program=$(realpath "$1")
shift
here=$(dirname "$(realpath "$0")")
cache="${ALLOY_CI_CACHE:-$HOME/.cache/alloy-ci}/kubernetes"
kubernetes=1.33.1
prometheus=0.308.0
operator=0.91.0
export GOFLAGS="-mod=mod -buildvcs=false" CGO_ENABLED=0
mkdir -p "$cache"

did_not_run() {
    echo "DID NOT RUN: $1"
    exit 0
}

build_server() {
    local folder="$cache/build"
    mkdir -p "$folder"
    cd "$folder"
    printf 'package main\n\nimport _ "k8s.io/kubernetes/cmd/kube-apiserver/app"\n\nfunc main() {}\n' >main.go
    printf 'module build\n\ngo 1.24.0\n\nrequire k8s.io/kubernetes v%s\n' "$kubernetes" >go.mod
    local module
    for module in api apiextensions-apiserver apimachinery apiserver cli-runtime client-go cloud-provider cluster-bootstrap \
        code-generator component-base component-helpers controller-manager cri-api cri-client csi-translation-lib \
        dynamic-resource-allocation endpointslice externaljwt kms kube-aggregator kube-controller-manager kube-proxy \
        kube-scheduler kubectl kubelet metrics mount-utils pod-security-admission sample-apiserver sample-cli-plugin \
        sample-controller; do
        echo "replace k8s.io/$module => k8s.io/$module v0.${kubernetes#1.}" >>go.mod
    done
    go mod tidy -e
    local version=k8s.io/component-base/version
    go build -p 2 -o "$cache/kube-apiserver.new" \
        -ldflags "-s -w -X $version.gitVersion=v$kubernetes -X $version.gitMajor=1 -X $version.gitMinor=33" \
        k8s.io/kubernetes/cmd/kube-apiserver
    mv "$cache/kube-apiserver.new" "$cache/kube-apiserver"
    rm -rf "$folder"
}

if [ "${1:-}" = --build ]; then
    shift
    (build_server)
fi
server="${ALLOY_TEST_KUBE_APISERVER:-$cache/kube-apiserver}"
[ -x "$server" ] || did_not_run "no kube-apiserver ($0 PROGRAM --build makes one)"
command -v etcd >/dev/null || did_not_run "no etcd (Debian: apt-get install etcd-server)"

# build_peer NAME VERSION MODULE: the program in kubernetes_NAME, with that module.
build_peer() {
    local folder="$cache/$1"
    mkdir -p "$folder"
    cp "$here/kubernetes_$1/main.go" "$folder/"
    cd "$folder"
    printf 'module peer\n\ngo 1.25.0\n\nrequire %s v%s\n' "$3" "$2" >go.mod
    go mod tidy -e 2>&1 | tail -1
    go build -p 2 -o "$cache/$1-$2" .
    rm -rf "$folder"
}

peers=()
for peer in "discovery $prometheus github.com/prometheus/prometheus" "operator $operator github.com/prometheus-operator/prometheus-operator"; do
    read -r name version module <<<"$peer"
    if [ ! -x "$cache/$name-$version" ]; then
        command -v go >/dev/null || did_not_run "no Go to build the peers with"
        (build_peer "$name" "$version" "$module")
    fi
    peers+=("--$name" "$cache/$name-$version")
done
python3 "$here/kubernetes.py" --alloy "$program" --kube-apiserver "$server" "${peers[@]}" "$@"
