//! How the founding members of a cluster come to one list of who they are. Knows nothing of consensus.
//!
//! Each data folder draws an incarnation. The members tell each other, again and again, whom they have seen; a member is
//! founded once **every** other member has reported the very list it holds itself. A folder is founded once, so two lists
//! could only both reach a majority if a member's report of one were older than its founding under the other: therefore
//! an incarnation that was replaced by a newer one is never believed again.
//!
//! A folder that was restored from a backup says which, and a member agrees with those alone that begin with the same state.
//! An incarnation is drawn together with the state it begins with, so who agrees on the one has agreed on the other.

use std::collections::{BTreeMap, BTreeSet};

use quorate_raft::NodeId;
use quorate_storage::{Incarnation, Member, Origin};

use crate::sabotage::Bug;

/// What a member that is not founded knows of the others.
#[derive(Debug)]
pub(crate) struct Founding {
    id: NodeId,
    members: BTreeSet<NodeId>,
    /// What this folder was restored from.
    origin: Option<Origin>,
    /// What the others say of theirs.
    origins: BTreeMap<NodeId, Option<Origin>>,
    seen: BTreeMap<NodeId, Incarnation>,
    replaced: BTreeSet<(NodeId, Incarnation)>,
    reports: BTreeMap<NodeId, Vec<(NodeId, Incarnation)>>,
}

impl Founding {
    pub(crate) fn new(
        (id, incarnation): (NodeId, Incarnation),
        origin: Option<Origin>,
        members: BTreeSet<NodeId>,
    ) -> Self {
        let seen = BTreeMap::from([(id, incarnation)]);
        let (origins, reports) = (BTreeMap::new(), BTreeMap::new());
        Self { id, members, origin, origins, seen, replaced: BTreeSet::new(), reports }
    }

    /// What this folder was restored from.
    pub(crate) fn origin(&self) -> Option<Origin> {
        self.origin
    }

    /// Whom this member has seen, ascending.
    pub(crate) fn seen(&self) -> Vec<(NodeId, Incarnation)> {
        self.seen.iter().map(|(id, incarnation)| (*id, *incarnation)).collect()
    }

    /// Whom it still waits for: not seen, or not known to have seen everyone.
    pub(crate) fn missing(&self) -> Vec<NodeId> {
        let seen = self.seen();
        let has_agreed =
            |id: &NodeId| *id == self.id || self.reports.get(id) == Some(&seen) && self.begins_as_here(*id);
        self.members.iter().filter(|id| !self.seen.contains_key(id) || !has_agreed(id)).copied().collect()
    }

    /// Whether this member, which was heard, begins with the same state.
    fn begins_as_here(&self, id: NodeId) -> bool {
        self.origins.get(&id) == Some(&self.origin)
    }

    /// Why this cluster cannot be founded: the members that were heard do not all begin with the same state.
    pub(crate) fn conflict(&self) -> Option<String> {
        let (other, theirs) = self.origins.iter().find(|(id, _)| !self.begins_as_here(**id))?;
        let name = |origin: &Option<Origin>| match origin {
            None => "has begun with an empty folder".to_owned(),
            Some(origin) => format!("was restored from {origin}"),
        };
        Some(format!(
            "server {} {}, and this one, server {}, {}: all members of a new cluster must be restored from one backup, or \
             none. Stop the one that is wrong, and restore it into an empty folder",
            other.get(),
            name(theirs),
            self.id.get(),
            name(&self.origin),
        ))
    }

    /// Another member says who it is, whom it has seen, and what it was restored from.
    pub(crate) fn on_report(
        &mut self,
        (from, incarnation): (NodeId, Incarnation),
        origin: Option<Origin>,
        seen: Vec<(NodeId, Incarnation)>,
    ) {
        if self.replaced.contains(&(from, incarnation)) {
            return;
        }
        if let Some(old) = self.seen.insert(from, incarnation).filter(|old| *old != incarnation) {
            self.replaced.insert((from, old));
        }
        self.origins.insert(from, origin);
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
        Founding::new(of(1, 10), None, BTreeSet::from([id(1), id(2), id(3)]))
    }

    #[test]
    fn agreed_only_when_every_member_reports_the_whole_list() {
        let mut founding = founding();
        let all = vec![of(1, 10), of(2, 20), of(3, 30)];
        founding.on_report(of(2, 20), None, all.clone());
        assert_eq!(founding.missing(), [id(2), id(3)]);
        founding.on_report(of(3, 30), None, vec![of(1, 10), of(3, 30)]);
        assert_eq!((founding.agreed(), founding.missing()), (None, vec![id(3)]));
        founding.on_report(of(3, 30), None, all.clone());
        assert_eq!(founding.agreed(), Some(as_members(&all)));
    }

    #[test]
    fn a_replaced_incarnation_is_never_believed_again() {
        let mut founding = founding();
        let old = vec![of(1, 10), of(2, 20), of(3, 30)];
        founding.on_report(of(2, 20), None, old.clone());
        founding.on_report(of(2, 21), None, vec![of(2, 21)]);
        founding.on_report(of(2, 20), None, old.clone());
        founding.on_report(of(3, 30), None, old);
        assert_eq!(founding.agreed(), None);
    }

    fn origin(digest: u64) -> Origin {
        let position = quorate_raft::Position::new(quorate_raft::Term(1), quorate_raft::Index(2));
        Origin { cluster: quorate_storage::ClusterId::new(9).unwrap(), position, digest }
    }

    #[test]
    fn members_that_begin_differently_never_agree() {
        let all = vec![of(1, 10), of(2, 20)];
        let members = BTreeSet::from([id(1), id(2)]);
        for (ours, theirs) in
            [(Some(origin(5)), None), (None, Some(origin(5))), (Some(origin(5)), Some(origin(6)))]
        {
            let mut founding = Founding::new(of(1, 10), ours, members.clone());
            founding.on_report(of(2, 20), theirs, all.clone());
            assert_eq!((founding.agreed(), founding.missing()), (None, vec![id(2)]));
            assert!(founding.conflict().is_some_and(|text| text.contains("server 2 ")));
            // Its folder was made anew.
            founding.on_report(of(2, 21), ours, vec![of(1, 10), of(2, 21)]);
            assert_eq!(founding.conflict(), None);
            assert!(founding.agreed().is_some());
        }
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
        assert!(Founding::new(of(1, 1), None, BTreeSet::from([id(1)])).agreed().is_some());
    }
}
