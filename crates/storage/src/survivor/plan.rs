//! The file `recovering`: which files are old. Knows nothing of what is done with them.
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 8 | `QRTRECOV` |
//! | 8 | 4 | CRC-32C of all bytes from 12 on |
//! | 12 | 4 | format version, 1 |
//! | 16 | 8 | the old incarnation |
//! | 24 | … | the names, each ended by a zero |

use super::{RECOVERING_ASIDE_FILE, RECOVERING_FILE};
use crate::disk::{Disk, DiskError, read_file};
use crate::folder::FolderError;
use crate::identity::Incarnation;

const MAGIC: &[u8; 8] = b"QRTRECOV";
const FORMAT: u32 = 1;
const HEAD_BYTES: usize = 24;

/// A recovery that was decided.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// The incarnation that is no more.
    pub(super) before: Incarnation,
    /// Its files.
    pub(super) names: Vec<String>,
}

impl Plan {
    /// Decides it; durable when it returns.
    pub(super) fn store(&self, disk: &dyn Disk) -> Result<(), DiskError> {
        let mut file = disk.create(RECOVERING_ASIDE_FILE)?;
        file.write_at(0, &self.encode())?;
        // The content before the name.
        file.sync_data()?;
        drop(file);
        disk.rename(RECOVERING_ASIDE_FILE, RECOVERING_FILE)?;
        disk.sync_folder()
    }

    pub(super) fn load(disk: &dyn Disk) -> Result<Option<Self>, FolderError> {
        if !disk.exists(RECOVERING_FILE)? {
            return Ok(None);
        }
        let bytes = read_file(disk, RECOVERING_FILE)?;
        Self::decode(&bytes).map(Some).ok_or(FolderError::RecoveryDamaged)
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&self.before.0.to_le_bytes());
        for name in &self.names {
            bytes.extend_from_slice(name.as_bytes());
            bytes.push(0);
        }
        let checksum = crc32c::crc32c(&bytes[12..]);
        bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, names) = bytes.split_at_checked(HEAD_BYTES)?;
        let checksum = u32::from_le_bytes(head[8..12].try_into().ok()?);
        let format = u32::from_le_bytes(head[12..16].try_into().ok()?);
        if &head[..8] != MAGIC || crc32c::crc32c(&bytes[12..]) != checksum || format != FORMAT {
            return None;
        }
        let before = Incarnation(u64::from_le_bytes(head[16..].try_into().ok()?));
        let names = String::from_utf8(names.to_vec()).ok()?;
        let names = names.split_terminator('\0').map(str::to_owned).collect();
        Some(Self { before, names })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_what_its_bytes_say() {
        let names = vec!["identity".to_owned(), "log-0000000001".to_owned()];
        let plan = Plan { before: Incarnation(7), names };
        let bytes = plan.encode();
        assert_eq!(Plan::decode(&bytes), Some(plan));
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                assert_eq!(Plan::decode(&flipped), None, "bit {bit} of byte {at}");
            }
        }
        assert_eq!(Plan::decode(&bytes[..10]), None);
    }
}
