//! How fast the simulator runs: one fixed setting, the middle of what the swarm of the seeds draws, with everything that
//! can strike and everything that is checked. Counts, and leaves it to its caller to look at a clock.

use std::cell::Cell;

use quorate_replica::checks::CHECK_INTERVAL_MS;
use quorate_replica::replica::LOG_MEMORY_BYTES;

use crate::host::Host;
use crate::options::{
    FaultOptions, Flags, HostOptions, NO_SNAPSHOTS, NetworkOptions, Options, WorkloadOptions,
};
use crate::prng::Prng;
use crate::run::{Report, run_watched};
use crate::schedule::{MS, Micros, SECOND};
use crate::trace::Trace;
use crate::world::World;

/// How long faults last in each run; recovery and verdict follow, as always.
const FAULTS_LAST: Micros = 60 * SECOND;

/// Operations that five Clerks complete together in a simulated second without an active fault, at least: with fewer,
/// speed would be bought with idleness.
pub const CALM_OPERATIONS_A_SECOND_MIN: f64 = 50.0;

/// Five servers and five Clerks. What has moods in the swarm is in the milder one, but on; of the rest, the middle.
pub fn setting() -> Options {
    Options {
        luck: 0,
        nodes: 5,
        spares: 0,
        faults_last: FAULTS_LAST,
        network: NetworkOptions {
            delay_min: 500,
            delay_max: 1_500,
            tail: 0.002,
            delay_cap: 1_500 * MS,
            loss: 0.005,
            duplication: 0.01,
            reorder: 0.02,
            corruption: 0.000_5,
        },
        host: HostOptions {
            sync_min: 1_000,
            sync_max: 3_500,
            slow_sync: 0.001,
            sync_slow: 300 * MS,
            wake_min: 5,
            wake_max: 150,
            clock_offset_ms: 500,
            clock_drift_ppm: 10_000,
            crash_at_effect: 0.000_02,
            crash_is_power: 0.5,
            segment_bytes: 8 << 10,
            log_bytes_max: NO_SNAPSHOTS,
            log_tail_bytes: 0,
            log_memory_bytes: LOG_MEMORY_BYTES,
            snapshot_chunk_bytes: 1 << 10,
            check_interval_ms: CHECK_INTERVAL_MS,
            snapshot_chunks_per_second: 100,
            prepares_segments: true,
            gateway_ttl_ms: 60_000,
        },
        faults: faults(),
        workload: WorkloadOptions {
            clerks: 5,
            pipeliners: 0,
            backups: 0,
            pipeline_depth: 0,
            operations_max: None,
            think_max: 60 * MS,
            append_keys: 2,
            mixed_keys: 2,
            impatient: 0.02,
            reads: 0.3,
            readers: 0,
            padding_max: 16,
            death: None,
            connection_cut: Some(8 * SECOND),
            delay_min: 160,
            delay_max: 1_200,
            request_loss: 0.0,
            answer_loss: 0.0,
        },
    }
}

fn faults() -> FaultOptions {
    FaultOptions {
        process_crash: Some(6 * SECOND),
        power_crash: Some(6 * SECOND),
        all_crash: Some(15 * SECOND),
        leader_crash: Some(8 * SECOND),
        leave: None,
        pause: Some(6 * SECOND),
        partition: Some(5 * SECOND),
        odd_cuts: 0.0,
        link_reset: Some(3 * SECOND),
        clock_jump: Some(5 * SECOND),
        clock_jump_ms: 2_000,
        slow_node: None,
        full_disk: None,
        rot: None,
        slow_disk: Some(8 * SECOND),
        lasts_min: 150 * MS,
        lasts_max: 2_500 * MS,
        crash_again: 0.1,
        sync_failure: None,
        wipe: None,
        put_back: None,
        lost: 0,
        change: None,
        transfer: None,
        clients_first: 0.0,
        flags: Flags::default(),
        disk_bug: None,
    }
}

/// The part of a run's fault phase in which no fault was active, and what was completed in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Calm {
    /// How long it was, in pieces.
    pub lasted: Micros,
    /// Operations that completed in it with a known outcome.
    pub operations: usize,
}

impl Calm {
    /// Operations a simulated second.
    pub fn a_second(&self) -> f64 {
        self.operations as f64 * SECOND as f64 / self.lasted.max(1) as f64
    }
}

/// Runs a seed in the setting.
pub fn run(seed: u64) -> (Report, Calm) {
    let meter = Meter::default();
    let report =
        run_watched(seed, setting(), &mut Prng::new(seed), Trace::default(), |world| meter.watch(world));
    (report, meter.calm.get())
}

/// Looks at the world after each event, and adds up what lay between two looks if both find it calm.
#[derive(Default)]
struct Meter {
    calm: Cell<Calm>,
    before: Cell<(Micros, usize, bool)>,
}

impl Meter {
    fn watch(&self, world: &World) {
        let (now, completed, is_calm) = (world.now(), world.history().completed(), is_calm(world));
        let (last, completed_before, was_calm) = self.before.replace((now, completed, is_calm));
        if was_calm && is_calm {
            let Calm { lasted, operations } = self.calm.get();
            let operations = operations + completed - completed_before;
            self.calm.set(Calm { lasted: lasted + now - last, operations });
        }
    }
}

/// Whether every server is up, awake and on a healthy disk, and every link open. Messages are still lost, late and
/// doubled, as the network's options say; and what a fault has left behind, an election say, is not waited for.
fn is_calm(world: &World) -> bool {
    let now = world.now();
    let is_well = |host: &Host| host.process.is_some() && host.asleep_until <= now && host.slow_until <= now;
    world.hosts.iter().all(is_well) && world.network.is_whole()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_clerks_are_busy_while_nothing_is_broken_and_enough_is_broken() {
        let (report, calm) = run(1);
        assert_eq!(report.violation, None);
        assert!(calm.a_second() >= CALM_OPERATIONS_A_SECOND_MIN, "{calm:?}");
        // Both kinds of time are there to be measured.
        assert!(calm.lasted >= FAULTS_LAST / 10 && calm.lasted <= FAULTS_LAST * 9 / 10, "{calm:?}");
        assert!(report.counts.crashes >= 10 && report.counts.partitions >= 5, "{:?}", report.counts);
    }

    #[test]
    fn looking_on_changes_nothing() {
        let (watched, _) = run(2);
        let unwatched = run_watched(2, setting(), &mut Prng::new(2), Trace::default(), |_| ());
        assert_eq!(watched.counts.events, unwatched.counts.events);
        assert_eq!(watched.operations, unwatched.operations);
    }
}
