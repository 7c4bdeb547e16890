#!/usr/bin/env python3
"""The API against what docs/openapi.yaml says of it, by schemathesis: an agent alone, then one of three in a cluster.

    .ci/api.py --alloy PROGRAM

Beside it, what schemathesis does not try: nothing but a reload can be asked for with a method that changes something, on no path that there
is, the pages among them. schemathesis is installed from PyPI (kept in ALLOY_CI_CACHE); where it cannot be had, this says so.
"""

import argparse
import http.client
import json
import os
import pathlib
import re
import signal
import subprocess
import sys

from end_to_end import Program, fail, free_ports, supervise, wait_until

DOCUMENT = pathlib.Path(__file__).resolve().parents[1] / "docs/openapi.yaml"
TOOL = "schemathesis==4.32.5"
CACHE = pathlib.Path(os.environ.get("ALLOY_CI_CACHE", pathlib.Path.home() / ".cache/alloy-ci")) / "api"
LIMIT_S = 600
# As in alloy-bin/src/server/events.rs.
STREAMS_MAX = 64
PAGES = ["/", "/ownership", "/components", "/logs", "/api/v0/component/prometheus.exporter.self.a/metrics"]
# Everything that the API can show: targets and files, names that have to be escaped, a module, a component that is not well.
CONFIG = """
declare "inner" {
  argument "targets" { }
  prometheus.remote_write "a" {
    endpoint {
      url = "http://127.0.0.1:1/write"
    }
  }
  prometheus.scrape "a" {
    targets         = argument.targets.value
    forward_to      = [prometheus.remote_write.a.receiver]
    scrape_interval = "1s"
    scrape_timeout  = "1s"
    clustering {
      enabled = true
    }
  }
}
prometheus.exporter.self "a" { }
discovery.file "a" {
  files = ["FOLDER/targets.json"]
}
inner "a" {
  targets = discovery.file.a.targets
}
local.file_match "a" {
  path_targets = [{ __path__ = "FOLDER/lines of ä*.txt" }]
}
loki.source.file "a" {
  targets    = local.file_match.a.targets
  forward_to = [loki.write.a.receiver]
  clustering {
    enabled = true
  }
}
loki.write "a" {
  endpoint {
    url = "http://127.0.0.1:1/push"
    basic_auth {
      username = "u"
      password = "hunter2"
    }
  }
}
loki.source.api "taken" {
  http {
    listen_port = PORT
  }
  forward_to = [loki.write.a.receiver]
}
"""

# 500 is what Alloy answers there, and the document says so.
TOML = """
[[operations]]
include-path = "/-/healthy"
checks.not_a_server_error.enabled = false
"""


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--alloy", required=True)
    arguments.add_argument("--keep", action="store_true", help="keep the logs of a good run, too")
    arguments.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3)), help="of what is asked")
    options = arguments.parse_args()
    tool = schemathesis()
    if tool is None:
        print("NOT RUN: schemathesis is not there, and PyPI cannot be reached")
        return 0
    print(f"--seed {options.seed}")
    return supervise("api", LIMIT_S, options, lambda folder: World(folder, options, tool), "OK: the API is as its document says.")


def schemathesis():
    program = CACHE / "bin/schemathesis"
    if not program.exists():
        made = [[sys.executable, "-m", "venv", "--clear", CACHE], [CACHE / "bin/pip", "install", "--quiet", "--no-input", TOOL]]
        if any(subprocess.run(command).returncode != 0 for command in made):
            return None
    return program


class World:
    """Four agents: one alone, three in a cluster."""

    def __init__(self, folder, options, tool):
        self.folder, self.options, self.tool = folder, options, tool
        ports = free_ports(5)
        targets = [{"targets": [f"127.0.0.1:{port}"], "labels": {"zone": 'a"b&<ü>'}} for port in ports]
        (folder / "targets.json").write_text(json.dumps(targets))
        for number in range(5):
            (folder / f"lines of ä{number}.txt").write_text("a line\n")
        config = folder / "config.alloy"
        # The port is the second agent's: who comes too late for it is unhealthy, and says so.
        config.write_text(CONFIG.replace("FOLDER", str(folder)).replace("PORT", str(ports[4])))
        join = ",".join(f"127.0.0.1:{port}" for port in ports[1:4])
        cluster = ["--cluster.enabled", "--cluster.name=api", f"--cluster.join-addresses={join}", "--cluster.advertise-address=127.0.0.1"]
        self.agents = [Program(f"agent-{number}", folder, port, [
            options.alloy, "run", config, f"--storage.path={folder}/{number}", f"--server.http.listen-addr=127.0.0.1:{port}",
            *([*cluster, f"--cluster.node-name=agent-{number}"] if number else []),
        ]) for number, port in enumerate(ports[:4])]

    def run(self):
        for agent in self.agents:
            agent.start()
        for agent in self.agents:
            wait_until(f"{agent.name} is ready", 60, lambda: agent.alive() and agent.answers("/-/ready"))
        alone, one, *_ = self.agents
        for agent, members in ((alone, 1), (one, 3)):
            wait_until(f"{members} members", 60, lambda: len(agent.json("/api/v0/web/peers")) == members)
            wait_until("ten keys", 60, lambda: len(agent.json("/api/v0/cluster/ownership")["keys"]) == 10)
            self.check(agent)
            changes_nothing(agent)
            leaves_room(agent)
        for agent in self.agents:
            agent.alive()
            if "panicked" in agent.log.read_text():
                fail(f"{agent.name} has panicked")

    def check(self, agent):
        """What never ends, or only after minutes, is not asked; that a reload answers while others are under way is tried elsewhere."""
        name = agent.json("/api/v0/cluster/ownership")["keys"][0]["name"]
        component = "inner.a/prometheus.scrape.a"
        agent.answers(f"/api/v0/web/components/{component}")
        text = DOCUMENT.read_text()
        # Values that are there, so that the answers are not all empty.
        for parameter, value in (("name: key, in: query", name), ("name: id, in: path", component)):
            if parameter not in text:
                fail(f"{DOCUMENT} does not have `{parameter}`")
            text = text.replace(parameter, f"{parameter}, example: {json.dumps(value)}")
        document = self.folder / "openapi.yaml"
        document.write_text(text)
        (self.folder / "schemathesis.toml").write_text(TOML)
        print(f"\n--- {agent.name}")
        run = subprocess.run([
            self.tool, "run", document, "--url", f"http://127.0.0.1:{agent.port}", "--exclude-path", "/api/v0/events",
            "--exclude-path", "/-/support",
            "--seed", str(self.options.seed), "--max-examples", "100", "--continue-on-failure",
            "--warnings", "off", "--no-color", "--request-timeout", "30",
        ], stdin=subprocess.DEVNULL, cwd=self.folder)
        if run.returncode != 0:
            fail(f"schemathesis finds faults in the answers of {agent.name}; --seed {self.options.seed}")

    def end(self):
        for agent in self.agents:
            agent.end(signal.SIGTERM, 30)


def changes_nothing(agent):
    """405 to every method that may change something, on every path; a reload may be asked for with POST."""
    paths = re.findall(r"^  (/\S+):$", DOCUMENT.read_text(), re.M)
    if len(paths) < 10:
        fail(f"only {len(paths)} paths in {DOCUMENT}")
    for path in paths + PAGES:
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            connection = http.client.HTTPConnection("127.0.0.1", agent.port, timeout=30)
            connection.request(method, path.replace("{id}", "loki.write.a"), body=b"a=b")
            status = connection.getresponse().status
            connection.close()
            wanted = 200 if (method, path) == ("POST", "/-/reload") else 405
            if status != wanted:
                fail(f"{agent.name} answers {method} {path} with {status}, not {wanted}")


def leaves_room(agent):
    """Whoever follows events and does not go is refused before others are."""
    def follow():
        connection = http.client.HTTPConnection("127.0.0.1", agent.port, timeout=30)
        connection.request("GET", "/api/v0/events")
        return connection, connection.getresponse()

    following = [follow() for _ in range(STREAMS_MAX + 1)]
    statuses = [answer.status for _, answer in following]
    if statuses != [200] * STREAMS_MAX + [503]:
        fail(f"{agent.name} answers {STREAMS_MAX + 1} that follow events with {sorted(set(statuses))}, not the last alone with 503")
    agent.answers("/-/ready")
    for connection, answer in following:
        answer.close()
        connection.close()

    def again():
        connection, answer = follow()
        answer.close()
        connection.close()
        return answer.status == 200

    wait_until("there is room again", 30, again)


if __name__ == "__main__":
    sys.exit(main())
