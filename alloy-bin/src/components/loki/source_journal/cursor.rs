//! How far the journal is delivered, in one file that is replaced atomically.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

const FILE: &str = "cursor";

/// The cursor that was saved last; `None` if none was.
///
/// # Errors
/// What the system says, or that the file is damaged.
pub(super) fn load(folder: &Path) -> io::Result<Option<String>> {
    let text = match fs::read_to_string(folder.join(FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text?,
    };
    match text.strip_suffix('\n') {
        Some(cursor) if is_cursor(cursor) => Ok(Some(cursor.to_owned())),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, format!("the file {FILE:?} is damaged"))),
    }
}

/// Replaces it: after a crash at any point there is the old one or the new one.
///
/// # Errors
/// What the system says; the old one is as it was.
pub(super) fn save(folder: &Path, cursor: &str) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let temporary = folder.join(format!("{FILE}.new"));
    let mut file = File::create(&temporary)?;
    file.write_all(format!("{cursor}\n").as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, folder.join(FILE))?;
    File::open(folder)?.sync_all()
}

/// `s=...;i=...;b=...`
fn is_cursor(text: &str) -> bool {
    text.starts_with("s=") && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_or_is_said_to_be_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let nested = folder.path().join("not/there/yet");
        assert_eq!(load(&nested).unwrap(), None);
        save(&nested, "s=1;i=2").unwrap();
        save(&nested, "s=1;i=3").unwrap();
        assert_eq!(load(&nested).unwrap().as_deref(), Some("s=1;i=3"));
        for damaged in ["", "s=1;i", "\n", "--file=/etc/shadow\n"] {
            fs::write(nested.join(FILE), damaged).unwrap();
            assert!(load(&nested).is_err(), "{damaged:?}");
        }
    }
}
