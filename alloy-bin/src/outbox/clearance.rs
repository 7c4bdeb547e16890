//! Whether a record may be sent whose lines another node may send too: the question, and what the answer depends on.

use std::fmt::Debug;

use async_trait::async_trait;

use crate::telemetry::Origin;

/// Knows who is responsible for lines of shared files. One for each endpoint. Records without an origin are not its business.
///
/// # Contract
/// 1. `accepted` is called before a record goes into the log; `withdrawn` if it does not go there after all.
/// 2. `waits` is called when it is among the next to be sent, also for what an earlier life has left.
/// 3. What `try_clear` or `clear` has answered is said once more, if it is asked again.
/// 4. `delivered` is called once nothing more is to be done for the record: it was taken, refused for good, or dropped.
#[async_trait]
pub trait Clearance: Debug + Send + Sync + 'static {
    /// The record is about to go into the log.
    fn accepted(&self, origin: &Origin);

    /// It was refused.
    fn withdrawn(&self, origin: &Origin);

    /// It is to be sent soon.
    fn waits(&self, origin: &Origin);

    /// Whether it may be sent; `None`: that is not known yet.
    fn try_clear(&self, origin: &Origin) -> Option<Clear>;

    /// Waits until that is known, but not for ever.
    async fn clear(&self, origin: &Origin) -> Clear;

    /// It is done with.
    fn delivered(&self, origin: &Origin);
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clear {
    /// It is to be sent.
    Send,
    /// Another node sends these lines.
    Drop,
}
