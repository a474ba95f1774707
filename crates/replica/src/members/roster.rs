//! A membership with its seats as types: what changes are computed on. Knows nothing of who is alive.

use std::collections::{BTreeMap, BTreeSet};

use quorate_raft::{Membership, NodeId};

use super::Neighbour;
use crate::seat::{ADDRESS_BYTES_MAX, Seat};

/// See the module. What is in `joining` is also in `learners`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    /// Who votes; in a joint membership the incoming ones.
    pub voters: BTreeSet<NodeId>,
    /// Who votes as well, until the change is committed; empty in a simple one.
    pub outgoing: BTreeSet<NodeId>,
    /// Who receives the log without a vote.
    pub learners: BTreeSet<NodeId>,
    /// Learners that will vote once they have caught up, and whose place each takes.
    pub joining: BTreeMap<NodeId, Option<NodeId>>,
    /// Folder and address of each member.
    pub seats: BTreeMap<NodeId, Seat>,
}

impl Roster {
    /// What this membership says. Where it knows no address, that of the neighbour is as good as any: a change writes it down.
    pub(crate) fn new(membership: &Membership, neighbours: &BTreeMap<NodeId, Neighbour>) -> Self {
        // Of a voter that comes anew with another folder, that one is meant.
        let settled = membership.settled();
        let seat = |id: NodeId| {
            let mut seat = Seat::of(&settled, id).or_else(|| Seat::of(membership, id))?;
            let is_told = |neighbour: &&Neighbour| neighbour.dialled.len() <= ADDRESS_BYTES_MAX;
            if let Some(neighbour) = neighbours.get(&id).filter(is_told).filter(|_| seat.address.is_empty()) {
                seat.address.clone_from(&neighbour.dialled);
            }
            Some((id, seat))
        };
        Self {
            voters: membership.voters().clone(),
            outgoing: membership.outgoing().clone(),
            learners: membership.learners().clone(),
            joining: membership.joining().clone(),
            seats: membership.members().into_iter().filter_map(seat).collect(),
        }
    }

    /// As consensus carries it; of a simple one.
    ///
    /// # Panics
    /// Without voters, or where a voter is a learner too.
    pub(crate) fn to_membership(&self) -> Membership {
        let mut membership = Membership::simple(self.voters.clone()).with_learners(self.learners.clone());
        for (id, replaced) in &self.joining {
            membership = membership.with_joining(*id, *replaced);
        }
        for (id, seat) in self.seats.iter().filter(|(id, _)| self.contains(**id)) {
            membership = membership.with_seat(*id, seat.to_bytes());
        }
        membership
    }

    /// Whether two sets of voters must agree.
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether it belongs to the cluster now.
    pub fn contains(&self, id: NodeId) -> bool {
        self.voters.contains(&id) || self.outgoing.contains(&id) || self.learners.contains(&id)
    }

    /// Everyone, ascending.
    pub fn members(&self) -> BTreeSet<NodeId> {
        self.voters.iter().chain(&self.outgoing).chain(&self.learners).copied().collect()
    }

    /// Who votes once all that goes on by itself is done.
    pub fn voters_in_the_end(&self) -> BTreeSet<NodeId> {
        let mut voters = self.voters.clone();
        for (id, replaced) in &self.joining {
            voters.insert(*id);
            replaced.iter().for_each(|replaced| {
                voters.remove(replaced);
            });
        }
        voters
    }

    /// The change that goes on by itself, as a sentence.
    pub fn under_way(&self) -> Option<String> {
        if self.is_joint() {
            return Some(format!(
                "the voters {} become {}",
                list(self.outgoing.iter().copied()),
                list(self.voters.iter().copied())
            ));
        }
        let (id, replaced) = self.joining.first_key_value()?;
        let place = replaced.map_or_else(String::new, |old| format!(" in the place of server {}", old.get()));
        Some(format!("server {} catches up, and will vote{place} then", id.get()))
    }
}

/// `1, 2, 3`.
pub(crate) fn list(ids: impl IntoIterator<Item = NodeId>) -> String {
    ids.into_iter().map(|id| id.get().to_string()).collect::<Vec<_>>().join(", ")
}
