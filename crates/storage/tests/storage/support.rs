//! Short ways to say entries, hard states and logs.

use std::sync::Arc;

use bytes::Bytes;
use quorate_raft::{Entry, HardState, Index, NodeId, Payload, Position, Restored, Term};
use quorate_storage::{
    Folder, FolderConfig, FolderError, IfMissing, Incarnation, OpenError, SEGMENT_BYTES_MIN, SimDisk, Wal,
    WalConfig,
};

pub(crate) const OWNER: Incarnation = Incarnation(0x1234_5678_9abc_def0);

pub(crate) fn config() -> WalConfig {
    WalConfig {
        owner: OWNER,
        segment_bytes: SEGMENT_BYTES_MIN,
        if_missing: IfMissing::Create,
        snapshot: Position::ZERO,
        tail_bytes: u64::MAX,
    }
}

/// A log that must be there.
pub(crate) fn existing() -> WalConfig {
    WalConfig { if_missing: IfMissing::Refuse, ..config() }
}

pub(crate) fn open(disk: &SimDisk, config: &WalConfig) -> Result<(Wal, Restored), OpenError> {
    Wal::open(Arc::new(disk.clone()), config)
}

pub(crate) fn node(id: u64) -> NodeId {
    NodeId::new(id).unwrap()
}

/// The folder of a server; an empty one gets the incarnation `fresh`.
pub(crate) fn folder_config(id: u64, fresh: u64) -> FolderConfig {
    FolderConfig {
        node: node(id),
        fresh_incarnation: Incarnation(fresh),
        segment_bytes: SEGMENT_BYTES_MIN,
        tail_bytes: u64::MAX,
    }
}

/// A server starts on its folder.
pub(crate) fn open_folder(disk: &SimDisk, id: u64, fresh: u64) -> Result<Folder, FolderError> {
    Folder::open(Arc::new(disk.clone()), &folder_config(id, fresh))
}

/// A log of its own on a new disk.
pub(crate) fn new_log() -> (SimDisk, Wal) {
    let disk = SimDisk::new();
    let (wal, _) = open(&disk, &config()).unwrap();
    (disk, wal)
}

pub(crate) fn reopen(disk: &SimDisk) -> Restored {
    disk.crash_process();
    open(disk, &existing()).unwrap().1
}

pub(crate) fn vote(term: u64, vote: u64) -> HardState {
    HardState { term: Term(term), vote: NodeId::new(vote) }
}

pub(crate) fn entry(index: u64, term: u64, data: impl AsRef<[u8]>) -> Entry {
    let payload = Payload::Data(Bytes::copy_from_slice(data.as_ref()));
    Entry { position: Position::new(Term(term), Index(index)), payload }
}

pub(crate) fn noop(index: u64, term: u64) -> Entry {
    Entry { position: Position::new(Term(term), Index(index)), payload: Payload::Noop }
}

/// What a log holds, comparable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) hard_state: HardState,
    pub(crate) entries: Vec<Entry>,
}

impl Content {
    /// What a write makes of it; the dumb way.
    pub(crate) fn write(&mut self, hard_state: Option<HardState>, entries: &[Entry]) {
        self.hard_state = hard_state.unwrap_or(self.hard_state);
        if let Some(first) = entries.first() {
            self.entries.retain(|entry| entry.position.index < first.position.index);
        }
        self.entries.extend_from_slice(entries);
    }
}

impl From<Restored> for Content {
    fn from(restored: Restored) -> Self {
        assert_eq!(restored.base, Position::ZERO);
        Self { hard_state: restored.hard_state, entries: restored.entries }
    }
}

/// Small, seeded draws.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Below `n`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }
}

/// One thing that is done to a log.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Append(Option<HardState>, Vec<Entry>),
    Sync,
    Mark,
    Prepare,
    Piece,
    /// The kill of the process, and a new one.
    Reopen,
}

/// A run of steps: batches, truncations, rotations, idle times, restarts.
pub(crate) fn workload(seed: u64, steps: usize) -> Vec<Step> {
    let mut dice = Dice::new(seed);
    let mut content = Content::default();
    let mut step = || match dice.below(15) {
        0..7 => {
            let new_term = dice.below(4) == 0;
            let term = content.hard_state.term.0 + u64::from(new_term || content.entries.is_empty());
            let back = if new_term { dice.below(4) } else { 0 };
            let first = (content.entries.len() as u64).saturating_sub(back) + 1;
            let count = dice.below(4);
            let entries: Vec<Entry> = (first..first + count)
                .map(|index| entry(index, term, vec![dice.below(256) as u8; dice.below(300) as usize]))
                .collect();
            let hard_state = (term > content.hard_state.term.0).then(|| vote(term, dice.below(4)));
            content.write(hard_state, &entries);
            Step::Append(hard_state, entries)
        }
        7..11 => Step::Sync,
        11 => Step::Mark,
        12 => Step::Prepare,
        13 => Step::Piece,
        _ => Step::Reopen,
    };
    (0..steps).map(|_| step()).collect()
}

/// The name of a segment's file.
pub(crate) fn segment(number: u64) -> String {
    format!("log-{number:010}")
}

/// Where records begin in a segment's bytes.
pub(crate) fn record_offsets(bytes: &[u8]) -> Vec<usize> {
    let mut offsets = vec![];
    let mut at = 0;
    while at + 48 <= bytes.len() && bytes[at + 8] != 0 {
        offsets.push(at);
        let length = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        at += (48 + length).next_multiple_of(8);
    }
    offsets
}

/// Makes the checksum of the record at `at` right again, as a program that meant it would.
pub(crate) fn seal_checksum(bytes: &mut [u8], at: usize) {
    let length = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let end = at + (48 + length).next_multiple_of(8);
    let sum = crc32c::crc32c(&OWNER.0.to_le_bytes());
    let sum = crc32c::crc32c_append(sum, &bytes[at..at + 4]);
    let sum = crc32c::crc32c_append(sum, &bytes[at + 8..end]);
    bytes[at + 4..at + 8].copy_from_slice(&sum.to_le_bytes());
}

/// Bytes as people read them: offset, hexadecimal, text; runs of zeros as `*`.
pub(crate) fn hexdump(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut out = String::new();
    let mut starred = false;
    for (row, line) in bytes.chunks(16).enumerate() {
        if row > 0 && line.iter().all(|byte| *byte == 0) {
            if !starred {
                out.push_str("*\n");
            }
            starred = true;
            continue;
        }
        starred = false;
        let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        let text: String =
            line.iter().map(|byte| if (32..127).contains(byte) { char::from(*byte) } else { '.' }).collect();
        writeln!(out, "{:04x}  {:<47}  {text}", row * 16, hex.join(" ")).unwrap();
    }
    writeln!(out, "{:04x}", bytes.len()).unwrap();
    out
}

/// An error's text, broken into lines.
pub(crate) fn sentence(error: &impl std::fmt::Display) -> String {
    let mut lines = vec![String::new()];
    for word in error.to_string().split(' ') {
        let line = lines.last_mut().unwrap();
        if line.len() + word.len() > 80 {
            lines.push(word.to_owned());
        } else {
            line.push_str(if line.is_empty() { "" } else { " " });
            line.push_str(word);
        }
    }
    lines.join("\n") + "\n"
}
