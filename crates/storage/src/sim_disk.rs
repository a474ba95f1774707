//! A disk in memory that forgets as real ones do, all of it drawn from seeds. Knows nothing of what is
//! stored.
//!
//! What is written is readable at once and durable after a sync. Until then each 512-byte sector lives on its
//! own: after a power cut it holds its synced content, the newest, or any content it had in between. Names of
//! files behave alike until the folder is synced. A failed sync drops what it did not write: still readable,
//! never durable unless it is written again.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, DiskError, DiskFile, DiskOperation, FolderLock};
use crate::sim_file::{Draw, SimFile, Survival};

/// What an unlimited disk says is free.
const FREE_BYTES_UNLIMITED: u64 = 1 << 50;

/// A data folder in memory. A clone is another handle of the same folder, so that it survives its node.
///
/// Operations that change something are counted: create, write, sync, remove, rename, sync of the folder.
#[derive(Clone, Default)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

/// A mistake that a log could make, put back: the disk behaves as if storage had made it. For those who prove
/// that they would find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskBug {
    /// Files are not synced where they should be: a promise before its sync, a segment rotated without one.
    SkipsFileSyncs,
    /// The folder is not synced after a file is made or renamed.
    SkipsFolderSyncs,
    /// A failed sync is taken for done.
    HidesSyncErrors,
    /// What is cut off, or was used before, is not overwritten with zeros.
    ForgetsZeros,
    /// What recovery reads is not written anew, so what the process before left in the cache stays there.
    TrustsWhatItReads,
}

#[derive(Clone, Default)]
struct State {
    files: BTreeMap<u64, SimFile>,
    /// How many handles of this life each open file has: it lives as long as they, whatever its name does.
    handles: BTreeMap<u64, u32>,
    /// Files that may have lost their last durable name.
    unnamed: BTreeSet<u64>,
    next_file: u64,
    names: BTreeMap<String, u64>,
    synced_names: BTreeMap<String, u64>,
    unsynced_names: Vec<NameChange>,
    operations: u64,
    capacity_bytes: Option<u64>,
    locked: bool,
    /// Handles of an earlier life are dead.
    life: u64,
    crashed: bool,
    crash_at: Option<(u64, u64)>,
    fail_at: Option<u64>,
    fail_next_sync: bool,
    bug: Option<DiskBug>,
}

#[derive(Clone)]
enum NameChange {
    Set(String, u64),
    Removed(String),
    Renamed(String, String, u64),
}

/// How an operation ends.
enum Fate {
    Done,
    Failed,
    /// Cut in its middle; the process is dead.
    Cut(Draw),
}

impl SimDisk {
    /// An empty folder, without limit or faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Operations so far that changed something.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Cuts the operation of this number (the first is 1) in its middle: `seed` draws how much of it takes
    /// place. It and all after it fail until [`SimDisk::crash_process`] or [`SimDisk::crash_power`].
    pub fn crash_at(&self, operation: u64, seed: u64) {
        self.state().crash_at = Some((operation, seed));
    }

    /// Whether the crash of [`SimDisk::crash_at`] has struck.
    pub fn is_crashed(&self) -> bool {
        self.state().crashed
    }

    /// Lets the operation of this number (the first is 1) fail once; a sync drops data then.
    pub fn fail_at(&self, operation: u64) {
        self.state().fail_at = Some(operation);
    }

    /// Lets the next sync of a file fail, once; the cache drops data then.
    pub fn fail_next_sync(&self) {
        self.state().fail_next_sync = true;
    }

    /// From now on the disk behaves as if storage had this bug.
    pub fn put_back(&self, bug: DiskBug) {
        self.state().bug = Some(bug);
    }

    /// Limits the bytes of all files together.
    pub fn set_capacity_bytes(&self, capacity_bytes: Option<u64>) {
        self.state().capacity_bytes = capacity_bytes;
    }

    /// The process dies: its handles and its lock with it. Unsynced bytes stay readable, and can be lost
    /// later.
    pub fn crash_process(&self) {
        let mut state = self.state();
        state.begin_life();
        if state.has(DiskBug::TrustsWhatItReads) {
            state.files.values_mut().for_each(SimFile::leave_in_cache);
        }
    }

    /// The power fails: of what was not synced, a subset drawn from `seed` survives. Seeds 0 and 1 are the
    /// extremes: nothing, everything.
    pub fn crash_power(&self, seed: u64) {
        self.state().crash_power(seed);
    }

    /// A copy with a life of its own, unsynced content and all.
    pub fn fork(&self) -> Self {
        let mut state = self.state().clone();
        state.begin_life();
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// A copy as it would be after a power cut that takes all it can: only what was synced.
    pub fn durable_image(&self) -> Self {
        let image = self.fork();
        image.crash_power(0);
        image
    }

    /// The content of a file as it reads now.
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state();
        state.names.get(name).and_then(|file| state.files.get(file)).map(|file| file.live.clone())
    }

    /// How many files take memory: those with a name, and those without that are open or may come back.
    pub fn files(&self) -> usize {
        self.state().files.len()
    }

    /// The names of all files, in order.
    pub fn names(&self) -> Vec<String> {
        self.state().names.keys().cloned().collect()
    }

    /// Rot: turns one bit of what is on the medium and of what is read. Returns whether there is such a bit.
    pub fn flip_bit(&self, name: &str, offset: u64, bit: u8) -> bool {
        let mut state = self.state();
        let Some(file) = state.named(name) else { return false };
        let Ok(offset) = usize::try_from(offset) else { return false };
        file.flip_bit(offset, bit % 8)
    }

    /// Puts a file there as if it had always been: for damaged, used or foreign content in tests. `None`
    /// removes it.
    pub fn plant(&self, name: &str, content: Option<Vec<u8>>) {
        let mut state = self.state();
        if let Some(live) = content {
            let id = state.next_file;
            state.next_file += 1;
            state.files.insert(id, SimFile::synced(live));
            state.names.insert(name.to_owned(), id);
            state.synced_names.insert(name.to_owned(), id);
        } else {
            state.names.remove(name);
            state.synced_names.remove(name);
        }
    }

    /// Bytes of all files together.
    pub fn used_bytes(&self) -> u64 {
        self.state().used_bytes()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, name: &str, state: &mut State) -> Box<dyn DiskFile> {
        let (file, life) = (state.names[name], state.life);
        *state.handles.entry(file).or_default() += 1;
        Box::new(SimHandle { disk: self.clone(), name: name.to_owned(), file, life })
    }
}

impl Disk for SimDisk {
    fn create(&self, name: &str) -> Result<Box<dyn DiskFile>, DiskError> {
        let mut state = self.state();
        let error = |kind: io::Error| DiskError::new(DiskOperation::Create, name, kind);
        let fate = state.next_fate().map_err(error)?;
        if state.names.contains_key(name) {
            return Err(error(io::ErrorKind::AlreadyExists.into()));
        }
        if fate.takes_place() {
            let id = state.next_file;
            state.next_file += 1;
            state.files.insert(id, SimFile::default());
            state.change_name(NameChange::Set(name.to_owned(), id));
        }
        fate.result().map_err(error)?;
        Ok(self.handle(name, &mut state))
    }

    fn open(&self, name: &str) -> Result<Box<dyn DiskFile>, DiskError> {
        let mut state = self.state();
        let error = |source: io::Error| DiskError::new(DiskOperation::Open, name, source);
        state.check_alive().map_err(error)?;
        if !state.names.contains_key(name) {
            return Err(error(io::ErrorKind::NotFound.into()));
        }
        Ok(self.handle(name, &mut state))
    }

    fn exists(&self, name: &str) -> Result<bool, DiskError> {
        let state = self.state();
        state.check_alive().map_err(|source| DiskError::new(DiskOperation::Open, name, source))?;
        Ok(state.names.contains_key(name))
    }

    fn list(&self) -> Result<Vec<String>, DiskError> {
        let state = self.state();
        state.check_alive().map_err(|source| DiskError::folder(DiskOperation::List, source))?;
        Ok(state.names.keys().cloned().collect())
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        let mut state = self.state();
        let error = |source: io::Error| DiskError::new(DiskOperation::Remove, name, source);
        let fate = state.next_fate().map_err(error)?;
        if !state.names.contains_key(name) {
            return Err(error(io::ErrorKind::NotFound.into()));
        }
        if fate.takes_place() {
            state.change_name(NameChange::Removed(name.to_owned()));
        }
        fate.result().map_err(error)
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        let mut state = self.state();
        let error = |source: io::Error| DiskError::new(DiskOperation::Rename, from, source);
        let fate = state.next_fate().map_err(error)?;
        let file = *state.names.get(from).ok_or_else(|| error(io::ErrorKind::NotFound.into()))?;
        if fate.takes_place() {
            state.change_name(NameChange::Renamed(from.to_owned(), to.to_owned(), file));
        }
        fate.result().map_err(error)
    }

    fn sync_folder(&self) -> Result<(), DiskError> {
        let mut state = self.state();
        let error = |source: io::Error| DiskError::folder(DiskOperation::SyncFolder, source);
        let fate = state.next_fate().map_err(error)?;
        if matches!(fate, Fate::Done) && !state.has(DiskBug::SkipsFolderSyncs) {
            state.sync_names();
        }
        fate.result().map_err(error)
    }

    fn lock(&self) -> Result<Box<dyn FolderLock>, DiskError> {
        let mut state = self.state();
        let error = |source: io::Error| DiskError::folder(DiskOperation::Lock, source);
        state.check_alive().map_err(error)?;
        if state.locked {
            return Err(error(io::ErrorKind::WouldBlock.into()));
        }
        state.locked = true;
        Ok(Box::new(SimLock { disk: self.clone(), life: state.life }))
    }

    fn free_bytes(&self) -> Result<u64, DiskError> {
        let state = self.state();
        state.check_alive().map_err(|source| DiskError::folder(DiskOperation::FreeBytes, source))?;
        Ok(state.free_bytes())
    }
}

struct SimLock {
    disk: SimDisk,
    life: u64,
}

impl FolderLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.life == self.life {
            state.locked = false;
        }
    }
}

struct SimHandle {
    disk: SimDisk,
    name: String,
    file: u64,
    life: u64,
}

impl Drop for SimHandle {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.life == self.life
            && let Some(handles) = state.handles.get_mut(&self.file)
        {
            *handles -= 1;
            if *handles == 0 {
                state.handles.remove(&self.file);
            }
        }
    }
}

impl SimHandle {
    fn error(&self, operation: DiskOperation, source: io::Error) -> DiskError {
        DiskError::new(operation, &self.name, source)
    }

    fn check_life(&self, state: &State, operation: DiskOperation) -> Result<(), DiskError> {
        let source = if state.life == self.life { state.check_alive() } else { Err(crashed()) };
        source.map_err(|source| self.error(operation, source))
    }
}

impl DiskFile for SimHandle {
    fn size(&self) -> Result<u64, DiskError> {
        let mut state = self.disk.state();
        self.check_life(&state, DiskOperation::Read)?;
        Ok(state.file(self.file).live.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let mut state = self.disk.state();
        self.check_life(&state, DiskOperation::Read)?;
        let live = &state.file(self.file).live;
        let part = usize::try_from(offset).ok().and_then(|from| live.get(from..)?.get(..buffer.len()));
        let Some(part) = part else {
            let source = io::ErrorKind::UnexpectedEof.into();
            return Err(self.error(DiskOperation::Read, source).at(offset));
        };
        buffer.copy_from_slice(part);
        Ok(())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let mut state = self.disk.state();
        self.check_life(&state, DiskOperation::Write)?;
        let error = |source: io::Error| self.error(DiskOperation::Write, source).at(offset);
        let mut fate = state.next_fate().map_err(error)?;
        let from = usize::try_from(offset).expect("an offset in memory");
        let size = state.file(self.file).live.len();
        let growth = (from + bytes.len()).saturating_sub(size) as u64;
        if growth > state.free_bytes() {
            return Err(error(io::ErrorKind::StorageFull.into()));
        }
        // A process that dies in a write leaves its beginning; a failed write leaves nothing here.
        let length = match &mut fate {
            Fate::Done => bytes.len(),
            Fate::Failed => 0,
            Fate::Cut(draw) => draw.up_to(bytes.len()),
        };
        let reads_the_same = state.file(self.file).live.get(from..from + length) == Some(&bytes[..length]);
        if !(reads_the_same && state.has(DiskBug::TrustsWhatItReads)) {
            state.file(self.file).write(from, &bytes[..length]);
        }
        fate.result().map_err(error)
    }

    fn write_zeros(&mut self, offset: u64, length: u64) -> Result<(), DiskError> {
        let end = offset + length;
        let mut state = self.disk.state();
        self.check_life(&state, DiskOperation::Write)?;
        let forgotten =
            if state.has(DiskBug::ForgetsZeros) { state.file(self.file).live.len() as u64 } else { 0 };
        drop(state);
        let offset = offset.max(forgotten).min(end);
        self.write_at(offset, &vec![0; usize::try_from(end - offset).expect("a length in memory")])
    }

    fn sync_data(&mut self) -> Result<(), DiskError> {
        let mut state = self.disk.state();
        self.check_life(&state, DiskOperation::Sync)?;
        let error = |source: io::Error| self.error(DiskOperation::Sync, source);
        let mut fate = state.next_fate().map_err(error)?;
        if matches!(fate, Fate::Done) && state.fail_next_sync {
            state.fail_next_sync = false;
            fate = Fate::Failed;
        }
        let operation = state.operations;
        match &fate {
            Fate::Done if state.has(DiskBug::SkipsFileSyncs) => {}
            Fate::Done => state.file(self.file).sync(),
            Fate::Failed => state.file(self.file).drop_unsynced(&mut Draw::new(operation)),
            // Whatever subset a cut sync wrote, a later power cut draws anew.
            Fate::Cut(_) => {}
        }
        if matches!(fate, Fate::Failed) && state.has(DiskBug::HidesSyncErrors) {
            return Ok(());
        }
        fate.result().map_err(error)
    }
}

impl State {
    fn next_fate(&mut self) -> Result<Fate, io::Error> {
        self.check_alive()?;
        self.operations += 1;
        if let Some((operation, seed)) = self.crash_at
            && operation == self.operations
        {
            self.crashed = true;
            return Ok(Fate::Cut(Draw::new(seed)));
        }
        if self.fail_at == Some(self.operations) {
            return Ok(Fate::Failed);
        }
        Ok(Fate::Done)
    }

    fn has(&self, bug: DiskBug) -> bool {
        self.bug == Some(bug)
    }

    fn check_alive(&self) -> Result<(), io::Error> {
        if self.crashed { Err(crashed()) } else { Ok(()) }
    }

    fn file(&mut self, id: u64) -> &mut SimFile {
        self.files.get_mut(&id).expect("files live as long as their handles")
    }

    fn named(&mut self, name: &str) -> Option<&mut SimFile> {
        let id = self.names.get(name)?;
        self.files.get_mut(id)
    }

    fn used_bytes(&self) -> u64 {
        self.names.values().filter_map(|id| self.files.get(id)).map(|file| file.live.len() as u64).sum()
    }

    fn free_bytes(&self) -> u64 {
        // A run of the simulator asks at every write, of hundreds of files, and mostly has no limit.
        let Some(capacity_bytes) = self.capacity_bytes else { return FREE_BYTES_UNLIMITED };
        capacity_bytes.saturating_sub(self.used_bytes())
    }

    fn change_name(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.unsynced_names.push(change);
    }

    /// A folder may hold hundreds of segments, so only what has changed is looked at.
    fn sync_names(&mut self) {
        let State { files, handles, unnamed, names, synced_names, unsynced_names, .. } = self;
        unnamed.extend(unsynced_names.iter().filter_map(NameChange::file));
        for name in unsynced_names.drain(..).flat_map(NameChange::into_names) {
            let before = match names.get(&name) {
                Some(file) => synced_names.insert(name, *file),
                None => synced_names.remove(&name),
            };
            unnamed.extend(before);
        }
        unnamed.retain(|file| !synced_names.values().any(|named| named == file));
        // What has neither a durable name nor a handle is gone for ever.
        unnamed.retain(|file| {
            let is_open = handles.contains_key(file);
            if !is_open {
                files.remove(file);
            }
            is_open
        });
    }

    fn begin_life(&mut self) {
        self.life += 1;
        self.handles.clear();
        self.crashed = false;
        self.crash_at = None;
        self.fail_at = None;
        self.fail_next_sync = false;
        self.locked = false;
    }

    fn crash_power(&mut self, seed: u64) {
        self.begin_life();
        let mut draw = Draw::new(seed);
        let survival = Survival::draw(seed, &mut draw);
        let mut names = std::mem::take(&mut self.synced_names);
        for change in self.unsynced_names.drain(..) {
            if survival.survives(&mut draw) {
                change.apply(&mut names);
            }
        }
        let named: BTreeSet<u64> = names.values().copied().collect();
        self.files.retain(|id, _| named.contains(id));
        self.unnamed.clear();
        self.names = names.clone();
        self.synced_names = names;
        for file in self.files.values_mut() {
            file.crash_power(survival, &mut draw);
        }
    }
}

impl NameChange {
    /// The file that gets a name.
    fn file(&self) -> Option<u64> {
        match self {
            Self::Set(_, file) | Self::Renamed(_, _, file) => Some(*file),
            Self::Removed(_) => None,
        }
    }

    fn into_names(self) -> impl Iterator<Item = String> {
        let (name, other) = match self {
            Self::Set(name, _) | Self::Removed(name) => (name, None),
            Self::Renamed(from, to, _) => (from, Some(to)),
        };
        std::iter::once(name).chain(other)
    }

    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            Self::Set(name, file) => {
                names.insert(name.clone(), *file);
            }
            Self::Removed(name) => {
                names.remove(name);
            }
            Self::Renamed(from, to, file) => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
        }
    }
}

impl Fate {
    /// For operations that happen whole or not at all.
    fn takes_place(&self) -> bool {
        match self {
            Self::Done => true,
            Self::Failed => false,
            Self::Cut(draw) => draw.clone().one_in(2),
        }
    }

    fn result(self) -> Result<(), io::Error> {
        match self {
            Self::Done => Ok(()),
            Self::Failed => Err(io::Error::other("input/output error (injected)")),
            Self::Cut(_) => Err(crashed()),
        }
    }
}

fn crashed() -> io::Error {
    io::Error::other("the simulated process has crashed")
}
