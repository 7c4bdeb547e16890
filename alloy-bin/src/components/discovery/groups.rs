//! Lists of target groups in JSON and YAML, as Prometheus' discovery by file and by HTTP has them.

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde::Deserialize;

use crate::telemetry::Target;

/// Larger lists are refused: tens of thousands of targets need a few MiB.
pub(super) const BYTES_MAX: usize = 64 << 20;

/// How a list is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Yaml,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    #[serde(default)]
    targets: Vec<String>,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

/// One target per address, with the group's labels and one that says where it comes from.
pub(super) fn targets(text: &str, format: Format, origin: (&str, &str)) -> anyhow::Result<Vec<Target>> {
    let groups: Option<Vec<Group>> = match format {
        Format::Json => serde_json::from_str(text).context("not a list of target groups in JSON")?,
        Format::Yaml if text.trim().is_empty() => None,
        Format::Yaml => serde_saphyr::from_str(text).context("not a list of target groups in YAML")?,
    };
    let mut targets = Vec::new();
    for group in groups.unwrap_or_default() {
        for address in group.targets {
            let mut labels = group.labels.clone().unwrap_or_default();
            labels.insert("__address__".to_owned(), address);
            labels.insert(origin.0.to_owned(), origin.1.to_owned());
            targets.push(Target(labels));
        }
    }
    Ok(targets)
}
