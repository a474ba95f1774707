//! Bookkeeping that the invariants share: what each server has written, what of it is durable, and the one name
//! of each log prefix. Judges nothing by itself.
//!
//! A *chain* is a hash over a log's beginning: two logs with the same chain at an index hold the same entries up
//! to it. So comparing whole prefixes costs one comparison, and every check after every event stays cheap.

use std::collections::VecDeque;
use std::sync::Arc;

use quorate_raft::{Entry, HardState, Index, Membership, Payload, Position, Restored, Term, WriteId};
use quorate_replica::replica::DiskWrite;

use crate::network::HostIndex;

/// Names a log up to an index, and all of its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chain(pub u64);

impl Default for Chain {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl Chain {
    /// The empty log.
    pub const EMPTY: Self = Self(0x71A0_C4E5_9B3D_2F87);

    /// The log that goes on with `entry`.
    #[must_use]
    pub fn then(self, entry: &Entry) -> Self {
        let mut hash = mix(self.0 ^ mix(entry.position.term.0) ^ mix(entry.position.index.0).rotate_left(1));
        match &entry.payload {
            Payload::Noop => hash = mix(hash ^ 1),
            Payload::Data(bytes) => hash = mix_bytes(hash, bytes),
            Payload::Membership(membership) => hash = mix_bytes(mix(hash ^ 2), &membership.to_bytes()),
        }
        Self(hash)
    }
}

fn mix_bytes(mut hash: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks();
    for word in words {
        hash = mix(hash ^ u64::from_le_bytes(*word));
    }
    if !rest.is_empty() {
        let mut word = [0; 8];
        word[..rest.len()].copy_from_slice(rest);
        hash = mix(hash ^ u64::from_le_bytes(word));
    }
    mix(hash ^ (bytes.len() as u64) << 8)
}

fn mix(x: u64) -> u64 {
    let z = (x ^ (x >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    let z = (z ^ (z >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    z ^ (z >> 32)
}

/// A log as far as the checks need it: what follows a base, which stands for all before it.
#[derive(Clone, Debug, Default)]
pub struct LogModel {
    base: (Position, Chain),
    links: Vec<(Term, Chain)>,
    memberships: Vec<(Index, Arc<Membership>)>,
}

impl LogModel {
    /// A log that begins behind `base`, up to which the log that everybody has is `chain`.
    pub fn behind(base: Position, chain: Chain) -> Self {
        Self { base: (base, chain), links: Vec::new(), memberships: Vec::new() }
    }

    fn base_index(&self) -> u64 {
        self.base.0.index.0
    }

    /// What it begins behind.
    pub fn base(&self) -> Index {
        self.base.0.index
    }

    /// The memberships among its entries, ascending.
    pub fn memberships(&self) -> &[(Index, Arc<Membership>)] {
        &self.memberships
    }

    /// The last position, or its base.
    pub fn last(&self) -> Position {
        let index = Index(self.base_index() + self.links.len() as u64);
        self.links.last().map_or(self.base.0, |(term, _)| Position::new(*term, index))
    }

    /// Whether it is the log of this chain up to `index`. What is before its base was committed, which is checked where
    /// the base is set.
    pub fn holds(&self, index: Index, chain: Option<Chain>) -> bool {
        index.0 < self.base_index() || self.chain_at(index) == chain
    }

    /// The chain at `index`, if the log reaches so far, and begins before it.
    pub fn chain_at(&self, index: Index) -> Option<Chain> {
        match index.0.checked_sub(self.base_index())? {
            0 => Some(self.base.1),
            at => self.links.get(at as usize - 1).map(|(_, chain)| *chain),
        }
    }

    /// Takes an entry, and truncates what stood at its index and behind. False if it leaves a gap.
    #[must_use]
    pub fn take(&mut self, entry: &Entry) -> bool {
        let at = entry.position.index.0.saturating_sub(self.base_index()) as usize;
        if at == 0 || at > self.links.len() + 1 {
            return false;
        }
        self.links.truncate(at - 1);
        let before = self.links.last().map_or(self.base.1, |(_, chain)| *chain);
        self.links.push((entry.position.term, before.then(entry)));
        while self.memberships.pop_if(|(index, _)| *index >= entry.position.index).is_some() {}
        if let Payload::Membership(membership) = &entry.payload {
            self.memberships.push((entry.position.index, Arc::clone(membership)));
        }
        true
    }
}

/// One write that was handed to a disk.
#[derive(Clone, Debug)]
struct Written {
    write: WriteId,
    reset_to: Option<(Position, Chain)>,
    hard_state: Option<HardState>,
    entries: Vec<Entry>,
}

/// What one server has written.
#[derive(Clone, Debug, Default)]
pub struct HostLedger {
    /// Its log as it wrote it.
    pub log: LogModel,
    /// Its term and vote as it wrote them.
    pub hard_state: HardState,
    /// What of its log is certainly on its disk.
    pub durable_log: LogModel,
    /// What of its term and vote is certainly on its disk.
    pub durable_hard_state: HardState,
    /// What was on the folder that it has lost: it may have been acknowledged.
    pub lost_log: LogModel,
    unsynced: VecDeque<Written>,
}

/// What all servers have written.
#[derive(Debug)]
pub struct Ledger {
    hosts: Vec<HostLedger>,
}

/// Why what a disk gave back is not what was written to it.
pub type Forgotten = String;

impl Ledger {
    /// Nothing written yet.
    pub fn new(hosts: usize) -> Self {
        Self { hosts: (0..hosts).map(|_| HostLedger::default()).collect() }
    }

    /// What one server has written.
    pub fn host(&self, host: HostIndex) -> &HostLedger {
        &self.hosts[host]
    }

    /// How many servers there are.
    pub fn hosts(&self) -> usize {
        self.hosts.len()
    }

    /// A server hands a write to its disk. `base` is the chain of what it may reset its log to. False if its entries leave
    /// a gap.
    #[must_use]
    pub fn wrote(&mut self, host: HostIndex, write: &DiskWrite, base: Chain) -> bool {
        let ledger = &mut self.hosts[host];
        let reset_to = write.reset_to.map(|position| (position, base));
        if let Some((position, chain)) = reset_to {
            ledger.log = LogModel::behind(position, chain);
        }
        if let Some(hard_state) = write.hard_state {
            ledger.hard_state = hard_state;
        }
        let gapless = write.entries.iter().all(|entry| ledger.log.take(entry));
        let (hard_state, entries) = (write.hard_state, write.entries.clone());
        let written = Written { write: write.write, reset_to, hard_state, entries };
        ledger.unsynced.push_back(written);
        gapless
    }

    /// All writes of a server up to this one are synced.
    pub fn synced(&mut self, host: HostIndex, through: WriteId) {
        let ledger = &mut self.hosts[host];
        while let Some(written) = ledger.unsynced.pop_front_if(|written| written.write <= through) {
            apply(&mut ledger.durable_log, &mut ledger.durable_hard_state, &written);
        }
    }

    /// A server has lost its folder, and all it ever wrote.
    pub fn wiped(&mut self, host: HostIndex) {
        let ledger = &mut self.hosts[host];
        *ledger = HostLedger { lost_log: std::mem::take(&mut ledger.durable_log), ..HostLedger::default() };
    }

    /// The folder of a server is what it was at this time, and what it wrote since is lost.
    pub fn put_back(&mut self, host: HostIndex, was: HostLedger) {
        let ledger = &mut self.hosts[host];
        *ledger = HostLedger { lost_log: std::mem::take(&mut ledger.durable_log), ..was };
    }

    /// A server starts from this: it must be what is durable, and then possibly the first of what was written
    /// since, in order.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence.
    pub fn restarted(
        &mut self,
        host: HostIndex,
        restored: &Restored,
        chain_at: impl Fn(Index) -> Option<Chain>,
    ) -> Result<(), Forgotten> {
        let ledger = &mut self.hosts[host];
        let begins = |position: Position| chain_at(position.index);
        let (Some(base), Some(snapshot)) = (begins(restored.base), begins(restored.snapshot)) else {
            return Err(format!("recovery gave a log behind {}, which was never committed", restored.base));
        };
        let mut found = LogModel::behind(restored.base, base);
        if !restored.entries.iter().all(|entry| found.take(entry)) {
            return Err("recovery gave entries with a gap".to_owned());
        }
        let unsynced = std::mem::take(&mut ledger.unsynced);
        let matched = matches(ledger, &unsynced, &found, restored.hard_state)
            || is_ahead(ledger, &unsynced, restored, snapshot);
        ledger.log = found.clone();
        ledger.hard_state = restored.hard_state;
        if !matched {
            return Err(format!(
                "recovery gave last={} term={} vote={:?}, durable were last={} term={} vote={:?}, and no number of \
                 the {} writes since makes up the difference",
                found.last(),
                restored.hard_state.term,
                restored.hard_state.vote,
                ledger.durable_log.last(),
                ledger.durable_hard_state.term,
                ledger.durable_hard_state.vote,
                unsynced.len(),
            ));
        }
        ledger.durable_log = found;
        ledger.durable_hard_state = restored.hard_state;
        Ok(())
    }
}

fn apply(log: &mut LogModel, hard_state: &mut HardState, written: &Written) {
    if let Some((position, chain)) = written.reset_to {
        *log = LogModel::behind(position, chain);
    }
    if let Some(newer) = written.hard_state {
        *hard_state = newer;
    }
    for entry in &written.entries {
        // A gap was reported when the write was handed over.
        let _ = log.take(entry);
    }
}

/// Whether `found` is the durable log and then the first of the unsynced writes; the last of them may be there
/// up to any of its entries, since a large write is cut into several records.
fn matches(
    ledger: &HostLedger,
    unsynced: &VecDeque<Written>,
    found: &LogModel,
    hard_state: HardState,
) -> bool {
    let mut log = ledger.durable_log.clone();
    let mut held = ledger.durable_hard_state;
    let equal = |log: &LogModel, held: HardState| {
        held == hard_state
            && log.last() == found.last()
            && log.chain_at(log.last().index) == found.chain_at(log.last().index)
    };
    if equal(&log, held) {
        return true;
    }
    for written in unsynced {
        if let Some(newer) = written.hard_state {
            held = newer;
        }
        if equal(&log, held) {
            return true;
        }
        if let Some((position, chain)) = written.reset_to {
            log = LogModel::behind(position, chain);
        }
        if equal(&log, held) {
            return true;
        }
        for entry in &written.entries {
            let _ = log.take(entry);
            if equal(&log, held) {
                return true;
            }
        }
    }
    false
}

/// Whether the log begins anew behind a snapshot that is ahead of it, or that it does not hold: what it held itself is
/// all in the snapshot then, or was never committed.
fn is_ahead(ledger: &HostLedger, unsynced: &VecDeque<Written>, restored: &Restored, snapshot: Chain) -> bool {
    let is_empty = restored.base == restored.snapshot && restored.entries.is_empty();
    let held = ledger.durable_log.holds(restored.snapshot.index, Some(snapshot));
    let hard_states = unsynced.iter().filter_map(|written| written.hard_state);
    let mut hard_states = std::iter::once(ledger.durable_hard_state).chain(hard_states);
    is_empty && !held && hard_states.any(|hard_state| hard_state == restored.hard_state)
}
