//! `$1` and `${name}`, as Go's `regexp.Expand` reads them.

/// A text with groups of a match in it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Template {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Text(String),
    Group(usize),
}

impl Template {
    /// `index` knows the groups that have a name. A group that does not exist is an empty text, and a `$` without a name
    /// stands for itself.
    pub(super) fn new(text: &str, index: impl Fn(&str) -> Option<usize>) -> Self {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('$') {
            plain.push_str(before);
            rest = behind;
            if let Some(behind) = rest.strip_prefix('$') {
                plain.push('$');
                rest = behind;
            } else if let Some((name, behind)) = name(rest) {
                rest = behind;
                if let Some(group) = number(name).or_else(|| index(name)) {
                    parts.extend((!plain.is_empty()).then(|| Part::Text(std::mem::take(&mut plain))));
                    parts.push(Part::Group(group));
                }
            } else {
                plain.push('$');
            }
        }
        plain.push_str(rest);
        parts.extend((!plain.is_empty()).then_some(Part::Text(plain)));
        Template { text: text.to_owned(), parts }
    }

    /// As it was written.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The text if there is no group in it.
    pub(super) fn fixed(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// With the groups of a match.
    pub(super) fn expand<'m>(&self, group: impl Fn(usize) -> Option<&'m str>) -> String {
        let texts = self.parts.iter().map(|part| match part {
            Part::Text(text) => text,
            Part::Group(index) => group(*index).unwrap_or_default(),
        });
        texts.collect()
    }
}

/// The name at the start, in braces or as long as it goes, and what is behind it.
fn name(text: &str) -> Option<(&str, &str)> {
    let (inside, is_braced) = text.strip_prefix('{').map_or((text, false), |inside| (inside, true));
    let end = inside.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(inside.len());
    let (name, behind) = inside.split_at(end);
    let behind = if is_braced { behind.strip_prefix('}')? } else { behind };
    (!name.is_empty()).then_some((name, behind))
}

/// A number without zeros in front, below 10^8.
fn number(name: &str) -> Option<usize> {
    let is_number = name.bytes().all(|byte| byte.is_ascii_digit()) && (name == "0" || !name.starts_with('0'));
    if is_number && name.len() <= 8 { name.parse().ok() } else { None }
}
