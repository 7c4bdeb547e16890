//! The export format of systemd's journal: bytes to entries.

use std::io::{self, BufRead, Read};

/// A longer value is cut: a line that long is none that Loki takes.
const VALUE_BYTES_MAX: usize = 1 << 20;

/// An entry with more fields is refused: the stream is none.
const FIELDS_MAX: usize = 4096;

/// One entry: its fields in their order. A field may be there several times.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Entry(pub(super) Vec<(String, Vec<u8>)>);

impl Entry {
    /// The first value of a field.
    pub(super) fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_slice())
    }

    pub(super) fn message(&self) -> Option<&[u8]> {
        self.get("MESSAGE")
    }

    /// Where it is in the journal.
    pub(super) fn cursor(&self) -> Option<String> {
        String::from_utf8(self.get("__CURSOR")?.to_vec()).ok()
    }

    /// When it was received, nanoseconds since the Unix epoch.
    pub(super) fn timestamp_ns(&self) -> Option<i64> {
        let micros: i64 = std::str::from_utf8(self.get("__REALTIME_TIMESTAMP")?).ok()?.parse().ok()?;
        micros.checked_mul(1000)
    }
}

/// The next entry; `None`: the stream has ended. An entry that is not whole is none.
pub(super) fn read_entry(stream: &mut impl BufRead) -> io::Result<Option<Entry>> {
    let mut entry = Entry::default();
    loop {
        let Some(line) = read_line(stream)? else { return Ok(None) };
        if line.is_empty() && entry.0.is_empty() {
            continue;
        }
        if line.is_empty() {
            return Ok(Some(entry));
        }
        if entry.0.len() >= FIELDS_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an entry has too many fields"));
        }
        let (name, value) = match memchr::memchr(b'=', &line) {
            Some(at) => (line[..at].to_vec(), line[at + 1..].to_vec()),
            None => match read_value(stream)? {
                Some(value) => (line, value),
                None => return Ok(None),
            },
        };
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        entry.0.push((String::from_utf8(name).map_err(invalid)?, value));
    }
}

/// A line without its end; `None` if the stream ends before.
fn read_line(stream: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    // Room for the field's name besides its value.
    stream.by_ref().take(VALUE_BYTES_MAX as u64 + 128).read_until(b'\n', &mut line)?;
    if line.pop_if(|last| *last == b'\n').is_some() {
        return Ok(Some(line));
    }
    if stream.skip_until(b'\n')? == 0 {
        return Ok(None);
    }
    Ok(Some(line))
}

/// A value that is not text: its length, the bytes, a line feed.
fn read_value(stream: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 8];
    let mut value = Vec::new();
    if let Err(error) = stream.read_exact(&mut length) {
        return if error.kind() == io::ErrorKind::UnexpectedEof { Ok(None) } else { Err(error) };
    }
    let length = u64::from_le_bytes(length);
    let kept = length.min(VALUE_BYTES_MAX as u64);
    stream.by_ref().take(kept).read_to_end(&mut value)?;
    let rest = length - kept;
    let skipped = io::copy(&mut stream.by_ref().take(rest), &mut io::sink())?;
    let mut end = [0];
    let is_whole = value.len() as u64 == kept && skipped == rest && stream.read(&mut end)? == 1;
    match (is_whole, end) {
        (false, _) => Ok(None),
        (true, [b'\n']) => Ok(Some(value)),
        (true, _) => Err(io::Error::new(io::ErrorKind::InvalidData, "a value is longer than it says")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_all(mut stream: &[u8]) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        while let Some(entry) = read_entry(&mut stream)? {
            entries.push(entry);
        }
        Ok(entries)
    }

    fn binary(name: &str, value: &[u8]) -> Vec<u8> {
        [name.as_bytes(), b"\n", &(value.len() as u64).to_le_bytes(), value, b"\n"].concat()
    }

    #[test]
    fn entries_are_read_as_they_were_exported() {
        let text = b"__CURSOR=s=1;i=2\n__REALTIME_TIMESTAMP=1700000000000001\nMESSAGE=a=b\n\n\n".to_vec();
        let stream = [text, binary("MESSAGE", b"two\nlines"), b"PRIORITY=6\n\nMESSAGE=not whole\n".to_vec()];
        let entries = read_all(&stream.concat()).unwrap();
        assert_eq!(entries.len(), 2, "{entries:?}");
        assert_eq!(entries[0].message(), Some(&b"a=b"[..]));
        assert_eq!(entries[0].cursor().as_deref(), Some("s=1;i=2"));
        assert_eq!(entries[0].timestamp_ns(), Some(1_700_000_000_000_001_000));
        assert_eq!(entries[1].message(), Some(&b"two\nlines"[..]));
        assert_eq!(entries[1].get("PRIORITY"), Some(&b"6"[..]));
    }

    #[test]
    fn long_values_are_cut_and_the_next_entry_is_found() {
        let long = vec![b'x'; VALUE_BYTES_MAX * 2];
        let text = [b"MESSAGE=", &long[..], b"\nA=1\n\nB=2\n\n"].concat();
        let stream = [binary("MESSAGE", &long), b"A=1\n\n".to_vec(), text].concat();
        let entries = read_all(&stream).unwrap();
        let lengths: Vec<_> = entries.iter().map(|entry| entry.message().map_or(0, <[u8]>::len)).collect();
        assert_eq!(lengths.len(), 3);
        assert_eq!((lengths[0], lengths[2]), (VALUE_BYTES_MAX, 0));
        assert!((VALUE_BYTES_MAX..VALUE_BYTES_MAX + 200).contains(&lengths[1]));
        assert_eq!(entries[1].get("A"), Some(&b"1"[..]));
    }

    #[test]
    fn what_is_no_export_is_an_error() {
        assert!(read_all(b"\xff=1\n\n").is_err());
        assert!(read_all(&[&binary("A", b"1")[..10], b"xyz\n\n"].concat()).is_err());
        assert!(read_all(&b"A=1\n".repeat(FIELDS_MAX + 1)).is_err());
    }

    proptest! {
        #[test]
        fn any_values_come_back(values in proptest::collection::vec(
            proptest::collection::vec(any::<u8>(), 0..40), 1..6)) {
            let stream: Vec<u8> = values.iter().flat_map(|value| binary("F", value)).chain(*b"\n").collect();
            let entries = read_all(&stream).unwrap();
            let expected = values.iter().map(|value| ("F".to_owned(), value.clone())).collect();
            prop_assert_eq!(&entries, &[Entry(expected)]);
            for end in 0..stream.len() {
                prop_assert_eq!(read_all(&stream[..end]).unwrap(), []);
            }
        }
    }
}
