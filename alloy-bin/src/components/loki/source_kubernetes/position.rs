//! How far a container's log was taken. No I/O.
//!
//! A log is asked for by the second, and its lines carry nanoseconds. So reading on begins at a second's start, and what was taken
//! of it is skipped: up to the very line that was taken last, which is known by its time and by how many lines had that time.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

/// Behind the last line that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Position {
    /// The time of that line, in nanoseconds since the Unix epoch.
    pub(super) last_ns: i64,
    /// How many lines of that time were taken.
    pub(super) nth: u32,
    /// The latest time of all lines: those of stdout and stderr may be a little out of order.
    pub(super) max_ns: i64,
    /// How often the container had been started anew when it was written.
    pub(super) restarts: u32,
}

/// The first byte of a position in bytes.
const VERSION: u8 = 1;

impl Position {
    /// With another line behind it.
    pub(super) fn take(&mut self, time_ns: i64) {
        self.nth = if time_ns == self.last_ns { self.nth + 1 } else { 1 };
        self.last_ns = time_ns;
        self.max_ns = self.max_ns.max(time_ns);
    }

    /// The second from which on the log is to be asked for.
    pub(super) fn since(&self) -> String {
        let second = jiff::Timestamp::from_second(self.last_ns.div_euclid(1_000_000_000));
        second.map(|second| second.to_string()).unwrap_or_default()
    }

    /// As bytes, for other nodes; `lines`: how many a batch has that begins there.
    pub(super) fn encode(&self, lines: u32) -> Bytes {
        let mut out = BytesMut::with_capacity(29);
        out.put_u8(VERSION);
        out.put_i64_le(self.last_ns);
        out.put_u32_le(self.nth);
        out.put_i64_le(self.max_ns);
        out.put_u32_le(self.restarts);
        out.put_u32_le(lines);
        out.freeze()
    }

    /// What [`Position::encode`] has made.
    pub(super) fn decode(mut bytes: &[u8]) -> Option<(Self, u32)> {
        if bytes.try_get_u8().ok()? != VERSION {
            return None;
        }
        let position = Position {
            last_ns: bytes.try_get_i64_le().ok()?,
            nth: bytes.try_get_u32_le().ok()?,
            max_ns: bytes.try_get_i64_le().ok()?,
            restarts: bytes.try_get_u32_le().ok()?,
        };
        Some((position, bytes.try_get_u32_le().ok()?))
    }
}

/// Tells lines that were taken from new ones, at the beginning of a stream.
#[derive(Debug)]
pub(super) struct Skip {
    until: Option<Position>,
    /// Lines that had the last one's time.
    seen: u32,
}

impl Skip {
    pub(super) fn until(position: Position) -> Self {
        // Without a line there is nothing to skip.
        Skip { until: Some(position).filter(|position| position.nth > 0), seen: 0 }
    }

    /// Whether the line was taken before.
    pub(super) fn skips(&mut self, time_ns: i64) -> bool {
        let Some(until) = self.until else { return false };
        if time_ns > until.max_ns {
            // The last one is not there any more: the log was rotated.
            self.until = None;
            return false;
        }
        self.seen += u32::from(time_ns == until.last_ns);
        if self.seen >= until.nth {
            self.until = None;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes the first lines, then reads on in what is there: which are new.
    fn check(taken: &[i64], there: &[i64], new: &[i64]) {
        let mut position = Position::default();
        taken.iter().for_each(|time| position.take(*time));
        let mut skip = Skip::until(position);
        let found: Vec<i64> = there.iter().copied().filter(|time| !skip.skips(*time)).collect();
        assert_eq!(found, new, "{taken:?} {there:?}");
    }

    #[test]
    fn reading_on_takes_each_line_once() {
        check(&[], &[5, 6], &[5, 6]);
        check(&[5, 6], &[5, 6, 7], &[7]);
        // Several lines of one time.
        check(&[5, 6, 6], &[5, 6, 6, 6, 6, 7], &[6, 6, 7]);
        check(&[6], &[6, 6], &[6]);
        // Out of order: the last one is found by itself.
        check(&[5, 8, 6], &[5, 8, 6, 7, 9], &[7, 9]);
        // Rotated away.
        check(&[5, 6], &[7, 8], &[7, 8]);
        check(&[5, 6, 6], &[6, 7], &[7]);
        // Nothing new.
        check(&[5, 6], &[5, 6], &[]);
    }

    #[test]
    fn a_position_says_its_second_and_survives_the_way() {
        let mut position = Position { restarts: 3, ..Position::default() };
        position.take(1_700_000_000_999_999_999);
        assert_eq!(position.since(), "2023-11-14T22:13:20Z");
        assert_eq!(Position::decode(&position.encode(7)), Some((position, 7)));
        assert_eq!(Position::decode(&[]), None);
        assert_eq!(Position::decode(&[2; 29]), None);
    }
}
