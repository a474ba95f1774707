//! `MEMBERS`: who belongs to the cluster, and how that is changed. Must not know which changes are good.

use std::collections::BTreeMap;

use quorate_raft::NodeId;
use quorate_replica::command::Operation;
use quorate_replica::members::{
    Change, MemberRow, MembersAsk, MembersCall, MembersReply, MembersReport, Neighbour, WaitingRow,
};
use quorate_replica::seat::ADDRESS_BYTES_MAX;
use quorate_resp::Encoder;

use super::{Call, CommandError, Outcome, integer, is_word};
use crate::config::Address;
use crate::shared::Shared;

/// `MEMBERS LIST`.
pub(super) fn list(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    ask(call, MembersAsk::List)
}

/// `MEMBERS ADD <id> <address> [FORCE]`.
pub(super) fn add(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    let (id, address) = (id(call, 2)?, address(call, 3)?);
    change(call, 4, Change::Add { id, address })
}

/// `MEMBERS REMOVE <id> [FORCE]`.
pub(super) fn remove(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    let id = id(call, 2)?;
    change(call, 3, Change::Remove { id })
}

/// `MEMBERS REPLACE <old> <new> <address> [FORCE]`.
pub(super) fn replace(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    let (old, new, address) = (id(call, 2)?, id(call, 3)?, address(call, 4)?);
    if old == new {
        let text = format!(
            "server {id} cannot take its own place: for a new folder under the same id, run quorate members rebuild {id}",
            id = old.get()
        );
        return Err(CommandError::err(text));
    }
    change(call, 5, Change::Replace { old, new, address })
}

/// `MEMBERS REBUILD <id> [FORCE]`.
pub(super) fn rebuild(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    let id = id(call, 2)?;
    change(call, 3, Change::Rebuild { id })
}

/// `MEMBERS PROMOTE <id> [FORCE]`.
pub(super) fn promote(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    let id = id(call, 2)?;
    change(call, 3, Change::Promote { id })
}

/// `MEMBERS DEMOTE <id> [FORCE]`.
pub(super) fn demote(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    let id = id(call, 2)?;
    change(call, 3, Change::Demote { id })
}

/// `MEMBERS TRANSFER [<id>] [FORCE]`.
pub(super) fn transfer(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    let is_named = call.arguments.get(2).is_some_and(|word| !is_word(word, "force"));
    let to = if is_named { Some(id(call, 2)?) } else { None };
    change(call, 2 + usize::from(is_named), Change::Transfer { to })
}

/// `MEMBERS SET-ADDRESS <id> <address> [FORCE]`.
pub(super) fn set_address(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    let (id, address) = (id(call, 2)?, address(call, 3)?);
    change(call, 4, Change::SetAddress { id, address })
}

/// A change, forced if the arguments from `rest` on say so.
fn change(call: &mut Call<'_>, rest: usize, change: Change) -> Result<Outcome, CommandError> {
    let is_forced = match &call.arguments[rest..] {
        [] => false,
        [word] if is_word(word, "force") => true,
        _ => return Err(CommandError::Syntax),
    };
    ask(call, MembersAsk::Change { change, is_forced })
}

fn ask(call: &Call<'_>, ask: MembersAsk) -> Result<Outcome, CommandError> {
    let neighbours = neighbours(call.shared);
    Ok(Outcome::Ask(Operation::Members(Box::new(MembersCall { ask, neighbours }))))
}

fn id(call: &Call<'_>, at: usize) -> Result<NodeId, CommandError> {
    let id = integer(call.argument(at)).ok().and_then(|id| u64::try_from(id).ok()).and_then(NodeId::new);
    id.ok_or_else(|| CommandError::err("the id of a server is a number, 1 or more"))
}

/// In one spelling, so that equal addresses are equal texts.
fn address(call: &Call<'_>, at: usize) -> Result<Box<str>, CommandError> {
    let text = String::from_utf8_lossy(call.argument(at));
    let address: Address =
        text.parse().map_err(|problem| CommandError::err(format!("'{text}': {problem}")))?;
    let address = address.to_string();
    if address.len() > ADDRESS_BYTES_MAX {
        return Err(CommandError::err("the address is too long"));
    }
    Ok(address.into())
}

/// What this server's shell knows of all servers that it has heard of.
fn neighbours(shared: &Shared) -> BTreeMap<NodeId, Neighbour> {
    let config = &shared.config;
    let others = shared.peers.addresses().into_iter().map(|(id, address)| {
        let client = shared.peers.client_address(id).map_or_else(String::new, |client| client.to_string());
        (id, Neighbour { dialled: address.to_string().into(), client: client.into(), ..Neighbour::default() })
    });
    let client = config.advertise.as_ref().unwrap_or(&config.listen);
    let own = Neighbour {
        dialled: config.peer_advertise.to_string().into(),
        client: client.to_string().into(),
        version: env!("CARGO_PKG_VERSION").into(),
    };
    others.chain([(config.id, own)]).collect()
}

/// Writes an answer.
pub(crate) fn put(reply: &mut Encoder<'_>, members: &MembersReply) {
    match members {
        MembersReply::Report(report) => put_report(reply, report),
        MembersReply::Change { stage, index, says } => {
            reply.map(3);
            text(reply, "state", &stage.to_string());
            number(reply, "index", *index);
            texts(reply, "says", says);
        }
    }
}

fn put_report(reply: &mut Encoder<'_>, report: &MembersReport) {
    let MembersReport { leader, term, commit, index, quorum, voters, faults, .. } = report;
    reply.map(12);
    number(reply, "leader", leader.get());
    number(reply, "term", *term);
    number(reply, "commit", *commit);
    number(reply, "index", *index);
    number(reply, "voters", *voters);
    number(reply, "quorum", *quorum);
    number(reply, "faults", *faults);
    text(reply, "change", &report.change);
    number(reply, "transfer", report.transfer.map_or(0, NodeId::get));
    reply.bulk(b"members");
    reply.array(report.members.len());
    for row in &report.members {
        put_member(reply, row);
    }
    reply.bulk(b"waiting");
    reply.array(report.waiting.len());
    for row in &report.waiting {
        put_waiting(reply, row);
    }
    texts(reply, "notes", &report.notes);
}

fn put_member(reply: &mut Encoder<'_>, row: &MemberRow) {
    let (sent, total) = row.snapshot.unwrap_or_default();
    reply.map(14);
    number(reply, "id", row.id.get());
    text(reply, "role", if row.is_leader { "leader" } else { "follower" });
    text(reply, "standing", &row.standing.to_string());
    text(reply, "health", &row.health.to_string());
    number(reply, "replaces", row.replaces.map_or(0, NodeId::get));
    number(reply, "match", row.matched);
    number(reply, "lag", row.lag);
    number(reply, "seen-ms", row.seen_ms);
    number(reply, "snapshot-sent", sent);
    number(reply, "snapshot-bytes", total);
    text(reply, "address", &row.address);
    text(reply, "client", &row.client);
    text(reply, "version", &row.version);
    text(reply, "incarnation", &row.incarnation.to_string());
}

fn put_waiting(reply: &mut Encoder<'_>, row: &WaitingRow) {
    reply.map(5);
    number(reply, "id", row.id.get());
    text(reply, "incarnation", &row.incarnation.to_string());
    text(reply, "address", &row.address);
    number(reply, "seen-ms", row.seen_ms);
    text(reply, "command", &row.command);
}

fn number(reply: &mut Encoder<'_>, name: &str, value: u64) {
    reply.bulk(name.as_bytes());
    reply.integer(i64::try_from(value).unwrap_or(i64::MAX));
}

fn text(reply: &mut Encoder<'_>, name: &str, value: &str) {
    reply.bulk(name.as_bytes());
    reply.bulk(value.as_bytes());
}

fn texts(reply: &mut Encoder<'_>, name: &str, values: &[String]) {
    reply.bulk(name.as_bytes());
    reply.array(values.len());
    for value in values {
        reply.bulk(value.as_bytes());
    }
}
