//! Which parts of a refused request are sent by themselves. Halves, and halves of halves, so that one bad series among thousands is
//! found with some twenty requests; never more than a number of them, as there are days on which everything is refused.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::Piece;
use super::lane::Pending;
use super::options::Form;

/// Requests that one refused request may cost. To find one bad series of 2,000 takes 2 x 11, and where it stands is not known.
const REQUESTS_MAX: usize = 128;
/// What it may cost when taking apart has been in vain: enough to see when that changes.
const REQUESTS_MIN: usize = 2;

/// What a part that is taken earns: where many series are bad, going on is worth its requests as long as it saves others.
const EARNED: usize = 2;
const EARNED_MAX: usize = 512;

/// What taking apart may cost now: half of it each time that it saves nothing, all again when it does.
pub(super) struct Patience(AtomicUsize);

impl Default for Patience {
    fn default() -> Self {
        Patience(AtomicUsize::new(REQUESTS_MAX))
    }
}

impl Patience {
    fn learn(&self, has_saved: bool) {
        let requests = self.0.load(Ordering::Relaxed);
        let next = if has_saved { REQUESTS_MAX } else { (requests / 2).max(REQUESTS_MIN) };
        self.0.store(next, Ordering::Relaxed);
    }
}

/// What is left to send of one request, in order.
pub(super) struct Apart<'p> {
    patience: &'p Patience,
    /// The next one is last. Beside each the number of requests that are kept for those behind it.
    rest: Vec<(Vec<Pending>, usize)>,
    requests: usize,
    earned: usize,
    has_saved: bool,
}

impl<'p> Apart<'p> {
    pub(super) fn new(patience: &'p Patience) -> Self {
        let requests = patience.0.load(Ordering::Relaxed);
        Apart { patience, rest: Vec::new(), requests, earned: 0, has_saved: false }
    }

    /// The next part to send, and how many requests may be spent before those behind it have their turn.
    pub(super) fn next(&mut self) -> Option<(Vec<Pending>, usize)> {
        self.rest.pop()
    }

    /// A part has been taken.
    pub(super) fn taken(&mut self) {
        self.has_saved = true;
        if self.earned < EARNED_MAX {
            self.earned += EARNED;
            self.requests += EARNED;
        }
    }

    /// A part has been refused: its halves are next, if it has any and there are requests left for them.
    pub(super) fn refused(
        &mut self,
        mut part: Vec<Pending>,
        kept: usize,
        form: &Form,
    ) -> Result<(), Vec<Pending>> {
        let free = self.requests.saturating_sub(kept);
        if free < 2 {
            return Err(part);
        }
        let right = match part.len() {
            0 => return Err(part),
            1 => match halves(part.remove(0), form) {
                Ok([left, right]) => {
                    part.push(left);
                    vec![right]
                }
                Err(whole) => return Err(vec![whole]),
            },
            records => part.split_off(records / 2),
        };
        self.requests -= 2;
        // What the left half does not use is the right one's.
        let for_right = (free - 2) / 4;
        self.rest.push((right, kept));
        self.rest.push((part, kept + for_right));
        Ok(())
    }

    /// All parts have had their turn.
    pub(super) fn end(self) {
        self.patience.learn(self.has_saved);
    }
}

/// One record as two. It is acknowledged with the second.
#[allow(clippy::result_large_err, reason = "what cannot be split is given back as it is")]
fn halves(pending: Pending, form: &Form) -> Result<[Pending; 2], Pending> {
    let Some([left, right]) = (form.split)(&pending.piece.body) else { return Err(pending) };
    let piece =
        |part: crate::formats::Part| Piece { body: part.body, items: part.items, ..pending.piece.clone() };
    let left = Pending { position: None, piece: piece(left), since: pending.since, _room: None };
    Ok([left, Pending { piece: piece(right), ..pending }])
}
