//! The log against a model: whatever is appended, truncated, synced and reopened, it holds what a plain list
//! would.

use proptest::collection::vec;
use proptest::prelude::*;
use quorate_raft::{Entry, HardState};
use quorate_storage::{PREPARE_STEP_BYTES, SimDisk, WalConfig};

use crate::support::{Content, config, entry, existing, new_log, noop, open, reopen, vote};

#[test]
fn what_was_written_comes_back() {
    let (disk, mut wal) = new_log();
    wal.append(Some(vote(1, 2)), &[noop(1, 1), entry(2, 1, "a")]).unwrap();
    wal.append(None, &[entry(3, 1, "b")]).unwrap();
    wal.sync().unwrap();
    let restored = reopen(&disk);
    assert_eq!(restored.hard_state, vote(1, 2));
    assert_eq!(restored.entries, [noop(1, 1), entry(2, 1, "a"), entry(3, 1, "b")]);
}

#[test]
fn an_entry_at_or_below_the_end_truncates() {
    let (disk, mut wal) = new_log();
    wal.append(Some(vote(1, 0)), &[entry(1, 1, "a"), entry(2, 1, "b"), entry(3, 1, "c")]).unwrap();
    wal.append(Some(vote(2, 1)), &[entry(2, 2, "B")]).unwrap();
    wal.sync().unwrap();
    assert_eq!(reopen(&disk).entries, [entry(1, 1, "a"), entry(2, 2, "B")]);
}

#[test]
fn a_record_larger_than_a_segment_gets_a_segment_of_its_size() {
    let (disk, mut wal) = new_log();
    let big = vec![7; 5000];
    for index in 1..=3 {
        wal.append(Some(vote(1, 0)), &[entry(index, 1, &big)]).unwrap();
        wal.sync().unwrap();
        wal.mark_synced().unwrap();
        wal.prepare_next().unwrap();
    }
    assert_eq!(reopen(&disk).entries.len(), 3);
}

#[test]
fn a_marker_is_written_once_and_survives_reopening() {
    let (disk, mut wal) = new_log();
    wal.append(Some(vote(1, 0)), &[entry(1, 1, "a")]).unwrap();
    wal.sync().unwrap();
    wal.mark_synced().unwrap();
    let marked = wal.synced();
    wal.mark_synced().unwrap();
    assert_eq!(wal.synced(), marked);
    disk.crash_process();
    let (mut wal, _) = open(&disk, &existing()).unwrap();
    wal.mark_synced().unwrap();
    assert_eq!(wal.synced(), marked);
}

#[test]
fn rotation_costs_no_filling_if_the_next_segment_is_prepared() {
    let (disk, mut wal) = new_log();
    wal.prepare_next().unwrap();
    let names = disk.names();
    assert_eq!(names, ["log-0000000001", "log-0000000002"]);
    wal.append(Some(vote(1, 0)), &[entry(1, 1, vec![1; 600])]).unwrap();
    wal.sync().unwrap();
    let before = disk.operations();
    wal.append(None, &[entry(2, 1, vec![2; 600])]).unwrap();
    // The seal: one write, one sync.
    assert_eq!(disk.operations() - before, 2);
    assert_eq!(disk.names(), names);
    wal.sync().unwrap();
    assert_eq!(disk.operations() - before, 4);
}

/// A log that is never idle makes its next segment in pieces, in step with its own growth.
#[test]
fn preparing_in_steps_is_done_before_the_segment_is_full() {
    let disk = SimDisk::new();
    let config = WalConfig { segment_bytes: 4 << 20, ..config() };
    let (mut wal, _) = open(&disk, &config).unwrap();
    let next_size = || disk.content("log-0000000002").map_or(0, |content| content.len() as u64);
    let mut index = 0;
    while wal.synced().segment == 1 {
        let before = next_size();
        index += 1;
        wal.append(Some(vote(1, 0)), &[entry(index, 1, vec![1; 100_000])]).unwrap();
        wal.sync().unwrap();
        if wal.synced().segment == 1 {
            wal.prepare_step().unwrap();
            let grown = next_size() - before;
            assert!(grown <= PREPARE_STEP_BYTES, "one piece at a time");
            assert!(grown == 0 || wal.synced().offset > 2 << 20, "not before it is half full");
        } else {
            assert_eq!(before, 4 << 20, "nothing was left for the rotation");
        }
    }
}

#[test]
#[should_panic(expected = "entries leave a gap")]
fn a_gap_does_not_reach_the_disk() {
    let (_, mut wal) = new_log();
    let _ = wal.append(None, &[entry(2, 1, "a")]);
}

#[test]
#[should_panic(expected = "a later term than the hard state")]
fn an_entry_of_an_unknown_term_does_not_reach_the_disk() {
    let (_, mut wal) = new_log();
    let _ = wal.append(Some(vote(1, 1)), &[entry(1, 2, "a")]);
}

#[test]
#[should_panic(expected = "a vote is taken back")]
fn a_second_vote_in_a_term_does_not_reach_the_disk() {
    let (_, mut wal) = new_log();
    wal.append(Some(vote(1, 1)), &[]).unwrap();
    let _ = wal.append(Some(vote(1, 2)), &[]);
}

#[derive(Clone, Debug)]
enum Step {
    /// Truncate so many entries, then append so many of these sizes.
    Append {
        back: u64,
        sizes: Vec<usize>,
        new_term: bool,
    },
    Sync,
    Mark,
    Prepare,
    /// Reopen after the kill of the process.
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let append = (0..4_u64, vec(0..700_usize, 0..5), any::<bool>());
    prop_oneof![
        6 => append.prop_map(|(back, sizes, new_term)| Step::Append { back, sizes, new_term }),
        4 => Just(Step::Sync),
        1 => Just(Step::Mark),
        1 => Just(Step::Prepare),
        2 => Just(Step::Reopen),
    ]
}

/// The write that a step asks for, behind `content`.
fn write_of(
    content: &Content,
    back: u64,
    sizes: &[usize],
    new_term: bool,
) -> (Option<HardState>, Vec<Entry>) {
    let new_term = new_term || content.hard_state.term.0 == 0;
    let term = content.hard_state.term.0 + u64::from(new_term);
    let last = content.entries.len() as u64;
    let first = last.saturating_sub(if new_term { back } else { 0 }) + 1;
    let entries = sizes.iter().zip(first..).map(|(size, index)| entry(index, term, vec![index as u8; *size]));
    (new_term.then(|| vote(term, 1 + term % 3)), entries.collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_log_equals_a_list(steps in vec(step(), 1..60)) {
        let (disk, mut wal) = new_log();
        let mut appended = Content::default();
        for step in steps {
            match step {
                Step::Append { back, sizes, new_term } => {
                    let (hard_state, entries) = write_of(&appended, back, &sizes, new_term);
                    wal.append(hard_state, &entries).unwrap();
                    appended.write(hard_state, &entries);
                }
                Step::Sync => { wal.sync().unwrap(); }
                Step::Mark => { wal.mark_synced().unwrap(); }
                Step::Prepare => { wal.prepare_next().unwrap(); }
                Step::Reopen => {
                    wal.sync().unwrap();
                    disk.crash_process();
                    let (again, restored) = open(&disk, &config()).unwrap();
                    wal = again;
                    prop_assert_eq!(Content::from(restored), appended.clone());
                }
            }
        }
        wal.sync().unwrap();
        disk.crash_power(0);
        prop_assert_eq!(Content::from(open(&disk, &existing()).unwrap().1), appended);
    }
}
