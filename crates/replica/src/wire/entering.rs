//! The bytes of what servers say of who they are and who takes part. Knows nothing of the frame around them.
//!
//! | kind | message | fields |
//! |---|---|---|
//! | 48 | founding | number of members (4), each: id (8), incarnation (8) |
//! | 49 | founded | likewise |
//! | 50 | refused | incarnation refused (8), incarnation known (8) |
//! | 51 | founding, restored | origin (40: cluster id, term, index, digest), then as 48 |
//! | 52 | outdated | start refused (16), start known (16) |
//! | 53 | started | number of draws (4), each (8) |
//! | 54 | announce | id (8), incarnation (8), length of the address (1), the address |
//! | 55 | welcome | incarnation (8), founding members as in 48 |
//! | 56 | unknown | incarnation (8) |
//! | 57 | removed | incarnation (8), index of the membership (8) |
//! | 58 | introduce | |

use bytes::{BufMut, BytesMut};
use quorate_raft::{Index, NodeId};
use quorate_storage::identity::DRAWS_MAX;
use quorate_storage::{Incarnation, Origin, Start};

use super::{PeerMessage, parse_node};
use crate::bytes_read::{Malformed, Reader};

/// Members a list may name.
const MEMBERS_MAX: usize = 64;

const FOUNDING: u8 = 48;
const FOUNDED: u8 = 49;
const REFUSED: u8 = 50;
const FOUNDING_RESTORED: u8 = 51;
const OUTDATED: u8 = 52;
const STARTED: u8 = 53;
const ANNOUNCE: u8 = 54;
const WELCOME: u8 = 55;
const UNKNOWN: u8 = 56;
const REMOVED: u8 = 57;
const INTRODUCE: u8 = 58;

/// Writes one of these messages.
pub(super) fn encode(message: &PeerMessage, out: &mut BytesMut) {
    match message {
        PeerMessage::Founding { origin: None, seen } => {
            out.put_u8(FOUNDING);
            encode_members(seen, out);
        }
        PeerMessage::Founding { origin: Some(origin), seen } => {
            out.put_u8(FOUNDING_RESTORED);
            out.put_slice(&origin.to_bytes());
            encode_members(seen, out);
        }
        PeerMessage::Founded { members } => {
            out.put_u8(FOUNDED);
            encode_members(members, out);
        }
        PeerMessage::Refused { incarnation, known } => numbers(REFUSED, &[incarnation.0, known.0], out),
        PeerMessage::Outdated { start, known } => {
            numbers(OUTDATED, &[start.number, start.draw, known.number, known.draw], out);
        }
        PeerMessage::Started { earlier } => {
            out.put_u8(STARTED);
            out.put_u32_le(u32::try_from(earlier.len()).expect("at most DRAWS_MAX"));
            earlier.iter().for_each(|draw| out.put_u64_le(*draw));
        }
        PeerMessage::Introduce => out.put_u8(INTRODUCE),
        PeerMessage::Announce { id, incarnation, address } => {
            numbers(ANNOUNCE, &[id.get(), incarnation.0], out);
            out.put_u8(u8::try_from(address.len()).expect("an address within its limit"));
            out.put_slice(address.as_bytes());
        }
        PeerMessage::Welcome { incarnation, founders } => {
            numbers(WELCOME, &[incarnation.0], out);
            encode_members(founders, out);
        }
        PeerMessage::Unknown { incarnation } => numbers(UNKNOWN, &[incarnation.0], out),
        PeerMessage::Removed { incarnation, index } => numbers(REMOVED, &[incarnation.0, index.0], out),
        PeerMessage::Raft(_)
        | PeerMessage::Forward { .. }
        | PeerMessage::ReadIndex { .. }
        | PeerMessage::ReadIndexReply { .. }
        | PeerMessage::FetchSnapshot { .. }
        | PeerMessage::SnapshotChunk { .. }
        | PeerMessage::CheckReport { .. }
        | PeerMessage::DiskRoom(_) => unreachable!("a message of another file"),
    }
}

fn numbers(kind: u8, numbers: &[u64], out: &mut BytesMut) {
    out.put_u8(kind);
    numbers.iter().for_each(|number| out.put_u64_le(*number));
}

pub(super) fn encode_start(start: Start, out: &mut BytesMut) {
    out.put_u64_le(start.number);
    out.put_u64_le(start.draw);
}

fn encode_members(members: &[(NodeId, Incarnation)], out: &mut BytesMut) {
    out.put_u32_le(u32::try_from(members.len()).expect("a cluster is bounded far below 2^32 members"));
    for (id, incarnation) in members {
        out.put_u64_le(id.get());
        out.put_u64_le(incarnation.0);
    }
}

/// Reads the fields of one of them.
pub(super) fn parse(kind: u8, reader: &mut Reader) -> Result<PeerMessage, Malformed> {
    let message = match kind {
        FOUNDING => PeerMessage::Founding { origin: None, seen: parse_members(reader)? },
        FOUNDING_RESTORED => {
            let origin = Some(parse_origin(reader)?);
            PeerMessage::Founding { origin, seen: parse_members(reader)? }
        }
        FOUNDED => PeerMessage::Founded { members: parse_members(reader)? },
        REFUSED => {
            let (incarnation, known) = (parse_incarnation(reader)?, parse_incarnation(reader)?);
            PeerMessage::Refused { incarnation, known }
        }
        OUTDATED => PeerMessage::Outdated { start: parse_start(reader)?, known: parse_start(reader)? },
        STARTED => {
            let count = reader.u32()? as usize;
            if count > DRAWS_MAX {
                return Err(Malformed("more starts than a folder remembers"));
            }
            let earlier: Result<Vec<u64>, Malformed> = (0..count).map(|_| reader.u64()).collect();
            PeerMessage::Started { earlier: earlier? }
        }
        INTRODUCE => PeerMessage::Introduce,
        ANNOUNCE => {
            let (id, incarnation) = (parse_node(reader)?, parse_incarnation(reader)?);
            let length = usize::from(reader.u8()?);
            let address = reader.take(length)?;
            let address =
                std::str::from_utf8(&address).map_err(|_| Malformed("an address that is no text"))?;
            PeerMessage::Announce { id, incarnation, address: address.into() }
        }
        WELCOME => {
            let incarnation = parse_incarnation(reader)?;
            PeerMessage::Welcome { incarnation, founders: parse_members(reader)? }
        }
        UNKNOWN => PeerMessage::Unknown { incarnation: parse_incarnation(reader)? },
        REMOVED => {
            let incarnation = parse_incarnation(reader)?;
            PeerMessage::Removed { incarnation, index: Index(reader.u64()?) }
        }
        _ => return Err(Malformed("an unknown kind of message")),
    };
    Ok(message)
}

fn parse_incarnation(reader: &mut Reader) -> Result<Incarnation, Malformed> {
    Ok(Incarnation(reader.u64()?))
}

pub(super) fn parse_start(reader: &mut Reader) -> Result<Start, Malformed> {
    Ok(Start { number: reader.u64()?, draw: reader.u64()? })
}

fn parse_origin(reader: &mut Reader) -> Result<Origin, Malformed> {
    let bytes = reader.take(Origin::BYTES)?;
    let origin = bytes.first_chunk().and_then(Origin::from_bytes);
    origin.ok_or(Malformed("a backup that cannot be"))
}

fn parse_members(reader: &mut Reader) -> Result<Vec<(NodeId, Incarnation)>, Malformed> {
    let count = reader.u32()? as usize;
    if count > MEMBERS_MAX {
        return Err(Malformed("more members than a cluster can have"));
    }
    let mut members: Vec<(NodeId, Incarnation)> = Vec::new();
    for _ in 0..count {
        let member = (parse_node(reader)?, Incarnation(reader.u64()?));
        if members.last().is_some_and(|(last, _)| *last >= member.0) {
            return Err(Malformed("members out of order"));
        }
        members.push(member);
    }
    Ok(members)
}
