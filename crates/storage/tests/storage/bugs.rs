//! The provers proved: each mistake that storage could make, put back, is found by a few dozen short runs.

use std::panic::{AssertUnwindSafe, catch_unwind};

use quorate_storage::{DiskBug, SimDisk};

use crate::crash::{Run, check_promises};
use crate::lives::two_lives;
use crate::support::workload;

const SEEDS: u64 = 40;

/// One life that ends in a crash or a failed operation, and a second that recovers, writes on, and loses the
/// power; panics where something is wrong.
fn lives(seed: u64, bug: Option<DiskBug>) {
    let steps = workload(seed, 60);
    let disk = SimDisk::new();
    if let Some(bug) = bug {
        disk.put_back(bug);
    }
    let at = 5 + seed * 7 % 60;
    if seed.is_multiple_of(2) {
        disk.crash_at(at, seed);
    } else {
        disk.fail_at(at);
    }
    let run = Run::new(&disk, &steps);
    if seed.is_multiple_of(3) {
        disk.crash_power(seed);
    } else {
        disk.crash_process();
    }
    let what = format!("seed {seed}");
    let (mut wal, content) = run.recover(&disk, &what).expect("no crash is planned");
    check_promises(&disk, &mut wal, &content, &what);
}

#[test]
fn without_a_bug_nothing_is_found() {
    for seed in 0..SEEDS * 5 {
        lives(seed, None);
        two_lives(seed, None);
    }
}

use DiskBug::{ForgetsZeros, HidesSyncErrors, SkipsFileSyncs, SkipsFolderSyncs, TrustsWhatItReads};

const DISK_BUGS: [DiskBug; 5] =
    [SkipsFileSyncs, SkipsFolderSyncs, HidesSyncErrors, ForgetsZeros, TrustsWhatItReads];

/// The first of so many seeds whose life goes wrong.
fn finds(bug: &impl std::fmt::Debug, seeds: u64, life: impl Fn(u64)) {
    let is_found = |seed: &u64| catch_unwind(AssertUnwindSafe(|| life(*seed))).is_err();
    let found = (0..seeds).find(is_found);
    assert!(found.is_some(), "{bug:?} goes unnoticed in {seeds} seeds");
}

#[test]
fn each_bug_is_found() {
    for bug in DISK_BUGS {
        finds(&bug, SEEDS, |seed| lives(seed, Some(bug)));
    }
}

#[test]
fn each_bug_is_found_behind_snapshots_too() {
    for bug in DISK_BUGS {
        finds(&bug, SEEDS * 40, |seed| two_lives(seed, Some(bug)));
    }
}

/// Those that need to know the log or its snapshots.
#[cfg(feature = "sabotage")]
#[test]
fn each_bug_of_storage_is_found() {
    use quorate_storage::sabotage::{Bug, put_back};
    let bugs = [
        Bug::RotatesWithoutSync,
        Bug::DeletesBeforeHeader,
        Bug::NamesSnapshotBeforeContent,
        Bug::NamesSnapshotWithoutSync,
        Bug::SkipsDamagedSnapshot,
        Bug::KeepsLogWithoutSnapshot,
    ];
    for bug in bugs {
        put_back(Some(bug));
        finds(&bug, SEEDS * 10, |seed| two_lives(seed, None));
        put_back(None);
    }
}
