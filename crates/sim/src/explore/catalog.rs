//! Every state of one node, every message and every history is kept once and has a number, and each step of a real
//! node is taken once: a state of the whole is then a handful of numbers. Numbers as whole words, not hashes, stand
//! for what they number. Knows no order of events.

use std::collections::BTreeMap;

use quorate_raft::{NodeId, Position, ReadOutcome};

use super::Sabotage;
use super::judge::History;
use super::local::{Act, Local, NODES, Outcome, Packet, node_id, place_of};

/// All ways to rename three nodes: the new place of each; the first changes nothing.
pub(super) const RENAMINGS: [[usize; NODES]; 6] =
    [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

/// The number of a thing under each renaming; equal numbers are equal things.
pub(super) type Names = [u32; RENAMINGS.len()];

/// What happens to one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    /// By itself.
    Act(Act),
    /// This message arrives.
    Deliver(u32),
    /// This message to it never arrives.
    Lose(u32),
}

/// What a step led to; remembered.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// The node's next state.
    pub(super) local: u32,
    /// Messages sent; those that are dead on arrival are found out later.
    pub(super) sent: Vec<u32>,
    /// Reads settled.
    pub(super) reads: Vec<ReadOutcome>,
    /// The snapshot that was installed.
    pub(super) installed: Option<Position>,
}

/// Things of one kind, each once.
struct Shelf<T> {
    things: Vec<(T, Names)>,
    /// The number of a thing, by its name under the first renaming.
    numbers: BTreeMap<u32, u32>,
}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self { things: Vec::new(), numbers: BTreeMap::new() }
    }
}

impl<T> Shelf<T> {
    /// The number of `thing`, kept from now on.
    fn keep(
        &mut self,
        names: &mut BTreeMap<Vec<u64>, u32>,
        thing: T,
        words: impl Fn(&T, &dyn Fn(NodeId) -> NodeId) -> Vec<u64>,
    ) -> u32 {
        let mut name = |renaming: [usize; NODES]| {
            let words = words(&thing, &|id| node_id(renaming[place_of(id)]));
            let next = names.len() as u32;
            *names.entry(words).or_insert(next)
        };
        let own = name(RENAMINGS[0]);
        if let Some(&number) = self.numbers.get(&own) {
            return number;
        }
        let all = RENAMINGS.map(name);
        let number = self.things.len() as u32;
        self.things.push((thing, all));
        self.numbers.insert(own, number);
        number
    }

    fn get(&self, number: u32) -> &(T, Names) {
        &self.things[number as usize]
    }
}

/// All that has been met.
pub(super) struct Catalog {
    sabotage: Option<Sabotage>,
    grants: bool,
    local_names: BTreeMap<Vec<u64>, u32>,
    packet_names: BTreeMap<Vec<u64>, u32>,
    history_names: BTreeMap<Vec<u64>, u32>,
    locals: Shelf<Local>,
    packets: Shelf<Packet>,
    histories: Shelf<History>,
    steps: BTreeMap<(u32, Event), Step>,
}

impl Catalog {
    /// Nothing met yet.
    pub(super) fn new(sabotage: Option<Sabotage>, grants: bool) -> Self {
        Self {
            sabotage,
            grants,
            local_names: BTreeMap::new(),
            packet_names: BTreeMap::new(),
            history_names: BTreeMap::new(),
            locals: Shelf::default(),
            packets: Shelf::default(),
            histories: Shelf::default(),
            steps: BTreeMap::new(),
        }
    }

    pub(super) fn keep_local(&mut self, local: Local) -> u32 {
        self.locals.keep(&mut self.local_names, local, |local, rename| local.words(rename))
    }

    fn keep_packet(&mut self, packet: Packet) -> u32 {
        self.packets.keep(&mut self.packet_names, packet, |packet, rename| packet.words(rename))
    }

    pub(super) fn keep_history(&mut self, history: History) -> u32 {
        self.histories.keep(&mut self.history_names, history, |history, rename| history.words(rename))
    }

    pub(super) fn local(&self, number: u32) -> &Local {
        &self.locals.get(number).0
    }

    pub(super) fn local_names(&self, number: u32) -> &Names {
        &self.locals.get(number).1
    }

    pub(super) fn packet(&self, number: u32) -> &Packet {
        &self.packets.get(number).0
    }

    pub(super) fn packet_names(&self, number: u32) -> &Names {
        &self.packets.get(number).1
    }

    pub(super) fn history(&self, number: u32) -> &History {
        &self.histories.get(number).0
    }

    pub(super) fn history_names(&self, number: u32) -> &Names {
        &self.histories.get(number).1
    }

    /// How many states of one node were met.
    pub(super) fn locals(&self) -> usize {
        self.locals.things.len()
    }

    /// How many messages were met.
    pub(super) fn packets(&self) -> usize {
        self.packets.things.len()
    }

    /// What `event` does to a node in this state.
    ///
    /// # Errors
    /// What is wrong with the node.
    pub(super) fn step(&mut self, local: u32, event: Event) -> Result<Step, String> {
        if let Some(step) = self.steps.get(&(local, event)) {
            return Ok(step.clone());
        }
        let before = self.local(local);
        let outcome = match event {
            Event::Act(act) => before.act(act, self.sabotage, self.grants)?,
            Event::Lose(_) => {
                return Ok(Step { local, sent: Vec::new(), reads: Vec::new(), installed: None });
            }
            Event::Deliver(packet) => before.deliver(self.packet(packet), self.sabotage)?,
        };
        let Outcome { local: after, sent, reads, installed } = outcome;
        let after = self.keep_local(after);
        let sent = sent.into_iter().map(|packet| self.keep_packet(packet)).collect();
        let step = Step { local: after, sent, reads, installed };
        self.steps.insert((local, event), step.clone());
        Ok(step)
    }
}
