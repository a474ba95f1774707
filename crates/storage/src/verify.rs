//! Checks every byte of the folder of a node that is stopped, and changes nothing. Knows nothing of what the state is.

use quorate_raft::{Entry, Position};

use crate::LogOffset;
use crate::disk::{Disk, DiskError};
use crate::folder::{FolderError, check_origin, check_restored};
use crate::identity::{self, Identity};
use crate::recovery::Outcome;
use crate::segment::segments;
use crate::snapshot;
use crate::starts::Starts;
use crate::survivor::RECOVERING_FILE;
use crate::wal::{IfMissing, SEGMENT_BYTES_DEFAULT, WalConfig, read_log};

/// What a folder holds, all of it as it was written.
#[derive(Debug)]
pub struct Verified {
    /// Whose it is.
    pub identity: Identity,
    /// Its complete snapshots, the oldest first: position and bytes.
    pub snapshots: Vec<(Position, u64)>,
    /// The first entry of the log, and how many there are.
    pub entries: Option<(Position, usize)>,
    /// How the log ends.
    pub outcome: Outcome,
}

/// Verifies the folder; `None` where it is empty. `progress` hears how many of its bytes are done.
///
/// Files that mean nothing are not read: what was being taken or received, and what a deletion has left over.
///
/// # Errors
/// If a server runs on it, or would refuse it; and if any of its snapshots is damaged.
pub fn folder(disk: &dyn Disk, progress: &mut dyn FnMut(u64, u64)) -> Result<Option<Verified>, FolderError> {
    let _lock = disk.lock().map_err(|error| match error.is_in_use() {
        true => FolderError::InUse,
        false => FolderError::Disk(error),
    })?;
    check_restored(disk)?;
    if disk.exists(RECOVERING_FILE)? {
        return Err(FolderError::RecoveryUnfinished);
    }
    let positions = snapshot::list(disk)?;
    let numbers = segments(disk)?;
    let Some(identity) = identity::load_any(disk)? else {
        let is_empty = positions.is_empty() && numbers.is_empty();
        return if is_empty { Ok(None) } else { Err(FolderError::IdentityMissing) };
    };
    let (total, mut done) = (bytes_to_read(disk, &positions, &numbers)?, 0);
    Starts::load(disk)?;
    let mut snapshots = Vec::new();
    for position in positions {
        let file = snapshot::open_of(disk, &identity, position)?;
        snapshot::verify_of(&file, &identity, &mut |bytes, _| progress(done + bytes, total))?;
        done += file.bytes();
        snapshots.push((position, file.bytes()));
    }
    check_origin(&identity, !snapshots.is_empty())?;
    let mut segment = |bytes: u64| {
        done += bytes;
        progress(done, total);
    };
    verify_log(disk, identity, snapshots, &mut segment).map(Some)
}

/// Of these snapshots and segments.
pub(crate) fn bytes_to_read(
    disk: &dyn Disk,
    positions: &[Position],
    numbers: &[u64],
) -> Result<u64, DiskError> {
    let names = positions.iter().map(|position| snapshot::file_name(*position));
    let names = names.chain(numbers.iter().map(|number| LogOffset::new(*number, 0).file()));
    names.map(|name| disk.open_to_read(&name)?.size()).sum()
}

fn verify_log(
    disk: &dyn Disk,
    identity: Identity,
    snapshots: Vec<(Position, u64)>,
    progress: &mut dyn FnMut(u64),
) -> Result<Verified, FolderError> {
    let config = WalConfig {
        owner: identity.incarnation,
        segment_bytes: SEGMENT_BYTES_DEFAULT,
        if_missing: if identity.founding.is_empty() { IfMissing::Create } else { IfMissing::Refuse },
        snapshot: snapshots.last().map_or(Position::ZERO, |(position, _)| *position),
        tail_bytes: u64::MAX,
    };
    let recovered = read_log(disk, &config, progress)?;
    let (outcome, entries): (_, &[Entry]) =
        recovered.as_ref().map_or((Outcome::Clean, &[]), |log| (log.outcome, &log.entries));
    let entries = entries.first().map(|first| (first.position, entries.len()));
    Ok(Verified { identity, snapshots, entries, outcome })
}
