//! The provers proved: each mistake that storage could make, put back, is found by a few dozen short runs.

use std::panic::{AssertUnwindSafe, catch_unwind};

use quorate_storage::{DiskBug, SimDisk};

use crate::crash::{Run, check_promises};
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
    }
}

#[test]
fn each_bug_is_found() {
    use DiskBug::{ForgetsZeros, HidesSyncErrors, SkipsFileSyncs, SkipsFolderSyncs, TrustsWhatItReads};
    let bugs = [SkipsFileSyncs, SkipsFolderSyncs, HidesSyncErrors, ForgetsZeros, TrustsWhatItReads];
    for bug in bugs {
        let is_found = |seed: &u64| catch_unwind(AssertUnwindSafe(|| lives(*seed, Some(bug)))).is_err();
        let found = (0..SEEDS).find(is_found);
        println!("{bug:?}: found by seed {found:?}");
        assert!(found.is_some(), "{bug:?} goes unnoticed in {SEEDS} seeds");
    }
}
