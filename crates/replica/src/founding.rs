//! How the founding members of a cluster come to one list of who they are. Knows nothing of consensus.
//!
//! Each data folder draws an incarnation. The members tell each other, again and again, whom they have seen; a member is
//! founded once **every** other member has reported the very list it holds itself. A folder is founded once, so two lists
//! could only both reach a majority if a member's report of one were older than its founding under the other: therefore
//! an incarnation that was replaced by a newer one is never believed again.

use std::collections::{BTreeMap, BTreeSet};

use quorate_raft::NodeId;
use quorate_storage::{Incarnation, Member};

use crate::sabotage::Bug;

/// What a member that is not founded knows of the others.
#[derive(Debug)]
pub(crate) struct Founding {
    id: NodeId,
    members: BTreeSet<NodeId>,
    seen: BTreeMap<NodeId, Incarnation>,
    replaced: BTreeSet<(NodeId, Incarnation)>,
    reports: BTreeMap<NodeId, Vec<(NodeId, Incarnation)>>,
}

impl Founding {
    pub(crate) fn new(id: NodeId, incarnation: Incarnation, members: BTreeSet<NodeId>) -> Self {
        let seen = BTreeMap::from([(id, incarnation)]);
        Self { id, members, seen, replaced: BTreeSet::new(), reports: BTreeMap::new() }
    }

    /// Whom this member has seen, ascending.
    pub(crate) fn seen(&self) -> Vec<(NodeId, Incarnation)> {
        self.seen.iter().map(|(id, incarnation)| (*id, *incarnation)).collect()
    }

    /// Whom it still waits for: not seen, or not known to have seen everyone.
    pub(crate) fn missing(&self) -> Vec<NodeId> {
        let seen = self.seen();
        let has_agreed = |id: &NodeId| *id == self.id || self.reports.get(id) == Some(&seen);
        self.members.iter().filter(|id| !self.seen.contains_key(id) || !has_agreed(id)).copied().collect()
    }

    /// Another member says who it is and whom it has seen.
    pub(crate) fn on_report(
        &mut self,
        from: NodeId,
        incarnation: Incarnation,
        seen: Vec<(NodeId, Incarnation)>,
    ) {
        if self.replaced.contains(&(from, incarnation)) {
            return;
        }
        if let Some(old) = self.seen.insert(from, incarnation).filter(|old| *old != incarnation) {
            self.replaced.insert((from, old));
        }
        self.reports.insert(from, seen);
    }

    /// The founding list, once all agree on it.
    pub(crate) fn agreed(&self) -> Option<Vec<Member>> {
        let is_complete = self.seen.keys().eq(self.members.iter()) && self.missing().is_empty();
        is_complete.then(|| as_members(&self.seen()))
    }

    /// The list that a founded member sends, if this folder is in it: then this member, or an earlier process on the
    /// same folder, has agreed to it.
    pub(crate) fn adopt(&self, members: &[(NodeId, Incarnation)]) -> Option<Vec<Member>> {
        let ids_agree = members.iter().map(|(id, _)| id).eq(self.members.iter());
        let own = self.seen.get(&self.id).copied();
        let holds_this = members.iter().any(|(id, incarnation)| *id == self.id && Some(*incarnation) == own);
        if ids_agree && Bug::TakesEmptyFolders.is_put_back() {
            let own = |id: &NodeId| (*id == self.id).then(|| self.seen[id]);
            let known = members.iter().map(|(id, other)| (*id, own(id).unwrap_or(*other)));
            return Some(as_members(&known.collect::<Vec<_>>()));
        }
        (ids_agree && holds_this).then(|| as_members(members))
    }
}

fn as_members(list: &[(NodeId, Incarnation)]) -> Vec<Member> {
    list.iter().map(|(id, incarnation)| Member { id: *id, incarnation: *incarnation }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> NodeId {
        NodeId::new(number).unwrap()
    }

    fn of(number: u64, incarnation: u64) -> (NodeId, Incarnation) {
        (id(number), Incarnation(incarnation))
    }

    fn founding() -> Founding {
        Founding::new(id(1), Incarnation(10), BTreeSet::from([id(1), id(2), id(3)]))
    }

    #[test]
    fn agreed_only_when_every_member_reports_the_whole_list() {
        let mut founding = founding();
        let all = vec![of(1, 10), of(2, 20), of(3, 30)];
        founding.on_report(id(2), Incarnation(20), all.clone());
        assert_eq!(founding.missing(), [id(2), id(3)]);
        founding.on_report(id(3), Incarnation(30), vec![of(1, 10), of(3, 30)]);
        assert_eq!((founding.agreed(), founding.missing()), (None, vec![id(3)]));
        founding.on_report(id(3), Incarnation(30), all.clone());
        assert_eq!(founding.agreed(), Some(as_members(&all)));
    }

    #[test]
    fn a_replaced_incarnation_is_never_believed_again() {
        let mut founding = founding();
        let old = vec![of(1, 10), of(2, 20), of(3, 30)];
        founding.on_report(id(2), Incarnation(20), old.clone());
        founding.on_report(id(2), Incarnation(21), vec![of(2, 21)]);
        founding.on_report(id(2), Incarnation(20), old.clone());
        founding.on_report(id(3), Incarnation(30), old);
        assert_eq!(founding.agreed(), None);
    }

    #[test]
    fn a_list_without_this_folder_is_not_adopted() {
        let founding = founding();
        assert_eq!(founding.adopt(&[of(1, 11), of(2, 20), of(3, 30)]), None);
        assert_eq!(founding.adopt(&[of(1, 10), of(2, 20)]), None);
        assert!(founding.adopt(&[of(1, 10), of(2, 20), of(3, 30)]).is_some());
    }

    #[test]
    fn a_single_member_agrees_with_itself() {
        assert!(Founding::new(id(1), Incarnation(1), BTreeSet::from([id(1)])).agreed().is_some());
    }
}
