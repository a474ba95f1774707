//! Raft consensus as a pure step function.

mod effects;
mod message;
mod node;
mod types;

pub use effects::*;
pub use message::*;
pub use node::*;
pub use types::*;
