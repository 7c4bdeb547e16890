//! Making what a configuration needs and the running graph has not: the first half of a reload. Nothing that runs is touched.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::ownership::Ownership;
use crate::syntax::Diagnostics;

use super::changes::Changes;
use super::component::{Context, Exports, Health, Registration, Removal};
use super::live::{Given, Live};

/// What every component gets from the agent.
#[derive(Clone)]
pub struct Host {
    /// `--storage.path`.
    pub storage: PathBuf,
    /// Who owns what.
    pub ownership: Ownership,
    /// `--cluster.name`.
    pub cluster_name: String,
}

/// Makes components, or finds those that run already.
pub(super) struct Maker<'a> {
    pub(super) host: &'a Host,
    pub(super) changes: &'a Arc<Changes>,
    /// The components that there are, by their ids.
    pub(super) old: &'a BTreeMap<Arc<str>, Arc<Live>>,
    /// What is to be done with each component, in the order of the graph.
    pub(super) steps: Vec<Step>,
}

/// What is to be done with a component.
pub(super) enum Step {
    /// It is new, and does not run yet.
    Start(Arc<Live>),
    /// It has other arguments than before.
    Apply(Arc<Live>, Given),
    /// It has the same arguments, in a new text.
    Reword(Arc<Live>, Given),
}

impl Maker<'_> {
    pub(super) fn make(
        &mut self,
        registration: Registration,
        given: Given,
        id: &str,
    ) -> Result<Arc<Live>, Diagnostics> {
        match self.old.get(id) {
            Some(old) => {
                (registration.check)(&given.block, &given.scope)?;
                let is_same = old.given().arguments == given.arguments && old.is_up();
                let step = if is_same { Step::Reword } else { Step::Apply };
                self.steps.push(step(old.clone(), given));
                Ok(old.clone())
            }
            None => {
                let id: Arc<str> = id.into();
                let context = Context {
                    storage: self.host.storage.join(&*id),
                    ownership: self.host.ownership.clone(),
                    exports: Exports::new(id.clone(), self.changes.clone()),
                    health: Health::default(),
                    removal: Removal::default(),
                    id,
                };
                let changes = self.changes.clone();
                let live = Live::make(registration, given, context, changes)?;
                self.steps.push(Step::Start(live.clone()));
                Ok(live)
            }
        }
    }
}
