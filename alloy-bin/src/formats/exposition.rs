//! Prometheus text 0.0.4 and OpenMetrics text 1.0 -> series, in place.
//!
//! Specifications: <https://prometheus.io/docs/instrumenting/exposition_formats/> and
//! <https://prometheus.io/docs/specs/om/open_metrics_spec/>. One scanner reads both: names and values are slices of the
//! page, and only a text with escapes is copied. Read as generously and as strictly as Prometheus reads: in its own format
//! blanks between tokens are fine, in OpenMetrics there is one space between some and none between others. A comma after the
//! last label is fine in both.

mod comment;

use std::borrow::Cow;

use memchr::{memchr, memchr_iter, memchr3, memrchr};

use self::comment::Line;
pub(super) use self::comment::is_unit_of;
use super::label_float;
use super::page_item::{Item, LabelPair, NORMAL_NAN, Series};
use crate::telemetry::{Exemplar, Extras, Labels, MetricType};

/// Why a page was refused, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: expected {expected}, found {found:?}")]
pub struct ParseError {
    /// Counted from 1.
    pub line: usize,
    /// In bytes, counted from 1.
    pub column: usize,
    /// What could have stood there.
    pub expected: &'static str,
    /// What stood there: the rest of the line, cut short, with broken UTF-8 replaced.
    pub found: String,
}

/// A text format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextFormat {
    /// Prometheus text 0.0.4 or 1.0.0: timestamps in milliseconds.
    Prometheus,
    /// OpenMetrics: timestamps in seconds, exemplars, and `# EOF` at the end.
    OpenMetrics,
}

/// Gives everything on the page to `sink`, in order.
///
/// The page counts as a whole: after an error, what `sink` has been given should be dropped. The cost is linear in the
/// page, and nothing is allocated for a series without escapes and exemplars.
///
/// ```
/// use alloy_bin::formats::{Item, TextFormat, parse_text};
///
/// let mut seen = Vec::new();
/// parse_text(b"# TYPE up gauge\nup{job=\"node\"} 1\n", TextFormat::Prometheus, &mut |item| {
///     if let Item::Series(series) = item {
///         seen.push((series.name.to_owned(), series.labels.len(), series.value));
///     }
/// })?;
/// assert_eq!(seen, [("up".to_owned(), 1, 1.0)]);
/// # Ok::<(), alloy_bin::formats::ParseError>(())
/// ```
pub fn parse_text<'b>(
    body: &'b [u8],
    format: TextFormat,
    sink: &mut impl FnMut(Item<'_, 'b>),
) -> Result<(), ParseError> {
    let text = match std::str::from_utf8(body) {
        Ok(text) => text,
        Err(error) => return Err(error_at(body, error.valid_up_to(), "valid UTF-8")),
    };
    let mut scanner = Scanner { text, bytes: body, at: 0, format, metric_type: MetricType::Unknown };
    scanner.page(sink).map_err(|expected| error_at(body, scanner.at, expected))
}

/// What was expected; the scanner stands where it was not found. The position is worked out only for an error.
type Expected = &'static str;

struct Scanner<'b> {
    text: &'b str,
    bytes: &'b [u8],
    at: usize,
    format: TextFormat,
    /// Of the family that was declared last.
    metric_type: MetricType,
}

impl<'b> Scanner<'b> {
    fn page(&mut self, sink: &mut impl FnMut(Item<'_, 'b>)) -> Result<(), Expected> {
        let mut labels = Vec::new();
        loop {
            self.blanks();
            match self.peek() {
                None if self.format == TextFormat::OpenMetrics => return Err("`# EOF` at the end"),
                None => return Ok(()),
                Some(b'\n') if self.format == TextFormat::Prometheus => self.at += 1,
                Some(b'#') => {
                    if self.comment(sink)? == Line::Eof {
                        return if self.peek().is_none() { Ok(()) } else { Err("nothing after `# EOF`") };
                    }
                }
                Some(_) => self.series(&mut labels, sink)?,
            }
        }
    }

    fn series(
        &mut self,
        labels: &mut Vec<LabelPair<'b>>,
        sink: &mut impl FnMut(Item<'_, 'b>),
    ) -> Result<(), Expected> {
        labels.clear();
        let start = self.at;
        let mut name = self.name(METRIC_BYTES).map(Cow::Borrowed);
        let mut end = self.at;
        let mut has_quoted_names = false;
        self.blanks();
        if self.take(b'{') {
            has_quoted_names = self.labels(&mut name, labels, Braces::Series)?;
            end = self.at;
        } else if name.is_some() && self.at == end && self.peek() != Some(b' ') {
            // Else `a.5 1` would be `a` with the value 0.5.
            return Err("a blank or `{` after the name");
        }
        let Some(name) = name else {
            self.at = start;
            return Err("a metric name");
        };
        let value = self.value()?;
        let timestamp_ms = self.timestamp()?;
        let extras = self.exemplar()?;
        self.end_of_line()?;
        let (name, text) = (name.as_ref(), &self.text[start..end]);
        sink(Item::Series(Series { name, labels, value, timestamp_ms, extras, has_quoted_names, text }));
        Ok(())
    }

    /// What stands between braces, the closing one included. In a series a quoted text without a value is the metric's
    /// name. Says whether a name was quoted.
    fn labels(
        &mut self,
        metric: &mut Option<Cow<'b, str>>,
        labels: &mut Vec<LabelPair<'b>>,
        braces: Braces,
    ) -> Result<bool, Expected> {
        let mut has_quoted_names = false;
        loop {
            self.blanks();
            if self.take(b'}') {
                return Ok(has_quoted_names);
            }
            let start = self.at;
            let quoted = self.peek() == Some(b'"');
            has_quoted_names |= quoted;
            let name = if quoted {
                self.quoted(Newline::Allowed)?
            } else {
                Cow::Borrowed(self.name(LABEL_BYTES).ok_or("a label name or `}`")?)
            };
            if name.is_empty() {
                self.at = start;
                return Err("a name that is not empty");
            }
            self.blanks();
            if self.take(b'=') {
                self.blanks();
                let mut value = self.quoted(Newline::AsFormat)?;
                if braces == Braces::Series {
                    value = label_float::normal(self.metric_type, &name, value);
                }
                labels.push((name, value));
            } else if quoted && metric.is_none() && braces == Braces::Series {
                *metric = Some(name);
            } else {
                return Err("`=` after the label's name");
            }
            self.blanks();
            if !self.take(b',') && self.peek() != Some(b'}') {
                return Err("`,` or `}`");
            }
        }
    }

    /// A text in double quotes. Unknown escapes are kept as they are, as Prometheus keeps them.
    fn quoted(&mut self, newline: Newline) -> Result<Cow<'b, str>, Expected> {
        if !self.take(b'"') {
            return Err("a text in double quotes");
        }
        let start = self.at;
        let mut rest = start;
        let mut has_escapes = false;
        loop {
            let Some(offset) = memchr3(b'"', b'\\', b'\n', &self.bytes[rest..]) else {
                return Err("a closing `\"`");
            };
            let found = rest + offset;
            if self.bytes[found] == b'\n' {
                if newline == Newline::AsFormat && self.format == TextFormat::OpenMetrics {
                    return Err("a closing `\"` on the same line");
                }
                rest = found + 1;
                continue;
            }
            if self.bytes[found] == b'"' {
                self.at = found + 1;
                let raw = &self.text[start..found];
                return Ok(if has_escapes { Cow::Owned(unescape(raw)) } else { Cow::Borrowed(raw) });
            }
            has_escapes = true;
            if self.bytes.get(found + 1) == Some(&b'\n') {
                return Err("a character behind the backslash");
            }
            // That character is passed over, whatever it is. A backslash that ends the page leaves nothing.
            rest = (found + 2).min(self.bytes.len());
        }
    }

    fn value(&mut self) -> Result<f64, Expected> {
        self.gap()?;
        let start = self.at;
        let token = self.token();
        if let Some(value) = whole(token) {
            return Ok(value);
        }
        match token.parse::<f64>() {
            Ok(value) if value.is_nan() => Ok(NORMAL_NAN),
            Ok(value) => Ok(value),
            Err(_) => {
                self.at = start;
                Err("a value")
            }
        }
    }

    fn timestamp(&mut self) -> Result<Option<i64>, Expected> {
        self.blanks();
        match (self.format, self.peek()) {
            (_, None | Some(b'\n')) | (TextFormat::Prometheus, Some(b'#')) => return Ok(None),
            (TextFormat::OpenMetrics, _) if self.bytes[self.at..].starts_with(b" #") => return Ok(None),
            _ => self.gap()?,
        }
        let start = self.at;
        let token = self.token();
        let timestamp_ms = match self.format {
            TextFormat::Prometheus => token.parse().ok(),
            TextFormat::OpenMetrics => token.parse().ok().and_then(milliseconds),
        };
        if timestamp_ms.is_none() {
            self.at = start;
            return Err("a timestamp or the end of the line");
        }
        self.blanks();
        Ok(timestamp_ms)
    }

    /// What OpenMetrics may have behind a sample: ` # {labels} value timestamp`.
    fn exemplar(&mut self) -> Result<Option<Box<Extras>>, Expected> {
        if self.format != TextFormat::OpenMetrics || !self.bytes[self.at..].starts_with(b" #") {
            return Ok(None);
        }
        self.at += " #".len();
        self.gap()?;
        if !self.take(b'{') {
            return Err("an exemplar's `{`");
        }
        let mut labels = Vec::new();
        self.labels(&mut None, &mut labels, Braces::Exemplar)?;
        let (labels, value) = (Labels::new(labels), self.value()?);
        let exemplar = Exemplar { labels, value, timestamp_ms: self.timestamp()? };
        Ok(Some(Box::new(Extras { histogram: None, exemplars: vec![exemplar] })))
    }

    fn end_of_line(&mut self) -> Result<(), Expected> {
        if self.take(b'\n') || self.peek().is_none() { Ok(()) } else { Err("the end of the line") }
    }

    /// A name of such bytes that does not begin with a digit.
    fn name(&mut self, bytes: &[bool; 256]) -> Option<&'b str> {
        let start = self.at;
        if self.peek().is_some_and(|first| first.is_ascii_digit()) {
            return None;
        }
        let rest = &self.bytes[start..];
        let length = rest.iter().position(|byte| !bytes[usize::from(*byte)]).unwrap_or(rest.len());
        self.at = start + length;
        (length > 0).then(|| &self.text[start..self.at])
    }

    /// What stands before the next blank or the end of the line.
    fn token(&mut self) -> &'b str {
        let start = self.at;
        let rest = &self.bytes[start..];
        let is_end = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n');
        self.at = start + rest.iter().position(is_end).unwrap_or(rest.len());
        &self.text[start..self.at]
    }

    /// Blanks where they mean nothing: OpenMetrics has none.
    fn blanks(&mut self) {
        while self.format == TextFormat::Prometheus && matches!(self.peek(), Some(b' ' | b'\t')) {
            self.at += 1;
        }
    }

    /// Blanks between two tokens: any in Prometheus' text, one space in OpenMetrics.
    fn gap(&mut self) -> Result<(), Expected> {
        self.blanks();
        if self.format == TextFormat::OpenMetrics && !self.take(b' ') { Err("a space") } else { Ok(()) }
    }

    fn skip_line(&mut self) {
        let rest = &self.bytes[self.at..];
        self.at += memchr(b'\n', rest).map_or(rest.len(), |offset| offset + 1);
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }
}

/// Whose labels stand between braces.
#[derive(PartialEq, Eq)]
enum Braces {
    Series,
    Exemplar,
}

/// Whether a text in quotes may go over several lines.
#[derive(PartialEq, Eq)]
enum Newline {
    /// In Prometheus' text only.
    AsFormat,
    Allowed,
}

/// A table is read faster than four comparisons are made.
const fn name_bytes(with_colon: bool) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0u8;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric() || byte == b'_' || with_colon && byte == b':';
        byte += 1;
    }
    table
}

const METRIC_BYTES: &[bool; 256] = &name_bytes(true);
const LABEL_BYTES: &[bool; 256] = &name_bytes(false);

/// What most values are. Fifteen digits are exact as a double.
fn whole(token: &str) -> Option<f64> {
    let digits = token.as_bytes();
    if digits.is_empty() || digits.len() > 15 {
        return None;
    }
    let add = |sum: u64, digit: &u8| digit.is_ascii_digit().then(|| sum * 10 + u64::from(digit - b'0'));
    Some(digits.iter().try_fold(0, add)? as f64)
}

/// OpenMetrics counts seconds, with a fraction. Below the millisecond it is cut off, as Prometheus does; but what was meant as a whole
/// number of them stays one: 1.001 s times 1000 is a little less than 1001.
fn milliseconds(seconds: f64) -> Option<i64> {
    let milliseconds = ((seconds * 1e6).round() / 1e3).trunc();
    // The bounds of i64 as doubles; the upper one is one above the last value and therefore excluded.
    (milliseconds >= i64::MIN as f64 && milliseconds < i64::MAX as f64).then_some(milliseconds as i64)
}

fn unescape(raw: &str) -> String {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(offset) = memchr(b'\\', rest.as_bytes()) {
        text.push_str(&rest[..offset]);
        let escaped = match rest.as_bytes().get(offset + 1) {
            Some(b'n') => "\n",
            Some(b'"') => "\"",
            Some(b'\\') => "\\",
            _ => {
                text.push('\\');
                rest = &rest[offset + 1..];
                continue;
            }
        };
        text.push_str(escaped);
        rest = &rest[offset + 2..];
    }
    text.push_str(rest);
    text
}

fn error_at(body: &[u8], at: usize, expected: Expected) -> ParseError {
    /// Enough to recognise the place; the page's author decides how long a line is.
    const FOUND_BYTES_MAX: usize = 40;
    let line_start = memrchr(b'\n', &body[..at]).map_or(0, |newline| newline + 1);
    let rest = &body[at..body.len().min(at + FOUND_BYTES_MAX)];
    let found = &rest[..memchr(b'\n', rest).unwrap_or(rest.len())];
    ParseError {
        line: memchr_iter(b'\n', &body[..at]).count() + 1,
        column: at - line_start + 1,
        expected,
        found: String::from_utf8_lossy(found).into_owned(),
    }
}

#[cfg(test)]
mod tests;
