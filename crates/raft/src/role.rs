//! The four roles and what each remembers besides the member itself. Knows no messages.

use std::collections::BTreeSet;
use std::fmt;

use crate::canonical::Words;
use crate::leader::Leader;
use crate::member::Member;
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
#[derive(Clone, Debug)]
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

    pub(crate) fn canonical(&self, member: &Member, words: &mut Words<'_>) {
        words.number(self.role() as u64);
        match self {
            Self::Follower => {}
            Self::PreCandidate(ballot) | Self::Candidate(ballot) => ballot.canonical(words),
            Self::Leader(leader) => leader.canonical(member, words),
        }
    }
}

/// Who said yes. Refusals are not counted: a lost election ends with the timer, which they shorten once, or a later term.
#[derive(Clone, Debug, Default)]
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

    fn canonical(&self, words: &mut Words<'_>) {
        let granted: BTreeSet<NodeId> = self.granted.iter().map(|&id| words.renamed(id)).collect();
        words.length(granted.len());
        granted.iter().for_each(|id| words.number(id.get()));
    }
}
