//! What makes a file the same file, whatever its name is now.

use twox_hash::XxHash64;

/// Where the file system keeps the file. Device numbers differ between nodes and reboots, so only the inode is
/// compared with what was saved; a [`Fingerprint`] confirms it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Identity {
    /// The device.
    pub device: u64,
    /// The inode on it.
    pub inode: u64,
}

/// A hash of the first bytes that were delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    /// XXH64 of the first `bytes` bytes.
    pub hash: u64,
    /// How many bytes it covers, at most [`Fingerprint::BYTES_MAX`].
    pub bytes: u32,
}

impl Fingerprint {
    /// Log lines begin with a time, so a few lines tell files apart.
    pub const BYTES_MAX: usize = 1024;

    /// The fingerprint of a file that begins with `head`.
    pub fn of(head: &[u8]) -> Self {
        let head = &head[..head.len().min(Self::BYTES_MAX)];
        Fingerprint { hash: XxHash64::oneshot(0, head), bytes: head.len() as u32 }
    }

    /// Whether a file that begins with `head` may be the one.
    pub fn matches(self, head: &[u8]) -> bool {
        head.get(..self.bytes as usize).is_some_and(|covered| Self::of(covered) == self)
    }
}

/// Of nothing: it matches every file.
impl Default for Fingerprint {
    fn default() -> Self {
        Fingerprint::of(b"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_covers_what_it_was_made_of_and_nothing_behind() {
        let fingerprint = Fingerprint::of(b"one\ntwo\n");
        assert!(fingerprint.matches(b"one\ntwo\nthree\n"));
        assert!(!fingerprint.matches(b"one\ntwo"));
        assert!(!fingerprint.matches(b"one\n2wo\n"));
        assert!(Fingerprint::default().matches(b"anything"));
    }
}
