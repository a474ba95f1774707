//! Lays an image out, block by block. Knows the layout, nothing of how it is read.

use std::sync::Arc;
use std::vec;

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    IMAGE_FORMAT, IMAGE_FORMAT_FOUNDING, Image, REPLY_INTEGER, REPLY_KEY_TOO_LARGE, REPLY_NIL, REPLY_OK,
    REPLY_VALUE, REPLY_VALUE_TOO_LARGE,
};
use crate::clients::{Client, ClientShard};
use crate::command::{Reply, ReplyError, SessionKey};
use crate::entry::StateLimits;
use crate::replies::Recorded;
use crate::session::Gateway;
use crate::shard::Shard;
use crate::value::Value;

/// The blocks of an image. None is empty.
pub struct Blocks {
    buffer: BytesMut,
    block_bytes: usize,
    clients: Walk<ClientShard>,
    shards: Walk<Shard>,
}

impl Blocks {
    pub(super) fn new(image: Image, block_bytes: usize) -> Self {
        let mut buffer = BytesMut::new();
        put_head(&mut buffer, &image);
        for (key, gateway) in &image.gateways {
            put_gateway(&mut buffer, *key, gateway);
        }
        let clients = Walk::new(image.clients.into_shards(), put_clients);
        let shards = Walk::new(image.shards.into_shards(), put_keys);
        Self { buffer, block_bytes, clients, shards }
    }
}

impl Iterator for Blocks {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        self.clients.fill(&mut self.buffer, self.block_bytes);
        self.shards.fill(&mut self.buffer, self.block_bytes);
        let length = self.block_bytes.min(self.buffer.len());
        (length > 0).then(|| self.buffer.split_to(length).freeze())
    }
}

/// Goes through shards; stops and goes on anywhere.
struct Walk<S> {
    shards: vec::IntoIter<Arc<S>>,
    current: Option<Arc<S>>,
    /// Records of the current shard that are laid out.
    done: usize,
    /// Lays out the records of a shard behind so many, until there are so many bytes; says how many records.
    put: fn(&S, usize, &mut BytesMut, usize) -> usize,
}

impl<S> Walk<S> {
    fn new(shards: Vec<Arc<S>>, put: fn(&S, usize, &mut BytesMut, usize) -> usize) -> Self {
        Self { shards: shards.into_iter(), current: None, done: 0, put }
    }

    /// Lays out records until there are `enough` bytes, or no more records.
    fn fill(&mut self, out: &mut BytesMut, enough: usize) {
        while out.len() < enough {
            let Some(shard) = self.current.take().or_else(|| self.shards.next()) else { return };
            self.done += (self.put)(&shard, self.done, out, enough);
            if out.len() < enough {
                self.done = 0;
            } else {
                self.current = Some(shard);
            }
        }
    }
}

fn put_clients(shard: &ClientShard, skip: usize, out: &mut BytesMut, enough: usize) -> usize {
    let mut count = 0;
    for (key, client) in shard.iter().skip(skip) {
        put_client(out, *key, client);
        count += 1;
        if out.len() >= enough {
            break;
        }
    }
    count
}

fn put_keys(shard: &Shard, skip: usize, out: &mut BytesMut, enough: usize) -> usize {
    let mut count = 0;
    for slot in shard.iter().skip(skip) {
        put_number(out, slot.key().len() as u64);
        out.put_slice(slot.key());
        put_value(out, &slot.value);
        count += 1;
        if out.len() >= enough {
            break;
        }
    }
    count
}

fn put_head(out: &mut BytesMut, image: &Image) {
    let format = if image.membership.is_some() { IMAGE_FORMAT } else { IMAGE_FORMAT_FOUNDING };
    put_number(out, format);
    out.put_u128_le(image.cluster.get());
    put_number(out, image.position.term.0);
    put_number(out, image.position.index.0);
    out.put_u64_le(image.digest);
    put_number(out, image.now_ms);
    out.put_u8(u8::from(image.limits.is_some()));
    for limit in image.limits.iter().flat_map(StateLimits::fields) {
        put_number(out, limit);
    }
    if let Some(membership) = &image.membership {
        let bytes = membership.to_bytes();
        put_number(out, bytes.len() as u64);
        out.put_slice(&bytes);
    }
    for count in [image.gateways.len() as u64, image.clients.count(), image.shards.keys()] {
        put_number(out, count);
    }
}

fn put_key(out: &mut BytesMut, key: SessionKey) {
    put_number(out, key.index);
    put_number(out, u64::from(key.place));
}

fn put_gateway(out: &mut BytesMut, key: SessionKey, gateway: &Gateway) {
    put_key(out, key);
    put_number(out, gateway.node.get());
    // Drawn at random, so it would need more bytes as a number of as few as needed.
    out.put_u64_le(gateway.start);
    put_number(out, gateway.nonce);
    put_number(out, gateway.deadline_ms);
    put_number(out, gateway.last.0);
}

fn put_client(out: &mut BytesMut, key: SessionKey, client: &Client) {
    put_key(out, key);
    put_number(out, client.ttl_ms);
    put_number(out, client.deadline_ms);
    put_number(out, client.floor.0);
    put_number(out, client.replies.iter().count() as u64);
    let mut before = client.floor;
    for (seq, recorded) in client.replies.iter() {
        put_number(out, seq.0 - before.0);
        put_recorded(out, recorded);
        before = seq;
    }
}

fn put_recorded(out: &mut BytesMut, recorded: &Recorded) {
    out.put_u32_le(recorded.checksum);
    match recorded.reply() {
        Reply::Ok => out.put_u8(REPLY_OK),
        Reply::Nil => out.put_u8(REPLY_NIL),
        Reply::Integer(number) => {
            out.put_u8(REPLY_INTEGER);
            put_number(out, zigzag(number));
        }
        Reply::Value(value) => {
            out.put_u8(REPLY_VALUE);
            put_value(out, &value);
        }
        Reply::Error(ReplyError::KeyTooLarge { bytes, limit }) => {
            out.put_u8(REPLY_KEY_TOO_LARGE);
            put_number(out, bytes);
            put_number(out, limit);
        }
        Reply::Error(ReplyError::ValueTooLarge { bytes, limit }) => {
            out.put_u8(REPLY_VALUE_TOO_LARGE);
            put_number(out, bytes);
            put_number(out, limit);
        }
        Reply::Values(_) | Reply::Session(_) | Reply::Members(_) | Reply::Error(_) => {
            unreachable!("no command that runs is answered like this")
        }
    }
}

fn put_value(out: &mut BytesMut, value: &Value) {
    put_number(out, value.len() as u64);
    out.put_slice(&value.to_bytes());
}

/// Numbers near zero, of either sign, to small ones.
pub(super) fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

pub(super) fn put_number(out: &mut BytesMut, mut number: u64) {
    while number >= 0x80 {
        out.put_u8(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.put_u8(number.to_le_bytes()[0]);
}
