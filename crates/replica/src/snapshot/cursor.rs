//! Reads the records of an image from the front of what has come. Believes nothing that does not hold, and knows nothing
//! of what comes before or behind.

use quorate_raft::NodeId;

use super::{REPLY_INTEGER, REPLY_KEY_TOO_LARGE, REPLY_NIL, REPLY_OK, REPLY_VALUE, REPLY_VALUE_TOO_LARGE};
use crate::clients::Client;
use crate::command::{Reply, ReplyError, Seq, SessionKey};
use crate::entry::StateLimits;
use crate::replies::{Recorded, Replies};
use crate::session::Gateway;
use crate::value::Value;

use super::loader::LoadError;

/// Why a record was not read.
pub(super) enum Stop {
    /// Its end has not come yet.
    More,
    /// What breaks the layout.
    Wrong(&'static str),
    Error(LoadError),
}

const KEY_TOO_LARGE: &str = "a key is above the limit of keys";
const VALUE_TOO_LARGE: &str = "a value is above the limit of values";

/// A client's session whose replies are still to come.
pub(super) struct Open {
    pub(super) key: SessionKey,
    pub(super) client: Client,
    /// The last sequence that was read, or the floor.
    pub(super) last: Seq,
    pub(super) replies: u64,
}

/// See the module.
pub(super) struct Cursor<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn byte(&mut self) -> Result<u8, Stop> {
        let (&byte, rest) = self.rest.split_first().ok_or(Stop::More)?;
        self.rest = rest;
        Ok(byte)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let (array, rest) = self.rest.split_first_chunk().ok_or(Stop::More)?;
        self.rest = rest;
        Ok(*array)
    }

    pub(super) fn number(&mut self) -> Result<u64, Stop> {
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
    pub(super) fn bytes(&mut self, bytes_max: u64, too_large: &'static str) -> Result<&'a [u8], Stop> {
        let length = self.number()?;
        if length > bytes_max {
            return Err(Stop::Wrong(too_large));
        }
        let length = usize::try_from(length).map_err(|_| Stop::Wrong(too_large))?;
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(Stop::More)?;
        self.rest = rest;
        Ok(bytes)
    }

    /// A key and its value, not copied.
    pub(super) fn key_and_value(&mut self, limits: &StateLimits) -> Result<(&'a [u8], &'a [u8]), Stop> {
        let key = self.bytes(limits.key_bytes_max, KEY_TOO_LARGE)?;
        let value = self.bytes(limits.value_bytes_max, VALUE_TOO_LARGE)?;
        Ok((key, value))
    }

    /// How many bytes a key and its value that begin with these lack at least, where [`Cursor::key_and_value`] wants more.
    pub(super) fn lacks(record: &[u8]) -> usize {
        let mut cursor = Cursor { rest: record };
        let mut lacks = || {
            for _ in ["key", "value"] {
                let length = usize::try_from(cursor.number().ok()?).ok()?;
                match cursor.rest.split_at_checked(length) {
                    Some((_, rest)) => cursor.rest = rest,
                    None => return Some(length - cursor.rest.len()),
                }
            }
            None
        };
        // In the middle of a length, the next byte may be its end.
        lacks().unwrap_or(1)
    }

    pub(super) fn key(&mut self) -> Result<SessionKey, Stop> {
        let index = self.number()?;
        let place = u32::try_from(self.number()?)
            .map_err(|_| Stop::Wrong("the place of a session is above 32 bits"))?;
        Ok(SessionKey { index, place })
    }

    pub(super) fn gateway(&mut self) -> Result<(SessionKey, Gateway), Stop> {
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

    pub(super) fn client(&mut self) -> Result<Open, Stop> {
        let key = self.key()?;
        let (ttl_ms, deadline_ms) = (self.number()?, self.number()?);
        let floor = Seq(self.number()?);
        let client = Client { ttl_ms, deadline_ms, floor, replies: Replies::default() };
        Ok(Open { key, client, last: floor, replies: self.number()? })
    }

    pub(super) fn recorded(&mut self, limits: &StateLimits) -> Result<Recorded, Stop> {
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
