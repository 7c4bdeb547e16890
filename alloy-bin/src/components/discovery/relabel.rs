//! `discovery.relabel`: rewrites the labels of targets, or drops them.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::config::{Body, Capsule, Decode, Value};
use crate::graph::{Component, Context, ExportType, Exports, export};
use crate::relabel::{LabelSet, Rules};
use crate::telemetry::Target;

/// What the block says.
pub struct Arguments {
    targets: Vec<Target>,
    rules: Rules,
}

impl Decode for Arguments {
    fn decode(body: &mut Body<'_>) -> Self {
        Arguments { targets: body.required("targets"), rules: Rules::read(body, "rule") }
    }
}

/// The component.
pub struct Relabel {
    exports: Exports,
    /// As exported: those who use the rules hear of other ones only.
    rules: Mutex<Arc<Rules>>,
}

#[async_trait]
impl Component for Relabel {
    const NAME: &'static str = "discovery.relabel";
    const EXPORTS: &'static [ExportType] = &[("output", export::targets), ("rules", Rules::placeholder)];
    type Arguments = Arguments;

    fn build(arguments: Arguments, context: Context) -> anyhow::Result<Self> {
        let relabel = Relabel { exports: context.exports, rules: Mutex::default() };
        relabel.exports.set("rules", Capsule::new(Arc::new(Rules::default())).into());
        relabel.update(arguments)?;
        Ok(relabel)
    }

    async fn run(&self, stop: CancellationToken) {
        stop.cancelled().await;
    }

    fn update(&self, arguments: Arguments) -> anyhow::Result<()> {
        let Arguments { targets, rules } = arguments;
        let output = targets.iter().filter_map(|target| relabel(&rules, target));
        self.exports.set("output", Value::array(output));
        let mut exported = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        if **exported != rules {
            *exported = Arc::new(rules);
            self.exports.set("rules", Capsule::new(exported.clone()).into());
        }
        Ok(())
    }
}

/// What the rules make of a target; none if they drop it, or leave no label of it.
fn relabel(rules: &Rules, target: &Target) -> Option<Value> {
    let mut labels = LabelSet::new(target.0.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    if !rules.apply(&mut labels) {
        return None;
    }
    let labels = labels.into_pairs().into_iter().map(|(name, value)| (name, Value::from(&*value)));
    let mut labels = labels.peekable();
    labels.peek()?;
    Some(Value::object(labels))
}
