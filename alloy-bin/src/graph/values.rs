//! What components pass to each other by way of the configuration: targets, and receivers for `forward_to`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Consumer, LogsReceiver, MetricsReceiver};
use crate::config::{Capsule, CapsuleType, ConversionError, FromValue, Value};
use crate::telemetry::{LogBatch, SampleBatch, Target};

/// A receiver on its way from one component to another.
struct Carried<B: 'static>(Arc<dyn Consumer<B>>);

impl CapsuleType for Carried<LogBatch> {
    const NAME: &'static str = "LogsReceiver";
}

impl CapsuleType for Carried<SampleBatch> {
    const NAME: &'static str = "MetricsReceiver";
}

impl From<LogsReceiver> for Value {
    fn from(receiver: LogsReceiver) -> Self {
        Capsule::new(Arc::new(Carried(receiver))).into()
    }
}

impl From<MetricsReceiver> for Value {
    fn from(receiver: MetricsReceiver) -> Self {
        Capsule::new(Arc::new(Carried(receiver))).into()
    }
}

impl FromValue for LogsReceiver {
    fn from_value(value: &Value) -> Result<Self, ConversionError> {
        Arc::<Carried<LogBatch>>::from_value(value).map(|carried| carried.0.clone())
    }
}

impl FromValue for MetricsReceiver {
    fn from_value(value: &Value) -> Result<Self, ConversionError> {
        Arc::<Carried<SampleBatch>>::from_value(value).map(|carried| carried.0.clone())
    }
}

impl From<&Target> for Value {
    fn from(target: &Target) -> Self {
        Value::object(target.0.iter().map(|(name, value)| (name, value.as_str().into())))
    }
}

impl FromValue for Target {
    fn from_value(value: &Value) -> Result<Self, ConversionError> {
        BTreeMap::from_value(value).map(Target)
    }
}
