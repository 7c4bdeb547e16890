#!/usr/bin/env python3
"""Log files to a real Loki: every line numbered, and Loki is asked which it has.

One agent follows files that are rotated by renaming, by copying and truncating, and with compression; it is killed, reloaded, restarted,
and so is Loki. Half of the files are another tenant's. Another agent pushes to it (`loki.source.api`), and others push JSON by hand, some of
which a tenant's limits refuse. Three more agents share files; one is killed. Afterwards Loki has every line once: lost 0, doubled 0, where
an equal line with an equal time is one line.

Needs Python's standard library and a Loki (`.ci/loki.sh` finds or builds one). Takes about two minutes, listens on loopback only, ends
only what it started. On failure the logs stay and their folder is printed.
"""

import argparse
import bz2
import gzip
import json
import random
import shutil
import signal
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

from end_to_end import Failure, Program, fail, free_ports, supervise, wait_until

LIMIT_S = 240
PATIENCE_S = 60
FILES, SHARED = 6, 30
CLUSTER = ("anna", "bert", "carl")
# So long files grow and are rotated.
BUSY_S = 32
# Lines that compress well: Loki passes requests on inside uncompressed, in messages of 4 MiB.
BACKLOG_LINES, BACKLOG_BYTES = 20_000, 600


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--alloy", required=True, help="the agent's binary")
    arguments.add_argument("--loki", required=True, help="Loki's")
    arguments.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000, help="repeats a run, as far as the machine does")
    arguments.add_argument("--keep", action="store_true", help="keep the logs of a good run, too")
    options = arguments.parse_args()
    print(f"seed {options.seed}")
    return supervise("loki", LIMIT_S, options, lambda folder: World(folder, options), "OK: a real Loki has every line once.")


class World:
    """All programs and files of the test."""

    def __init__(self, folder, options):
        self.folder, self.chance = folder, random.Random(options.seed)
        self.started, self.started_ns = time.time(), time.time_ns()
        self.programs = []
        ports = free_ports(8)
        self.api_port = ports[7]
        for name in ("logs", "shared", "relayed"):
            (folder / name).mkdir()
        (folder / "overrides.yml").write_text(OVERRIDES)
        (folder / "loki.yml").write_text(LOKI % {"folder": folder, "http": ports[0], "grpc": ports[1]})
        self.loki = self.add("loki", ports[0], [options.loki, f"-config.file={folder}/loki.yml"])
        words = {"folder": folder, "loki": f"http://127.0.0.1:{ports[0]}/loki/api/v1/push", "api": self.api_port, "wait": "200ms"}
        self.configure = lambda wait: (folder / "solo.alloy").write_text(SOLO % {**words, "wait": wait})
        self.configure("200ms")
        (folder / "pusher.alloy").write_text(PUSHER % words)
        (folder / "cluster.alloy").write_text(CLUSTERED % words)
        self.solo = self.add_agent(options.alloy, "solo", "solo", ports[2])
        self.pusher = self.add_agent(options.alloy, "pusher", "pusher", ports[3])
        addresses = ",".join(f"127.0.0.1:{port}" for port in ports[4:7])
        flags = ["--cluster.enabled", "--cluster.name=loki", f"--cluster.join-addresses={addresses}", "--cluster.advertise-address=127.0.0.1"]
        self.cluster = [self.add_agent(options.alloy, name, "cluster", port, *flags, f"--cluster.node-name={name}")
                        for name, port in zip(CLUSTER, ports[4:7])]
        self.logs = [LogFile(folder / "logs" / f"{'ab'[index % 2]}-{index}.log", self.chance) for index in range(FILES)]
        self.relayed = LogFile(folder / "relayed" / "relayed.log", self.chance)
        self.shared = [LogFile(folder / "shared" / f"{index:02}.log", self.chance) for index in range(SHARED)]
        self.expected = {"backlog": {f"number={number} {'x' * BACKLOG_BYTES}" for number in range(BACKLOG_LINES)}, "hand": set(), "limits": set()}
        (folder / "backlog.log").write_text("\n".join(sorted(self.expected["backlog"])) + "\n")

    def add(self, name, port, command):
        self.programs.append(Program(name, self.folder, port, command))
        return self.programs[-1]

    def add_agent(self, alloy, name, config, port, *flags):
        return self.add(name, port, [alloy, "run", self.folder / f"{config}.alloy", f"--storage.path={self.folder}/{name}",
                                     f"--server.http.listen-addr=127.0.0.1:{port}", *flags])

    def say(self, text):
        print(f"{time.time() - self.started:6.1f} s  {text}", flush=True)

    def end(self):
        for program in reversed(self.programs):
            program.end(signal.SIGTERM, patience_s=10)

    def start(self, *programs):
        for program in programs:
            program.start()
        for program in programs:
            wait_until(f"{program.name} is ready", PATIENCE_S, lambda program=program: program.alive() and program.answers("/-/ready" if program != self.loki else "/ready"))

    def run(self):
        self.start(self.loki)
        self.start(self.solo, self.pusher, *self.cluster)
        wait_until("every shared file is read by one", 30, lambda: sum(self.owned(agent) for agent in self.cluster) == SHARED)
        # What is rotated before it was first seen is nobody's.
        wait_until("the first lines are there", PATIENCE_S, lambda: all(
            len(self.lines(tenant)) >= count for tenant, count in (("a", FILES // 2), ("b", FILES // 2), ("shared", SHARED))))
        self.say("Loki and five agents are ready, every file is read")
        script = [
            (2, "a push by hand", self.push_by_hand), (4, "SIGKILL for solo", lambda: self.solo.end(signal.SIGKILL)),
            (6, "solo is back", lambda: self.start(self.solo)), (8, "pushes, some of which the limits refuse", self.push_what_is_refused),
            (10, "SIGKILL for bert", lambda: self.cluster[1].end(signal.SIGKILL)), (12, "SIGKILL for Loki", lambda: self.loki.end(signal.SIGKILL)),
            (14, "SIGKILL for solo, with Loki away", lambda: self.solo.end(signal.SIGKILL)), (15, "solo is back", lambda: self.start(self.solo)),
            (17, "Loki is back", lambda: self.start(self.loki)), (20, "bert is back", lambda: self.start(self.cluster[1])),
            (22, "solo is reloaded", self.reload), (24, "SIGKILL for the pusher", lambda: self.pusher.end(signal.SIGKILL)),
            (26, "the pusher is back", lambda: self.start(self.pusher)), (27, "SIGTERM for carl", lambda: self.cluster[2].end(signal.SIGTERM)),
            (29, "carl is back", lambda: self.start(self.cluster[2])), (30, "another push by hand", self.push_by_hand),
        ]
        busy = threading.Thread(target=self.write, daemon=True)
        begun = time.time()
        self.is_busy = True
        busy.start()
        for at, what, action in script:
            time.sleep(max(0.0, begun + at - time.time()))
            action()
            self.say(what)
        time.sleep(max(0.0, begun + BUSY_S - time.time()))
        self.is_busy = False
        busy.join()
        self.judge()

    def write(self):
        """Grows and rotates the files."""
        while self.is_busy:
            for log in (*self.logs, self.relayed):
                log.write(self.chance.randrange(12))
            for _ in range(15):
                self.chance.choice(self.shared).write(1 + self.chance.randrange(4))
            if self.chance.random() < 0.15:
                self.chance.choice(self.logs).rotate()
            time.sleep(0.02)

    def owned(self, agent):
        return sum(key["here"] == "acting" for key in agent.json("/api/v0/cluster/ownership")["keys"])

    def reload(self):
        self.configure("300ms")
        with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{self.solo.port}/-/reload", method="POST"), timeout=20) as answer:
            answer.read()

    def push(self, tenant, streams, packed=False):
        body = json.dumps({"streams": [{"stream": labels, "values": values} for labels, values in streams]}).encode()
        headers = {"Content-Type": "application/json", "X-Scope-OrgID": tenant, **({"Content-Encoding": "gzip"} if packed else {})}
        url = f"http://127.0.0.1:{self.api_port}/loki/api/v1/push"
        request = urllib.request.Request(url, gzip.compress(body) if packed else body, headers)
        with urllib.request.urlopen(request, timeout=20) as answer:
            if answer.status != 204:
                fail(f"a push was answered {answer.status}")

    def values(self, tenant, lines, back_s=0):
        """Lines as a push has them; those that Loki is to have are noted."""
        at = time.time_ns() - back_s * 10**9
        if not back_s:
            self.expected[tenant] |= set(lines)
        return [[str(at + index), line, {"number": line.split()[0].removeprefix("number=")}] for index, line in enumerate(lines)]

    def push_by_hand(self):
        for round_ in range(5):
            base = len(self.expected["hand"])
            values = self.values("hand", [f"number={base + index}" for index in range(100)])
            # Twice, as a client does that has not heard the answer.
            for _ in range(2):
                self.push("hand", [({"job": "hand"}, values)], packed=round_ % 2 == 1)

    def push_what_is_refused(self):
        """Beside good lines of the same push: too long, too old, of a third stream where two are allowed."""
        one = self.values("limits", [f"number={number} short" for number in range(50)])
        long = [[str(time.time_ns()), "number=0 " + "x" * 2000]] * 2
        old = self.values("limits", ["number=0 old"] * 3, back_s=7200)
        self.push("limits", [({"job": "limits", "stream": "1"}, one[:25] + long + one[25:]), ({"job": "limits", "stream": "1"}, old)])
        two = self.values("limits", [f"number={number} second" for number in range(30)])
        self.push("limits", [({"job": "limits", "stream": "2"}, two)])
        wait_until("both streams are there", 30, lambda: len(self.lines("limits")) == 80)
        three = [[str(time.time_ns() + index), f"number={index} third"] for index in range(7)]
        more = self.values("limits", [f"number={number} more" for number in range(20)])
        # Loki 3.5 answers 204 if the last stream of a request is a good one, and drops the others without a word.
        self.push("limits", [({"job": "limits", "stream": "1"}, more), ({"job": "limits", "stream": "3"}, three)])
        wanted = {"too_large": 2, "out_of_order": 3, "stream_limit": 7}
        try:
            wait_until("what is refused is counted", 10, lambda: self.refused(self.solo) == wanted)
        except Failure:
            fail(f"refused are {self.refused(self.solo)}, and not {wanted}")

    def refused(self, agent):
        """Lines that Loki has refused, by reason."""
        reasons = {}
        for line in agent.get("/metrics").decode().splitlines():
            if line.startswith("alloy_loki_write_rejected_entries_total{"):
                reason, count = line.split('reason="')[1].split('"')[0], float(line.rsplit(" ", 1)[1])
                reasons[reason] = reasons.get(reason, 0) + int(count)
        return {reason: count for reason, count in reasons.items() if count}

    def lines(self, tenant):
        """All that Loki has of the tenant, as (file, line) -> times; a time stands there as often as Loki gives it."""
        found, start = {}, self.started_ns - 10**10
        while True:
            query = {"query": '{job=~".+"}', "start": start, "end": time.time_ns() + 10**10, "limit": 5000, "direction": "forward"}
            request = urllib.request.Request(f"http://127.0.0.1:{self.loki.port}/loki/api/v1/query_range?" + urllib.parse.urlencode(query),
                                             headers={"X-Scope-OrgID": tenant, "X-Loki-Response-Encoding-Flags": "categorize-labels"})
            with urllib.request.urlopen(request, timeout=30) as answer:
                streams = json.load(answer)["data"]["result"]
            page = [(int(at), stream["stream"], line, rest.get("structuredMetadata", {}))
                    for stream in streams for at, line, rest in stream["values"]]
            last = max((at for at, *_ in page), default=0)
            for at, labels, line, metadata in page:
                # There may be more of the last time: it comes again with the next page.
                if len(page) < 5000 or at < last:
                    number = line.split()[0].removeprefix("number=")
                    if metadata.get("number") != number:
                        fail(f"the metadata of {line[:80]!r} is {metadata}")
                    found.setdefault((labels.get("filename", ""), line), []).append(at)
            if len(page) < 5000:
                return found
            start = last

    def judge(self):
        written = {"a": {}, "b": {}, "shared": {}, "relayed": {}}
        for tenant, logs in (("shared", self.shared), ("relayed", [self.relayed]), ("a", self.logs[::2]), ("b", self.logs[1::2])):
            written[tenant] = {(str(log.path), f"number={number}") for log in logs for number in range(log.next)}
        for tenant, lines in self.expected.items():
            name = str(self.folder / "backlog.log") if tenant == "backlog" else ""
            written[tenant] = {(name, line) for line in lines}
        print(f"\n{'tenant':<10} {'lines':>7} {'lost':>5} {'doubled':>7} {'twice with one time':>19}")
        wrong = []
        for tenant, expected in written.items():
            deadline = time.time() + PATIENCE_S
            while (found := self.lines(tenant)) and expected - found.keys() and time.time() < deadline:
                time.sleep(1)
            lost, other = expected - found.keys(), found.keys() - expected
            doubled = [line for line, times in found.items() if len(set(times)) > 1]
            repeated = sum(len(times) - len(set(times)) for times in found.values())
            print(f"{tenant:<10} {len(expected):>7} {len(lost):>5} {len(doubled):>7} {repeated:>19}")
            for what, lines in (("lost", lost), ("doubled", doubled), ("strange", other)):
                if lines:
                    wrong.append(f"{tenant}: {len(lines)} {what}, as {[(*line, found.get(line)) for line in sorted(lines)[:5]]}")
        rotations = sum(log.rotated for log in self.logs)
        print(f"\n{rotations} rotations; Loki has refused {sum(self.refused(self.solo).values())} lines since the last restart of solo")
        if rotations < 20 or min(map(len, written.values())) < 100:
            wrong.append("hardly anything happened")
        if wrong:
            fail("; ".join(wrong))


class LogFile:
    """A file whose lines are numbered, rotated in the ways that programs have."""

    def __init__(self, path, chance):
        self.path, self.chance, self.next, self.rotated = path, chance, 0, 0
        self.file = path.open("ab", buffering=0)
        self.write(1)

    def write(self, count):
        text = "".join(f"number={number}\n" for number in range(self.next, self.next + count)).encode()
        cut = self.chance.randrange(len(text) + 1)
        self.next += count
        self.file.write(text[:cut])
        self.file.write(text[cut:])

    def rotate(self):
        self.rotated += 1
        siblings = [path for path in self.path.parent.iterdir() if path.name.startswith(self.path.name + ".")]
        numbered = [(int(path.name.removeprefix(self.path.name + ".").split(".")[0]), path) for path in siblings]
        for number, path in sorted(numbered, reverse=True):
            path.rename(self.name(number + 1, ".".join(path.name.removeprefix(self.path.name + ".").split(".")[1:])))
        first = self.name(1)
        kind = self.chance.randrange(4)
        if kind % 2:
            self.path.rename(first)
            if kind == 1:
                # Until it is told to open the new file, the program writes on.
                self.write(self.chance.randrange(5))
            self.file.close()
            self.file = self.path.open("ab", buffering=0)
        else:
            shutil.copyfile(self.path, first)
            self.file.truncate(0)
        if kind > 1:
            pack, suffix = self.chance.choice([(gzip, "gz"), (bz2, "bz2")])
            with pack.open(self.name(1, suffix), "wb") as packed:
                packed.write(first.read_bytes())
            first.unlink()

    def name(self, number, suffix=""):
        return self.path.with_name(f"{self.path.name}.{number}" + (suffix and f".{suffix}"))


LOKI = """\
auth_enabled: true
server: {http_listen_address: 127.0.0.1, http_listen_port: %(http)d, grpc_listen_address: 127.0.0.1, grpc_listen_port: %(grpc)d, log_level: warn}
common:
  path_prefix: %(folder)s/loki
  instance_addr: 127.0.0.1
  replication_factor: 1
  ring: {kvstore: {store: inmemory}}
  storage: {filesystem: {chunks_directory: %(folder)s/loki/chunks, rules_directory: %(folder)s/loki/rules}}
schema_config:
  configs:
    - {from: 2024-01-01, store: tsdb, object_store: filesystem, schema: v13, index: {prefix: index_, period: 24h}}
ingester: {lifecycler: {min_ready_duration: 0s, final_sleep: 0s}}
limits_config: {ingestion_rate_mb: 1000, ingestion_burst_size_mb: 1000, per_stream_rate_limit: 1GB, per_stream_rate_limit_burst: 1GB}
runtime_config: {file: %(folder)s/overrides.yml}
analytics: {reporting_enabled: false}
"""

OVERRIDES = """\
overrides:
  limits: {max_line_size: 1000, max_global_streams_per_user: 2, reject_old_samples_max_age: 1h}
"""

WRITE = """
loki.write "loki" {
  endpoint {
    url                = "%(loki)s"
    batch_wait         = "%(wait)s"
    min_backoff_period = "100ms"
    max_backoff_period = "1s"
    tenant_id          = "nobody"
  }
}
"""

METADATA = """
  stage.regex {
    expression = "^number=(?P<number>[0-9]+)"
  }
  stage.structured_metadata {
    values = { number = "" }
  }
"""

SOLO = """\
local.file_match "logs" {
  path_targets = [
    { "__path__" = "%(folder)s/logs/a-*.log", "job" = "logs", "team" = "a" },
    { "__path__" = "%(folder)s/logs/b-*.log", "job" = "logs", "team" = "b" },
    { "__path__" = "%(folder)s/backlog.log", "job" = "backlog", "team" = "backlog" },
  ]
  sync_period = "1s"
}

loki.source.file "logs" {
  targets    = local.file_match.logs.targets
  forward_to = [loki.process.logs.receiver]
}

loki.process "logs" {
  forward_to = [loki.write.loki.receiver]
""" + METADATA + """
  stage.tenant {
    label = "team"
  }
}

loki.source.api "pushed" {
  http {
    listen_address = "127.0.0.1"
    listen_port    = %(api)d
  }
  forward_to             = [loki.write.loki.receiver]
  use_incoming_timestamp = true
}
""" + WRITE

PUSHER = """\
loki.source.file "relayed" {
  targets    = [{ "__path__" = "%(folder)s/relayed/relayed.log", "job" = "relayed" }]
  forward_to = [loki.process.relayed.receiver]
}

loki.process "relayed" {
  forward_to = [loki.write.solo.receiver]
""" + METADATA + """
}

loki.write "solo" {
  endpoint {
    url                = "http://127.0.0.1:%(api)d/loki/api/v1/push"
    batch_wait         = "200ms"
    min_backoff_period = "100ms"
    max_backoff_period = "1s"
    tenant_id          = "relayed"
  }
}
"""

CLUSTERED = """\
local.file_match "shared" {
  path_targets = [{ "__path__" = "%(folder)s/shared/*.log", "job" = "shared" }]
}

loki.source.file "shared" {
  targets    = local.file_match.shared.targets
  forward_to = [loki.process.shared.receiver]

  clustering {
    enabled = true
  }
}

loki.process "shared" {
  forward_to = [loki.write.loki.receiver]
""" + METADATA + """
}
""" + WRITE.replace('"nobody"', '"shared"')

if __name__ == "__main__":
    sys.exit(main())
