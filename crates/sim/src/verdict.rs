//! The verdict over a history: each key on its own is linearizable, or somebody is to blame. Knows no server; the order
//! of effects is suggested to the search, and decides nothing.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::blame::{self, Blame};
use crate::effects::Effects;
use crate::history::{Operation, OperationId};
use crate::invariants::Violation;
use crate::linearizability::{self, Refused};

/// Operations to blame that a story tells.
const TOLD: usize = 12;

/// A history that is refused.
#[derive(Clone, Debug)]
pub struct Guilty {
    /// In words.
    pub violation: Violation,
    /// The operations, if they could be found.
    pub blame: Option<Blame>,
}

/// When each operation took effect, as far as the log tells.
pub fn ranks(operations: &[Operation], effects: &Effects) -> Vec<Option<u64>> {
    let rank = |operation: &Operation| {
        let ran = operation.token.as_ref().and_then(|token| effects.ran(token))?;
        ran.at.first().map(|number| number.0)
    };
    operations.iter().map(rank).collect()
}

/// Checks each key; `ranks` has one suggestion an operation.
///
/// # Errors
/// If no order explains the answers that some key gave.
pub fn check_keys(operations: &[Operation], ranks: &[Option<u64>]) -> Result<(), Box<Guilty>> {
    let mut keys: BTreeMap<&Bytes, Vec<usize>> = BTreeMap::new();
    for (at, operation) in operations.iter().enumerate() {
        keys.entry(&operation.key).or_default().push(at);
    }
    for (key, places) in keys {
        let of_key: Vec<&Operation> = places.iter().map(|at| &operations[*at]).collect();
        let ranks: Vec<Option<u64>> = places.iter().map(|at| ranks[*at]).collect();
        let Err(refused) = linearizability::check_ranked(&of_key, &ranks) else { continue };
        let named: Vec<(OperationId, &Operation)> =
            places.iter().map(|at| (OperationId(*at), &operations[*at])).collect();
        let blame = blame::blame(&named, &ranks);
        let told = match &blame {
            Some(blame) => told(operations, blame),
            None => told_by_search(&of_key, &refused),
        };
        let story = format!("key {}: {told}", key.escape_ascii());
        return Err(Box::new(Guilty { violation: Violation { invariant: "linearizability", story }, blame }));
    }
    Ok(())
}

fn told(operations: &[Operation], blame: &Blame) -> String {
    let mut story = format!("no order explains {}", operations[blame.culprit.0]);
    if let Some(why) = &blame.why {
        story.push_str(&format!(": {why}"));
    }
    story.push_str(&format!("; these {} by themselves allow no order:", blame.core.len()));
    let hidden = blame.core.len().saturating_sub(TOLD);
    if hidden > 0 {
        story.push_str(&format!("\n  ({hidden} earlier ones)"));
    }
    for id in &blame.core[hidden..] {
        let sign = if *id == blame.culprit { "  ← fits nowhere" } else { "" };
        story.push_str(&format!("\n  {}{sign}", operations[id.0]));
    }
    story
}

fn told_by_search(operations: &[&Operation], refused: &Refused) -> String {
    let (what, placed, stuck) = match refused {
        Refused::NoOrder { placed, stuck } => ("no order explains more than", placed, stuck),
        Refused::TooLarge { placed, stuck } => {
            ("the search was given up; the best order explains", placed, stuck)
        }
    };
    let stuck: Vec<String> = stuck.iter().map(|at| operations[*at].to_string()).collect();
    let (all, stuck) = (operations.len(), stuck.join("\n  "));
    format!("{what} {placed} of {all} operations; one of these must come next and none fits:\n  {stuck}")
}
