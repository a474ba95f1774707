//! Takes a snapshot from another server, byte for byte, in pieces of any size. In memory is one block; on the disk are
//! whole blocks that were verified, and nothing else. Knows neither who sends nor how.

use std::sync::Arc;

use quorate_raft::Position;

use super::format::{Walk, is_possible};
use super::reader::read_part;
use super::{Fault, SYNC_STEP_BYTES, SnapshotError, SnapshotFile, complete, positions, received_name};
use crate::disk::{Disk, DiskError, DiskFile};
use crate::identity::ClusterId;

/// A snapshot that is being received. Dropped unfinished, its file stays, and the next process goes on with it.
pub struct SnapshotReceiver {
    disk: Arc<dyn Disk>,
    file: Box<dyn DiskFile>,
    name: String,
    walk: Walk,
    /// Up to here the file is synced.
    synced: u64,
    /// The beginning of the next part.
    buffer: Vec<u8>,
    /// Where a part was refused last.
    refused_at: Option<u64>,
}

impl SnapshotReceiver {
    /// Begins to receive the snapshot of this position, or goes on with one of which a process before has left the
    /// beginning. What others it has left is removed.
    ///
    /// # Panics
    /// If the position is before the log.
    pub fn open(disk: Arc<dyn Disk>, cluster: ClusterId, position: Position) -> Result<Self, SnapshotError> {
        assert!(is_possible(position), "a snapshot of nothing");
        let name = received_name(position);
        for other in positions(&*disk, received_name)? {
            if other != position {
                disk.remove(&received_name(other))?;
            }
        }
        let is_there = disk.exists(&name)?;
        let file = if is_there { disk.open(&name)? } else { disk.create(&name)? };
        let walk = Walk::new(cluster, position);
        let mut receiver = Self { disk, file, name, walk, synced: 0, buffer: Vec::new(), refused_at: None };
        if is_there {
            receiver.resume()?;
        }
        Ok(receiver)
    }

    /// Verifies what is there, as far as it goes, and writes it again: after a failed sync the process before may have
    /// left it in the page cache, where another sync would find nothing to do.
    fn resume(&mut self) -> Result<(), SnapshotError> {
        let (cluster, position) = (self.walk.cluster(), self.walk.position());
        let found = SnapshotFile::open_as(&*self.disk, cluster, position, self.name.clone())?;
        let mut part = Vec::new();
        while self.walk.digest().is_none() {
            match read_part(&found, &self.walk, &mut part) {
                Ok(true) => {}
                Err(SnapshotError::Disk(error)) => return Err(error.into()),
                // A torn end.
                Ok(false) | Err(_) => break,
            }
            let at = self.walk.at();
            if self.walk.take(&part).is_err() {
                break;
            }
            self.file.write_at(at, &part)?;
            self.sync_step()?;
        }
        Ok(())
    }

    /// What it will be a snapshot of.
    pub fn position(&self) -> Position {
        self.walk.position()
    }

    /// The offset of the next byte that is missing.
    pub fn received(&self) -> u64 {
        self.walk.at() + self.buffer.len() as u64
    }

    /// All of it is there: [`SnapshotReceiver::finish`] it.
    pub fn is_complete(&self) -> bool {
        self.walk.digest().is_some()
    }

    /// Takes the bytes from `offset` on, as far as they are the next ones, and says which offset is missing now: a
    /// piece that came twice, or too early, changes nothing.
    ///
    /// After [`SnapshotError::Damaged`] what was verified stays, and [`SnapshotReceiver::received`] says where that
    /// ends; if it is the same place for a second time, what is there does not belong to what comes, and all of it is
    /// dropped. After [`SnapshotError::Disk`] it is not to be used any more.
    pub fn chunk(&mut self, offset: u64, bytes: &[u8]) -> Result<u64, SnapshotError> {
        let known = self.received().checked_sub(offset).and_then(|known| usize::try_from(known).ok());
        let Some(mut rest) = known.and_then(|known| bytes.get(known..)) else { return Ok(self.received()) };
        while !rest.is_empty() {
            let needed = match self.walk.part_bytes(&self.buffer) {
                Ok(needed) => needed,
                Err(fault) => return Err(self.refuse(fault)),
            };
            let (now, later) = rest.split_at(rest.len().min(needed - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            rest = later;
            self.take_part()?;
        }
        Ok(self.received())
    }

    /// Takes the part in the buffer, if it is whole.
    fn take_part(&mut self) -> Result<(), SnapshotError> {
        match self.walk.part_bytes(&self.buffer) {
            Ok(needed) if needed > self.buffer.len() => return Ok(()),
            Ok(_) => {}
            Err(fault) => return Err(self.refuse(fault)),
        }
        let at = self.walk.at();
        if let Err(fault) = self.walk.take(&self.buffer) {
            return Err(self.refuse(fault));
        }
        self.file.write_at(at, &self.buffer)?;
        self.buffer.clear();
        self.sync_step()?;
        Ok(())
    }

    fn sync_step(&mut self) -> Result<(), DiskError> {
        if self.walk.at() - self.synced >= SYNC_STEP_BYTES {
            self.file.sync_data()?;
            self.synced = self.walk.at();
        }
        Ok(())
    }

    fn refuse(&mut self, fault: Fault) -> SnapshotError {
        let error = SnapshotError::of(fault, &self.name, &self.walk);
        self.buffer.clear();
        let at = self.walk.at();
        if self.refused_at.replace(at) == Some(at) {
            // The file is written anew from its beginning; what stands behind is overwritten, or found at the end.
            self.walk = Walk::new(self.walk.cluster(), self.walk.position());
            self.synced = 0;
            self.refused_at = None;
        }
        error
    }

    /// The whole file before it has its name: for who must know that the state in it can be loaded before the snapshot
    /// counts.
    ///
    /// # Panics
    /// If it is not complete.
    pub fn file(&self) -> Result<SnapshotFile, SnapshotError> {
        assert!(self.is_complete(), "a snapshot is used before it is complete");
        let (cluster, position) = (self.walk.cluster(), self.walk.position());
        Ok(SnapshotFile::open_as(&*self.disk, cluster, position, self.name.clone())?)
    }

    /// Verifies the whole file, as the disk gives it back, and gives it its name. When it returns, the snapshot is
    /// durable, and those that are older than the one before it are removed. If the file is not what was received, it is
    /// removed.
    ///
    /// # Panics
    /// If it is not complete.
    pub fn finish(mut self) -> Result<SnapshotFile, SnapshotError> {
        assert!(self.is_complete(), "a snapshot is used before it is complete");
        if let Err(error) = self.file.sync_data() {
            if error.is_full() {
                self.abandon()?;
            }
            return Err(error.into());
        }
        let (cluster, position) = (self.walk.cluster(), self.walk.position());
        let found = self.file()?;
        match found.verify(&mut |_, _| {}) {
            Ok(_) => {}
            Err(SnapshotError::Disk(error)) => return Err(error.into()),
            Err(error) => {
                self.abandon()?;
                return Err(error);
            }
        }
        drop((self.file, found));
        complete(&self.disk, cluster, position, &self.name)
    }

    /// Gives it up, and its place on the disk.
    pub fn abandon(self) -> Result<(), DiskError> {
        drop(self.file);
        self.disk.remove(&self.name)
    }
}
