//! Commands of one connection take effect in the order in which they were sent, reads among writes
//! (`docs/semantics.md`, *In order*).
//!
//! A linearizability check accepts a violation of this, since pipelined operations overlap in time. So each
//! connection is replayed against the order of effects: its writes must stand there in the order sent, and for
//! each read there must be an instant, between the writes around it and not before the read that came before
//! it, at which its key held what the read was answered. Taking the earliest such instant each time never
//! closes a way for the next.
//!
//! A write that was answered "may or may not, now or later" may take effect behind reads that were sent after it, but
//! never behind a later write.

use std::collections::BTreeMap;

use super::{Violation, violation};
use crate::effects::{EffectNumber, Effects, ValuePrint, print_of};
use crate::history::{Action, Operation, Outcome};

/// # Errors
/// If commands of a connection overtook each other.
pub fn check(operations: &[Operation], effects: &Effects) -> Result<(), Violation> {
    let mut connections: BTreeMap<u64, Reached> = BTreeMap::new();
    for (at, operation) in operations.iter().enumerate() {
        if operation.connection == 0 {
            continue;
        }
        let reached = connections.entry(operation.connection).or_default();
        let (place, (floor, last)) = if operation.is_write() {
            (write_place(operation, effects), reached.by_writes)
        } else {
            (read_place(operation, effects, reached.by_answers.0), reached.by_answers)
        };
        match place {
            Place::At(number) if number >= floor && (number > floor || !operation.is_write()) => {
                reached.go_on(number, at, operation);
            }
            Place::Free => {}
            Place::At(_) | Place::Nowhere => {
                let story = format!(
                    "connection {}: {operation} does not fit behind {}, which was sent before it",
                    operation.connection, operations[last],
                );
                return violation("order on a connection", story);
            }
        }
    }
    Ok(())
}

/// How far a connection has come, and by which operation.
#[derive(Clone, Copy, Default)]
struct Reached {
    /// The last effect of all: what is written later stands behind it.
    by_writes: (EffectNumber, usize),
    /// The last effect that was acknowledged or seen: what is read later is not older.
    by_answers: (EffectNumber, usize),
}

impl Reached {
    fn go_on(&mut self, number: EffectNumber, at: usize, operation: &Operation) {
        let is_in_doubt = operation.is_write() && operation.outcome == Outcome::Unknown;
        self.by_writes = self.by_writes.max((number, at));
        if !is_in_doubt {
            self.by_answers = self.by_answers.max((number, at));
        }
    }
}

enum Place {
    /// It took effect here, or saw the state after this effect.
    At(EffectNumber),
    /// It did not take effect, or nobody saw an answer.
    Free,
    /// No place fits.
    Nowhere,
}

fn write_place(operation: &Operation, effects: &Effects) -> Place {
    let first = operation.token.as_ref().and_then(|token| effects.ran(token)).and_then(|ran| ran.at.first());
    first.map_or(Place::Free, |number| Place::At(*number))
}

fn read_place(operation: &Operation, effects: &Effects, floor: EffectNumber) -> Place {
    if !operation.is_complete() {
        return Place::Free;
    }
    let versions = effects.versions(&operation.key);
    if versions.is_empty() {
        return if shows(operation, None) { Place::Free } else { Place::Nowhere };
    }
    // The first content that stood at or after the floor, and from there on.
    let first = versions.partition_point(|(from, _)| *from <= floor).saturating_sub(1);
    let fitting = versions[first..].iter().find(|(_, print)| shows(operation, *print));
    fitting.map_or(Place::Nowhere, |(from, _)| Place::At((*from).max(floor)))
}

fn shows(operation: &Operation, print: ValuePrint) -> bool {
    match (&operation.action, &operation.outcome) {
        (Action::Get, Outcome::Nil) => print.is_none(),
        (Action::Get, Outcome::Value(value)) => print == Some(print_of(value)),
        (Action::Length, Outcome::Integer(length)) => print.map_or(0, |(bytes, _)| bytes as i64) == *length,
        _ => false,
    }
}
