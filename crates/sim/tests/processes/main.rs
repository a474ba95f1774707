//! The proof over real processes: servers of the product, as its users build it, behind relays of our own; Clerks and
//! plain connections; kills, pauses, cuts; and the simulator's checker over what the clients saw. Real time and real
//! sockets, so a seed decides what goes wrong and when, and not what comes of it.
//!
//! It stands here because nothing may depend on the simulator, whose checker it uses. `docs/simulation.md` says how it
//! is run by hand.

#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "real processes live in real time")]
#![allow(clippy::unwrap_used, reason = "a helper of a test may fail as the test itself may")]
#![allow(clippy::print_stdout, reason = "figures, for whoever reads the test's output")]

mod clients;
mod cluster;
mod plan;
#[path = "../../../server/tests/server/ports.rs"]
mod ports;
#[path = "../product/mod.rs"]
mod product;
mod recorder;
mod relay;
mod run;
mod speed;
mod spoiled;
mod storm;
mod verdict;

use bytes::Bytes;

/// Something that must hold and does not.
#[derive(Debug)]
pub(crate) struct Violation {
    /// What must hold.
    pub(crate) property: &'static str,
    /// The key whose operations show it.
    pub(crate) key: Option<Bytes>,
    /// How it does not.
    pub(crate) story: String,
}

impl Violation {
    pub(crate) fn new(property: &'static str, story: String) -> Self {
        Self { property, key: None, story }
    }
}
