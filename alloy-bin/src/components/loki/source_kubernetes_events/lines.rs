//! Events -> lines with labels, as Alloy writes them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::json;

use crate::kubernetes::{Meta, Object};
use crate::telemetry::{Labels, LogBatch, LogEntry, LogStream};

/// What becomes of an event.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shape {
    /// The line is a JSON object.
    pub(super) is_json: bool,
    /// The label `job`.
    pub(super) job: String,
}

/// An event.
#[derive(Debug, PartialEq, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Event {
    metadata: Meta,
    involved_object: Involved,
    action: String,
    reporting_instance: String,
    reporting_component: String,
    source: Source,
    reason: String,
    r#type: String,
    count: u64,
    message: String,
    last_timestamp: Option<String>,
    event_time: Option<String>,
    /// Where the watcher takes the version from the object, it is kept here.
    #[serde(skip)]
    version: String,
}

#[derive(Debug, PartialEq, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Involved {
    kind: String,
    namespace: String,
    name: String,
    api_version: String,
    resource_version: String,
}

#[derive(Debug, PartialEq, Deserialize, Default)]
#[serde(default)]
struct Source {
    component: String,
    host: String,
}

impl Object for Event {
    const GROUP: &'static str = "/api/v1";
    const PLURAL: &'static str = "events";

    fn meta(&mut self) -> &mut Meta {
        // Before it is taken out: the line says it.
        if self.version.is_empty() {
            self.version = self.metadata.resource_version.to_string();
        }
        &mut self.metadata
    }
}

/// The lines of the events, in their order in each stream. An event that is about nothing gives none.
pub(super) fn batch<'e>(
    shape: &Shape,
    id: &str,
    lane: u64,
    events: impl IntoIterator<Item = &'e Event>,
) -> LogBatch {
    let mut streams: BTreeMap<&str, Vec<LogEntry>> = BTreeMap::new();
    for event in events {
        if !event.involved_object.name.is_empty() {
            let entry = LogEntry::new(event.time_ns(), event.line(shape.is_json));
            streams.entry(&event.involved_object.namespace).or_default().push(entry);
        }
    }
    // Not the clock: what is read again after a crash has to come out the same.
    let taken_ns = streams.values().flatten().map(|entry| entry.timestamp_ns).max().unwrap_or_default();
    let stream = |(namespace, entries)| {
        let labels = Labels::new([("namespace", namespace), ("job", shape.job.as_str()), ("instance", id)]);
        LogStream { labels, entries }
    };
    LogBatch { streams: streams.into_iter().map(stream).collect(), lane, taken_ns, origin: None }
}

impl Event {
    /// When it happened last.
    fn time_ns(&self) -> i64 {
        let Event { last_timestamp, event_time, .. } = self;
        let times = [last_timestamp, event_time].into_iter().flatten();
        let parsed = times.filter_map(|time| time.parse::<jiff::Timestamp>().ok()).next();
        parsed.and_then(|time| i64::try_from(time.as_nanosecond()).ok()).unwrap_or_default()
    }

    fn line(&self, is_json: bool) -> String {
        let Event { source, involved_object: object, .. } = self;
        let texts = [
            ("name", &object.name),
            ("kind", &object.kind),
            ("action", &self.action),
            ("objectAPIversion", &object.api_version),
            ("objectRV", &object.resource_version),
            ("eventRV", &self.version),
            ("reportinginstance", &self.reporting_instance),
            ("reportingcontroller", &self.reporting_component),
            ("sourcecomponent", &source.component),
            ("sourcehost", &source.host),
            ("reason", &self.reason),
            ("type", &self.r#type),
        ];
        let texts = texts.into_iter().filter(|(_, value)| !value.is_empty());
        let (count, message) = (self.count, &self.message);
        if is_json {
            let mut fields: BTreeMap<&str, serde_json::Value> =
                texts.map(|(name, value)| (name, json!(value))).collect();
            if count != 0 {
                fields.insert("count", json!(count));
            }
            fields.insert("msg", json!(message));
            return serde_json::to_string(&fields).expect("text is always JSON");
        }
        let mut line: String = texts.map(|(name, value)| format!("{name}={value} ")).collect();
        if count != 0 {
            line.push_str(&format!("count={count} "));
        }
        // JSON quotes as Go does, but for characters that nobody uses in messages.
        line.push_str(&format!("msg={} ", json!(message)));
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_written_as_in_alloy() {
        let text = r#"{"metadata": {"name": "web.1", "namespace": "shop", "resourceVersion": "77"},
            "involvedObject": {"kind": "Pod", "namespace": "shop", "name": "web", "apiVersion": "v1", "resourceVersion": "70"},
            "reason": "Pulled", "message": "said \"yes\"", "type": "Normal", "count": 3,
            "source": {"component": "kubelet", "host": "node-1"}, "reportingComponent": "kubelet", "reportingInstance": "node-1",
            "firstTimestamp": null, "lastTimestamp": "2023-11-14T22:13:20Z", "eventTime": null}"#;
        let mut event: Event = serde_json::from_str(text).unwrap();
        std::mem::take(&mut event.meta().resource_version);
        let check = |is_json: bool, expected: &str| {
            let batch = batch(&Shape { is_json, job: "j".to_owned() }, "id", 1, [&event]);
            let stream = &batch.streams[0];
            assert_eq!(format!("{:?}", stream.labels), r#"{instance="id", job="j", namespace="shop"}"#);
            assert_eq!(stream.entries, [LogEntry::new(1_700_000_000_000_000_000, expected.to_owned())]);
        };
        check(
            false,
            "name=web kind=Pod objectAPIversion=v1 objectRV=70 eventRV=77 reportinginstance=node-1 \
             reportingcontroller=kubelet sourcecomponent=kubelet sourcehost=node-1 reason=Pulled type=Normal count=3 \
             msg=\"said \\\"yes\\\"\" ",
        );
        check(
            true,
            "{\"count\":3,\"eventRV\":\"77\",\"kind\":\"Pod\",\"msg\":\"said \\\"yes\\\"\",\"name\":\"web\",\
             \"objectAPIversion\":\"v1\",\"objectRV\":\"70\",\"reason\":\"Pulled\",\"reportingcontroller\":\"kubelet\",\
             \"reportinginstance\":\"node-1\",\"sourcecomponent\":\"kubelet\",\"sourcehost\":\"node-1\",\"type\":\"Normal\"}",
        );
    }
}
