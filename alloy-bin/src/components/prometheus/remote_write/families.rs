//! What is said of families of metrics, for endpoints that are told of it apart from the samples (remote-write 1.0).

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::formats::{RemoteWriteEncoder, compress};
use crate::outbox::Piece;
use crate::telemetry::Metadata;

/// With some 200 bytes each 20 MiB: more names than a receiver wants.
const FAMILIES_MAX: usize = 100_000;
/// How long a family is remembered that no page has any more.
const MEMORY: Duration = Duration::from_secs(3600);
/// All metadata of an endpoint has one lane.
const LANE: u64 = 0;

/// The families of all targets, each once: of one that targets describe differently, the last one counts.
#[derive(Default)]
pub(super) struct Families(Mutex<BTreeMap<String, (Metadata, Instant)>>);

impl Families {
    /// Remembers what a page says.
    pub(super) fn note(&self, metadata: &[Metadata], now: Instant) {
        if metadata.is_empty() {
            return;
        }
        let mut known = self.0.lock().expect("no code panics while holding it");
        for about in metadata {
            let has_room = known.len() < FAMILIES_MAX;
            match known.get_mut(&about.family) {
                Some((same, noted)) if same == about => *noted = now,
                Some(other) => *other = (about.clone(), now),
                None if has_room => {
                    known.insert(about.family.clone(), (about.clone(), now));
                }
                None => {}
            }
        }
    }

    /// All of them as records with at most `max` families each, and how many there are. What was not said for an hour is forgotten.
    pub(super) fn pieces(&self, max: usize, now: Instant) -> (Vec<Piece>, usize) {
        let mut known = self.0.lock().expect("no code panics while holding it");
        known.retain(|_, (_, noted)| now.duration_since(*noted) < MEMORY);
        let all: Vec<Metadata> = known.values().map(|(about, _)| about.clone()).collect();
        drop(known);
        let piece = |families: &[Metadata]| {
            let mut plain = Vec::new();
            RemoteWriteEncoder::encode_metadata(families, &mut plain);
            Piece {
                lane: LANE,
                items: 0,
                newest_ms: i64::MIN,
                tenant: None,
                origin: None,
                body: Bytes::from(compress(&plain)),
            }
        };
        (all.chunks(max).map(piece).collect(), all.len())
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::formats::decompress;
    use crate::testing::messages::WriteRequest;

    fn about(family: &str, help: &str) -> Metadata {
        Metadata { family: family.to_owned(), help: help.to_owned(), ..Metadata::default() }
    }

    fn sent(families: &Families, max: usize, now: Instant) -> Vec<Vec<(String, String)>> {
        let (pieces, count) = families.pieces(max, now);
        let decoded = pieces.iter().map(|piece| {
            let request = WriteRequest::decode(decompress(&piece.body).unwrap().as_slice()).unwrap();
            request.metadata.into_iter().map(|about| (about.metric_family_name, about.help)).collect()
        });
        let decoded: Vec<Vec<_>> = decoded.collect();
        assert_eq!(decoded.iter().map(Vec::len).sum::<usize>(), count);
        decoded
    }

    #[test]
    fn each_family_is_sent_once_with_what_was_said_last_and_forgotten_when_nobody_says_it() {
        let pair = |family: &str, help: &str| (family.to_owned(), help.to_owned());
        let (families, start) = (Families::default(), Instant::now());
        assert!(sent(&families, 2, start).is_empty());
        families.note(&[about("a", "1"), about("b", "1"), about("c", "1")], start);
        families.note(&[about("a", "2"), about("b", "1")], start + MEMORY / 2);
        let first = [vec![pair("a", "2"), pair("b", "1")], vec![pair("c", "1")]];
        assert_eq!(sent(&families, 2, start + MEMORY / 2), first);
        assert_eq!(sent(&families, 2, start + MEMORY), first[..1]);
        assert!(sent(&families, 2, start + 2 * MEMORY).is_empty());
    }

    #[test]
    fn whoever_makes_up_families_fills_no_memory() {
        let families = Families::default();
        let many: Vec<Metadata> =
            (0..FAMILIES_MAX + 5).map(|number| about(&number.to_string(), "")).collect();
        families.note(&many, Instant::now());
        assert_eq!(families.pieces(usize::MAX, Instant::now()).1, FAMILIES_MAX);
    }
}
