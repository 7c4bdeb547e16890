//! Log files whose lines are numbered, so that each is known again wherever it arrives.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::logs::Kind;

/// As many files as the rivals' published figures have.
pub(crate) const FILES: usize = 10;

/// One growing file.
pub(crate) struct LogFile {
    file: File,
    name: usize,
    next: u64,
    kind: Kind,
}

impl LogFile {
    pub(crate) fn create(folder: &Path, name: usize, kind: Kind) -> anyhow::Result<LogFile> {
        std::fs::create_dir_all(folder)?;
        let file = File::create(path(folder, name))?;
        Ok(LogFile { file, name, next: 0, kind })
    }

    /// Appends so many lines by one write; says how many bytes.
    pub(crate) fn append(&mut self, lines: u64) -> anyhow::Result<usize> {
        let mut text = String::with_capacity(lines as usize * 320);
        for number in self.next..self.next + lines {
            let (id, seed) = (self.name, number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            if self.kind == Kind::Cri {
                write!(
                    text,
                    "2026-01-01T00:00:{:02}.{:09}Z stdout F ",
                    number / 1_000_000 % 60,
                    number % 1_000_000_000
                )?;
            }
            writeln!(
                text,
                "level=info ts=2026-01-01T00:00:00Z caller=server/handler.go:{} msg=\"request served\" method=GET path=/api/v1/orders/{:x}/items status=200 duration={}us bytes={} trace={seed:016x}{:016x} user=u-{} bench={id}:{number}",
                seed % 400,
                seed >> 40,
                seed % 90_000,
                seed % 65_000,
                seed.rotate_left(23),
                seed % 5000
            )?;
        }
        self.next += lines;
        self.file.write_all(text.as_bytes())?;
        Ok(text.len())
    }
}

/// Files of so many mebibytes together: lines and bytes.
pub(crate) fn fill(folder: &Path, mib: u64, kind: Kind) -> anyhow::Result<(u64, u64)> {
    let (mut lines, mut bytes) = (0, 0);
    for name in 0..FILES {
        let mut file = LogFile::create(folder, name, kind)?;
        let mut size = 0;
        while size < (mib << 20) / FILES as u64 {
            size += file.append(1000)? as u64;
            lines += 1000;
        }
        bytes += size;
    }
    Ok((lines, bytes))
}

pub(crate) fn path(folder: &Path, name: usize) -> PathBuf {
    folder.join(format!("app-{name:05}.log"))
}
