//! A scrape configuration -> how targets are found and scraped.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Map, Value as Json};

use super::super::scraper::Options;
use super::arguments::Arguments;
use super::credentials::Reader;
use super::fields::Fields;
use super::generate::Common;
use super::monitor::{Monitor, Monitors, Selector};
use super::secrets::Secrets;
use crate::config::{Body, Decode, decode_foreign, parse_duration};
use crate::kubernetes::{Meta, Role};
use crate::relabel::{LabelSet, Rules};
use crate::scraping::{self, SeriesRules, Spec};
use crate::telemetry::Target;

/// One endpoint of a monitor.
#[derive(Clone)]
pub(super) struct Job {
    pub(super) name: String,
    /// Where it looks; `None`: everywhere.
    pub(super) namespaces: Option<Vec<String>>,
    pub(super) role: Role,
    pub(super) with_node: bool,
    pub(super) selector: Selector,
    rules: Rules,
    pub(super) options: Options,
}

/// What a monitor comes to.
#[derive(Default)]
pub(super) struct Made {
    pub(super) jobs: Vec<Job>,
    /// Endpoints that cannot be scraped, or the whole monitor.
    pub(super) problems: Vec<String>,
    /// Fields that are not known here and change nothing.
    pub(super) unknown: Vec<String>,
}

/// A target, and how often and how long it is scraped.
pub(super) type Found = (Spec, Duration, Duration);

/// A few words differ.
const RENAMED: [(&str, &str); 2] = [
    ("always_scrape_classic_histograms", "scrape_classic_histograms"),
    ("fallback_scrape_protocol", "scrape_fallback_protocol"),
];
const RENAMED_TLS: [(&str, &str); 3] = [("ca", "ca_pem"), ("cert", "cert_pem"), ("key", "key_pem")];
/// What are attributes though they are objects.
const MAPS: [&str; 3] = ["params", "endpoint_params", "proxy_connect_header"];

/// The jobs of a monitor: one for each endpoint.
pub(super) fn jobs<M: Monitors>(monitor: &Monitor<M>, arguments: &Arguments<M>, secrets: &Secrets) -> Made {
    let mut made = Made::default();
    if let Err(problem) = read(monitor, arguments, secrets, &mut made) {
        made.jobs.clear();
        made.problems.insert(0, problem);
    }
    made
}

fn read<M: Monitors>(
    monitor: &Monitor<M>,
    arguments: &Arguments<M>,
    secrets: &Secrets,
    made: &mut Made,
) -> Result<(), String> {
    let meta = &monitor.metadata;
    if !monitor.spec.is_object() {
        return Err("spec is no object".to_owned());
    }
    let mut fields = Fields::new("", &monitor.spec)?;
    let common = Common::read(M::KIND, arguments.role, &mut fields)?;
    let selector = Selector::read(&mut fields)?;
    let namespaces = namespaces(&mut fields, meta)?;
    let mut attach = fields.object("attachMetadata")?;
    let with_node = attach.as_mut().map(|attach| attach.read_or("node")).transpose()?.unwrap_or(false);
    let endpoints: Vec<Json> = fields.read_or(M::ENDPOINTS)?;
    // How labels are selected makes no difference here, and what is dropped is not kept.
    for name in ["selectorMechanism", "keepDroppedTargets"] {
        fields.take(name);
    }
    made.unknown.extend(fields.unknown());
    let credentials = Reader { secrets, namespace: &meta.namespace, allows_files: arguments.allows_files };
    for (index, endpoint) in endpoints.iter().enumerate() {
        let place = format!("{}[{index}]", M::ENDPOINTS);
        let mut job = || {
            let mut fields = Fields::new("", endpoint)?;
            let config = common.generate(meta, index, &mut fields, &credentials)?;
            made.unknown.extend(fields.unknown().map(|name| format!("{place}.{name}")));
            let name = config["job_name"].as_str().unwrap_or_default().to_owned();
            let (rules, options) = understood(config, arguments)?;
            let (namespaces, selector) = (namespaces.clone(), selector.clone());
            Ok(Job { name, namespaces, role: common.role, with_node, selector, rules, options })
        };
        match job() {
            Ok(job) => made.jobs.push(job),
            Err::<_, String>(problem) => made.problems.push(format!("{place}: {problem}")),
        }
    }
    Ok(())
}

fn namespaces(fields: &mut Fields, meta: &Meta) -> Result<Option<Vec<String>>, String> {
    let Some(mut selector) = fields.object("namespaceSelector")? else {
        return Ok(Some(vec![meta.namespace.to_string()]));
    };
    let names: Vec<String> = selector.read_or("matchNames")?;
    Ok(match selector.read_or("any")? {
        true => None,
        false if names.is_empty() => Some(vec![meta.namespace.to_string()]),
        false => Some(names),
    })
}

/// The rules of a list of blocks.
struct Listed(Rules);

impl Decode for Listed {
    fn decode(body: &mut Body<'_>) -> Self {
        Listed(Rules::read(body, "rule"))
    }
}

/// A scrape configuration in the words of `prometheus.scrape`, and understood by it.
fn understood<M>(
    mut config: Map<String, Json>,
    arguments: &Arguments<M>,
) -> Result<(Rules, Options), String> {
    let mut rules = |name: &str| {
        let listed = config.remove(name).map(|listed| ("rule".to_owned(), listed));
        let decoded = decode_foreign::<Listed>(&listed.into_iter().collect(), &[]);
        decoded.map(|listed| listed.0).map_err(|problems| format!("{name}: {}", problems.join("; ")))
    };
    let (targets, series) = (rules("relabel_configs")?, rules("metric_relabel_configs")?);
    for name in ["scrape_interval", "scrape_timeout"] {
        if let Some(text) = config.get_mut(name) {
            let duration = text.as_str().and_then(duration);
            let duration = duration.ok_or_else(|| format!("{name}: {text} is no duration such as 1m30s"))?;
            *text = format!("{}ms", duration.as_millis()).into();
        }
    }
    rename(&mut config, &RENAMED);
    for place in ["tls_config", "oauth2"] {
        let Some(Json::Object(fields)) = config.get_mut(place) else { continue };
        match fields.get_mut("tls_config") {
            Some(Json::Object(inner)) => rename(inner, &RENAMED_TLS),
            _ => rename(fields, &RENAMED_TLS),
        }
    }
    arguments.fill(&mut config);
    let mut options: Options = decode_foreign(&config, &MAPS).map_err(|problems| problems.join("; "))?;
    options.settings.rules = SeriesRules::new(series);
    Ok((targets, options))
}

fn rename(fields: &mut Map<String, Json>, names: &[(&str, &str)]) {
    for (name, other) in names {
        if let Some(value) = fields.remove(*name) {
            fields.insert((*other).to_owned(), value);
        }
    }
}

impl Job {
    /// What the rules make of what was found: the component's first, as in Alloy. As in Prometheus rules see how a target will be
    /// scraped, and may change it.
    pub(super) fn targets(
        &self,
        first: &Rules,
        found: Vec<Target>,
        excluded_labels: &[String],
    ) -> (HashMap<u64, Found>, Vec<String>) {
        let mut common = self.options.common(&self.name, excluded_labels);
        let (interval, timeout) = (self.options.settings.interval, self.options.settings.limits.timeout);
        let written = |duration: Duration| format!("{}ms", duration.as_millis());
        let mut defaults = vec![
            ("job".to_owned(), self.name.clone()),
            ("__scheme__".to_owned(), std::mem::take(&mut common.scheme)),
            ("__metrics_path__".to_owned(), std::mem::take(&mut common.path)),
            ("__scrape_interval__".to_owned(), written(interval)),
            ("__scrape_timeout__".to_owned(), written(timeout)),
        ];
        let params = self.options.params.iter();
        let param = |(name, values): (&String, &Vec<String>)| {
            Some((format!("__param_{name}"), values.first()?.clone()))
        };
        defaults.extend(params.filter_map(param));
        let (mut targets, mut problems) = (HashMap::new(), Vec::new());
        for target in found {
            let mut labels = target.0;
            for (name, value) in &defaults {
                labels.entry(name.clone()).or_insert_with(|| value.clone());
            }
            let mut set = LabelSet::new(labels.iter().map(|(name, value)| (name.as_str(), value.as_str())));
            if !first.apply(&mut set) || !self.rules.apply(&mut set) {
                continue;
            }
            let own = |(name, value): (std::borrow::Cow<'_, str>, std::borrow::Cow<'_, str>)| {
                (!name.starts_with("__meta_")).then(|| (name.into_owned(), value.into_owned()))
            };
            let mut target = Target(set.into_pairs().into_iter().filter_map(own).collect());
            // How often is not who it is.
            let interval =
                target.0.remove("__scrape_interval__").map_or(Some(interval), |text| duration(&text));
            let timeout = target.0.remove("__scrape_timeout__").map_or(Some(timeout), |text| duration(&text));
            // Where there are several of a name and no rule has changed the first, all are asked for.
            for (name, values) in self.options.params.iter().filter(|(_, values)| values.len() > 1) {
                let label = format!("__param_{name}");
                if target.get(&label) == values.first().map(String::as_str) {
                    target.0.remove(&label);
                }
            }
            let spec = Spec::new(&target, &common).map_err(|error| error.to_string());
            let paced =
                interval.zip(timeout).filter(|(interval, timeout)| timeout <= interval && !timeout.is_zero());
            let paced = paced
                .ok_or_else(|| "rules have set a wrong __scrape_interval__ or __scrape_timeout__".to_owned());
            match spec.and_then(|spec| Ok((spec, paced?))) {
                Ok((spec, (interval, timeout))) => {
                    targets.insert(spec.key, (spec, interval, timeout));
                }
                Err(problem) => problems.push(problem),
            }
        }
        (targets, problems)
    }

    /// How a target of so many is scraped.
    pub(super) fn settings(
        &self,
        targets: usize,
        interval: Duration,
        timeout: Duration,
    ) -> scraping::Settings {
        let mut settings = self.options.clone().settings_for(targets);
        (settings.interval, settings.limits.timeout) = (interval, timeout);
        settings
    }
}

/// As Prometheus writes it: with years, weeks and days too.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let unit = |unit: char, days: u64| (unit, Duration::from_secs(days * 86_400));
    let (mut rest, mut total) = (text, Duration::ZERO);
    for (unit, length) in [unit('y', 365), unit('w', 7), unit('d', 1)] {
        if let Some((number, behind)) = rest.split_once(unit) {
            total = total.checked_add(length.checked_mul(number.parse().ok()?)?)?;
            rest = behind;
        }
    }
    let rest = if rest.is_empty() && !text.is_empty() { Duration::ZERO } else { parse_duration(rest)? };
    total.checked_add(rest)
}
