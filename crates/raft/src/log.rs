//! The replicated log in memory. Knows nothing of roles, peers or disks; what of it is durable stands in
//! `writes`.

use std::collections::VecDeque;

use crate::message::Run;
use crate::types::{Entry, Index, Position, Term};

/// Entries after a base position, and how far they are committed.
///
/// ```text
///          base                commit             last
///            │                   │                  │
/// (snapshot) 4@2 │ 5@2  6@3  7@3 8@3 │ 9@3  10@5  11@5
/// ```
///
/// Invariants, kept by the methods and asserted there:
/// - The first entry follows `base`; indexes have no gap.
/// - Terms never fall from one entry to the next.
/// - `base` ≤ `commit` ≤ last.
/// - The commit index never falls.
/// - An entry at or below the commit index never changes: only the tail above it can be truncated.
/// - `uncommitted_bytes` is the cost of the entries above the commit index.
///
/// The whole log stays in memory until snapshots exist.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    base: Position,
    entries: VecDeque<Entry>,
    commit: Index,
    uncommitted_bytes: usize,
}

impl Log {
    /// A log as recovery found it. What of it is committed beyond `base` is not stored: it is learned again.
    pub(crate) fn new(base: Position, entries: Vec<Entry>) -> Self {
        let mut log = Self { base, entries: VecDeque::new(), commit: base.index, uncommitted_bytes: 0 };
        log.append(entries);
        log
    }

    /// The position before the first entry.
    pub(crate) fn base(&self) -> Position {
        self.base
    }

    /// The position of the last entry, or the base of an empty log.
    pub(crate) fn last(&self) -> Position {
        self.entries.back().map_or(self.base, |entry| entry.position)
    }

    /// The commit index.
    pub(crate) fn commit(&self) -> Index {
        self.commit
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

    /// The highest position here whose index and term are both at or below those of `ceiling`, but never below
    /// the base. With it either side of a rejected append skips whole terms at once (thesis §5.3).
    pub(crate) fn highest_not_above(&self, ceiling: Position) -> Position {
        let by_term = self.entries.partition_point(|entry| entry.position.term <= ceiling.term);
        let by_index = self.offset(ceiling.index).unwrap_or(0);
        let count = by_term.min(by_index);
        count.checked_sub(1).map_or(self.base, |last| self.entries[last].position)
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
            self.uncommitted_bytes -= entry.cost();
            self.entries.pop_back();
        }
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
        Log::new(Position::ZERO, entries)
    }

    /// What may be done to a log; numbers are made to fit by the test.
    #[derive(Clone, Debug)]
    enum Change {
        Append { term_step: u64, length: usize },
        Truncate { kept: u64 },
        Commit { more: u64 },
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            4 => (0..2_u64, 0..50_usize).prop_map(|(term_step, length)| Change::Append { term_step, length }),
            1 => (0..6_u64).prop_map(|kept| Change::Truncate { kept }),
            1 => (0..4_u64).prop_map(|more| Change::Commit { more }),
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
            let base = if base_index == 0 { Position::ZERO } else { Position::new(Term(1), Index(base_index)) };
            let mut log = Log::new(base, Vec::new());
            let mut model: Vec<Entry> = Vec::new();
            let mut commit = base_index;
            for change in changes {
                let last = model.last().map_or(base, |entry| entry.position);
                match change {
                    Change::Append { term_step, length } => {
                        let added = entry((last.term.0 + term_step).max(1), last.index.0 + 1, length);
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
                }
            }
            let all: Vec<Entry> = log.between(Index::ZERO, Index(u64::MAX)).cloned().collect();
            prop_assert_eq!(&all, &model);
            let tail = model.iter().filter(|entry| entry.position.index.0 > commit);
            prop_assert_eq!(log.uncommitted_bytes(), tail.map(Entry::cost).sum::<usize>());
            for index in 0..50 {
                let known = model.iter().find(|entry| entry.position.index.0 == index);
                prop_assert_eq!(log.entry(Index(index)), known);
            }
            let ceiling = Position::new(Term(ceiling.0), Index(ceiling.1));
            let is_below = |at: &Position| at.term <= ceiling.term && at.index <= ceiling.index;
            let highest = model.iter().map(|entry| entry.position).rfind(is_below).unwrap_or(base);
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
        assert_eq!(log.highest_not_above(at(5, 7)), at(4, 5));
        assert_eq!(log.highest_not_above(at(3, 7)), at(1, 2));
        assert_eq!(log.highest_not_above(at(9, 4)), at(4, 4));
        assert_eq!(log.highest_not_above(at(0, 4)), Position::ZERO);
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
