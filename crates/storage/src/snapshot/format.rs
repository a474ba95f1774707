//! The layout of a snapshot file, byte by byte, and the walk through one that verifies all of it. Pure: bytes in,
//! judgement out; knows no disk, and nothing of what the blocks hold.
//!
//! All numbers are little-endian. A header, blocks one behind the other, a trailer; nothing between them and nothing
//! behind. Every byte is under a checksum, and nothing of one server's own folder is in it: a snapshot travels between
//! servers as it is. The header:
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 8 | `QRTSNAP` and a zero |
//! | 8 | 4 | CRC-32C of bytes 12–63 |
//! | 12 | 4 | format version, 1 |
//! | 16 | 16 | cluster id, never 0 |
//! | 32 | 16 | position: term, index |
//! | 48 | 16 | reserved, zeros |
//!
//! A block, and the trailer:
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 4 | length of the content |
//! | 4 | 4 | CRC-32C of: the header's checksum (4 bytes, not stored here), bytes 0–3, bytes 8 to the end |
//! | 8 | 8 | its running number, from 1; the trailer has the last |
//! | 16 | 1 | kind: 1 block, 2 trailer |
//! | 17 | 7 | reserved, zeros |
//! | 24 | … | content: of a block, 1 byte to 1 MiB, opaque |
//!
//! Content of the trailer: number of blocks (8), bytes of their contents (8), digest of the state (8), CRC-32C of all
//! bytes before the trailer (4), reserved (4).

use quorate_raft::{Index, Position, Term};

use crate::identity::ClusterId;

/// The version of the format that this code writes, and the newest it reads.
pub const SNAPSHOT_FORMAT: u32 = 1;
/// Bytes of one block's content at most.
pub const BLOCK_BYTES_MAX: usize = 1 << 20;

pub(crate) const HEADER_BYTES: usize = 64;
/// Bytes of a block or a trailer before its content.
pub(crate) const PART_HEAD_BYTES: usize = 24;
const TRAILER_BYTES: usize = 32;
/// What has to be in memory at once.
pub(crate) const PART_BYTES_MAX: usize = PART_HEAD_BYTES + BLOCK_BYTES_MAX;

const MAGIC: &[u8; 8] = b"QRTSNAP\0";
const KIND_BLOCK: u8 = 1;
const KIND_TRAILER: u8 = 2;
/// Above all indexes and terms that a cluster can reach.
const NUMBER_MAX: u64 = u64::MAX / 4;

const _: () = assert!(TRAILER_BYTES <= BLOCK_BYTES_MAX && HEADER_BYTES <= PART_BYTES_MAX);

/// What is wrong with a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The bytes are not what was written.
    Damaged(&'static str),
    /// Whole, and written by a newer program.
    Newer { found: u32 },
    /// Whole, and of another cluster.
    Foreign { found: u128 },
}

/// What a part was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    Header,
    Block(&'a [u8]),
    Trailer,
}

/// Writes or verifies a snapshot from its beginning, part by part: both must count alike.
#[derive(Clone, Debug)]
pub(crate) struct Walk {
    cluster: ClusterId,
    position: Position,
    /// Where the next part begins.
    at: u64,
    /// Of the header; binds each part to its file.
    header_checksum: u32,
    /// Of all bytes so far.
    checksum: u32,
    blocks: u64,
    content_bytes: u64,
    /// Once the trailer has been seen.
    digest: Option<u64>,
}

impl Walk {
    pub(crate) fn new(cluster: ClusterId, position: Position) -> Self {
        Self {
            cluster,
            position,
            at: 0,
            header_checksum: 0,
            checksum: 0,
            blocks: 0,
            content_bytes: 0,
            digest: None,
        }
    }

    pub(crate) fn cluster(&self) -> ClusterId {
        self.cluster
    }

    pub(crate) fn position(&self) -> Position {
        self.position
    }

    /// Where the next part begins.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// The digest of the state, once the trailer has been seen.
    pub(crate) fn digest(&self) -> Option<u64> {
        self.digest
    }

    /// The header's bytes.
    pub(crate) fn write_header(&mut self, to: &mut Vec<u8>) {
        let start = to.len();
        to.extend_from_slice(MAGIC);
        to.extend_from_slice(&[0; 4]);
        to.extend_from_slice(&SNAPSHOT_FORMAT.to_le_bytes());
        to.extend_from_slice(&self.cluster.get().to_le_bytes());
        put_u64(to, self.position.term.0);
        put_u64(to, self.position.index.0);
        to.extend_from_slice(&[0; 16]);
        let header = &mut to[start..];
        self.header_checksum = crc32c::crc32c(&header[12..]);
        header[8..12].copy_from_slice(&self.header_checksum.to_le_bytes());
        self.passed(&to[start..]);
    }

    /// A block's bytes.
    pub(crate) fn write_block(&mut self, to: &mut Vec<u8>, content: &[u8]) {
        let start = to.len();
        self.write_part(to, KIND_BLOCK, content);
        self.blocks += 1;
        self.content_bytes += content.len() as u64;
        self.passed(&to[start..]);
    }

    /// The trailer's bytes.
    pub(crate) fn write_trailer(&mut self, to: &mut Vec<u8>, digest: u64) {
        let start = to.len();
        let mut content = Vec::with_capacity(TRAILER_BYTES);
        put_u64(&mut content, self.blocks);
        put_u64(&mut content, self.content_bytes);
        put_u64(&mut content, digest);
        content.extend_from_slice(&self.checksum.to_le_bytes());
        content.extend_from_slice(&[0; 4]);
        self.write_part(to, KIND_TRAILER, &content);
        self.digest = Some(digest);
        self.passed(&to[start..]);
    }

    fn write_part(&self, to: &mut Vec<u8>, kind: u8, content: &[u8]) {
        assert!((1..=BLOCK_BYTES_MAX).contains(&content.len()), "a block of a snapshot beyond its limits");
        let start = to.len();
        let length = u32::try_from(content.len()).expect("below the limit");
        to.extend_from_slice(&length.to_le_bytes());
        to.extend_from_slice(&[0; 4]);
        put_u64(to, self.blocks + 1);
        to.extend_from_slice(&[kind, 0, 0, 0, 0, 0, 0, 0]);
        to.extend_from_slice(content);
        let checksum = self.part_checksum(&to[start..]);
        to[start + 4..start + 8].copy_from_slice(&checksum.to_le_bytes());
    }

    fn part_checksum(&self, part: &[u8]) -> u32 {
        let sum = crc32c::crc32c(&self.header_checksum.to_le_bytes());
        let sum = crc32c::crc32c_append(sum, &part[..4]);
        crc32c::crc32c_append(sum, &part[8..])
    }

    /// How many bytes the next part has, or how many of them are needed to know, if `start` is its beginning.
    pub(crate) fn part_bytes(&self, start: &[u8]) -> Result<usize, Fault> {
        if self.at == 0 {
            return Ok(HEADER_BYTES);
        }
        if self.digest.is_some() {
            return Err(Fault::Damaged("something follows its end"));
        }
        let Some(head) = start.get(..PART_HEAD_BYTES) else { return Ok(PART_HEAD_BYTES) };
        let length = u32_at(head, 0) as usize;
        if !(1..=BLOCK_BYTES_MAX).contains(&length) {
            return Err(Fault::Damaged("a block has a length that none can have"));
        }
        Ok(PART_HEAD_BYTES + length)
    }

    /// Verifies the next part, whole, and goes on behind it. After a fault the walk stands where it stood.
    pub(crate) fn take<'a>(&mut self, part: &'a [u8]) -> Result<Part<'a>, Fault> {
        let taken = if self.at == 0 { self.take_header(part)? } else { self.take_part(part)? };
        self.passed(part);
        Ok(taken)
    }

    fn take_header<'a>(&mut self, header: &[u8]) -> Result<Part<'a>, Fault> {
        assert!(header.len() == HEADER_BYTES, "a part is verified whole");
        if &header[..8] != MAGIC {
            return Err(Fault::Damaged("it does not begin as a snapshot does"));
        }
        let checksum = crc32c::crc32c(&header[12..]);
        if checksum != u32_at(header, 8) {
            return Err(Fault::Damaged("the checksum of its header is wrong"));
        }
        let format = u32_at(header, 12);
        if format != SNAPSHOT_FORMAT {
            return Err(Fault::Newer { found: format });
        }
        let cluster = u128::from_le_bytes(header[16..32].try_into().expect("16 bytes"));
        if cluster != self.cluster.get() {
            return Err(Fault::Foreign { found: cluster });
        }
        let position = Position::new(Term(u64_at(header, 32)), Index(u64_at(header, 40)));
        if position != self.position {
            return Err(Fault::Damaged("its header names another position than its file"));
        }
        if !is_possible(position) {
            return Err(Fault::Damaged("its position is one that no cluster reaches"));
        }
        self.header_checksum = checksum;
        Ok(Part::Header)
    }

    fn take_part<'a>(&mut self, part: &'a [u8]) -> Result<Part<'a>, Fault> {
        assert!(self.part_bytes(part)? == part.len(), "a part is verified whole");
        if self.part_checksum(part) != u32_at(part, 4) {
            return Err(Fault::Damaged("the checksum of a block is wrong"));
        }
        if u64_at(part, 8) != self.blocks + 1 {
            return Err(Fault::Damaged("a block is out of its order"));
        }
        let content = &part[PART_HEAD_BYTES..];
        match part[16] {
            KIND_BLOCK => {
                self.blocks += 1;
                self.content_bytes += content.len() as u64;
                Ok(Part::Block(content))
            }
            KIND_TRAILER if content.len() == TRAILER_BYTES => self.take_trailer(content),
            _ => Err(Fault::Damaged("a block is of a kind that its format does not have")),
        }
    }

    fn take_trailer<'a>(&mut self, content: &[u8]) -> Result<Part<'a>, Fault> {
        if u64_at(content, 0) != self.blocks || u64_at(content, 8) != self.content_bytes {
            return Err(Fault::Damaged("its trailer counts other blocks"));
        }
        if u32_at(content, 24) != self.checksum {
            return Err(Fault::Damaged("the checksum over all of it is wrong"));
        }
        self.digest = Some(u64_at(content, 16));
        Ok(Part::Trailer)
    }

    fn passed(&mut self, bytes: &[u8]) {
        self.checksum = crc32c::crc32c_append(self.checksum, bytes);
        self.at += bytes.len() as u64;
    }
}

/// What a header says it is of, believed or not. A cluster 0, which cannot be, becomes another that will not fit.
pub(crate) fn claims(header: &[u8; HEADER_BYTES]) -> (ClusterId, Position) {
    let position = Position::new(Term(u64_at(header, 32)), Index(u64_at(header, 40)));
    let cluster = ClusterId::new(cluster_in(header).max(1)).expect("not 0");
    (cluster, position)
}

/// The cluster that a file names, whatever else is in it; 0 if it is too short for one.
pub(crate) fn cluster_in(file: &[u8]) -> u128 {
    file.get(16..32).map_or(0, |bytes| u128::from_le_bytes(bytes.try_into().expect("16 bytes")))
}

/// Whether a snapshot can be of this position: not before the log, and of no number that only forgers reach.
pub fn is_possible(position: Position) -> bool {
    (1..NUMBER_MAX).contains(&position.index.0) && (1..NUMBER_MAX).contains(&position.term.0)
}

fn put_u64(to: &mut Vec<u8>, number: u64) {
    to.extend_from_slice(&number.to_le_bytes());
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}
