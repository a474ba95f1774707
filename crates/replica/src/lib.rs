//! The key/value server without its shell.

#![forbid(unsafe_code)]

pub mod backup;
mod bytes_read;
pub mod checks;
mod clients;
pub mod command;
pub mod disk_queue;
pub mod entry;
mod founding;
pub mod gateway;
pub mod keeper;
pub mod machine;
mod member;
pub mod members;
pub mod memory;
pub mod pending;
pub mod replica;
mod replies;
pub mod sabotage;
pub mod seat;
pub mod session;
pub mod shard;
pub mod shortage;
pub mod snapshot;
pub mod status;
pub mod survivor;
pub mod transfer;
pub mod value;
pub mod versions;
pub mod wire;

pub use bytes_read::Malformed;
pub use checks::{Agreement, CheckStatus};
pub use machine::Machine;
pub use memory::Memory;
pub use replica::{Actions, Answer, Config, ConnectionId, Event, Replica, Request, Standing};
pub use snapshot::{Image, Loader};
pub use status::{SnapshotStatus, Status};
