//! Components of the namespace `otelcol`.

pub mod auth_basic;
pub mod auth_bearer;
pub mod auth_headers;
mod authentication;
pub mod exporter_debug;
pub mod exporter_loki;
pub mod exporter_otlp;
pub mod exporter_otlphttp;
pub mod exporter_prometheus;
pub mod processor_batch;
pub mod processor_memory_limiter;
pub mod receiver_otlp;

pub use authentication::{Authentication, Credentials};
