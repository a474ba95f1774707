//! Which membership counts: the latest in the log, committed or not (thesis §4.1). Knows of the log only where the entries
//! that hold one stand.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::Membership;
use crate::sabotage::Bug;
use crate::types::{Entry, Index, NodeId, Payload};

/// The memberships of one log.
///
/// Invariants:
/// - Indexes ascend, and the first is at or below the commit index: it can never be undone.
/// - Each is that of an entry of the log; the first may be that of a snapshot, or the founding one at index 0.
#[derive(Clone, Debug)]
pub(crate) struct Memberships {
    /// What counts where neither log nor snapshot says otherwise.
    founding: Arc<Membership>,
    known: VecDeque<(Index, Arc<Membership>)>,
}

impl Memberships {
    /// Behind a snapshot at `index`, which may name one, or none.
    pub(crate) fn new(founding: Membership, index: Index, snapshot: Option<Arc<Membership>>) -> Self {
        let founding = Arc::new(founding);
        let mut memberships = Self { founding, known: VecDeque::new() };
        memberships.reset(index, snapshot);
        memberships
    }

    /// The log begins anew at a snapshot.
    pub(crate) fn reset(&mut self, index: Index, snapshot: Option<Arc<Membership>>) {
        let first = match snapshot {
            Some(membership) => (index, membership),
            None => (Index::ZERO, Arc::clone(&self.founding)),
        };
        self.known = VecDeque::from([first]);
    }

    /// The one that counts.
    pub(crate) fn latest(&self) -> &Arc<Membership> {
        &self.known.back().expect("there is always one").1
    }

    /// Where the one that counts stands.
    pub(crate) fn latest_index(&self) -> Index {
        self.known.back().expect("there is always one").0
    }

    /// Whether `id` votes in the one that counts, or in one that it may still come back to. As long as a change is not
    /// committed whoever it takes the vote from may be needed for an election: it may be the only one that holds the
    /// change, and nobody is elected with less (thesis §4.2.2, figure 4.6).
    pub(crate) fn may_need(&self, id: NodeId, seat: &Bytes) -> bool {
        let votes = |membership: &Membership| membership.is_voter(id) && membership.is_seated(id, seat);
        let needed = self.known.iter().any(|(_, membership)| votes(membership));
        Bug::SilencesOutgoing.spoils(needed, || votes(self.latest()))
    }

    /// Entries have come to the end of the log.
    pub(crate) fn append(&mut self, entries: &[Entry]) {
        for entry in entries {
            if let Payload::Membership(membership) = &entry.payload
                && entry.position.index > self.latest_index()
            {
                self.known.push_back((entry.position.index, Arc::clone(membership)));
            }
        }
    }

    /// The tail of the log from `first` on is gone.
    pub(crate) fn truncate_from(&mut self, first: Index) {
        while self.known.len() > 1 && self.latest_index() >= first {
            self.known.pop_back();
        }
        assert!(self.latest_index() < first, "the membership of {} was undone", self.latest_index());
    }

    /// All up to `commit` is committed: nobody comes back to what is before the last one up to there.
    pub(crate) fn committed(&mut self, commit: Index) {
        while self.known.get(1).is_some_and(|(index, _)| *index <= commit) {
            self.known.pop_front();
        }
    }
}
