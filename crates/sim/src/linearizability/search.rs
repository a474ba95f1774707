//! The search of an order, from the front. Knows when to turn back, not what values are.

use std::collections::{BTreeMap, BTreeSet};

use super::lookahead::Lookahead;
use super::operation::{Class, Effect, Known, Open, Placed, answer_of};
use super::ring::Ring;
use super::values::{State, Values};
use crate::history::{Operation, Outcome, Stamp};
use crate::prng::Prng;

/// How a search ended.
pub(super) enum Verdict {
    Order,
    NoOrder,
    AllowanceInTheWay,
    TooLarge,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Place this.
    Place(Placed),
    /// Place this open operation, though nothing seen soon asks for it.
    Unhinted(usize),
    /// Only now look for open operations: most histories need none.
    LookForOpen,
    /// Place this open operation, which took effect next by suggestion.
    Suggested(usize),
}

/// One choice of the search: what was placed, and what else could have been.
#[derive(Debug)]
struct Choice {
    placed: Placed,
    before: State,
    unhinted: u32,
    reached: Option<u64>,
    /// Alternatives not tried yet, best last.
    rest: Vec<Step>,
}

/// See the module above.
pub(super) struct Search {
    values: Values,
    known: Vec<Known>,
    open: Vec<Open>,
    /// Open operations with a rank, in its order.
    ranked: Vec<usize>,
    lookahead: Lookahead,
    /// Turn back as soon as an answer to come is out of reach.
    pub(super) does_look_ahead: bool,
    /// Of `known`, in the order of calls, what is not placed.
    left: Ring,
    used: Vec<u64>,
    /// Unhinted open operations placed since the last completed one.
    unhinted: u32,
    /// The rank of the last operation placed that had one.
    reached: Option<u64>,
    state: State,
    set: u128,
    placed: usize,
    seen: BTreeMap<(u128, State), Vec<Visit>>,
    longest: (usize, Vec<usize>),
    branches: u64,
    branches_max: u64,
}

impl Search {
    pub(super) fn new(operations: &[&Operation], ranks: &[Option<u64>], branches_max: u64) -> Self {
        let mut marks = Prng::new(0x51_6E_A9);
        let values = Values::new(operations.iter().filter_map(|o| o.outcome.value().cloned()).collect());
        let mut known = Vec::new();
        let mut open = Vec::new();
        for (input, (operation, rank)) in operations.iter().zip(ranks).enumerate() {
            let rank = *rank;
            let (call, effect) = (operation.call, Effect::of(&operation.action, &values));
            match (operation.returned, answer_of(&operation.outcome, &values)) {
                (Some(returned), Some(answer)) => {
                    let mark = (u128::from(marks.draw()) << 64) | u128::from(marks.draw());
                    known.push(Known { input, call, returned, effect, answer, rank, mark });
                }
                (_, _) if operation.outcome == Outcome::NotExecuted => {}
                (_, _) => {
                    let class = Class::of(&effect, &values);
                    open.extend(class.map(|class| Open { call, effect, rank, class }));
                }
            }
        }
        known.sort_by_key(|operation| operation.call);
        open.sort_by_key(|operation| operation.call);
        let mut ranked: Vec<usize> = (0..open.len()).filter(|at| open[*at].rank.is_some()).collect();
        ranked.sort_by_key(|at| open[*at].rank);
        Self {
            lookahead: Lookahead::new(&values, &known, &open),
            does_look_ahead: true,
            left: Ring::new(known.len(), 0..known.len()),
            used: vec![0; open.len().div_ceil(64)],
            values,
            known,
            open,
            ranked,
            unhinted: 0,
            reached: None,
            state: State::Absent,
            set: 0,
            placed: 0,
            seen: BTreeMap::new(),
            longest: (0, Vec::new()),
            branches: 0,
            branches_max,
        }
    }

    /// How far the longest order came, and which operations of the input could have come next and fit nowhere.
    pub(super) fn longest(self) -> (usize, Vec<usize>) {
        self.longest
    }

    /// One search with an allowance of unhinted operations. Leaves everything taken back unless it succeeds.
    pub(super) fn run(&mut self, allowance: u32) -> Verdict {
        self.seen.clear();
        let mut in_the_way = false;
        let mut choices: Vec<Choice> = Vec::new();
        let mut rest = self.candidates();
        loop {
            if self.placed == self.known.len() {
                return Verdict::Order;
            }
            match rest.pop() {
                Some(Step::LookForOpen) => {
                    let (steps, cut) = self.open_candidates(allowance);
                    in_the_way |= cut;
                    rest = steps;
                }
                Some(step @ (Step::Place(_) | Step::Unhinted(_) | Step::Suggested(_))) => {
                    self.branches += 1;
                    if self.branches > self.branches_max {
                        return Verdict::TooLarge;
                    }
                    let placed = match step {
                        Step::Place(placed) => placed,
                        Step::Unhinted(at) | Step::Suggested(at) => Placed::Open(at),
                        Step::LookForOpen => unreachable!("matched above"),
                    };
                    let (before, unhinted, reached) = (self.state, self.unhinted, self.reached);
                    self.place(placed);
                    self.unhinted += u32::from(matches!(step, Step::Unhinted(_)));
                    choices.push(Choice { placed, before, unhinted, reached, rest });
                    rest = self.steps_after(step, before);
                }
                None => {
                    let Some(choice) = choices.pop() else { break };
                    self.take_back(choice.placed, choice.before);
                    self.unhinted = choice.unhinted;
                    self.reached = choice.reached;
                    rest = choice.rest;
                }
            }
        }
        if in_the_way { Verdict::AllowanceInTheWay } else { Verdict::NoOrder }
    }

    /// What to try after a step that has just been placed.
    fn steps_after(&mut self, step: Step, before: State) -> Vec<Step> {
        if self.does_look_ahead && self.state != before && self.lookahead.rules_out(self.state) {
            return Vec::new();
        }
        match (self.is_new(), step) {
            (true, _) => self.candidates(),
            // A suggestion may lead through where the search has been (a value is set and deleted again, say) and on
            // from there: it is followed, and nothing else is tried twice.
            (false, Step::Suggested(_)) => {
                let mut steps = self.candidates();
                steps.retain(|step| *step != Step::LookForOpen);
                steps
            }
            (false, Step::Place(_) | Step::Unhinted(_) | Step::LookForOpen) => Vec::new(),
        }
    }

    /// Who is next in line: what was called before the first return among what is not placed.
    fn line(&self) -> (Vec<usize>, Stamp) {
        let mut first_return = Stamp(u64::MAX);
        let mut line = Vec::new();
        for at in self.left.iter() {
            if self.known[at].call >= first_return {
                break;
            }
            first_return = first_return.min(self.known[at].returned);
            line.push(at);
        }
        (line, first_return)
    }

    /// What may come next, best last. One operation alone where it is certainly no mistake.
    fn candidates(&mut self) -> Vec<Step> {
        let (line, first_return) = self.line();
        let mut fitting = Vec::new();
        for at in &line {
            let operation = &self.known[*at];
            let (_, answer) = operation.effect.apply(self.state, &self.values);
            if answer == operation.answer {
                if operation.effect.is_observation(answer) {
                    return vec![Step::Place(Placed::Known(*at))];
                }
                fitting.push(*at);
            }
        }
        if self.placed >= self.longest.0 {
            self.longest = (self.placed, line.iter().map(|at| self.known[*at].input).collect());
        }
        // Without a suggestion the one that returned first is the likeliest, so it is tried first.
        fitting.sort_by_key(|at| {
            let Known { rank, returned, .. } = &self.known[*at];
            std::cmp::Reverse((rank.unwrap_or(0), *returned))
        });
        let suggested = self.suggested(self.reached, self.first_rank(&line), first_return);
        let placed = fitting.into_iter().map(|at| Step::Place(Placed::Known(at)));
        let look = if self.open.is_empty() { None } else { Some(Step::LookForOpen) };
        look.into_iter().chain(placed).chain(suggested).collect()
    }

    /// The rank of the first write among those next in line.
    fn first_rank(&self, line: &[usize]) -> Option<u64> {
        let known = line.iter().map(|at| &self.known[*at]);
        known.filter(|known| !known.effect.is_observation(known.answer)).filter_map(|known| known.rank).min()
    }

    /// The open operation that took effect before all who are next in line, by suggestion.
    fn suggested(&self, reached: Option<u64>, first_rank: Option<u64>, first_return: Stamp) -> Option<Step> {
        let from = self.ranked.partition_point(|at| self.open[*at].rank <= reached);
        let to_come = self.ranked[from..].iter().copied();
        let at =
            to_come.take_while(|at| first_rank.is_none() || self.open[*at].rank < first_rank).find(|at| {
                let Open { call, effect, .. } = &self.open[*at];
                *call < first_return
                    && !self.is_used(*at)
                    && effect.apply(self.state, &self.values).0 != self.state
            })?;
        Some(Step::Suggested(at))
    }

    /// Open operations that may come next, hinted ones last; and whether the allowance held some back.
    fn open_candidates(&self, allowance: u32) -> (Vec<Step>, bool) {
        let (_, first_return) = self.line();
        let mut hinted = Vec::new();
        let mut unhinted = Vec::new();
        let mut tried = BTreeSet::new();
        let called = self.open.partition_point(|open| open.call < first_return);
        for at in (0..called).filter(|at| !self.is_used(*at)) {
            let Open { effect, class, .. } = &self.open[at];
            let after = effect.apply(self.state, &self.values).0;
            if after == self.state || !tried.insert(class) {
                continue;
            }
            if self.lookahead.hints_at(after) {
                hinted.push(Step::Place(Placed::Open(at)));
            } else {
                unhinted.push(at);
            }
        }
        // Where nobody will see the bytes, those that may be needed where they are seen are kept.
        unhinted.retain(|at| match &self.open[*at].class {
            Class::Append { suffix } => {
                let after = self.values.appended(self.state, suffix);
                let bytes = suffix.len();
                after != State::Unseen { bytes: after.bytes() } || !tried.contains(&Class::Lengthen { bytes })
            }
            Class::Put { .. } | Class::Lengthen { .. } | Class::Delete => true,
        });
        let cut = self.unhinted >= allowance && !unhinted.is_empty();
        if cut {
            unhinted.clear();
        }
        (unhinted.into_iter().map(Step::Unhinted).chain(hinted).collect(), cut)
    }

    fn is_used(&self, at: usize) -> bool {
        self.used[at / 64] & (1 << (at % 64)) != 0
    }

    fn place(&mut self, placed: Placed) {
        self.lookahead.place(placed);
        match placed {
            Placed::Known(at) => {
                let Known { effect, answer, rank, mark, .. } = &self.known[at];
                self.state = effect.apply(self.state, &self.values).0;
                self.set ^= mark;
                self.placed += 1;
                self.unhinted = 0;
                // An observation is placed as early as it fits, which says nothing of how far the writes are.
                if !effect.is_observation(*answer) {
                    self.reached = rank.or(self.reached);
                }
                self.left.take_out(at);
            }
            Placed::Open(at) => {
                let Open { effect, rank, .. } = &self.open[at];
                self.state = effect.apply(self.state, &self.values).0;
                self.used[at / 64] |= 1 << (at % 64);
                self.reached = rank.or(self.reached);
            }
        }
    }

    fn take_back(&mut self, placed: Placed, before: State) {
        self.lookahead.take_back(placed);
        self.state = before;
        match placed {
            Placed::Known(at) => {
                self.set ^= self.known[at].mark;
                self.placed -= 1;
                self.left.put_back(at);
            }
            Placed::Open(at) => self.used[at / 64] &= !(1 << (at % 64)),
        }
    }

    /// Whether no branch that could do at least as much has been here; remembers this one if so.
    fn is_new(&mut self) -> bool {
        let visit = Visit { unhinted: self.unhinted, used: self.used.clone() };
        let visits = self.seen.entry((self.set, self.state)).or_default();
        if visits.iter().any(|earlier| earlier.covers(&visit)) {
            return false;
        }
        visits.retain(|earlier| !visit.covers(earlier));
        visits.push(visit);
        true
    }
}

/// What a branch had used when it came by: all that it can do less than another one in the same place.
#[derive(Debug)]
struct Visit {
    unhinted: u32,
    used: Vec<u64>,
}

impl Visit {
    fn covers(&self, other: &Self) -> bool {
        self.unhinted <= other.unhinted
            && self.used.iter().zip(&other.used).all(|(own, others)| own & !others == 0)
    }
}
