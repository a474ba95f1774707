//! When a snapshot of the state machine is due, and which entries leave the log behind it. Knows nothing of what is in a
//! snapshot, nor of how it becomes durable.

use quorate_raft::{Entry, Index, Node, Position};

/// The log since the last snapshot. One snapshot is taken at a time.
pub(crate) struct Compaction {
    /// Of entries that were applied since the last snapshot was begun; past it the next is due.
    log_bytes_max: u64,
    /// Of entries that stay before a snapshot, for followers that are a little behind.
    tail_bytes: u64,
    bytes: u64,
    /// What is on its way to the disk.
    taking: Option<Position>,
}

impl Compaction {
    /// # Panics
    /// If the tail alone would make the next snapshot due.
    pub(crate) fn new(log_bytes_max: u64, tail_bytes: u64) -> Self {
        assert!(tail_bytes < log_bytes_max, "a tail of the log that is all of it");
        Self { log_bytes_max, tail_bytes, bytes: 0, taking: None }
    }

    /// Counts an entry that was applied.
    pub(crate) fn applied(&mut self, entry: &Entry) {
        self.bytes += entry.cost() as u64;
    }

    /// Whether a snapshot is to be taken of what is applied now.
    pub(crate) fn is_due(&self) -> bool {
        self.taking.is_none() && self.bytes + self.tail_bytes > self.log_bytes_max
    }

    /// A snapshot is on its way to the disk.
    pub(crate) fn begin(&mut self, position: Position) {
        assert!(self.taking.is_none(), "two snapshots at a time");
        self.taking = Some(position);
        self.bytes = 0;
    }

    /// It is durable, or was given up: then the next is due when as much was applied again. False if nobody asked for
    /// it.
    pub(crate) fn end(&mut self, position: Position) -> bool {
        self.taking.take_if(|taking| *taking == position).is_some()
    }

    /// Up to where entries may leave, so that what stays up to the snapshot is not above the tail.
    pub(crate) fn through(&self, node: &Node, snapshot: Position) -> Index {
        let mut through = snapshot.index;
        let mut bytes = 0;
        while let Some(entry) = node.entry(through) {
            bytes += entry.cost() as u64;
            if bytes > self.tail_bytes {
                break;
            }
            through = through.previous();
        }
        through
    }
}
