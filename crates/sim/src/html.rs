//! A run as a page to look at: who led, what was broken, and what each client asked and was told, over time. One file
//! that needs no other. What is shown is gathered here as plain data; how it is drawn is in `html/page.html`.

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::chronicle::{Band, Mark};
use crate::history::{Action, Operation, Outcome};
use crate::options::Options;
use crate::overrides::leaves;
use crate::run::Report;

/// The page, with a place for the data.
const PAGE: &str = include_str!("html/page.html");

/// Where the data goes.
const PLACE: &str = "/*DATA*/";

/// Writes the page.
///
/// # Errors
/// Those of the writer.
pub fn write(to: &mut impl io::Write, case: &str, options: &Options, report: &Report) -> io::Result<()> {
    // Within a script element only this can end the data.
    let data = data(case, options, report).to_string().replace("</", "<\\/");
    let (before, after) = PAGE.split_once(PLACE).expect("the page has a place for the data");
    to.write_all(before.as_bytes())?;
    to.write_all(data.as_bytes())?;
    to.write_all(after.as_bytes())
}

fn data(case: &str, options: &Options, report: &Report) -> Value {
    let mut keys: BTreeMap<&Bytes, Vec<Value>> = BTreeMap::new();
    let core = report.blame.as_ref().map_or(&[][..], |blame| &blame.core);
    for (at, operation) in report.history.operations().iter().enumerate() {
        let role = core.iter().position(|id| id.0 == at).map(|place| place + 1);
        let is_culprit = report.blame.as_ref().is_some_and(|blame| blame.culprit.0 == at);
        keys.entry(&operation.key).or_default().push(drawn(operation, role, is_culprit));
    }
    let keys: Vec<Value> = keys
        .into_iter()
        .map(|(key, operations)| json!({"key": key.escape_ascii().to_string(), "operations": operations}))
        .collect();
    let servers = options.hosts();
    let options: Vec<Value> = leaves(options).into_iter().map(|(path, value)| json!([path, value])).collect();
    json!({
        "command": format!("quorate-sim run {case}"),
        "seed": report.seed,
        "end": report.simulated,
        "violation": report.violation.as_ref().map(|violation| json!({
            "invariant": violation.invariant,
            "story": violation.story,
        })),
        "blame": report.blame.as_ref().map(|blame| json!({
            "key": blame.key.escape_ascii().to_string(),
            "why": blame.why,
            "core": blame.core.len(),
        })),
        "servers": servers,
        "bands": report.chronicle.bands.iter().map(band).collect::<Vec<_>>(),
        "marks": report.chronicle.marks.iter().map(mark).collect::<Vec<_>>(),
        "keys": keys,
        "options": options,
    })
}

fn band(band: &Band) -> Value {
    let Band { kind, host, text, from, to } = band;
    json!({"kind": kind.name(), "host": host, "text": text, "from": from, "to": to})
}

fn mark(mark: &Mark) -> Value {
    let Mark { host, text, at } = mark;
    json!({"host": host, "text": text, "at": at})
}

fn drawn(operation: &Operation, role: Option<usize>, is_culprit: bool) -> Value {
    let kind = match (&operation.action, &operation.outcome) {
        (_, Outcome::NotExecuted) => "refused",
        (Action::Get | Action::Length, _) => "read",
        (Action::Put { .. } | Action::Append { .. } | Action::Delete { .. }, _) => "write",
    };
    // The simulator's own look at the end is no client's.
    let client = (operation.client != u32::MAX).then_some(operation.client);
    let is_known = operation.returned.is_some() && operation.outcome != Outcome::Unknown;
    let mut drawn = json!({
        "c": client,
        "kind": kind,
        "from": operation.call_at,
        "to": operation.returned.map(|_| operation.returned_at),
        "did": operation.action.to_string(),
        "got": if is_known { operation.outcome.to_string() } else { "unknown".to_owned() },
    });
    if !is_known {
        drawn["unknown"] = json!(true);
    }
    if let Some(role) = role {
        drawn["role"] = json!(role);
    }
    if is_culprit {
        drawn["culprit"] = json!(true);
    }
    drawn
}
