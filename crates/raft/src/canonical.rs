//! A node's state as words: all that decides what it will ever do, and nothing that only counts. For a search
//! over all states, which must see when two ways have led to the same one. Knows no protocol.

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

    pub(crate) fn entry(&mut self, entry: &Entry) {
        self.position(entry.position);
        match &entry.payload {
            Payload::Noop => self.number(u64::MAX),
            Payload::Data(data) => {
                self.length(data.len());
                self.words.extend(data.iter().map(|&byte| u64::from(byte)));
            }
        }
    }
}

impl Node {
    /// This node as words, with every id renamed: two nodes of the same limits and voters whose words are equal
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
