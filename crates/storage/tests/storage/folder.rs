//! A data folder as a whole: one server at a time, its own, and never one that has forgotten.

use std::sync::Arc;

use expect_test::{Expect, expect};
use quorate_raft::NodeId;
use quorate_storage::{
    ClusterId, Disk, Folder, FolderConfig, FolderError, Identity, Incarnation, Member, SEGMENT_BYTES_MIN,
    SimDisk, identity,
};

use crate::support::{entry, segment, sentence, vote};

fn node(id: u64) -> NodeId {
    NodeId::new(id).unwrap()
}

fn config(id: u64, fresh: u64) -> FolderConfig {
    let fresh_incarnation = Incarnation(fresh);
    FolderConfig { node: node(id), fresh_incarnation, segment_bytes: SEGMENT_BYTES_MIN }
}

fn open(disk: &SimDisk, id: u64, fresh: u64) -> Result<Folder, FolderError> {
    Folder::open(Arc::new(disk.clone()), &config(id, fresh))
}

fn members() -> Vec<Member> {
    [(1, 11), (2, 22), (3, 33)]
        .map(|(id, number)| Member { id: node(id), incarnation: Incarnation(number) })
        .into()
}

/// A founded folder of node 1 with one entry in its log.
fn founded() -> SimDisk {
    let disk = SimDisk::new();
    let mut folder = open(&disk, 1, 11).unwrap();
    identity::store(&disk, &folder.identity.founded(&members())).unwrap();
    folder.wal.append(Some(vote(1, 1)), &[entry(1, 1, "a")]).unwrap();
    folder.wal.sync().unwrap();
    drop(folder);
    disk.crash_power(0);
    disk
}

fn refusal(disk: &SimDisk, id: u64, expected: &Expect) {
    let before: Vec<_> = disk.names().iter().map(|name| disk.content(name)).collect();
    let error = open(disk, id, 99).err().expect("refused");
    expected.assert_eq(&sentence(&error));
    let after: Vec<_> = disk.names().iter().map(|name| disk.content(name)).collect();
    assert_eq!(before, after, "a refusal changes nothing");
}

#[test]
fn a_folder_keeps_what_it_is() {
    let disk = SimDisk::new();
    let folder = open(&disk, 1, 11).unwrap();
    assert_eq!(folder.identity, Identity::new(node(1), Incarnation(11)));
    drop(folder);
    disk.crash_power(0);
    // The incarnation is the folder's, not the start's.
    assert_eq!(open(&disk, 1, 99).unwrap().identity.incarnation, Incarnation(11));

    let folder = open(&founded(), 1, 99).unwrap();
    assert_eq!(folder.identity.cluster(), Some(ClusterId::of(&members())));
    assert_eq!(folder.identity.founding, members());
    assert_eq!(folder.restored.entries, [entry(1, 1, "a")]);
}

#[test]
fn two_servers_cannot_use_one_folder() {
    let disk = founded();
    let first = open(&disk, 1, 0).unwrap();
    refusal(
        &disk,
        1,
        &expect![[r#"
        the data folder is in use by another server: stop that one, or give this one a
        folder of its own
    "#]],
    );
    drop(first);
    let _held = open(&disk, 1, 0).unwrap();
    disk.crash_process();
    open(&disk, 1, 0).unwrap();
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
    assert!(matches!(open(&disk, 1, 0), Err(FolderError::Log(_))));
}

#[test]
fn a_log_without_an_identity_is_refused() {
    let disk = founded();
    disk.plant("identity", None);
    refusal(
        &disk,
        1,
        &expect![[r#"
        the data folder holds a log and no file identity: it is not known any more whose
        data this is; keep the folder for examination, and do not start a server on it
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
            assert!(matches!(open(&disk, 1, 0), Err(FolderError::Identity(_))), "bit {bit} of byte {offset}");
        }
    }
    for length in 0..bytes.len() {
        disk.plant("identity", Some(bytes[..length].to_vec()));
        assert!(matches!(open(&disk, 1, 0), Err(FolderError::Identity(_))), "cut to {length}");
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
    bytes[12] = 2;
    let sum = crc32c::crc32c(&bytes[12..]);
    bytes[8..12].copy_from_slice(&sum.to_le_bytes());
    disk.plant("identity", Some(bytes));
    refusal(
        &disk,
        1,
        &expect![[r#"
        identity has format 2, and this program reads up to 1: start a newer version of
        it
    "#]],
    );
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
        let folder = open(disk, 1, fresh).ok()?;
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
                let folder =
                    open(&disk, 1, 3).unwrap_or_else(|error| panic!("{first} {second} {power}: {error}"));
                if let Some(promised) = promised {
                    assert_eq!(folder.identity, promised, "{first} {second} {power}");
                }
                assert!(disk.list().unwrap().len() <= 3);
            }
        }
    }
}
