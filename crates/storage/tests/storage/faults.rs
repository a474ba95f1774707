//! A disk that fails: errors latch, nothing is promised behind them, and what was promised before is there.

use expect_test::expect;
use quorate_storage::{SimDisk, Wal, WriteError};

use crate::support::{
    Content, Step, config, entry, existing, new_log, open, reopen, segment, sentence, vote, workload,
};

#[test]
fn a_failed_sync_is_never_tried_again() {
    let (disk, mut wal) = new_log();
    wal.append(Some(vote(1, 0)), &[entry(1, 1, "a")]).unwrap();
    disk.fail_next_sync();
    let error = wal.sync().unwrap_err();
    expect![[r#"
        could not sync log-0000000001: input/output error (injected); what is on the disk
        is not known any more, so this server must stop
    "#]]
    .assert_eq(&sentence(&error));
    let operations = disk.operations();
    assert!(matches!(wal.sync(), Err(WriteError::Poisoned)));
    assert!(matches!(wal.append(Some(vote(1, 0)), &[entry(1, 1, "a")]), Err(WriteError::Poisoned)));
    assert!(matches!(wal.mark_synced(), Err(WriteError::Poisoned)));
    assert!(matches!(wal.prepare_next(), Err(WriteError::Poisoned)));
    assert!(matches!(wal.prepare_step(), Err(WriteError::Poisoned)));
    assert_eq!(disk.operations(), operations);
}

/// After a failed sync the bytes still read, as clean ones that no sync will write: recovery must write them
/// anew.
#[test]
fn what_a_failed_sync_dropped_is_written_anew_before_it_counts() {
    let mut survived = 0;
    for bytes in [10, 600, 2000, 5000] {
        let (disk, mut wal) = new_log();
        wal.append(Some(vote(1, 0)), &[entry(1, 1, vec![1; bytes])]).unwrap();
        disk.fail_next_sync();
        wal.sync().unwrap_err();
        let restored = reopen(&disk);
        survived += restored.entries.len();
        let image = disk.durable_image();
        assert_eq!(open(&image, &existing()).unwrap().1.entries, restored.entries);
    }
    assert!(survived > 0);
}

#[test]
fn a_written_tail_that_was_never_synced_is_durable_once_recovery_returns() {
    let (disk, mut wal) = new_log();
    wal.append(Some(vote(1, 0)), &[entry(1, 1, "a")]).unwrap();
    // The process dies in the sync: all is written, nothing is synced.
    disk.crash_at(disk.operations() + 2, 0);
    wal.sync().unwrap_err();
    assert_eq!(open(&disk.durable_image(), &existing()).unwrap().1.entries, []);
    let restored = reopen(&disk);
    assert_eq!(restored.entries, [entry(1, 1, "a")]);
    assert_eq!(open(&disk.durable_image(), &existing()).unwrap().1.entries, restored.entries);
}

/// Runs until something fails; returns the contents after each write, and how many of them are synced.
fn run(disk: &SimDisk, steps: &[Step]) -> (Vec<Content>, usize, Option<Wal>) {
    let mut contents = vec![Content::default()];
    let Ok((mut wal, _)) = open(disk, &config()) else { return (contents, 0, None) };
    let mut synced = 0;
    for step in steps {
        let done = match step {
            Step::Append(hard_state, entries) => {
                let mut content = contents.last().unwrap().clone();
                content.write(*hard_state, entries);
                contents.push(content);
                wal.append(*hard_state, entries)
            }
            Step::Sync | Step::Reopen => wal.sync().map(|()| synced = contents.len() - 1),
            Step::Mark => wal.mark_synced().map(|()| synced = contents.len() - 1),
            Step::Prepare => wal.prepare_next(),
            Step::Piece => wal.prepare_step(),
        };
        if done.is_err() {
            break;
        }
    }
    (contents, synced, Some(wal))
}

#[test]
fn each_operation_that_fails_stops_the_log_and_loses_nothing_synced() {
    for seed in 20..26 {
        let steps = workload(seed, 40);
        let whole = SimDisk::new();
        run(&whole, &steps);
        for operation in 1..=whole.operations() {
            let disk = SimDisk::new();
            disk.fail_at(operation);
            let (contents, synced, wal) = run(&disk, &steps);
            let was_made = wal.is_some();
            if let Some(mut wal) = wal {
                assert!(matches!(wal.sync(), Err(WriteError::Poisoned)), "{operation}");
            }
            for power in [None, Some(0), Some(1), Some(operation + 2)] {
                let disk = disk.fork();
                if let Some(power) = power {
                    disk.crash_power(power);
                }
                let config = if was_made { existing() } else { config() };
                let what = format!("workload {seed}, {operation} fails, power {power:?}");
                let (wal, restored) = open(&disk, &config).unwrap_or_else(|error| panic!("{what}: {error}"));
                let content = Content::from(restored);
                assert!(contents[synced..].contains(&content), "{what}: {content:?}");
                drop(wal);
                let again = open(&disk.durable_image(), &existing()).unwrap().1;
                assert_eq!(Content::from(again), content, "{what}");
            }
        }
    }
}

#[test]
fn a_full_disk_is_said_before_anything_is_promised_and_breaks_nothing() {
    let (disk, mut wal) = new_log();
    wal.append(Some(vote(1, 0)), &[entry(1, 1, vec![1; 500])]).unwrap();
    wal.sync().unwrap();
    disk.set_capacity_bytes(Some(1500));
    let write = [entry(2, 1, vec![2; 600])];
    let error = wal.append(None, &write).unwrap_err();
    expect![[r#"
        the disk is full: the log's next segment needs 1024 bytes and 476 are free; free
        some space
    "#]]
    .assert_eq(&sentence(&error));
    wal.prepare_next().unwrap_err();
    // What fits goes on.
    wal.append(None, &[entry(2, 1, "small")]).unwrap();
    wal.sync().unwrap();
    wal.mark_synced().unwrap();
    assert_eq!(reopen(&disk).entries, [entry(1, 1, vec![1; 500]), entry(2, 1, "small")]);
    // And with space again, everything does.
    let (mut wal, _) = open(&disk, &existing()).unwrap();
    disk.set_capacity_bytes(None);
    wal.append(None, &write).unwrap();
    wal.sync().unwrap();
    assert_eq!(reopen(&disk).entries, [entry(1, 1, vec![1; 500]), entry(2, 1, vec![2; 600])]);
}

#[test]
fn a_full_disk_in_the_middle_of_a_new_segment_breaks_nothing() {
    let (disk, mut wal) = new_log();
    wal.append(Some(vote(1, 0)), &[entry(1, 1, vec![1; 600])]).unwrap();
    // A file of 100 bytes is what an interrupted start of the next segment leaves.
    disk.plant(&segment(2), Some(vec![0; 100]));
    disk.set_capacity_bytes(Some(1200));
    let write = [entry(2, 1, vec![2; 600])];
    assert!(matches!(wal.append(None, &write), Err(WriteError::Full { needed: 924, free: 76 })));
    disk.set_capacity_bytes(None);
    wal.append(None, &write).unwrap();
    wal.sync().unwrap();
    assert_eq!(reopen(&disk).entries.len(), 2);
}

#[test]
fn an_entry_above_the_limit_is_refused_whole() {
    let (disk, mut wal) = new_log();
    let huge = entry(2, 1, vec![0; quorate_storage::ENTRY_BYTES_MAX + 1]);
    let error = wal.append(Some(vote(1, 0)), &[entry(1, 1, "a"), huge]).unwrap_err();
    assert!(matches!(error, WriteError::EntryTooLarge { .. }));
    wal.append(Some(vote(1, 0)), &[entry(1, 1, "b")]).unwrap();
    wal.sync().unwrap();
    assert_eq!(reopen(&disk).entries, [entry(1, 1, "b")]);
}

#[test]
fn a_write_above_a_records_limit_spans_several() {
    let (disk, mut wal) = new_log();
    let entries: Vec<_> = (1..=3).map(|index| entry(index, 1, vec![index as u8; 14 << 20])).collect();
    wal.append(Some(vote(1, 0)), &entries).unwrap();
    wal.sync().unwrap();
    assert_eq!(reopen(&disk).entries, entries);
}
