//! The real disk: one folder of the file system behind [`Disk`]. Must not know what the files mean.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use quorate_storage::disk::LOCK_FILE;
use quorate_storage::{Disk, DiskError, DiskFile, DiskOperation, FolderLock};

/// A data folder.
#[derive(Debug)]
pub(crate) struct FileDisk {
    path: PathBuf,
    /// The folder itself, kept open: syncing it makes names durable.
    folder: File,
}

impl FileDisk {
    /// Opens the folder; makes it, and what leads to it, where it is missing.
    pub(crate) fn open(path: &Path) -> Result<Self, DiskError> {
        create_folder(path).map_err(|source| DiskError::folder(DiskOperation::Create, source))?;
        let folder = File::open(path).map_err(|source| DiskError::folder(DiskOperation::Open, source))?;
        let metadata = folder.metadata().map_err(|source| DiskError::folder(DiskOperation::Open, source))?;
        if !metadata.is_dir() {
            let source = io::Error::from(io::ErrorKind::NotADirectory);
            return Err(DiskError::folder(DiskOperation::Open, source));
        }
        Ok(Self { path: path.to_owned(), folder })
    }

    /// Opens a folder that is there, to read files in it. Makes nothing and syncs nothing: it may be on a medium that cannot
    /// be written to.
    pub(crate) fn open_existing(path: &Path) -> Result<Self, DiskError> {
        let folder = File::open(path).map_err(|source| DiskError::folder(DiskOperation::Open, source))?;
        Ok(Self { path: path.to_owned(), folder })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// Makes the folder and syncs the one it stands in: a power cut must not take a folder that holds a vote. Also where the
/// folder is there already: the process that made it may have died before its sync.
fn create_folder(path: &Path) -> Result<(), io::Error> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        // The root of the file system, or `..`: not made by us.
        None => return Ok(()),
    };
    let was_there = path.is_dir();
    if !was_there {
        if !parent.is_dir() {
            create_folder(parent)?;
        }
        match std::fs::create_dir(path) {
            // Two servers started at once; the lock tells them apart.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
            other => other?,
        }
    }
    match File::open(parent) {
        // Whoever made the folder for us did not let us look around it, and made it long ago.
        Err(error) if was_there && error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        parent => parent?.sync_all(),
    }
}

impl Disk for FileDisk {
    fn create(&self, name: &str) -> Result<Box<dyn DiskFile>, DiskError> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(self.file(name));
        let file = file.map_err(|source| DiskError::new(DiskOperation::Create, name, source))?;
        Ok(Box::new(OpenFile { name: name.to_owned(), file }))
    }

    fn open(&self, name: &str) -> Result<Box<dyn DiskFile>, DiskError> {
        let file = OpenOptions::new().read(true).write(true).open(self.file(name));
        let file = file.map_err(|source| DiskError::new(DiskOperation::Open, name, source))?;
        Ok(Box::new(OpenFile { name: name.to_owned(), file }))
    }

    fn open_to_read(&self, name: &str) -> Result<Box<dyn DiskFile>, DiskError> {
        let file = File::open(self.file(name));
        let file = file.map_err(|source| DiskError::new(DiskOperation::Open, name, source))?;
        Ok(Box::new(OpenFile { name: name.to_owned(), file }))
    }

    fn exists(&self, name: &str) -> Result<bool, DiskError> {
        self.file(name).try_exists().map_err(|source| DiskError::new(DiskOperation::Open, name, source))
    }

    fn list(&self) -> Result<Vec<String>, DiskError> {
        let error = |source: io::Error| DiskError::folder(DiskOperation::List, source);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path).map_err(error)? {
            let entry = entry.map_err(error)?;
            // What is no file or has no name in UTF-8 is none of ours.
            if let (true, Ok(name)) =
                (entry.file_type().map_err(error)?.is_file(), entry.file_name().into_string())
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        std::fs::remove_file(self.file(name))
            .map_err(|source| DiskError::new(DiskOperation::Remove, name, source))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        std::fs::rename(self.file(from), self.file(to))
            .map_err(|source| DiskError::new(DiskOperation::Rename, from, source))
    }

    fn sync_folder(&self) -> Result<(), DiskError> {
        self.folder.sync_all().map_err(|source| DiskError::folder(DiskOperation::SyncFolder, source))
    }

    fn lock(&self) -> Result<Box<dyn FolderLock>, DiskError> {
        let error = |source: io::Error| DiskError::folder(DiskOperation::Lock, source);
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(self.file(LOCK_FILE));
        let file = file.map_err(error)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(Locked { _file: file })),
            Err(TryLockError::WouldBlock) => Err(error(io::ErrorKind::WouldBlock.into())),
            Err(TryLockError::Error(source)) => Err(error(source)),
        }
    }

    fn free_bytes(&self) -> Result<u64, DiskError> {
        let info = rustix::fs::fstatvfs(&self.folder)
            .map_err(|source| DiskError::folder(DiskOperation::FreeBytes, source.into()))?;
        Ok(info.f_bavail.saturating_mul(info.f_frsize))
    }
}

/// `flock` on a file; the operating system releases it when the process ends, however it ends.
struct Locked {
    _file: File,
}

impl FolderLock for Locked {}

struct OpenFile {
    name: String,
    file: File,
}

impl OpenFile {
    fn error(&self, operation: DiskOperation, source: io::Error) -> DiskError {
        DiskError::new(operation, &self.name, source)
    }
}

impl DiskFile for OpenFile {
    fn size(&self) -> Result<u64, DiskError> {
        let metadata = self.file.metadata().map_err(|source| self.error(DiskOperation::Read, source))?;
        Ok(metadata.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.file
            .read_exact_at(buffer, offset)
            .map_err(|source| self.error(DiskOperation::Read, source).at(offset))
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.file
            .write_all_at(bytes, offset)
            .map_err(|source| self.error(DiskOperation::Write, source).at(offset))
    }

    fn sync_data(&mut self) -> Result<(), DiskError> {
        self.file.sync_data().map_err(|source| self.error(DiskOperation::Sync, source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_made_once_written_at_offsets_and_renamed() {
        let folder = tempfile::tempdir().unwrap();
        let disk = FileDisk::open(&folder.path().join("a/b")).unwrap();
        let mut file = disk.create("one").unwrap();
        file.write_zeros(0, 100_000).unwrap();
        file.write_at(99_999, b"xyz").unwrap();
        file.sync_data().unwrap();
        assert_eq!(file.size().unwrap(), 100_002);
        let mut read = [0; 3];
        file.read_at(99_998, &mut read).unwrap();
        assert_eq!(&read, b"\0xy");
        assert!(file.read_at(100_000, &mut read).is_err());
        assert!(disk.create("one").is_err());
        disk.rename("one", "two").unwrap();
        disk.sync_folder().unwrap();
        assert!(!disk.exists("one").unwrap());
        assert_eq!(disk.list().unwrap(), ["two"]);
        assert!(disk.open("one").map(drop).unwrap_err().is_not_found());
        disk.remove("two").unwrap();
        assert!(disk.free_bytes().unwrap() > 0);
    }

    #[test]
    fn a_folder_is_locked_once_and_free_again_when_the_lock_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (FileDisk::open(folder.path()).unwrap(), FileDisk::open(folder.path()).unwrap());
        let lock = one.lock().unwrap();
        assert!(two.lock().map(drop).unwrap_err().is_in_use());
        drop(lock);
        two.lock().map(drop).unwrap();
    }

    #[test]
    fn a_file_is_opened_to_read_without_the_right_to_write() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("one"), b"abc").unwrap();
        let disk = FileDisk::open_existing(folder.path()).unwrap();
        let mut file = disk.open_to_read("one").unwrap();
        let mut read = [0; 3];
        file.read_at(0, &mut read).unwrap();
        assert_eq!((&read, file.size().unwrap()), (b"abc", 3));
        // Whoever runs this may be allowed to write everything: the handle itself is not.
        assert!(file.write_at(0, b"x").is_err());
        assert!(disk.open_to_read("two").map(drop).unwrap_err().is_not_found());
    }

    #[test]
    fn a_file_is_no_folder() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(FileDisk::open(file.path()).is_err());
    }
}
