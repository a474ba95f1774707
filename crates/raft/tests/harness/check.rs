//! The invariants of Raft (thesis figure 3.2), and that no promise leaves before it is on the disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_raft::{
    Body, Entry, HardState, Index, Membership, Message, Node, NodeId, Payload, Position, Role, Term,
};

use super::Disk;

/// What has been seen of a group since its start.
#[derive(Default)]
pub(crate) struct Checker {
    leaders: BTreeMap<Term, NodeId>,
    /// Every entry ever committed, and the term in which it was first seen committed.
    committed: BTreeMap<Index, (Entry, Term)>,
    /// Per node: term, commit, applied.
    marks: BTreeMap<NodeId, (Term, Index, Index)>,
}

impl Checker {
    /// Commit and applied are learned again beyond the snapshot, and a term that was not durable is forgotten.
    pub(crate) fn on_start(&mut self, id: NodeId, node: &Node) {
        let Position { index, .. } = node.snapshot();
        assert_eq!((node.commit(), node.applied()), (index, index), "{id} starts where its snapshot is");
        self.marks.insert(id, (Term::ZERO, index, index));
    }

    /// A snapshot is of what is committed, unless all of it was done before the story begins.
    pub(crate) fn on_install(&self, last: Position) {
        let known = self.committed.get(&last.index).map(|(entry, _)| entry.position);
        assert_eq!(known.unwrap_or(last), last, "a snapshot of what was never committed");
    }

    /// The last membership that was committed up to here, if it was not that of the founding.
    pub(crate) fn membership_at(&self, index: Index) -> Option<Arc<Membership>> {
        self.committed.range(..=index).rev().find_map(|(_, (entry, _))| match &entry.payload {
            Payload::Membership(membership) => Some(Arc::clone(membership)),
            Payload::Noop | Payload::Data(_) => None,
        })
    }

    pub(crate) fn last_committed(&self) -> Index {
        self.committed.last_key_value().map(|(index, _)| *index).unwrap_or_default()
    }

    pub(crate) fn on_step(&mut self, id: NodeId, node: &Node, install: Option<Position>, apply: &[Entry]) {
        self.monotonic(id, node, install, apply);
        assert!(node.snapshot().index <= node.commit());
        assert!(node.base().index <= node.snapshot().index.max(node.applied()));
        let is_gone = node.snapshot().index < node.base().index;
        assert!(is_gone || node.term_at(node.snapshot().index) == Some(node.snapshot().term));
        self.state_machine_safety(id, node, apply);
        if node.role() == Role::Leader {
            self.election_safety(id, node);
        }
    }

    fn monotonic(&mut self, id: NodeId, node: &Node, install: Option<Position>, apply: &[Entry]) {
        let (term, commit, mut applied) = self.marks.get(&id).copied().unwrap_or_default();
        assert!(node.term() >= term, "{id}: the term fell");
        assert!(node.commit() >= commit, "{id}: the commit index fell");
        if let Some(snapshot) = install {
            assert!(snapshot.index > applied, "{id} installs {snapshot} over {applied}");
            applied = snapshot.index;
        }
        for entry in apply {
            assert_eq!(entry.position.index, applied.next(), "{id}: applied out of order");
            applied = entry.position.index;
        }
        assert_eq!(applied, node.applied());
        assert!(applied <= node.commit(), "{id}: applied more than is committed");
        assert!(node.commit() <= node.last().index);
        assert!(node.durable() <= node.last().index);
        self.marks.insert(id, (node.term(), node.commit(), applied));
    }

    fn state_machine_safety(&mut self, id: NodeId, node: &Node, apply: &[Entry]) {
        for entry in apply {
            let known = self.committed.entry(entry.position.index).or_insert((entry.clone(), node.term()));
            assert_eq!(&known.0, entry, "{id} applied another entry");
        }
    }

    /// One leader a term, and it holds every entry that was committed in an earlier term.
    fn election_safety(&mut self, id: NodeId, node: &Node) {
        let known = *self.leaders.entry(node.term()).or_insert(id);
        assert_eq!(known, id, "two leaders in term {}", node.term());
        let Some((&last, _)) = self.committed.last_key_value() else { return };
        let from = Index(last.0.saturating_sub(8));
        for (index, (entry, term)) in self.committed.range(from..) {
            if *term < node.term() && *index > node.base().index {
                assert_eq!(node.entry(*index), Some(entry), "leader {id} lacks a committed entry");
            }
        }
    }

    /// Whatever leaves must be held by the disk, were it cut off at this instant.
    pub(crate) fn on_send(
        &self,
        from: NodeId,
        to: NodeId,
        message: &Message,
        disk: &Disk,
        node: Option<&Node>,
    ) {
        let HardState { term, vote } = disk.hard_state;
        match &message.body {
            Body::PreVote { .. } | Body::PreVoteReply { granted: true } => return,
            Body::Vote { .. } => {
                assert!(
                    term > message.term || vote == Some(from),
                    "{from} campaigns before its own vote is durable"
                );
            }
            Body::VoteReply { granted: true } => {
                assert!(
                    term > message.term || vote == Some(to),
                    "{from} promised a vote that is not durable"
                );
            }
            // Once the node has gone on to a later term the entries may have been replaced: then this is a
            // promise that was kept until that term, like one that was long on its way.
            Body::Appended { matched } => {
                let is_later = node.is_none_or(|node| node.term() > message.term);
                // What has left the memory is committed, and the disk's own word is all that there is.
                let is_gone = node.is_some_and(|node| *matched < node.base().index);
                let in_memory = node.and_then(|node| node.term_at(*matched));
                let on_disk = disk.term_at(*matched);
                let is_held =
                    *matched <= disk.snapshot.index || on_disk == in_memory || is_gone && on_disk.is_some();
                assert!(is_later || is_held, "{from} acknowledged {matched} before it is durable");
            }
            Body::PreVoteReply { granted: false }
            | Body::VoteReply { granted: false }
            | Body::Append { .. }
            | Body::InstallSnapshot { .. }
            | Body::TimeoutNow
            | Body::Rejected { .. }
            | Body::Heartbeat { .. }
            | Body::HeartbeatReply { .. } => {}
        }
        assert!(term >= message.term, "{from} spoke in term {} before it is durable", message.term);
    }

    /// Two logs that hold an entry of the same position are equal up to it.
    pub(crate) fn log_matching(nodes: &[&Node]) {
        for (place, one) in nodes.iter().enumerate() {
            for other in &nodes[place + 1..] {
                let base = one.base().index.max(other.base().index);
                let mut index = one.last().index.min(other.last().index);
                while index > base && one.term_at(index) != other.term_at(index) {
                    index = index.previous();
                }
                if index <= base {
                    // Where the one begins the other may not have come to, or may hold what is not committed.
                    continue;
                }
                let common = Position::new(one.term_at(index).unwrap(), index);
                while index > base {
                    assert_eq!(one.entry(index), other.entry(index), "logs differ below {common}");
                    index = index.previous();
                }
                assert_eq!(one.term_at(base), other.term_at(base), "logs differ at {base}, below {common}");
            }
        }
    }
}
