#!/usr/bin/env python3
"""The end-to-end test with real programs.

Three agents share node exporters and each other as targets and write to a Prometheus. The Prometheus goes away, one agent is
killed meanwhile, with samples in its log that nobody has; the Prometheus comes back, then the agent, whose samples are late by
now; another agent is restarted in an orderly way. Afterwards the Prometheus is asked for every target's `up` series: no gap
longer than stated, no slot taken twice, every sample on the target's grid, the late ones among them.

Needs Python's standard library, `prometheus` and `prometheus-node-exporter`. Takes about two minutes, listens on
loopback only, ends only what it started. On failure the logs stay and their folder is printed.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

INTERVAL_S = 5
# A crash may cost the slots that fall into the detection: two intervals and the time of one scrape.
GAP_AT_KILL_S = 2 * INTERVAL_S + 2
# Whatever happens, the test ends.
LIMIT_S = 175

AGENTS = ("anna", "bert", "carl")
# promtool would name these otherwise; dashboards and alerts for Alloy know them so.
ALLOYS_OWN_NAMES = {"prometheus_scrape_targets_gauge"}


class Failure(Exception):
    """What is wrong, in a sentence."""


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    target = os.environ.get("CARGO_TARGET_DIR", str(pathlib.Path(__file__).resolve().parents[1] / "target"))
    arguments.add_argument("--alloy", default=f"{target}/debug/alloy", help="the agent's binary")
    arguments.add_argument("--keep", action="store_true", help="keep the logs of a good run, too")
    options = arguments.parse_args()
    return supervise("end-to-end", LIMIT_S, options, lambda folder: World(folder, options.alloy), "OK: every target's series is complete.")


def supervise(name, limit_s, options, make_world, all_is_well):
    """Makes a world in a folder of its own, runs it for so long at most and ends it, whatever happens; gives the exit code."""
    signal.signal(signal.SIGALRM, lambda *_: fail(f"not done after {limit_s} s"))
    signal.signal(signal.SIGTERM, lambda *_: fail("told to stop"))
    signal.alarm(limit_s)
    folder = pathlib.Path(tempfile.mkdtemp(prefix=f"alloy-{name}-"))
    world = None
    try:
        world = make_world(folder)
        world.run()
    except (Failure, KeyboardInterrupt) as failure:
        signal.alarm(0)
        print(f"\nFAILED: {failure or 'interrupted'}")
        if world:
            world.end()
        for log in sorted(folder.glob("*.log")):
            print(f"\n--- the end of {log}")
            print("\n".join(log.read_text(errors="replace").splitlines()[-15:]))
        print(f"\nThe logs are in {folder}")
        return 1
    except Exception:
        if world:
            world.end()
        raise
    signal.alarm(0)
    world.end()
    if options.keep:
        print(f"The logs are in {folder}")
    else:
        shutil.rmtree(folder)
    print(all_is_well)
    return 0


class World:
    """All programs of the test and what happened when."""

    def __init__(self, folder, alloy):
        self.folder = folder
        self.started = time.time()
        self.events = []
        self.programs = []
        prometheus, exporter = need("prometheus"), need("prometheus-node-exporter")
        self.promtool = shutil.which("promtool")
        if not os.access(alloy, os.X_OK):
            fail(f"no agent at {alloy}: build it (cargo build -p alloy-bin) or name it with --alloy")
        ports = free_ports(7)
        self.prometheus = self.add(Program("prometheus", folder, ports[0], [
            prometheus, f"--config.file={self.write('prometheus.yml', PROMETHEUS)}",
            f"--storage.tsdb.path={folder}/tsdb", f"--web.listen-address=127.0.0.1:{ports[0]}",
            "--web.enable-remote-write-receiver",
        ]))
        self.exporters = [self.add(Program(f"exporter-{index}", folder, port, [
            exporter, f"--web.listen-address=127.0.0.1:{port}", "--collector.disable-defaults",
            "--collector.cpu", "--collector.meminfo", "--collector.loadavg", "--collector.stat",
        ])) for index, port in enumerate(ports[1:4])]
        agent_ports = dict(zip(AGENTS, ports[4:]))
        targets = [
            {"targets": [f"127.0.0.1:{port}" for port in ports[1:4]], "labels": {"program": "node-exporter"}},
            {"targets": [f"127.0.0.1:{port}" for port in ports[4:]], "labels": {"program": "alloy"}},
        ]
        config = CONFIG % {"targets": self.write("targets.json", json.dumps(targets)), "port": ports[0], "interval": INTERVAL_S}
        config_path = self.write("config.alloy", config)
        join = ",".join(f"127.0.0.1:{port}" for port in agent_ports.values())
        self.agents = {name: self.add(Program(name, folder, port, [
            alloy, "run", str(config_path), f"--storage.path={folder}/{name}",
            f"--server.http.listen-addr=127.0.0.1:{port}", "--cluster.enabled", f"--cluster.node-name={name}",
            "--cluster.name=end-to-end", f"--cluster.join-addresses={join}", "--cluster.advertise-address=127.0.0.1",
        ])) for name, port in agent_ports.items()}

    def add(self, program):
        self.programs.append(program)
        return program

    def write(self, name, text):
        path = self.folder / name
        path.write_text(text)
        return path

    def say(self, text):
        print(f"{time.time() - self.started:6.1f} s  {text}", flush=True)

    def note(self, kind, text):
        """Something happened now; the samples are judged by it later."""
        self.events.append((kind, time.time()))
        self.say(text)

    def when(self, kind):
        return next(at for name, at in self.events if name == kind)

    def run(self):
        for program in [self.prometheus, *self.exporters, *self.agents.values()]:
            program.start()
        wait_until("the Prometheus is ready", 30, lambda: self.prometheus.answers("/-/ready"))
        for agent in self.agents.values():
            self.wait_ready(agent)
        self.wait_peers(set(AGENTS), 30)
        self.say("three agents are ready and see each other")
        wait_until("every target has a sample", 30, lambda: len(self.series()) == 6)
        self.check_endpoints()
        shares = self.check_ownership(set(AGENTS))
        # Who has targets has late samples.
        killed = self.killed = max(AGENTS, key=list(shares.values()).count)
        restarted = self.restarted = next(name for name in reversed(AGENTS) if name != killed)
        time.sleep(INTERVAL_S)

        self.prometheus.end(signal.SIGTERM)
        self.note("endpoint down", "the Prometheus is down")
        time.sleep(8)
        self.note("kill", f"SIGKILL for {killed}")
        self.agents[killed].end(signal.SIGKILL)
        self.prometheus.start()
        wait_until("the Prometheus is ready again", 30, lambda: self.prometheus.answers("/-/ready"))
        self.note("endpoint up", "the Prometheus is back: what was scraped meanwhile comes out of the logs")
        self.wait_peers(set(AGENTS) - {killed}, 2 * INTERVAL_S)
        self.say(f"the others see that {killed} is gone")
        self.check_ownership(set(AGENTS) - {killed})
        time.sleep(max(0.0, self.when("kill") + 15 - time.time()))
        self.agents[killed].start()
        self.wait_ready(self.agents[killed])
        self.wait_peers(set(AGENTS), 15)
        self.note("return", f"{killed} is back: what is in its log is late")
        time.sleep(3 * INTERVAL_S)

        self.note("leave", f"SIGTERM for {restarted}")
        code = self.agents[restarted].end(signal.SIGTERM)
        if code != 0:
            fail(f"{restarted} left in an orderly way with exit code {code}, not 0")
        self.say(f"{restarted} has left")
        time.sleep(INTERVAL_S)
        self.agents[restarted].start()
        self.wait_ready(self.agents[restarted])
        self.wait_peers(set(AGENTS), 15)
        self.note("rejoin", f"{restarted} is back")
        time.sleep(3 * INTERVAL_S)
        self.check_ownership(set(AGENTS))
        self.check_endpoints()
        # What was scraped up to now has arrived a little later: a request may wait 5 s to fill up.
        self.note("end", "waiting for what is on its way, then asking the Prometheus")
        time.sleep(7)
        self.judge()

    def end(self):
        for program in reversed(self.programs):
            program.end(signal.SIGTERM, patience_s=5)

    def wait_ready(self, agent):
        wait_until(f"{agent.name} is ready", 20, lambda: agent.alive() and agent.answers("/-/ready"))

    def wait_peers(self, wanted, patience_s):
        """Each of the wanted sees exactly the wanted, itself once, all as participants."""
        def agreed():
            for name in wanted:
                peers = self.agents[name].json("/api/v0/web/peers")
                itself = [peer["name"] for peer in peers if peer["isSelf"]]
                names = sorted(peer["name"] for peer in peers if peer["state"] == "participant")
                if names != sorted(wanted) or itself != [name] or not all(peer["addr"] for peer in peers):
                    return False
            return True
        wait_until(f"{', '.join(sorted(wanted))} see each other and nobody else", patience_s, agreed)

    def check_endpoints(self):
        for agent in self.agents.values():
            for path in ("/-/ready", "/-/healthy"):
                if not agent.answers(path):
                    fail(f"{agent.name} does not answer 200 on {path}")
            body = agent.get("/metrics")
            lines = [line for line in body.decode().splitlines() if line and not line.startswith("#")]
            if len(lines) < 10:
                fail(f"{agent.name} has only {len(lines)} samples on /metrics")
            if self.promtool:
                check = subprocess.run([self.promtool, "check", "metrics"], input=body, capture_output=True, timeout=20)
                complaints = (check.stdout + check.stderr).decode().splitlines()
                complaints = [line for line in complaints if line.split(" ")[0] not in ALLOYS_OWN_NAMES]
                if complaints:
                    fail(f"promtool does not like the metrics of {agent.name}: {'; '.join(complaints)}")

    def check_ownership(self, wanted):
        """The agents agree on who owns what, only the wanted own something, and owners are at work."""
        def agreed():
            lists = {name: self.agents[name].json("/api/v0/cluster/ownership") for name in wanted}
            answers = [owners(answer) for answer in lists.values()]
            acting = {key["name"]: name for name, answer in lists.items() for key in answer["keys"] if key["here"] == "acting"}
            same = all(answer == acting for answer in answers)
            return same and len(acting) == 6 and set(acting.values()) <= wanted and acting
        shares = wait_until(f"{', '.join(sorted(wanted))} agree on who owns what", 10, agreed)
        counts = {name: list(shares.values()).count(name) for name in sorted(wanted)}
        self.say("targets owned: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
        return shares

    def series(self):
        """Target -> its samples of `up` as (milliseconds, value), oldest first."""
        found = {}
        for row in self.query("up[10m]"):
            instance = row["metric"]["instance"]
            if instance in found:
                fail(f"two series for {instance}: the label sets differ between agents, one is {row['metric']}")
            found[instance] = [(round(float(at) * 1000), float(value)) for at, value in row["values"]]
        return found

    def query(self, expression):
        answer = self.prometheus.json("/api/v1/query?" + urllib.parse.urlencode({"query": expression}))
        if answer["status"] != "success":
            fail(f"the Prometheus answers {answer} to {expression}")
        return answer["data"]["result"]

    def judge(self):
        names = {f"127.0.0.1:{program.port}": program.name for program in self.programs}
        print(f"\n{'target':<12} {'samples':>7} {'grid ms':>7} {'gap, kill':>9} {'gap, else':>9} {'doubled':>7}  verdict")
        findings = []
        for instance, samples in sorted(self.series().items(), key=lambda pair: names[pair[0]]):
            row, wrong = self.judge_one(names[instance], samples)
            findings += wrong
            print(f"{row}  {'; '.join(wrong) or 'good'}")
        if len(self.series()) != 6:
            findings.append(f"{len(self.series())} targets have an `up` series, not 6")
        for metric, why in (("node_cpu_seconds_total", "the node exporters"), ("process_start_time_seconds", "the exporters")):
            if not self.query(f"count({metric})"):
                findings.append(f"no {metric} in the Prometheus: the samples of {why} are missing")
        # The Prometheus was started anew before they came, so that it has counted them all.
        late = total(self.prometheus, "prometheus_tsdb_head_out_of_order_samples_appended_total")
        refused = sum(total(agent, "alloy_remote_write_samples_rejected_total") for agent in self.agents.values())
        print(f"\nlate samples that the Prometheus took: {late:.0f}; refused: {refused:.0f}")
        if not late:
            findings.append(f"nothing of the log of {self.killed} has arrived late")
        if refused:
            findings.append(f"{refused:.0f} samples were refused")
        print()
        if findings:
            fail("; ".join(findings))

    def judge_one(self, name, samples):
        times = [at for at, _ in samples]
        kill, end = self.when("kill") * 1000, self.when("end") * 1000
        grid = {at % (INTERVAL_S * 1000) for at in times}
        gap_kill = gap_else = doubled = 0
        wrong = []
        for before, after in zip(times, times[1:]):
            gap = after - before
            doubled += gap < INTERVAL_S * 1000
            if before <= kill <= after or before <= kill + INTERVAL_S * 1000 <= after:
                gap_kill = max(gap_kill, gap)
            else:
                gap_else = max(gap_else, gap)
                if gap > INTERVAL_S * 1000:
                    wrong.append(f"{name}: {gap / 1000} s without a sample, {self.moment(before)}")
        if gap_kill > GAP_AT_KILL_S * 1000:
            wrong.append(f"{name}: {gap_kill / 1000} s without a sample around the kill, {GAP_AT_KILL_S} s are allowed")
        if doubled:
            wrong.append(f"{name}: {doubled} slots taken twice")
        if len(grid) > 1:
            wrong.append(f"{name}: samples off the grid, remainders {sorted(grid)[:5]} ms")
        if end - times[-1] > (INTERVAL_S + 2) * 1000:
            wrong.append(f"{name}: the last sample is {(end - times[-1]) / 1000} s old")
        down = [at for at, value in samples if value != 1 and not self.may_be_down(name, at / 1000)]
        if down:
            wrong.append(f"{name}: up was 0 at {len(down)} slots although it was there, first {self.moment(down[0])}")
        row = (f"{name:<12} {len(samples):>7} {min(grid):>7} {gap_kill / 1000:>8.1f}s {gap_else / 1000:>8.1f}s {doubled:>7}")
        return row, wrong

    def may_be_down(self, name, at):
        """Agents start after the first scrapes of others, and are away when we say so."""
        away = {self.killed: ("kill", "return"), self.restarted: ("leave", "rejoin")}.get(name)
        starting = name in AGENTS and at < self.started + 10
        return starting or (away and self.when(away[0]) - 1 <= at <= self.when(away[1]) + 1)

    def moment(self, at_ms):
        """A time as what had happened before it."""
        happened = [(kind, at) for kind, at in self.events if at * 1000 <= at_ms]
        kind, at = happened[-1] if happened else ("start", self.started)
        return f"{at_ms / 1000 - at:.1f} s after «{kind}»"


class Program:
    """A child process with an HTTP port on loopback. Only its own pid is ever signalled."""

    def __init__(self, name, folder, port, command):
        self.name, self.port, self.command = name, port, [str(word) for word in command]
        self.log = folder / f"{name}.log"
        self.child = None

    def start(self):
        with self.log.open("ab") as log:
            self.child = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def alive(self):
        code = self.child.poll()
        if code is not None:
            fail(f"{self.name} ended by itself with code {code}")
        return True

    def end(self, how, patience_s=20):
        """Sends the signal and waits for the end; returns the exit code."""
        if self.child is None or self.child.poll() is not None:
            return self.child and self.child.returncode
        self.child.send_signal(how)
        try:
            return self.child.wait(patience_s)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
            return f"none within {patience_s} s"

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
            return answer.read()

    def json(self, path):
        return json.loads(self.get(path))

    def answers(self, path):
        self.get(path)
        return True


def owners(answer):
    """Target -> owner."""
    return {key["name"]: key["owner"] for key in answer["keys"]}


def total(program, metric):
    """The sum of a metric over all its series, as the program shows it."""
    lines = program.get("/metrics").decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((metric + " ", metric + "{")))


def wait_until(what, patience_s, condition):
    """Polls until the condition holds; returns what it returned."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            found = condition()
            if found:
                return found
            last = "not yet"
        except (OSError, KeyError, json.JSONDecodeError, urllib.error.URLError) as error:
            last = repr(error)
        if time.monotonic() > deadline:
            fail(f"{patience_s} s are over, and it is not so that {what} ({last})")
        time.sleep(0.1)


def need(program):
    return shutil.which(program) or fail(f"{program} is not installed (Debian: apt-get install {program})")


def free_ports(count):
    """Numbers free for TCP and UDP, below the range from which the system takes ports for connections."""
    found = []
    while len(found) < count:
        port = random.randrange(15000, 32000)
        try:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with socket.socket(socket.AF_INET, kind) as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        if port not in found:
            found.append(port)
    return found


def fail(sentence):
    raise Failure(sentence)


PROMETHEUS = """\
global: {scrape_interval: 1h}
storage: {tsdb: {out_of_order_time_window: 10m}}
"""

CONFIG = """\
logging {
  level = "info"
}

discovery.file "all" {
  files = ["%(targets)s"]
}

prometheus.scrape "all" {
  targets         = discovery.file.all.targets
  forward_to      = [prometheus.remote_write.real.receiver]
  scrape_interval = "%(interval)ds"
  scrape_timeout  = "2s"

  clustering {
    enabled = true
  }
}

prometheus.remote_write "real" {
  endpoint {
    url = "http://127.0.0.1:%(port)d/api/v1/write"
  }
}
"""

if __name__ == "__main__":
    sys.exit(main())
