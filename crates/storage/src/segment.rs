//! A segment before it is begun: its file, filled with zeros and synced, its name too. Knows nothing of
//! records.

use crate::disk::{Disk, DiskError, DiskFile};
use crate::record::{LogOffset, segment_number};
use crate::recovery::Unused;
use crate::wal::WriteError;

/// A segment that is being made ready.
pub(crate) struct NextSegment {
    file: Box<dyn DiskFile>,
    size: u64,
    /// Zeros up to here are synced.
    filled: u64,
}

impl NextSegment {
    /// Makes the file, and its name durable. One that an earlier try has left is used, and filled anew.
    pub(crate) fn begin(disk: &dyn Disk, number: u64, size: u64) -> Result<Self, WriteError> {
        let name = LogOffset::new(number, 0).file();
        let failed = WriteError::Failed;
        let is_there = disk.exists(&name).map_err(failed)?;
        let left_over = if is_there { Some(disk.open(&name).map_err(failed)?) } else { None };
        let left_bytes = left_over.as_ref().map_or(Ok(0), |file| file.size()).map_err(failed)?;
        let size = size.max(left_bytes);
        let needed = size - left_bytes;
        let free = disk.free_bytes().map_err(failed)?;
        if free < needed {
            return Err(WriteError::Full { needed, free });
        }
        let file = match left_over.map_or_else(|| disk.create(&name), Ok) {
            Ok(file) => file,
            // Room for zeros, and none for a name.
            Err(error) if error.is_full() => return Err(WriteError::Full { needed, free }),
            Err(error) => return Err(failed(error)),
        };
        // Or a power cut takes the file away with all that will be synced in it.
        disk.sync_folder().map_err(failed)?;
        Ok(Self { file, size, filled: 0 })
    }

    /// One that recovery has found, with nothing in it that counts.
    pub(crate) fn found(disk: &dyn Disk, number: u64, found: Unused) -> Result<Self, DiskError> {
        let mut file = disk.open(&LogOffset::new(number, 0).file())?;
        if !found.is_blank {
            return Ok(Self { file, size: found.bytes, filled: 0 });
        }
        // Its zeros may be the cache's only.
        file.sync_data()?;
        Ok(Self { file, size: found.bytes, filled: found.bytes })
    }

    /// Makes it larger, if it is smaller.
    pub(crate) fn grow(&mut self, size: u64) {
        self.size = self.size.max(size);
    }

    /// Fills on, at most so many bytes, and syncs them. If the disk is full, it can be tried again.
    pub(crate) fn fill(&mut self, disk: &dyn Disk, bytes_max: u64) -> Result<(), WriteError> {
        let bytes = bytes_max.min(self.size - self.filled);
        if bytes == 0 {
            return Ok(());
        }
        match self.file.write_zeros(self.filled, bytes).and_then(|()| self.file.sync_data()) {
            Ok(()) => {
                self.filled += bytes;
                Ok(())
            }
            Err(error) if error.is_full() => {
                let free = disk.free_bytes().map_err(WriteError::Failed)?;
                Err(WriteError::Full { needed: self.size - self.filled, free })
            }
            Err(error) => Err(WriteError::Failed(error)),
        }
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn filled(&self) -> u64 {
        self.filled
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.filled == self.size
    }

    /// The file, to be written.
    ///
    /// # Panics
    /// If it is not ready: a promise would rest on a length that is not synced.
    pub(crate) fn into_file(self) -> Box<dyn DiskFile> {
        assert!(self.is_ready(), "a segment is used before it is filled");
        self.file
    }
}

/// The numbers of all segments in the folder, ascending.
pub(crate) fn segments(disk: &dyn Disk) -> Result<Vec<u64>, DiskError> {
    let mut numbers: Vec<u64> = disk.list()?.iter().filter_map(|name| segment_number(name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Where, among ascending numbers, the last run without a gap begins.
pub(crate) fn last_run(numbers: &[u64]) -> usize {
    numbers.windows(2).rposition(|pair| pair[0] + 1 != pair[1]).map_or(0, |gap| gap + 1)
}
