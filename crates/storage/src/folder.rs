//! Opens a data folder in the one right order: lock, identity, newest snapshot, log. Knows nothing of founding.

use std::sync::Arc;

use quorate_raft::{NodeId, Position, Restored};

use crate::anew;
use crate::disk::{Disk, DiskError, FolderLock};
use crate::identity::{self, IDENTITY_FILE, Identity, IdentityError, Incarnation};
use crate::origin::Origin;
use crate::record::LogOffset;
use crate::restore::RESTORING_FILE;
use crate::segment::segments;
use crate::snapshot::{self, LoadState, SnapshotError, SnapshotFile, SnapshotReader, StateError};
use crate::starts::{Starts, StartsError};
use crate::survivor::{self, RECOVERING_FILE};
use crate::wal::{IfMissing, OpenError, Wal, WalConfig};

/// How to open a data folder.
#[derive(Clone, Debug)]
pub struct FolderConfig {
    /// The node that is started on it.
    pub node: NodeId,
    /// Drawn at random by the caller, for every start anew: the incarnation of the folder if it is empty, and what names this
    /// start.
    pub fresh_incarnation: Incarnation,
    /// See [`WalConfig::segment_bytes`].
    pub segment_bytes: u64,
    /// See [`WalConfig::tail_bytes`].
    pub tail_bytes: u64,
}

/// An open data folder. Its parts go where they are needed: the log to the thread of the disk.
pub struct Folder {
    /// Whose it is. When founding is done, [`identity::store`] what [`Identity::founded`] says, before the
    /// first vote.
    pub identity: Identity,
    /// What it knows of the starts of others.
    pub starts: Starts,
    /// Its log.
    pub wal: Wal,
    /// What the log held.
    pub restored: Restored,
    /// The newest snapshot, which was read whole: the state at its position, from which the log goes on.
    pub snapshot: Option<SnapshotFile>,
    /// Keep it as long as anything of the folder is used.
    pub lock: Box<dyn FolderLock>,
}

/// Why a data folder was not opened.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Stop the other server, or use another folder.
    #[error(
        "the data folder is in use by another server: stop that one, or give this one a folder of its own"
    )]
    InUse,
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// See [`IdentityError`].
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// See [`StartsError`].
    #[error(transparent)]
    Starts(#[from] StartsError),
    /// There is a log, and nothing that says whose.
    #[error(
        "the data folder holds a log or a snapshot and no file {IDENTITY_FILE}: it is not known any more whose data this \
         is; keep the folder for examination, and do not start a server on it"
    )]
    IdentityMissing,
    /// Restore it again, or take another folder.
    #[error(
        "a restore into this data folder was not finished, and there is no server's data in it: run `quorate restore` on it \
         again, or remove it"
    )]
    RestoreUnfinished,
    /// Start its server, or recover it again.
    #[error(
        "the recovery of this data folder is decided and not finished: start its server, or run `quorate recover` on it \
         again, and it is"
    )]
    RecoveryUnfinished,
    /// Nobody can say which of its files are old.
    #[error(
        "the file {RECOVERING_FILE} is damaged: it is not known any more which files of this data folder are the recovered \
         ones; keep the folder for examination, and do not start a server on it"
    )]
    RecoveryDamaged,
    /// Restore a new folder.
    #[error(
        "this data folder was restored from {origin}, which is not in it any more: restore it anew, in an empty folder"
    )]
    OriginMissing {
        /// What it should begin with.
        origin: Origin,
    },
    /// See [`SnapshotError`].
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// See [`StateError::Content`].
    #[error(transparent)]
    State(Box<dyn std::error::Error + Send + Sync>),
    /// See [`OpenError`].
    #[error(transparent)]
    Log(#[from] OpenError),
}

impl From<StateError> for FolderError {
    fn from(error: StateError) -> Self {
        match error {
            StateError::File(error) => Self::Snapshot(error),
            StateError::Content(error) => Self::State(error),
        }
    }
}

impl FolderError {
    /// Whether what the folder holds is refused, so that no later start on it helps.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Identity(error) => !matches!(error, IdentityError::Disk(_)),
            Self::Starts(error) => !matches!(error, StartsError::Disk(_)),
            Self::Snapshot(error) => !matches!(error, SnapshotError::Disk(_)),
            Self::Log(error) => matches!(error, OpenError::Log(_)),
            Self::IdentityMissing
            | Self::State(_)
            | Self::RestoreUnfinished
            | Self::RecoveryDamaged
            | Self::OriginMissing { .. } => true,
            Self::InUse | Self::Disk(_) | Self::RecoveryUnfinished => false,
        }
    }
}

impl Folder {
    /// Takes the folder, and reads it; an empty one becomes the node's own. The snapshot is verified, and nobody has its
    /// state.
    pub fn open(disk: Arc<dyn Disk>, config: &FolderConfig) -> Result<Self, FolderError> {
        let mut verify = |reader: &mut SnapshotReader<'_>| {
            while reader.block()?.is_some() {}
            Ok(())
        };
        Self::open_loading(disk, config, &mut verify, &mut |_, _| {})
    }

    /// The same, and `load` takes in the state of the newest snapshot, if there is one: it must read it to its end, which
    /// is what verifies it. Where that fails nothing has been changed. `progress` hears how many of the bytes that are
    /// read are done, and how many there are.
    pub fn open_loading(
        disk: Arc<dyn Disk>,
        config: &FolderConfig,
        load: &mut LoadState<'_>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, FolderError> {
        let lock = disk.lock().map_err(|error| match error.is_in_use() {
            true => FolderError::InUse,
            false => FolderError::Disk(error),
        })?;
        check_restored(&*disk)?;
        survivor::go_on(&*disk)?;
        anew::go_on(&disk)?;
        let identity = match identity::load(&*disk, config.node)? {
            Some(identity) => identity,
            None if !segments(&*disk)?.is_empty() || !snapshot::list(&*disk)?.is_empty() => {
                return Err(FolderError::IdentityMissing);
            }
            None => {
                let identity = Identity::new(config.node, config.fresh_incarnation);
                identity::store(&*disk, &identity)?;
                identity
            }
        };
        let starts = Starts::load(&*disk)?;
        // The identity comes before the log, and founding after it: only a folder that has never been able to
        // vote may be without one.
        let if_missing = if identity.founding.is_empty() { IfMissing::Create } else { IfMissing::Refuse };
        let total = bytes_to_read(&*disk)?;
        let mut done = 0;
        // Before the log, which is judged by it; and whole, so that a refusal has changed nothing.
        let snapshot = snapshot::newest(&*disk, &identity, load, &mut |bytes| progress(bytes, total))?;
        check_origin(&identity, snapshot.is_some())?;
        done += snapshot.as_ref().map_or(0, SnapshotFile::bytes);
        let draw = config.fresh_incarnation.0;
        let config = WalConfig {
            owner: identity.incarnation,
            segment_bytes: config.segment_bytes,
            if_missing,
            snapshot: snapshot.as_ref().map_or(Position::ZERO, SnapshotFile::position),
            tail_bytes: config.tail_bytes,
        };
        let names = Arc::clone(&disk);
        let (wal, restored) = Wal::open_reporting(disk, &config, &mut |bytes| {
            done += bytes;
            progress(done, total);
        })?;
        snapshot::clean(&*names)?;
        survivor::clean(&*names)?;
        // Last, so that a refusal has changed nothing; and synced before this start says its first word: a number that a
        // power cut takes back would be given twice.
        let identity = identity.started(draw);
        identity::store_started(&*names, &identity)?;
        Ok(Self { identity, starts, wal, restored, snapshot, lock })
    }
}

/// A folder in the middle of a restore was never served, and must not be.
pub(crate) fn check_restored(disk: &dyn Disk) -> Result<(), FolderError> {
    if disk.exists(RESTORING_FILE)? { Err(FolderError::RestoreUnfinished) } else { Ok(()) }
}

/// A folder that is not founded must have what it was restored from; where it is, its log says what it needs.
pub(crate) fn check_origin(identity: &Identity, has_snapshot: bool) -> Result<(), FolderError> {
    match identity.origin.filter(|_| !has_snapshot && identity.founding.is_empty()) {
        None => Ok(()),
        Some(origin) => Err(FolderError::OriginMissing { origin }),
    }
}

/// The newest snapshot and the log.
fn bytes_to_read(disk: &dyn Disk) -> Result<u64, DiskError> {
    let newest = snapshot::list(disk)?.pop().map(snapshot::file_name);
    let log = segments(disk)?.into_iter().map(|number| LogOffset::new(number, 0).file());
    newest.into_iter().chain(log).map(|name| disk.open(&name)?.size()).sum()
}
