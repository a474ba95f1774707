//! The judges on trial: a recording of real servers passes, and no spoiled copy of it does.

use bytes::Bytes;
use quorate_sim::history::{Action, Operation, Outcome};

use crate::run::{Settings, run};
use crate::verdict::{appends_stand, connections_are_in_order, is_linearizable, judge};

/// How long is recorded.
const RECORDED_MS: u64 = 3_000;

fn tokens(value: &Bytes) -> Vec<Bytes> {
    value.split_inclusive(|byte| *byte == b';').map(Bytes::copy_from_slice).collect()
}

/// The value that the last read of some key with this many tokens saw, and which read that is.
fn last_read(operations: &[Operation], kind: u8, tokens_min: usize) -> usize {
    let is_wanted = |operation: &Operation| {
        operation.key.starts_with(&[kind])
            && operation.action == Action::Get
            && operation.outcome.value().is_some_and(|value| tokens(value).len() >= tokens_min)
    };
    operations.iter().rposition(is_wanted).expect("a key that was appended to")
}

/// The recording with another answer to this operation.
fn with(operations: &[Operation], at: usize, outcome: Outcome) -> Vec<Operation> {
    let mut spoiled = operations.to_vec();
    spoiled[at].outcome = outcome;
    spoiled
}

#[test]
fn no_spoiled_copy_of_a_recording_passes() {
    let report = run(&Settings { seed: 1, length_ms: RECORDED_MS, is_calm: true });
    let operations = report.operations;
    assert!(judge(&operations).is_ok(), "it has just passed");

    // The last read of a key, with one append lost, done twice, or moved.
    let last = last_read(&operations, b'a', 4);
    let seen = tokens(operations[last].outcome.value().unwrap());
    let middle = seen.len() / 2;
    let mut lost = seen.clone();
    lost.remove(middle);
    let mut doubled = seen.clone();
    doubled.insert(middle, seen[middle].clone());
    let mut swapped = seen.clone();
    swapped.swap(middle - 1, middle);
    for (name, tokens) in [("lost", &lost), ("doubled", &doubled), ("swapped", &swapped)] {
        let spoiled = with(&operations, last, Outcome::Value(tokens.concat().into()));
        assert!(is_linearizable(&spoiled).is_err(), "an append was {name} and nobody saw it");
        assert!(
            name == "swapped" || appends_stand(&spoiled).is_err(),
            "an append was {name} and nobody saw it"
        );
    }

    // A server that answers from an old state.
    for kind in [b'a', b'm'] {
        let late = last_read(&operations, kind, 2);
        let key = &operations[late].key;
        let is_early = |o: &Operation| o.key == key && o.action == Action::Get && o.is_complete();
        let early = operations.iter().position(|o| is_early(o) && o.outcome != operations[late].outcome);
        let stale = operations[early.expect("an earlier read of it")].outcome.clone();
        assert!(is_linearizable(&with(&operations, late, stale)).is_err(), "a stale read and nobody saw it");
    }

    // A write that the client was promised not to have happened, and whose token is seen.
    let is_seen = |o: &Operation| matches!(&o.action, Action::Append { value } if *value == seen[middle]);
    let append = operations.iter().position(is_seen).unwrap();
    let spoiled = with(&operations, append, Outcome::NotExecuted);
    assert!(appends_stand(&spoiled).is_err() && is_linearizable(&spoiled).is_err(), "a broken promise");

    // On a pipelined connection a read that was sent behind an append does not see it.
    let (at, outcome) = overtaken(&operations);
    assert!(connections_are_in_order(&with(&operations, at, outcome)).is_err(), "a read overtook a write");
}

/// A read behind an append of the same key on one connection, and what it would have seen before the append.
fn overtaken(operations: &[Operation]) -> (usize, Outcome) {
    for (at, read) in operations.iter().enumerate() {
        let is_read = read.key.starts_with(b"a") && read.action == Action::Get && read.is_complete();
        let mine = |o: &&Operation| o.connection == read.connection && o.key == read.key;
        let before = operations[..at].iter().rev().find(mine);
        if is_read
            && read.connection != 0
            && let Some(Operation {
                action: Action::Append { value }, outcome: Outcome::Integer(length), ..
            }) = before
            && let Some(seen) = read.outcome.value()
        {
            let earlier = usize::try_from(*length).unwrap() - value.len();
            return (at, Outcome::Value(seen.slice(..earlier)));
        }
    }
    panic!("no connection has read what it had appended");
}
