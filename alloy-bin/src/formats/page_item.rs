//! What a page is made of, in whatever format it came.

use std::borrow::Cow;

use crate::telemetry::{Extras, MetricType};

/// What "not a number" becomes. One bit pattern for all, so that no page can send the staleness marker by accident.
pub(super) const NORMAL_NAN: f64 = f64::from_bits(0x7ff8_0000_0000_0001);

/// A label's name and value.
pub type LabelPair<'b> = (Cow<'b, str>, Cow<'b, str>);

/// What a page is made of. `'b` is the page's lifetime, `'s` lasts until the next item.
#[derive(Debug, Clone, PartialEq)]
pub enum Item<'s, 'b> {
    /// A sample.
    Series(Series<'s, 'b>),
    /// Something about the family of that name.
    Metadata(&'s str, Statement<'s>),
}

/// What a page says of a family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement<'s> {
    /// What kind of samples it has.
    Type(MetricType),
    /// What it measures.
    Help(Cow<'s, str>),
    /// The unit of its values.
    Unit(&'s str),
}

/// One sample. `'b` is the page's lifetime, `'s` lasts until the next item.
#[derive(Debug, Clone, PartialEq)]
pub struct Series<'s, 'b> {
    /// The metric's name; never empty.
    pub name: &'s str,
    /// The labels as written: unsorted, values perhaps empty, names perhaps twice.
    pub labels: &'s [LabelPair<'b>],
    /// The value; [`STALE_NAN`](crate::telemetry::STALE_NAN) never occurs.
    pub value: f64,
    /// Milliseconds since the Unix epoch, if the line has a timestamp.
    pub timestamp_ms: Option<i64>,
    /// Exemplars, or a whole histogram. Most samples have none, so it is small for them.
    pub extras: Option<Box<Extras>>,
    /// Whether a name stands in quotes: only then it can have any characters.
    pub has_quoted_names: bool,
    /// What to show of it in a message: name and labels as written, or the family's name.
    pub text: &'b str,
}
