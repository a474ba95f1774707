//! A group of nodes in memory: each with its disk and its queue of writes, and a network between them that
//! delivers only what it is told to. Every step is checked against the invariants of Raft.

#![allow(dead_code, reason = "each test binary uses its part of the harness")]
#![allow(clippy::unwrap_used, reason = "test code: a panic is the report")]

mod check;
pub(crate) mod show;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use quorate_raft::{
    Config, Effects, Entry, Envelope, Fetch, HardState, Index, Input, Limits, Membership, Message, Node,
    NodeId, Persist, Position, ReadOutcome, ReadToken, Refusal, Restored, Term,
};

use check::Checker;

/// What survives a crash.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) hard_state: HardState,
    /// Before the first of the entries.
    pub(crate) base: Position,
    pub(crate) entries: Vec<Entry>,
    /// The newest snapshot, a file of its own; (0, 0) without one.
    pub(crate) snapshot: Position,
    /// What the snapshot says of the membership.
    pub(crate) membership: Option<Arc<Membership>>,
}

impl Disk {
    fn write(&mut self, persist: &Persist) {
        if let Some(hard_state) = persist.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(base) = persist.reset_to {
            assert!(base.index <= self.snapshot.index, "the log would begin where no snapshot is");
            self.base = base;
            self.entries.clear();
        }
        if let Some(first) = persist.entries.first() {
            let kept = usize::try_from(first.position.index.0 - 1 - self.base.index.0).unwrap();
            assert!(kept <= self.entries.len(), "a write that leaves a gap on the disk");
            self.entries.truncate(kept);
            self.entries.extend_from_slice(&persist.entries);
        }
    }

    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        match index.0.checked_sub(self.base.index.0)? {
            0 => Some(self.base.term),
            after => self.entries.get(usize::try_from(after - 1).ok()?).map(|entry| entry.position.term),
        }
    }

    /// Entries up to `through` leave.
    fn compact(&mut self, through: Index) {
        if let Some(term) = self.term_at(through) {
            self.entries.retain(|entry| entry.position.index > through);
            self.base = Position::new(term, through);
        }
    }

    /// What a start begins with. A log that does not hold the snapshot's position begins anew there.
    fn recover(&mut self) -> Restored {
        if self.term_at(self.snapshot.index) != Some(self.snapshot.term) {
            self.base = self.snapshot;
            self.entries.clear();
        }
        let Self { hard_state, base, entries, snapshot, membership } = self.clone();
        Restored { hard_state, base, entries, snapshot, membership }
    }
}

/// One server: a node while it runs, and what it leaves behind when it does not.
pub(crate) struct Server {
    pub(crate) node: Option<Node>,
    pub(crate) disk: Disk,
    pub(crate) writes: VecDeque<Persist>,
    pub(crate) clock: u64,
    /// The snapshot that it was told to fetch last.
    pub(crate) fetch: Option<Fetch>,
    starts: u64,
}

/// A message under way.
#[derive(Clone, Debug)]
pub(crate) struct Flight {
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
    pub(crate) message: Message,
}

pub(crate) struct Cluster {
    pub(crate) limits: Limits,
    pub(crate) seed: u64,
    /// Who founds the group: others begin as nobody.
    pub(crate) voters: BTreeSet<NodeId>,
    pub(crate) servers: BTreeMap<NodeId, Server>,
    pub(crate) network: VecDeque<Flight>,
    /// Links that deliver nothing, each in one direction.
    pub(crate) cut: BTreeSet<(NodeId, NodeId)>,
    /// Whether writes complete at once.
    pub(crate) auto_persist: bool,
    /// Lines of what happened; `None` keeps no trace.
    pub(crate) trace: Option<String>,
    /// Messages that left, by kind.
    pub(crate) sent: BTreeMap<&'static str, u64>,
    pub(crate) confirmed: Vec<(NodeId, ReadToken, Index)>,
    pub(crate) refused: Vec<(NodeId, ReadToken, Refusal)>,
    check: Checker,
}

pub(crate) fn node_id(id: u64) -> NodeId {
    NodeId::new(id).unwrap()
}

/// Limits in which a script stays short.
pub(crate) fn test_limits() -> Limits {
    Limits {
        heartbeat_ticks: 2,
        election_ticks_min: 10,
        election_ticks_max: 20,
        election_patience_max: 1,
        hurry_ticks_min: 3,
        hurry_ticks_max: 6,
        entry_bytes_max: 1_000,
        append_bytes_max: 1_000,
        inflight_bytes_max: 4_000,
        inflight_messages_max: 4,
        uncommitted_bytes_max: 4_000,
        apply_bytes_max: 1_000,
        reads_waiting_max: 4,
        notice_ticks: u32::MAX,
        spares_followers: false,
    }
}

impl Cluster {
    pub(crate) fn new(nodes: u64, seed: u64, limits: Limits) -> Self {
        Self::with_spares(nodes, 0, seed, limits)
    }

    /// A group of `nodes`, and servers that do not belong to it.
    pub(crate) fn with_spares(nodes: u64, spares: u64, seed: u64, limits: Limits) -> Self {
        let mut cluster = Self {
            limits,
            seed,
            voters: (1..=nodes).map(node_id).collect(),
            servers: BTreeMap::new(),
            network: VecDeque::new(),
            cut: BTreeSet::new(),
            auto_persist: true,
            trace: None,
            sent: BTreeMap::new(),
            confirmed: Vec::new(),
            refused: Vec::new(),
            check: Checker::default(),
        };
        for id in (1..=nodes + spares).map(node_id) {
            let (disk, writes) = (Disk::default(), VecDeque::new());
            let server = Server { node: None, disk, writes, clock: 0, fetch: None, starts: 0 };
            cluster.servers.insert(id, server);
        }
        for id in cluster.ids() {
            cluster.start(id);
        }
        cluster
    }

    pub(crate) fn ids(&self) -> Vec<NodeId> {
        self.servers.keys().copied().collect()
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node {
        self.servers[&id].node.as_ref().unwrap_or_else(|| panic!("{id} is down"))
    }

    pub(crate) fn is_up(&self, id: NodeId) -> bool {
        self.servers[&id].node.is_some()
    }

    /// Starts a server from what its disk holds.
    pub(crate) fn start(&mut self, id: NodeId) {
        let membership = Membership::simple(self.voters.clone());
        let server = self.servers.get_mut(&id).unwrap();
        assert!(server.node.is_none(), "{id} is up already");
        server.starts += 1;
        let seed = self.seed.wrapping_mul(1_000).wrapping_add(server.starts);
        let config =
            Config { id, membership, own_seat: bytes::Bytes::new(), limits: self.limits.clone(), seed };
        let restored = server.disk.recover();
        let node = Node::new(config, restored);
        self.check.on_start(id, &node);
        server.node = Some(node);
    }

    /// Ends a server: memory is gone, and of the writes under way the first `survivors` reached the disk.
    pub(crate) fn crash(&mut self, id: NodeId, survivors: usize) {
        let server = self.servers.get_mut(&id).unwrap();
        server.node = None;
        server.fetch = None;
        for persist in server.writes.drain(..).take(survivors) {
            server.disk.write(&persist);
        }
    }

    /// One step of one node, with all that follows at once.
    pub(crate) fn step(&mut self, id: NodeId, input: Input) {
        let Some(node) = self.servers.get_mut(&id).unwrap().node.as_mut() else { return };
        let before = show::Before::of(node);
        let shown = self.trace.is_some().then(|| input.clone());
        let effects = node.step(input);
        if let Some(input) = shown {
            self.show_step(id, &before, &input, &effects);
        }
        self.perform(id, effects);
        if self.auto_persist {
            self.persist(id, usize::MAX);
        }
    }

    fn perform(&mut self, id: NodeId, effects: Effects) {
        let Effects { send_now, persist, install, apply, more_to_apply, proposed: _, reads, fetch } = effects;
        self.send(id, send_now);
        let server = self.servers.get_mut(&id).unwrap();
        server.writes.extend(persist);
        server.fetch = fetch.or(server.fetch);
        self.check.on_step(id, self.servers[&id].node.as_ref().unwrap(), install, &apply);
        if more_to_apply && self.auto_persist {
            self.step(id, Input::ApplyMore);
        }
        for outcome in reads {
            match outcome {
                ReadOutcome::Confirmed { token, index } => self.confirmed.push((id, token, index)),
                ReadOutcome::Refused { token, refusal } => self.refused.push((id, token, refusal)),
            }
        }
    }

    fn send(&mut self, from: NodeId, envelopes: Vec<Envelope>) {
        for Envelope { to, message } in envelopes {
            let server = &self.servers[&from];
            self.check.on_send(from, to, &message, &server.disk, server.node.as_ref());
            *self.sent.entry(show::kind(&message.body)).or_default() += 1;
            self.network.push_back(Flight { from, to, message });
        }
    }

    /// A server takes a snapshot at once of what it has applied; entries up to `through` leave memory and disk.
    pub(crate) fn compact(&mut self, id: NodeId, through: Index) {
        let node = self.node(id);
        let snapshot = Position::new(node.term_at(node.applied()).unwrap(), node.applied());
        let server = self.servers.get_mut(&id).unwrap();
        if snapshot.index > server.disk.snapshot.index {
            server.disk.snapshot = snapshot;
            server.disk.membership = self.check.membership_at(snapshot.index);
        }
        // A write under way may rewrite what is on the disk now: the disk's log is compacted behind them, or not.
        if server.writes.is_empty() {
            server.disk.compact(through);
        }
        self.step(id, Input::Compact { snapshot, through });
    }

    /// What is applied and durable leaves a server's memory, but for so many entries. Its disk is as it was.
    pub(crate) fn forget(&mut self, id: NodeId, kept: u64) {
        let node = self.node(id);
        let through = node.applied().min(node.durable());
        self.step(id, Input::Forget { through: Index(through.0.saturating_sub(kept)) });
    }

    /// This snapshot has come to a server, and is durable. It keeps the file only if it is of use.
    pub(crate) fn install(&mut self, id: NodeId, last: Position) {
        self.check.on_install(last);
        let membership = self.check.membership_at(last.index);
        let server = self.servers.get_mut(&id).unwrap();
        if last.index > server.disk.snapshot.index {
            server.disk.snapshot = last;
            server.disk.membership.clone_from(&membership);
        }
        server.fetch = None;
        self.step(id, Input::Install { last, membership });
    }

    /// Completes up to `count` writes of a node with one sync, as a disk does that takes all that wait.
    pub(crate) fn persist(&mut self, id: NodeId, count: usize) {
        loop {
            let server = self.servers.get_mut(&id).unwrap();
            let count = count.min(server.writes.len());
            if count == 0 || server.node.is_none() {
                return;
            }
            let synced: Vec<Persist> = server.writes.drain(..count).collect();
            for persist in &synced {
                server.disk.write(persist);
            }
            let mut last = None;
            for persist in synced {
                last = Some(persist.write);
                self.show_sends(id, &persist.send_after);
                self.send(id, persist.send_after);
            }
            let auto_persist = std::mem::replace(&mut self.auto_persist, false);
            self.step(id, Input::Persisted { write: last.unwrap() });
            self.auto_persist = auto_persist;
            if !auto_persist {
                return;
            }
        }
    }

    /// Delivers the message at this place of the network, or loses it on a cut link or a server that is down.
    pub(crate) fn deliver_at(&mut self, place: usize, keeps: bool) {
        let flight = self.network[place].clone();
        if !keeps {
            self.network.remove(place);
        }
        if self.cut.contains(&(flight.from, flight.to)) || !self.is_up(flight.to) {
            return;
        }
        self.step(flight.to, Input::Message { from: flight.from, message: flight.message });
    }

    /// Delivers until nothing is under way.
    pub(crate) fn deliver_all(&mut self) {
        let mut delivered = 0;
        while !self.network.is_empty() {
            self.deliver_at(0, false);
            delivered += 1;
            assert!(delivered < 100_000, "the group talks without end");
        }
    }

    pub(crate) fn tick(&mut self, id: NodeId) {
        let server = self.servers.get_mut(&id).unwrap();
        server.clock += 1;
        let clock = server.clock;
        self.step(id, Input::Tick { clock });
    }

    pub(crate) fn leader(&self) -> Option<NodeId> {
        let leaders = self.servers.iter().filter_map(|(id, server)| {
            let node = server.node.as_ref()?;
            (node.role() == quorate_raft::Role::Leader).then(|| (node.term(), *id))
        });
        leaders.max().map(|(_, id)| id)
    }

    /// The messages under way from this node are lost.
    pub(crate) fn lose_sent_by(&mut self, id: NodeId) {
        self.network.retain(|flight| flight.from != id);
    }

    /// The highest index that any node has applied at any time.
    pub(crate) fn last_committed(&self) -> Index {
        self.check.last_committed()
    }

    pub(crate) fn check_log_matching(&self) {
        let nodes: Vec<&Node> = self.servers.values().filter_map(|server| server.node.as_ref()).collect();
        Checker::log_matching(&nodes);
    }
}
