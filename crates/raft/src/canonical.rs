//! A node's state as words: all that decides what it will ever do, and nothing that only counts. For a search
//! over all states, which must see when two ways have led to the same one. Knows no protocol.

use std::collections::{BTreeMap, BTreeSet};

use crate::membership::Membership;
use crate::node::Node;
use crate::types::{Entry, NodeId, Payload, Position};

/// Words in the making; ids are written under the names that the caller gives them.
pub(crate) struct Words<'a> {
    words: Vec<u64>,
    rename: &'a dyn Fn(NodeId) -> NodeId,
}

impl Words<'_> {
    pub(crate) fn number(&mut self, number: u64) {
        self.words.push(number);
    }

    /// Before a sequence: without it, two sequences side by side could be parted in several ways.
    pub(crate) fn length(&mut self, length: usize) {
        self.words.push(length as u64);
    }

    pub(crate) fn renamed(&self, id: NodeId) -> NodeId {
        (self.rename)(id)
    }

    /// 0 for nobody.
    pub(crate) fn id(&mut self, id: Option<NodeId>) {
        let word = id.map_or(0, |id| self.renamed(id).get());
        self.words.push(word);
    }

    pub(crate) fn position(&mut self, position: Position) {
        self.words.extend([position.term.0, position.index.0]);
    }

    pub(crate) fn membership(&mut self, membership: &Membership) {
        let renamed =
            |ids: &BTreeSet<NodeId>| ids.iter().map(|&id| self.renamed(id).get()).collect::<BTreeSet<_>>();
        let sets = [membership.voters(), membership.outgoing(), membership.learners()].map(renamed);
        for set in sets {
            self.length(set.len());
            self.words.extend(set);
        }
        let joining = membership.joining().iter();
        let joining: BTreeMap<_, _> =
            joining.map(|(&id, &other)| (self.renamed(id), other.map(|other| self.renamed(other)))).collect();
        self.length(joining.len());
        for (id, replaced) in joining {
            self.words.extend([id.get(), replaced.map_or(0, NodeId::get)]);
        }
    }

    pub(crate) fn entry(&mut self, entry: &Entry) {
        self.position(entry.position);
        match &entry.payload {
            Payload::Noop => self.number(u64::MAX),
            Payload::Data(data) => {
                self.length(data.len());
                self.words.extend(data.iter().map(|&byte| u64::from(byte)));
            }
            Payload::Membership(membership) => {
                self.number(u64::MAX - 1);
                self.membership(membership);
            }
        }
    }
}

impl Node {
    /// This node as words, the seats of its members excepted, with every id renamed: two nodes of the same limits and voters whose words are equal
    /// do the same on the same inputs, if election timeouts are no draw (`election_ticks_min` equals `max`).
    ///
    /// Counts of ticks since the start stand in it only as ages, up to where they decide nothing any more; write
    /// numbers count from the last one that was synced. What was drawn and what was dropped stays out.
    pub fn canonical(&self, rename: &dyn Fn(NodeId) -> NodeId) -> Vec<u64> {
        let mut words = Words { words: Vec::with_capacity(64), rename };
        self.member.canonical(&mut words);
        self.role.canonical(&self.member, &mut words);
        words.words
    }
}
