//! One member of the group: [`Node::step`] takes one input and says what is owed for it.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::effects::Effects;
use crate::message::Message;
use crate::types::{Entry, HardState, Index, NodeId, Position, ReadToken, Term, WriteId};

/// Everything that can happen to a node. There is no sixth way in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A tick of the caller's timer has passed.
    Tick {
        /// The caller's clock, an opaque number that heartbeat answers carry.
        clock: u64,
    },
    /// A peer said something. The caller vouches for who it was.
    Message {
        /// The sender.
        from: NodeId,
        /// What it said.
        message: Message,
    },
    /// The write of this number, and all before it, are synced.
    Persisted {
        /// Its number.
        write: WriteId,
    },
    /// Append this to the log, if this node leads.
    Propose {
        /// Opaque bytes of the state machine, at most [`Limits::entry_bytes_max`].
        payload: Bytes,
    },
    /// Confirm a read index, if this node leads.
    Read {
        /// Named again in the outcome.
        token: ReadToken,
    },
}

/// Times in ticks and bounds in bytes. Equal on all members is advisable, not needed for safety.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Ticks between two heartbeats of a leader.
    pub heartbeat_ticks: u32,
    /// The shortest election timeout, in ticks.
    pub election_ticks_min: u32,
    /// The longest election timeout, in ticks; drawn anew each time from `[min, max]`.
    pub election_ticks_max: u32,
    /// Bytes of one proposal.
    pub entry_bytes_max: usize,
    /// Bytes of entries in one append message (one entry may exceed it alone).
    pub append_bytes_max: usize,
    /// Bytes of entries sent to one follower and not acknowledged.
    pub inflight_bytes_max: usize,
    /// Append messages sent to one follower and not acknowledged.
    pub inflight_messages_max: usize,
    /// Bytes of entries proposed here and not yet committed; past it a proposal is `Busy`.
    pub uncommitted_bytes_max: usize,
    /// Reads waiting for confirmation; past it a read is `Busy`.
    pub reads_waiting_max: usize,
}

/// What a node starts from.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who this is.
    pub id: NodeId,
    /// Who votes. Must hold `id`.
    pub voters: BTreeSet<NodeId>,
    /// Times and bounds.
    pub limits: Limits,
    /// Seeds the draw of election timeouts: from entropy in production, from the run's seed in simulation.
    pub seed: u64,
}

/// What recovery found on the disk, all of it durable.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    /// Term and vote.
    pub hard_state: HardState,
    /// The position before the first entry; (0, 0) until snapshots exist. Everything up to it is committed and
    /// applied.
    pub base: Position,
    /// The log after `base`, without a gap.
    pub entries: Vec<Entry>,
}
