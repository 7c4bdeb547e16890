//! What tailing counts, and how it is shown.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use crate::telemetry::{Collect, Page};

/// Counters of one component. The names are those of Grafana Alloy where it has one.
#[derive(Debug, Default)]
pub struct Metrics {
    /// `loki_source_file_files_active_total` (gauge): files that are followed here.
    pub files_active: AtomicU64,
    /// `loki_source_file_read_errors_total`: looks, opens and reads that failed.
    pub read_errors: AtomicU64,
    /// `loki_source_file_rotations_total`: files that were read to their end after another took their path.
    pub rotations: AtomicU64,
    /// `loki_source_file_truncations_total`: files that became shorter or began anew under the same identity.
    pub truncations: AtomicU64,
    /// `loki_source_file_cut_lines_total`: pieces that were cut off lines longer than the limit.
    pub cut_lines: AtomicU64,
    /// `loki_source_file_refused_batches_total`: answers of receivers that had no room; the batch was offered again.
    pub refused: AtomicU64,
    /// `loki_source_file_files_waiting` (gauge): files that are not read on until their receivers have room.
    pub files_waiting: AtomicU64,
    /// `loki_source_file_bookmark_errors_total`: bookmarks that could not be saved or read.
    pub bookmark_errors: AtomicU64,
    files: Mutex<BTreeMap<String, (usize, Arc<FileMetrics>)>>,
}

/// Counters of one path, with the label `path`.
#[derive(Debug, Default)]
pub struct FileMetrics {
    /// `loki_source_file_read_bytes_total`: bytes in custody.
    pub read_bytes: AtomicU64,
    /// `loki_source_file_read_lines_total`: lines in custody.
    pub read_lines: AtomicU64,
    /// `loki_source_file_file_bytes_total` (gauge): the size of the file.
    pub file_bytes: AtomicU64,
}

impl Metrics {
    /// The paths that are followed with their counters, for exporting.
    pub fn files(&self) -> Vec<(String, Arc<FileMetrics>)> {
        self.lock().iter().map(|(path, (_, file))| (path.clone(), Arc::clone(file))).collect()
    }

    /// The counters of a path, shared by all that follow it.
    pub(super) fn open(&self, path: &str) -> Arc<FileMetrics> {
        let mut files = self.lock();
        let (users, file) = files.entry(path.to_owned()).or_default();
        *users += 1;
        self.files_active.fetch_add(1, Relaxed);
        Arc::clone(file)
    }

    /// Takes the path off the list when its last user goes: labels stay bounded by what is followed.
    pub(super) fn close(&self, path: &str) {
        let mut files = self.lock();
        self.files_active.fetch_sub(1, Relaxed);
        if let Some((users, _)) = files.get_mut(path) {
            *users -= 1;
            if *users == 0 {
                files.remove(path);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, (usize, Arc<FileMetrics>)>> {
        // Counters are never left half changed.
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collect for Metrics {
    fn collect(&self, page: &mut Page) {
        let active = self.files_active.load(Relaxed) as f64;
        page.gauge("loki_source_file_files_active_total", "Number of files that are followed.", &[], active);
        let waiting = self.files_waiting.load(Relaxed) as f64;
        let help = "Number of files that are not read on until the receivers have room.";
        page.gauge("loki_source_file_files_waiting", help, &[], waiting);
        let counters = [
            ("loki_source_file_read_errors_total", "Looks, opens and reads that failed.", &self.read_errors),
            (
                "loki_source_file_rotations_total",
                "Files read to their end after a rotation.",
                &self.rotations,
            ),
            ("loki_source_file_truncations_total", "Files that were truncated.", &self.truncations),
            ("loki_source_file_cut_lines_total", "Pieces cut off lines that are too long.", &self.cut_lines),
            ("loki_source_file_refused_batches_total", "Refusals of receivers without room.", &self.refused),
            (
                "loki_source_file_bookmark_errors_total",
                "Positions that could not be saved or read.",
                &self.bookmark_errors,
            ),
        ];
        for (name, help, value) in counters {
            page.counter(name, help, &[], value.load(Relaxed));
        }
        for (path, file) in self.files() {
            let labels = [("path", path.as_str())];
            let (bytes, lines) = (file.read_bytes.load(Relaxed), file.read_lines.load(Relaxed));
            page.counter("loki_source_file_read_bytes_total", "Number of bytes read.", &labels, bytes);
            page.counter("loki_source_file_read_lines_total", "Number of lines read.", &labels, lines);
            let size = file.file_bytes.load(Relaxed) as f64;
            page.gauge("loki_source_file_file_bytes_total", "Number of bytes total.", &labels, size);
        }
    }
}
