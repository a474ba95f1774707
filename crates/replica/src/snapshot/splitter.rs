//! Goes through the blocks of an image in order, takes in all but the keys, and says where in a block those are, so that
//! several [`super::Lane`]s can load them side by side. Knows no hash table, and no thread.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use quorate_raft::{Index, Membership, Position, Term};
use quorate_storage::ClusterId;

use super::cursor::{Cursor, Open, Stop};
use super::lane::{self, LoadedShare};
use super::loader::LoadError;
use super::{IMAGE_FORMAT, IMAGE_FORMAT_FOUNDING, MEMBERSHIP_BYTES_MAX};
use crate::command::{Seq, SessionKey};
use crate::entry::StateLimits;
use crate::machine::Machine;
use crate::session::Sessions;

/// Bytes of a file for which one key is believed before it has come: a count that is made up takes no more memory than
/// about the file does.
const KEY_BYTES_EXPECTED: u64 = 32;

/// Where the keys of one block are. Whoever loads them has checked nothing himself: they are whole, and within the limits.
#[derive(Debug, Default)]
pub struct Keys {
    /// Its running number, from 1.
    pub(super) block: u64,
    /// How many keys there are likely to be in all blocks.
    pub(super) expected: u64,
    /// The record that began in a block before and ends in this one, if there is one.
    pub(super) first: Vec<u8>,
    /// The others, in this block's content.
    pub(super) rest: Range<usize>,
}

/// See the module. After an error it is of no use any more.
pub struct Splitter {
    cluster: ClusterId,
    position: Position,
    /// Of the file.
    bytes: u64,
    /// Once it is read.
    head: Option<Head>,
    gateways: u64,
    clients: u64,
    keys: u64,
    expected_keys: u64,
    sessions: Sessions,
    /// A client's session whose replies are still to come.
    client: Option<Open>,
    blocks: u64,
    /// The beginning of a record whose end is in the next block.
    carry: Vec<u8>,
}

struct Head {
    digest: u64,
    now_ms: u64,
    limits: Option<StateLimits>,
    membership: Option<Arc<Membership>>,
}

impl Splitter {
    /// For the state of this cluster at this position, in a file of so many bytes.
    pub fn new(cluster: ClusterId, position: Position, bytes: u64) -> Self {
        Self {
            cluster,
            position,
            bytes,
            head: None,
            gateways: 0,
            clients: 0,
            keys: 0,
            expected_keys: 0,
            sessions: Sessions::default(),
            client: None,
            blocks: 0,
            carry: Vec::new(),
        }
    }

    /// Takes the next block, and says which of it one of the lanes has to be given.
    ///
    /// # Errors
    /// Where the blocks so far cannot be the beginning of this state.
    pub fn block(&mut self, content: &[u8]) -> Result<Keys, LoadError> {
        self.blocks += 1;
        self.take(content).map_err(|stop| match stop {
            Stop::Wrong(what) => LoadError::Malformed { block: self.blocks, what },
            Stop::Error(error) => error,
            Stop::More => unreachable!("what is missing is waited for"),
        })
    }

    fn take(&mut self, content: &[u8]) -> Result<Keys, Stop> {
        let mut keys = Keys { block: self.blocks, ..Keys::default() };
        let mut at = 0;
        if !self.carry.is_empty() {
            let (used, first) = if self.has_only_keys() {
                self.complete_key(content)?
            } else {
                (self.complete_record(content)?, Vec::new())
            };
            if !self.carry.is_empty() {
                return Ok(keys);
            }
            (at, keys.first) = (used, first);
        }
        at += self.records(&content[at..])?;
        if self.has_only_keys() {
            let used = self.whole_keys(&content[at..])?;
            (keys.rest, at) = (at..at + used, at + used);
            if self.keys == 0 && at < content.len() {
                return Err(Stop::Wrong("bytes are left over"));
            }
        }
        keys.expected = self.expected_keys;
        self.carry.extend_from_slice(&content[at..]);
        Ok(keys)
    }

    fn has_only_keys(&self) -> bool {
        self.head.is_some() && self.client.is_none() && (self.gateways, self.clients) == (0, 0)
    }

    /// Reads on where a record has begun that is no key; how many bytes of this block were needed for it and for those
    /// behind it. What has been carried stays if that is not its end.
    fn complete_record(&mut self, content: &[u8]) -> Result<usize, Stop> {
        let had = self.carry.len();
        let mut carry = std::mem::take(&mut self.carry);
        carry.extend_from_slice(content);
        match self.records(&carry)? {
            0 => {
                self.carry = carry;
                Ok(content.len())
            }
            used => Ok(used - had),
        }
    }

    /// Reads all records up to the keys that are there as a whole; says how many bytes that was.
    fn records(&mut self, bytes: &[u8]) -> Result<usize, Stop> {
        let mut used = 0;
        while used < bytes.len() && !self.has_only_keys() {
            let mut cursor = Cursor { rest: &bytes[used..] };
            match self.record(&mut cursor) {
                Ok(()) => used = bytes.len() - cursor.rest.len(),
                Err(Stop::More) => break,
                Err(stop) => return Err(stop),
            }
        }
        Ok(used)
    }

    /// Adds to a key that has begun what it lacks, and no byte more: how many bytes that was, and the whole key.
    fn complete_key(&mut self, content: &[u8]) -> Result<(usize, Vec<u8>), Stop> {
        let limits = self.limits();
        let mut used = 0;
        loop {
            let mut cursor = Cursor { rest: &self.carry };
            match cursor.key_and_value(&limits) {
                Ok(_) => {
                    self.keys -= 1;
                    return Ok((used, std::mem::take(&mut self.carry)));
                }
                Err(Stop::More) if used < content.len() => {
                    let more = Cursor::lacks(&self.carry).min(content.len() - used);
                    self.carry.extend_from_slice(&content[used..used + more]);
                    used += more;
                }
                Err(Stop::More) => return Ok((used, Vec::new())),
                Err(stop) => return Err(stop),
            }
        }
    }

    /// How many bytes are keys that are there as a whole.
    fn whole_keys(&mut self, bytes: &[u8]) -> Result<usize, Stop> {
        let limits = self.limits();
        let mut cursor = Cursor { rest: bytes };
        let mut used = 0;
        while self.keys > 0 {
            match cursor.key_and_value(&limits) {
                Ok(_) => used = bytes.len() - cursor.rest.len(),
                Err(Stop::More) => break,
                Err(stop) => return Err(stop),
            }
            self.keys -= 1;
        }
        Ok(used)
    }

    /// What there is, is there under limits: the head says so.
    fn limits(&self) -> StateLimits {
        self.head.as_ref().and_then(|head| head.limits).unwrap_or_default()
    }

    #[cfg(test)]
    pub(super) fn carried(&self) -> usize {
        self.carry.capacity()
    }

    /// The state machine, after the last block, of what was loaded.
    ///
    /// # Errors
    /// Where a block is missing, or the content is not what was written.
    ///
    /// # Panics
    /// If these are not all of one [`super::Share::all`].
    pub fn finish(self, shares: Vec<LoadedShare>) -> Result<Machine, LoadError> {
        let is_complete = self.carry.is_empty()
            && self.client.is_none()
            && (self.gateways, self.clients, self.keys) == (0, 0, 0);
        let Some(head) = self.head.filter(|_| is_complete) else {
            return Err(LoadError::Malformed {
                block: self.blocks,
                what: "it is the last, and more must come",
            });
        };
        let machine = Machine::of_parts(
            (self.cluster, self.position),
            (head.limits, head.now_ms, head.membership),
            self.sessions,
            lane::join(shares),
        );
        let (recorded, computed) = (head.digest, machine.digest());
        if recorded == computed { Ok(machine) } else { Err(LoadError::OtherDigest { recorded, computed }) }
    }

    /// Reads one record as a whole, or changes nothing.
    fn record(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Stop> {
        if self.head.is_none() {
            return self.read_head(cursor);
        }
        let limits = self.limits();
        if self.gateways > 0 {
            let (key, gateway) = cursor.gateway()?;
            self.check_opened(key)?;
            self.sessions.load_gateway(key, gateway).map_err(Stop::Wrong)?;
            self.gateways -= 1;
        } else if let Some(open) = &mut self.client {
            let seq = Seq(open.last.0.checked_add(cursor.number()?).ok_or(SEQUENCE)?);
            if seq == open.last {
                return Err(SEQUENCE);
            }
            let recorded = cursor.recorded(&limits)?;
            open.client.replies.insert(seq, recorded);
            (open.last, open.replies) = (seq, open.replies - 1);
            self.close_client()?;
        } else {
            let open = cursor.client()?;
            self.check_opened(open.key)?;
            self.client = Some(open);
            self.clients -= 1;
            self.close_client()?;
        }
        Ok(())
    }

    /// A session of an entry to come would be in the way of the one that is opened there.
    fn check_opened(&self, key: SessionKey) -> Result<(), Stop> {
        let is_opened = (1..=self.position.index.0).contains(&key.index);
        if is_opened { Ok(()) } else { Err(Stop::Wrong("a session was opened by no entry that is applied")) }
    }

    fn read_head(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Stop> {
        let format = cursor.number()?;
        match format {
            IMAGE_FORMAT_FOUNDING..=IMAGE_FORMAT => {}
            0 => return Err(Stop::Wrong("there is no format 0")),
            found => return Err(Stop::Error(LoadError::NewerFormat { found })),
        }
        let cluster =
            ClusterId::new(u128::from_le_bytes(cursor.array()?)).ok_or(Stop::Wrong("it is of no cluster"))?;
        let position = Position::new(Term(cursor.number()?), Index(cursor.number()?));
        if (cluster, position) != (self.cluster, self.position) {
            let text = |cluster, position| format!("cluster {cluster} at {position}");
            return Err(Stop::Error(LoadError::Other {
                found: text(cluster, position),
                expected: text(self.cluster, self.position),
            }));
        }
        let digest = u64::from_le_bytes(cursor.array()?);
        let now_ms = cursor.number()?;
        let limits = match cursor.byte()? {
            0 => None,
            1 => {
                let mut fields = [0; 8];
                for field in &mut fields {
                    *field = cursor.number()?;
                }
                Some(StateLimits::of_fields(fields))
            }
            _ => return Err(Stop::Wrong("its limits are neither there nor missing")),
        };
        let membership = if format == IMAGE_FORMAT {
            let bytes = cursor.bytes(MEMBERSHIP_BYTES_MAX, "its membership is too large")?;
            let membership = Membership::parse(&Bytes::copy_from_slice(bytes));
            Some(Arc::new(membership.map_err(|malformed| Stop::Wrong(malformed.0))?))
        } else {
            None
        };
        let (gateways, clients, keys) = (cursor.number()?, cursor.number()?, cursor.number()?);
        if limits.is_none() && (gateways, clients, keys) != (0, 0, 0) {
            return Err(Stop::Wrong("a state that is not founded holds something"));
        }
        (self.gateways, self.clients, self.keys) = (gateways, clients, keys);
        self.expected_keys = keys.min(self.bytes / KEY_BYTES_EXPECTED);
        self.head = Some(Head { digest, now_ms, limits, membership });
        Ok(())
    }

    /// Puts the session into the table once all its replies are there.
    fn close_client(&mut self) -> Result<(), Stop> {
        match self.client.take_if(|open| open.replies == 0) {
            Some(Open { key, client, .. }) => self.sessions.load_client(key, client).map_err(Stop::Wrong),
            None => Ok(()),
        }
    }
}

const SEQUENCE: Stop = Stop::Wrong("the sequence of a reply is not above the one before");
