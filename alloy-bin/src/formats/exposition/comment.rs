//! Lines that begin with `#`: type, help and unit of a family, the end of the page, and what only people read.

use std::borrow::Cow;

use memchr::memchr;

use super::{Expected, METRIC_BYTES, Newline, Scanner, TextFormat, unescape};
use crate::formats::page_item::{Item, Statement};
use crate::telemetry::MetricType;

#[derive(PartialEq, Eq)]
pub(super) enum Line {
    Comment,
    Eof,
}

impl<'b> Scanner<'b> {
    /// A line that begins with `#`. In Prometheus' text any comment may stand there, in OpenMetrics only metadata.
    pub(super) fn comment(&mut self, sink: &mut impl FnMut(Item<'_, 'b>)) -> Result<Line, Expected> {
        self.at += 1;
        let before = self.at;
        if self.format == TextFormat::OpenMetrics {
            self.gap()?;
        }
        self.blanks();
        // `#HELP` is a comment like any other: a blank makes it metadata.
        let keyword_at = self.at;
        let keyword = if self.at > before { self.token() } else { "" };
        let ends_here = matches!(self.peek(), None | Some(b'\n'));
        match (keyword, self.format) {
            // A keyword alone says nothing and breaks nothing.
            ("HELP" | "TYPE", TextFormat::Prometheus) if ends_here => self.skip_line(),
            ("HELP" | "TYPE", _) | ("UNIT", TextFormat::OpenMetrics) => {
                let family = self.metadata_name()?;
                let statement = self.statement(keyword, &family)?;
                sink(Item::Metadata(&family, statement));
            }
            ("EOF", TextFormat::OpenMetrics) => {
                self.end_of_line()?;
                return Ok(Line::Eof);
            }
            (_, TextFormat::Prometheus) => self.skip_line(),
            (_, TextFormat::OpenMetrics) => {
                self.at = keyword_at;
                return Err("HELP, TYPE, UNIT or EOF after `# `");
            }
        }
        Ok(Line::Comment)
    }

    fn metadata_name(&mut self) -> Result<Cow<'b, str>, Expected> {
        self.gap()?;
        let name = if self.peek() == Some(b'"') {
            self.quoted(Newline::Allowed)?
        } else {
            Cow::Borrowed(self.name(METRIC_BYTES).ok_or("a metric name")?)
        };
        if name.is_empty() || !matches!(self.peek(), None | Some(b' ' | b'\t' | b'\n')) {
            return Err("a metric name");
        }
        Ok(name)
    }

    /// The rest of a line of metadata.
    fn statement(&mut self, keyword: &str, family: &str) -> Result<Statement<'b>, Expected> {
        self.gap()?;
        let start = self.at;
        match keyword {
            "TYPE" => {
                let Some(metric_type) = metric_type(self.token(), self.format) else {
                    self.at = start;
                    return Err("a metric type");
                };
                self.blanks();
                self.end_of_line()?;
                self.metric_type = metric_type;
                Ok(Statement::Type(metric_type))
            }
            _ => {
                self.skip_line();
                let text = self.text[start..self.at].trim_end_matches('\n');
                if keyword == "HELP" {
                    return Ok(Statement::Help(match memchr(b'\\', text.as_bytes()) {
                        Some(_) => Cow::Owned(unescape(text)),
                        None => Cow::Borrowed(text),
                    }));
                }
                if !is_unit_of(text, family) {
                    self.at = start;
                    return Err("a unit that the name ends with");
                }
                Ok(Statement::Unit(text))
            }
        }
    }
}

fn metric_type(name: &str, format: TextFormat) -> Option<MetricType> {
    let open_metrics = |metric_type| (format == TextFormat::OpenMetrics).then_some(metric_type);
    match name {
        "counter" => Some(MetricType::Counter),
        "gauge" => Some(MetricType::Gauge),
        "histogram" => Some(MetricType::Histogram),
        "summary" => Some(MetricType::Summary),
        "untyped" => (format == TextFormat::Prometheus).then_some(MetricType::Unknown),
        "unknown" => open_metrics(MetricType::Unknown),
        "gaugehistogram" => open_metrics(MetricType::GaugeHistogram),
        "info" => open_metrics(MetricType::Info),
        "stateset" => open_metrics(MetricType::StateSet),
        _ => None,
    }
}

/// Whether the family's name ends with `_` and the unit, or there is none.
pub(in crate::formats) fn is_unit_of(unit: &str, family: &str) -> bool {
    unit.is_empty() || family.strip_suffix(unit).is_some_and(|before| before.ends_with('_'))
}
