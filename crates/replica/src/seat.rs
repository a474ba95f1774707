//! What consensus carries for each member without looking at it: which data folder it is, and where it is found. Knows
//! nothing of who votes.
//!
//! Little-endian: version (1): 1; incarnation (8); length of the address (1), the address as text.

use bytes::{BufMut, Bytes, BytesMut};
use quorate_raft::{Membership, NodeId, SEAT_BYTES_MAX};
use quorate_storage::{Incarnation, Member};

use crate::bytes_read::{Malformed, Reader};

/// Bytes of an address at most.
pub const ADDRESS_BYTES_MAX: usize = 255;

const VERSION: u8 = 1;
const _: () = assert!(1 + 8 + 1 + ADDRESS_BYTES_MAX <= SEAT_BYTES_MAX);

/// One member as the membership knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Its data folder: the answers of another one under the same id count for nothing.
    pub incarnation: Incarnation,
    /// Where its peer port is, as text; empty where only `--peers` tell.
    pub address: Box<str>,
}

impl Seat {
    /// As bytes. An address is bounded where it comes in ([`ADDRESS_BYTES_MAX`]).
    ///
    /// # Panics
    /// If the address is longer.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(10 + self.address.len());
        out.put_u8(VERSION);
        out.put_u64_le(self.incarnation.0);
        out.put_u8(u8::try_from(self.address.len()).expect("an address within its limit"));
        out.put_slice(self.address.as_bytes());
        out.freeze()
    }

    /// What such bytes say.
    ///
    /// # Errors
    /// What breaks the layout.
    pub fn parse(bytes: &Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes.clone());
        if reader.u8()? != VERSION {
            return Err(Malformed("a seat of another version"));
        }
        let incarnation = Incarnation(reader.u64()?);
        let length = usize::from(reader.u8()?);
        let address = reader.take(length)?;
        reader.end()?;
        let address = std::str::from_utf8(&address).map_err(|_| Malformed("an address that is no text"))?;
        Ok(Self { incarnation, address: address.into() })
    }

    /// The seat of `id`, if it is a member. One that cannot be read is nobody's: its answers count for nothing.
    pub fn of(membership: &Membership, id: NodeId) -> Option<Self> {
        Self::parse(membership.seat(id)?).ok()
    }
}

/// The data folder that a membership names under an id, as [`Seat::of`] has it.
pub(crate) fn incarnation_of(membership: &Membership, id: NodeId) -> Option<Incarnation> {
    // Asked of every message, and most of a seat is its address.
    let seat = membership.seat(id)?;
    let (version, rest) = seat.split_first()?;
    let (incarnation, _) = rest.split_first_chunk()?;
    (*version == VERSION).then(|| Incarnation(u64::from_le_bytes(*incarnation)))
}

/// What the seat of this folder begins with, wherever it is dialled.
pub(crate) fn beginning(incarnation: Incarnation) -> Bytes {
    let mut out = BytesMut::with_capacity(9);
    out.put_u8(VERSION);
    out.put_u64_le(incarnation.0);
    out.freeze()
}

/// The membership that founding members begin with: all vote, and only `--peers` tell where they are.
pub(crate) fn founding_membership(members: &[Member]) -> Membership {
    let voters = members.iter().map(|member| member.id).collect();
    members.iter().fold(Membership::simple(voters), |membership, member| {
        let seat = Seat { incarnation: member.incarnation, address: "".into() };
        membership.with_seat(member.id, seat.to_bytes())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_is_read_back_or_refused() {
        let seat = Seat { incarnation: Incarnation(7), address: "[::1]:7379".into() };
        let bytes = seat.to_bytes();
        assert_eq!(Seat::parse(&bytes), Ok(seat.clone()));
        let id = NodeId::new(1).unwrap();
        let membership = Membership::simple([id].into()).with_seat(id, seat.to_bytes());
        assert_eq!(incarnation_of(&membership, id), Some(seat.incarnation));
        for length in 0..bytes.len() {
            assert!(Seat::parse(&bytes.slice(..length)).is_err(), "{length} bytes");
        }
    }
}
