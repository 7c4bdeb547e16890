#!/usr/bin/env python3
"""What OTLP costs: CPU seconds of an agent for a million items that are received, kept and forwarded.

The agent's exporter posts to a sink that throws everything away. Requests are made before the clock starts; clients and sink are other processes. With
`--vmagent` a vmagent gets the same metrics over HTTP and writes them to the same sink; it keeps nothing durable. With `--collector`
an OpenTelemetry Collector with the OTLP receiver, the otlphttp exporter and the extension file_storage does the same work, its queue on disk.

    benches/otlp.py --alloy target/release/alloy [--vmagent PROGRAM] [--items 1000000] [--rate 0] [--compression gzip,zstd]
    benches/otlp.py --alloy target/release/alloy --limit 60

With `--bridges` metrics also go out as remote write, and logs as pushes to Loki. `--limit` sends for so many seconds as fast as it can to an agent
whose endpoint takes less: the log fills up, clients are told to come later, memory stays what it is, and what was acknowledged arrives.

Prints one JSON line for each case. Needs `grpcio` for the cases over gRPC, which are left out without it. Compare lines of one run
only, and look at `load`: a busy machine makes all of them worse.
"""

import argparse
import http.client
import json
import multiprocessing
import os
import pathlib
import shutil
import socket
import struct
import subprocess
import tempfile
import time
import urllib.request

try:
    import grpc
except ImportError:
    grpc = None

PATHS = {"metrics": "metrics.v1.MetricsService", "logs": "logs.v1.LogsService", "traces": "trace.v1.TraceService"}
BRIDGES = {"metrics": "prometheus", "logs": "loki"}
ITEMS = {"metrics": "metric_points", "logs": "log_records", "traces": "spans"}


EXPORTERS = {
    "otlphttp": '''
otelcol.exporter.otlphttp "out" {
  client {
    endpoint    = "SINK"
    compression = "COMPRESSION"
  }
}
''',
    "prometheus": '''
otelcol.exporter.prometheus "out" { forward_to = [prometheus.remote_write.out.receiver] }
prometheus.remote_write "out" {
  endpoint { url = "SINK/w" }
}
''',
    "loki": '''
otelcol.exporter.loki "out" { forward_to = [loki.write.out.receiver] }
loki.write "out" {
  endpoint { url = "SINK/loki/api/v1/push" }
}
''',
}


def varint(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def attribute(number, key, value):
    return field(number, field(1, key.encode()) + field(2, field(1, value.encode())))


def request(signal, items, seed):
    """A message as an SDK makes it: one resource, one scope, twenty points for a metric."""
    now = struct.pack("<Q", time.time_ns())
    resource = b"".join(attribute(1, key, value) for key, value in [
        ("service.name", "checkout"), ("service.instance.id", f"checkout-{seed:04}"), ("k8s.pod.name", f"checkout-7d9c5b6f4-{seed:05}"),
        ("k8s.namespace.name", "shop"), ("telemetry.sdk.language", "java")])
    inside = b""
    if signal == "metrics":
        for start in range(0, items, 20):
            points = b""
            for index in range(start, min(start + 20, items)):
                value = struct.pack("<d", (index * 7919 + seed * 104729) % 1000003 / 7)
                points += field(1, b"\x11" + now + b"\x19" + now + b"\x21" + value + attribute(7, "http.request.method", "GET")
                                + attribute(7, "http.route", f"/api/v1/route{index % 20}/{index // 1000}") + attribute(7, "http.response.status_code", "200"))
            inside += field(2, field(1, f"app.requests.{start // 20}".encode()) + field(3, b"1") + field(7, points + b"\x10\x02\x18\x01"))
    for index in range(items if signal != "metrics" else 0):
        ids = (index * 2654435761 + seed).to_bytes(16, "little")
        if signal == "logs":
            inside += field(2, b"\x09" + now + b"\x10\x09" + field(5, field(1, f"order placed user={index * 7919 % 100003} total={index % 900}.20 ok".encode()))
                            + attribute(6, "code.namespace", "com.acme.checkout.OrderService") + field(9, ids) + field(10, ids[:8]))
        else:
            inside += field(2, field(1, ids) + field(2, ids[:8]) + field(5, b"GET /api/v1/orders") + b"\x30\x02" + b"\x39" + now + b"\x41" + now
                            + attribute(9, "http.request.method", "GET") + attribute(9, "url.path", f"/api/v1/orders/{index % 977}") + field(15, b""))
    return field(1, field(1, resource) + field(2, field(1, field(1, b"lib")) + inside))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def sink(port, bytes_per_s=0, arrived=None):
    """Reads requests to their end and answers 200 to each, no faster than it may; counts their bytes."""
    import asyncio

    async def serve(reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                await reader.readexactly(length)
                if arrived is not None:
                    arrived.value += length
                    await asyncio.sleep(length / bytes_per_s)
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def main():
        server = await asyncio.start_server(serve, "127.0.0.1", port, limit=1 << 20)
        await server.serve_forever()

    asyncio.run(main())


def send(case, port, path, bodies, count, rate, batch, result):
    """Sends `count` requests one after the other; puts what was taken and refused."""
    taken = refused = 0
    start = time.time()
    if case == "grpc":
        channel = grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.max_send_message_length", -1)])
        call = channel.unary_unary(path)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port)
    for number in range(count):
        if rate:
            time.sleep(max(0, start + number * batch / rate - time.time()))
        body = bodies[number % len(bodies)]
        if case == "grpc":
            try:
                call(body)
                taken += 1
            except grpc.RpcError:
                refused += 1
        else:
            connection.request("POST", path, body, {"content-type": "application/x-protobuf"})
            answer = connection.getresponse()
            answer.read()
            taken, refused = (taken + 1, refused) if answer.status < 300 else (taken, refused + 1)
    result.put((taken, refused))


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mib(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) >> 10 for line in status.splitlines() if line.startswith("VmHWM"))


def wait_until(is_so, what, patience=60):
    deadline = time.time() + patience
    while not is_so():
        assert time.time() < deadline, f"not in time: {what}"
        time.sleep(0.05)


def answers(url):
    try:
        return urllib.request.urlopen(url, timeout=2).read().decode()
    except OSError:
        return ""


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
        return True
    except OSError:
        return False


def is_idle(pid):
    """Nothing is under way any more: a second passes in which the program does next to nothing."""
    before = cpu_seconds(pid)
    time.sleep(1)
    return cpu_seconds(pid) - before < 0.03


# The queue is on disk, as it has to be for a comparison; its file is not synced, which is the extension's default.
COLLECTOR = """
extensions:
  file_storage: { directory: FOLDER }
receivers:
  otlp:
    protocols:
      http: { endpoint: "127.0.0.1:HTTP" }
      grpc: { endpoint: "127.0.0.1:GRPC" }
exporters:
  otlphttp:
    endpoint: "http://127.0.0.1:SINK"
    compression: COMPRESSION
    sending_queue: { storage: file_storage, queue_size: 100000, num_consumers: 4 }
service:
  extensions: [file_storage]
  telemetry: { metrics: { level: none } }
  pipelines:
    SIGNAL: { receivers: [otlp], exporters: [otlphttp] }
"""


def run(given, program, transport, signal, batch, compression):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="otlp-bench-"))
    at = {name: free_port() for name in ("sink", "own", "grpc", "http")}
    drain = multiprocessing.Process(target=sink, args=(at["sink"],), daemon=True)
    drain.start()
    if program == "collector":
        (folder / "config.yaml").write_text(COLLECTOR.replace("HTTP", str(at["http"])).replace("GRPC", str(at["grpc"])).replace("SINK", str(at["sink"])).replace("FOLDER", str(folder)).replace("SIGNAL", signal).replace("COMPRESSION", compression))
        command = [given.collector, f"--config=file:{folder}/config.yaml"]
        ready, port, path = None, at[transport], f"/v1/{signal}"
        if transport == "grpc":
            path = f"/opentelemetry.proto.collector.{PATHS[signal]}/Export"
    elif program != "vmagent":
        (folder / "config.alloy").write_text(f'''
otelcol.receiver.otlp "in" {{
  grpc {{ endpoint = "127.0.0.1:{at["grpc"]}" }}
  http {{ endpoint = "127.0.0.1:{at["http"]}" }}
  output {{
    {signal} = [otelcol.exporter.{program}.out.input]
  }}
}}
''' + EXPORTERS[program].replace("SINK", f"http://127.0.0.1:{at['sink']}").replace("COMPRESSION", compression))
        command = [given.alloy, "run", folder / "config.alloy", f"--storage.path={folder}/data", f"--server.http.listen-addr=127.0.0.1:{at['own']}"]
        ready, port, path = f"http://127.0.0.1:{at['own']}/-/ready", at[transport], f"/v1/{signal}"
        if transport == "grpc":
            path = f"/opentelemetry.proto.collector.{PATHS[signal]}/Export"
    else:
        command = [given.vmagent, f"-remoteWrite.url=http://127.0.0.1:{at['sink']}/w", f"-remoteWrite.tmpDataPath={folder}", f"-httpListenAddr=127.0.0.1:{at['own']}"]
        ready, port, path = f"http://127.0.0.1:{at['own']}/health", at["own"], "/opentelemetry/v1/metrics"
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=open(folder / "log", "w"), stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: answers(ready) if ready else listens(port), "the agent is ready")
        bodies = [request(signal, batch, seed) for seed in range(max(2, min(200, 40000 // batch)))]
        results = multiprocessing.Queue()
        clients = given.clients
        count = max(1, given.items // batch // clients)

        def load(count, rate):
            all = [multiprocessing.Process(target=send, args=(transport, port, path, bodies, count, rate / clients, batch, results)) for _ in range(clients)]
            for one in all:
                one.start()
            told = [results.get(timeout=600) for _ in all]
            for one in all:
                one.join()
            return sum(taken for taken, _ in told), sum(refused for _, refused in told)

        def sent():
            name = {"otlphttp": f"otelcol_exporter_sent_{ITEMS[signal]}_total", "prometheus": "prometheus_remote_storage_samples_total", "loki": "loki_write_sent_entries_total"}[program]
            lines = [line for line in answers(f"http://127.0.0.1:{at['own']}/metrics").splitlines() if line.startswith(name) and (program != "otlphttp" or f'signal="{signal}"' in line)]
            return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

        warm = load(max(1, count // 10), 0)[0] * batch
        is_ours = program not in ("vmagent", "collector")
        if is_ours:
            wait_until(lambda: sent() >= warm, "the first items are delivered")
        else:
            wait_until(lambda: is_idle(process.pid), "the first items are delivered")
        before, start = cpu_seconds(process.pid), time.time()
        taken, refused = load(count, given.rate)
        sending = time.time() - start
        if is_ours:
            wait_until(lambda: sent() >= warm + taken * batch, "all items are delivered")
        else:
            wait_until(lambda: is_idle(process.pid), "all items are delivered")
        cpu = cpu_seconds(process.pid) - before
        items = taken * batch
        print(json.dumps({"agent": "alloy" if is_ours else program, "to": program, "transport": transport, "signal": signal, "batch": batch, "compression": compression, "items": items, "refused_requests": refused,
                          "items_per_s": round(items / sending), "cpu_s_per_million": round(cpu / items * 1e6, 3), "memory_mib_max": memory_mib(process.pid), "load": os.getloadavg()[0]}), flush=True)
    finally:
        process.kill()
        process.wait()
        drain.kill()
        shutil.rmtree(folder, ignore_errors=True)


def push(port, path, body, until, taken, told):
    """Sends until then, and does as it is told: waits before it tries again."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    while time.time() < until:
        connection.request("POST", path, body, {"content-type": "application/x-protobuf"})
        answer = connection.getresponse()
        answer.read()
        with taken.get_lock(), told.get_lock():
            if answer.status == 200:
                taken.value += 1
            else:
                assert answer.status in (429, 503) and answer.headers["retry-after"], answer.status
                told.value += 1
        if answer.status != 200:
            # As long as it says would leave the agent in peace; here it is to be pressed.
            time.sleep(0.05)


def at_the_limit(given, signal, batch=1000, bytes_per_s=10 << 20):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="otlp-limit-"))
    at = {name: free_port() for name in ("sink", "own", "http")}
    arrived, taken, told = (multiprocessing.Value("Q") for _ in range(3))
    drain = multiprocessing.Process(target=sink, args=(at["sink"], bytes_per_s, arrived), daemon=True)
    drain.start()
    (folder / "config.alloy").write_text(f'''
otelcol.receiver.otlp "in" {{
  http {{ endpoint = "127.0.0.1:{at["http"]}" }}
  output {{ {signal} = [otelcol.exporter.otlphttp.out.input] }}
}}
otelcol.exporter.otlphttp "out" {{
  client {{
    endpoint    = "http://127.0.0.1:{at["sink"]}"
    compression = "none"
  }}
  wal {{
    max_bytes     = "128MiB"
    segment_bytes = "8MiB"
  }}
}}
''')
    command = [given.alloy, "run", folder / "config.alloy", f"--storage.path={folder}/data", f"--server.http.listen-addr=127.0.0.1:{at['own']}"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=open(folder / "log", "w"), stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: answers(f"http://127.0.0.1:{at['own']}/-/ready"), "the agent is ready")
        body = request(signal, batch, 1)
        until = time.time() + given.limit
        clients = [multiprocessing.Process(target=push, args=(at["http"], f"/v1/{signal}", body, until, taken, told)) for _ in range(given.clients)]
        for client in clients:
            client.start()
        memory = []
        while any(client.is_alive() for client in clients):
            status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
            memory.append(next(int(line.split()[1]) >> 10 for line in status.splitlines() if line.startswith("VmRSS")))
            time.sleep(0.5)
        for client in clients:
            client.join()
            assert client.exitcode == 0, "a client was told something else than 200, 429 and 503"
        wait_until(lambda: arrived.value >= taken.value * len(body), "what was acknowledged arrives", given.limit + 60)
        quarter = len(memory) // 4
        print(json.dumps({"signal": signal, "seconds": given.limit, "items_acknowledged": taken.value * batch, "requests_told_to_wait": told.value,
                          "items_arrived": arrived.value // len(body) * batch, "memory_mib_max_by_quarter": [max(memory[i * quarter:(i + 1) * quarter]) for i in range(4)],
                          "load": os.getloadavg()[0]}), flush=True)
        assert told.value, "the log never filled up: nobody had to wait"
    finally:
        process.kill()
        process.wait()
        drain.kill()
        shutil.rmtree(folder, ignore_errors=True)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--alloy", required=True)
    arguments.add_argument("--vmagent")
    arguments.add_argument("--collector")
    arguments.add_argument("--items", type=int, default=1_000_000)
    arguments.add_argument("--rate", type=float, default=0)
    arguments.add_argument("--clients", type=int, default=4)
    arguments.add_argument("--batches", default="100,8000")
    arguments.add_argument("--signals", default="metrics,logs,traces")
    arguments.add_argument("--compression", default="gzip")
    arguments.add_argument("--bridges", action="store_true")
    arguments.add_argument("--limit", type=float)
    given = arguments.parse_args()
    if given.limit:
        for signal in given.signals.split(","):
            at_the_limit(given, signal)
        return
    for batch in map(int, given.batches.split(",")):
        if given.vmagent:
            run(given, "vmagent", "http", "metrics", batch, "its own")
        for signal in given.signals.split(",") if given.collector else ():
            for transport in ("http", "grpc") if grpc else ("http",):
                run(given, "collector", transport, signal, batch, "gzip")
        for signal in given.signals.split(","):
            for transport in ("http", "grpc") if grpc else ("http",):
                for compression in given.compression.split(","):
                    run(given, "otlphttp", transport, signal, batch, compression)
                if given.bridges and signal in BRIDGES:
                    run(given, BRIDGES[signal], transport, signal, batch, "snappy")


if __name__ == "__main__":
    main()
