"""OTLP with real SDKs: what was acknowledged arrives, whatever is killed.

Clients (Python and JavaScript SDKs; gRPC, HTTP with protobuf and JSON) send to an agent, which sends over gRPC to a second one, which
batches and posts to a sink that decodes by the SDK's own messages. Meanwhile the first agent is killed (SIGKILL) and started again, the
sink goes away and comes back, and the second agent is restarted in an orderly way. At the end every item that a client was told to
be taken must be at the sink, with its value.

    run.py --alloy PROGRAM --python VENV/bin/python --node-modules FOLDER [--seconds 20]

`run.sh` makes the two environments in a temporary folder. Loopback only; ends only what it started.
"""

import argparse
import gzip
import http.server
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

HERE = pathlib.Path(__file__).parent


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Sink:
    """Takes OTLP over HTTP and remembers every item."""

    def __init__(self, port):
        self.port, self.arrived, self.wrong, self.requests = port, {}, [], 0
        self.server = None
        self.lock = threading.Lock()

    def up(self):
        sink = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                sink.take(self.path, body)
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            allow_reuse_address = True
            daemon_threads = True

        self.server = Server(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def down(self):
        self.server.shutdown()
        self.server.server_close()

    def take(self, path, body):
        with self.lock:
            self.requests += 1
            if path == "/v1/metrics":
                for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                    self.check(resource)
                    for metric in (metric for scope in resource.scope_metrics for metric in scope.metrics):
                        if metric.name.startswith("m."):
                            (point,) = metric.sum.data_points
                            value = getattr(point, point.WhichOneof("value"))
                            if value != int(metric.name.rsplit(".", 1)[1]) * 3 - 7:
                                self.wrong.append(f"{metric.name} is {value}")
                            self.note(metric.name)
                        elif not metric.histogram.data_points[0].count:
                            self.wrong.append(f"{metric.name} has no count")
            elif path == "/v1/logs":
                for resource in ExportLogsServiceRequest.FromString(body).resource_logs:
                    self.check(resource)
                    for record in (record for scope in resource.scope_logs for record in scope.log_records):
                        self.note(record.body.string_value)
            else:
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    self.check(resource)
                    for span in (span for scope in resource.scope_spans for span in scope.spans):
                        if len(span.trace_id) != 16 or len(span.span_id) != 8:
                            self.wrong.append(f"{span.name} has ids of another length")
                        self.note(span.name)

    def check(self, resource):
        names = {attribute.key for attribute in resource.resource.attributes}
        if not {"service.name", "service.instance.id"} <= names:
            self.wrong.append(f"a resource has only {names}")

    def note(self, name):
        self.arrived[name] = self.arrived.get(name, 0) + 1


class Agent:
    def __init__(self, alloy, folder, name, config):
        self.alloy, self.folder, self.name = alloy, folder, name
        self.config = folder / f"{name}.alloy"
        self.config.write_text(config)
        self.port = free_port()
        self.start()

    def start(self):
        log = open(self.folder / f"{self.name}.log", "ab")
        storage = self.folder / self.name
        self.process = subprocess.Popen(
            [self.alloy, "run", self.config, f"--storage.path={storage}", f"--server.http.listen-addr=127.0.0.1:{self.port}"],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def end(self, how):
        self.process.send_signal(how)
        self.process.wait(60)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--alloy", required=True)
    arguments.add_argument("--python", default=sys.executable)
    arguments.add_argument("--node-modules")
    arguments.add_argument("--seconds", type=float, default=20)
    given = arguments.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="otlp-"))
    ports = {name: free_port() for name in ("sink", "grpc_a", "http_a", "grpc_b")}
    sink = Sink(ports["sink"])
    sink.up()
    output = lambda to: "".join(f"    {signal} = [{to}.input]\n" for signal in ("metrics", "logs", "traces"))
    retry = '  retry_on_failure {\n    initial_interval = "100ms"\n    max_interval = "500ms"\n  }\n'
    second = Agent(given.alloy, folder, "second", f'''
otelcol.receiver.otlp "in" {{
  grpc {{ endpoint = "127.0.0.1:{ports["grpc_b"]}" }}
  output {{
{output("otelcol.processor.batch.b")}  }}
}}
otelcol.processor.batch "b" {{
  timeout = "50ms"
  output {{
{output("otelcol.exporter.otlphttp.out")}  }}
}}
otelcol.exporter.otlphttp "out" {{
  client {{ endpoint = "http://127.0.0.1:{ports["sink"]}" }}
{retry}}}
''')
    first = Agent(given.alloy, folder, "first", f'''
otelcol.receiver.otlp "in" {{
  grpc {{ endpoint = "127.0.0.1:{ports["grpc_a"]}" }}
  http {{ endpoint = "127.0.0.1:{ports["http_a"]}" }}
  output {{
{output("otelcol.processor.memory_limiter.m")}  }}
}}
otelcol.processor.memory_limiter "m" {{
  check_interval = "1s"
  limit_percentage = 80
  output {{
{output("otelcol.exporter.otlp.out")}  }}
}}
otelcol.exporter.otlp "out" {{
  client {{
    endpoint    = "127.0.0.1:{ports["grpc_b"]}"
    compression = "zstd"
    tls {{ insecure = true }}
  }}
{retry}}}
''')
    addresses = [f"127.0.0.1:{ports['grpc_a']}", f"127.0.0.1:{ports['http_a']}", str(given.seconds)]
    clients = [subprocess.Popen([given.python, HERE / "client.py", *addresses, "py"], stdout=subprocess.PIPE, text=True)]
    if given.node_modules:
        clients.append(subprocess.Popen(["node", HERE / "client.mjs", *addresses, "js"], cwd=given.node_modules,
                                        stdout=subprocess.PIPE, text=True))
    acknowledged = []
    readers = [threading.Thread(target=lambda c=client: acknowledged.extend(c.stdout.read().split())) for client in clients]
    for reader in readers:
        reader.start()
    step = given.seconds / 8
    try:
        for _ in range(2):
            time.sleep(step)
            first.end(signal.SIGKILL)
            first.start()
        sink.down()
        time.sleep(step)
        first.end(signal.SIGKILL)
        first.start()
        time.sleep(step)
        second.end(signal.SIGTERM)
        second.start()
        time.sleep(step)
        sink.up()
        for client in clients:
            client.wait(given.seconds * 4 + 60)
            assert client.returncode == 0, f"a client ended with {client.returncode}"
        for reader in readers:
            reader.join()
        deadline = time.time() + 60
        missing = set(acknowledged)
        while missing and time.time() < deadline:
            time.sleep(0.2)
            with sink.lock:
                missing = missing - sink.arrived.keys()
        kinds = {}
        for name in acknowledged:
            kind = ".".join(name.split(".")[:3])
            kinds[kind] = kinds.get(kind, 0) + 1
        wanted = 6 + (9 if given.node_modules else 0)
        repeated = sum(count - 1 for count in sink.arrived.values())
        print(json.dumps({"acknowledged": kinds, "arrived": len(sink.arrived), "repeated": repeated, "requests": sink.requests}))
        assert len(kinds) == wanted, f"only {len(kinds)} of {wanted} ways were acknowledged at all"
        assert not missing, f"{len(missing)} acknowledged items have not arrived, such as {sorted(missing)[:5]}"
        assert not sink.wrong, f"{len(sink.wrong)} things are wrong, such as {sink.wrong[:5]}"
        for agent in (first, second):
            agent.end(signal.SIGTERM)
            assert agent.process.returncode == 0, f"{agent.name} ended with {agent.process.returncode}"
        shutil.rmtree(folder)
    except BaseException:
        print(f"the logs are in {folder}", file=sys.stderr)
        raise
    finally:
        for process in clients + [first.process, second.process]:
            if process.poll() is None:
                process.kill()
    print("every acknowledged item has arrived")


main()
