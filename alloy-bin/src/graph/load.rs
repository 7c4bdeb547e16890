//! Files -> statements. The only place that reads configuration from the disk.

use std::path::Path;

use anyhow::{Context, bail};

use crate::syntax::ast::Statement;
use crate::syntax::{Diagnostics, Sources, parse};

/// A parsed configuration.
pub struct Loaded {
    pub(super) statements: Vec<Statement>,
    pub(super) sources: Sources,
}

/// Reads and parses a file, or all `*.alloy` files of a folder in the order of their names as one configuration.
pub fn load(path: &Path) -> anyhow::Result<Loaded> {
    let mut sources = Sources::default();
    let mut statements = Vec::new();
    let mut diagnostics = Diagnostics::default();
    for file in files(path)? {
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("cannot read the configuration {}", file.display()))?;
        let source = sources.add(file.display().to_string(), text);
        let (parsed, found) = parse(&sources, source);
        statements.extend(parsed.statements);
        diagnostics.extend(found);
    }
    if !diagnostics.is_empty() {
        bail!("{}", diagnostics.render(&sources));
    }
    Ok(Loaded { statements, sources })
}

fn files(path: &Path) -> anyhow::Result<Vec<std::path::PathBuf>> {
    let of = || format!("cannot read the configuration {}", path.display());
    if !std::fs::metadata(path).with_context(of)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).with_context(of)? {
        let file = entry.with_context(of)?.path();
        if file.extension().is_some_and(|extension| extension == "alloy") && file.is_file() {
            files.push(file);
        }
    }
    if files.is_empty() {
        bail!("the folder {} has no *.alloy file", path.display());
    }
    files.sort();
    Ok(files)
}
