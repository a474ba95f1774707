//! The numbers of consensus, each a type of its own, and the entries and hard state built of them.
//! Knows nothing of keys, values, disks or clocks.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;

use bytes::Bytes;

use crate::membership::Membership;

/// An epoch with at most one leader (thesis §3.3). `Term::ZERO` is before the first election.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(pub u64);

impl Term {
    /// Before the first election; no entry carries it.
    pub const ZERO: Self = Self(0);

    /// The term after this one; `None` at the end of the number range, which only a broken peer can name.
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
}

/// A place in the log; the first entry is 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Index(pub u64);

impl Index {
    /// "Before the log".
    pub const ZERO: Self = Self(0);

    /// The index after this one.
    ///
    /// # Panics
    /// After 2^64 entries.
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("2^64 log entries"))
    }

    /// The index before this one; `ZERO` stays `ZERO`.
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// How many entries lie after `earlier`, up to and with this index; 0 if `earlier` is not earlier.
    pub fn distance_from(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Names one entry for ever: two logs that hold an entry of the same position hold the same entry, and the
/// same log up to it (log matching, thesis §3.5).
///
/// Ordered by term first, as the vote's comparison wants it (thesis §3.6.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The term in which a leader created the entry.
    pub term: Term,
    /// Where it stands.
    pub index: Index,
}

impl Position {
    /// Before the log.
    pub const ZERO: Self = Self { term: Term::ZERO, index: Index::ZERO };

    /// The position of `index` in `term`.
    pub const fn new(term: Term, index: Index) -> Self {
        Self { term, index }
    }
}

/// Who a server is. Never 0: "nobody" is `Option::None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(NonZeroU64);

impl NodeId {
    /// `None` for 0.
    pub fn new(id: u64) -> Option<Self> {
        NonZeroU64::new(id).map(Self)
    }

    /// The number, 1 or more.
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

/// The number of a write handed to the disk. Writes are numbered from 1 without gaps in each process, and
/// complete in order: promises wait for a number, never for a position, because a position can be written
/// twice (`docs/architecture.md`, law 4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId(pub u64);

impl WriteId {
    /// No write yet.
    pub const ZERO: Self = Self(0);

    /// The number of the write after this one.
    ///
    /// # Panics
    /// After 2^64 writes.
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("2^64 writes"))
    }
}

/// A confirmation round of linearizable reads, counted from 1 within one leader's term (thesis §6.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Round(pub u64);

/// What the caller names a read by; given back when the read is confirmed or refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadToken(pub u64);

/// What must survive a crash besides the log: a node that forgets its vote can grant a second one, and then
/// two leaders share a term (thesis §3.8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The latest term this node has seen.
    pub term: Term,
    /// Whom it voted for in that term.
    pub vote: Option<NodeId>,
}

/// What an entry carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// What a new leader appends so that it can commit something of its own term (thesis §3.6.2).
    Noop,
    /// Opaque bytes of the state machine.
    Data(Bytes),
    /// Who belongs to the group from this entry on: it counts as soon as the entry is in a log (thesis §4.1).
    Membership(Arc<Membership>),
}

impl Payload {
    /// Bytes of what is not fixed.
    pub fn len(&self) -> usize {
        match self {
            Self::Noop => 0,
            Self::Data(data) => data.len(),
            Self::Membership(membership) => membership.bytes_len(),
        }
    }

    /// Whether there are no such bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One entry of the replicated log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub position: Position,
    /// Its content.
    pub payload: Payload,
}

impl Entry {
    /// What this entry counts against limits in bytes: its payload and the fixed part of its encoding.
    pub fn cost(&self) -> usize {
        self.payload.len() + ENTRY_OVERHEAD_BYTES
    }
}

/// Bytes that an entry costs besides its payload, on the wire and on disk: term, index, kind, length.
pub const ENTRY_OVERHEAD_BYTES: usize = 24;

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for WriteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "w{}", self.0)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

/// `index@term`, as in the traces.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.index, self.term)
    }
}
