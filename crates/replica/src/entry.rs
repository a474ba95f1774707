//! What a log entry of the state machine holds, byte for byte. Knows nothing of who proposes or applies it.
//!
//! Little-endian throughout. An entry's payload is one of
//!
//! | first byte | then |
//! |---|---|
//! | 1, batch | replicated time in ms (8), items to the end |
//! | 2, founding | version (2), the limits of the state, 8 bytes each, in the order of [`StateLimits`] |
//!
//! and an item of a batch is one of
//!
//! | first byte | then |
//! |---|---|
//! | 1, run | bytes after this field (4), session index (8), session place (4), attempt (8), acknowledged (8), first sequence (8), number of writes (4), the writes |
//! | 2, open gateway | node id (8), start (8), nonce (8) |
//! | 3, check | |
//!
//! A run's writes have ascending sequences without gaps; each is a kind (1) and its fields, byte strings with their
//! length (4) in front:
//!
//! | kind | fields |
//! |---|---|
//! | 1 put | flags (1: bit 0 if absent, bit 1 if present, bit 2 answer the old value), key, value |
//! | 2 append | key, value |
//! | 3 delete | number of keys (4), keys |
//! | 16 once | session index (8), place (4), sequence (8), acknowledged (8), then a write of kind 1 to 3 |
//! | 17 open session | lifetime in ms (8), 0 for the default |
//! | 18 close session | session index (8), place (4) |
//! | 19 keep alive | |
//! | 20 refused | why ([`crate::shortage`]), 0 for a plain write, or 1 and for one under a client's session: session index (8), place (4), sequence (8), acknowledged (8), CRC-32C of the command (4) |

use bytes::{BufMut, Bytes, BytesMut};
use quorate_raft::NodeId;

use crate::bytes_read::{Malformed, Reader};
use crate::command::{Command, Condition, Seq, SessionKey};
use crate::shortage::{SHORTAGE_BYTES_MAX, Shortage};

mod limits;

pub use limits::StateLimits;

const PAYLOAD_BATCH: u8 = 1;
const PAYLOAD_FOUNDING: u8 = 2;
/// Version 1 lacks the last of the limits.
const FOUNDING_VERSION: u16 = 2;

const ITEM_RUN: u8 = 1;
const ITEM_OPEN_GATEWAY: u8 = 2;
const ITEM_CHECK: u8 = 3;
/// Bytes of a run between its length field and its first write.
const RUN_HEAD_BYTES: usize = 8 + 4 + 8 + 8 + 8 + 4;
/// Bytes of a run besides its writes.
pub(crate) const RUN_OVERHEAD_BYTES: usize = 1 + 4 + RUN_HEAD_BYTES;

/// Writes of a run for which there is room from the start: most runs have one.
const WRITES_EXPECTED_MAX: usize = 16;

/// Bytes of memory that encoded writes share: they come and go in order, and one allocation for each costs more than to lay it out.
const ROOM_BYTES: usize = 64 << 10;

const WRITE_PUT: u8 = 1;
const WRITE_APPEND: u8 = 2;
const WRITE_DELETE: u8 = 3;
const WRITE_ONCE: u8 = 16;
const WRITE_OPEN_SESSION: u8 = 17;
const WRITE_CLOSE_SESSION: u8 = 18;
const WRITE_KEEP_ALIVE: u8 = 19;
const WRITE_REFUSED: u8 = 20;

const PUT_IF_ABSENT: u8 = 1;
const PUT_IF_PRESENT: u8 = 2;
const PUT_GET: u8 = 4;

/// An entry's payload, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryPayload {
    /// Commands.
    Batch {
        /// The leader's stamp of replicated time.
        stamp_ms: u64,
        /// In order.
        items: Vec<Item>,
    },
    /// The first entry of a cluster.
    Founding(StateLimits),
}

/// One item of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// Commands of one gateway, of ascending sequences without a gap.
    Run(Run),
    /// A server opens the session of its gateway; the one it had before is closed.
    OpenGateway {
        /// The server.
        node: NodeId,
        /// The number it drew at its process start.
        start: u64,
        /// Counts its openings since then, so that it knows its own.
        nonce: u64,
    },
    /// Every replica compares its state with those of the others, as it is behind this entry ([`crate::checks`]).
    /// Changes nothing.
    Check,
}

/// A run of a gateway's commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The gateway's session.
    pub session: SessionKey,
    /// Counts how often the gateway has begun sending anew.
    pub attempt: u64,
    /// The gateway will not ask for a reply up to this sequence.
    pub acknowledged: Seq,
    /// The sequence of the first write.
    pub first: Seq,
    /// The writes.
    pub writes: Vec<LoggedWrite>,
}

/// A write as it stands in the log: like [`crate::command::Write`], with sessions reduced to their keys, since all of
/// them are of this cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoggedWrite {
    /// A plain command.
    Plain(Command),
    /// A command under a client's session.
    Once {
        /// The client's session.
        session: SessionKey,
        /// Its number.
        seq: Seq,
        /// The session's floor as the client names it.
        acknowledged: Seq,
        /// CRC-32C of the command's bytes: the same sequence with another command is refused.
        checksum: u32,
        /// The command.
        command: Command,
    },
    /// Opens a client's session.
    OpenSession {
        /// Its lifetime; `None` for the default.
        ttl_ms: Option<u64>,
    },
    /// Closes a client's session.
    CloseSession {
        /// Which.
        session: SessionKey,
    },
    /// Nothing: the gateway shows that it lives, or gives up a sequence it has never sent.
    KeepAlive,
    /// What the leader has put in the place of a write that it refused: the write's sequence is used, and answered with
    /// the refusal, but nothing is executed.
    Refused {
        /// Why.
        shortage: Shortage,
        /// Which command of a client's session it was, if it was one: if an earlier send of it has run, that is the answer.
        once: Option<OnceName>,
    },
}

/// A command of a client's session, without what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnceName {
    /// The client's session.
    pub session: SessionKey,
    /// Its number.
    pub seq: Seq,
    /// The session's floor as the client names it.
    pub acknowledged: Seq,
    /// CRC-32C of the command's bytes.
    pub checksum: u32,
}

/// Bytes of a refused plain write, at most.
pub(crate) const REFUSED_PLAIN_BYTES_MAX: usize = 1 + SHORTAGE_BYTES_MAX + 1;
/// Bytes of a refused write, at most.
const REFUSED_BYTES_MAX: usize = REFUSED_PLAIN_BYTES_MAX + 12 + 8 + 8 + 4;

impl LoggedWrite {
    /// The keys that it may change.
    pub(crate) fn keys(&self) -> &[Bytes] {
        match self {
            Self::Plain(command) | Self::Once { command, .. } => command.keys(),
            Self::OpenSession { .. } | Self::CloseSession { .. } | Self::KeepAlive | Self::Refused { .. } => {
                &[]
            }
        }
    }

    /// What stands in its place if it is refused.
    #[must_use]
    pub(crate) fn refused(&self, shortage: Shortage) -> Self {
        let once = match self {
            Self::Once { session, seq, acknowledged, checksum, command: _ } => {
                let (session, seq, acknowledged, checksum) = (*session, *seq, *acknowledged, *checksum);
                Some(OnceName { session, seq, acknowledged, checksum })
            }
            Self::Plain(_)
            | Self::OpenSession { .. }
            | Self::CloseSession { .. }
            | Self::KeepAlive
            | Self::Refused { .. } => None,
        };
        Self::Refused { shortage, once }
    }
}

/// Lays out the payload of a batch: `items` are bytes of items, as [`run`] and [`open_gateway`] make them.
pub fn batch(stamp_ms: u64, items: &[Bytes]) -> Bytes {
    let length = 1 + 8 + items.iter().map(Bytes::len).sum::<usize>();
    let mut out = BytesMut::with_capacity(length);
    out.put_u8(PAYLOAD_BATCH);
    out.put_u64_le(stamp_ms);
    for item in items {
        out.put_slice(item);
    }
    out.freeze()
}

/// Lays out the payload of a founding entry.
pub fn founding(limits: &StateLimits) -> Bytes {
    let mut out = BytesMut::with_capacity(67);
    out.put_u8(PAYLOAD_FOUNDING);
    out.put_u16_le(FOUNDING_VERSION);
    for limit in limits.fields() {
        out.put_u64_le(limit);
    }
    out.freeze()
}

/// Where a run stands in its gateway's order.
#[derive(Clone, Copy, Debug)]
pub struct RunHead {
    /// The gateway's session.
    pub session: SessionKey,
    /// Counts how often the gateway has begun sending anew.
    pub attempt: u64,
    /// The gateway will not ask for a reply up to this sequence.
    pub acknowledged: Seq,
    /// The sequence of the first write.
    pub first: Seq,
}

/// Lays out a run of writes that are encoded already, as [`encode_write`] does.
pub fn run<'a>(head: RunHead, writes: impl Iterator<Item = &'a Bytes> + Clone) -> Bytes {
    let length: usize = writes.clone().map(Bytes::len).sum();
    let mut out = BytesMut::with_capacity(RUN_OVERHEAD_BYTES + length);
    out.put_u8(ITEM_RUN);
    out.put_u32_le(u32::try_from(RUN_HEAD_BYTES + length).expect("a run is bounded far below 4 GiB"));
    out.put_u64_le(head.session.index);
    out.put_u32_le(head.session.place);
    out.put_u64_le(head.attempt);
    out.put_u64_le(head.acknowledged.0);
    out.put_u64_le(head.first.0);
    out.put_u32_le(u32::try_from(writes.clone().count()).expect("a run is bounded far below 2^32 writes"));
    for write in writes {
        out.put_slice(write);
    }
    out.freeze()
}

/// Lays out the opening of a gateway's session.
pub fn open_gateway(node: NodeId, start: u64, nonce: u64) -> Bytes {
    let mut out = BytesMut::with_capacity(25);
    out.put_u8(ITEM_OPEN_GATEWAY);
    out.put_u64_le(node.get());
    out.put_u64_le(start);
    out.put_u64_le(nonce);
    out.freeze()
}

/// Lays out the item that asks replicas to compare themselves.
pub fn check() -> Bytes {
    Bytes::from_static(&[ITEM_CHECK])
}

/// Lays out one write.
pub fn encode_write(write: &LoggedWrite) -> Bytes {
    let mut out = BytesMut::with_capacity(write_length_hint(write));
    put_write(&mut out, write);
    out.freeze()
}

/// The same, where there is room for many.
pub(crate) fn encode_write_in(room: &mut BytesMut, write: &LoggedWrite) -> Bytes {
    let bytes = write_length_hint(write);
    if bytes > ROOM_BYTES / 4 {
        // In memory of its own, which is free again as soon as it is.
        return encode_write(write);
    }
    if room.capacity() < bytes {
        room.reserve(ROOM_BYTES);
    }
    put_write(room, write);
    room.split().freeze()
}

fn put_write(out: &mut BytesMut, write: &LoggedWrite) {
    match write {
        LoggedWrite::Plain(command) => put_command(out, command),
        LoggedWrite::Once { session, seq, acknowledged, checksum: _, command } => {
            out.put_u8(WRITE_ONCE);
            put_session(out, *session);
            out.put_u64_le(seq.0);
            out.put_u64_le(acknowledged.0);
            put_command(out, command);
        }
        LoggedWrite::OpenSession { ttl_ms } => {
            out.put_u8(WRITE_OPEN_SESSION);
            out.put_u64_le(ttl_ms.unwrap_or(0));
        }
        LoggedWrite::CloseSession { session } => {
            out.put_u8(WRITE_CLOSE_SESSION);
            put_session(out, *session);
        }
        LoggedWrite::KeepAlive => out.put_u8(WRITE_KEEP_ALIVE),
        LoggedWrite::Refused { shortage, once } => put_refused(out, shortage, once.as_ref()),
    }
}

fn write_length_hint(write: &LoggedWrite) -> usize {
    let command_length = |command: &Command| match command {
        Command::Put { key, value, .. } | Command::Append { key, value } => 10 + key.len() + value.len(),
        Command::Delete { keys } => 5 + keys.iter().map(|key| 4 + key.len()).sum::<usize>(),
    };
    match write {
        LoggedWrite::Plain(command) => command_length(command),
        LoggedWrite::Once { command, .. } => 29 + command_length(command),
        LoggedWrite::OpenSession { .. } | LoggedWrite::CloseSession { .. } | LoggedWrite::KeepAlive => 13,
        LoggedWrite::Refused { .. } => REFUSED_BYTES_MAX,
    }
}

fn put_refused(out: &mut BytesMut, shortage: &Shortage, once: Option<&OnceName>) {
    out.put_u8(WRITE_REFUSED);
    shortage.encode(out);
    out.put_u8(u8::from(once.is_some()));
    if let Some(OnceName { session, seq, acknowledged, checksum }) = once {
        put_session(out, *session);
        out.put_u64_le(seq.0);
        out.put_u64_le(acknowledged.0);
        out.put_u32_le(*checksum);
    }
}

fn put_session(out: &mut BytesMut, session: SessionKey) {
    out.put_u64_le(session.index);
    out.put_u32_le(session.place);
}

fn put_bytes(out: &mut BytesMut, bytes: &Bytes) {
    out.put_u32_le(u32::try_from(bytes.len()).expect("a command is bounded far below 4 GiB"));
    out.put_slice(bytes);
}

fn put_command(out: &mut BytesMut, command: &Command) {
    match command {
        Command::Put { key, value, condition, get } => {
            out.put_u8(WRITE_PUT);
            let condition = match condition {
                Condition::Always => 0,
                Condition::IfAbsent => PUT_IF_ABSENT,
                Condition::IfPresent => PUT_IF_PRESENT,
            };
            out.put_u8(condition | if *get { PUT_GET } else { 0 });
            put_bytes(out, key);
            put_bytes(out, value);
        }
        Command::Append { key, value } => {
            out.put_u8(WRITE_APPEND);
            put_bytes(out, key);
            put_bytes(out, value);
        }
        Command::Delete { keys } => {
            out.put_u8(WRITE_DELETE);
            out.put_u32_le(u32::try_from(keys.len()).expect("a command is bounded far below 2^32 keys"));
            for key in keys {
                put_bytes(out, key);
            }
        }
    }
}

/// Takes a payload apart, without copying keys or values.
///
/// # Errors
/// What breaks the layout. Nothing of such an entry may be applied.
pub fn parse(payload: &Bytes) -> Result<EntryPayload, Malformed> {
    let mut reader = Reader::new(payload.clone());
    match reader.u8()? {
        PAYLOAD_BATCH => {
            let stamp_ms = reader.u64()?;
            Ok(EntryPayload::Batch { stamp_ms, items: parse_items_from(reader)? })
        }
        PAYLOAD_FOUNDING => {
            let version = reader.u16()?;
            if !(1..=FOUNDING_VERSION).contains(&version) {
                return Err(Malformed("a founding entry of another version"));
            }
            let limits = StateLimits::parse(&mut reader, version)?;
            reader.end()?;
            Ok(EntryPayload::Founding(limits))
        }
        _ => Err(Malformed("an unknown kind of entry")),
    }
}

/// Takes the items of a batch apart, as a gateway forwards them.
///
/// # Errors
/// What breaks the layout.
pub fn parse_items(items: &Bytes) -> Result<Vec<Item>, Malformed> {
    parse_items_from(Reader::new(items.clone()))
}

fn parse_items_from(mut reader: Reader) -> Result<Vec<Item>, Malformed> {
    let mut items = Vec::new();
    while !reader.is_at_end() {
        items.push(match reader.u8()? {
            ITEM_RUN => {
                let length = reader.u32()? as usize;
                Item::Run(parse_run(Reader::new(reader.take(length)?))?)
            }
            ITEM_OPEN_GATEWAY => Item::OpenGateway {
                node: NodeId::new(reader.u64()?).ok_or(Malformed("a gateway of node 0"))?,
                start: reader.u64()?,
                nonce: reader.u64()?,
            },
            ITEM_CHECK => Item::Check,
            _ => return Err(Malformed("an unknown kind of item")),
        });
    }
    Ok(items)
}

fn parse_run(mut reader: Reader) -> Result<Run, Malformed> {
    let session = parse_session(&mut reader)?;
    let attempt = reader.u64()?;
    let acknowledged = Seq(reader.u64()?);
    let first = Seq(reader.u64()?);
    let count = reader.u32()?;
    if first.0 <= acknowledged.0 || first.0.checked_add(u64::from(count)).is_none() {
        return Err(Malformed("a run whose sequences are out of range"));
    }
    // What the bytes say of themselves is not believed before they are read.
    let mut writes = Vec::with_capacity((count as usize).min(WRITES_EXPECTED_MAX));
    for _ in 0..count {
        writes.push(parse_write(&mut reader)?);
    }
    reader.end()?;
    Ok(Run { session, attempt, acknowledged, first, writes })
}

fn parse_session(reader: &mut Reader) -> Result<SessionKey, Malformed> {
    Ok(SessionKey { index: reader.u64()?, place: reader.u32()? })
}

fn parse_write(reader: &mut Reader) -> Result<LoggedWrite, Malformed> {
    match reader.u8()? {
        WRITE_ONCE => {
            let session = parse_session(reader)?;
            let seq = Seq(reader.u64()?);
            let acknowledged = Seq(reader.u64()?);
            if acknowledged >= seq {
                return Err(Malformed("a command at or below the floor it carries"));
            }
            let kind = reader.u8()?;
            let command = parse_command(kind, reader)?;
            let checksum = checksum_of(&command);
            Ok(LoggedWrite::Once { session, seq, acknowledged, checksum, command })
        }
        WRITE_OPEN_SESSION => {
            let ttl_ms = reader.u64()?;
            Ok(LoggedWrite::OpenSession { ttl_ms: (ttl_ms != 0).then_some(ttl_ms) })
        }
        WRITE_CLOSE_SESSION => Ok(LoggedWrite::CloseSession { session: parse_session(reader)? }),
        WRITE_KEEP_ALIVE => Ok(LoggedWrite::KeepAlive),
        WRITE_REFUSED => parse_refused(reader),
        kind => Ok(LoggedWrite::Plain(parse_command(kind, reader)?)),
    }
}

fn parse_refused(reader: &mut Reader) -> Result<LoggedWrite, Malformed> {
    let shortage = Shortage::parse(reader)?;
    let once = match reader.u8()? {
        0 => None,
        1 => Some(OnceName {
            session: parse_session(reader)?,
            seq: Seq(reader.u64()?),
            acknowledged: Seq(reader.u64()?),
            checksum: reader.u32()?,
        }),
        _ => return Err(Malformed("a refused write of an unknown kind")),
    };
    if once.is_some_and(|once| once.acknowledged >= once.seq) {
        return Err(Malformed("a command at or below the floor it carries"));
    }
    Ok(LoggedWrite::Refused { shortage, once })
}

fn parse_command(kind: u8, reader: &mut Reader) -> Result<Command, Malformed> {
    match kind {
        WRITE_PUT => {
            let flags = reader.u8()?;
            let condition = match flags & (PUT_IF_ABSENT | PUT_IF_PRESENT) {
                0 => Condition::Always,
                PUT_IF_ABSENT => Condition::IfAbsent,
                PUT_IF_PRESENT => Condition::IfPresent,
                _ => return Err(Malformed("a put both if absent and if present")),
            };
            if flags & !(PUT_IF_ABSENT | PUT_IF_PRESENT | PUT_GET) != 0 {
                return Err(Malformed("a put with an unknown flag"));
            }
            Ok(Command::Put {
                key: reader.bytes()?,
                value: reader.bytes()?,
                condition,
                get: flags & PUT_GET != 0,
            })
        }
        WRITE_APPEND => Ok(Command::Append { key: reader.bytes()?, value: reader.bytes()? }),
        WRITE_DELETE => {
            let count = reader.u32()?;
            let mut keys = Vec::new();
            for _ in 0..count {
                keys.push(reader.bytes()?);
            }
            Ok(Command::Delete { keys })
        }
        _ => Err(Malformed("an unknown kind of write")),
    }
}

/// What tells one command from another under the same sequence.
pub(crate) fn checksum_of(command: &Command) -> u32 {
    match command {
        Command::Put { key, value, condition, get } => {
            let head = [WRITE_PUT, *condition as u8, u8::from(*get)];
            checksum_fields(crc32c::crc32c(&head), [key, value])
        }
        Command::Append { key, value } => checksum_fields(crc32c::crc32c(&[WRITE_APPEND]), [key, value]),
        Command::Delete { keys } => checksum_fields(crc32c::crc32c(&[WRITE_DELETE]), keys),
    }
}

fn checksum_fields<'a>(seed: u32, fields: impl IntoIterator<Item = &'a Bytes>) -> u32 {
    fields.into_iter().fold(seed, |sum, field| {
        let sum = crc32c::crc32c_append(sum, &(field.len() as u64).to_le_bytes());
        crc32c::crc32c_append(sum, field)
    })
}
