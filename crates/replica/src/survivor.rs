//! What a member holds whose majority is gone for good, and the new cluster that it becomes: `quorate recover` without its
//! words. Knows no terminal, and decides nothing.

use std::sync::Arc;

use quorate_raft::Position;
use quorate_storage::survivor::{self, Recovered, SurvivorError, Unfinished};
use quorate_storage::{ClusterId, Disk, Incarnation, SnapshotWriter};

use crate::keeper;
use crate::machine::{CannotApply, Machine, Nobody};

/// Why nothing was recovered.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// See [`SurvivorError`].
    #[error(transparent)]
    Folder(#[from] SurvivorError),
    /// Use a newer version of this program.
    #[error(
        "the entry at {} of its log cannot be applied ({}): it may be of a newer version of this program; use that one",
        .0.position, .0.why
    )]
    Entry(CannotApply),
}

/// What a folder is.
pub enum Found {
    /// That of a member.
    Survivor(Box<Survivor>),
    /// One whose recovery was decided, and is not finished.
    Unfinished(Unfinished),
}

/// The folder of a member, locked and unchanged, and its state once all of its log is applied.
pub struct Survivor {
    folder: survivor::Survivor,
    machine: Machine,
}

/// Reads the folder, and applies all that its log holds, committed or not. `seed` is of the hash tables of the state;
/// `progress` hears how many of the bytes are read.
///
/// # Errors
/// If a server runs on it, or would refuse it; if any of its snapshots is damaged; if there is nothing to recover.
pub fn open(
    disk: Arc<dyn Disk>,
    seed: u64,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Found, RecoverError> {
    let mut loaded = None;
    let found = survivor::open(
        disk,
        &mut |reader| {
            loaded = Some(*keeper::restore(reader, seed)?);
            Ok(())
        },
        progress,
    )?;
    let folder = match found {
        survivor::Found::Survivor(folder) => *folder,
        survivor::Found::Unfinished(unfinished) => return Ok(Found::Unfinished(unfinished)),
    };
    let cluster = folder.identity.cluster().expect("a survivor is of a cluster");
    let mut machine = match loaded {
        // Of the cluster that this one was restored from, as long as no own snapshot has taken its place.
        Some(machine) if machine.cluster() != cluster => machine.founded_anew(cluster),
        Some(machine) => machine,
        None => Machine::new(cluster, seed),
    };
    for entry in &folder.entries {
        machine.apply(entry, &mut Nobody).map_err(RecoverError::Entry)?;
    }
    Ok(Found::Survivor(Box::new(Survivor { folder, machine })))
}

impl Survivor {
    /// What the folder holds.
    pub fn folder(&self) -> &survivor::Survivor {
        &self.folder
    }

    /// The state behind all of it.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Makes the folder that of a new cluster with this member alone, which begins with this state; the sessions of the old
    /// one are expired. `progress` hears how many bytes of its snapshot are written. Durable when it returns.
    ///
    /// # Errors
    /// See [`survivor::Survivor::found_anew`].
    pub fn found_anew(
        self,
        incarnation: Incarnation,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Recovered, RecoverError> {
        let mut machine = Some(self.machine);
        let mut write = |disk: &Arc<dyn Disk>, cluster: ClusterId, position: Position| {
            let machine = machine.take().expect("one snapshot is written").founded_anew(cluster);
            let image = machine.image();
            let digest = image.digest();
            let mut writer = SnapshotWriter::create(Arc::clone(disk), cluster, position)?;
            for block in image.blocks() {
                writer.block(&block)?;
                progress(writer.bytes());
            }
            writer.finish(digest)
        };
        Ok(self.folder.found_anew(incarnation, &mut write)?)
    }
}
