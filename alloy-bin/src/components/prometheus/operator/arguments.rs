//! What a block of `prometheus.operator.*` says.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::time::Duration;

use serde_json::{Map, Value as Json};

use super::super::scraper::Clustering;
use super::job::duration;
use super::monitor::{Kind, Monitors, Requirement, Selector};
use crate::config::{Body, ConversionError, Decode, Value};
use crate::graph::MetricsReceiver;
use crate::kubernetes::{Access, Role};
use crate::relabel::Rules;

/// What it says.
pub struct Arguments<M> {
    pub(super) access: Access,
    pub(super) forward_to: Vec<MetricsReceiver>,
    /// None: all.
    pub(super) namespaces: Vec<String>,
    /// Of the monitors themselves, in the API's own syntax.
    pub(super) selector: String,
    pub(super) sync_timeout: Duration,
    pub(super) role: Role,
    pub(super) allows_files: bool,
    pub(super) clustering: Clustering,
    pub(super) rules: Rules,
    defaults: Defaults,
    kind: PhantomData<fn() -> M>,
}

/// What counts where a monitor says nothing.
struct Defaults {
    interval: Duration,
    timeout: Duration,
    /// In the words of `prometheus.scrape`.
    others: Map<String, Json>,
}

impl<M: Monitors> Decode for Arguments<M> {
    fn decode(body: &mut Body<'_>) -> Self {
        let roles = [("endpoints", Role::Endpoints), ("endpointslice", Role::EndpointSlice)];
        let (mut role, mut allows_files) = (Role::Pod, false);
        if M::KIND == Kind::Service {
            let name: Value = body.optional("kubernetes_role", "endpoints".into());
            role = ConversionError::one_of(&name, &roles).unwrap_or_else(|_| {
                body.error_at("kubernetes_role", "must be \"endpoints\" or \"endpointslice\"");
                Role::Endpoints
            });
            allows_files = body.optional("allow_arbitrary_file_access", false);
        }
        let selector: Option<Selector> = body.block("selector");
        Arguments {
            access: body.block("client").unwrap_or_default(),
            forward_to: body.required("forward_to"),
            namespaces: body.optional("namespaces", Vec::new()),
            selector: selector.map(|selector| selector.to_string()).unwrap_or_default(),
            sync_timeout: body.optional("informer_sync_timeout", Duration::from_secs(60)),
            role,
            allows_files,
            clustering: body.block("clustering").unwrap_or_default(),
            rules: Rules::read(body, "rule"),
            defaults: body.block_or_empty("scrape", Defaults::decode),
            kind: PhantomData,
        }
    }
}

impl Decode for Selector {
    fn decode(body: &mut Body<'_>) -> Self {
        let labels: BTreeMap<String, String> = body.optional("match_labels", BTreeMap::new());
        let expressions = body.blocks_of(&["match_expression"], |_, body| {
            let (key, operator): (String, String) = (body.required("key"), body.required("operator"));
            let requirement = Requirement::new(key, &operator, body.optional("values", Vec::new()));
            requirement.map_err(|problem| body.error(problem)).ok()
        });
        Selector::new(labels, expressions.into_iter().flatten().collect())
    }
}

impl Decode for Defaults {
    fn decode(body: &mut Body<'_>) -> Self {
        for name in [
            "convert_classic_histograms_to_nhcb",
            "enable_type_and_unit_labels",
            "start_timestamp_zero_ingestion",
        ] {
            if body.optional(name, false) {
                body.error_at(
                    name,
                    format!("{name:?} is known to Alloy but not supported here; leave it out"),
                );
            }
        }
        let mut others = Map::new();
        for name in ["scrape_native_histograms", "scrape_classic_histograms", "honor_metadata"] {
            others.insert(name.to_owned(), body.optional(name, false).into());
        }
        for (name, word) in [
            ("default_sample_limit", "sample_limit"),
            ("native_histogram_bucket_limit", "native_histogram_bucket_limit"),
        ] {
            others.insert(word.to_owned(), body.optional(name, 0_u64).into());
        }
        let name = "native_histogram_min_bucket_factor";
        others.insert(name.to_owned(), body.optional(name, 0.0).into());
        // Zero is not set, as in Alloy.
        let set = |duration: Duration, default| {
            if duration.is_zero() { Duration::from_secs(default) } else { duration }
        };
        Defaults {
            interval: set(body.optional("default_scrape_interval", Duration::ZERO), 60),
            timeout: set(body.optional("default_scrape_timeout", Duration::ZERO), 10),
            others,
        }
    }
}

impl<M> Arguments<M> {
    /// Of monitors that say nothing.
    pub(super) fn interval(&self) -> Duration {
        self.defaults.interval
    }

    /// Adds to a scrape configuration what it does not say. A default timeout is never longer than the interval.
    pub(super) fn fill(&self, config: &mut Map<String, Json>) {
        let Defaults { interval, timeout, others } = &self.defaults;
        let own =
            config.get("scrape_interval").and_then(Json::as_str).and_then(duration).unwrap_or(*interval);
        let timeout = own.min(*timeout);
        let paces = [("scrape_interval", own), ("scrape_timeout", timeout)];
        let paces = paces
            .map(|(name, duration)| (name.to_owned(), Json::from(format!("{}ms", duration.as_millis()))));
        for (name, value) in others.clone().into_iter().chain(paces) {
            config.entry(name).or_insert(value);
        }
    }
}
