//! What servers say to each other, and how it stands in bytes. Knows no socket.
//!
//! Little-endian throughout. A frame is
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 4 | CRC-32C of all bytes from 4 on |
//! | 4 | 16 | cluster id, zeros = not founded |
//! | 20 | 8 | sender |
//! | 28 | 8 | addressee |
//! | 36 | 8 | sender's incarnation |
//! | 44 | 16 | sender's start: number (8), draw (8) |
//! | 60 | 1 | kind of message |
//! | 61 | | its fields |
//!
//! and a message is one of
//!
//! | kind | message | fields |
//! |---|---|---|
//! | 1 | pre-vote | term (8), last position: term (8), index (8) |
//! | 2 | pre-vote reply | term (8), granted (1) |
//! | 3 | vote | term (8), last position (16), asked for by the leader (1) |
//! | 4 | vote reply | term (8), granted (1) |
//! | 5 | append | term (8), commit (8), base position (16), number of entries (4), entries |
//! | 6 | appended | term (8), matched (8) |
//! | 7 | rejected | term (8), base index (8), hint position (16) |
//! | 8 | heartbeat | term (8), round (8), commit (8) |
//! | 9 | heartbeat reply | term (8), round (8), clock (8) |
//! | 10 | install snapshot | term (8), last position (16) |
//! | 11 | timeout now | term (8) |
//! | 32 | forward | items of a batch ([`crate::entry`]) to the end |
//! | 33 | read index | start (8), counter (8) |
//! | 34 | read index reply | start (8), counter (8), index (8) |
//! | 35 | fetch snapshot | last position (16), offset (8) |
//! | 36 | snapshot chunk | last position (16), offset (8), length of the whole (8), bytes to the end |
//! | 40 | check report | position (16), digest (8), asks (1) |
//! | 44 | disk room | 1 where there is none, or 0 (1), bytes free (8), reserve (8), length of the folder's name (4), the name |
//! | 48–58 | | who takes part: `wire/entering.rs` |
//!
//! An entry is its term (8), its kind (1: 0 no-op, 1 data, 2 membership), the length of its payload (4) and the payload; its index
//! follows from the base.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use quorate_raft::{Body, Entry, Index, Membership, Message, NodeId, Payload, Position, Round, Run, Term};
use quorate_storage::{ClusterId, Incarnation, Origin, Start};

use crate::bytes_read::{Malformed, Reader};
use crate::shortage::{parse_room, put_room};

mod entering;

/// The version of this layout; servers name it when they greet each other, and speak the lower of their two highest.
pub const PROTOCOL_VERSION: u16 = 3;
/// The oldest version that this code speaks.
pub const PROTOCOL_VERSION_MIN: u16 = 3;

const _: () = assert!(PROTOCOL_VERSION_MIN <= PROTOCOL_VERSION);

/// One message between servers, with who speaks to whom: every message names cluster and incarnation, so
/// that no server takes part in another's consensus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerEnvelope {
    /// The sender's cluster; `None` while it is not founded.
    pub cluster: Option<ClusterId>,
    /// The sender.
    pub from: NodeId,
    /// The addressee.
    pub to: NodeId,
    /// The incarnation of the sender's data folder.
    pub incarnation: Incarnation,
    /// The sender's process on that folder.
    pub start: Start,
    /// What it says.
    pub message: PeerMessage,
}

/// The closed list of what servers say to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerMessage {
    /// Consensus.
    Raft(Message),
    /// Put these commands of my gateway into the log.
    Forward {
        /// The items of a log entry, as [`crate::entry`] lays them out.
        items: Bytes,
    },
    /// Confirm a read index for me.
    ReadIndex {
        /// The number the asker drew at its process start.
        start: u64,
        /// Counts its questions.
        counter: u64,
    },
    /// The answer to the `ReadIndex` of the same start and counter.
    ReadIndexReply {
        /// As asked.
        start: u64,
        /// As asked.
        counter: u64,
        /// Answer from a state that has applied this.
        index: Index,
    },
    /// Send me the bytes of your snapshot from here on.
    FetchSnapshot {
        /// The last position that it stands for.
        last: Position,
        /// Where to begin.
        offset: u64,
    },
    /// A piece of a snapshot, as it stands in its file; none where there is no such snapshot any more. Nothing but its checksums says that it is right, so who gets it
    /// verifies the whole before it counts.
    SnapshotChunk {
        /// The last position that it stands for.
        last: Position,
        /// Where the piece begins.
        offset: u64,
        /// Bytes of the whole snapshot.
        total: u64,
        /// The piece.
        bytes: Bytes,
    },
    /// My state had this digest behind this entry, which asks replicas to compare themselves.
    CheckReport {
        /// The entry.
        position: Position,
        /// The digest.
        digest: u64,
        /// Tell me yours: I have not heard it.
        asks: bool,
    },
    /// How my disk is. Said again and again while it has no room.
    DiskRoom(DiskRoom),
    /// I am not founded; I have seen these founding members.
    Founding {
        /// The backup that the sender's folder was restored from, if it was.
        origin: Option<Origin>,
        /// Ids and incarnations, the sender's own among them, ascending by id.
        seen: Vec<(NodeId, Incarnation)>,
    },
    /// The cluster is founded, with these members.
    Founded {
        /// Ids and incarnations, ascending by id.
        members: Vec<(NodeId, Incarnation)>,
    },
    /// My process runs: its start is in the head of this as of every message. Whoever hears it knows older copies of my folder.
    Started {
        /// What the starts of the folder before it have drawn, the newest first.
        earlier: Vec<u64>,
    },
    /// Tell me of your start: I have heard an earlier one of your folder.
    Introduce,
    /// This server waits to be taken in: said by itself, or passed on to the leader.
    Announce {
        /// Who waits.
        id: NodeId,
        /// With which data folder.
        incarnation: Incarnation,
        /// Where it is dialled, as it says.
        address: Box<str>,
    },
    /// You are a member with this data folder, of the cluster that these members have founded.
    Welcome {
        /// Which folder.
        incarnation: Incarnation,
        /// Ids and incarnations, ascending by id.
        founders: Vec<(NodeId, Incarnation)>,
    },
    /// No member has your id.
    Unknown {
        /// Your data folder.
        incarnation: Incarnation,
    },
    /// You are no member any more: the membership at this index, which is committed, does not name your data folder.
    Removed {
        /// Your data folder.
        incarnation: Incarnation,
        /// Where that membership stands.
        index: Index,
    },
    /// Your process runs on an older copy of your data folder: I have heard a later one of the same incarnation.
    Outdated {
        /// The start that is refused.
        start: Start,
        /// The start that was heard.
        known: Start,
    },
    /// You are not who you say: the cluster knows your id under another incarnation.
    Refused {
        /// The incarnation that is refused.
        incarnation: Incarnation,
        /// The incarnation the cluster knows.
        known: Incarnation,
    },
}

/// What a server says of its own disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskRoom {
    /// Nothing that makes the state grow should be written to it.
    pub is_short: bool,
    /// Bytes that are free.
    pub free_bytes: u64,
    /// Bytes that should be.
    pub reserve_bytes: u64,
    /// The data folder, by a name that [`crate::shortage::folder_name`] gives.
    pub folder: Box<str>,
}

/// Bytes of a frame. Past it a peer's frame is refused unread.
pub const PEER_FRAME_BYTES_MAX: usize = 32 << 20;

/// Bytes of a frame before the fields of its message.
const HEAD_BYTES: usize = 61;
/// Bytes of a message's fields, entries and members not counted: an append has most.
const FIXED_FIELDS_BYTES_MAX: usize = 8 + 8 + 16 + 4;
/// Bytes of an entry besides its payload.
const ENTRY_HEAD_BYTES: usize = 8 + 1 + 4;

const PRE_VOTE: u8 = 1;
const PRE_VOTE_REPLY: u8 = 2;
const VOTE: u8 = 3;
const VOTE_REPLY: u8 = 4;
const APPEND: u8 = 5;
const APPENDED: u8 = 6;
const REJECTED: u8 = 7;
const HEARTBEAT: u8 = 8;
const HEARTBEAT_REPLY: u8 = 9;
const INSTALL_SNAPSHOT: u8 = 10;
const TIMEOUT_NOW: u8 = 11;
const FORWARD: u8 = 32;
const READ_INDEX: u8 = 33;
const READ_INDEX_REPLY: u8 = 34;
const FETCH_SNAPSHOT: u8 = 35;
const SNAPSHOT_CHUNK: u8 = 36;
const CHECK_REPORT: u8 = 40;
const DISK_ROOM: u8 = 44;
/// The first and the last kind of [`entering`].
const FOUNDING: u8 = 48;
const INTRODUCE: u8 = 58;

const ENTRY_NOOP: u8 = 0;
const ENTRY_DATA: u8 = 1;
const ENTRY_MEMBERSHIP: u8 = 2;

/// Appends the frame of `envelope` to `out`.
pub fn encode(envelope: &PeerEnvelope, out: &mut BytesMut) {
    let start = out.len();
    out.reserve(HEAD_BYTES + fields_bytes(&envelope.message));
    out.put_u32_le(0);
    out.put_u128_le(envelope.cluster.map_or(0, ClusterId::get));
    out.put_u64_le(envelope.from.get());
    out.put_u64_le(envelope.to.get());
    out.put_u64_le(envelope.incarnation.0);
    entering::encode_start(envelope.start, out);
    match &envelope.message {
        PeerMessage::Raft(message) => encode_raft(message, out),
        PeerMessage::Forward { items } => {
            out.put_u8(FORWARD);
            out.put_slice(items);
        }
        PeerMessage::ReadIndex { start, counter } => {
            out.put_u8(READ_INDEX);
            out.put_u64_le(*start);
            out.put_u64_le(*counter);
        }
        PeerMessage::ReadIndexReply { start, counter, index } => {
            out.put_u8(READ_INDEX_REPLY);
            out.put_u64_le(*start);
            out.put_u64_le(*counter);
            out.put_u64_le(index.0);
        }
        PeerMessage::FetchSnapshot { last, offset } => {
            out.put_u8(FETCH_SNAPSHOT);
            encode_position(*last, out);
            out.put_u64_le(*offset);
        }
        PeerMessage::SnapshotChunk { last, offset, total, bytes } => {
            out.put_u8(SNAPSHOT_CHUNK);
            encode_position(*last, out);
            out.put_u64_le(*offset);
            out.put_u64_le(*total);
            out.put_slice(bytes);
        }
        PeerMessage::DiskRoom(DiskRoom { is_short, free_bytes, reserve_bytes, folder }) => {
            out.put_u8(DISK_ROOM);
            out.put_u8(u8::from(*is_short));
            put_room(out, *free_bytes, *reserve_bytes, folder);
        }
        PeerMessage::CheckReport { position, digest, asks } => {
            out.put_u8(CHECK_REPORT);
            encode_position(*position, out);
            out.put_u64_le(*digest);
            out.put_u8(u8::from(*asks));
        }
        message @ (PeerMessage::Founding { .. }
        | PeerMessage::Founded { .. }
        | PeerMessage::Refused { .. }
        | PeerMessage::Started { .. }
        | PeerMessage::Introduce
        | PeerMessage::Outdated { .. }
        | PeerMessage::Announce { .. }
        | PeerMessage::Welcome { .. }
        | PeerMessage::Unknown { .. }
        | PeerMessage::Removed { .. }) => entering::encode(message, out),
    }
    let checksum = crc32c::crc32c(&out[start + 4..]);
    out[start..start + 4].copy_from_slice(&checksum.to_le_bytes());
}

/// How many bytes the fields of a message take at most.
pub(crate) fn fields_bytes(message: &PeerMessage) -> usize {
    match message {
        PeerMessage::Raft(Message { body: Body::Append { run, .. }, .. }) => {
            let entries = run.entries().iter().map(|entry| ENTRY_HEAD_BYTES + entry.payload.len());
            FIXED_FIELDS_BYTES_MAX + entries.sum::<usize>()
        }
        PeerMessage::Forward { items } => items.len(),
        PeerMessage::SnapshotChunk { bytes, .. } => FIXED_FIELDS_BYTES_MAX + bytes.len(),
        PeerMessage::DiskRoom(room) => FIXED_FIELDS_BYTES_MAX + room.folder.len(),
        PeerMessage::Started { earlier } => FIXED_FIELDS_BYTES_MAX + earlier.len() * 8,
        PeerMessage::Announce { address, .. } => FIXED_FIELDS_BYTES_MAX + address.len(),
        PeerMessage::Founding { seen: members, .. }
        | PeerMessage::Founded { members }
        | PeerMessage::Welcome { founders: members, .. } => {
            FIXED_FIELDS_BYTES_MAX + Origin::BYTES + members.len() * 16
        }
        PeerMessage::Raft(_)
        | PeerMessage::ReadIndex { .. }
        | PeerMessage::ReadIndexReply { .. }
        | PeerMessage::FetchSnapshot { .. }
        | PeerMessage::CheckReport { .. }
        | PeerMessage::Refused { .. }
        | PeerMessage::Outdated { .. }
        | PeerMessage::Unknown { .. }
        | PeerMessage::Removed { .. }
        | PeerMessage::Introduce => FIXED_FIELDS_BYTES_MAX,
    }
}

fn encode_raft(message: &Message, out: &mut BytesMut) {
    let kind = match &message.body {
        Body::PreVote { .. } => PRE_VOTE,
        Body::PreVoteReply { .. } => PRE_VOTE_REPLY,
        Body::Vote { .. } => VOTE,
        Body::VoteReply { .. } => VOTE_REPLY,
        Body::Append { .. } => APPEND,
        Body::Appended { .. } => APPENDED,
        Body::Rejected { .. } => REJECTED,
        Body::Heartbeat { .. } => HEARTBEAT,
        Body::HeartbeatReply { .. } => HEARTBEAT_REPLY,
        Body::InstallSnapshot { .. } => INSTALL_SNAPSHOT,
        Body::TimeoutNow => TIMEOUT_NOW,
    };
    out.put_u8(kind);
    out.put_u64_le(message.term.0);
    match &message.body {
        Body::PreVote { last } | Body::InstallSnapshot { last } => encode_position(*last, out),
        Body::Vote { last, is_transfer } => {
            encode_position(*last, out);
            out.put_u8(u8::from(*is_transfer));
        }
        Body::TimeoutNow => {}
        Body::PreVoteReply { granted } | Body::VoteReply { granted } => out.put_u8(u8::from(*granted)),
        Body::Append { run, commit } => {
            out.put_u64_le(commit.0);
            encode_position(run.base(), out);
            out.put_u32_le(
                u32::try_from(run.entries().len()).expect("an append is bounded far below 2^32 entries"),
            );
            for entry in run.entries() {
                encode_entry(entry, out);
            }
        }
        Body::Appended { matched } => out.put_u64_le(matched.0),
        Body::Rejected { base, hint } => {
            out.put_u64_le(base.0);
            encode_position(*hint, out);
        }
        Body::Heartbeat { round, commit } => {
            out.put_u64_le(round.0);
            out.put_u64_le(commit.0);
        }
        Body::HeartbeatReply { round, clock } => {
            out.put_u64_le(round.0);
            out.put_u64_le(*clock);
        }
    }
}

fn encode_position(position: Position, out: &mut BytesMut) {
    out.put_u64_le(position.term.0);
    out.put_u64_le(position.index.0);
}

fn encode_entry(entry: &Entry, out: &mut BytesMut) {
    out.put_u64_le(entry.position.term.0);
    match &entry.payload {
        Payload::Noop => {
            out.put_u8(ENTRY_NOOP);
            out.put_u32_le(0);
        }
        Payload::Data(data) => {
            out.put_u8(ENTRY_DATA);
            out.put_u32_le(u32::try_from(data.len()).expect("an entry is bounded far below 4 GiB"));
            out.put_slice(data);
        }
        Payload::Membership(membership) => {
            let bytes = membership.to_bytes();
            out.put_u8(ENTRY_MEMBERSHIP);
            out.put_u32_le(u32::try_from(bytes.len()).expect("a membership is bounded far below 4 GiB"));
            out.put_slice(&bytes);
        }
    }
}

/// Reads one frame. Entries share its bytes.
///
/// # Errors
/// What breaks the layout. Whatever the bytes, nothing panics and nothing is allocated beyond a small multiple of their
/// length.
pub fn decode(frame: &Bytes) -> Result<PeerEnvelope, Malformed> {
    let mut reader = Reader::new(frame.clone());
    if reader.u32()? != crc32c::crc32c(&frame[4..]) {
        return Err(Malformed("a checksum does not match"));
    }
    let cluster = ClusterId::new(reader.u128()?);
    let from = parse_node(&mut reader)?;
    let to = parse_node(&mut reader)?;
    let incarnation = Incarnation(reader.u64()?);
    let start = entering::parse_start(&mut reader)?;
    let message = match reader.u8()? {
        FORWARD => {
            let rest = reader.rest();
            PeerMessage::Forward { items: reader.take(rest)? }
        }
        READ_INDEX => PeerMessage::ReadIndex { start: reader.u64()?, counter: reader.u64()? },
        READ_INDEX_REPLY => PeerMessage::ReadIndexReply {
            start: reader.u64()?,
            counter: reader.u64()?,
            index: Index(reader.u64()?),
        },
        FETCH_SNAPSHOT => {
            PeerMessage::FetchSnapshot { last: parse_position(&mut reader)?, offset: reader.u64()? }
        }
        SNAPSHOT_CHUNK => {
            let (last, offset, total) = (parse_position(&mut reader)?, reader.u64()?, reader.u64()?);
            let rest = reader.rest();
            PeerMessage::SnapshotChunk { last, offset, total, bytes: reader.take(rest)? }
        }
        DISK_ROOM => {
            let is_short = parse_flag(&mut reader)?;
            let (free_bytes, reserve_bytes, folder) = parse_room(&mut reader)?;
            PeerMessage::DiskRoom(DiskRoom { is_short, free_bytes, reserve_bytes, folder })
        }
        CHECK_REPORT => PeerMessage::CheckReport {
            position: parse_position(&mut reader)?,
            digest: reader.u64()?,
            asks: parse_flag(&mut reader)?,
        },
        kind @ FOUNDING..=INTRODUCE => entering::parse(kind, &mut reader)?,
        kind => PeerMessage::Raft(parse_raft(kind, &mut reader)?),
    };
    reader.end()?;
    Ok(PeerEnvelope { cluster, from, to, incarnation, start, message })
}

fn parse_raft(kind: u8, reader: &mut Reader) -> Result<Message, Malformed> {
    let term = Term(reader.u64()?);
    let body = match kind {
        PRE_VOTE => Body::PreVote { last: parse_position(reader)? },
        PRE_VOTE_REPLY => Body::PreVoteReply { granted: parse_flag(reader)? },
        VOTE => {
            let last = parse_position(reader)?;
            Body::Vote { last, is_transfer: parse_flag(reader)? }
        }
        VOTE_REPLY => Body::VoteReply { granted: parse_flag(reader)? },
        APPEND => {
            let commit = Index(reader.u64()?);
            Body::Append { run: parse_entries(reader)?, commit }
        }
        APPENDED => Body::Appended { matched: Index(reader.u64()?) },
        REJECTED => Body::Rejected { base: Index(reader.u64()?), hint: parse_position(reader)? },
        HEARTBEAT => Body::Heartbeat { round: Round(reader.u64()?), commit: Index(reader.u64()?) },
        HEARTBEAT_REPLY => Body::HeartbeatReply { round: Round(reader.u64()?), clock: reader.u64()? },
        TIMEOUT_NOW => Body::TimeoutNow,
        INSTALL_SNAPSHOT => Body::InstallSnapshot { last: parse_position(reader)? },
        _ => return Err(Malformed("an unknown kind of message")),
    };
    Ok(Message { term, body })
}

fn parse_entries(reader: &mut Reader) -> Result<Run, Malformed> {
    let base = parse_position(reader)?;
    let count = reader.u32()?;
    let mut entries = Vec::new();
    let mut index = base.index.0;
    for _ in 0..count {
        index = index.checked_add(1).ok_or(Malformed("an index at the end of the number range"))?;
        let term = Term(reader.u64()?);
        let kind = reader.u8()?;
        let payload = reader.bytes()?;
        let payload = match kind {
            ENTRY_NOOP if payload.is_empty() => Payload::Noop,
            ENTRY_DATA => Payload::Data(payload),
            ENTRY_MEMBERSHIP => {
                let membership = Membership::parse(&payload).map_err(|malformed| Malformed(malformed.0))?;
                Payload::Membership(Arc::new(membership))
            }
            _ => return Err(Malformed("an unknown kind of entry")),
        };
        entries.push(Entry { position: Position::new(term, Index(index)), payload });
    }
    Run::parse(base, entries).map_err(|_| Malformed("entries that do not follow each other"))
}

fn parse_node(reader: &mut Reader) -> Result<NodeId, Malformed> {
    NodeId::new(reader.u64()?).ok_or(Malformed("a node id of 0"))
}

fn parse_position(reader: &mut Reader) -> Result<Position, Malformed> {
    Ok(Position::new(Term(reader.u64()?), Index(reader.u64()?)))
}

fn parse_flag(reader: &mut Reader) -> Result<bool, Malformed> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Malformed("a flag that is neither 0 nor 1")),
    }
}
