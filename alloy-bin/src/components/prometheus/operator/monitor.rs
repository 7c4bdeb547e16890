//! Monitors as they come, and selectors.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use serde::Deserialize;
use serde_json::Value as Json;

use super::fields::Fields;
use crate::kubernetes::{Meta, Object};

/// A kind of monitor as a component of its own.
pub trait Monitors: PartialEq + Send + Sync + 'static {
    /// `prometheus.operator.servicemonitors`.
    const NAME: &'static str;
    /// The kind.
    const KIND: Kind;
    /// Its name in URLs.
    const PLURAL: &'static str;
    /// The field with its endpoints.
    const ENDPOINTS: &'static str;
}

/// What a monitor looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What is behind services.
    Service,
    /// Pods.
    Pod,
}

/// A monitor. Its content is looked at later: one that is wrong is wrong alone.
#[derive(PartialEq, Deserialize)]
#[serde(bound = "")]
pub(super) struct Monitor<M> {
    pub(super) metadata: Meta,
    #[serde(default)]
    pub(super) spec: Json,
    #[serde(skip)]
    kind: PhantomData<fn() -> M>,
}

impl<M: Monitors> Object for Monitor<M> {
    const GROUP: &'static str = "/apis/monitoring.coreos.com/v1";
    const PLURAL: &'static str = M::PLURAL;

    fn meta(&mut self) -> &mut Meta {
        &mut self.metadata
    }
}

/// A selector of labels, as Kubernetes evaluates it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Selector(Vec<Requirement>);

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Requirement {
    key: String,
    operator: Relation,
    values: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Relation {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

impl Requirement {
    /// The operator has Kubernetes' names.
    pub(super) fn new(key: String, operator: &str, values: Vec<String>) -> Result<Self, String> {
        let operator = match operator {
            "In" => Relation::In,
            "NotIn" => Relation::NotIn,
            "Exists" => Relation::Exists,
            "DoesNotExist" => Relation::DoesNotExist,
            other => return Err(format!("{other:?} is none of In, NotIn, Exists, DoesNotExist")),
        };
        let needs_values = matches!(operator, Relation::In | Relation::NotIn);
        if needs_values == values.is_empty() {
            return Err(format!("{key}: In and NotIn need values, the others have none"));
        }
        Ok(Requirement { key, operator, values })
    }

    fn is_met(&self, labels: &BTreeMap<Box<str>, Box<str>>) -> bool {
        let value = labels.get(self.key.as_str());
        let is_among = || value.is_some_and(|value| self.values.iter().any(|wanted| **wanted == **value));
        match self.operator {
            Relation::In => is_among(),
            Relation::NotIn => !is_among(),
            Relation::Exists => value.is_some(),
            Relation::DoesNotExist => value.is_none(),
        }
    }
}

impl std::fmt::Display for Requirement {
    /// As the API reads it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (key, values) = (&self.key, self.values.join(","));
        match self.operator {
            Relation::In => write!(f, "{key} in ({values})"),
            Relation::NotIn => write!(f, "{key} notin ({values})"),
            Relation::Exists => write!(f, "{key}"),
            Relation::DoesNotExist => write!(f, "!{key}"),
        }
    }
}

impl Selector {
    /// All of these.
    pub(super) fn new(labels: BTreeMap<String, String>, others: Vec<Requirement>) -> Self {
        let exact = labels.into_iter();
        let exact =
            exact.map(|(key, value)| Requirement { key, operator: Relation::In, values: vec![value] });
        Selector(exact.chain(others).collect())
    }

    /// The one of a monitor.
    pub(super) fn read(monitor: &mut Fields) -> Result<Self, String> {
        let mut fields = monitor.object("selector")?.ok_or("selector: is missing")?;
        let labels = fields.read_or("matchLabels")?;
        let mut others = Vec::new();
        for expression in fields.read_or::<Vec<Json>>("matchExpressions")? {
            let mut fields = Fields::new("selector.matchExpressions", &expression)?;
            let operator: String = fields.read_or("operator")?;
            let requirement = Requirement::new(fields.read_or("key")?, &operator, fields.read_or("values")?);
            others.push(requirement.map_err(|problem| format!("selector.matchExpressions: {problem}"))?);
        }
        Ok(Selector::new(labels, others))
    }

    pub(super) fn selects(&self, labels: &BTreeMap<Box<str>, Box<str>>) -> bool {
        self.0.iter().all(|requirement| requirement.is_met(labels))
    }
}

impl std::fmt::Display for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let texts: Vec<String> = self.0.iter().map(Requirement::to_string).collect();
        f.write_str(&texts.join(","))
    }
}
