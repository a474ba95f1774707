//! The four roles and what each remembers besides the member itself. Knows no messages.

use std::collections::BTreeSet;
use std::fmt;

use crate::leader::Leader;
use crate::membership::Membership;
use crate::types::NodeId;

/// What a node is at the moment (thesis §3.3; pre-candidates: §9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Takes entries from the leader, and waits.
    Follower,
    /// Asks whether a campaign could succeed, without a new term.
    PreCandidate,
    /// Asks for votes in a new term.
    Candidate,
    /// Decides the order of the log in its term.
    Leader,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Follower => "follower",
            Self::PreCandidate => "pre-candidate",
            Self::Candidate => "candidate",
            Self::Leader => "leader",
        })
    }
}

/// A role with its memory, which ends with the role.
#[derive(Debug)]
pub(crate) enum RoleState {
    Follower,
    PreCandidate(Ballot),
    Candidate(Ballot),
    Leader(Leader),
}

impl RoleState {
    pub(crate) fn role(&self) -> Role {
        match self {
            Self::Follower => Role::Follower,
            Self::PreCandidate(_) => Role::PreCandidate,
            Self::Candidate(_) => Role::Candidate,
            Self::Leader(_) => Role::Leader,
        }
    }
}

/// Who said yes. Refusals are not counted: a lost election ends with the timer or a later term.
#[derive(Debug, Default)]
pub(crate) struct Ballot {
    granted: BTreeSet<NodeId>,
}

impl Ballot {
    pub(crate) fn grant(&mut self, voter: NodeId) {
        self.granted.insert(voter);
    }

    pub(crate) fn is_won(&self, membership: &Membership) -> bool {
        membership.reached(|voter| self.granted.contains(&voter))
    }
}
