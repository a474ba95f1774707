//! What a step asks of its caller, in order. Knows nothing of how it is carried out.

use crate::message::Envelope;
use crate::types::{Entry, HardState, Index, NodeId, Position, ReadToken, WriteId};

/// What the caller owes after one [`crate::Node::step`], in the order of the fields.
///
/// 1. Send `send_now`: nothing in it rests on a write of ours.
/// 2. Queue `persist` behind all writes before it; once it is **synced**, send its `send_after` and step
///    [`crate::Input::Persisted`] with its number. 1 and 2 may run side by side.
/// 3. Hand `apply` to the state machine.
/// 4. Answer `reads` once the state machine has applied up to the index each names.
#[must_use = "dropping effects loses votes and acknowledgements"]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Carries no promise of ours.
    pub send_now: Vec<Envelope>,
    /// One write, with what may leave only after its sync.
    pub persist: Option<Persist>,
    /// Committed entries, in order, each handed over exactly once in a process's life.
    pub apply: Vec<Entry>,
    /// What became of the proposal that this step carried.
    pub proposed: Option<Result<Position, Refusal>>,
    /// Reads that are settled.
    pub reads: Vec<ReadOutcome>,
}

/// A write, numbered, and the promises that rest on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persist {
    /// Its number: one above the write before it.
    pub write: WriteId,
    /// Term and vote, where they changed.
    pub hard_state: Option<HardState>,
    /// Entries to append, without a gap. The first may stand at or below the end of the log on disk: all from
    /// its index on is truncated then. Both this and `hard_state` may be empty: then the promises wait only for
    /// the writes before this one.
    pub entries: Vec<Entry>,
    /// Leaves after the sync of this write, in this order.
    pub send_after: Vec<Envelope>,
}

/// What became of a read that was stepped in as [`crate::Input::Read`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadOutcome {
    /// Answer it from a state machine that has applied `index` or more.
    Confirmed {
        /// The read.
        token: ReadToken,
        /// The read index.
        index: Index,
    },
    /// This node does not lead (any more): ask elsewhere.
    Refused {
        /// The read.
        token: ReadToken,
        /// Why.
        refusal: Refusal,
    },
}

/// Why a proposal or a read was not taken. Nothing has happened then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Ask `leader` if it is known, or again after a pause.
    NotLeader {
        /// Who leads, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// The bound on what is not committed (of a read: on the reads that wait) is reached: again after a commit.
    Busy,
    /// The payload is above the limit of one entry.
    TooLarge,
}
