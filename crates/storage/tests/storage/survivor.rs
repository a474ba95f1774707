//! The folder of a member that has lost its majority becomes another cluster's, whole or not at all.

use std::sync::Arc;

use expect_test::{Expect, expect};
use quorate_raft::{Index, NodeId, Position, Term};
use quorate_storage::survivor::{self, Found, RECOVERING_FILE, Recovered, Survivor, SurvivorError};
use quorate_storage::{
    ClusterId, Disk, Folder, FolderError, Incarnation, Member, SimDisk, SnapshotError, SnapshotFile,
    SnapshotReader, SnapshotWriter, StateError, identity, restore, verify,
};

use crate::support::{self, entry, node, segment, sentence, vote};

const OLD: Incarnation = Incarnation(0x11);
const NEW: Incarnation = Incarnation(0x77);
const SNAPSHOT: Position = Position::new(Term(1), Index(2));
const LAST: Position = Position::new(Term(3), Index(4));
const OLD_STATE: &[u8] = b"one two";
const NEW_STATE: &[u8] = b"one two three four";
/// 0 and 1 are "nothing unsynced survives" and "everything does".
const POWER_SEEDS: u64 = 6;

fn old_members() -> Vec<Member> {
    let of = |id: u64| Member { id: node(id), incarnation: Incarnation(id * 0x11) };
    (1..=3).map(of).collect()
}

fn new_cluster() -> ClusterId {
    ClusterId::of(&[Member { id: node(1), incarnation: NEW }])
}

fn open_folder(disk: &SimDisk) -> Result<Folder, FolderError> {
    support::open_folder(disk, 1, OLD.0)
}

fn write(
    disk: &Arc<dyn Disk>,
    (cluster, position): (ClusterId, Position),
    state: &[u8],
) -> Result<SnapshotFile, SnapshotError> {
    let mut writer = SnapshotWriter::create(Arc::clone(disk), cluster, position)?;
    writer.block(state)?;
    writer.finish(9)
}

/// A member of three, with a snapshot and two entries behind it.
fn founded() -> SimDisk {
    let disk = SimDisk::new();
    let mut folder = open_folder(&disk).unwrap();
    identity::store(&disk, &folder.identity.founded(&old_members())).unwrap();
    let entries = [entry(1, 1, "one"), entry(2, 1, "two"), entry(3, 1, "three")];
    folder.wal.append(Some(vote(1, 1)), &entries).unwrap();
    folder.wal.append(Some(vote(3, 2)), &[entry(4, 3, "four")]).unwrap();
    folder.wal.sync().unwrap();
    let cluster = ClusterId::of(&old_members());
    write(&(Arc::new(disk.clone()) as Arc<dyn Disk>), (cluster, SNAPSHOT), OLD_STATE).unwrap();
    drop(folder);
    disk.crash_power(0);
    disk
}

fn read(reader: &mut SnapshotReader<'_>, into: &mut Vec<u8>) -> Result<(), StateError> {
    while let Some(block) = reader.block()? {
        into.extend_from_slice(block);
    }
    Ok(())
}

fn open(disk: &SimDisk) -> Result<Found, SurvivorError> {
    let mut state = Vec::new();
    survivor::open(Arc::new(disk.clone()), &mut |reader| read(reader, &mut state), &mut |_, _| {})
}

fn opened(disk: &SimDisk) -> Survivor {
    match open(disk).unwrap() {
        Found::Survivor(survivor) => *survivor,
        Found::Unfinished(_) => panic!("nothing was decided"),
    }
}

/// What the command does.
fn recover(disk: &SimDisk) -> Result<Recovered, SurvivorError> {
    match open(disk)? {
        Found::Survivor(survivor) => survivor
            .found_anew(NEW, &mut |disk, cluster, position| write(disk, (cluster, position), NEW_STATE)),
        Found::Unfinished(unfinished) => unfinished.finish(),
    }
}

/// Starts on the folder. It is the old one, or the new one, and all of that: whether it is the new one.
fn check_old_or_new(disk: &SimDisk, what: &str) -> bool {
    let folder = open_folder(disk).unwrap_or_else(|error| panic!("{what}: {error}"));
    let snapshot = folder.snapshot.expect("a snapshot");
    let mut state = Vec::new();
    read(&mut snapshot.reader(), &mut state).unwrap();
    let (term, vote_) = (folder.restored.hard_state.term.0, folder.restored.hard_state.vote);
    if folder.identity.incarnation == OLD {
        assert_eq!(folder.identity.founding, old_members(), "{what}");
        assert_eq!((snapshot.position(), &state[..]), (SNAPSHOT, OLD_STATE), "{what}");
        assert_eq!(folder.restored.entries.last(), Some(&entry(4, 3, "four")), "{what}");
        assert_eq!((term, vote_), (3, NodeId::new(2)), "{what}");
        return false;
    }
    assert_eq!(folder.identity.incarnation, NEW, "{what}");
    assert_eq!(folder.identity.cluster(), Some(new_cluster()), "{what}");
    assert_eq!((snapshot.position(), &state[..]), (LAST, NEW_STATE), "{what}");
    assert_eq!(snapshot.cluster(), new_cluster(), "{what}");
    assert_eq!((folder.restored.base, folder.restored.entries.len()), (LAST, 0), "{what}");
    assert_eq!((term, vote_), (3, None), "{what}");
    true
}

#[test]
fn a_survivor_is_shown_and_unchanged() {
    let disk = founded();
    let image = |disk: &SimDisk| {
        let names = disk.names().into_iter();
        names.map(|name| (name.clone(), disk.content(&name))).collect::<Vec<_>>()
    };
    let before = image(&disk);
    let survivor = opened(&disk);
    assert_eq!(survivor.identity.founding, old_members());
    assert_eq!(survivor.hard_state, vote(3, 2));
    assert_eq!((survivor.snapshot, survivor.last()), (SNAPSHOT, LAST));
    assert_eq!(survivor.entries, [entry(3, 1, "three"), entry(4, 3, "four")]);
    drop(survivor);
    assert_eq!(image(&disk), before);
    assert!(!check_old_or_new(&disk, "shown"));
}

#[test]
fn a_survivor_becomes_another_cluster_and_its_old_files_stay() {
    let disk = founded();
    let before: Vec<_> = disk.names().into_iter().map(|name| (name.clone(), disk.content(&name))).collect();
    let recovered = recover(&disk).unwrap();
    assert_eq!(recovered.old_files, "before-0000000000000011-");
    assert_eq!(recovered.identity.cluster(), Some(new_cluster()));
    drop(recovered);
    disk.crash_power(0);
    for (name, content) in before {
        assert!(content == disk.content(&format!("before-0000000000000011-{name}")), "{name}");
    }
    assert!(verify::folder(&disk, &mut |_, _| {}).unwrap().is_some());
    assert!(check_old_or_new(&disk, "done"));
    // The old files mean nothing to it.
    for name in disk.names().iter().filter(|name| name.starts_with("before-")) {
        disk.plant(name, None);
    }
    assert!(check_old_or_new(&disk, "old files deleted"));
    assert!(disk.names().iter().all(|name| !name.starts_with("recover")), "{:?}", disk.names());
    // Majorities can be lost twice.
    let twice = opened(&disk)
        .found_anew(Incarnation(0x78), &mut |disk, cluster, at| write(disk, (cluster, at), NEW_STATE));
    assert_eq!(twice.unwrap().old_files, "before-0000000000000077-");
}

/// At each operation, and then at each of what finishes it.
#[test]
fn a_crash_at_any_operation_leaves_the_old_folder_or_the_new_one() {
    let whole = founded();
    let from = whole.operations();
    drop(recover(&whole).unwrap());
    let operations = whole.operations();
    assert!(operations - from > 20, "{} operations are too few to be all", operations - from);
    let (mut old, mut decided, mut new) = (0, 0, 0);
    for operation in from + 1..=operations {
        for seed in 0..POWER_SEEDS {
            let disk = founded();
            disk.crash_at(operation, seed);
            assert!(recover(&disk).is_err(), "operation {operation} was cut");
            crash(&disk, seed);
            let what = format!("operation {operation}, seed {seed}");
            let is_decided = disk.exists(RECOVERING_FILE).unwrap();
            if is_decided {
                let verified = verify::folder(&disk.fork(), &mut |_, _| {});
                assert!(matches!(verified, Err(FolderError::RecoveryUnfinished)), "{what}");
                decided += 1;
                check_finishing(&disk, seed, &what);
            }
            let is_new = check_old_or_new(&disk.fork(), &what);
            assert!(is_new || !is_decided, "{what}");
            *if is_new { &mut new } else { &mut old } += 1;
            if is_new && !is_decided {
                continue;
            }
            // The same command completes it.
            drop(recover(&disk).unwrap_or_else(|error| panic!("{what}: {error}")));
            disk.crash_power(0);
            assert!(check_old_or_new(&disk, &what), "{what}");
            assert!(!disk.exists(RECOVERING_FILE).unwrap(), "{what}");
        }
    }
    assert!(old > 0 && decided > 0 && new > decided, "{old} {decided} {new}");
}

/// The start, or the second run of the command, is cut too, anywhere.
fn check_finishing(disk: &SimDisk, seed: u64, what: &str) {
    let begun = disk.operations();
    let whole = disk.fork();
    drop(open_folder(&whole).unwrap());
    for operation in begun + 1..=whole.operations() {
        for by_start in [true, false] {
            let disk = disk.fork();
            disk.crash_at(operation, seed + 3);
            let is_cut = if by_start { open_folder(&disk).is_err() } else { recover(&disk).is_err() };
            if !is_cut {
                // The command has less to do than a start.
                continue;
            }
            crash(&disk, seed + 1);
            // If it was decided by a name that was the cache's only, a power cut can take that before it is synced.
            let is_new = check_old_or_new(&disk, what);
            assert!(is_new || operation == begun + 1, "{what}, then {operation}");
        }
    }
}

fn crash(disk: &SimDisk, seed: u64) {
    if seed.is_multiple_of(2) { disk.crash_power(seed) } else { disk.crash_process() }
}

#[test]
fn a_failure_at_any_operation_leaves_the_old_folder_or_the_new_one() {
    let whole = founded();
    let from = whole.operations();
    drop(recover(&whole).unwrap());
    for operation in from + 1..=whole.operations() {
        let disk = founded();
        disk.fail_at(operation);
        let is_done = recover(&disk).is_ok();
        disk.crash_power(operation);
        let is_new = check_old_or_new(&disk, &format!("operation {operation}"));
        assert!(is_new || !is_done, "operation {operation}");
    }
}

#[test]
fn a_full_disk_leaves_the_old_folder_and_no_rubbish() {
    let disk = founded();
    let names = disk.names();
    for room in [0, 100, 1 << 10, 1 << 20] {
        disk.set_capacity_bytes(Some(disk.used_bytes() + room));
        assert!(recover(&disk).is_err(), "{room}");
        assert_eq!(disk.names(), names, "{room}");
        // A start counts itself, which takes room.
        disk.set_capacity_bytes(None);
        assert!(!check_old_or_new(&disk, "full"));
    }
    drop(recover(&disk).unwrap());
    assert!(check_old_or_new(&disk, "done"));
}

fn refusal(disk: &SimDisk, expected: &Expect) {
    let before = disk.names();
    expected.assert_eq(&sentence(&open(disk).err().expect("refused")));
    assert_eq!(disk.names(), before);
}

#[test]
fn what_is_no_survivor_is_refused() {
    refusal(
        &SimDisk::new(),
        &expect![[r#"
        it is empty: no server was ever started on it
    "#]],
    );
    let disk = founded();
    let folder = open_folder(&disk).unwrap();
    assert!(matches!(open(&disk), Err(SurvivorError::Folder(FolderError::InUse))));
    drop(folder);

    let disk = SimDisk::new();
    drop(open_folder(&disk).unwrap());
    refusal(
        &disk,
        &expect![[r#"
        its server was never a member of a founded cluster: there is nothing in it to
        recover; start it with the members it waits for, or remove it and begin anew
    "#]],
    );
    let identity = identity::load(&disk, node(1)).unwrap().unwrap();
    identity::store(&disk, &identity.founded(&old_members())).unwrap();
    refusal(
        &disk,
        &expect![[r#"
        its log holds nothing, and there is no snapshot: there is nothing in it to
        recover; remove it and begin anew
    "#]],
    );

    let disk = founded();
    disk.plant(restore::RESTORING_FILE, Some(Vec::new()));
    assert!(matches!(open(&disk), Err(SurvivorError::Folder(FolderError::RestoreUnfinished))));
}

/// And in the words of `verify`.
#[test]
fn a_damaged_folder_is_refused() {
    let disk = founded();
    let cut = disk.content(&segment(1)).unwrap().iter().rposition(|byte| *byte != 0).unwrap() as u64;
    let mut refused = 0;
    for name in ["identity", "log-0000000001", "snapshot-00000000000000000002-1.snap"] {
        let bytes = disk.content(name).unwrap().len() as u64;
        for offset in (0..bytes.min(cut - 200)).step_by(3) {
            let disk = disk.fork();
            disk.flip_bit(name, offset, (offset % 8) as u8);
            let verified = verify::folder(&disk, &mut |_, _| {}).map_err(|error| error.to_string()).err();
            let found = open(&disk).map_err(|error| error.to_string()).err();
            assert_eq!(found, verified, "{name} at {offset}");
            refused += u64::from(found.is_some());
        }
    }
    assert!(refused > 100, "{refused}");
}
