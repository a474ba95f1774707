//! A value: bytes that append in place and are shared with replies without a copy.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// Links of a chain of shared beginnings, after which the bytes are copied into one piece again.
const LINKS_MAX: u32 = 1_024;
/// What [`Value::touch`] touches: a byte of each cache line,
const TOUCHED_STEP_BYTES: usize = 64;
/// of so many; who goes on from there is known to the processor's own prefetching.
const TOUCHED_MAX: usize = 4;
/// A key and its value that come to no more than this are one allocation.
const WHOLE_BYTES_MAX: usize = 4 << 10;

/// The bytes of one key, and the key with them where it has one. Cloning shares them; appending costs the length of the
/// argument (and once of all, while that is little), also while clones are alive: they keep what they saw as the beginning
/// that both share.
#[derive(Clone)]
pub struct Value(Content);

#[derive(Clone)]
enum Content {
    /// A key and its value, one behind the other: what most are, so that a million keys are a million allocations, and not
    /// three times as many.
    Whole {
        record: Arc<[u8]>,
        /// Bytes of the key.
        key: u32,
    },
    /// What is large, or was appended to.
    Grown(Arc<Piece>),
}

#[derive(Default)]
struct Piece {
    key: Arc<[u8]>,
    /// What comes first, shared with clones that were alive when this piece was begun.
    before: Option<Arc<Piece>>,
    /// Bytes of all pieces before.
    before_bytes: usize,
    /// How many pieces there are before.
    links: u32,
    bytes: Vec<u8>,
}

impl Value {
    /// A value of its own, copied from `bytes`.
    pub fn copy_from(bytes: &[u8]) -> Self {
        Self::of_key(&[], bytes)
    }

    /// The same, of a key.
    pub(crate) fn of_key(key: &[u8], bytes: &[u8]) -> Self {
        static ZEROS: [u8; WHOLE_BYTES_MAX] = [0; WHOLE_BYTES_MAX];
        let both = key.len() + bytes.len();
        if both > WHOLE_BYTES_MAX {
            let (key, bytes) = (key.into(), bytes.to_vec());
            return Self(Content::Grown(Arc::new(Piece { key, bytes, ..Piece::default() })));
        }
        let mut record: Arc<[u8]> = Arc::from(&ZEROS[..both]);
        let place = Arc::get_mut(&mut record).expect("nobody has it yet");
        place[..key.len()].copy_from_slice(key);
        place[key.len()..].copy_from_slice(bytes);
        let key = u32::try_from(key.len()).expect("below the limit above");
        Self(Content::Whole { record, key })
    }

    /// The key that it is the value of.
    pub(crate) fn key(&self) -> &[u8] {
        match &self.0 {
            Content::Whole { record, key } => &record[..*key as usize],
            Content::Grown(piece) => &piece.key,
        }
    }

    /// The bytes in one piece; copied only where the value was appended to under the eyes of a reader.
    pub fn to_bytes(&self) -> Cow<'_, [u8]> {
        let piece = match &self.0 {
            Content::Whole { record, key } => return Cow::Borrowed(&record[*key as usize..]),
            Content::Grown(piece) if piece.before.is_none() => return Cow::Borrowed(&piece.bytes),
            Content::Grown(piece) => piece,
        };
        let mut bytes = vec![0; self.len()];
        let mut end = bytes.len();
        for piece in from_the_end(piece) {
            bytes[end - piece.bytes.len()..end].copy_from_slice(&piece.bytes);
            end -= piece.bytes.len();
        }
        Cow::Owned(bytes)
    }

    /// The bytes from `offset` on, as far as they stand together; empty at the end.
    pub fn piece_at(&self, offset: usize) -> &[u8] {
        let rest = match &self.0 {
            Content::Whole { record, key } => record[*key as usize..].get(offset..),
            Content::Grown(piece) => from_the_end(piece)
                .find(|piece| piece.before_bytes <= offset)
                .and_then(|piece| piece.bytes.get(offset - piece.before_bytes..)),
        };
        rest.unwrap_or_default()
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        match &self.0 {
            Content::Whole { record, key } => record.len() - *key as usize,
            Content::Grown(piece) => piece.before_bytes + piece.bytes.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes from all over the value where it is small, for the sake of having been there.
    pub(crate) fn touch(&self) -> u8 {
        match &self.0 {
            Content::Whole { record, .. } => {
                let lines = record.iter().step_by(TOUCHED_STEP_BYTES).take(TOUCHED_MAX);
                lines.chain(record.last()).fold(Arc::strong_count(record) as u8, |all, byte| all ^ byte)
            }
            Content::Grown(piece) => u8::from(piece.bytes.is_empty()),
        }
    }

    /// Becomes the value of the same key that is `bytes`, in the same memory if they are as many and nobody shares it.
    pub(crate) fn replace(&mut self, bytes: &[u8]) {
        let place = match &mut self.0 {
            Content::Whole { record, key } => {
                Arc::get_mut(record).and_then(|record| record.get_mut(*key as usize..))
            }
            Content::Grown(piece) => Arc::get_mut(piece)
                .filter(|piece| piece.before.is_none())
                .map(|piece| piece.bytes.as_mut_slice()),
        };
        match place.filter(|place| place.len() == bytes.len()) {
            Some(place) => place.copy_from_slice(bytes),
            None => *self = Self::of_key(self.key(), bytes),
        }
    }

    /// CRC-32C of `seed` and these bytes.
    pub(crate) fn checksum_onto(&self, seed: u32) -> u32 {
        crc32c::crc32c_append(seed, &self.to_bytes())
    }

    /// Adds `bytes` at the end.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        let shared = match &mut self.0 {
            Content::Whole { .. } => None,
            Content::Grown(piece) => match Arc::get_mut(piece) {
                Some(piece) => return piece.bytes.extend_from_slice(bytes),
                None => (piece.links < LINKS_MAX).then(|| Arc::clone(piece)),
            },
        };
        let piece = match shared {
            Some(before) => Piece {
                key: Arc::clone(&before.key),
                before_bytes: self.len(),
                links: before.links + 1,
                before: Some(before),
                bytes: bytes.to_vec(),
            },
            None => {
                let mut joined = Vec::with_capacity(self.len() + bytes.len());
                joined.extend_from_slice(&self.to_bytes());
                joined.extend_from_slice(bytes);
                Piece { key: self.key().into(), bytes: joined, ..Piece::default() }
            }
        };
        self.0 = Content::Grown(Arc::new(piece));
    }
}

impl Default for Value {
    fn default() -> Self {
        Self::copy_from(&[])
    }
}

/// It and those before it.
fn from_the_end(piece: &Piece) -> impl Iterator<Item = &Piece> {
    std::iter::successors(Some(piece), |piece| piece.before.as_deref())
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
        /// Whatever is cloned in between, every clone keeps what it saw, and the value is what was written and appended.
        #[test]
        fn clones_keep_what_they_saw(
            steps in proptest::collection::vec(("[a-z]{0,5}", any::<bool>(), 0..3), 0..40),
            large in any::<bool>(),
        ) {
            let mut model = vec![b'-'; if large { WHOLE_BYTES_MAX } else { 0 }];
            let mut value = Value::of_key(b"key", &model);
            let mut clones = Vec::new();
            for (argument, keeps, what) in steps {
                match what {
                    0 => {
                        // As many bytes as there are.
                        model.iter_mut().zip(argument.bytes()).for_each(|(old, new)| *old = new);
                        value.replace(&model);
                    }
                    1 => {
                        model = argument.clone().into_bytes();
                        value.replace(&model);
                    }
                    _ => {
                        value.append(argument.as_bytes());
                        model.extend_from_slice(argument.as_bytes());
                    }
                }
                prop_assert_eq!(value.key(), b"key");
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
        let Content::Grown(piece) = &value.0 else { panic!("it was appended to") };
        let held: usize = from_the_end(piece).map(|piece| piece.bytes.capacity()).sum();
        assert!(held < 3 << 20, "{held} bytes");
        assert!(readers.iter().enumerate().all(|(place, reader)| reader.len() == (1 << 20) + place + 1));
    }

    #[test]
    fn as_many_bytes_take_the_place_of_those_that_nobody_reads() {
        for length in [100, 2 * WHOLE_BYTES_MAX] {
            let mut value = Value::of_key(b"key", &vec![b'a'; length]);
            let place = value.piece_at(0).as_ptr();
            value.replace(&vec![b'b'; length]);
            assert_eq!(value.piece_at(0).as_ptr(), place);
            let reader = value.clone();
            value.replace(&vec![b'c'; length]);
            assert_ne!(value.piece_at(0).as_ptr(), place);
            assert_eq!(
                (&*reader.to_bytes(), &*value.to_bytes()),
                (&*vec![b'b'; length], &*vec![b'c'; length])
            );
        }
    }

    #[test]
    fn a_key_stays_with_its_value_whatever_becomes_of_that() {
        for length in [0, 1, 100, WHOLE_BYTES_MAX - 4, WHOLE_BYTES_MAX - 3, WHOLE_BYTES_MAX - 2, 10_000] {
            let mut value = Value::of_key(b"key", &vec![b'x'; length]);
            let mut readers = Vec::new();
            for appended in 0..3 {
                assert_eq!((value.key(), value.len()), (&b"key"[..], length + appended));
                assert_eq!(&*value.to_bytes(), &vec![b'x'; length + appended]);
                readers.push(value.clone());
                value.append(b"x");
            }
            assert!(readers.iter().enumerate().all(|(appended, reader)| reader.len() == length + appended));
        }
    }

    #[test]
    fn a_long_chain_is_joined() {
        let mut value = Value::default();
        let mut readers = Vec::new();
        for _ in 0..3 * LINKS_MAX {
            value.append(b"z");
            readers.push(value.clone());
            assert!(matches!(&value.0, Content::Grown(piece) if piece.links <= LINKS_MAX));
        }
        assert_eq!(value.len(), 3 * LINKS_MAX as usize);
    }
}
