"""OTLP metrics of a real SDK -> the agent -> a real Prometheus, compared value by value.

The Python SDK has every kind of instrument, cumulative and delta, observed and recorded, with exemplars. What it exports is kept and sent to
the agent (gRPC and HTTP), which writes to a Prometheus by remote write. Meanwhile the agent is killed (SIGKILL), the Prometheus goes away and comes
back. At the end every point that was acknowledged is looked for in the Prometheus: its value at its time, each bucket of its
histograms, its exemplar. Deltas are compared with the sum of what was acknowledged since the agent began.

    prometheus.py --alloy PROGRAM

Runs with the SDK's Python (see run.sh). Loopback only; ends only what it started; takes half a minute.
"""

import argparse
import json
import math
import pathlib
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

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetrics
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetrics
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import AlwaysOnExemplarFilter, Counter, Histogram, MeterProvider, ObservableCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

ROUNDS = 30
LIMIT_S = 60
CUMULATIVE, DELTA = AggregationTemporality.CUMULATIVE, AggregationTemporality.DELTA


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Program:
    def __init__(self, folder, name, command):
        self.log, self.command, self.process = folder / f"{name}.log", [str(part) for part in command], None
        self.start()

    def start(self):
        log = open(self.log, "ab")
        self.process = subprocess.Popen(self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def end(self, how):
        self.process.send_signal(how)
        self.process.wait(30)


class Application:
    """A resource with all instruments."""

    def __init__(self, name, temporality, exporter):
        self.job, self.is_delta, self.exporter, self.round = f"ci/{name}", temporality == DELTA, exporter, 0
        resource = Resource.create({"service.name": name, "service.namespace": "ci", "service.instance.id": "i-1", "host.name": "test"})
        preferred = {kind: temporality for kind in (Counter, Histogram, ObservableCounter)}
        self.reader = InMemoryMetricReader(preferred_temporality=preferred)
        finest = View(instrument_name="fine.*", aggregation=ExponentialBucketHistogramAggregation(max_size=40, max_scale=20))
        self.provider = MeterProvider([self.reader], resource, views=[finest], exemplar_filter=AlwaysOnExemplarFilter())
        meter = self.provider.get_meter("test.meter", "1.2", "http://schema", {"short.name": "tm"})
        self.tracer = TracerProvider().get_tracer("test")
        self.counter = meter.create_counter("requests", "1", "Requests taken.")
        self.sizes = meter.create_counter("sent", "By", "Bytes sent.")
        self.up_down = meter.create_up_down_counter("in.flight", "{requests}")
        self.gauge = meter.create_gauge("room.temperature", "Cel")
        self.histogram = meter.create_histogram("latency", "ms", explicit_bucket_boundaries_advisory=[1, 2.5, 10, 1000])
        self.fine = meter.create_histogram("fine.latency", "s")
        observe = lambda factor: lambda _: [Observation(self.round * factor, {"cpu": "0"}), Observation(self.round, {"cpu.": "1"})]
        meter.create_observable_counter("cpu.time", [observe(3)], "s")
        meter.create_observable_up_down_counter("threads", [observe(-2)])
        meter.create_observable_gauge("load.average", [observe(0.5)], "1")

    def work(self):
        """One round: returns the exported data."""
        self.round += 1
        with self.tracer.start_as_current_span("work"):
            self.counter.add(self.round, {"path": "/a", "http.status": 200})
            self.sizes.add(0.1 * self.round)
            self.up_down.add(-1 if self.round % 3 else 5)
            self.gauge.set(20 + math.sin(self.round))
            for step in range(self.round):
                self.histogram.record(step * 7 % 1300, {"path": "/ä\n"})
                self.fine.record(1.01 ** (step * step))
            self.fine.record(0)
        return self.reader.get_metrics_data()


NAMES = {
    "requests": "requests_total", "sent": "sent_bytes_total", "in.flight": "in_flight", "room.temperature": "room_temperature_celsius",
    "latency": "latency_milliseconds", "fine.latency": "fine_latency_seconds", "cpu.time": "cpu_time_seconds_total",
    "threads": "threads", "load.average": "load_average_ratio",
}


def series(app, point):
    labels = {key.replace(".", "_"): str(value) for key, value in point.attributes.items()}
    scope = {"otel_scope_name": "test.meter", "otel_scope_version": "1.2", "otel_scope_schema_url": "http://schema", "otel_scope_short_name": "tm"}
    return labels | scope | {"job": app.job, "instance": "i-1"}


def key(labels):
    return tuple(sorted(labels.items()))


def expect(expected, app, data):
    """Adds the points of an acknowledged export: (labels, ms) -> value or (count, sum, buckets)."""
    (resource,) = data.resource_metrics
    (scope,) = resource.scope_metrics
    for metric in scope.metrics:
        name = NAMES[metric.name]
        is_delta = getattr(metric.data, "aggregation_temporality", None) == DELTA
        for point in metric.data.data_points:
            labels, ms = series(app, point), point.time_unix_nano // 1_000_000

            def put(suffix, value, **more):
                identity = key(labels | {"__name__": name + suffix} | more)
                total = expected["totals"].get(identity, 0) + value if is_delta else value
                expected["totals"][identity] = total
                expected["floats"][(identity, ms)] = total

            if hasattr(point, "value"):
                put("", point.value)
            elif hasattr(point, "explicit_bounds"):
                put("_count", point.count)
                put("_sum", point.sum)
                below = 0
                for bound, count in zip([*point.explicit_bounds, None], point.bucket_counts):
                    below += count
                    put("_bucket", below, le="+Inf" if bound is None else f"{bound:g}")
            else:
                counts = {}
                for sign, side in ((1, point.positive), (-1, point.negative)):
                    for index, count in enumerate(side.bucket_counts):
                        counts[(sign, side.offset + index)] = count
                expected["native"].setdefault(key(labels | {"__name__": name}), []).append(
                    (ms, point.count, point.sum, point.zero_count, point.scale, counts, is_delta))
            for exemplar in point.exemplars if metric.name in ("requests", "latency") else []:
                expected["exemplars"].add((app.job, f"{exemplar.trace_id:032x}", f"{exemplar.span_id:016x}", float(exemplar.value)))
    attributes = {"job": app.job, "instance": "i-1", "__name__": "target_info", "host_name": "test"}
    sdk = {f"telemetry_sdk_{what}": resource.resource.attributes[f"telemetry.sdk.{what}"] for what in ("language", "name", "version")}
    expected["floats"][(key(attributes | sdk), ms)] = 1


def ask(port, path, **query):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/{path}?{urllib.parse.urlencode(query)}", timeout=10) as answer:
        return json.load(answer)["data"]


def wait_for(what, patience, done):
    end = time.time() + patience
    while not done():
        if time.time() > end:
            raise AssertionError(f"{what}: not within {patience} s")
        time.sleep(0.1)


def answers(url):
    try:
        return urllib.request.urlopen(url, timeout=1).status == 200
    except (urllib.error.URLError, OSError):
        return False


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--alloy", required=True)
    arguments.add_argument("--prometheus", default="prometheus")
    given = arguments.parse_args()
    signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(AssertionError(f"not done after {LIMIT_S} s")))
    signal.alarm(LIMIT_S)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="otlp-prometheus-"))
    grpc, http, prometheus_port, agent_port = (free_port() for _ in range(4))
    (folder / "prometheus.yml").write_text("storage: {exemplars: {max_exemplars: 100000}}\n")
    (folder / "agent.alloy").write_text(f'''
otelcol.receiver.otlp "in" {{
  grpc {{ endpoint = "127.0.0.1:{grpc}" }}
  http {{ endpoint = "127.0.0.1:{http}" }}
  output {{ metrics = [otelcol.exporter.prometheus.bridge.input] }}
}}
otelcol.exporter.prometheus "bridge" {{
  forward_to = [prometheus.remote_write.real.receiver]
}}
prometheus.remote_write "real" {{
  endpoint {{
    url                    = "http://127.0.0.1:{prometheus_port}/api/v1/write"
    send_native_histograms = true
    queue_config {{
      min_backoff     = "50ms"
      max_backoff     = "500ms"
      batch_send_deadline = "100ms"
    }}
  }}
}}
''')
    agent = Program(folder, "agent", [given.alloy, "run", folder / "agent.alloy", f"--storage.path={folder / 'agent'}",
                                      f"--server.http.listen-addr=127.0.0.1:{agent_port}"])
    prometheus = Program(folder, "prometheus", [
        given.prometheus, f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{prometheus_port}", "--web.enable-remote-write-receiver",
        "--enable-feature=native-histograms,exemplar-storage"])
    try:
        wait_for("the agent", 20, lambda: answers(f"http://127.0.0.1:{agent_port}/-/ready"))
        expected = {"floats": {}, "native": {}, "totals": {}, "exemplars": set()}
        apps = [
            Application("cumulative", CUMULATIVE, GrpcMetrics(endpoint=f"127.0.0.1:{grpc}", insecure=True, timeout=20)),
            Application("delta", DELTA, HttpMetrics(endpoint=f"http://127.0.0.1:{http}/v1/metrics", timeout=20)),
        ]
        exported = 0
        for round in range(1, ROUNDS + 1):
            if round == 10:
                prometheus.end(signal.SIGTERM)
            if round in (5, 12, 20):
                agent.end(signal.SIGKILL)
                agent.start()
                # What was added up is gone with it: deltas are compared from here on.
                expected["totals"].clear()
                expected["native"] = {k: v + [None] for k, v in expected["native"].items()}
            if round == 16:
                prometheus.start()
            for app in apps:
                data = app.work()
                # The exporter tries again by itself for as long as its timeout, as an application's does.
                result = app.exporter.export(data)
                assert result.name == "SUCCESS", f"round {round}: {result}"
                expect(expected, app, data)
                exported += 1
        print(json.dumps({"exports": exported, "floats": len(expected["floats"]), "native histograms": sum(
            1 for points in expected["native"].values() for point in points if point), "exemplars": len(expected["exemplars"])}))
        compare(expected, prometheus_port)
        agent.end(signal.SIGTERM)
        assert agent.process.returncode == 0, f"the agent ended with {agent.process.returncode}"
        shutil.rmtree(folder)
    except BaseException:
        print(f"the logs are in {folder}", file=sys.stderr)
        raise
    finally:
        for program in (agent, prometheus):
            if program.process.poll() is None:
                program.process.kill()
    print("the Prometheus has every value that was exported")


def compare(expected, port):
    wrong = []
    newest = max(ms for _, ms in expected["floats"])
    # A resource's metrics come in order, and `target_info` is the last of an export.
    last = {}
    for (labels, ms), _ in expected["floats"].items():
        last[dict(labels)["job"]] = max(ms, last.get(dict(labels)["job"], 0))

    def is_there():
        try:
            found = ask(port, "query", query='target_info{job=~"ci/.*"}[10m]')["result"]
        except OSError:
            return False
        return {one["metric"]["job"]: round(float(one["values"][-1][0]) * 1000) for one in found} == last

    wait_for("the last export at the Prometheus", 20, is_there)
    result = ask(port, "query", query='{job=~"ci/.*"}[10m]')["result"]
    floats, native = {}, {}
    for one in result:
        for stamp, value in one.get("values", []):
            floats[(key(one["metric"]), round(float(stamp) * 1000))] = float(value)
        for stamp, histogram in one.get("histograms", []):
            native[(key(one["metric"]), round(float(stamp) * 1000))] = histogram
    for (labels, ms), value in expected["floats"].items():
        got = floats.pop((labels, ms), None)
        if got is None or not math.isclose(got, value, rel_tol=1e-12, abs_tol=1e-9):
            wrong.append(f"{dict(labels)} at {ms} is {got}, not {value}")
    wrong += [f"{dict(labels)} at {ms} was never exported" for labels, ms in floats]
    compared = compare_native(expected["native"], native, wrong)
    got = set()
    window = {"start": newest / 1000 - 600, "end": newest / 1000 + 60}
    for name in ("requests_total", "latency_milliseconds_bucket"):
        for one in ask(port, "query_exemplars", query=name, **window):
            for exemplar in one["exemplars"]:
                labels = exemplar["labels"]
                got.add((one["seriesLabels"]["job"], labels["trace_id"], labels["span_id"], float(exemplar["value"])))
    # A series keeps the newest of several in a request; what is there must be right, and there must be many.
    wrong += [f"the exemplar {one} was never exported" for one in got - expected["exemplars"]]
    if len(got) < 2 * ROUNDS:
        wrong.append(f"only {len(got)} exemplars of {len(expected['exemplars'])} are there")
    print(json.dumps({"compared": len(expected["floats"]) + compared, "exemplars there": len(got), "wrong": len(wrong)}))
    assert not wrong, "\n".join(wrong[:10])


def compare_native(expected, native, wrong):
    """Prometheus answers with the bounds of buckets and what is in them."""
    compared = 0
    for labels, points in expected.items():
        total = None
        for point in points:
            if point is None:
                total = None if dict(labels)["job"] == "ci/delta" else total
                continue
            ms, count, sum_, zero, scale, counts, is_delta = point
            if is_delta and total is not None:
                before = total
                merged = {}
                scale = min(scale, before[3])
                for (of, by) in ((before[4], before[3]), (counts, point[4])):
                    for (sign, index), many in of.items():
                        place = (sign, index >> (by - scale))
                        merged[place] = merged.get(place, 0) + many
                count, sum_, zero, counts = count + before[0], sum_ + before[1], zero + before[2], merged
            total = (count, sum_, zero, scale, counts)
            schema = min(scale, 8)
            wanted = {}
            for (sign, index), many in counts.items():
                upper = 2.0 ** (((index >> (scale - schema)) + 1) * 2.0 ** -schema)
                if many:
                    place = round(math.log2(upper) * 2 ** schema) * sign, sign
                    wanted[place] = wanted.get(place, 0) + many
            got = native.pop((labels, ms), None)
            compared += 1
            if got is None:
                wrong.append(f"the histogram {dict(labels)} at {ms} is not there")
                continue
            found, found_zero = {}, 0
            for _, lower, upper, many in got.get("buckets", []):
                lower, upper, many = float(lower), float(upper), float(many)
                if lower < 0 < upper:
                    found_zero = many
                else:
                    sign = 1 if upper > 0 else -1
                    edge = upper if sign > 0 else -lower
                    found[(round(math.log2(edge) * 2 ** schema) * sign, sign)] = many
            same = (float(got["count"]), found_zero, found) == (count, zero, wanted)
            if not same or not math.isclose(float(got["sum"]), sum_, rel_tol=1e-12, abs_tol=1e-9):
                wrong.append(f"the histogram {dict(labels)} at {ms} is {got}, not {count} {sum_} {zero} {wanted}")
    wrong += [f"the histogram {dict(labels)} at {ms} was never exported" for labels, ms in native]
    return compared


if __name__ == "__main__":
    main()
