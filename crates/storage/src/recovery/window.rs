//! The bytes of one segment, a piece of them in memory at a time: a start reads gigabytes of log through one small buffer,
//! which stays in the processor's cache and costs no new memory. Knows nothing of records.

use crate::disk::{DiskError, DiskFile};

/// Bytes that are read at once, unless more are asked for.
const STEP_BYTES: u64 = 256 << 10;
/// A segment is read in so many steps at least. (Small ones, as tests have them, go the same way as large ones.)
const STEPS_MIN: u64 = 8;
/// Bytes of the smallest step.
const STEP_BYTES_MIN: u64 = 64;
/// Looked through at once for something else than zeros.
const BLANK_BYTES: usize = 64;

/// Bytes that are kept until the next segment, in which they are overwritten.
#[derive(Default)]
pub(crate) struct Buffer(Vec<u8>);

/// See the module.
pub(crate) struct Window<'a> {
    file: &'a dyn DiskFile,
    bytes: u64,
    buffer: &'a mut Vec<u8>,
    /// The offset of the buffer's first byte.
    begin: u64,
    /// Bytes of the buffer that were read.
    filled: usize,
    /// What is there from here on stays.
    kept: u64,
}

impl<'a> Window<'a> {
    /// On a whole file; nothing is read yet, and nothing is kept.
    pub(crate) fn new(file: &'a dyn DiskFile, buffer: &'a mut Buffer) -> Result<Self, DiskError> {
        let bytes = file.size()?;
        Ok(Self { file, bytes, buffer: &mut buffer.0, begin: 0, filled: 0, kept: u64::MAX })
    }

    /// Bytes of the file.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What was read from `offset` on is not read again, until the next call of this.
    pub(crate) fn keep_from(&mut self, offset: u64) {
        self.kept = offset;
    }

    /// So many bytes from `offset` on, fewer only where the file ends.
    pub(crate) fn get(&mut self, offset: u64, bytes: usize) -> Result<&[u8], DiskError> {
        let end = offset.saturating_add(bytes as u64).min(self.bytes);
        let offset = offset.min(end);
        if offset < self.begin || offset > self.begin + self.filled as u64 {
            (self.begin, self.filled) = (offset, 0);
        }
        if end > self.begin + self.filled as u64 {
            self.leave(offset.min(self.kept));
            self.read_up_to(end)?;
        }
        let at = self.place(offset);
        Ok(&self.buffer[at..at + size(end - offset)])
    }

    /// Whether there is nothing but zeros from `offset` on.
    pub(crate) fn is_blank_from(&mut self, offset: u64) -> Result<bool, DiskError> {
        let mut at = offset;
        while at < self.bytes {
            let step = size(self.step());
            let piece = self.get(at, step)?;
            if zeros(piece) < piece.len() {
                return Ok(false);
            }
            at += piece.len() as u64;
        }
        Ok(true)
    }

    /// Drops what is before `offset`, unless more than that would have to be moved for it.
    fn leave(&mut self, offset: u64) {
        let unneeded = self.place(offset.max(self.begin)).min(self.filled);
        let left = self.filled - unneeded;
        if left <= unneeded {
            self.buffer.copy_within(unneeded..self.filled, 0);
            self.begin += unneeded as u64;
            self.filled = left;
        }
    }

    fn read_up_to(&mut self, end: u64) -> Result<(), DiskError> {
        let from = self.begin + self.filled as u64;
        let end = end.max(from + self.step()).min(self.bytes);
        let filled = self.place(end);
        if self.buffer.len() < filled {
            self.buffer.resize(filled, 0);
        }
        self.file.read_at(from, &mut self.buffer[self.filled..filled])?;
        self.filled = filled;
        Ok(())
    }

    fn step(&self) -> u64 {
        (self.bytes / STEPS_MIN).clamp(STEP_BYTES_MIN, STEP_BYTES)
    }

    fn place(&self, offset: u64) -> usize {
        size(offset - self.begin)
    }
}

/// How many zeros these bytes begin with.
pub(crate) fn zeros(bytes: &[u8]) -> usize {
    // A block at a time: a byte at a time costs a start as much as reading the file.
    let is_blank = |block: &&[u8]| block.iter().fold(0, |all, byte| all | byte) == 0;
    let blank = bytes.chunks(BLANK_BYTES).take_while(is_blank).count() * BLANK_BYTES;
    let rest = bytes.get(blank..).unwrap_or_default();
    bytes.len().min(blank) + rest.iter().take_while(|byte| **byte == 0).count()
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a piece in memory")
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::disk::Disk;
    use crate::sim_disk::SimDisk;

    proptest! {
        #[test]
        fn a_window_shows_what_is_in_the_file(
            content in vec(prop_oneof![9 => Just(0), 1 => any::<u8>()], 0..2_000),
            looks in vec((0_usize..2_100, 0_usize..700, any::<Option<u16>>()), 1..40),
        ) {
            let disk = SimDisk::new();
            let mut file = disk.create("file").unwrap();
            file.write_at(0, &content).unwrap();
            let mut buffer = Buffer(vec![0xff; 300]);
            let mut window = Window::new(&*file, &mut buffer).unwrap();
            prop_assert_eq!(window.bytes(), content.len() as u64);
            for (at, bytes, keep) in looks {
                window.keep_from(keep.map_or(u64::MAX, u64::from));
                let begin = at.min(content.len());
                let expected = &content[begin..(at + bytes).clamp(begin, content.len())];
                prop_assert_eq!(window.get(at as u64, bytes).unwrap(), expected);
                let rest = &content[begin..];
                let is_blank = rest.iter().all(|byte| *byte == 0);
                prop_assert_eq!(window.is_blank_from(at as u64).unwrap(), is_blank);
                prop_assert_eq!(zeros(rest), rest.iter().take_while(|byte| **byte == 0).count());
            }
        }
    }

    #[test]
    fn what_is_kept_is_not_read_again_and_the_rest_leaves() {
        let disk = SimDisk::new();
        let mut file = disk.create("file").unwrap();
        file.write_zeros(0, 1 << 20).unwrap();
        let mut buffer = Buffer::default();
        let mut window = Window::new(&*file, &mut buffer).unwrap();
        let through = |window: &mut Window<'_>| {
            for at in (0..1 << 20).step_by(1 << 10) {
                assert_eq!(window.get(at, 1 << 10).unwrap().len(), 1 << 10);
            }
        };
        through(&mut window);
        assert!(window.buffer.len() <= 1 << 18, "{} bytes", window.buffer.len());
        window.keep_from(0);
        through(&mut window);
        assert_eq!((window.begin, window.filled), (0, 1 << 20));
    }
}
