#!/usr/bin/env bash
# Builds the rivals that Debian does not package: benches/agent/rivals.sh FOLDER [vmagent] [promtail]
# Their modules have `replace` lines, which `go install MODULE@VERSION` refuses: the module is fetched through the proxy, and
# built as the main module. Needs Go, a C compiler (vmagent's fast zstd) and some 3 GB.
set -euo pipefail

folder=$(realpath -m "${1:?a folder for the binaries}")
shift
mkdir -p "$folder"

# build NAME MODULE VERSION PACKAGE [GO.MOD EDITS]
build() {
    local source
    source=$(cd / && go mod download -json "$2@$3" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
    rm -rf "$folder/source-$1"
    cp -r "$source" "$folder/source-$1"
    chmod -R u+w "$folder/source-$1"
    if [ $# -gt 4 ]; then (cd "$folder/source-$1" && go mod edit "${@:5}"); fi
    (cd "$folder/source-$1" && go build -mod=mod -trimpath -o "$folder/$1" "$4")
    rm -rf "$folder/source-$1"
    echo "$folder/$1  ($2 $3)"
}

for name in "${@:-vmagent}"; do
    case $name in
    vmagent) build vmagent github.com/VictoriaMetrics/VictoriaMetrics v1.117.0 ./app/vmagent ;;
    # Its pkg/push is a module of its own, and not part of the zip.
    promtail) build promtail github.com/grafana/loki/v3 v3.5.0 ./clients/cmd/promtail -dropreplace=github.com/grafana/loki/pkg/push ;;
    *) echo "no rival $name: vmagent, promtail" >&2; exit 2 ;;
    esac
done
