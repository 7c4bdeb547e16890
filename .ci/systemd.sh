#!/usr/bin/env bash
# A tarball as charts/image/tarball.py makes it, installed as docs/systemd/README.md says, under a real systemd, which is the first process of namespaces of its own, on a copy of this machine's files
# in memory: .ci/systemd.sh ALLOY
#
# Without systemd, or where such namespaces cannot be made, it says so and runs nothing.
set -euo pipefail
alloy=$(realpath "$1")
root=$(realpath "$(dirname "$0")/..")
systemd=/lib/systemd/systemd

if [ ! -x "$systemd" ] || [ ! -d /sys/fs/cgroup/systemd ] && [ ! -e /sys/fs/cgroup/cgroup.controllers ]; then
    echo "NOT RUN: no systemd here, or no control groups"
    exit 0
fi
if ! unshare --mount --pid --cgroup --net --uts --ipc --fork true 2>/dev/null; then
    echo "NOT RUN: no namespaces may be made here"
    exit 0
fi

work=$(mktemp -d)
packed=
first=
finish() {
    if [ -n "$first" ]; then kill -KILL "$first" 2>/dev/null || true; fi
    wait 2>/dev/null || true
    rm -rf "$work" "$packed"
}
trap finish EXIT

export SOURCE_DATE_EPOCH=1700000000
tarball() { "$root/charts/image/tarball.py" "$work/$1" "$alloy" "test=$alloy" >/dev/null; }
tarball one
tarball two
diff -r "$work/one" "$work/two" || { echo "FAILED: the same input gives other bytes"; exit 1; }
(cd "$work/one" && sha256sum --quiet --check SHA256SUMS)
packed=$(cd /tmp && mktemp -d)
cp "$work/one/"*.tar.gz "$packed"

cat >"$work/inside" <<'INSIDE'
set -euo pipefail
work=$1 packed=$2
mount --make-rprivate /
mount -t tmpfs tmpfs "$work"
mkdir "$work"/{upper,work,root}
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/work" "$work/root"
cd "$work/root"
mount -t proc proc proc
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs tmpfs tmp
mount --rbind /dev dev
mount -t sysfs -o ro sysfs sys
mount --rbind /sys/fs/cgroup sys/fs/cgroup
# Nothing of this machine's own is started.
rm -rf etc/systemd/system/*.wants
tar -xzf "$packed"/*.tar.gz -C usr --strip-components=1 --no-same-owner
mkdir -p etc/alloy
cp usr/share/doc/alloy/alloy.default etc/default/alloy
cat >etc/alloy/config.alloy <<'CONFIG'
logging { }
prometheus.exporter.unix "a" {
  enable_collectors = ["systemd"]

  systemd {
    enable_restarts = true
    start_time      = true
    task_metrics    = true
  }
}
CONFIG
chroot . systemd-sysusers
ls usr/share/man/man1/alloy{,-run,-validate,-fmt,-cluster,-completion,-tools}.1 usr/share/bash-completion/completions/alloy >/dev/null
: >etc/machine-id
exec chroot . env -i container=other PATH="$PATH" /lib/systemd/systemd --system --unit=alloy.service --log-target=console --show-status=no
INSIDE

unshare --mount --pid --cgroup --net --uts --ipc --fork --kill-child bash "$work/inside" "$work" "$packed" >"$work/log" 2>&1 &
unshared=$!

fail() {
    echo "FAILED: $1"
    if [ -n "$first" ]; then inside journalctl --no-pager -n 40 -u alloy || true; fi
    tail -20 "$work/log"
    exit 1
}
inside() { nsenter --target "$first" --all --root --wd "$@"; }
is() { [ "$(inside systemctl show -P "$1" alloy 2>/dev/null)" = "$2" ]; }
# get PORT PATH
get() { inside bash -c 'exec 3<>/dev/tcp/127.0.0.1/$0 && printf "GET $1 HTTP/1.0\r\n\r\n" >&3 && cat <&3' "$@" 2>/dev/null; }
# until SECONDS COMMAND...
until_true() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$deadline" ] && kill -0 "$unshared" 2>/dev/null || fail "not so in time: $*"
        sleep 0.1
    done
}

began() { first=$(pgrep -P "$unshared" -x systemd); }
until_true 30 began
until_true 60 is ActiveState active
inside ip link set lo up
answers() { get "$1" /-/ready | grep -q 'Alloy is ready'; }
until_true 10 answers 12345
[ "$(inside ps -o user= -p "$(inside systemctl show -P MainPID alloy)")" = alloy ] || fail "it is not the user alloy"

inside systemd-analyze verify --man=no alloy.service || fail "systemd finds faults in the unit"
inside systemd-analyze security --no-pager --threshold=25 alloy.service | tail -1

# The sandbox costs no collector: what works is what works for the same user without it.
inside runuser -u alloy -- /usr/bin/alloy run /etc/alloy/config.alloy --storage.path=/tmp/other --server.http.listen-addr=127.0.0.1:12346 2>/dev/null &
until_true 30 answers 12346
bus=/lib/systemd/system/dbus.socket
if [ -e $bus ]; then inside systemctl start dbus.socket; fi
working() { get "$1" /api/v0/component/prometheus.exporter.unix.a/metrics | grep '^node_scrape_collector_success.* 1$'; }
working 12345 >"$work/within"
working 12346 >"$work/without"
diff "$work/without" "$work/within" || fail "collectors do not work in the sandbox"
grep -q timex "$work/within" || fail "no collectors"

# What a node exporter says of the same units, as soon as nothing changes between the two questions.
if [ -e $bus ] && [ -x /usr/bin/prometheus-node-exporter ]; then
    # Debian's leaves targets out, too, unless told what is left out by default elsewhere.
    inside runuser -u alloy -- /usr/bin/prometheus-node-exporter --web.listen-address=127.0.0.1:9100 \
        --collector.disable-defaults --collector.systemd \
        --collector.systemd.unit-exclude '.+\.(automount|device|mount|scope|slice)' --collector.systemd.enable-restarts-metrics \
        --collector.systemd.enable-start-time-metrics --collector.systemd.enable-task-metrics >/dev/null 2>&1 &
    units() { tr -d '\r' | grep -E '^(# TYPE |# HELP )?node_systemd_' | sort; }
    same_units() {
        get 12345 /api/v0/component/prometheus.exporter.unix.a/metrics | units >"$work/ours"
        get 9100 /metrics | units >"$work/theirs"
        "$root/.ci/systemd_units.py" "$work/ours" "$work/theirs" >"$work/units"
    }
    until_true 30 same_units
    cat "$work/units"
else
    echo "NOT RUN: the units beside those of a node exporter: it is not here, or no bus is"
fi

inside bash -c 'printf "logging" >/etc/alloy/config.alloy; systemctl reload alloy'
refused() { [[ "$(inside systemctl show -P StatusText alloy)" == *"does not run"* ]] && is ActiveState active; }
until_true 30 refused
pid=$(inside systemctl show -P MainPID alloy)
inside kill -KILL "$pid"
again() { is ActiveState active && ! is MainPID "$pid"; }
printf 'logging { }\n' | inside tee /etc/alloy/config.alloy >/dev/null
until_true 60 again
inside systemctl stop alloy
is Result success && is ActiveState inactive || fail "it did not stop in an orderly way"
echo "OK: ready, reloaded, refused a wrong configuration, started again after a kill, stopped; in the unit's sandbox, with every collector that works without it."
