//! The texts that were read and positions in them. A configuration may be a folder of files, so a position carries
//! the id of its text.

/// Which text of a [`Sources`] a position belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(u32);

/// A range of bytes in one source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The text it lies in.
    pub source: SourceId,
    /// The first byte.
    pub start: usize,
    /// The byte after the last one.
    pub end: usize,
}

impl Span {
    /// From the start of this span to the end of `last`, which lies in the same source.
    pub fn to(self, last: Span) -> Span {
        Span { end: last.end.max(self.start), ..self }
    }

    /// The empty span behind this one.
    pub fn behind(self) -> Span {
        Span { start: self.end, ..self }
    }
}

/// A position as people count: from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The name under which the text was added.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1; a tab is one character.
    pub column: usize,
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// All texts of one configuration.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    sources: Vec<Source>,
}

#[derive(Clone, Debug)]
struct Source {
    name: String,
    text: String,
    line_starts: Vec<usize>,
}

impl Sources {
    /// Adds a text under the name that messages will show.
    pub fn add(&mut self, name: impl Into<String>, text: impl Into<String>) -> SourceId {
        let text = text.into();
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let id = SourceId(u32::try_from(self.sources.len()).expect("fewer sources than 2^32"));
        self.sources.push(Source { name: name.into(), text, line_starts });
        id
    }

    /// The whole text of a source.
    pub fn text(&self, id: SourceId) -> &str {
        &self.source(id).text
    }

    /// Where a span begins.
    pub fn location(&self, span: Span) -> Location {
        let source = self.source(span.source);
        let line = self.line_of(span.source, span.start);
        let before = &source.text[source.line_starts[line]..floor(&source.text, span.start)];
        Location { file: source.name.clone(), line: line + 1, column: before.chars().count() + 1 }
    }

    /// The index of the line, from 0, that holds a byte.
    pub(super) fn line_of(&self, id: SourceId, at: usize) -> usize {
        self.source(id).line_starts.partition_point(|start| *start <= at).saturating_sub(1)
    }

    /// A line's first byte and its text without the line end; `None` past the end of the text.
    pub(super) fn line(&self, id: SourceId, line: usize) -> Option<(usize, &str)> {
        let source = self.source(id);
        let start = *source.line_starts.get(line)?;
        let end = source.line_starts.get(line + 1).copied().unwrap_or(source.text.len());
        Some((start, source.text[start..end].trim_end_matches(['\n', '\r'])))
    }

    /// All, with their names.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, SourceId)> {
        (0..).zip(&self.sources).map(|(index, source)| (source.name.as_str(), SourceId(index)))
    }

    fn source(&self, id: SourceId) -> &Source {
        &self.sources[id.0 as usize]
    }
}

/// The nearest boundary of a character at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    text.floor_char_boundary(at.min(text.len()))
}
