//! What a `prometheus.scrape` block says of the way in which targets are scraped.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::{Body, ByteSize, ConversionError, Decode, FromValue, Value};
use crate::formats::{Escaping, Histograms, Protocol, accept_header};
use crate::http_client::HttpClientOptions;
use crate::ownership::Sharing;
use crate::scraping::{
    Common, Compression, LabelPolicy, Limits, NamePolicy, Policy, SeriesRules, Settings, TimestampPolicy,
};
use crate::telemetry::NativeHistogram;

/// What it says.
#[derive(Clone)]
pub(in super::super) struct Options {
    pub(in super::super) job_name: Option<String>,
    pub(in super::super) scheme: String,
    pub(in super::super) metrics_path: String,
    pub(in super::super) params: BTreeMap<String, Vec<String>>,
    pub(in super::super) target_limit: usize,
    pub(in super::super) settings: Settings,
}

/// Alloy has no limit; one page of 1 GB should not end the agent. The largest pages in the field are some 100 MB.
const BODY_SIZE_LIMIT: ByteSize = ByteSize(256 << 20);

impl Decode for Options {
    fn decode(body: &mut Body<'_>) -> Self {
        for name in UNSUPPORTED_FLAGS {
            only(body, name, &false);
        }
        only(body, "scrape_failure_log_file", &String::new());
        let policy = policy(body);
        let escaping = body.optional("metric_name_escaping_scheme", Escaping::default());
        let interval = body.optional("scrape_interval", Duration::from_secs(60));
        let timeout = body.optional("scrape_timeout", Duration::from_secs(10));
        let body_size_limit = body.optional("body_size_limit", BODY_SIZE_LIMIT);
        let compression = body.optional("enable_compression", true);
        let options = Options {
            job_name: body.optional("job_name", None),
            scheme: body.optional("scheme", "http".to_owned()),
            metrics_path: body.optional("metrics_path", "/metrics".to_owned()),
            params: body.optional("params", BTreeMap::new()),
            target_limit: body.optional("target_limit", 0),
            settings: Settings {
                interval,
                limits: Limits {
                    timeout,
                    body_bytes: if body_size_limit.0 == 0 { usize::MAX } else { body_size_limit.0 as usize },
                    compression: if compression { Compression::Gzip } else { Compression::Identity },
                },
                accept: accept_header(&protocols(body, policy.histograms), escaping),
                fallback: fallback(body),
                policy,
                rules: SeriesRules::default(),
                extra_metrics: body.optional("extra_metrics", false),
                refusal: None,
                http: HttpClientOptions::read(body, true),
            },
        };
        if interval < Duration::from_millis(10) {
            body.error_at("scrape_interval", "must be at least 10ms");
        }
        if timeout > interval || timeout.is_zero() {
            let message = "must be above zero and not longer than scrape_interval";
            body.error_at("scrape_timeout", format!("scrape_timeout {message}"));
        }
        if escaping == Escaping::AllowUtf8 && policy.names == NamePolicy::Legacy {
            let message = "\"allow-utf-8\" needs metric_name_validation_scheme = \"utf8\"";
            body.error_at("metric_name_escaping_scheme", message);
        }
        if !matches!(options.scheme.as_str(), "http" | "https") {
            body.error_at("scheme", "must be \"http\" or \"https\"");
        }
        options
    }
}

impl Options {
    /// What they say of all targets, with this job where they name none. The settings stay.
    pub(in super::super) fn common(&self, job: &str, excluded_labels: &[String]) -> Common {
        let params = self.params.iter();
        let params =
            params.flat_map(|(name, values)| values.iter().map(move |value| (name.clone(), value.clone())));
        Common {
            scheme: self.scheme.clone(),
            path: self.metrics_path.clone(),
            params: params.collect(),
            job: self.job_name.as_deref().unwrap_or(job).to_owned(),
            excluded_labels: excluded_labels.to_vec(),
        }
    }

    /// The settings for so many targets. As Prometheus does: over the limit, all targets are down.
    pub(in super::super) fn settings_for(self, targets: usize) -> Settings {
        let limit = self.target_limit;
        let refusal = (limit > 0 && targets > limit)
            .then(|| format!("{targets} targets are more than {limit} (target_limit)"));
        Settings { refusal, ..self.settings }
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
pub(in super::super) struct Clustering {
    pub(in super::super) sharing: Sharing,
    pub(in super::super) excluded_labels: Vec<String>,
    pub(in super::super) falls_back: bool,
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
