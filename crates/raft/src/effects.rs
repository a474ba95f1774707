//! What a step asks of its caller, in order. Knows nothing of how it is carried out.

use crate::message::Envelope;
use crate::types::{Entry, HardState, Index, NodeId, Position, ReadToken, WriteId};

/// What the caller owes after one [`crate::Node::step`], in the order of the fields.
///
/// 1. Send `send_now`: nothing in it rests on a write of ours.
/// 2. Queue `persist` behind all writes before it; once it is **synced**, send its `send_after` and step
///    [`crate::Input::Persisted`] with its number. 1 and 2 may run side by side.
/// 3. Change the state machine to the snapshot of `install`.
/// 4. Hand `apply` to the state machine. If `more_to_apply`, step [`crate::Input::ApplyMore`] when it is done.
/// 5. Answer `reads` once the state machine has applied up to the index each names.
/// 6. See to it that the snapshot of `fetch` comes here, and step [`crate::Input::Install`] once it is durable.
#[must_use = "dropping effects loses votes and acknowledgements"]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Carries no promise of ours.
    pub send_now: Vec<Envelope>,
    /// One write, with what may leave only after its sync.
    pub persist: Option<Persist>,
    /// The state machine becomes what this snapshot says, now and as a whole: state, sessions and applied index. It
    /// is the one of [`crate::Input::Install`], and ahead of everything that was ever handed over in `apply`; what
    /// is handed over later follows it.
    pub install: Option<Position>,
    /// Committed entries, in order, each handed over at most once in a process's life. At most
    /// [`crate::Limits::apply_bytes_max`] of them.
    pub apply: Vec<Entry>,
    /// More is committed than was handed over: after a start it may be the whole log. Each step hands over more;
    /// [`crate::Input::ApplyMore`] is the one that does nothing else.
    pub more_to_apply: bool,
    /// What became of the proposal that this step carried.
    pub proposed: Option<Result<Position, Refusal>>,
    /// Reads that are settled.
    pub reads: Vec<ReadOutcome>,
    /// The leader has a snapshot that this node needs.
    pub fetch: Option<Fetch>,
}

/// A snapshot to be had from a leader.
///
/// It is named again as long as it is needed, and asking for one that is on its way already changes nothing. A later
/// fetch replaces an earlier one; but an earlier one that can still be completed may be, and installed: it is
/// progress, and the next is then asked for, or entries come. Nothing says that a fetch is not needed any more:
/// once [`crate::Node::commit`] has reached it, installing it does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// Who offers it.
    pub from: NodeId,
    /// The last position that it stands for.
    pub last: Position,
}

/// A write, numbered, and the promises that rest on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persist {
    /// Its number: one above the write before it.
    pub write: WriteId,
    /// Term and vote, where they changed.
    pub hard_state: Option<HardState>,
    /// All entries leave the disk's log, and it begins at this position: a snapshot that is durable already stands
    /// for everything up to it. `entries`, if there are any, follow it.
    pub reset_to: Option<Position>,
    /// Entries to append, without a gap. The first may stand at or below the end of the log on disk: all from
    /// its index on is truncated then. If `hard_state`, `reset_to` and this are empty the promises wait only for
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
    /// The change of membership before this one is not done: again when it is ([`crate::Node::is_change_pending`]).
    ChangePending,
    /// This leader has not committed an entry of its own term yet, so it may not know the change before this one: again
    /// in a moment.
    NotReady,
}
