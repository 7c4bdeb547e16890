//! Pieces of work that may take long, noted for whoever wants to see where time goes. Nobody does unless the configuration has a
//! `tracing` block: until then, beginning one costs a look at a number.

use std::fmt::Display;
use std::hash::{BuildHasher as _, RandomState};
use std::mem::take;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

/// Pieces that wait to be fetched: 2 MiB.
const WAITING_MAX: usize = 4096;

/// How many of 2^64 are noted.
static SHARE: AtomicU64 = AtomicU64::new(0);
static WAITING: Mutex<Waiting> = Mutex::new(Waiting { done: Vec::new(), left_out: 0 });

struct Waiting {
    done: Vec<WorkDone>,
    left_out: u64,
}

/// A piece of work that goes on until this is dropped.
#[must_use]
pub struct Work(Option<Box<(WorkDone, Instant)>>);

/// A piece of work, from its beginning to its end.
#[derive(Debug)]
pub struct WorkDone {
    /// What was done.
    pub name: &'static str,
    /// When it began.
    pub began: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// With what.
    pub attributes: Vec<(&'static str, String)>,
    /// What went wrong.
    pub error: Option<String>,
}

impl Work {
    /// Something begins.
    pub fn begin(name: &'static str) -> Work {
        let share = SHARE.load(Ordering::Relaxed);
        if share == 0 || random() > share {
            return Work(None);
        }
        let (began, took) = (SystemTime::now(), Duration::ZERO);
        Work(Some(Box::new((
            WorkDone { name, began, took, attributes: Vec::new(), error: None },
            Instant::now(),
        ))))
    }

    /// What it is done with.
    pub fn set(&mut self, name: &'static str, value: impl Display) {
        if let Some(noted) = &mut self.0 {
            noted.0.attributes.push((name, value.to_string()));
        }
    }

    /// It has failed.
    pub fn failed(&mut self, why: impl Display) {
        if let Some(noted) = &mut self.0 {
            noted.0.error = Some(why.to_string());
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let Some((mut done, began)) = self.0.take().map(|noted| *noted) else { return };
        done.took = began.elapsed();
        let mut waiting = waiting();
        if waiting.done.len() < WAITING_MAX {
            waiting.done.push(done);
        } else {
            waiting.left_out += 1;
        }
    }
}

/// From now on, this share of all work is noted: from 0 to 1.
pub fn note_work(share: f64) {
    SHARE.store((share * u64::MAX as f64) as u64, Ordering::Relaxed);
}

/// What was done since the last call, and how much more for which there was no room.
pub fn take_work() -> (Vec<WorkDone>, u64) {
    let mut waiting = waiting();
    (take(&mut waiting.done), take(&mut waiting.left_out))
}

fn waiting() -> MutexGuard<'static, Waiting> {
    WAITING.lock().expect("no code panics while holding it")
}

/// Another number each time. Not for keys.
pub fn random() -> u64 {
    RandomState::new().hash_one(0)
}
