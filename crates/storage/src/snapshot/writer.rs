//! Writes a snapshot aside, block by block. Nothing rests on it before [`SnapshotWriter::finish`] has returned.

use std::sync::Arc;

use quorate_raft::Position;

use super::format::{Walk, is_possible};
use super::{SYNC_STEP_BYTES, SnapshotError, SnapshotFile, complete, taken_name};
use crate::disk::{Disk, DiskError, DiskFile};
use crate::identity::ClusterId;
use crate::sabotage::Bug;

/// A snapshot that is being taken. If it is dropped unfinished, its file stays until the next start, or the next one of
/// the same position: see [`SnapshotWriter::abandon`]. Where no room is found for its beginning or its end, its file is
/// removed.
pub struct SnapshotWriter {
    disk: Arc<dyn Disk>,
    file: Box<dyn DiskFile>,
    name: String,
    walk: Walk,
    /// Up to here the file is synced.
    synced: u64,
    buffer: Vec<u8>,
}

impl SnapshotWriter {
    /// Begins the file of a snapshot of what is applied up to `position`.
    ///
    /// # Panics
    /// If the position is before the log.
    pub fn create(
        disk: Arc<dyn Disk>,
        cluster: ClusterId,
        position: Position,
    ) -> Result<Self, SnapshotError> {
        assert!(is_possible(position), "a snapshot of nothing");
        let name = taken_name(position);
        if disk.exists(&name)? {
            disk.remove(&name)?;
        }
        let file = disk.create(&name)?;
        let mut walk = Walk::new(cluster, position);
        let mut buffer = Vec::new();
        walk.write_header(&mut buffer);
        let mut writer = Self { disk, file, name, walk, synced: 0, buffer };
        match writer.write() {
            Ok(()) => Ok(writer),
            Err(error) => Err(writer.give_up(error)),
        }
    }

    /// Adds a block.
    ///
    /// # Panics
    /// If it is empty or larger than [`super::BLOCK_BYTES_MAX`].
    pub fn block(&mut self, content: &[u8]) -> Result<(), SnapshotError> {
        self.walk.write_block(&mut self.buffer, content);
        self.write()?;
        if self.walk.at() - self.synced >= SYNC_STEP_BYTES {
            self.file.sync_data()?;
            self.synced = self.walk.at();
        }
        Ok(())
    }

    /// Bytes that were written so far.
    pub fn bytes(&self) -> u64 {
        self.walk.at()
    }

    /// Ends it, with the digest of the state that its blocks hold. When it returns, the snapshot is durable, and those
    /// that are older than the one before it are removed.
    pub fn finish(mut self, digest: u64) -> Result<SnapshotFile, SnapshotError> {
        self.walk.write_trailer(&mut self.buffer, digest);
        let mut written = self.write();
        if !Bug::NamesSnapshotBeforeContent.is_put_back() {
            // The content before the name: whatever has the name is whole.
            written = written.and_then(|()| self.file.sync_data());
        }
        if let Err(error) = written {
            return Err(self.give_up(error));
        }
        drop(self.file);
        complete(&self.disk, self.walk.cluster(), self.walk.position(), &self.name)
    }

    /// Gives it up, and its place on the disk.
    pub fn abandon(self) -> Result<(), DiskError> {
        drop(self.file);
        self.disk.remove(&self.name)
    }

    /// What is not finished must not take the room that is missing.
    fn give_up(self, error: DiskError) -> SnapshotError {
        if !error.is_full() {
            return error.into();
        }
        match self.abandon() {
            Ok(()) => error.into(),
            Err(failure) => failure.into(),
        }
    }

    fn write(&mut self) -> Result<(), DiskError> {
        let at = self.walk.at() - self.buffer.len() as u64;
        self.file.write_at(at, &self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}
