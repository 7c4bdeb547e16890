//! Prometheus text 0.0.4 and OpenMetrics text 1.0 -> series, in place.
//!
//! Specifications: <https://prometheus.io/docs/instrumenting/exposition_formats/> and
//! <https://prometheus.io/docs/specs/om/open_metrics_spec/>. One scanner reads both: names and values are slices of the
//! page, and only a text with escapes is copied. Read as generously as Prometheus reads: blanks between tokens and a comma
//! after the last label are fine. Exemplars and metadata are checked for their shape and skipped.

use std::borrow::Cow;

use memchr::{memchr, memchr_iter, memchr2, memrchr};

use super::Format;

/// What "not a number" becomes. One bit pattern for all, so that no page can send the staleness marker by accident.
const NORMAL_NAN: f64 = f64::from_bits(0x7ff8_0000_0000_0001);

/// A label's name and value.
pub type LabelPair<'b> = (Cow<'b, str>, Cow<'b, str>);

/// One sample line. `'b` is the page's lifetime, `'s` lasts until the next series.
#[derive(Debug, Clone, PartialEq)]
pub struct Series<'s, 'b> {
    /// The metric's name; never empty.
    pub name: Cow<'b, str>,
    /// The labels as written: unsorted, values perhaps empty, names perhaps twice.
    pub labels: &'s [LabelPair<'b>],
    /// The value; [`STALE_NAN`](crate::telemetry::STALE_NAN) never occurs.
    pub value: f64,
    /// Milliseconds since the Unix epoch, if the line has a timestamp.
    pub timestamp_ms: Option<i64>,
    /// Whether a name stands in quotes: only then it can have any characters.
    pub has_quoted_names: bool,
    /// Name and labels as written: the same text is the same series, so a cache may be keyed by it.
    pub text: &'b str,
}

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

/// Gives every series of the page to `sink`, in order.
///
/// The page counts as a whole: after an error, what `sink` has been given should be dropped. The cost is linear in the
/// page, and nothing is allocated for a series without escapes.
///
/// ```
/// use alloy_bin::formats::{Format, parse};
///
/// let mut seen = Vec::new();
/// parse(b"up{job=\"node\"} 1\n", Format::Text, &mut |series| {
///     seen.push((series.name.into_owned(), series.labels.len(), series.value));
/// })?;
/// assert_eq!(seen, [("up".to_owned(), 1, 1.0)]);
/// # Ok::<(), alloy_bin::formats::ParseError>(())
/// ```
pub fn parse<'b>(
    body: &'b [u8],
    format: Format,
    sink: &mut impl FnMut(Series<'_, 'b>),
) -> Result<(), ParseError> {
    let text = match std::str::from_utf8(body) {
        Ok(text) => text,
        Err(error) => return Err(error_at(body, error.valid_up_to(), "valid UTF-8")),
    };
    let mut scanner = Scanner { text, bytes: body, at: 0, format };
    scanner.page(sink).map_err(|expected| error_at(body, scanner.at, expected))
}

/// What was expected; the scanner stands where it was not found. The position is worked out only for an error.
type Expected = &'static str;

struct Scanner<'b> {
    text: &'b str,
    bytes: &'b [u8],
    at: usize,
    format: Format,
}

impl<'b> Scanner<'b> {
    fn page(&mut self, sink: &mut impl FnMut(Series<'_, 'b>)) -> Result<(), Expected> {
        let mut labels = Vec::new();
        loop {
            self.skip_blanks();
            match self.peek() {
                None if self.format == Format::OpenMetrics => return Err("`# EOF` at the end"),
                None => return Ok(()),
                Some(b'\n') if self.format == Format::Text => self.at += 1,
                Some(b'#') => {
                    if self.comment()? == Line::Eof {
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
        sink: &mut impl FnMut(Series<'_, 'b>),
    ) -> Result<(), Expected> {
        labels.clear();
        let start = self.at;
        let mut name = self.name(is_metric_byte).map(Cow::Borrowed);
        let mut end = self.at;
        let mut has_quoted_names = false;
        self.skip_blanks();
        if self.take(b'{') {
            has_quoted_names = self.labels(&mut name, labels)?;
            end = self.at;
            self.skip_blanks();
        } else if name.is_some() && self.at == end {
            // Else `a.5 1` would be `a` with the value 0.5.
            return Err("a blank or `{` after the name");
        }
        let Some(name) = name else {
            self.at = start;
            return Err("a metric name");
        };
        let value = self.value()?;
        let timestamp_ms = self.timestamp()?;
        self.end_of_sample()?;
        sink(Series { name, labels, value, timestamp_ms, has_quoted_names, text: &self.text[start..end] });
        Ok(())
    }

    /// What stands between braces, the closing one included. A quoted text without a value is the metric's name. Says
    /// whether a name was quoted.
    fn labels(
        &mut self,
        metric: &mut Option<Cow<'b, str>>,
        labels: &mut Vec<LabelPair<'b>>,
    ) -> Result<bool, Expected> {
        let mut has_quoted_names = false;
        loop {
            self.skip_blanks();
            if self.take(b'}') {
                return Ok(has_quoted_names);
            }
            let start = self.at;
            let quoted = self.peek() == Some(b'"');
            has_quoted_names |= quoted;
            let name = if quoted {
                self.quoted()?
            } else {
                Cow::Borrowed(self.name(is_label_byte).ok_or("a label name or `}`")?)
            };
            if name.is_empty() {
                self.at = start;
                return Err("a name that is not empty");
            }
            self.skip_blanks();
            if self.take(b'=') {
                self.skip_blanks();
                labels.push((name, self.quoted()?));
            } else if quoted && metric.is_none() {
                *metric = Some(name);
            } else {
                return Err("`=` after the label's name");
            }
            self.skip_blanks();
            if !self.take(b',') && self.peek() != Some(b'}') {
                return Err("`,` or `}`");
            }
        }
    }

    /// A text in double quotes. Unknown escapes are kept as they are, as Prometheus keeps them.
    fn quoted(&mut self) -> Result<Cow<'b, str>, Expected> {
        if !self.take(b'"') {
            return Err("a text in double quotes");
        }
        let start = self.at;
        let mut rest = start;
        let mut has_escapes = false;
        loop {
            let Some(offset) = memchr2(b'"', b'\\', &self.bytes[rest..]) else {
                return Err("a closing `\"`");
            };
            let found = rest + offset;
            if self.bytes[found] == b'"' {
                self.at = found + 1;
                let raw = &self.text[start..found];
                return Ok(if has_escapes { Cow::Owned(unescape(raw)) } else { Cow::Borrowed(raw) });
            }
            has_escapes = true;
            // The byte after the backslash is passed over, whatever it is. A backslash that ends the page leaves nothing.
            rest = (found + 2).min(self.bytes.len());
        }
    }

    fn value(&mut self) -> Result<f64, Expected> {
        let start = self.at;
        match self.token().parse::<f64>() {
            Ok(value) if value.is_nan() => Ok(NORMAL_NAN),
            Ok(value) => Ok(value),
            Err(_) => {
                self.at = start;
                Err("a value")
            }
        }
    }

    fn timestamp(&mut self) -> Result<Option<i64>, Expected> {
        self.skip_blanks();
        if matches!(self.peek(), None | Some(b'\n' | b'#')) {
            return Ok(None);
        }
        let start = self.at;
        let token = self.token();
        let timestamp_ms = match self.format {
            Format::Text => token.parse().ok(),
            Format::OpenMetrics => token.parse().ok().and_then(milliseconds),
        };
        if timestamp_ms.is_none() {
            self.at = start;
            return Err("a timestamp or the end of the line");
        }
        Ok(timestamp_ms)
    }

    /// The end of the line, behind an exemplar if the format has them.
    fn end_of_sample(&mut self) -> Result<(), Expected> {
        self.skip_blanks();
        if self.format == Format::OpenMetrics && self.take(b'#') {
            self.skip_blanks();
            if !self.take(b'{') {
                return Err("an exemplar's `{`");
            }
            self.skip_line();
            return Ok(());
        }
        self.end_of_line()
    }

    fn end_of_line(&mut self) -> Result<(), Expected> {
        if self.take(b'\n') || self.peek().is_none() { Ok(()) } else { Err("the end of the line") }
    }

    /// A line that begins with `#`. In text any comment may stand there, in OpenMetrics only metadata.
    fn comment(&mut self) -> Result<Line, Expected> {
        self.at += 1;
        let before = self.at;
        self.skip_blanks();
        // `#HELP` is a comment like any other: a blank makes it metadata.
        let keyword = if self.at > before { self.token() } else { "" };
        let ends_here = matches!(self.peek(), None | Some(b'\n'));
        match (keyword, self.format) {
            // A keyword alone says nothing and breaks nothing.
            ("HELP" | "TYPE", Format::Text) if ends_here => self.skip_line(),
            ("HELP", _) | ("UNIT", Format::OpenMetrics) => {
                self.metadata_name()?;
                self.skip_line();
            }
            ("TYPE", format) => {
                self.metadata_name()?;
                let start = self.at;
                let kind = self.token();
                if !is_metric_type(kind, format) {
                    self.at = start;
                    return Err("a metric type");
                }
                self.skip_blanks();
                self.end_of_line()?;
            }
            ("EOF", Format::OpenMetrics) => {
                self.end_of_line()?;
                return Ok(Line::Eof);
            }
            (_, Format::Text) => self.skip_line(),
            (_, Format::OpenMetrics) => return Err("HELP, TYPE, UNIT or EOF after `# `"),
        }
        Ok(Line::Comment)
    }

    fn metadata_name(&mut self) -> Result<(), Expected> {
        self.skip_blanks();
        let name = if self.peek() == Some(b'"') {
            self.quoted()?
        } else {
            Cow::Borrowed(self.name(is_metric_byte).ok_or("a metric name")?)
        };
        if name.is_empty() || !matches!(self.peek(), None | Some(b' ' | b'\t' | b'\n')) {
            return Err("a metric name");
        }
        self.skip_blanks();
        Ok(())
    }

    /// A name of such bytes that does not begin with a digit.
    fn name(&mut self, is_name_byte: impl Fn(u8) -> bool) -> Option<&'b str> {
        let start = self.at;
        if self.peek().is_some_and(|first| first.is_ascii_digit()) {
            return None;
        }
        let rest = &self.bytes[start..];
        let length = rest.iter().position(|byte| !is_name_byte(*byte)).unwrap_or(rest.len());
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

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.at += 1;
        }
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

#[derive(PartialEq, Eq)]
enum Line {
    Comment,
    Eof,
}

fn is_metric_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':')
}

fn is_label_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn is_metric_type(kind: &str, format: Format) -> bool {
    match kind {
        "counter" | "gauge" | "histogram" | "summary" => true,
        "untyped" => format == Format::Text,
        "gaugehistogram" | "info" | "stateset" | "unknown" => format == Format::OpenMetrics,
        _ => false,
    }
}

/// OpenMetrics counts seconds, with a fraction.
fn milliseconds(seconds: f64) -> Option<i64> {
    let milliseconds = (seconds * 1000.0).round();
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
