//! A backup as a file: opens it without changing anything, reads every byte of it, and says in its own words what is wrong.
//! Must not know where it came from, nor what it is read for.

use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use quorate_replica::{Loader, Machine};
use quorate_storage::{SnapshotError, SnapshotFile};

use crate::file_disk::FileDisk;
use crate::progress::Progress;

/// Opens a file that says itself what it is a snapshot of; verifies nothing. It may be one that nobody may write to.
pub(crate) fn open(path: &Path) -> anyhow::Result<SnapshotFile> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        bail!("that is no file");
    };
    if !path.is_file() {
        bail!("there is no such file");
    }
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let disk = FileDisk::open_existing(folder)?;
    Ok(SnapshotFile::open_named(&disk, name)?)
}

/// Reads every byte of it, once, and builds the state: checksums, and the digest of the state against the recorded one.
pub(crate) fn load(file: &SnapshotFile, progress: &mut Progress<'_>) -> anyhow::Result<Machine> {
    let mut reader = file.reader();
    let mut loader = Loader::new(file.cluster(), file.position(), 0);
    loop {
        let Some(block) = reader.block().map_err(in_other_words)? else { break };
        loader.block(block)?;
        progress.at(reader.offset(), file.bytes());
    }
    loader.finish().with_context(|| format!("at the end of its {} bytes", file.bytes()))
}

/// Of a backup it is no consolation that no server may start on it.
pub(crate) fn in_other_words(error: SnapshotError) -> anyhow::Error {
    match error {
        SnapshotError::Damaged { file, offset, what, .. } => {
            anyhow!("{file} is damaged at offset {offset} ({what}): it is not what was written")
        }
        error @ (SnapshotError::Disk(_)
        | SnapshotError::NewerFormat { .. }
        | SnapshotError::Foreign { .. }
        | SnapshotError::OtherOrigin { .. }) => error.into(),
    }
}

/// What a state is, in a line.
pub(crate) fn describe(machine: &Machine) -> String {
    format!(
        "state at {}: {} keys, digest {:016x}, of keys and values alone {:016x}",
        machine.applied_position(),
        machine.shards().keys(),
        machine.digest(),
        machine.shards().digest(),
    )
}
