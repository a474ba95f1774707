//! `SESSION` and `ONCE`: exactly once for any client. Must not know what a session's table does with it.

use bytes::Bytes;
use quorate_replica::command::{Operation, ReplyError, Seq, SessionId, Write};

use super::{Call, CommandError, Outcome, find, integer, is_word};

/// Where the wrapped command begins: `ONCE <session> <sequence> <acknowledged> <command> …`.
pub(super) const WRAPPED_AT: usize = 4;

/// `SESSION OPEN [TTL milliseconds]`.
pub(super) fn open(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    let ttl_ms = match &call.arguments[2..] {
        [] => None,
        [word, milliseconds] if is_word(word, "ttl") => {
            let milliseconds = integer(milliseconds)?;
            let milliseconds = u64::try_from(milliseconds).ok().filter(|milliseconds| *milliseconds > 0);
            Some(
                milliseconds
                    .ok_or_else(|| CommandError::err("invalid expire time in 'session|open' command"))?,
            )
        }
        _ => return Err(CommandError::Syntax),
    };
    Ok(Outcome::Ask(Operation::Write(Write::OpenSession { ttl_ms })))
}

/// `SESSION CLOSE <session>`.
pub(super) fn close(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    match session(call.argument(2)) {
        Some(session) => Ok(Outcome::Ask(Operation::Write(Write::CloseSession { session }))),
        // No session has this id, so it is closed, as a session that was closed before.
        None => call.ok(),
    }
}

/// `ONCE <session> <sequence> <acknowledged> <command> [argument …]`.
pub(super) fn once(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    let seq = number(call.argument(2))?;
    let acknowledged = number(call.argument(3))?;
    if seq == 0 {
        return Err(CommandError::err("sequence 0: sequences are 1 and up"));
    }
    if acknowledged >= seq {
        let text = format!("acknowledged {acknowledged} is not below the sequence {seq}");
        return Err(CommandError::err(text));
    }
    let wrapped = &call.arguments[WRAPPED_AT..];
    let spec = find(wrapped)?;
    if !spec.is_data() {
        return Err(CommandError::err(format!("ONCE does not wrap '{}'", spec.full_name())));
    }
    let inner = &mut Call { shared: call.shared, client: call.client, arguments: wrapped, out: call.out };
    let outcome = (spec.run)(inner)?;
    let Outcome::Ask(Operation::Write(Write::Plain(command))) = outcome else {
        // A wrapped read is simply a read.
        return Ok(outcome);
    };
    let session = session(call.argument(1)).ok_or(CommandError::Reply(ReplyError::SessionExpired))?;
    let write = Write::Once { session, seq: Seq(seq), acknowledged: Seq(acknowledged), command };
    Ok(Outcome::Ask(Operation::Write(write)))
}

fn session(argument: &Bytes) -> Option<SessionId> {
    std::str::from_utf8(argument).ok()?.parse().ok()
}

fn number(argument: &Bytes) -> Result<u64, CommandError> {
    u64::try_from(integer(argument)?).map_err(|_| CommandError::NotAnInteger)
}
