//! What happens when: the one virtual clock and the one queue of a run. Knows nothing of what the events are.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Virtual time, in microseconds since the start of the run.
pub type Micros = u64;

/// One millisecond of virtual time.
pub const MS: Micros = 1_000;

/// One second of virtual time.
pub const SECOND: Micros = 1_000_000;

/// Events in the order of (time, running number): two events of one instant happen in the order in which they
/// were scheduled, so a run has exactly one order.
pub struct Schedule<T> {
    now: Micros,
    number: u64,
    /// Time, running number, and the place in `waiting`: events are large, and a heap moves what it holds.
    queue: BinaryHeap<Reverse<(Micros, u64, usize)>>,
    waiting: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T> Default for Schedule<T> {
    fn default() -> Self {
        Self { now: 0, number: 0, queue: BinaryHeap::new(), waiting: Vec::new(), free: Vec::new() }
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
        let place = self.free.pop().unwrap_or_else(|| {
            self.waiting.push(None);
            self.waiting.len() - 1
        });
        self.waiting[place] = Some(what);
        self.queue.push(Reverse((at.max(self.now), self.number, place)));
    }

    /// When the next event happens.
    pub fn next_at(&self) -> Option<Micros> {
        self.queue.peek().map(|Reverse((at, ..))| *at)
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
        let Reverse((at, _, place)) = self.queue.pop()?;
        self.now = at;
        self.free.push(place);
        self.waiting[place].take()
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
