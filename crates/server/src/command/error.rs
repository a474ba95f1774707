//! What a client is told when a command cannot run, in Redis's own words. Must not know how it is sent.

use std::fmt;

use bytes::Bytes;
use quorate_replica::command::ReplyError;

use super::table::Spec;
use crate::loading::LoadProgress;

/// Why a command was not run. As text: the error reply, its class first.
#[derive(Debug)]
pub(crate) enum CommandError {
    /// No such command, here or in Redis.
    UnknownCommand {
        /// As sent, shortened.
        name: String,
        /// The beginning of the arguments, quoted.
        arguments: String,
    },
    /// The container has no such subcommand.
    UnknownSubcommand {
        /// The container's name, in upper case.
        container: String,
        /// As sent, shortened.
        name: String,
    },
    /// A command of Redis, or an option, that is not built yet.
    NotYet {
        /// Its name.
        what: String,
    },
    /// Too few or too many arguments.
    Arity {
        /// For what.
        spec: &'static Spec,
    },
    /// The arguments make no sense together.
    Syntax,
    /// A number is none.
    NotAnInteger,
    /// What the replica would say, known without asking it.
    Reply(ReplyError),
    /// Any other text, its class first.
    Text(String),
}

/// Bytes of a stranger's word that an error repeats, as in Redis.
const REPEATED_BYTES_MAX: usize = 128;

impl CommandError {
    /// A plain error of class `ERR`.
    pub(crate) fn err(text: impl fmt::Display) -> Self {
        Self::Text(format!("ERR {text}"))
    }

    /// What needs the data has to wait for it.
    pub(super) fn loading(progress: &LoadProgress) -> Self {
        let percent = progress.percent();
        Self::Reply(ReplyError::NotServing(format!("loading the data folder, {percent} %")))
    }

    pub(super) fn unknown_command(arguments: &[Bytes]) -> Self {
        let mut quoted = String::new();
        for argument in &arguments[1..] {
            if quoted.len() >= REPEATED_BYTES_MAX {
                break;
            }
            quoted.push_str(&format!("'{}' ", shortened(argument, REPEATED_BYTES_MAX - quoted.len())));
        }
        Self::UnknownCommand { name: shortened(&arguments[0], REPEATED_BYTES_MAX), arguments: quoted }
    }

    pub(super) fn unknown_subcommand(spec: &Spec, name: &[u8]) -> Self {
        Self::UnknownSubcommand {
            container: spec.name.to_uppercase(),
            name: shortened(name, REPEATED_BYTES_MAX),
        }
    }
}

fn shortened(bytes: &[u8], bytes_max: usize) -> String {
    String::from_utf8_lossy(bytes.get(..bytes_max).unwrap_or(bytes)).into_owned()
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownCommand { name, arguments } => {
                write!(f, "ERR unknown command '{name}', with args beginning with: {arguments}")
            }
            Self::UnknownSubcommand { container, name } => {
                write!(f, "ERR unknown subcommand '{name}'. Try {container} HELP.")
            }
            Self::NotYet { what } => write!(f, "ERR {what} is not supported yet"),
            Self::Arity { spec } => {
                write!(f, "ERR wrong number of arguments for '{}' command", spec.full_name())
            }
            Self::Syntax => f.write_str("ERR syntax error"),
            Self::NotAnInteger => f.write_str("ERR value is not an integer or out of range"),
            Self::Reply(error) => error.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}
