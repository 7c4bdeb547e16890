//! Memory: how it is used, how it moves, and whether it is broken.

use std::io;

use super::host::{Host, counter, malformed, named, numbered, parse, read, required};
use crate::telemetry::Page;

pub(super) fn meminfo(host: &Host, page: &mut Page) -> io::Result<()> {
    for line in read(&host.proc("meminfo"))?.lines() {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (name, value, unit) = match fields[..] {
            [] => continue,
            [name, value] => (name, value, ""),
            [name, value, "kB"] => (name, value, "_bytes"),
            _ => return Err(malformed(line)),
        };
        // `Active(anon):` -> `Active_anon_bytes`
        let name = name.trim_end_matches(':').replace('(', "_").replace(')', "") + unit;
        let value = parse::<f64>(value)? * if unit.is_empty() { 1.0 } else { 1024.0 };
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        let help = format!("Memory information field {name}.");
        named(page, kind, &format!("node_memory_{name}"), help, &[], value);
    }
    Ok(())
}

pub(super) fn vmstat(host: &Host, page: &mut Page) -> io::Result<()> {
    for line in read(&host.proc("vmstat"))?.lines() {
        let Some((name, value)) = line.split_once(' ') else { continue };
        if host.arguments.vmstat.shows(name) {
            let help = format!("/proc/vmstat information field {name}.");
            named(page, "untyped", &format!("node_vmstat_{name}"), help, &[], parse(value.trim())?);
        }
    }
    Ok(())
}

pub(super) fn edac(host: &Host, page: &mut Page) -> io::Result<()> {
    let kinds = [
        (
            "ce",
            counter("node_edac_correctable_errors_total", "Total correctable memory errors."),
            counter(
                "node_edac_csrow_correctable_errors_total",
                "Total correctable memory errors for this csrow.",
            ),
        ),
        (
            "ue",
            counter("node_edac_uncorrectable_errors_total", "Total uncorrectable memory errors."),
            counter(
                "node_edac_csrow_uncorrectable_errors_total",
                "Total uncorrectable memory errors for this csrow.",
            ),
        ),
    ];
    for (controller, folder) in numbered(&host.sys("devices/system/edac/mc"), "mc")? {
        let rows = numbered(&folder, "csrow")?;
        for (kind, all, of_row) in kinds {
            all.put(page, &[("controller", &controller)], required(&folder.join(format!("{kind}_count")))?);
            let unknown = required(&folder.join(format!("{kind}_noinfo_count")))?;
            of_row.put(page, &[("controller", &controller), ("csrow", "unknown")], unknown);
            for (row, folder) in &rows {
                let count = required(&folder.join(format!("{kind}_count")))?;
                of_row.put(page, &[("controller", &controller), ("csrow", row)], count);
            }
        }
    }
    Ok(())
}
