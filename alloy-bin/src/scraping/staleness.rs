//! Markers for series that are gone.
//!
//! Between two scrapes a target costs a hash for each series and its last page as it came over the wire: some 8 + 7 to 90
//! bytes a series. The labels of a series that is gone are read from that page again; it happens rarely.

use super::fetch::Packed;
use super::page::Reading;
use crate::formats::{Format, TextFormat};
use crate::telemetry::{STALE_NAN, Sample, SampleBatch};

/// What the last page had.
#[derive(Default)]
pub(super) struct Staleness {
    /// Of the series without a time of their own, as Prometheus counts them, unless it is told to count all; in the page's
    /// order, because a page mostly has the same series again, in the same order.
    fingerprints: Vec<u64>,
    page: Option<(Packed, Format)>,
    /// The page is from the owner before, and its series are not counted yet.
    is_inherited: bool,
}

impl Staleness {
    /// Adds a marker to `batch` for each series that the page before had and this one has not, and remembers this one.
    /// `page` is what the batch was read from; `None` after a scrape that brought no page. `read_before` is how the page
    /// before was read: other settings may give its series other names. Returns how many series are new.
    pub(super) fn follow(
        &mut self,
        batch: &mut SampleBatch,
        page: Option<(Packed, Format)>,
        reading: Reading<'_>,
        read_before: Reading<'_>,
    ) -> usize {
        if self.is_inherited {
            let fingerprints = fingerprints(&self.last(read_before), read_before);
            *self = Staleness { fingerprints, page: self.page.take(), is_inherited: false };
        }
        let fingerprints = fingerprints(batch, reading);
        let mut added = 0;
        if fingerprints != self.fingerprints {
            let (before, now) = (sorted(&self.fingerprints), sorted(&fingerprints));
            let has = |series: &[u64], fingerprint: u64| series.binary_search(&fingerprint).is_ok();
            added = now.iter().filter(|new| !has(&before, **new)).count();
            if now.len() - added < before.len() {
                for sample in self.last(read_before).iter() {
                    let fingerprint = sample.labels.fingerprint();
                    if has(&before, fingerprint) && !has(&now, fingerprint) {
                        batch.push_as(
                            sample.labels,
                            &Sample {
                                timestamp_ms: reading.slot_ms,
                                value: STALE_NAN,
                                extras: None,
                                ..sample
                            },
                        );
                    }
                }
            }
        }
        *self = Staleness { fingerprints, page, is_inherited: false };
        added
    }

    /// What the next owner needs to know which series are gone: the last page as it came, if it is not longer than that.
    pub(super) fn hand_over(&self, bytes_max: usize) -> Option<Vec<u8>> {
        let (packed, format) = self.page.as_ref()?;
        let (packing, bytes) = match packed {
            Packed::Gzip(bytes) => (GZIP, bytes),
            Packed::Snappy(bytes) => (SNAPPY, bytes),
        };
        let code = FORMATS.iter().position(|known| known == format)?;
        (bytes.len() < bytes_max).then(|| [&[packing, code as u8], bytes.as_slice()].concat())
    }

    /// From the owner before. What cannot be read is none: its series end unmarked.
    pub(super) fn inherit(handed: &[u8]) -> Self {
        let [packing, code, bytes @ ..] = handed else { return Staleness::default() };
        let packed = match *packing {
            GZIP => Packed::Gzip(bytes.to_vec()),
            SNAPPY => Packed::Snappy(bytes.to_vec()),
            _ => return Staleness::default(),
        };
        let page = FORMATS.get(usize::from(*code)).map(|format| (packed, *format));
        Staleness { is_inherited: page.is_some(), page, fingerprints: Vec::new() }
    }

    /// The last page, read again.
    fn last(&self, reading: Reading<'_>) -> SampleBatch {
        let page = self.page.as_ref().and_then(|(packed, format)| {
            let reading = Reading { format: *format, ..reading };
            packed.with_page(|page| reading.read(page)).ok()?.ok()
        });
        // A page that was read once can be read again, so the default is for the first scrape.
        page.unwrap_or_default()
    }
}

/// How pages are marked on their way to the next owner. IMPORTANT: members of different versions read each other's.
const FORMATS: [Format; 3] =
    [Format::Text(TextFormat::Prometheus), Format::Text(TextFormat::OpenMetrics), Format::Protobuf];
const GZIP: u8 = 0;
const SNAPPY: u8 = 1;

/// Of the series that count, in the page's order.
fn fingerprints(batch: &SampleBatch, reading: Reading<'_>) -> Vec<u64> {
    let all = reading.policy.tracks_timestamps;
    let own = batch.iter().filter(|sample| all || sample.timestamp_ms == reading.slot_ms);
    own.map(|sample| sample.labels.fingerprint()).collect()
}

/// Each once, to be searched.
fn sorted(fingerprints: &[u64]) -> Vec<u64> {
    let mut sorted = fingerprints.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::TextFormat;
    use crate::scraping::page::{Policy, TargetLabels};
    use crate::scraping::series_rules::SeriesRules;

    #[test]
    fn a_series_that_is_gone_gets_one_marker() {
        let target = TargetLabels::new([("job".to_owned(), "j".to_owned())]);
        let reading = Reading {
            target: &target,
            format: Format::Text(TextFormat::Prometheus),
            policy: Policy::default(),
            rules: &SeriesRules::default(),
            lane: 0,
            slot_ms: 10,
        };
        let mut staleness = Staleness::default();
        let mut follow = |text: Option<&str>| {
            let mut batch =
                text.map_or_else(SampleBatch::default, |text| reading.read(text.as_bytes()).unwrap());
            let page =
                text.map(|text| (Packed::plain(text.as_bytes()), Format::Text(TextFormat::Prometheus)));
            let added = staleness.follow(&mut batch, page, reading, reading);
            let stale = batch.iter().filter(|sample| sample.value.to_bits() == STALE_NAN.to_bits());
            (added, stale.map(|sample| sample.labels.get("__name__").unwrap().to_owned()).collect::<Vec<_>>())
        };
        let none: Vec<String> = Vec::new();
        assert_eq!(follow(Some("a 1\nb{x=\"1\"} 1\n")), (2, none.clone()));
        assert_eq!(follow(Some("b{x=\"1\"} 2\nc 1\n")), (1, vec!["a".to_owned()]));
        assert_eq!(follow(Some("b{x=\"1\"} 3\nc 1\n")), (0, none.clone()), "one marker is enough");
        assert_eq!(
            follow(Some("b{x=\"1\"} 3\nc 1 77\n")),
            (0, vec!["c".to_owned()]),
            "c has a time of its own now"
        );
        assert_eq!(follow(Some("b{x=\"1\"} 3\n")), (0, none.clone()), "and is left alone");
        assert_eq!(follow(None), (0, vec!["b".to_owned()]), "a failed scrape ends all series");
        assert_eq!(follow(None), (0, none));
    }

    #[test]
    fn the_next_owner_ends_what_was_on_the_last_page_of_the_one_before_and_nothing_else() {
        let target = TargetLabels::new([("job".to_owned(), "j".to_owned())]);
        let format = Format::Text(TextFormat::Prometheus);
        let rules = SeriesRules::default();
        let reading = |slot_ms| Reading {
            target: &target,
            format,
            policy: Policy::default(),
            rules: &rules,
            lane: 0,
            slot_ms,
        };
        let page = |text: &str| Some((Packed::plain(text.as_bytes()), format));
        let mut first = Staleness::default();
        let text = "a 1\nb{x=\"1\"} 1\nc 1 77\n";
        first.follow(&mut reading(10).read(text.as_bytes()).unwrap(), page(text), reading(10), reading(10));
        let handed = first.hand_over(1000).expect("it is short enough");
        assert_eq!(first.hand_over(handed.len() - 2), None, "too long");

        let mut second = Staleness::inherit(&handed);
        let text = "b{x=\"1\"} 2\nd 1\n";
        let mut batch = reading(20).read(text.as_bytes()).unwrap();
        let added = second.follow(&mut batch, page(text), reading(20), reading(20));
        let markers: Vec<_> =
            batch.iter().filter(|sample| sample.value.to_bits() == STALE_NAN.to_bits()).collect();
        assert_eq!((added, markers.len()), (1, 1));
        assert_eq!((markers[0].labels.get("__name__"), markers[0].timestamp_ms), (Some("a"), 20));

        for broken in [&handed[..1], &[], &[9, 0, 1], &[0, 9, 1], &[0, 0, 1]] {
            let mut batch = reading(20).read(text.as_bytes()).unwrap();
            let mut staleness = Staleness::inherit(broken);
            assert_eq!(staleness.follow(&mut batch, page(text), reading(20), reading(20)), 2);
            assert_eq!(batch.len(), 2, "no marker of what is not known");
        }
    }

    #[test]
    fn a_series_with_a_time_of_its_own_gets_a_marker_if_that_is_wanted() {
        let target = TargetLabels::new([("job".to_owned(), "j".to_owned())]);
        for (tracks_timestamps, expected) in [(false, 0), (true, 1)] {
            let policy = Policy { tracks_timestamps, ..Policy::default() };
            let reading = Reading {
                target: &target,
                format: Format::Text(TextFormat::Prometheus),
                policy,
                rules: &SeriesRules::default(),
                lane: 0,
                slot_ms: 10,
            };
            let mut staleness = Staleness::default();
            let mut batch = reading.read(b"a 1 7\n").unwrap();
            staleness.follow(
                &mut batch,
                Some((Packed::plain(b"a 1 7\n"), Format::Text(TextFormat::Prometheus))),
                reading,
                reading,
            );
            let mut batch = SampleBatch::default();
            staleness.follow(&mut batch, None, reading, reading);
            assert_eq!(batch.len(), expected);
            assert!(batch.iter().all(|marker| marker.timestamp_ms == 10));
        }
    }
}
