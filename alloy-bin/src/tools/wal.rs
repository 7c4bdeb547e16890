//! `alloy tools wal {stats,verify,dump,cursors} DIR`: what a log holds, whether it is whole, and who has read how far.
//!
//! A table for people, one JSON document for programs (`dump`: one a line). Exit code 1 if `verify` finds damage.

use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

use alloy_wal::{CursorsState, Inspection, Item, SegmentEntry, SegmentReport, SegmentState};
use anstyle::{AnsiColor, Style};
use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

/// Bytes of a payload that `dump` shows unless told otherwise.
const SHOWN_BYTES: usize = 64;

/// Heads of tables. A terminal shows it, unless NO_COLOR is set.
const HEAD: Style = Style::new().bold();

/// Flags of `alloy tools wal`.
#[derive(Debug, Args)]
pub struct Flags {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Segments, positions, bytes, consumers: from headers and cursors alone, at once.
    Stats(Place),
    /// Reads everything and checks every checksum; exit code 1 if something is damaged.
    Verify(Place),
    /// Prints records, oldest first.
    Dump(Dump),
    /// Prints where every consumer stands.
    Cursors(Place),
}

#[derive(Debug, Args)]
struct Place {
    /// The log's directory.
    directory: PathBuf,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Dump {
    #[command(flatten)]
    place: Place,
    /// The first position to print.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// How many records and gaps to print.
    #[arg(long, default_value_t = u64::MAX, hide_default_value = true)]
    limit: u64,
    /// How many bytes of each payload to print.
    #[arg(long, default_value_t = SHOWN_BYTES)]
    bytes: usize,
}

/// Runs the tool.
///
/// # Errors
/// A directory or file that cannot be read, or an output that cannot be written to.
pub fn run(flags: &Flags, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let (Command::Stats(place) | Command::Verify(place) | Command::Cursors(place)) = &flags.command else {
        let Command::Dump(dump) = &flags.command else { unreachable!("the three others are above") };
        return closed_is_fine(self::dump(dump, &open(&dump.place)?, out));
    };
    let log = open(place)?;
    closed_is_fine(match flags.command {
        Command::Stats(_) => stats(&log, place.json, out),
        Command::Verify(_) => verify(&log, place.json, out),
        _ => cursors(&log, place.json, out),
    })
}

fn open(place: &Place) -> anyhow::Result<Inspection> {
    let shown = place.directory.display();
    let log = Inspection::open(&place.directory).with_context(|| format!("cannot look at {shown}"))?;
    let empty = log.segments.is_empty() && log.cursors == CursorsState::Missing;
    anyhow::ensure!(!empty, "there is no log in {shown}");
    Ok(log)
}

/// `alloy tools wal dump DIR | head` is no error.
fn closed_is_fine(result: anyhow::Result<ExitCode>) -> anyhow::Result<ExitCode> {
    match result {
        Err(error)
            if error
                .downcast_ref::<std::io::Error>()
                .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe) =>
        {
            Ok(ExitCode::SUCCESS)
        }
        other => other,
    }
}

fn good(log: &Inspection) -> impl Iterator<Item = &SegmentEntry> {
    log.segments.iter().filter(|segment| segment.state == SegmentState::Good)
}

/// Where the log ends as far as headers and cursors tell.
fn known_end(log: &Inspection) -> u64 {
    let begins = good(log).last().map_or(0, |segment| segment.begins);
    begins.max(log.durable)
}

fn stats(log: &Inspection, json: bool, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let begins = good(log).next().map_or(log.durable, |segment| segment.begins);
    let segment_bytes: u64 = log.segments.iter().map(|segment| segment.file_bytes).sum();
    let spare_bytes: u64 = log.spares.iter().map(|(_, bytes)| bytes).sum();
    if json {
        let segments: Vec<Value> = log.segments.iter().map(segment_json).collect();
        let document = json!({
            "log_id": log.log_id.map(|id| format!("{id:016x}")),
            "begins": begins,
            "durable": log.durable,
            "dropped_below": log.dropped_below,
            "cursors": cursors_word(log.cursors),
            "consumers": log.consumers.len(),
            "segment_bytes": segment_bytes,
            "spare_bytes": spare_bytes,
            "segments": segments,
            "others": log.others,
        });
        writeln!(out, "{document:#}")?;
        return Ok(ExitCode::SUCCESS);
    }
    let id = log.log_id.map_or_else(|| "unknown".into(), |id| format!("{id:016x}"));
    writeln!(out, "log        {id}")?;
    writeln!(
        out,
        "positions  {begins} to at least {}, durable below {} when last saved",
        known_end(log),
        log.durable
    )?;
    writeln!(
        out,
        "disk       {segment_bytes} bytes in {} segments, {spare_bytes} in {} spares",
        log.segments.len(),
        log.spares.len()
    )?;
    writeln!(out, "consumers  {} ({})", log.consumers.len(), cursors_word(log.cursors))?;
    for other in &log.others {
        writeln!(out, "not read   {other}")?;
    }
    writeln!(
        out,
        "\n{HEAD}{:>20} {:>14} {:>14} {:>12} {:>15}  state{HEAD:#}",
        "segment", "begins", "ends", "bytes", "created_ms"
    )?;
    for segment in &log.segments {
        let ends = segment.ends.map_or_else(|| "open".into(), |end| end.to_string());
        let SegmentEntry { number, begins, file_bytes, created_ms, .. } = segment;
        let state = state_word(segment.state);
        writeln!(out, "{number:>20} {begins:>14} {ends:>14} {file_bytes:>12} {created_ms:>15}  {state}")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn verify(log: &Inspection, json: bool, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let mut rows: Vec<(&SegmentEntry, SegmentReport)> = Vec::new();
    let (mut done, all) = (0, good(log).map(|segment| segment.file_bytes).sum::<u64>().max(1));
    // Gigabytes take a while. Whoever waits at a terminal sees how long, until it is done.
    let is_seen = std::io::stderr().is_terminal();
    for segment in good(log) {
        if is_seen {
            eprint!("\r{:>3} % of {} MiB", done * 100 / all, all >> 20);
        }
        done += segment.file_bytes;
        let report = log.read(segment, &mut |_| ControlFlow::Continue(()));
        rows.push((segment, report.with_context(|| format!("cannot read segment {}", segment.number))?));
    }
    if is_seen {
        eprint!("\r\u{1b}[K");
    }
    let unusable = log.segments.iter().filter(|segment| {
        matches!(segment.state, SegmentState::Unreadable | SegmentState::Foreign | SegmentState::Newer)
    });
    let unusable: Vec<&SegmentEntry> = unusable.collect();
    let damaged: u64 =
        rows.iter().flat_map(|(_, report)| damage(report)).map(|range| range.end - range.start).sum();
    let records: u64 = rows.iter().map(|(_, report)| report.records).sum();
    let payload_bytes: u64 = rows.iter().map(|(_, report)| report.payload_bytes).sum();
    let whole = damaged == 0 && unusable.is_empty() && log.cursors != CursorsState::Damaged;
    if json {
        let row = |(segment, report): &(&SegmentEntry, SegmentReport)| {
            json!({
                "segment": segment.number,
                "begins": report.positions.start,
                "ends": report.positions.end,
                "records": report.records,
                "payload_bytes": report.payload_bytes,
                "frame_bytes": report.frame_bytes,
                "damaged": damage(report).map(|range| [range.start, range.end]).collect::<Vec<_>>(),
                "freed": report.freed,
            })
        };
        let document = json!({
            "whole": whole,
            "records": records,
            "payload_bytes": payload_bytes,
            "damaged_records": damaged,
            "cursors": cursors_word(log.cursors),
            "unusable": unusable.iter().map(|segment| segment_json(segment)).collect::<Vec<_>>(),
            "segments": rows.iter().map(row).collect::<Vec<_>>(),
        });
        writeln!(out, "{document:#}")?;
    } else {
        writeln!(
            out,
            "{HEAD}{:>20} {:>14} {:>14} {:>10} {:>14} {:>9}{HEAD:#}",
            "segment", "begins", "ends", "records", "payload_bytes", "damaged"
        )?;
        for (segment, report) in &rows {
            let lost: u64 = damage(report).map(|range| range.end - range.start).sum();
            let (number, SegmentReport { positions, records, payload_bytes, freed, .. }) =
                (segment.number, report);
            let note = if *freed { "  freed meanwhile" } else { "" };
            writeln!(
                out,
                "{number:>20} {:>14} {:>14} {records:>10} {payload_bytes:>14} {lost:>9}{note}",
                positions.start, positions.end
            )?;
        }
        for range in rows.iter().flat_map(|(_, report)| damage(report)) {
            let word =
                if range.start >= log.durable { "not known to have been durable" } else { "durable once" };
            writeln!(out, "damaged: positions {} to {} ({word})", range.start, range.end - 1)?;
        }
        for segment in unusable {
            writeln!(out, "unusable: {} ({})", segment.name, state_word(segment.state))?;
        }
        if log.cursors == CursorsState::Damaged {
            writeln!(out, "unusable: the file of cursors; all consumers will begin at the oldest record")?;
        }
        let (verdict, colour) = if whole { ("whole", AnsiColor::Green) } else { ("DAMAGED", AnsiColor::Red) };
        let style = HEAD.fg_color(Some(colour.into()));
        writeln!(
            out,
            "{style}{verdict}{style:#}: {records} records, {payload_bytes} bytes of payload, {damaged} positions damaged"
        )?;
    }
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is missing in a segment, unless the log freed it while we looked.
fn damage(report: &SegmentReport) -> impl Iterator<Item = &std::ops::Range<u64>> {
    report.damaged.iter().filter(|_| !report.freed)
}

fn dump(flags: &Dump, log: &Inspection, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let mut left = flags.limit;
    for segment in good(log).filter(|segment| segment.ends.is_none_or(|end| end > flags.from)) {
        let mut written = Ok(());
        let mut visit = |item: Item| {
            if item.next() <= flags.from {
                return ControlFlow::Continue(());
            }
            if left == 0 {
                return ControlFlow::Break(());
            }
            left -= 1;
            written = show(&item, flags, out);
            if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        let read = log.read(segment, &mut visit);
        written?;
        read.with_context(|| format!("cannot read segment {}", segment.number))?;
        if left == 0 {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show(item: &Item, flags: &Dump, out: &mut dyn Write) -> std::io::Result<()> {
    match item {
        Item::Record(record) => {
            let shown = &record.payload[..record.payload.len().min(flags.bytes)];
            let (text, length) = (shown.escape_ascii(), record.payload.len());
            if flags.place.json {
                let text = text.to_string();
                let line = json!({"position": record.position, "stamp_ms": record.stamp_ms, "bytes": length, "payload": text});
                return writeln!(out, "{line}");
            }
            let more = if shown.len() < length { "..." } else { "" };
            writeln!(out, "{:>14} {:>15} {length:>9}  {text}{more}", record.position, record.stamp_ms)
        }
        Item::Gap(gap) => {
            let (start, end) = (gap.positions.start, gap.positions.end);
            if flags.place.json {
                return writeln!(out, "{}", json!({"gap": [start, end], "reason": "damaged"}));
            }
            writeln!(out, "{start:>14} to {} are damaged", end - 1)
        }
    }
}

fn cursors(log: &Inspection, json: bool, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let end = known_end(log);
    let ahead = |entry: &alloy_wal::ConsumerEntry| -> u64 {
        entry.ahead.iter().map(|range| range.end - range.start).sum()
    };
    if json {
        let row = |entry: &alloy_wal::ConsumerEntry| {
            let ranges: Vec<[u64; 2]> = entry.ahead.iter().map(|range| [range.start, range.end]).collect();
            let lag = end.saturating_sub(entry.acknowledged).saturating_sub(ahead(entry));
            json!({"name": entry.name, "acknowledged": entry.acknowledged, "ahead": ranges, "lag_records": lag, "dropped": entry.dropped})
        };
        let consumers: Vec<Value> = log.consumers.iter().map(row).collect();
        writeln!(
            out,
            "{:#}",
            json!({"cursors": cursors_word(log.cursors), "end": end, "consumers": consumers})
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(
        out,
        "{HEAD}{:>14} {:>10} {:>12} {:>10}  consumer{HEAD:#}",
        "acknowledged", "ahead", "lag_records", "dropped"
    )?;
    for entry in &log.consumers {
        let ahead = ahead(entry);
        let lag = end.saturating_sub(entry.acknowledged).saturating_sub(ahead);
        writeln!(
            out,
            "{:>14} {ahead:>10} {lag:>12} {:>10}  {}",
            entry.acknowledged, entry.dropped, entry.name
        )?;
    }
    writeln!(out, "as saved last ({}); the lag is to position {end}", cursors_word(log.cursors))?;
    Ok(ExitCode::SUCCESS)
}

fn segment_json(segment: &SegmentEntry) -> Value {
    json!({
        "name": segment.name,
        "number": segment.number,
        "begins": segment.begins,
        "ends": segment.ends,
        "file_bytes": segment.file_bytes,
        "created_ms": segment.created_ms,
        "state": state_word(segment.state),
    })
}

fn state_word(state: SegmentState) -> &'static str {
    match state {
        SegmentState::Good => "good",
        SegmentState::Superseded => "superseded",
        SegmentState::Unreadable => "unreadable header",
        SegmentState::Empty => "empty",
        SegmentState::Foreign => "of another log",
        SegmentState::Newer => "of a newer version",
        _ => "unknown",
    }
}

fn cursors_word(state: CursorsState) -> &'static str {
    match state {
        CursorsState::Saved => "saved",
        CursorsState::Missing => "no file",
        CursorsState::Damaged => "damaged",
    }
}

#[cfg(test)]
mod tests;
