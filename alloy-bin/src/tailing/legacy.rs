//! Positions that Promtail, Grafana's agent or Alloy has kept: YAML, files to offsets.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::Deserialize;

/// Offsets by path.
pub type LegacyPositions = BTreeMap<String, u64>;

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    positions: BTreeMap<Name, String>,
}

/// Whose position it is.
#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(untagged)]
enum Name {
    /// As Promtail and the static mode of Grafana's agent have it.
    Path(String),
    /// As Alloy has it.
    Entry { path: String, labels: String },
}

/// Reads such a file. Of several targets that read one file the one that is furthest behind counts. What is no offset (a cursor of systemd's journal) is left out. Blocks.
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
    let mut entries = BTreeMap::new();
    for (name, position) in document.positions {
        let (Name::Path(path) | Name::Entry { path, .. }) = name;
        let offset = |text: &String| text.parse().unwrap_or(u64::MAX);
        match entries.get(&path) {
            Some(other) if offset(other) <= offset(&position) => {}
            _ => drop(entries.insert(path, position)),
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_of_promtail_and_alloy_are_understood() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("positions.yml");
        let text = "positions:\n  /var/log/a.log: \"1234\"\n  '/var/log/b c.log': \"0\"\n  \
                    cursor-journal: s=12;i=3\n";
        std::fs::write(&path, text).unwrap();
        let expected = [("/var/log/a.log".to_owned(), 1234), ("/var/log/b c.log".to_owned(), 0)];
        assert_eq!(legacy_positions(&path).unwrap(), LegacyPositions::from(expected));
        assert_eq!(legacy_entries(&path).unwrap()["cursor-journal"], "s=12;i=3");
        let alloys = "positions:\n  ? path: /var/log/a.log\n    labels: '{app=\"a\", job=\"b\"}'\n  : \"1234\"\n  \
                      ? path: /var/log/a.log\n    labels: '{}'\n  : \"99\"\n";
        std::fs::write(&path, alloys).unwrap();
        assert_eq!(
            legacy_positions(&path).unwrap(),
            LegacyPositions::from([("/var/log/a.log".to_owned(), 99)])
        );
        std::fs::write(&path, "positions: 5").unwrap();
        assert!(legacy_positions(&path).is_err());
        assert!(legacy_positions(&folder.path().join("missing")).is_err());
    }
}
