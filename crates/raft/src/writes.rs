//! Which writes are under way and what is durable. Knows no disk: it numbers writes and is told of their end.

use std::collections::VecDeque;

use crate::canonical::Words;
use crate::sabotage::Bug;
use crate::types::{Index, WriteId};

/// The writes of this process, in order.
///
/// Invariants:
/// - Writes are numbered from 1 without a gap and complete in order: one completion covers all before it.
/// - `durable` never passes an entry whose **last** write is under way: an entry that was truncated and written
///   anew is durable only by its newer write. A later write that truncates therefore clamps all earlier ones.
/// - What pending writes will have made durable never falls from one to the next.
#[derive(Clone, Debug)]
pub(crate) struct Writes {
    issued: WriteId,
    synced: WriteId,
    /// The last write that carries a hard state.
    hard_state: WriteId,
    durable: Index,
    pending: VecDeque<Pending>,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    write: WriteId,
    /// The durable index once it is complete.
    durable: Index,
}

impl Writes {
    /// Nothing under way; the restored log up to `durable` is on the disk.
    pub(crate) fn new(durable: Index) -> Self {
        let none = WriteId::ZERO;
        Self { issued: none, synced: none, hard_state: none, durable, pending: VecDeque::new() }
    }

    /// The last index that is on this disk, as the log stands now.
    pub(crate) fn durable(&self) -> Index {
        self.durable
    }

    /// The last write that was handed out.
    pub(crate) fn issued(&self) -> WriteId {
        self.issued
    }

    /// Whether no hard state is under way.
    pub(crate) fn is_hard_state_durable(&self) -> bool {
        self.hard_state <= self.synced
    }

    /// The log is written anew from `first` on: what was promised of the old tail is void.
    pub(crate) fn rewrite_from(&mut self, first: Index) {
        let kept = first.previous();
        for pending in self.pending.iter_mut().rev() {
            if pending.durable <= kept || Bug::TrustsOlderWrite.is_put_back() {
                break;
            }
            pending.durable = kept;
        }
        self.durable = self.durable.min(kept);
    }

    /// Numbers the next write, after which the log is durable up to `last`.
    pub(crate) fn issue(&mut self, carries_hard_state: bool, last: Index) -> WriteId {
        let before = self.pending.back().map_or(self.durable, |pending| pending.durable);
        assert!(before <= last, "a write that ends before the one ahead of it");
        self.issued = self.issued.next();
        if carries_hard_state {
            self.hard_state = self.issued;
        }
        self.pending.push_back(Pending { write: self.issued, durable: last });
        self.issued
    }

    pub(crate) fn canonical(&self, words: &mut Words<'_>) {
        words.number(self.issued.0 - self.synced.0);
        words.number(self.hard_state.0.saturating_sub(self.synced.0));
        words.number(self.durable.0);
        words.length(self.pending.len());
        for pending in &self.pending {
            words.number(pending.write.0 - self.synced.0);
            words.number(pending.durable.0);
        }
    }

    /// The write and all before it are synced. Says whether that is news.
    pub(crate) fn complete(&mut self, write: WriteId) -> bool {
        assert!(write <= self.issued, "write {write} completed, but the last one issued is {}", self.issued);
        if write <= self.synced {
            return false;
        }
        self.synced = write;
        while let Some(pending) = self.pending.front().copied()
            && pending.write <= write
        {
            assert!(self.durable <= pending.durable, "a completed write took durable entries away");
            self.durable = pending.durable;
            self.pending.pop_front();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completion_covers_all_before_it_and_an_old_one_is_no_news() {
        let mut writes = Writes::new(Index(2));
        assert_eq!(writes.issue(false, Index(3)), WriteId(1));
        assert_eq!(writes.issue(true, Index(3)), WriteId(2));
        assert_eq!(writes.issue(false, Index(5)), WriteId(3));
        assert!(!writes.is_hard_state_durable());
        assert!(writes.complete(WriteId(2)));
        assert_eq!(writes.durable(), Index(3));
        assert!(writes.is_hard_state_durable());
        assert!(!writes.complete(WriteId(1)));
        assert!(writes.complete(WriteId(3)));
        assert_eq!(writes.durable(), Index(5));
    }

    /// Entry 4 is written twice; only the second write makes it durable.
    #[test]
    fn older_write_of_a_rewritten_entry_makes_nothing_durable() {
        let mut writes = Writes::new(Index(2));
        writes.issue(false, Index(5));
        writes.rewrite_from(Index(4));
        writes.issue(false, Index(6));
        writes.complete(WriteId(1));
        assert_eq!(writes.durable(), Index(3));
        writes.complete(WriteId(2));
        assert_eq!(writes.durable(), Index(6));
    }

    #[test]
    fn rewriting_what_is_durable_takes_it_back() {
        let mut writes = Writes::new(Index(9));
        writes.rewrite_from(Index(4));
        assert_eq!(writes.durable(), Index(3));
        writes.issue(false, Index(4));
        writes.complete(WriteId(1));
        assert_eq!(writes.durable(), Index(4));
    }

    #[test]
    #[should_panic(expected = "the last one issued is w0")]
    fn completion_of_a_write_never_issued_is_our_own_fault() {
        Writes::new(Index::ZERO).complete(WriteId(1));
    }
}
