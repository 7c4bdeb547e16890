//! Files -> texts -> statements. The only place that reads configuration from the disk.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use sha2::{Digest, Sha256};

use crate::syntax::ast::Statement;
use crate::syntax::{Diagnostics, Sources, parse};

/// Larger files are no configuration: ten thousand lines have half a MiB.
const FILE_BYTES_MAX: u64 = 32 << 20;

/// Texts with their names, in order.
pub(super) type Texts = Vec<(String, String)>;

/// Reads a file, or all `*.alloy` files of a folder in the order of their names as one configuration.
pub(super) fn read(path: &Path) -> anyhow::Result<Texts> {
    let mut texts = Vec::new();
    for (name, file) in files(path)? {
        let of = || format!("cannot read the configuration {}", name.display());
        let size = std::fs::metadata(&file).with_context(of)?.len();
        if size > FILE_BYTES_MAX {
            bail!("{}: {size} bytes are more than the limit of {FILE_BYTES_MAX}", of());
        }
        texts.push((name.display().to_string(), std::fs::read_to_string(&file).with_context(of)?));
    }
    Ok(texts)
}

/// Each file's name for people, and where it is read.
fn files(path: &Path) -> anyhow::Result<Vec<(PathBuf, PathBuf)>> {
    let of = || format!("cannot read the configuration {}", path.display());
    if !std::fs::metadata(path).with_context(of)?.is_dir() {
        return Ok(vec![(path.to_owned(), path.to_owned())]);
    }
    // A mounted ConfigMap is replaced by turning one symbolic link. All files are read through one look at it, so that old
    // and new ones are never mixed.
    let folder = std::fs::canonicalize(path.join("..data")).unwrap_or_else(|_| path.to_owned());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(of)? {
        let file = entry.with_context(of)?.path();
        if file.extension().is_some_and(|extension| extension == "alloy") && file.is_file() {
            files.push((path.join(file.file_name().unwrap_or_default()), file));
        }
    }
    if files.is_empty() {
        bail!("the folder {} has no *.alloy file", path.display());
    }
    files.sort();
    Ok(files)
}

/// Parses the texts as one body; what is wrong is added to `diagnostics`.
pub(super) fn parse_all(
    texts: &[(String, String)],
    sources: &mut Sources,
    diagnostics: &mut Diagnostics,
) -> Vec<Statement> {
    let mut statements = Vec::new();
    for (name, text) in texts {
        let source = sources.add(name.as_str(), text.as_str());
        let (parsed, found) = parse(sources, source);
        statements.extend(parsed.statements);
        diagnostics.extend(found);
    }
    statements
}

/// SHA-256 over the texts; of one file it is what `sha256sum` prints.
pub(super) fn hash<'a>(texts: impl IntoIterator<Item = &'a (String, String)>) -> String {
    let mut sha256 = Sha256::new();
    for (_, text) in texts {
        sha256.update(text);
    }
    sha256.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
