//! What the processors do, and what waits for them.

use std::collections::BTreeMap;
use std::io;
use std::sync::PoisonError;

use regex::Regex;

use super::host::{
    Host, Metric, columns, counter, figure, files, gauge, hex, nothing, numbered, parse, ranges, read, text,
};
use crate::telemetry::Page;

const MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];

/// The kernel's clock ticks as it shows them to programs, whatever its own are.
const TICKS_PER_SECOND: f64 = 100.0;

/// The idle time of a processor that was taken away and has come back jumps so many seconds back.
const JUMP_SECONDS: f64 = 3.0;

pub(super) fn cpu(host: &Host, page: &mut Page) -> io::Result<()> {
    let options = &host.arguments.cpu;
    if options.info {
        cpu_info(host, page)?;
    }
    let seconds = counter("node_cpu_seconds_total", "Seconds the CPUs spent in each mode.");
    let guest =
        counter("node_cpu_guest_seconds_total", "Seconds the CPUs spent in guests (VMs) for each mode.");
    let stat = read(&host.proc("stat"))?;
    let mut spent = host.spent.lock().unwrap_or_else(PoisonError::into_inner);
    let mut now = BTreeMap::new();
    for line in stat.lines() {
        let mut fields = line.split_ascii_whitespace();
        let Some(cpu) = fields.next().and_then(|name| name.strip_prefix("cpu")).filter(|cpu| !cpu.is_empty())
        else {
            continue;
        };
        let mut times = fields
            .map(|field| Ok(parse::<f64>(field)? / TICKS_PER_SECOND))
            .collect::<io::Result<Vec<f64>>>()?;
        times.resize(10, 0.0);
        // The kernel's counters of idle and waiting time go back now and then. A counter must not.
        if let Some(before) = spent.get(cpu).filter(|before| before[3] - times[3] < JUMP_SECONDS) {
            times.iter_mut().zip(before).for_each(|(now, before)| *now = now.max(*before));
        }
        for (mode, time) in MODES.iter().zip(&times) {
            seconds.put(page, &[("cpu", cpu), ("mode", mode)], *time);
        }
        if options.guest {
            guest.put(page, &[("cpu", cpu), ("mode", "user")], times[8]);
            guest.put(page, &[("cpu", cpu), ("mode", "nice")], times[9]);
        }
        now.insert(cpu.to_owned(), times);
    }
    *spent = now;
    drop(spent);
    let isolated = gauge(
        "node_cpu_isolated",
        "Whether each core is isolated, information from /sys/devices/system/cpu/isolated.",
    );
    for cpu in ranges(&text(&host.sys("devices/system/cpu/isolated")).unwrap_or_default())? {
        isolated.put(page, &[("cpu", &cpu.to_string())], 1.0);
    }
    throttles(host, page)
}

fn throttles(host: &Host, page: &mut Page) -> io::Result<()> {
    let of_core =
        counter("node_cpu_core_throttles_total", "Number of times this CPU core has been throttled.");
    let of_package =
        counter("node_cpu_package_throttles_total", "Number of times this CPU package has been throttled.");
    let (mut cores, mut packages) = (BTreeMap::new(), BTreeMap::new());
    for folder in numbered(&host.sys("devices/system/cpu"), "cpu")?.values() {
        let topology = |file: &str| text(&folder.join("topology").join(file));
        let (Ok(package), Ok(core)) = (topology("physical_package_id"), topology("core_id")) else {
            continue;
        };
        if let Some(count) = figure(&folder.join("thermal_throttle/core_throttle_count")) {
            cores.entry((package.clone(), core)).or_insert(count);
        }
        if let Some(count) = figure(&folder.join("thermal_throttle/package_throttle_count")) {
            packages.entry(package).or_insert(count);
        }
    }
    for ((package, core), count) in &cores {
        of_core.put(page, &[("package", package), ("core", core)], *count);
    }
    for (package, count) in &packages {
        of_package.put(page, &[("package", package)], *count);
    }
    Ok(())
}

fn cpu_info(host: &Host, page: &mut Page) -> io::Result<()> {
    const FIELDS: [(&str, &str); 10] = [
        ("package", "physical id"),
        ("core", "core id"),
        ("cpu", "processor"),
        ("vendor", "vendor_id"),
        ("family", "cpu family"),
        ("model", "model"),
        ("model_name", "model name"),
        ("microcode", "microcode"),
        ("stepping", "stepping"),
        ("cachesize", "cache size"),
    ];
    let info = gauge("node_cpu_info", "CPU information from /proc/cpuinfo.");
    let flags = gauge(
        "node_cpu_flag_info",
        "The `flags` field of CPU information from /proc/cpuinfo taken from the first core.",
    );
    let bugs = gauge(
        "node_cpu_bug_info",
        "The `bugs` field of CPU information from /proc/cpuinfo taken from the first core.",
    );
    let file = read(&host.proc("cpuinfo"))?;
    let cpus = file.split("\n\n").map(|block| {
        let fields = block.lines().filter_map(|line| line.split_once(':'));
        fields.map(|(name, value)| (name.trim(), value.trim())).collect::<BTreeMap<_, _>>()
    });
    for (index, cpu) in cpus.filter(|cpu| cpu.contains_key("processor")).enumerate() {
        let field = |name: &str| cpu.get(name).copied().unwrap_or_default();
        info.put(page, &FIELDS.map(|(label, name)| (label, field(name))), 1.0);
        if index > 0 {
            continue;
        }
        let mut words = |name: &str, metric: Metric, label: &str, include: &Option<Regex>| {
            let Some(include) = include else { return };
            for word in field(name).split_ascii_whitespace().filter(|word| include.is_match(word)) {
                metric.put(page, &[(label, word)], 1.0);
            }
        };
        words("flags", flags, "flag", &host.arguments.cpu.flags_include);
        words("bugs", bugs, "bug", &host.arguments.cpu.bugs_include);
    }
    Ok(())
}

pub(super) fn cpufreq(host: &Host, page: &mut Page) -> io::Result<()> {
    #[rustfmt::skip]
    const TABLE: [(&str, Metric); 6] = [
        ("cpuinfo_cur_freq", gauge("node_cpu_frequency_hertz", "Current cpu thread frequency in hertz.").times(1e3)),
        ("cpuinfo_min_freq", gauge("node_cpu_frequency_min_hertz", "Minimum cpu thread frequency in hertz.").times(1e3)),
        ("cpuinfo_max_freq", gauge("node_cpu_frequency_max_hertz", "Maximum cpu thread frequency in hertz.").times(1e3)),
        ("scaling_cur_freq", gauge("node_cpu_scaling_frequency_hertz", "Current scaled CPU thread frequency in hertz.").times(1e3)),
        ("scaling_min_freq", gauge("node_cpu_scaling_frequency_min_hertz", "Minimum scaled CPU thread frequency in hertz.").times(1e3)),
        ("scaling_max_freq", gauge("node_cpu_scaling_frequency_max_hertz", "Maximum scaled CPU thread frequency in hertz.").times(1e3)),
    ];
    let governor = gauge("node_cpu_scaling_governor", "Current enabled CPU frequency governor.");
    let cpus = numbered(&host.sys("devices/system/cpu"), "cpu")?;
    for (cpu, folder) in &cpus {
        let folder = folder.join("cpufreq");
        files(page, &folder, &[("cpu", cpu)], &TABLE);
        let current = text(&folder.join("scaling_governor")).unwrap_or_default();
        let available = text(&folder.join("scaling_available_governors")).unwrap_or_default();
        for name in available.split_ascii_whitespace() {
            governor.put(page, &[("cpu", cpu), ("governor", name)], f64::from(name == current));
        }
    }
    if cpus.is_empty() { Err(nothing()) } else { Ok(()) }
}

pub(super) fn loadavg(host: &Host, page: &mut Page) -> io::Result<()> {
    const TABLE: [Metric; 3] = [
        gauge("node_load1", "1m load average."),
        gauge("node_load5", "5m load average."),
        gauge("node_load15", "15m load average."),
    ];
    columns(page, read(&host.proc("loadavg"))?.split_ascii_whitespace(), &[], &TABLE)
}

pub(super) fn pressure(host: &Host, page: &mut Page) -> io::Result<()> {
    #[rustfmt::skip]
    const TABLE: [(&str, &str, Metric); 6] = [
        ("cpu", "some", counter("node_pressure_cpu_waiting_seconds_total", "Total time in seconds that processes have waited for CPU time")),
        ("io", "some", counter("node_pressure_io_waiting_seconds_total", "Total time in seconds that processes have waited due to IO congestion")),
        ("io", "full", counter("node_pressure_io_stalled_seconds_total", "Total time in seconds no process could make progress due to IO congestion")),
        ("memory", "some", counter("node_pressure_memory_waiting_seconds_total", "Total time in seconds that processes have waited for memory")),
        ("memory", "full", counter("node_pressure_memory_stalled_seconds_total", "Total time in seconds no process could make progress due to memory congestion")),
        ("irq", "full", counter("node_pressure_irq_stalled_seconds_total", "Total time in seconds no process could make progress due to IRQ congestion")),
    ];
    for (resource, who, metric) in TABLE {
        let file = match read(&host.proc("pressure").join(resource)) {
            // Older kernels do not know it, or were told not to measure.
            Err(_) if resource == "irq" => continue,
            Err(error) if error.kind() == io::ErrorKind::Unsupported => return Err(nothing()),
            file => file?,
        };
        let line = file.lines().find(|line| line.starts_with(who));
        if let Some((_, total)) = line.and_then(|line| line.split_once("total=")) {
            metric.times(1e-6).put(page, &[], parse(total.trim())?);
        }
    }
    Ok(())
}

pub(super) fn schedstat(host: &Host, page: &mut Page) -> io::Result<()> {
    #[rustfmt::skip]
    const TABLE: [Metric; 3] = [
        counter("node_schedstat_running_seconds_total", "Number of seconds CPU spent running a process.").times(1e-9),
        counter("node_schedstat_waiting_seconds_total", "Number of seconds spent by processing waiting for this CPU.").times(1e-9),
        counter("node_schedstat_timeslices_total", "Number of timeslices executed by CPU."),
    ];
    for line in read(&host.proc("schedstat"))?.lines() {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        if let Some(cpu) = fields.first().and_then(|name| name.strip_prefix("cpu"))
            && let Some(figures) = fields.get(7..10)
        {
            columns(page, figures.iter().copied(), &[("cpu", cpu)], &TABLE)?;
        }
    }
    Ok(())
}

pub(super) fn softnet(host: &Host, page: &mut Page) -> io::Result<()> {
    const TABLE: [Metric; 3] = [
        counter("node_softnet_processed_total", "Number of processed packets"),
        counter("node_softnet_dropped_total", "Number of dropped packets"),
        counter("node_softnet_times_squeezed_total", "Number of times processing packets ran out of quota"),
    ];
    for (cpu, line) in read(&host.proc("net/softnet_stat"))?.lines().enumerate() {
        for (field, metric) in line.split_ascii_whitespace().zip(TABLE) {
            metric.put(page, &[("cpu", &cpu.to_string())], hex(field)?);
        }
    }
    Ok(())
}

pub(super) fn stat(host: &Host, page: &mut Page) -> io::Result<()> {
    #[rustfmt::skip]
    const TABLE: [(&str, Metric); 6] = [
        ("intr", counter("node_intr_total", "Total number of interrupts serviced.")),
        ("ctxt", counter("node_context_switches_total", "Total number of context switches.")),
        ("processes", counter("node_forks_total", "Total number of forks.")),
        ("btime", gauge("node_boot_time_seconds", "Node boot time, in unixtime.")),
        ("procs_running", gauge("node_procs_running", "Number of processes in runnable state.")),
        ("procs_blocked", gauge("node_procs_blocked", "Number of processes blocked waiting for I/O to complete.")),
    ];
    for line in read(&host.proc("stat"))?.lines() {
        let mut fields = line.split_ascii_whitespace();
        if let (Some(name), Some(value)) = (fields.next(), fields.next())
            && let Some((_, metric)) = TABLE.iter().find(|(known, _)| *known == name)
        {
            metric.put(page, &[], parse(value)?);
        }
    }
    Ok(())
}
