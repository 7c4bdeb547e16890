//! OTLP in and out: what the components of the namespace `otelcol` are made of.
//!
//! | file | what |
//! | --- | --- |
//! | `settings.rs` | the blocks `grpc` and `http` of a receiver |
//! | `listener.rs` | a port: connections, TLS, limits, the way to end without losing a request |
//! | `grpc.rs`, `http.rs` | a request of either protocol -> a message, and what became of it -> a response |
//! | `cors.rs` | what browsers ask before they send |
//! | `reply.rs` | the body of a response, with the trailers that gRPC wants |
//! | `ingest.rs` | a message -> custody: unpacked, checked, handed on; within a limit of memory |
//! | `output.rs` | the block `output`: who gets what |
//! | `exporter.rs` | a log for each signal, and the blocks around it |
//! | `auth.rs` | credentials that exporters send and receivers ask for |
//!
//! ```text
//! port -- listener --> grpc | http -- bytes --> ingest -- OtlpBatch --> output --> custody
//!                          <-- reply --        <-- Ok | Refusal --
//! ```
//!
//! gRPC is a POST over HTTP/2 with five bytes in front of the message and trailers behind the answer, so hyper is all that it
//! takes: a message is never decoded into structs, and never copied but by its decompressor.

mod auth;
mod cors;
mod exporter;
mod grpc;
mod http;
mod ingest;
mod listener;
mod output;
mod reply;
mod settings;

pub use auth::{Handler, sensitive};
pub use exporter::{ClientBlock, Common, Destination, Exporter};
pub use ingest::{Figures, Ingest};
pub use listener::Port;
pub use output::{DebugMetrics, Output};
pub use settings::{GrpcSettings, HttpSettings};

#[cfg(test)]
mod tests;
