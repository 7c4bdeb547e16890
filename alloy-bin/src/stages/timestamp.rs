//! `stage.timestamp`: an extracted text becomes the line's time.
//!
//! What is done about a text that is no time is decided within the batch, from nothing but its lines: with `fudge` the line
//! comes a nanosecond after the one before it in its stream, and before the first that has a time, a nanosecond before the next.

use std::collections::HashMap;

use super::go_layout::TimeFormat;
use super::line::Line;

/// The stage's arguments.
#[derive(Debug, Clone)]
pub struct Timestamp {
    /// What is read.
    pub source: String,
    /// How; the others are tried when the first does not fit.
    pub formats: Vec<TimeFormat>,
    /// What to do if it is no time.
    pub on_failure: OnFailure,
}

/// What to do if there is no time to be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// Next to the lines around it.
    #[default]
    Fudge,
    /// The line keeps the time that it has.
    Skip,
}

/// The last time of each stream of the batch, and lines that wait for the first.
#[derive(Default)]
pub(super) struct Clocks<'p> {
    last: HashMap<usize, i64>,
    waiting: HashMap<usize, Vec<Line<'p>>>,
    /// Streams with lines that wait, in the order in which they came.
    order: Vec<usize>,
}

impl Timestamp {
    /// The time that the line says.
    pub(super) fn find(&self, line: &Line<'_>) -> Option<i64> {
        let text = line.extracted.text(&self.source)?;
        self.formats.iter().find_map(|format| format.parse(&text, line.timestamp_ns))
    }
}

impl<'p> Clocks<'p> {
    /// Sets the line's time. Gives back the lines that may go on, in their order.
    pub(super) fn set(
        &mut self,
        mut line: Line<'p>,
        found: Option<i64>,
        on_failure: OnFailure,
    ) -> Waited<'p> {
        if on_failure == OnFailure::Skip {
            line.timestamp_ns = found.unwrap_or(line.timestamp_ns);
            return (Vec::new(), Some(line));
        }
        let stream = line.labels.address();
        let Some(time) = found.or_else(|| Some(self.last.get(&stream)?.saturating_add(1))) else {
            let waiting = self.waiting.entry(stream).or_default();
            if waiting.is_empty() {
                self.order.push(stream);
            }
            waiting.push(line);
            return (Vec::new(), None);
        };
        line.timestamp_ns = time;
        (self.note(&line), Some(line))
    }

    /// The line has a time. Gives back the lines of its stream that have waited for the first.
    pub(super) fn note(&mut self, line: &Line<'_>) -> Vec<Line<'p>> {
        let (stream, time) = (line.labels.address(), line.timestamp_ns);
        let is_first = self.last.insert(stream, time).is_none();
        if !is_first || self.waiting.is_empty() {
            return Vec::new();
        }
        let mut earlier = self.waiting.remove(&stream).unwrap_or_default();
        self.order.retain(|other| *other != stream);
        for (index, line) in earlier.iter_mut().rev().enumerate() {
            line.timestamp_ns = time.saturating_sub(index as i64 + 1);
        }
        earlier
    }

    /// Lines whose stream never had a time: they keep their own.
    pub(super) fn rest(&mut self) -> Vec<Line<'p>> {
        let streams = std::mem::take(&mut self.order);
        streams.iter().flat_map(|stream| self.waiting.remove(stream).unwrap_or_default()).collect()
    }
}

/// Lines that had waited, and the line itself unless it waits.
pub(super) type Waited<'p> = (Vec<Line<'p>>, Option<Line<'p>>);
