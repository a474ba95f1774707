//! Whose data folder this is: the node, the incarnation drawn when the folder was made, the cluster it was founded into or
//! has joined, and how often a process was started on it. Knows nothing of the log, nor of how members find each other.
//!
//! The file is written aside, synced, renamed, and the folder synced, so that at every instant the old or the
//! new one is there whole. Layout (little-endian; `docs/storage.md`):
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 8 | `QRTIDENT` |
//! | 8 | 4 | CRC-32C of all bytes from 12 on |
//! | 12 | 4 | format version, 3 |
//! | 16 | 4 | length of the file |
//! | 20 | 4 | number of founding members, 0 = not founded |
//! | 24 | 8 | node id |
//! | 32 | 8 | incarnation |
//! | 40 | 16 | cluster id, zeros = not founded |
//! | 56 | 8 | start number |
//! | 64 | 16 each | founding members in ascending order: node id, incarnation |
//! | … | 8 | number of draws |
//! | … | 8 each | what the latest starts have drawn, the newest first |
//! | … | 40 | where the folder was restored from a backup, as the length says: the [`Origin`] |
//!
//! Formats 1 and 2 are read still, and never written: 1 has no origin, 2 has one, both have zeros in the place of the start
//! number, and in both the founding members hold this folder.

use std::fmt;
use std::num::NonZeroU128;

use quorate_raft::NodeId;

use crate::disk::{Disk, DiskError, read_file, rename_file, replace_file};
use crate::origin::Origin;
use crate::sabotage::Bug;
use crate::starts::Start;

/// The name of the identity file in the data folder.
pub const IDENTITY_FILE: &str = "identity";
/// Where a new identity is written before it takes that name. A left-over one means nothing.
const ASIDE_FILE: &str = "identity.new";
/// The version of the format of folders that began empty before there were start numbers.
const FORMAT_EMPTY: u32 = 1;
/// And of those that were restored.
const FORMAT_RESTORED: u32 = 2;
/// The version that is written, and the newest that this code reads.
const IDENTITY_FORMAT: u32 = 3;
/// Founding members at most: 7 are the largest cluster, the rest is room.
pub const MEMBERS_MAX: usize = 64;

/// Draws of starts that are remembered at most.
pub const DRAWS_MAX: usize = 32;

const MAGIC: &[u8; 8] = b"QRTIDENT";
const FIXED_BYTES: usize = 64;
const MEMBER_BYTES: usize = 16;

/// Drawn at random when a data folder is made: the same node id with another incarnation is a node that has
/// forgotten its votes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u64);

/// Sixteen hexadecimal digits.
impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Names a cluster for ever: the hash of its founding list. Never 0: "not founded" is `Option::None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(NonZeroU128);

impl ClusterId {
    /// `None` for 0.
    pub fn new(id: u128) -> Option<Self> {
        NonZeroU128::new(id).map(Self)
    }

    /// The number, not 0.
    pub fn get(self) -> u128 {
        self.0.get()
    }

    /// The cluster that these members found. The order in which they are given does not matter.
    ///
    /// FNV-1a, 128 bits, over the text `quorate cluster 1` and then, in ascending order, each node id and
    /// each incarnation as 8 little-endian bytes; 0 becomes 1. It need not resist an attacker, who could as
    /// well claim any id: it must only tell clusters apart, and the incarnations in it are random.
    pub fn of(members: &[Member]) -> Self {
        const OFFSET_BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
        const PRIME: u128 = (1 << 88) + 0x13b;
        let mut sorted = members.to_vec();
        sorted.sort_unstable();
        let mut hash = OFFSET_BASIS;
        let mut absorb = |bytes: &[u8]| {
            for byte in bytes {
                hash = (hash ^ u128::from(*byte)).wrapping_mul(PRIME);
            }
        };
        absorb(b"quorate cluster 1");
        for member in &sorted {
            absorb(&member.id.get().to_le_bytes());
            absorb(&member.incarnation.0.to_le_bytes());
        }
        Self(NonZeroU128::new(hash).unwrap_or(NonZeroU128::MIN))
    }
}

/// Thirty-two hexadecimal digits.
impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// One founding member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    /// Who.
    pub id: NodeId,
    /// Which data folder of it.
    pub incarnation: Incarnation,
}

/// Whose folder it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// This node.
    pub node: NodeId,
    /// Drawn when the folder was made.
    pub incarnation: Incarnation,
    /// All founding members of the cluster in ascending order; empty as long as this folder is of no cluster. A node with
    /// an empty list never votes and never campaigns. A folder that has joined later is not in it.
    pub founding: Vec<Member>,
    /// The backup that it was restored from, if it was. It belongs to the incarnation: whoever agrees on that agrees on the
    /// state that the cluster begins with.
    pub origin: Option<Origin>,
    /// How many processes were started on this folder: raised, and synced, before one says anything to anybody. Whoever has
    /// heard a later start knows an older copy of the folder by it.
    pub start_number: u64,
    /// What these processes have drawn, the newest first, as many as [`DRAWS_MAX`]: whoever has heard one of them knows by it
    /// whether this folder goes on from what it was then.
    pub draws: Vec<u64>,
}

impl Identity {
    /// A new folder's identity, not founded.
    pub fn new(node: NodeId, incarnation: Incarnation) -> Self {
        Self { node, incarnation, founding: Vec::new(), origin: None, start_number: 0, draws: Vec::new() }
    }

    /// The same folder, as a process finds it that is started on it now, and has drawn this number.
    #[must_use]
    pub fn started(&self, draw: u64) -> Self {
        let draws = std::iter::once(draw).chain(self.draws.iter().copied()).take(DRAWS_MAX).collect();
        Self { start_number: self.start_number.saturating_add(1), draws, ..self.clone() }
    }

    /// The latest process on this folder.
    pub fn start(&self) -> Start {
        Start { number: self.start_number, draw: self.draws.first().copied().unwrap_or_default() }
    }

    /// The same node in a cluster that these members have founded without this folder.
    ///
    /// # Panics
    /// If this folder is of a cluster already, or restored from a backup, which others than its founders must not join; and
    /// for lists as in [`Self::founded`].
    #[must_use]
    pub fn joined(&self, founders: &[Member]) -> Self {
        let mut founding = founders.to_vec();
        founding.sort_unstable();
        assert!(self.founding.is_empty() || self.founding == founding, "joined twice, differently");
        assert!(self.origin.is_none(), "a restored folder begins with another state than the cluster has");
        assert!(!founding.is_empty() && founding.len() <= MEMBERS_MAX, "a list that cannot be");
        assert!(are_distinct(&founding), "a node id is there twice");
        Self { founding, ..self.clone() }
    }

    /// Whether this folder was there when its cluster was founded.
    pub fn is_founder(&self) -> bool {
        self.is_among(&self.founding)
    }

    /// The same node, founded with these members.
    ///
    /// # Panics
    /// If this node with this incarnation is not among them, a node id is there twice, there are more than
    /// [`MEMBERS_MAX`], or another founding is on record: a node is founded once.
    #[must_use]
    pub fn founded(&self, members: &[Member]) -> Self {
        let mut founding = members.to_vec();
        founding.sort_unstable();
        assert!(self.founding.is_empty() || self.founding == founding, "founded twice, differently");
        assert!(founding.len() <= MEMBERS_MAX, "more founding members than the limit");
        assert!(self.is_among(&founding), "founded without this node");
        assert!(are_distinct(&founding), "a node id is there twice");
        Self { founding, ..self.clone() }
    }

    /// The cluster, once founded.
    pub fn cluster(&self) -> Option<ClusterId> {
        (!self.founding.is_empty()).then(|| ClusterId::of(&self.founding))
    }

    fn is_among(&self, members: &[Member]) -> bool {
        members.contains(&Member { id: self.node, incarnation: self.incarnation })
    }
}

fn are_distinct(sorted: &[Member]) -> bool {
    sorted.windows(2).all(|pair| pair[0].id < pair[1].id)
}

/// Why an identity was not read. The folder has not been changed.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The file is not what this program wrote. Stop: without it nobody can say whether this node has voted.
    #[error(
        "{IDENTITY_FILE} is damaged ({what}): it is not known any more whose data this is; keep the \
         folder for examination, and do not start a server on it"
    )]
    Damaged {
        /// What is wrong with it.
        what: &'static str,
    },
    /// Start a newer program.
    #[error(
        "{IDENTITY_FILE} has format {found}, and this program reads up to {IDENTITY_FORMAT}: start a newer \
         version of it"
    )]
    NewerFormat {
        /// The version in the file.
        found: u32,
    },
    /// Start with the right `--id`, or the right `--data`.
    #[error(
        "this data folder belongs to node {}, and the server was started as node {}: start it with the \
         id or the folder that it means", .found.get(), .expected.get()
    )]
    OtherNode {
        /// Whose folder it is.
        found: NodeId,
        /// Whose it should be.
        expected: NodeId,
    },
}

/// Reads the identity of the folder; `None` where there is none yet.
pub fn load(disk: &dyn Disk, expected: NodeId) -> Result<Option<Identity>, IdentityError> {
    match load_any(disk)? {
        Some(identity) if identity.node != expected => {
            Err(IdentityError::OtherNode { found: identity.node, expected })
        }
        identity => Ok(identity),
    }
}

/// The same, whichever node it is.
pub(crate) fn load_any(disk: &dyn Disk) -> Result<Option<Identity>, IdentityError> {
    if !disk.exists(IDENTITY_FILE)? {
        return Ok(None);
    }
    decode(&read_file(disk, IDENTITY_FILE)?).map(Some)
}

/// Stores the identity; durable when it returns. After an error the old one or the new one is there.
pub fn store(disk: &dyn Disk, identity: &Identity) -> Result<(), DiskError> {
    // A founding that a power cut takes back would let this node be founded again, with votes forgotten.
    replace_file(disk, IDENTITY_FILE, ASIDE_FILE, &encode(identity))
}

/// The same, of a start that has been counted.
pub(crate) fn store_started(disk: &dyn Disk, identity: &Identity) -> Result<(), DiskError> {
    if Bug::CountsStartsUnsynced.is_put_back() {
        return rename_file(disk, IDENTITY_FILE, ASIDE_FILE, &encode(identity));
    }
    store(disk, identity)
}

/// The bytes of the file.
pub(crate) fn encode(identity: &Identity) -> Vec<u8> {
    let members = u32::try_from(identity.founding.len()).expect("at most MEMBERS_MAX");
    let length = length(identity.founding.len(), Some(identity.draws.len()), identity.origin.is_some());
    let length = u32::try_from(length).expect("at most MEMBERS_MAX");
    let cluster = identity.cluster().map_or(0, ClusterId::get);
    let mut bytes = Vec::with_capacity(length as usize);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&IDENTITY_FORMAT.to_le_bytes());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&members.to_le_bytes());
    bytes.extend_from_slice(&identity.node.get().to_le_bytes());
    bytes.extend_from_slice(&identity.incarnation.0.to_le_bytes());
    bytes.extend_from_slice(&cluster.to_le_bytes());
    bytes.extend_from_slice(&identity.start_number.to_le_bytes());
    for member in &identity.founding {
        bytes.extend_from_slice(&member.id.get().to_le_bytes());
        bytes.extend_from_slice(&member.incarnation.0.to_le_bytes());
    }
    bytes.extend_from_slice(&(identity.draws.len() as u64).to_le_bytes());
    identity.draws.iter().for_each(|draw| bytes.extend_from_slice(&draw.to_le_bytes()));
    if let Some(origin) = identity.origin {
        bytes.extend_from_slice(&origin.to_bytes());
    }
    let checksum = crc32c::crc32c(&bytes[12..]);
    bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Bytes of the file; formats 1 and 2 know no draws.
fn length(members: usize, draws: Option<usize>, is_restored: bool) -> usize {
    let draws = draws.map_or(0, |draws| 8 + draws * 8);
    FIXED_BYTES + members * MEMBER_BYTES + draws + if is_restored { Origin::BYTES } else { 0 }
}

/// What they say.
pub(crate) fn decode(bytes: &[u8]) -> Result<Identity, IdentityError> {
    let damaged = |what| IdentityError::Damaged { what };
    if bytes.len() < FIXED_BYTES {
        return Err(damaged("it is too short"));
    }
    if &bytes[..8] != MAGIC {
        return Err(damaged("it does not begin as an identity does"));
    }
    if crc32c::crc32c(&bytes[12..]) != u32_at(bytes, 8) {
        return Err(damaged("its checksum is wrong"));
    }
    let format = u32_at(bytes, 12);
    if format > IDENTITY_FORMAT {
        return Err(IdentityError::NewerFormat { found: format });
    }
    let count = u32_at(bytes, 20) as usize;
    let draws_at = FIXED_BYTES + count.min(MEMBERS_MAX) * MEMBER_BYTES;
    let draws = match bytes.get(draws_at..draws_at + 8) {
        Some(number) if format == IDENTITY_FORMAT => Some(u64_at(number, 0).min(DRAWS_MAX as u64) as usize),
        Some(_) | None => None,
    };
    let is_restored = match format {
        FORMAT_EMPTY => false,
        FORMAT_RESTORED => true,
        _ => bytes.len() == length(count.min(MEMBERS_MAX), draws, true),
    };
    let length = length(count.min(MEMBERS_MAX), draws, is_restored);
    if format == 0 || count > MEMBERS_MAX || bytes.len() != length || u32_at(bytes, 16) as usize != length {
        return Err(damaged("its length is wrong"));
    }
    let no_node = || damaged("it names a node 0");
    let mut founding = Vec::with_capacity(count);
    let members = &bytes[FIXED_BYTES..][..count * MEMBER_BYTES];
    for member in members.chunks_exact(MEMBER_BYTES) {
        let id = NodeId::new(u64_at(member, 0)).ok_or_else(no_node)?;
        founding.push(Member { id, incarnation: Incarnation(u64_at(member, 8)) });
    }
    let node = NodeId::new(u64_at(bytes, 24)).ok_or_else(no_node)?;
    let origin = match bytes.last_chunk().filter(|_| is_restored) {
        None => None,
        Some(origin) => {
            Some(Origin::from_bytes(origin).ok_or_else(|| damaged("it names a backup that cannot be"))?)
        }
    };
    let start_number = if format < IDENTITY_FORMAT { 0 } else { u64_at(bytes, 56) };
    let incarnation = Incarnation(u64_at(bytes, 32));
    let draws = bytes[draws_at..].chunks_exact(8).skip(1).take(draws.unwrap_or(0));
    let draws = draws.map(|draw| u64_at(draw, 0)).collect();
    let identity = Identity { node, incarnation, founding, origin, start_number, draws };
    let founding = &identity.founding;
    let may_have_joined = format == IDENTITY_FORMAT && identity.origin.is_none();
    let is_right = may_have_joined || identity.is_among(founding);
    if !founding.is_empty() && (!is_right || !are_distinct(founding)) {
        return Err(damaged("its founding members make no sense"));
    }
    let cluster = u128::from_le_bytes(bytes[40..56].try_into().expect("16 bytes"));
    if identity.cluster().map_or(0, ClusterId::get) != cluster {
        return Err(damaged("its cluster is not the one of its founding members"));
    }
    Ok(identity)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}
