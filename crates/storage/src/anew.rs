//! Begins a folder anew: what its node has of its cluster does not count any more, and it is taken in again as another one.
//! Knows nothing of who has decided that, nor why.
//!
//! The decision is a file, [`ANEW_FILE`], which says what the folder becomes. It is made while a process uses the folder; the next
//! one that opens it carries it out before it reads anything: the new folder is made aside, and then old and new files change
//! places as at a recovery ([`crate::survivor`]), the decision among the old ones.

use std::sync::Arc;

use crate::aside::Aside;
use crate::disk::{Disk, DiskError, read_file, replace_file};
use crate::folder::FolderError;
use crate::identity::{self, Identity};
use crate::starts::Starts;
use crate::survivor::{self, NEW_PREFIX};

/// The decision, laid out as an identity.
pub const ANEW_FILE: &str = "anew";
/// Where it is written before it takes its name. A left-over one means nothing.
const ASIDE_FILE: &str = "anew.new";

/// The next process finds a folder that holds nothing but this identity, and what was heard of the starts of others. Durable
/// when it returns; after an error it may be decided or not.
///
/// # Errors
/// If the disk failed.
///
/// # Panics
/// If the identity is of a cluster: nobody can have voted with it.
pub fn decide(disk: &dyn Disk, identity: &Identity) -> Result<(), DiskError> {
    assert!(identity.founding.is_empty(), "a folder that begins anew is of no cluster");
    replace_file(disk, ANEW_FILE, ASIDE_FILE, &identity::encode(identity))
}

/// Before anything of the folder is read: carries out what was decided.
pub(crate) fn go_on(disk: &Arc<dyn Disk>) -> Result<(), FolderError> {
    if !disk.exists(ANEW_FILE)? {
        return Ok(());
    }
    let fresh = identity::decode(&read_file(&**disk, ANEW_FILE)?)?;
    let old = identity::load_any(&**disk)?.ok_or(FolderError::IdentityMissing)?;
    survivor::clean(&**disk)?;
    let aside: Arc<dyn Disk> = Arc::new(Aside::new(Arc::clone(disk), NEW_PREFIX));
    // The others are who they were.
    Starts::load(&**disk)?.store(&*aside)?;
    identity::store(&*aside, &fresh)?;
    survivor::change_places(&**disk, old.incarnation)?;
    Ok(())
}
