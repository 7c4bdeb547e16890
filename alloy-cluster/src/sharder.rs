//! The trait [`Sharder`]: a pure function from key and view to ranked owners.

use crate::View;

/// What is owned: a 64-bit hash that the caller computes from the thing's stable identity. Need not be
/// well mixed; sharders mix it.
pub type Key = u64;

/// Indexes into [`View::members`], best first.
pub type Rank = Vec<usize>;

/// Decides who owns a key. Only members in phase [`Active`](crate::Phase::Active) are ranked.
///
/// # Contract
/// 1. Pure: the same key and members give the same ranks, on every machine, in every build and version.
/// 2. `rank` returns no member twice, only active ones, and as many as asked for if there are so many.
/// 3. `owner` is the first of `rank`.
/// 4. The owner of a key changes only if the old owner goes or the new owner comes (minimal disruption).
/// 5. The second in rank is in another zone than the first if an active member in another zone exists,
///    and it is the one that owns the key when the first goes, if zones are not set.
pub trait Sharder: Send + Sync + 'static {
    /// Puts the best `count` owners of the key into `out`, best first; clears `out` before.
    fn rank(&self, key: Key, view: &View, count: usize, out: &mut Rank);

    /// The owner, if anyone is active.
    fn owner(&self, key: Key, view: &View) -> Option<usize> {
        let mut out = Rank::new();
        self.rank(key, view, 1, &mut out);
        out.first().copied()
    }

    /// The owners of many keys at once: for each its index in [`View::members`], or `u32::MAX` if nobody is active. A
    /// sharder in which the owner is who drew the highest number may put the upper halves of these into `draws`; both are as
    /// long as `keys`. The same as asking for each, which the default does.
    fn assign(&self, keys: &[Key], view: &View, owners: &mut [u32], draws: &mut [u32]) {
        let _does_not_draw = draws;
        for (key, owner) in keys.iter().zip(owners) {
            *owner = self.owner(*key, view).map_or(u32::MAX, |index| index as u32);
        }
    }

    /// Who of the newcomers draws at least as high as the owners of today, whose draws came from
    /// [`assign`](Sharder::assign): index of the key, index of the newcomer in its view, its draw. `false`: this sharder does
    /// not draw, or not with these members (`all`, newcomers included), and each key has to be asked for.
    fn outdraw(
        &self,
        keys: &[Key],
        draws: &[u32],
        newcomers: &View,
        all: &View,
        won: &mut Vec<(usize, u32, u32)>,
    ) -> bool {
        let _does_not_draw = (keys, draws, newcomers, all, won);
        false
    }
}
