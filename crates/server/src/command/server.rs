//! `ROLE`, `TIME`, `BGSAVE` and `LASTSAVE`: what concerns this server. Must not know how a role is won.

use std::time::{SystemTime, UNIX_EPOCH};

use quorate_raft::Role;
use quorate_replica::command::ReplyError;
use quorate_replica::{Event, Standing};

use super::{Call, CommandError, Outcome, is_word};

/// The table checks a container's arity and finds its subcommand; the container itself never runs.
pub(super) fn unreachable(_: &mut Call<'_>) -> Result<Outcome, CommandError> {
    Err(CommandError::Syntax)
}

/// `ROLE`: the true role, on either port.
pub(super) fn role(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    let status = call.shared.status();
    let offset = i64::try_from(status.applied).unwrap_or(i64::MAX);
    let leader = status.leader.filter(|leader| *leader != status.id);
    let replicas = call.shared.peers.client_addresses();
    let leader_address = leader.and_then(|leader| call.shared.peers.client_address(leader));
    let mut reply = call.reply();
    if status.role == Role::Leader {
        reply.array(3);
        reply.bulk(b"master");
        reply.integer(offset);
        reply.array(replicas.len());
        for address in replicas {
            reply.array(3);
            reply.bulk(address.host.as_bytes());
            reply.bulk(address.port.to_string().as_bytes());
            reply.bulk(offset.to_string().as_bytes());
        }
        return Ok(Outcome::Answered);
    }
    reply.array(5);
    reply.bulk(b"slave");
    match leader_address {
        Some(address) => {
            reply.bulk(address.host.as_bytes());
            reply.integer(i64::from(address.port));
            reply.bulk(b"connected");
            reply.integer(offset);
        }
        None => {
            reply.bulk(b"");
            reply.integer(0);
            reply.bulk(b"connect");
            reply.integer(-1);
        }
    }
    Ok(Outcome::Answered)
}

/// `BGSAVE [SCHEDULE]`: a snapshot of what is applied here now, as soon as none is being taken. `INFO persistence` says how
/// far it is.
pub(super) fn bgsave(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    let is_plain = match &call.arguments[1..] {
        [] => true,
        [word] => is_word(word, "schedule"),
        _ => false,
    };
    if !is_plain {
        return Err(CommandError::Syntax);
    }
    if let Some(loading) = call.shared.loading() {
        return Err(CommandError::loading(loading));
    }
    let status = call.shared.status();
    if status.standing != Standing::Member {
        let why = "this server takes no part in a cluster: INFO says why".to_owned();
        return Err(CommandError::Reply(ReplyError::NotServing(why)));
    }
    call.shared.inbox.event(Event::TakeSnapshot);
    let is_taking = status.snapshots.taking.is_some();
    call.reply().simple(if is_taking { "Background saving scheduled" } else { "Background saving started" });
    Ok(Outcome::Answered)
}

/// `LASTSAVE`: the replicated time of the newest snapshot here, in seconds since 1970.
pub(super) fn lastsave(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    if let Some(loading) = call.shared.loading() {
        return Err(CommandError::loading(loading));
    }
    let seconds = call.shared.status().snapshots.time_ms / 1_000;
    call.reply().integer(i64::try_from(seconds).unwrap_or(i64::MAX));
    Ok(Outcome::Answered)
}

/// `TIME`: this server's clock, which decides nothing.
pub(super) fn time(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut reply = call.reply();
    reply.array(2);
    reply.bulk(now.as_secs().to_string().as_bytes());
    reply.bulk(now.subsec_micros().to_string().as_bytes());
    Ok(Outcome::Answered)
}
