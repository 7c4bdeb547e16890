//! Attributes of a resource, a scope and a point -> labels of a series.

use std::borrow::Cow;

use twox_hash::XxHash3_64;

use super::PrometheusOptions;
use super::names::label_name;
use crate::formats::otlp::value::{Value, all, attributes, last, text};

/// A label's name and value.
pub(super) type Label<'b> = (Cow<'b, str>, Cow<'b, str>);

/// Labels that are there beside a point's own, each with its rank: [`FIRST`] or [`BEHIND`].
pub(super) type Base<'b> = Vec<(Cow<'b, str>, u8, Cow<'b, str>)>;

/// Goes before an attribute of the point.
const FIRST: u8 = 0;
const POINT: u8 = 1;
/// Is there only if the point says nothing of it.
const BEHIND: u8 = 2;

/// A `ResourceMetrics`, and who it is.
pub struct Resource<'b> {
    pub(super) metrics: &'b [u8],
    /// The `Resource`.
    pub(super) attributes: &'b [u8],
    /// `job` and `instance`, as far as they are known.
    pub(super) identity: Base<'b>,
    /// The same for all that is of one job and instance.
    pub lane: u64,
}

/// The resource attributes that `job` and `instance` are made of.
const IDENTIFYING: [&str; 3] = ["service.namespace", "service.name", "service.instance.id"];

impl<'b> Resource<'b> {
    /// The resources of a request's message, which was checked before.
    pub fn all(body: &'b [u8]) -> impl Iterator<Item = Resource<'b>> {
        all(body, 1).map(Resource::of)
    }

    fn of(metrics: &'b [u8]) -> Self {
        let resource = last(metrics, 1);
        let [namespace, name, instance] = IDENTIFYING.map(|wanted| {
            let found = attributes(resource, 1).find(|(key, _)| *key == wanted);
            found.map(|(_, value)| value.text())
        });
        let job = match (namespace, name) {
            (Some(namespace), Some(name)) => Some(Cow::Owned(format!("{namespace}/{name}"))),
            (_, name) => name,
        };
        let identity: Base<'b> = [("job", job), ("instance", instance)]
            .into_iter()
            .filter_map(|(label, value)| {
                Some((label.into(), FIRST, value.filter(|value| !value.is_empty())?))
            })
            .collect();
        let text: String = identity.iter().flat_map(|(name, _, value)| [name, "\0", value, "\0"]).collect();
        let lane = XxHash3_64::oneshot(text.as_bytes());
        Resource { metrics, attributes: resource, identity, lane }
    }

    /// The attributes that say more than who it is.
    pub(super) fn described(&self) -> impl Iterator<Item = (&'b str, Value<'b>)> {
        attributes(self.attributes, 1).filter(|(key, _)| !IDENTIFYING.contains(key))
    }

    /// What all series of a scope have.
    pub(super) fn base(&self, options: PrometheusOptions, scope: &'b [u8], schema_url: &'b [u8]) -> Base<'b> {
        let mut base = if options.scope_labels { self.scope_identity(scope) } else { self.identity.clone() };
        if options.scope_labels {
            base.push(("otel_scope_schema_url".into(), FIRST, text(schema_url).into()));
            // The scope's own name and version have these labels.
            let taken = ["name", "version", "schema_url"];
            let others = attributes(scope, 3).filter(|(key, _)| !taken.contains(key));
            base.extend(others.map(|(key, value)| {
                (label_name(&format!("otel_scope_{key}")).into_owned().into(), FIRST, value.text())
            }));
        }
        if options.resource_labels {
            let promoted = attributes(self.attributes, 1);
            base.extend(promoted.map(|(key, value)| (label_name(key), BEHIND, value.text())));
        }
        base
    }

    /// Resource and scope, by their names.
    pub(super) fn scope_identity(&self, scope: &'b [u8]) -> Base<'b> {
        let mut base = self.identity.clone();
        for (label, number) in [("otel_scope_name", 1), ("otel_scope_version", 2)] {
            base.push((label.into(), FIRST, text(last(scope, number)).into()));
        }
        base
    }
}

/// All labels, sorted. The values of attributes that become one label are joined, in the order of the attributes' names.
pub(super) fn labels<'l>(
    base: &'l Base<'_>,
    attributes: impl Iterator<Item = (&'l str, Value<'l>)>,
) -> Vec<Label<'l>> {
    let mut own: Vec<_> = attributes.collect();
    own.sort_by_key(|(key, _)| *key);
    let mut all: Base<'l> = base
        .iter()
        .map(|(name, rank, value)| (Cow::Borrowed(&**name), *rank, Cow::Borrowed(&**value)))
        .collect();
    all.extend(own.into_iter().map(|(key, value)| (label_name(key), POINT, value.text())));
    all.sort_by(|(one, one_rank, _), (other, other_rank, _)| (one, one_rank).cmp(&(other, other_rank)));
    let (mut labels, mut rank_before): (Vec<Label<'l>>, u8) = (Vec::with_capacity(all.len()), FIRST);
    for (name, rank, value) in all {
        if value.is_empty() || name == "__name__" {
            continue;
        }
        match labels.last_mut() {
            Some((before, joined)) if *before == name => {
                if rank == rank_before {
                    let joined = joined.to_mut();
                    joined.push(';');
                    joined.push_str(&value);
                }
            }
            _ => {
                labels.push((name, value));
                rank_before = rank;
            }
        }
    }
    labels
}
