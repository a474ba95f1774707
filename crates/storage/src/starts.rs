//! The highest start that was heard of each data folder of each node: who speaks of a lower one runs on an older copy of that
//! folder, and has forgotten what it promised since. Knows nothing of what is done with such a node.
//!
//! The file is written aside, synced, renamed, and the folder synced, before anything that a new start says is believed; it is
//! not there until the first such word. Layout (little-endian; `docs/storage.md`):
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 8 | `QRTSTART` |
//! | 8 | 4 | CRC-32C of all bytes from 12 on |
//! | 12 | 4 | format version, 1 |
//! | 16 | 4 | length of the file |
//! | 20 | 4 | number of folders |
//! | 24 | 32 each | in ascending order: node id, incarnation, start number, draw |

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use quorate_raft::NodeId;

use crate::disk::{Disk, DiskError, read_file, replace_file};
use crate::identity::Incarnation;

/// The name of the file in the data folder.
pub const STARTS_FILE: &str = "starts";
/// Where a new one is written before it takes that name. A left-over one means nothing.
const ASIDE_FILE: &str = "starts.new";
/// The version of the format, and the newest that this code reads.
const STARTS_FORMAT: u32 = 1;
/// Folders that are remembered at most: those of all members of the largest cluster, and room for many that were replaced.
pub const STARTS_MAX: usize = 256;

const MAGIC: &[u8; 8] = b"QRTSTART";
const FIXED_BYTES: usize = 24;
const FOLDER_BYTES: usize = 32;

/// One process on one data folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// Counts the processes on the folder, from 1.
    pub number: u64,
    /// Drawn at random by the process: of two with the same number one runs on a copy.
    pub draw: u64,
}

/// What a start is to one who has heard others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The one that was heard last.
    Known,
    /// Later than all that were heard: to be stored before it is believed.
    News,
    /// Of a copy of the folder that is older than what this process wrote to it.
    Outdated {
        /// What was heard.
        known: Start,
    },
}

/// The highest start that was heard of each folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Starts {
    highest: BTreeMap<(NodeId, Incarnation), Start>,
}

/// Why the file was not read. The folder has not been changed.
#[derive(Debug, thiserror::Error)]
pub enum StartsError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The file is not what this program wrote.
    #[error(
        "{STARTS_FILE} is damaged ({what}): this server does not know any more which starts it has heard of the others. Move \
         the file away, and start it again, if none of them was put back to an older copy of its data folder meanwhile"
    )]
    Damaged {
        /// What is wrong with it.
        what: &'static str,
    },
    /// Start a newer program.
    #[error(
        "{STARTS_FILE} has format {found}, and this program reads up to {STARTS_FORMAT}: start a newer version of it"
    )]
    NewerFormat {
        /// The version in the file.
        found: u32,
    },
}

impl Starts {
    /// What a start of this folder is.
    pub fn judge(&self, node: NodeId, incarnation: Incarnation, start: Start) -> Verdict {
        match self.highest.get(&(node, incarnation)) {
            Some(known) if *known == start => Verdict::Known,
            Some(known) if known.number >= start.number => Verdict::Outdated { known: *known },
            Some(_) | None => Verdict::News,
        }
    }

    /// Whether a later start of a folder may go on from the one that was heard of it: by what the starts before it have drawn, the
    /// newest first. `None` where they do not reach back so far, and nothing can be said.
    pub fn goes_on(
        &self,
        (node, incarnation): (NodeId, Incarnation),
        start: Start,
        earlier: &[u64],
    ) -> Option<bool> {
        let Some(known) = self.get(node, incarnation) else { return Some(true) };
        let between = start.number.checked_sub(known.number)?.checked_sub(1)?;
        let draw = earlier.get(usize::try_from(between).ok()?)?;
        Some(*draw == known.draw)
    }

    /// The highest that was heard of this folder.
    pub fn get(&self, node: NodeId, incarnation: Incarnation) -> Option<Start> {
        self.highest.get(&(node, incarnation)).copied()
    }

    /// How many folders there are.
    pub fn len(&self) -> usize {
        self.highest.len()
    }

    /// Whether nothing was heard.
    pub fn is_empty(&self) -> bool {
        self.highest.is_empty()
    }

    /// Remembers a start that is news. Where there is no room, the first folder goes that `counts` says does not count any
    /// more; false if all of them do, and then nothing has changed.
    ///
    /// # Panics
    /// If it is not news.
    #[must_use]
    pub fn hear(
        &mut self,
        (node, incarnation): (NodeId, Incarnation),
        start: Start,
        counts: impl Fn(NodeId, Incarnation) -> bool,
    ) -> bool {
        assert_eq!(self.judge(node, incarnation, start), Verdict::News, "what was heard is not news");
        let is_full = self.highest.len() >= STARTS_MAX;
        match self.highest.entry((node, incarnation)) {
            Entry::Occupied(mut known) => {
                known.insert(start);
                return true;
            }
            Entry::Vacant(new) if !is_full => {
                new.insert(start);
                return true;
            }
            Entry::Vacant(_) => {}
        }
        let Some(gone) =
            self.highest.keys().copied().find(|(node, incarnation)| !counts(*node, *incarnation))
        else {
            return false;
        };
        self.highest.remove(&gone);
        self.highest.insert((node, incarnation), start);
        true
    }

    /// Reads what the folder holds; nothing was heard where there is no file.
    pub fn load(disk: &dyn Disk) -> Result<Self, StartsError> {
        if !disk.exists(STARTS_FILE)? {
            return Ok(Self::default());
        }
        decode(&read_file(disk, STARTS_FILE)?)
    }

    /// Stores it; durable when it returns. After an error the old one or the new one is there.
    pub fn store(&self, disk: &dyn Disk) -> Result<(), DiskError> {
        replace_file(disk, STARTS_FILE, ASIDE_FILE, &self.encode())
    }

    fn encode(&self) -> Vec<u8> {
        let length = FIXED_BYTES + self.highest.len() * FOLDER_BYTES;
        let word = |number: usize| u32::try_from(number).expect("at most STARTS_MAX").to_le_bytes();
        let mut bytes = Vec::with_capacity(length);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&STARTS_FORMAT.to_le_bytes());
        bytes.extend_from_slice(&word(length));
        bytes.extend_from_slice(&word(self.highest.len()));
        for ((node, incarnation), start) in &self.highest {
            for number in [node.get(), incarnation.0, start.number, start.draw] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
        }
        let checksum = crc32c::crc32c(&bytes[12..]);
        bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }
}

fn decode(bytes: &[u8]) -> Result<Starts, StartsError> {
    let damaged = |what| StartsError::Damaged { what };
    if bytes.len() < FIXED_BYTES {
        return Err(damaged("it is too short"));
    }
    if &bytes[..8] != MAGIC {
        return Err(damaged("it does not begin as such a file does"));
    }
    if crc32c::crc32c(&bytes[12..]) != u32_at(bytes, 8) {
        return Err(damaged("its checksum is wrong"));
    }
    let format = u32_at(bytes, 12);
    if format > STARTS_FORMAT {
        return Err(StartsError::NewerFormat { found: format });
    }
    let count = u32_at(bytes, 20) as usize;
    let length = FIXED_BYTES + count.min(STARTS_MAX) * FOLDER_BYTES;
    if format == 0 || count > STARTS_MAX || bytes.len() != length || u32_at(bytes, 16) as usize != length {
        return Err(damaged("its length is wrong"));
    }
    let mut highest = BTreeMap::new();
    for folder in bytes[FIXED_BYTES..].chunks_exact(FOLDER_BYTES) {
        let node = NodeId::new(u64_at(folder, 0)).ok_or_else(|| damaged("it names a node 0"))?;
        let key = (node, Incarnation(u64_at(folder, 8)));
        if highest.last_key_value().is_some_and(|(last, _)| *last >= key) {
            return Err(damaged("its folders are out of order"));
        }
        highest.insert(key, Start { number: u64_at(folder, 16), draw: u64_at(folder, 24) });
    }
    Ok(Starts { highest })
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SimDisk;

    fn folder(node: u64, incarnation: u64) -> (NodeId, Incarnation) {
        (NodeId::new(node).unwrap(), Incarnation(incarnation))
    }

    fn judge(starts: &Starts, number: u64, draw: u64) -> Verdict {
        let (node, incarnation) = folder(1, 10);
        starts.judge(node, incarnation, Start { number, draw })
    }

    #[test]
    fn a_lower_number_and_another_draw_are_of_an_older_copy() {
        let mut starts = Starts::default();
        assert_eq!(judge(&starts, 1, 7), Verdict::News);
        let known = Start { number: 3, draw: 7 };
        assert!(starts.hear(folder(1, 10), known, |_, _| true));
        assert_eq!(judge(&starts, 3, 7), Verdict::Known);
        assert_eq!(judge(&starts, 4, 7), Verdict::News);
        assert_eq!(judge(&starts, 2, 7), Verdict::Outdated { known });
        assert_eq!(judge(&starts, 3, 8), Verdict::Outdated { known });
        let (node, other) = folder(1, 11);
        assert_eq!(starts.judge(node, other, Start { number: 1, draw: 1 }), Verdict::News);
    }

    #[test]
    fn what_does_not_count_makes_room_and_nothing_else_does() {
        let mut starts = Starts::default();
        let start = Start { number: 1, draw: 1 };
        for incarnation in 0..STARTS_MAX as u64 {
            assert!(starts.hear(folder(1, incarnation), start, |_, _| true));
        }
        assert!(!starts.hear(folder(2, 0), start, |_, _| true));
        assert!(
            starts.hear(folder(1, 5), Start { number: 2, draw: 1 }, |_, _| true),
            "one of those that are there"
        );
        assert!(starts.hear(folder(2, 0), start, |_, incarnation| incarnation.0 != 9));
        let (node, gone) = folder(1, 9);
        assert_eq!((starts.len(), starts.get(node, gone)), (STARTS_MAX, None));
    }

    #[test]
    fn what_is_stored_is_read_and_every_flipped_bit_is_refused() {
        let disk = SimDisk::new();
        assert_eq!(Starts::load(&disk).unwrap(), Starts::default());
        let mut starts = Starts::default();
        for (node, number) in [(3, 9), (1, 2)] {
            assert!(starts.hear(folder(node, 0xaabb), Start { number, draw: 0xccdd }, |_, _| true));
        }
        starts.store(&disk).unwrap();
        assert_eq!(Starts::load(&disk).unwrap(), starts);
        let bytes = disk.content(STARTS_FILE).unwrap();
        assert_eq!(bytes.len(), 88);
        for at in 0..bytes.len() as u64 * 8 {
            let disk = disk.fork();
            disk.flip_bit(STARTS_FILE, at / 8, (at % 8) as u8);
            assert!(matches!(Starts::load(&disk), Err(StartsError::Damaged { .. })), "bit {at}");
        }
        for length in 0..bytes.len() {
            disk.plant(STARTS_FILE, Some(bytes[..length].to_vec()));
            assert!(matches!(Starts::load(&disk), Err(StartsError::Damaged { .. })), "cut to {length}");
        }
    }
}
