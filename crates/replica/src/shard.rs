//! Keys and values: 16,384 shards that are copied only where a snapshot still shares them. Knows nothing of sessions,
//! time or the log; executes commands and answers queries.

mod load;

use std::hash::BuildHasher;
use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::command::{Command, Condition, Query, Reply, ReplyError};
use crate::entry::StateLimits;
use crate::value::Value;
pub(crate) use load::{LoadedPart, ShardHeaps, ShardLoad};

/// A power of two: enough that copying one shard takes a few microseconds at a million keys, since just after a snapshot was
/// begun nearly every write copies one; few enough that cloning all pointers takes less than a millisecond.
pub const SHARDS: usize = 16_384;

/// Keys for which memory is asked side by side: about as many as a processor has requests under way.
pub(crate) const PREFETCHED_MAX: usize = 32;

/// One of the shards.
pub(crate) type Shard = HashTable<Slot>;

#[derive(Clone, Debug)]
pub(crate) struct Slot {
    /// With its key. Shared with the copies of its shard: to copy one allocates nothing for each key, and to drop one frees
    /// nothing. (What the thread of snapshots frees in small pieces the system's allocator has the loop clear up, 100 ms at a
    /// time.)
    pub(crate) value: Value,
    /// CRC-32C of the key, so that the digest of a changed value does not cost the key.
    key_checksum: u32,
    /// CRC-32C of the value, so that the digest of an appended value costs the length of the argument.
    value_checksum: u32,
}

impl Slot {
    pub(crate) fn new(key: &[u8], value: &[u8]) -> Self {
        Self {
            value: Value::of_key(key, value),
            key_checksum: crc32c::crc32c(key),
            value_checksum: crc32c::crc32c(value),
        }
    }

    pub(crate) fn key(&self) -> &[u8] {
        self.value.key()
    }

    fn digest(&self) -> u64 {
        let key = u64::from(self.key_checksum) << 32 | u64::from(self.value_checksum);
        mix(key ^ mix((self.key().len() as u64) << 32 ^ self.value.len() as u64))
    }
}

/// A bijection that spreads every bit of its input over all bits of its output (the finaliser of splitmix64), so that
/// sums of it are order-independent digests.
pub(crate) fn mix(input: u64) -> u64 {
    let mut bits = input.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// All keys and values.
#[derive(Clone)]
pub struct Shards {
    shards: Vec<Arc<Shard>>,
    hasher: FixedState,
    keys: u64,
    data_bytes: u64,
    digest: u64,
}

impl Shards {
    /// No keys. `seed` protects the hash tables from chosen keys; nothing that replicas must agree on depends on it.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            // One empty shard for all, until they are written to: a start does not allocate thousands.
            shards: vec![Arc::default(); SHARDS],
            hasher: FixedState::with_seed(seed),
            keys: 0,
            data_bytes: 0,
            digest: 0,
        }
    }

    /// How many keys there are.
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// Bytes of all keys and values.
    pub fn data_bytes(&self) -> u64 {
        self.data_bytes
    }

    /// The wrapping sum of a digest of each key and value: equal states have equal digests, in whatever order they
    /// came about.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// The value of `key`.
    pub fn get(&self, key: &[u8]) -> Option<&Value> {
        let hash = self.hasher.hash_one(key);
        self.shards[shard_of(hash)].find(hash, |slot| slot.key() == key).map(|slot| &slot.value)
    }

    /// Has memory bring what the commands of these keys will need, [`PREFETCHED_MAX`] of them at most. A command waits for memory
    /// four or five times (shard, group, slot, record, its end), each time for where to look next, and that is most of what it
    /// costs. One key needs nothing of another: each of the passes below goes one step further for all of them, so the
    /// processor waits for as many at once. A key's own comparison would make it wait for each, so the first slot that may be a
    /// key's is taken for it; where that is wrong its command waits as it would have.
    pub(crate) fn prefetch<'a>(&self, keys: impl Iterator<Item = &'a Bytes>) {
        let mut hashes = [0; PREFETCHED_MAX];
        let mut slots = [None; PREFETCHED_MAX];
        let mut count = 0;
        let mut touched = 0;
        for (hash, key) in hashes.iter_mut().zip(keys) {
            *hash = self.hasher.hash_one(&**key);
            touched += self.shards[shard_of(*hash)].len();
            count += 1;
        }
        for (slot, hash) in slots.iter_mut().zip(&hashes[..count]) {
            *slot = self.shards[shard_of(*hash)].find(*hash, |_| true);
        }
        for slot in slots.iter().flatten() {
            touched += slot.value_checksum as usize;
        }
        for slot in slots.iter().flatten() {
            touched += usize::from(slot.value.touch());
        }
        // Or the compiler would leave it out.
        black_box(touched);
    }

    /// All keys with their values, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Value)> {
        self.shards.iter().flat_map(|shard| shard.iter().map(|slot| (slot.key(), &slot.value)))
    }

    /// Answers a question. The type says that a read cannot write.
    pub fn answer(&self, query: &Query) -> Reply {
        let value_of = |key: &Bytes| self.get(key).cloned();
        match query {
            Query::Get { key } => value_of(key).map_or(Reply::Nil, Reply::Value),
            Query::GetMany { keys } => Reply::Values(keys.iter().map(value_of).collect()),
            Query::Exists { keys } => {
                integer(keys.iter().filter(|key| self.get(key).is_some()).count() as u64)
            }
            Query::Length { key } => integer(self.get(key).map_or(0, Value::len) as u64),
            Query::Size => integer(self.keys),
        }
    }

    /// Bytes of the value that the reply to `command` would hold: what recording the reply costs besides a constant.
    pub(crate) fn reply_bytes(&self, command: &Command) -> u64 {
        match command {
            Command::Put { key, get: true, .. } => self.get(key).map_or(0, Value::len) as u64,
            Command::Put { .. } | Command::Append { .. } | Command::Delete { .. } => 0,
        }
    }

    /// Carries out a command. Past a limit nothing changes.
    pub(crate) fn execute(&mut self, command: &Command, limits: &StateLimits) -> Reply {
        match command {
            Command::Put { key, value, condition, get } => self.put(key, value, *condition, *get, limits),
            Command::Append { key, value } => self.append(key, value, limits),
            Command::Delete { keys } => integer(keys.iter().filter(|key| self.remove(key)).count() as u64),
        }
    }

    fn put(
        &mut self,
        key: &Bytes,
        value: &Bytes,
        condition: Condition,
        get: bool,
        limits: &StateLimits,
    ) -> Reply {
        if let Err(error) = check_sizes(key, value.len() as u64, limits) {
            return Reply::Error(error);
        }
        if condition == Condition::Always && !get {
            self.set(key, value);
            return Reply::Ok;
        }
        let old = self.get(key);
        let sets = match condition {
            Condition::Always => true,
            Condition::IfAbsent => old.is_none(),
            Condition::IfPresent => old.is_some(),
        };
        let reply = match (get, sets) {
            (true, _) => old.cloned().map_or(Reply::Nil, Reply::Value),
            (false, true) => Reply::Ok,
            (false, false) => Reply::Nil,
        };
        if sets {
            self.set(key, value);
        }
        reply
    }

    fn set(&mut self, key: &[u8], value: &[u8]) {
        self.change(key, value, |slot| {
            slot.value.replace(value);
            slot.value_checksum = crc32c::crc32c(value);
        });
    }

    /// The shards, to be gone through one after the other.
    pub(crate) fn into_shards(self) -> Vec<Arc<Shard>> {
        self.shards
    }

    fn append(&mut self, key: &Bytes, argument: &Bytes, limits: &StateLimits) -> Reply {
        let length = self.get(key).map_or(0, Value::len) as u64 + argument.len() as u64;
        if let Err(error) = check_sizes(key, length, limits) {
            return Reply::Error(error);
        }
        self.change(key, argument, |slot| {
            slot.value.append(argument);
            slot.value_checksum = crc32c::crc32c_append(slot.value_checksum, argument);
        });
        integer(length)
    }

    /// Changes the slot of `key`, or makes it with `fresh` where there is none, and keeps counts and digest.
    fn change(&mut self, key: &[u8], fresh: &[u8], edit: impl FnOnce(&mut Slot)) {
        let hash = self.hasher.hash_one(key);
        let hasher = &self.hasher;
        let shard = Arc::make_mut(&mut self.shards[shard_of(hash)]);
        let entry = shard.entry(hash, |slot| slot.key() == key, |slot| hasher.hash_one(slot.key()));
        let slot = match entry {
            Entry::Occupied(occupied) => {
                let slot = occupied.into_mut();
                self.digest = self.digest.wrapping_sub(slot.digest());
                self.data_bytes -= slot.value.len() as u64;
                edit(slot);
                slot
            }
            Entry::Vacant(vacant) => {
                self.keys += 1;
                self.data_bytes += key.len() as u64;
                vacant.insert(Slot::new(key, fresh)).into_mut()
            }
        };
        self.data_bytes += slot.value.len() as u64;
        self.digest = self.digest.wrapping_add(slot.digest());
    }

    fn remove(&mut self, key: &Bytes) -> bool {
        let hash = self.hasher.hash_one(&**key);
        let index = shard_of(hash);
        // Looked up before `make_mut`: deleting what is not there must not copy a shared shard.
        if self.shards[index].find(hash, |slot| slot.key() == &**key).is_none() {
            return false;
        }
        let shard = Arc::make_mut(&mut self.shards[index]);
        let Ok(occupied) = shard.find_entry(hash, |slot| slot.key() == &**key) else { return false };
        let (slot, _) = occupied.remove();
        self.keys -= 1;
        self.data_bytes -= (slot.key().len() + slot.value.len()) as u64;
        self.digest = self.digest.wrapping_sub(slot.digest());
        true
    }
}

/// From the middle of the hash: the table below takes its bits from both ends.
fn shard_of(hash: u64) -> usize {
    (hash >> 32) as usize % SHARDS
}

/// A length or a count. Both are bounded by memory, far below 2^63.
fn integer(number: u64) -> Reply {
    Reply::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

/// Whether a key and a value of `value_bytes` may be stored.
pub(crate) fn check_sizes(key: &Bytes, value_bytes: u64, limits: &StateLimits) -> Result<(), ReplyError> {
    let key_bytes = key.len() as u64;
    if key_bytes > limits.key_bytes_max {
        return Err(ReplyError::KeyTooLarge { bytes: key_bytes, limit: limits.key_bytes_max });
    }
    if value_bytes > limits.value_bytes_max {
        return Err(ReplyError::ValueTooLarge { bytes: value_bytes, limit: limits.value_bytes_max });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn bytes(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    fn put(key: &str, value: &str) -> Command {
        Command::Put { key: bytes(key), value: bytes(value), condition: Condition::Always, get: false }
    }

    #[test]
    fn append_to_a_missing_key_starts_from_empty() {
        let mut shards = Shards::new(1);
        let append = Command::Append { key: bytes("k"), value: bytes("ab") };
        assert_eq!(shards.execute(&append, &StateLimits::default()), Reply::Integer(2));
        assert_eq!(shards.execute(&append, &StateLimits::default()), Reply::Integer(4));
        assert_eq!(shards.get(b"k"), Some(&Value::copy_from(b"abab")));
    }

    #[test]
    fn a_clone_keeps_what_it_saw() {
        let mut shards = Shards::new(1);
        let _ = shards.execute(&put("k", "old"), &StateLimits::default());
        let snapshot = shards.clone();
        let _ =
            shards.execute(&Command::Append { key: bytes("k"), value: bytes("er") }, &StateLimits::default());
        let _ = shards.execute(&Command::Delete { keys: vec![bytes("k")] }, &StateLimits::default());
        assert_eq!(snapshot.get(b"k"), Some(&Value::copy_from(b"old")));
        assert_eq!((shards.get(b"k"), shards.digest(), shards.data_bytes()), (None, 0, 0));
    }

    #[test]
    fn past_a_limit_nothing_changes() {
        let limits = StateLimits { key_bytes_max: 2, value_bytes_max: 3, ..StateLimits::default() };
        let mut shards = Shards::new(1);
        assert_eq!(shards.execute(&put("k", "abc"), &limits), Reply::Ok);
        let digest = shards.digest();
        let append = Command::Append { key: bytes("k"), value: bytes("d") };
        let too_large = Reply::Error(ReplyError::ValueTooLarge { bytes: 4, limit: 3 });
        assert_eq!(shards.execute(&append, &limits), too_large);
        assert_eq!(shards.execute(&put("k", "abcd"), &limits), too_large);
        let key_too_large = Reply::Error(ReplyError::KeyTooLarge { bytes: 3, limit: 2 });
        assert_eq!(shards.execute(&put("key", ""), &limits), key_too_large);
        assert_eq!(shards.digest(), digest);
    }

    fn any_command() -> impl Strategy<Value = Command> {
        let key = || "[abc]{0,2}".prop_map(|key| bytes(&key));
        let value = || "[xyz]{0,3}".prop_map(|value| bytes(&value));
        let condition =
            prop_oneof![Just(Condition::Always), Just(Condition::IfAbsent), Just(Condition::IfPresent)];
        prop_oneof![
            (key(), value(), condition, any::<bool>())
                .prop_map(|(key, value, condition, get)| Command::Put { key, value, condition, get }),
            (key(), value()).prop_map(|(key, value)| Command::Append { key, value }),
            proptest::collection::vec(key(), 0..4).prop_map(|keys| Command::Delete { keys }),
        ]
    }

    /// What the commands mean, said with an ordered map.
    fn model(map: &mut BTreeMap<Vec<u8>, Vec<u8>>, command: &Command) -> Reply {
        match command {
            Command::Put { key, value, condition, get } => {
                let old = map.get(&key[..]).cloned();
                let sets = match condition {
                    Condition::Always => true,
                    Condition::IfAbsent => old.is_none(),
                    Condition::IfPresent => old.is_some(),
                };
                if sets {
                    map.insert(key.to_vec(), value.to_vec());
                }
                match (get, sets) {
                    (true, _) => old.map_or(Reply::Nil, |old| Reply::Value(Value::copy_from(&old))),
                    (false, true) => Reply::Ok,
                    (false, false) => Reply::Nil,
                }
            }
            Command::Append { key, value } => {
                let slot = map.entry(key.to_vec()).or_default();
                slot.extend_from_slice(value);
                integer(slot.len() as u64)
            }
            Command::Delete { keys } => {
                integer(keys.iter().filter(|key| map.remove(&key[..]).is_some()).count() as u64)
            }
        }
    }

    proptest! {
        #[test]
        fn shards_do_what_a_map_does(commands in proptest::collection::vec(any_command(), 0..60), seed: u64) {
            let mut shards = Shards::new(seed);
            let mut map = BTreeMap::new();
            for command in &commands {
                shards.prefetch(commands.iter().flat_map(Command::keys));
                prop_assert_eq!(shards.execute(command, &StateLimits::default()), model(&mut map, command));
            }
            let held: BTreeMap<Vec<u8>, Vec<u8>> =
                shards.iter().map(|(key, value)| (key.to_vec(), value.to_bytes().into_owned())).collect();
            prop_assert_eq!(&held, &map);
            prop_assert_eq!(shards.keys(), map.len() as u64);
            let bytes_held: usize = map.iter().map(|(key, value)| key.len() + value.len()).sum();
            prop_assert_eq!(shards.data_bytes(), bytes_held as u64);
            // Built anew in key order and under another hash seed, the digest is the same.
            let mut rebuilt = Shards::new(seed ^ 1);
            for (key, value) in &map {
                let command = Command::Put {
                    key: Bytes::from(key.clone()), value: Bytes::from(value.clone()),
                    condition: Condition::Always, get: false,
                };
                let _ = rebuilt.execute(&command, &StateLimits::default());
            }
            prop_assert_eq!(rebuilt.digest(), shards.digest());
        }
    }
}
