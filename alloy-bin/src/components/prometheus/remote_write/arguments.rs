//! What the block may say, and what it must not.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::{Body, Decode};
use crate::formats::Sends;
use crate::outbox::{self, EndpointBlock, WalBlock};
use crate::relabel::Rules;

/// What the block says.
#[derive(Debug, Clone, PartialEq)]
pub struct Arguments {
    pub(super) external_labels: BTreeMap<String, String>,
    pub(super) endpoints: Vec<EndpointArguments>,
    pub(super) wal: WalBlock,
}

/// An `endpoint` block.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct EndpointArguments {
    pub(super) common: EndpointBlock,
    pub(super) message: Message,
    pub(super) queue: Queue,
    pub(super) metadata: MetadataConfig,
    pub(super) rules: Rules,
    pub(super) sends: Sends,
}

/// What the endpoint is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message {
    /// Remote-write 1.0.
    First,
    /// Remote-write 2.0, and 1.0 once it has refused that.
    Second,
}

/// A `metadata_config` block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct MetadataConfig {
    pub(super) send: bool,
    pub(super) send_interval: Duration,
    pub(super) max_samples_per_send: usize,
}

/// A `queue_config` block, as far as it has a meaning with a log in between.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Queue {
    pub(super) max_shards: usize,
    pub(super) min_shards: usize,
    pub(super) max_samples_per_send: usize,
    pub(super) batch_send_deadline: Duration,
    pub(super) min_backoff: Duration,
    pub(super) max_backoff: Duration,
    pub(super) retry_on_http_429: bool,
    pub(super) sample_age_limit: Duration,
}

impl Decode for Arguments {
    fn decode(body: &mut Body<'_>) -> Self {
        let arguments = Arguments {
            external_labels: body.optional("external_labels", BTreeMap::new()),
            endpoints: body.blocks("endpoint"),
            wal: body.block("wal").unwrap_or_default(),
        };
        if arguments.endpoints.is_empty() {
            body.error("missing required block \"endpoint\"");
        }
        EndpointBlock::check_names(body, arguments.endpoints.iter().map(|endpoint| &endpoint.common));
        arguments
    }
}

impl Decode for EndpointArguments {
    fn decode(body: &mut Body<'_>) -> Self {
        let one = "each connection goes to an address that answers, and is kept; leave it out, and put a load \
                   balancer in front of several receivers";
        outbox::only(body, "round_robin_dns", false, one);
        let sends = Sends::default();
        let message = body.optional("protobuf_message", Message::First.name().to_owned());
        let message = Message::ALL.into_iter().find(|known| known.name() == message).unwrap_or_else(|| {
            let known = Message::ALL.map(Message::name).join("\" and \"");
            body.error_at("protobuf_message", format!("the messages are \"{known}\""));
            Message::First
        });
        EndpointArguments {
            common: EndpointBlock::read(body, Duration::from_secs(30), false),
            message,
            metadata: body.block("metadata_config").unwrap_or_default(),
            queue: body.block("queue_config").unwrap_or_default(),
            rules: Rules::read(body, "write_relabel_config"),
            sends: Sends {
                exemplars: body.optional("send_exemplars", sends.exemplars),
                native_histograms: body.optional("send_native_histograms", sends.native_histograms),
            },
        }
    }
}

impl Message {
    const ALL: [Message; 2] = [Message::First, Message::Second];

    /// As `protobuf_message` has it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Message::First => "prometheus.WriteRequest",
            Message::Second => "io.prometheus.write.v2.Request",
        }
    }
}

impl Default for MetadataConfig {
    fn default() -> Self {
        MetadataConfig { send: true, send_interval: Duration::from_secs(60), max_samples_per_send: 2000 }
    }
}

impl Decode for MetadataConfig {
    fn decode(body: &mut Body<'_>) -> Self {
        let default = MetadataConfig::default();
        let config = MetadataConfig {
            send: body.optional("send", default.send),
            send_interval: body.optional("send_interval", default.send_interval),
            max_samples_per_send: body.optional("max_samples_per_send", default.max_samples_per_send),
        };
        if config.send_interval.is_zero() {
            body.error_at("send_interval", "must be above zero");
        }
        if config.max_samples_per_send == 0 {
            body.error_at("max_samples_per_send", "must be at least 1");
        }
        config
    }
}

/// Each shard is a task and up to one connection.
const SHARDS_MAX: usize = 1000;

impl Default for Queue {
    fn default() -> Self {
        Queue {
            max_shards: 50,
            min_shards: 1,
            max_samples_per_send: 2000,
            batch_send_deadline: Duration::from_secs(5),
            min_backoff: Duration::from_millis(30),
            max_backoff: Duration::from_secs(5),
            retry_on_http_429: true,
            sample_age_limit: Duration::ZERO,
        }
    }
}

impl Decode for Queue {
    fn decode(body: &mut Body<'_>) -> Self {
        let log =
            "the queue is the log on disk; leave it out, and limit the log by max_bytes in the block wal";
        outbox::meaningless(body, &[("capacity", log)]);
        let default = Queue::default();
        let queue = Queue {
            max_shards: body.optional("max_shards", default.max_shards),
            min_shards: body.optional("min_shards", default.min_shards),
            max_samples_per_send: body.optional("max_samples_per_send", default.max_samples_per_send),
            batch_send_deadline: body.optional("batch_send_deadline", default.batch_send_deadline),
            min_backoff: body.optional("min_backoff", default.min_backoff),
            max_backoff: body.optional("max_backoff", default.max_backoff),
            retry_on_http_429: body.optional("retry_on_http_429", default.retry_on_http_429),
            sample_age_limit: body.optional("sample_age_limit", default.sample_age_limit),
        };
        outbox::check_backoff(body, ("min_backoff", queue.min_backoff), ("max_backoff", queue.max_backoff));
        if queue.min_shards > queue.max_shards {
            body.error_at("min_shards", "min_shards must not be above max_shards");
        }
        if queue.max_shards > SHARDS_MAX {
            body.error_at("max_shards", format!("max_shards must not be above {SHARDS_MAX}"));
        }
        for (name, value) in
            [("max_shards", queue.max_shards), ("max_samples_per_send", queue.max_samples_per_send)]
        {
            if value == 0 {
                body.error_at(name, "must be at least 1");
            }
        }
        queue
    }
}
