//! What programs the servers run, and at which level they act together. Knows nothing of greetings or bytes.
//!
//! A **level** stands for what a program can read and write: kinds of log items, and what a snapshot holds. A program acts at
//! any level from its lowest to its highest; a cluster acts at one that all its members can.

use std::collections::BTreeMap;

use quorate_raft::NodeId;
use quorate_storage::Incarnation;

/// The newest level that this program can act at.
pub const LEVEL_MAX: u16 = 1;
/// The oldest level that this program can act at.
pub const LEVEL_MIN: u16 = 1;

const _: () = assert!(0 < LEVEL_MIN && LEVEL_MIN <= LEVEL_MAX);

/// Servers whose programs are remembered: members, and as many again that are not yet.
const PROGRAMS_MAX: usize = 64;

/// What a server said of its program when it greeted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeted {
    /// Who.
    pub node: NodeId,
    /// Its data folder.
    pub incarnation: Incarnation,
    /// Where it says that other servers find it.
    pub address: Box<str>,
    /// Its version, as its makers write it.
    pub program: Box<str>,
    /// The version of the protocol that is spoken with it.
    pub protocol: u16,
    /// The oldest level that it can act at.
    pub level_min: u16,
    /// The newest level that it can act at.
    pub level_max: u16,
}

/// The programs of the other servers, as far as they have greeted since this process began.
#[derive(Debug)]
pub(crate) struct Programs {
    /// The newest level that this server can act at.
    own_level_max: u16,
    by_node: BTreeMap<NodeId, Greeted>,
}

impl Default for Programs {
    fn default() -> Self {
        Self { own_level_max: LEVEL_MAX, by_node: BTreeMap::new() }
    }
}

impl Programs {
    /// A server has greeted. Past the limit those that are not remembered stay unknown, which is the safe side.
    pub(crate) fn note(&mut self, greeted: Greeted) {
        if self.by_node.len() < PROGRAMS_MAX || self.by_node.contains_key(&greeted.node) {
            self.by_node.insert(greeted.node, greeted);
        }
    }

    /// What is known of this server's program.
    pub(crate) fn of(&self, node: NodeId) -> Option<&Greeted> {
        self.by_node.get(&node)
    }

    /// What is known of all servers, ascending by id.
    pub(crate) fn all(&self) -> Vec<Greeted> {
        self.by_node.values().cloned().collect()
    }

    /// The newest level that all of these can act at, this server among them; `None` as long as one of them has not
    /// greeted: it may run the oldest program there is. What another folder under its id has said is not its word.
    pub(crate) fn level(
        &self,
        others: impl IntoIterator<Item = (NodeId, Option<Incarnation>)>,
    ) -> Option<u16> {
        let mut others = others.into_iter();
        others.try_fold(self.own_level_max, |level, (node, known)| {
            let greeted = self.of(node).filter(|greeted| Some(greeted.incarnation) == known)?;
            Some(level.min(greeted.level_max))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> NodeId {
        NodeId::new(number).unwrap()
    }

    fn known(node: u64) -> (NodeId, Option<Incarnation>) {
        (id(node), Some(Incarnation(1)))
    }

    fn greeted(node: u64, (level_min, level_max): (u16, u16)) -> Greeted {
        let (address, program) = ("h:1".into(), "0.0.0".into());
        Greeted {
            node: id(node),
            incarnation: Incarnation(1),
            address,
            program,
            protocol: 3,
            level_min,
            level_max,
        }
    }

    #[test]
    fn a_cluster_acts_at_the_level_of_its_oldest_program() {
        // A program of a later day.
        let mut programs = Programs { own_level_max: 3, ..Programs::default() };
        programs.note(greeted(2, (1, 4)));
        assert_eq!(programs.level([known(2)]), Some(3), "this program knows no newer one");
        assert_eq!(programs.level([known(2), known(3)]), None, "3 has not greeted");
        programs.note(greeted(3, (1, 2)));
        assert_eq!(programs.level([known(2), known(3)]), Some(2));
        programs.note(greeted(3, (2, 3)));
        assert_eq!(programs.level([known(2), known(3)]), Some(3), "3 was the last to be upgraded");
        programs.note(greeted(3, (1, 2)));
        assert_eq!(
            programs.level([known(2), known(3)]),
            Some(2),
            "and was started again with the older program"
        );
        assert_eq!(programs.level([known(2)]), Some(3), "and is no member any more");
        let other = (id(2), Some(Incarnation(9)));
        assert_eq!(programs.level([other]), None, "it was another folder that greeted");
    }

    #[test]
    fn as_many_programs_are_remembered_as_there_may_be_servers() {
        let mut programs = Programs::default();
        for node in 1..=PROGRAMS_MAX as u64 + 1 {
            programs.note(greeted(node, (1, 1)));
        }
        assert!(programs.of(id(1)).is_some() && programs.of(id(PROGRAMS_MAX as u64 + 1)).is_none());
    }
}
