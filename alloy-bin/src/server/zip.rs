//! A zip archive in memory (PKWARE APPNOTE 6.3.10, without its extensions), compressed with deflate. It takes few and small files;
//! crates for it bring encryption and a clock, and half of the tree would be built anew for them.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::DeflateEncoder;

/// An archive that is being written.
#[derive(Default)]
pub(super) struct Zip {
    out: Vec<u8>,
    directory: Vec<u8>,
    files: u16,
}

/// Version 2.0: deflate. Bit 11: names are UTF-8. Method 8: deflate. At midnight of 1980-01-01, the first day that it can say.
const COMMON: [u16; 5] = [20, 1 << 11, 8, 0, 0x21];
/// Made by version 2.0 on Unix.
const MADE_BY: u16 = 3 << 8 | 20;
/// A plain file, `rw-r--r--`.
const MODE: u32 = 0o100_644 << 16;

impl Zip {
    /// Adds a file. Archive and file have to stay below 4 GiB, which what is added here does by far.
    pub(super) fn add(&mut self, name: &str, content: &[u8]) {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        let packed = encoder.write_all(content).and_then(|()| encoder.finish());
        let packed = packed.expect("memory takes all that is written");
        let mut entry: Vec<u8> = COMMON.iter().flat_map(|word| word.to_le_bytes()).collect();
        let size = |bytes: &[u8]| u32::try_from(bytes.len()).expect("below 4 GiB").to_le_bytes();
        entry.extend(crc32fast::hash(content).to_le_bytes());
        entry.extend(size(&packed));
        entry.extend(size(content));
        entry.extend(u16::try_from(name.len()).expect("a short name").to_le_bytes());
        // No extra field.
        entry.extend([0; 2]);

        let offset = size(&self.out);
        self.out.extend(b"PK\x03\x04");
        self.out.extend(&entry);
        self.out.extend(name.as_bytes());
        self.out.extend(&packed);

        self.directory.extend(b"PK\x01\x02");
        self.directory.extend(MADE_BY.to_le_bytes());
        self.directory.extend(&entry);
        // No comment, on the first disk, no attributes of its own.
        self.directory.extend([0; 6]);
        self.directory.extend(MODE.to_le_bytes());
        self.directory.extend(offset);
        self.directory.extend(name.as_bytes());
        self.files += 1;
    }

    /// The archive.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let word = |bytes: &[u8]| u32::try_from(bytes.len()).expect("below 4 GiB").to_le_bytes();
        let (size, offset) = (word(&self.directory), word(&self.out));
        self.out.extend(&self.directory);
        self.out.extend(b"PK\x05\x06\0\0\0\0");
        self.out.extend(self.files.to_le_bytes());
        self.out.extend(self.files.to_le_bytes());
        self.out.extend(size);
        self.out.extend(offset);
        // No comment.
        self.out.extend([0; 2]);
        self.out
    }
}
