//! A backup becomes a data folder, whole or not at all, and stays the state it was.

use std::sync::Arc;

use expect_test::{Expect, expect};
use quorate_raft::{Index, Position, Term};
use quorate_storage::restore::{self, RestoreFolderError};
use quorate_storage::{
    ClusterId, Disk, Folder, FolderError, Incarnation, Member, Origin, SimDisk, SnapshotError, SnapshotFile,
    SnapshotWriter, identity, verify,
};

use crate::support::{entry, node, open_folder, sentence, vote};

const POSITION: Position = Position::new(Term(7), Index(1234));
const BLOCKS: [&[u8]; 3] = [b"what", b"the state", b"was"];
const DIGEST: u64 = 0xd16e57;
/// 0 and 1 are "nothing unsynced survives" and "everything does".
const POWER_SEEDS: u64 = 6;

fn old_cluster() -> ClusterId {
    ClusterId::new(77).unwrap()
}

/// A folder that holds nothing but a backup.
fn shelf(cluster: ClusterId, digest: u64) -> (SimDisk, SnapshotFile) {
    let disk = SimDisk::new();
    let mut writer = SnapshotWriter::create(Arc::new(disk.clone()), cluster, POSITION).unwrap();
    for block in BLOCKS {
        writer.block(block).unwrap();
    }
    let file = writer.finish(digest).unwrap();
    (disk, file)
}

fn restore(disk: &SimDisk, backup: &SnapshotFile) -> Result<Origin, RestoreFolderError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    restore::restore(&disk, backup, (node(1), Incarnation(11)), &mut |_, _| {}).map(|(origin, _)| origin)
}

fn open(disk: &SimDisk) -> Result<Folder, FolderError> {
    open_folder(disk, 1, 99)
}

fn refusal(disk: &SimDisk, expected: &Expect) {
    expected.assert_eq(&sentence(&open(disk).err().expect("refused")));
}

fn content(file: &SnapshotFile) -> Vec<Vec<u8>> {
    let mut reader = file.reader();
    let mut blocks = Vec::new();
    while let Some(block) = reader.block().unwrap() {
        blocks.push(block.to_vec());
    }
    blocks
}

/// It holds the backup, its log begins there, and it is of no cluster yet.
fn check_restored(disk: &SimDisk) {
    let folder = open(disk).unwrap();
    assert_eq!(folder.identity.incarnation, Incarnation(11));
    assert_eq!(folder.identity.cluster(), None);
    let origin = Origin { cluster: old_cluster(), position: POSITION, digest: DIGEST };
    assert_eq!(folder.identity.origin, Some(origin));
    let snapshot = folder.snapshot.expect("the backup");
    assert_eq!((snapshot.cluster(), snapshot.position()), (old_cluster(), POSITION));
    assert_eq!(content(&snapshot), BLOCKS);
    assert_eq!((folder.restored.base, folder.restored.snapshot), (POSITION, POSITION));
    assert_eq!(folder.restored.hard_state, vote(7, 0), "of its term, and without a vote");
}

fn found(disk: &SimDisk) -> ClusterId {
    let identity = identity::load(disk, node(1)).unwrap().unwrap();
    let members = [Member { id: node(1), incarnation: identity.incarnation }];
    identity::store(disk, &identity.founded(&members)).unwrap();
    ClusterId::of(&members)
}

#[test]
fn a_backup_becomes_a_folder() {
    let (_, backup) = shelf(old_cluster(), DIGEST);
    let disk = SimDisk::new();
    restore(&disk, &backup).unwrap();
    disk.crash_power(0);
    check_restored(&disk);
    disk.crash_power(0);
    check_restored(&disk);
    assert!(verify::folder(&disk, &mut |_, _| {}).unwrap().is_some());
}

/// Until an own snapshot takes its place, the backup is what the log goes on from.
#[test]
fn a_founded_folder_goes_on_from_the_backup_and_then_from_its_own() {
    let (_, backup) = shelf(old_cluster(), DIGEST);
    let disk = SimDisk::new();
    restore(&disk, &backup).unwrap();
    drop(open(&disk).unwrap());
    let cluster = found(&disk);
    let mut folder = open(&disk).unwrap();
    assert_eq!(folder.snapshot.unwrap().cluster(), old_cluster());
    folder.wal.append(Some(vote(8, 1)), &[entry(1235, 8, "new")]).unwrap();
    folder.wal.sync().unwrap();
    drop(folder.lock);
    assert_eq!(verify::folder(&disk, &mut |_, _| {}).unwrap().unwrap().snapshots.len(), 1);

    let mut own = SnapshotWriter::create(Arc::new(disk.clone()), cluster, POSITION).unwrap();
    own.block(b"the same without sessions").unwrap();
    own.finish(1).unwrap();
    disk.crash_power(0);
    let folder = open(&disk).unwrap();
    assert_eq!(folder.snapshot.unwrap().cluster(), cluster);
    assert_eq!(folder.restored.entries, [entry(1235, 8, "new")]);
    drop(folder.lock);
    assert!(verify::folder(&disk, &mut |_, _| {}).unwrap().is_some());
}

/// Nothing, a marker that has the folder refused, or all of it; and it can be done again, unless it was done.
#[test]
fn a_crash_at_any_operation_leaves_all_or_a_refusal() {
    let (_, backup) = shelf(old_cluster(), DIGEST);
    let whole = SimDisk::new();
    restore(&whole, &backup).unwrap();
    let operations = whole.operations();
    assert!(operations > 10, "{operations} operations are too few to be all");
    let (mut untouched, mut refused, mut complete) = (0, 0, 0);
    for operation in 1..=operations {
        for seed in 0..POWER_SEEDS {
            let disk = SimDisk::new();
            disk.crash_at(operation, seed);
            assert!(restore(&disk, &backup).is_err(), "operation {operation} was cut");
            if seed % 2 == 0 {
                disk.crash_power(seed);
            } else {
                disk.crash_process();
            }
            let is_complete = if disk.names().iter().all(|name| name == "lock") {
                untouched += 1;
                false
            } else if disk.exists(restore::RESTORING_FILE).unwrap() {
                assert!(matches!(open(&disk), Err(FolderError::RestoreUnfinished)), "operation {operation}");
                let verified = verify::folder(&disk, &mut |_, _| {});
                assert!(matches!(verified, Err(FolderError::RestoreUnfinished)));
                refused += 1;
                false
            } else {
                check_restored(&disk);
                complete += 1;
                true
            };
            match restore(&disk, &backup) {
                Ok(_) => assert!(!is_complete, "operation {operation}: restored over a restored one"),
                Err(RestoreFolderError::NotEmpty { .. }) => assert!(is_complete, "operation {operation}"),
                Err(error) => panic!("operation {operation}: {error}"),
            }
            disk.crash_power(0);
            check_restored(&disk);
        }
    }
    assert!(untouched > 0 && refused > 0 && complete > 0, "{untouched} {refused} {complete}");
}

#[test]
fn a_folder_that_holds_something_is_left_alone() {
    let (_, backup) = shelf(old_cluster(), DIGEST);
    let disk = SimDisk::new();
    disk.plant("letters", Some(b"dear".to_vec()));
    let error = restore(&disk, &backup).unwrap_err();
    expect![[r#"
        the data folder is not empty: it holds letters; a backup is restored into an
        empty or missing folder only
    "#]]
    .assert_eq(&sentence(&error));
    assert_eq!(disk.names(), ["letters"], "not even a lock was made");

    let disk = SimDisk::new();
    let _lock = disk.lock().unwrap();
    assert!(matches!(restore(&disk, &backup), Err(RestoreFolderError::InUse)));
}

#[test]
fn a_full_disk_leaves_a_folder_that_can_be_restored_again() {
    let (_, backup) = shelf(old_cluster(), DIGEST);
    let disk = SimDisk::new();
    disk.set_capacity_bytes(Some(100));
    match restore(&disk, &backup) {
        Err(RestoreFolderError::Disk(error)) => assert!(error.is_full()),
        other => panic!("{other:?}"),
    }
    refusal(
        &disk,
        &expect![[r#"
        a restore into this data folder was not finished, and there is no server's data
        in it: run `quorate restore` on it again, or remove it
    "#]],
    );
    disk.set_capacity_bytes(None);
    restore(&disk, &backup).unwrap();
    check_restored(&disk);
}

/// Whether it is founded or not, another snapshot does not take the place of the one that all have agreed on.
#[test]
fn what_was_restored_cannot_be_exchanged() {
    let (_, backup) = shelf(old_cluster(), DIGEST);
    let name = backup.name().to_owned();
    let disk = SimDisk::new();
    restore(&disk, &backup).unwrap();

    disk.plant(&name, None);
    refusal(
        &disk,
        &expect![[r#"
        this data folder was restored from the backup of cluster
        0000000000000000000000000000004d at 1234@7 (digest 0000000000d16e57), which is
        not in it any more: restore it anew, in an empty folder
    "#]],
    );
    let (other, _) = shelf(old_cluster(), DIGEST + 1);
    disk.plant(&name, other.content(&name));
    refusal(
        &disk,
        &expect![[r#"
        snapshot-00000000000000001234-7.snap holds the state with the digest
        0000000000d16e58, and this folder was restored from the backup of cluster
        0000000000000000000000000000004d at 1234@7 (digest 0000000000d16e57): put that
        one there, and do not start a server before
    "#]],
    );
    found(&disk);
    assert!(matches!(open(&disk), Err(FolderError::Snapshot(SnapshotError::OtherOrigin { .. }))));
    let (other, _) = shelf(ClusterId::new(78).unwrap(), DIGEST);
    disk.plant(&name, other.content(&name));
    assert!(matches!(open(&disk), Err(FolderError::Snapshot(SnapshotError::Foreign { .. }))));
}

#[test]
fn every_flipped_bit_of_a_restored_folder_is_refused() {
    let (_, backup) = shelf(old_cluster(), DIGEST);
    let disk = SimDisk::new();
    restore(&disk, &backup).unwrap();
    for name in ["identity", backup.name()] {
        for offset in 0..disk.content(name).unwrap().len() {
            for bit in 0..8 {
                let disk = disk.fork();
                disk.flip_bit(name, offset as u64, bit);
                let error = open(&disk).err().expect("refused");
                let is_right = match name {
                    "identity" => matches!(error, FolderError::Identity(_)),
                    _ => {
                        matches!(&error, FolderError::Snapshot(SnapshotError::Damaged { file, .. }) if file == name)
                    }
                };
                assert!(is_right, "bit {bit} of byte {offset} of {name}: {error}");
            }
        }
    }
}
