//! Bytes to values, both directions. Knows the wire; must not know what a command does.

pub(crate) mod command;
mod inline;
mod line;
pub(crate) mod reply;
