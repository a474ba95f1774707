//! Raft consensus as a pure step function.

#![forbid(unsafe_code)]

mod canonical;
mod effects;
mod election;
mod follower;
mod leader;
mod log;
mod member;
mod membership;
mod message;
mod node;
mod prng;
mod progress;
mod quorum;
mod read;
mod role;
mod types;
mod verdict;
mod writes;

pub use effects::*;
pub use membership::Membership;
pub use message::*;
pub use node::*;
pub use progress::{Progress, ProgressState};
pub use quorum::{joint_majority, majority};
pub use role::Role;
pub use types::*;
pub use verdict::{DropReason, Dropped};
