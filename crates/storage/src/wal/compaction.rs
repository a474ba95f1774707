//! The log behind a snapshot: whole segments are deleted, and a log that does not hold the snapshot begins anew.
//! Knows nothing of what is in a snapshot, and trusts the caller that it is durable.

use quorate_raft::{Entry, HardState, Index, Position, Restored};

use super::{Wal, WriteError};
use crate::record::{HEADER_RECORD_BYTES, LogOffset};
use crate::sabotage::Bug;
use crate::segment::NextSegment;
use crate::usage::deletable;
use crate::wal::PREPARE_STEP_BYTES;

impl Wal {
    /// A snapshot is durable: deletes the segments that are not needed any more, oldest first, except what is
    /// above `through` (which lets a leader keep entries for followers that lag). Returns how many.
    ///
    /// Whole segments only, and never the current one; but if all in it is covered too and it is half full, the
    /// next one is begun early, so that it can go.
    ///
    /// # Panics
    /// If `through` is above the snapshot: what is in neither would be lost.
    pub fn compact(&mut self, snapshot: Position, through: Index) -> Result<usize, WriteError> {
        self.check_usable()?;
        assert!(through <= snapshot.index, "a log is compacted beyond its snapshot");
        self.usage.cover(snapshot.index);
        // The snapshot may be ahead of this log: what is on its way to it is at or below the snapshot, then.
        self.floor = self.floor.max(snapshot.index.min(self.last.index));
        let count = self.delete_up_to(through)?;
        if self.last.index > through || !self.is_worth_leaving() {
            return Ok(count);
        }
        match self.rotate(0) {
            Ok(()) => Ok(count + self.delete_up_to(through)?),
            // It stays until there is room.
            Err(WriteError::Full { .. }) => Ok(count),
            Err(error) => Err(error),
        }
    }

    fn delete_up_to(&mut self, through: Index) -> Result<usize, WriteError> {
        let count = deletable(&self.older, through);
        self.delete(count)?;
        Ok(count)
    }

    /// One whole write of consensus, in the order that a crash in its middle needs: the hard state, where it changed;
    /// the drop of the log, see [`Wal::reset_to`]; the entries. See [`Wal::append`] for the rest.
    pub fn write(
        &mut self,
        hard_state: Option<HardState>,
        reset_to: Option<Position>,
        entries: &[Entry],
    ) -> Result<(), WriteError> {
        let Some(position) = reset_to else { return self.append(hard_state, entries) };
        self.append(hard_state, &[])?;
        // Or it was done by the same call, which then found no room for the entries.
        if self.base != position {
            self.reset_to(position)?;
        }
        self.append(None, entries)
    }

    /// The log is dropped and begins at `position`, that of a durable snapshot. The hard state stays. Durable
    /// when it returns.
    ///
    /// # Panics
    /// If `position` is not behind where the log has begun before, or of a later term than the hard state.
    pub fn reset_to(&mut self, position: Position) -> Result<(), WriteError> {
        self.check_usable()?;
        assert!(position.index > self.base.index, "a log is begun anew where it has begun before");
        assert!(position.term <= self.hard_state.term, "a snapshot of a later term than the hard state");
        // If there is no room for it, nothing has changed.
        self.prepare(self.segment_bytes)?;
        self.base = position;
        self.last = position;
        self.floor = position.index;
        self.rotate(0)?;
        self.usage.cover(Index(u64::MAX));
        self.delete(self.older.len())
    }

    /// Bytes of the records that no snapshot covers: what a restart would have to read and apply. Up to a thousandth
    /// of a segment too much at each of its ends.
    pub fn log_bytes(&self) -> u64 {
        self.usage.bytes()
    }

    /// Bytes of the log's files.
    pub fn file_bytes(&self) -> u64 {
        let next = self.next.as_ref().map_or(0, NextSegment::size);
        self.older.iter().map(|segment| segment.bytes).sum::<u64>() + self.size + next
    }

    /// After recovery: the log goes on from the snapshot, or is dropped if it does not hold it. The snapshot is
    /// ahead of the log if it was applied on the acknowledgements of others, or has come from another server.
    pub(super) fn follow_snapshot(
        &mut self,
        snapshot: Position,
        holds: bool,
        restored: &mut Restored,
    ) -> Result<(), WriteError> {
        restored.snapshot = snapshot;
        if holds || Bug::KeepsLogWithoutSnapshot.is_put_back() {
            self.floor = snapshot.index.min(self.last.index);
            return Ok(());
        }
        if snapshot.term > self.hard_state.term {
            // It came with that term, whose write was lost: this node has not voted in it.
            self.append(Some(HardState { term: snapshot.term, vote: None }), &[])?;
        }
        self.reset_to(snapshot)?;
        *restored = Restored { hard_state: self.hard_state, base: snapshot, snapshot, ..Restored::default() };
        Ok(())
    }

    /// Half full, and left without making a large file for it.
    fn is_worth_leaving(&self) -> bool {
        let is_cheap = self.next.as_ref().is_some_and(NextSegment::is_ready);
        self.end().offset >= self.size / 2 && (is_cheap || self.segment_bytes <= PREPARE_STEP_BYTES)
    }

    /// Deletes so many of the oldest segments. That is not synced: what a power cut brings back is recognized by its
    /// numbers, and deleted again.
    fn delete(&mut self, count: usize) -> Result<(), WriteError> {
        if count == 0 {
            return Ok(());
        }
        if self.written == 0 && !Bug::DeletesBeforeHeader.is_put_back() {
            // A vote must not die with its segment: it is in the header, which is in the buffer only.
            self.sync()?;
        }
        for segment in self.older.drain(..count) {
            if let Err(error) = self.disk.remove(&LogOffset::new(segment.number, 0).file()) {
                self.poisoned = true;
                return Err(WriteError::Failed(error));
            }
        }
        if self.older.is_empty() && self.segment > 1 && self.written > 0 {
            // That there is nothing before it says that its header was synced.
            self.claimed = self.claimed.max(LogOffset::new(self.segment, HEADER_RECORD_BYTES as u64));
        }
        Ok(())
    }
}
