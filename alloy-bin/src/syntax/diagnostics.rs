//! Messages that point at a position in the configuration, and how they are printed:
//!
//! ```text
//! Error: main.alloy:2:2: unrecognized attribute name "urll"
//!
//! 1 | endpoint {
//! 2 |     urll = "http://localhost"
//!   |     ^^^^
//!   = did you mean "url"?
//! 3 | }
//! ```

use super::hiding::without_secrets;
use super::source::{SourceId, Sources, Span};
use std::collections::BTreeMap;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The configuration can't be used.
    Error,
    /// The configuration is used; somebody should look at it.
    Warning,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What it points at.
    pub span: Span,
    /// What is wrong, in one line.
    pub message: String,
    /// What to do about it, in one line.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// An error without a hint.
    pub fn error(span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Error, span, message: message.into(), hint: None }
    }

    /// A warning without a hint.
    pub fn warning(span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(span, message) }
    }

    /// The same message with a hint, if there is one.
    pub fn with_hint(self, hint: Option<String>) -> Diagnostic {
        Diagnostic { hint, ..self }
    }
}

/// Everything that was found, in the order of discovery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
}

impl Diagnostics {
    /// Adds one message.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.list.push(diagnostic);
    }

    /// Adds an error without a hint.
    pub fn error(&mut self, span: Span, message: impl Into<String>) {
        self.push(Diagnostic::error(span, message));
    }

    /// Adds all of another collection.
    pub fn extend(&mut self, other: Diagnostics) {
        self.list.extend(other.list);
    }

    /// Whether more are shown to people than were found so far: hints that compare names with all others take their time.
    pub fn has_room(&self) -> bool {
        self.list.len() < SHOWN_MAX
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether the configuration can't be used.
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    /// The messages in the order of discovery.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.list.iter()
    }

    /// Keeps the first error of every line: what follows on the same line is mostly its echo.
    pub(super) fn keep_first_of_each_line(&mut self, sources: &Sources) {
        self.list.sort_by_key(|diagnostic| diagnostic.span.start);
        self.list.dedup_by_key(|diagnostic| sources.line_of(diagnostic.span.source, diagnostic.span.start));
    }

    /// The text for people, ordered by position. Ends with a line end, unless there is nothing to say. String literals
    /// of attributes that sound like secrets are shown as stars.
    pub fn render(&self, sources: &Sources) -> String {
        let mut sorted: Vec<&Diagnostic> = self.list.iter().collect();
        sorted.sort_by_key(|diagnostic| diagnostic.span);
        let mut shown: BTreeMap<SourceId, String> = BTreeMap::new();
        let mut texts = Vec::new();
        for diagnostic in sorted.iter().take(SHOWN_MAX) {
            let source = diagnostic.span.source;
            let text = shown.entry(source).or_insert_with(|| without_secrets(sources, source));
            texts.push(render_one(diagnostic, sources, text));
        }
        if sorted.len() > SHOWN_MAX {
            texts.push(format!("... and {} more\n", sorted.len() - SHOWN_MAX));
        }
        texts.join("\n")
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        Diagnostics { list: vec![diagnostic] }
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;
    fn into_iter(self) -> Self::IntoIter {
        self.list.into_iter()
    }
}

/// More messages than this nobody reads; about two hundred lines of terminal.
const SHOWN_MAX: usize = 40;

/// A span over more lines than this is shown by its first and its last two.
const SPAN_LINES_MAX: usize = 6;

const TAB: &str = "    ";

/// Of a longer line only the part round the span is shown: a file may be one line.
const COLUMNS_MAX: usize = 240;

/// `text` is the source's with its secrets hidden; bytes and lines are at the same places.
fn render_one(diagnostic: &Diagnostic, sources: &Sources, text: &str) -> String {
    let Diagnostic { severity, span, message, hint } = diagnostic;
    let mut out = format!("{severity:?}: {}: {message}\n\n", sources.location(*span));

    let first = sources.line_of(span.source, span.start);
    let last = sources.line_of(span.source, span.end.saturating_sub(1).max(span.start));
    // A line is shown before and after; the empty one after the final line end is not a line to people.
    let from = first.saturating_sub(1);
    let to = (last + 1).min(last_visible_line(span, sources).max(last));
    let digits = (to + 1).to_string().len();
    let art = if first == last { "" } else { "  " };

    // All lines are cut at the same column, so that carets stay below what they point at.
    let cut = sources.line(span.source, first).map_or(0, |(start, line)| {
        let column = width(line, span.start - start);
        if column > COLUMNS_MAX / 2 && width(line, line.len()) > COLUMNS_MAX {
            column - COLUMNS_MAX / 4
        } else {
            0
        }
    });
    for number in from..=to {
        let Some((start, line)) = sources.line(span.source, number) else { break };
        if last - first >= SPAN_LINES_MAX && number == first + 2 {
            out += &format!("{:digits$} | | ...\n", "");
        }
        if last - first >= SPAN_LINES_MAX && number > first + 1 && number + 1 < last {
            continue;
        }
        let bar = if first < number && number <= last { "| " } else { art };
        let visible = text[start..start + line.len()].replace('\t', TAB);
        let visible: String = visible.chars().skip(cut).take(COLUMNS_MAX).collect();
        out += &format!("{:>digits$} | {bar}{visible}\n", number + 1);
        let column = |bytes: usize| width(line, bytes).saturating_sub(cut).min(COLUMNS_MAX);
        if number == first {
            let column_first = column(span.start - start);
            if first == last {
                let length = column(span.end.saturating_sub(start)).saturating_sub(column_first).max(1);
                out += &format!("{:digits$} | {:column_first$}{}\n", "", "", "^".repeat(length));
            } else {
                out += &format!("{:digits$} |  _{}^\n", "", "_".repeat(column_first));
            }
        }
        if number == last {
            if first != last {
                let column = column(span.end.saturating_sub(start + 1));
                out += &format!("{:digits$} | |_{}^\n", "", "_".repeat(column));
            }
            if let Some(hint) = hint {
                out += &format!("{:digits$} = {hint}\n", "");
            }
        }
    }
    out
}

fn last_visible_line(span: &Span, sources: &Sources) -> usize {
    let text = sources.text(span.source);
    sources.line_of(span.source, text.trim_end_matches(['\n', '\r']).len())
}

/// How wide the first `bytes` of a line are on the screen.
fn width(line: &str, bytes: usize) -> usize {
    let bytes = line.floor_char_boundary(bytes.min(line.len()));
    line[..bytes].chars().map(|c| if c == '\t' { TAB.len() } else { 1 }).sum()
}
