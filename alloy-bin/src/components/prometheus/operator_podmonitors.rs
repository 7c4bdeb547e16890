//! `prometheus.operator.podmonitors`: scrapes the pods that PodMonitors select.

use super::operator::{Kind, Monitors, Operator};

/// The kind.
#[derive(PartialEq)]
pub struct PodMonitors;

/// The component.
pub type OperatorPodmonitors = Operator<PodMonitors>;

impl Monitors for PodMonitors {
    const NAME: &'static str = "prometheus.operator.podmonitors";
    const KIND: Kind = Kind::Pod;
    const PLURAL: &'static str = "podmonitors";
    const ENDPOINTS: &'static str = "podMetricsEndpoints";
}
