//! What the state costs in memory, and what a write would add to it: the figures by which a leader refuses. All of it
//! follows from the state, so that it is the same after a snapshot; nothing that is applied depends on it.

use crate::command::{Command, Condition};
use crate::entry::LoggedWrite;
use crate::machine::Machine;
use crate::replies::REPLY_OVERHEAD_BYTES;
use crate::shard::Shards;
use crate::value::Value;

/// What a key costs besides its own bytes and those of its value: its place in a table that is two thirds full on the
/// average, the head of its value, and what the allocator adds to three pieces.
pub const KEY_OVERHEAD_BYTES: u64 = 160;
/// What a client's session costs besides the replies it keeps.
pub const SESSION_OVERHEAD_BYTES: u64 = 184;

/// What the state costs, by an account that is fixed: the process holds more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Bytes of keys and values.
    pub data_bytes: u64,
    /// [`KEY_OVERHEAD_BYTES`] for each key.
    pub overhead_bytes: u64,
    /// Clients' sessions, and the replies that are kept in them.
    pub session_bytes: u64,
}

impl Memory {
    /// All together: what is held against the limit.
    pub fn total(&self) -> u64 {
        self.data_bytes + self.overhead_bytes + self.session_bytes
    }
}

impl Machine {
    /// What the state costs now.
    pub fn memory(&self) -> Memory {
        let (shards, sessions) = (self.shards(), self.sessions());
        Memory {
            data_bytes: shards.data_bytes(),
            overhead_bytes: shards.keys() * KEY_OVERHEAD_BYTES,
            session_bytes: sessions.clients() * SESSION_OVERHEAD_BYTES + sessions.reply_bytes(),
        }
    }

    /// By how many bytes the state would grow if this write ran on it now. Zero for what deletes, changes nothing, has run
    /// already, or puts something no larger in the place of what is there; and for the sessions themselves, of which the
    /// cluster has a number at most: who deletes under one must be able to open it.
    pub(crate) fn growth(&self, write: &LoggedWrite) -> u64 {
        match write {
            LoggedWrite::Plain(command) => self.shards().growth(command),
            LoggedWrite::Once { session, seq, command, .. } => {
                if self.sessions().is_recorded(*session, *seq) {
                    return 0;
                }
                // The old value stays, as the reply.
                let growth = self.shards().growth(command) + self.shards().reply_bytes(command);
                if growth == 0 { 0 } else { growth + REPLY_OVERHEAD_BYTES }
            }
            LoggedWrite::OpenSession { .. }
            | LoggedWrite::CloseSession { .. }
            | LoggedWrite::KeepAlive
            | LoggedWrite::Refused { .. } => 0,
        }
    }
}

impl Shards {
    fn growth(&self, command: &Command) -> u64 {
        let new_key = |key: &[u8]| key.len() as u64 + KEY_OVERHEAD_BYTES;
        match command {
            Command::Put { key, value, condition, .. } => {
                let old = self.get(key).map(Value::len);
                match (old, condition) {
                    (Some(_), Condition::IfAbsent) | (None, Condition::IfPresent) => 0,
                    (Some(old), _) => value.len().saturating_sub(old) as u64,
                    (None, _) => new_key(key) + value.len() as u64,
                }
            }
            Command::Append { key, value } => {
                let key_bytes = if self.get(key).is_some() { 0 } else { new_key(key) };
                key_bytes + value.len() as u64
            }
            Command::Delete { .. } => 0,
        }
    }
}
