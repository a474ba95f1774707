//! `AUTH PING ECHO HELLO SELECT RESET QUIT CLIENT`: what concerns the connection alone. Must not know its socket.

use std::time::Instant;

use bytes::Bytes;
use quorate_resp::Protocol;

use super::client::Replies;
use super::{Call, CommandError, Outcome, integer, is_word};
use crate::shared::{REDIS_VERSION, SERVER_NAME};

/// The only user there is.
const USER: &str = "default";
/// Bytes of a name that a client gives itself, or its library: each is kept for as long as the client is there.
const NAME_BYTES_MAX: usize = 256;

pub(super) fn ping(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    match call.arguments {
        [_] => call.reply().simple("PONG"),
        [_, text] => call.reply().bulk(text),
        [spec, ..] => {
            let spec = super::table::command(spec).expect("ping runs, so it is in the table");
            return Err(CommandError::Arity { spec });
        }
        [] => unreachable!("a command has a name"),
    }
    Ok(Outcome::Answered)
}

pub(super) fn echo(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    let text = call.argument(1).clone();
    call.reply().bulk(&text);
    Ok(Outcome::Answered)
}

pub(super) fn quit(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    call.reply().ok();
    Ok(Outcome::Goodbye)
}

pub(super) fn reset(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    call.client.reset();
    call.reply().simple("RESET");
    Ok(Outcome::Answered)
}

pub(super) fn select(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    match integer(call.argument(1))? {
        0 => call.ok(),
        _ => Err(CommandError::err("DB index is out of range")),
    }
}

pub(super) fn auth(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    match call.arguments {
        [_, _] => Err(CommandError::err(
            "AUTH <password> called without any password configured for the default user. Are you sure your \
             configuration is correct?",
        )),
        [_, user, _] => {
            authenticate(user)?;
            call.ok()
        }
        _ => Err(CommandError::Syntax),
    }
}

/// The default user has no password, so any is right; there is no other user.
fn authenticate(user: &[u8]) -> Result<(), CommandError> {
    if user == USER.as_bytes() {
        return Ok(());
    }
    Err(CommandError::Text("WRONGPASS invalid username-password pair or user is disabled.".to_owned()))
}

/// `HELLO [protocol [AUTH user password] [SETNAME name]]`. Nothing changes unless all of it is right.
pub(super) fn hello(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    let mut protocol = call.client.protocol;
    let mut name = None;
    if let Some(version) = call.arguments.get(1) {
        let version = quorate_resp::parse_integer(version)
            .ok_or_else(|| CommandError::err("Protocol version is not an integer or out of range"))?;
        protocol = Protocol::from_number(version)
            .ok_or_else(|| CommandError::Text("NOPROTO unsupported protocol version".to_owned()))?;
    }
    let mut rest = call.arguments.get(2..).unwrap_or_default();
    while let [option, more @ ..] = rest {
        rest = match more {
            [user, _, rest @ ..] if is_word(option, "auth") => {
                authenticate(user)?;
                rest
            }
            [new, rest @ ..] if is_word(option, "setname") => {
                check_name(new, "Client names")?;
                name = Some(Bytes::copy_from_slice(new));
                rest
            }
            _ => {
                let option = String::from_utf8_lossy(option);
                return Err(CommandError::err(format!("Syntax error in HELLO option '{option}'")));
            }
        };
    }
    call.client.protocol = protocol;
    if let Some(name) = name {
        call.client.name = name;
    }
    let id = i64::try_from(call.client.id).unwrap_or(i64::MAX);
    let mut reply = call.reply();
    reply.map(7);
    for (field, text) in [("server", SERVER_NAME), ("version", REDIS_VERSION)] {
        reply.bulk(field.as_bytes());
        reply.bulk(text.as_bytes());
    }
    reply.bulk(b"proto");
    reply.integer(protocol.number());
    reply.bulk(b"id");
    reply.integer(id);
    // Every server of this port takes every command, so a client has no reason to look for another one.
    for (field, text) in [("mode", "standalone"), ("role", "master")] {
        reply.bulk(field.as_bytes());
        reply.bulk(text.as_bytes());
    }
    reply.bulk(b"modules");
    reply.array(0);
    Ok(Outcome::Answered)
}

fn check_name(name: &[u8], what: &str) -> Result<(), CommandError> {
    if name.len() > NAME_BYTES_MAX {
        return Err(CommandError::err(format!(
            "{what} cannot be longer than {NAME_BYTES_MAX} bytes; this one has {}",
            name.len()
        )));
    }
    if name.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
        return Ok(());
    }
    Err(CommandError::err(format!("{what} cannot contain spaces, newlines or special characters.")))
}

pub(super) fn client_id(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    let id = i64::try_from(call.client.id).unwrap_or(i64::MAX);
    call.reply().integer(id);
    Ok(Outcome::Answered)
}

pub(super) fn client_getname(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    let name = call.client.name.clone();
    call.reply().bulk_or_null((!name.is_empty()).then_some(&name[..]));
    Ok(Outcome::Answered)
}

pub(super) fn client_setname(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    check_name(call.argument(2), "Client names")?;
    call.client.name = Bytes::copy_from_slice(call.argument(2));
    call.ok()
}

pub(super) fn client_setinfo(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    let value = call.argument(3);
    if is_word(call.argument(2), "lib-name") {
        check_name(value, "lib-name")?;
        call.client.library = Bytes::copy_from_slice(value);
    } else if is_word(call.argument(2), "lib-ver") {
        check_name(value, "lib-ver")?;
        call.client.library_version = Bytes::copy_from_slice(value);
    } else {
        let option = String::from_utf8_lossy(call.argument(2));
        return Err(CommandError::err(format!("Unrecognized option '{option}'")));
    }
    call.ok()
}

pub(super) fn client_info(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    let line = call.client.describe(Instant::now()) + "\n";
    call.reply().verbatim(*b"txt", line.as_bytes());
    Ok(Outcome::Answered)
}

/// `CLIENT LIST [TYPE type] [ID id …]`.
pub(super) fn client_list(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    let mut only = None;
    let mut none = false;
    match &call.arguments[2..] {
        [] => {}
        [option, kind] if is_word(option, "type") => {
            let kinds = ["normal", "master", "replica", "slave", "pubsub"];
            if !kinds.iter().any(|known| is_word(kind, known)) {
                let kind = String::from_utf8_lossy(kind);
                return Err(CommandError::err(format!("Unknown client type '{kind}'")));
            }
            none = !is_word(kind, "normal");
        }
        [option, ids @ ..] if is_word(option, "id") && !ids.is_empty() => {
            let ids: Option<Vec<i64>> = ids.iter().map(|id| quorate_resp::parse_integer(id)).collect();
            only = Some(ids.ok_or_else(|| CommandError::err("Invalid client ID"))?);
        }
        _ => return Err(CommandError::Syntax),
    }
    let now = Instant::now();
    let mut clients = call.shared.connections.describe(call.client, now);
    if let Some(only) = only {
        clients.retain(|(id, _)| i64::try_from(*id).is_ok_and(|id| only.contains(&id)));
    }
    let lines: String = clients.into_iter().filter(|_| !none).map(|(_, line)| line + "\n").collect();
    call.reply().verbatim(*b"txt", lines.as_bytes());
    Ok(Outcome::Answered)
}

/// What `CLIENT KILL` looks for: all that is given must hold.
#[derive(Default)]
struct KillFilter {
    id: Option<u64>,
    address: Option<Bytes>,
    local_address: Option<Bytes>,
    nobody: bool,
    skip_me: bool,
}

/// `CLIENT KILL address`, or `CLIENT KILL filter value …`.
pub(super) fn client_kill(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    let old_form = call.arguments.len() == 3;
    let filter = if old_form {
        KillFilter { address: Some(call.argument(2).clone()), ..KillFilter::default() }
    } else {
        kill_filter(&call.arguments[2..])?
    };
    let mut itself = false;
    let killed = call.shared.connections.kill(call.client, |client| {
        let is_it = !filter.nobody
            && filter.id.is_none_or(|id| id == client.id)
            && filter.address.as_ref().is_none_or(|address| address == client.address.to_string().as_bytes())
            && filter
                .local_address
                .as_ref()
                .is_none_or(|local| local == client.local_address.to_string().as_bytes());
        is_it && !(filter.skip_me && client.id == call.client.id)
    });
    if killed.contains(&call.client.id) {
        itself = true;
    }
    match (old_form, killed.len()) {
        (true, 0) => return Err(CommandError::err("No such client")),
        (true, _) => call.reply().ok(),
        (false, count) => call.reply().integer(i64::try_from(count).unwrap_or(i64::MAX)),
    }
    // Who kills itself is answered first.
    Ok(if itself { Outcome::Goodbye } else { Outcome::Answered })
}

fn kill_filter(mut arguments: &[Bytes]) -> Result<KillFilter, CommandError> {
    let mut filter = KillFilter { skip_me: true, ..KillFilter::default() };
    while let [option, value, rest @ ..] = arguments {
        if is_word(option, "id") {
            let id = u64::try_from(integer(value)?).ok().filter(|id| *id > 0);
            filter.id = Some(id.ok_or_else(|| CommandError::err("client-id should be greater than 0"))?);
        } else if is_word(option, "addr") {
            filter.address = Some(value.clone());
        } else if is_word(option, "laddr") {
            filter.local_address = Some(value.clone());
        } else if is_word(option, "type") {
            filter.nobody |= !is_word(value, "normal");
        } else if is_word(option, "user") {
            filter.nobody |= value != USER.as_bytes();
        } else if is_word(option, "skipme") && (is_word(value, "yes") || is_word(value, "no")) {
            filter.skip_me = is_word(value, "yes");
        } else {
            return Err(CommandError::Syntax);
        }
        arguments = rest;
    }
    if arguments.is_empty() { Ok(filter) } else { Err(CommandError::Syntax) }
}

pub(super) fn client_reply(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    let mode = call.argument(2);
    if is_word(mode, "on") {
        call.client.replies = Replies::On;
        call.reply().ok();
    } else if is_word(mode, "off") {
        call.client.replies = Replies::Off;
    } else if is_word(mode, "skip") {
        if call.client.replies != Replies::Off {
            call.client.replies = Replies::SkipNext;
        }
    } else {
        return Err(CommandError::Syntax);
    }
    Ok(Outcome::Answered)
}

/// `NO-EVICT` and `NO-TOUCH`: what they turn on or off is not there, so both are true.
pub(super) fn client_switch(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    let mode = call.argument(2);
    if is_word(mode, "on") || is_word(mode, "off") { call.ok() } else { Err(CommandError::Syntax) }
}

pub(super) fn client_tracking(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    let mode = call.argument(2);
    if is_word(mode, "off") {
        call.ok()
    } else if is_word(mode, "on") {
        Err(CommandError::NotYet { what: "CLIENT TRACKING ON".to_owned() })
    } else {
        Err(CommandError::Syntax)
    }
}
