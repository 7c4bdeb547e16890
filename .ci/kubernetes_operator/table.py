#!/usr/bin/env python3
"""Writes what the Prometheus operator's generator makes of the monitors of a unit test into its table.

    table.py OPERATOR alloy-bin/src/components/prometheus/operator/table.json

OPERATOR is main.go as a program, for which this is an API server with nothing but the table's monitors. Needs PyYAML.
"""

import http.server
import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import yaml

program, path = sys.argv[1:]
table = json.load(open(path))


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        plural = self.path.split("?")[0].rsplit("/", 1)[1]
        items = table[plural] if plural in ("secrets", "configmaps") else [row["monitor"] for row in table["rows"] if row["plural"] == plural]
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"items": items}).encode())

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
address = f"127.0.0.1:{server.server_port + 1}"
child = subprocess.Popen([program, address, f"http://127.0.0.1:{server.server_port}", "token", "Endpoints"], stderr=subprocess.DEVNULL)
try:
    text = ""
    while not text:
        time.sleep(0.2)
        try:
            text = urllib.request.urlopen(f"http://{address}/config").read().decode()
        except urllib.error.URLError:
            assert child.poll() is None
finally:
    child.kill()
jobs = {}
for job in yaml.safe_load(text)["scrape_configs"]:
    # How targets are found is proven where there are some.
    del job["kubernetes_sd_configs"]
    # Nor are there shards.
    job["relabel_configs"] = [rule for rule in job["relabel_configs"] if "__tmp_hash" not in json.dumps(rule)]
    jobs.setdefault(job["job_name"].rsplit("/", 1)[0].split("/", 1)[1], []).append(job)
for row in table["rows"]:
    meta = row["monitor"]["metadata"]
    row["expected"] = jobs[f"{meta['namespace']}/{meta['name']}"]
lines = [f'  {{"plural": {json.dumps(row["plural"])}, "monitor": {json.dumps(row["monitor"])},\n   "expected": [\n    '
         + ",\n    ".join(map(json.dumps, row["expected"])) + "]}" for row in table["rows"]]
with open(path, "w") as file:
    file.write(f'{{"secrets": {json.dumps(table["secrets"])},\n "configmaps": {json.dumps(table["configmaps"])},\n "rows": [\n' + ",\n".join(lines) + "\n]}\n")
