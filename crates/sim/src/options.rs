//! What can go wrong in a run, and how often: every probability is a named field. A seed draws them as a
//! *swarm*: some faults entirely off, others wild, so that rare combinations meet. Carries nothing out.

use quorate_replica::checks::CHECK_INTERVAL_MS;
use quorate_replica::replica::LOG_MEMORY_BYTES;
use quorate_storage::DiskBug;
use serde::{Deserialize, Serialize};

use crate::duration;
use crate::prng::Prng;
use crate::schedule::{MS, Micros, SECOND};

/// The longest time from an event's arrival to the step that takes it, on a slow processor.
pub const SLOW_WAKE_MAX: Micros = 60 * MS;

/// More bytes of entries than a run has.
pub const NO_SNAPSHOTS: u64 = 1 << 40;

/// Seconds that faults last at least: with the three seconds that clients go on in health a run is never shorter than 30 s.
const FAULTS_LAST_MIN: u64 = 27;

/// Makes a stream of chance of its own.
/// Likewise, of older copies of folders.
const COPIES: u64 = 0x636f_7069_6573;
const CHECKS: u64 = 0x6368_6563_6b73;
/// And another.
const MEMBERS: u64 = 0x6d65_6d62_6572;
/// The same for servers that are told to stop.
const LEAVES: u64 = 0x6c65_6176_6573;
/// And for what of the log stays in memory.
const FORGETS: u64 = 0x666f_7267_6574;

/// Everything that is drawn before a run begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Another course of the same seed, under the same options; 0 is the seed's own.
    pub luck: u64,
    /// Servers: 1, 3, 5 or 7.
    pub nodes: u64,
    /// Servers that do not found the cluster, and wait to be taken in.
    pub spares: u64,
    /// How long faults last; the liveness phase follows.
    #[serde(with = "duration")]
    pub faults_last: Micros,
    /// Messages between servers.
    pub network: NetworkOptions,
    /// Disks and processors.
    pub host: HostOptions,
    /// Crashes, pauses, partitions, clocks.
    pub faults: FaultOptions,
    /// Clients.
    pub workload: WorkloadOptions,
}

/// Messages between servers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkOptions {
    /// The shortest time on the way.
    #[serde(with = "duration")]
    pub delay_min: Micros,
    /// The longest, without the tail.
    #[serde(with = "duration")]
    pub delay_max: Micros,
    /// The delay is multiplied by four with this probability, again and again up to [`Self::delay_cap`].
    pub tail: f64,
    /// No message is longer on the way.
    #[serde(with = "duration")]
    pub delay_cap: Micros,
    /// A message is lost, silently.
    pub loss: f64,
    /// A message arrives twice.
    pub duplication: f64,
    /// A message may overtake those sent before it; otherwise a link keeps their order, as TCP does.
    pub reorder: f64,
    /// A byte of a message is changed on the way (the wire's checksum must see it).
    pub corruption: f64,
}

/// Disks and processors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostOptions {
    /// The shortest sync.
    #[serde(with = "duration")]
    pub sync_min: Micros,
    /// The longest sync of a healthy disk.
    #[serde(with = "duration")]
    pub sync_max: Micros,
    /// A sync takes [`Self::sync_slow`] instead, with this probability.
    pub slow_sync: f64,
    /// How long a slow sync takes.
    #[serde(with = "duration")]
    pub sync_slow: Micros,
    /// The shortest time from an event's arrival to the step that takes it.
    #[serde(with = "duration")]
    pub wake_min: Micros,
    /// The longest; what arrives meanwhile is stepped together.
    #[serde(with = "duration")]
    pub wake_max: Micros,
    /// The clocks of two servers differ by up to this many milliseconds at the start.
    pub clock_offset_ms: u64,
    /// A clock gains or loses up to this many microseconds a second.
    pub clock_drift_ppm: u64,
    /// A crash at an effect boundary (between the parts of one step, around a sync), a step.
    pub crash_at_effect: f64,
    /// Such a crash takes the power, not just the process.
    pub crash_is_power: f64,
    /// Bytes of a segment of the log.
    pub segment_bytes: u64,
    /// Bytes of entries after which a server takes a snapshot.
    pub log_bytes_max: u64,
    /// Bytes of entries that it keeps behind one.
    pub log_tail_bytes: u64,
    /// Bytes of applied entries that stay in memory, if that is more.
    pub log_memory_bytes: u64,
    /// Bytes of a snapshot in one message.
    pub snapshot_chunk_bytes: usize,
    /// Milliseconds between two comparisons of the servers' states.
    pub check_interval_ms: u64,
    /// Messages with a piece of a snapshot that a server asks for in a second, as long as that is enough.
    pub snapshot_chunks_per_second: u64,
    /// An idle disk prepares the next segment ahead.
    pub prepares_segments: bool,
    /// Milliseconds after which the session of a silent gateway expires.
    pub gateway_ttl_ms: u64,
}

/// Faults that begin by themselves: the mean time between two, `None` where the fault is off.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultOptions {
    /// The process of one server dies; what it wrote stays readable.
    #[serde(with = "duration::or_off")]
    pub process_crash: Option<Micros>,
    /// One server loses power; any subset of its unsynced sectors survives.
    #[serde(with = "duration::or_off")]
    pub power_crash: Option<Micros>,
    /// All servers lose power, or all processes die, at one instant.
    #[serde(with = "duration::or_off")]
    pub all_crash: Option<Micros>,
    /// The leader dies, of either cause.
    #[serde(with = "duration::or_off")]
    pub leader_crash: Option<Micros>,
    /// A server, mostly the leader, is told to stop: it hands over, and ends.
    #[serde(with = "duration::or_off")]
    pub leave: Option<Micros>,
    /// A server stands still, wakes and finds its old messages waiting.
    #[serde(with = "duration::or_off")]
    pub pause: Option<Micros>,
    /// Servers cannot reach each other, in one of several shapes.
    #[serde(with = "duration::or_off")]
    pub partition: Option<Micros>,
    /// A partition has no shape, with this probability: each link in each direction is cut or not.
    pub odd_cuts: f64,
    /// A link breaks and is there again: what was on the way is lost, both ends see `LinkDown`, then `LinkUp`.
    #[serde(with = "duration::or_off")]
    pub link_reset: Option<Micros>,
    /// A clock jumps, by up to [`Self::clock_jump_ms`] in either direction.
    #[serde(with = "duration::or_off")]
    pub clock_jump: Option<Micros>,
    /// How far clocks jump.
    pub clock_jump_ms: u64,
    /// A disk becomes slow for a while.
    #[serde(with = "duration::or_off")]
    pub slow_disk: Option<Micros>,
    /// A processor becomes slow for a while: what arrives waits up to [`SLOW_WAKE_MAX`] for its step.
    #[serde(with = "duration::or_off")]
    pub slow_node: Option<Micros>,
    /// A disk is full for a while.
    #[serde(with = "duration::or_off")]
    pub full_disk: Option<Micros>,
    /// A bit of a file turns, on at most a minority of the servers: who finds it must not start.
    #[serde(with = "duration::or_off")]
    pub rot: Option<Micros>,
    /// A server is down, paused or cut off for at least this long.
    #[serde(with = "duration")]
    pub lasts_min: Micros,
    /// And at most this long.
    #[serde(with = "duration")]
    pub lasts_max: Micros,
    /// A server that starts crashes again at once, with this probability (a crash loop).
    pub crash_again: f64,
    /// A sync fails, once, and the cache drops what it did not write: the process must end.
    #[serde(with = "duration::or_off")]
    pub sync_failure: Option<Micros>,
    /// The folder of a server is lost, at most of a minority: it comes back with an empty one, and must not vote.
    #[serde(with = "duration::or_off")]
    pub wipe: Option<Micros>,
    /// The folder of a server is put back to what it was at the beginning of its present process, at most of a minority, and only
    /// where all the others have stored that process: it has forgotten what it promised since, and must not take part.
    #[serde(with = "duration::or_off", default)]
    pub put_back: Option<Micros>,
    /// Servers that do not come back when the faults end, at most a minority: the others serve without them.
    pub lost: u64,
    /// A server that wakes takes what clients said before what servers said, with this probability: between two
    /// connections there is no order.
    pub clients_first: f64,
    /// An operator asks for a change of the members.
    #[serde(with = "duration::or_off")]
    pub change: Option<Micros>,
    /// An operator wants another server to lead.
    #[serde(with = "duration::or_off")]
    pub transfer: Option<Micros>,
    /// What was asked of the servers when they were started.
    pub flags: Flags,
    /// A mistake of storage that all disks imitate.
    #[serde(skip)]
    pub disk_bug: Option<DiskBug>,
}

/// Flags of the servers, where they are not the defaults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flags {
    /// The shortest and the longest election timeout, in ticks.
    pub election_ticks: Option<(u32, u32)>,
    /// Bytes of entries in one append.
    pub append_bytes_max: Option<usize>,
    /// Each start of a server names other limits of the state; those of the founding entry count.
    pub limits_differ: bool,
    /// Each start of a server names another limit of memory: none, or from half of these bytes to all of them.
    pub memory_bytes_max: Option<u64>,
}

/// Clients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadOptions {
    /// Clerks, one operation at a time each.
    pub clerks: u32,
    /// Connections that pipeline without waiting.
    pub pipeliners: u32,
    /// Clients that take backups.
    pub backups: u32,
    /// Commands that a pipeliner has in flight at most.
    pub pipeline_depth: u32,
    /// Operations that are called while faults last, at most. Afterwards clients go on until one is served.
    pub operations_max: Option<u64>,
    /// A client waits at most this long before its next operation.
    #[serde(with = "duration")]
    pub think_max: Micros,
    /// Keys that are only appended to, at one time.
    pub append_keys: u32,
    /// Keys that all operations use.
    pub mixed_keys: u32,
    /// A Clerk's caller waits for half a second at most, with this probability; else for 20 s.
    pub impatient: f64,
    /// An operation is a read, with this probability.
    pub reads: f64,
    /// The first so many clients never write, so nothing of theirs waits for a leader that cannot commit.
    pub readers: u32,
    /// Bytes that pad a value, at most.
    pub padding_max: u64,
    /// A client's connection breaks: the mean time between two breaks of one client.
    #[serde(with = "duration::or_off")]
    pub connection_cut: Option<Micros>,
    /// A client dies in the middle of what it does, and another takes its place: the mean time between two deaths.
    #[serde(with = "duration::or_off")]
    pub death: Option<Micros>,
    /// The shortest way between client and server.
    #[serde(with = "duration")]
    pub delay_min: Micros,
    /// The longest.
    #[serde(with = "duration")]
    pub delay_max: Micros,
    /// A request breaks its connection instead of arriving, with this probability.
    pub request_loss: f64,
    /// So does an answer: what was asked has taken effect.
    pub answer_loss: f64,
}

impl Options {
    /// All servers, founders and spares.
    pub fn hosts(&self) -> u64 {
        self.nodes + self.spares
    }

    /// The same with nothing that goes wrong.
    #[must_use]
    pub fn without_faults(&self) -> Self {
        Self {
            spares: 0,
            network: self.network.without_faults(),
            host: self.host.without_faults(),
            faults: FaultOptions::default(),
            workload: self.workload.without_faults(),
            ..self.clone()
        }
    }

    /// The swarm of a seed.
    pub fn swarm(prng: &mut Prng) -> Self {
        let nodes = match prng.below(20) {
            0 => 1,
            1 | 2 => 7,
            3..=11 => 3,
            _ => 5,
        };
        let calm = prng.chance(0.05);
        let faults = if calm { FaultOptions::default() } else { FaultOptions::swarm(prng, nodes) };
        let mut network = NetworkOptions::swarm(prng);
        let mut host = HostOptions::swarm(prng);
        let mut workload = WorkloadOptions::swarm(prng);
        if calm {
            network = network.without_faults();
            host = host.without_faults();
            workload = workload.without_faults();
        }
        let faults_last = prng.between(FAULTS_LAST_MIN, 40) * SECOND;
        let mut options = Self { luck: 0, nodes, spares: 0, faults_last, network, host, faults, workload };
        if !calm {
            // From a stream of its own: what other seeds draw stays as it was.
            options.limit_memory(&mut Prng::new(prng.clone().draw()));
            let mut copies = Prng::new(prng.clone().draw() ^ COPIES);
            options.faults.put_back = every(&mut copies, 0.8, 10 * SECOND, 3 * SECOND);
            let leaves = &mut Prng::new(prng.clone().draw() ^ LEAVES);
            options.faults.leave = every(leaves, 0.7, 6 * SECOND, SECOND);
            options.change_members(&mut Prng::new(prng.clone().draw() ^ MEMBERS));
        }
        options.host.log_memory_bytes = log_memory(&mut Prng::new(prng.clone().draw() ^ FORGETS));
        // Many in each run.
        options.host.check_interval_ms = Prng::new(prng.clone().draw() ^ CHECKS).between(200, 3_000);
        options
    }

    /// Members change in half of the seeds.
    fn change_members(&mut self, prng: &mut Prng) {
        self.faults.change = every(prng, 0.5, 2 * SECOND, 400 * MS);
        if self.faults.change.is_some() {
            // Who comes later has not heard the start that an older copy would be known by.
            self.faults.put_back = None;
            self.spares = prng.below(3);
        }
        self.faults.transfer = every(prng, 0.6, 5 * SECOND, SECOND);
    }

    /// The same with the members that the cluster is founded with.
    #[must_use]
    pub fn without_changes(mut self) -> Self {
        self.spares = 0;
        (self.faults.change, self.faults.transfer) = (None, None);
        self
    }

    /// Memory is short in some seeds.
    fn limit_memory(&mut self, prng: &mut Prng) {
        if prng.chance(0.15) {
            self.faults.flags.memory_bytes_max = Some(prng.between(2_000, 20_000));
        }
    }
}

/// Next to nothing, a little, or more than a run has.
fn log_memory(prng: &mut Prng) -> u64 {
    match prng.below(4) {
        0 => 0,
        1 | 2 => prng.between(0, 4_000),
        _ => LOG_MEMORY_BYTES,
    }
}

/// One of three moods: off, some, wild.
fn mood(prng: &mut Prng, off: f64, some: f64, wild: f64) -> f64 {
    if prng.chance(off) {
        0.0
    } else if prng.chance(0.75) {
        some
    } else {
        wild
    }
}

impl NetworkOptions {
    fn swarm(prng: &mut Prng) -> Self {
        let delay_min = prng.between(50, 1_000);
        Self {
            delay_min,
            delay_max: delay_min + if prng.chance(0.2) { 15 * MS } else { prng.between(100, 2_000) },
            tail: mood(prng, 0.3, 0.002, 0.1),
            delay_cap: prng.between(50, 3_000) * MS,
            loss: mood(prng, 0.4, 0.005, 0.12),
            duplication: mood(prng, 0.4, 0.01, 0.2),
            reorder: mood(prng, 0.4, 0.02, 0.6),
            corruption: mood(prng, 0.7, 0.000_5, 0.01),
        }
    }

    /// The same network once nothing goes wrong any more.
    #[must_use]
    pub fn without_faults(&self) -> Self {
        Self {
            delay_max: self.delay_max.min(self.delay_min + 2 * MS),
            tail: 0.0,
            loss: 0.0,
            duplication: 0.0,
            reorder: 0.0,
            corruption: 0.0,
            ..self.clone()
        }
    }
}

impl HostOptions {
    fn swarm(prng: &mut Prng) -> Self {
        let sync_min = prng.between(50, 2_000);
        Self {
            sync_min,
            sync_max: sync_min + prng.between(100, 5_000),
            slow_sync: mood(prng, 0.5, 0.001, 0.05),
            sync_slow: prng.between(10, 600) * MS,
            wake_min: 5,
            wake_max: prng.between(10, 300),
            clock_offset_ms: if prng.chance(0.3) { 10_000_000 } else { 500 },
            clock_drift_ppm: prng.between(0, 20_000),
            crash_at_effect: mood(prng, 0.4, 0.000_02, 0.000_2),
            crash_is_power: 0.5,
            segment_bytes: [1 << 10, 8 << 10, 64 << 10][prng.below(3) as usize],
            log_bytes_max: if prng.chance(0.4) { NO_SNAPSHOTS } else { prng.between(1_000, 30_000) },
            log_tail_bytes: if prng.chance(0.5) { 0 } else { prng.between(0, 5_000) },
            log_memory_bytes: LOG_MEMORY_BYTES,
            snapshot_chunk_bytes: prng.between(2_000, 16_000) as usize,
            check_interval_ms: CHECK_INTERVAL_MS,
            snapshot_chunks_per_second: 100,
            prepares_segments: prng.chance(0.5),
            gateway_ttl_ms: if prng.chance(0.3) { 2_000 } else { 60_000 },
        }
    }

    /// The same host once nothing goes wrong any more. Clocks stay as wrong as they are.
    #[must_use]
    pub fn without_faults(&self) -> Self {
        Self { slow_sync: 0.0, crash_at_effect: 0.0, ..self.clone() }
    }
}

/// The mean time between two faults of a kind that is off in `off` of the seeds; where it is on, it is rare or wild.
fn every(prng: &mut Prng, off: f64, rare: Micros, wild: Micros) -> Option<Micros> {
    if prng.chance(off) {
        None
    } else if prng.chance(0.7) {
        Some(rare)
    } else {
        Some(wild)
    }
}

/// A probability that is zero in `off` of the seeds.
fn sometimes(prng: &mut Prng, off: f64, probability: f64) -> f64 {
    if prng.chance(off) { 0.0 } else { probability }
}

impl Flags {
    fn swarm(prng: &mut Prng) -> Self {
        Self {
            election_ticks: None,
            append_bytes_max: if prng.chance(0.8) { None } else { Some([1, 500][prng.below(2) as usize]) },
            limits_differ: prng.chance(0.2),
            memory_bytes_max: None,
        }
    }
}

impl FaultOptions {
    fn swarm(prng: &mut Prng, nodes: u64) -> Self {
        let often = |prng: &mut Prng, rare, wild| every(prng, 0.5, rare, wild);
        let seldom = |prng: &mut Prng, rare, wild| every(prng, 0.8, rare, wild);
        let lasts_min = prng.between(1, 300) * MS;
        Self {
            process_crash: often(prng, 6 * SECOND, SECOND),
            power_crash: often(prng, 6 * SECOND, SECOND),
            all_crash: often(prng, 15 * SECOND, 4 * SECOND),
            leader_crash: often(prng, 8 * SECOND, 2 * SECOND),
            leave: None,
            pause: often(prng, 6 * SECOND, SECOND),
            partition: often(prng, 5 * SECOND, SECOND),
            odd_cuts: sometimes(prng, 0.8, 0.5),
            link_reset: often(prng, 3 * SECOND, 300 * MS),
            clock_jump: often(prng, 5 * SECOND, SECOND),
            clock_jump_ms: if prng.chance(0.5) { 2_000 } else { 7_200_000 },
            slow_disk: often(prng, 8 * SECOND, 2 * SECOND),
            slow_node: seldom(prng, 8 * SECOND, 2 * SECOND),
            full_disk: seldom(prng, 10 * SECOND, 3 * SECOND),
            rot: seldom(prng, 12 * SECOND, 3 * SECOND),
            lasts_min,
            lasts_max: lasts_min + prng.between(100, 5_000) * MS,
            crash_again: mood(prng, 0.6, 0.1, 0.5),
            sync_failure: seldom(prng, 8 * SECOND, SECOND),
            wipe: seldom(prng, 12 * SECOND, 3 * SECOND),
            put_back: None,
            lost: if prng.chance(0.85) { 0 } else { prng.between(0, nodes / 2) },
            clients_first: sometimes(prng, 0.7, 0.5),
            change: None,
            transfer: None,
            flags: Flags::swarm(prng),
            disk_bug: None,
        }
    }
}

impl WorkloadOptions {
    /// The same clients, patient and alive, on connections that hold.
    #[must_use]
    pub fn without_faults(&self) -> Self {
        Self {
            impatient: 0.0,
            connection_cut: None,
            death: None,
            request_loss: 0.0,
            answer_loss: 0.0,
            ..self.clone()
        }
    }

    fn swarm(prng: &mut Prng) -> Self {
        let delay_min = prng.between(20, 300);
        Self {
            clerks: prng.between(2, 6) as u32,
            pipeliners: prng.between(0, 4) as u32,
            pipeline_depth: prng.between(1, 24) as u32,
            operations_max: None,
            think_max: prng.between(5, 120) * MS,
            append_keys: prng.between(1, 4) as u32,
            mixed_keys: prng.between(1, 4) as u32,
            impatient: mood(prng, 0.5, 0.02, 0.3),
            reads: [0.05, 0.3, 0.6][prng.below(3) as usize],
            readers: if prng.chance(0.7) { 0 } else { prng.between(1, 2) as u32 },
            padding_max: if prng.chance(0.1) { 2_000 } else { prng.between(0, 32) },
            connection_cut: if prng.chance(0.5) { None } else { Some(prng.between(1, 15) * SECOND) },
            death: every(prng, 0.7, 8 * SECOND, SECOND),
            delay_min,
            delay_max: delay_min + prng.between(50, 2_000),
            request_loss: sometimes(prng, 0.8, 0.02),
            answer_loss: sometimes(prng, 0.8, 0.02),
            // As good as a draw, and leaves all that are drawn behind it as they were.
            backups: (delay_min % 2) as u32,
        }
    }
}
