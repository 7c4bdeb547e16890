//! An endpoint of a monitor -> a scrape configuration, as the Prometheus operator generates it, but for how targets are found:
//! who is selected is worked out where objects are at hand.

use serde_json::{Map, Value as Json, json};

use super::credentials::Reader;
use super::fields::Fields;
use super::monitor::Kind;
use crate::kubernetes::{Meta, Role, sanitized};

/// What a monitor says for all its endpoints.
pub(super) struct Common {
    pub(super) kind: Kind,
    /// `Endpoints` or `EndpointSlice`, for services.
    pub(super) role: Role,
    /// Limits and formats, in Prometheus' words.
    config: Map<String, Json>,
    job_label: String,
    target_labels: Vec<String>,
    pod_target_labels: Vec<String>,
}

impl Common {
    pub(super) fn read(kind: Kind, role: Role, monitor: &mut Fields) -> Result<Self, String> {
        let mut config = Map::new();
        let names = [
            ("sampleLimit", "sample_limit"),
            ("targetLimit", "target_limit"),
            ("labelLimit", "label_limit"),
            ("labelNameLengthLimit", "label_name_length_limit"),
            ("labelValueLengthLimit", "label_value_length_limit"),
            ("scrapeNativeHistograms", "scrape_native_histograms"),
            ("scrapeClassicHistograms", "always_scrape_classic_histograms"),
            ("convertClassicHistogramsToNHCB", "convert_classic_histograms_to_nhcb"),
            ("nativeHistogramBucketLimit", "native_histogram_bucket_limit"),
            ("fallbackScrapeProtocol", "fallback_scrape_protocol"),
            ("bodySizeLimit", "body_size_limit"),
        ];
        monitor.pass(&mut config, &names);
        if let Some(factor) = monitor.take("nativeHistogramMinBucketFactor") {
            let factor = quantity(&factor)
                .ok_or_else(|| monitor.error("nativeHistogramMinBucketFactor", "is no number"))?;
            config.insert("native_histogram_min_bucket_factor".to_owned(), factor.into());
        }
        let protocols: Vec<String> = monitor.read_or("scrapeProtocols")?;
        if !protocols.is_empty() {
            config.insert("scrape_protocols".to_owned(), protocols.into());
        }
        let named: String = monitor.read_or("scrapeClass")?;
        if !named.is_empty() {
            return Err(monitor.error("scrapeClass", "scrape classes are not supported here"));
        }
        let role = match (kind, monitor.read_or::<String>("serviceDiscoveryRole")?.as_str()) {
            (Kind::Service, "Endpoints") => Role::Endpoints,
            (Kind::Service, "EndpointSlice") => Role::EndpointSlice,
            _ => role,
        };
        Ok(Common {
            kind,
            role,
            config,
            job_label: monitor.read_or("jobLabel")?,
            target_labels: monitor.read_or("targetLabels")?,
            pod_target_labels: monitor.read_or("podTargetLabels")?,
        })
    }

    /// The configuration of one endpoint.
    pub(super) fn generate(
        &self,
        meta: &Meta,
        index: usize,
        endpoint: &mut Fields,
        credentials: &Reader<'_>,
    ) -> Result<Map<String, Json>, String> {
        let kind = match self.kind {
            Kind::Service => "serviceMonitor",
            Kind::Pod => "podMonitor",
        };
        let mut config = self.config.clone();
        config
            .insert("job_name".to_owned(), format!("{kind}/{}/{}/{index}", meta.namespace, meta.name).into());
        let honors: bool = endpoint.read_or("honorLabels")?;
        config.insert("honor_labels".to_owned(), honors.into());
        let texts =
            [("interval", "scrape_interval"), ("scrapeTimeout", "scrape_timeout"), ("path", "metrics_path")];
        for (name, other) in texts {
            let text: String = endpoint.read_or(name)?;
            if !text.is_empty() {
                config.insert(other.to_owned(), text.into());
            }
        }
        let names = [
            ("honorTimestamps", "honor_timestamps"),
            ("trackTimestampsStaleness", "track_timestamps_staleness"),
            ("params", "params"),
            ("followRedirects", "follow_redirects"),
            ("enableHttp2", "enable_http2"),
        ];
        endpoint.pass(&mut config, &names);
        if let Some(scheme) = endpoint.read::<String>("scheme")?.filter(|scheme| !scheme.is_empty()) {
            config.insert("scheme".to_owned(), scheme.to_lowercase().into());
        }
        credentials.read(endpoint, &mut config)?;
        let mut rules = self.rules(meta, endpoint)?;
        rules.extend(relabelings(endpoint, "relabelings")?);
        config.insert("relabel_configs".to_owned(), rules.into());
        let rules = relabelings(endpoint, "metricRelabelings")?;
        if !rules.is_empty() {
            config.insert("metric_relabel_configs".to_owned(), rules.into());
        }
        Ok(config)
    }

    /// The rules that the operator adds, in its order.
    fn rules(&self, meta: &Meta, endpoint: &mut Fields) -> Result<Vec<Json>, String> {
        let mut rules = vec![json!({"source_labels": ["job"], "target_label": "__tmp_prometheus_job_name"})];
        let filters = endpoint.read::<bool>("filterRunning")?.unwrap_or(true);
        let running = json!({"action": "drop", "source_labels": ["__meta_kubernetes_pod_phase"], "regex": "(Failed|Succeeded)"});
        let keep =
            |label: &str, regex: &Json| json!({"action": "keep", "source_labels": [label], "regex": regex});
        let label = |from: &str, to: &str| json!({"source_labels": [format!("__meta_kubernetes_{from}")], "target_label": to});
        let port: String = endpoint.read_or("port")?;
        let number = endpoint.take("portNumber").filter(|number| self.kind == Kind::Pod && *number != 0);
        let target = endpoint.take("targetPort").filter(|target| *target != 0 && *target != "");
        let by_container = |port: &Json| {
            let what = if port.is_string() { "name" } else { "number" };
            keep(&format!("__meta_kubernetes_pod_container_port_{what}"), port)
        };
        let by_port = match (self.kind, port.as_str()) {
            (_, "") => number.as_ref().or(target.as_ref()).map(by_container),
            (Kind::Service, port) => {
                Some(keep(&format!("__meta_kubernetes_{}_port_name", self.prefix()), &port.into()))
            }
            (Kind::Pod, port) => Some(by_container(&port.into())),
        };
        match self.kind {
            Kind::Service => {
                rules.extend(by_port);
                let kind = format!("__meta_kubernetes_{}_address_target_kind", self.prefix());
                let name = format!("__meta_kubernetes_{}_address_target_name", self.prefix());
                for (what, to) in [("Node", "node"), ("Pod", "pod")] {
                    rules.push(json!({
                        "source_labels": [kind, name], "separator": ";", "regex": format!("{what};(.*)"),
                        "replacement": "${1}", "target_label": to,
                    }));
                }
                rules.extend([label("namespace", "namespace"), label("service_name", "service")]);
                rules.extend([label("pod_name", "pod"), label("pod_container_name", "container")]);
                rules.extend(filters.then_some(running));
                rules.extend(self.target_labels.iter().map(|name| copied("service", name, name)));
            }
            Kind::Pod => {
                rules.extend(filters.then_some(running));
                rules.extend(by_port);
                rules.push(label("namespace", "namespace"));
                rules.extend([label("pod_container_name", "container"), label("pod_name", "pod")]);
            }
        }
        rules.extend(self.pod_target_labels.iter().map(|name| copied("pod", name, name)));
        let of = match self.kind {
            Kind::Service => {
                rules.push(json!({
                    "source_labels": ["__meta_kubernetes_service_name"], "target_label": "job", "replacement": "${1}",
                }));
                "service"
            }
            Kind::Pod => {
                let job = format!("{}/{}", meta.namespace, meta.name);
                rules.push(json!({"target_label": "job", "replacement": job}));
                "pod"
            }
        };
        if !self.job_label.is_empty() {
            rules.push(copied(of, &self.job_label, "job"));
        }
        let named = match target {
            _ if !port.is_empty() => Some(port),
            Some(Json::String(target)) => Some(target),
            target => target.map(|number| number.to_string()),
        };
        rules.extend(named.map(|port| json!({"target_label": "endpoint", "replacement": port})));
        Ok(rules)
    }

    /// Of the labels of addresses.
    fn prefix(&self) -> &'static str {
        if self.role == Role::EndpointSlice { "endpointslice" } else { "endpoint" }
    }
}

/// A label of a service or a pod becomes one of the target, if it has a value.
fn copied(of: &str, name: &str, to: &str) -> Json {
    let from = format!("__meta_kubernetes_{of}_label_{}", sanitized(name));
    json!({"source_labels": [from], "target_label": sanitized(to), "regex": "(.+)", "replacement": "${1}"})
}

/// The rules of a monitor's own.
fn relabelings(endpoint: &mut Fields, name: &str) -> Result<Vec<Json>, String> {
    let rules: Vec<Json> = endpoint.read_or(name)?;
    let rules = rules.iter().enumerate().map(|(index, rule)| {
        let mut fields = Fields::new(&format!("{name}[{index}]"), rule)?;
        let mut config = Map::new();
        let names = [
            ("sourceLabels", "source_labels"),
            ("separator", "separator"),
            ("targetLabel", "target_label"),
            ("regex", "regex"),
            ("modulus", "modulus"),
            ("replacement", "replacement"),
        ];
        fields.pass(&mut config, &names);
        // What is empty is not set, but for a separator and a replacement.
        let is_empty = |value: &Json| *value == "" || *value == 0 || *value == json!([]);
        config
            .retain(|name, value| ["separator", "replacement"].contains(&name.as_str()) || !is_empty(value));
        if let Some(action) = fields.read::<String>("action")?.filter(|action| !action.is_empty()) {
            config.insert("action".to_owned(), action.to_lowercase().into());
        }
        match fields.unknown().next() {
            Some(place) => Err(format!("{place}: is not known here")),
            None => Ok(config.into()),
        }
    });
    rules.collect()
}

/// A number as Kubernetes writes it: `1.1`, `1100m`.
fn quantity(value: &Json) -> Option<f64> {
    match value {
        Json::String(text) => match text.strip_suffix('m') {
            Some(thousandths) => Some(thousandths.parse::<f64>().ok()? / 1000.0),
            None => text.parse().ok(),
        },
        number => number.as_f64(),
    }
}
