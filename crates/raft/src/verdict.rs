//! What becomes of a message from a peer. Peers are weather: what they send wrong is dropped and counted, and
//! never stops a node.

use std::collections::BTreeMap;
use std::fmt;

/// The answer to: was this message taken?
pub(crate) type Verdict = Result<(), DropReason>;

/// Why a message was dropped. Some are ordinary (an old term after an election); some say that a peer or the
/// carrier is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DropReason {
    /// It answers, and is not in the configuration; or it is this node.
    UnknownSender,
    /// The message is of an earlier term.
    StaleTerm,
    /// A campaign while the leader is well (thesis §4.2.3).
    LeaderIsLively,
    /// An answer to a question that this node, in its present role, has not asked.
    NotAsked,
    /// A rejection of an append that has been overtaken.
    StaleRejection,
    /// Somebody else leads this term. Broken.
    SecondLeader,
    /// It contradicts an entry that is committed. Broken.
    ContradictsCommitted,
    /// It names an index that cannot be: a log end, a commit index or a round beyond the real one. Broken.
    BeyondLog,
    /// Its entries are of a later term than itself. Broken.
    TermAhead,
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownSender => "unknown sender",
            Self::StaleTerm => "stale term",
            Self::LeaderIsLively => "the leader is lively",
            Self::NotAsked => "not asked",
            Self::StaleRejection => "stale rejection",
            Self::SecondLeader => "a second leader in one term",
            Self::ContradictsCommitted => "contradicts what is committed",
            Self::BeyondLog => "beyond the log",
            Self::TermAhead => "entries ahead of their message's term",
        })
    }
}

/// How many messages were dropped, by reason, since the start of the process.
pub type Dropped = BTreeMap<DropReason, u64>;
