//! The one door to a disk: a data folder with flat names, and files written at offsets. Knows nothing of
//! records, logs or identities; the server carries it out on a real file system, [`crate::SimDisk`] in
//! memory.

use std::fmt;
use std::io;

/// One data folder. All names are flat: no separators, no sub-folders.
///
/// All methods block until done. None may retry an operation that failed, and none may report success before
/// the operating system has: what storage promises rests on these sentences.
pub trait Disk: Send + Sync {
    /// Makes a new, empty file, open for reading and writing; an error of kind
    /// [`io::ErrorKind::AlreadyExists`] if the name is taken. The **name** is durable only after
    /// [`Disk::sync_folder`].
    fn create(&self, name: &str) -> Result<Box<dyn DiskFile>, DiskError>;

    /// Opens an existing file for reading and writing, its content untouched; an error of kind
    /// [`io::ErrorKind::NotFound`] if there is none.
    fn open(&self, name: &str) -> Result<Box<dyn DiskFile>, DiskError>;

    /// The same for reading only, so that it can be done to a file that may not be written to.
    fn open_to_read(&self, name: &str) -> Result<Box<dyn DiskFile>, DiskError> {
        self.open(name)
    }

    /// Whether a file of this name is there.
    fn exists(&self, name: &str) -> Result<bool, DiskError>;

    /// The names of all files in the folder, in any order.
    fn list(&self) -> Result<Vec<String>, DiskError>;

    /// Removes a name. Durable only after [`Disk::sync_folder`].
    fn remove(&self, name: &str) -> Result<(), DiskError>;

    /// Gives `from` the name `to` and replaces what had it, atomically: whoever reads `to` afterwards, also
    /// after a crash, sees the old file or the new one, never neither. Durable only after
    /// [`Disk::sync_folder`]. Content is not synced by it.
    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError>;

    /// Makes all creations, removals and renames so far durable (`fsync` of the folder).
    fn sync_folder(&self) -> Result<(), DiskError>;

    /// Takes the folder for this process alone, for as long as the lock lives; the operating system must
    /// release it when the process ends, however it ends (`flock` on the file [`LOCK_FILE`]). An error of
    /// kind [`io::ErrorKind::WouldBlock`] if another holds it: see [`DiskError::is_in_use`]. Does not wait.
    fn lock(&self) -> Result<Box<dyn FolderLock>, DiskError>;

    /// Bytes that this process can still write to the file system of the folder.
    fn free_bytes(&self) -> Result<u64, DiskError>;
}

/// An open file. Dropping it closes it and syncs nothing.
pub trait DiskFile: Send + Sync {
    /// The length in bytes.
    fn size(&self) -> Result<u64, DiskError>;

    /// Fills `buffer` from `offset` on; an error of kind [`io::ErrorKind::UnexpectedEof`] if the file ends
    /// before.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError>;

    /// Writes all of `bytes` at `offset`; grows the file where it ends before. Durable only after
    /// [`DiskFile::sync_data`]. After an error any part may have been written.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), DiskError>;

    /// Writes `length` zeros at `offset`: real zeros, not a hole and not a mere allocation, because writing
    /// into a hole later changes the file's map and makes each sync of the log slower by half and more.
    fn write_zeros(&mut self, offset: u64, length: u64) -> Result<(), DiskError> {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        let mut at = offset;
        let end = offset + length;
        while at < end {
            let piece = usize::try_from(end - at).unwrap_or(usize::MAX).min(ZEROS.len());
            self.write_at(at, &ZEROS[..piece])?;
            at += piece as u64;
        }
        Ok(())
    }

    /// Makes all that was written so far, and the length, durable (`fdatasync`; on systems where that stops
    /// at the drive's cache, whatever goes through it). After an error the content is unknown and the caller
    /// never tries again: the cache may have dropped what it could not write, and a second sync would say
    /// "done" of nothing.
    fn sync_data(&mut self) -> Result<(), DiskError>;
}

/// The folder is taken as long as this lives.
pub trait FolderLock: Send {}

/// The name of the file that a real disk locks. It stays when the lock is released, and means nothing then.
pub const LOCK_FILE: &str = "lock";

/// Reads a whole file.
pub fn read_file(disk: &dyn Disk, name: &str) -> Result<Vec<u8>, DiskError> {
    let file = disk.open_to_read(name)?;
    let size = file.size()?;
    let size = usize::try_from(size).map_err(|_| {
        let source = io::Error::other("the file is larger than the address space");
        DiskError::new(DiskOperation::Read, name, source)
    })?;
    let mut bytes = vec![0; size];
    file.read_at(0, &mut bytes)?;
    Ok(bytes)
}

/// Gives `name` this content, durable when it returns: written aside, synced, renamed, and the folder synced. After an error
/// the old content or the new one is there.
pub(crate) fn replace_file(
    disk: &dyn Disk,
    name: &str,
    aside: &str,
    content: &[u8],
) -> Result<(), DiskError> {
    let mut file = create_anew(disk, aside)?;
    file.write_at(0, content)?;
    // The content before the name: a power cut must not leave the name on a file of which half is there.
    file.sync_data()?;
    drop(file);
    disk.rename(aside, name)?;
    disk.sync_folder()
}

/// The same, and a power cut may take the name back: what a sabotage does, and nobody else.
pub(crate) fn rename_file(disk: &dyn Disk, name: &str, aside: &str, content: &[u8]) -> Result<(), DiskError> {
    let mut file = create_anew(disk, aside)?;
    file.write_at(0, content)?;
    file.sync_data()?;
    drop(file);
    disk.rename(aside, name)
}

/// What stands there from before means nothing.
fn create_anew(disk: &dyn Disk, name: &str) -> Result<Box<dyn DiskFile>, DiskError> {
    if disk.exists(name)? {
        disk.remove(name)?;
    }
    disk.create(name)
}

/// What was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskOperation {
    /// [`Disk::create`].
    Create,
    /// [`Disk::open`], [`Disk::open_to_read`], [`Disk::exists`].
    Open,
    /// [`Disk::list`].
    List,
    /// [`Disk::remove`].
    Remove,
    /// [`Disk::rename`].
    Rename,
    /// [`Disk::sync_folder`].
    SyncFolder,
    /// [`Disk::lock`].
    Lock,
    /// [`Disk::free_bytes`].
    FreeBytes,
    /// [`DiskFile::size`], [`DiskFile::read_at`].
    Read,
    /// [`DiskFile::write_at`], [`DiskFile::write_zeros`].
    Write,
    /// [`DiskFile::sync_data`].
    Sync,
}

/// Reads as the object of "could not".
impl fmt::Display for DiskOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Open => "open",
            Self::List => "list",
            Self::Remove => "remove",
            Self::Rename => "rename",
            Self::SyncFolder => "sync the folder of",
            Self::Lock => "lock",
            Self::FreeBytes => "ask the free space of",
            Self::Read => "read",
            Self::Write => "write",
            Self::Sync => "sync",
        })
    }
}

/// An operation that the operating system refused, with enough to say so in a sentence.
#[derive(Debug, thiserror::Error)]
#[error("could not {operation} {file}{}: {source}", at(*.offset))]
pub struct DiskError {
    /// What was tried.
    pub operation: DiskOperation,
    /// The file's name in the data folder; "the data folder" for what concerns the folder itself.
    pub file: String,
    /// Where in the file, for reads and writes.
    pub offset: Option<u64>,
    /// What the operating system said.
    pub source: io::Error,
}

impl DiskError {
    /// An error without an offset.
    pub fn new(operation: DiskOperation, file: &str, source: io::Error) -> Self {
        Self { operation, file: file.to_owned(), offset: None, source }
    }

    /// An error that concerns the folder itself.
    pub fn folder(operation: DiskOperation, source: io::Error) -> Self {
        Self::new(operation, "the data folder", source)
    }

    /// The same error at `offset` of the file.
    #[must_use]
    pub fn at(mut self, offset: u64) -> Self {
        self.offset = Some(offset);
        self
    }

    /// The disk, or this user's share of it, is full.
    pub fn is_full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }

    /// Another process holds the folder.
    pub fn is_in_use(&self) -> bool {
        self.operation == DiskOperation::Lock && self.source.kind() == io::ErrorKind::WouldBlock
    }

    /// There is no such file.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

fn at(offset: Option<u64>) -> String {
    offset.map(|offset| format!(" at offset {offset}")).unwrap_or_default()
}
