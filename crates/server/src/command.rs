//! Commands: from the arguments a client sent to an answer, or to a question for the replica. Must not know sockets,
//! frames in bytes, or how a question is answered.

mod backup;
pub(crate) mod client;
mod configuration;
mod connection;
mod documentation;
mod error;
mod info;
mod keys;
pub(crate) mod members;
mod server;
mod session;
mod strings;
pub(crate) mod table;
mod unsupported;

use bytes::{Bytes, BytesMut};
use quorate_replica::command::Operation;
use quorate_resp::Encoder;

pub(crate) use error::CommandError;

use crate::shared::Shared;
use client::Client;
use table::Spec;

/// One command under way.
pub(crate) struct Call<'a> {
    /// The server it came to.
    pub(crate) shared: &'a Shared,
    /// The client it came from.
    pub(crate) client: &'a mut Client,
    /// What was sent, the name first; of a subcommand the container's name first.
    pub(crate) arguments: &'a [Bytes],
    /// Where a local answer goes.
    pub(crate) out: &'a mut BytesMut,
}

/// What becomes of a command.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The answer stands in [`Call::out`].
    Answered,
    /// The replica answers.
    Ask(Operation),
    /// The answer stands in [`Call::out`], and the connection ends after it.
    Goodbye,
}

/// Arguments of a command that takes no keys: one that names what it wants to know has no use
/// for more, and each may be answered by a page of text.
const PLAIN_ARGUMENTS_MAX: usize = 1_024;

/// What a command of the table runs.
pub(crate) type Handler = fn(&mut Call<'_>) -> Result<Outcome, CommandError>;

impl Call<'_> {
    /// Writes a local answer.
    pub(crate) fn reply(&mut self) -> Encoder<'_> {
        Encoder::new(self.out, self.client.protocol)
    }

    /// The argument at `at`; the table has checked that there are so many.
    pub(crate) fn argument(&self, at: usize) -> &Bytes {
        &self.arguments[at]
    }

    /// Answers `OK`.
    pub(crate) fn ok(&mut self) -> Result<Outcome, CommandError> {
        self.reply().ok();
        Ok(Outcome::Answered)
    }
}

/// Runs one command. An error is an answer too; the caller writes it.
pub(crate) fn run(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    let spec = find(call.arguments)?;
    call.client.note_command(spec);
    let outcome = (spec.run)(call)?;
    match (&outcome, call.shared.loading()) {
        (Outcome::Ask(_), Some(loading)) => Err(CommandError::loading(loading)),
        (Outcome::Ask(_) | Outcome::Answered | Outcome::Goodbye, _) => Ok(outcome),
    }
}

/// The entry of the table that these arguments name, with their number checked.
pub(crate) fn find(arguments: &[Bytes]) -> Result<&'static Spec, CommandError> {
    let name = &arguments[0];
    let Some(spec) = table::command(name) else {
        return Err(match unsupported::name(name) {
            Some(name) => CommandError::NotYet { what: name.to_owned() },
            None => CommandError::unknown_command(arguments),
        });
    };
    if !spec.takes(arguments.len()) {
        return Err(CommandError::Arity { spec });
    }
    if spec.subcommands.is_empty() || arguments.len() < 2 {
        return fits(spec, arguments);
    }
    let Some(subcommand) = table::subcommand(spec, &arguments[1]) else {
        return Err(CommandError::unknown_subcommand(spec, &arguments[1]));
    };
    if !subcommand.takes(arguments.len()) {
        return Err(CommandError::Arity { spec: subcommand });
    }
    fits(subcommand, arguments)
}

fn fits(spec: &'static Spec, arguments: &[Bytes]) -> Result<&'static Spec, CommandError> {
    if arguments.len() > PLAIN_ARGUMENTS_MAX && !spec.takes_keys() {
        return Err(CommandError::err(format!(
            "too many arguments for '{}': {}, the limit is {PLAIN_ARGUMENTS_MAX}",
            spec.full_name(),
            arguments.len()
        )));
    }
    Ok(spec)
}

/// Compares a word of a client with one of ours, in lower case.
pub(crate) fn is_word(argument: &[u8], word: &str) -> bool {
    argument.eq_ignore_ascii_case(word.as_bytes())
}

/// A number as Redis reads it.
pub(crate) fn integer(argument: &[u8]) -> Result<i64, CommandError> {
    quorate_resp::parse_integer(argument).ok_or(CommandError::NotAnInteger)
}
