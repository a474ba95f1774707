//! The layout of one record of the log, byte by byte. Knows nothing of files: it turns values into bytes and
//! back.
//!
//! All numbers are little-endian. A record is a head of 48 bytes, a payload, and zeros up to a multiple of 8:
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 4 | length of the payload, without the zeros after it |
//! | 4 | 4 | CRC-32C of: the folder's incarnation (8 bytes, not stored here), bytes 0–3, bytes 8 to the end |
//! | 8 | 1 | kind: 1 segment header, 2 write, 3 synced marker, 4 seal |
//! | 9 | 1 | format version: 1, or 2 of a write that holds a membership |
//! | 10 | 2 | reserved, zeros |
//! | 12 | 4 | CRC-32C of the record before it, 0 for the first of a log |
//! | 16 | 8 | number of its segment |
//! | 24 | 8 | its running number, from 1, without gaps over all segments |
//! | 32 | 8 | synced up to: segment |
//! | 40 | 8 | synced up to: offset in that segment |
//! | 48 | … | payload |
//!
//! Payload of a segment header:
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 8 | `QRTLOG` and two zeros |
//! | 8 | 8 | the folder's incarnation |
//! | 16 | 8 | length of the segment's file |
//! | 24 | 16 | hard state: term, vote (0 = none) |
//! | 40 | 16 | base: the snapshot behind which the log was begun anew: term, index; zeros if never |
//! | 56 | 16 | last position of the log before this segment: term, index |
//! | 72 | 32 | reserved, zeros |
//!
//! Payload of a write: flags (1 byte: 1 = with hard state), 3 reserved, number of entries (4), term (8), vote
//! (8), then each entry: term (8), index (8), length of its payload (4), kind (1: 1 no-op, 2 data, 3 membership,
//! as [`quorate_raft::Membership::to_bytes`] lays it out), 3 reserved, payload. Payload of a seal:
//! length of the next segment's file (8). Markers have none.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use quorate_raft::{
    ENTRY_OVERHEAD_BYTES, Entry, HardState, Index, Membership, NodeId, Payload, Position, Term,
};

use crate::identity::Incarnation;

/// The newest version of the format that this code reads.
pub const FORMAT_VERSION: u8 = 2;
/// What it writes where nothing needs a newer one: then an older program reads it, too.
const FORMAT_FIRST: u8 = 1;
/// Bytes of one record's payload at most; a write that is larger spans several records.
pub const RECORD_PAYLOAD_BYTES_MAX: usize = 32 << 20;
/// Bytes of one entry's payload at most.
pub const ENTRY_BYTES_MAX: usize = RECORD_PAYLOAD_BYTES_MAX - WRITE_FIXED_BYTES - ENTRY_OVERHEAD_BYTES;

/// Bytes of a record before its payload.
pub(crate) const HEAD_BYTES: usize = 48;
/// Where in a record the number of its segment ends, which is never 0.
pub(crate) const SEGMENT_FIELD_END: usize = 24;
/// Records begin at multiples of this.
pub(crate) const ALIGNMENT: usize = 8;
/// Bytes of a whole segment header.
pub(crate) const HEADER_RECORD_BYTES: usize = HEAD_BYTES + HEADER_PAYLOAD_BYTES;
/// Bytes of a whole marker.
pub(crate) const MARKER_RECORD_BYTES: usize = record_bytes(0);
/// Bytes of a whole seal.
pub(crate) const SEAL_RECORD_BYTES: usize = record_bytes(SEAL_PAYLOAD_BYTES);
/// Bytes of a write's payload before its entries.
pub(crate) const WRITE_FIXED_BYTES: usize = 24;

const HEADER_PAYLOAD_BYTES: usize = 104;
const SEAL_PAYLOAD_BYTES: usize = 8;
const MAGIC: &[u8; 8] = b"QRTLOG\0\0";
const FLAG_HARD_STATE: u8 = 1;
const ENTRY_NOOP: u8 = 1;
const ENTRY_DATA: u8 = 2;
const ENTRY_MEMBERSHIP: u8 = 3;

const _: () = assert!(RECORD_PAYLOAD_BYTES_MAX < u32::MAX as usize / 2);
const _: () = assert!(HEADER_RECORD_BYTES.is_multiple_of(ALIGNMENT));
const _: () = assert!(ENTRY_OVERHEAD_BYTES == 24);

/// A place in the log's files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogOffset {
    /// The number of the segment.
    pub segment: u64,
    /// The offset in its file.
    pub offset: u64,
}

impl LogOffset {
    pub(crate) const fn new(segment: u64, offset: u64) -> Self {
        Self { segment, offset }
    }

    /// The name of the file that it lies in.
    pub fn file(self) -> String {
        format!("log-{:010}", self.segment)
    }

    /// The number of a segment by its file's name; `None` for other files.
    pub fn segment_of(file: &str) -> Option<u64> {
        segment_number(file)
    }
}

impl fmt::Display for LogOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at offset {}", self.file(), self.offset)
    }
}

/// The number of a segment by its file's name; `None` for other files.
pub(crate) fn segment_number(file: &str) -> Option<u64> {
    let digits = file.strip_prefix("log-")?;
    let number: u64 = digits.parse().ok()?;
    (number > 0 && LogOffset::new(number, 0).file() == file).then_some(number)
}

/// What a segment begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) owner: Incarnation,
    pub(crate) segment_bytes: u64,
    pub(crate) hard_state: HardState,
    pub(crate) base: Position,
    pub(crate) last: Position,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    Header(SegmentHeader),
    Write { hard_state: Option<HardState>, entries: Vec<Entry> },
    Marker,
    Seal { next_bytes: u64 },
}

/// What binds a record to its place: any other place, and it is not valid there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) previous_checksum: u32,
    pub(crate) segment: u64,
    pub(crate) number: u64,
    pub(crate) synced: LogOffset,
}

/// A record whose checksum holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) head: Head,
    pub(crate) body: Body,
    pub(crate) checksum: u32,
    pub(crate) bytes: usize,
}

/// Why there is no record at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoRecord {
    /// The bytes are none: torn, rotten, zeros, or another folder's.
    Invalid,
    /// Whole, and written by a newer program.
    Newer { found: u8 },
    /// Whole, and senseless: a mistake of the program that wrote it.
    Senseless(&'static str),
}

/// Encodes one record at the end of `buffer`; each method returns the record's checksum.
pub(crate) struct Encoder<'a> {
    pub(crate) owner: Incarnation,
    pub(crate) buffer: &'a mut Vec<u8>,
}

impl Encoder<'_> {
    pub(crate) fn header(self, head: Head, header: &SegmentHeader) -> u32 {
        self.record(head, (1, FORMAT_FIRST), |payload| {
            payload.extend_from_slice(MAGIC);
            put_u64(payload, header.owner.0);
            put_u64(payload, header.segment_bytes);
            put_hard_state(payload, header.hard_state);
            put_position(payload, header.base);
            put_position(payload, header.last);
            payload.extend_from_slice(&[0; 32]);
        })
    }

    pub(crate) fn write(self, head: Head, hard_state: Option<HardState>, entries: &[Entry]) -> u32 {
        let is_membership = |entry: &Entry| matches!(entry.payload, Payload::Membership(_));
        let version = if entries.iter().any(is_membership) { FORMAT_VERSION } else { FORMAT_FIRST };
        self.record(head, (2, version), |payload| {
            payload.extend_from_slice(&[if hard_state.is_some() { FLAG_HARD_STATE } else { 0 }, 0, 0, 0]);
            put_u32(payload, entries.len());
            put_hard_state(payload, hard_state.unwrap_or_default());
            for entry in entries {
                put_position(payload, entry.position);
                put_u32(payload, entry.payload.len());
                match &entry.payload {
                    Payload::Noop => payload.extend_from_slice(&[ENTRY_NOOP, 0, 0, 0]),
                    Payload::Data(data) => {
                        payload.extend_from_slice(&[ENTRY_DATA, 0, 0, 0]);
                        payload.extend_from_slice(data);
                    }
                    Payload::Membership(membership) => {
                        payload.extend_from_slice(&[ENTRY_MEMBERSHIP, 0, 0, 0]);
                        payload.extend_from_slice(&membership.to_bytes());
                    }
                }
            }
        })
    }

    pub(crate) fn marker(self, head: Head) -> u32 {
        self.record(head, (3, FORMAT_FIRST), |_| {})
    }

    pub(crate) fn seal(self, head: Head, next_bytes: u64) -> u32 {
        self.record(head, (4, FORMAT_FIRST), |payload| put_u64(payload, next_bytes))
    }

    fn record(self, head: Head, (kind, version): (u8, u8), payload: impl FnOnce(&mut Vec<u8>)) -> u32 {
        let Self { owner, buffer } = self;
        let start = buffer.len();
        buffer.extend_from_slice(&[0; 8]);
        buffer.extend_from_slice(&[kind, version, 0, 0]);
        buffer.extend_from_slice(&head.previous_checksum.to_le_bytes());
        put_u64(buffer, head.segment);
        put_u64(buffer, head.number);
        put_u64(buffer, head.synced.segment);
        put_u64(buffer, head.synced.offset);
        payload(buffer);
        let length = buffer.len() - start - HEAD_BYTES;
        assert!(length <= RECORD_PAYLOAD_BYTES_MAX, "a record above its limit");
        buffer.resize(start + record_bytes(length), 0);
        let length = u32::try_from(length).expect("below the limit");
        buffer[start..start + 4].copy_from_slice(&length.to_le_bytes());
        let checksum = checksum(owner, &buffer[start..]);
        buffer[start + 4..start + 8].copy_from_slice(&checksum.to_le_bytes());
        checksum
    }
}

/// Bytes of a whole record with a payload of this length.
pub(crate) const fn record_bytes(payload: usize) -> usize {
    (HEAD_BYTES + payload).next_multiple_of(ALIGNMENT)
}

/// Bytes of a write's payload.
pub(crate) fn write_payload_bytes(entries: &[Entry]) -> usize {
    WRITE_FIXED_BYTES + entries.iter().map(Entry::cost).sum::<usize>()
}

/// How many bytes the record has that begins with this head, if it is one of that segment.
pub(crate) fn whole_bytes(head: &[u8], segment: u64) -> Option<usize> {
    if head.len() < HEAD_BYTES || u64_at(head, SEGMENT_FIELD_END - 8) != segment {
        return None;
    }
    let length = u32_at(head, 0) as usize;
    (length <= RECORD_PAYLOAD_BYTES_MAX).then(|| record_bytes(length))
}

/// Reads the record that begins at the first byte of `bytes` and belongs to `segment` of `owner`'s folder.
pub(crate) fn decode(bytes: &[u8], owner: Incarnation, segment: u64) -> Result<Record, NoRecord> {
    let whole = whole_bytes(bytes, segment).and_then(|whole| bytes.get(..whole)).ok_or(NoRecord::Invalid)?;
    let length = u32_at(whole, 0) as usize;
    let checksum = checksum(owner, whole);
    if checksum != u32_at(bytes, 4) {
        return Err(NoRecord::Invalid);
    }
    // What follows is what some program has meant to write.
    if !(FORMAT_FIRST..=FORMAT_VERSION).contains(&whole[9]) {
        return Err(NoRecord::Newer { found: whole[9] });
    }
    let head = Head {
        previous_checksum: u32_at(whole, 12),
        segment,
        number: u64_at(whole, 24),
        synced: LogOffset::new(u64_at(whole, 32), u64_at(whole, 40)),
    };
    let payload = &whole[HEAD_BYTES..HEAD_BYTES + length];
    let body = match whole[8] {
        1 => Body::Header(decode_header(payload)?),
        2 => decode_write(payload)?,
        3 => Body::Marker,
        4 if length == SEAL_PAYLOAD_BYTES => Body::Seal { next_bytes: u64_at(payload, 0) },
        _ => return Err(NoRecord::Senseless("a record of a kind that its format does not have")),
    };
    Ok(Record { head, body, checksum, bytes: whole.len() })
}

/// If `bytes` begin with the header of some folder's segment: the incarnation of that folder.
pub(crate) fn header_owner(bytes: &[u8], segment: u64) -> Option<Incarnation> {
    if bytes.len() < HEADER_RECORD_BYTES || &bytes[HEAD_BYTES..HEAD_BYTES + 8] != MAGIC {
        return None;
    }
    let owner = Incarnation(u64_at(bytes, HEAD_BYTES + 8));
    match decode(bytes, owner, segment) {
        Ok(_) | Err(NoRecord::Newer { .. }) => Some(owner),
        Err(NoRecord::Invalid | NoRecord::Senseless(_)) => None,
    }
}

fn decode_header(payload: &[u8]) -> Result<SegmentHeader, NoRecord> {
    if payload.len() != HEADER_PAYLOAD_BYTES || &payload[..8] != MAGIC {
        return Err(NoRecord::Senseless("a segment header of another shape"));
    }
    Ok(SegmentHeader {
        owner: Incarnation(u64_at(payload, 8)),
        segment_bytes: u64_at(payload, 16),
        hard_state: hard_state_at(payload, 24),
        base: position_at(payload, 40),
        last: position_at(payload, 56),
    })
}

fn decode_write(payload: &[u8]) -> Result<Body, NoRecord> {
    const SHAPE: NoRecord = NoRecord::Senseless("a write whose length does not fit its content");
    let fixed = payload.get(..WRITE_FIXED_BYTES).ok_or(SHAPE)?;
    let hard_state = (fixed[0] & FLAG_HARD_STATE != 0).then(|| hard_state_at(fixed, 8));
    let count = u32_at(fixed, 4) as usize;
    let mut entries = Vec::with_capacity(count.min(payload.len() / ENTRY_OVERHEAD_BYTES));
    let mut rest = &payload[WRITE_FIXED_BYTES..];
    for _ in 0..count {
        let (fixed, data) = rest.split_at_checked(ENTRY_OVERHEAD_BYTES).ok_or(SHAPE)?;
        let (data, after) = data.split_at_checked(u32_at(fixed, 16) as usize).ok_or(SHAPE)?;
        let payload = match fixed[20] {
            ENTRY_NOOP if data.is_empty() => Payload::Noop,
            // A copy, so that an entry does not keep a whole segment in memory.
            ENTRY_DATA => Payload::Data(Bytes::copy_from_slice(data)),
            ENTRY_MEMBERSHIP => {
                let membership = Membership::parse(&Bytes::copy_from_slice(data));
                let membership = membership.map_err(|malformed| NoRecord::Senseless(malformed.0))?;
                Payload::Membership(Arc::new(membership))
            }
            _ => return Err(NoRecord::Senseless("an entry of a kind that its format does not have")),
        };
        entries.push(Entry { position: position_at(fixed, 0), payload });
        rest = after;
    }
    if rest.is_empty() { Ok(Body::Write { hard_state, entries }) } else { Err(SHAPE) }
}

/// The incarnation goes into every checksum, so that records of another folder, or bytes that a client made
/// to look like a record and stored as a value, are none here.
fn checksum(owner: Incarnation, record: &[u8]) -> u32 {
    let sum = crc32c::crc32c(&owner.0.to_le_bytes());
    let sum = crc32c::crc32c_append(sum, &record[..4]);
    crc32c::crc32c_append(sum, &record[8..])
}

fn put_u64(to: &mut Vec<u8>, number: u64) {
    to.extend_from_slice(&number.to_le_bytes());
}

fn put_u32(to: &mut Vec<u8>, number: usize) {
    let number = u32::try_from(number).expect("bounded by the record's limit");
    to.extend_from_slice(&number.to_le_bytes());
}

fn put_position(to: &mut Vec<u8>, position: Position) {
    put_u64(to, position.term.0);
    put_u64(to, position.index.0);
}

fn put_hard_state(to: &mut Vec<u8>, hard_state: HardState) {
    put_u64(to, hard_state.term.0);
    put_u64(to, hard_state.vote.map_or(0, NodeId::get));
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

fn position_at(bytes: &[u8], at: usize) -> Position {
    Position::new(Term(u64_at(bytes, at)), Index(u64_at(bytes, at + 8)))
}

fn hard_state_at(bytes: &[u8], at: usize) -> HardState {
    HardState { term: Term(u64_at(bytes, at)), vote: NodeId::new(u64_at(bytes, at + 8)) }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const OWNER: Incarnation = Incarnation(77);

    fn hard_state() -> impl Strategy<Value = HardState> {
        (any::<u64>(), any::<u64>())
            .prop_map(|(term, vote)| HardState { term: Term(term), vote: NodeId::new(vote) })
    }

    fn position() -> impl Strategy<Value = Position> {
        (any::<u64>(), any::<u64>()).prop_map(|(term, index)| Position::new(Term(term), Index(index)))
    }

    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        let data = vec(any::<u8>(), 0..80).prop_map(|data| Payload::Data(Bytes::from(data)));
        let voters =
            proptest::collection::btree_set((1..=9_u64).prop_map(|id| NodeId::new(id).unwrap()), 1..=5);
        let membership = voters.prop_map(|voters| Payload::Membership(Arc::new(Membership::simple(voters))));
        let payload = prop_oneof![Just(Payload::Noop), data, membership];
        vec((position(), payload).prop_map(|(position, payload)| Entry { position, payload }), 0..6)
    }

    fn body() -> impl Strategy<Value = Body> {
        let header = (any::<u64>(), any::<u64>(), hard_state(), position(), position());
        let header = header.prop_map(|(owner, segment_bytes, hard_state, base, last)| {
            Body::Header(SegmentHeader { owner: Incarnation(owner), segment_bytes, hard_state, base, last })
        });
        let write = (proptest::option::of(hard_state()), entries())
            .prop_map(|(hard_state, entries)| Body::Write { hard_state, entries });
        let seal = any::<u64>().prop_map(|next_bytes| Body::Seal { next_bytes });
        prop_oneof![header, write, Just(Body::Marker), seal]
    }

    fn head() -> impl Strategy<Value = Head> {
        let synced = (any::<u64>(), any::<u64>()).prop_map(|(segment, offset)| LogOffset { segment, offset });
        (any::<u32>(), any::<u64>(), any::<u64>(), synced).prop_map(
            |(previous_checksum, segment, number, synced)| Head {
                previous_checksum,
                segment,
                number,
                synced,
            },
        )
    }

    fn encode(buffer: &mut Vec<u8>, head: Head, body: &Body) -> u32 {
        let encoder = Encoder { owner: OWNER, buffer };
        match body {
            Body::Header(header) => encoder.header(head, header),
            Body::Write { hard_state, entries } => encoder.write(head, *hard_state, entries),
            Body::Marker => encoder.marker(head),
            Body::Seal { next_bytes } => encoder.seal(head, *next_bytes),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_record_comes_back(before in vec(any::<u8>(), 0..3), head in head(), body in body()) {
            let mut bytes = vec![7; before.len() * ALIGNMENT];
            let start = bytes.len();
            let checksum = encode(&mut bytes, head, &body);
            prop_assert!(bytes.len().is_multiple_of(ALIGNMENT));
            if let Body::Write { entries, .. } = &body {
                prop_assert_eq!(bytes.len() - start, record_bytes(write_payload_bytes(entries)));
            }
            let record = Record { head, body, checksum, bytes: bytes.len() - start };
            bytes.extend_from_slice(&[9; 11]);
            prop_assert_eq!(decode(&bytes[start..], OWNER, head.segment), Ok(record));
            prop_assert_eq!(decode(&bytes[start..], OWNER, head.segment ^ 1), Err(NoRecord::Invalid));
            prop_assert_eq!(decode(&bytes[start..], Incarnation(78), head.segment), Err(NoRecord::Invalid));
        }

        #[test]
        fn a_changed_or_cut_record_is_none(head in head(), body in body(), at: usize, bit in 0..8) {
            let mut bytes = Vec::new();
            encode(&mut bytes, head, &body);
            let at = at % bytes.len();
            prop_assert_eq!(decode(&bytes[..at], OWNER, head.segment), Err(NoRecord::Invalid));
            bytes[at] ^= 1_u8 << bit;
            prop_assert_eq!(decode(&bytes, OWNER, head.segment), Err(NoRecord::Invalid));
        }

        /// Whole by its checksum, senseless within: refused, not believed, and never a panic.
        #[test]
        fn any_whole_record_does_not_panic(kind in 0..8_u8, payload in vec(any::<u8>(), 0..120)) {
            let mut bytes = Vec::new();
            let head = Head { previous_checksum: 0, segment: 1, number: 1, synced: LogOffset::default() };
            let encoder = Encoder { owner: OWNER, buffer: &mut bytes };
            encoder.record(head, (kind, FORMAT_FIRST), |to| to.extend_from_slice(&payload));
            let _ = decode(&bytes, OWNER, 1);
        }
    }

    #[test]
    fn file_names_are_numbers_in_one_spelling() {
        assert_eq!(segment_number("log-0000000012"), Some(12));
        assert_eq!(LogOffset::new(u64::MAX, 0).file(), "log-18446744073709551615");
        assert_eq!(segment_number("log-18446744073709551615"), Some(u64::MAX));
        for other in ["log-12", "log-0000000000", "log-+000000012", "log-", "identity", "log-0000000012~"] {
            assert_eq!(segment_number(other), None, "{other}");
        }
    }
}
