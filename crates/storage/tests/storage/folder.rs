//! A data folder as a whole: one server at a time, its own, and never one that has forgotten.

use std::sync::Arc;

use expect_test::{Expect, expect};
use quorate_raft::{Index, Position, Term};
use quorate_storage::{
    ClusterId, Disk, Folder, FolderError, Identity, Incarnation, Member, SimDisk, SnapshotReader,
    SnapshotWriter, StateError, identity,
};

use crate::support::{entry, folder_config, node, open_folder, segment, sentence, vote};

fn members() -> Vec<Member> {
    [(1, 11), (2, 22), (3, 33)]
        .map(|(id, number)| Member { id: node(id), incarnation: Incarnation(number) })
        .into()
}

/// A founded folder of node 1 with one entry in its log.
fn founded() -> SimDisk {
    let disk = SimDisk::new();
    let mut folder = open_folder(&disk, 1, 11).unwrap();
    identity::store(&disk, &folder.identity.founded(&members())).unwrap();
    folder.wal.append(Some(vote(1, 1)), &[entry(1, 1, "a")]).unwrap();
    folder.wal.sync().unwrap();
    drop(folder);
    disk.crash_power(0);
    disk
}

fn refusal(disk: &SimDisk, id: u64, expected: &Expect) {
    let before: Vec<_> = disk.names().iter().map(|name| disk.content(name)).collect();
    let error = open_folder(disk, id, 99).err().expect("refused");
    expected.assert_eq(&sentence(&error));
    let after: Vec<_> = disk.names().iter().map(|name| disk.content(name)).collect();
    assert_eq!(before, after, "a refusal changes nothing");
}

#[test]
fn a_folder_keeps_what_it_is() {
    let disk = SimDisk::new();
    let folder = open_folder(&disk, 1, 11).unwrap();
    assert_eq!(folder.identity, Identity::new(node(1), Incarnation(11)).started(11));
    drop(folder);
    disk.crash_power(0);
    // The incarnation is the folder's, not the start's; the start is counted, and a power cut does not take it back.
    let folder = open_folder(&disk, 1, 99).unwrap();
    assert_eq!((folder.identity.incarnation, folder.identity.start_number), (Incarnation(11), 2));

    let folder = open_folder(&founded(), 1, 99).unwrap();
    assert_eq!(folder.identity.cluster(), Some(ClusterId::of(&members())));
    assert_eq!(folder.identity.founding, members());
    assert_eq!(folder.restored.entries, [entry(1, 1, "a")]);
}

#[test]
fn two_servers_cannot_use_one_folder() {
    let disk = founded();
    let first = open_folder(&disk, 1, 0).unwrap();
    refusal(
        &disk,
        1,
        &expect![[r#"
        the data folder is in use by another server: stop that one, or give this one a
        folder of its own
    "#]],
    );
    drop(first);
    let _held = open_folder(&disk, 1, 0).unwrap();
    disk.crash_process();
    open_folder(&disk, 1, 0).unwrap();
}

#[test]
fn a_folder_of_another_node_is_refused() {
    refusal(
        &founded(),
        2,
        &expect![[r#"
        this data folder belongs to node 1, and the server was started as node 2: start
        it with the id or the folder that it means
    "#]],
    );
}

#[test]
fn a_founded_folder_without_its_log_is_refused() {
    let disk = founded();
    disk.plant(&segment(1), None);
    refusal(
        &disk,
        1,
        &expect![[r#"
            the file log-0000000001 of the log is missing, and no snapshot makes up for it.
            Entries from index 1 on may be lost, and votes with them, so no server may start
            on this folder: keep it for examination. The other servers hold the data, and go
            on as long as they are a majority. This one may come back with a copy of its
            folder that was taken after it last stopped; with an older copy, or with an empty
            folder, it would have forgotten what it promised
        "#]],
    );
    disk.plant(&segment(1), Some(vec![0; 1024]));
    assert!(matches!(open_folder(&disk, 1, 0), Err(FolderError::Log(_))));
}

#[test]
fn a_log_without_an_identity_is_refused() {
    let disk = founded();
    disk.plant("identity", None);
    refusal(
        &disk,
        1,
        &expect![[r#"
            the data folder holds a log or a snapshot and no file identity: it is not known
            any more whose data this is; keep the folder for examination, and do not start a
            server on it
        "#]],
    );
}

#[test]
fn every_flipped_bit_of_an_identity_is_refused() {
    let disk = founded();
    let bytes = disk.content("identity").unwrap();
    for offset in 0..bytes.len() {
        for bit in 0..8 {
            let disk = disk.fork();
            disk.flip_bit("identity", offset as u64, bit);
            assert!(
                matches!(open_folder(&disk, 1, 0), Err(FolderError::Identity(_))),
                "bit {bit} of byte {offset}"
            );
        }
    }
    for length in 0..bytes.len() {
        disk.plant("identity", Some(bytes[..length].to_vec()));
        assert!(matches!(open_folder(&disk, 1, 0), Err(FolderError::Identity(_))), "cut to {length}");
    }
    refusal(
        &disk,
        1,
        &expect![[r#"
        identity is damaged (its checksum is wrong): it is not known any more whose data
        this is; keep the folder for examination, and do not start a server on it
    "#]],
    );
}

#[test]
fn a_newer_identity_is_refused() {
    let disk = founded();
    let mut bytes = disk.content("identity").unwrap();
    bytes[12] = 4;
    let sum = crc32c::crc32c(&bytes[12..]);
    bytes[8..12].copy_from_slice(&sum.to_le_bytes());
    disk.plant("identity", Some(bytes));
    refusal(
        &disk,
        1,
        &expect![[r#"
        identity has format 4, and this program reads up to 3: start a newer version of
        it
    "#]],
    );
}

/// A founded folder of node 1 with entries 1 to 3, and snapshots of two of them.
fn with_snapshots() -> SimDisk {
    let disk = founded();
    let mut folder = open_folder(&disk, 1, 0).unwrap();
    folder.wal.append(None, &[entry(2, 1, "b"), entry(3, 1, "c")]).unwrap();
    folder.wal.sync().unwrap();
    for index in [1, 2] {
        let position = Position::new(Term(1), Index(index));
        let cluster = ClusterId::of(&members());
        let mut writer = SnapshotWriter::create(Arc::new(disk.clone()), cluster, position).unwrap();
        writer.block(b"state").unwrap();
        writer.finish(index).unwrap();
    }
    drop(folder);
    disk.crash_power(0);
    disk
}

const OLDER: &str = "snapshot-00000000000000000001-1.snap";
const NEWEST: &str = "snapshot-00000000000000000002-1.snap";

#[test]
fn a_folder_is_opened_from_its_newest_snapshot() {
    let disk = with_snapshots();
    for name in ["snapshot-00000000000000000009-1.tmp", "snapshot-00000000000000000002-1.part.tmp"] {
        disk.plant(name, Some(vec![1; 10]));
    }
    let being_received = "snapshot-00000000000000000007-1.part.tmp";
    disk.plant(being_received, Some(vec![1; 10]));
    let (mut heard, mut state) = (Vec::new(), Vec::new());
    let mut load = |reader: &mut SnapshotReader<'_>| {
        while let Some(block) = reader.block()? {
            state.push(block.to_vec());
        }
        Ok(())
    };
    let mut progress = |done, all| heard.push((done, all));
    let folder =
        Folder::open_loading(Arc::new(disk.clone()), &folder_config(1, 0), &mut load, &mut progress).unwrap();
    let snapshot = folder.snapshot.expect("there is one");
    assert_eq!(state, [b"state"], "it is read once");
    let total = snapshot.bytes() + disk.open(&segment(1)).unwrap().size().unwrap();
    assert!(heard.is_sorted() && heard.iter().all(|(_, all)| *all == total), "{heard:?}");
    assert_eq!(heard.last(), Some(&(total, total)));
    assert_eq!(snapshot.position(), Position::new(Term(1), Index(2)));
    assert_eq!(snapshot.reader().block().unwrap(), Some(&b"state"[..]));
    assert_eq!(folder.restored.entries.len(), 3, "the log goes on as it is");
    let names = disk.names();
    assert_eq!(names, ["identity", &segment(1), OLDER, NEWEST, being_received]);
}

/// A state that nobody can load is refused like a damaged one, and nothing is changed.
#[test]
fn a_snapshot_whose_state_is_none_is_refused() {
    let disk = with_snapshots();
    disk.plant("snapshot-00000000000000000009-1.tmp", Some(vec![1; 10]));
    let before = disk.names();
    let mut load = |_: &mut SnapshotReader<'_>| Err(StateError::Content("no state".into()));
    let opened =
        Folder::open_loading(Arc::new(disk.clone()), &folder_config(1, 0), &mut load, &mut |_, _| {});
    let Err(error) = opened else { panic!("it is refused") };
    assert!(error.is_refusal() && matches!(error, FolderError::State(_)), "{error}");
    assert_eq!(disk.names(), before);
}

/// What is not read is not verified.
#[test]
#[should_panic(expected = "read to its end")]
fn a_snapshot_that_is_not_read_to_its_end_is_not_taken() {
    let disk = with_snapshots();
    let mut load = |reader: &mut SnapshotReader<'_>| {
        reader.block()?;
        Ok(())
    };
    let _ = Folder::open_loading(Arc::new(disk), &folder_config(1, 0), &mut load, &mut |_, _| {});
}

/// What the log had up to it may be gone: an older one must not take its place.
#[test]
fn a_damaged_newest_snapshot_is_refused() {
    let disk = with_snapshots();
    disk.flip_bit(OLDER, 90, 0);
    assert!(open_folder(&disk, 1, 0).is_ok(), "the older one does not matter");
    disk.crash_power(0);
    disk.flip_bit(NEWEST, 90, 0);
    refusal(
        &disk,
        1,
        &expect![[r#"
        snapshot-00000000000000000002-1.snap is not readable at offset 64 (the checksum
        of a block is wrong): the snapshot of index 2 is damaged. No server may start on
        this folder as it is: keep a copy of it. An intact snapshot of the same cluster
        with the same or a higher index, from another server or from a copy of this
        folder, may be put beside or in its place; the votes are in the log, which must
        stay as it is
    "#]],
    );
    // An intact one, of any server, that is newer: the log does not reach it, and the vote stays.
    let newer = Position::new(Term(1), Index(9));
    let cluster = ClusterId::of(&members());
    SnapshotWriter::create(Arc::new(disk.clone()), cluster, newer).unwrap().finish(0).unwrap();
    let folder = open_folder(&disk, 1, 0).unwrap();
    assert_eq!((folder.restored.base, folder.restored.hard_state), (newer, vote(1, 1)));
}

#[test]
fn a_snapshot_of_another_cluster_is_refused() {
    let disk = with_snapshots();
    let position = Position::new(Term(1), Index(2));
    let other = ClusterId::new(77).unwrap();
    SnapshotWriter::create(Arc::new(disk.clone()), other, position).unwrap().finish(0).unwrap();
    refusal(
        &disk,
        1,
        &expect![[r#"
        snapshot-00000000000000000002-1.snap is a snapshot of cluster
        0000000000000000000000000000004d, and this folder is of cluster
        5916299f5e8061f057cd28b34a02216b: somebody has copied it here; take it away, put
        this cluster's own there, and do not start a server before
    "#]],
    );
    // Neither is one in a folder that is not founded, or that is nobody's.
    let not_founded = SimDisk::new();
    drop(open_folder(&not_founded, 1, 11).unwrap());
    not_founded.plant(NEWEST, disk.content(NEWEST));
    refusal(
        &not_founded,
        1,
        &expect![[r#"
        snapshot-00000000000000000002-1.snap is a snapshot of cluster
        0000000000000000000000000000004d, and this folder is of no cluster yet: somebody
        has copied it here; take it away, put this cluster's own there, and do not start
        a server before
    "#]],
    );
    let nobodys = SimDisk::new();
    nobodys.plant(NEWEST, disk.content(NEWEST));
    assert!(matches!(open_folder(&nobodys, 1, 11), Err(FolderError::IdentityMissing)));
}

#[test]
fn the_cluster_does_not_depend_on_the_order_of_its_list() {
    let mut reversed = members();
    reversed.reverse();
    assert_eq!(ClusterId::of(&members()), ClusterId::of(&reversed));
    // Computed once with another program.
    assert_eq!(ClusterId::of(&members()).to_string(), "5916299f5e8061f057cd28b34a02216b");
    let mut other = members();
    other[2].incarnation = Incarnation(34);
    assert_ne!(ClusterId::of(&members()), ClusterId::of(&other));
}

#[test]
#[should_panic(expected = "founded twice")]
fn a_node_is_founded_once() {
    let identity = Identity::new(node(1), Incarnation(11)).founded(&members());
    let _ = identity.founded(&members()[..2]);
}

/// Making a folder and founding it, cut at each operation, twice: the folder opens, and it is founded or not,
/// never in between; and it is founded once `store` has returned.
#[test]
fn making_and_founding_survive_a_crash_at_each_operation() {
    let start = |disk: &SimDisk, fresh: u64| -> Option<Identity> {
        let folder = open_folder(disk, 1, fresh).ok()?;
        let incarnation = folder.identity.incarnation;
        let mut list = members();
        list[0].incarnation = incarnation;
        identity::store(disk, &folder.identity.founded(&list)).ok()?;
        Some(folder.identity.founded(&list))
    };
    let whole = SimDisk::new();
    start(&whole, 1).unwrap();
    for first in 1..=whole.operations() + 1 {
        for second in 1..=whole.operations() + 1 {
            for power in 0..6 {
                let disk = SimDisk::new();
                disk.crash_at(first, power);
                let promised = start(&disk, 1);
                disk.crash_power(power + first * 8);
                disk.crash_at(disk.operations() + second, power);
                let promised = start(&disk, 2).or(promised);
                disk.crash_power(power + second * 8);
                let folder = open_folder(&disk, 1, 3)
                    .unwrap_or_else(|error| panic!("{first} {second} {power}: {error}"));
                if let Some(promised) = promised {
                    let Identity { start_number, ref draws, .. } = folder.identity;
                    let draws = draws.clone();
                    assert!(start_number > promised.start_number, "{first} {second} {power}: given twice");
                    assert_eq!(
                        folder.identity,
                        Identity { start_number, draws, ..promised },
                        "{first} {second} {power}"
                    );
                }
                assert!(disk.list().unwrap().len() <= 3);
            }
        }
    }
}
