//! What goes into a Clerk and what comes out of it, and how it is set. Must not know how the Clerk decides.

use std::sync::Arc;

use crate::message::{Failure, Operation, Reply, Request, Response, Unsent};

/// How a Clerk behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Host and port of each server that is known from the start; at least one.
    pub servers: Vec<String>,
    /// How long a session lives after its last write; the server's default if not given.
    pub session_ttl_ms: Option<u64>,
    /// Silence after which the next server is tried. It doubles with each silence of the same call, so that a big
    /// value on a slow line gets through.
    pub try_timeout_ms: u64,
    /// What that silence doubles up to.
    pub try_timeout_ms_max: u64,
    /// The pause after a first failure; it doubles with each.
    pub pause_ms_min: u64,
    /// What the pause doubles up to.
    pub pause_ms_max: u64,
    /// Sequences above the acknowledged one that a server admits.
    pub window: u64,
    /// Unfinished calls, those that wait for the window included.
    pub calls_max: usize,
    /// Whether a call waits for a server that refuses the connection when no other is known. A program that runs
    /// for long wants to; a command at a prompt wants to be told.
    pub waits_for_lone_server: bool,
}

impl Config {
    /// Sequences above the acknowledged one that a server admits.
    pub const WINDOW: u64 = 1_024;

    /// The defaults, for these servers.
    #[must_use]
    pub fn new<S: Into<String>>(servers: impl IntoIterator<Item = S>) -> Self {
        Self {
            servers: servers.into_iter().map(Into::into).collect(),
            session_ttl_ms: None,
            try_timeout_ms: 1_000,
            try_timeout_ms_max: 8_000,
            pause_ms_min: 10,
            pause_ms_max: 500,
            window: Self::WINDOW,
            calls_max: 65_536,
            waits_for_lone_server: true,
        }
    }
}

/// One call of the application. Its number is the caller's choice; numbers rise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallId(pub u64);

/// One send of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AttemptId(pub u64);

/// Everything that can happen to a Clerk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The application wants something.
    Call {
        /// Above all earlier ones.
        call: CallId,
        /// What it wants.
        operation: Operation,
        /// When it stops waiting.
        deadline_ms: u64,
    },
    /// A server has answered; late answers are welcome.
    Answered {
        /// The send that it answers.
        attempt: AttemptId,
        /// The answer.
        response: Response,
    },
    /// **No byte** of this send has left, and none will.
    Unsent {
        /// The send.
        attempt: AttemptId,
        /// Why not.
        reason: Unsent,
    },
    /// The connection of this send has ended; whether the request arrived is unknown.
    Lost {
        /// The send.
        attempt: AttemptId,
    },
    /// Nothing but time.
    Tick,
}

/// What the carrier does, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send it, and report one of `Answered`, `Unsent`, `Lost` for it.
    Send {
        /// The name of this send.
        attempt: AttemptId,
        /// Host and port.
        server: Arc<str>,
        /// What to send.
        request: Request,
    },
    /// The server is silent and the request goes elsewhere: a connection on which nothing has come since is better
    /// dialled anew. The attempt itself is not over: its answer still counts if it comes.
    Suspect {
        /// The silent send.
        attempt: AttemptId,
        /// Its server.
        server: Arc<str>,
    },
    /// Tell the application.
    Finish {
        /// Its call.
        call: CallId,
        /// How it ended.
        outcome: Result<Reply, Failure>,
    },
}

/// What follows from one event.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "dropping actions loses calls"]
pub struct Actions {
    /// To be done in order.
    pub list: Vec<Action>,
    /// When the Clerk wants the next event, a `Tick` at the latest; never, while nothing is under way.
    pub wake_at_ms: Option<u64>,
}
