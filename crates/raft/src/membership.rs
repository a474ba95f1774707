//! Who belongs to the group, who votes, and how one such arrangement becomes the next. Knows nothing of logs or messages.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::quorum::{joint_majority, majority};
use crate::sabotage::Bug;
use crate::types::NodeId;

mod bytes_form;
mod history;

pub use bytes_form::MalformedMembership;
pub(crate) use history::Memberships;

/// Members of one group at most, voters and learners together. Seven voters are the largest sensible group; the rest is
/// room for learners.
pub const MEMBERS_MAX: usize = 64;
/// Bytes of one seat at most.
pub const SEAT_BYTES_MAX: usize = 512;

/// A configuration: simple (one set of voters) or joint (a majority of the incoming **and** of the outgoing voters
/// decides, thesis §4.3), and learners, which receive the log and never count.
///
/// Invariants:
/// - There is at least one voter, and at most [`MEMBERS_MAX`] members.
/// - No (incoming) voter is a learner. An outgoing one may be: it is demoted, and votes until the joint configuration ends.
/// - Who is joining is a learner.
/// - Seats are of members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    voters: BTreeSet<NodeId>,
    /// Empty in a simple configuration.
    outgoing: BTreeSet<NodeId>,
    learners: BTreeSet<NodeId>,
    /// Learners that become voters as soon as they have caught up, and who leaves in the same step.
    joining: BTreeMap<NodeId, Option<NodeId>>,
    seats: BTreeMap<NodeId, Bytes>,
    /// What seats the outgoing voters have as long as they vote.
    outgoing_seats: BTreeMap<NodeId, Bytes>,
}

impl Membership {
    /// One set of voters.
    ///
    /// # Panics
    /// Without voters: such a group can never decide anything.
    pub fn simple(voters: BTreeSet<NodeId>) -> Self {
        assert!(!voters.is_empty(), "a group without voters");
        Self {
            voters,
            outgoing: BTreeSet::new(),
            learners: BTreeSet::new(),
            joining: BTreeMap::new(),
            seats: BTreeMap::new(),
            outgoing_seats: BTreeMap::new(),
        }
    }

    // --- what it says ---

    /// The voters; in a joint configuration the incoming ones.
    pub fn voters(&self) -> &BTreeSet<NodeId> {
        &self.voters
    }

    /// The voters that a joint configuration is leaving behind, all of them; empty in a simple one.
    pub fn outgoing(&self) -> &BTreeSet<NodeId> {
        &self.outgoing
    }

    /// Those who receive the log without a vote.
    pub fn learners(&self) -> &BTreeSet<NodeId> {
        &self.learners
    }

    /// The learners that become voters as soon as they have caught up, each with the member that leaves in the same step.
    pub fn joining(&self) -> &BTreeMap<NodeId, Option<NodeId>> {
        &self.joining
    }

    /// What the caller knows this member by: opaque bytes, which change together with the membership. Whoever has two, a
    /// voter that is replaced by itself with another seat, has the old one as long as that votes.
    pub fn seat(&self, id: NodeId) -> Option<&Bytes> {
        self.outgoing_seats.get(&id).or_else(|| self.seats.get(&id))
    }

    /// Whether the seat of this member, if it has one, begins so.
    pub(crate) fn is_seated(&self, id: NodeId, begins: &Bytes) -> bool {
        self.seat(id).is_none_or(|seat| seat.starts_with(begins))
    }

    /// Whether two sets of voters must agree.
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether this node has a vote.
    pub fn is_voter(&self, id: NodeId) -> bool {
        self.voters.contains(&id) || self.outgoing.contains(&id)
    }

    /// Whether this node decides alone.
    pub(crate) fn is_sole_voter(&self, id: NodeId) -> bool {
        self.outgoing.is_empty() && self.voters.len() == 1 && self.voters.contains(&id)
    }

    /// Whether this node belongs to the group at all.
    pub fn contains(&self, id: NodeId) -> bool {
        self.is_voter(id) || self.learners.contains(&id)
    }

    /// Everyone, in ascending order, each once.
    pub fn members(&self) -> BTreeSet<NodeId> {
        let mut all = self.voters.clone();
        all.extend(&self.outgoing);
        all.extend(&self.learners);
        all
    }

    /// Everyone but `id`, in ascending order, each once.
    pub fn others(&self, id: NodeId) -> Vec<NodeId> {
        self.members().into_iter().filter(|other| *other != id).collect()
    }

    /// Everyone with a vote but `id`, in ascending order, each once.
    pub(crate) fn other_voters(&self, id: NodeId) -> Vec<NodeId> {
        self.members().into_iter().filter(|other| *other != id && self.is_voter(*other)).collect()
    }

    /// The highest value that a deciding majority has reached; see [`majority`].
    pub fn reached<V: Ord + Default>(&self, value_of: impl Fn(NodeId) -> V) -> V {
        if Bug::CountsLearners.is_put_back() && !self.learners.is_empty() {
            return self.reached_with_learners(value_of);
        }
        if Bug::CommitsByIncomingAlone.spoils(self.is_joint(), || false) {
            joint_majority(&self.voters, &self.outgoing, value_of)
        } else {
            majority(&self.voters, value_of)
        }
    }

    /// [`Bug::CountsLearners`]: as many as a majority of the voters, whoever they are.
    fn reached_with_learners<V: Ord + Default>(&self, value_of: impl Fn(NodeId) -> V) -> V {
        let mut values: Vec<V> = self.members().into_iter().map(value_of).collect();
        values.sort_unstable();
        let place = values.len().saturating_sub(self.voters.len() / 2 + 1);
        values.into_iter().nth(place).unwrap_or_default()
    }

    // --- what it may become; all of a simple configuration ---

    /// The same, with these learners instead of those it had; none of them is joining.
    ///
    /// # Panics
    /// If one of them votes.
    #[must_use]
    pub fn with_learners(mut self, learners: BTreeSet<NodeId>) -> Self {
        assert!(learners.iter().all(|&id| !self.voters.contains(&id)), "a learner that votes");
        self.learners = learners;
        self.joining.clear();
        self.seats.retain(|id, _| self.voters.contains(id) || self.learners.contains(id));
        self
    }

    /// The same, with `id` as a learner that becomes a voter by itself once it has caught up, in the same step in which
    /// `replaced`, if there is such a member then, leaves.
    ///
    /// # Panics
    /// If `id` is a voter, or replaces itself.
    #[must_use]
    pub fn with_joining(mut self, id: NodeId, replaced: Option<NodeId>) -> Self {
        assert!(!self.voters.contains(&id), "{id} is a voter already");
        assert!(replaced != Some(id), "{id} cannot replace itself");
        self.learners.insert(id);
        self.joining.insert(id, replaced);
        self
    }

    /// The same, with this seat of a member.
    ///
    /// # Panics
    /// If it is no member, or the seat is longer than [`SEAT_BYTES_MAX`].
    #[must_use]
    pub fn with_seat(mut self, id: NodeId, seat: Bytes) -> Self {
        assert!(
            self.voters.contains(&id) || self.learners.contains(&id),
            "a seat for {id}, who is no member"
        );
        assert!(seat.len() <= SEAT_BYTES_MAX, "a seat of {} bytes", seat.len());
        self.seats.insert(id, seat);
        self
    }

    /// The same without `id`.
    ///
    /// # Panics
    /// If it is the last voter.
    #[must_use]
    pub fn without(mut self, id: NodeId) -> Self {
        self.voters.remove(&id);
        self.learners.remove(&id);
        self.joining.remove(&id);
        self.seats.remove(&id);
        assert!(!self.voters.is_empty(), "{id} is the last voter");
        self
    }

    /// The same, with the voter `id` as a learner, which stays one.
    ///
    /// # Panics
    /// If it is no voter, or the last one.
    #[must_use]
    pub fn with_demoted(mut self, id: NodeId) -> Self {
        assert!(self.voters.remove(&id), "{id} is no voter");
        assert!(!self.voters.is_empty(), "{id} is the last voter");
        self.learners.insert(id);
        self
    }

    /// The same, with the learner `id` as a voter, and without whom it replaces.
    pub(crate) fn promoted(&self, id: NodeId) -> Self {
        let mut next = self.clone();
        let replaced = next.joining.remove(&id).flatten();
        next.learners.remove(&id);
        next.voters.insert(id);
        match replaced {
            Some(replaced) => next.without(replaced),
            None => next,
        }
    }

    /// The step between this and `target`: both sets of voters must agree.
    pub(crate) fn towards(&self, target: &Self) -> Self {
        if Bug::ChangesInOneStep.is_put_back() || self.voters == target.voters {
            return target.clone();
        }
        let outgoing_seats = self.seats.clone().into_iter().filter(|(id, _)| self.voters.contains(id));
        Self { outgoing: self.voters.clone(), outgoing_seats: outgoing_seats.collect(), ..target.clone() }
    }

    /// What a joint configuration becomes.
    #[must_use]
    pub fn settled(&self) -> Self {
        Self { outgoing: BTreeSet::new(), outgoing_seats: BTreeMap::new(), ..self.clone() }
    }

    /// Which invariant is broken.
    fn broken(&self) -> Option<&'static str> {
        let is_member = |id: &NodeId| self.voters.contains(id) || self.learners.contains(id);
        let is_seat_short = |seat: &Bytes| seat.len() <= SEAT_BYTES_MAX;
        let checks = [
            (!self.voters.is_empty(), "a group without voters"),
            (self.members().len() <= MEMBERS_MAX, "more members than a group can have"),
            (self.learners.is_disjoint(&self.voters), "a learner that votes"),
            (self.joining.keys().all(|id| self.learners.contains(id)), "who joins is no learner"),
            (
                self.joining.iter().all(|(id, replaced)| *replaced != Some(*id)),
                "a member that replaces itself",
            ),
            (self.seats.keys().all(is_member), "a seat of who is no member"),
            (self.outgoing_seats.keys().all(|id| self.outgoing.contains(id)), "a seat of who does not leave"),
            (
                self.seats.values().chain(self.outgoing_seats.values()).all(is_seat_short),
                "a seat that is too long",
            ),
        ];
        checks.into_iter().find(|(holds, _)| !holds).map(|(_, what)| what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u64) -> NodeId {
        NodeId::new(id).unwrap()
    }

    fn set(ids: &[u64]) -> BTreeSet<NodeId> {
        ids.iter().map(|&id| node(id)).collect()
    }

    fn seat(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn joint_group_needs_both_majorities() {
        let joint = Membership::simple(set(&[3, 4, 5])).towards(&Membership::simple(set(&[1, 2, 3])));
        let agree = |ids: &[u64]| {
            let yes = set(ids);
            joint.reached(|id| yes.contains(&id))
        };
        assert!(!agree(&[1, 2]));
        assert!(!agree(&[1, 2, 4]));
        assert!(agree(&[2, 3, 4]));
        assert!(joint.is_joint());
        assert_eq!(joint.settled(), Membership::simple(set(&[1, 2, 3])));
    }

    #[test]
    fn learners_belong_but_never_count() {
        let group = Membership::simple(set(&[1, 2, 3])).with_learners(set(&[4]));
        assert!(group.contains(node(4)));
        assert!(!group.is_voter(node(4)));
        assert!(!group.reached(|id| id.get() >= 3));
        assert_eq!(group.others(node(1)), [node(2), node(3), node(4)]);
        assert_eq!(group.other_voters(node(1)), [node(2), node(3)]);
    }

    #[test]
    fn a_promoted_learner_takes_the_place_of_whom_it_replaces() {
        let group = Membership::simple(set(&[1, 2, 3])).with_joining(node(4), Some(node(3)));
        assert_eq!(group.promoted(node(4)), Membership::simple(set(&[1, 2, 4])));
        // Whom it replaces may be gone by then.
        let group = group.without(node(3));
        assert_eq!(group.promoted(node(4)), Membership::simple(set(&[1, 2, 4])));
    }

    #[test]
    fn a_voter_that_comes_anew_has_its_old_seat_as_long_as_that_votes() {
        let old = Membership::simple(set(&[1, 2, 3])).with_seat(node(3), seat("old"));
        let target = old.clone().without(node(3)).with_joining(node(3), None).with_seat(node(3), seat("new"));
        let joint = old.towards(&target);
        assert_eq!(joint.seat(node(3)), Some(&seat("old")));
        assert!(joint.is_voter(node(3)));
        assert_eq!(joint.settled().seat(node(3)), Some(&seat("new")));
        assert!(!joint.settled().is_voter(node(3)));
    }

    #[test]
    fn a_change_without_other_voters_is_one_step() {
        let old = Membership::simple(set(&[1, 2]));
        let target = old.clone().with_joining(node(3), None);
        assert_eq!(old.towards(&target), target);
    }
}
