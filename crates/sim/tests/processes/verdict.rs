//! Whether what clients were told can be true. Knows the history and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use bytes::Bytes;
use quorate_sim::history::{Action, Operation, Outcome};
use quorate_sim::linearizability::{self, Refused};

use crate::Violation;

/// Operations of a key that are shown, around where it went wrong.
const SHOWN: usize = 40;

/// All that must hold.
///
/// # Errors
/// The first that does not.
pub(crate) fn judge(operations: &[Operation]) -> Result<(), Violation> {
    appends_stand(operations)?;
    connections_are_in_order(operations)?;
    is_linearizable(operations)
}

fn by_key(operations: &[Operation]) -> BTreeMap<&Bytes, Vec<&Operation>> {
    let mut keys: BTreeMap<&Bytes, Vec<&Operation>> = BTreeMap::new();
    for operation in operations {
        keys.entry(&operation.key).or_default().push(operation);
    }
    keys
}

/// There is one order that explains all answers and contradicts no clock. A search that gives up has not passed.
pub(crate) fn is_linearizable(operations: &[Operation]) -> Result<(), Violation> {
    for (key, own) in by_key(operations) {
        let (what, placed, stuck) = match linearizability::check(&own) {
            Ok(()) => continue,
            Err(Refused::NoOrder { placed, stuck }) => ("no order explains", placed, stuck),
            Err(Refused::TooLarge { placed, stuck }) => ("the search was given up for", placed, stuck),
        };
        let mut story =
            format!("{what} the {} operations of {}; {placed} have a place\n", own.len(), key.escape_ascii());
        let _ = writeln!(story, "what must come next, and fits nowhere:");
        for at in &stuck {
            let _ = writeln!(story, "  {}", own[*at]);
        }
        let around = stuck.iter().min().copied().unwrap_or(own.len());
        let from = around.saturating_sub(SHOWN / 2);
        let _ = writeln!(story, "around it, in the order of calls:");
        for operation in own.iter().skip(from).take(SHOWN) {
            let _ = writeln!(story, "  {operation}");
        }
        return Err(Violation { property: "linearizability", key: Some(key.clone()), story });
    }
    Ok(())
}

/// Keys that are only appended to: what was acknowledged is there once, what was refused is not there, nothing is there
/// twice, and what one connection sent stands in the order sent.
pub(crate) fn appends_stand(operations: &[Operation]) -> Result<(), Violation> {
    for (key, own) in by_key(operations) {
        if !is_append_key(key) {
            continue;
        }
        let refuse = |story: String| {
            Err(Violation { property: "each append stands once", key: Some(key.clone()), story })
        };
        let last =
            own.iter().rev().find(|operation| operation.action == Action::Get && operation.is_complete());
        let value = last.and_then(|operation| operation.outcome.value()).cloned().unwrap_or_default();
        let mut places: BTreeMap<&[u8], usize> = BTreeMap::new();
        for (place, token) in value.split_inclusive(|byte| *byte == b';').enumerate() {
            if places.insert(token, place).is_some() {
                return refuse(format!("{} is there twice", token.escape_ascii()));
            }
        }
        let mut reached: BTreeMap<u64, (usize, &Operation)> = BTreeMap::new();
        for operation in own {
            let Action::Append { value: token } = &operation.action else { continue };
            let place = places.remove(token.as_ref());
            match (place, &operation.outcome) {
                (None, Outcome::Integer(_)) => return refuse(format!("lost: {operation}")),
                (Some(_), Outcome::NotExecuted) => return refuse(format!("yet it is there: {operation}")),
                _ => {}
            }
            if operation.connection != 0
                && let Some(place) = place
                && let Some((before, earlier)) = reached.insert(operation.connection, (place, operation))
                && before > place
            {
                return refuse(format!("{operation} stands before {earlier}, which was sent before it"));
            }
        }
        if let Some(token) = places.into_keys().next() {
            return refuse(format!("nobody has ever appended {}", token.escape_ascii()));
        }
    }
    Ok(())
}

/// On a key that is only appended to, the lengths that one connection sees never fall, and each of its own appends makes
/// them larger. (Linearizability says so of operations that do not overlap; those of a pipeline do.)
pub(crate) fn connections_are_in_order(operations: &[Operation]) -> Result<(), Violation> {
    let mut reached: BTreeMap<(u64, &Bytes), (usize, &Operation)> = BTreeMap::new();
    let on_append_keys = operations.iter().filter(|operation| is_append_key(&operation.key));
    for operation in on_append_keys.filter(|operation| operation.connection != 0 && operation.is_complete()) {
        let length = match &operation.outcome {
            Outcome::Value(value) => value.len(),
            Outcome::Integer(length) => usize::try_from(*length).unwrap_or(usize::MAX),
            Outcome::Nil | Outcome::Ok | Outcome::NotExecuted | Outcome::Unknown => 0,
        };
        let before = reached.insert((operation.connection, &operation.key), (length, operation));
        let Some((before, earlier)) = before else { continue };
        if length < before || (operation.is_write() && length == before) {
            let story = format!("{operation} does not fit behind {earlier}, which was sent before it");
            return Err(Violation {
                property: "order on a connection",
                key: Some(operation.key.clone()),
                story,
            });
        }
    }
    Ok(())
}

fn is_append_key(key: &Bytes) -> bool {
    key.starts_with(b"a")
}

/// All keys of a history.
pub(crate) fn keys(operations: &[Operation]) -> BTreeSet<Bytes> {
    operations.iter().map(|operation| operation.key.clone()).collect()
}

/// The history as lines of JSON, for tools.
pub(crate) fn json_lines(operations: &[Operation]) -> String {
    let mut text = String::new();
    for operation in operations {
        let Operation { client, connection, call, call_at, returned_at, .. } = operation;
        let (key, action, outcome) = (operation.key.escape_ascii(), &operation.action, &operation.outcome);
        let returned = operation.returned.map_or("null".to_owned(), |stamp| stamp.0.to_string());
        let _ = writeln!(
            text,
            r#"{{"client":{client},"connection":{connection},"key":"{key}","action":{:?},"outcome":{:?},"call":{},"returned":{returned},"call_us":{call_at},"returned_us":{returned_at}}}"#,
            action.to_string(),
            outcome.to_string(),
            call.0,
        );
    }
    text
}
