//! What the agent takes of its machine, under the names of every Prometheus client: `process_*`.

use std::fs;

use crate::telemetry::{Collect, Page};

/// Read from `/proc/self` when somebody asks; a system without it shows none.
pub struct ProcessFigures;

impl Collect for ProcessFigures {
    fn collect(&self, page: &mut Page) {
        let Some(usage) = Usage::of(&fs::read_to_string("/proc/self/stat").unwrap_or_default()) else {
            return;
        };
        let mut gauge = |name: &str, help: &'static str, value: f64| page.gauge(name, help, &[], value);
        gauge("process_resident_memory_bytes", "Resident memory size in bytes.", usage.resident_bytes);
        gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", usage.virtual_bytes);
        let boot = fs::read_to_string("/proc/stat").unwrap_or_default();
        if let Some(boot) = number_behind(&boot, "btime ") {
            let help = "Start time of the process since unix epoch in seconds.";
            gauge("process_start_time_seconds", help, boot + usage.start_seconds);
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            // One of them reads the folder.
            gauge("process_open_fds", "Number of open file descriptors.", open.count() as f64 - 1.0);
        }
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        if let Some(most) = number_behind(&limits, "Max open files ") {
            gauge("process_max_fds", "Maximum number of open file descriptors.", most);
        }
        let help = "Total user and system CPU time spent in seconds.";
        page.seconds("process_cpu_seconds_total", help, usage.cpu_seconds);
    }
}

#[derive(Debug, PartialEq)]
struct Usage {
    cpu_seconds: f64,
    start_seconds: f64,
    virtual_bytes: f64,
    resident_bytes: f64,
}

impl Usage {
    /// Of proc_pid_stat(5): the program's name stands in parentheses and may hold anything.
    fn of(stat: &str) -> Option<Self> {
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        // The first of these is the third of all.
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        Some(Usage {
            cpu_seconds: (field(14)? + field(15)?) / ticks,
            start_seconds: field(22)? / ticks,
            virtual_bytes: field(23)?,
            resident_bytes: field(24)? * rustix::param::page_size() as f64,
        })
    }
}

fn number_behind(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let fields: Vec<String> = (3..=52).map(|number| (number * 100).to_string()).collect();
        let usage = Usage::of(&format!("1 (a b) c) {}", fields.join(" "))).expect("it is whole");
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(usage.cpu_seconds, (1400.0 + 1500.0) / ticks);
        assert_eq!((usage.start_seconds, usage.virtual_bytes), (2200.0 / ticks, 2300.0));
        assert_eq!(usage.resident_bytes, 2400.0 * rustix::param::page_size() as f64);
        assert_eq!(Usage::of("1 (a) S 1"), None);
    }

    #[test]
    fn this_process_has_all_of_it() {
        let mut page = Page::default();
        ProcessFigures.collect(&mut page);
        for name in
            ["cpu_seconds_total", "resident_memory_bytes", "start_time_seconds", "open_fds", "max_fds"]
        {
            let series = page.series(&format!("process_{name}"));
            // It may not have taken a whole tick of time yet.
            let least = if name.starts_with("cpu") { 0.0 } else { 1.0 };
            assert!(series.len() == 1 && series[0].1 >= least, "{name}: {series:?}");
        }
    }
}
