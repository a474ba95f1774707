//! How much of the log is still needed: which segments can be deleted, and how many bytes no snapshot covers. Knows
//! no disk.

use std::collections::VecDeque;

use quorate_raft::{Index, Position};

/// Runs of records per segment that are counted by themselves: a bound on memory.
const RUNS_PER_SEGMENT: u64 = 1024;

/// A segment before the one that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Older {
    pub(crate) number: u64,
    /// Length of its file.
    pub(crate) bytes: u64,
    /// What the header of the segment after it calls the log's last position. Once a snapshot covers it, this
    /// segment and all before it are not needed: what is above was written later, and that header repeats the
    /// hard state.
    pub(crate) last: Position,
}

/// How many segments from the front on can be deleted, if a snapshot covers all up to `through`.
pub(crate) fn deletable(older: &VecDeque<Older>, through: Index) -> usize {
    older.iter().rposition(|segment| segment.last.index <= through).map_or(0, |at| at + 1)
}

/// Bytes of the records that no snapshot covers, counted in runs.
#[derive(Clone, Debug)]
pub(crate) struct Usage {
    /// Each with the highest index that the log ended with after one of its records.
    runs: VecDeque<(Index, u64)>,
    /// Runs below this go on.
    run_bytes: u64,
    bytes: u64,
}

impl Usage {
    pub(crate) fn new(segment_bytes: u64) -> Self {
        Self { runs: VecDeque::new(), run_bytes: segment_bytes / RUNS_PER_SEGMENT, bytes: 0 }
    }

    /// A record of `bytes`, after which the log ends with `last`.
    pub(crate) fn add(&mut self, last: Index, bytes: u64) {
        self.bytes += bytes;
        match self.runs.back_mut() {
            Some(run) if run.1 < self.run_bytes => *run = (run.0.max(last), run.1 + bytes),
            Some(_) | None => self.runs.push_back((last, bytes)),
        }
    }

    /// A snapshot covers all up to `index`.
    pub(crate) fn cover(&mut self, index: Index) {
        self.runs.retain(|run| run.0 > index);
        self.bytes = self.runs.iter().map(|run| run.1).sum();
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_snapshot_covers_is_not_counted() {
        let mut usage = Usage::new(1024);
        for index in 1..=10 {
            usage.add(Index(index), 100);
        }
        // Cut back to 4, and written anew.
        usage.add(Index(5), 100);
        assert_eq!(usage.bytes(), 1100);
        usage.cover(Index(4));
        assert_eq!(usage.bytes(), 700);
        usage.cover(Index(5));
        assert_eq!(usage.bytes(), 500, "what was cut off lies behind it and still takes its place");
        usage.cover(Index(10));
        assert_eq!(usage.bytes(), 0);
    }

    #[test]
    fn memory_is_bounded_by_runs_and_they_count_late_rather_than_early() {
        let mut usage = Usage::new(64 << 20);
        for index in 1..=100_000 {
            usage.add(Index(index), 100);
        }
        assert!(usage.runs.len() < 200);
        assert_eq!(usage.bytes(), 10_000_000);
        usage.cover(Index(50_000));
        assert!((5_000_000..5_100_000).contains(&usage.bytes()));
    }

    #[test]
    fn a_truncated_end_does_not_hold_up_what_is_before_it() {
        let older = |number, index| Older {
            number,
            bytes: 1024,
            last: Position::new(quorate_raft::Term(1), Index(index)),
        };
        let segments = VecDeque::from([older(1, 10), older(2, 30), older(3, 20), older(4, 40)]);
        for (through, count) in [(9, 0), (10, 1), (19, 1), (20, 3), (39, 3), (40, 4)] {
            assert_eq!(deletable(&segments, Index(through)), count, "{through}");
        }
    }
}
