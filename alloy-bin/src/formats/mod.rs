//! Wire formats, pure: bytes in, values out, and back.
//!
//! | file | what |
//! | --- | --- |
//! | `content_type.rs` | which exposition format we ask for and which one we were given |
//! | `page_item.rs` | what a page is made of: samples, and what is said of their families |
//! | `label_float.rs` | numbers in `le` and `quantile`, in one form |
//! | `exposition.rs` | Prometheus text 0.0.4 and OpenMetrics text 1.0 -> items |
//! | `exposition_protobuf.rs` | Prometheus protobuf, with native histograms -> items |
//! | `wire.rs` | reading protobuf: fields of a message, in place |
//! | `protobuf.rs` | writing protobuf: the few functions that the encoders need |
//! | `remote_write.rs` | sample batch -> piece of a Prometheus remote-write 1.0 request, with exemplars, native histograms and metadata |
//! | `remote_write_2.rs` | sample batch -> remote-write 2.0 request; joining them, and turning one into 1.0 |
//! | `loki_push.rs` | log batch -> piece of a Loki push request |
//! | `loki_request.rs` | what a Loki push request that comes in is read into, from protobuf |
//! | `loki_json.rs` | the same from JSON |
//! | `loki_labels.rs` | a stream's labels as such requests write them: `{a="b"}` |
//! | `snappy.rs` | one block from a piece, one request body from many blocks |
//! | `otlp.rs` | OTLP: checked in place, taken apart by items, read from JSON, printed; metrics -> samples, logs -> lines |
//! | `compression.rs` | compressed bodies -> plain ones, within a limit |
//! | `split.rs` | a request body that is taken apart, for endpoints that refuse all of it because of a part |
//!
//! A *piece* is a complete protobuf message whose only field is repeated, so pieces may be concatenated: that is how
//! what was encoded once, batch by batch, becomes large requests later. A request of remote-write 2.0 has a table of texts
//! beside what is repeated: several are joined by reading them.
//!
//! ```text
//! SampleBatch --encode--> piece --compress--> block --(log)--> block block block --splice--> request body
//! ```
//!
//! Invariant: knows no async runtime, no file, no socket, no clock.

#[cfg(feature = "otelcol")]
mod compression;
mod content_type;
mod exposition;
mod exposition_protobuf;
mod label_float;
mod loki_json;
mod loki_labels;
mod loki_push;
mod loki_request;
#[cfg(feature = "otelcol")]
mod otlp;
mod page_item;
mod protobuf;
mod remote_write;
mod remote_write_2;
mod snappy;
mod split;
mod wire;

#[cfg(feature = "otelcol")]
pub use compression::{Compression, UnpackError, unpack};
pub use content_type::{ContentTypeError, Escaping, Format, Protocol, accept_header};
pub use exposition::{ParseError, TextFormat, parse_text};
pub use exposition_protobuf::{Histograms, ProtobufError, parse_protobuf};
pub use loki_json::read_loki_json;
pub use loki_push::{LOKI_PUSH_HEADERS, LokiPushEncoder};
pub use loki_request::{LokiRequestError, PushedStream, read_loki_push};
#[cfg(feature = "otelcol")]
pub use otlp::{
    Additions, Deltas, OtlpError, OtlpJsonError, PackedRequest, Packing, PrometheusOptions, Resource,
    Translated, check_otlp, export_response, first_resource, join_otlp, join_packed, otlp_from_json,
    otlp_part, otlp_to_loki, packed_plain_bytes, print_otlp, print_start_of_otlp, rejected_by_response,
    retry_delay, split_packed, status,
};
pub use page_item::{Item, LabelPair, Series, Statement};
pub use remote_write::{REMOTE_WRITE_HEADERS, RemoteWriteEncoder, Sends};
pub use remote_write_2::{
    REMOTE_WRITE_2_HEADERS, RemoteWrite2Encoder, is_remote_write_2, join_remote_write_2, older_remote_write,
};
pub use snappy::{Splice, SpliceError, compress, decompress, decompressed_len, join};
pub use split::{Part, split};
