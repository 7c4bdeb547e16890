//! The blocks `stage.NAME`: what they say -> stages.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::{Body, ByteSize, ConversionError, FromValue, Value};
use crate::stages::{
    Cri, Drop, Json, LabelSource, Limit, Logfmt, Mapping, Match, Multiline, OnFailure, Regex, Replace,
    Selector, Stage, Tenant, TimeFormat, Timestamp,
};

/// The stages that are here.
const NAMES: [&str; 18] = [
    "stage.cri",
    "stage.docker",
    "stage.drop",
    "stage.json",
    "stage.label_drop",
    "stage.label_keep",
    "stage.labels",
    "stage.limit",
    "stage.logfmt",
    "stage.match",
    "stage.multiline",
    "stage.output",
    "stage.regex",
    "stage.replace",
    "stage.static_labels",
    "stage.structured_metadata",
    "stage.tenant",
    "stage.timestamp",
];

/// Alloy's others, and what does instead.
const ELSEWHERE: [(&str, &str); 14] = [
    ("stage.decolorize", "stage.replace with expression = `(\\x1b\\[[0-9;]*m)` takes colours out"),
    ("stage.eventlogmessage", "stage.regex can take the message apart"),
    ("stage.geoip", "look addresses up where they are shown"),
    ("stage.luhn", "stage.replace with an expression for the numbers can hide them"),
    ("stage.metrics", "count lines with Loki's recording rules: metrics of an agent that dies begin anew"),
    ("stage.pack", "stage.structured_metadata keeps values beside the line"),
    ("stage.pattern", "stage.regex does the same with named groups"),
    ("stage.sampling", "stage.limit and stage.drop make the lines fewer"),
    ("stage.split_json", "stage.json can extract what is in the line"),
    ("stage.structured_metadata_drop", "leave it out of stage.structured_metadata"),
    ("stage.template", "stage.replace has templates"),
    ("stage.truncate", "stage.replace with expression = `^.{1000}(.*)$` and replace = \"\" cuts lines"),
    ("stage.windowsevent", "stage.regex can take the message apart"),
    ("stage.non_indexed_labels", "its name is stage.structured_metadata now"),
];

/// All stages of the body, in their order.
pub(super) fn stages(body: &mut Body<'_>) -> Vec<Stage> {
    let names: Vec<&str> = NAMES.into_iter().chain(ELSEWHERE.map(|(name, _)| name)).collect();
    let stages = body.blocks_of(&names, |name, body| match stage(name, body) {
        Ok(stage) => Some(stage),
        Err(reason) => {
            body.error(format!("{name}: {reason}"));
            None
        }
    });
    stages.into_iter().flatten().collect()
}

fn stage(name: &str, body: &mut Body<'_>) -> Result<Stage, String> {
    let some = |text: String| (!text.is_empty()).then_some(text);
    Ok(match name {
        "stage.cri" => {
            let max_partial_lines = body.optional("max_partial_lines", 100);
            let max = body.optional("max_partial_line_size", ByteSize(0)).0 as usize;
            let is_cut = body.optional("max_partial_line_size_truncate", false);
            if is_cut && max == 0 {
                return Err("max_partial_line_size_truncate needs a max_partial_line_size".to_owned());
            }
            Stage::Cri(Cri { max_partial_lines, max_bytes: is_cut.then_some(max) })
        }
        "stage.docker" => Stage::Docker,
        "stage.drop" => {
            let source: String = body.optional("source", String::new());
            let separator: String = body.optional("separator", ";".to_owned());
            let (expression, value) = (text(body, "expression"), text(body, "value"));
            let older_than: Duration = body.optional("older_than", Duration::ZERO);
            let longer_than = body.optional("longer_than", ByteSize(0)).0 as usize;
            let reason = body.optional("drop_counter_reason", "drop_stage".to_owned());
            let older_than = (!older_than.is_zero()).then_some(older_than);
            let longer_than = (longer_than > 0).then_some(longer_than);
            let drop = Drop::new(&source, &separator, (&expression, &value), older_than, longer_than)?;
            Stage::Drop(drop, some(reason).unwrap_or_else(|| "drop_stage".to_owned()))
        }
        "stage.json" => {
            body.unsupported(&["regex"]);
            let expressions: BTreeMap<String, String> = body.required("expressions");
            let source = text(body, "source");
            let drop_malformed = body.optional("drop_malformed", false);
            Stage::Json(Json::new(expressions, some(source), drop_malformed)?)
        }
        "stage.label_drop" => Stage::LabelDrop(names(body)?),
        "stage.label_keep" => Stage::LabelKeep(names(body)?),
        "stage.labels" => {
            let mapping = mapping(body)?;
            Stage::Labels(mapping, body.optional("source_type", LabelSource::default()))
        }
        "stage.limit" => {
            let (rate, burst) = (body.required("rate"), body.required("burst"));
            let drop = body.optional("drop", false);
            let by_label = text(body, "by_label_name");
            let labels_max = body.optional("max_distinct_labels", 10_000);
            Stage::Limit(Limit::new(rate, burst, drop, some(by_label), labels_max)?)
        }
        "stage.logfmt" => {
            body.unsupported(&["regex"]);
            let mapping: BTreeMap<String, String> = body.required("mapping");
            let source = text(body, "source");
            Stage::Logfmt(Logfmt::new(mapping, some(source))?)
        }
        "stage.match" => return matched(body).map(Stage::Match),
        "stage.multiline" => {
            let firstline: String = body.required("firstline");
            let max_lines = body.optional("max_lines", 128);
            let max_wait = body.optional("max_wait_time", Duration::from_secs(3));
            let trim_newlines = body.optional("trim_newlines", true);
            Stage::Multiline(Multiline::new(&firstline, max_lines, max_wait, trim_newlines)?)
        }
        "stage.output" => Stage::Output(body.required("source")),
        "stage.regex" => {
            let expression: String = body.required("expression");
            let source = text(body, "source");
            let labels = body.optional("labels_from_groups", false);
            Stage::Regex(Regex::new(&expression, some(source), labels)?)
        }
        "stage.replace" => {
            let expression: String = body.required("expression");
            let (replace, source) = (text(body, "replace"), text(body, "source"));
            Stage::Replace(Replace::new(&expression, &replace, some(source))?)
        }
        "stage.static_labels" => {
            let values: BTreeMap<String, Option<String>> = body.required("values");
            let values: BTreeMap<String, String> =
                values.into_iter().filter_map(|(name, value)| Some((name, value.and_then(some)?))).collect();
            // Their names are checked as those of other labels.
            Mapping::new(values.keys().map(|name| (name.clone(), None)).collect())?;
            Stage::StaticLabels(values.into_iter().collect())
        }
        "stage.structured_metadata" => {
            body.unsupported(&["regex"]);
            Stage::StructuredMetadata(mapping(body)?)
        }
        "stage.tenant" => Stage::Tenant(tenant(body)?),
        "stage.timestamp" => Stage::Timestamp(timestamp(body)?),
        other => {
            let instead = ELSEWHERE.iter().find(|(name, _)| *name == other).map_or("", |(_, text)| text);
            return Err(format!("this stage of Alloy's is not supported here: {instead}"));
        }
    })
}

fn text(body: &mut Body<'_>, name: &str) -> String {
    body.optional(name, String::new())
}

fn names(body: &mut Body<'_>) -> Result<Vec<String>, String> {
    let values: Vec<String> = body.required("values");
    if values.is_empty() { Err("values must not be empty".to_owned()) } else { Ok(values) }
}

fn mapping(body: &mut Body<'_>) -> Result<Mapping, String> {
    Mapping::new(body.required("values"))
}

fn matched(body: &mut Body<'_>) -> Result<Match, String> {
    let selector: String = body.required("selector");
    let action = body.optional("action", "keep".to_owned());
    let reason = body.optional("drop_counter_reason", "match_stage".to_owned());
    let _: String = text(body, "pipeline_name");
    let inner = stages(body);
    let selector = Selector::new(&selector)?;
    match (action.as_str(), inner.is_empty()) {
        ("keep", false) => Ok(Match::Keep(selector, inner)),
        ("keep", true) => Err("at least one stage is needed inside, unless action is \"drop\"".to_owned()),
        ("drop", true) => Ok(Match::Drop(selector, reason)),
        ("drop", false) => Err("with action = \"drop\" there can be no stages inside".to_owned()),
        _ => Err("action must be \"keep\" or \"drop\"".to_owned()),
    }
}

fn tenant(body: &mut Body<'_>) -> Result<Tenant, String> {
    let (label, source, value) = (text(body, "label"), text(body, "source"), text(body, "value"));
    match (label.is_empty(), source.is_empty(), value.is_empty()) {
        (false, true, true) => Ok(Tenant::Label(label)),
        (true, false, true) => Ok(Tenant::Source(source)),
        (true, true, false) => Ok(Tenant::Value(value)),
        _ => Err("exactly one of label, source and value must be set".to_owned()),
    }
}

fn timestamp(body: &mut Body<'_>) -> Result<Timestamp, String> {
    let source: String = body.required("source");
    let format: String = body.required("format");
    let fallbacks: Vec<String> = body.optional("fallback_formats", Vec::new());
    let location: Option<String> = body.optional("location", None);
    let on_failure = body.optional("action_on_failure", OnFailure::default());
    body.unsupported(&["action_on_duplicate_timestamp"]);
    if source.is_empty() || format.is_empty() {
        return Err("source and format must not be empty".to_owned());
    }
    let location = location.filter(|location| !location.is_empty());
    let all = std::iter::once(&format).chain(&fallbacks);
    let formats = all.map(|format| TimeFormat::new(format, location.as_deref())).collect::<Result<_, _>>()?;
    Ok(Timestamp { source, formats, on_failure })
}

impl FromValue for LabelSource {
    fn from_value(value: &Value) -> Result<Self, ConversionError> {
        let choices =
            [("extracted", LabelSource::Extracted), ("structured_metadata", LabelSource::StructuredMetadata)];
        ConversionError::one_of(value, &choices)
    }
}

impl FromValue for OnFailure {
    fn from_value(value: &Value) -> Result<Self, ConversionError> {
        ConversionError::one_of(value, &[("fudge", OnFailure::Fudge), ("skip", OnFailure::Skip)])
    }
}
