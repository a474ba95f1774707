//! `BACKUP`: a consistent copy of everything, in pieces, for any client. Must not know where the pieces come from.

use bytes::Bytes;
use quorate_replica::backup::BackupCall;
use quorate_replica::command::{Operation, ReplyError};

use super::{Call, CommandError, Outcome, integer};

/// `BACKUP BEGIN`.
pub(super) fn begin(_: &mut Call<'_>) -> Result<Outcome, CommandError> {
    ask(BackupCall::Begin)
}

/// `BACKUP STATE <id>`.
pub(super) fn state(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    let id = parse(call.argument(2)).ok_or(CommandError::Reply(ReplyError::NoBackup))?;
    ask(BackupCall::State(id))
}

/// `BACKUP READ <id> <offset> <count>`.
pub(super) fn read(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    let offset = u64::try_from(integer(call.argument(3))?).map_err(|_| CommandError::NotAnInteger)?;
    let count = usize::try_from(integer(call.argument(4))?).map_err(|_| CommandError::NotAnInteger)?;
    if count == 0 {
        return Err(CommandError::err("a piece of 0 bytes"));
    }
    let id = parse(call.argument(2)).ok_or(CommandError::Reply(ReplyError::NoBackup))?;
    ask(BackupCall::Read { id, offset, count })
}

/// `BACKUP END <id>`: `OK`, also where there is none any more.
pub(super) fn end(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    match parse(call.argument(2)) {
        Some(id) => ask(BackupCall::End(id)),
        None => call.ok(),
    }
}

fn ask(call: BackupCall) -> Result<Outcome, CommandError> {
    Ok(Outcome::Ask(Operation::Backup(call)))
}

fn parse<T: std::str::FromStr>(argument: &Bytes) -> Option<T> {
    std::str::from_utf8(argument).ok()?.parse().ok()
}
