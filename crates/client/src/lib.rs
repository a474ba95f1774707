//! The Clerk: a client of a Quorate cluster whose every write runs exactly once, or ends with an error that says
//! whether it may have run. Knows the protocol that any client may speak; must not know any code of the server.
//!
//! ```no_run
//! use std::time::Duration;
//! use quorate_client::{Failure, blocking::Clerk};
//!
//! let clerk = Clerk::connect(["127.0.0.1:6379", "127.0.0.1:6380", "127.0.0.1:6381"])?;
//! let timeout = Duration::from_secs(10);
//! clerk.put("greeting", "hello", timeout)?;
//! match clerk.append("greeting", ", world", timeout) {
//!     Ok(length) => println!("{length} bytes"),
//!     Err(Failure::NotExecuted { why }) => println!("nothing has happened: {why}"),
//!     Err(Failure::InDoubt { why }) => println!("it may have been appended, or may yet be: {why}"),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Three layers, one machine
//!
//! | | for | waits |
//! |---|---|---|
//! | [`blocking::Clerk`] | programs without an async runtime | blocks the calling thread |
//! | [`tcp::Clerk`] | programs on tokio | is awaited |
//! | [`Clerk`] | carriers: the two above, and the simulator | never: it is a pure state machine |
//!
//! The pure Clerk takes [`Event`]s, each with the time, and returns [`Actions`]. It reads no clock, draws no entropy
//! and touches no socket, so a simulated run of it is a run of what stands in production.
//!
//! # How a write runs exactly once
//!
//! 1. The first write opens a **session**. A lost reply to that costs a session that nobody uses, and that expires.
//! 2. Each write gets the next **sequence** of the session and is sent as `ONCE session sequence acknowledged …`.
//!    The servers keep its reply until a later send acknowledges it.
//! 3. No answer, a broken connection, or an error that promises nothing: the same sequence is sent again, to the next
//!    server. If the write has run already, the servers answer with the recorded reply.
//! 4. `MOVED` is followed and remembered. `CLUSTERDOWN` and `TRYAGAIN` are waited out, with pauses that double and are
//!    never the same for two Clerks.
//! 5. At the caller's deadline the Clerk gives up, and says what it knows.
//!
//! # What an error says
//!
//! - [`Failure::NotExecuted`]: the write was never sent; or it was sent once, and that one send was answered with an
//!   error that promises that it did not run and will not.
//! - [`Failure::InDoubt`]: anything else. It may have run, or may yet run. Once a sequence has been sent twice, or once
//!   without a certain answer, an error speaks of the latest send alone and proves nothing about the one before.
//!
//! A program that makes a few calls and exits should close its session ([`blocking::Clerk::close`]): the cluster keeps
//! it for an hour otherwise, and keeps a limited number of them.
//!
//! A session that expired (by default an hour after its last write) is replaced without a word if the write was surely
//! not executed; otherwise the write is in doubt.
//!
//! # Order
//!
//! Calls that are made one after the other take effect in that order. Up to 1,024 writes may overlap; they are sent in
//! the order of the calls, but a resend may let one overtake another. A write that ended in doubt runs before the next
//! one or never, if no other was under way.

#![forbid(unsafe_code)]

pub mod blocking;
mod clerk;
mod connection;
mod course;
mod event;
mod message;
mod pause;
mod servers;
mod session;
pub mod tcp;
mod wire;

pub use clerk::Clerk;
pub use event::{Action, Actions, AttemptId, CallId, Config, Event};
pub use message::{
    Cause, Class, Command, Failure, Operation, Query, Refusal, Reply, Request, Response, SessionId, Unsent,
    Why,
};
