//! The clock of a simulated node, which may run faster or slower than the true time.

use std::time::{Duration, Instant};

/// Shows the true time times a rate since it was started.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    start: Instant,
    /// What passes here while 1,000 pass outside.
    rate: u32,
}

impl Clock {
    /// So many thousandths too fast.
    pub(super) fn new(start: Instant, skew: i64) -> Self {
        let rate = u32::try_from(1000 + skew).expect("a clock does not stand still nor go back");
        Clock { start, rate }
    }

    /// What this clock shows at the true time.
    pub(super) fn local(&self, at: Instant) -> Instant {
        if self.rate == 1000 {
            at
        } else {
            self.start + at.saturating_duration_since(self.start) * self.rate / 1000
        }
    }

    /// The first true time at which this clock shows that.
    pub(super) fn global(&self, at: Instant) -> Instant {
        if self.rate == 1000 {
            return at;
        }
        self.start + at.saturating_duration_since(self.start) * 1000 / self.rate + Duration::from_nanos(2)
    }
}
