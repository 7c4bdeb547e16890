//! The texts that the rules are about: files, lines without comments, `use` trees.

use std::path::{Path, PathBuf};

use super::CRATES;

/// A file of the workspace.
pub(super) struct File {
    /// From the workspace's root.
    pub(super) path: String,
    /// All of it.
    pub(super) text: String,
    /// The text without comments and without the unit tests at its end; line numbers are the same.
    pub(super) code: String,
}

impl File {
    pub(super) fn new(path: &str, text: &str) -> Self {
        let is_test = path.contains("/tests/") || path.ends_with("/tests.rs");
        let end = if is_test { 0 } else { text.find("#[cfg(test)]\nmod tests").unwrap_or(text.len()) };
        let code = text[..end].lines().map(without_comment).collect::<Vec<_>>().join("\n");
        File { path: path.to_owned(), text: text.to_owned(), code }
    }

    pub(super) fn finding(&self, line: usize, what: &str) -> String {
        format!("{}:{line}: {what}", self.path)
    }

    /// `crate::a::b` as `["a", "b"]`: the module that this file is.
    pub(super) fn module(&self) -> Vec<&str> {
        let inside = self.path.split_once("/src/").map_or(self.path.as_str(), |(_, inside)| inside);
        let inside = inside.trim_end_matches(".rs");
        inside.split('/').filter(|part| *part != "mod").collect()
    }
}

pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace")
}

fn read(path: &Path) -> File {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let relative = path.strip_prefix(root()).expect("found below the root");
    File::new(&relative.to_string_lossy().replace('\\', "/"), &text)
}

pub(super) fn rust_files() -> Vec<File> {
    let mut paths: Vec<PathBuf> = CRATES.iter().map(|name| root().join(name)).collect();
    let mut files = Vec::new();
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            paths.extend(
                std::fs::read_dir(&path).expect("readable").map(|entry| entry.expect("readable").path()),
            );
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(read(&path));
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// The pages of components, the folder's table left out.
pub(super) fn pages() -> Vec<File> {
    let Ok(folder) = std::fs::read_dir(root().join("docs/components")) else { return Vec::new() };
    let paths = folder.map(|entry| entry.expect("readable").path());
    paths.filter(|path| !path.ends_with("README.md")).map(|path| read(&path)).collect()
}

/// `a::{b, c::d}` as `[a, b]` and `[a, c, d]`; stops at the first thing that is no path.
pub(super) fn unfold(text: &str) -> Vec<Vec<String>> {
    let mut prefix = Vec::new();
    let mut rest = text;
    loop {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        if end > 0 {
            prefix.push(rest[..end].to_owned());
        }
        rest = &rest[end..];
        match rest.strip_prefix("::") {
            Some(behind) => rest = behind,
            None => break,
        }
    }
    let Some(group) = rest.strip_prefix('{') else { return vec![prefix] };
    let mut depth = 0;
    let mut start = 0;
    let mut paths = Vec::new();
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                let inner = group[start..at].trim();
                if !inner.is_empty() {
                    paths.extend(unfold(inner).into_iter().map(|path| [prefix.clone(), path].concat()));
                }
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    paths
}

/// The line up to its comment. A `//` inside a string is none.
pub(super) fn without_comment(line: &str) -> &str {
    let mut in_string = false;
    let mut previous = ' ';
    for (at, c) in line.char_indices() {
        match c {
            '"' if previous != '\\' && previous != '\'' => in_string = !in_string,
            '/' if !in_string && line[at..].starts_with("//") => return &line[..at],
            _ => {}
        }
        previous = c;
    }
    line
}

/// The numbers of the lines in which the name stands as a word.
pub(super) fn lines_with<'a>(code: &'a str, name: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    code.lines().enumerate().filter_map(move |(index, line)| {
        let hit = line
            .match_indices(name)
            .any(|(at, _)| !line[..at].ends_with(is_word) && !line[at + name.len()..].starts_with(is_word));
        hit.then_some(index + 1)
    })
}
