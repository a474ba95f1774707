//! Puts a backup into an empty data folder, for the founding member of a new cluster. Knows nothing of what the state is,
//! nor of how the members find each other.
//!
//! First a marker is made, and last, once all the rest is durable, it is removed. A folder with the marker was never
//! served: it is refused by every start, and may be restored again.

use std::sync::Arc;

use quorate_raft::NodeId;

use crate::disk::{Disk, DiskError, FolderLock, LOCK_FILE};
use crate::identity::{self, Identity, Incarnation};
use crate::origin::Origin;
use crate::snapshot::{SnapshotError, SnapshotFile, SnapshotWriter};

/// A file that is there as long as a restore is not finished. Its content means nothing.
pub const RESTORING_FILE: &str = "restoring";

/// Why a folder was not restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreFolderError {
    /// Stop whoever uses it, or use another folder.
    #[error("the data folder is in use by another process")]
    InUse,
    /// Use another folder.
    #[error(
        "the data folder is not empty: it holds {file}; a backup is restored into an empty or missing folder only"
    )]
    NotEmpty {
        /// One of its files.
        file: String,
    },
    /// The backup is not what it was when it was verified; the folder may be restored again from an intact one.
    #[error(transparent)]
    Backup(SnapshotError),
    /// The disk failed, or is full; the folder may be restored again.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl From<SnapshotError> for RestoreFolderError {
    fn from(error: SnapshotError) -> Self {
        match error {
            SnapshotError::Disk(error) => Self::Disk(error),
            error @ (SnapshotError::Damaged { .. }
            | SnapshotError::NewerFormat { .. }
            | SnapshotError::Foreign { .. }
            | SnapshotError::OtherOrigin { .. }) => Self::Backup(error),
        }
    }
}

/// Whether this folder can be restored into: it is empty, or a restore into it was not finished.
///
/// # Errors
/// If it cannot.
pub fn check(disk: &dyn Disk) -> Result<(), RestoreFolderError> {
    if disk.exists(RESTORING_FILE)? {
        return Ok(());
    }
    match disk.list()?.into_iter().filter(|name| name != LOCK_FILE).min() {
        None => Ok(()),
        Some(file) => Err(RestoreFolderError::NotEmpty { file }),
    }
}

/// Makes this folder one of the node `node`, not founded, that begins with the state of `backup`: durable when it returns,
/// and still locked. Verify the backup before, whole: what is found here is found after the folder was written to.
/// `progress` hears how many of the backup's bytes are done.
///
/// # Errors
/// If the folder is used, holds something, or could not be written.
pub fn restore(
    disk: &Arc<dyn Disk>,
    backup: &SnapshotFile,
    (node, incarnation): (NodeId, Incarnation),
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(Origin, Box<dyn FolderLock>), RestoreFolderError> {
    // Before the lock, which would leave a file in somebody's folder; and behind it, when nobody else writes.
    check(&**disk)?;
    let lock = disk.lock().map_err(|error| match error.is_in_use() {
        true => RestoreFolderError::InUse,
        false => RestoreFolderError::Disk(error),
    })?;
    check(&**disk)?;
    if !disk.exists(RESTORING_FILE)? {
        drop(disk.create(RESTORING_FILE)?);
    }
    // Before anything else is there: a power cut must not leave parts without it. Also where it was found: the process that
    // made it may have died before this.
    disk.sync_folder()?;
    for name in disk.list()? {
        if name != LOCK_FILE && name != RESTORING_FILE {
            disk.remove(&name)?;
        }
    }
    let digest = copy(disk, backup, progress)?;
    let origin = Origin { cluster: backup.cluster(), position: backup.position(), digest };
    let identity = Identity { origin: Some(origin), ..Identity::new(node, incarnation) };
    identity::store(&**disk, &identity)?;
    disk.remove(RESTORING_FILE)?;
    disk.sync_folder()?;
    Ok((origin, lock))
}

/// Copies the backup, byte for byte, and returns the digest of its state. The copy is durable, also by its name.
fn copy(
    disk: &Arc<dyn Disk>,
    backup: &SnapshotFile,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<u64, RestoreFolderError> {
    let mut reader = backup.reader();
    let mut writer = SnapshotWriter::create(Arc::clone(disk), backup.cluster(), backup.position())?;
    while let Some(block) = reader.block()? {
        writer.block(block)?;
        progress(writer.bytes(), backup.bytes());
    }
    let digest = reader.digest().expect("the last block was read");
    writer.finish(digest)?;
    Ok(digest)
}
