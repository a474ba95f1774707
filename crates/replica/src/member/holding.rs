//! What of the log stays in memory and on the disk behind a snapshot, and how the rest leaves: a slice in each tick, since
//! freeing a gigabyte of entries at once would stop the loop for as long as an election takes. Knows no file, and nothing of
//! how a snapshot travels.
//!
//! What stays is a tail for whoever is a little behind, and, while this server leads, all that a follower still needs which
//! it hears from: one that fetches a snapshot would otherwise find, when it has it, that the log behind it is gone, and
//! begin again, for ever. That is bounded by [`HELD_LOGS_MAX`].

use std::collections::BTreeMap;

use quorate_raft::{Body, Envelope, Index, Input, NodeId, Position, Progress, ProgressState};

use super::Member;
use crate::replica::{Compaction, Outbox, TICK_MS};

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
    tail_bytes: u64,
    bytes_max: u64,
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
    pub(super) fn new(log_bytes_max: u64, tail_bytes: u64) -> Self {
        let bytes_max = log_bytes_max.saturating_mul(HELD_LOGS_MAX).saturating_add(tail_bytes);
        Self { tail_bytes, bytes_max, leaving: None, fetched: BTreeMap::new() }
    }

    /// A follower fetches the snapshot of this index.
    pub(super) fn fetches(&mut self, follower: NodeId, snapshot: Index) {
        self.fetched.insert(follower, snapshot);
    }

    /// The entry before the first one that this follower needs, as far as it is known.
    fn needed_after(&self, id: NodeId, progress: &Progress, now_tick: u64) -> Option<Index> {
        let (index, silent_ms) = match progress.state() {
            ProgressState::Snapshot => (*self.fetched.get(&id)?, FETCHING_SILENT_MS),
            ProgressState::Probe | ProgressState::Replicate => (progress.match_index(), SILENT_MS),
        };
        ((now_tick - progress.heard_tick()) * TICK_MS < silent_ms).then_some(index)
    }
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
        let mut through = snapshot.index;
        let mut tail_bytes = 0;
        while let Some(entry) = self.node.entry(through) {
            tail_bytes += entry.cost() as u64;
            // Where there is no room, who is a little behind gets a snapshot.
            if self.disks.own().is_short || tail_bytes > self.holding.tail_bytes {
                break;
            }
            through = through.previous();
        }
        self.step(Input::Compact { snapshot, through: self.node.base().index }, out);
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
        let goal = all.min(self.floor()).max(base);
        let through = self.slice(base, goal);
        if through > base {
            self.step(Input::Compact { snapshot, through }, out);
        }
        if through < goal {
            return;
        }
        // What an installed snapshot has dropped may go further than this.
        let through = through.min(snapshot.index);
        if told != Some(through) {
            out.actions.compact = Some(Compaction { snapshot, through });
        }
        self.holding.leaving = (goal < all)
            .then_some(Leaving { compaction: Compaction { snapshot, through: all }, told: Some(through) });
    }

    /// Entries behind this are held for followers.
    fn floor(&self) -> Index {
        let all = Index(u64::MAX);
        if self.disks.own().is_short {
            return all;
        }
        let Some(followers) =
            self.node.progress().filter(|_| self.node.log_bytes() as u64 <= self.holding.bytes_max)
        else {
            return all;
        };
        let (base, now_tick) = (self.node.base().index, self.node.ticks());
        let needed = followers.iter().filter_map(|(&id, of)| self.holding.needed_after(id, of, now_tick));
        // Whose next entry is gone needs a snapshot, whatever is held.
        needed.filter(|&after| after >= base && after > Index::ZERO).min().unwrap_or(all)
    }

    /// How far a slice goes that begins after `base` and ends at `goal` at the latest.
    fn slice(&self, base: Index, goal: Index) -> Index {
        let (mut through, mut bytes) = (base, 0);
        for entry in self.node.entries_after(base).take(SLICE_ENTRIES_MAX) {
            bytes += entry.cost();
            if entry.position.index > goal || bytes > SLICE_BYTES_MAX && through > base {
                break;
            }
            through = entry.position.index;
        }
        through
    }
}
