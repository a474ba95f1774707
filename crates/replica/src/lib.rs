//! The key/value server without its shell.

pub mod command;
pub mod replica;
pub mod value;
pub mod wire;
