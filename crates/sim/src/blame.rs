//! Which operations are to blame for a history that no order explains: the first answer that cannot be, and a set
//! around it that is refused by itself and as small as can be. Knows the history only, and asks the checker.
//!
//! An operation is *excused* by making its outcome unknown: then a read says nothing, and a write may come whenever
//! it likes. Excusing never closes a way to an order, so what is refused with most operations excused is refused by
//! the few that are left; and if everything that returned later is excused, the return that makes the difference is
//! the first that could not be.
//!
//! What is long over is left out at a *known state*: a value that was set, or read, stood at that instant, whatever came
//! before. Behind it only that operation and those called after its return are needed; writes that overlap it are excused.

use std::fmt;

use bytes::Bytes;
use quorate_replica::command::Condition;

use crate::history::{Action, Operation, OperationId, Outcome, Stamp};
use crate::linearizability::{Refused, check_within};
use crate::schedule::Micros;

/// Branches after which a question is left open; then nobody is excused by it.
const BRANCHES_MAX: u64 = 5_000;

/// Known states that are tried, the latest first.
const STATES_MAX: usize = 100;

/// Questions that are asked to make the set small.
const QUESTIONS_MAX: usize = 250;

/// Who is to blame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blame {
    /// The key.
    pub key: Bytes,
    /// The operation whose answer cannot be.
    pub culprit: OperationId,
    /// Operations that no order explains, in the order of their calls, the culprit among them.
    pub core: Vec<OperationId>,
    /// What is wrong with it, where it can be said in a sentence.
    pub why: Option<String>,
}

/// Names who is to blame for a refused history of one key. `None` where the checker could not tell in time.
pub fn blame(operations: &[(OperationId, &Operation)], ranks: &[Option<u64>]) -> Option<Blame> {
    let mut court = Court {
        operations: operations.iter().map(|(_, operation)| (*operation).clone()).collect(),
        ranks,
        excused: vec![false; operations.len()],
        forgotten: vec![false; operations.len()],
        known: None,
        questions: 0,
    };
    let culprit = court.first_impossible()?;
    court.forget_what_is_over(culprit);
    court.excuse_all_but(culprit);
    let core: Vec<usize> = court.accused().collect();
    let accused: Vec<&Operation> = core.iter().map(|at| operations[*at].1).collect();
    let all: Vec<&Operation> = operations.iter().map(|(_, operation)| *operation).collect();
    Some(Blame {
        key: operations[culprit].1.key.clone(),
        culprit: operations[culprit].0,
        core: core.iter().map(|at| operations[*at].0).collect(),
        why: why(operations[culprit].1, &accused, &all),
    })
}

struct Court<'a> {
    operations: Vec<Operation>,
    ranks: &'a [Option<u64>],
    excused: Vec<bool>,
    /// Left out, because they came before the known state.
    forgotten: Vec<bool>,
    /// The operation that left or saw the known state.
    known: Option<usize>,
    questions: usize,
}

impl Court<'_> {
    /// Operations that say something and are not excused.
    fn accused(&self) -> impl Iterator<Item = usize> {
        (0..self.operations.len()).filter(|at| self.says_something(*at))
    }

    fn says_something(&self, at: usize) -> bool {
        !self.excused[at] && !self.forgotten[at] && self.is_answered(at)
    }

    fn is_answered(&self, at: usize) -> bool {
        self.operations[at].returned.is_some() && self.operations[at].outcome != Outcome::Unknown
    }

    /// Whether what is left is refused still. A doubt is no refusal.
    fn is_refused(&mut self) -> bool {
        self.questions += 1;
        let places = (0..self.operations.len()).filter(|at| !self.forgotten[*at]);
        let (left, ranks): (Vec<Operation>, Vec<Option<u64>>) =
            places.map(|at| (self.left_of(at), self.ranks[at])).unzip();
        let verdict = check_within(&left.iter().collect::<Vec<_>>(), &ranks, BRANCHES_MAX);
        matches!(verdict, Err(Refused::NoOrder { .. }))
    }

    /// An operation as far as it counts.
    fn left_of(&self, at: usize) -> Operation {
        let operation = self.operations[at].clone();
        if self.excused[at] {
            return Operation { returned: None, outcome: Outcome::Unknown, ..operation };
        }
        match (&operation.outcome, self.known == Some(at)) {
            // At that instant the key held what was read, as if it had just been set.
            (Outcome::Value(value), true) => {
                let put = Action::Put { value: value.clone(), condition: Condition::Always, get: false };
                Operation { action: put, outcome: Outcome::Ok, ..operation }
            }
            _ => operation,
        }
    }

    /// Finds the latest known state behind which the rest is refused still.
    fn forget_what_is_over(&mut self, culprit: usize) {
        let is_known_state = |operation: &Operation| {
            matches!(
                (&operation.action, &operation.outcome),
                (Action::Put { condition: Condition::Always, get: false, .. }, Outcome::Ok)
                    | (Action::Get, Outcome::Value(_))
            )
        };
        let mut states: Vec<usize> = self.accused().collect();
        states.retain(|at| *at != culprit && is_known_state(&self.operations[*at]));
        states.sort_by_key(|at| std::cmp::Reverse(self.operations[*at].returned));
        let before = self.excused.clone();
        for known in states.into_iter().take(STATES_MAX) {
            let (call, returned) = (self.operations[known].call, self.operations[known].returned);
            for (at, was_excused) in before.iter().enumerate() {
                let operation = &self.operations[at];
                let is_after = Some(operation.call) > returned || at == known;
                self.forgotten[at] = self.is_answered(at) && operation.returned < Some(call);
                self.excused[at] = *was_excused || !is_after;
            }
            self.known = Some(known);
            if !self.excused[culprit] && !self.forgotten[culprit] && self.is_refused() {
                return;
            }
        }
        self.excused = before;
        self.forgotten.fill(false);
        self.known = None;
    }

    fn excuse_after(&mut self, last: Stamp) {
        for (excused, operation) in self.excused.iter_mut().zip(&self.operations) {
            *excused = operation.returned > Some(last);
        }
    }

    /// The operation that returned last of the shortest beginning that is refused. Everything later is excused.
    fn first_impossible(&mut self) -> Option<usize> {
        let mut returns: Vec<(Stamp, usize)> =
            self.accused().filter_map(|at| Some((self.operations[at].returned?, at))).collect();
        returns.sort_unstable();
        let (mut passes, mut refused) = (0, returns.len());
        while passes < refused {
            let middle = passes.midpoint(refused);
            self.excuse_after(returns[middle].0);
            if self.is_refused() {
                refused = middle;
            } else {
                passes = middle + 1;
            }
        }
        let (last, culprit) = *returns.get(refused)?;
        self.excuse_after(last);
        // Where the checker had doubts on the way, the place that was found may be none.
        self.is_refused().then_some(culprit)
    }

    /// Excuses what can be, in ever smaller groups, the oldest first.
    fn excuse_all_but(&mut self, culprit: usize) {
        let mut size = self.operations.len().next_power_of_two();
        while size > 0 {
            let known = self.known;
            let others = self.accused().filter(|at| *at != culprit && Some(*at) != known);
            let accused: Vec<usize> = others.collect();
            for group in accused.chunks(size) {
                if self.questions >= QUESTIONS_MAX {
                    return;
                }
                group.iter().for_each(|at| self.excused[*at] = true);
                if !self.is_refused() {
                    group.iter().for_each(|at| self.excused[*at] = false);
                }
            }
            size /= 2;
        }
    }
}

/// A read that missed what it should have seen, in a sentence.
fn why(culprit: &Operation, core: &[&Operation], all: &[&Operation]) -> Option<String> {
    let seen = match &culprit.outcome {
        Outcome::Value(value) => Some(value),
        Outcome::Nil => None,
        Outcome::Ok | Outcome::Integer(_) | Outcome::NotExecuted | Outcome::Unknown => return None,
    };
    let source = seen.and_then(|seen| all.iter().find(|operation| leaves(operation, seen)));
    let is_over = |operation: &&&Operation| {
        let began_after = source.is_none_or(|source| {
            source.returned.is_some_and(|returned| returned < operation.call) && source.call != operation.call
        });
        operation.returned.is_some_and(|returned| returned < culprit.call) && began_after
    };
    let later = core.iter().filter(is_over).max_by_key(|operation| operation.returned)?;
    let before = Before(culprit.call_at - later.returned_at);
    let saw = match source {
        Some(source) => format!("it saw what c{} {} left", source.client, source.action),
        None if seen.is_some() => "it saw what nobody has written".to_owned(),
        None => "it saw nothing".to_owned(),
    };
    let later = if later.is_write() {
        format!("c{} {} had returned {before} before it was called", later.client, later.action)
    } else {
        format!("c{} had read {} {before} before it was called", later.client, later.outcome)
    };
    Some(format!("{saw}, though {later}"))
}

/// Whether a value is one that this write can have left.
fn leaves(operation: &Operation, value: &Bytes) -> bool {
    match &operation.action {
        Action::Put { value: put, .. } => put == value,
        Action::Append { value: appended } => value.ends_with(appended),
        Action::Delete { .. } | Action::Get | Action::Length => false,
    }
}

/// How long before something else.
struct Before(Micros);

impl fmt::Display for Before {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("just"),
            time => write!(f, "{:.1} ms", time as f64 / 1_000.0),
        }
    }
}
