//! `MEMBERS`: who belongs to the cluster, and how that is changed: what can be asked, and what is answered. Knows nothing of
//! consensus's messages, nor of how an answer is written.

use std::collections::BTreeMap;
use std::fmt;

use quorate_raft::NodeId;
use quorate_storage::Incarnation;

mod plan;
mod roster;

pub(crate) use plan::{Planned, Refused, View, Waiting, plan};
pub use roster::Roster;

/// Voters of a cluster at most: each write is synced by a majority of them.
pub const VOTERS_MAX: usize = 7;
/// Learners of a cluster at most: the leader sends each of them the whole log.
pub const LEARNERS_MAX: usize = 7;

/// One `MEMBERS …`, with what the shell knows of the servers around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembersCall {
    /// What is asked for.
    pub ask: MembersAsk,
    /// This server and all others that it has heard of.
    pub neighbours: BTreeMap<NodeId, Neighbour>,
}

/// What a `MEMBERS …` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MembersAsk {
    /// `MEMBERS LIST`.
    List,
    /// The others.
    Change {
        /// Which.
        change: Change,
        /// Also if a majority of the new voters would not be alive and caught up.
        is_forced: bool,
    },
}

/// A change of who belongs to the cluster, or of who leads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new voter: a learner until it has caught up.
    Add {
        /// Who.
        id: NodeId,
        /// Where the others dial it.
        address: Box<str>,
    },
    /// No member any more.
    Remove {
        /// Who.
        id: NodeId,
    },
    /// A new voter takes the place of another one, in one step, once it has caught up.
    Replace {
        /// Who goes.
        old: NodeId,
        /// Who comes.
        new: NodeId,
        /// Where the others dial the one who comes.
        address: Box<str>,
    },
    /// The same id on a new folder.
    Rebuild {
        /// Who.
        id: NodeId,
    },
    /// A learner votes, once it has caught up.
    Promote {
        /// Who.
        id: NodeId,
    },
    /// A voter becomes a learner.
    Demote {
        /// Who.
        id: NodeId,
    },
    /// Another server leads.
    Transfer {
        /// Who; `None` for whoever is furthest.
        to: Option<NodeId>,
    },
    /// The others dial a member elsewhere.
    SetAddress {
        /// Whom.
        id: NodeId,
        /// Where.
        address: Box<str>,
    },
}

/// What is known of a server, the one that is asked among them, besides what the log says. Empty text: not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Neighbour {
    /// Where this server dials it.
    pub dialled: Box<str>,
    /// Where clients find it.
    pub client: Box<str>,
    /// Which program it runs.
    pub version: Box<str>,
}

/// The answer to a `MEMBERS …` that is no error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MembersReply {
    /// To `MEMBERS LIST`.
    Report(Box<MembersReport>),
    /// To a change.
    Change {
        /// How far it is.
        stage: ChangeStage,
        /// The index of the membership that holds it, or of the latest one.
        index: u64,
        /// What changes, with the quorum before and after; sentences.
        says: Vec<String>,
    },
}

/// How far a change is when it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeStage {
    /// It is as it was asked for already, and committed.
    Done,
    /// The same change is under way already.
    UnderWay,
    /// It begins with this call. It stands in the leader's log, and may still be undone by a change of leader.
    Begun,
}

/// Whether a member does its part, as the leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Alive, and it has all but the newest of the log.
    Up,
    /// Silent.
    Down,
    /// Alive, but much of the log is missing there.
    Behind,
    /// It is there, on a folder that is not the one the cluster knows.
    Refused,
}

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It votes, and goes on voting.
    Voter,
    /// It votes until the change under way is committed.
    Outgoing,
    /// It receives the log, and will vote once it has caught up.
    Joining,
    /// It receives the log.
    Learner,
}

/// The members, as their leader sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembersReport {
    /// Who leads, and answers.
    pub leader: NodeId,
    /// Its term.
    pub term: u64,
    /// Its commit index.
    pub commit: u64,
    /// The index of the entry that brought the latest membership; 0 for the founding one.
    pub index: u64,
    /// Votes that it takes.
    pub quorum: u64,
    /// Voters.
    pub voters: u64,
    /// Voters that may fail while the others go on.
    pub faults: u64,
    /// The change under way, as a sentence; empty if there is none.
    pub change: String,
    /// Who is to lead, while leadership is handed over.
    pub transfer: Option<NodeId>,
    /// The members, ascending.
    pub members: Vec<MemberRow>,
    /// Who waits to be added or rebuilt, ascending.
    pub waiting: Vec<WaitingRow>,
    /// What an operator should know besides; sentences.
    pub notes: Vec<String>,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberRow {
    /// Who.
    pub id: NodeId,
    /// Which folder.
    pub incarnation: Incarnation,
    /// Whether it leads.
    pub is_leader: bool,
    /// What it is.
    pub standing: Standing,
    /// Whom it replaces once it has caught up.
    pub replaces: Option<NodeId>,
    /// Whether it does its part.
    pub health: Health,
    /// The last index known to be durable there.
    pub matched: u64,
    /// How many committed entries it lacks.
    pub lag: u64,
    /// Milliseconds since it was heard.
    pub seen_ms: u64,
    /// Bytes so far, and all, of a snapshot that the leader sends it.
    pub snapshot: Option<(u64, u64)>,
    /// Where the others dial it.
    pub address: Box<str>,
    /// Where clients find it.
    pub client: Box<str>,
    /// Which program it runs.
    pub version: Box<str>,
}

/// One server that is no member, or not with the folder that it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingRow {
    /// Who.
    pub id: NodeId,
    /// Which folder.
    pub incarnation: Incarnation,
    /// Where it says that it is dialled.
    pub address: Box<str>,
    /// Milliseconds since it was heard.
    pub seen_ms: u64,
    /// The command that lets it in.
    pub command: String,
}

/// Votes that so many voters need.
pub fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

/// How many of so many voters may fail.
pub fn faults_borne(voters: usize) -> usize {
    voters.saturating_sub(1) / 2
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Behind => "behind",
            Self::Refused => "refused",
        })
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Voter => "voter",
            Self::Outgoing => "outgoing",
            Self::Joining => "joining",
            Self::Learner => "learner",
        })
    }
}

impl fmt::Display for ChangeStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done => "done",
            Self::UnderWay => "under-way",
            Self::Begun => "begun",
        })
    }
}
