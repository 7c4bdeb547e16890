//! Disks, tapes, and what disks are made into or reached by.

use std::collections::BTreeMap;
use std::io;

use super::host::{
    Host, Metric, columns, counter, figure, files, folders, gauge, malformed, parse, read, text,
};
use crate::telemetry::Page;

const SECTOR_BYTES: f64 = 512.0;

pub(super) fn diskstats(host: &Host, page: &mut Page) -> io::Result<()> {
    #[rustfmt::skip]
    const TABLE: [Metric; 17] = [
        counter("node_disk_reads_completed_total", "The total number of reads completed successfully."),
        counter("node_disk_reads_merged_total", "The total number of reads merged."),
        counter("node_disk_read_bytes_total", "The total number of bytes read successfully.").times(SECTOR_BYTES),
        counter("node_disk_read_time_seconds_total", "The total number of seconds spent by all reads.").times(1e-3),
        counter("node_disk_writes_completed_total", "The total number of writes completed successfully."),
        counter("node_disk_writes_merged_total", "The number of writes merged."),
        counter("node_disk_written_bytes_total", "The total number of bytes written successfully.").times(SECTOR_BYTES),
        counter("node_disk_write_time_seconds_total", "This is the total number of seconds spent by all writes.").times(1e-3),
        gauge("node_disk_io_now", "The number of I/Os currently in progress."),
        counter("node_disk_io_time_seconds_total", "Total seconds spent doing I/Os.").times(1e-3),
        counter("node_disk_io_time_weighted_seconds_total", "The weighted # of seconds spent doing I/Os.").times(1e-3),
        counter("node_disk_discards_completed_total", "The total number of discards completed successfully."),
        counter("node_disk_discards_merged_total", "The total number of discards merged."),
        counter("node_disk_discarded_sectors_total", "The total number of sectors discarded successfully."),
        counter("node_disk_discard_time_seconds_total", "This is the total number of seconds spent by all discards.").times(1e-3),
        counter("node_disk_flush_requests_total", "The total number of flush requests completed successfully"),
        counter("node_disk_flush_requests_time_seconds_total", "This is the total number of seconds spent by all flush requests.").times(1e-3),
    ];
    #[rustfmt::skip]
    const ATA: [(&str, Metric); 3] = [
        ("ID_ATA_WRITE_CACHE", gauge("node_disk_ata_write_cache", "ATA disk has a write cache.")),
        ("ID_ATA_WRITE_CACHE_ENABLED", gauge("node_disk_ata_write_cache_enabled", "ATA disk has its write cache enabled.")),
        ("ID_ATA_ROTATION_RATE_RPM", gauge("node_disk_ata_rotation_rate_rpm", "ATA disk rotation rate in RPMs (0 for SSDs).")),
    ];
    let info = gauge("node_disk_info", "Info of /sys/block/<block_device>.");
    let filesystem = gauge("node_disk_filesystem_info", "Info about disk filesystem.");
    let mapper = gauge("node_disk_device_mapper_info", "Info about disk device mapper.");
    for line in read(&host.proc("diskstats"))?.lines() {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        // Kernels before 2.6.33 have partitions with fewer figures, which mean something else.
        let [major, minor, device, figures @ ..] = &fields[..] else { return Err(malformed(line)) };
        if figures.len() < 11 || !host.arguments.disk.shows(device) {
            continue;
        }
        let udev = read(&host.arguments.udev_data_path.join(format!("b{major}:{minor}"))).unwrap_or_default();
        let udev: BTreeMap<&str, &str> =
            udev.lines().filter_map(|line| line.strip_prefix("E:")?.split_once('=')).collect();
        let known = |name: &str| udev.get(name).copied().unwrap_or_default();
        let labels = [
            ("device", *device),
            ("major", major),
            ("minor", minor),
            ("path", known("ID_PATH")),
            ("wwn", known("ID_WWN")),
            ("model", known("ID_MODEL")),
            ("serial", known("ID_SERIAL_SHORT")),
            ("revision", known("ID_REVISION")),
        ];
        info.put(page, &labels, 1.0);
        columns(page, figures.iter().copied(), &labels[..1], &TABLE)?;
        if !known("ID_FS_TYPE").is_empty() {
            let labels = [
                ("device", *device),
                ("type", known("ID_FS_TYPE")),
                ("usage", known("ID_FS_USAGE")),
                ("uuid", known("ID_FS_UUID")),
                ("version", known("ID_FS_VERSION")),
            ];
            filesystem.put(page, &labels, 1.0);
        }
        if !known("DM_NAME").is_empty() {
            let labels = [
                ("device", *device),
                ("name", known("DM_NAME")),
                ("uuid", known("DM_UUID")),
                ("vg_name", known("DM_VG_NAME")),
                ("lv_name", known("DM_LV_NAME")),
                ("lv_layer", known("DM_LV_LAYER")),
            ];
            mapper.put(page, &labels, 1.0);
        }
        for (property, metric) in ATA.iter().filter(|_| !known("ID_ATA").is_empty()) {
            if let Ok(value) = known(property).parse() {
                metric.put(page, &labels[..1], value);
            }
        }
    }
    Ok(())
}

pub(super) fn mdadm(host: &Host, page: &mut Page) -> io::Result<()> {
    const STATES: [(&str, &str); 5] = [
        ("active", "active"),
        ("inactive", "inactive"),
        ("recovering", "recovery"),
        ("resync", "resync"),
        ("check", "check"),
    ];
    let state = gauge("node_md_state", "Indicates the state of md-device.");
    let disks = gauge("node_md_disks", "Number of active/failed/spare disks of device.");
    let required = gauge("node_md_disks_required", "Total number of disks of device.");
    let blocks = gauge("node_md_blocks", "Total number of blocks on device.");
    let synced = gauge("node_md_blocks_synced", "Number of blocks synced on device.");
    let file = read(&host.proc("mdstat"))?;
    let lines: Vec<&str> = file.lines().collect();
    for (index, line) in lines.iter().enumerate() {
        if line.trim().is_empty()
            || line.starts_with([' ', '\t'])
            || line.starts_with("Personalities")
            || line.starts_with("unused")
        {
            continue;
        }
        // md0 : active raid1 sda1[0] sdb1[1](F)
        //       248896 blocks [2/1] [U_]
        //       [=>...]  recovery = 8.5% (16775552/195310144) finish=17.0min speed=259783K/sec
        let mut fields = line.split_ascii_whitespace();
        let (Some(device), _, Some(activity)) = (fields.next(), fields.next(), fields.next()) else {
            return Err(malformed(line));
        };
        let rest: Vec<&str> =
            lines[index + 1..].iter().take_while(|line| line.starts_with(' ')).copied().collect();
        let status = rest.first().copied().unwrap_or_default();
        let size: f64 = parse(status.split_ascii_whitespace().next().unwrap_or_default())?;
        let (active, total) = if line.contains("raid0") || line.contains("linear") {
            let disks = line.matches('[').count() as f64;
            (disks, disks)
        } else if activity == "inactive" {
            (0.0, 0.0)
        } else {
            let counts = status.split('[').filter_map(|part| part.split(']').next()?.split_once('/')).next();
            let (total, active) = counts.ok_or_else(|| malformed(status))?;
            (parse(active)?, parse(total)?)
        };
        let sync = rest[1..].iter().find(|line| !line.contains("bitmap")).copied().unwrap_or_default();
        let doing = STATES[2..].iter().find(|(_, word)| sync.contains(word)).map(|(state, _)| *state);
        let done = match doing {
            None => size,
            Some(_) if sync.contains("PENDING") || sync.contains("DELAYED") => 0.0,
            Some(_) => {
                let done = sync.split_once('(').and_then(|(_, counts)| counts.split_once('/'));
                parse(done.ok_or_else(|| malformed(sync))?.0)?
            }
        };
        let labels = [("device", device)];
        required.put(page, &labels, total);
        let failed = line.matches("(F)").count() as f64;
        let spare = line.matches("(S)").count() as f64;
        for (kind, count) in [("active", active), ("failed", failed), ("spare", spare)] {
            disks.put(page, &[("device", device), ("state", kind)], count);
        }
        for (name, _) in STATES {
            let is_so = f64::from(name == doing.unwrap_or(activity));
            state.put(page, &[("device", device), ("state", name)], is_so);
        }
        blocks.put(page, &labels, size);
        synced.put(page, &labels, done);
    }
    Ok(())
}

pub(super) fn nvme(host: &Host, page: &mut Page) -> io::Result<()> {
    let info = gauge("node_nvme_info", "Non-numeric data from /sys/class/nvme/<device>, value is always 1.");
    for (device, folder) in folders(&host.sys("class/nvme"), "")? {
        let [firmware, model, serial, state] = ["firmware_rev", "model", "serial", "state"]
            .map(|file| text(&folder.join(file)).unwrap_or_default());
        let labels = [
            ("device", device.as_str()),
            ("firmware_revision", &firmware),
            ("model", &model),
            ("serial", &serial),
            ("state", &state),
        ];
        info.put(page, &labels, 1.0);
    }
    Ok(())
}

pub(super) fn tapestats(host: &Host, page: &mut Page) -> io::Result<()> {
    #[rustfmt::skip]
    const TABLE: [(&str, Metric); 10] = [
        ("in_flight", gauge("node_tape_io_now", "The number of I/Os currently outstanding to this device.")),
        ("io_ns", counter("node_tape_io_time_seconds_total", "The amount of time spent waiting for all I/O to complete (including read and write). This includes tape movement commands such as seeking between file or set marks and implicit tape movement such as when rewind on close tape devices are used.").times(1e-9)),
        ("other_cnt", counter("node_tape_io_others_total", "The number of I/Os issued to the tape drive other than read or write commands. The time taken to complete these commands uses the following calculation io_time_seconds_total-read_time_seconds_total-write_time_seconds_total")),
        ("read_byte_cnt", counter("node_tape_read_bytes_total", "The number of bytes read from the tape drive.")),
        ("read_cnt", counter("node_tape_reads_completed_total", "The number of read requests issued to the tape drive.")),
        ("read_ns", counter("node_tape_read_time_seconds_total", "The amount of time spent waiting for read requests to complete.").times(1e-9)),
        ("resid_cnt", counter("node_tape_residual_total", "The number of times during a read or write we found the residual amount to be non-zero. This should mean that a program is issuing a read larger thean the block size on tape. For write not all data made it to tape.")),
        ("write_byte_cnt", counter("node_tape_written_bytes_total", "The number of bytes written to the tape drive.")),
        ("write_cnt", counter("node_tape_writes_completed_total", "The number of write requests issued to the tape drive.")),
        ("write_ns", counter("node_tape_write_time_seconds_total", "The amount of time spent waiting for write requests to complete.").times(1e-9)),
    ];
    for (number, folder) in folders(&host.sys("class/scsi_tape"), "st")? {
        let device = format!("st{number}");
        // `st0a` and its like are modes of the same drive.
        if number.bytes().all(|c| c.is_ascii_digit()) && host.arguments.tapestats.shows(&device) {
            files(page, &folder.join("stats"), &[("device", &device)], &TABLE);
        }
    }
    Ok(())
}

pub(super) fn fibrechannel(host: &Host, page: &mut Page) -> io::Result<()> {
    #[rustfmt::skip]
    const TABLE: [(&str, Metric); 14] = [
        ("dumped_frames", counter("node_fibrechannel_dumped_frames_total", "Number of dumped frames")),
        ("error_frames", counter("node_fibrechannel_error_frames_total", "Number of errors in frames")),
        ("invalid_crc_count", counter("node_fibrechannel_invalid_crc_total", "Invalid Cyclic Redundancy Check count")),
        ("rx_frames", counter("node_fibrechannel_rx_frames_total", "Number of frames received")),
        ("rx_words", counter("node_fibrechannel_rx_words_total", "Number of words received by host port")),
        ("tx_frames", counter("node_fibrechannel_tx_frames_total", "Number of frames transmitted by host port")),
        ("tx_words", counter("node_fibrechannel_tx_words_total", "Number of words transmitted by host port")),
        ("seconds_since_last_reset", counter("node_fibrechannel_seconds_since_last_reset_total", "Number of seconds since last host port reset")),
        ("invalid_tx_word_count", counter("node_fibrechannel_invalid_tx_words_total", "Number of invalid words transmitted by host port")),
        ("link_failure_count", counter("node_fibrechannel_link_failure_total", "Number of times the host port link has failed")),
        ("loss_of_sync_count", counter("node_fibrechannel_loss_of_sync_total", "Number of failures on either bit or transmission word boundaries")),
        ("loss_of_signal_count", counter("node_fibrechannel_loss_of_signal_total", "Number of times signal has been lost")),
        ("nos_count", counter("node_fibrechannel_nos_total", "Number Not_Operational Primitive Sequence received by host port")),
        ("fcp_packet_aborts", counter("node_fibrechannel_fcp_packet_aborts_total", "Number of aborted packets")),
    ];
    #[rustfmt::skip]
    const TEXTS: [&str; 10] = [
        "speed", "port_state", "port_type", "port_id", "port_name", "fabric_name", "symbolic_name", "supported_classes",
        "supported_speeds", "dev_loss_tmo",
    ];
    let info = gauge(
        "node_fibrechannel_info",
        "Non-numeric data from /sys/class/fc_host/<host>, value is always 1.",
    );
    for (name, folder) in folders(&host.sys("class/fc_host"), "")? {
        let texts = TEXTS.map(|file| {
            let text = text(&folder.join(file)).unwrap_or_default();
            let is_id = ["port_id", "port_name", "fabric_name"].contains(&file);
            (file, text.strip_prefix("0x").filter(|_| is_id).unwrap_or(&text).to_owned())
        });
        let labels = texts.iter().map(|(file, text)| (*file, text.as_str()));
        let labels: Vec<_> = [("fc_host", name.as_str())].into_iter().chain(labels).collect();
        info.put(page, &labels, 1.0);
        // All ones: the driver does not count it.
        let counts = |file: &str| {
            figure(&folder.join("statistics").join(file)).is_some_and(|value| value < u64::MAX as f64)
        };
        let counted: Vec<_> = TABLE.into_iter().filter(|(file, _)| counts(file)).collect();
        files(page, &folder.join("statistics"), &labels[..1], &counted);
    }
    Ok(())
}
