//! The sessions of clients, by key, in shards that are copied only where a snapshot still shares them. Knows nothing of
//! what a session admits, nor of time.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::command::{Seq, SessionKey};
use crate::replies::Replies;
use crate::shard::mix;

/// A power of two: enough that copying one shard takes microseconds at 100,000 sessions, few enough that cloning all
/// pointers does too.
const CLIENT_SHARDS: usize = 1_024;

/// One client's session.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) ttl_ms: u64,
    pub(crate) deadline_ms: u64,
    /// The highest sequence the client has acknowledged: nothing at or below it runs again.
    pub(crate) floor: Seq,
    /// All above the floor.
    pub(crate) replies: Replies,
}

/// Boxed, since a tree's places are half empty where keys come in order.
pub(crate) type ClientShard = BTreeMap<SessionKey, Box<Client>>;

/// All sessions of clients. Cloning shares them.
#[derive(Clone, Debug)]
pub(crate) struct Clients {
    shards: Vec<Arc<ClientShard>>,
    count: u64,
}

impl Default for Clients {
    fn default() -> Self {
        // One empty shard for all, until they are written to.
        Self { shards: vec![Arc::default(); CLIENT_SHARDS], count: 0 }
    }
}

impl Clients {
    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The session under `key`.
    pub(crate) fn get(&self, key: SessionKey) -> Option<&Client> {
        self.shards[shard_of(key)].get(&key).map(|client| &**client)
    }

    /// The session under `key`, to be changed.
    pub(crate) fn get_mut(&mut self, key: SessionKey) -> Option<&mut Client> {
        let shard = &mut self.shards[shard_of(key)];
        // Asked before `make_mut`: what is not there must not copy a shared shard.
        if !shard.contains_key(&key) {
            return None;
        }
        Arc::make_mut(shard).get_mut(&key).map(|client| &mut **client)
    }

    /// Adds a session.
    ///
    /// # Panics
    /// If there is one under this key.
    pub(crate) fn insert(&mut self, key: SessionKey, client: Client) {
        let previous = Arc::make_mut(&mut self.shards[shard_of(key)]).insert(key, Box::new(client));
        assert!(previous.is_none(), "two sessions under one key");
        self.count += 1;
    }

    /// Removes the session under `key`.
    pub(crate) fn remove(&mut self, key: SessionKey) -> Option<Box<Client>> {
        let shard = &mut self.shards[shard_of(key)];
        if !shard.contains_key(&key) {
            return None;
        }
        self.count -= 1;
        Arc::make_mut(shard).remove(&key)
    }

    /// The shards, to be gone through one after the other.
    pub(crate) fn into_shards(self) -> Vec<Arc<ClientShard>> {
        self.shards
    }
}

fn shard_of(key: SessionKey) -> usize {
    mix(key.index ^ mix(u64::from(key.place))) as usize % CLIENT_SHARDS
}
