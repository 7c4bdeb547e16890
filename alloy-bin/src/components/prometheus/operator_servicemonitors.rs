//! `prometheus.operator.servicemonitors`: scrapes what ServiceMonitors select.

use super::operator::{Kind, Monitors, Operator};

/// The kind.
#[derive(PartialEq)]
pub struct ServiceMonitors;

/// The component.
pub type OperatorServicemonitors = Operator<ServiceMonitors>;

impl Monitors for ServiceMonitors {
    const NAME: &'static str = "prometheus.operator.servicemonitors";
    const KIND: Kind = Kind::Service;
    const PLURAL: &'static str = "servicemonitors";
    const ENDPOINTS: &'static str = "endpoints";
}
