//! What happens when: the one virtual clock and the one queue of a run. Knows nothing of what the events are.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Virtual time, in microseconds since the start of the run.
pub type Micros = u64;

/// One millisecond of virtual time.
pub const MS: Micros = 1_000;

/// One second of virtual time.
pub const SECOND: Micros = 1_000_000;

struct Scheduled<T> {
    at: Micros,
    number: u64,
    what: T,
}

impl<T> PartialEq for Scheduled<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}

impl<T> Eq for Scheduled<T> {}

impl<T> PartialOrd for Scheduled<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Scheduled<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// Events in the order of (time, running number): two events of one instant happen in the order in which they
/// were scheduled, so a run has exactly one order.
pub struct Schedule<T> {
    now: Micros,
    number: u64,
    queue: BinaryHeap<Reverse<Scheduled<T>>>,
}

impl<T> Default for Schedule<T> {
    fn default() -> Self {
        Self { now: 0, number: 0, queue: BinaryHeap::new() }
    }
}

impl<T> Schedule<T> {
    /// The virtual time.
    pub fn now(&self) -> Micros {
        self.now
    }

    /// Lets `what` happen in `delay` from now.
    pub fn after(&mut self, delay: Micros, what: T) {
        self.at(self.now + delay, what);
    }

    /// Lets `what` happen at `at`, or now if that is past.
    pub fn at(&mut self, at: Micros, what: T) {
        self.number += 1;
        self.queue.push(Reverse(Scheduled { at: at.max(self.now), number: self.number, what }));
    }

    /// When the next event happens.
    pub fn next_at(&self) -> Option<Micros> {
        self.queue.peek().map(|Reverse(scheduled)| scheduled.at)
    }

    /// Lets time pass in which nothing happens.
    ///
    /// # Panics
    /// If something does.
    pub fn advance(&mut self, until: Micros) {
        assert!(self.next_at().is_none_or(|at| at >= until), "the clock skips an event");
        self.now = self.now.max(until);
    }

    /// Moves the clock to the next event and gives it.
    #[expect(
        clippy::should_implement_trait,
        reason = "an endless queue is no iterator: handlers push into it"
    )]
    pub fn next(&mut self) -> Option<T> {
        let Reverse(scheduled) = self.queue.pop()?;
        self.now = scheduled.at;
        Some(scheduled.what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_instant_keeps_the_order_of_scheduling() {
        let mut schedule = Schedule::default();
        schedule.after(5, "c");
        schedule.after(1, "a");
        schedule.after(1, "b");
        assert_eq!(std::iter::from_fn(|| schedule.next()).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(schedule.now(), 5);
        schedule.at(2, "late");
        assert_eq!(schedule.next(), Some("late"));
        assert_eq!(schedule.now(), 5, "time never runs back");
    }
}
