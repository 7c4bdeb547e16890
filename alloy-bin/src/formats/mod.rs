//! Wire formats, pure: bytes in, values out, and back.
//!
//! | file | what |
//! | --- | --- |
//! | `content_type.rs` | which exposition format we ask for and which one we were given |
//! | `exposition.rs` | Prometheus text 0.0.4 and OpenMetrics text 1.0 -> series |
//! | `protobuf.rs` | the few protobuf writing functions that the encoders need |
//! | `remote_write.rs` | sample batch -> piece of a Prometheus remote-write 1.0 request, with exemplars, native histograms and metadata |
//! | `loki_push.rs` | log batch -> piece of a Loki push request |
//! | `snappy.rs` | one block from a piece, one request body from many blocks |
//!
//! A *piece* is a complete protobuf message whose only field is repeated, so pieces may be concatenated: that is how
//! what was encoded once, batch by batch, becomes large requests later.
//!
//! ```text
//! SampleBatch --encode--> piece --compress--> block --(log)--> block block block --splice--> request body
//! ```
//!
//! Invariant: knows no async runtime, no file, no socket, no clock.

mod content_type;
mod exposition;
mod loki_push;
mod protobuf;
mod remote_write;
mod snappy;

pub use content_type::{ContentTypeError, Escaping, Format, Protocol, accept_header};
pub use exposition::{LabelPair, ParseError, Series, parse};
pub use loki_push::{LOKI_PUSH_HEADERS, LokiPushEncoder};
pub use remote_write::{REMOTE_WRITE_HEADERS, RemoteWriteEncoder, Sends};
pub use snappy::{Splice, SpliceError, compress, decompress, join};
