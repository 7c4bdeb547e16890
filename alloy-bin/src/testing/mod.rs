//! The world around the agent, for tests and examples: endpoints that count everything, targets and log files.
//!
//! | file | what |
//! | --- | --- |
//! | `receiver.rs` | an endpoint for remote-write and Loki push, with scripted answers |
//! | `recorded.rs` | what the endpoint has received: every sample, every line, and what is wrong with them |
//! | `targets.rs` | one server that plays many scrape targets, with scripted faults |
//! | `logs.rs` | log files that grow and are rotated |
//! | `process.rs` | an agent as a child process, for tests that kill it |
//! | `messages.rs` | the protobuf messages that endpoints decode |
//! | `client_model.rs` | the protobuf messages that targets expose |
//! | `exposition.rs` | a second, slow reader of metrics' pages, to compare the parser with |
//! | `language.rs` | what must hold for every text that claims to be a configuration |
//! | `loki_push.rs` | what must hold for all bytes that are pushed |
//! | `otlp.rs` | what must hold for any bytes that claim to be OTLP |
//! | `stages.rs` | what must hold for every text that goes through stages |
//! | `scripted.rs` | a server that answers one request after the other as it was told |
//! | `server.rs` | the HTTP server below these: goes down and comes back on the same port |
//!
//! Everything listens on loopback only. Invariant: no other folder of this crate uses this one, except in tests.

pub mod client_model;
pub mod exposition;
pub mod language;
pub mod logs;
pub mod loki_push;
pub mod messages;
#[cfg(feature = "otelcol")]
pub mod otlp;
pub mod process;
mod receiver;
mod recorded;
mod scripted;
pub mod server;
pub mod stages;
mod targets;

pub use receiver::{Answer, Newer, Receiver};
pub use recorded::{Counts, LineArrival, Recorded, SampleArrival, SeriesRecord, StreamRecord};
pub use scripted::{Line, Scripted};
pub use targets::{Behaviour, Scrape, Targets};

/// How long this thread has worked. Unlike the time on the wall it says the same on a busy machine.
pub fn worked() -> std::time::Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.try_into().expect("work takes no negative time")
}

/// Milliseconds since the Unix epoch: processes on one machine compare their times by it.
fn now_unix_ms() -> i64 {
    let since_epoch = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("a test machine's clock is past 1970");
    i64::try_from(since_epoch.as_millis()).expect("milliseconds since 1970 fit 63 bits")
}
