//! Consensus nodes with a disk and a network each, on a virtual clock. Every property of `invariants` is checked after
//! every step, and every command applied is compared with what the others applied at its place. Knows nothing of what
//! a test wants.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};
use quorate_raft::{
    Body, Config, Effects, Entry, HardState, Input, Limits, Membership, Message, Node, NodeId, Payload,
    Persist, Position, Role, Term,
};
use quorate_replica::replica::{Config as ReplicaConfig, DiskWrite, TICK_MS};
use quorate_replica::wire::{self, PeerEnvelope, PeerMessage};
use quorate_storage::{ClusterId, Incarnation, Start};

use crate::host::{host_of, node_id};
use crate::invariants::{Invariants, View, Violation};
use crate::lab::raft::network::{Fate, Network};
use crate::lab::raft::snapshots::Shelf;
use crate::prng::Prng;
use crate::schedule::{MS, Micros, Schedule};

/// How long a sync takes.
pub(super) const SYNC: Micros = MS / 10;

/// Where a command stands, as the course counts: the first command is 1, no-ops are not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Started {
    /// Among the commands.
    pub(crate) index: usize,
    /// In which term.
    pub(crate) term: Term,
}

/// What passed between the servers so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Traffic {
    /// Requests: each is an RPC, answered or not.
    pub(crate) requests: u64,
    /// Requests of elections among them.
    pub(crate) campaigns: u64,
    /// Bytes as they stand on the wire, of requests and answers.
    pub(crate) bytes: u64,
    /// Appends refused because the follower's log is another.
    pub(crate) rejections: u64,
    /// Snapshots offered by leaders to followers whose next entry is gone.
    pub(crate) offers: u64,
}

pub(super) enum Happening {
    Tick {
        server: usize,
        life: u64,
    },
    Synced {
        server: usize,
        life: u64,
    },
    /// `life` is the sender's.
    Arrival {
        to: usize,
        from: usize,
        life: u64,
        bytes: Bytes,
        is_late: bool,
    },
    /// A snapshot is synced.
    Kept {
        server: usize,
        life: u64,
    },
}

#[derive(Default)]
pub(super) struct Server {
    pub(super) node: Option<Node>,
    /// Counts processes: what was scheduled for an earlier one is void.
    pub(super) life: u64,
    pub(super) hard_state: HardState,
    /// The position behind which the disk's log begins.
    pub(super) base: Position,
    pub(super) entries: Vec<Entry>,
    pub(super) queued: VecDeque<DiskWrite>,
    syncing: usize,
    pub(super) applied: Vec<Bytes>,
    pub(super) digest: u64,
    pub(super) shelf: Shelf,
}

/// See the module.
pub(crate) struct Cluster {
    limits: Limits,
    pub(super) schedule: Schedule<Happening>,
    pub(super) servers: Vec<Server>,
    pub(crate) network: Network,
    pub(crate) prng: Prng,
    invariants: Invariants,
    /// The commands in their order, as far as any server has applied them.
    pub(super) agreed: Vec<Bytes>,
    /// How many commands are among the entries up to each index, as far as any server has applied them.
    commands_upto: Vec<usize>,
    /// Commands after which each server takes a snapshot; `None` if nobody does.
    pub(super) snapshot_every: Option<usize>,
    /// The most that a server's log has taken on its disk, where snapshots are taken.
    pub(crate) largest_log: u64,
    pub(crate) traffic: Traffic,
    commands: u64,
    /// The longest that an agreement, and a leader, has been waited for so far.
    pub(crate) slowest_agreement: Micros,
    pub(crate) slowest_leader: Micros,
    pub(crate) next_asked: usize,
}

impl Cluster {
    /// Servers that have just started on empty disks, connected by a reliable network.
    pub(crate) fn new(count: usize, seed: u64) -> Result<Self, Violation> {
        Self::with_limits(count, seed, default_limits())
    }

    /// The same, but an append carries one entry. Otherwise a new leader's first append carries the no-op of its term
    /// together with all entries before it, and nobody could commit the one without the other: the case of figure 8
    /// of the paper would not come up.
    pub(crate) fn of_small_appends(count: usize, seed: u64) -> Result<Self, Violation> {
        Self::with_limits(count, seed, Limits { append_bytes_max: 1, ..default_limits() })
    }

    /// Each server takes a snapshot whenever it has applied so many commands more.
    pub(crate) fn of_snapshots(count: usize, every: usize, seed: u64) -> Result<Self, Violation> {
        let mut cluster = Self::new(count, seed)?;
        cluster.snapshot_every = Some(every);
        Ok(cluster)
    }

    fn with_limits(count: usize, seed: u64, limits: Limits) -> Result<Self, Violation> {
        let mut prng = Prng::new(seed);
        let network = Network::new(count, prng.fork());
        let mut cluster = Self {
            limits,
            schedule: Schedule::default(),
            servers: (0..count).map(|_| Server::default()).collect(),
            network,
            prng,
            invariants: Invariants::new(count),
            agreed: Vec::new(),
            commands_upto: vec![0],
            snapshot_every: None,
            largest_log: 0,
            traffic: Traffic::default(),
            commands: 0,
            slowest_agreement: 0,
            slowest_leader: 0,
            next_asked: 0,
        };
        (0..count).try_for_each(|server| cluster.start(server))?;
        Ok(cluster)
    }

    pub(crate) fn now(&self) -> Micros {
        self.schedule.now()
    }

    pub(crate) fn count(&self) -> usize {
        self.servers.len()
    }

    /// A command that no other is equal to, of at least `bytes`.
    pub(crate) fn command(&mut self, bytes: usize) -> Bytes {
        self.commands += 1;
        let text = format!("{}.", self.commands);
        Bytes::from(format!("{text}{}", "x".repeat(bytes.saturating_sub(text.len()))))
    }

    // --- processes ---

    /// A process starts on what the disk holds; one that runs is killed first.
    pub(crate) fn start(&mut self, server: usize) -> Result<(), Violation> {
        self.crash(server);
        let voters = (0..self.count()).map(node_id).collect();
        let limits = self.limits.clone();
        let config = Config {
            id: node_id(server),
            membership: Membership::simple(voters),
            own_seat: Bytes::new(),
            limits,
            seed: self.prng.draw(),
        };
        let place = &mut self.servers[server];
        let restored = place.recover();
        self.invariants.restarted(server, &restored)?;
        place.node = Some(Node::new(config, restored));
        let life = place.life;
        let delay = self.prng.between(0, TICK_MS * MS);
        self.schedule.after(delay, Happening::Tick { server, life });
        Ok(())
    }

    /// A process dies. Of the writes that were not synced a beginning survives, or none.
    pub(crate) fn crash(&mut self, server: usize) {
        let place = &mut self.servers[server];
        if place.node.take().is_none() {
            return;
        }
        place.life += 1;
        place.syncing = 0;
        let survive = self.prng.between(0, place.queued.len() as u64) as usize;
        let survivors: Vec<DiskWrite> = place.queued.drain(..).take(survive).collect();
        for write in survivors {
            place.store(write);
        }
        place.queued.clear();
        place.applied.clear();
        place.digest = 0;
        let unsynced = place.shelf.unsynced();
        // Chance is asked only where it decides something.
        let survive = if unsynced == 0 { 0 } else { self.prng.between(0, unsynced as u64) as usize };
        place.shelf.crashed(survive);
    }

    pub(super) fn node(&self, server: usize) -> Option<&Node> {
        self.servers[server].node.as_ref()
    }

    pub(crate) fn is_up(&self, server: usize) -> bool {
        self.servers[server].node.is_some()
    }

    /// A server is cut off.
    pub(crate) fn disconnect(&mut self, server: usize) {
        self.network.disconnect(server % self.servers.len());
    }

    /// A server is reached again.
    pub(crate) fn connect(&mut self, server: usize) {
        self.network.connect(server % self.servers.len());
    }

    /// Everybody runs and is reached.
    pub(crate) fn restore_all(&mut self) -> Result<(), Violation> {
        for server in 0..self.count() {
            if !self.is_up(server) {
                self.start(server)?;
            }
            self.connect(server);
        }
        Ok(())
    }

    // --- what a test may ask ---

    /// The role and the term of a server that runs.
    pub(crate) fn state(&self, server: usize) -> Option<(Role, Term)> {
        self.servers[server].node.as_ref().map(|node| (node.role(), node.term()))
    }

    /// `Start()`: proposes to one server, which takes it only if it leads.
    pub(crate) fn propose(&mut self, server: usize, command: &Bytes) -> Result<Option<Started>, Violation> {
        let proposed = self.step(server, Input::Propose { payload: command.clone() })?;
        let Some(Ok(position)) = proposed else { return Ok(None) };
        let node = self.servers[server].node.as_ref().expect("it has just answered");
        let base = node.base().index;
        let upto = node.entries_after(base).take((position.index.0 - base.0) as usize);
        let commands = upto.filter(|entry| matches!(entry.payload, Payload::Data(_))).count();
        // What has left the log was applied here.
        let index = self.commands_upto[base.0 as usize] + commands;
        Ok(Some(Started { index, term: position.term }))
    }

    /// How many servers have applied the command at `index`, and which command it is.
    pub(crate) fn committed(&self, index: usize) -> (usize, Option<&Bytes>) {
        let count = self.servers.iter().filter(|server| server.applied.len() >= index).count();
        let command = (count > 0).then(|| &self.agreed[index - 1]);
        (count, command)
    }

    // --- time ---

    /// Lets time pass.
    pub(crate) fn run_for(&mut self, time: Micros) -> Result<(), Violation> {
        let until = self.now() + time;
        while let Some(at) = self.schedule.next_at().filter(|at| *at <= until) {
            debug_assert!(at <= until);
            let happening = self.schedule.next().expect("there is one");
            self.happen(happening)?;
        }
        self.schedule.advance(until);
        Ok(())
    }

    fn happen(&mut self, happening: Happening) -> Result<(), Violation> {
        match happening {
            Happening::Tick { server, life } if self.servers[server].life == life => {
                self.schedule.after(TICK_MS * MS, Happening::Tick { server, life });
                let clock = self.now() / MS;
                self.step(server, Input::Tick { clock })?;
                self.ask_again(server)
            }
            Happening::Synced { server, life } if self.servers[server].life == life => self.synced(server),
            Happening::Kept { server, life } if self.servers[server].life == life => self.kept(server),
            Happening::Tick { .. } | Happening::Synced { .. } | Happening::Kept { .. } => Ok(()),
            Happening::Arrival { to, from, life, bytes, is_late } => {
                // What a server had sent when it died may have left its machine, or not.
                let is_lost = self.servers[from].life != life && self.prng.chance(0.5);
                if is_lost || (!is_late && !self.network.is_open(from, to)) {
                    return Ok(());
                }
                self.arrival(to, from, &bytes)
            }
        }
    }

    fn arrival(&mut self, to: usize, from: usize, bytes: &Bytes) -> Result<(), Violation> {
        if self.servers[to].node.is_none() {
            return Ok(());
        }
        match wire::decode(bytes).map(|envelope| envelope.message) {
            Ok(PeerMessage::Raft(message)) => {
                self.step(to, Input::Message { from: node_id(from), message }).map(|_| ())
            }
            Ok(PeerMessage::FetchSnapshot { last, .. }) => self.serve(to, from, last),
            Ok(PeerMessage::SnapshotChunk { last, bytes, .. }) => {
                self.received(to, last, bytes);
                Ok(())
            }
            Ok(_) | Err(_) => {
                let story = format!("n{} cannot read what n{} said", to + 1, from + 1);
                Err(Violation { invariant: "wire round trip", story })
            }
        }
    }

    /// One step of one server, if it runs, with all that is owed for it.
    pub(super) fn step(
        &mut self,
        server: usize,
        input: Input,
    ) -> Result<Option<Result<Position, quorate_raft::Refusal>>, Violation> {
        let Some(node) = &mut self.servers[server].node else { return Ok(None) };
        let Effects { send_now, persist, apply, more_to_apply, proposed, reads: _, install, fetch } =
            node.step(input);
        if let Some(Persist { write, hard_state, entries, send_after, reset_to }) = persist {
            let send_after =
                send_after.into_iter().map(|envelope| raft_enveloped(server, envelope)).collect();
            let write = DiskWrite { write, hard_state, reset_to, entries, send_after };
            self.invariants.wrote(server, &write)?;
            self.servers[server].queued.push_back(write);
            self.sync_soon(server);
        }
        for envelope in send_now {
            self.send(server, &raft_enveloped(server, envelope))?;
        }
        if let Some(position) = install {
            self.install(server, position)?;
        }
        for entry in apply {
            self.apply(server, &entry)?;
        }
        if let Some(fetch) = fetch {
            self.fetch(server, fetch)?;
        }
        let place = &self.servers[server];
        let node = place.node.as_ref().expect("it has just stepped");
        self.invariants.stepped(View::new(server, node, node.applied(), place.digest))?;
        if more_to_apply {
            self.step(server, Input::ApplyMore)?;
        }
        Ok(proposed)
    }

    // --- effects ---

    fn sync_soon(&mut self, server: usize) {
        let place = &mut self.servers[server];
        if place.syncing == 0 && !place.queued.is_empty() {
            place.syncing = place.queued.len();
            let life = place.life;
            self.schedule.after(SYNC, Happening::Synced { server, life });
        }
    }

    fn synced(&mut self, server: usize) -> Result<(), Violation> {
        let place = &mut self.servers[server];
        let synced = std::mem::take(&mut place.syncing);
        let writes: Vec<DiskWrite> = place.queued.drain(..synced).collect();
        writes.last().into_iter().for_each(|last| self.invariants.synced(server, last.write));
        let mut promises = Vec::new();
        let mut last = None;
        for mut write in writes {
            promises.append(&mut write.send_after);
            last = Some(write.write);
            self.servers[server].store(write);
        }
        self.compact_disk(server, last);
        if self.snapshot_every.is_some() {
            self.largest_log = self.largest_log.max(self.servers[server].log_bytes());
        }
        for envelope in promises {
            self.send(server, &envelope)?;
        }
        if let Some(write) = last {
            self.step(server, Input::Persisted { write })?;
        }
        self.sync_soon(server);
        Ok(())
    }

    pub(super) fn send(&mut self, from: usize, envelope: &PeerEnvelope) -> Result<(), Violation> {
        self.invariants.sends(from, envelope)?;
        let to = host_of(envelope.to);
        let mut bytes = BytesMut::new();
        wire::encode(envelope, &mut bytes);
        let is_request = self.count_message(envelope, bytes.len() as u64);
        let (delay, is_late) = match self.network.send(from, to, is_request) {
            Fate::Dropped => return Ok(()),
            Fate::Arrives(delay) => (delay, false),
            Fate::ArrivesLate(delay) => (delay, true),
        };
        let life = self.servers[from].life;
        self.schedule.after(delay, Happening::Arrival { to, from, life, bytes: bytes.freeze(), is_late });
        Ok(())
    }

    /// Counts a message, and says whether it is a request.
    fn count_message(&mut self, envelope: &PeerEnvelope, bytes: u64) -> bool {
        self.traffic.bytes += bytes;
        let PeerMessage::Raft(Message { body, .. }) = &envelope.message else {
            let is_request = matches!(envelope.message, PeerMessage::FetchSnapshot { .. });
            self.traffic.requests += u64::from(is_request);
            return is_request;
        };
        let is_request = match body {
            Body::PreVote { .. } | Body::Vote { .. } => {
                self.traffic.campaigns += 1;
                true
            }
            Body::InstallSnapshot { .. } => {
                self.traffic.offers += 1;
                true
            }
            Body::Append { .. } | Body::Heartbeat { .. } | Body::TimeoutNow => true,
            Body::Rejected { .. } => {
                self.traffic.rejections += 1;
                false
            }
            Body::PreVoteReply { .. }
            | Body::VoteReply { .. }
            | Body::Appended { .. }
            | Body::HeartbeatReply { .. } => false,
        };
        self.traffic.requests += u64::from(is_request);
        is_request
    }

    /// Every command is compared with what the others applied at its place.
    fn apply(&mut self, server: usize, entry: &Entry) -> Result<(), Violation> {
        let place = &mut self.servers[server];
        let position = (entry.position.term.0, entry.position.index.0);
        place.digest =
            place.digest.wrapping_mul(0x0100_0000_01B3).wrapping_add(position.0 << 40 ^ position.1);
        let command = match &entry.payload {
            Payload::Data(command) => Some(command),
            Payload::Noop | Payload::Membership(_) => None,
        };
        place.applied.extend(command.cloned());
        if self.commands_upto.len() as u64 == position.1 {
            self.commands_upto.push(place.applied.len());
        }
        let Some(command) = command else { return Ok(()) };
        match self.agreed.get(place.applied.len() - 1) {
            Some(agreed) if agreed == command => {}
            Some(_) => {
                let story =
                    format!("n{} applied another command at {} than others", server + 1, place.applied.len());
                return Err(Violation { invariant: "state machine safety", story });
            }
            None => self.agreed.push(command.clone()),
        }
        self.applied(server, entry.position);
        Ok(())
    }
}

/// Those of the product, but that the course waits at every server for what is committed: so all are told at once.
fn default_limits() -> Limits {
    Limits { notice_ticks: u32::MAX, ..ReplicaConfig::default_limits() }
}

impl Server {
    fn store(&mut self, write: DiskWrite) {
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(position) = write.reset_to {
            self.base = position;
            self.entries.clear();
        }
        if let Some(first) = write.entries.first() {
            self.entries.truncate((first.position.index.previous().0 - self.base.index.0) as usize);
            self.entries.extend(write.entries);
        }
    }
}

fn raft_enveloped(from: usize, envelope: quorate_raft::Envelope) -> PeerEnvelope {
    enveloped(from, envelope.to, PeerMessage::Raft(envelope.message))
}

pub(super) fn enveloped(from: usize, to: NodeId, message: PeerMessage) -> PeerEnvelope {
    let incarnation = Incarnation(from as u64 + 1);
    let start = Start::default();
    PeerEnvelope { cluster: ClusterId::new(1), from: node_id(from), to, incarnation, start, message }
}

/// Counts how often each role is held among these, for stories.
pub(crate) fn roles(cluster: &Cluster) -> String {
    let mut roles: BTreeMap<String, usize> = BTreeMap::new();
    for server in 0..cluster.count() {
        let shown = match cluster.state(server) {
            Some((role, term)) => format!("{role}@{term}"),
            None => "down".to_owned(),
        };
        let cut = if cluster.network.is_connected(server) { "" } else { " (cut off)" };
        *roles.entry(format!("{shown}{cut}")).or_default() += 1;
    }
    roles.iter().map(|(role, count)| format!("{count} {role}")).collect::<Vec<_>>().join(", ")
}
