// Sends metrics, logs and traces by the JavaScript SDK and prints the name of every item that was acknowledged.
//
//     client.mjs GRPC_ADDRESS HTTP_ADDRESS SECONDS PREFIX
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

// The packages are in the folder that the test runs in.
const load = createRequire(pathToFileURL(process.cwd() + "/"));
const { resourceFromAttributes } = load("@opentelemetry/resources");
const { MeterProvider, PeriodicExportingMetricReader, InMemoryMetricExporter, AggregationTemporality } = load("@opentelemetry/sdk-metrics");
const { LoggerProvider, SimpleLogRecordProcessor, InMemoryLogRecordExporter } = load("@opentelemetry/sdk-logs");
const { BasicTracerProvider, SimpleSpanProcessor, InMemorySpanExporter } = load("@opentelemetry/sdk-trace-base");

const [grpc, http, seconds, prefix] = process.argv.slice(2);
const exporters = (kind, options) =>
  [["metrics", "OTLPMetricExporter"], ["logs", "OTLPLogExporter"], ["trace", "OTLPTraceExporter"]].map(([signal, name]) => {
    const path = signal === "trace" ? "traces" : signal;
    return new (load(`@opentelemetry/exporter-${signal}-otlp-${kind}`)[name])({ timeoutMillis: 5000, ...options(path) });
  });
const transports = {
  grpc: exporters("grpc", () => ({ url: `http://${grpc}` })),
  json: exporters("http", (path) => ({ url: `http://${http}/v1/${path}`, compression: "gzip" })),
  proto: exporters("proto", (path) => ({ url: `http://${http}/v1/${path}` })),
};
const resource = resourceFromAttributes({ "service.name": "sdk", "service.instance.id": prefix });
const send = (exporter, items) => new Promise((done) => exporter.export(items, (result) => done(result.code === 0)));

const end = Date.now() + seconds * 1000;
for (let round = 1; Date.now() < end; round++) {
  for (const [transport, [metricExporter, logExporter, spanExporter]] of Object.entries(transports)) {
    const names = Array.from({ length: 20 }, (_, index) => `${prefix}.${transport}.${round}.${index}`);
    const memory = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE);
    const reader = new PeriodicExportingMetricReader({ exporter: memory, exportIntervalMillis: 3600000 });
    const meters = new MeterProvider({ resource, readers: [reader] });
    names.forEach((name, index) => meters.getMeter("test").createUpDownCounter("m." + name).add(index * 3 - 7));
    meters.getMeter("test").createHistogram("h." + names[0]).record(42, { k: "v" });
    await reader.forceFlush();
    const logMemory = new InMemoryLogRecordExporter(), spanMemory = new InMemorySpanExporter();
    const loggers = new LoggerProvider({ resource, processors: [new SimpleLogRecordProcessor({ exporter: logMemory })] });
    const tracers = new BasicTracerProvider({ resource, spanProcessors: [new SimpleSpanProcessor(spanMemory)] });
    names.forEach((name, index) => {
      loggers.getLogger("test").emit({ body: "l." + name, attributes: { index } });
      tracers.getTracer("test").startSpan("t." + name).end();
    });
    await loggers.forceFlush();
    const sent = [
      ["m.", await send(metricExporter, memory.getMetrics()[0])],
      ["l.", await send(logExporter, logMemory.getFinishedLogRecords())],
      ["t.", await send(spanExporter, spanMemory.getFinishedSpans())],
    ];
    for (const [kind, isTaken] of sent) {
      if (isTaken) console.log(names.map((name) => kind + name).join("\n"));
    }
    await meters.shutdown();
  }
}
process.exit(0);
