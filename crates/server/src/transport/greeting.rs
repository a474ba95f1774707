//! What two servers say first. Must not know what follows.
//!
//! Little-endian:
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 8 | `QRTPEER` and a zero |
//! | 8 | 2 | newest version of the protocol between servers that the speaker speaks |
//! | 10 | 2 | oldest |
//! | 12 | 2 | bytes of the whole greeting |
//! | 14 | 2 | the level at which the speaker's cluster acts, 0 = not known |
//! | 16 | 2 | newest level that the speaker can act at |
//! | 18 | 2 | oldest |
//! | 20 | 8 | who speaks |
//! | 28 | 8 | who should listen, 0 = whoever does |
//! | 36 | 16 | the cluster, zeros = none yet |
//! | 52 | 8 | incarnation of the speaker's data folder |
//! | 60 | 1 + … | the speaker's program, as text, with its length in front |
//! | … | 1 + … | where clients find the speaker, likewise |
//! | … | 1 + … | where other servers find it, likewise |
//! | … | … | what later versions add |
//!
//! From version 3 on, this never changes but at its end, so that two servers that cannot speak with each other can say so.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use quorate_raft::NodeId;
use quorate_storage::{ClusterId, Incarnation};

use super::versions::{Range, Versions};
use crate::config::Address;

const MAGIC: &[u8; 8] = b"QRTPEER\0";
/// Magic, versions and length.
const HEAD_BYTES: usize = 14;
/// Bytes before the texts.
const FIXED_BYTES: usize = 60;
/// Bytes of a greeting at most, with what later versions may add.
const GREETING_BYTES_MAX: usize = 4_096;
/// Bytes of a text at most.
const TEXT_BYTES_MAX: usize = u8::MAX as usize;
/// The first version that greets like this.
const FIRST_VERSION: u16 = 3;

const _: () = assert!(FIXED_BYTES + 3 * (1 + TEXT_BYTES_MAX) <= GREETING_BYTES_MAX);

/// Who speaks to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Greeting {
    /// Who speaks.
    pub(super) from: NodeId,
    /// Who should listen; `None` for whoever does.
    pub(super) to: Option<NodeId>,
    /// The speaker's cluster, once it has one.
    pub(super) cluster: Option<ClusterId>,
    /// The speaker's data folder.
    pub(super) incarnation: Incarnation,
    /// What the speaker's program can.
    pub(super) versions: Versions,
    /// Where clients find the speaker, as text.
    pub(super) client_address: String,
    /// Where other servers find it, as text.
    pub(super) peer_address: String,
}

/// Why bytes are no greeting of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoGreeting {
    /// Something else altogether.
    #[error("it does not greet as a server does")]
    Garbage,
    /// A server, of a version that no release has spoken.
    #[error(
        "it speaks version {0} of the protocol between servers, which is too old for this server: start it with the program \
         that the others run"
    )]
    Ancient(u16),
    /// A server would not say this.
    #[error("its greeting makes no sense: {0}")]
    Malformed(&'static str),
}

impl Greeting {
    /// The bytes of it.
    pub(super) fn encode(&self) -> BytesMut {
        let Versions { protocol, levels, acts_at, program } = &self.versions;
        let mut out = BytesMut::with_capacity(FIXED_BYTES);
        out.put_slice(MAGIC);
        out.put_u16_le(protocol.newest);
        out.put_u16_le(protocol.oldest);
        out.put_u16_le(0);
        out.put_u16_le(acts_at.unwrap_or(0));
        out.put_u16_le(levels.newest);
        out.put_u16_le(levels.oldest);
        out.put_u64_le(self.from.get());
        out.put_u64_le(self.to.map_or(0, NodeId::get));
        out.put_u128_le(self.cluster.map_or(0, ClusterId::get));
        out.put_u64_le(self.incarnation.0);
        for text in [program, &self.client_address, &self.peer_address] {
            // A text that is too long is cut to nothing: it is shown, or is no address that can be dialled.
            let text = if text.len() > TEXT_BYTES_MAX { "" } else { text };
            out.put_u8(u8::try_from(text.len()).expect("at most 255"));
            out.put_slice(text.as_bytes());
        }
        let length = u16::try_from(out.len()).expect("at most 4096");
        out[12..HEAD_BYTES].copy_from_slice(&length.to_le_bytes());
        out
    }

    /// Takes a greeting from the front of the buffer; `None` until more has arrived. Garbage is seen at its first
    /// byte.
    pub(super) fn decode(buffer: &mut BytesMut) -> Result<Option<Self>, NoGreeting> {
        let compared = buffer.len().min(MAGIC.len());
        if buffer[..compared] != MAGIC[..compared] {
            return Err(NoGreeting::Garbage);
        }
        let Some(mut head) = buffer.get(MAGIC.len()..HEAD_BYTES) else {
            let version = buffer.get(MAGIC.len()..MAGIC.len() + size_of::<u16>());
            return version.map_or(Ok(None), |mut version| check_age(version.get_u16_le()).map(|()| None));
        };
        let protocol = Range { newest: head.get_u16_le(), oldest: head.get_u16_le() };
        check_age(protocol.newest)?;
        let length = usize::from(head.get_u16_le());
        if !(FIXED_BYTES..=GREETING_BYTES_MAX).contains(&length) {
            return Err(NoGreeting::Malformed("its length"));
        }
        if buffer.len() < length {
            return Ok(None);
        }
        let mut fields = buffer.split_to(length).freeze();
        fields.advance(HEAD_BYTES);
        parse(protocol, fields).map(Some)
    }
}

fn check_age(version: u16) -> Result<(), NoGreeting> {
    if version < FIRST_VERSION { Err(NoGreeting::Ancient(version)) } else { Ok(()) }
}

fn parse(protocol: Range, mut fields: Bytes) -> Result<Greeting, NoGreeting> {
    let acts_at = Some(fields.get_u16_le()).filter(|level| *level != 0);
    let levels = Range { newest: fields.get_u16_le(), oldest: fields.get_u16_le() };
    if protocol.oldest > protocol.newest || levels.oldest > levels.newest {
        return Err(NoGreeting::Malformed("its versions"));
    }
    let from = NodeId::new(fields.get_u64_le()).ok_or(NoGreeting::Malformed("it comes from node 0"))?;
    let to = NodeId::new(fields.get_u64_le());
    let cluster = ClusterId::new(fields.get_u128_le());
    let incarnation = Incarnation(fields.get_u64_le());
    let program = text(&mut fields)?;
    let (client_address, peer_address) = (text(&mut fields)?, text(&mut fields)?);
    let versions = Versions { protocol, levels, acts_at, program };
    Ok(Greeting { from, to, cluster, incarnation, versions, client_address, peer_address })
}

fn text(fields: &mut Bytes) -> Result<String, NoGreeting> {
    let length = fields.try_get_u8().map_or(0, usize::from);
    if length > fields.len() {
        return Err(NoGreeting::Malformed("a text that does not end"));
    }
    let text = String::from_utf8(fields.split_to(length).into());
    let text = text.map_err(|_| NoGreeting::Malformed("a text that is none"))?;
    // It is shown to operators as it is.
    if text.chars().any(|letter| letter.is_control() || letter.is_whitespace()) {
        return Err(NoGreeting::Malformed("a text with blanks in it"));
    }
    Ok(text)
}

/// An address that was told, where it is one that can be dialled. One that stands for all addresses of its machine is the
/// one from which the machine was heard.
pub(super) fn told_address(text: &str, heard_from: std::net::IpAddr) -> Option<Address> {
    let told: Address = text.parse().ok()?;
    Some(if told.is_unspecified() { Address { host: heard_from.to_string(), ..told } } else { told })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting() -> Greeting {
        Greeting {
            from: NodeId::new(1).unwrap(),
            to: NodeId::new(258),
            cluster: ClusterId::new(7),
            incarnation: Incarnation(0x1122),
            versions: Versions {
                protocol: Range { oldest: 3, newest: 5 },
                levels: Range { oldest: 1, newest: 2 },
                acts_at: Some(1),
                program: "0.1.0".to_owned(),
            },
            client_address: "[::1]:6379".to_owned(),
            peer_address: "a:7".to_owned(),
        }
    }

    #[test]
    fn a_greeting_stands_in_these_bytes() {
        let hex: String = greeting().encode().iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = "5152545045455200\
                        0500030051000100\
                        02000100\
                        0100000000000000\
                        0201000000000000\
                        07000000000000000000000000000000\
                        2211000000000000\
                        05302e312e30\
                        0a5b3a3a315d3a36333739\
                        03613a37";
        assert_eq!(hex, expected);
    }

    #[test]
    fn it_is_read_back_however_it_is_cut() {
        let bytes = greeting().encode();
        for cut in 0..bytes.len() {
            assert_eq!(Greeting::decode(&mut BytesMut::from(&bytes[..cut])), Ok(None), "{cut} bytes");
        }
        let mut buffer = bytes.clone();
        buffer.put_slice(b"more");
        assert_eq!(Greeting::decode(&mut buffer), Ok(Some(greeting())));
        assert_eq!(&buffer[..], b"more");
        let nobody = Greeting { to: None, cluster: None, ..greeting() };
        assert_eq!(Greeting::decode(&mut nobody.encode()), Ok(Some(nobody)));
    }

    #[test]
    fn what_a_later_version_adds_is_skipped() {
        let mut bytes = greeting().encode();
        bytes.put_slice(b"later");
        let length = u16::try_from(bytes.len()).unwrap();
        bytes[12..14].copy_from_slice(&length.to_le_bytes());
        assert_eq!(Greeting::decode(&mut bytes), Ok(Some(greeting())));
        assert!(bytes.is_empty());
    }

    #[test]
    fn what_is_wrong_is_seen_as_early_as_it_can_be() {
        assert_eq!(Greeting::decode(&mut BytesMut::from("G")), Err(NoGreeting::Garbage));
        assert_eq!(Greeting::decode(&mut BytesMut::from("QRTPEER!")), Err(NoGreeting::Garbage));
        let mut ancient = greeting().encode();
        ancient[8] = 2;
        ancient.truncate(10);
        assert_eq!(Greeting::decode(&mut ancient), Err(NoGreeting::Ancient(2)));
        let wrong = |at: usize, byte: u8| {
            let mut bytes = greeting().encode();
            bytes[at] = byte;
            Greeting::decode(&mut bytes)
        };
        assert_eq!(wrong(10, 6), Err(NoGreeting::Malformed("its versions")));
        assert_eq!(wrong(18, 3), Err(NoGreeting::Malformed("its versions")));
        assert_eq!(wrong(12, 59), Err(NoGreeting::Malformed("its length")));
        assert_eq!(wrong(13, 0x11), Err(NoGreeting::Malformed("its length")));
        assert_eq!(wrong(20, 0), Err(NoGreeting::Malformed("it comes from node 0")));
        assert_eq!(wrong(60, 255), Err(NoGreeting::Malformed("a text that does not end")));
        assert_eq!(wrong(61, 0xff), Err(NoGreeting::Malformed("a text that is none")));
        assert_eq!(wrong(62, b'\n'), Err(NoGreeting::Malformed("a text with blanks in it")));
    }

    #[test]
    fn an_address_that_stands_for_all_is_the_one_that_was_heard() {
        let heard: std::net::IpAddr = "10.0.0.7".parse().unwrap();
        for (told, expected) in [
            ("0.0.0.0:7", Some("10.0.0.7:7")),
            ("[::]:7", Some("10.0.0.7:7")),
            ("db2:7", Some("db2:7")),
            ("", None),
            ("db2", None),
        ] {
            assert_eq!(told_address(told, heard).map(|address| address.to_string()).as_deref(), expected);
        }
    }
}
