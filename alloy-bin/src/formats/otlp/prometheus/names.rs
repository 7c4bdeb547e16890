//! Names of metrics, labels and units as Prometheus has them, with underscores for what it does not take.
//!
//! Source: "Prometheus and OpenMetrics Compatibility" of the OpenTelemetry specification, and
//! <https://github.com/prometheus/otlptranslator> where it leaves a choice.

use std::borrow::Cow;

/// What a metric's suffix follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A monotonic sum.
    Counter,
    Gauge,
    Other,
}

const UNITS: [(&str, &str); 26] = [
    ("d", "days"),
    ("h", "hours"),
    ("min", "minutes"),
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    ("TiBy", "tibibytes"),
    ("KBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("TBy", "terabytes"),
    ("m", "meters"),
    ("V", "volts"),
    ("A", "amperes"),
    ("J", "joules"),
    ("W", "watts"),
    ("g", "grams"),
    ("Cel", "celsius"),
    ("Hz", "hertz"),
    ("1", ""),
    ("%", "percent"),
];
const PER_UNITS: [(&str, &str); 7] = [
    ("s", "second"),
    ("m", "minute"),
    ("h", "hour"),
    ("d", "day"),
    ("w", "week"),
    ("mo", "month"),
    ("y", "year"),
];

/// The name of a metric; `None` if nothing of it is left.
pub(super) fn metric_name(name: &str, unit: &str, kind: Kind, suffixes: bool) -> Option<String> {
    let mut built = if suffixes {
        let mut tokens: Vec<&str> = name.split(|c| !is_plain(c)).filter(|token| !token.is_empty()).collect();
        let (main, per) = unit_parts(unit);
        let per = format!("per_{per}");
        let wanted = [main.as_str(), if per == "per_" { "" } else { &per }];
        // Looked for before either is added.
        let missing = wanted.map(|suffix| !suffix.is_empty() && !tokens.contains(&suffix));
        tokens.extend(
            wanted.into_iter().zip(missing).filter(|(_, missing)| *missing).map(|(suffix, _)| suffix),
        );
        let last = match kind {
            Kind::Counter => "total",
            Kind::Gauge if unit == "1" => "ratio",
            _ => "",
        };
        if !last.is_empty() {
            tokens.retain(|token| *token != last);
            tokens.push(last);
        }
        tokens.join("_")
    } else {
        let parts = name.split(|c| !is_plain(c) && c != '_').filter(|part| !part.is_empty());
        parts.collect::<Vec<_>>().join("_")
    };
    if built.starts_with(|c: char| c.is_ascii_digit()) {
        built.insert(0, '_');
    }
    let says_something = built.bytes().any(|byte| byte != b'_') || built == name;
    (says_something && !built.is_empty()).then_some(built)
}

/// The name of a label. Two attributes may become one label.
pub(in crate::formats::otlp) fn label_name(name: &str) -> Cow<'_, str> {
    let is_taken = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let name = if name.chars().all(is_taken) {
        Cow::Borrowed(name)
    } else {
        Cow::Owned(name.chars().map(|c| if is_taken(c) { c } else { '_' }).collect())
    };
    let is_reserved = name.starts_with("__") && name.bytes().any(|byte| byte != b'_');
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        Cow::Owned(format!("key_{name}"))
    } else if name.starts_with('_') && !is_reserved {
        Cow::Owned(format!("key{name}"))
    } else {
        name
    }
}

/// The unit in words: `seconds`, `bytes_per_second`.
pub(super) fn unit_name(unit: &str) -> String {
    let (main, per) = unit_parts(unit);
    match (main.is_empty(), per.is_empty()) {
        (_, true) => main,
        (true, false) => format!("per_{per}"),
        (false, false) => format!("{main}_per_{per}"),
    }
}

/// What is before and behind the slash, in words; remarks in braces say nothing.
fn unit_parts(unit: &str) -> (String, String) {
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    let word = |part: &str, known: &[(&str, &str)]| {
        let part = part.trim();
        if part.contains(['{', '}']) {
            return String::new();
        }
        let word = known.iter().find(|(short, _)| *short == part).map_or(part, |(_, long)| long);
        let tokens = word.split(|c| !is_plain(c)).filter(|token| !token.is_empty());
        tokens.collect::<Vec<_>>().join("_")
    };
    (word(main, &UNITS), word(per, &PER_UNITS))
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == ':'
}
