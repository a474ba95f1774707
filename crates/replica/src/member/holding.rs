//! What of the log stays in memory, and what on the disk behind a snapshot, and how the rest leaves: a slice in each tick,
//! since freeing a gigabyte of entries at once would stop the loop for as long as an election takes. Knows no file, and
//! nothing of how a snapshot travels.
//!
//! On the disk stays what no snapshot stands for, and a tail behind it. In memory stay the entries that are not applied or
//! not durable here, and a tail for whoever is a little behind: what is durable and applied is in the state and on the disk.
//! While this server leads there stays in both all that a follower still needs which it hears from: one that fetches a
//! snapshot would otherwise find, when it has it, that the log behind it is gone, and begin again, for ever. That is bounded
//! by [`HELD_LOGS_MAX`].
//!
//! A follower that needs what is gone from the memory is given a snapshot. Where the newest one ends below what is held, one
//! is taken for it at once, and what follows that is held from then on.

use std::collections::BTreeMap;

use quorate_raft::{Body, Envelope, Index, Input, NodeId, Position, Progress, ProgressState, Restored};

use super::Member;
use super::tail::Tail;
use crate::replica::{Compaction, Config, Outbox, TICK_MS};
use crate::sabotage::Bug;

/// The log may come to so many times `--log-max`, and its tail, before entries leave although a follower needs them. A
/// snapshot is due at one time `--log-max`: so a follower has from one to two such intervals for what it lacks.
const HELD_LOGS_MAX: u64 = 2;
/// Milliseconds that a follower may be silent before its entries are not held any more.
const SILENT_MS: u64 = 1_000;
/// Likewise for one that was fetching a snapshot: long enough for a restart, after which it goes on where it was.
const FETCHING_SILENT_MS: u64 = 30_000;
/// Entries that leave in one tick, at most.
const SLICE_ENTRIES_MAX: usize = 4_096;
/// Bytes of entries that leave in one tick, at most; but one entry.
const SLICE_BYTES_MAX: usize = 8 << 20;

const _: () = assert!(SILENT_MS <= FETCHING_SILENT_MS);

/// See the module.
#[derive(Debug)]
pub(super) struct Holding {
    tail: Tail,
    /// Bytes of committed entries that stay in memory.
    memory_bytes: u64,
    /// And this part of what the state costs, if that is more.
    memory_part: u64,
    bytes_max: u64,
    /// How far entries were applied when the last step ended. Who looks at this server between two steps finds in its log all
    /// that the last one has committed.
    settled: Index,
    leaving: Option<Leaving>,
    /// For each follower that needs a snapshot, the index of the one that it fetches, or was offered.
    fetched: BTreeMap<NodeId, Index>,
}

/// Entries that no snapshot needs any more, and that have not all left.
#[derive(Clone, Copy, Debug)]
struct Leaving {
    compaction: Compaction,
    /// How far the disk knows of it.
    told: Option<Index>,
}

impl Holding {
    pub(super) fn new(config: &Config, restored: &Restored) -> Self {
        let Config { log_bytes_max, log_tail_bytes, log_memory_bytes, log_memory_part, .. } = *config;
        let mut tail = Tail::new(log_tail_bytes, log_bytes_max, restored.base.index);
        let is_covered = |index: Index| index <= restored.snapshot.index;
        let covered = restored.entries.iter().take_while(|entry| is_covered(entry.position.index));
        covered.for_each(|entry| tail.add(entry.position.index, entry.cost()));
        Self {
            tail,
            memory_bytes: log_memory_bytes.max(log_tail_bytes),
            memory_part: log_memory_part.max(1),
            bytes_max: log_bytes_max.saturating_mul(HELD_LOGS_MAX).saturating_add(log_tail_bytes),
            settled: restored.snapshot.index,
            leaving: None,
            fetched: BTreeMap::new(),
        }
    }

    /// An entry was applied.
    pub(super) fn applied(&mut self, index: Index, bytes: usize) {
        self.tail.add(index, bytes);
    }

    /// The state is that of a snapshot which the log did not hold.
    pub(super) fn installed(&mut self, snapshot: Index) {
        self.tail.begin_anew(snapshot);
    }

    /// A step ends.
    pub(super) fn settle(&mut self, applied: Index) {
        self.settled = applied;
    }

    /// A follower fetches the snapshot of this index.
    pub(super) fn fetches(&mut self, follower: NodeId, snapshot: Index) {
        self.fetched.insert(follower, snapshot);
    }

    /// The entry before the first one that this follower needs, as far as it is known. One that needs a snapshot needs what
    /// follows it: the one that it fetches, if that is still of use, or else the one that it will be offered.
    fn needed_after(
        &self,
        (id, progress): (NodeId, &Progress),
        now_tick: u64,
        (base, offered): (Index, Option<Index>),
    ) -> Option<Index> {
        match progress.state() {
            ProgressState::Snapshot => {
                let fetched = self.fetched.get(&id).copied().filter(|fetched| *fetched >= base);
                let index = fetched.or(offered)?;
                is_heard(progress, now_tick, FETCHING_SILENT_MS).then_some(index)
            }
            ProgressState::Probe | ProgressState::Replicate => {
                is_heard(progress, now_tick, SILENT_MS).then_some(progress.match_index())
            }
        }
    }
}

fn is_heard(progress: &Progress, now_tick: u64, silent_ms: u64) -> bool {
    (now_tick - progress.heard_tick()) * TICK_MS < silent_ms
}

impl Member {
    /// A follower is told of a snapshot. What it fetches already it will be done with first.
    pub(super) fn note_offer(&mut self, envelope: &Envelope) {
        let Body::InstallSnapshot { last } = &envelope.message.body else { return };
        let base = self.node.base().index;
        let held = self.holding.fetched.entry(envelope.to).or_insert(last.index);
        if *held < base {
            *held = last.index;
        }
    }

    /// A snapshot is durable: what of the log it stands for may go, but for a tail, and what others need.
    pub(super) fn compact(&mut self, snapshot: Position, out: &mut Outbox) {
        let tail = self.holding.tail.before(snapshot.index);
        // Where there is no room, who is a little behind gets a snapshot.
        let through = if self.disks.own().is_short { snapshot.index } else { tail };
        let covered = self.node.base().index.min(snapshot.index);
        self.step(Input::Compact { snapshot, through: covered }, out);
        let compaction = Compaction { snapshot, through };
        self.holding.leaving = Some(Leaving { compaction, told: None });
        self.trim(out);
    }

    /// One slice of what may go leaves the memory. Once all of it has, the disk is told.
    pub(super) fn trim(&mut self, out: &mut Outbox) {
        let Some(Leaving { compaction: Compaction { snapshot, through: all }, told }) = self.holding.leaving
        else {
            return;
        };
        let base = self.node.base().index;
        // Where there is no room nothing is held: who needs it gets the snapshot that it is let go for.
        let floor = if self.disks.own().is_short { all } else { self.floor() };
        let goal = all.min(floor).max(base);
        let through = self.slice(base, goal, u64::MAX);
        if through > base {
            self.step(Input::Compact { snapshot, through }, out);
        }
        if through < goal {
            return;
        }
        // More than this may have left the memory. The disk keeps what it is to keep.
        let through = through.min(all);
        if told != Some(through) {
            out.actions.compact = Some(Compaction { snapshot, through });
        }
        self.holding.leaving = (goal < all)
            .then_some(Leaving { compaction: Compaction { snapshot, through: all }, told: Some(through) });
    }

    /// One slice of what is applied, and durable here, leaves the memory, but for a tail and what followers need. Not while
    /// this server does not know whether its state is right: it gives no snapshot away then, and those who lag need the log.
    pub(super) fn forget(&mut self, out: &mut Outbox) {
        let committed = self.node.log_bytes() - self.node.uncommitted_bytes();
        let kept = self.holding.memory_bytes.max(self.machine.memory().total() / self.holding.memory_part);
        let excess = (committed as u64).saturating_sub(kept);
        if excess == 0 || self.is_in_doubt() && !self.has_diverged() {
            return;
        }
        let (base, durable, settled) = (self.node.base().index, self.node.durable(), self.holding.settled);
        let safe = Bug::ForgetsWhatIsNotDurable.spoils(settled.min(durable), || settled);
        let goal = safe.min(self.floor()).max(base);
        let through = self.slice(base, goal, excess);
        if through > base {
            self.step(Input::Forget { through }, out);
        }
    }

    /// A follower that this server hears from needs what is gone from the memory, and no snapshot stands for all of that:
    /// one is taken for it.
    pub(super) fn ask_for_laggards(&mut self) {
        let is_covered = self.node.snapshot().index >= self.node.base().index;
        if is_covered || !self.transfers.may_take_for_laggard(self.uptime_ms) {
            return;
        }
        let Some(followers) = self.node.progress() else { return };
        let now_tick = self.node.ticks();
        let waits =
            |of: &Progress| of.state() == ProgressState::Snapshot && is_heard(of, now_tick, SILENT_MS);
        if Bug::TakesNoneForLaggards.spoils(followers.values().any(waits), || false) {
            self.transfers.ask();
        }
    }

    /// Entries behind this are held for followers.
    fn floor(&self) -> Index {
        let all = Index(u64::MAX);
        let Some(followers) =
            self.node.progress().filter(|_| self.node.log_bytes() as u64 <= self.holding.bytes_max)
        else {
            return all;
        };
        let (base, now_tick) = (self.node.base().index, self.node.ticks());
        let snapshots = [Some(self.node.snapshot().index), self.transfers.taking()];
        let offered = snapshots.into_iter().flatten().find(|&index| index >= base);
        let needed = followers
            .iter()
            .filter_map(|(&id, of)| self.holding.needed_after((id, of), now_tick, (base, offered)));
        // Whose next entry is gone needs a snapshot, whatever is held.
        needed.filter(|&after| after >= base && after > Index::ZERO).min().unwrap_or(all)
    }

    /// How far a slice goes that begins after `base`, ends at `goal` at the latest, and is of at least so many bytes if there
    /// are as many.
    fn slice(&self, base: Index, goal: Index, enough: u64) -> Index {
        let (mut through, mut bytes) = (base, 0);
        for entry in self.node.entries_after(base).take(SLICE_ENTRIES_MAX) {
            let is_enough = bytes as u64 >= enough;
            bytes += entry.cost();
            if is_enough || entry.position.index > goal || bytes > SLICE_BYTES_MAX && through > base {
                break;
            }
            through = entry.position.index;
        }
        through
    }
}
