//! Greetings between servers, made by hand: of servers that do not exist.

use bytes::{Buf, BufMut, BytesMut};
use quorate_replica::versions::{LEVEL_MAX, LEVEL_MIN};
use quorate_replica::wire::{PROTOCOL_VERSION, PROTOCOL_VERSION_MIN};

/// The bytes before the texts.
const FIXED_BYTES: usize = 60;

/// What a server says first; see `docs/protocol.md`.
#[derive(Clone, Debug)]
pub(crate) struct Greeting {
    /// Oldest and newest.
    pub(crate) protocol: (u16, u16),
    /// Oldest and newest.
    pub(crate) levels: (u16, u16),
    /// 0 for not known.
    pub(crate) acts_at: u16,
    pub(crate) from: u64,
    /// 0 for whoever listens.
    pub(crate) to: u64,
    /// 0 for none.
    pub(crate) cluster: u128,
    pub(crate) incarnation: u64,
    pub(crate) program: String,
    pub(crate) client_address: String,
    pub(crate) peer_address: String,
}

impl Greeting {
    /// Of a server with the program under test.
    pub(crate) fn new(from: u64, to: u64, cluster: u128) -> Self {
        Self {
            protocol: (PROTOCOL_VERSION_MIN, PROTOCOL_VERSION),
            levels: (LEVEL_MIN, LEVEL_MAX),
            acts_at: 0,
            from,
            to,
            cluster,
            incarnation: 0x00ab_cdef,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            client_address: "127.0.0.1:1".to_owned(),
            peer_address: "127.0.0.1:1".to_owned(),
        }
    }

    pub(crate) fn encode(&self) -> BytesMut {
        let texts = [&self.program, &self.client_address, &self.peer_address];
        let length = FIXED_BYTES + texts.iter().map(|text| 1 + text.len()).sum::<usize>();
        let mut bytes = BytesMut::new();
        bytes.put_slice(b"QRTPEER\0");
        for number in
            [self.protocol.1, self.protocol.0, length as u16, self.acts_at, self.levels.1, self.levels.0]
        {
            bytes.put_u16_le(number);
        }
        bytes.put_u64_le(self.from);
        bytes.put_u64_le(self.to);
        bytes.put_u128_le(self.cluster);
        bytes.put_u64_le(self.incarnation);
        for text in texts {
            bytes.put_u8(text.len() as u8);
            bytes.put_slice(text.as_bytes());
        }
        bytes
    }

    /// The greeting at the front of these bytes, if it is there whole.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let length = u16::from_le_bytes(bytes.get(12..14)?.try_into().unwrap());
        let mut fields = bytes.get(8..usize::from(length))?;
        let newest = fields.get_u16_le();
        let protocol = (fields.get_u16_le(), newest);
        fields.advance(2);
        let (acts_at, newest) = (fields.get_u16_le(), fields.get_u16_le());
        let levels = (fields.get_u16_le(), newest);
        let (from, to) = (fields.get_u64_le(), fields.get_u64_le());
        let (cluster, incarnation) = (fields.get_u128_le(), fields.get_u64_le());
        let mut text = || {
            let length = usize::from(fields.get_u8());
            String::from_utf8(fields.copy_to_bytes(length).to_vec()).unwrap()
        };
        let (program, client_address, peer_address) = (text(), text(), text());
        Some(Self {
            protocol,
            levels,
            acts_at,
            from,
            to,
            cluster,
            incarnation,
            program,
            client_address,
            peer_address,
        })
    }
}
