//! A membership with its seats as types: what changes are computed on. Knows nothing of who is alive.

use std::collections::{BTreeMap, BTreeSet};

use quorate_raft::NodeId;
use quorate_storage::Incarnation;

/// The place of a member: the folder that it takes part with, and where the others dial it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Which folder.
    pub incarnation: Incarnation,
    /// The address of its port for servers; empty where it is not known.
    pub address: Box<str>,
}

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
