//! Commands of one connection take effect in the order in which they were sent, reads among writes
//! (`docs/semantics.md`, *In order*).
//!
//! A linearizability check accepts a violation of this, since pipelined operations overlap in time. So each
//! connection is replayed against the order of effects: its writes must stand there in the order sent, and for
//! each read there must be an instant, between the writes around it and not before the read that came before
//! it, at which its key held what the read was answered. Taking the earliest such instant each time never
//! closes a way for the next.

use std::collections::BTreeMap;

use super::{Violation, violation};
use crate::effects::{EffectNumber, Effects, ValuePrint, print_of};
use crate::history::{Action, Operation, Outcome};

/// # Errors
/// If commands of a connection overtook each other.
pub fn check(operations: &[Operation], effects: &Effects) -> Result<(), Violation> {
    let mut reached: BTreeMap<u64, (EffectNumber, usize)> = BTreeMap::new();
    for (at, operation) in operations.iter().enumerate() {
        if operation.connection == 0 {
            continue;
        }
        let (floor, last) = reached.get(&operation.connection).copied().unwrap_or_default();
        let place = if operation.is_write() {
            write_place(operation, effects)
        } else {
            read_place(operation, effects, floor)
        };
        match place {
            Place::At(number) if number >= floor && (number > floor || !operation.is_write()) => {
                reached.insert(operation.connection, (number, at));
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
