//! `discovery.relabel`: rewrites the labels of targets, or drops them.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::config::{Body, Capsule, Decode, Value};
use crate::graph::{Component, Context, ExportType, Exports, MadeOf, SharedTarget, export};
use crate::relabel::{LabelSet, Rules};
use crate::telemetry::Target;

/// What the block says.
pub struct Arguments {
    targets: Vec<SharedTarget>,
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
    done: Mutex<Done>,
}

/// What was done last.
#[derive(Default)]
struct Done {
    /// As exported: those who use the rules hear of other ones only.
    rules: Arc<Rules>,
    /// What they made of each target.
    outputs: MadeOf<Option<Value>>,
}

#[async_trait]
impl Component for Relabel {
    const NAME: &'static str = "discovery.relabel";
    const EXPORTS: &'static [ExportType] = &[("output", export::targets), ("rules", Rules::placeholder)];
    type Arguments = Arguments;

    fn build(arguments: Arguments, context: Context) -> anyhow::Result<Self> {
        let relabel = Relabel { exports: context.exports, done: Mutex::default() };
        relabel.exports.set("rules", Capsule::new(Arc::new(Rules::default())).into());
        relabel.update(arguments)?;
        Ok(relabel)
    }

    async fn run(&self, stop: CancellationToken) {
        stop.cancelled().await;
    }

    fn update(&self, arguments: Arguments) -> anyhow::Result<()> {
        let Arguments { targets, rules } = arguments;
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        if *done.rules != rules {
            *done = Done { rules: Arc::new(rules), outputs: MadeOf::default() };
            self.exports.set("rules", Capsule::new(done.rules.clone()).into());
        }
        let (outputs, output) = MadeOf::new(&targets, &done.outputs, |target| relabel(&done.rules, target));
        done.outputs = outputs;
        self.exports.set("output", Value::array(output.into_iter().flatten()));
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
