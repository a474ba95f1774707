//! One node with its disk and its queue of writes, and what one event does to it. Knows no other node, and
//! nothing of what has been seen before.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use quorate_raft::{
    Body, Config, DropReason, Effects, Entry, Envelope, HardState, Input, Limits, Membership, Message, Node,
    NodeId, Payload, Persist, Position, ReadOutcome, ReadToken, Restored, Role, Round,
};

use super::{Bounds, Sabotage};

/// Ticks of an election timeout: the least there can be beside a heartbeat every tick.
const ELECTION_TICKS: u32 = 2;

/// The nodes of every search.
pub(super) const NODES: usize = 3;

/// The id of the node at `place`, which counts from 0.
pub(super) fn node_id(place: usize) -> NodeId {
    NodeId::new(place as u64 + 1).expect("one or more")
}

/// The place of a node.
pub(super) fn place_of(id: NodeId) -> usize {
    id.get() as usize - 1
}

/// A message in flight.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub(super) from: NodeId,
    pub(super) to: NodeId,
    pub(super) message: Message,
}

/// What a crash leaves.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    pub(super) hard_state: HardState,
    /// Before the first of the entries.
    base: Position,
    entries: Vec<Entry>,
    /// The newest snapshot, a file of its own.
    snapshot: Position,
}

impl Disk {
    fn write(&mut self, persist: &Persist) {
        self.hard_state = persist.hard_state.unwrap_or(self.hard_state);
        if let Some(base) = persist.reset_to {
            self.base = base;
            self.entries.clear();
        }
        if let Some(first) = persist.entries.first() {
            self.entries.retain(|entry| entry.position.index < first.position.index);
            self.entries.extend(persist.entries.iter().cloned());
        }
    }

    fn holds(&self, position: Position) -> bool {
        self.base == position || self.entries.iter().any(|entry| entry.position == position)
    }

    fn compact(&mut self, snapshot: Position) {
        self.snapshot = snapshot;
        if self.holds(snapshot) {
            self.base = snapshot;
            self.entries.retain(|entry| entry.position.index > snapshot.index);
        }
    }

    /// What a start begins with. A log that does not hold the snapshot's position begins anew there.
    fn recover(&mut self) -> Restored {
        if !self.holds(self.snapshot) {
            self.base = self.snapshot;
            self.entries.clear();
        }
        let Self { hard_state, base, entries, snapshot } = self.clone();
        Restored { hard_state, base, entries, snapshot, membership: None }
    }
}

/// What can happen to a node by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Act {
    /// Its election timer runs out.
    TimeOut,
    /// It gets a pre-vote from nobody.
    GrantPreVote,
    /// A leader's tick.
    Heartbeat,
    /// The oldest write is synced.
    Sync,
    /// It ends and starts again.
    Crash,
    /// A client proposes.
    Propose(u8),
    /// A client reads.
    Read,
    /// It takes a snapshot.
    Compact,
    /// The snapshot it fetches is there.
    Install,
}

/// A node and what belongs to it alone.
#[derive(Clone, Debug)]
pub(super) struct Local {
    pub(super) node: Node,
    pub(super) disk: Disk,
    pub(super) pending: VecDeque<Persist>,
    /// The snapshot it was told to fetch last.
    fetched: Option<Position>,
}

/// What an event led to.
pub(super) struct Outcome {
    pub(super) local: Local,
    pub(super) sent: Vec<Packet>,
    pub(super) reads: Vec<ReadOutcome>,
    pub(super) installed: Option<Position>,
}

impl Local {
    /// A node that has never run.
    pub(super) fn new(id: NodeId) -> Self {
        Self::start(id, Disk::default())
    }

    fn start(id: NodeId, mut disk: Disk) -> Self {
        let limits = Limits {
            heartbeat_ticks: 1,
            election_ticks_min: ELECTION_TICKS,
            election_ticks_max: ELECTION_TICKS,
            election_patience_max: 1,
            hurry_ticks_min: ELECTION_TICKS,
            hurry_ticks_max: ELECTION_TICKS,
            entry_bytes_max: 64,
            append_bytes_max: 1 << 10,
            inflight_bytes_max: 1 << 10,
            inflight_messages_max: 4,
            uncommitted_bytes_max: 1 << 10,
            apply_bytes_max: 1 << 10,
            reads_waiting_max: 4,
            notice_ticks: u32::MAX,
            spares_followers: false,
        };
        let voters = (0..NODES).map(node_id).collect();
        let node = Node::new(
            Config { id, membership: Membership::simple(voters), own_seat: Bytes::new(), limits, seed: 0 },
            disk.recover(),
        );
        Self { node, disk, pending: VecDeque::new(), fetched: None }
    }

    /// Whether the event can happen at all.
    pub(super) fn can(&self, act: Act, terms_max: u64) -> bool {
        let role = self.node.role();
        match act {
            Act::TimeOut => role != Role::Leader && self.node.term().0 < terms_max,
            Act::GrantPreVote => role == Role::PreCandidate && self.node.term().0 < terms_max,
            Act::Sync => !self.pending.is_empty(),
            Act::Crash => true,
            Act::Compact => self.node.applied() > self.node.snapshot().index,
            Act::Install => self.fetched.is_some(),
            Act::Heartbeat | Act::Propose(_) | Act::Read => role == Role::Leader,
        }
    }

    /// Lets it happen.
    ///
    /// # Errors
    /// If the node's own assertions fail, or it takes a correct peer for a broken one.
    pub(super) fn act(&self, act: Act, sabotage: Option<Sabotage>, grants: bool) -> Result<Outcome, String> {
        match act {
            Act::Crash => Ok(self.crashed(sabotage)),
            Act::Sync => self.synced(sabotage),
            Act::TimeOut => {
                let ticks = (0..ELECTION_TICKS).map(|_| Input::Tick { clock: 0 });
                let mut outcome = self.steps(ticks, sabotage)?;
                if grants {
                    outcome.sent.retain(|packet| !matches!(packet.message.body, Body::PreVote { .. }));
                }
                Ok(outcome)
            }
            Act::GrantPreVote => {
                let from = node_id((place_of(self.node.id()) + 1) % NODES);
                let term = self.node.term().next().expect("terms are few");
                let message = Message { term, body: Body::PreVoteReply { granted: true } };
                self.steps([Input::Message { from, message }], sabotage)
            }
            Act::Heartbeat => self.steps([Input::Tick { clock: 0 }], sabotage),
            Act::Propose(number) => {
                self.steps([Input::Propose { payload: Bytes::from(vec![number]) }], sabotage)
            }
            Act::Read => self.steps([Input::Read { token: ReadToken(0) }], sabotage),
            Act::Compact => self.compacted(sabotage),
            Act::Install => {
                let mut local = self.clone();
                let last = local.fetched.take().expect("asked before");
                if last.index > local.disk.snapshot.index {
                    local.disk.snapshot = last;
                }
                local.steps([Input::Install { last, membership: None }], sabotage)
            }
        }
    }

    /// The disk's log forgets behind all writes under way: one of them may rewrite what is there now.
    fn compacted(&self, sabotage: Option<Sabotage>) -> Result<Outcome, String> {
        let mut local = self.clone();
        let through = local.node.applied();
        let term = local.node.term_at(through).ok_or("what was applied is gone, without a snapshot")?;
        let snapshot = Position::new(term, through);
        if local.pending.is_empty() {
            local.disk.compact(snapshot);
        }
        local.disk.snapshot = snapshot;
        local.steps([Input::Compact { snapshot, through }], sabotage)
    }

    /// Delivers a message.
    ///
    /// # Errors
    /// As of [`Local::act`].
    pub(super) fn deliver(&self, packet: &Packet, sabotage: Option<Sabotage>) -> Result<Outcome, String> {
        let input = Input::Message { from: packet.from, message: packet.message.clone() };
        let outcome = self.steps([input], sabotage)?;
        if sabotage.is_some() {
            // Then there is a broken peer; the properties must show it by themselves.
            return Ok(outcome);
        }
        let (before, after) = (self.node.dropped(), outcome.local.node.dropped());
        let broken = [
            DropReason::UnknownSender,
            DropReason::SecondLeader,
            DropReason::ContradictsCommitted,
            DropReason::BeyondLog,
            DropReason::TermAhead,
        ];
        match broken.iter().find(|reason| before.get(reason) != after.get(reason)) {
            Some(reason) => Err(format!("{} takes {} for broken: {reason}", packet.to, packet.from)),
            None => Ok(outcome),
        }
    }

    fn crashed(&self, sabotage: Option<Sabotage>) -> Outcome {
        let mut disk = self.disk.clone();
        match sabotage {
            Some(Sabotage::ForgetsVote) => disk.hard_state.vote = None,
            Some(Sabotage::ForgetsLog) => disk.entries.clear(),
            Some(Sabotage::ForgetsSnapshot) if disk.snapshot != Position::ZERO => {
                disk = Disk { hard_state: disk.hard_state, ..Disk::default() };
            }
            Some(Sabotage::ForgetsSnapshot | Sabotage::AnswersBeforeSync | Sabotage::ReportsBeforeSync)
            | None => {}
        }
        Outcome::of(Self::start(self.node.id(), disk))
    }

    fn synced(&self, sabotage: Option<Sabotage>) -> Result<Outcome, String> {
        let mut local = self.clone();
        let write = local.pending.pop_front().expect("asked before");
        local.disk.write(&write);
        let from = local.node.id();
        let released: Vec<Packet> =
            write.send_after.into_iter().map(|envelope| Packet::from(from, envelope)).collect();
        let mut outcome = local.steps([Input::Persisted { write: write.write }], sabotage)?;
        outcome.sent.extend(released);
        Ok(outcome)
    }

    fn steps(
        &self,
        inputs: impl IntoIterator<Item = Input>,
        sabotage: Option<Sabotage>,
    ) -> Result<Outcome, String> {
        let mut outcome = Outcome::of(self.clone());
        for input in inputs {
            // Everything is a copy: what a panic leaves half done is thrown away.
            let stepped = catch_unwind(AssertUnwindSafe(|| outcome.take(input, sabotage)));
            stepped.map_err(|_| format!("an assertion of {} fails", self.node.id()))?;
        }
        Ok(outcome)
    }

    /// All that decides its future, as words.
    pub(super) fn words(&self, rename: &dyn Fn(NodeId) -> NodeId) -> Vec<u64> {
        let mut words = self.node.canonical(rename);
        words.extend(hard_state_words(self.disk.hard_state, rename));
        for position in [self.disk.base, self.disk.snapshot, self.fetched.unwrap_or_default()] {
            words.extend([position.term.0, position.index.0]);
        }
        push_entries(&mut words, &self.disk.entries);
        for write in &self.pending {
            // Term and vote may both be zero, so a write without a hard state needs a sign of its own.
            words.extend(write.hard_state.map_or([u64::MAX; 2], |hard| hard_state_words(hard, rename)));
            let reset_to = write.reset_to.unwrap_or_default();
            words.extend([reset_to.term.0, reset_to.index.0]);
            push_entries(&mut words, &write.entries);
            words.push(write.send_after.len() as u64);
            for envelope in &write.send_after {
                words.push(rename(envelope.to).get());
                push_message(&mut words, &envelope.message);
            }
        }
        words
    }
}

impl Outcome {
    fn of(local: Local) -> Self {
        Self { local, sent: Vec::new(), reads: Vec::new(), installed: None }
    }

    fn take(&mut self, input: Input, sabotage: Option<Sabotage>) {
        let id = self.local.node.id();
        let effects = self.local.node.step(input);
        let Effects { send_now, persist, install, apply: _, more_to_apply, proposed: _, reads, fetch } =
            effects;
        self.installed = install.or(self.installed);
        self.local.fetched = fetch.map(|fetch| fetch.last).or(self.local.fetched);
        assert!(!more_to_apply, "the bounds are below what one step hands over");
        self.sent.extend(send_now.into_iter().map(|envelope| Packet::from(id, envelope)));
        self.reads.extend(reads);
        let Some(mut write) = persist else { return };
        if sabotage == Some(Sabotage::AnswersBeforeSync) {
            self.sent.extend(write.send_after.drain(..).map(|envelope| Packet::from(id, envelope)));
        }
        let number = write.write;
        self.local.pending.push_back(write);
        if sabotage == Some(Sabotage::ReportsBeforeSync) {
            self.take(Input::Persisted { write: number }, sabotage);
        }
    }
}

impl Packet {
    fn from(from: NodeId, envelope: Envelope) -> Self {
        Self { from, to: envelope.to, message: envelope.message }
    }

    pub(super) fn words(&self, rename: &dyn Fn(NodeId) -> NodeId) -> Vec<u64> {
        let mut words = vec![rename(self.from).get(), rename(self.to).get()];
        push_message(&mut words, &self.message);
        words
    }

    /// Whether its receiver will drop it without a word, now and after any crash: its term is over there, or the
    /// question it answers is.
    pub(super) fn is_dead_at(&self, receiver: &Local, bounds: &Bounds) -> bool {
        let term = self.message.term;
        let durable = receiver.disk.hard_state.term;
        let (node, role) = (&receiver.node, receiver.node.role());
        let asks = |wanted: Role| node.term() == term && role == wanted;
        match self.message.body {
            Body::PreVoteReply { .. } | Body::VoteReply { granted: false } => durable >= term,
            Body::VoteReply { granted: true } => durable >= term && !asks(Role::Candidate),
            // It says only that the sender lives, which matters when time passes.
            Body::HeartbeatReply { round: Round(0), .. } if bounds.heartbeats == 0 => durable >= term,
            // A candidate may lead yet, and may have been answered in this term for what it said in the last.
            Body::Appended { .. } | Body::Rejected { .. } | Body::HeartbeatReply { .. } => {
                durable >= term && !asks(Role::Leader) && !asks(Role::Candidate)
            }
            Body::PreVote { .. } if term.0 > bounds.terms => true,
            Body::PreVote { .. }
            | Body::Vote { .. }
            | Body::Append { .. }
            | Body::InstallSnapshot { .. }
            | Body::TimeoutNow
            | Body::Heartbeat { .. } => false,
        }
    }
}

fn hard_state_words(hard_state: HardState, rename: &dyn Fn(NodeId) -> NodeId) -> [u64; 2] {
    [hard_state.term.0, hard_state.vote.map_or(0, |id| rename(id).get())]
}

/// The words of entries; their number first.
pub(super) fn push_entries(words: &mut Vec<u64>, entries: &[Entry]) {
    words.push(entries.len() as u64);
    for entry in entries {
        let Position { term, index } = entry.position;
        words.extend([term.0, index.0]);
        words.push(match &entry.payload {
            Payload::Noop => u64::MAX,
            // Proposals here are one byte.
            Payload::Data(data) => data.first().copied().map_or(0, u64::from),
            Payload::Membership(_) => unreachable!("nobody changes the membership here"),
        });
    }
}

fn push_message(words: &mut Vec<u64>, message: &Message) {
    words.push(message.term.0);
    match &message.body {
        Body::PreVote { last } => words.extend([0, last.term.0, last.index.0]),
        Body::PreVoteReply { granted } => words.extend([1, u64::from(*granted)]),
        Body::Vote { last, is_transfer } => {
            words.extend([2, last.term.0, last.index.0, u64::from(*is_transfer)]);
        }
        Body::TimeoutNow => words.push(10),
        Body::VoteReply { granted } => words.extend([3, u64::from(*granted)]),
        Body::Append { run, commit } => {
            let Position { term, index } = run.base();
            words.extend([4, term.0, index.0, commit.0]);
            push_entries(words, run.entries());
        }
        Body::Appended { matched } => words.extend([5, matched.0]),
        Body::Rejected { base, hint } => words.extend([6, base.0, hint.term.0, hint.index.0]),
        Body::Heartbeat { round, commit } => words.extend([7, round.0, commit.0]),
        Body::HeartbeatReply { round, clock } => words.extend([8, round.0, *clock]),
        Body::InstallSnapshot { last } => words.extend([9, last.term.0, last.index.0]),
    }
}
