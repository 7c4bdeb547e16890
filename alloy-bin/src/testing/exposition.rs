//! Pages of text read a second time: slowly, by a grammar of regular expressions, to be compared with the parser's work.

use std::sync::LazyLock;

use regex::Regex;

use crate::formats::{Histograms, Item, Statement, TextFormat, parse_protobuf, parse_text};

/// Reads the bytes as a page in every text format by the parser and by the grammar.
///
/// # Panics
/// When one takes the page and the other refuses it, or they find different things on it.
pub fn check_text(page: &[u8]) {
    for format in [TextFormat::Prometheus, TextFormat::OpenMetrics] {
        let expected = std::str::from_utf8(page).ok().and_then(|text| Reader::new(text, format).page());
        match (parsed(page, format), expected) {
            (Ok(seen), Some(expected)) => assert_eq!(seen, expected, "{format:?} {page:?}"),
            (Err(_), None) => {}
            (seen, expected) => {
                let page = String::from_utf8_lossy(page);
                panic!("{format:?} {page:?}: the parser says {seen:?}, the grammar {expected:?}")
            }
        }
    }
}

/// Reads the bytes as a protobuf page, which ends whatever they are.
///
/// # Panics
/// When an error names a place that is not on the page, or a histogram is given that a receiver would refuse.
pub fn check_protobuf(page: &[u8]) {
    for histograms in [Histograms::Classic, Histograms::Native, Histograms::Both] {
        let mut check = |item: Item<'_, '_>| {
            let Item::Series(series) = item else { return };
            let histogram = series.extras.as_ref().and_then(|extras| extras.histogram.as_ref());
            assert!(histogram.is_none_or(|histogram| histogram.fault().is_none()), "{histogram:?}");
            assert!(!series.name.is_empty() && series.labels.iter().all(|(name, _)| !name.is_empty()));
        };
        if let Err(error) = parse_protobuf(page, histograms, &mut check) {
            assert!(error.at <= page.len(), "{error}");
        }
    }
}

/// What is found, in words. Numbers by their bits: `-0` is not `0`.
fn parsed(page: &[u8], format: TextFormat) -> Result<Vec<String>, String> {
    let mut seen = Vec::new();
    let mut take = |item: Item<'_, '_>| {
        seen.push(match item {
            Item::Metadata(family, Statement::Type(metric_type)) => {
                format!("{family:?} TYPE {metric_type:?}")
            }
            Item::Metadata(family, Statement::Help(help)) => format!("{family:?} HELP {help:?}"),
            Item::Metadata(family, Statement::Unit(unit)) => format!("{family:?} UNIT {unit:?}"),
            Item::Series(series) => {
                let labels = series.labels.iter().map(|(name, value)| (name.to_string(), value.to_string()));
                let extras = series.extras.iter().flat_map(|extras| &extras.exemplars);
                let mut exemplar = extras.map(|one| {
                    let labels = one.labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
                    (labels.collect(), one.value, one.timestamp_ms)
                });
                sample(
                    series.name,
                    &labels.collect(),
                    series.value,
                    series.timestamp_ms,
                    exemplar.next_back(),
                )
            }
        });
    };
    parse_text(page, format, &mut take).map_err(|error| error.to_string())?;
    Ok(seen)
}

type Pairs = Vec<(String, String)>;
type Exemplar = (Pairs, f64, Option<i64>);

fn sample(name: &str, labels: &Pairs, value: f64, at: Option<i64>, exemplar: Option<Exemplar>) -> String {
    let exemplar = exemplar.map(|(labels, value, at)| (labels, bits(value), at));
    format!("{name:?} {labels:?} {} {at:?} {exemplar:?}", bits(value))
}

fn bits(value: f64) -> u64 {
    if value.is_nan() { 0x7ff8_0000_0000_0001 } else { value.to_bits() }
}

/// One expression for each kind of line, anchored, with `x` so that blanks are written out.
struct Grammar {
    series: Regex,
    item: Regex,
    metadata: Regex,
    comment: Regex,
    eof: Regex,
    empty: Regex,
}

const QUOTED: &str = r#"(?: " (?: [^"\\] | \\[^\n] )* " )"#;
const QUOTED_ON_ONE_LINE: &str = r#"(?: " (?: [^"\\\n] | \\[^\n] )* " )"#;
const NAME: &str = "(?: [a-zA-Z_:][a-zA-Z0-9_:]* )";
const LABEL: &str = "(?: [a-zA-Z_][a-zA-Z0-9_]* )";
/// Values and times are looked at by their parsers.
const TOKEN: &str = r"[^\ \t\n]+";

static PROMETHEUS: LazyLock<Grammar> = LazyLock::new(|| {
    let braces = braces(r"[\ \t]*", QUOTED);
    Grammar {
        series: regex(&format!(
            r"[\ \t]* (?: (?<name> {NAME} ) (?: [\ \t]* (?<labels> {braces} ) [\ \t]* | [\ \t]+ ) | (?<only> {braces} ) [\ \t]* )
              (?<value> {TOKEN} ) (?: [\ \t]+ (?<at> {TOKEN} ) )? [\ \t]* (?: \n | $ )"
        )),
        item: item(r"[\ \t]*", QUOTED),
        metadata: regex(&format!(
            r"[\ \t]* \# [\ \t]+ (?<keyword> HELP | TYPE ) [\ \t]+ (?<family> {NAME} | {QUOTED} )
              (?: [\ \t]+ (?<text> [^\n]* ) )? (?: \n | $ )"
        )),
        comment: regex(
            r"[\ \t]* \# (?: [\ \t]* (?: HELP | TYPE ) (?: \n | $ ) | (?<other> [^\n]* ) (?: \n | $ ) )",
        ),
        eof: regex(r"[^\s\S]"),
        empty: regex(r"[\ \t]* \n"),
    }
});

static OPEN_METRICS: LazyLock<Grammar> = LazyLock::new(|| {
    let braces = braces("", QUOTED_ON_ONE_LINE);
    Grammar {
        series: regex(&format!(
            r"(?: (?<name> {NAME} ) (?<labels> {braces} )? | (?<only> {braces} ) ) \ (?<value> {TOKEN} )
              (?: \ (?<at> [^\ \t\n\#] [^\ \t\n]* ) )?
              (?: \ \#\ (?<exemplar> {braces} ) \ (?<observed> {TOKEN} ) (?: \ (?<observed_at> [^\ \t\n\#] [^\ \t\n]* ) )? )?
              (?: \n | $ )"
        )),
        item: item("", QUOTED_ON_ONE_LINE),
        metadata: regex(&format!(
            r"\#\ (?<keyword> HELP | TYPE | UNIT ) \ (?<family> {NAME} | {QUOTED} ) \ (?<text> [^\n]* ) (?: \n | $ )"
        )),
        comment: regex(r"[^\s\S]"),
        eof: regex(r"\#\ EOF \n? $"),
        empty: regex(r"[^\s\S]"),
    }
});

fn regex(expression: &str) -> Regex {
    Regex::new(&format!(r"(?x) \A (?: {expression} )")).expect("the grammar is right")
}

fn one_item(blanks: &str, value: &str) -> String {
    format!("(?: (?: {LABEL} | {QUOTED} ) {blanks} = {blanks} {value} | {QUOTED} )")
}

fn braces(blanks: &str, value: &str) -> String {
    let item = one_item(blanks, value);
    format!(r"(?: \{{ {blanks} (?: {item} {blanks} (?: , {blanks} {item} {blanks} )* ,? {blanks} )? \}} )")
}

/// One item and what stands before it.
fn item(blanks: &str, value: &str) -> Regex {
    regex(&format!(
        r"[\{{,]? {blanks} (?: (?<label> {LABEL} | {QUOTED} ) {blanks} = {blanks} (?<value> {value} ) | (?<metric> {QUOTED} ) ) {blanks}"
    ))
}

struct Reader<'t> {
    rest: &'t str,
    format: TextFormat,
    grammar: &'static Grammar,
    metric_type: String,
    found: Vec<String>,
}

impl<'t> Reader<'t> {
    fn new(text: &'t str, format: TextFormat) -> Self {
        let grammar = if format == TextFormat::Prometheus { &*PROMETHEUS } else { &*OPEN_METRICS };
        Reader { rest: text, format, grammar, metric_type: String::new(), found: Vec::new() }
    }

    /// `None`: the page is refused.
    fn page(mut self) -> Option<Vec<String>> {
        loop {
            let grammar = self.grammar;
            let is_read =
                self.format == TextFormat::Prometheus && self.rest.trim_matches([' ', '\t']).is_empty();
            if is_read || grammar.eof.is_match(self.rest) {
                return Some(self.found);
            } else if let Some(line) = grammar.empty.find(self.rest) {
                self.rest = &self.rest[line.end()..];
            } else if let Some(line) = grammar.metadata.captures(self.rest) {
                let text = line.name("text").map_or("", |text| text.as_str());
                self.metadata(&line["keyword"], &name(&line["family"])?, text)?;
                self.rest = &self.rest[line[0].len()..];
            } else if let Some(line) = grammar.comment.captures(self.rest) {
                let other = line.name("other").map_or("", |other| other.as_str());
                // Metadata that does not fit its expression is wrong. Without a blank before the word it is a comment.
                let words =
                    other.strip_prefix([' ', '\t']).map(|words| words.trim_start_matches([' ', '\t']));
                let keyword = words.and_then(|words| words.split([' ', '\t']).next());
                if matches!(keyword, Some("HELP" | "TYPE")) {
                    return None;
                }
                self.rest = &self.rest[line[0].len()..];
            } else {
                self.series()?;
            }
        }
    }

    fn metadata(&mut self, keyword: &str, family: &str, text: &str) -> Option<()> {
        let found = match keyword {
            "HELP" => format!("HELP {:?}", unescaped(text)),
            "UNIT" if text.is_empty() || family.ends_with(&format!("_{text}")) => format!("UNIT {text:?}"),
            "TYPE" => {
                let blanks: &[char] = if self.format == TextFormat::Prometheus { &[' ', '\t'] } else { &[] };
                let metric_type = match (text.trim_end_matches(blanks), self.format) {
                    ("counter", _) => "Counter",
                    ("gauge", _) => "Gauge",
                    ("histogram", _) => "Histogram",
                    ("summary", _) => "Summary",
                    ("untyped", TextFormat::Prometheus) | ("unknown", TextFormat::OpenMetrics) => "Unknown",
                    ("gaugehistogram", TextFormat::OpenMetrics) => "GaugeHistogram",
                    ("info", TextFormat::OpenMetrics) => "Info",
                    ("stateset", TextFormat::OpenMetrics) => "StateSet",
                    _ => return None,
                };
                self.metric_type = metric_type.to_owned();
                format!("TYPE {metric_type}")
            }
            _ => return None,
        };
        self.found.push(format!("{family:?} {found}"));
        Some(())
    }

    fn series(&mut self) -> Option<()> {
        let line = self.grammar.series.captures(self.rest)?;
        let part = |name: &str| line.name(name).map(|part| part.as_str());
        let (mut metric, mut labels) = self.labels(part("labels").or(part("only")).unwrap_or("{}"))?;
        if let Some(name) = part("name") {
            metric.insert(0, name.to_owned());
        }
        let [metric] = metric.as_slice() else { return None };
        for (name, value) in &mut labels {
            if (self.metric_type.as_str(), name.as_str()) == ("Histogram", "le")
                || (self.metric_type.as_str(), name.as_str()) == ("Summary", "quantile")
            {
                *value = bound(value);
            }
        }
        let exemplar = match part("exemplar") {
            None => None,
            Some(braces) => {
                let (metric, mut labels) = self.labels(braces)?;
                if !metric.is_empty() {
                    return None;
                }
                labels.reverse();
                labels.sort_by(|a, b| a.0.cmp(&b.0));
                labels.dedup_by(|later, first| later.0 == first.0);
                labels.retain(|(_, value)| !value.is_empty());
                Some((labels, part("observed")?.parse().ok()?, self.time(part("observed_at"))?))
            }
        };
        let value: f64 = part("value")?.parse().ok()?;
        self.found.push(sample(metric, &labels, value, self.time(part("at"))?, exemplar));
        self.rest = &self.rest[line[0].len()..];
        Some(())
    }

    /// Names of metrics in quotes, and the labels.
    fn labels(&self, mut braces: &str) -> Option<(Vec<String>, Pairs)> {
        let (mut metrics, mut labels) = (Vec::new(), Pairs::new());
        while let Some(item) = self.grammar.item.captures(braces) {
            match item.name("metric") {
                Some(metric) => metrics.push(name(metric.as_str())?),
                None => labels.push((name(&item["label"])?, unquoted(&item["value"]))),
            }
            braces = &braces[item[0].len()..];
        }
        Some((metrics, labels))
    }

    /// `None`: it is no time.
    fn time(&self, token: Option<&str>) -> Option<Option<i64>> {
        let Some(token) = token else { return Some(None) };
        if self.format == TextFormat::Prometheus {
            return token.parse().ok().map(Some);
        }
        let milliseconds = ((token.parse::<f64>().ok()? * 1e6).round() / 1e3).trunc();
        let fits = (-(2f64.powi(63))..2f64.powi(63)).contains(&milliseconds);
        fits.then_some(Some(milliseconds as i64))
    }
}

/// The form of a number that is a label: shortest digits, a point or an exponent in it.
fn bound(text: &str) -> String {
    let Ok(number) = text.parse::<f64>() else { return text.to_owned() };
    match number {
        _ if number.is_nan() => "NaN".to_owned(),
        f64::INFINITY | f64::NEG_INFINITY if text.bytes().any(|byte| byte.is_ascii_digit()) => {
            text.to_owned()
        }
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        _ if number == 0.0 || (1e-4..1e6).contains(&number.abs()) => format!("{number:?}"),
        _ => {
            let text = format!("{number:e}");
            let (digits, exponent) = text.split_once('e').expect("it is written so");
            let (sign, exponent) =
                exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
            format!("{digits}e{sign}{exponent:0>2}")
        }
    }
}

/// A name, quoted or not; `None` if nothing is in the quotes.
fn name(text: &str) -> Option<String> {
    Some(if text.starts_with('"') { unquoted(text) } else { text.to_owned() }).filter(|name| !name.is_empty())
}

fn unquoted(text: &str) -> String {
    unescaped(&text[1..text.len() - 1])
}

fn unescaped(text: &str) -> String {
    let mut characters = text.chars().peekable();
    let mut plain = String::new();
    while let Some(character) = characters.next() {
        let escaped = match (character, characters.peek()) {
            ('\\', Some('n')) => Some('\n'),
            ('\\', Some('"')) => Some('"'),
            ('\\', Some('\\')) => Some('\\'),
            _ => None,
        };
        if escaped.is_some() {
            characters.next();
        }
        plain.push(escaped.unwrap_or(character));
    }
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Lines that one format or both allow, and what makes them wrong or different.
    const LINES: [&str; 16] = [
        "a 1\n",
        "a{b=\"c\"} 1 2\n",
        "a{le=\"1\",b=\"x\\n\\\\\\\"\"} 1e3\n",
        "a{le=\"+Inf\",} NaN\n",
        "a{quantile=\"1e9\"} -0\n",
        "{\"q.r\",\"l m\"=\"v\"} .5\n",
        "{\"q\"} 12345678901234567890 -7\n",
        "a { b = \"c\" , d = \"\" } 1\n",
        "a{b=\"c\"}1\n",
        "a{b=\"c\"} 7 1.5 # {id=\"1\",} 0.5 9.25\n",
        "# TYPE a histogram\n",
        "# TYPE a summary\n",
        "# TYPE \"a.b\" gauge\n",
        "# HELP a b \\\\ c\\n\n",
        "# UNIT a_s s\n",
        "# EOF\n",
    ];
    const CHANGES: [&str; 24] = [
        "", "", "", "\n", " ", "  ", "\t", "\"", "\\", "{", "}", "=", ",", "#", " # ", "1", "a", "é", ":",
        "-", ".", "HELP ", "x=\"y\",", "\"q\",",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn the_parser_and_the_grammar_agree(
            lines in prop::collection::vec(prop::sample::select(&LINES[..]), 0..5),
            changes in prop::collection::vec(
                (any::<prop::sample::Index>(), prop::sample::select(&CHANGES[..]), 0usize..2),
                0..4,
            ),
        ) {
            let mut page = lines.concat();
            for (place, put, cut) in changes {
                let places: Vec<usize> = page.char_indices().map(|(at, _)| at).chain([page.len()]).collect();
                let place = place.index(places.len());
                let end = (place + cut).min(places.len() - 1);
                page.replace_range(places[place]..places[end], put);
            }
            check_text(page.as_bytes());
            check_text(format!("{page}# EOF\n").as_bytes());
            check_protobuf(page.as_bytes());
        }
    }

    #[test]
    fn the_grammar_itself_reads() {
        let read = |page, format| Reader::new(page, format).page();
        assert_eq!(read("a 1\n# x\nb{c=\"d\"} 2 3\n", TextFormat::Prometheus).expect("a page").len(), 2);
        assert_eq!(read("a 1 # {} 1\n# EOF\n", TextFormat::OpenMetrics).expect("a page").len(), 1);
        assert_eq!(read("a 1 # {} 1\n", TextFormat::Prometheus), None);
        assert_eq!(read("a 1\n", TextFormat::OpenMetrics), None);
    }
}
