//! What is left when a majority is gone for good: reads the folder of a member without changing it, and makes of it the
//! folder of another cluster, with this member alone. Knows nothing of what the state is, nor of who has agreed to that.
//!
//! The new folder is made aside, under names that mean nothing, synced, and read again; then a list of the old files gets
//! the name [`RECOVERING_FILE`]. Before that instant the folder is the old one, behind it the new one: what is left to do
//! is to rename, the old files away and the new ones into their places, and every start does that first.

mod plan;

use std::sync::Arc;

use quorate_raft::{Entry, HardState, Position};

use crate::aside::Aside;
use crate::disk::{Disk, DiskError, FolderLock, LOCK_FILE};
use crate::folder::{FolderError, check_origin, check_restored};
use crate::identity::{self, ClusterId, Identity, Incarnation, Member};
use crate::recovery::Outcome;
use crate::segment::segments;
use crate::snapshot::{self, LoadState, SnapshotError, SnapshotFile};
use crate::starts::Starts;
use crate::verify;
use crate::wal::{IfMissing, OpenError, SEGMENT_BYTES_DEFAULT, Wal, WalConfig, read_log};
use plan::Plan;

/// A file that is there as long as old and new files change places.
pub const RECOVERING_FILE: &str = "recovering";
/// Where that is written before it takes its name.
const RECOVERING_ASIDE_FILE: &str = "recovering.new";
/// Begins the names of new files. Without a file [`RECOVERING_FILE`] they mean nothing.
pub(crate) const NEW_PREFIX: &str = "recovered-";
/// Begins the names of files that a recovery has put aside; the old incarnation follows.
const OLD_PREFIX: &str = "before-";
/// Bytes of the new log's first segment, which is left early.
const SEGMENT_BYTES: u64 = 1 << 20;

/// Why a folder was not made another cluster's.
#[derive(Debug, thiserror::Error)]
pub enum SurvivorError {
    /// See [`FolderError`]: no server would start on it either.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// It is not a server's.
    #[error("it is empty: no server was ever started on it")]
    Empty,
    /// It has no part in any cluster.
    #[error(
        "its server was never a member of a founded cluster: there is nothing in it to recover; start it with the members \
         it waits for, or remove it and begin anew"
    )]
    NotFounded,
    /// A founded one without a single entry.
    #[error(
        "its log holds nothing, and there is no snapshot: there is nothing in it to recover; remove it and begin anew"
    )]
    Nothing,
}

impl From<DiskError> for SurvivorError {
    fn from(error: DiskError) -> Self {
        Self::Folder(error.into())
    }
}

impl From<SnapshotError> for SurvivorError {
    fn from(error: SnapshotError) -> Self {
        Self::Folder(error.into())
    }
}

impl From<OpenError> for SurvivorError {
    fn from(error: OpenError) -> Self {
        Self::Folder(error.into())
    }
}

/// What a folder is.
pub enum Found {
    /// That of a member, all of it as it was written.
    Survivor(Box<Survivor>),
    /// One whose recovery was decided, and is not finished.
    Unfinished(Unfinished),
}

/// The folder of a member, read and locked; unchanged.
pub struct Survivor {
    disk: Arc<dyn Disk>,
    lock: Box<dyn FolderLock>,
    /// Whose it is.
    pub identity: Identity,
    /// The highest term it knows, and its vote.
    pub hard_state: HardState,
    /// Its newest snapshot; (0, 0) if it has none.
    pub snapshot: Position,
    /// All that its log holds behind that, committed or not.
    pub entries: Vec<Entry>,
    /// How the log ends.
    pub outcome: Outcome,
}

/// A folder whose recovery was decided.
pub struct Unfinished {
    disk: Arc<dyn Disk>,
    lock: Box<dyn FolderLock>,
}

/// A folder of the new cluster.
pub struct Recovered {
    /// Whose it is now.
    pub identity: Identity,
    /// Begins the names of all old files, which may be deleted.
    pub old_files: String,
    /// Nobody else has the folder as long as this lives.
    pub lock: Box<dyn FolderLock>,
}

/// Reads the folder, every byte that counts, and changes nothing. `load` takes in the state of its newest snapshot.
/// `progress` hears how many of the bytes are done.
///
/// # Errors
/// If a server runs on it, or would refuse it; if any of its snapshots is damaged; if there is nothing to recover.
pub fn open(
    disk: Arc<dyn Disk>,
    load: &mut LoadState<'_>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Found, SurvivorError> {
    let lock = disk.lock().map_err(|error| match error.is_in_use() {
        true => FolderError::InUse,
        false => FolderError::Disk(error),
    })?;
    check_restored(&*disk)?;
    if disk.exists(RECOVERING_FILE)? {
        return Ok(Found::Unfinished(Unfinished { disk, lock }));
    }
    let positions = snapshot::list(&*disk)?;
    let numbers = segments(&*disk)?;
    let Some(identity) = identity::load_any(&*disk).map_err(FolderError::from)? else {
        let is_empty = positions.is_empty() && numbers.is_empty();
        return Err(if is_empty { SurvivorError::Empty } else { FolderError::IdentityMissing.into() });
    };
    if identity.founding.is_empty() {
        return Err(SurvivorError::NotFounded);
    }
    Starts::load(&*disk).map_err(FolderError::from)?;
    let total = verify::bytes_to_read(&*disk, &positions, &numbers)?;
    let mut done = 0;
    if let Some((_, older)) = positions.split_last() {
        for position in older {
            let file = snapshot::open_of(&*disk, &identity, *position)?;
            snapshot::verify_of(&file, &identity, &mut |bytes, _| progress(done + bytes, total))?;
            done += file.bytes();
        }
    }
    let newest = snapshot::newest(&*disk, &identity, load, &mut |bytes| progress(done + bytes, total));
    let newest = newest.map_err(FolderError::from)?;
    check_origin(&identity, newest.is_some())?;
    done += newest.as_ref().map_or(0, SnapshotFile::bytes);
    let snapshot = newest.map_or(Position::ZERO, |file| file.position());
    let config = WalConfig {
        owner: identity.incarnation,
        segment_bytes: SEGMENT_BYTES_DEFAULT,
        if_missing: IfMissing::Refuse,
        snapshot,
        tail_bytes: 0,
    };
    let log = read_log(&*disk, &config, &mut |bytes| {
        done += bytes;
        progress(done, total);
    })?;
    let log = log.expect("a log that must be there is there");
    let mut entries = log.entries;
    match log.holds_snapshot {
        true => entries.retain(|entry| entry.position.index > snapshot.index),
        // A start drops such a log: what the snapshot stands for is behind it.
        false => entries.clear(),
    }
    if snapshot == Position::ZERO && entries.is_empty() {
        return Err(SurvivorError::Nothing);
    }
    let (hard_state, outcome) = (log.hard_state, log.outcome);
    Ok(Found::Survivor(Box::new(Survivor { disk, lock, identity, hard_state, snapshot, entries, outcome })))
}

impl Survivor {
    /// The position that the new cluster begins with.
    pub fn last(&self) -> Position {
        self.entries.last().map_or(self.snapshot, |entry| entry.position)
    }

    /// Makes the folder that of a new cluster, whose only member is this node with this incarnation, drawn at random.
    /// `write` writes its snapshot of this cluster and position, to its end. Durable when it returns.
    ///
    /// # Errors
    /// If the disk failed, or has no room: then the folder may be the old one or the new one, and either is whole; this can
    /// be done again.
    pub fn found_anew(
        self,
        incarnation: Incarnation,
        write: &mut WriteState<'_>,
    ) -> Result<Recovered, SurvivorError> {
        let (disk, last) = (&self.disk, self.last());
        clean(&**disk)?;
        match self.make(incarnation, last, write).and_then(|identity| Ok((identity, self.decide()?))) {
            Ok((identity, plan)) => {
                let old_files = carry_out(&**disk, &plan)?;
                Ok(Recovered { identity, old_files, lock: self.lock })
            }
            Err(error) => {
                // What is half made must not take the room that is missing; unless it is decided, and the folder is that. The
                // error is told, whatever comes of this.
                if matches!(disk.exists(RECOVERING_FILE), Ok(false)) {
                    let _ = clean(&**disk);
                }
                Err(error)
            }
        }
    }

    /// From here on the folder is the new one.
    fn decide(&self) -> Result<Plan, SurvivorError> {
        let names = self.disk.list()?.into_iter().filter(|name| !is_apart(name)).collect();
        let plan = Plan { before: self.identity.incarnation, names };
        plan.store(&*self.disk)?;
        Ok(plan)
    }

    /// The new folder, aside; durable, and read again.
    fn make(
        &self,
        incarnation: Incarnation,
        last: Position,
        write: &mut WriteState<'_>,
    ) -> Result<Identity, SurvivorError> {
        let aside: Arc<dyn Disk> = Arc::new(Aside::new(Arc::clone(&self.disk), NEW_PREFIX));
        let node = self.identity.node;
        let identity = Identity::new(node, incarnation).founded(&[Member { id: node, incarnation }]);
        let cluster = identity.cluster().expect("it was founded");
        write(&aside, cluster, last)?;
        let config = WalConfig {
            owner: incarnation,
            segment_bytes: SEGMENT_BYTES,
            if_missing: IfMissing::Create,
            snapshot: last,
            tail_bytes: 0,
        };
        drop(Wal::open(Arc::clone(&aside), &config)?);
        identity::store(&*aside, &identity)?;
        let verified = verify::folder(&*aside, &mut |_, _| {})?;
        let verified = verified.map(|found| (found.identity, found.snapshots.last().map(|(at, _)| *at)));
        assert_eq!(verified, Some((identity.clone(), Some(last))), "what was written is what is read");
        Ok(identity)
    }
}

/// Writes the snapshot of a state of this cluster at this position.
pub type WriteState<'a> =
    dyn FnMut(&Arc<dyn Disk>, ClusterId, Position) -> Result<SnapshotFile, SnapshotError> + 'a;

impl Unfinished {
    /// Finishes it.
    ///
    /// # Errors
    /// If the disk failed: this can be done again.
    pub fn finish(self) -> Result<Recovered, SurvivorError> {
        let old_files = go_on(&*self.disk)?.expect("nobody else has the folder");
        let identity = identity::load_any(&*self.disk).map_err(FolderError::from)?;
        let identity = identity.ok_or(FolderError::IdentityMissing)?;
        Ok(Recovered { identity, old_files, lock: self.lock })
    }
}

/// Before anything of the folder is read: goes on with a recovery that was decided, and says how the old files' names begin
/// now.
pub(crate) fn go_on(disk: &dyn Disk) -> Result<Option<String>, FolderError> {
    match Plan::load(disk)? {
        Some(plan) => Ok(Some(carry_out(disk, &plan)?)),
        None => Ok(None),
    }
}

/// Removes what a recovery that was not decided has left.
pub(crate) fn clean(disk: &dyn Disk) -> Result<(), DiskError> {
    let names = disk.list()?;
    let left_over =
        names.iter().filter(|name| name.starts_with(NEW_PREFIX) || *name == RECOVERING_ASIDE_FILE);
    left_over.into_iter().try_for_each(|name| disk.remove(name))
}

/// The new files take the places of all that are there: decided at once, and carried out.
pub(crate) fn change_places(disk: &dyn Disk, before: Incarnation) -> Result<String, DiskError> {
    let names = disk.list()?.into_iter().filter(|name| !is_apart(name)).collect();
    let plan = Plan { before, names };
    plan.store(disk)?;
    carry_out(disk, &plan)
}

/// Names that no recovery puts aside.
fn is_apart(name: &str) -> bool {
    let files = [LOCK_FILE, RECOVERING_FILE, RECOVERING_ASIDE_FILE];
    files.contains(&name) || name.starts_with(NEW_PREFIX) || name.starts_with(OLD_PREFIX)
}

fn carry_out(disk: &dyn Disk, plan: &Plan) -> Result<String, DiskError> {
    // That the plan has its name may be the cache's only, and a power cut must not take it from under half a change.
    disk.sync_folder()?;
    let prefix = format!("{OLD_PREFIX}{}-", plan.before);
    for name in &plan.names {
        let old = format!("{prefix}{name}");
        // Or it was done, and what has the name is a new file.
        if !disk.exists(&old)? && disk.exists(name)? {
            disk.rename(name, &old)?;
        }
    }
    // All old names before the first new one: each of them tells that its name is free.
    disk.sync_folder()?;
    for name in disk.list()? {
        if let Some(place) = name.strip_prefix(NEW_PREFIX) {
            disk.rename(&name, place)?;
        }
    }
    disk.sync_folder()?;
    disk.remove(RECOVERING_FILE)?;
    // Or it comes back, when the old files are deleted and what has their names is new.
    disk.sync_folder()?;
    Ok(prefix)
}
