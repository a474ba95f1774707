//! What a Clerk asks, what it is answered, and what it tells its caller. Knows the promises of each class of error;
//! must not know how any of it looks on a wire.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

/// A session's name, as the server gave it: unique for ever in its cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub Bytes);

/// An operation that changes something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Sets a value.
    Put {
        /// Where.
        key: Bytes,
        /// To what.
        value: Bytes,
    },
    /// Adds to the end of a value; a missing one counts as empty.
    Append {
        /// Where.
        key: Bytes,
        /// What is added.
        value: Bytes,
    },
    /// Removes a value.
    Delete {
        /// Where.
        key: Bytes,
    },
}

/// An operation that changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// Reads a value.
    Get {
        /// Where.
        key: Bytes,
    },
}

/// What a caller wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Exactly once, or not at all.
    Write(Command),
    /// As often as it takes.
    Read(Query),
    /// Ends the session, so that the cluster may forget it: a short-lived program does so before it exits. Done at
    /// once where none is open, or where a write is under way or in doubt in it: that one is left to expire.
    Close,
}

/// What is sent to a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// `SESSION OPEN`.
    OpenSession {
        /// How long the session lives after its last write; the server's default if not given.
        ttl_ms: Option<u64>,
    },
    /// `ONCE`: a command that runs at most once, however often it is sent.
    Once {
        /// Under which session.
        session: SessionId,
        /// Its number there.
        sequence: u64,
        /// No number up to this one will be asked for again; below `sequence`.
        acknowledged: u64,
        /// The command itself.
        command: Command,
    },
    /// A read, under no session.
    Read(Query),
    /// `SESSION CLOSE`; to close one again is no error.
    CloseSession {
        /// Which.
        session: SessionId,
    },
}

/// What a server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    /// To [`Request::OpenSession`].
    Session(SessionId),
    /// To the others.
    Reply(Reply),
    /// An error.
    Refused(Refusal),
}

/// The result of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Of [`Command::Put`] and of [`Operation::Close`].
    Ok,
    /// Of [`Command::Append`]: the length after it, in bytes.
    Length(u64),
    /// Of [`Command::Delete`]: whether there was anything.
    Deleted(bool),
    /// Of [`Query::Get`].
    Value(Option<Bytes>),
}

impl Reply {
    /// Whether this can be the result of that operation.
    #[must_use]
    pub fn answers(&self, operation: &Operation) -> bool {
        matches!(
            (operation, self),
            (Operation::Write(Command::Put { .. }) | Operation::Close, Self::Ok)
                | (Operation::Write(Command::Append { .. }), Self::Length(_))
                | (Operation::Write(Command::Delete { .. }), Self::Deleted(_))
                | (Operation::Read(Query::Get { .. }), Self::Value(_))
        )
    }
}

/// The class of an error: its first word, and a promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Class {
    /// Not executed; the leader is there.
    Moved {
        /// Host and port.
        to: String,
    },
    /// Not executed; no leader is known.
    ClusterDown,
    /// Not executed; overloaded or starting.
    TryAgain,
    /// Not executed; memory or disk is full.
    OutOfMemory,
    /// May or may not take effect, now or later.
    InDoubt,
    /// Not executed under this call; whether an earlier send was, is no longer known.
    SessionExpired,
    /// Not executed, and never will be: the client itself has said that it is done with this number.
    StaleSequence,
    /// Not executed: refused as Redis would (`ERR`, `NOAUTH`, `WRONGTYPE`, …).
    Rejected,
    /// A word that promises nothing we know of.
    Unknown,
}

/// An error that a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Its first word, understood.
    pub class: Class,
    /// All of it.
    pub text: String,
}

/// What a server says, as Redis does, before it closes a connection that is one too many: another server may have room.
const CLIENTS_FULL: &str = "ERR max number of clients reached";

impl Refusal {
    /// Understands the text of an error reply.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        if text == CLIENTS_FULL {
            return Self { class: Class::TryAgain, text: text.to_owned() };
        }
        let mut words = text.split_ascii_whitespace();
        let class = match words.next().unwrap_or_default() {
            // The slot, then the address.
            "MOVED" => match words.nth(1) {
                Some(to) if is_address(to) => Class::Moved { to: to.to_owned() },
                Some(_) | None => Class::Unknown,
            },
            "CLUSTERDOWN" => Class::ClusterDown,
            "TRYAGAIN" => Class::TryAgain,
            "OOM" => Class::OutOfMemory,
            "INDOUBT" => Class::InDoubt,
            "SESSIONEXPIRED" => Class::SessionExpired,
            "STALESEQ" => Class::StaleSequence,
            "ERR" | "NOAUTH" | "WRONGPASS" | "NOPERM" | "WRONGTYPE" | "EXECABORT" => Class::Rejected,
            _ => Class::Unknown,
        };
        Self { class, text: text.to_owned() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

/// Why a request certainly did not leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsent {
    /// The host is there and nobody listens.
    ConnectionRefused,
    /// No such host, no way to it, or no answer from it.
    Unreachable,
}

/// What went wrong at one try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// Nobody listens there.
    ConnectionRefused {
        /// The server.
        server: Arc<str>,
    },
    /// No way to the server.
    Unreachable {
        /// The server.
        server: Arc<str>,
    },
    /// The connection ended before the answer.
    Lost {
        /// The server.
        server: Arc<str>,
    },
    /// No answer in time.
    Silent {
        /// The server.
        server: Arc<str>,
    },
    /// An answer to another question.
    Malformed {
        /// The server.
        server: Arc<str>,
    },
    /// An error.
    Refused {
        /// The server.
        server: Arc<str>,
        /// The error.
        refusal: Refusal,
    },
}

impl Cause {
    /// Where it went wrong.
    #[must_use]
    pub fn server(&self) -> &Arc<str> {
        match self {
            Self::ConnectionRefused { server }
            | Self::Unreachable { server }
            | Self::Lost { server }
            | Self::Silent { server }
            | Self::Malformed { server }
            | Self::Refused { server, .. } => server,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConnectionRefused { server } => write!(f, "{server} refuses the connection"),
            Self::Unreachable { server } => write!(f, "{server} cannot be reached"),
            Self::Lost { server } => write!(f, "the connection to {server} ended before the answer"),
            Self::Silent { server } => write!(f, "{server} did not answer in time"),
            Self::Malformed { server } => write!(f, "{server} answered something else"),
            Self::Refused { server, refusal } => write!(f, "{server} answered: {refusal}"),
        }
    }
}

/// Why an operation ended without its result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// The caller's deadline came.
    Deadline {
        /// What went wrong last.
        last: Option<Cause>,
    },
    /// An answer that no further try would change.
    Refused {
        /// The server.
        server: Arc<str>,
        /// The error.
        refusal: Refusal,
    },
    /// The only server there is refuses the connection ([`Config::waits_for_lone_server`]).
    ///
    /// [`Config::waits_for_lone_server`]: crate::Config::waits_for_lone_server
    ConnectionRefused {
        /// The server.
        server: Arc<str>,
    },
    /// This Clerk has as many unfinished calls as it may have ([`Config::calls_max`]).
    ///
    /// [`Config::calls_max`]: crate::Config::calls_max
    TooManyCalls {
        /// The limit.
        calls_max: usize,
    },
    /// The Clerk is gone, or going.
    Closed,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deadline { last: None } => f.write_str("the deadline has passed"),
            Self::Deadline { last: Some(cause) } => write!(f, "the deadline has passed; last, {cause}"),
            Self::Refused { server, refusal } => write!(f, "{server} answered: {refusal}"),
            Self::ConnectionRefused { server } => write!(f, "{server} refuses the connection"),
            Self::TooManyCalls { calls_max } => write!(f, "calls_max: {calls_max} calls are unfinished"),
            Self::Closed => f.write_str("the Clerk was closed"),
        }
    }
}

/// How an operation ended without its result: whether it ran is the caller's first question, so it is the type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It did not run, and never will.
    #[error("not executed: {why}")]
    NotExecuted {
        /// The reason.
        why: Why,
    },
    /// It may have run, or may yet.
    #[error("outcome unknown: {why}")]
    InDoubt {
        /// The reason.
        why: Why,
    },
}

impl Failure {
    /// The reason.
    #[must_use]
    pub fn why(&self) -> &Why {
        match self {
            Self::NotExecuted { why } | Self::InDoubt { why } => why,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_is_the_class() {
        for (text, class) in [
            ("MOVED 0 10.0.0.1:6380", Class::Moved { to: "10.0.0.1:6380".into() }),
            ("MOVED 3999 [::1]:6380", Class::Moved { to: "[::1]:6380".into() }),
            ("MOVED 0 nowhere", Class::Unknown),
            ("MOVED 0 :6380", Class::Unknown),
            ("MOVED", Class::Unknown),
            ("CLUSTERDOWN no leader", Class::ClusterDown),
            ("ERR max number of clients reached", Class::TryAgain),
            ("TRYAGAIN", Class::TryAgain),
            ("OOM disk", Class::OutOfMemory),
            ("INDOUBT x", Class::InDoubt),
            ("SESSIONEXPIRED x", Class::SessionExpired),
            ("STALESEQ x", Class::StaleSequence),
            ("WRONGTYPE x", Class::Rejected),
            ("ERR x", Class::Rejected),
            ("NOAUTH x", Class::Rejected),
            ("ERRATIC", Class::Unknown),
            ("LOADING x", Class::Unknown),
            ("", Class::Unknown),
        ] {
            assert_eq!(Refusal::parse(text), Refusal { class, text: text.to_owned() });
        }
    }

    #[test]
    fn an_error_says_first_whether_the_outcome_is_known() {
        let server: Arc<str> = "a:1".into();
        let refused = Why::ConnectionRefused { server: server.clone() };
        let lost = Why::Deadline { last: Some(Cause::Lost { server }) };
        assert_eq!(
            Failure::NotExecuted { why: refused }.to_string(),
            "not executed: a:1 refuses the connection"
        );
        assert_eq!(
            Failure::InDoubt { why: lost }.to_string(),
            "outcome unknown: the deadline has passed; last, the connection to a:1 ended before the answer"
        );
    }
}
