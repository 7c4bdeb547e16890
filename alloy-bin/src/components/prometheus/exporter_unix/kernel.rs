//! The kernel, the system that runs on it, and their clock.

use std::collections::BTreeMap;
use std::io;

use rtime_clock::adjtime::{Timex, adjtimex};
use rustix::system::uname as kernel_name;

use super::host::{Host, Metric, columns, counter, figure, gauge, nothing, numbered, read, required, text};
use crate::telemetry::Page;

pub(super) fn entropy(host: &Host, page: &mut Page) -> io::Result<()> {
    let available = required(&host.proc("sys/kernel/random/entropy_avail"))?;
    gauge("node_entropy_available_bits", "Bits of available entropy.").put(page, &[], available);
    let size = required(&host.proc("sys/kernel/random/poolsize"))?;
    gauge("node_entropy_pool_size_bits", "Bits of entropy pool.").put(page, &[], size);
    Ok(())
}

pub(super) fn filefd(host: &Host, page: &mut Page) -> io::Result<()> {
    const TABLE: [Metric; 2] = [
        gauge("node_filefd_allocated", "File descriptor statistics: allocated."),
        gauge("node_filefd_maximum", "File descriptor statistics: maximum."),
    ];
    let file = read(&host.proc("sys/fs/file-nr"))?;
    // Between them stands what has always been zero since Linux 2.6.
    columns(page, file.split_ascii_whitespace().step_by(2), &[], &TABLE)
}

pub(super) fn os(host: &Host, page: &mut Page) -> io::Result<()> {
    const FIELDS: [&str; 12] = [
        "build_id",
        "id",
        "id_like",
        "image_id",
        "image_version",
        "name",
        "pretty_name",
        "variant",
        "variant_id",
        "version",
        "version_codename",
        "version_id",
    ];
    let file = match read(&host.root("/etc/os-release")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => read(&host.root("/usr/lib/os-release")),
        file => file,
    }?;
    let fields: BTreeMap<String, &str> = file
        .lines()
        .filter_map(|line| line.trim().split_once('='))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim_matches(['"', '\''])))
        .collect();
    let field = |name: &'static str| (name, fields.get(name).copied().unwrap_or_default());
    gauge(
        "node_os_info",
        "A metric with a constant '1' value labeled by build_id, id, id_like, image_id, image_version, name, pretty_name, \
         variant, variant_id, version, version_codename, version_id.",
    )
    .put(page, &FIELDS.map(field), 1.0);
    let version = field("version_id").1;
    let end = version.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(version.len());
    let major_minor = version[..end].split('.').take(2).collect::<Vec<_>>().join(".");
    if let Ok(version) = major_minor.parse::<f64>()
        && version > 0.0
    {
        gauge("node_os_version", "Metric containing the major.minor part of the OS version.").put(
            page,
            &["id", "id_like", "name"].map(field),
            version,
        );
    }
    Ok(())
}

pub(super) fn selinux(host: &Host, page: &mut Page) -> io::Result<()> {
    let enforces = figure(&host.sys("fs/selinux/enforce"));
    let enabled = gauge("node_selinux_enabled", "SELinux is enabled, 1 is true, 0 is false");
    enabled.put(page, &[], f64::from(enforces.is_some()));
    let Some(enforces) = enforces else { return Ok(()) };
    let config = read(&host.root("/etc/selinux/config")).unwrap_or_default();
    let configured = match config.lines().find_map(|line| line.trim().strip_prefix("SELINUX=")) {
        Some("enforcing") => 1.0,
        Some("permissive") => 0.0,
        _ => -1.0,
    };
    gauge("node_selinux_config_mode", "Configured SELinux enforcement mode").put(page, &[], configured);
    gauge("node_selinux_current_mode", "Current SELinux enforcement mode").put(page, &[], enforces);
    Ok(())
}

pub(super) fn time(host: &Host, page: &mut Page) -> io::Result<()> {
    let now = jiff::Zoned::now();
    let zone = now.time_zone().to_offset_info(now.timestamp());
    gauge("node_time_seconds", "System time in seconds since epoch (1970).").put(
        page,
        &[],
        now.timestamp().as_nanosecond() as f64 / 1e9,
    );
    gauge("node_time_zone_offset_seconds", "System time zone offset in seconds.").put(
        page,
        &[("time_zone", zone.abbreviation())],
        f64::from(zone.offset().seconds()),
    );
    let available = gauge(
        "node_time_clocksource_available_info",
        "Available clocksources read from '/sys/devices/system/clocksource'.",
    );
    let current = gauge(
        "node_time_clocksource_current_info",
        "Current clocksource read from '/sys/devices/system/clocksource'.",
    );
    for (device, folder) in numbered(&host.sys("devices/system/clocksource"), "clocksource")? {
        for name in text(&folder.join("available_clocksource"))?.split_ascii_whitespace() {
            available.put(page, &[("device", &device), ("clocksource", name)], 1.0);
        }
        let name = text(&folder.join("current_clocksource"))?;
        current.put(page, &[("device", &device), ("clocksource", &name)], 1.0);
    }
    Ok(())
}

/// What the kernel answers if nobody keeps its clock right, and the flag of a status whose figures are nanoseconds.
const TIME_ERROR: i32 = 5;
const STA_NANO: i32 = 0x2000;

/// One millionth, with 16 bits behind the point.
const PPM_16: f64 = 1e-6 / 65536.0;

pub(super) fn timex(_host: &Host, page: &mut Page) -> io::Result<()> {
    let mut clock = Timex::new();
    let state = match adjtimex(&mut clock) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(nothing()),
        state => state?,
    };
    let clock = clock.0;
    let unit = if clock.status & STA_NANO != 0 { 1e-9 } else { 1e-6 };
    #[rustfmt::skip]
    let table = [
        (gauge("node_timex_sync_status", "Is clock synchronized to a reliable server (1 = yes, 0 = no)."), f64::from(state != TIME_ERROR)),
        (gauge("node_timex_offset_seconds", "Time offset in between local system and reference clock.").times(unit), clock.offset as f64),
        (gauge("node_timex_frequency_adjustment_ratio", "Local clock frequency adjustment."), 1.0 + clock.freq as f64 * PPM_16),
        (gauge("node_timex_maxerror_seconds", "Maximum error in seconds.").times(1e-6), clock.maxerror as f64),
        (gauge("node_timex_estimated_error_seconds", "Estimated error in seconds.").times(1e-6), clock.esterror as f64),
        (gauge("node_timex_status", "Value of the status array bits."), f64::from(clock.status)),
        (gauge("node_timex_loop_time_constant", "Phase-locked loop time constant."), clock.constant as f64),
        (gauge("node_timex_tick_seconds", "Seconds between clock ticks.").times(1e-6), clock.tick as f64),
        (gauge("node_timex_pps_frequency_hertz", "Pulse per second frequency.").times(PPM_16), clock.ppsfreq as f64),
        (gauge("node_timex_pps_jitter_seconds", "Pulse per second jitter.").times(unit), clock.jitter as f64),
        (gauge("node_timex_pps_shift_seconds", "Pulse per second interval duration."), f64::from(clock.shift)),
        (gauge("node_timex_pps_stability_hertz", "Pulse per second stability, average of recent frequency changes.").times(PPM_16), clock.stabil as f64),
        (counter("node_timex_pps_jitter_total", "Pulse per second count of jitter limit exceeded events."), clock.jitcnt as f64),
        (counter("node_timex_pps_calibration_total", "Pulse per second count of calibration intervals."), clock.calcnt as f64),
        (counter("node_timex_pps_error_total", "Pulse per second count of calibration errors."), clock.errcnt as f64),
        (counter("node_timex_pps_stability_exceeded_total", "Pulse per second count of stability limit exceeded events."), clock.stbcnt as f64),
        (gauge("node_timex_tai_offset_seconds", "International Atomic Time (TAI) offset."), f64::from(clock.tai)),
    ];
    for (metric, value) in table {
        metric.put(page, &[], value);
    }
    Ok(())
}

pub(super) fn uname(_host: &Host, page: &mut Page) -> io::Result<()> {
    let name = kernel_name();
    let labels = [
        ("sysname", name.sysname()),
        ("release", name.release()),
        ("version", name.version()),
        ("machine", name.machine()),
        ("nodename", name.nodename()),
        ("domainname", name.domainname()),
    ]
    .map(|(label, value)| (label, value.to_string_lossy()));
    gauge("node_uname_info", "Labeled system information as provided by the uname system call.").put(
        page,
        &labels.each_ref().map(|(label, value)| (*label, value.as_ref())),
        1.0,
    );
    Ok(())
}
