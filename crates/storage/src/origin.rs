//! Which backup a data folder was restored from. Knows nothing of how it is copied, nor of who must agree on it.

use std::fmt;

use quorate_raft::{Index, Position, Term};

use crate::identity::ClusterId;

/// The state that a cluster begins with, where it does not begin with nothing: that of another cluster at a position.
/// Two backups of which all of this is equal hold the same state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Whose state it was.
    pub cluster: ClusterId,
    /// What it was a snapshot of.
    pub position: Position,
    /// The digest of the state.
    pub digest: u64,
}

impl Origin {
    /// Bytes of an origin, in an identity and on the wire.
    pub const BYTES: usize = 40;

    /// Cluster id (16), term (8), index (8), digest (8), little-endian.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..16].copy_from_slice(&self.cluster.get().to_le_bytes());
        let numbers = [self.position.term.0, self.position.index.0, self.digest];
        for (place, number) in bytes[16..].chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// `None` where no backup can be of this.
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let (cluster, numbers) = bytes.split_first_chunk()?;
        let cluster = ClusterId::new(u128::from_le_bytes(*cluster))?;
        let mut numbers = numbers.chunks_exact(8).map(|bytes| {
            let bytes = bytes.try_into().expect("8 bytes");
            u64::from_le_bytes(bytes)
        });
        let position = Position::new(Term(numbers.next()?), Index(numbers.next()?));
        let digest = numbers.next()?;
        crate::snapshot::is_possible(position).then_some(Self { cluster, position, digest })
    }
}

/// Reads as the object of "restored from".
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the backup of cluster {} at {} (digest {:016x})", self.cluster, self.position, self.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_what_its_bytes_say() {
        let cluster = ClusterId::new(0x0102).unwrap();
        let position = Position::new(Term(3), Index(4));
        let origin = Origin { cluster, position, digest: 5 };
        assert_eq!(Origin::from_bytes(&origin.to_bytes()), Some(origin));
        assert_eq!(origin.to_bytes()[..2], [2, 1]);
        assert_eq!(origin.to_bytes()[16..].iter().map(|byte| u32::from(*byte)).sum::<u32>(), 12);
        let nowhere = Origin { position: Position::ZERO, ..origin };
        assert_eq!(Origin::from_bytes(&nowhere.to_bytes()), None);
    }
}
