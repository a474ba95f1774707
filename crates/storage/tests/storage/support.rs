//! Short ways to say entries, hard states and logs.

use std::sync::Arc;

use bytes::Bytes;
use quorate_raft::{Entry, HardState, Index, NodeId, Payload, Position, Restored, Term};
use quorate_storage::{IfMissing, Incarnation, OpenError, SEGMENT_BYTES_MIN, SimDisk, Wal, WalConfig};

pub(crate) const OWNER: Incarnation = Incarnation(0x1234_5678_9abc_def0);

pub(crate) fn config() -> WalConfig {
    WalConfig { owner: OWNER, segment_bytes: SEGMENT_BYTES_MIN, if_missing: IfMissing::Create }
}

/// A log that must be there.
pub(crate) fn existing() -> WalConfig {
    WalConfig { if_missing: IfMissing::Refuse, ..config() }
}

pub(crate) fn open(disk: &SimDisk, config: &WalConfig) -> Result<(Wal, Restored), OpenError> {
    Wal::open(Arc::new(disk.clone()), config)
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
