//! What is made of files, made again when they change.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::sync::Mutex;

/// How often files are looked at, at most: a rotated password or certificate is in use a second later.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Of one file. Bundles of all public certificate authorities have a quarter of it.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A thing that is made of the content of files. Without files it is made once.
pub(super) struct Watched<T> {
    files: Vec<PathBuf>,
    state: Mutex<State<T>>,
}

struct State<T> {
    looked: Option<Instant>,
    /// Of what `made` was made of.
    hash: u64,
    made: Option<Arc<T>>,
    failing: bool,
}

impl<T> Watched<T> {
    /// Nothing is read before it is needed.
    pub(super) fn new(files: Vec<PathBuf>) -> Self {
        Watched { files, state: Mutex::new(State { looked: None, hash: 0, made: None, failing: false }) }
    }

    /// The thing as the files say now. While they cannot be read or say nonsense, the last good one stays: a rotation that
    /// is half done costs nothing.
    pub(super) async fn current(
        &self,
        make: impl FnOnce(&[Vec<u8>]) -> anyhow::Result<T>,
    ) -> anyhow::Result<Arc<T>> {
        let mut state = self.state.lock().await;
        if let Some(made) = &state.made
            && (self.files.is_empty() || state.looked.is_some_and(|looked| looked.elapsed() < LOOK_EVERY))
        {
            return Ok(made.clone());
        }
        let tried = match self.read().await {
            Ok(contents) => {
                let hash = hash(&contents);
                if let Some(made) = state.made.clone().filter(|_| hash == state.hash) {
                    (state.looked, state.failing) = (Some(Instant::now()), false);
                    return Ok(made);
                }
                make(&contents).map(|made| (hash, Arc::new(made)))
            }
            Err(error) => Err(error),
        };
        state.looked = Some(Instant::now());
        match (tried, &state.made) {
            (Ok((hash, made)), _) => {
                (state.hash, state.failing, state.made) = (hash, false, Some(made.clone()));
                Ok(made)
            }
            (Err(error), Some(last)) => {
                let last = last.clone();
                if !std::mem::replace(&mut state.failing, true) {
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "cannot use what stands in files now, keeping what stood there before"
                    );
                }
                Ok(last)
            }
            (Err(error), None) => Err(error),
        }
    }

    async fn read(&self) -> anyhow::Result<Vec<Vec<u8>>> {
        let mut contents = Vec::new();
        for path in &self.files {
            let of = || format!("cannot read {}", path.display());
            let bytes = tokio::fs::metadata(path).await.with_context(of)?.len();
            ensure!(
                bytes <= FILE_BYTES_MAX,
                "{} has {bytes} bytes; {FILE_BYTES_MAX} are the limit",
                path.display()
            );
            contents.push(tokio::fs::read(path).await.with_context(of)?);
        }
        Ok(contents)
    }
}

fn hash(contents: &[Vec<u8>]) -> u64 {
    // The length in front keeps the same bytes in other files apart.
    let parts = contents
        .iter()
        .map(|content| twox_hash::XxHash3_64::oneshot_with_seed(content.len() as u64, content));
    parts.fold(0, |hash, part| hash.rotate_left(17) ^ part)
}
