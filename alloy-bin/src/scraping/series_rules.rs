//! Rules for the series of pages, applied before anything is counted or remembered of them.

use std::sync::Arc;
use std::time::Duration;

use crate::relabel::{CacheLimit, Relabeler, Rules};
use crate::telemetry::Labels;

/// Rules for the series of pages (`metric_relabel_configs`), with what is known of series. Equal if the rules are.
#[derive(Clone, Default)]
pub struct SeriesRules(Option<Arc<Relabeler>>);

/// A series that was not seen for so long is worked out again.
const REMEMBER_SERIES: Duration = Duration::from_secs(600);

impl SeriesRules {
    /// These, with an empty memory.
    pub fn new(rules: Rules) -> Self {
        let none = Labels::new::<&str, &str>([]);
        let relabeler = || Arc::new(Relabeler::new(rules.clone(), none, CacheLimit::Age(REMEMBER_SERIES)));
        SeriesRules((!rules.is_empty()).then(relabeler))
    }

    pub(super) fn relabeler(&self) -> Option<&Relabeler> {
        self.0.as_deref()
    }
}

impl PartialEq for SeriesRules {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_ref().map(|own| own.rules()) == other.0.as_ref().map(|other| other.rules())
    }
}

impl std::fmt::Debug for SeriesRules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SeriesRules").field(&self.0.as_ref().map(|own| own.rules())).finish()
    }
}
