//! What a leader lacks for a write that would make the state grow, and how that is said and stored. Knows nothing of who
//! looks, nor of what is done about it.
//!
//! In the log, little-endian:
//!
//! | first byte | then |
//! |---|---|
//! | 1, memory | bytes needed (8), used (8), limit (8) |
//! | 2, disk | node id of the server (8), bytes free (8), reserve (8), folder with its length (4) in front |

use std::fmt;
use std::str;

use bytes::{BufMut, BytesMut};
use quorate_raft::NodeId;

use crate::bytes_read::{Malformed, Reader};

const MEMORY: u8 = 1;
const DISK: u8 = 2;

/// Bytes of a folder's name that are told; of a longer one its end is.
pub const FOLDER_BYTES_MAX: usize = 64;
/// What stands for the beginning of a name that is too long.
const CUT: &str = "…";

/// Bytes of a shortage in the log, at most.
pub(crate) const SHORTAGE_BYTES_MAX: usize = 1 + 3 * 8 + 4 + FOLDER_BYTES_MAX;

/// What there is too little of. The write was refused for it before it was proposed, and has not been executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// The leader's `--memory-max`.
    Memory {
        /// Bytes that the write needs.
        needed: u64,
        /// Bytes in use, with those that writes under way will use.
        used: u64,
        /// The limit, in bytes.
        limit: u64,
    },
    /// A disk without which nothing can be committed.
    Disk {
        /// Whose.
        server: NodeId,
        /// Bytes that are free.
        free: u64,
        /// `--disk-reserve` of that server, in bytes.
        reserve: u64,
        /// Its data folder, see [`folder_name`].
        folder: Box<str>,
    },
}

/// The name of a folder, cut to [`FOLDER_BYTES_MAX`].
pub fn folder_name(folder: &str) -> Box<str> {
    if folder.len() <= FOLDER_BYTES_MAX {
        return folder.into();
    }
    let least = folder.len() + CUT.len() - FOLDER_BYTES_MAX;
    let from = (least..=folder.len()).find(|at| folder.is_char_boundary(*at)).unwrap_or(folder.len());
    format!("{CUT}{}", &folder[from..]).into()
}

impl Shortage {
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Memory { needed, used, limit } => {
                out.put_u8(MEMORY);
                out.put_u64_le(*needed);
                out.put_u64_le(*used);
                out.put_u64_le(*limit);
            }
            Self::Disk { server, free, reserve, folder } => {
                out.put_u8(DISK);
                out.put_u64_le(server.get());
                put_room(out, *free, *reserve, folder);
            }
        }
    }

    pub(crate) fn parse(reader: &mut Reader) -> Result<Self, Malformed> {
        match reader.u8()? {
            MEMORY => Ok(Self::Memory { needed: reader.u64()?, used: reader.u64()?, limit: reader.u64()? }),
            DISK => {
                let server = NodeId::new(reader.u64()?).ok_or(Malformed("a disk of node 0"))?;
                let (free, reserve, folder) = parse_room(reader)?;
                Ok(Self::Disk { server, free, reserve, folder })
            }
            _ => Err(Malformed("an unknown kind of shortage")),
        }
    }
}

/// Bytes free, reserve and folder of a disk.
pub(crate) fn put_room(out: &mut BytesMut, free: u64, reserve: u64, folder: &str) {
    out.put_u64_le(free);
    out.put_u64_le(reserve);
    out.put_u32_le(u32::try_from(folder.len()).expect("a folder's name is cut"));
    out.put_slice(folder.as_bytes());
}

/// The inverse of [`put_room`].
pub(crate) fn parse_room(reader: &mut Reader) -> Result<(u64, u64, Box<str>), Malformed> {
    let (free, reserve, folder) = (reader.u64()?, reader.u64()?, reader.bytes()?);
    if folder.len() > FOLDER_BYTES_MAX {
        return Err(Malformed("a folder's name is too long"));
    }
    let folder = str::from_utf8(&folder).map_err(|_| Malformed("a folder's name is no text"))?;
    Ok((free, reserve, folder.into()))
}

/// The text of the error, its class in front.
impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory { needed, used, limit } => write!(
                f,
                "OOM memory full: the write needs {needed} bytes, and {used} of --memory-max {limit} bytes are used; \
                 not executed, delete something"
            ),
            Self::Disk { server, free, reserve, folder } => write!(
                f,
                "OOM disk full: {free} bytes are free for the folder {folder} of server {server}, and \
                 --disk-reserve is {reserve} bytes; not executed, make room there or delete something",
                server = server.get()
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_is_read_as_it_was_written() {
        let server = NodeId::new(3).unwrap();
        for shortage in [
            Shortage::Memory { needed: 1, used: 2, limit: 3 },
            Shortage::Disk { server, free: 1, reserve: u64::MAX, folder: folder_name(&"ä".repeat(100)) },
        ] {
            let mut out = BytesMut::new();
            shortage.encode(&mut out);
            assert!(out.len() <= SHORTAGE_BYTES_MAX);
            assert_eq!(Shortage::parse(&mut Reader::new(out.freeze())), Ok(shortage));
        }
    }

    #[test]
    fn of_a_long_name_the_end_is_told() {
        assert_eq!(&*folder_name("/var/lib/quorate"), "/var/lib/quorate");
        for length in 60..80 {
            let name = folder_name(&format!("{}end", "ä".repeat(length)));
            assert!(name.len() <= FOLDER_BYTES_MAX && name.len() > FOLDER_BYTES_MAX - 3, "{name}");
            assert!(name.starts_with(CUT) && name.ends_with("äend"), "{name}");
        }
    }
}
