//! The weather in which a bug can show: what is changed in a seed's swarm, in words of the options alone.

use quorate_replica::replica::LOG_MEMORY_BYTES;

use crate::options::{FaultOptions, NO_SNAPSHOTS, Options};
use crate::prng::Prng;
use crate::schedule::{MS, SECOND};

/// Fewer clients and less time than a run of the night: most bugs show early or never.
pub(super) fn light(options: &mut Options, prng: &mut Prng) {
    options.faults_last = 15 * SECOND;
    options.workload.clerks = prng.between(2, 4) as u32;
    options.workload.pipeliners = prng.between(0, 2) as u32;
    options.workload.pipeline_depth = prng.between(1, 8) as u32;
    options.workload.padding_max = options.workload.padding_max.min(200);
    options.host.log_memory_bytes = LOG_MEMORY_BYTES;
}

/// So few operations that nothing but consensus is at work.
fn quiet(options: &mut Options) {
    options.workload.clerks = 2;
    options.workload.pipeliners = 0;
    options.workload.think_max = 100 * MS;
}

/// Groups in which two are no majority.
pub(super) fn large(options: &mut Options, prng: &mut Prng) {
    light(options, prng);
    options.nodes = if prng.chance(0.5) { 5 } else { 7 };
}

/// Leaders come and go.
pub(super) fn elections(options: &mut Options, prng: &mut Prng) {
    light(options, prng);
    if options.nodes == 1 {
        options.nodes = 3;
    }
    options.faults.leader_crash = Some(prng.between(300, 2_000) * MS);
    options.faults.partition = Some(prng.between(300, 3_000) * MS);
    options.faults.lasts_min = 10 * MS;
    options.faults.lasts_max = prng.between(100, 2_000) * MS;
}

/// Figure 8 of the paper: leaders die before an entry of theirs is everywhere, and lead again. Entries travel one in
/// a message, and are long on the way, so that an old one can arrive without the new.
pub(super) fn figure_eight(options: &mut Options, prng: &mut Prng) {
    elections(options, prng);
    quiet(options);
    options.nodes = 3;
    options.faults_last = 90 * SECOND;
    options.faults = FaultOptions {
        leader_crash: Some(prng.between(300, 900) * MS),
        partition: Some(prng.between(300, 1_000) * MS),
        odd_cuts: 0.3,
        lasts_min: 50 * MS,
        lasts_max: prng.between(100, 900) * MS,
        ..FaultOptions::default()
    };
    options.faults.flags.append_bytes_max = Some(1);
    options.host.sync_min = prng.between(1, 4) * MS;
    options.host.sync_max = options.host.sync_min + prng.between(1, 4) * MS;
    options.network.delay_min = prng.between(20, 50) * MS;
    options.network.delay_max = options.network.delay_min + prng.between(5, 40) * MS;
    options.network.tail = 0.05;
    // Each check is an entry, and so is each sign of life of a gateway: with such delays one would be on its way at every
    // moment, and no two servers alike.
    options.host.check_interval_ms = 10_000;
    options.host.gateway_ttl_ms = 60_000;
}

/// Messages are long on the way, overtake each other and arrive after their time.
pub(super) fn late_messages(options: &mut Options, prng: &mut Prng) {
    elections(options, prng);
    options.network.tail = 0.2;
    options.network.delay_cap = prng.between(300, 4_000) * MS;
    options.network.reorder = 0.5;
    options.network.duplication = 0.2;
}

/// Clients that only read, while leaders are cut off for longer than it takes to elect another.
pub(super) fn reads(options: &mut Options, prng: &mut Prng) {
    light(options, prng);
    options.nodes = if prng.chance(0.7) { 3 } else { 5 };
    options.faults = FaultOptions {
        partition: Some(prng.between(1_500, 3_000) * MS),
        pause: if prng.chance(0.5) { Some(3 * SECOND) } else { None },
        clients_first: 0.5,
        lasts_min: 700 * MS,
        lasts_max: 1_500 * MS,
        ..FaultOptions::default()
    };
    options.network = options.network.without_faults();
    options.workload.think_max = 20 * MS;
    options.workload.readers = 3;
    options.workload.clerks = 5;
    options.workload.pipeliners = 0;
    options.workload.append_keys = 1;
    options.workload.mixed_keys = 1;
}

/// Such clients, while many messages between servers are late by about as long as an election takes, and links are cut
/// in one direction or the other: a leader may be replaced without hearing of it.
pub(super) fn late_reads(options: &mut Options, prng: &mut Prng) {
    reads(options, prng);
    options.nodes = 3;
    options.faults_last = 30 * SECOND;
    options.faults.partition = Some(prng.between(900, 1_500) * MS);
    options.faults.odd_cuts = 1.0;
    options.faults.lasts_min = 400 * MS;
    options.faults.lasts_max = 800 * MS;
    options.faults.pause = None;
    options.network.delay_min = 200;
    options.network.delay_max = 800;
    options.network.tail = 0.5;
    options.network.delay_cap = prng.between(400, 900) * MS;
    options.network.reorder = 1.0;
    options.workload.readers = 9;
    options.workload.clerks = 12;
}

/// Processes that live shortly, and hear late what was meant for the one before.
pub(super) fn short_lives(options: &mut Options, prng: &mut Prng) {
    late_reads(options, prng);
    options.faults.partition = None;
    options.faults.process_crash = Some(prng.between(200, 600) * MS);
    options.faults.crash_again = 0.5;
    options.faults.lasts_min = MS;
    options.faults.lasts_max = prng.between(5, 50) * MS;
}

/// Leaders lose what they have sent but not synced, lead again, and hear late of what they have forgotten.
pub(super) fn late_acknowledgements(options: &mut Options, prng: &mut Prng) {
    late_messages(options, prng);
    quiet(options);
    options.nodes = 5;
    options.faults_last = 30 * SECOND;
    options.faults.leader_crash = Some(prng.between(300, 1_000) * MS);
    options.faults.partition = Some(prng.between(300, 1_500) * MS);
    options.faults.lasts_max = prng.between(50, 1_000) * MS;
    options.host.sync_max = prng.between(5, 100) * MS;
    options.host.slow_sync = 0.2;
    options.network.tail = 0.35;
    options.network.reorder = 0.8;
}

/// Disks are slow, and servers lose power.
pub(super) fn slow_disks(options: &mut Options, prng: &mut Prng) {
    elections(options, prng);
    options.host.sync_max = prng.between(5, 60) * MS;
    options.host.slow_sync = 0.05;
    options.faults.power_crash = Some(prng.between(500, 3_000) * MS);
}

/// Nothing goes wrong, and nothing gives a reason for an election.
fn calm(options: &mut Options, prng: &mut Prng) {
    light(options, prng);
    *options = options.without_faults();
    options.nodes = if prng.chance(0.7) { 3 } else { 5 };
}

/// All that is wrong is that a sync takes longer than an election timeout, on some disks, for a while.
pub(super) fn slow_syncs(options: &mut Options, prng: &mut Prng) {
    calm(options, prng);
    options.faults.slow_disk = Some(prng.between(500, 2_000) * MS);
    options.faults.lasts_min = SECOND;
    options.faults.lasts_max = 4 * SECOND;
    options.host.sync_slow = prng.between(500, 1_500) * MS;
}

/// Leaders die, and a vote takes about as long to become durable as a campaign lasts.
pub(super) fn slow_votes(options: &mut Options, prng: &mut Prng) {
    calm(options, prng);
    options.faults.leader_crash = Some(prng.between(3_000, 6_000) * MS);
    options.faults.lasts_min = 300 * MS;
    options.faults.lasts_max = SECOND;
    options.host.sync_min = prng.between(250, 300) * MS;
    options.host.sync_max = options.host.sync_min + 20 * MS;
}

/// All that is wrong is that a link breaks now and then, and is there again.
pub(super) fn broken_ways(options: &mut Options, prng: &mut Prng) {
    calm(options, prng);
    options.faults.link_reset = Some(4 * SECOND);
}

/// Everything starts at one instant, runs at one speed, and answers slowly: elections split, and only chance ends it.
pub(super) fn same_start(options: &mut Options, prng: &mut Prng) {
    light(options, prng);
    options.nodes = 3;
    options.faults_last = 5 * SECOND;
    options.host.clock_drift_ppm = 0;
    options.host.sync_min = 5 * MS;
    options.host.sync_max = 8 * MS;
    options.faults.all_crash = Some(2 * SECOND);
    options.faults.flags.election_ticks = Some((25, 28));
}

/// Some servers do not come back: the rest must do without them.
pub(super) fn lost_servers(options: &mut Options, prng: &mut Prng) {
    elections(options, prng);
    quiet(options);
    options.faults.lost = options.nodes / 2;
    options.faults_last = 10 * SECOND;
    options.faults.leader_crash = Some(prng.between(500, 1_500) * MS);
    options.faults.lasts_min = 300 * MS;
    options.faults.lasts_max = prng.between(1_000, 3_000) * MS;
    options.host.sync_min = prng.between(20, 60) * MS;
    options.host.sync_max = prng.between(60, 150) * MS;
    options.network.delay_max = prng.between(5, 60) * MS;
}

/// Small segments, and power that fails at any of a disk's operations.
pub(super) fn power_cuts(options: &mut Options, prng: &mut Prng) {
    light(options, prng);
    options.host.segment_bytes = 1 << 10;
    options.host.crash_at_effect = 0.000_5;
    options.faults.power_crash = Some(prng.between(300, 1_500) * MS);
    options.faults.process_crash = Some(prng.between(500, 2_000) * MS);
    options.faults.all_crash = Some(prng.between(2_000, 5_000) * MS);
    options.faults.lasts_min = MS;
    options.faults.lasts_max = prng.between(20, 300) * MS;
}

/// Syncs fail, and power fails later.
pub(super) fn failing_syncs(options: &mut Options, prng: &mut Prng) {
    power_cuts(options, prng);
    options.faults.sync_failure = Some(prng.between(200, 1_000) * MS);
}

/// A minority of the servers lose their folders.
pub(super) fn wiped_folders(options: &mut Options, prng: &mut Prng) {
    elections(options, prng);
    options.faults.wipe = Some(prng.between(500, 2_000) * MS);
}

/// A minority of the servers start on older copies of their folders.
pub(super) fn older_folders(options: &mut Options, prng: &mut Prng) {
    elections(options, prng);
    options.faults.put_back = Some(prng.between(500, 2_000) * MS);
}

/// Servers are told to stop, the leader mostly.
pub(super) fn leaving(options: &mut Options, prng: &mut Prng) {
    light(options, prng);
    if options.nodes == 1 {
        options.nodes = 3;
    }
    options.faults.leave = Some(prng.between(500, 2_000) * MS);
    options.faults.lasts_min = 10 * MS;
    options.faults.lasts_max = prng.between(100, 1_000) * MS;
}

/// Connections break, so that commands are sent again.
pub(super) fn resends(options: &mut Options, prng: &mut Prng) {
    elections(options, prng);
    options.workload.clerks = 4;
    options.workload.reads = 0.05;
    options.workload.connection_cut = Some(prng.between(200, 800) * MS);
}

/// Servers wait long for a leader, with commands that were sent to the last one.
pub(super) fn long_partitions(options: &mut Options, prng: &mut Prng) {
    elections(options, prng);
    options.workload.pipeliners = 3;
    options.workload.reads = 0.05;
    options.faults.partition = Some(4 * SECOND);
    options.faults.leader_crash = None;
    options.faults.lasts_min = 3 * SECOND;
    options.faults.lasts_max = 7 * SECOND;
}

/// Clocks are far apart, and sessions of gateways short.
pub(super) fn wrong_clocks(options: &mut Options, prng: &mut Prng) {
    elections(options, prng);
    options.host.clock_offset_ms = 3_600_000;
    options.host.gateway_ttl_ms = 2_000;
    options.faults.clock_jump = Some(2 * SECOND);
}

/// Servers are started with different flags.
pub(super) fn different_flags(options: &mut Options, prng: &mut Prng) {
    light(options, prng);
    options.faults.flags.limits_differ = true;
}

/// Memory is short, and on each server more or less of it.
pub(super) fn short_memory(options: &mut Options, prng: &mut Prng) {
    elections(options, prng);
    options.workload.pipeliners = 2;
    options.workload.padding_max = 200;
    options.faults.flags.memory_bytes_max = Some(prng.between(3_000, 8_000));
}

/// Disks are full for a while, one or several at a time, with leaders that die.
pub(super) fn full_disks(options: &mut Options, prng: &mut Prng) {
    elections(options, prng);
    options.faults.full_disk = Some(prng.between(500, 2_000) * MS);
    options.faults.process_crash = Some(prng.between(1_000, 4_000) * MS);
    options.faults.lasts_max = prng.between(500, 4_000) * MS;
    options.host.segment_bytes = 1 << 10;
    options.host.log_bytes_max = prng.between(2_000, 8_000);
    options.host.log_tail_bytes = prng.between(0, 2_000);
}

/// Snapshots are taken all the time, nothing is kept behind them, and who was away for a little needs one; it comes in
/// many pieces. Power fails at any of a disk's operations.
pub(super) fn snapshots(options: &mut Options, prng: &mut Prng) {
    power_cuts(options, prng);
    if options.nodes == 1 {
        options.nodes = 3;
    }
    options.host.log_bytes_max = prng.between(500, 4_000);
    options.host.log_tail_bytes = 0;
    options.host.snapshot_chunk_bytes = prng.between(100, 1_000) as usize;
    options.workload.think_max = options.workload.think_max.min(30 * MS);
    options.faults.partition = Some(prng.between(500, 3_000) * MS);
    options.faults.leader_crash = Some(prng.between(1_000, 4_000) * MS);
}

/// Servers are cut off, and keep next to nothing of their logs in memory: who was away needs a snapshot, and there is none
/// but for whom one is taken.
pub(super) fn short_logs(options: &mut Options, prng: &mut Prng) {
    elections(options, prng);
    options.host.log_bytes_max = NO_SNAPSHOTS;
    options.host.log_tail_bytes = 0;
    options.host.log_memory_bytes = prng.between(0, 500);
    options.host.sync_max = prng.between(5, 60) * MS;
    options.workload.think_max = options.workload.think_max.min(30 * MS);
    options.faults.lasts_max = prng.between(1_500, 4_000) * MS;
}

/// Snapshots are on their way for so long that logs overtake them: some servers keep long logs and lead in turn.
pub(super) fn slow_transfers(options: &mut Options, prng: &mut Prng) {
    snapshots(options, prng);
    options.host.log_tail_bytes = prng.between(1_000, 8_000);
    options.host.snapshot_chunk_bytes = prng.between(200, 3_000) as usize;
    options.host.sync_min = prng.between(5, 60) * MS;
    options.host.sync_max = options.host.sync_min + prng.between(1, 100) * MS;
    options.faults.leader_crash = Some(prng.between(200, 800) * MS);
    options.faults.lasts_max = prng.between(300, 2_000) * MS;
    options.network.tail = 0.1;
    options.network.delay_cap = prng.between(50, 1_000) * MS;
}

/// Bits turn in snapshots that nothing newer takes the place of for long, while servers are cut off and need one.
pub(super) fn rotten_snapshots(options: &mut Options, prng: &mut Prng) {
    light(options, prng);
    options.nodes = 5;
    options.faults = FaultOptions {
        rot: Some(1_500 * MS),
        partition: Some(SECOND),
        lasts_min: 2 * SECOND,
        lasts_max: 9 * SECOND,
        ..FaultOptions::default()
    };
    options.faults_last = 10 * SECOND;
    options.network = options.network.without_faults();
    options.host.crash_at_effect = 0.0;
    options.host.log_bytes_max = 6_000;
    options.host.log_tail_bytes = 0;
    options.workload.clerks = 3;
    options.workload.pipeliners = 0;
    options.workload.think_max = 40 * MS;
    options.workload.operations_max = Some(200);
}

/// Replicas compare themselves all the time, some far behind the others, and busy: many entries in one step.
pub(super) fn comparisons(options: &mut Options, prng: &mut Prng) {
    elections(options, prng);
    options.faults_last = 10 * SECOND;
    options.host.check_interval_ms = prng.between(100, 400);
    options.host.wake_max = prng.between(1, 20) * MS;
    options.workload.think_max = 10 * MS;
}

/// Many backups, of servers that are behind.
pub(super) fn backups(options: &mut Options, prng: &mut Prng) {
    reads(options, prng);
    options.workload.backups = 3;
}

/// Members come and go all the time, and another leads.
pub(super) fn members(options: &mut Options, prng: &mut Prng) {
    elections(options, prng);
    options.faults.change = Some(prng.between(100, 600) * MS);
    options.faults.transfer = Some(prng.between(300, 1_500) * MS);
}

/// The same among few, whose leaders die before their own disks hold what they have sent.
pub(super) fn few_members(options: &mut Options, prng: &mut Prng) {
    members(options, prng);
    quiet(options);
    options.nodes = if prng.chance(0.5) { 2 } else { 3 };
    options.faults.partition = None;
    options.faults.transfer = None;
    options.faults.leader_crash = Some(prng.between(150, 600) * MS);
    options.faults.lasts_max = prng.between(50, 600) * MS;
    options.host.sync_min = prng.between(1, 10) * MS;
    options.host.sync_max = prng.between(20, 100) * MS;
    options.host.slow_sync = 0.1;
}

/// The same, with snapshots all the time: what the log said of the members is gone.
pub(super) fn members_in_snapshots(options: &mut Options, prng: &mut Prng) {
    snapshots(options, prng);
    options.faults.change = Some(prng.between(200, 1_000) * MS);
}
