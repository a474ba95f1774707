//! A value: bytes that append in place and are shared with replies without a copy.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// Links of a chain of shared beginnings, after which the bytes are copied into one piece again.
const LINKS_MAX: u32 = 1_024;

/// The bytes of one key. Cloning shares them; appending costs the length of the argument, also while clones are alive:
/// they keep what they saw as the beginning that both share.
#[derive(Clone, Default)]
pub struct Value(Arc<Piece>);

#[derive(Default)]
struct Piece {
    /// What comes first, shared with clones that were alive when this piece was begun.
    before: Option<Value>,
    /// Bytes of all pieces before.
    before_bytes: usize,
    /// How many pieces there are before.
    links: u32,
    bytes: Vec<u8>,
}

impl Value {
    /// A value of its own, copied from `bytes`.
    pub fn copy_from(bytes: &[u8]) -> Self {
        Self(Arc::new(Piece { bytes: bytes.to_vec(), ..Piece::default() }))
    }

    /// The bytes in one piece; copied only where the value was appended to under the eyes of a reader.
    pub fn to_bytes(&self) -> Cow<'_, [u8]> {
        if self.0.before.is_none() {
            return Cow::Borrowed(&self.0.bytes);
        }
        let mut bytes = vec![0; self.len()];
        let mut end = bytes.len();
        for piece in self.pieces_from_the_end() {
            bytes[end - piece.bytes.len()..end].copy_from_slice(&piece.bytes);
            end -= piece.bytes.len();
        }
        Cow::Owned(bytes)
    }

    /// The bytes from `offset` on, as far as they stand together; empty at the end.
    pub fn piece_at(&self, offset: usize) -> &[u8] {
        let piece = self.pieces_from_the_end().find(|piece| piece.before_bytes <= offset);
        piece.and_then(|piece| piece.bytes.get(offset - piece.before_bytes..)).unwrap_or_default()
    }

    fn pieces_from_the_end(&self) -> impl Iterator<Item = &Piece> {
        std::iter::successors(Some(&*self.0), |piece| piece.before.as_ref().map(|before| &*before.0))
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.0.before_bytes + self.0.bytes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// CRC-32C of `seed` and these bytes.
    pub(crate) fn checksum_onto(&self, seed: u32) -> u32 {
        crc32c::crc32c_append(seed, &self.to_bytes())
    }

    /// Adds `bytes` at the end.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        if let Some(piece) = Arc::get_mut(&mut self.0) {
            piece.bytes.extend_from_slice(bytes);
            return;
        }
        let piece = if self.0.links < LINKS_MAX {
            Piece {
                before_bytes: self.len(),
                links: self.0.links + 1,
                bytes: bytes.to_vec(),
                before: Some(self.clone()),
            }
        } else {
            let mut joined = Vec::with_capacity(self.len() + bytes.len());
            joined.extend_from_slice(&self.to_bytes());
            joined.extend_from_slice(bytes);
            Piece { bytes: joined, ..Piece::default() }
        };
        self.0 = Arc::new(piece);
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.to_bytes() == other.to_bytes()
    }
}

impl Eq for Value {}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.to_bytes().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever is cloned in between, every clone keeps what it saw, and the value is what was appended.
        #[test]
        fn clones_keep_what_they_saw(steps in proptest::collection::vec(("[a-z]{0,5}", any::<bool>()), 0..40)) {
            let mut value = Value::default();
            let mut model = Vec::new();
            let mut clones = Vec::new();
            for (argument, keeps) in steps {
                value.append(argument.as_bytes());
                model.extend_from_slice(argument.as_bytes());
                if keeps {
                    clones.push((value.clone(), model.clone()));
                }
            }
            clones.push((value, model));
            for (clone, seen) in clones {
                prop_assert_eq!(&*clone.to_bytes(), &seen[..]);
                prop_assert_eq!(clone.len(), seen.len());
                let mut walked = Vec::new();
                while walked.len() < seen.len() {
                    let piece = clone.piece_at(walked.len());
                    prop_assert!(!piece.is_empty());
                    walked.extend_from_slice(piece);
                }
                prop_assert_eq!(walked, seen);
                prop_assert!(clone.piece_at(clone.len()).is_empty());
            }
        }
    }

    /// Each reader pins the value as it was; without sharing, a thousand of them would pin a thousand copies.
    #[test]
    fn an_append_under_a_reader_copies_nothing_but_its_argument() {
        let mut value = Value::copy_from(&[b'x'; 1 << 20]);
        let readers: Vec<Value> = (0..1_000)
            .map(|_| {
                value.append(b"y");
                value.clone()
            })
            .collect();
        let held: usize = value.pieces_from_the_end().map(|piece| piece.bytes.capacity()).sum();
        assert!(held < 3 << 20, "{held} bytes");
        assert!(readers.iter().enumerate().all(|(place, reader)| reader.len() == (1 << 20) + place + 1));
    }

    #[test]
    fn a_long_chain_is_joined() {
        let mut value = Value::default();
        let mut readers = Vec::new();
        for _ in 0..3 * LINKS_MAX {
            value.append(b"z");
            readers.push(value.clone());
            assert!(value.0.links <= LINKS_MAX);
        }
        assert_eq!(value.len(), 3 * LINKS_MAX as usize);
    }
}
