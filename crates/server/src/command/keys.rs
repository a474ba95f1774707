//! `DEL EXISTS DBSIZE`: from arguments to a question for the replica. Must not know how it is answered.

use quorate_replica::command::{Command, Query};

use super::strings::{read, write};
use super::{Call, CommandError, Outcome};

pub(super) fn del(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    write(Command::Delete { keys: call.arguments[1..].to_vec() })
}

pub(super) fn exists(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    read(Query::Exists { keys: call.arguments[1..].to_vec() })
}

pub(super) fn dbsize(_: &mut Call<'_>) -> Result<Outcome, CommandError> {
    read(Query::Size)
}
