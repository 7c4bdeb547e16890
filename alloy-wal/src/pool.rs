//! Memory of chunks that are not needed any more, kept for the next ones: fresh memory costs a page fault for every 4 KiB,
//! which is more than copying a record into it.

use bytes::BytesMut;

use crate::staging::{CHUNK_BYTES, Entry, Part};

/// Buffers and lists of entries to be used again.
#[derive(Default)]
pub(crate) struct Pool {
    buffers: Vec<BytesMut>,
    lists: Vec<Vec<Entry>>,
    bytes: usize,
    /// The least that was unused since the last trim.
    unused: usize,
}

impl Pool {
    /// Bytes kept.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes over the memory of a part that nobody reads any more, if less than `limit` bytes are kept then.
    pub(crate) fn put(&mut self, part: Part, limit: usize) {
        let Part { bytes, entries: mut list, .. } = part;
        let list_bytes = list.capacity() * size_of::<Entry>();
        if self.bytes + list_bytes <= limit {
            list.clear();
            self.bytes += list_bytes;
            self.lists.push(list);
        }
        if self.bytes + CHUNK_BYTES > limit {
            return;
        }
        // Parts of one chunk share its memory: the last of them brings it back.
        let Ok(mut buffer) = bytes.try_into_mut() else { return };
        buffer.clear();
        if buffer.try_reclaim(CHUNK_BYTES) {
            self.bytes += buffer.capacity();
            self.buffers.push(buffer);
        }
    }

    /// An empty buffer of at least this capacity.
    pub(crate) fn buffer(&mut self, bytes: usize) -> BytesMut {
        // Larger records have buffers of their own, once.
        let kept = if bytes <= CHUNK_BYTES { self.buffers.pop() } else { None };
        let Some(buffer) = kept else { return BytesMut::with_capacity(bytes.max(CHUNK_BYTES)) };
        self.bytes = self.bytes.saturating_sub(buffer.capacity());
        self.unused = self.unused.min(self.buffers.len());
        buffer
    }

    /// An empty list.
    pub(crate) fn list(&mut self) -> Vec<Entry> {
        let list = self.lists.pop().unwrap_or_default();
        self.bytes = self.bytes.saturating_sub(list.capacity() * size_of::<Entry>());
        list
    }

    /// Gives back to the system what was not needed since the last call.
    pub(crate) fn trim(&mut self) {
        let unused = std::mem::take(&mut self.unused).min(self.buffers.len());
        for buffer in self.buffers.drain(..unused) {
            self.bytes = self.bytes.saturating_sub(buffer.capacity());
        }
        if self.buffers.is_empty() {
            self.lists.clear();
            self.bytes = 0;
        }
        self.unused = self.buffers.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(buffer: BytesMut) -> Part {
        Part { first: 0, bytes: buffer.freeze(), entries: Vec::new() }
    }

    #[test]
    fn a_buffer_comes_back_when_its_last_reader_is_gone() {
        let mut pool = Pool::default();
        let mut buffer = pool.buffer(100);
        buffer.resize(1000, 1);
        let address = buffer.as_ptr();
        let front = buffer.split_to(600);
        let (front, rear) = (part(front), part(buffer));
        let reader = rear.bytes.slice(10..20);
        pool.put(front, usize::MAX);
        pool.put(rear, usize::MAX);
        assert_eq!(pool.bytes(), 0, "somebody still reads it");
        assert_eq!(reader, [1; 10][..]);

        let mut buffer = pool.buffer(100);
        buffer.resize(1000, 2);
        let same = buffer.as_ptr();
        let front = buffer.split_to(600);
        pool.put(part(front), usize::MAX);
        assert_eq!(pool.bytes(), 0);
        pool.put(part(buffer), usize::MAX);
        assert!(pool.bytes() >= CHUNK_BYTES);
        let again = pool.buffer(100);
        assert_eq!((again.as_ptr(), again.len()), (same, 0));
        assert_ne!(address, same);
    }

    #[test]
    fn what_is_not_needed_goes_at_the_second_trim() {
        let mut pool = Pool::default();
        let buffers = [pool.buffer(1), pool.buffer(1)];
        buffers.into_iter().for_each(|buffer| pool.put(part(buffer), usize::MAX));
        pool.trim();
        let used = pool.buffer(1);
        pool.put(part(used), usize::MAX);
        pool.trim();
        assert_eq!(pool.bytes(), CHUNK_BYTES, "one was in use, one was not");
        pool.trim();
        assert_eq!(pool.bytes(), 0);
    }

    #[test]
    fn the_limit_holds() {
        let mut pool = Pool::default();
        let buffers = [pool.buffer(1), pool.buffer(1), pool.buffer(1)];
        buffers.into_iter().for_each(|buffer| pool.put(part(buffer), 2 * CHUNK_BYTES));
        assert_eq!(pool.bytes(), 2 * CHUNK_BYTES);
    }
}
