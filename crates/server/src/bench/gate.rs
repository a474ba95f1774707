//! When the next request is to be sent, and when there is none any more. Must not know requests, connections or a clock: moments
//! are nanoseconds since the start that the caller names.
//!
//! In a closed loop a request begins when it is sent: who waits for an answer sends nothing, so what is measured is how long an
//! answer takes, not how long users wait at a given load. In an open loop a request begins when the schedule says that it is
//! due, whether or not it could be sent then: a server that stalls for a second delays all the requests of that second, and each
//! is counted from when it should have been sent.

/// Moments at an even distance, that neither drift nor know what became of them.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    start: u64,
    per_second: u64,
}

impl Schedule {
    /// When the request of this number, from 0, is due.
    fn due(self, number: u64) -> u64 {
        let after = u128::from(number) * u128::from(NANOS) / u128::from(self.per_second);
        self.start.saturating_add(u64::try_from(after).unwrap_or(u64::MAX))
    }

    /// How many are due before this moment.
    fn due_before(self, moment: u64) -> u64 {
        let span = u128::from(moment.saturating_sub(self.start));
        let count = (span * u128::from(self.per_second)).div_ceil(u128::from(NANOS));
        u64::try_from(count).unwrap_or(u64::MAX)
    }
}

/// Nanoseconds of a second.
pub(super) const NANOS: u64 = 1_000_000_000;

/// How long requests are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// For so many nanoseconds, warm-up apart.
    Time(u64),
    /// So many, warm-up apart.
    Requests(u64),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Gate {
    schedule: Option<Schedule>,
    /// Requests let through, warm-up included.
    given: u64,
    /// Where the warm-up ends: what begins earlier is not measured.
    measured_from: u64,
    /// Nothing begins from here on.
    until: u64,
    /// Measured requests that may still begin.
    left: u64,
}

impl Gate {
    /// From `start` on, `rate` requests a second if there is one, as fast as they are answered otherwise.
    pub(super) fn new(start: u64, warm_up: u64, extent: Extent, rate: Option<u64>) -> Self {
        let measured_from = start.saturating_add(warm_up);
        let (until, left) = match extent {
            Extent::Time(span) => (measured_from.saturating_add(span), u64::MAX),
            Extent::Requests(count) => (u64::MAX, count),
        };
        let schedule = rate.map(|per_second| Schedule { start, per_second });
        Self { schedule, given: 0, measured_from, until, left }
    }

    /// One that lets nothing through.
    pub(super) fn shut() -> Self {
        Self { schedule: None, given: 0, measured_from: 0, until: 0, left: 0 }
    }

    /// Where the warm-up ends.
    pub(super) fn measured_from(&self) -> u64 {
        self.measured_from
    }

    /// Where the sending ends, if time is what ends it.
    pub(super) fn until(&self) -> Option<u64> {
        (self.until < u64::MAX).then_some(self.until)
    }

    /// When the next request begins, if it may be sent now.
    #[inline]
    pub(super) fn next(&mut self, now: u64) -> Option<u64> {
        let begins = match self.schedule {
            Some(schedule) => schedule.due(self.given),
            None => now,
        };
        if begins > now || begins >= self.until {
            return None;
        }
        if begins >= self.measured_from {
            self.left = self.left.checked_sub(1)?;
        }
        self.given += 1;
        Some(begins)
    }

    /// When there is more to send, in an open loop: what is due is sent at once.
    pub(super) fn next_due(&self) -> Option<u64> {
        let due = self.schedule?.due(self.given);
        (due < self.until && self.left > 0).then_some(due)
    }

    /// Whether no request will begin any more.
    pub(super) fn is_over(&self, now: u64) -> bool {
        match self.schedule {
            Some(_) => self.next_due().is_none(),
            None => now >= self.until || self.left == 0,
        }
    }

    /// Nothing begins from now on. What was due before stays due.
    pub(super) fn stop(&mut self, now: u64) {
        self.until = self.until.min(now);
    }

    /// Requests that are due by now, and were not let through.
    pub(super) fn behind(&self, now: u64) -> u64 {
        let Some(schedule) = self.schedule else { return 0 };
        schedule.due_before(now.min(self.until)).saturating_sub(self.given).min(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = NANOS / 1_000;

    #[test]
    fn a_schedule_does_not_drift() {
        let schedule = Schedule { start: 5, per_second: 3 };
        assert_eq!(
            [0, 1, 2, 3].map(|number| schedule.due(number)),
            [5, 333_333_338, 666_666_671, 1_000_000_005]
        );
        assert_eq!(schedule.due(3_000_000), 5 + 1_000_000 * NANOS);
        for number in [0, 1, 2, 3, 1_000] {
            let due = schedule.due(number);
            assert_eq!((schedule.due_before(due), schedule.due_before(due + 1)), (number, number + 1));
        }
    }

    #[test]
    fn an_open_loop_counts_from_when_a_request_should_have_been_sent() {
        // A request each 10 ms. Nobody can send for a while: what was due meanwhile begins when it was due, not later.
        let mut gate = Gate::new(0, 0, Extent::Time(100 * MS), Some(100));
        assert_eq!(gate.next(0), Some(0));
        assert_eq!(gate.next(MS), None);
        assert_eq!(gate.next_due(), Some(10 * MS));
        assert_eq!(gate.behind(35 * MS), 3);
        let late: Vec<u64> = std::iter::from_fn(|| gate.next(35 * MS)).collect();
        assert_eq!(late, [10 * MS, 20 * MS, 30 * MS]);
        assert_eq!(gate.behind(35 * MS), 0);
    }

    #[test]
    fn an_open_loop_that_is_late_at_its_end_still_owes_what_was_due() {
        let mut gate = Gate::new(0, 0, Extent::Time(100 * MS), Some(100));
        assert_eq!(gate.next(0), Some(0));
        assert!(!gate.is_over(500 * MS));
        assert_eq!(gate.behind(500 * MS), 9);
        assert_eq!(std::iter::from_fn(|| gate.next(500 * MS)).count(), 9);
        assert!(gate.is_over(500 * MS));
        assert_eq!(gate.next_due(), None);
    }

    #[test]
    fn a_closed_loop_counts_from_the_sending_and_ends_in_time() {
        let mut gate = Gate::new(7, 10 * MS, Extent::Time(100 * MS), None);
        assert_eq!((gate.measured_from(), gate.until()), (7 + 10 * MS, Some(7 + 110 * MS)));
        assert_eq!(gate.next(9), Some(9));
        assert_eq!(gate.next(9), Some(9));
        assert_eq!(gate.next_due(), None);
        assert!(!gate.is_over(109 * MS));
        assert!(gate.is_over(111 * MS));
        assert_eq!(gate.next(111 * MS), None);
        assert_eq!(gate.behind(111 * MS), 0);
    }

    #[test]
    fn a_count_is_of_requests_after_the_warm_up() {
        for rate in [None, Some(1_000)] {
            let mut gate = Gate::new(0, 10 * MS, Extent::Requests(3), rate);
            let mut begun = Vec::new();
            for moment in 0..30 {
                begun.extend(gate.next(moment * MS));
            }
            assert_eq!(begun.len(), 13, "{rate:?}");
            assert!(gate.is_over(30 * MS));
            assert_eq!(gate.behind(30 * MS), 0);
        }
    }

    #[test]
    fn a_stop_ends_both_loops() {
        for rate in [None, Some(1_000)] {
            let mut gate = Gate::new(0, 0, Extent::Requests(1_000), rate);
            assert_eq!(gate.next(0), Some(0));
            gate.stop(1);
            assert_eq!(gate.next(MS), None, "{rate:?}");
            assert!(gate.is_over(MS));
        }
    }
}
