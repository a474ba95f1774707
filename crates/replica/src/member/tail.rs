//! How much of the log stands where, so that a tail of it can be kept on the disk behind a snapshot though its entries have
//! left the memory. Knows no entry: only indexes, and bytes up to them.

use std::collections::VecDeque;

use quorate_raft::Index;

/// The tail is measured in so many steps.
const TAIL_STEPS: u64 = 64;
/// And the longest log in so many: what a mark costs is bounded, however short the tail is.
const LOG_STEPS_MAX: u64 = 4_096;

/// Marks along the log.
///
/// Invariants: indexes and bytes rise from one to the next, and the first one is where the tail may begin at the earliest.
#[derive(Debug)]
pub(super) struct Tail {
    tail_bytes: u64,
    /// Bytes from one mark to the next, at least.
    step_bytes: u64,
    /// Bytes of all entries since the first mark that there ever was.
    total: u64,
    marks: VecDeque<(Index, u64)>,
}

impl Tail {
    /// Of a log that begins behind `base`.
    pub(super) fn new(tail_bytes: u64, log_bytes_max: u64, base: Index) -> Self {
        let step_bytes = (tail_bytes / TAIL_STEPS).max(log_bytes_max / LOG_STEPS_MAX).max(1);
        Self { tail_bytes, step_bytes, total: 0, marks: VecDeque::from([(base, 0)]) }
    }

    /// The next entry is applied.
    pub(super) fn add(&mut self, index: Index, bytes: usize) {
        self.total += bytes as u64;
        if self.marks.back().is_none_or(|(_, before)| self.total - before >= self.step_bytes) {
            self.marks.push_back((index, self.total));
        }
    }

    /// The log begins anew behind a snapshot.
    pub(super) fn begin_anew(&mut self, snapshot: Index) {
        self.marks = VecDeque::from([(snapshot, self.total)]);
    }

    /// The entry before the longest tail behind this snapshot that is not above its bound. No later answer is below this one.
    pub(super) fn before(&mut self, snapshot: Index) -> Index {
        // At least as much as up to the snapshot itself.
        let upto = self.marks.iter().find(|(index, _)| *index >= snapshot).map_or(self.total, |mark| mark.1);
        while let Some(&(index, bytes)) = self.marks.front()
            && index < snapshot
        {
            if upto - bytes <= self.tail_bytes {
                return index;
            }
            self.marks.pop_front();
        }
        snapshot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries of ten bytes, from 1 on.
    fn filled(tail_bytes: u64, log_bytes_max: u64, last: u64) -> Tail {
        let mut tail = Tail::new(tail_bytes, log_bytes_max, Index::ZERO);
        (1..=last).for_each(|index| tail.add(Index(index), 10));
        tail
    }

    #[test]
    fn short_logs_are_measured_by_the_entry() {
        let mut tail = filled(35, 1_000, 20);
        assert_eq!(tail.before(Index(2)), Index::ZERO);
        assert_eq!(tail.before(Index(12)), Index(9));
        assert_eq!(tail.before(Index(12)), Index(9));
        tail.add(Index(21), 1_000);
        assert_eq!(tail.before(Index(20)), Index(17));
        assert_eq!(tail.before(Index(21)), Index(21));
        tail.begin_anew(Index(50));
        assert_eq!(tail.before(Index(50)), Index(50));
        tail.add(Index(51), 10);
        assert_eq!(tail.before(Index(51)), Index(50));
    }

    #[test]
    fn a_tail_of_nothing_is_none() {
        assert_eq!(filled(0, 1_000, 20).before(Index(12)), Index(12));
    }

    /// What is kept is at most what is asked for, and nearly so much.
    #[test]
    fn long_tails_are_measured_in_steps() {
        let mut tail = filled(6_400, 40_000, 3_000);
        assert!(tail.marks.len() <= 301);
        for snapshot in (700..3_000).step_by(7) {
            let kept = 10 * (snapshot - tail.before(Index(snapshot)).0);
            assert!((6_200..=6_400).contains(&kept), "{kept} bytes behind {snapshot}");
        }
    }

    /// The marks of a log without bound would be without bound as well.
    #[test]
    fn marks_are_few_however_short_the_tail_is() {
        let mut tail = filled(1, 4_096_000, 10_000);
        assert!(tail.marks.len() <= 101);
        assert_eq!(tail.before(Index(9_999)), Index(9_999));
    }
}
