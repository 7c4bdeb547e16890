#!/usr/bin/env python3
"""Runs the image as the chart says: three pods with real isolation, without a Kubernetes.

Helm renders a StatefulSet; this program does with it what the kubelet and the controller would do: each pod is a container of runc
with the rendered arguments, variables, user and mounts, in a network namespace of its own, with a volume of its own that outlives it.
dnsmasq answers for the headless Service. Then a ConfigMap changes (well, wrongly, and well again), the pods are replaced one by one
and get new addresses, and one is killed. Afterwards every line and every slot is counted.

Runs as root. Needs runc, dnsmasq, iproute2; takes about two minutes; touches no network but its own namespaces. Exit code 0 also if
the machine cannot run containers, which is said.
"""

import argparse
import collections
import ctypes
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

import chart
from pods_kubelet import GATEWAY, ConfigMap, Failure, Pod, fail, ip, unpack, until
from pods_receiver import Received, Receiver, Target, serve

INTERVAL_S = 2
# A crash may cost the slots that fall into the detection.
GAP_AT_KILL_S = 4 * INTERVAL_S
# What a dead member read shortly before may be read again by the next owner, with another time.
TWICE_AT_KILL_S = 2
LIMIT_S = 240
TARGETS = 6
FILES = 4

CONFIG = """
prometheus.scrape "targets" {
	targets         = [%(targets)s]
	forward_to      = [prometheus.remote_write.store.receiver]
	scrape_interval = "%(interval)ss"
	scrape_timeout  = "1s"

	clustering {
		enabled = true
	}
}

prometheus.remote_write "store" {
	external_labels = {stage = "%(stage)s"}

	endpoint {
		url = "http://%(gateway)s:9009/api/v1/write"

		queue_config {
			batch_send_deadline = "500ms"
		}
	}
}

local.file_match "logs" {
	path_targets = [{"__path__" = "/mnt/logs/*.log"}]
	sync_period  = "1s"
}

loki.source.file "logs" {
	targets    = local.file_match.logs.targets
	forward_to = [loki.write.store.receiver]

	clustering {
		enabled = true
	}
}

loki.write "store" {
	endpoint {
		url        = "http://%(gateway)s:9009/loki/api/v1/push"
		batch_wait = "200ms"
	}
}
"""


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    target = os.environ.get("CARGO_TARGET_DIR", str(chart.ROOT / "target"))
    arguments.add_argument("--alloy", default=f"{target}/debug/alloy", help="the agent, to make an image of")
    arguments.add_argument("--image", help="an image that is there already, as oci.py writes it")
    options = arguments.parse_args()
    missing = [tool for tool in ("runc", "dnsmasq", "ip", "nsenter", "unshare") if not shutil.which(tool)]
    if missing or os.geteuid() != 0:
        print(f"NOT RUN: needs root and {', '.join(missing) or 'nothing else'}")
        return 0
    if "ALLOY_PODS" not in os.environ:
        can_isolate = subprocess.run(["unshare", "--net", "--mount", "ip", "link", "add", "bridge", "type", "bridge"], capture_output=True, text=True)
        if can_isolate.returncode:
            print(f"NOT RUN: this machine gives no network namespaces: {can_isolate.stderr.strip()}")
            return 0
        # A network namespace of our own: what is in it ends with us.
        chart.CACHE.mkdir(parents=True, exist_ok=True)
        python = chart.into_our_python()[0]
        os.execvpe("unshare", ["unshare", "--net", "--mount", str(python), *sys.argv], {**os.environ, "ALLOY_PODS": "1"})
    signal.signal(signal.SIGALRM, lambda *_: fail(f"not done after {LIMIT_S} s"))
    signal.signal(signal.SIGTERM, lambda *_: fail("told to stop"))
    signal.alarm(LIMIT_S)
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: containers' first processes are ours to wait for
    folder = pathlib.Path(tempfile.mkdtemp(prefix="alloy-pods-"))
    world = None
    try:
        image = options.image or make_image(folder, options.alloy)
        world = World(folder, image)
        if not world.can_run():
            return 0
        world.run()
    except (Failure, KeyboardInterrupt) as failure:
        signal.alarm(0)
        print(f"\nFAILED: {failure or 'interrupted'}")
        for log in sorted(folder.glob("*.log")):
            print(f"\n--- the end of {log}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-15:]))
        return 1
    finally:
        signal.alarm(0)
        if world:
            world.end()
    shutil.rmtree(folder)
    return 0


def make_image(folder, alloy):
    """The same bytes twice."""
    if not os.access(alloy, os.X_OK):
        fail(f"no agent at {alloy}: build it (cargo build -p alloy-bin) or name it with --alloy")
    for name in ("image.tar", "again.tar"):
        subprocess.run([sys.executable, chart.ROOT / "charts/image/oci.py", folder / name, f"amd64={alloy}"], check=True, stdout=subprocess.DEVNULL)
    if (folder / "image.tar").read_bytes() != (folder / "again.tar").read_bytes():
        fail("two builds of the image differ")
    (folder / "again.tar").unlink()
    return folder / "image.tar"


class World:
    """The node, the pods and those who speak with them."""

    def __init__(self, folder, image):
        self.folder = folder
        self.started = time.time()
        self.events = {}
        self.rootfs = folder / "rootfs"
        self.image = unpack(image, self.rootfs)
        self.logs = folder / "logs"
        self.logs.mkdir(mode=0o755)
        self.config_map = ConfigMap(folder / "config")
        targets = ", ".join('{"__address__" = "%s:91%02d"}' % (GATEWAY, number) for number in range(TARGETS))
        self.config = lambda stage: CONFIG % {"targets": targets, "interval": INTERVAL_S, "gateway": GATEWAY, "stage": stage}
        self.rendered = self.render()
        self.pods = []
        self.addresses = iter(f"10.99.0.{number}" for number in range(10, 250))
        self.received = Received()
        # When each line was written.
        self.written = []
        self.writing = threading.Event()
        self.dns = None

    def render(self):
        """The issue's own values, with a configuration and a shared folder of logs."""
        import yaml
        values = yaml.safe_load((chart.CHART / "ci/statefulset-values.yaml").read_text())
        values["alloy"]["configMap"] = {"content": self.config("first")}
        values["alloy"]["mounts"] = {"extra": [{"name": "logs", "mountPath": "/mnt/logs", "readOnly": True}]}
        values["controller"]["volumes"] = {"extra": [{"name": "logs", "persistentVolumeClaim": {"claimName": "logs"}}]}
        path = self.folder / "values.json"
        path.write_text(json.dumps(values))
        objects = chart.documents(chart.render(path))
        self.config_map.write(next(thing["data"] for thing in objects if thing["kind"] == "ConfigMap"))
        self.service = next(thing["metadata"]["name"] for thing in objects
                            if thing["kind"] == "Service" and thing["spec"].get("clusterIP") == "None")
        self.test = next(thing["spec"]["containers"][0]["args"] for thing in objects if thing["kind"] == "Pod")
        return next(thing for thing in objects if thing["kind"] == "StatefulSet")

    def say(self, text):
        print(f"{time.time() - self.started:6.1f} s  {text}", flush=True)

    def note(self, kind, text):
        self.events[kind] = time.time()
        self.say(text)

    def can_run(self):
        """Whether runc can start anything here: in some sandboxes it cannot."""
        self.network()
        probe = Pod(self, 9, "10.99.0.250")
        probe.arguments = ["--version"]
        made = probe.create()
        probe.delete()
        if made:
            print(f"NOT RUN: runc cannot make a container on this machine: {made.strip().splitlines()[-1]}")
        return not made

    def network(self):
        ip("link", "set", "lo", "up")
        ip("link", "add", "bridge", "type", "bridge")
        ip("addr", "add", f"{GATEWAY}/24", "dev", "bridge")
        ip("link", "set", "bridge", "up")

    def run(self):
        for number in range(TARGETS):
            serve(f"{GATEWAY}", 9100 + number, Target)
        Receiver.received = self.received
        serve(GATEWAY, 9009, Receiver)
        self.pods = [Pod(self, number, next(self.addresses)) for number in range(3)]
        self.resolve()
        for pod in self.pods:
            pod.start()
        self.all_ready(40)
        self.say("three pods are ready and see each other, found by the headless Service")
        self.helm_test()
        writer = threading.Thread(target=self.write_lines, daemon=True)
        writer.start()
        until("every target has samples", 20, lambda: len(self.received.slots) == TARGETS)
        self.check_budget()
        time.sleep(2 * INTERVAL_S)

        self.config_map.write({"config.alloy": self.config("second")})
        until("all pods run the second configuration", 20, lambda: self.loaded() == [1.0] * 3 and "second" in self.received.stages)
        self.note("second", "a ConfigMap changed: all pods run it, none restarted")
        self.config_map.write({"config.alloy": "prometheus.scrape {"})
        until("all pods refuse a wrong configuration", 20, lambda: self.loaded() == [0.0] * 3)
        time.sleep(INTERVAL_S)
        self.config_map.write({"config.alloy": self.config("third")})
        until("all pods run the third configuration", 20, lambda: self.loaded() == [1.0] * 3 and "third" in self.received.stages)
        self.note("third", "a wrong one was refused and the old one went on; then a third")

        self.note("rolling", "a rolling update begins")
        for pod in reversed(self.pods):
            took = pod.stop()
            grace = self.rendered["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
            if took >= grace:
                fail(f"{pod.name} took {took:.0f} s to stop; it has {grace} s")
            pod.address = next(self.addresses)
            self.resolve()
            pod.start()
            self.all_ready(40)
            self.say(f"{pod.name} was replaced, with another address and its volume: {took:.1f} s to stop")
            time.sleep(INTERVAL_S)
        self.note("rolled", "all pods are new")
        time.sleep(2 * INTERVAL_S)

        self.note("kill", "SIGKILL for the first process of r-alloy-1")
        self.pods[1].kill()
        time.sleep(3 * INTERVAL_S)
        self.pods[1].start()
        self.all_ready(60)
        self.note("return", "r-alloy-1 is back in its volume")
        time.sleep(4 * INTERVAL_S)
        self.writing.set()
        writer.join()
        until("every line has arrived", 40, lambda: len({line for _, _, line in list(self.received.lines)}) >= len(self.written))
        self.note("end", "the end")
        self.judge()

    def write_lines(self):
        """Some lines to each file, again and again."""
        files = [open(self.logs / f"{number}.log", "a") for number in range(FILES)]
        for file in files:
            os.chmod(file.name, 0o644)
        while not self.writing.is_set():
            for file in files:
                for _ in range(5):
                    file.write(f"line {len(self.written)}\n")
                    self.written.append(time.time())
                file.flush()
            time.sleep(0.05)

    def resolve(self):
        """The addresses of the headless Service, those that are not ready among them; and of the other one, which is any pod."""
        hosts = self.folder / "hosts"
        name = f"{self.service}.monitoring.svc.cluster.local"
        any_pod = urllib.parse.urlsplit(self.test[-1]).hostname + ".svc.cluster.local"
        hosts.write_text("".join(f"{pod.address} {name} {any_pod}\n{pod.address} {pod.name}.{name}\n" for pod in self.pods))
        hosts.chmod(0o644)
        if self.dns:
            self.dns.send_signal(signal.SIGHUP)
            return
        self.dns = subprocess.Popen([
            "dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", "--conf-file=/dev/null", f"--addn-hosts={hosts}", "--user=root", "--group=root",
            f"--listen-address={GATEWAY}", "--bind-interfaces", "--local=/cluster.local/", "--local-ttl=1", "--pid-file=",
        ], stdout=open(self.folder / "dns.log", "w"), stderr=subprocess.STDOUT)

    def all_ready(self, patience_s):
        """As the readiness probe sees it, and each sees all."""
        def ready():
            for pod in self.pods:
                if pod.get(pod.probe["path"]) is None:
                    return False
                peers = [peer["name"] for peer in json.loads(pod.get("/api/v0/web/peers")) if peer["state"] == "participant"]
                if sorted(peers) != sorted(other.name for other in self.pods):
                    return False
            return True
        until("all pods are ready and see each other", patience_s, ready)

    def helm_test(self):
        """What the chart's test pod runs in this image, where a pod is."""
        pod = self.pods[0]
        ran = subprocess.run([*pod.runc(), "exec", pod.id(), *self.image["Entrypoint"], *self.test], capture_output=True, text=True, timeout=60)
        if ran.returncode or ran.stdout != "Alloy is ready.\n":
            fail(f"the chart's test: {ran}")
        self.say("helm test's pod finds them ready")

    def loaded(self):
        return [pod.metric("alloy_config_last_load_successful") for pod in self.pods]

    def check_budget(self):
        """The logs' budget is the share of the volume that the chart gives."""
        share = int(re.search(r"--storage.max-size=(\d+)%", " ".join(self.pods[0].container["args"])).group(1))
        disk = os.statvfs(self.folder)
        said = re.search(r"all logs together may take this.*", self.pods[0].log.read_text())
        wanted = disk.f_blocks * disk.f_frsize // 100 * share
        if not said or f"bytes={wanted}" not in said[0]:
            fail(f"the logs may not take {share} % of the volume: {said and said[0]}")

    def judge(self):
        """Counts."""
        wrong = []
        texts = collections.Counter(line for _, _, line in self.received.lines)
        lost = [number for number in range(len(self.written)) if f"line {number}" not in texts]
        doubled = [number for number in range(len(self.written)) if texts[f"line {number}"] > 1]
        at_kill = [number for number in doubled if 0 <= self.events["kill"] - self.written[number] < TWICE_AT_KILL_S]
        print(f"\nlines: {len(self.written)} written, {len(lost)} lost, {len(doubled)} twice, {len(at_kill)} of them read just before the kill; sent again byte for byte: {self.received.repeated}")
        for what, numbers in (("are lost", lost), ("came twice with another time", sorted(set(doubled) - set(at_kill)))):
            if numbers:
                wrong.append(f"{len(numbers)} lines {what}, written {self.moment(self.written[numbers[0]])} to {self.moment(self.written[numbers[-1]])}")
        print(f"{'target':<16} {'samples':>7} {'gap':>6} {'gap at kill':>11}")
        for target, samples in sorted(self.received.slots.items()):
            times = sorted(samples)
            around_kill = lambda at: self.events["kill"] - 2 * INTERVAL_S < at / 1000 < self.events["return"] + INTERVAL_S
            gaps = [(after - before, around_kill(before)) for before, after in zip(times, times[1:])]
            at_kill = [gap for gap, is_around_kill in gaps if is_around_kill]
            others = [gap for gap, is_around_kill in gaps if not is_around_kill]
            print(f"{target:<16} {len(times):>7} {max(others) / 1000:>4.0f} s {max(at_kill, default=0) / 1000:>9.0f} s")
            grid = {at % (INTERVAL_S * 1000) for at in times}
            if len(grid) > 1:
                wrong.append(f"{target} is off its grid: {sorted(grid)[:4]}")
            missed = [before for before, after in zip(times, times[1:]) if after - before > INTERVAL_S * 1000 and not around_kill(before)]
            if missed:
                wrong.append(f"{target} missed a slot {', '.join(self.moment(at / 1000) for at in missed)}")
            if max(at_kill, default=0) > GAP_AT_KILL_S * 1000:
                wrong.append(f"{target}: {max(at_kill) / 1000} s without a sample at the kill, {GAP_AT_KILL_S} s are allowed")
            conflicting = [at for at, values in self.received.ticks[target].items() if len(values) > 1]
            if conflicting:
                wrong.append(f"{target}: {len(conflicting)} slots were scraped twice, {self.moment(conflicting[0] / 1000)}")
        if wrong:
            fail("; ".join(wrong))
        print("OK: no line is lost, none came twice but at the kill, no orderly change cost a slot.")

    def moment(self, at):
        kind, since = max((pair for pair in self.events.items() if pair[1] <= at), key=lambda pair: pair[1], default=("start", self.started))
        return f"{at - since:.1f} s after «{kind}»"

    def end(self):
        for pod in self.pods:
            pod.delete()
        if self.dns:
            self.dns.terminate()
            self.dns.wait()


if __name__ == "__main__":
    sys.exit(main())
