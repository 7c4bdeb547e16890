//! What ZFS counts: `/proc/spl/kstat/zfs`.

use std::io;
use std::path::Path;

use super::host::{Host, folders, gauge, named, parse, read};
use crate::telemetry::Page;

/// The middle of the metrics' names, and the file.
#[rustfmt::skip]
const FILES: [(&str, &str); 11] = [
    ("abd", "abdstats"), ("arc", "arcstats"), ("dbuf", "dbuf_stats"), ("dmu_tx", "dmu_tx"), ("dnode", "dnodestats"), ("fm", "fm"),
    ("vdev_cache", "vdev_cache_stats"), ("vdev_mirror", "vdev_mirror_stats"), ("xuio", "xuio_stats"), ("zfetch", "zfetchstats"),
    ("zil", "zil"),
];
const STATES: [&str; 6] = ["online", "degraded", "faulted", "offline", "removed", "unavail"];

pub(super) fn zfs(host: &Host, page: &mut Page) -> io::Result<()> {
    let folder = host.proc("spl/kstat/zfs");
    let pools = folders(&folder, "")?;
    for (name, file) in FILES {
        let Ok(stats) = read(&folder.join(file)) else { continue };
        for (field, value) in figures(&stats) {
            put(page, &format!("zfs_{name}"), &format!("{file}.{field}"), &[], value)?;
        }
    }
    let state = gauge("node_zfs_zpool_state", "kstat.zfs.misc.state");
    for (pool, folder) in &pools {
        let labels = [("zpool", pool.as_str())];
        if let Ok(io) = read(&folder.join("io")) {
            let mut lines = io.lines().skip_while(|line| !line.starts_with("nread"));
            if let (Some(names), Some(values)) = (lines.next(), lines.next()) {
                for (name, value) in names.split_ascii_whitespace().zip(values.split_ascii_whitespace()) {
                    put(page, "zfs_zpool", &format!("io.{name}"), &labels, value)?;
                }
            }
        }
        for stats in datasets(folder)? {
            let name = stats
                .lines()
                .find_map(|line| line.strip_prefix("dataset_name")?.split_ascii_whitespace().nth(1));
            let labels = [labels[0], ("dataset", name.unwrap_or_default())];
            for (field, value) in figures(&stats) {
                put(page, "zfs_zpool_dataset", &format!("objset.{field}"), &labels, value)?;
            }
        }
        if let Ok(now) = read(&folder.join("state")) {
            for name in STATES {
                state.put(
                    page,
                    &[labels[0], ("state", name)],
                    f64::from(now.trim().eq_ignore_ascii_case(name)),
                );
            }
        }
    }
    Ok(())
}

/// `objset-0x36` and its like.
fn datasets(pool: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(pool)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("objset-") {
            found.extend(read(&entry.path()).ok());
        }
    }
    Ok(found)
}

/// The lines `name type data` of a table, as far as their type is that of counters.
fn figures(table: &str) -> impl Iterator<Item = (&str, &str)> {
    table.lines().filter_map(|line| match line.split_ascii_whitespace().collect::<Vec<_>>()[..] {
        [name, "4", value] => Some((name, value)),
        _ => None,
    })
}

fn put(page: &mut Page, group: &str, key: &str, labels: &[(&str, &str)], value: &str) -> io::Result<()> {
    let field = key.rsplit('.').next().unwrap_or(key).replace('-', "_");
    let help = format!("kstat.zfs.misc.{key}");
    named(page, "untyped", &format!("node_{group}_{field}"), help, labels, parse(value)?);
    Ok(())
}
