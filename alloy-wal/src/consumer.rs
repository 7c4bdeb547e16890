//! Named consumers: what each has acknowledged. In memory; `cursors.rs` puts it on disk.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::{Consumer, ConsumerId, Cursor, Error, Position, Result};

/// Longest name in bytes: one byte holds the length on disk.
pub(crate) const NAME_BYTES_MAX: usize = 255;

/// One consumer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ConsumerState {
    pub(crate) name: String,
    /// Every position below is acknowledged.
    pub(crate) acknowledged: Position,
    /// The low watermark on disk.
    pub(crate) saved: Position,
    /// Positions it lost to a limit.
    pub(crate) dropped: u64,
    /// Acknowledged ranges beyond `acknowledged`, start -> end; disjoint, not touching, none at `acknowledged`.
    pub(crate) ahead: BTreeMap<Position, Position>,
}

impl ConsumerState {
    /// Positions acknowledged out of order.
    pub(crate) fn ahead_count(&self) -> u64 {
        self.ahead.iter().map(|(start, end)| end - start).sum()
    }

    /// Adds a range and moves the low watermark over everything that touches it.
    pub(crate) fn acknowledge(&mut self, positions: Range<Position>) {
        let Range { mut start, mut end } = positions;
        if end <= self.acknowledged || start >= end {
            return;
        }
        start = start.max(self.acknowledged);
        while let Some((&before, &before_end)) = self.ahead.range(..=end).next_back() {
            if before_end < start {
                break;
            }
            self.ahead.remove(&before);
            start = start.min(before);
            end = end.max(before_end);
        }
        if start <= self.acknowledged {
            self.acknowledged = end;
        } else {
            self.ahead.insert(start, end);
        }
    }

    /// The first position at or after `from` that is not acknowledged.
    pub(crate) fn next_unacknowledged(&self, from: Position) -> Position {
        let from = from.max(self.acknowledged);
        match self.ahead.range(..=from).next_back() {
            Some((_, &end)) if end > from => end,
            _ => from,
        }
    }

    /// Positions below `end` that are not acknowledged.
    fn missing_below(&self, end: Position) -> u64 {
        let ahead: u64 = self.ahead.range(..end).map(|(start, stop)| (*stop).min(end) - start).sum();
        end.saturating_sub(self.acknowledged) - ahead
    }

    /// Everything below `end` is gone; returns how much of it was not acknowledged.
    fn drop_below(&mut self, end: Position) -> u64 {
        let lost = self.missing_below(end);
        self.dropped += lost;
        self.acknowledge(self.acknowledged..end);
        lost
    }

    /// One past the last position acknowledged.
    pub(crate) fn acknowledged_end(&self) -> Position {
        self.ahead.last_key_value().map_or(self.acknowledged, |(_, &end)| end)
    }
}

/// All consumers of a log, by handle. Handles are never used again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Consumers {
    by_id: BTreeMap<u32, ConsumerState>,
    next_id: u32,
}

impl Consumers {
    pub(crate) fn restore(saved: Vec<ConsumerState>) -> Consumers {
        let mut consumers = Consumers::default();
        for state in saved {
            consumers.insert(state);
        }
        consumers
    }

    pub(crate) fn insert(&mut self, state: ConsumerState) -> ConsumerId {
        let id = self.next_id;
        self.next_id += 1;
        self.by_id.insert(id, state);
        ConsumerId(id)
    }

    /// Finds the consumer, or creates it at `start`. The flag is true if it is new.
    pub(crate) fn find_or_create(
        &mut self,
        name: &str,
        start: Position,
        limit: usize,
    ) -> Result<(ConsumerId, bool)> {
        if let Some((&id, _)) = self.by_id.iter().find(|(_, state)| state.name == name) {
            return Ok((ConsumerId(id), false));
        }
        let refuse = |reason| Err(Error::Consumer { name: name.into(), reason });
        if name.is_empty() {
            return refuse("the name is empty");
        }
        if name.len() > NAME_BYTES_MAX {
            return refuse("the name is longer than 255 bytes");
        }
        if self.by_id.len() >= limit {
            return refuse("there are as many consumers as the options allow");
        }
        let state =
            ConsumerState { name: name.into(), acknowledged: start, saved: start, ..Default::default() };
        Ok((self.insert(state), true))
    }

    pub(crate) fn remove(&mut self, id: ConsumerId) -> Result<ConsumerState> {
        self.by_id.remove(&id.0).ok_or(Error::UnknownConsumer)
    }

    /// Puts back a consumer whose removal could not be saved.
    pub(crate) fn put_back(&mut self, id: ConsumerId, state: ConsumerState) {
        self.by_id.insert(id.0, state);
    }

    pub(crate) fn find(&self, id: ConsumerId) -> Result<&ConsumerState> {
        self.by_id.get(&id.0).ok_or(Error::UnknownConsumer)
    }

    /// Acknowledges within the window and not beyond what is written.
    pub(crate) fn acknowledge(
        &mut self,
        id: ConsumerId,
        positions: Range<Position>,
        written: Position,
        window: u64,
    ) -> Result<()> {
        let state = self.by_id.get_mut(&id.0).ok_or(Error::UnknownConsumer)?;
        if positions.is_empty() {
            return Ok(());
        }
        if positions.end > written {
            return Err(Error::NotWritten { position: positions.end - 1, written });
        }
        let window_end = state.acknowledged.saturating_add(window);
        if positions.start > state.acknowledged && positions.end > window_end {
            return Err(Error::Window { position: positions.end - 1, end: window_end });
        }
        state.acknowledge(positions);
        Ok(())
    }

    /// The lowest low watermark, if there is a consumer.
    pub(crate) fn lowest(&self) -> Option<Position> {
        self.by_id.values().map(|state| state.acknowledged).min()
    }

    /// One past the last position that any consumer has acknowledged.
    pub(crate) fn acknowledged_end(&self) -> Position {
        self.by_id.values().map(ConsumerState::acknowledged_end).max().unwrap_or(0)
    }

    /// A limit dropped everything below `end`; returns what was lost, over all consumers.
    pub(crate) fn drop_below(&mut self, end: Position) -> u64 {
        self.by_id.values_mut().map(|state| state.drop_below(end)).sum()
    }

    /// The low watermarks of this snapshot are on disk.
    pub(crate) fn saved(&mut self, snapshot: &Consumers, durable: Position) {
        for (id, state) in &snapshot.by_id {
            if let Some(mine) = self.by_id.get_mut(id) {
                mine.saved = mine.saved.max(state.acknowledged.min(durable));
            }
        }
    }

    /// All of them as the caller sees them; `cursor` knows the rest of the log.
    pub(crate) fn list(&self, cursor: impl Fn(&ConsumerState) -> Cursor) -> Vec<Consumer> {
        let entry = |(id, state): (_, &ConsumerState)| Consumer {
            id,
            name: state.name.clone(),
            cursor: cursor(state),
        };
        self.iter().map(entry).collect()
    }

    /// All of them in the order of their creation.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ConsumerId, &ConsumerState)> {
        self.by_id.iter().map(|(&id, state)| (ConsumerId(id), state))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(acknowledgements: &[Range<Position>], low: Position, ahead: &[(Position, Position)]) {
        let mut state = ConsumerState::default();
        for range in acknowledgements {
            state.acknowledge(range.clone());
        }
        assert_eq!(state.acknowledged, low, "{acknowledgements:?}");
        assert_eq!(state.ahead.into_iter().collect::<Vec<_>>(), ahead, "{acknowledgements:?}");
    }

    #[test]
    #[allow(clippy::single_range_in_vec_init)]
    fn acknowledgements_merge_in_any_order() {
        check(&[0..3], 3, &[]);
        check(&[2..3], 0, &[(2, 3)]);
        check(&[2..3, 0..2], 3, &[]);
        check(&[2..3, 4..5, 3..4], 0, &[(2, 5)]);
        check(&[2..3, 4..5, 0..1], 1, &[(2, 3), (4, 5)]);
        check(&[2..9, 4..5], 0, &[(2, 9)]);
        check(&[4..5, 2..9, 1..2], 0, &[(1, 9)]);
        check(&[0..9, 3..4, 0..9], 9, &[]);
        check(&[5..6, 0..8], 8, &[]);
        check(&[3..3], 0, &[]);
    }

    #[test]
    fn merging_agrees_with_a_set_of_positions() {
        let mut seed = 7u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        for _ in 0..200 {
            let mut state = ConsumerState::default();
            let mut model = [false; 64];
            for _ in 0..20 {
                let start = random(60);
                let end = start + random(5);
                state.acknowledge(start..end);
                model[start as usize..end as usize].fill(true);
                for from in 0..64u64 {
                    let expected = (from..).find(|&at| !model.get(at as usize).copied().unwrap_or(false));
                    assert_eq!(Some(state.next_unacknowledged(from)), expected);
                }
            }
        }
    }

    #[test]
    fn a_drop_counts_only_what_was_not_acknowledged() {
        let mut state = ConsumerState::default();
        state.acknowledge(0..2);
        state.acknowledge(5..7);
        state.acknowledge(9..12);
        assert_eq!(state.drop_below(10), 3 + 2);
        assert_eq!((state.acknowledged, state.dropped), (12, 5));
        assert_eq!(state.drop_below(10), 0);
    }
}
