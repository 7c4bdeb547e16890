//! Memory for pages that are on their way: one budget for all targets of the agent.
//!
//! A page takes of the budget as it grows, never before: a target that hangs holds what it has sent. When nothing is left,
//! one page at a time goes on beyond the budget and the others wait, for their turn or for what others give back. So pages
//! that wait for each other always come to an end, and memory is bounded by the budget and one page. Whoever has the turn
//! may not hang: then its scrape fails.

use std::pin::pin;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use tokio::sync::{Mutex as AsyncMutex, Notify, OwnedMutexGuard};
use tokio::time::{Instant, timeout_at};

/// Of all pages that are on their way, as they came: 64 pages of 1 MiB at a time, and few pages are as large packed.
const BUDGET_BYTES: usize = 64 << 20;
/// What each page has beside the budget, so that small pages never wait; the connection's own buffer is as large.
const FREE_BYTES: usize = 16 << 10;
/// How long whoever is beyond the budget may let the others wait for nothing,
const PATIENCE: Duration = Duration::from_millis(250);
/// and for each of these bytes.
const PATIENCE_PER_BYTE: Duration = Duration::from_micros(1);

/// Memory for pages.
pub(super) struct Budget {
    free: Mutex<usize>,
    freed: Notify,
    /// Whoever has it may go on beyond the budget.
    turn: Arc<AsyncMutex<()>>,
}

impl Budget {
    pub(super) fn new(bytes: usize) -> Arc<Budget> {
        Arc::new(Budget { free: Mutex::new(bytes), freed: Notify::new(), turn: Arc::default() })
    }

    /// The agent's.
    pub(super) fn shared() -> Arc<Budget> {
        static SHARED: LazyLock<Arc<Budget>> = LazyLock::new(|| Budget::new(BUDGET_BYTES));
        SHARED.clone()
    }

    fn take(&self, bytes: usize) -> bool {
        let mut free = self.free.lock().expect("no code panics while holding it");
        let left = free.checked_sub(bytes);
        *free = left.unwrap_or(*free);
        left.is_some()
    }

    fn give_back(&self, bytes: usize) {
        *self.free.lock().expect("no code panics while holding it") += bytes;
        self.freed.notify_waiters();
    }
}

/// What one page has of the budget, until it is dropped.
pub(super) struct InFlight {
    budget: Arc<Budget>,
    /// In memory.
    bytes: usize,
    /// Of the budget.
    taken: usize,
    beyond: Option<Beyond>,
}

/// The turn of a page that needs more than there is.
struct Beyond {
    bytes: usize,
    deadline: Instant,
    _turn: OwnedMutexGuard<()>,
}

/// Memory was short, and the target kept the others waiting.
#[derive(Debug, thiserror::Error)]
#[error("memory for pages is short, and the target sends too slowly to wait for it")]
pub(super) struct TooSlow;

impl InFlight {
    pub(super) fn new(budget: Arc<Budget>) -> Self {
        InFlight { budget, bytes: 0, taken: 0, beyond: None }
    }

    /// Waits until the page may grow by so many bytes.
    pub(super) async fn grow(&mut self, bytes: usize) {
        let counted = (self.bytes + bytes).saturating_sub(FREE_BYTES) - self.bytes.saturating_sub(FREE_BYTES);
        self.bytes += bytes;
        if self.beyond.is_none() {
            self.beyond = self.budget.clone().wait(counted).await;
        }
        match &mut self.beyond {
            None => self.taken += counted,
            Some(beyond) => {
                beyond.bytes += counted;
                beyond.deadline += PATIENCE_PER_BYTE * bytes.try_into().unwrap_or(u32::MAX);
                if self.budget.take(beyond.bytes) {
                    self.taken += beyond.bytes;
                    self.beyond = None;
                }
            }
        }
    }

    /// The next part of the page, in time if others wait for it.
    pub(super) async fn in_time<T>(&self, part: impl Future<Output = T>) -> Result<T, TooSlow> {
        match &self.beyond {
            Some(beyond) => timeout_at(beyond.deadline, part).await.map_err(|_| TooSlow),
            None => Ok(part.await),
        }
    }
}

impl Budget {
    /// Takes the bytes, or waits until they are there; or until it is the page's turn to do without.
    async fn wait(self: Arc<Self>, bytes: usize) -> Option<Beyond> {
        let mut turn = pin!(self.turn.clone().lock_owned());
        loop {
            let mut freed = pin!(self.freed.notified());
            freed.as_mut().enable();
            if self.take(bytes) {
                return None;
            }
            tokio::select! {
                turn = &mut turn => {
                    return Some(Beyond { bytes: 0, deadline: Instant::now() + PATIENCE, _turn: turn });
                }
                () = freed => {}
            }
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.taken > 0 {
            self.budget.give_back(self.taken);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Waker};

    use super::*;

    /// Grows if that is possible now.
    fn grows(page: &mut InFlight, bytes: usize) -> bool {
        is_ready(pin!(page.grow(bytes)))
    }

    fn is_ready(growing: Pin<&mut impl Future>) -> bool {
        growing.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    fn free(budget: &Budget) -> usize {
        *budget.free.lock().unwrap()
    }

    #[tokio::test]
    async fn a_page_takes_what_it_has_and_gives_it_back() {
        let budget = Budget::new(100);
        let mut page = InFlight::new(budget.clone());
        assert!(grows(&mut page, FREE_BYTES) && free(&budget) == 100, "small pages are free");
        assert!(grows(&mut page, 60) && free(&budget) == 40);
        let mut other = InFlight::new(budget.clone());
        assert!(grows(&mut other, FREE_BYTES + 40) && free(&budget) == 0);
        drop(page);
        assert_eq!(free(&budget), 60);
        drop(other);
        assert_eq!(free(&budget), 100);
    }

    #[tokio::test]
    async fn one_page_goes_beyond_the_budget_and_the_others_wait_for_it() {
        let budget = Budget::new(100);
        let [mut first, mut second, mut third] = [0; 3].map(|_| InFlight::new(budget.clone()));
        assert!(grows(&mut first, FREE_BYTES + 100) && grows(&mut first, 1000), "nobody is before it");
        assert!(grows(&mut second, FREE_BYTES) && grows(&mut third, FREE_BYTES));
        {
            let mut growing = pin!(second.grow(50));
            assert!(!is_ready(growing.as_mut()));
            assert!(!grows(&mut third, 1));
            drop(first);
            growing.await;
        }
        assert_eq!(free(&budget), 50, "it was within the budget again, and took no turn");
        drop((second, third));
        assert_eq!(free(&budget), 100);
    }

    #[tokio::test]
    async fn who_waits_is_next_when_the_turn_ends_without_a_byte_given_back() {
        let budget = Budget::new(0);
        let [mut first, mut second] = [0; 2].map(|_| InFlight::new(budget.clone()));
        assert!(grows(&mut first, FREE_BYTES + 1));
        let mut growing = pin!(second.grow(FREE_BYTES + 1));
        assert!(!is_ready(growing.as_mut()));
        drop(first);
        growing.await;
        assert_eq!(free(&budget), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_the_turn_may_not_keep_the_others_waiting() {
        let budget = Budget::new(10);
        let mut page = InFlight::new(budget.clone());
        page.grow(FREE_BYTES + 10).await;
        let started = Instant::now();
        let slow = || tokio::time::sleep(Duration::from_secs(2));
        assert!(page.in_time(slow()).await.is_ok(), "within the budget it may take its time");
        page.grow(1_000_000).await;
        assert!(page.in_time(slow()).await.is_err());
        assert_eq!(started.elapsed(), Duration::from_secs(2 + 1) + PATIENCE, "one second for a megabyte");
        assert!(page.in_time(std::future::ready(())).await.is_ok(), "what is there is taken");
    }
}
