//! How far a source has delivered what it reads elsewhere: one file, saved behind what the receivers have made durable.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use crate::graph::Fanout;
use crate::telemetry::LogBatch;

const FILE: &str = "positions.json";

/// A position of which nobody has said anything for so long is that of something that is gone.
const KEPT_S: u64 = 24 * 3600;

/// How long the last save waits for the receivers to be durable. Without it some lines are sent again, which are the same then.
const LAST_SAVE_MAX: Duration = Duration::from_secs(10);

/// The positions of one component, by what they are of.
pub(super) struct Saved<P> {
    folder: PathBuf,
    entries: BTreeMap<String, Entry<P>>,
    is_dirty: bool,
    task: Option<JoinHandle<io::Result<()>>>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Entry<P> {
    position: P,
    /// When it was set last, in seconds since the Unix epoch.
    set_s: u64,
}

impl<P: Clone + PartialEq + Serialize + DeserializeOwned + Send + 'static> Saved<P> {
    /// What was saved last, or nothing and why it cannot be read.
    pub(super) fn load(folder: &Path) -> (Self, Option<String>) {
        let read = match fs::read(folder.join(FILE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(error.to_string()),
            Ok(text) => serde_json::from_slice(&text).map_err(|error| format!("{FILE} is damaged: {error}")),
        };
        let (entries, error) = match read {
            Ok(entries) => (entries, None),
            Err(error) => (BTreeMap::new(), Some(error)),
        };
        (Saved { folder: folder.to_owned(), entries, is_dirty: false, task: None }, error)
    }

    pub(super) fn get(&self, key: &str) -> Option<&P> {
        self.entries.get(key).map(|entry| &entry.position)
    }

    /// All before it is in custody.
    pub(super) fn set(&mut self, key: &str, position: P) {
        let entry = Entry { position, set_s: now_s() };
        let is_known = self.get(key) == Some(&entry.position);
        self.entries.insert(key.to_owned(), entry);
        self.is_dirty |= !is_known;
    }

    /// Saves what has changed, unless a save is under way. An error: the last save has failed.
    pub(super) async fn start_save(&mut self, fanout: &Fanout<LogBatch>) -> io::Result<()> {
        if self.task.as_ref().is_some_and(|task| !task.is_finished()) {
            return Ok(());
        }
        let last = self.end_save().await;
        if self.is_dirty {
            self.is_dirty = false;
            let old_s = now_s().saturating_sub(KEPT_S);
            self.entries.retain(|_, entry| entry.set_s >= old_s);
            let text = serde_json::to_vec(&self.entries).expect("numbers and text are always JSON");
            let (fanout, folder) = (fanout.clone(), self.folder.clone());
            self.task = Some(tokio::spawn(async move {
                // IMPORTANT: what is saved must not be ahead of the receivers' logs after a power loss.
                fanout.durable().await;
                let save = tokio::task::spawn_blocking(move || replace(&folder, &text));
                save.await.map_err(io::Error::other).and_then(|saved| saved)
            }));
        }
        last
    }

    /// Saves for the last time.
    pub(super) async fn finish(mut self, fanout: &Fanout<LogBatch>) {
        let last_save = async {
            // An error is tried again at once, and then known to the next life.
            let _ = self.end_save().await;
            let _ = self.start_save(fanout).await;
            self.end_save().await
        };
        if !matches!(tokio::time::timeout(LAST_SAVE_MAX, last_save).await, Ok(Ok(()))) {
            // It could save over what the next life has saved.
            if let Some(task) = self.task.take() {
                task.abort();
            }
            tracing::warn!(folder = %self.folder.display(), "positions are not saved, some lines may be sent again");
        }
    }

    async fn end_save(&mut self) -> io::Result<()> {
        let Some(task) = &mut self.task else { return Ok(()) };
        let saved = task.await.map_err(io::Error::other).and_then(|saved| saved);
        self.task = None;
        self.is_dirty |= saved.is_err();
        saved
    }
}

/// After a crash at any point there is the old file or the new one.
fn replace(folder: &Path, text: &[u8]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let temporary = folder.join(format!("{FILE}.new"));
    let mut file = File::create(&temporary)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&temporary, folder.join(FILE))?;
    // The new name is durable only when its folder is.
    File::open(folder)?.sync_all()
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn positions_come_back_or_are_said_to_be_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let nested = folder.path().join("not/there/yet");
        let fanout = Fanout::new(Vec::new());
        let (mut saved, error) = Saved::<u64>::load(&nested);
        assert_eq!((saved.get("a"), error), (None, None));
        saved.set("a", 1);
        saved.start_save(&fanout).await.unwrap();
        saved.set("a", 2);
        saved.finish(&fanout).await;
        assert_eq!(Saved::<u64>::load(&nested).0.get("a"), Some(&2));
        fs::write(nested.join(FILE), "{").unwrap();
        assert!(Saved::<u64>::load(&nested).1.unwrap().contains("damaged"));
    }
}
