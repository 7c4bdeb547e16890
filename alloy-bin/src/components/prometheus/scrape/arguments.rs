//! What a `prometheus.scrape` block says.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::{Body, ByteSize, ConversionError, Decode, FromValue, Value};
use crate::formats::{Escaping, Histograms, Protocol};
use crate::graph::{MetricsReceiver, SharedTarget};
use crate::http_client::HttpClientOptions;
use crate::ownership::Sharing;
use crate::scraping::{LabelPolicy, NamePolicy, Policy, TimestampPolicy};
use crate::telemetry::NativeHistogram;

/// What the block says.
pub struct Arguments {
    pub(super) targets: Vec<SharedTarget>,
    pub(super) forward_to: Vec<MetricsReceiver>,
    pub(super) sharing: Sharing,
    pub(super) excluded_labels: Vec<String>,
    pub(super) falls_back: bool,
    pub(super) job_name: Option<String>,
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
    pub(super) scheme: String,
    pub(super) metrics_path: String,
    pub(super) params: BTreeMap<String, Vec<String>>,
    pub(super) policy: Policy,
    pub(super) escaping: Escaping,
    pub(super) extra_metrics: bool,
    pub(super) target_limit: usize,
    pub(super) compression: bool,
    pub(super) body_size_limit: ByteSize,
    pub(super) protocols: Vec<Protocol>,
    pub(super) fallback: Option<Protocol>,
    pub(super) http: HttpClientOptions,
}

/// Alloy has no limit; one page of 1 GB should not end the agent. The largest pages in the field are some 100 MB.
const BODY_SIZE_LIMIT: ByteSize = ByteSize(256 << 20);

impl Decode for Arguments {
    fn decode(body: &mut Body<'_>) -> Self {
        for name in UNSUPPORTED_FLAGS {
            only(body, name, &false);
        }
        only(body, "scrape_failure_log_file", &String::new());
        let clustering: Clustering = body.block("clustering").unwrap_or_default();
        let policy = policy(body);
        let arguments = Arguments {
            targets: body.required("targets"),
            forward_to: body.required("forward_to"),
            sharing: clustering.sharing,
            excluded_labels: clustering.excluded_labels,
            falls_back: clustering.falls_back,
            job_name: body.optional("job_name", None),
            interval: body.optional("scrape_interval", Duration::from_secs(60)),
            timeout: body.optional("scrape_timeout", Duration::from_secs(10)),
            scheme: body.optional("scheme", "http".to_owned()),
            metrics_path: body.optional("metrics_path", "/metrics".to_owned()),
            params: body.optional("params", BTreeMap::new()),
            policy,
            escaping: body.optional("metric_name_escaping_scheme", Escaping::default()),
            extra_metrics: body.optional("extra_metrics", false),
            target_limit: body.optional("target_limit", 0),
            compression: body.optional("enable_compression", true),
            body_size_limit: body.optional("body_size_limit", BODY_SIZE_LIMIT),
            protocols: protocols(body, policy.histograms),
            fallback: fallback(body),
            http: HttpClientOptions::read(body, true),
        };
        if arguments.interval < Duration::from_millis(10) {
            body.error_at("scrape_interval", "must be at least 10ms");
        }
        if arguments.timeout > arguments.interval || arguments.timeout.is_zero() {
            let message = "must be above zero and not longer than scrape_interval";
            body.error_at("scrape_timeout", format!("scrape_timeout {message}"));
        }
        if arguments.escaping == Escaping::AllowUtf8 && arguments.policy.names == NamePolicy::Legacy {
            let message = "\"allow-utf-8\" needs metric_name_validation_scheme = \"utf8\"";
            body.error_at("metric_name_escaping_scheme", message);
        }
        if !matches!(arguments.scheme.as_str(), "http" | "https") {
            body.error_at("scheme", "must be \"http\" or \"https\"");
        }
        arguments
    }
}

/// What Alloy can do and this agent cannot; to say that it is off is fine.
const UNSUPPORTED_FLAGS: [&str; 3] =
    ["convert_classic_histograms_to_nhcb", "enable_type_and_unit_labels", "start_timestamp_zero_ingestion"];

/// Takes no other value than the default.
fn only<T: FromValue + PartialEq + Clone>(body: &mut Body<'_>, name: &str, default: &T) {
    let said = body.optional(name, default.clone());
    body.is_refused();
    if said != *default {
        body.error_at(name, format!("{name:?} is known to Alloy but not supported here; leave it out"));
    }
}

/// What to ask for, best first. Native histograms come in one format only.
fn protocols(body: &mut Body<'_>, histograms: Histograms) -> Vec<Protocol> {
    let asks_first = body.optional("enable_protobuf_negotiation", false);
    let named: Option<Vec<String>> = body.optional("scrape_protocols", None);
    let Some(named) = named else {
        let with_protobuf = asks_first || histograms != Histograms::Classic;
        return if with_protobuf { Protocol::ALL.into() } else { Protocol::DEFAULT.into() };
    };
    let protocols: Vec<Protocol> =
        named.iter().filter_map(|name| protocol(body, "scrape_protocols", name)).collect();
    if asks_first {
        body.error_at(
            "enable_protobuf_negotiation",
            "scrape_protocols says what to ask for; only one of them can be set",
        );
    } else if histograms != Histograms::Classic && !protocols.contains(&Protocol::PrometheusProto) {
        body.error_at(
            "scrape_protocols",
            "scrape_native_histograms needs \"PrometheusProto\" among the protocols",
        );
    }
    protocols
}

fn fallback(body: &mut Body<'_>) -> Option<Protocol> {
    let name = body.optional("scrape_fallback_protocol", "PrometheusText0.0.4".to_owned());
    if name.is_empty() { None } else { protocol(body, "scrape_fallback_protocol", &name) }
}

fn protocol(body: &mut Body<'_>, attribute: &str, name: &str) -> Option<Protocol> {
    let protocol = Protocol::from_name(name);
    if protocol.is_none() {
        let known = Protocol::ALL.map(Protocol::name).join(", ");
        body.error_at(attribute, format!("{name:?} is not supported here; {known} are"));
    }
    protocol
}

fn policy(body: &mut Body<'_>) -> Policy {
    let honors_labels = body.optional("honor_labels", false);
    let honors_timestamps = body.optional("honor_timestamps", true);
    let schemes = [("legacy", NamePolicy::Legacy), ("utf8", NamePolicy::Utf8)];
    let scheme: Value = body.optional("metric_name_validation_scheme", "legacy".into());
    let names = ConversionError::one_of(&scheme, &schemes).unwrap_or_else(|_| {
        body.error_at("metric_name_validation_scheme", "must be \"legacy\" or \"utf8\"");
        NamePolicy::Legacy
    });
    let native = body.optional("scrape_native_histograms", false);
    let classic = body.optional("scrape_classic_histograms", false);
    Policy {
        histograms: match (native, classic) {
            (false, _) => Histograms::Classic,
            (true, false) => Histograms::Native,
            (true, true) => Histograms::Both,
        },
        metadata: body.optional("honor_metadata", false),
        bucket_limit: body.optional("native_histogram_bucket_limit", 0),
        schema_max: NativeHistogram::schema_of(body.optional("native_histogram_min_bucket_factor", 0.0)),
        labels: if honors_labels { LabelPolicy::Page } else { LabelPolicy::Target },
        timestamps: if honors_timestamps { TimestampPolicy::Page } else { TimestampPolicy::Slot },
        names,
        tracks_timestamps: body.optional("track_timestamps_staleness", false),
        sample_limit: body.optional("sample_limit", 0),
        label_limit: body.optional("label_limit", 0),
        label_name_length_limit: body.optional("label_name_length_limit", 0),
        label_value_length_limit: body.optional("label_value_length_limit", 0),
    }
}

/// A `clustering` block.
#[derive(Default)]
struct Clustering {
    sharing: Sharing,
    excluded_labels: Vec<String>,
    falls_back: bool,
}

impl Decode for Clustering {
    fn decode(body: &mut Body<'_>) -> Self {
        let sharing = Sharing::decode(body);
        let falls_back = body.optional("fallback", false);
        if falls_back && sharing == Sharing::Alone {
            body.error_at("fallback", "needs enabled = true: there is nobody to fall back on");
        }
        Clustering { sharing, excluded_labels: body.optional("excluded_labels", Vec::new()), falls_back }
    }
}

impl FromValue for Escaping {
    fn from_value(value: &Value) -> Result<Self, ConversionError> {
        ConversionError::one_of(value, &Escaping::ALL.map(|escaping| (escaping.name(), escaping)))
    }
}
