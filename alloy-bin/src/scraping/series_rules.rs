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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::page::{Policy, Reading, TargetLabels};
    use super::*;
    use crate::config::{Body, Decode, decode_foreign};
    use crate::formats::{Format, TextFormat};

    struct Listed(Rules);

    impl Decode for Listed {
        fn decode(body: &mut Body<'_>) -> Self {
            Listed(Rules::read(body, "rule"))
        }
    }

    /// The series that are left, and how many samples there were before.
    fn read(page: &str, rules: serde_json::Value, policy: Policy) -> Result<(Vec<String>, usize), String> {
        let rules = json!({"rule": rules}).as_object().cloned().unwrap_or_default();
        let rules = SeriesRules::new(decode_foreign::<Listed>(&rules, &[]).expect("good rules").0);
        let target = TargetLabels::new([("job".to_owned(), "j".to_owned())]);
        let format = Format::Text(TextFormat::Prometheus);
        let reading = Reading { target: &target, format, policy, rules: &rules, lane: 1, slot_ms: 5000 };
        let (batch, samples) = reading.read_all(page.as_bytes()).map_err(|error| error.to_string())?;
        Ok((batch.iter().map(|sample| sample.labels.to_string()).collect(), samples))
    }

    #[test]
    fn limits_are_for_what_the_rules_leave() {
        let page = "a{x=\"1\"} 1\nb{x=\"long enough\"} 2\nc 3\n";
        let drop_b = json!([{"source_labels": ["__name__"], "regex": "b", "action": "drop"}]);
        let policy = |sample_limit, label_limit, label_value_length_limit| Policy {
            sample_limit,
            label_limit,
            label_value_length_limit,
            ..Policy::default()
        };
        let left =
            vec!["{__name__=\"a\", job=\"j\", x=\"1\"}".to_owned(), "{__name__=\"c\", job=\"j\"}".to_owned()];
        assert_eq!(read(page, drop_b.clone(), policy(2, 3, 3)), Ok((left, 3)));
        let refused = |rules, policy| read(page, rules, policy).unwrap_err();
        assert!(refused(drop_b.clone(), policy(1, 0, 0)).contains("more than 1 samples"));
        assert!(refused(drop_b, policy(0, 2, 0)).contains("label_limit exceeded: 3 > 2"));
        let rename = json!([{"target_label": "x", "replacement": "1234"}]);
        assert!(refused(rename, policy(0, 0, 3)).contains("label_value_length_limit exceeded: 4 > 3"));
        let nameless = json!([{"regex": "__name__", "action": "labeldrop"}]);
        assert!(refused(nameless, Policy::default()).contains("takes the name of a series away"));
    }

    #[test]
    fn rules_are_equal_whatever_is_known_of_series() {
        let rules = |regex: &str| {
            let one = json!({"rule": {"regex": regex, "action": "labeldrop"}});
            SeriesRules::new(decode_foreign::<Listed>(one.as_object().expect("an object"), &[]).unwrap().0)
        };
        assert_eq!(rules("a"), rules("a"));
        assert_ne!(rules("a"), rules("b"));
        assert_ne!(rules("a"), SeriesRules::default());
    }
}
