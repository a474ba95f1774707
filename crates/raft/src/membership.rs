//! Who belongs to the group and who votes. Knows nothing of logs or messages.

use std::collections::BTreeSet;

use crate::quorum::{joint_majority, majority};
use crate::types::NodeId;

/// A configuration: simple (one set of voters) or joint (a majority of the incoming **and** of the outgoing
/// voters decides, thesis §4.3), and learners, which receive the log and never vote.
///
/// Invariants: there is at least one voter; no voter is a learner.
///
/// Only simple configurations without learners are used so far: the membership is fixed at founding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    voters: BTreeSet<NodeId>,
    /// Empty in a simple configuration.
    outgoing: BTreeSet<NodeId>,
    learners: BTreeSet<NodeId>,
}

impl Membership {
    /// One set of voters.
    ///
    /// # Panics
    /// Without voters: such a group can never decide anything.
    pub fn simple(voters: BTreeSet<NodeId>) -> Self {
        assert!(!voters.is_empty(), "a group without voters");
        Self { voters, outgoing: BTreeSet::new(), learners: BTreeSet::new() }
    }

    /// The step between two sets of voters: both must agree.
    ///
    /// # Panics
    /// If either set is empty.
    pub fn joint(incoming: BTreeSet<NodeId>, outgoing: BTreeSet<NodeId>) -> Self {
        assert!(!incoming.is_empty() && !outgoing.is_empty(), "a joint group without voters on one side");
        Self { voters: incoming, outgoing, learners: BTreeSet::new() }
    }

    /// The same, with these learners besides.
    ///
    /// # Panics
    /// If a learner votes.
    #[must_use]
    pub fn with_learners(mut self, learners: BTreeSet<NodeId>) -> Self {
        assert!(learners.iter().all(|&id| !self.is_voter(id)), "a learner that votes");
        self.learners = learners;
        self
    }

    /// The voters; in a joint configuration the incoming ones.
    pub fn voters(&self) -> &BTreeSet<NodeId> {
        &self.voters
    }

    /// Those who receive the log without a vote.
    pub fn learners(&self) -> &BTreeSet<NodeId> {
        &self.learners
    }

    /// Whether two sets of voters must agree.
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether this node has a vote.
    pub fn is_voter(&self, id: NodeId) -> bool {
        self.voters.contains(&id) || self.outgoing.contains(&id)
    }

    /// Whether this node belongs to the group at all.
    pub fn contains(&self, id: NodeId) -> bool {
        self.is_voter(id) || self.learners.contains(&id)
    }

    /// Everyone but `id`, in ascending order, each once.
    pub fn others(&self, id: NodeId) -> Vec<NodeId> {
        let mut all = self.voters.clone();
        all.extend(&self.outgoing);
        all.extend(&self.learners);
        all.remove(&id);
        all.into_iter().collect()
    }

    /// The highest value that a deciding majority has reached; see [`majority`].
    pub fn reached<V: Ord + Default>(&self, value_of: impl Fn(NodeId) -> V) -> V {
        if self.is_joint() {
            joint_majority(&self.voters, &self.outgoing, value_of)
        } else {
            majority(&self.voters, value_of)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ids: &[u64]) -> BTreeSet<NodeId> {
        ids.iter().map(|&id| NodeId::new(id).unwrap()).collect()
    }

    #[test]
    fn joint_group_needs_both_majorities() {
        let joint = Membership::joint(set(&[1, 2, 3]), set(&[3, 4, 5]));
        let agree = |ids: &[u64]| {
            let yes = set(ids);
            joint.reached(|id| yes.contains(&id))
        };
        assert!(!agree(&[1, 2]));
        assert!(!agree(&[1, 2, 4]));
        assert!(agree(&[2, 3, 4]));
        assert!(joint.is_joint());
    }

    #[test]
    fn learners_belong_but_never_count() {
        let group = Membership::simple(set(&[1, 2, 3])).with_learners(set(&[4]));
        assert!(group.contains(NodeId::new(4).unwrap()));
        assert!(!group.is_voter(NodeId::new(4).unwrap()));
        assert!(!group.reached(|id| id.get() >= 3));
        let others: Vec<u64> = group.others(NodeId::new(1).unwrap()).iter().map(|id| id.get()).collect();
        assert_eq!(others, [2, 3, 4]);
    }
}
