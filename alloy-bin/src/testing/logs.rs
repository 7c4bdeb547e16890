//! Log files that grow by numbered lines and are rotated by rename, as fast as the caller's tick.

use std::fs::File;
use std::io::{self, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A configuration that tails the files of a glob to a Loki receiver. What is behind the rest is put into `loki.source.file`, into the
/// `endpoint` and into `loki.write` as it is.
pub fn tail_to_loki(glob: &Path, push_url: &str, [source, endpoint, write]: [&str; 3]) -> String {
    format!(
        r#"local.file_match "all" {{
  path_targets = [{{ "__path__" = {glob:?} }}]
}}

loki.source.file "all" {{
  targets    = local.file_match.all.targets
  forward_to = [loki.write.all.receiver]
  {source}
}}

loki.write "all" {{
  endpoint {{
    url = {push_url:?}
    {endpoint}
  }}
  {write}
}}
"#
    )
}

/// One growing log file. The lines are numbered through all its rotations: `file=app.log seq=17`.
#[derive(Debug)]
pub struct LogWriter {
    path: PathBuf,
    name: String,
    file: File,
    next: u64,
    rotations: u32,
}

impl LogWriter {
    /// Creates the file, or appends to it if there is one; the numbers begin at 0.
    pub fn create(path: impl Into<PathBuf>) -> io::Result<LogWriter> {
        let path = path.into();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let file = open(&path)?;
        Ok(LogWriter { path, name, file, next: 0, rotations: 0 })
    }

    /// Where the lines go now.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many lines were written.
    pub fn written(&self) -> u64 {
        self.next
    }

    /// The line of that number, without its end.
    pub fn line(&self, number: u64) -> String {
        format!("file={} seq={number}", self.name)
    }

    /// Appends that many lines with one write, and says which.
    pub fn write_lines(&mut self, count: u64) -> io::Result<Range<u64>> {
        let numbers = self.next..self.next + count;
        let text: String = numbers.clone().map(|number| self.line(number) + "\n").collect();
        self.file.write_all(text.as_bytes())?;
        self.next = numbers.end;
        Ok(numbers)
    }

    /// Appends the next line in two writes, with the caller's work between: a reader sees half a line meanwhile.
    pub fn write_line_in_halves(&mut self, between: impl FnOnce()) -> io::Result<()> {
        let line = self.line(self.next) + "\n";
        let (head, tail) = line.as_bytes().split_at(line.len() / 2);
        self.file.write_all(head)?;
        between();
        self.file.write_all(tail)?;
        self.next += 1;
        Ok(())
    }

    /// Renames the file to `<path>.<number of the rotation>`, goes on in a new one, and says where the old one is.
    pub fn rotate(&mut self) -> io::Result<PathBuf> {
        let mut rotated = self.path.clone().into_os_string();
        rotated.push(format!(".{}", self.rotations + 1));
        let rotated = PathBuf::from(rotated);
        std::fs::rename(&self.path, &rotated)?;
        self.file = open(&self.path)?;
        self.rotations += 1;
        Ok(rotated)
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_numbered_through_rotations() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = LogWriter::create(folder.path().join("app.log")).unwrap();
        assert_eq!(log.write_lines(2).unwrap(), 0..2);
        let rotated = log.rotate().unwrap();
        assert_eq!(log.write_lines(1).unwrap(), 2..3);
        let path = log.path().to_owned();
        log.write_line_in_halves(|| {
            assert!(!std::fs::read_to_string(&path).unwrap().ends_with('\n'));
        })
        .unwrap();
        assert_eq!(log.written(), 4);
        assert_eq!(std::fs::read_to_string(rotated).unwrap(), "file=app.log seq=0\nfile=app.log seq=1\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "file=app.log seq=2\nfile=app.log seq=3\n");
    }
}
