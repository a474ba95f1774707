//! Crashes at every single operation of the disk: what was synced is there, what is there is a prefix of what
//! was written, and what recovery has returned is durable.

use std::ops::RangeInclusive;

use quorate_storage::{SimDisk, Wal};

use crate::support::{Content, Step, config, entry, existing, open, vote, workload};

const STEPS: usize = 40;
/// 0 and 1 are "nothing unsynced survives" and "everything does".
const POWER_SEEDS: u64 = 6;

/// How far a run has come: contents after 0, 1, 2, … writes, and which of them may be on the disk.
pub(crate) struct Run {
    contents: Vec<Content>,
    /// The log was made, so that its loss would be noticed.
    is_made: bool,
    synced: usize,
    /// A step failed, and it ended there.
    stopped: bool,
}

impl Run {
    /// Runs the steps until the disk crashes, or to the end.
    pub(crate) fn new(disk: &SimDisk, steps: &[Step]) -> Self {
        let mut run = Self { contents: vec![Content::default()], is_made: false, synced: 0, stopped: false };
        let Ok((mut wal, _)) = open(disk, &config()) else { return run };
        run.is_made = true;
        for step in steps {
            if run.step(disk, &mut wal, step).is_none() {
                run.stopped = true;
                break;
            }
        }
        run
    }

    fn step(&mut self, disk: &SimDisk, wal: &mut Wal, step: &Step) -> Option<()> {
        match step {
            Step::Append(hard_state, entries) => {
                let mut content = self.contents.last().unwrap().clone();
                content.write(*hard_state, entries);
                self.contents.push(content);
                wal.append(*hard_state, entries).ok()
            }
            Step::Sync => {
                wal.sync().ok()?;
                self.synced = self.written();
                Some(())
            }
            Step::Mark => {
                let synced = self.written();
                wal.mark_synced().ok()?;
                self.synced = synced;
                Some(())
            }
            Step::Prepare => wal.prepare_next().ok(),
            Step::Piece => wal.prepare_step().ok(),
            Step::Reopen => {
                wal.sync().ok()?;
                self.synced = self.written();
                *wal = open(disk, &existing()).ok()?.0;
                Some(())
            }
        }
    }

    fn written(&self) -> usize {
        self.contents.len() - 1
    }

    /// Recovers, and checks what comes back; `None` if the disk crashed meanwhile.
    pub(crate) fn recover(&self, disk: &SimDisk, what: &str) -> Option<(Wal, Content)> {
        let config = if self.is_made { existing() } else { config() };
        match open(disk, &config) {
            Ok((wal, restored)) => {
                let content = Content::from(restored);
                self.check(&content, self.synced..=self.written(), what);
                Some((wal, content))
            }
            Err(_) if disk.is_crashed() => None,
            Err(error) => panic!("{what}: {error}"),
        }
    }

    fn check(&self, content: &Content, legal: RangeInclusive<usize>, what: &str) {
        let is_legal = self.contents[legal.clone()].contains(content);
        assert!(is_legal, "{what}: {content:?} is none of the writes {legal:?}");
    }
}

/// After a recovery: what it returned survives the worst power cut, and the log goes on behind it.
pub(crate) fn check_promises(disk: &SimDisk, wal: &mut Wal, content: &Content, what: &str) {
    let image = disk.durable_image();
    let again = Content::from(open(&image, &existing()).unwrap_or_else(|error| panic!("{what}: {error}")).1);
    assert_eq!(again, *content, "{what}: recovery returned what was not durable");

    let mut content = content.clone();
    let term = content.hard_state.term.0 + 1;
    let next = content.entries.len() as u64 + 1;
    for (index, bytes) in [(next, 10), (next + 1, 900), (next + 2, 10)] {
        let write = (Some(vote(term, 1)), [entry(index, term, vec![9; bytes])]);
        wal.append(write.0, &write.1).unwrap();
        content.write(write.0, &write.1);
    }
    wal.sync().unwrap();
    let image = disk.durable_image();
    let again = Content::from(open(&image, &existing()).unwrap_or_else(|error| panic!("{what}: {error}")).1);
    assert_eq!(again, content, "{what}: the log did not go on");
}

/// Runs `steps` up to each operation in turn, and hands over what the crash left.
fn at_each_operation(seed: u64, mut judge: impl FnMut(u64, &SimDisk, &Run)) {
    let steps = workload(seed, STEPS);
    let whole = SimDisk::new();
    assert!(!Run::new(&whole, &steps).stopped);
    let operations = whole.operations();
    assert!(operations > 40, "the workload does something");
    for operation in 1..=operations {
        let disk = SimDisk::new();
        disk.crash_at(operation, seed.wrapping_mul(1000) + operation);
        let run = Run::new(&disk, &steps);
        assert!(disk.is_crashed());
        judge(operation, &disk, &run);
    }
}

#[test]
fn a_killed_process_loses_nothing_synced() {
    for seed in 0..8 {
        at_each_operation(seed, |operation, disk, run| {
            let what = format!("workload {seed}, killed at {operation}");
            disk.crash_process();
            let (mut wal, content) = run.recover(disk, &what).unwrap();
            check_promises(disk, &mut wal, &content, &what);
        });
    }
}

#[test]
fn a_power_cut_loses_nothing_synced() {
    for seed in 0..8 {
        at_each_operation(seed, |operation, disk, run| {
            for power in 0..POWER_SEEDS {
                let what = format!("workload {seed}, power {power} cut at {operation}");
                let disk = disk.fork();
                disk.crash_power(power + operation * POWER_SEEDS * u64::from(power > 1));
                let (mut wal, content) = run.recover(&disk, &what).unwrap();
                check_promises(&disk, &mut wal, &content, &what);
            }
        });
    }
}

/// The first crash kills the process or cuts the power; recovery is cut at each of its own operations; then
/// the power fails again.
#[test]
fn a_crash_during_recovery_loses_nothing_synced() {
    for seed in 0..3 {
        at_each_operation(seed, |operation, disk, run| {
            for first in [None, Some(0), Some(1), Some(operation + 2)] {
                let disk = disk.fork();
                if let Some(power) = first {
                    disk.crash_power(power);
                }
                for cut in 1.. {
                    let disk = disk.fork();
                    disk.crash_at(disk.operations() + cut, operation * 7 + cut);
                    let what = format!("workload {seed}, {first:?} at {operation}, recovery cut at {cut}");
                    if run.recover(&disk, &what).is_some() {
                        break;
                    }
                    for power in [0, 1, operation * 31 + cut + 2] {
                        let disk = disk.fork();
                        disk.crash_power(power);
                        let what = format!("{what}, then power {power}");
                        let (mut wal, content) = run.recover(&disk, &what).unwrap();
                        check_promises(&disk, &mut wal, &content, &what);
                    }
                }
            }
        });
    }
}

/// After the kill of a process the next one writes on, over a new segment, and the power fails at each of its
/// operations: what it found in the cache, unsynced zeros and names too, must not be what its promises rest
/// on.
#[test]
fn a_second_life_may_fail_at_each_operation_too() {
    for seed in 0..4 {
        at_each_operation(seed, |operation, disk, run| {
            disk.crash_process();
            for cut in 1.. {
                let disk = disk.fork();
                let what = format!("workload {seed}, killed at {operation}, cut at {cut}");
                let (mut wal, found) = run.recover(&disk, &what).unwrap();
                let term = found.hard_state.term.0 + 1;
                let next = found.entries.len() as u64 + 1;
                let mut second = Run { contents: vec![found], is_made: true, synced: 0, stopped: false };
                disk.crash_at(disk.operations() + cut, cut);
                let steps = [
                    Step::Append(Some(vote(term, 1)), vec![entry(next, term, [1; 600])]),
                    Step::Append(None, vec![entry(next + 1, term, [2; 600])]),
                    Step::Sync,
                ];
                let is_done = steps.iter().all(|step| second.step(&disk, &mut wal, step).is_some());
                for power in [0, 1, cut + 2] {
                    let disk = disk.fork();
                    disk.crash_power(power);
                    let what = format!("{what}, power {power}");
                    let (mut wal, content) = second.recover(&disk, &what).unwrap();
                    check_promises(&disk, &mut wal, &content, &what);
                }
                if is_done {
                    break;
                }
            }
        });
    }
}

/// A run that crashes, recovers and writes on many times over: nothing of an earlier life rises from the
/// dead.
#[test]
fn many_lives_in_a_row() {
    for seed in 0..60 {
        let disk = SimDisk::new();
        let mut base = Content::default();
        for life in 0..8 {
            let (mut wal, restored) = open(&disk, &config()).unwrap();
            let restored = Content::from(restored);
            assert_eq!(restored, base, "seed {seed}, life {life}");
            let mut run = Run { contents: vec![restored], is_made: true, synced: 0, stopped: false };
            disk.crash_at(disk.operations() + 1 + (seed * 5 + life * 3) % 17, seed * 100 + life);
            for number in 0.. {
                let content = run.contents.last().unwrap();
                let next = content.entries.len() as u64 + 1;
                let term = content.hard_state.term.0.max(1);
                // The same length each time, so that an old record would fit behind a new one.
                let append = Step::Append(
                    (number == 0).then(|| vote(term + 1, life % 3)),
                    vec![entry(next, term + u64::from(number == 0), vec![life as u8; 100])],
                );
                let steps = if number % 3 == 2 { vec![append, Step::Sync] } else { vec![append] };
                if steps.iter().any(|step| run.step(&disk, &mut wal, step).is_none()) {
                    break;
                }
            }
            if (seed + life) % 2 == 0 {
                disk.crash_process();
            } else {
                disk.crash_power(seed * 10 + life);
            }
            let what = format!("seed {seed}, life {life}");
            base = run.recover(&disk.fork(), &what).unwrap().1;
        }
    }
}
