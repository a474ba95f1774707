//! A membership as bytes, as it stands in the log, on the wire and in snapshots. Knows nothing of those.
//!
//! Little-endian; each list is its length (1) and its items, ascending by id:
//!
//! | field | item |
//! |---|---|
//! | version (1): 1 | |
//! | voters | id (8) |
//! | outgoing voters | id (8) |
//! | learners | id (8) |
//! | joining | id (8), whom it replaces (8), 0 for nobody |
//! | seats | id (8), length (2), bytes |
//! | seats of the outgoing voters | id (8), length (2), bytes |

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::Membership;
use crate::types::NodeId;

const VERSION: u8 = 1;
const ID_BYTES: usize = 8;

/// Why bytes are no membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedMembership(pub &'static str);

impl fmt::Display for MalformedMembership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for MalformedMembership {}

type Parsed<T> = Result<T, MalformedMembership>;

impl Membership {
    /// As bytes.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.bytes_len());
        out.put_u8(VERSION);
        put_ids(&mut out, &self.voters);
        put_ids(&mut out, &self.outgoing);
        put_ids(&mut out, &self.learners);
        put_length(&mut out, self.joining.len());
        for (id, replaced) in &self.joining {
            out.put_u64_le(id.get());
            out.put_u64_le(replaced.map_or(0, NodeId::get));
        }
        put_seats(&mut out, &self.seats);
        put_seats(&mut out, &self.outgoing_seats);
        out.freeze()
    }

    /// The length of [`Self::to_bytes`].
    pub(crate) fn bytes_len(&self) -> usize {
        let ids = self.voters.len() + self.outgoing.len() + self.learners.len() + 2 * self.joining.len();
        let seats = self.seats.values().chain(self.outgoing_seats.values());
        1 + 6 + ids * ID_BYTES + seats.map(|seat| ID_BYTES + 2 + seat.len()).sum::<usize>()
    }

    /// What such bytes say.
    ///
    /// # Errors
    /// What breaks the layout, or an invariant.
    pub fn parse(bytes: &Bytes) -> Parsed<Self> {
        let mut rest = bytes.clone();
        if take_u8(&mut rest)? != VERSION {
            return Err(MalformedMembership("a membership of another version"));
        }
        let membership = Self {
            voters: take_ids(&mut rest)?,
            outgoing: take_ids(&mut rest)?,
            learners: take_ids(&mut rest)?,
            joining: take_list(&mut rest, |rest| {
                let id = take_id(rest)?;
                Ok((id, NodeId::new(take_u64(rest)?)))
            })?,
            seats: take_list(&mut rest, take_seat)?,
            outgoing_seats: take_list(&mut rest, take_seat)?,
        };
        if rest.has_remaining() {
            return Err(MalformedMembership("bytes behind a membership"));
        }
        match membership.broken() {
            Some(what) => Err(MalformedMembership(what)),
            None => Ok(membership),
        }
    }
}

fn put_length(out: &mut BytesMut, length: usize) {
    out.put_u8(u8::try_from(length).expect("members are bounded far below 256"));
}

fn put_ids(out: &mut BytesMut, ids: &BTreeSet<NodeId>) {
    put_length(out, ids.len());
    ids.iter().for_each(|id| out.put_u64_le(id.get()));
}

fn put_seats(out: &mut BytesMut, seats: &BTreeMap<NodeId, Bytes>) {
    put_length(out, seats.len());
    for (id, seat) in seats {
        out.put_u64_le(id.get());
        out.put_u16_le(u16::try_from(seat.len()).expect("a seat is bounded far below 64 KiB"));
        out.put_slice(seat);
    }
}

const CUT: MalformedMembership = MalformedMembership("a membership that is cut off");

fn take_u8(rest: &mut Bytes) -> Parsed<u8> {
    rest.try_get_u8().map_err(|_| CUT)
}

fn take_u64(rest: &mut Bytes) -> Parsed<u64> {
    rest.try_get_u64_le().map_err(|_| CUT)
}

fn take_id(rest: &mut Bytes) -> Parsed<NodeId> {
    NodeId::new(take_u64(rest)?).ok_or(MalformedMembership("a member with the id 0"))
}

fn take_seat(rest: &mut Bytes) -> Parsed<(NodeId, Bytes)> {
    let id = take_id(rest)?;
    let length = usize::from(rest.try_get_u16_le().map_err(|_| CUT)?);
    if length > rest.len() {
        return Err(CUT);
    }
    Ok((id, Bytes::copy_from_slice(&rest.split_to(length))))
}

fn take_list<V>(
    rest: &mut Bytes,
    take: impl Fn(&mut Bytes) -> Parsed<(NodeId, V)>,
) -> Parsed<BTreeMap<NodeId, V>> {
    let mut list = BTreeMap::new();
    for _ in 0..take_u8(rest)? {
        let (id, value) = take(rest)?;
        if list.last_key_value().is_some_and(|(last, _)| *last >= id) {
            return Err(MalformedMembership("members out of order"));
        }
        list.insert(id, value);
    }
    Ok(list)
}

fn take_ids(rest: &mut Bytes) -> Parsed<BTreeSet<NodeId>> {
    let ids = take_list(rest, |rest| Ok((take_id(rest)?, ())))?;
    Ok(ids.into_keys().collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node(id: u64) -> NodeId {
        NodeId::new(id).unwrap()
    }

    fn sample() -> Membership {
        let voters = [1, 2, 3].map(node).into_iter().collect();
        let old = Membership::simple(voters).with_seat(node(3), Bytes::from_static(b"old"));
        let target =
            old.clone().without(node(3)).with_joining(node(3), None).with_joining(node(4), Some(node(1)));
        old.towards(&target.with_seat(node(3), Bytes::from_static(b"new")))
    }

    #[test]
    fn it_stands_in_these_bytes() {
        let hex: String = sample().to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = "01\
            0201000000000000000200000000000000\
            03010000000000000002000000000000000300000000000000\
            0203000000000000000400000000000000\
            0203000000000000000000000000000000\
            04000000000000000100000000000000\
            01030000000000000003006e6577\
            01030000000000000003006f6c64";
        assert_eq!(hex, expected);
        assert_eq!(sample().bytes_len(), expected.len() / 2);
        assert_eq!(Membership::parse(&sample().to_bytes()), Ok(sample()));
    }

    #[test]
    fn what_is_cut_off_or_too_long_is_refused() {
        let bytes = sample().to_bytes();
        for length in 0..bytes.len() {
            assert!(Membership::parse(&bytes.slice(..length)).is_err(), "{length} bytes");
        }
        let mut longer = BytesMut::from(&bytes[..]);
        longer.put_u8(0);
        assert_eq!(
            Membership::parse(&longer.freeze()),
            Err(MalformedMembership("bytes behind a membership"))
        );
    }

    proptest! {
        /// Whatever is taken is what would be written.
        #[test]
        fn what_is_parsed_is_canonical(
            flips in proptest::collection::vec((0..110_usize, any::<u8>()), 0..4),
        ) {
            let mut bytes = BytesMut::from(&sample().to_bytes()[..]);
            for (place, value) in flips {
                if let Some(byte) = bytes.get_mut(place) {
                    *byte = value;
                }
            }
            let bytes = bytes.freeze();
            if let Ok(membership) = Membership::parse(&bytes) {
                prop_assert_eq!(membership.to_bytes(), bytes);
            }
        }
    }
}
