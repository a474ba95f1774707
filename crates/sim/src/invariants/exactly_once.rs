//! Exactly once: every write has one effect at most, one if it was acknowledged, and none if it was refused with
//! the promise that it was not executed (thesis §6.3; `docs/semantics.md`, the classes of errors).

use quorate_replica::command::Condition;

use super::{Violation, violation};
use crate::effects::Effects;
use crate::history::{Action, Operation, Outcome};

/// # Errors
/// If a write of the history had another number of effects than its outcome allows.
pub fn check(operations: &[Operation], effects: &Effects) -> Result<(), Violation> {
    for operation in operations {
        let Some(token) = &operation.token else { continue };
        let (runs, changes) = effects.ran(token).map_or((0, 0), |ran| (ran.at.len(), ran.changes));
        let broken = match &operation.outcome {
            _ if changes > 1 => Some("had more than one effect"),
            Outcome::NotExecuted if runs > 0 => Some("was refused as not executed, and ran"),
            Outcome::Ok | Outcome::Integer(_) | Outcome::Value(_) | Outcome::Nil if runs == 0 => {
                Some("was acknowledged, and never ran")
            }
            Outcome::Ok | Outcome::Integer(_) if changes == 0 && always_changes(&operation.action) => {
                Some("was acknowledged, and changed nothing")
            }
            Outcome::NotExecuted
            | Outcome::Unknown
            | Outcome::Ok
            | Outcome::Nil
            | Outcome::Integer(_)
            | Outcome::Value(_) => None,
        };
        if let Some(broken) = broken {
            let story =
                format!("{operation} {broken} (it ran {runs} times and changed its key {changes} times)");
            return violation("exactly once", story);
        }
    }
    Ok(())
}

fn always_changes(action: &Action) -> bool {
    match action {
        Action::Put { condition, .. } => *condition == Condition::Always,
        Action::Append { .. } => true,
        Action::Delete { .. } | Action::Get | Action::Length => false,
    }
}
