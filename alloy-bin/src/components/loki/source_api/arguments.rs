//! What the block says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::shape::Shape;
use crate::config::{Body, ByteSize, Decode};
use crate::graph::LogsReceiver;
use crate::relabel::Rules;
use crate::server::{HttpBlock, Limits};

/// The decoded block.
pub struct Arguments {
    /// Who gets the lines.
    pub forward_to: Vec<LogsReceiver>,
    /// Where it listens.
    pub listen: Listen,
    /// TLS and passwords.
    pub protection: HttpBlock,
    /// What becomes of the lines.
    pub shape: Shape,
    /// What a request may have.
    pub bounds: Bounds,
}

/// Where it listens. Another one needs another port.
#[derive(Debug, Clone, PartialEq)]
pub struct Listen {
    /// `host:port`.
    pub address: String,
    /// Of its connections.
    pub limits: Limits,
}

/// What a request may have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// Of its body, as it comes and unpacked.
    pub bytes: usize,
    /// How long its body may take to come.
    pub read: Duration,
    /// How long it may take to hand it on.
    pub write: Duration,
}

impl Decode for Arguments {
    fn decode(body: &mut Body<'_>) -> Self {
        body.unsupported(&["grpc"]);
        let rules: Option<Arc<Rules>> = body.optional("relabel_rules", None);
        let http: HttpArguments = body.block("http").unwrap_or_default();
        let bytes = body.optional("max_send_message_size", ByteSize(100 << 20));
        if bytes.0 == 0 || bytes.0 > u32::MAX.into() {
            body.error_at("max_send_message_size", "must be above zero and below 4GiB");
        }
        let drain = body.optional("graceful_shutdown_timeout", Duration::from_secs(30));
        if drain.is_zero() {
            body.error_at("graceful_shutdown_timeout", "must be above zero");
        }
        Arguments {
            forward_to: body.required("forward_to"),
            listen: Listen { address: http.address, limits: Limits { drain, ..http.limits } },
            protection: http.protection,
            shape: Shape {
                labels: body.optional("labels", BTreeMap::new()),
                rules: rules.map(|rules| Rules::clone(&rules)).unwrap_or_default(),
                use_incoming_timestamp: body.optional("use_incoming_timestamp", false),
            },
            bounds: Bounds { bytes: bytes.0 as usize, read: http.read, write: http.write },
        }
    }
}

/// The block `http`.
struct HttpArguments {
    address: String,
    limits: Limits,
    read: Duration,
    write: Duration,
    protection: HttpBlock,
}

/// Alloy listens on all addresses. Whoever can connect may write logs, so that is something to be said.
const ADDRESS: &str = "127.0.0.1";
const PORT: u16 = 8080;
const READ: Duration = Duration::from_secs(30);
const WRITE: Duration = Duration::from_secs(30);
const IDLE: Duration = Duration::from_secs(120);

impl Default for HttpArguments {
    fn default() -> Self {
        HttpArguments {
            address: format!("{ADDRESS}:{PORT}"),
            limits: Limits { idle: IDLE, ..Limits::default() },
            read: READ,
            write: WRITE,
            protection: HttpBlock::default(),
        }
    }
}

impl Decode for HttpArguments {
    fn decode(body: &mut Body<'_>) -> Self {
        body.unsupported(&["http2"]);
        let host: String = body.optional("listen_address", ADDRESS.to_owned());
        let host = match host.as_str() {
            // As in Alloy.
            "" => "0.0.0.0".to_owned(),
            host if host.contains(':') && !host.starts_with('[') => format!("[{host}]"),
            host => host.to_owned(),
        };
        let port: u16 = body.optional("listen_port", PORT);
        let connections: usize = body.optional("conn_limit", 0);
        let mut limits = Limits { idle: body.optional("server_idle_timeout", IDLE), ..Limits::default() };
        if connections > 0 {
            limits.connections = connections;
        }
        let read = body.optional("server_read_timeout", READ);
        let write = body.optional("server_write_timeout", WRITE);
        for (name, time) in [
            ("server_idle_timeout", limits.idle),
            ("server_read_timeout", read),
            ("server_write_timeout", write),
        ] {
            if time.is_zero() {
                body.error_at(name, "must be above zero");
            }
        }
        HttpArguments {
            address: format!("{host}:{port}"),
            limits,
            read,
            write,
            protection: HttpBlock::decode(body),
        }
    }
}
