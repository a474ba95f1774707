//! Memory that all connections use in turn: on one thread one of them reads, or writes, at a time. Must not know what the
//! bytes mean.

use std::cell::{RefCell, RefMut};

use bytes::BytesMut;

/// Bytes of the piece of memory that connections read into, one behind the other.
const READING_BYTES: usize = 64 << 10;
/// Capacity of what is kept for writing.
const WRITING_BYTES_MAX: usize = 256 << 10;

/// One buffer to read into, and one to lay answers out in. So a connection costs no memory between its commands, and
/// these two stay in the processor's cache.
pub(crate) struct Buffers {
    reading: RefCell<BytesMut>,
    writing: RefCell<BytesMut>,
}

impl Default for Buffers {
    fn default() -> Self {
        let reading = RefCell::new(BytesMut::with_capacity(READING_BYTES));
        Self { reading, writing: RefCell::default() }
    }
}

impl Buffers {
    /// Where to read: with room for so many bytes, behind what others have read. Whoever has read splits off what is theirs.
    pub(crate) fn reading(&self, room: usize) -> RefMut<'_, BytesMut> {
        let mut reading = self.reading.borrow_mut();
        debug_assert!(reading.is_empty(), "somebody left what they had read");
        // All of it is used anew where nobody holds a part of it, and another piece is taken where somebody does.
        reading.reserve(room);
        reading
    }

    /// A buffer to write from, for who has none.
    pub(crate) fn lend(&self, writing: &mut BytesMut) {
        if writing.capacity() == 0 {
            std::mem::swap(writing, &mut self.writing.borrow_mut());
        }
    }

    /// Takes a buffer back that is written.
    pub(crate) fn give_back(&self, writing: &mut BytesMut) {
        if !writing.is_empty() {
            return;
        }
        let mut kept = self.writing.borrow_mut();
        let given = std::mem::take(writing);
        if (kept.capacity()..=WRITING_BYTES_MAX).contains(&given.capacity()) {
            *kept = given;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_has_read_is_not_read_over_while_it_is_held() {
        let buffers = Buffers::default();
        let mut held = Vec::new();
        for byte in 0..=255 {
            let mut reading = buffers.reading(1_000);
            reading.resize(1_000, byte);
            held.push((byte, reading.split().freeze()));
        }
        assert!(held.iter().all(|(byte, bytes)| bytes.iter().all(|read| read == byte)));
    }

    #[test]
    fn the_memory_is_used_again_once_nobody_holds_it() {
        let buffers = Buffers::default();
        let mut places = Vec::new();
        for _ in 0..1_000 {
            let mut reading = buffers.reading(READING_BYTES / 2);
            reading.resize(READING_BYTES / 4, 0);
            places.push(reading.split().as_ptr() as usize);
        }
        let reach = places.iter().max().unwrap() - places.iter().min().unwrap();
        assert!(reach < READING_BYTES, "one piece, and no other");
    }

    #[test]
    fn a_buffer_is_lent_to_one_at_a_time() {
        let buffers = Buffers::default();
        let mut first = BytesMut::with_capacity(100);
        buffers.give_back(&mut first);
        buffers.lend(&mut first);
        assert_eq!(first.capacity(), 100);
        first.extend_from_slice(b"not written");
        buffers.give_back(&mut first);
        let mut second = BytesMut::new();
        buffers.lend(&mut second);
        assert_eq!((&first[..], second.capacity()), (&b"not written"[..], 0));
    }
}
