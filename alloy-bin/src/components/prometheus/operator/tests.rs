//! Monitors -> scrape configurations, beside those that the Prometheus operator generates (`table.json`, made by
//! `.ci/kubernetes_operator/table.py`); and what becomes of wrong ones.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use super::credentials::Reader;
use super::fields::Fields;
use super::generate::Common;
use super::job::{Made, duration, jobs};
use super::monitor::{Kind, Monitor, Selector};
use super::secrets::Secrets;
use super::*;
use crate::components::prometheus::operator_podmonitors::PodMonitors;
use crate::components::prometheus::operator_servicemonitors::ServiceMonitors;
use crate::config::decode_foreign;
use crate::kubernetes::{Meta, Role};
use crate::telemetry::Target;

#[test]
fn a_monitor_becomes_what_the_operator_makes_of_it() {
    let table: Json = serde_json::from_str(include_str!("table.json")).expect("the table is JSON");
    let secrets = Secrets::of(&table);
    let mut compared = 0;
    for row in table["rows"].as_array().expect("rows") {
        let (kind, role, endpoints) = match row["plural"].as_str() {
            Some("servicemonitors") => (Kind::Service, Role::Endpoints, "endpoints"),
            _ => (Kind::Pod, Role::Pod, "podMetricsEndpoints"),
        };
        let meta: Meta = serde_json::from_value(row["monitor"]["metadata"].clone()).expect("its name");
        let mut monitor = Fields::new("", &row["monitor"]["spec"]).unwrap();
        let common = Common::read(kind, role, &mut monitor).unwrap();
        let reader = Reader { secrets: &secrets, namespace: "shop", allows_files: false };
        let all: Vec<Json> = monitor.read_or(endpoints).unwrap();
        let generate = |(index, endpoint): (usize, &Json)| {
            let mut endpoint = Fields::new("", endpoint).unwrap();
            let config = common.generate(&meta, index, &mut endpoint, &reader).unwrap();
            assert_eq!(endpoint.unknown().collect::<Vec<_>>(), [""; 0], "{} {index}", meta.name);
            config
        };
        let expected = row["expected"].as_array().expect("jobs");
        assert_eq!(all.len(), expected.len());
        for (config, expected) in all.iter().enumerate().map(generate).zip(expected) {
            let expected = expected.as_object().expect("a job");
            for name in config.keys().chain(expected.keys()) {
                assert_eq!(config.get(name), expected.get(name), "{} {name}", config["job_name"]);
            }
            compared += 1;
        }
        // All of it is understood, too.
        let made = match kind {
            Kind::Service => made::<ServiceMonitors>(&row["monitor"], json!({}), &secrets),
            Kind::Pod => made::<PodMonitors>(&row["monitor"], json!({}), &secrets),
        };
        let problems: Vec<&str> = made.problems.iter().map(String::as_str).collect();
        // The table's certificates are none.
        let expected: &[&str] = match &*meta.name {
            "credentials" => &["endpoints[6]: tls_config.ca_pem: "],
            _ => &[],
        };
        assert!(
            problems.len() == expected.len() && problems.iter().zip(expected).all(|(a, b)| a.starts_with(b)),
            "{}: {problems:?}",
            meta.name
        );
    }
    assert!(compared > 20, "{compared}");
}

fn made<M: Monitors>(monitor: &Json, arguments: Json, secrets: &Secrets) -> Made {
    let mut fields: Map<String, Json> = arguments.as_object().cloned().unwrap_or_default();
    fields.insert("forward_to".to_owned(), json!([]));
    let arguments = decode_foreign(&fields, &["match_labels"]).expect("good arguments");
    let monitor: Monitor<M> = serde_json::from_value(monitor.clone()).expect("a monitor");
    jobs(&monitor, &arguments, secrets)
}

fn service_monitor(spec: Json, arguments: Json) -> Made {
    let monitor = json!({"metadata": {"namespace": "shop", "name": "web"}, "spec": spec});
    made::<ServiceMonitors>(&monitor, arguments, &Secrets::default())
}

#[test]
fn what_is_wrong_is_named_and_the_rest_goes_on() {
    let check = |endpoint: Json, problem: &str| {
        let spec = json!({"selector": {}, "endpoints": [{"port": "a"}, endpoint]});
        let made = service_monitor(spec, json!({}));
        assert_eq!((made.jobs.len(), made.problems.len()), (1, 1), "{problem}: {:?}", made.problems);
        assert!(
            made.problems[0].starts_with("endpoints[1]") && made.problems[0].contains(problem),
            "{:?}",
            made.problems
        );
    };
    check(json!({"interval": "often"}), "scrape_interval: \"often\" is no duration");
    check(json!({"interval": "1s", "scrapeTimeout": "2s"}), "not longer than scrape_interval");
    check(json!({"relabelings": [{"regex": "(", "targetLabel": "a"}]}), "relabel_configs: ");
    check(json!({"relabelings": [{"target_label": "a"}]}), "relabelings[0].target_label: is not known here");
    check(json!({"metricRelabelings": [{"action": "fly"}]}), "metric_relabel_configs: ");
    check(json!({"basicAuth": {"username": {"name": "none", "key": "x"}}}), "secrets shop/none");
    check(json!({"tlsConfig": {"maxVersion": "TLS12"}}), "max_version");
    check(json!({"tlsConfig": {"caFile": "/ca"}}), "allow_arbitrary_file_access");
    check(json!({"bearerTokenFile": "/token"}), "allow_arbitrary_file_access");
    check(json!({"scheme": "ftp"}), "\"http\" or \"https\"");
    check(json!(5), "is no object");

    let check = |spec: Json, problem: &str| {
        let made = service_monitor(spec, json!({}));
        assert_eq!((made.jobs.len(), made.problems.as_slice()), (0, [problem.to_owned()].as_slice()));
    };
    check(json!(null), "spec is no object");
    check(json!({"endpoints": []}), "selector: is missing");
    check(json!({"selector": {}, "scrapeClass": "x"}), "scrapeClass: scrape classes are not supported here");
    let wrong = json!({"matchExpressions": [{"key": "a", "operator": "Like"}]});
    check(
        json!({"selector": wrong}),
        "selector.matchExpressions: \"Like\" is none of In, NotIn, Exists, DoesNotExist",
    );

    let made = service_monitor(
        json!({"selector": {}, "endpoints": [{"port": "a", "new": 1}], "other": 2}),
        json!({}),
    );
    assert_eq!((made.jobs.len(), made.unknown), (1, vec!["other".to_owned(), "endpoints[0].new".to_owned()]));
}

#[test]
fn what_a_monitor_leaves_open_is_as_the_block_says() {
    let check = |spec: Json, arguments: Json, expected: (u64, u64, usize)| {
        let made = service_monitor(spec, arguments);
        let settings = &made.jobs[0].options.settings;
        let found =
            (settings.interval.as_secs(), settings.limits.timeout.as_secs(), settings.policy.sample_limit);
        assert_eq!(found, expected);
    };
    let plain = json!({"selector": {}, "endpoints": [{}]});
    let often = json!({"selector": {}, "sampleLimit": 7, "endpoints": [{"interval": "5s"}]});
    let defaults = json!({"scrape": {"default_scrape_interval": "2m", "default_scrape_timeout": "20s", "default_sample_limit": 9}});
    check(plain.clone(), json!({}), (60, 10, 0));
    check(plain, defaults.clone(), (120, 20, 9));
    check(often, defaults, (5, 5, 7));
}

#[test]
fn targets_are_made_as_prometheus_makes_them() {
    let spec = json!({"selector": {}, "endpoints": [{
    "port": "http", "interval": "30s", "path": "/m", "params": {"a": ["1", "2"], "b": ["3"]},
    "relabelings": [
        {"sourceLabels": ["__meta_kubernetes_pod_name"], "regex": "slow", "targetLabel": "__scrape_interval__", "replacement": "1m"},
        {"sourceLabels": ["__meta_kubernetes_pod_name"], "regex": "gone", "action": "drop"},
        {"sourceLabels": ["__meta_kubernetes_pod_name"], "regex": "odd", "targetLabel": "__scrape_interval__", "replacement": "x"},
        {"sourceLabels": ["first"], "targetLabel": "copy"},
    ]}]});
    let arguments = json!({"rule": {"target_label": "first", "replacement": "component"}});
    let made = service_monitor(spec, arguments.clone());
    let job = &made.jobs[0];
    let found = ["web", "slow", "gone", "odd", "other-port"].map(|pod| {
        let port = if pod == "other-port" { "x" } else { "http" };
        let labels = [
            ("__address__", "10.0.0.1:80"),
            ("__meta_kubernetes_endpoint_port_name", port),
            ("__meta_kubernetes_namespace", "shop"),
            ("__meta_kubernetes_service_name", "front"),
            ("__meta_kubernetes_pod_name", pod),
        ];
        Target(labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
    });
    let rules = {
        let mut fields = arguments.as_object().cloned().unwrap_or_default();
        fields.insert("forward_to".to_owned(), json!([]));
        decode_foreign::<super::arguments::Arguments<ServiceMonitors>>(&fields, &[]).unwrap().rules
    };
    let (targets, problems) = job.targets(&rules, found.to_vec(), &[]);
    assert_eq!(problems.len(), 1, "{problems:?}");
    let mut paces: Vec<u64> = targets.values().map(|(_, interval, _)| interval.as_secs()).collect();
    paces.sort_unstable();
    assert_eq!(paces, [30, 60]);
    let (spec, ..) = targets.values().find(|(_, interval, _)| interval.as_secs() == 30).unwrap();
    assert_eq!(spec.url.to_string(), "http://10.0.0.1:80/m?a=1&a=2&b=3");
    let expected = [
        ("copy", "component"),
        ("endpoint", "http"),
        ("first", "component"),
        ("instance", "10.0.0.1:80"),
        ("job", "front"),
        ("namespace", "shop"),
        ("pod", "web"),
        ("service", "front"),
    ];
    let expected =
        crate::scraping::TargetLabels::new(expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(spec.labels, expected);
}

#[test]
fn selectors_select_as_kubernetes_does() {
    let labels: BTreeMap<Box<str>, Box<str>> =
        [("app".into(), "web".into()), ("x/y".into(), "1.2".into())].into();
    let check = |selector: Json, expected: bool| {
        let selector = Selector::read(&mut Fields::new("", &json!({"selector": selector})).unwrap()).unwrap();
        assert_eq!(selector.selects(&labels), expected, "{selector}");
    };
    let expression = |operator: &str, key: &str, values: &[&str]| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
    check(json!({}), true);
    check(json!({"matchLabels": {"app": "web"}}), true);
    check(json!({"matchLabels": {"app": "web", "x/y": "1x2"}}), false);
    check(expression("In", "app", &["api", "web"]), true);
    check(expression("In", "none", &["web"]), false);
    check(expression("NotIn", "app", &["web"]), false);
    check(expression("NotIn", "none", &["web"]), true);
    check(expression("Exists", "x/y", &[]), true);
    check(expression("Exists", "x", &[]), false);
    check(expression("DoesNotExist", "x", &[]), true);
    check(expression("DoesNotExist", "app", &[]), false);
}

#[test]
fn durations_are_prometheus() {
    let check = |text: &str, seconds: Option<u64>| {
        assert_eq!(duration(text).map(|found| found.as_secs()), seconds, "{text}");
    };
    check("1m30s", Some(90));
    check("1d", Some(86_400));
    check("1w2d1h", Some(9 * 86_400 + 3600));
    check("1y", Some(365 * 86_400));
    check("", None);
    check("5", None);
    check("d", None);
}
