//! What the answers to come say of the present state. Knows what is left to be placed, and no order.
//!
//! An answer that shows a value says how the value began: with a write whose bytes it begins with. Where the present
//! state does not lead to it, that write is still to come, and was called before the answer returned. If no such write
//! is left, the present state is a mistake that the search would otherwise notice only when it meets the answer, after
//! trying everything in between.

use std::collections::{BTreeMap, BTreeSet};

use super::operation::{Answer, Effect, Known, Open, Placed};
use super::ring::Ring;
use super::values::{State, Values};
use crate::history::Stamp;

/// How many answers ahead are looked at.
const ANSWERS_AHEAD: usize = 32;

/// See the module.
pub(super) struct Lookahead {
    /// The completed operations that show a value, or that there is none, and are not placed.
    left: Ring,
    /// By completed operation: what it shows, if anything.
    shown: Vec<Option<Shown>>,
    /// By beginning: the writes that begin so and are not placed.
    to_come: Vec<BTreeSet<(Stamp, Placed)>>,
    /// By completed and by open operation: how a value begins with it, if any that was answered does.
    known_beginnings: Vec<Option<Beginning>>,
    open_beginnings: Vec<Option<Beginning>>,
    /// By value: all its beginnings.
    of_value: Vec<Vec<usize>>,
    /// The beginning of no value: a deletion.
    of_none: Option<usize>,
}

/// The value, or that there is none, until an operation returned.
#[derive(Clone, Copy)]
struct Shown {
    value: Option<usize>,
    until: Stamp,
}

#[derive(Clone, Copy)]
struct Beginning {
    number: usize,
    call: Stamp,
}

impl Lookahead {
    pub(super) fn new(values: &Values, known: &[Known], open: &[Open]) -> Self {
        let mut numbers: BTreeMap<State, usize> = BTreeMap::new();
        let mut to_come: Vec<BTreeSet<(Stamp, Placed)>> = Vec::new();
        let mut beginning = |write: Placed, effect: &Effect, call: Stamp| {
            let begun = effect.begins(values).filter(|state| !matches!(state, State::Unseen { .. }))?;
            let fresh = numbers.len();
            let number = *numbers.entry(begun).or_insert(fresh);
            if number == fresh {
                to_come.push(BTreeSet::new());
            }
            to_come[number].insert((call, write));
            Some(Beginning { number, call })
        };
        let known_beginnings = known
            .iter()
            .enumerate()
            .map(|(at, of)| beginning(Placed::Known(at), &of.effect, of.call))
            .collect();
        let open_beginnings = open
            .iter()
            .enumerate()
            .map(|(at, of)| beginning(Placed::Open(at), &of.effect, of.call))
            .collect();
        let mut of_value = vec![Vec::new(); values.count()];
        for (state, number) in &numbers {
            if let State::Seen { first, end, .. } = state {
                of_value[*first..*end].iter_mut().for_each(|beginnings| beginnings.push(*number));
            }
        }
        let shown: Vec<Option<Shown>> = known.iter().map(Shown::of).collect();
        Self {
            left: Ring::new(known.len(), (0..known.len()).filter(|at| shown[*at].is_some())),
            shown,
            of_none: numbers.get(&State::Absent).copied(),
            to_come,
            known_beginnings,
            open_beginnings,
            of_value,
        }
    }

    fn ahead(&self) -> impl Iterator<Item = Shown> {
        self.left.iter().take(ANSWERS_AHEAD).filter_map(|at| self.shown[at])
    }

    /// Whether a value that is shown soon may grow from this state.
    pub(super) fn hints_at(&self, state: State) -> bool {
        self.ahead().any(|shown| shown.value.is_some_and(|value| state.leads_to(value)))
    }

    /// Whether what is shown soon can be reached from this state in no way.
    pub(super) fn rules_out(&self, state: State) -> bool {
        self.ahead().any(|Shown { value, until }| {
            let is_to_come =
                |number: &usize| self.to_come[*number].first().is_some_and(|(call, _)| *call < until);
            match value {
                Some(value) => !state.leads_to(value) && !self.of_value[value].iter().any(is_to_come),
                None => state != State::Absent && !self.of_none.iter().any(is_to_come),
            }
        })
    }

    pub(super) fn place(&mut self, placed: Placed) {
        if let Some(Beginning { number, call }) = self.beginning(placed) {
            self.to_come[number].remove(&(call, placed));
        }
        if let Some(at) = self.shows(placed) {
            self.left.take_out(at);
        }
    }

    pub(super) fn take_back(&mut self, placed: Placed) {
        if let Some(Beginning { number, call }) = self.beginning(placed) {
            self.to_come[number].insert((call, placed));
        }
        if let Some(at) = self.shows(placed) {
            self.left.put_back(at);
        }
    }

    fn beginning(&self, placed: Placed) -> Option<Beginning> {
        match placed {
            Placed::Known(at) => self.known_beginnings[at],
            Placed::Open(at) => self.open_beginnings[at],
        }
    }

    fn shows(&self, placed: Placed) -> Option<usize> {
        match placed {
            Placed::Known(at) => self.shown[at].map(|_| at),
            Placed::Open(_) => None,
        }
    }
}

impl Shown {
    fn of(known: &Known) -> Option<Self> {
        let shown = |value| known.effect.shows_value().then_some(Self { value, until: known.returned });
        match known.answer {
            Answer::Value(value) => shown(value),
            Answer::Nil => shown(None),
            Answer::Ok | Answer::Integer(_) | Answer::Absurd => None,
        }
    }
}
