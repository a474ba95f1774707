//! A server that takes part: consensus, state machine, gateway and reads, tied together. One owner, one loop: nothing
//! here waits.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use foldhash::fast::FixedState;
use quorate_raft::{
    Effects, Entry, Input, Membership, Message, Node, NodeId, Persist, Position, ReadToken, Refusal,
    Restored, Role, Term, WriteId,
};
use quorate_storage::{ClusterId, Incarnation};

use crate::backup::Backups;
use crate::checks::{Checks, Report};
use crate::command::{Command, Operation, Reply, ReplyError, Write};
use crate::entry::{self, Item, LoggedWrite, StateLimits};
use crate::gateway::{Gateway, Patience, RUN_BYTES_MAX};
use crate::machine::Machine;
use crate::pending::{Connections, Reads, WaitingRead};
use crate::replica::{Answer, Config, ConnectionId, DiskWrite, Outbox, Request, TICK_MS, WRITE_BYTES_MAX};
use crate::sabotage::{self, Bug};
use crate::seat;
use crate::session::check_ttl;
use crate::shard::check_sizes;
use crate::transfer::{Transfers, stagger_bytes};
use crate::wire::PeerMessage;
use candidates::Candidates;
use disks::Disks;
use holding::Holding;
use leaving::Leaving;
use members::Watch;
use reads::RemoteRead;
use room::Room;

mod backups;
mod candidates;
mod checks;
mod disks;
mod holding;
pub(crate) mod leaving;
mod members;
mod reads;
mod room;
mod snapshots;
mod tail;

/// Bytes of items that wait at a leader to be proposed; what a follower forwards beyond is dropped, and the follower
/// sends it again.
const STAGED_BYTES_MAX: usize = 128 << 20;
/// Milliseconds at least between two entries that carry nothing but the time.
const TIME_ENTRY_MS: u64 = 1_000;

/// See the module.
pub(crate) struct Member {
    cluster: ClusterId,
    start: u64,
    node: Node,
    machine: Machine,
    transfers: Transfers,
    checks: Checks,
    backups: Backups,
    /// The state of a snapshot that was fetched, for the moment at which it is installed.
    loaded: Option<Box<Machine>>,
    /// Who waits to be taken in.
    candidates: Candidates,
    room: Room,
    holding: Holding,
    disks: Disks,
    watch: Watch,
    leaving: Leaving,
    log_bytes_max: u64,
    snapshot_chunk_bytes: usize,
    gateway: Gateway,
    connections: Connections,
    reads: Reads,
    patience: Patience,
    next_token: u64,
    /// Reads of other servers that wait for this leader's round.
    remote_reads: BTreeMap<ReadToken, RemoteRead>,
    /// Items of batches, to be proposed as soon as consensus takes them. Empty unless this server leads.
    staged: VecDeque<Bytes>,
    staged_bytes: usize,
    /// Whose items have come since all were proposed: somebody waits there for their commit.
    hurried: BTreeSet<NodeId>,
    uncommitted_bytes_max: usize,
    founding_limits: StateLimits,
    /// The term in which this leader has proposed the founding entry.
    founding_proposed: Option<Term>,
    /// The highest stamp of replicated time this server has given or applied.
    stamp_ms: u64,
    time_entry_ms: u64,
    /// More is committed than was applied: after a start it may be the whole log.
    applies_more: bool,
    /// Who led when it was last looked at.
    seen_leader: (Term, Option<NodeId>),
    /// Ticks since the start, in milliseconds: what waiting is measured by.
    uptime_ms: u64,
}

impl Member {
    pub(crate) fn new(
        config: &Config,
        (cluster, incarnation): (ClusterId, Incarnation),
        founding: Membership,
        restored: Restored,
        machine: Option<Box<Machine>>,
    ) -> Self {
        let machine = machine.map_or_else(|| Machine::new(cluster, config.seed), |machine| *machine);
        let patience = Patience {
            election_hold_ms: config.election_hold_ms,
            request_timeout_ms: config.request_timeout_ms,
        };
        let limits = config.raft.clone();
        let own_seat = seat::beginning(incarnation);
        let (id, seed) = (config.id, config.seed);
        let raft = quorate_raft::Config { id, membership: founding, own_seat, limits, seed };
        let holding = Holding::new(config, &restored);
        let restored = Restored { membership: machine.membership().cloned(), ..restored };
        Self {
            cluster,
            start: config.start,
            node: Node::new(raft, restored),
            stamp_ms: machine.now_ms(),
            transfers: Transfers::new(
                machine.now_ms(),
                config.snapshot_bytes_per_second,
                stagger_bytes(config),
            ),
            backups: Backups::default(),
            machine,
            checks: Checks::new(config.check_interval_ms),
            loaded: None,
            candidates: Candidates::default(),
            room: Room::new(config.memory_bytes_max),
            holding,
            disks: Disks::new(config.disk_reserve_bytes, &config.folder),
            watch: Watch::default(),
            leaving: Leaving::new(config.raft.election_ticks_min),
            log_bytes_max: config.log_bytes_max,
            snapshot_chunk_bytes: config.snapshot_chunk_bytes,
            gateway: Gateway::new(config.id, config.start, patience),
            connections: Connections::with_hasher(FixedState::with_seed(config.seed)),
            reads: Reads::default(),
            patience,
            next_token: 1,
            remote_reads: BTreeMap::new(),
            staged: VecDeque::new(),
            staged_bytes: 0,
            hurried: BTreeSet::new(),
            uncommitted_bytes_max: config.raft.uncommitted_bytes_max,
            founding_limits: config.founding_limits,
            founding_proposed: None,
            time_entry_ms: 0,
            applies_more: false,
            seen_leader: (Term::ZERO, None),
            uptime_ms: 0,
        }
    }

    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    pub(crate) fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Commands of the gateway that are not resolved.
    pub(crate) fn waiting(&self) -> usize {
        self.gateway.waiting()
    }

    pub(crate) fn memory_bytes_max(&self) -> u64 {
        self.room.memory_bytes_max()
    }

    pub(crate) fn has_room(&self) -> bool {
        self.gateway.has_room() && self.reads.has_room()
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.node.role() == Role::Leader
    }

    // --- clients ---

    pub(crate) fn request(&mut self, request: Request, out: &mut Outbox) {
        let Request { connection, tag, operation } = request;
        if self.is_in_doubt() {
            out.actions.answers.push(Answer { connection, tag, reply: Reply::Error(self.not_serving()) });
            return;
        }
        match operation {
            Operation::Read(query) => {
                let limits = self.limits();
                if let Some(error) = query.keys().iter().find_map(|key| check_sizes(key, 0, limits).err()) {
                    out.actions.answers.push(Answer { connection, tag, reply: Reply::Error(error) });
                    return;
                }
                let arrived_ms = self.uptime_ms;
                self.read(WaitingRead { connection, tag, query, arrived_ms, after: None });
            }
            Operation::Backup(call) => self.backup((connection, tag), call, out),
            Operation::Members(call) => self.members((connection, tag), &call, out),
            Operation::Write(write) => match self.log(write) {
                Ok(write) => match self.refusal(&write, out.id) {
                    None => self.write(connection, tag, &write),
                    Some(reply) => out.actions.answers.push(Answer { connection, tag, reply }),
                },
                Err(reply) => out.actions.answers.push(Answer { connection, tag, reply }),
            },
        }
    }

    /// The write as it goes into the log, or the answer where it must not.
    fn log(&self, write: Write) -> Result<LoggedWrite, Reply> {
        match write {
            Write::Plain(command) => {
                self.check_sizes(&command)?;
                Ok(LoggedWrite::Plain(command))
            }
            Write::Once { session, seq, acknowledged, command } => {
                if session.cluster != self.cluster {
                    return Err(Reply::Error(ReplyError::SessionExpired));
                }
                self.check_sizes(&command)?;
                let checksum = entry::checksum_of(&command);
                Ok(LoggedWrite::Once { session: session.key, seq, acknowledged, checksum, command })
            }
            Write::OpenSession { ttl_ms } => {
                check_ttl(ttl_ms, self.limits()).map_err(Reply::Error)?;
                Ok(LoggedWrite::OpenSession { ttl_ms })
            }
            Write::CloseSession { session } if session.cluster != self.cluster => Err(Reply::Ok),
            Write::CloseSession { session } => Ok(LoggedWrite::CloseSession { session: session.key }),
        }
    }

    /// What `apply` decides by; before it knows, what it most likely will.
    fn limits(&self) -> &StateLimits {
        self.machine.limits().unwrap_or(&self.founding_limits)
    }

    /// Keeps out of the log what its apply would refuse anyway for its size alone.
    fn check_sizes(&self, command: &Command) -> Result<(), Reply> {
        let limits = self.limits();
        let error = match command {
            Command::Put { key, value, .. } | Command::Append { key, value } => {
                check_sizes(key, value.len() as u64, limits).err()
            }
            Command::Delete { keys } => keys.iter().find_map(|key| check_sizes(key, 0, limits).err()),
        };
        let bytes = command.bytes();
        let error = error.or_else(|| {
            (bytes > WRITE_BYTES_MAX)
                .then_some(ReplyError::ValueTooLarge { bytes: bytes as u64, limit: WRITE_BYTES_MAX as u64 })
        });
        error.map_or(Ok(()), |error| Err(Reply::Error(error)))
    }

    fn write(&mut self, connection: ConnectionId, tag: u64, write: &LoggedWrite) {
        let order = self.connections.entry(connection).or_default();
        let earlier = order.reads.drain(..).filter_map(|id| self.reads.take(id));
        let before = earlier.map(WaitingRead::into_ride).collect();
        order.last_write = Some(self.gateway.push(write, Some((connection, tag)), before));
    }

    pub(crate) fn disconnected(&mut self, connection: ConnectionId) {
        self.connections.remove(&connection);
    }

    // --- events ---

    pub(crate) fn tick(&mut self, now_ms: u64, out: &mut Outbox) {
        self.uptime_ms += TICK_MS;
        self.gateway.set_now(self.uptime_ms);
        // Zero is "no clock known".
        self.step(Input::Tick { clock: now_ms.max(1) }, out);
        if Bug::ExpiresByLocalClock.is_put_back() {
            self.machine.expire(now_ms);
        }
        let is_leader_known = self.node.leader().is_some();
        let gateway_ttl_ms = self.limits().gateway_ttl_ms;
        if !self.has_diverged() {
            self.gateway.tick(is_leader_known, !self.is_leader(), gateway_ttl_ms);
        }
        self.give_up_reads(is_leader_known, out);
        if !self.is_leader() {
            self.reads.renew(self.uptime_ms);
        }
        self.tick_members();
        self.propose_time(out);
        self.propose_check(out);
        self.transfers.tick(self.uptime_ms, self.node.commit(), out);
        self.tick_disks(out);
        self.ask_for_laggards();
        let log_bytes_max = self.disks.log_bytes_max(self.log_bytes_max);
        if !self.is_in_doubt() && self.transfers.is_due(self.uptime_ms, log_bytes_max) {
            self.take_snapshot(out);
        }
        self.trim(out);
        self.forget(out);
        self.tick_backups(out);
    }

    pub(crate) fn link_up(&mut self, node: NodeId) {
        self.leaving.link_up(node);
        if self.node.leader() == Some(node) && !self.is_leader() {
            self.gateway.begin_anew();
            self.reads.forget_questions();
        }
    }

    pub(crate) fn persisted(&mut self, write: WriteId, out: &mut Outbox) {
        self.disks.synced(write);
        self.step(Input::Persisted { write }, out);
    }

    pub(crate) fn receive(&mut self, from: NodeId, message: PeerMessage, out: &mut Outbox) {
        match message {
            PeerMessage::Raft(message) => self.receive_raft(from, message, out),
            PeerMessage::Forward { items } => self.receive_forward(from, items),
            PeerMessage::ReadIndex { start, counter } if self.is_leader() => {
                let token = self.take_token();
                self.remote_reads.insert(token, RemoteRead { from, start, counter });
                self.step(Input::Hurry { to: from }, out);
                self.step(Input::Read { token }, out);
            }
            PeerMessage::ReadIndexReply { start, counter, index } => {
                if Bug::BelievesOldReplies.spoils(start, || self.start) == self.start {
                    self.reads.confirm(ReadToken(counter), index);
                }
            }
            PeerMessage::FetchSnapshot { last, offset } if self.is_in_doubt() => {
                out.send(from, snapshots::no_snapshot(last, offset));
            }
            PeerMessage::FetchSnapshot { last, offset } => {
                self.serve_snapshot(from, last, offset, out);
            }
            PeerMessage::SnapshotChunk { last, offset, total: _, bytes } => {
                self.transfers.chunk(last, offset, bytes, self.uptime_ms, out);
            }
            PeerMessage::CheckReport { position, digest, asks } => {
                self.receive_report(from, Report { position, digest }, asks, out);
            }
            PeerMessage::DiskRoom(room) => self.disk_told(from, room),
            // A question to one that does not lead: the asker asks again, whoever leads then.
            PeerMessage::ReadIndex { .. }
            | PeerMessage::Founding { .. }
            | PeerMessage::Founded { .. }
            | PeerMessage::Refused { .. }
            | PeerMessage::Outdated { .. }
            | PeerMessage::Started { .. }
            | PeerMessage::Introduce
            | PeerMessage::Announce { .. }
            | PeerMessage::Welcome { .. }
            | PeerMessage::Unknown { .. }
            | PeerMessage::Removed { .. } => {}
        }
    }

    fn receive_raft(&mut self, from: NodeId, message: Message, out: &mut Outbox) {
        self.step(Input::Message { from, message }, out);
    }

    /// Commands of another server's gateway. What is dropped here, it sends again.
    fn receive_forward(&mut self, from: NodeId, items: Bytes) {
        self.note_leader();
        let is_small_enough = items.len() <= WRITE_BYTES_MAX + RUN_BYTES_MAX
            && self.staged_bytes + items.len() <= STAGED_BYTES_MAX;
        if self.is_leader() && is_small_enough && self.are_of(from, &items) {
            self.stage(items);
            self.hurried.insert(from);
        }
    }

    /// Whether these are items, and in nobody else's name. (A session that this leader has not applied yet is believed: it
    /// will be there when the items are.)
    fn are_of(&self, from: NodeId, items: &Bytes) -> bool {
        let Ok(items) = entry::parse_items(items) else { return false };
        items.iter().all(|item| match item {
            Item::OpenGateway { node, .. } => *node == from,
            Item::Run(run) => {
                self.machine.sessions().gateway_node(run.session).is_none_or(|node| node == from)
            }
            Item::Check => false,
        })
    }

    // --- effects ---

    pub(crate) fn step(&mut self, input: Input, out: &mut Outbox) -> Option<Result<Position, Refusal>> {
        let mut effects = self.node.step(input);
        let proposed = effects.proposed.take();
        self.perform(effects, out);
        proposed
    }

    fn perform(&mut self, effects: Effects, out: &mut Outbox) {
        let Effects { send_now, persist, install, apply, reads, fetch, proposed: _, more_to_apply } = effects;
        self.applies_more = more_to_apply;
        for envelope in send_now {
            self.note_offer(&envelope);
            out.send(envelope.to, PeerMessage::Raft(envelope.message));
        }
        if let Some(Persist { write, hard_state, reset_to, entries, send_after }) = persist {
            let send_after = send_after
                .into_iter()
                .map(|envelope| out.envelope(envelope.to, PeerMessage::Raft(envelope.message)));
            let send_after = send_after.collect();
            self.disks.given(write, &entries);
            out.actions.persist.push(DiskWrite { write, hard_state, reset_to, entries, send_after });
        }
        if let Some(position) = install {
            self.install(position, out);
        }
        if !self.has_diverged() {
            apply.iter().for_each(|entry| self.apply(entry, out));
        }
        for read in reads {
            self.settle_read(read, out);
        }
        if let Some(fetch) = fetch
            && !self.has_diverged()
        {
            self.transfers.fetch(fetch, self.uptime_ms, out);
        }
    }

    fn apply(&mut self, entry: &Entry, out: &mut Outbox) {
        if out.actions.halt.is_some() {
            return;
        }
        sabotage::note_flags(&self.founding_limits, self.room.memory_bytes_max());
        match self.machine.apply(entry, &mut self.gateway) {
            Ok(None) => {}
            Ok(Some(digest)) => self.checked(entry.position, digest),
            Err(cannot) => {
                out.actions.halt = Some(format!(
                    "the log's entry {} cannot be applied: {}; a newer version may have written it: start that version",
                    cannot.position, cannot.why
                ));
                return;
            }
        }
        if self.gateway.is_contradicted() {
            out.actions.halt = Some(format!(
                "the log's entry {} holds commands in this server's name that it has not given: another process runs \
                 under its id, or memory is wrong",
                entry.position
            ));
            return;
        }
        self.transfers.applied(entry.cost());
        self.holding.applied(entry.position.index, entry.cost());
        self.room.applied(entry.position.index);
        self.stamp_ms = self.stamp_ms.max(self.machine.now_ms());
        // Not only once it is removed: runs behind its deadline are skipped without a word.
        let now_ms = self.machine.now_ms();
        let is_alive = |session| self.machine.sessions().is_gateway_alive(session, now_ms);
        if self.gateway.session().is_some_and(|session| !is_alive(session)) {
            self.gateway.session_lost();
        }
    }

    // --- the end of a step ---

    /// Sends and asks for all that the events of this step have brought, together.
    pub(crate) fn flush(&mut self, out: &mut Outbox) {
        if self.applies_more {
            // A slice in each turn, or whoever has much to catch up with would be silent meanwhile, and taken for dead.
            self.step(Input::ApplyMore, out);
        }
        self.note_leader();
        self.compare(out);
        match self.node.leader().filter(|_| !self.has_diverged()) {
            Some(leader) if leader == out.id => {
                for items in self.gateway.items_to_send() {
                    self.stage(items);
                }
                self.propose_staged(out);
                if self.staged.is_empty() {
                    for to in std::mem::take(&mut self.hurried) {
                        self.step(Input::Hurry { to }, out);
                    }
                }
            }
            Some(leader) => {
                for items in self.gateway.items_to_send() {
                    out.send(leader, PeerMessage::Forward { items });
                }
            }
            None => {}
        }
        self.ask_for_reads(out);
        self.answer_reads();
        self.begin_backups(out);
        self.go_on_leaving(out);
        out.actions.answers.append(&mut self.gateway.answers);
        out.actions.goes_on = self.applies_more;
        self.holding.settle(self.node.applied());
    }

    /// Where another leads, or another term began, what is under way may be lost: all of it is sent and asked again.
    fn note_leader(&mut self) {
        let leader = (self.node.term(), self.node.leader());
        if leader != self.seen_leader && !Bug::LeavesWaiters.is_put_back() {
            self.seen_leader = leader;
            self.gateway.begin_anew();
            self.reads.forget_questions();
            self.staged.clear();
            self.staged_bytes = 0;
            self.hurried.clear();
            self.room.forget_proposed();
        }
    }

    fn stage(&mut self, items: Bytes) {
        self.staged_bytes += items.len();
        self.staged.push_back(items);
    }

    fn propose_staged(&mut self, out: &mut Outbox) {
        if self.staged.is_empty() || self.is_stuck() || !self.propose_founding(out) {
            return;
        }
        let stamp_ms = self.next_stamp();
        if stamp_ms == 0 {
            // A new cluster whose majority has not told its clocks yet: it will with the next heartbeat.
            return;
        }
        while !self.staged.is_empty() {
            let mut bytes = 0;
            let fits = |items: &&Bytes| {
                bytes += items.len();
                bytes <= RUN_BYTES_MAX
            };
            let count = self.staged.iter().take_while(fits).count().max(1);
            let items: Vec<Bytes> = self.staged.iter().take(count).cloned().collect();
            let uncommitted_bytes = self.node.uncommitted_bytes();
            let batch_bytes = items.iter().map(Bytes::len).sum::<usize>();
            if uncommitted_bytes > 0 && uncommitted_bytes + batch_bytes > self.uncommitted_bytes_max {
                // It would be refused as busy: not worth laying it out.
                return;
            }
            let (items, growth) = self.admitted(items, out.id);
            let payload = entry::batch(stamp_ms, &items);
            match self.step(Input::Propose { payload }, out) {
                Some(Ok(position)) => self.note_growth(position.index, growth),
                // Not now: it stays here, and the next step tries again.
                Some(Err(Refusal::Busy | Refusal::NotLeader { .. })) | None => return,
                Some(Err(Refusal::TooLarge | Refusal::ChangePending | Refusal::NotReady)) => {
                    unreachable!("no batch is refused like this")
                }
            }
            self.staged.drain(..count);
            self.staged_bytes -= batch_bytes;
            self.time_entry_ms = self.uptime_ms;
        }
    }

    /// A batch is proposed only behind the founding entry. Whether the state is founded is known; where it is not (yet),
    /// this leader proposes the entry once in its term: a second one changes nothing.
    fn propose_founding(&mut self, out: &mut Outbox) -> bool {
        if self.machine.limits().is_some() || self.founding_proposed == Some(self.node.term()) {
            return true;
        }
        let payload = entry::founding(&self.founding_limits);
        let is_taken = matches!(self.step(Input::Propose { payload }, out), Some(Ok(_)));
        if is_taken {
            self.founding_proposed = Some(self.node.term());
        }
        is_taken
    }

    /// Where a deadline is due and nothing else brings the time forward, an entry does that carries nothing.
    fn propose_time(&mut self, out: &mut Outbox) {
        let is_due =
            self.machine.sessions().next_deadline_ms().is_some_and(|due| due <= self.node.majority_clock());
        let is_quiet = self.uptime_ms.saturating_sub(self.time_entry_ms) >= TIME_ENTRY_MS;
        let is_settled = self.node.commit() == self.node.last().index;
        if self.is_leader() && is_due && is_quiet && is_settled && self.machine.limits().is_some() {
            let payload = entry::batch(self.next_stamp(), &[]);
            if let Some(Ok(_)) = self.step(Input::Propose { payload }, out) {
                self.time_entry_ms = self.uptime_ms;
            }
        }
    }

    fn next_stamp(&mut self) -> u64 {
        self.stamp_ms = self.stamp_ms.max(self.node.majority_clock());
        self.stamp_ms
    }
}
