//! The replicated log in memory. Knows nothing of roles, peers or disks; what of it is durable stands in
//! `writes`.

use std::collections::VecDeque;

use crate::message::Run;
use crate::types::{Entry, Index, Position, Term};

/// Entries after a base position, how far they are committed, and how far a snapshot stands for them.
///
/// ```text
///    base         snapshot       commit              last
///      │             │             │                  │
/// ─ 4@2 │ 5@2  6@3  7@3  8@3  9@3  10@3 │ 11@3  12@5  13@5
///
/// snapshot          base         commit              last
///      │             │             │                  │
/// ─ 4@2   5@2 … 7@3 │ 8@3  9@3  10@3 │ 11@3  12@5  13@5
/// ```
///
/// What is up to the base is gone from the memory. Between base and snapshot a tail may be kept, so that a follower that
/// is only a little behind gets entries, not a snapshot. Or the base is ahead of the snapshot: what is between them is
/// applied and on the disk, and nobody is expected to ask for it. Who does needs a snapshot that is still to be taken.
///
/// Invariants, kept by the methods and asserted there:
/// - The first entry follows `base`; indexes have no gap.
/// - Terms never fall from one entry to the next.
/// - `base` ≤ `commit` and `snapshot` ≤ `commit` ≤ last. A snapshot's position is one of this log when it is covered, as far
///   as the log still reaches back to it.
/// - Base and snapshot never fall.
/// - The commit index never falls.
/// - An entry at or below the commit index never changes: only the tail above it can be truncated.
/// - `bytes` is the cost of all entries.
/// - `uncommitted_bytes` is the cost of the entries above the commit index.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    base: Position,
    snapshot: Position,
    entries: VecDeque<Entry>,
    commit: Index,
    bytes: usize,
    uncommitted_bytes: usize,
}

impl Log {
    /// A log as recovery found it. What of it is committed beyond the snapshot is not stored: it is learned again.
    pub(crate) fn new(base: Position, entries: Vec<Entry>, snapshot: Position) -> Self {
        let entries_after_base = entries;
        let entries = VecDeque::new();
        let commit = base.index;
        let mut log = Self { base, snapshot: base, entries, commit, bytes: 0, uncommitted_bytes: 0 };
        log.append(entries_after_base);
        assert!(log.holds(snapshot), "a log from {base} to {} beside a snapshot of {snapshot}", log.last());
        log.commit_to(snapshot.index);
        log.snapshot = snapshot;
        log
    }

    /// The position before the first entry.
    pub(crate) fn base(&self) -> Position {
        self.base
    }

    /// The position of the newest snapshot that is durable here; the base where nothing is kept below it.
    pub(crate) fn snapshot(&self) -> Position {
        self.snapshot
    }

    /// The position of the last entry, or the base of an empty log.
    pub(crate) fn last(&self) -> Position {
        self.entries.back().map_or(self.base, |entry| entry.position)
    }

    /// The commit index.
    pub(crate) fn commit(&self) -> Index {
        self.commit
    }

    /// The cost of all entries.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The cost of all entries above the commit index.
    pub(crate) fn uncommitted_bytes(&self) -> usize {
        self.uncommitted_bytes
    }

    /// How many entries stand at or below `index`; `None` below the base.
    fn offset(&self, index: Index) -> Option<usize> {
        let offset = index.0.checked_sub(self.base.index.0)?;
        usize::try_from(offset).ok()
    }

    /// The entry at `index`.
    pub(crate) fn entry(&self, index: Index) -> Option<&Entry> {
        self.entries.get(self.offset(index)?.checked_sub(1)?)
    }

    /// The term at `index`; known for the base too.
    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        self.entry(index).map(|entry| entry.position.term)
    }

    /// Whether exactly this entry is here; true of the base.
    pub(crate) fn holds(&self, position: Position) -> bool {
        self.term_at(position.index) == Some(position.term)
    }

    /// The entries from `after` (without it) to `last` (with it), as far as they are here.
    pub(crate) fn between(&self, after: Index, last: Index) -> impl Iterator<Item = &Entry> {
        let last = last.min(self.last().index).max(self.base.index);
        let after = after.max(self.base.index).min(last);
        let from = self.offset(after).expect("clamped to the log");
        let to = self.offset(last).expect("clamped to the log");
        self.entries.range(from..to)
    }

    /// The entries after `after` up to `last`, at most `bytes_max` of them but at least one, if there is one.
    /// Payloads are shared, not copied.
    pub(crate) fn run_between(&self, after: Index, last: Index, bytes_max: usize) -> Run {
        let term = self.term_at(after).expect("a base that this log holds");
        let mut bytes = 0;
        let mut entries = Vec::new();
        for entry in self.between(after, last) {
            bytes += entry.cost();
            if bytes > bytes_max && !entries.is_empty() {
                break;
            }
            entries.push(entry.clone());
        }
        Run::parse(Position::new(term, after), entries).expect("our own log is well-formed")
    }

    /// The highest position here, the base included, whose index and term are both at or below those of `ceiling`;
    /// `None` if even the base is above it. With it either side of a rejected append skips whole terms at once
    /// (thesis §5.3).
    pub(crate) fn highest_not_above(&self, ceiling: Position) -> Option<Position> {
        let by_index = self.offset(ceiling.index)?;
        let by_term = self.entries.partition_point(|entry| entry.position.term <= ceiling.term);
        match by_term.min(by_index).checked_sub(1) {
            Some(last) => Some(self.entries[last].position),
            None => (self.base.term <= ceiling.term).then_some(self.base),
        }
    }

    /// Adds entries at the end.
    pub(crate) fn append(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            let last = self.last();
            assert!(
                entry.position.index == last.index.next(),
                "{} after {last} leaves a gap",
                entry.position
            );
            assert!(entry.position.term >= last.term, "{} after {last}: terms fall", entry.position);
            assert!(entry.position.term > Term::ZERO, "an entry of term zero");
            self.bytes += entry.cost();
            self.uncommitted_bytes += entry.cost();
            self.entries.push_back(entry);
        }
    }

    /// Cuts the tail from `first` on.
    pub(crate) fn truncate_from(&mut self, first: Index) {
        assert!(first > self.commit, "truncation from {first} would lose commit {}", self.commit);
        while let Some(entry) = self.entries.back()
            && entry.position.index >= first
        {
            self.bytes -= entry.cost();
            self.uncommitted_bytes -= entry.cost();
            self.entries.pop_back();
        }
    }

    /// A newer snapshot is durable here; no entry leaves yet.
    pub(crate) fn cover(&mut self, snapshot: Position) {
        assert!(snapshot.index >= self.snapshot.index, "the snapshot would fall to {snapshot}");
        assert!(snapshot.index <= self.commit, "a snapshot of {snapshot}, which is not committed");
        let is_gone = snapshot.index < self.base.index;
        assert!(is_gone || self.holds(snapshot), "a snapshot of {snapshot}, which is not of this log");
        self.snapshot = snapshot;
    }

    /// Entries up to `through` leave the memory; the snapshot stands for them.
    pub(crate) fn compact(&mut self, through: Index) {
        assert!(through <= self.snapshot.index, "entries up to {through}: no snapshot stands for them");
        self.leave(through);
    }

    /// Entries up to `through` leave the memory; those that no snapshot stands for are on the disk alone from then on.
    pub(crate) fn forget(&mut self, through: Index) {
        assert!(
            through <= self.commit,
            "entries up to {through} are forgotten, committed up to {}",
            self.commit
        );
        self.leave(through);
    }

    fn leave(&mut self, through: Index) {
        while let Some(entry) = self.entries.front()
            && entry.position.index <= through
        {
            self.base = entry.position;
            self.bytes -= entry.cost();
            self.entries.pop_front();
        }
        // Not at each call: a log leaves in many small ones, and each time what stays would be copied.
        if self.entries.capacity() / 4 > self.entries.len() {
            self.entries.shrink_to(self.entries.len() * 2);
        }
    }

    /// All entries leave; the log begins at a snapshot that is ahead of what is committed here. Not for a log that
    /// holds the snapshot's position: what follows it there is as good as ever.
    pub(crate) fn reset(&mut self, snapshot: Position) {
        assert!(snapshot.index > self.commit, "a snapshot of {snapshot} over commit {}", self.commit);
        assert!(!self.holds(snapshot), "a snapshot of {snapshot} over a log that holds it");
        *self = Self::new(snapshot, Vec::new(), snapshot);
    }

    /// All up to `index` is committed.
    pub(crate) fn commit_to(&mut self, index: Index) {
        assert!(index >= self.commit, "the commit index would fall from {} to {index}", self.commit);
        assert!(index <= self.last().index, "commit {index} of entries that are not here");
        let released: usize = self.between(self.commit, index).map(Entry::cost).sum();
        self.uncommitted_bytes -= released;
        self.commit = index;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::types::Payload;

    fn entry(term: u64, index: u64, length: usize) -> Entry {
        let payload = Payload::Data(Bytes::from(vec![b'.'; length]));
        Entry { position: Position::new(Term(term), Index(index)), payload }
    }

    fn filled(terms: &[u64]) -> Log {
        let entries = terms.iter().zip(1..).map(|(&term, index)| entry(term, index, 1)).collect();
        Log::new(Position::ZERO, entries, Position::ZERO)
    }

    /// What may be done to a log; numbers are made to fit by the test.
    #[derive(Clone, Debug)]
    enum Change {
        Append { term_step: u64, length: usize },
        Truncate { kept: u64 },
        Commit { more: u64 },
        Compact { back: u64, kept: u64 },
        Forget { back: u64 },
        Reset { more: u64, term_step: u64 },
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            4 => (0..2_u64, 0..50_usize).prop_map(|(term_step, length)| Change::Append { term_step, length }),
            1 => (0..6_u64).prop_map(|kept| Change::Truncate { kept }),
            1 => (0..4_u64).prop_map(|more| Change::Commit { more }),
            1 => (0..3_u64, 0..4_u64).prop_map(|(back, kept)| Change::Compact { back, kept }),
            1 => (0..3_u64).prop_map(|back| Change::Forget { back }),
            1 => (1..9_u64, 0..2_u64).prop_map(|(more, term_step)| Change::Reset { more, term_step }),
        ]
    }

    proptest! {
        /// The log against a plain vector that is searched from end to end.
        #[test]
        fn log_equals_its_model(
            base_index in 0..3_u64,
            changes in proptest::collection::vec(change(), 0..40),
            ceiling in (0..12_u64, 0..40_u64),
            bytes_max in 0..200_usize,
        ) {
            let mut base = if base_index == 0 { Position::ZERO } else { Position::new(Term(1), Index(base_index)) };
            let mut snapshot = base;
            let mut log = Log::new(base, Vec::new(), base);
            let mut model: Vec<Entry> = Vec::new();
            let mut commit = base_index;
            // Where every index stood last, whether or not it is still here.
            let mut all_time = BTreeMap::from([(base.index, base)]);
            for change in changes {
                let last = model.last().map_or(base, |entry| entry.position);
                match change {
                    Change::Append { term_step, length } => {
                        let added = entry((last.term.0 + term_step).max(1), last.index.0 + 1, length);
                        all_time.insert(added.position.index, added.position);
                        model.push(added.clone());
                        log.append(vec![added]);
                    }
                    Change::Truncate { kept } => {
                        let first = commit + 1 + kept;
                        model.retain(|entry| entry.position.index.0 < first);
                        log.truncate_from(Index(first));
                    }
                    Change::Commit { more } => {
                        commit = (commit + more).min(last.index.0);
                        log.commit_to(Index(commit));
                    }
                    Change::Compact { back, kept } => {
                        let covered = Index(commit.saturating_sub(back).max(snapshot.index.0));
                        snapshot = if covered == snapshot.index { snapshot } else { all_time[&covered] };
                        let through = Index(snapshot.index.0.saturating_sub(kept));
                        log.cover(snapshot);
                        log.compact(through);
                        if through > base.index {
                            base = all_time[&through];
                            model.retain(|entry| entry.position.index > through);
                        }
                    }
                    Change::Forget { back } => {
                        let through = Index(commit.saturating_sub(back));
                        log.forget(through);
                        if through > base.index {
                            base = all_time[&through];
                            model.retain(|entry| entry.position.index > through);
                        }
                    }
                    Change::Reset { more, term_step } => {
                        let position = Position::new(Term(last.term.0.max(1) + term_step), Index(commit + more));
                        if !log.holds(position) {
                            (base, snapshot, commit) = (position, position, position.index.0);
                            all_time.insert(position.index, position);
                            model.clear();
                            log.reset(position);
                        }
                    }
                }
                prop_assert_eq!((log.base(), log.snapshot(), log.commit()), (base, snapshot, Index(commit)));
            }
            let all: Vec<Entry> = log.between(Index::ZERO, Index(u64::MAX)).cloned().collect();
            prop_assert_eq!(&all, &model);
            let tail = model.iter().filter(|entry| entry.position.index.0 > commit);
            prop_assert_eq!(log.uncommitted_bytes(), tail.map(Entry::cost).sum::<usize>());
            prop_assert_eq!(log.bytes(), all.iter().map(Entry::cost).sum::<usize>());
            for index in 0..50 {
                let known = model.iter().find(|entry| entry.position.index.0 == index);
                prop_assert_eq!(log.entry(Index(index)), known);
            }
            let ceiling = Position::new(Term(ceiling.0), Index(ceiling.1));
            let is_below = |at: &Position| at.term <= ceiling.term && at.index <= ceiling.index;
            let highest = std::iter::once(base).chain(all.iter().map(|entry| entry.position)).filter(is_below).last();
            prop_assert_eq!(log.highest_not_above(ceiling), highest);
            let run = log.run_between(base.index, log.last().index, bytes_max);
            let cost: usize = run.entries().iter().map(Entry::cost).sum();
            prop_assert!(cost <= bytes_max || run.entries().len() == 1);
            prop_assert!(model.is_empty() || !run.entries().is_empty());
        }
    }

    #[test]
    fn hint_skips_whole_terms() {
        let log = filled(&[1, 1, 4, 4, 4, 6, 6]);
        let at = |term, index| Position::new(Term(term), Index(index));
        assert_eq!(log.highest_not_above(at(5, 7)), Some(at(4, 5)));
        assert_eq!(log.highest_not_above(at(3, 7)), Some(at(1, 2)));
        assert_eq!(log.highest_not_above(at(9, 4)), Some(at(4, 4)));
        assert_eq!(log.highest_not_above(at(0, 4)), Some(Position::ZERO));
    }

    #[test]
    fn nothing_is_said_of_what_is_gone() {
        let at = |term, index| Position::new(Term(term), Index(index));
        let mut log = filled(&[1, 1, 4, 4, 6]);
        log.commit_to(Index(5));
        log.cover(at(4, 4));
        log.compact(Index(3));
        assert_eq!((log.base(), log.snapshot(), log.last()), (at(4, 3), at(4, 4), at(6, 5)));
        assert_eq!((log.term_at(Index(2)), log.term_at(Index(3))), (None, Some(Term(4))));
        assert_eq!(log.highest_not_above(at(4, 3)), Some(at(4, 3)));
        assert_eq!(log.highest_not_above(at(4, 2)), None);
        assert_eq!(log.highest_not_above(at(3, 9)), None);
    }

    #[test]
    #[should_panic(expected = "over commit 2")]
    fn no_snapshot_takes_back_what_is_committed() {
        let mut log = filled(&[1, 1]);
        log.commit_to(Index(2));
        log.reset(Position::new(Term(1), Index(2)));
    }

    #[test]
    #[should_panic(expected = "no snapshot stands for them")]
    fn entries_leave_only_behind_a_snapshot() {
        let mut log = filled(&[1, 1]);
        log.commit_to(Index(2));
        log.cover(Position::new(Term(1), Index(1)));
        log.compact(Index(2));
    }

    #[test]
    fn a_snapshot_may_end_below_what_is_forgotten() {
        let at = |term, index| Position::new(Term(term), Index(index));
        let mut log = filled(&[1, 1, 4, 4, 6]);
        log.commit_to(Index(4));
        log.forget(Index(3));
        assert_eq!((log.base(), log.snapshot(), log.last()), (at(4, 3), Position::ZERO, at(6, 5)));
        log.cover(at(1, 2));
        log.compact(Index(2));
        assert_eq!((log.base(), log.snapshot(), log.commit()), (at(4, 3), at(1, 2), Index(4)));
        assert_eq!((log.term_at(Index(2)), log.term_at(Index(3))), (None, Some(Term(4))));
    }

    #[test]
    #[should_panic(expected = "committed up to 1")]
    fn what_may_be_truncated_is_not_forgotten() {
        let mut log = filled(&[1, 1]);
        log.commit_to(Index(1));
        log.forget(Index(2));
    }

    #[test]
    #[should_panic(expected = "would lose commit")]
    fn committed_entries_are_never_cut() {
        let mut log = filled(&[1, 1]);
        log.commit_to(Index(2));
        log.truncate_from(Index(2));
    }

    #[test]
    #[should_panic(expected = "terms fall")]
    fn terms_never_fall() {
        filled(&[2, 1]);
    }

    #[test]
    #[should_panic(expected = "leaves a gap")]
    fn indexes_have_no_gap() {
        filled(&[1]).append(vec![entry(1, 3, 0)]);
    }
}
