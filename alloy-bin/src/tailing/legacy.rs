//! Positions that Promtail or the static mode of Grafana's agent has kept: YAML, paths to offsets.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::Deserialize;

/// Offsets by path.
pub type LegacyPositions = BTreeMap<String, u64>;

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    positions: BTreeMap<String, String>,
}

/// Reads such a file. What is no offset (a cursor of systemd's journal) is left out. Blocks.
///
/// # Errors
/// What the system says, or that it is no such file.
pub fn legacy_positions(path: &Path) -> io::Result<LegacyPositions> {
    let positions = legacy_entries(path)?.into_iter();
    Ok(positions.filter_map(|(path, offset)| Some((path, offset.parse().ok()?))).collect())
}

/// The text of all entries.
///
/// # Errors
/// As [`legacy_positions`].
pub fn legacy_entries(path: &Path) -> io::Result<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(path)?;
    let document: Document = serde_saphyr::from_str(&text).map_err(io::Error::other)?;
    Ok(document.positions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promtails_positions_are_understood() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("positions.yml");
        let text = "positions:\n  /var/log/a.log: \"1234\"\n  '/var/log/b c.log': \"0\"\n  \
                    cursor-journal: s=12;i=3\n";
        std::fs::write(&path, text).unwrap();
        let expected = [("/var/log/a.log".to_owned(), 1234), ("/var/log/b c.log".to_owned(), 0)];
        assert_eq!(legacy_positions(&path).unwrap(), LegacyPositions::from(expected));
        assert_eq!(legacy_entries(&path).unwrap()["cursor-journal"], "s=12;i=3");
        std::fs::write(&path, "positions: 5").unwrap();
        assert!(legacy_positions(&path).is_err());
        assert!(legacy_positions(&folder.path().join("missing")).is_err());
    }
}
