//! Compressed files: what they hold, read from front to back. Offsets are those of the content, as before it was compressed.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::ops::Range;

use bytes::Bytes;

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// gzip, also several members.
    Gzip,
    /// zlib.
    Zlib,
    /// bzip2, also several streams.
    Bzip2,
    /// Zstandard, also several frames.
    Zstd,
}

impl Format {
    /// What rotation adds to the name of a file that it has compressed: the name without it, and how.
    pub(super) fn strip(name: &str) -> (&str, Option<Format>) {
        let suffixes = [(".gz", Format::Gzip), (".bz2", Format::Bzip2), (".zst", Format::Zstd)];
        let found = suffixes.iter().find_map(|(end, format)| Some((name.strip_suffix(end)?, Some(*format))));
        found.unwrap_or((name, None))
    }
}

/// A block of the content is kept, because a line that began in it is read again with its end.
pub(super) struct Packed {
    format: Format,
    file: File,
    decoder: Box<dyn Read + Send + Sync>,
    /// The end of what was decoded, and where it begins in the content.
    window: Vec<u8>,
    window_at: u64,
    end: End,
}

/// What follows what was decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    /// More, perhaps.
    Open,
    /// Nothing.
    Complete,
    /// The file is not whole, or no such file.
    Torn { error: String, is_said: bool },
}

impl Packed {
    pub(super) fn new(file: File, format: Format) -> io::Result<Self> {
        let decoder = decoder(&file, format)?;
        Ok(Packed { format, file, decoder, window: Vec::new(), window_at: 0, end: End::Open })
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// How long the content is, or more than that while its end was not seen.
    pub(super) fn size(&self) -> u64 {
        match self.end {
            End::Open => u64::MAX / 2,
            _ => self.window_end(),
        }
    }

    /// Whether the end was seen and is the right one.
    pub(super) fn is_complete(&self) -> bool {
        self.end == End::Complete
    }

    /// Why the content ends too early, once.
    pub(super) fn poll_trouble(&mut self) -> Option<String> {
        match &mut self.end {
            End::Torn { error, is_said } if !*is_said => {
                *is_said = true;
                Some(error.clone())
            }
            _ => None,
        }
    }

    /// The file has changed: what is said of its end is old.
    pub(super) fn rewind(&mut self) -> io::Result<()> {
        self.decoder = decoder(&self.file, self.format)?;
        self.window = Vec::new();
        (self.window_at, self.end) = (0, End::Open);
        Ok(())
    }

    /// The range of the content, or less if it ends before. Ranges that begin behind the last one's begin are cheap.
    pub(super) fn read(&mut self, range: Range<u64>) -> io::Result<Bytes> {
        if range.start < self.window_at {
            self.rewind()?;
        }
        while self.window_end() < range.end && self.end == End::Open {
            let unneeded = range.start.min(self.window_end()) - self.window_at;
            self.window.drain(..unneeded as usize);
            self.window_at += unneeded;
            self.decode_piece();
        }
        let within = |at: u64| at.clamp(self.window_at, self.window_end()) - self.window_at;
        Ok(Bytes::copy_from_slice(&self.window[within(range.start) as usize..within(range.end) as usize]))
    }

    fn decode_piece(&mut self) {
        const PIECE_BYTES: u64 = 64 << 10;
        match (&mut self.decoder).take(PIECE_BYTES).read_to_end(&mut self.window) {
            Ok(0) => self.end = End::Complete,
            Ok(_) => {}
            Err(error) => self.end = End::Torn { error: error.to_string(), is_said: false },
        }
    }

    fn window_end(&self) -> u64 {
        self.window_at + self.window.len() as u64
    }
}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Packed { format, window_at, end, .. } = self;
        f.debug_struct("Packed")
            .field("format", format)
            .field("window_at", window_at)
            .field("end", end)
            .finish()
    }
}

fn decoder(mut file: &File, format: Format) -> io::Result<Box<dyn Read + Send + Sync>> {
    io::Seek::rewind(&mut file)?;
    let file = BufReader::new(file.try_clone()?);
    Ok(match format {
        Format::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        Format::Zlib => Box::new(flate2::bufread::ZlibDecoder::new(file)),
        Format::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(file)),
        Format::Zstd => Box::new(zstd::Decoder::with_buffer(file)?),
    })
}

/// For tests of files that rotation has compressed.
#[cfg(test)]
pub(super) fn pack(path: &std::path::Path, content: &[u8]) {
    use std::io::Write;
    let file = File::create(path).unwrap();
    match Format::strip(path.to_str().unwrap()).1 {
        Some(Format::Gzip) => {
            flate2::write::GzEncoder::new(file, flate2::Compression::fast()).write_all(content).unwrap();
        }
        Some(Format::Bzip2) => {
            bzip2::write::BzEncoder::new(file, bzip2::Compression::fast()).write_all(content).unwrap();
        }
        Some(Format::Zstd) => {
            zstd::stream::copy_encode(content, file, 1).unwrap();
        }
        _ => panic!("{} has no known suffix", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn packed(path: &Path) -> Packed {
        let format = Format::strip(path.to_str().unwrap()).1.unwrap();
        Packed::new(File::open(path).unwrap(), format).unwrap()
    }

    #[test]
    fn ranges_of_the_content_are_read_in_any_order() {
        let folder = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..300_000u32).flat_map(|number| number.to_le_bytes()).collect();
        for suffix in ["gz", "bz2", "zst"] {
            let path = folder.path().join(format!("app.log.1.{suffix}"));
            pack(&path, &content);
            let mut packed = packed(&path);
            for range in
                [0..10, 5..70_000, 69_000..1_000_000, 3..4, 1_199_990..1_300_000, 1_500_000..1_500_001]
            {
                let end = content.len().min(range.end);
                let expected = &content[end.min(range.start)..end];
                let read = packed.read(range.start as u64..range.end as u64).unwrap();
                assert!(read == expected, "{suffix} {range:?}");
            }
            assert!(packed.is_complete(), "{suffix}");
            assert_eq!(packed.size(), content.len() as u64, "{suffix}");
        }
    }

    #[test]
    fn members_that_were_appended_are_read_too() {
        let folder = tempfile::tempdir().unwrap();
        for suffix in ["gz", "bz2", "zst"] {
            let (one, two) =
                (folder.path().join(format!("1.{suffix}")), folder.path().join(format!("2.{suffix}")));
            pack(&one, b"one\n");
            pack(&two, b"two\n");
            let both = [std::fs::read(&one).unwrap(), std::fs::read(&two).unwrap()].concat();
            std::fs::write(&one, both).unwrap();
            assert_eq!(packed(&one).read(0..100).unwrap(), "one\ntwo\n", "{suffix}");
        }
    }

    #[test]
    fn a_file_that_ends_too_early_gives_what_it_has_and_says_so_once() {
        let folder = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..100_000u32).flat_map(|number| (number * 7919).to_le_bytes()).collect();
        for suffix in ["gz", "bz2", "zst"] {
            let path = folder.path().join(format!("app.log.1.{suffix}"));
            pack(&path, &content);
            let whole = std::fs::read(&path).unwrap();
            std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
            let mut packed = packed(&path);
            let read = packed.read(0..content.len() as u64).unwrap();
            assert!(read.len() < content.len() && content.starts_with(&read), "{suffix}");
            assert!(!packed.is_complete() && packed.poll_trouble().is_some(), "{suffix}");
            assert_eq!(packed.poll_trouble(), None, "{suffix}");
            std::fs::write(&path, &whole).unwrap();
            packed.rewind().unwrap();
            assert!(packed.read(0..content.len() as u64).unwrap() == content, "{suffix}");
        }
    }
}
