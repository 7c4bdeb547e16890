#!/usr/bin/env python3
"""The alerts and the dashboard of docs/mixin: promtool finds them right, and every metric in them is one that an agent shows.

    .ci/mixin.py --alloy PROGRAM
"""

import argparse
import json
import pathlib
import re
import signal
import subprocess
import sys
import tempfile

from end_to_end import Program, free_ports, wait_until

MIXIN = pathlib.Path(__file__).resolve().parents[1] / "docs/mixin"
OURS = re.compile(r"\b(?:alloy|cluster|prometheus_remote|prometheus_scrape|loki|otelcol)_[a-z0-9_]+")
# One of each kind of component that the mixin speaks of. Nobody answers them.
CONFIG = """
prometheus.exporter.self "a" { }
prometheus.scrape "a" {
  targets         = prometheus.exporter.self.a.targets
  forward_to      = [prometheus.remote_write.a.receiver]
  scrape_interval = "1s"
  scrape_timeout  = "1s"
  clustering {
    enabled = true
  }
}
prometheus.remote_write "a" {
  endpoint {
    url = "http://127.0.0.1:1/write"
  }
}
loki.source.file "a" {
  targets    = [{ __path__ = "FOLDER/a.log" }]
  forward_to = [loki.write.a.receiver]
}
loki.write "a" {
  endpoint {
    url = "http://127.0.0.1:1/push"
  }
}
otelcol.receiver.otlp "a" {
  http {
    endpoint = "127.0.0.1:OTLP"
  }
  output {
    metrics = [otelcol.exporter.otlphttp.a.input]
  }
}
otelcol.exporter.otlphttp "a" {
  client {
    endpoint = "http://127.0.0.1:1"
  }
}
"""


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--alloy", required=True)
    alloy = arguments.parse_args().alloy
    for command in ("check rules alerts.yaml", "test rules alerts_test.yaml"):
        subprocess.run(["promtool", *command.split()], cwd=MIXIN, check=True)
    shown = metrics_of(alloy)
    dashboard = json.loads((MIXIN / "dashboard.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    alerts = re.findall(r"^ +expr: (.*)$", (MIXIN / "alerts.yaml").read_text(), re.M)
    used = {name for text in queries + alerts for name in OURS.findall(text)}
    unknown = sorted(used - shown)
    if not queries or not alerts or unknown:
        sys.exit(f"no agent shows {unknown}")
    # Each query is one that a Prometheus can read.
    for query in queries:
        text = query.replace("$__rate_interval", "5m").replace('"$job"', '".*"')
        rules = json.dumps({"groups": [{"name": "a", "rules": [{"record": "a:b", "expr": text}]}]})
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            file.write(rules)
            file.flush()
            subprocess.run(["promtool", "check", "rules", file.name], check=True, stdout=subprocess.DEVNULL)
    print(f"OK: {len(alerts)} alerts and {len(queries)} queries, of {len(used)} metrics that there are.")


def metrics_of(alloy):
    """The names of all metrics that an agent shows."""
    with tempfile.TemporaryDirectory() as folder:
        port, otlp = free_ports(2)
        config = pathlib.Path(folder, "config.alloy")
        config.write_text(CONFIG.replace("FOLDER", folder).replace("OTLP", str(otlp)))
        agent = Program("agent", pathlib.Path(folder), port, [
            alloy, "run", config, f"--storage.path={folder}/data", f"--server.http.listen-addr=127.0.0.1:{port}", "--cluster.enabled=true"])
        agent.start()
        try:
            wait_until("the agent is ready", 30, lambda: agent.alive() and agent.answers("/-/ready"))
            return set(re.findall(r"^# TYPE (\S+)", agent.get("/metrics").decode(), re.M))
        finally:
            agent.end(signal.SIGTERM, 60)


if __name__ == "__main__":
    main()
