//! What two servers say first. Must not know what follows.
//!
//! Little-endian:
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 8 | `QRTPEER` and a zero |
//! | 8 | 2 | version of the protocol between servers |
//! | 10 | 2 | length of the address, at most 255 |
//! | 12 | 8 | who speaks |
//! | 20 | 8 | who should listen |
//! | 28 | 16 | the cluster, zeros = not founded |
//! | 44 | … | where clients find the speaker, as text |

use bytes::{Buf, BufMut, BytesMut};
use quorate_raft::NodeId;
use quorate_replica::wire::PROTOCOL_VERSION;
use quorate_storage::ClusterId;

use crate::config::Address;

const MAGIC: &[u8; 8] = b"QRTPEER\0";
const FIXED_BYTES: usize = 44;
/// Bytes of the address at most.
const ADDRESS_BYTES_MAX: usize = 255;

/// Who speaks to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Greeting {
    /// Who speaks.
    pub(crate) from: NodeId,
    /// Who should listen.
    pub(crate) to: NodeId,
    /// The speaker's cluster, once it is founded.
    pub(crate) cluster: Option<ClusterId>,
    /// Where clients find the speaker.
    pub(crate) advertised: Address,
}

/// Why bytes are no greeting of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoGreeting {
    /// Something else altogether.
    #[error("it does not greet as a server does")]
    Garbage,
    /// A server, of another version.
    #[error("it speaks version {0} of the protocol between servers, this one speaks {PROTOCOL_VERSION}")]
    Version(u16),
    /// A server of this version would not say this.
    #[error("its greeting makes no sense: {0}")]
    Malformed(&'static str),
}

impl Greeting {
    /// The bytes of it.
    pub(crate) fn encode(&self) -> BytesMut {
        let address = self.advertised.to_string();
        // An address that is too long is cut: it is shown to clients, and nothing rests on it.
        let address = address.as_bytes().get(..ADDRESS_BYTES_MAX).unwrap_or(address.as_bytes());
        let mut out = BytesMut::with_capacity(FIXED_BYTES + address.len());
        out.put_slice(MAGIC);
        out.put_u16_le(PROTOCOL_VERSION);
        out.put_u16_le(u16::try_from(address.len()).expect("at most 255"));
        out.put_u64_le(self.from.get());
        out.put_u64_le(self.to.get());
        out.put_u128_le(self.cluster.map_or(0, ClusterId::get));
        out.put_slice(address);
        out
    }

    /// Takes a greeting from the front of the buffer; `None` until more has arrived. Garbage is seen at its first
    /// byte.
    pub(crate) fn decode(buffer: &mut BytesMut) -> Result<Option<Self>, NoGreeting> {
        let compared = buffer.len().min(MAGIC.len());
        if buffer[..compared] != MAGIC[..compared] {
            return Err(NoGreeting::Garbage);
        }
        let Some(mut fixed) = buffer.get(MAGIC.len()..FIXED_BYTES.min(buffer.len())) else { return Ok(None) };
        if fixed.len() < 2 {
            return Ok(None);
        }
        // The version comes before all that a version may change.
        let version = fixed.get_u16_le();
        if version != PROTOCOL_VERSION {
            return Err(NoGreeting::Version(version));
        }
        if buffer.len() < FIXED_BYTES {
            return Ok(None);
        }
        let address_bytes = usize::from(fixed.get_u16_le());
        if address_bytes > ADDRESS_BYTES_MAX {
            return Err(NoGreeting::Malformed("the address is too long"));
        }
        if buffer.len() < FIXED_BYTES + address_bytes {
            return Ok(None);
        }
        let from = NodeId::new(fixed.get_u64_le()).ok_or(NoGreeting::Malformed("it comes from node 0"))?;
        let to = NodeId::new(fixed.get_u64_le()).ok_or(NoGreeting::Malformed("it is for node 0"))?;
        let cluster = ClusterId::new(fixed.get_u128_le());
        buffer.advance(FIXED_BYTES);
        let address = buffer.split_to(address_bytes);
        let advertised = std::str::from_utf8(&address).ok().and_then(|address| address.parse().ok());
        let advertised = advertised.ok_or(NoGreeting::Malformed("the address is none"))?;
        Ok(Some(Self { from, to, cluster, advertised }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting() -> Greeting {
        Greeting {
            from: NodeId::new(1).unwrap(),
            to: NodeId::new(258).unwrap(),
            cluster: ClusterId::new(7),
            advertised: "[::1]:6379".parse().unwrap(),
        }
    }

    #[test]
    fn a_greeting_stands_in_these_bytes() {
        let hex: String = greeting().encode().iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = "51525450454552000300\
                        0a00\
                        0100000000000000\
                        0201000000000000\
                        07000000000000000000000000000000\
                        5b3a3a315d3a36333739";
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
    }

    #[test]
    fn what_is_wrong_is_seen_as_early_as_it_can_be() {
        assert_eq!(Greeting::decode(&mut BytesMut::from("G")), Err(NoGreeting::Garbage));
        assert_eq!(Greeting::decode(&mut BytesMut::from("QRTPEER!")), Err(NoGreeting::Garbage));
        let mut other = greeting().encode();
        other[8] = 9;
        other.truncate(10);
        assert_eq!(Greeting::decode(&mut other), Err(NoGreeting::Version(9)));
        let mut nobody = greeting().encode();
        nobody[12] = 0;
        assert_eq!(Greeting::decode(&mut nobody), Err(NoGreeting::Malformed("it comes from node 0")));
    }
}
