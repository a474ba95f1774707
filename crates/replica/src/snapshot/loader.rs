//! Makes a state machine of blocks. They come from a disk or another server: nothing in them is believed that does not
//! hold, and no byte of memory is taken for what has not come yet.

use quorate_raft::{Index, NodeId, Position, Term};
use quorate_storage::ClusterId;

use super::{
    IMAGE_FORMAT, REPLY_INTEGER, REPLY_KEY_TOO_LARGE, REPLY_NIL, REPLY_OK, REPLY_VALUE, REPLY_VALUE_TOO_LARGE,
};
use crate::clients::Client;
use crate::command::{Reply, ReplyError, Seq, SessionKey};
use crate::entry::StateLimits;
use crate::machine::Machine;
use crate::replies::{Recorded, Replies};
use crate::session::{Gateway, Sessions};
use crate::shard::Shards;
use crate::value::Value;

/// Why no state machine can be made of the blocks. A new [`Loader`] and other blocks are what may help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The blocks are not what was written.
    #[error("block {block} of the snapshot cannot be read: {what}")]
    Malformed {
        /// Which, from 1.
        block: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// Start a newer program.
    #[error(
        "the state in the snapshot has format {found}, and this program reads format {IMAGE_FORMAT}: start a newer version"
    )]
    NewerFormat {
        /// The version in it.
        found: u64,
    },
    /// It is not the snapshot that was asked for.
    #[error("the snapshot holds the state of {found}, and was taken for that of {expected}")]
    Other {
        /// Cluster and position in it.
        found: String,
        /// Those that were asked for.
        expected: String,
    },
    /// Everything could be read, and is not the state that was written.
    #[error("the state in the snapshot has the digest {computed:016x}, and should have {recorded:016x}")]
    OtherDigest {
        /// What the snapshot says.
        recorded: u64,
        /// What its content gives.
        computed: u64,
    },
}

/// Why a record was not read.
enum Stop {
    /// Its end has not come yet.
    More,
    /// What breaks the layout.
    Wrong(&'static str),
    Error(LoadError),
}

/// Takes the blocks of an image in order. After an error it is of no use any more.
pub struct Loader {
    cluster: ClusterId,
    position: Position,
    /// Once it is read.
    head: Option<Head>,
    gateways: u64,
    clients: u64,
    keys: u64,
    sessions: Sessions,
    shards: Shards,
    /// A client's session whose replies are still to come.
    client: Option<Open>,
    blocks: u64,
    /// The beginning of a record whose end is in the next block.
    pub(super) carry: Vec<u8>,
}

#[derive(Clone, Copy)]
struct Head {
    digest: u64,
    now_ms: u64,
    limits: Option<StateLimits>,
}

struct Open {
    key: SessionKey,
    client: Client,
    /// The last sequence that was read, or the floor.
    last: Seq,
    replies: u64,
}

impl Loader {
    /// For the state of this cluster at this position. `seed` protects the hash tables from chosen keys, and is this
    /// server's own.
    pub fn new(cluster: ClusterId, position: Position, seed: u64) -> Self {
        Self {
            cluster,
            position,
            head: None,
            gateways: 0,
            clients: 0,
            keys: 0,
            sessions: Sessions::default(),
            shards: Shards::new(seed),
            client: None,
            blocks: 0,
            carry: Vec::new(),
        }
    }

    /// Takes the next block.
    ///
    /// # Errors
    /// Where the blocks so far cannot be the beginning of this state.
    pub fn block(&mut self, content: &[u8]) -> Result<(), LoadError> {
        self.blocks += 1;
        if self.carry.is_empty() {
            let used = self.records(content)?;
            self.carry.extend_from_slice(&content[used..]);
        } else {
            let mut carry = std::mem::take(&mut self.carry);
            carry.extend_from_slice(content);
            let used = self.records(&carry)?;
            carry.drain(..used);
            self.carry = carry;
        }
        Ok(())
    }

    /// Reads all records that are there as a whole; says how many bytes that was.
    fn records(&mut self, bytes: &[u8]) -> Result<usize, LoadError> {
        let mut used = 0;
        while used < bytes.len() {
            let mut cursor = Cursor { rest: &bytes[used..] };
            match self.record(&mut cursor) {
                Ok(()) => used = bytes.len() - cursor.rest.len(),
                Err(Stop::More) => break,
                Err(Stop::Wrong(what)) => return Err(LoadError::Malformed { block: self.blocks, what }),
                Err(Stop::Error(error)) => return Err(error),
            }
        }
        Ok(used)
    }

    /// The state machine, after the last block.
    ///
    /// # Errors
    /// Where a block is missing, or the content is not what was written.
    pub fn finish(self) -> Result<Machine, LoadError> {
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
            (head.limits, head.now_ms),
            self.sessions,
            self.shards,
        );
        let (recorded, computed) = (head.digest, machine.digest());
        if recorded == computed { Ok(machine) } else { Err(LoadError::OtherDigest { recorded, computed }) }
    }

    /// Reads one record as a whole, or changes nothing.
    fn record(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Stop> {
        let Some(Head { limits, .. }) = self.head else { return self.read_head(cursor) };
        // What there is, is there under limits: the head says so.
        let limits = limits.unwrap_or_default();
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
        } else if self.clients > 0 {
            let open = cursor.client()?;
            self.check_opened(open.key)?;
            self.client = Some(open);
            self.clients -= 1;
            self.close_client()?;
        } else if self.keys > 0 {
            let key = cursor.bytes(limits.key_bytes_max, "a key is above the limit of keys")?;
            let value = cursor.bytes(limits.value_bytes_max, VALUE_TOO_LARGE)?;
            if !self.shards.load(key, value) {
                return Err(Stop::Wrong("a key is there twice"));
            }
            self.keys -= 1;
        } else {
            return Err(Stop::Wrong("bytes are left over"));
        }
        Ok(())
    }

    /// A session of an entry to come would be in the way of the one that is opened there.
    fn check_opened(&self, key: SessionKey) -> Result<(), Stop> {
        let is_opened = (1..=self.position.index.0).contains(&key.index);
        if is_opened { Ok(()) } else { Err(Stop::Wrong("a session was opened by no entry that is applied")) }
    }

    fn read_head(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Stop> {
        match cursor.number()? {
            IMAGE_FORMAT => {}
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
        let (gateways, clients, keys) = (cursor.number()?, cursor.number()?, cursor.number()?);
        if limits.is_none() && (gateways, clients, keys) != (0, 0, 0) {
            return Err(Stop::Wrong("a state that is not founded holds something"));
        }
        (self.gateways, self.clients, self.keys) = (gateways, clients, keys);
        self.head = Some(Head { digest, now_ms, limits });
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
const VALUE_TOO_LARGE: &str = "a value is above the limit of values";

/// Reads from the front of what has come.
struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn byte(&mut self) -> Result<u8, Stop> {
        let (&byte, rest) = self.rest.split_first().ok_or(Stop::More)?;
        self.rest = rest;
        Ok(byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let (array, rest) = self.rest.split_first_chunk().ok_or(Stop::More)?;
        self.rest = rest;
        Ok(*array)
    }

    fn number(&mut self) -> Result<u64, Stop> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return Err(Stop::Wrong("a number is above 64 bits"));
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Stop::Wrong("a number is above 64 bits"))
    }

    /// A byte string, not copied.
    fn bytes(&mut self, bytes_max: u64, too_large: &'static str) -> Result<&'a [u8], Stop> {
        let length = self.number()?;
        if length > bytes_max {
            return Err(Stop::Wrong(too_large));
        }
        let length = usize::try_from(length).map_err(|_| Stop::Wrong(too_large))?;
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(Stop::More)?;
        self.rest = rest;
        Ok(bytes)
    }

    fn key(&mut self) -> Result<SessionKey, Stop> {
        let index = self.number()?;
        let place = u32::try_from(self.number()?)
            .map_err(|_| Stop::Wrong("the place of a session is above 32 bits"))?;
        Ok(SessionKey { index, place })
    }

    fn gateway(&mut self) -> Result<(SessionKey, Gateway), Stop> {
        let key = self.key()?;
        let node = NodeId::new(self.number()?).ok_or(Stop::Wrong("a gateway is of node 0"))?;
        let gateway = Gateway {
            node,
            start: u64::from_le_bytes(self.array()?),
            nonce: self.number()?,
            deadline_ms: self.number()?,
            last: Seq(self.number()?),
        };
        if gateway.last.0 > u64::MAX / 2 {
            return Err(Stop::Wrong("no gateway has sent so many commands"));
        }
        Ok((key, gateway))
    }

    fn client(&mut self) -> Result<Open, Stop> {
        let key = self.key()?;
        let (ttl_ms, deadline_ms) = (self.number()?, self.number()?);
        let floor = Seq(self.number()?);
        let client = Client { ttl_ms, deadline_ms, floor, replies: Replies::default() };
        Ok(Open { key, client, last: floor, replies: self.number()? })
    }

    fn recorded(&mut self, limits: &StateLimits) -> Result<Recorded, Stop> {
        let checksum = u32::from_le_bytes(self.array()?);
        let reply = match self.byte()? {
            REPLY_OK => Reply::Ok,
            REPLY_NIL => Reply::Nil,
            REPLY_INTEGER => Reply::Integer(unzigzag(self.number()?)),
            REPLY_VALUE => {
                Reply::Value(Value::copy_from(self.bytes(limits.value_bytes_max, VALUE_TOO_LARGE)?))
            }
            REPLY_KEY_TOO_LARGE => {
                Reply::Error(ReplyError::KeyTooLarge { bytes: self.number()?, limit: self.number()? })
            }
            REPLY_VALUE_TOO_LARGE => {
                Reply::Error(ReplyError::ValueTooLarge { bytes: self.number()?, limit: self.number()? })
            }
            _ => return Err(Stop::Wrong("a reply is of an unknown kind")),
        };
        Ok(Recorded::new(checksum, reply))
    }
}

pub(super) fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}
