//! Is there one order of a key's operations that explains every answer and contradicts no clock? Own checker:
//! depth-first just-in-time search with memoisation (Wing & Gong 1993, Lowe 2017). Knows the history only.
//!
//! The search builds an order from the front. Next in line may be any operation that was called before the
//! first return among those not placed yet. What keeps it fast, each without losing an order:
//!
//! - an operation that, answered as it was, changes nothing in any state is placed as soon as its answer fits:
//!   placing it later cannot open a way that placing it now closes;
//! - operations whose outcome is unknown are placed only where they change the state, and after all others were
//!   tried: they may also never take effect. Those that lead towards a value seen later are *hinted*; the search
//!   is repeated with a growing allowance of unhinted ones in a row, and refuses only when no allowance was in
//!   the way;
//! - on a key that is only appended to, each state must be a prefix of every value seen later;
//! - of two branches with the same state and the same completed operations placed, the one that has used fewer
//!   unknown operations can do all that the other can (memoisation with dominance).
//!
//! Whoever knows more than the history, such as the order of the log, may suggest it as *ranks*: they decide what is
//! tried first and nothing else, so an order that is found is an order, and one that is refused was refused by the
//! whole search.
//!
//! A value is known by its length and two rolling hashes, so that an append costs the same on a long value.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_replica::command::Condition;

use crate::history::{Action, Operation, Outcome, Stamp};
use crate::prng::Prng;

/// Branches after which a search is given up. Giving up is a failure, never a pass.
const BRANCHES_MAX: u64 = 5_000_000;

/// Unhinted open operations that the search may place in a row, try by try.
const ALLOWANCES: [u32; 10] = [0, 1, 2, 3, 4, 6, 8, 12, 16, u32::MAX];

/// How far ahead hints are looked for, in completed operations.
const HINT_WINDOW: usize = 64;

/// Why a history is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No order explains it. The longest order found places `placed` operations; `stuck` names those that
    /// could have come next and fit nowhere.
    NoOrder {
        /// How many completed operations the longest order explains.
        placed: usize,
        /// Places in the input of the operations of which one must come next.
        stuck: Vec<usize>,
    },
    /// The search was given up.
    TooLarge {
        /// As above.
        placed: usize,
        /// As above.
        stuck: Vec<usize>,
    },
}

/// Checks the operations of **one** key, in any order. The key is absent at first.
///
/// # Errors
/// Where no order explains the answers.
pub fn check(operations: &[&Operation]) -> Result<(), Refused> {
    check_ranked(operations, &vec![None; operations.len()])
}

/// Like [`check`], with a suggestion for each operation of when it took effect.
///
/// # Errors
/// Where no order explains the answers, whatever was suggested.
pub fn check_ranked(operations: &[&Operation], ranks: &[Option<u64>]) -> Result<(), Refused> {
    check_within(operations, ranks, BRANCHES_MAX)
}

/// Like [`check_ranked`], with another limit of branches.
pub(crate) fn check_within(
    operations: &[&Operation],
    ranks: &[Option<u64>],
    branches_max: u64,
) -> Result<(), Refused> {
    let mut search = Search::new(operations, ranks);
    search.branches_max = branches_max;
    for allowance in ALLOWANCES {
        match search.run(allowance) {
            Verdict::Order => return Ok(()),
            Verdict::NoOrder => break,
            Verdict::TooLarge => {
                let (placed, stuck) = search.longest;
                return Err(Refused::TooLarge { placed, stuck });
            }
            Verdict::AllowanceInTheWay => {}
        }
    }
    let (placed, stuck) = search.longest;
    Err(Refused::NoOrder { placed, stuck })
}

const MODULUS: u64 = (1 << 61) - 1;
const BASES: [u64; 2] = [0x0F3A_51C9_77B2_D46B, 0x1B5E_9D02_4C8F_A137];

fn multiply(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    let folded = (product as u64 & MODULUS) + (product >> 61) as u64;
    if folded >= MODULUS { folded - MODULUS } else { folded }
}

fn add(a: u64, b: u64) -> u64 {
    let sum = a + b;
    if sum >= MODULUS { sum - MODULUS } else { sum }
}

enum Verdict {
    Order,
    NoOrder,
    AllowanceInTheWay,
    TooLarge,
}

/// Bytes, as far as equality and appending need to know them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Print {
    bytes: u64,
    hashes: [u64; 2],
}

/// A print with what it takes to append it.
#[derive(Clone, Copy, Debug)]
struct Suffix {
    print: Print,
    powers: [u64; 2],
}

impl Suffix {
    fn of(bytes: &[u8]) -> Self {
        let print = bytes.iter().fold(Print::default(), |print, byte| print.extended(*byte));
        let power = |base: u64| bytes.iter().fold(1, |power, _| multiply(power, base));
        Self { print, powers: BASES.map(power) }
    }
}

impl Print {
    fn extended(self, byte: u8) -> Self {
        let hash = |which: usize| add(multiply(self.hashes[which], BASES[which]), u64::from(byte) + 1);
        Self { bytes: self.bytes + 1, hashes: [hash(0), hash(1)] }
    }

    fn appended(self, suffix: &Suffix) -> Self {
        let hash = |which: usize| {
            add(multiply(self.hashes[which], suffix.powers[which]), suffix.print.hashes[which])
        };
        Self { bytes: self.bytes + suffix.print.bytes, hashes: [hash(0), hash(1)] }
    }
}

/// The key: absent, or a value.
type State = Option<Print>;

/// What an operation does, made cheap.
#[derive(Clone, Copy, Debug)]
enum Effect {
    Put { value: Print, condition: Condition, get: bool },
    Append(Suffix),
    Delete,
    Get,
    Length,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Ok,
    Nil,
    Integer(i64),
    Value(Print),
}

impl Effect {
    fn of(action: &Action) -> Self {
        match action {
            Action::Put { value, condition, get } => {
                Self::Put { value: Suffix::of(value).print, condition: *condition, get: *get }
            }
            Action::Append { value } => Self::Append(Suffix::of(value)),
            Action::Delete { .. } => Self::Delete,
            Action::Get => Self::Get,
            Action::Length => Self::Length,
        }
    }

    /// The state after it, and what it answers.
    fn apply(&self, state: State) -> (State, Answer) {
        let value = |state: State| state.map_or(Answer::Nil, Answer::Value);
        match self {
            Self::Put { value: new, condition, get } => {
                let holds = match condition {
                    Condition::Always => true,
                    Condition::IfAbsent => state.is_none(),
                    Condition::IfPresent => state.is_some(),
                };
                let after = if holds { Some(*new) } else { state };
                let plain = if holds { Answer::Ok } else { Answer::Nil };
                (after, if *get { value(state) } else { plain })
            }
            Self::Append(suffix) => {
                let after = state.unwrap_or_default().appended(suffix);
                (Some(after), Answer::Integer(after.bytes as i64))
            }
            Self::Delete => (None, Answer::Integer(i64::from(state.is_some()))),
            Self::Get => (state, value(state)),
            Self::Length => (state, Answer::Integer(state.map_or(0, |print| print.bytes as i64))),
        }
    }
}

impl Effect {
    /// Whether the operation, answered so, changes nothing in **whatever** state it meets. (A `Put` of the value
    /// that is there already is no such operation: it may be meant for a later state.)
    fn is_observation(&self, answer: Answer) -> bool {
        match self {
            Self::Put { condition: Condition::Always, .. } | Self::Append(_) => false,
            Self::Put { condition: Condition::IfAbsent, get, .. } => (answer == Answer::Nil) != *get,
            Self::Put { condition: Condition::IfPresent, .. } => answer == Answer::Nil,
            Self::Delete => answer == Answer::Integer(0),
            Self::Get | Self::Length => true,
        }
    }
}

fn answer_of(outcome: &Outcome) -> Option<Answer> {
    let print = |bytes: &Bytes| Suffix::of(bytes).print;
    match outcome {
        Outcome::Ok => Some(Answer::Ok),
        Outcome::Nil => Some(Answer::Nil),
        Outcome::Integer(number) => Some(Answer::Integer(*number)),
        Outcome::Value(bytes) => Some(Answer::Value(print(bytes))),
        Outcome::NotExecuted | Outcome::Unknown => None,
    }
}

/// A completed operation.
#[derive(Debug)]
struct Known {
    input: usize,
    call: Stamp,
    returned: Stamp,
    effect: Effect,
    answer: Answer,
    /// The value it was answered with.
    value: Option<Bytes>,
    /// The print of each prefix of `value`, once asked for.
    prefixes: Vec<Print>,
    /// When it took effect, by suggestion.
    rank: Option<u64>,
    /// Stands for the operation in the exclusive-or that names a set of placed operations.
    mark: u128,
}

/// A write that may take effect at any time after its call, or never.
#[derive(Debug)]
struct Open {
    call: Stamp,
    effect: Effect,
    /// When it took effect, by suggestion.
    rank: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Placed {
    Known(usize),
    Open { at: usize, hinted: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Place this.
    Place(Placed),
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

struct Search {
    known: Vec<Known>,
    open: Vec<Open>,
    /// Open operations with a rank, in its order.
    ranked: Vec<usize>,
    /// Something replaces or deletes the value.
    has_resets: bool,
    /// A ring through `known` of what is not placed, in the order of calls; `known.len()` is its start and end.
    next: Vec<usize>,
    previous: Vec<usize>,
    used: Vec<u64>,
    unhinted: u32,
    /// The rank of the last operation placed that had one.
    reached: Option<u64>,
    state: State,
    set: u128,
    placed: usize,
    seen: BTreeMap<(u128, State), Vec<Vec<u64>>>,
    longest: (usize, Vec<usize>),
    branches: u64,
    branches_max: u64,
}

impl Search {
    fn new(operations: &[&Operation], ranks: &[Option<u64>]) -> Self {
        let mut marks = Prng::new(0x51_6E_A9);
        let mut known = Vec::new();
        let mut open = Vec::new();
        for (input, (operation, rank)) in operations.iter().zip(ranks).enumerate() {
            let rank = *rank;
            let (call, effect) = (operation.call, Effect::of(&operation.action));
            match (operation.returned, answer_of(&operation.outcome)) {
                (Some(returned), Some(answer)) => {
                    let mark = (u128::from(marks.draw()) << 64) | u128::from(marks.draw());
                    let value = operation.outcome.value().cloned();
                    let prefixes = Vec::new();
                    known.push(Known { input, call, returned, effect, answer, value, prefixes, rank, mark });
                }
                (_, None) if operation.outcome == Outcome::NotExecuted || !operation.is_write() => {}
                (_, _) => open.push(Open { call, effect, rank }),
            }
        }
        known.sort_by_key(|operation| operation.call);
        open.sort_by_key(|operation| operation.call);
        let end = known.len();
        let mut ranked: Vec<usize> = (0..open.len()).filter(|at| open[*at].rank.is_some()).collect();
        ranked.sort_by_key(|at| open[*at].rank);
        let resets = |effect: &Effect| matches!(effect, Effect::Put { .. } | Effect::Delete);
        Self {
            has_resets: known.iter().any(|o| resets(&o.effect)) || open.iter().any(|o| resets(&o.effect)),
            next: (1..=end).chain([0]).collect(),
            previous: [end].into_iter().chain(0..end).collect(),
            used: vec![0; open.len().div_ceil(64)],
            known,
            open,
            ranked,
            unhinted: 0,
            reached: None,
            state: None,
            set: 0,
            placed: 0,
            seen: BTreeMap::new(),
            longest: (0, Vec::new()),
            branches: 0,
            branches_max: BRANCHES_MAX,
        }
    }

    /// One search with an allowance of unhinted operations. Leaves everything taken back unless it succeeds.
    fn run(&mut self, allowance: u32) -> Verdict {
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
                Some(step @ (Step::Place(_) | Step::Suggested(_))) => {
                    self.branches += 1;
                    if self.branches > self.branches_max {
                        return Verdict::TooLarge;
                    }
                    let placed = match step {
                        Step::Place(placed) => placed,
                        Step::Suggested(at) => Placed::Open { at, hinted: true },
                        Step::LookForOpen => unreachable!("matched above"),
                    };
                    let (before, unhinted, reached) = (self.state, self.unhinted, self.reached);
                    self.place(placed);
                    choices.push(Choice { placed, before, unhinted, reached, rest });
                    rest = match (self.is_new(), step) {
                        (true, _) => self.candidates(),
                        // A suggestion may lead through where the search has been (a value is set and deleted again,
                        // say) and on from there: it is followed, and nothing else is tried twice.
                        (false, Step::Suggested(_)) => {
                            let mut steps = self.candidates();
                            steps.retain(|step| *step != Step::LookForOpen);
                            steps
                        }
                        (false, Step::Place(_) | Step::LookForOpen) => Vec::new(),
                    };
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

    /// Who is next in line: what was called before the first return among what is not placed.
    fn line(&self) -> (Vec<usize>, Stamp) {
        let end = self.known.len();
        let mut first_return = Stamp(u64::MAX);
        let mut line = Vec::new();
        let mut at = self.next[end];
        while at != end && self.known[at].call < first_return {
            first_return = first_return.min(self.known[at].returned);
            line.push(at);
            at = self.next[at];
        }
        (line, first_return)
    }

    /// What may come next, best last. One operation alone where it is certainly no mistake.
    fn candidates(&mut self) -> Vec<Step> {
        let (line, first_return) = self.line();
        let mut fitting = Vec::new();
        for at in &line {
            let operation = &self.known[*at];
            let (_, answer) = operation.effect.apply(self.state);
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
                *call < first_return && !self.is_used(*at) && effect.apply(self.state).0 != self.state
            })?;
        Some(Step::Suggested(at))
    }

    /// Open operations that may come next, hinted ones last; and whether the allowance held some back.
    fn open_candidates(&mut self, allowance: u32) -> (Vec<Step>, bool) {
        let (_, first_return) = self.line();
        let mut hinted = Vec::new();
        let mut unhinted = Vec::new();
        for at in 0..self.open.len() {
            if self.open[at].call >= first_return {
                break;
            }
            let after = self.open[at].effect.apply(self.state).0;
            if self.is_used(at) || after == self.state {
                continue;
            }
            match self.is_hinted(after) {
                Some(true) => hinted.push(Step::Place(Placed::Open { at, hinted: true })),
                // Nothing replaces the value, so what is seen later must begin with this state.
                Some(false) if !self.has_resets => {}
                Some(false) | None => unhinted.push(Step::Place(Placed::Open { at, hinted: false })),
            }
        }
        let cut = self.unhinted >= allowance && !unhinted.is_empty();
        if cut {
            unhinted.clear();
        }
        unhinted.append(&mut hinted);
        (unhinted, cut)
    }

    /// Whether a value seen soon begins with this state; `None` if no value is seen soon.
    fn is_hinted(&mut self, after: State) -> Option<bool> {
        let end = self.known.len();
        let mut at = self.next[end];
        let mut looked_at = None;
        for _ in 0..HINT_WINDOW {
            if at == end {
                break;
            }
            if self.begins_with(at, after) {
                return Some(true);
            }
            if self.known[at].value.is_some() {
                looked_at = Some(false);
            }
            at = self.next[at];
        }
        looked_at
    }

    fn begins_with(&mut self, at: usize, state: State) -> bool {
        let known = &mut self.known[at];
        let (Some(value), Some(print)) = (&known.value, state) else { return false };
        if known.prefixes.is_empty() {
            known.prefixes.push(Print::default());
            let mut prefix = Print::default();
            for byte in value {
                prefix = prefix.extended(*byte);
                known.prefixes.push(prefix);
            }
        }
        known.prefixes.get(print.bytes as usize) == Some(&print)
    }

    fn is_used(&self, at: usize) -> bool {
        self.used[at / 64] & (1 << (at % 64)) != 0
    }

    fn place(&mut self, placed: Placed) {
        match placed {
            Placed::Known(at) => {
                self.state = self.known[at].effect.apply(self.state).0;
                self.set ^= self.known[at].mark;
                self.placed += 1;
                self.unhinted = 0;
                // An observation is placed as early as it fits, which says nothing of how far the writes are.
                if !self.known[at].effect.is_observation(self.known[at].answer) {
                    self.reached = self.known[at].rank.or(self.reached);
                }
                let (previous, next) = (self.previous[at], self.next[at]);
                self.next[previous] = next;
                self.previous[next] = previous;
            }
            Placed::Open { at, hinted } => {
                self.state = self.open[at].effect.apply(self.state).0;
                self.used[at / 64] |= 1 << (at % 64);
                self.unhinted += u32::from(!hinted);
                self.reached = self.open[at].rank.or(self.reached);
            }
        }
    }

    fn take_back(&mut self, placed: Placed, before: State) {
        self.state = before;
        match placed {
            Placed::Known(at) => {
                self.set ^= self.known[at].mark;
                self.placed -= 1;
                let (previous, next) = (self.previous[at], self.next[at]);
                self.next[previous] = at;
                self.previous[next] = at;
            }
            Placed::Open { at, .. } => self.used[at / 64] &= !(1 << (at % 64)),
        }
    }

    /// Whether no branch that could do at least as much has been here; remembers this one if so.
    fn is_new(&mut self) -> bool {
        // The allowance used is part of what a branch can still do, so it stands with the operations used.
        let mut used = self.used.clone();
        used.push(unary(self.unhinted));
        let seen = self.seen.entry((self.set, self.state)).or_default();
        let covers = |small: &[u64], large: &[u64]| small.iter().zip(large).all(|(s, l)| s & !l == 0);
        if seen.iter().any(|earlier| covers(earlier, &used)) {
            return false;
        }
        seen.retain(|earlier| !covers(&used, earlier));
        seen.push(used);
        true
    }
}

/// As many low bits as the number says, so that "uses no more" is "has no other bit".
fn unary(number: u32) -> u64 {
    if number >= 64 { u64::MAX } else { (1 << number) - 1 }
}
