//! What a script may do with a world: start it without a fault of its own, cut and heal, stop and start servers, tell
//! Clerks what to call, and have everything judged at the end. Knows nothing of what a test wants.

use std::cell::Cell;

use bytes::Bytes;
use quorate_raft::{Node, Role};
use quorate_replica::checks::CHECK_INTERVAL_MS;
use quorate_replica::replica::LOG_MEMORY_BYTES;
use quorate_replica::transfer::SNAPSHOT_CHUNK_BYTES_MAX;
use quorate_storage::snapshot;

use crate::clerks::ClerkClient;
use crate::clients::Client;
use crate::history::{Action, Operation, Outcome};
use crate::invariants::Violation;
use crate::lab::raft::checks::{demand, failed};
use crate::lab::{Figure, Figures};
use crate::network::HostIndex;
use crate::options::{FaultOptions, HostOptions, NO_SNAPSHOTS, NetworkOptions, Options, WorkloadOptions};
use crate::pipeliners::Pipeliner;
use crate::prng::Prng;
use crate::schedule::{MS, Micros, SECOND};
use crate::trace::Trace;
use crate::world::{ClientIndex, Happening, Phase, World};

/// A message's way where nothing goes wrong.
const WAY: Micros = MS;

/// A sync.
const SYNC: Micros = MS / 10;

/// From an event's arrival to the step that takes it.
const WAKE: Micros = 5;

/// An unreliable network delays messages by up to this more,
const DELAY_MAX: Micros = 26 * MS;

/// and loses this part of them.
const LOST: f64 = 0.1;

/// Bytes of entries after which a server takes a snapshot. Each of these entries stands in a record of its own, whose heads
/// take about as much again: together the course's `maxraftstate` of 1,000.
pub(crate) const LOG_BYTES_MAX: u64 = 500;

/// Whole servers and their clients.
pub(crate) struct Service {
    pub(crate) world: World,
    pub(crate) prng: Prng,
    tokens: u64,
    log_limits: Option<LogLimits>,
    /// The longest log so far, if anybody wants to know.
    longest_log: Cell<u64>,
    /// The longest where the course looks.
    longest_seen: u64,
}

/// When servers take snapshots, and how long their logs may become by it: bytes of records that no snapshot covers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogLimits {
    /// Bytes of entries after which a server takes one.
    pub(crate) log_bytes_max: u64,
    /// The course's limit, where it looks.
    pub(crate) lab: u64,
    /// Ours there.
    pub(crate) ours: u64,
    /// Ours at every instant.
    pub(crate) ever: u64,
}

fn options(servers: usize, is_unreliable: bool, log_bytes_max: u64) -> Options {
    let (delay_max, lost) = if is_unreliable { (WAY + DELAY_MAX, LOST) } else { (WAY, 0.0) };
    // After a restart the log in memory reaches back to the beginning of a segment, and so does what a leader sends.
    let segment_bytes = if log_bytes_max == NO_SNAPSHOTS { 256 << 10 } else { 2 << 10 };
    Options {
        luck: 0,
        nodes: servers as u64,
        spares: 0,
        faults_last: Micros::MAX,
        network: NetworkOptions {
            delay_min: WAY,
            delay_max,
            tail: 0.0,
            delay_cap: delay_max,
            loss: lost,
            duplication: 0.0,
            reorder: if is_unreliable { 1.0 } else { 0.0 },
            corruption: 0.0,
        },
        host: HostOptions {
            sync_min: SYNC,
            sync_max: SYNC,
            slow_sync: 0.0,
            sync_slow: SYNC,
            wake_min: WAKE,
            wake_max: WAKE,
            clock_offset_ms: 500,
            clock_drift_ppm: 0,
            crash_at_effect: 0.0,
            crash_is_power: 0.5,
            segment_bytes,
            log_bytes_max,
            log_tail_bytes: 0,
            log_memory_bytes: LOG_MEMORY_BYTES,
            snapshot_chunk_bytes: SNAPSHOT_CHUNK_BYTES_MAX,
            check_interval_ms: CHECK_INTERVAL_MS,
            snapshot_chunks_per_second: 100,
            prepares_segments: true,
            gateway_ttl_ms: 60_000,
        },
        faults: FaultOptions::default(),
        // Clients are added by the script, and say themselves what they ask.
        workload: WorkloadOptions {
            clerks: 0,
            pipeliners: 0,
            backups: 0,
            pipeline_depth: 1,
            operations_max: None,
            think_max: 0,
            append_keys: 1,
            mixed_keys: 1,
            impatient: 0.0,
            reads: 0.0,
            readers: 0,
            padding_max: 0,
            connection_cut: None,
            delay_min: WAY,
            delay_max,
            // Between client and server stands a stream: what the course loses as a message breaks the connection.
            death: None,
            request_loss: lost,
            answer_loss: lost,
        },
    }
}

impl Service {
    /// Servers on empty folders, started and under a leader.
    pub(crate) fn new(servers: usize, is_unreliable: bool, seed: u64) -> Result<Self, Violation> {
        Self::of_logs(servers, is_unreliable, None, seed)
    }

    /// The same, but they take snapshots, if there are limits of their logs.
    pub(crate) fn of_logs(
        servers: usize,
        is_unreliable: bool,
        log_limits: Option<LogLimits>,
        seed: u64,
    ) -> Result<Self, Violation> {
        let log_bytes_max = log_limits.map_or(NO_SNAPSHOTS, |limits| limits.log_bytes_max);
        Self::under(options(servers, is_unreliable, log_bytes_max), log_limits, seed)
    }

    /// Nothing goes wrong by itself, and these servers' disks and logs are as they are told to be.
    #[cfg(test)]
    pub(crate) fn on_hosts(
        servers: usize,
        seed: u64,
        tell: impl FnOnce(&mut HostOptions),
    ) -> Result<Self, Violation> {
        let mut options = options(servers, false, NO_SNAPSHOTS);
        tell(&mut options.host);
        let log_bytes_max = options.host.log_bytes_max;
        let limits = LogLimits { log_bytes_max, lab: u64::MAX, ours: u64::MAX, ever: u64::MAX };
        Self::under(options, Some(limits), seed)
    }

    fn under(options: Options, log_limits: Option<LogLimits>, seed: u64) -> Result<Self, Violation> {
        let mut prng = Prng::new(seed);
        let world = World::new(options, &mut prng, Trace::default());
        let mut service =
            Self { world, prng, tokens: 0, log_limits, longest_log: Cell::new(0), longest_seen: 0 };
        service.until("a first leader", 10 * SECOND, |world| ready_leader(world).is_some())?;
        Ok(service)
    }

    pub(crate) fn now(&self) -> Micros {
        self.world.now()
    }

    // --- time ---

    pub(crate) fn run_for(&mut self, time: Micros) -> Result<(), Violation> {
        self.run_until(self.now() + time, |_| false).map(|_| ())
    }

    /// Lets things happen, and looks at the logs after each.
    fn run_until(&mut self, until: Micros, is_so: impl Fn(&World) -> bool) -> Result<bool, Violation> {
        let is_watched = self.log_limits.is_some();
        let longest = &self.longest_log;
        self.world.run_until(until, |world| {
            if is_watched {
                longest.set(longest.get().max(longest_log(world)));
            }
            is_so(world)
        })
    }

    /// Waits for something. Gives how long it took.
    pub(crate) fn until(
        &mut self,
        what: &str,
        time: Micros,
        is_so: impl Fn(&World) -> bool,
    ) -> Result<Micros, Violation> {
        let began = self.now();
        let is_so_already = is_so(&self.world);
        if is_so_already || self.run_until(began + time, is_so)? {
            return Ok(self.now() - began);
        }
        failed(format!("{what} did not come within {:.1} s", time as f64 / SECOND as f64))
    }

    // --- servers ---

    /// Who leads and has committed in its term; of several, who is in the latest.
    pub(crate) fn leader(&mut self) -> Result<HostIndex, Violation> {
        self.until("a leader", 5 * SECOND, |world| ready_leader(world).is_some())?;
        Ok(ready_leader(&self.world).expect("it has just been found"))
    }

    /// Servers of different groups cannot reach each other. Clients reach everybody.
    pub(crate) fn partition(&mut self, group_of: &[usize]) {
        self.world.invariants.steady.disturbed();
        let opened = self.world.network.cut(|from, to| group_of[from] != group_of[to]);
        self.world.announce_links(&opened);
    }

    pub(crate) fn heal(&mut self) {
        let group_of = vec![0; self.world.hosts.len()];
        self.partition(&group_of);
    }

    /// A server's process ends, or its power with all that was not synced.
    pub(crate) fn stop(&mut self, host: HostIndex, power: bool) {
        self.world.crash(host, power);
    }

    /// It starts again, on what its disk holds.
    pub(crate) fn start(&mut self, host: HostIndex) {
        self.world.schedule.after(0, Happening::Start { host });
    }

    // --- clients ---

    /// A Clerk that knows these servers.
    pub(crate) fn clerk(&mut self, servers: &[HostIndex]) -> ClientIndex {
        let client = self.world.clients.len();
        let clerk = ClerkClient::scripted(client, &self.world.options, servers, self.prng.fork());
        self.world.clients.push(Client::Clerk(Box::new(clerk)));
        client
    }

    /// A Clerk that knows all servers.
    pub(crate) fn clerk_of_all(&mut self) -> ClientIndex {
        let all: Vec<HostIndex> = (0..self.world.hosts.len()).collect();
        self.clerk(&all)
    }

    /// A plain connection, to whichever server it is first told to ask.
    pub(crate) fn plain(&mut self) -> ClientIndex {
        let client = self.world.clients.len();
        let plain = Pipeliner::new(client, &self.world.options, self.prng.fork());
        self.world.clients.push(Client::Pipeliner(plain));
        client
    }

    /// A value that no other equals.
    pub(crate) fn token(&mut self, client: ClientIndex) -> Bytes {
        self.tokens += 1;
        Bytes::from(format!("{client}.{};", self.tokens))
    }

    /// An append of a fresh token.
    pub(crate) fn append(&mut self, client: ClientIndex) -> Action {
        Action::Append { value: self.token(client) }
    }

    /// A Clerk gets these calls to make, one after the other.
    pub(crate) fn tell(&mut self, client: ClientIndex, calls: impl IntoIterator<Item = (Bytes, Action)>) {
        if let Client::Clerk(clerk) = &mut self.world.clients[client] {
            clerk.script().extend(calls);
        }
        self.world.client_wakes(client);
    }

    /// A Clerk makes no more calls than it has under way.
    pub(crate) fn hush(&mut self, client: ClientIndex) {
        if let Client::Clerk(clerk) = &mut self.world.clients[client] {
            clerk.script().clear();
        }
    }

    /// A plain connection asks at once.
    pub(crate) fn submit(&mut self, client: ClientIndex, host: HostIndex, key: Bytes, action: Action) {
        self.world.with_client(client, |client, world| match client {
            Client::Pipeliner(plain) => plain.submit(world, host, key, action),
            Client::Clerk(_) | Client::Backups(_) | Client::Acting => {}
        });
    }

    /// Waits until these clients have nothing under way or to do. Gives how long it took.
    pub(crate) fn finish(&mut self, clients: &[ClientIndex], within: Micros) -> Result<Micros, Violation> {
        self.until("the end of all calls", within, |world| {
            clients.iter().all(|client| is_done(&world.clients[*client]))
        })
    }

    /// One call of a Clerk, to its end. Gives the outcome.
    pub(crate) fn call(
        &mut self,
        client: ClientIndex,
        key: Bytes,
        action: Action,
    ) -> Result<Outcome, Violation> {
        self.tell(client, [(key, action)]);
        self.finish(&[client], 10 * SECOND)?;
        let latest = self.operations().iter().rev().find(|operation| operation.client == client as u32);
        Ok(latest.map_or(Outcome::Unknown, |operation| operation.outcome.clone()))
    }

    pub(crate) fn is_idle(&self, client: ClientIndex) -> bool {
        is_done(&self.world.clients[client])
    }

    /// What clients did so far.
    pub(crate) fn operations(&self) -> &[Operation] {
        self.world.history().operations()
    }

    // --- snapshots ---

    /// Looks at the logs, as the course does.
    pub(crate) fn look_at_logs(&mut self) {
        self.longest_seen = self.longest_seen.max(longest_log(&self.world));
    }

    /// Bytes of the largest snapshot on any disk.
    pub(crate) fn largest_snapshot(&self) -> u64 {
        let sizes = self.world.hosts.iter().flat_map(|host| {
            let snapshots = snapshot::list(&host.disk).unwrap_or_default();
            let content = |position| host.disk.content(&snapshot::file_name(position));
            snapshots.into_iter().filter_map(content).map(|content| content.len() as u64)
        });
        sizes.max().unwrap_or_default()
    }

    /// Consensus of a server that runs.
    pub(crate) fn raft(&self, host: HostIndex) -> Option<&Node> {
        self.world.hosts[host].process.as_ref()?.replica.raft()
    }

    // --- the end ---

    /// All servers come to one state under one leader, and all that clients saw is judged: exactly once, order,
    /// linearizability. Every call of a Clerk must have ended well.
    pub(crate) fn judged(mut self, mut list: Vec<Figure>) -> Result<Figures, Violation> {
        match self.log_limits {
            Some(LogLimits { lab, ours, ever, .. }) => {
                self.look_at_logs();
                list.push(Figure::new("log where the course looks, bytes", self.longest_seen, lab, ours));
                list.push(Figure::of_ours("longest log at any instant, bytes", self.longest_log.get(), ever));
            }
            None => demand(self.largest_snapshot() == 0, || "a snapshot, which nobody wants".to_owned())?,
        }
        self.world.phase = Phase::Draining;
        self.world.converge()?;
        let clerks = self.operations().iter().filter(|operation| operation.connection == 0);
        let open = clerks.filter(|operation| !operation.is_complete()).count();
        demand(open == 0, || format!("{open} calls of Clerks have no certain outcome"))?;
        self.world.judge()?;
        Ok(Figures { list, took: self.now() })
    }
}

fn is_done(client: &Client) -> bool {
    match client {
        Client::Clerk(clerk) => clerk.is_idle() && !clerk.has_script(),
        Client::Pipeliner(plain) => plain.is_idle(),
        Client::Backups(_) => true,
        Client::Acting => false,
    }
}

/// See [`Service::leader`].
fn ready_leader(world: &World) -> Option<HostIndex> {
    let leads = |host: usize| {
        let node = world.hosts[host].process.as_ref()?.replica.raft()?;
        (node.role() == Role::Leader && node.is_leader_ready()).then(|| (node.term(), host))
    };
    (0..world.hosts.len()).filter_map(leads).max().map(|(_, host)| host)
}

/// Bytes of records that no snapshot covers, of the server that has most.
fn longest_log(world: &World) -> u64 {
    let processes = world.hosts.iter().filter_map(|host| host.process.as_ref());
    processes.map(|process| process.wal.log_bytes()).max().unwrap_or_default()
}
