//! What servers say to each other about consensus. Knows nothing of its encoding, which is
//! `quorate-replica`'s `wire`.

use std::fmt;

use crate::types::{Entry, Index, NodeId, Position, Round, Term};

/// A message and whom it is for. The sender is known to the carrier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The addressee.
    pub to: NodeId,
    /// What to deliver.
    pub message: Message,
}

/// What a node says, in which term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The sender's term; in `PreVote` and its granted reply the term it **would** campaign in.
    pub term: Term,
    /// What it says.
    pub body: Body,
}

/// The closed list of what can be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Would you vote for me in this term? Changes nothing at the receiver (thesis §9.6).
    PreVote {
        /// The last position of the sender's log.
        last: Position,
    },
    /// The answer to `PreVote`. Granted: in the term asked for; refused: in the receiver's own term.
    PreVoteReply {
        /// Whether a vote would be given.
        granted: bool,
    },
    /// Vote for me in this term (thesis §3.4).
    Vote {
        /// The last position of the sender's log.
        last: Position,
        /// The leader has asked for it ([`Self::TimeoutNow`]), so nobody is protected from it (thesis §4.2.3).
        is_transfer: bool,
    },
    /// The answer to `Vote`; a promise, so it leaves only after the vote is durable.
    VoteReply {
        /// Whether the vote is given.
        granted: bool,
    },
    /// These entries follow `run.base()`; the log is committed up to `commit` (thesis §3.5).
    Append {
        /// The entries; none when probing.
        run: Run,
        /// The leader's commit index.
        commit: Index,
    },
    /// The answer to `Append`, and to `InstallSnapshot` once nothing is missing: the sender's log equals the leader's up to `matched`, **durably**.
    Appended {
        /// The last index that is proven equal and durable.
        matched: Index,
    },
    /// The answer to an `Append` whose base the sender does not hold.
    Rejected {
        /// The base index that was refused, so that an old rejection is told from a new one.
        base: Index,
        /// The sender's highest position at or below the base whose term is not above the base's term: the
        /// leader can skip everything after it (fast back-up over conflicting terms, thesis §5.3).
        hint: Position,
    },
    /// What you need next is not in my log any more: a snapshot stands for it, up to `last` (thesis §5, figure 5.3).
    /// It carries no data: the receiver's caller pulls the bytes by a protocol of its own, so that no leader keeps
    /// the state of a transfer, and one that was interrupted goes on where it stood, with any leader that has the
    /// snapshot. Repeated until the receiver answers `Appended`, which it does at once where it needs none.
    InstallSnapshot {
        /// The last position that the snapshot stands for. It is committed.
        last: Position,
    },
    /// I lead this term, your log is as mine, and I want you to lead: campaign at once (thesis §3.10).
    TimeoutNow,
    /// I lead this term. Carries the confirmation round of reads and news of the commit index.
    Heartbeat {
        /// The latest round started; zero before the first.
        round: Round,
        /// The leader's commit index, at most what it knows the receiver to hold.
        commit: Index,
    },
    /// The answer to `Heartbeat`: in this term I followed you when I got this round's heartbeat.
    HeartbeatReply {
        /// The round of the heartbeat that is answered.
        round: Round,
        /// The sender's clock, an opaque number to consensus; see [`crate::Node::majority_clock`].
        clock: u64,
    },
}

impl Body {
    /// Whether it answers a question: only a member's answer counts.
    pub fn is_answer(&self) -> bool {
        match self {
            Self::PreVoteReply { .. }
            | Self::VoteReply { .. }
            | Self::Appended { .. }
            | Self::Rejected { .. }
            | Self::HeartbeatReply { .. } => true,
            Self::PreVote { .. }
            | Self::Vote { .. }
            | Self::Append { .. }
            | Self::InstallSnapshot { .. }
            | Self::TimeoutNow
            | Self::Heartbeat { .. } => false,
        }
    }
}

/// A run of entries that follows a base position: no gap, terms never fall. Wire data becomes this type or is
/// refused; everyone behind the gate may rely on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    base: Position,
    entries: Vec<Entry>,
}

/// Why bytes from a peer are no run of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// An index does not follow the one before it.
    Gap,
    /// A term is below the one before it.
    TermRegression,
    /// A term or index is zero, or a base has only one of both zero.
    Zero,
    /// The last index has no successor.
    Overflow,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gap => "entries with a gap between their indexes",
            Self::TermRegression => "entries whose terms fall",
            Self::Zero => "an entry or base with a zero term or index",
            Self::Overflow => "an index at the end of the number range",
        })
    }
}

impl std::error::Error for Malformed {}

impl Run {
    /// Checks that `entries` follow `base`.
    ///
    /// # Errors
    /// What rule they break.
    pub fn parse(base: Position, entries: Vec<Entry>) -> Result<Self, Malformed> {
        if (base.index == Index::ZERO) != (base.term == Term::ZERO) {
            return Err(Malformed::Zero);
        }
        let mut previous = base;
        for entry in &entries {
            if previous.index.0 == u64::MAX || entry.position.index.0 == u64::MAX {
                return Err(Malformed::Overflow);
            }
            if entry.position.index != previous.index.next() {
                return Err(Malformed::Gap);
            }
            if entry.position.term == Term::ZERO {
                return Err(Malformed::Zero);
            }
            if entry.position.term < previous.term {
                return Err(Malformed::TermRegression);
            }
            previous = entry.position;
        }
        Ok(Self { base, entries })
    }

    /// The position the entries follow.
    pub fn base(&self) -> Position {
        self.base
    }

    /// The entries, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The position of the last entry, or the base if there is none.
    pub fn last(&self) -> Position {
        self.entries.last().map_or(self.base, |entry| entry.position)
    }

    /// Takes base and entries apart.
    pub fn into_parts(self) -> (Position, Vec<Entry>) {
        (self.base, self.entries)
    }
}
