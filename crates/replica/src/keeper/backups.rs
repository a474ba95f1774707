//! The snapshots that backups read: open as long as they do. Knows neither who asks nor for how long.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_storage::{Disk, DiskError, SnapshotFile};

use crate::backup::{BackupJob, BackupNews};
use crate::value::Value;

/// Open snapshots, by the number of the backup.
#[derive(Default)]
pub(super) struct OpenBackups {
    files: BTreeMap<u64, SnapshotFile>,
}

impl OpenBackups {
    /// Does a job, at once.
    ///
    /// # Errors
    /// If the disk fails where a snapshot is opened. A piece that cannot be read is told to who asked for it: nothing rests
    /// on it.
    pub(super) fn work(&mut self, disk: &dyn Disk, job: BackupJob) -> Result<Option<BackupNews>, DiskError> {
        match job {
            BackupJob::Open { number, cluster, position } => {
                let name = quorate_storage::snapshot::file_name(position);
                // It may be that of the cluster that this one was restored from, until an own one takes its place.
                let file = match SnapshotFile::open_named(disk, &name) {
                    Ok(file) => Some(file).filter(|file| file.cluster() == cluster),
                    Err(error) if error.is_not_found() => None,
                    Err(error) => return Err(error),
                };
                Ok(Some(match file {
                    None => BackupNews::NotThere { number },
                    Some(file) => {
                        let bytes = file.bytes();
                        self.files.insert(number, file);
                        BackupNews::Open { number, position, bytes }
                    }
                }))
            }
            BackupJob::Read { number, to, offset, count } => {
                let piece = match self.files.get(&number) {
                    None => Ok(Bytes::new()),
                    Some(file) => file.read_at(offset, count).map_err(|error| error.to_string()),
                };
                let piece = piece.map(|bytes| Value::copy_from(&bytes));
                Ok(Some(BackupNews::Read { number, to, piece }))
            }
            BackupJob::Close { number } => {
                self.files.remove(&number);
                Ok(None)
            }
        }
    }
}
