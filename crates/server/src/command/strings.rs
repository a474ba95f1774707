//! `GET SET APPEND STRLEN MGET`: from arguments to a question for the replica. Must not know how it is answered.

use quorate_replica::command::{Command, Condition, Operation, Query, Write};

use super::{Call, CommandError, Outcome, is_word};

pub(super) fn get(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    read(Query::Get { key: call.argument(1).clone() })
}

pub(super) fn strlen(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    read(Query::Length { key: call.argument(1).clone() })
}

pub(super) fn mget(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    read(Query::GetMany { keys: call.arguments[1..].to_vec() })
}

pub(super) fn append(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    write(Command::Append { key: call.argument(1).clone(), value: call.argument(2).clone() })
}

pub(super) fn set(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    /// Options of Redis that come with expiry and comparison.
    const NOT_YET: [&str; 9] = ["EX", "PX", "EXAT", "PXAT", "KEEPTTL", "IFEQ", "IFNE", "IFDEQ", "IFDNE"];
    let mut condition = Condition::Always;
    let mut get = false;
    for option in &call.arguments[3..] {
        if is_word(option, "get") {
            get = true;
        } else if is_word(option, "nx") && condition != Condition::IfPresent {
            condition = Condition::IfAbsent;
        } else if is_word(option, "xx") && condition != Condition::IfAbsent {
            condition = Condition::IfPresent;
        } else if let Some(name) = NOT_YET.iter().find(|name| is_word(option, name)) {
            return Err(CommandError::NotYet { what: format!("SET option {name}") });
        } else {
            return Err(CommandError::Syntax);
        }
    }
    write(Command::Put { key: call.argument(1).clone(), value: call.argument(2).clone(), condition, get })
}

pub(super) fn read(query: Query) -> Result<Outcome, CommandError> {
    Ok(Outcome::Ask(Operation::Read(query)))
}

pub(super) fn write(command: Command) -> Result<Outcome, CommandError> {
    Ok(Outcome::Ask(Operation::Write(Write::Plain(command))))
}
