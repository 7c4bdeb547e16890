//! Globs to paths: `*`, `?`, `[a-z]`, `{a,b}` and `**`, walking only into folders that can hold a match.

use std::fs;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};

/// Braces multiply: more alternatives than this in one pattern are a mistake.
const ALTERNATIVES_MAX: usize = 1024;

/// A compiled glob, with what it leaves out.
#[derive(Debug, Clone)]
pub struct Pattern {
    alternatives: Vec<Vec<Part>>,
    exclude: Option<GlobMatcher>,
}

/// What is wrong with a pattern.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// The syntax.
    #[error(transparent)]
    Glob(#[from] globset::Error),
    /// Too many combinations of braces.
    #[error("the braces of {0:?} stand for more than {ALTERNATIVES_MAX} patterns")]
    TooMany(String),
}

/// What one part of a path must be.
#[derive(Debug, Clone)]
enum Part {
    /// This name; also `..` and the like.
    Literal(String),
    /// A name like this.
    Glob(GlobMatcher),
    /// Any number of folders, also none.
    AnyFolders,
}

impl Pattern {
    /// Compiles a pattern; `exclude` is another one for paths to leave out, empty for none.
    ///
    /// # Errors
    /// See [`PatternError`].
    pub fn new(pattern: &str, exclude: &str) -> Result<Self, PatternError> {
        let absolute = |pattern: &str| match std::path::absolute(pattern) {
            Ok(path) => path.to_string_lossy().into_owned(),
            Err(_) => pattern.to_owned(),
        };
        let alternatives = expand(pattern)?
            .iter()
            .map(|alternative| parts(&absolute(alternative)))
            .collect::<Result<_, _>>()?;
        let exclude = if exclude.is_empty() { None } else { Some(compile(&absolute(exclude))?) };
        Ok(Pattern { alternatives, exclude })
    }

    /// The files that match now, sorted, each once. Folders that can't be read hold none. Blocks.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for parts in &self.alternatives {
            walk(PathBuf::from("/"), parts, &mut found);
        }
        found.sort();
        found.dedup();
        found.retain(|path| !self.exclude.as_ref().is_some_and(|exclude| exclude.is_match(path)));
        found
    }
}

fn compile(pattern: &str) -> Result<GlobMatcher, globset::Error> {
    Ok(GlobBuilder::new(pattern).literal_separator(true).build()?.compile_matcher())
}

fn parts(pattern: &str) -> Result<Vec<Part>, globset::Error> {
    let mut parts: Vec<Part> = Vec::new();
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        let is_repeated = part == "**" && matches!(parts.last(), Some(Part::AnyFolders));
        match part {
            _ if is_repeated => {}
            "**" => parts.push(Part::AnyFolders),
            _ if part.contains(['*', '?', '[', '\\']) => parts.push(Part::Glob(compile(part)?)),
            _ => parts.push(Part::Literal(part.to_owned())),
        }
    }
    // At the end it stands for all files below.
    if matches!(parts.last(), Some(Part::AnyFolders)) {
        parts.push(Part::Glob(compile("*")?));
    }
    Ok(parts)
}

/// Adds the files below `folder` that the parts lead to. Depth is bounded: each call uses up a part or goes down a
/// real folder (`**` does not follow links, which could form a circle).
fn walk(mut folder: PathBuf, parts: &[Part], found: &mut Vec<PathBuf>) {
    let literals = parts.iter().take_while(|part| matches!(part, Part::Literal(_))).count();
    for part in &parts[..literals] {
        if let Part::Literal(name) = part {
            folder.push(name);
        }
    }
    let Some((part, rest)) = parts[literals..].split_first() else {
        if !folder.is_dir() && fs::symlink_metadata(&folder).is_ok() {
            found.push(folder);
        }
        return;
    };
    match part {
        Part::Literal(_) => unreachable!("literals were taken off above"),
        Part::AnyFolders => {
            walk(folder.clone(), rest, found);
            for (path, kind) in entries(&folder) {
                if kind.is_dir() {
                    walk(path, &parts[literals..], found);
                }
            }
        }
        Part::Glob(glob) => {
            for (path, kind) in entries(&folder) {
                let is_match = path.file_name().is_some_and(|name| glob.is_match(Path::new(name)));
                if !is_match {
                    continue;
                }
                if !rest.is_empty() {
                    walk(path, rest, found);
                } else if kind.is_file() || (kind.is_symlink() && !path.is_dir()) {
                    found.push(path);
                }
            }
        }
    }
}

fn entries(folder: &Path) -> impl Iterator<Item = (PathBuf, fs::FileType)> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.path(), entry.file_type().ok()?)))
}

/// The patterns without braces that a pattern with braces stands for. Braces may hold `/` and other braces.
fn expand(pattern: &str) -> Result<Vec<String>, PatternError> {
    let mut done = Vec::new();
    let mut open = vec![pattern.to_owned()];
    while let Some(pattern) = open.pop() {
        if done.len() + open.len() >= ALTERNATIVES_MAX {
            return Err(PatternError::TooMany(pattern));
        }
        match first_braces(&pattern) {
            None => done.push(pattern),
            Some((begin, end)) => {
                for choice in choices(&pattern[begin + 1..end]) {
                    open.push(format!("{}{choice}{}", &pattern[..begin], &pattern[end + 1..]));
                }
            }
        }
    }
    Ok(done)
}

/// Where the first complete pair of braces is that is not inside of others.
fn first_braces(pattern: &str) -> Option<(usize, usize)> {
    let begin = pattern.find('{')?;
    let mut depth = 0;
    for (at, byte) in pattern.bytes().enumerate().skip(begin) {
        depth += i32::from(byte == b'{') - i32::from(byte == b'}');
        if depth == 0 {
            return Some((begin, at));
        }
    }
    None
}

fn choices(inner: &str) -> Vec<&str> {
    let (mut depth, mut begin, mut choices) = (0, 0, Vec::new());
    for (at, byte) in inner.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            b',' if depth == 0 => {
                choices.push(&inner[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    choices.push(&inner[begin..]);
    choices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_find_what_people_expect() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        for file in ["a.log", "b.log", "b.txt", "x/a.log", "x/y/c.log", "x/y/d.log.gz", ".hidden.log"] {
            fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
            fs::write(root.join(file), "").unwrap();
        }
        fs::create_dir(root.join("folder.log")).unwrap();
        std::os::unix::fs::symlink(&root, root.join("x/circle")).unwrap();
        std::os::unix::fs::symlink(root.join("b.txt"), root.join("link.log")).unwrap();
        let check = |pattern: &str, exclude: &str, expected: &[&str]| {
            let full = |text: &str| {
                if text.is_empty() { String::new() } else { format!("{}/{text}", root.display()) }
            };
            let found = Pattern::new(&full(pattern), &full(exclude)).unwrap().files();
            let found: Vec<_> =
                found.iter().map(|path| path.strip_prefix(&root).unwrap().to_str().unwrap()).collect();
            assert_eq!(found, expected, "{pattern} without {exclude:?}");
        };
        check("a.log", "", &["a.log"]);
        check("missing.log", "", &[]);
        check("?.log", "", &["a.log", "b.log"]);
        check("[b-z].*", "", &["b.log", "b.txt"]);
        check("*.log", "{a,.hidden}.log", &["b.log", "link.log"]);
        check("{a,b}.{log,txt}", "", &["a.log", "b.log", "b.txt"]);
        check("{x/y/c,{a,b}}.log", "", &["a.log", "b.log", "x/y/c.log"]);
        check("*/*.log", "", &["x/a.log"]);
        check("**/[ac].log", "", &["a.log", "x/a.log", "x/y/c.log"]);
        check("x/**", "", &["x/a.log", "x/y/c.log", "x/y/d.log.gz"]);
        check("x/**/**/*.log", "**/y/*", &["x/a.log"]);
        check("folder.log", "", &[]);
    }

    #[test]
    fn bad_patterns_are_refused() {
        assert!(Pattern::new("/a[", "").is_err());
        assert!(Pattern::new("/a", "/[").is_err());
        assert!(matches!(Pattern::new(&"{a,b}".repeat(11), ""), Err(PatternError::TooMany(_))));
        assert!(Pattern::new("/a{b", "").is_ok(), "a lone brace is a name");
    }
}
