//! Verifies a snapshot that comes byte after byte, and keeps none of it: for who writes it somewhere else than into a data
//! folder. In memory is one block.

use quorate_raft::Position;

use super::format::Walk;
use super::{Fault, SnapshotError};
use crate::identity::ClusterId;

/// A snapshot on its way, from its beginning on.
pub struct StreamCheck {
    name: String,
    walk: Walk,
    /// The beginning of the next part.
    buffer: Vec<u8>,
}

impl StreamCheck {
    /// Of this cluster at this position; errors call it `name`.
    pub fn new(name: &str, cluster: ClusterId, position: Position) -> Self {
        Self { name: name.to_owned(), walk: Walk::new(cluster, position), buffer: Vec::new() }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// Where they are not those of this snapshot; then it is of no use any more.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), SnapshotError> {
        while !bytes.is_empty() {
            let needed = self.walk.part_bytes(&self.buffer).map_err(|fault| self.error(fault))?;
            let (now, later) = bytes.split_at(bytes.len().min(needed - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            let needed = self.walk.part_bytes(&self.buffer).map_err(|fault| self.error(fault))?;
            if needed == self.buffer.len() {
                let part = std::mem::take(&mut self.buffer);
                self.walk.take(&part).map_err(|fault| self.error(fault))?;
                self.buffer = part;
                self.buffer.clear();
            }
        }
        Ok(())
    }

    /// After the last byte: the digest of the state.
    ///
    /// # Errors
    /// If something is missing.
    pub fn finish(&self) -> Result<u64, SnapshotError> {
        self.walk.digest().ok_or_else(|| self.error(Fault::Damaged("it ends in the middle")))
    }

    fn error(&self, fault: Fault) -> SnapshotError {
        SnapshotError::of(fault, &self.name, &self.walk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_raft::{Index, Term};

    fn cluster() -> ClusterId {
        ClusterId::new(9).unwrap()
    }

    const POSITION: Position = Position::new(Term(1), Index(2));

    fn snapshot() -> Vec<u8> {
        let mut walk = Walk::new(cluster(), POSITION);
        let mut bytes = Vec::new();
        walk.write_header(&mut bytes);
        walk.write_block(&mut bytes, b"hello");
        walk.write_block(&mut bytes, &[7; 100]);
        walk.write_trailer(&mut bytes, 55);
        bytes
    }

    fn check(bytes: &[u8], piece: usize) -> Result<u64, SnapshotError> {
        let mut check = StreamCheck::new("it", cluster(), POSITION);
        for piece in bytes.chunks(piece) {
            check.push(piece)?;
        }
        check.finish()
    }

    #[test]
    fn a_snapshot_is_whole_in_pieces_of_any_size_and_no_other_is() {
        let whole = snapshot();
        for piece in 1..=whole.len() {
            assert_eq!(check(&whole, piece).unwrap(), 55);
        }
        for length in 0..whole.len() {
            assert!(check(&whole[..length], 50).is_err(), "cut to {length}");
        }
        let more = [&whole[..], b"x"].concat();
        assert!(check(&more, more.len()).is_err());
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut flipped = whole.clone();
                flipped[at] ^= 1 << bit;
                assert!(check(&flipped, 30).is_err(), "bit {bit} of byte {at}");
            }
        }
    }
}
