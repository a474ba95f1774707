//! The Clerk.

#![forbid(unsafe_code)]

mod clerk;
mod course;
mod event;
mod message;
mod pause;
mod servers;
mod session;

pub use clerk::Clerk;
pub use event::{Action, Actions, AttemptId, CallId, Config, Event};
pub use message::{
    Cause, Class, Command, Failure, Operation, Query, Refusal, Reply, Request, Response, SessionId, Unsent,
    Why,
};
