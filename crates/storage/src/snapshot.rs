//! Snapshot files: the state at a position, as opaque blocks under checksums, that take the place of the log up to it.
//! Knows nothing of what the blocks hold, nor when a snapshot is due.
//!
//! A snapshot is written aside, synced, renamed, and the folder synced; only then may anything rest on it. The newest
//! two are kept. A snapshot of the folder that is damaged is never passed over for an older one: what the log had up to
//! it may be gone.

mod format;
mod reader;
mod receiver;
mod stream_check;
mod writer;

use std::sync::Arc;

use bytes::Bytes;
use quorate_raft::{Index, Position, Term};

use crate::disk::{Disk, DiskError, DiskFile};
use crate::identity::{ClusterId, Identity};
use crate::origin::Origin;
use crate::recovery::snapshot_lost;
use crate::sabotage::Bug;
pub use format::{BLOCK_BYTES_MAX, SNAPSHOT_FORMAT, is_possible};
use format::{Fault, HEADER_BYTES};
pub use reader::{SnapshotCheck, SnapshotReader};
pub use receiver::SnapshotReceiver;
pub use stream_check::StreamCheck;
pub use writer::SnapshotWriter;

/// Complete snapshots that are kept: the newest, and the one before it for followers that are in the middle of it.
pub const SNAPSHOTS_KEPT: usize = 2;
/// Bytes that are written at most before they are synced, so that the last sync is short and a sync of the log waits behind
/// no more than this.
pub const SYNC_STEP_BYTES: u64 = 4 << 20;

/// Why a snapshot was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The disk failed. While a snapshot is written nothing rests on it yet: if the disk is full it may be abandoned.
    /// After any other failure end the process: that of a sync is told only once, and may concern others.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Of a file in the folder: do not start on it. Of one that is received: ask
    /// [`SnapshotReceiver::received`] where it stands now, and go on from there.
    #[error(
        "{file} is not readable at offset {offset} ({what}): the snapshot of index {} is damaged. {}",
        .position.index.0, snapshot_lost()
    )]
    Damaged {
        /// The file.
        file: String,
        /// Where in it.
        offset: u64,
        /// What it is a snapshot of.
        position: Position,
        /// What is wrong.
        what: &'static str,
    },
    /// Start a newer program.
    #[error(
        "{file} has format {found}, and this program reads format {SNAPSHOT_FORMAT}: start a newer version"
    )]
    NewerFormat {
        /// The file.
        file: String,
        /// The version in it.
        found: u32,
    },
    /// Put the right file there.
    #[error(
        "{file} is a snapshot of cluster {found:032x}, and this folder is {}: somebody has copied it here; take it away, \
         put this cluster's own there, and do not start a server before", of(*.expected)
    )]
    Foreign {
        /// The file.
        file: String,
        /// The cluster that it names.
        found: u128,
        /// The folder's; `None` if it is not founded.
        expected: Option<ClusterId>,
    },
    /// Put the right file there.
    #[error(
        "{file} holds the state with the digest {digest:016x}, and this folder was restored from {origin}: put that one \
         there, and do not start a server before"
    )]
    OtherOrigin {
        /// The file.
        file: String,
        /// The digest of its state.
        digest: u64,
        /// What the folder says it began with.
        origin: Origin,
    },
}

/// Takes the state of a snapshot in, by reading all its blocks: that is what verifies it.
pub type LoadState<'a> = dyn FnMut(&mut SnapshotReader<'_>) -> Result<(), StateError> + 'a;

/// Why the state of a snapshot was not taken in.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// See [`SnapshotError`].
    #[error(transparent)]
    File(#[from] SnapshotError),
    /// The file is what was written, and what is in it is no state: whoever loads it says why, and what to do.
    #[error(transparent)]
    Content(Box<dyn std::error::Error + Send + Sync>),
}

impl From<DiskError> for StateError {
    fn from(error: DiskError) -> Self {
        Self::File(error.into())
    }
}

fn of(cluster: Option<ClusterId>) -> String {
    cluster.map_or_else(|| "of no cluster yet".to_owned(), |cluster| format!("of cluster {cluster}"))
}

impl SnapshotError {
    fn of(fault: Fault, file: &str, walk: &format::Walk) -> Self {
        let file = file.to_owned();
        match fault {
            Fault::Damaged(what) => {
                Self::Damaged { file, offset: walk.at(), position: walk.position(), what }
            }
            Fault::Newer { found } => Self::NewerFormat { file, found },
            Fault::Foreign { found } => Self::Foreign { file, found, expected: Some(walk.cluster()) },
        }
    }
}

/// A complete snapshot, open. Many may read it at once, and it stays readable when its name is removed.
pub struct SnapshotFile {
    cluster: ClusterId,
    position: Position,
    name: String,
    bytes: u64,
    file: Box<dyn DiskFile>,
}

impl SnapshotFile {
    /// Opens a complete snapshot of the folder; verifies nothing.
    pub fn open(disk: &dyn Disk, cluster: ClusterId, position: Position) -> Result<Self, DiskError> {
        Self::open_as(disk, cluster, position, file_name(position))
    }

    /// Opens a file that says itself what it is a snapshot of, unless its name does; verifies nothing. What it says is
    /// under its checksums, so that to verify it is to verify that too.
    pub fn open_named(disk: &dyn Disk, name: &str) -> Result<Self, DiskError> {
        let file = disk.open_to_read(name)?;
        let bytes = file.size()?;
        let mut header = [0; HEADER_BYTES];
        let length = usize::try_from(bytes).unwrap_or(HEADER_BYTES).min(HEADER_BYTES);
        file.read_at(0, &mut header[..length])?;
        let (cluster, claimed) = format::claims(&header);
        let position = position_in(name, file_name).unwrap_or(claimed);
        Ok(Self { cluster, position, name: name.to_owned(), bytes, file })
    }

    /// Whose state it is.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    fn open_as(
        disk: &dyn Disk,
        cluster: ClusterId,
        position: Position,
        name: String,
    ) -> Result<Self, DiskError> {
        let file = disk.open_to_read(&name)?;
        let bytes = file.size()?;
        Ok(Self { cluster, position, name, bytes, file })
    }

    /// What it is a snapshot of.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Its length.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Its name in the data folder.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// At most `length` bytes from `offset` on, fewer only at its end: to be sent to another server as they are.
    pub fn read_at(&self, offset: u64, length: usize) -> Result<Bytes, DiskError> {
        let left = usize::try_from(self.bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length.min(left)];
        if !bytes.is_empty() {
            self.file.read_at(offset, &mut bytes)?;
        }
        Ok(bytes.into())
    }

    /// Reads it from its beginning, and verifies what it reads.
    pub fn reader(&self) -> SnapshotReader<'_> {
        SnapshotReader::new(self, None)
    }

    /// The same, for who waits: `progress` hears how many of its bytes are read and verified.
    pub fn reader_reporting<'a>(&'a self, progress: &'a mut dyn FnMut(u64)) -> SnapshotReader<'a> {
        SnapshotReader::new(self, Some(progress))
    }

    /// Verifies all of it and returns the digest of its state. `progress` hears how many of its bytes are done.
    pub fn verify(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<u64, SnapshotError> {
        let mut report = |done| progress(done, self.bytes);
        let mut reader = self.reader_reporting(&mut report);
        while reader.block()?.is_some() {}
        Ok(reader.digest().expect("the last block was read"))
    }
}

/// The name of a complete snapshot: `snapshot-`, the index with 20 digits, `-`, the term, `.snap`.
pub fn file_name(position: Position) -> String {
    format!("{}.snap", stem(position))
}

/// The name of one that is being taken.
fn taken_name(position: Position) -> String {
    format!("{}.tmp", stem(position))
}

/// The name of one that is being received.
fn received_name(position: Position) -> String {
    format!("{}.part.tmp", stem(position))
}

fn stem(position: Position) -> String {
    format!("snapshot-{:020}-{}", position.index.0, position.term.0)
}

/// The position in a name, if it is one that `name_of` gives.
fn position_in(name: &str, name_of: fn(Position) -> String) -> Option<Position> {
    let (index, rest) = name.strip_prefix("snapshot-")?.split_once('-')?;
    let (term, _) = rest.split_once('.')?;
    let position = Position::new(Term(term.parse().ok()?), Index(index.parse().ok()?));
    (is_possible(position) && name_of(position) == name).then_some(position)
}

/// The complete snapshots in the folder, the oldest first. Says nothing of what is in them.
pub fn list(disk: &dyn Disk) -> Result<Vec<Position>, DiskError> {
    positions(disk, file_name)
}

fn positions(disk: &dyn Disk, name_of: fn(Position) -> String) -> Result<Vec<Position>, DiskError> {
    let mut positions: Vec<_> = disk.list()?.iter().filter_map(|name| position_in(name, name_of)).collect();
    positions.sort_unstable_by_key(|position| (position.index, position.term));
    Ok(positions)
}

/// A complete snapshot of the folder of `owner`; verifies nothing yet. It is of its cluster, or the backup that the folder
/// was restored from, as long as no own one has taken its place.
pub(crate) fn open_of(
    disk: &dyn Disk,
    owner: &Identity,
    position: Position,
) -> Result<SnapshotFile, SnapshotError> {
    let file = SnapshotFile::open_named(disk, &file_name(position))?;
    let origin = owner.origin.filter(|origin| origin.position == position).map(|origin| origin.cluster);
    let expected = owner.cluster();
    match origin.filter(|origin| *origin == file.cluster()).or(expected).or(origin) {
        // Where it claims another one, that is told where it is read, behind its checksums.
        Some(cluster) => Ok(SnapshotFile { cluster, ..file }),
        None => {
            let found = file.cluster().get();
            Err(SnapshotError::Foreign { file: file.name, found, expected })
        }
    }
}

/// Verifies all of a complete snapshot of the folder of `owner`.
pub(crate) fn verify_of(
    file: &SnapshotFile,
    owner: &Identity,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), SnapshotError> {
    check_origin(file, owner, file.verify(progress)?)
}

/// A file of another cluster is the one that the folder was restored from: its digest was noted then.
fn check_origin(file: &SnapshotFile, owner: &Identity, digest: u64) -> Result<(), SnapshotError> {
    let is_own = Some(file.cluster) == owner.cluster();
    match owner.origin.filter(|origin| !is_own && origin.digest != digest) {
        None => Ok(()),
        Some(origin) => Err(SnapshotError::OtherOrigin { file: file.name.clone(), digest, origin }),
    }
}

/// The newest complete snapshot of the folder, which `load` has read to its end, and so verified. An older one never takes
/// its place, and is not looked at. `progress` hears how many of its bytes are done.
pub(crate) fn newest(
    disk: &dyn Disk,
    owner: &Identity,
    load: &mut LoadState<'_>,
    progress: &mut dyn FnMut(u64),
) -> Result<Option<SnapshotFile>, StateError> {
    for position in list(disk)?.iter().rev() {
        let file = open_of(disk, owner, *position)?;
        let mut reader = file.reader_reporting(progress);
        match load(&mut reader) {
            Ok(()) => {
                let digest = reader.digest().expect("a snapshot that is loaded was read to its end");
                check_origin(&file, owner, digest)?;
                return Ok(Some(file));
            }
            Err(StateError::File(SnapshotError::Damaged { .. }))
                if Bug::SkipsDamagedSnapshot.is_put_back() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Verifies a complete snapshot of the folder and returns the digest of its state. `progress` hears how many of its
/// bytes are done.
pub fn verify(
    disk: &dyn Disk,
    cluster: ClusterId,
    position: Position,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<u64, SnapshotError> {
    SnapshotFile::open(disk, cluster, position)?.verify(progress)
}

/// Gives the synced file `aside` its name, durably, and removes those that are older than the newest two.
fn complete(
    disk: &Arc<dyn Disk>,
    cluster: ClusterId,
    position: Position,
    aside: &str,
) -> Result<SnapshotFile, SnapshotError> {
    disk.rename(aside, &file_name(position))?;
    if !Bug::NamesSnapshotWithoutSync.is_put_back() {
        // The log that this takes the place of is deleted next: a power cut must not take the name back.
        disk.sync_folder()?;
    }
    // Before it may be the oldest itself.
    let file = SnapshotFile::open(&**disk, cluster, position)?;
    remove_old(&**disk)?;
    Ok(file)
}

/// Removes complete snapshots that are older than the newest two. That is not synced: one that comes back is removed
/// again.
fn remove_old(disk: &dyn Disk) -> Result<(), DiskError> {
    let positions = list(disk)?;
    let old = positions.len().saturating_sub(SNAPSHOTS_KEPT);
    positions[..old].iter().try_for_each(|position| disk.remove(&file_name(*position)))
}

/// At the start: removes what nobody will go on with. One that was being received is kept, if it is newer than all
/// that are complete.
pub(crate) fn clean(disk: &dyn Disk) -> Result<(), DiskError> {
    remove_old(disk)?;
    for position in positions(disk, taken_name)? {
        disk.remove(&taken_name(position))?;
    }
    let newest = list(disk)?.last().map_or(Index::ZERO, |position| position.index);
    let mut received = positions(disk, received_name)?;
    if received.last().is_some_and(|position| position.index > newest) {
        received.pop();
    }
    received.iter().try_for_each(|position| disk.remove(&received_name(*position)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_positions_in_one_spelling() {
        let position = Position::new(Term(7), Index(1234));
        assert_eq!(file_name(position), "snapshot-00000000000000001234-7.snap");
        assert_eq!(taken_name(position), "snapshot-00000000000000001234-7.tmp");
        assert_eq!(received_name(position), "snapshot-00000000000000001234-7.part.tmp");
        let names = [file_name as fn(Position) -> String, taken_name, received_name];
        for (at, name_of) in names.iter().enumerate() {
            for (other, other_name) in names.iter().enumerate() {
                let found = position_in(&name_of(position), *other_name);
                assert_eq!(found, (at == other).then_some(position));
            }
        }
        for other in [
            "snapshot-1234-7.snap",
            "snapshot-00000000000000001234-07.snap",
            "snapshot-00000000000000001234-+7.snap",
            "snapshot-00000000000000001234-7.snap~",
            "snapshot-00000000000000001234-7",
            "snapshot-00000000000000000000-7.snap",
            "snapshot-00000000000000001234-0.snap",
            "snapshot-99999999999999999999-7.snap",
            "snapshot-",
            "log-0000000001",
        ] {
            assert_eq!(position_in(other, file_name), None, "{other}");
        }
    }
}
