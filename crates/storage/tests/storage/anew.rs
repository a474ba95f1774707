//! A folder that begins anew: cut at each operation it is the old one or the new one, and behind the decision it becomes the new
//! one.

use quorate_storage::anew::{self, ANEW_FILE};
use quorate_storage::{Folder, FolderError, Identity, Incarnation, Member, SimDisk, Start, Starts, identity};

use crate::support::{entry, node, open_folder, vote};

const OLD: Incarnation = Incarnation(11);
const FRESH: Incarnation = Incarnation(99);

fn open(disk: &SimDisk) -> Result<Folder, FolderError> {
    open_folder(disk, 1, OLD.0)
}

/// A member's folder, with a vote, an entry, and what it has heard of another server.
fn member() -> (SimDisk, Starts) {
    let disk = SimDisk::new();
    let mut folder = open(&disk).unwrap();
    let founders = [Member { id: node(1), incarnation: OLD }];
    identity::store(&disk, &folder.identity.founded(&founders)).unwrap();
    folder.wal.append(Some(vote(3, 1)), &[entry(1, 3, "a")]).unwrap();
    folder.wal.sync().unwrap();
    let mut starts = Starts::default();
    let other = (node(2), Incarnation(22));
    assert!(starts.hear(other, Start { number: 5, draw: 6 }, |_, _| true));
    starts.store(&disk).unwrap();
    drop(folder);
    disk.crash_power(0);
    (disk, starts)
}

fn fresh() -> Identity {
    Identity::new(node(1), FRESH)
}

/// The folder is the old one or the new one, and all of that: whether it is the new one.
fn check_old_or_new(disk: &SimDisk, starts: &Starts, what: &str) -> bool {
    let folder = open(disk).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(&folder.starts, starts, "{what}");
    let is_new = folder.identity.incarnation == FRESH;
    let (term, entries) = (folder.restored.hard_state.term.0, folder.restored.entries.len());
    if is_new {
        assert_eq!((folder.identity.founding.len(), term, entries), (0, 0, 0), "{what}");
    } else {
        assert_eq!(folder.identity.incarnation, OLD, "{what}");
        assert_eq!((folder.identity.founding.len(), term, entries), (1, 3, 1), "{what}");
    }
    is_new
}

#[test]
fn a_folder_that_begins_anew_is_old_or_new_after_a_crash_at_each_operation() {
    let (whole, starts) = member();
    let begun = whole.operations();
    anew::decide(&whole, &fresh()).unwrap();
    whole.crash_power(0);
    let decided = whole.operations();
    assert!(check_old_or_new(&whole, &starts, "done"));
    assert!(whole.names().iter().any(|name| name.starts_with("before-") && name.ends_with(ANEW_FILE)));
    let done = whole.operations();
    let mut interrupted = 0;
    for operation in 1..=done - begun {
        for power in 0..4 {
            let (disk, starts) = member();
            let behind = operation.checked_sub(decided - begun).filter(|behind| *behind > 0);
            if behind.is_none() {
                disk.crash_at(disk.operations() + operation, power);
            }
            let is_decided = anew::decide(&disk, &fresh()).is_ok();
            assert!(is_decided || behind.is_none());
            if let Some(behind) = behind {
                // The process ends, and the next one carries it out.
                disk.crash_process();
                disk.crash_at(disk.operations() + behind, power);
                interrupted += usize::from(open(&disk).is_err());
            }
            disk.crash_power(power + 8 * operation);
            let what = format!("operation {operation}, power {power}");
            let is_new = check_old_or_new(&disk, &starts, &what);
            assert!(is_new || !is_decided, "{what}: the decision is forgotten");
            disk.crash_power(0);
            assert_eq!(check_old_or_new(&disk, &starts, &what), is_new, "{what}: it stays what it is");
        }
    }
    assert!(interrupted > 20, "{interrupted}");
}
