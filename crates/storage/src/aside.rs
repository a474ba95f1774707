//! A folder within a folder: files whose names begin with a prefix, so that what is made there is made by the code that
//! makes every folder. Knows nothing of what is made, nor why.

use std::sync::Arc;

use crate::disk::{Disk, DiskError, DiskFile, FolderLock};

/// See the module. Its lock is that of the folder around it, which its maker holds.
pub(crate) struct Aside {
    disk: Arc<dyn Disk>,
    prefix: &'static str,
}

impl Aside {
    pub(crate) fn new(disk: Arc<dyn Disk>, prefix: &'static str) -> Self {
        Self { disk, prefix }
    }

    fn outer(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

struct HeldAround;

impl FolderLock for HeldAround {}

impl Disk for Aside {
    fn create(&self, name: &str) -> Result<Box<dyn DiskFile>, DiskError> {
        self.disk.create(&self.outer(name))
    }

    fn open(&self, name: &str) -> Result<Box<dyn DiskFile>, DiskError> {
        self.disk.open(&self.outer(name))
    }

    fn open_to_read(&self, name: &str) -> Result<Box<dyn DiskFile>, DiskError> {
        self.disk.open_to_read(&self.outer(name))
    }

    fn exists(&self, name: &str) -> Result<bool, DiskError> {
        self.disk.exists(&self.outer(name))
    }

    fn list(&self) -> Result<Vec<String>, DiskError> {
        let names = self.disk.list()?.into_iter();
        Ok(names.filter_map(|name| Some(name.strip_prefix(self.prefix)?.to_owned())).collect())
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        self.disk.remove(&self.outer(name))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        self.disk.rename(&self.outer(from), &self.outer(to))
    }

    fn sync_folder(&self) -> Result<(), DiskError> {
        self.disk.sync_folder()
    }

    fn lock(&self) -> Result<Box<dyn FolderLock>, DiskError> {
        Ok(Box::new(HeldAround))
    }

    fn free_bytes(&self) -> Result<u64, DiskError> {
        self.disk.free_bytes()
    }
}
