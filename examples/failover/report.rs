//! What happened, judged from both ends: what targets and log files gave, against what the receiver got.
//!
//! No I/O: evidence in, report out. A slot is one turn of one target; the samples carry its time, so a slot is missed
//! when the receiver has no `up` for it, and doubled when two answered scrapes carry its time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Milliseconds since the Unix epoch.
pub(crate) type Millis = i64;

/// What a dead agent's targets may miss: its death is known after at most this time, by the cluster's default profile.
pub(crate) const DETECTION_MS: Millis = 5_000;

/// What was answered less than this before the kill may have died with the agent, not yet in its log.
pub(crate) const CUSTODY_MS: Millis = 1_000;

/// The acts of the demonstration; each lasts until the next begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Act {
    Steady,
    Kill,
    Return,
    Leave,
    Rejoin,
}

impl Act {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Act::Steady => "all three run",
            Act::Kill => "SIGKILL",
            Act::Return => "it returns",
            Act::Leave => "SIGTERM to another",
            Act::Rejoin => "that one returns",
        }
    }
}

/// What is known of one target.
#[derive(Debug, Default)]
pub(crate) struct TargetEvidence {
    pub name: String,
    /// Whether the killed agent owned it at the kill.
    pub was_killed_ones: bool,
    /// When it answered a scrape, oldest first; the scrapes are numbered from 1 in this order.
    pub answered: Vec<Millis>,
    /// Times of the `up` samples at the receiver, as they came.
    pub ups: Vec<Millis>,
    /// Number of the scrape -> the time that its sample carries, from the receiver.
    pub arrived: BTreeMap<u64, Millis>,
}

/// What is known of one log file.
#[derive(Debug, Default)]
pub(crate) struct FileEvidence {
    pub name: String,
    /// How many lines were written.
    pub written: u64,
    /// Line number (from 0) -> with how many times the receiver got it.
    pub received: BTreeMap<u64, u64>,
}

/// All that is known.
#[derive(Debug)]
pub(crate) struct Evidence {
    pub interval_ms: Millis,
    /// When each act began, in order.
    pub acts: Vec<(Act, Millis)>,
    /// How many lines had come with two times when each act began, and at the end.
    pub lines_doubled: Vec<u64>,
    /// Slots up to here are judged.
    pub end: Millis,
    pub targets: Vec<TargetEvidence>,
    pub files: Vec<FileEvidence>,
}

/// Slots of one act, and what else is counted by acts.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slots {
    pub due: u64,
    pub missed: u64,
    /// Missed, but not excused by the detection time.
    pub missed_without_excuse: u64,
    pub doubled: u64,
    /// Lines that came with two times while the act went on.
    pub lines_doubled: u64,
}

/// The verdict.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub slots: BTreeMap<Act, Slots>,
    /// Target -> milliseconds from the kill to its first scrape by the new owner; `None`: never scraped again.
    pub takeovers: Vec<(String, Option<Millis>)>,
    pub scrapes_answered: u64,
    /// Answered more than a second before the kill or any time after, and never arrived.
    pub scrapes_lost: u64,
    /// Answered in the last second before the kill and not arrived: not in custody yet.
    pub scrapes_in_flight: u64,
    pub lines_written: u64,
    pub lines_lost: u64,
    pub lines_doubled: u64,
    /// Samples that are not on their target's grid.
    pub off_grid: u64,
    /// Which slots, scrapes and lines went wrong, the first ones.
    pub details: Vec<String>,
}

impl Evidence {
    fn begin(&self, act: Act) -> Millis {
        self.acts.iter().find(|(other, _)| *other == act).map_or(self.end, |(_, at)| *at)
    }

    /// A time in the words of the story.
    fn moment(&self, at: Millis) -> String {
        let (title, begin) = self.act_at(at).map_or(("the start", 0), |act| (act.title(), self.begin(act)));
        format!("{:.1} s after «{title}»", (at - begin) as f64 / 1000.0)
    }

    fn act_at(&self, at: Millis) -> Option<Act> {
        self.acts.iter().rev().find(|(_, begin)| *begin <= at).map(|(act, _)| *act)
    }

    /// Judges all of it.
    pub(crate) fn judge(&self) -> Report {
        let mut report = Report::default();
        for ((act, _), counts) in self.acts.iter().zip(self.lines_doubled.windows(2)) {
            report.slots.insert(*act, Slots { lines_doubled: counts[1] - counts[0], ..Slots::default() });
        }
        for target in &self.targets {
            self.judge_slots(target, &mut report);
            self.judge_scrapes(target, &mut report);
        }
        for file in &self.files {
            let lost: Vec<u64> =
                (0..file.written).filter(|number| !file.received.contains_key(number)).collect();
            report.lines_written += file.written;
            report.lines_lost += lost.len() as u64;
            if let (Some(first), Some(last)) = (lost.first(), lost.last()) {
                report.tell(format!("{}: {} lines lost, from {first} to {last}", file.name, lost.len()));
            }
            let doubled = file.received.iter().filter(|(_, count)| **count > 1).map(|(number, _)| *number);
            let doubled: Vec<u64> = doubled.collect();
            report.lines_doubled += doubled.len() as u64;
            if let (Some(first), Some(last)) = (doubled.first(), doubled.last()) {
                report.tell(format!(
                    "{}: {} lines doubled, from {first} to {last}",
                    file.name,
                    doubled.len()
                ));
            }
        }
        report.takeovers.sort_by_key(|(_, after)| std::cmp::Reverse(after.unwrap_or(Millis::MAX)));
        report
    }

    fn judge_slots(&self, target: &TargetEvidence, report: &mut Report) {
        let got: BTreeSet<Millis> = target.ups.iter().copied().collect();
        let steady = self.begin(Act::Steady);
        // Who never arrived has no grid of its own; any will do to count what was due.
        let grid = most_frequent(got.iter().map(|at| at.rem_euclid(self.interval_ms))).unwrap_or(0);
        report.off_grid += got.iter().filter(|at| at.rem_euclid(self.interval_ms) != grid).count() as u64;
        let mut taken: BTreeMap<Millis, u64> = BTreeMap::new();
        for at in target.arrived.values() {
            *taken.entry(*at).or_default() += 1;
        }
        let kill = self.begin(Act::Kill);
        let excused = kill - CUSTODY_MS..kill + DETECTION_MS;
        // The last slots of the dead: what it told its successor of them may be one interval old.
        let last_slots = kill - self.interval_ms..kill;
        let first = steady + (grid - steady).rem_euclid(self.interval_ms);
        for slot in (first..self.end).step_by(self.interval_ms as usize) {
            let is_last = target.was_killed_ones && last_slots.contains(&slot);
            let act = if is_last { Some(Act::Kill) } else { self.act_at(slot) };
            let Some(slots) = act.and_then(|act| report.slots.get_mut(&act)) else { continue };
            let is_doubled = taken.get(&slot).is_some_and(|count| *count > 1);
            let is_missed = !got.contains(&slot);
            let is_excused = target.was_killed_ones && excused.contains(&slot);
            slots.due += 1;
            slots.doubled += u64::from(is_doubled);
            slots.missed += u64::from(is_missed);
            slots.missed_without_excuse += u64::from(is_missed && !is_excused);
            if is_doubled {
                report.tell(format!("target {}: slot taken twice, {}", target.name, self.moment(slot)));
            }
            if is_missed && !is_excused {
                report.tell(format!("target {}: slot missed, {}", target.name, self.moment(slot)));
            }
        }
    }

    fn judge_scrapes(&self, target: &TargetEvidence, report: &mut Report) {
        let kill = self.begin(Act::Kill);
        report.scrapes_answered += target.answered.len() as u64;
        for (number, at) in (1..).zip(&target.answered) {
            if target.arrived.contains_key(&number) {
                continue;
            }
            if target.was_killed_ones && (kill - CUSTODY_MS..=kill).contains(at) {
                report.scrapes_in_flight += 1;
            } else if *at < self.end {
                report.scrapes_lost += 1;
                report.tell(format!("target {}: scrape {number} lost {}", target.name, self.moment(*at)));
            }
        }
        if target.was_killed_ones && self.acts.iter().any(|(act, _)| *act == Act::Kill) {
            let first = target.answered.iter().find(|at| **at > kill);
            report.takeovers.push((target.name.clone(), first.map(|at| at - kill)));
        }
    }
}

impl Report {
    fn tell(&mut self, detail: String) {
        /// More of them tell nothing new.
        const DETAILS_MAX: usize = 20;
        if self.details.len() < DETAILS_MAX {
            self.details.push(detail);
        }
    }

    /// What must not have happened, in sentences. Empty: all is well.
    pub(crate) fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        let mut check = |count: u64, what: &str| {
            if count > 0 {
                failures.push(format!("{count} {what}"));
            }
        };
        check(self.lines_lost, "lines were written and never arrived");
        check(self.scrapes_lost, "answered scrapes never arrived");
        check(self.off_grid, "samples are not on their target's grid");
        let unexcused = self.slots.values().map(|slots| slots.missed_without_excuse).sum();
        check(unexcused, "slots were missed outside the detection time of the kill");
        let doubled =
            self.slots.iter().filter(|(act, _)| **act != Act::Kill).map(|(_, slots)| slots.doubled).sum();
        check(doubled, "slots were taken twice although nobody died");
        check(self.lines_doubled, "lines came with two times");
        let never = self.takeovers.iter().filter(|(_, after)| after.is_none()).count() as u64;
        check(never, "targets of the killed agent were never scraped again");
        if self.scrapes_answered == 0 || self.lines_written == 0 {
            failures.push("nothing was collected at all".to_owned());
        }
        failures
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known: Vec<Millis> = self.takeovers.iter().filter_map(|(_, after)| *after).collect();
        if !known.is_empty() {
            let mean = known.iter().sum::<Millis>() as f64 / known.len() as f64 / 1000.0;
            let max = known.iter().max().copied().unwrap_or_default() as f64 / 1000.0;
            writeln!(
                out,
                "From the kill to the first scrape by the new owner, {} targets:",
                self.takeovers.len()
            )?;
            writeln!(out, "  mean {mean:.2} s, max {max:.2} s")?;
        }
        let texts = self.takeovers.iter().map(|(name, after)| match after {
            Some(after) => format!("{name} {:5.2} s", *after as f64 / 1000.0),
            None => format!("{name}   never"),
        });
        for row in texts.collect::<Vec<_>>().chunks(5) {
            writeln!(out, "  {}", row.join("   "))?;
        }
        writeln!(
            out,
            "\n  {:<20} {:>7} {:>7} {:>8} {:>14}",
            "slots while", "due", "missed", "doubled", "doubled lines"
        )?;
        for (act, slots) in &self.slots {
            let Slots { due, missed, doubled, lines_doubled, .. } = slots;
            write!(out, "  {:<20} {due:>7} {missed:>7} {doubled:>8} {lines_doubled:>14}", act.title())?;
            if slots.missed > 0 {
                write!(
                    out,
                    "   {} of them within the detection time",
                    slots.missed - slots.missed_without_excuse
                )?;
            }
            writeln!(out)?;
        }
        writeln!(out, "\n  {:<20} {:>7} {:>7} {:>8}", "", "given", "lost", "doubled")?;
        let doubled: u64 = self.slots.values().map(|slots| slots.doubled).sum();
        writeln!(
            out,
            "  {:<20} {:>7} {:>7} {:>8}",
            "scrapes answered", self.scrapes_answered, self.scrapes_lost, doubled
        )?;
        writeln!(
            out,
            "  {:<20} {:>7} {:>7} {:>8}",
            "log lines", self.lines_written, self.lines_lost, self.lines_doubled
        )?;
        if self.scrapes_in_flight > 0 {
            writeln!(
                out,
                "  ({} scrapes died with the agent within a second of their answer)",
                self.scrapes_in_flight
            )?;
        }
        self.details.iter().try_for_each(|detail| writeln!(out, "  {detail}"))
    }
}

fn most_frequent(values: impl Iterator<Item = Millis>) -> Option<Millis> {
    let mut counts: BTreeMap<Millis, u64> = BTreeMap::new();
    for value in values {
        *counts.entry(value).or_default() += 1;
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(value, _)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A target with slots at 1000, 6000, .. 46000; the kill is at 20000, the end at 50000.
    fn evidence(change: impl FnOnce(&mut TargetEvidence, &mut FileEvidence)) -> Report {
        let slots: Vec<Millis> = (1_000..50_000).step_by(5_000).collect();
        let mut target = TargetEvidence {
            name: "t".to_owned(),
            was_killed_ones: true,
            answered: slots.iter().map(|slot| slot + 3).collect(),
            ups: slots.clone(),
            arrived: (1..).zip(slots).collect(),
        };
        let mut file = FileEvidence {
            name: "f".to_owned(),
            written: 3,
            received: (0..3).map(|number| (number, 1)).collect(),
        };
        change(&mut target, &mut file);
        let acts = vec![(Act::Steady, 0), (Act::Kill, 20_000), (Act::Return, 30_000), (Act::Leave, 40_000)];
        let (targets, files) = (vec![target], vec![file]);
        Evidence { interval_ms: 5_000, acts, lines_doubled: vec![0; 5], end: 50_000, targets, files }.judge()
    }

    #[test]
    fn a_complete_run_has_no_failures() {
        let report = evidence(|_, _| ());
        assert_eq!(report.failures(), Vec::<String>::new());
        assert_eq!(report.takeovers, [("t".to_owned(), Some(1_003))]);
        assert_eq!(report.slots[&Act::Steady], Slots { due: 3, ..Slots::default() });
        assert_eq!(
            report.slots[&Act::Kill],
            Slots { due: 3, ..Slots::default() },
            "the last slot before it, too"
        );
    }

    #[test]
    fn a_slot_missed_at_the_kill_is_excused_and_one_at_another_time_is_not() {
        let without = |slot: Millis| {
            evidence(|target, _| {
                target.ups.retain(|at| *at != slot);
                target.answered.retain(|at| *at != slot + 3);
                target.arrived = (1..).zip(target.ups.clone()).collect();
            })
        };
        assert_eq!(without(21_000).failures(), Vec::<String>::new());
        assert_eq!(without(21_000).slots[&Act::Kill].missed, 1);
        assert_eq!(without(31_000).failures().len(), 1);
        assert_eq!(without(11_000).failures().len(), 1);
    }

    #[test]
    fn lost_and_doubled_things_are_counted() {
        let lost = evidence(|target, _| _ = target.arrived.remove(&3));
        assert_eq!(lost.scrapes_lost, 1);
        let doubled = evidence(|target, _| {
            target.answered.push(46_500);
            target.arrived.insert(11, 46_000);
        });
        assert_eq!((doubled.slots[&Act::Leave].doubled, doubled.failures().len()), (1, 1));
        let lines = evidence(|_, file| file.received = [(0, 2), (2, 1)].into());
        assert_eq!((lines.lines_lost, lines.lines_doubled), (1, 1));
        assert_eq!(lines.failures().len(), 2);
    }
}
