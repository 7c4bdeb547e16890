"""Sends metrics, logs and traces by the Python SDK and prints the name of every item that was acknowledged.

    client.py GRPC_ADDRESS HTTP_ADDRESS SECONDS PREFIX
"""

import logging
import sys
import time

from opentelemetry._logs import LogRecord
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogs
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetrics
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpans
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogs
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetrics
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpans
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

# What it says of retries is not the test's business.
logging.disable(logging.CRITICAL)


def main():
    grpc, http, seconds, prefix = sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4]
    resource = Resource.create({"service.name": "sdk", "service.instance.id": prefix})
    patience = {"timeout": 5}
    exporters = {
        "grpc": (
            GrpcMetrics(endpoint=grpc, insecure=True, **patience),
            GrpcLogs(endpoint=grpc, insecure=True, **patience),
            GrpcSpans(endpoint=grpc, insecure=True, **patience),
        ),
        "http": (
            HttpMetrics(endpoint=f"http://{http}/v1/metrics", compression=Compression.Gzip, **patience),
            HttpLogs(endpoint=f"http://{http}/v1/logs", compression=Compression.Deflate, **patience),
            HttpSpans(endpoint=f"http://{http}/v1/traces", **patience),
        ),
    }
    log_memory, span_memory = InMemoryLogRecordExporter(), InMemorySpanExporter()
    loggers, tracers = LoggerProvider(resource=resource), TracerProvider(resource=resource)
    loggers.add_log_record_processor(SimpleLogRecordProcessor(log_memory))
    tracers.add_span_processor(SimpleSpanProcessor(span_memory))
    end, round = time.time() + seconds, 0
    while time.time() < end:
        round += 1
        for transport, (metric_exporter, log_exporter, span_exporter) in exporters.items():
            names = [f"{prefix}.{transport}.{round}.{index}" for index in range(20)]
            reader = InMemoryMetricReader()
            meters = MeterProvider(metric_readers=[reader], resource=resource)
            meter = meters.get_meter("test")
            # The name says the value, so that both ends can compare.
            for index, name in enumerate(names):
                meter.create_up_down_counter("m." + name).add(index * 3 - 7)
            histogram = meter.create_histogram("h." + names[0])
            for value in (1, 20, 300):
                histogram.record(value, {"k": "v"})
            for index, name in enumerate(names):
                loggers.get_logger("test").emit(LogRecord(timestamp=time.time_ns(), body="l." + name, attributes={"i": index}))
                with tracers.get_tracer("test").start_as_current_span("t." + name):
                    pass
            sent = [
                ("m.", metric_exporter.export(reader.get_metrics_data())),
                ("l.", log_exporter.export(log_memory.get_finished_logs())),
                ("t.", span_exporter.export(span_memory.get_finished_spans())),
            ]
            for kind, result in sent:
                if result.name == "SUCCESS":
                    print("\n".join(kind + name for name in names), flush=True)
            meters.shutdown()
            log_memory.clear()
            span_memory.clear()


main()
