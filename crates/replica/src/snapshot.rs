//! The state machine at one applied position, as blocks of bytes and back. Knows no disk and no network: where the blocks
//! go, under which checksums, and when they are asked for, is decided elsewhere.
//!
//! [`Image`] is taken in microseconds, since it shares everything with the state machine; what is written to while it
//! lives is copied, shard by shard. It is laid out by whichever thread has it.
//!
//! # Layout, formats 1 and 2
//!
//! The blocks, one behind the other, are one run of bytes; where one ends says nothing. *n* is a number of up to 64 bits
//! in as few bytes as it needs: seven bits each, the lowest first, the eighth bit says that more follow. Other numbers
//! are little-endian. A head:
//!
//! | bytes | field |
//! |---|---|
//! | n | format: 1, or 2 where there is a membership |
//! | 16 | cluster id |
//! | n, n | position: term, index |
//! | 8 | digest of the state |
//! | n | replicated time, in ms since 1970 |
//! | 1 | 1 where the limits of the state follow, 0 where there are none yet, and nothing else then |
//! | 8 times n | the limits, in the order of [`StateLimits`] |
//! | n length, bytes | in format 2 the membership, as [`Membership::to_bytes`] lays it out |
//! | n, n, n | how many gateways' sessions, clients' sessions, keys |
//!
//! Then each gateway's session, each client's session with its replies, each key, in no order that means anything:
//!
//! | what | fields |
//! |---|---|
//! | gateway's session | key: n index, n place; n node id; 8 start; n opening; n deadline in ms; n last sequence |
//! | client's session | key: n index, n place; n lifetime in ms; n deadline in ms; n acknowledged; n how many replies |
//! | its replies, ascending | n sequence, less the one before or the acknowledged; 4 checksum of the command; 1 kind; fields |
//! | key | n length, bytes; then the value: n length, bytes |
//!
//! | kind of reply | fields |
//! |---|---|
//! | 1 done, 2 nothing | |
//! | 3 integer | n: twice the number, or twice its complement and one where it is negative |
//! | 4 value | n length, bytes |
//! | 5 key too large, 6 value too large | n bytes, n limit |

mod blocks;
mod cursor;
mod lane;
mod loader;
mod splitter;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_raft::{MEMBERS_MAX, Membership, Position, SEAT_BYTES_MAX};
use quorate_storage::ClusterId;

pub use blocks::Blocks;
pub use lane::{Lane, LoadedShare, Share};
pub use loader::{LoadError, Loader};
pub use splitter::{Keys, Splitter};

use crate::clients::Clients;
use crate::command::SessionKey;
use crate::entry::StateLimits;
use crate::session::Gateway;
use crate::shard::Shards;

/// The newest version of the layout that this code reads, and writes where there is a membership.
pub const IMAGE_FORMAT: u64 = 2;
/// What is written of a state whose members are those that founded it: older programs read it, too.
const IMAGE_FORMAT_FOUNDING: u64 = 1;
/// Bytes of a membership at most: so much at least is not believed before it is there.
const MEMBERSHIP_BYTES_MAX: u64 = 2 * (MEMBERS_MAX * (SEAT_BYTES_MAX + 64)) as u64;

const REPLY_OK: u8 = 1;
const REPLY_NIL: u8 = 2;
const REPLY_INTEGER: u8 = 3;
const REPLY_VALUE: u8 = 4;
const REPLY_KEY_TOO_LARGE: u8 = 5;
const REPLY_VALUE_TOO_LARGE: u8 = 6;

/// What the state machine was when it had applied exactly up to [`Image::position`].
pub struct Image {
    pub(crate) cluster: ClusterId,
    pub(crate) position: Position,
    pub(crate) digest: u64,
    pub(crate) now_ms: u64,
    pub(crate) limits: Option<StateLimits>,
    pub(crate) membership: Option<Arc<Membership>>,
    pub(crate) gateways: BTreeMap<SessionKey, Gateway>,
    pub(crate) clients: Clients,
    pub(crate) shards: Shards,
}

impl Image {
    /// The cluster whose state it is.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Bytes that a snapshot of it has at least.
    pub(crate) fn bytes_min(&self) -> u64 {
        self.shards.data_bytes()
    }

    /// What was applied.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The digest of the state, as [`crate::Machine::digest`] gives it.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// Lays it out, in blocks of [`quorate_storage::snapshot::BLOCK_BYTES_MAX`] and a rest. In memory are, besides the
    /// block, one value or one session at a time. A shard that is laid out is given up, so that it is not copied any
    /// more when it is written to.
    pub fn blocks(self) -> Blocks {
        Blocks::new(self, quorate_storage::snapshot::BLOCK_BYTES_MAX)
    }
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the state at {}, digest {:016x}", self.position, self.digest)
    }
}
