//! Pages as the tests read them: lines with what they are in, headings and their anchors, links, blocks of code.

use std::path::Path;

/// A page in Markdown.
pub(super) struct Page {
    /// From the repository's root.
    pub(super) path: String,
    pub(super) lines: Vec<Line>,
}

/// A line, and where it stands.
pub(super) struct Line {
    pub(super) text: String,
    /// Inside a block of code, or one of its fences.
    pub(super) is_code: bool,
}

/// A fenced block.
pub(super) struct Code {
    /// What stands behind the fence: `sh`, `alloy`.
    pub(super) language: String,
    pub(super) text: String,
    /// Of the fence, from 1 on.
    pub(super) line: usize,
    /// What the comment in front of it says to the tests: `<!-- test: WORDS -->`.
    pub(super) mark: String,
}

pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace")
}

/// The README and everything below `docs`.
pub(super) fn pages() -> Vec<Page> {
    let mut files = vec![root().join("README.md")];
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("readable") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                // What mdBook makes of the pages.
                if !path.ends_with("docs/book") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "md") {
                files.push(path);
            }
        }
    }
    files.sort();
    let pages: Vec<Page> = files.iter().map(|path| Page::read(path)).collect();
    assert!(pages.len() > 50, "{} pages", pages.len());
    pages
}

impl Page {
    fn read(path: &Path) -> Page {
        let text = std::fs::read_to_string(path).expect("readable");
        let relative = path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
        Page::new(&relative, &text)
    }

    pub(super) fn new(path: &str, text: &str) -> Page {
        let mut is_inside = false;
        let lines = text.lines().map(|line| {
            let is_fence = line.trim_start().starts_with("```");
            let is_code = is_inside || is_fence;
            is_inside ^= is_fence;
            Line { text: line.to_owned(), is_code }
        });
        Page { path: path.to_owned(), lines: lines.collect() }
    }

    pub(super) fn prose(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.lines.iter().enumerate().filter(|(_, line)| !line.is_code);
        lines.map(|(index, line)| (index + 1, line.text.as_str()))
    }

    /// Level and text of each heading.
    pub(super) fn headings(&self) -> impl Iterator<Item = (usize, usize, &str)> {
        self.prose().filter_map(|(line, text)| {
            let level = text.bytes().take_while(|byte| *byte == b'#').count();
            Some((line, level, text[level..].strip_prefix(' ')?)).filter(|_| level > 0)
        })
    }

    /// As GitHub and mdBook make them.
    pub(super) fn anchors(&self) -> Vec<String> {
        let anchor = |text: &str| {
            let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.collect::<String>().to_lowercase().replace(' ', "-")
        };
        self.headings().map(|(_, _, text)| anchor(text)).collect()
    }

    /// Line and target of each `[text](target)`.
    pub(super) fn links(&self) -> Vec<(usize, String)> {
        let mut links = Vec::new();
        for (line, text) in self.prose() {
            for (at, _) in text.match_indices("](") {
                let target = text[at + 2..].split(')').next().unwrap_or_default();
                links.push((line, target.to_owned()));
            }
        }
        links
    }

    pub(super) fn code(&self) -> Vec<Code> {
        let mut blocks: Vec<Code> = Vec::new();
        let mut is_open = false;
        let mut before = "";
        for (index, Line { text, is_code }) in self.lines.iter().enumerate() {
            let fence = text.trim_start().strip_prefix("```");
            match (fence, is_open) {
                (Some(language), false) => {
                    let mark =
                        before.trim().strip_prefix("<!-- test: ").and_then(|mark| mark.strip_suffix(" -->"));
                    let mark = mark.unwrap_or_default().to_owned();
                    blocks.push(Code {
                        language: language.to_owned(),
                        text: String::new(),
                        line: index + 1,
                        mark,
                    });
                    is_open = true;
                }
                (Some(_), true) => is_open = false,
                (None, true) => {
                    let block = blocks.last_mut().expect("one is open");
                    block.text += &format!("{text}\n");
                }
                (None, false) => {}
            }
            if !is_code && !text.trim().is_empty() {
                before = text;
            } else if *is_code {
                before = "";
            }
        }
        blocks
    }
}

/// What stands between backticks.
pub(super) fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

pub(super) fn report(findings: &[String]) {
    assert!(findings.is_empty(), "{} faults of the pages:\n{}\n", findings.len(), findings.join("\n"));
}
