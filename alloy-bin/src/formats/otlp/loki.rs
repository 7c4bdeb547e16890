//! OTLP logs -> lines as Loki has them.
//!
//! Attributes are labels only where a record or its resource says so: `loki.attribute.labels` and `loki.resource.labels` name
//! them, `loki.tenant` one more, and `loki.format` says what a line is written in. The words and the JSON are those of the
//! OpenTelemetry collector's Loki translator, which Alloy uses.

use std::collections::HashMap;
use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Map;

use super::prometheus::label_name;
use super::schema::SEVERITIES;
use super::value::{Value, all, attributes, fields, hex, json_object, last, text};
use crate::formats::wire::Field;
use crate::telemetry::{Labels, LogBatch, LogEntry, LogStream, OtlpBatch};

const ATTRIBUTE_LABELS: &str = "loki.attribute.labels";
const RESOURCE_LABELS: &str = "loki.resource.labels";
const TENANT: &str = "loki.tenant";
const FORMAT: &str = "loki.format";
const LEVEL: &str = "level";

/// The lines of a message that was checked before, and how many records are none, and why.
pub fn otlp_to_loki(batch: &OtlpBatch, lane: u64, now_ns: i64) -> (LogBatch, u64, &'static str) {
    let mut streams: Vec<LogStream> = Vec::new();
    let mut places: HashMap<Labels, usize> = HashMap::new();
    let (mut dropped, mut reason) = (0, "");
    for resource_logs in all(&batch.body, 1) {
        let resource: Attributes<'_> = attributes(last(resource_logs, 1), 1).collect();
        for scope_logs in all(resource_logs, 2) {
            for bytes in all(scope_logs, 2) {
                let record = Record::of(bytes, &resource, last(scope_logs, 1));
                match record.line() {
                    Ok(line) => {
                        let named = record.labels.iter().map(|(name, value)| (label_name(name), value));
                        let labels = Labels::new(named);
                        let place = *places.entry(labels.clone()).or_insert_with(|| {
                            streams.push(LogStream { labels, entries: Vec::new() });
                            streams.len() - 1
                        });
                        let time_ns = record.time_ns.map_or(now_ns, |time_ns| time_ns as i64);
                        streams[place].entries.push(LogEntry::new(time_ns, line));
                    }
                    Err(fault) => (dropped, reason) = (dropped + 1, fault),
                }
            }
        }
    }
    (LogBatch { streams, lane, taken_ns: now_ns, origin: None }, dropped, reason)
}

type Attributes<'b> = Vec<(&'b str, Value<'b>)>;

fn find<'b>(attributes: &Attributes<'b>, wanted: &str) -> Option<Value<'b>> {
    attributes.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value)
}

/// The attribute of that name, or the one inside an object whose name the text before a dot is.
fn find_inside<'b>(all: &Attributes<'b>, wanted: &str) -> Option<Value<'b>> {
    find(all, wanted).or_else(|| {
        let (outer, inner) = wanted.split_once('.')?;
        let Some(Value::Object(object)) = find(all, outer) else { return None };
        find_inside(&attributes(object, 1).collect(), inner)
    })
}

/// A log record, with what becomes its labels by their names before they are fit for Loki.
struct Record<'b> {
    bytes: &'b [u8],
    resource: &'b Attributes<'b>,
    scope: &'b [u8],
    attributes: Attributes<'b>,
    labels: Vec<(String, String)>,
    time_ns: Option<u64>,
    flags: u32,
}

impl<'b> Record<'b> {
    fn of(bytes: &'b [u8], resource: &'b Attributes<'b>, scope: &'b [u8]) -> Self {
        let (mut times, mut severity, mut flags) = ([0; 2], 0, 0);
        for (number, field) in fields(bytes) {
            match (number, field) {
                (1, Field::Fixed64(time)) => times[0] = time,
                (11, Field::Fixed64(time)) => times[1] = time,
                (2, Field::Varint(number)) => severity = number as usize,
                (8, Field::Fixed32(bits)) => flags = bits,
                _ => {}
            }
        }
        let mut attributes: Attributes<'b> = attributes(bytes, 6).collect();
        let level = (severity > 0).then(|| SEVERITIES.get(severity)).flatten();
        if let Some(level) = level.filter(|_| find(&attributes, LEVEL).is_none()) {
            attributes.push((LEVEL, Value::Text(level)));
        }
        let time_ns = times.into_iter().find(|time| *time > 0);
        let mut record = Record { bytes, resource, scope, attributes, labels: Vec::new(), time_ns, flags };
        record.name_labels(severity > 0);
        record
    }

    fn name_labels(&mut self, has_level: bool) {
        let (own, resource) = (&self.attributes, self.resource);
        let mut labels = vec![("exporter".to_owned(), "OTLP".to_owned())];
        let mut add =
            |name: &str, value: Value<'_>| labels.push((name.to_owned(), value.text().into_owned()));
        let [namespace, name] = ["service.namespace", "service.name"].map(|wanted| find(resource, wanted));
        match (namespace, name) {
            (Some(namespace), Some(name)) => {
                add("job", Value::Text(&format!("{}/{}", namespace.text(), name.text())));
            }
            (_, Some(name)) => add("job", name),
            _ => {}
        }
        if let Some(instance) = find(resource, "service.instance.id") {
            add("instance", instance);
        }
        let tenant = [resource, own].into_iter().find_map(|from| Some((from, find(from, TENANT)?)));
        let level = has_level.then_some((own, Value::Text(LEVEL)));
        let hints = [
            find(resource, RESOURCE_LABELS).map(|names| (resource, names)),
            find(own, RESOURCE_LABELS).map(|names| (resource, names)),
            find(own, ATTRIBUTE_LABELS).map(|names| (own, names)),
            level,
            tenant,
        ];
        for (from, names) in hints.into_iter().flatten() {
            for name in listed(names) {
                if let Some(value) = find_inside(from, name.trim()) {
                    add(name.trim(), value);
                }
            }
        }
        self.labels = labels;
    }

    /// The attributes that are neither labels nor hints.
    fn left<'r>(&'r self, of: &'r Attributes<'b>) -> impl Iterator<Item = (&'b str, Value<'b>)> + 'r {
        let is_hint = |name: &str| [ATTRIBUTE_LABELS, RESOURCE_LABELS, TENANT, FORMAT].contains(&name);
        let is_label = |name: &str| self.labels.iter().any(|(label, _)| label == name);
        of.iter().copied().filter(move |(name, _)| !is_hint(name) && !is_label(name))
    }

    fn line(&self) -> Result<String, &'static str> {
        let format = find(self.resource, FORMAT).or_else(|| find(&self.attributes, FORMAT));
        let body = Value::of(last(self.bytes, 5));
        match format.map_or("json".into(), Value::text).as_ref() {
            "json" => Ok(self.json(body)),
            "logfmt" => Ok(self.logfmt(body)),
            "raw" => Ok(body.text().into_owned()),
            _ => Err("loki.format is none of \"json\", \"logfmt\" and \"raw\""),
        }
    }

    fn json(&self, body: Value<'_>) -> String {
        let [name, version] = [1, 2].map(|number| text(last(self.scope, number)));
        let line = JsonLine {
            body: (!matches!(body, Value::Nothing)).then(|| body.json()),
            traceid: self.id(9),
            spanid: self.id(10),
            severity: text(last(self.bytes, 3)),
            flags: self.flags,
            attributes: json_object(self.left(&self.attributes)),
            resources: json_object(self.left(self.resource)),
            instrumentation_scope: (!name.is_empty()).then_some(JsonScope { name, version }),
        };
        serde_json::to_string(&line).expect("names are text, and so is what is no number")
    }

    fn logfmt(&self, body: Value<'_>) -> String {
        let mut line = String::new();
        match body {
            // It is logfmt already, as far as one can see.
            Value::Text(text) if text.contains('=') => line.push_str(text),
            Value::Object(_) => pairs(&mut line, "", body),
            Value::List(_) => pairs(&mut line, "body", body),
            _ => pairs(&mut line, "msg", body),
        }
        let text_of = |number| text(last(self.bytes, number));
        let flags = if self.flags == 0 { String::new() } else { self.flags.to_string() };
        let (trace, span) = (self.id(9), self.id(10));
        for (name, value) in
            [("traceID", trace.as_str()), ("spanID", &span), ("severity", text_of(3)), ("flags", &flags)]
        {
            if !value.is_empty() {
                pairs(&mut line, name, Value::Text(value));
            }
        }
        for (prefix, of) in [("attribute_", &self.attributes), ("resource_", self.resource)] {
            self.left(of).for_each(|(name, value)| pairs(&mut line, &format!("{prefix}{name}"), value));
        }
        for (name, number) in [("instrumentation_scope_name", 1), ("instrumentation_scope_version", 2)] {
            let value = text(last(self.scope, number));
            if !value.is_empty() {
                pairs(&mut line, name, Value::Text(value));
            }
        }
        line
    }

    /// An id, or nothing if it is all zeros.
    fn id(&self, number: u64) -> String {
        let id = last(self.bytes, number);
        if id.iter().all(|byte| *byte == 0) { String::new() } else { hex(id) }
    }
}

#[derive(Serialize)]
struct JsonLine<'l> {
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "String::is_empty")]
    traceid: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    spanid: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    severity: &'l str,
    #[serde(skip_serializing_if = "is_zero")]
    flags: u32,
    #[serde(skip_serializing_if = "Map::is_empty")]
    attributes: Map<String, serde_json::Value>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    resources: Map<String, serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instrumentation_scope: Option<JsonScope<'l>>,
}

#[derive(Serialize)]
struct JsonScope<'l> {
    name: &'l str,
    #[serde(skip_serializing_if = "str::is_empty")]
    version: &'l str,
}

fn is_zero(value: &u32) -> bool {
    *value == 0
}

/// The names in a hint: a list, or a text with commas.
fn listed(names: Value<'_>) -> Vec<String> {
    match names {
        Value::List(list) => Value::members(list).map(|name| name.text().into_owned()).collect(),
        names => names.text().split(',').map(str::to_owned).collect(),
    }
}

/// `key=value`, of what is inside one another with the keys joined.
fn pairs(line: &mut String, key: &str, value: Value<'_>) {
    let inside = |name: &str| if key.is_empty() { name.to_owned() } else { format!("{key}_{name}") };
    match value {
        Value::Nothing => {}
        Value::Object(object) => {
            attributes(object, 1).for_each(|(name, value)| pairs(line, &inside(name), value));
        }
        Value::List(list) => {
            let members = Value::members(list).enumerate();
            members.for_each(|(index, value)| pairs(line, &inside(&index.to_string()), value));
        }
        value => {
            let value = value.text();
            let is_odd = |c: char| c <= ' ' || matches!(c, '=' | '"' | '\u{fffd}');
            line.push_str(if line.is_empty() { "" } else { " " });
            line.extend(key.chars().filter(|c| !is_odd(*c)));
            let _ = if value.contains(is_odd) || value == "null" {
                write!(line, "={}", serde_json::Value::from(value))
            } else {
                write!(line, "={value}")
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::otlp_from_json;
    use crate::telemetry::Signal;

    /// The streams of one record as text.
    fn check(resource: &str, record: &str, labels: &str, line: &str) {
        let text = format!(
            r#"{{"resourceLogs":[{{"resource":{{"attributes":[{resource}]}},
               "scopeLogs":[{{"scope":{{"name":"lib","version":"1"}},"logRecords":[{{{record}}}]}}]}}]}}"#
        );
        let batch = otlp_from_json(Signal::Logs, text.as_bytes(), 1 << 20)
            .unwrap_or_else(|error| panic!("{error}: {text}"));
        let (lines, dropped, reason) = otlp_to_loki(&batch, 0, 7);
        let seen: Vec<_> = lines
            .streams
            .iter()
            .map(|stream| {
                let texts: Vec<_> = stream
                    .entries
                    .iter()
                    .map(|entry| format!("{} {}", entry.timestamp_ns, String::from_utf8_lossy(&entry.line)))
                    .collect();
                (stream.labels.as_ref().to_string(), texts.join("\n"))
            })
            .collect();
        let expected: Vec<_> =
            (!line.is_empty()).then(|| (labels.to_owned(), line.to_owned())).into_iter().collect();
        assert_eq!((seen, dropped > 0), (expected, !reason.is_empty()), "{record}");
    }

    const SHOP: &str = r#"{"key":"service.name","value":{"stringValue":"shop"}},{"key":"service.namespace","value":{"stringValue":"web"}},
        {"key":"service.instance.id","value":{"stringValue":"i"}}"#;

    #[test]
    fn a_record_is_a_line_of_json_with_the_labels_that_everybody_has() {
        check(
            SHOP,
            r#""timeUnixNano":"5","severityNumber":10,"severityText":"info","body":{"stringValue":"hi <b>"},"flags":1,
               "traceId":"01020304000000000000000000000000","spanId":"0506070800000000","attributes":[{"key":"a","value":{"doubleValue":2}}]"#,
            r#"{exporter="OTLP", instance="i", job="web/shop", level="INFO2"}"#,
            r#"5 {"body":"hi <b>","traceid":"01020304000000000000000000000000","spanid":"0506070800000000","severity":"info","flags":1,"attributes":{"a":2},"resources":{"service.instance.id":"i","service.name":"shop","service.namespace":"web"},"instrumentation_scope":{"name":"lib","version":"1"}}"#,
        );
        check(
            "",
            r#""observedTimeUnixNano":"6""#,
            r#"{exporter="OTLP"}"#,
            r#"6 {"instrumentation_scope":{"name":"lib","version":"1"}}"#,
        );
        check("", "", r#"{exporter="OTLP"}"#, r#"7 {"instrumentation_scope":{"name":"lib","version":"1"}}"#);
    }

    #[test]
    fn hints_name_what_becomes_a_label() {
        let hint = |name: &str, value: &str| {
            format!(r#"{{"key":"loki.{name}","value":{{"stringValue":"{value}"}}}}"#)
        };
        let host = r#"{"key":"host.name","value":{"stringValue":"h"}}"#;
        let nested = r#"{"key":"http","value":{"kvlistValue":{"values":[{"key":"status","value":{"intValue":200}}]}}}"#;
        let raw = hint("format", "raw");
        check(
            &format!("{host},{raw},{}", hint("resource.labels", "host.name, gone")),
            &format!(
                r#""body":{{"stringValue":"x"}},"attributes":[{nested},{}]"#,
                hint("attribute.labels", "http.status")
            ),
            r#"{exporter="OTLP", host_name="h", http_status="200"}"#,
            "7 x",
        );
        check(
            host,
            &format!(
                r#""severityNumber":17,"attributes":[{},{{"key":"level","value":{{"stringValue":"bad"}}}},{{"key":"loki.resource.labels",
                   "value":{{"arrayValue":{{"values":[{{"stringValue":"host.name"}}]}}}}}},{},{{"key":"t","value":{{"stringValue":"me"}}}}]"#,
                raw,
                hint("tenant", "t")
            ),
            r#"{exporter="OTLP", host_name="h", level="bad", t="me"}"#,
            "7 ",
        );
        check("", &format!(r#""attributes":[{}]"#, hint("format", "xml")), "", "");
    }

    #[test]
    fn logfmt_says_the_same_in_pairs() {
        let with = |body: &str| {
            format!(
                r#""body":{body},"severityText":"error","attributes":[{{"key":"loki.format","value":{{"stringValue":"logfmt"}}}},
                   {{"key":"a b","value":{{"arrayValue":{{"values":[{{"stringValue":"two words"}},{{"boolValue":true}}]}}}}}}]"#
            )
        };
        let rest = r#"severity=error attribute_ab_0="two words" attribute_ab_1=true resource_host.name=h instrumentation_scope_name=lib instrumentation_scope_version=1"#;
        let host = r#"{"key":"host.name","value":{"stringValue":"h"}}"#;
        for (body, begin) in [
            (r#"{"stringValue":"it works"}"#, r#"msg="it works""#),
            (r#"{"stringValue":"a=1 b=2"}"#, "a=1 b=2"),
            (
                r#"{"kvlistValue":{"values":[{"key":"k","value":{"stringValue":"say \"it\""}}]}}"#,
                r#"k="say \"it\"""#,
            ),
            (r#"{"arrayValue":{"values":[{"intValue":3}]}}"#, "body_0=3"),
        ] {
            check(host, &with(body), r#"{exporter="OTLP"}"#, &format!("7 {begin} {rest}"));
        }
    }

    #[test]
    fn lines_of_one_stream_are_together() {
        let text = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"severityNumber":9},{"severityNumber":17},{"severityNumber":9}]}]}]}"#;
        let batch = otlp_from_json(Signal::Logs, text.as_bytes(), 1 << 20).expect("valid");
        let (lines, ..) = otlp_to_loki(&batch, 3, 7);
        let lengths: Vec<_> = lines.streams.iter().map(|stream| stream.entries.len()).collect();
        assert_eq!((lengths, lines.lane, lines.taken_ns), (vec![2, 1], 3, 7));
    }
}
