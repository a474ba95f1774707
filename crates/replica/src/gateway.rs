//! The gateway of one server: every write that enters it gets the next sequence of one session, is sent to whoever leads,
//! and is sent again until this server applies it itself. Knows nothing of sockets or of how a leader is found.
//!
//! The reply comes from this server's **own** apply, so nothing but the log carries it, and a waiter is named by
//! (session, sequence), which no other command ever has: no reply can go to somebody else. Sequences are applied without
//! gaps ([`crate::session`]), so a lost message costs a resend, never an order.
//!
//! Inside, a command is named by its *ticket*, which counts from 1 in the life of the process; its sequence is the
//! ticket minus what was resolved before the session was opened.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;
use quorate_raft::NodeId;

use crate::command::{Query, Reply, ReplyError, Seq, SessionKey};
use crate::entry::{self, LoggedWrite, RunHead};
use crate::machine::Witness;
use crate::replica::{Answer, ConnectionId};
use crate::sabotage::Bug;
use crate::shard::Shards;

/// Commands that wait for their reply at one server; past it the server reads no more from its clients.
pub const WINDOW_COMMANDS_MAX: usize = 65_536;
/// Bytes of those commands.
pub const WINDOW_BYTES_MAX: usize = 64 << 20;
/// Bytes of commands sent to the leader and not yet applied here (one command may exceed it alone).
pub const SENT_BYTES_MAX: usize = 16 << 20;
/// Bytes of one run, and so of most entries (one command may exceed it alone).
pub const RUN_BYTES_MAX: usize = 1 << 20;
/// Milliseconds without a reply after which everything is sent again: a message between servers was lost without the
/// link, the leader or the log telling. Doubles each time up to the second figure, because a slow leader looks the same.
const RESEND_MS: u64 = 500;
const RESEND_MS_MAX: u64 = 8_000;
/// Milliseconds after which the opening of the session is asked for again.
const OPEN_AGAIN_MS: u64 = 200;
/// A sign of life is due after this part of the session's lifetime.
const KEEP_ALIVE_PART: u64 = 10;

const _: () = assert!(RUN_BYTES_MAX <= SENT_BYTES_MAX && SENT_BYTES_MAX <= WINDOW_BYTES_MAX);

/// A read that is answered at its place among the writes of its connection, while they are applied.
#[derive(Clone, Debug)]
pub(crate) struct Ride {
    pub(crate) connection: ConnectionId,
    pub(crate) tag: u64,
    pub(crate) query: Query,
}

/// A command's number in the life of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

#[derive(Debug)]
struct Slot {
    /// The write as it stands in the log.
    write: Bytes,
    /// Who waits for the reply; `None` once told, or if nobody ever did.
    waiter: Option<(ConnectionId, u64)>,
    arrived_ms: u64,
    /// Answered on the state before this write.
    before: Vec<Ride>,
    /// Answered on the state after it.
    after: Vec<Ride>,
}

/// How long requests wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Milliseconds for a leader to be found.
    pub(crate) election_hold_ms: u64,
    /// Milliseconds for the reply.
    pub(crate) request_timeout_ms: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Gateway {
    node: NodeId,
    start: u64,
    patience: Patience,
    session: Option<SessionKey>,
    /// Counts openings, so that the gateway knows its own from a delayed one.
    nonce: u64,
    opening_asked_ms: Option<u64>,
    window: VecDeque<Slot>,
    /// The ticket of the window's first slot. All before it are resolved.
    front: u64,
    /// A slot's sequence is its ticket minus this.
    base: u64,
    /// Tickets below are sent in this attempt.
    sent_end: u64,
    /// Tickets below were sent at some time under this session: "not executed" may not be said of them.
    ever_sent_end: u64,
    bytes: usize,
    sent_bytes: usize,
    attempt: u64,
    sent_ms: u64,
    progress_ms: u64,
    /// What is waited without progress before everything is sent again.
    resend_ms: u64,
    /// Tickets below have been looked at for the hold, or for the timeout.
    held_end: u64,
    timed_out_end: u64,
    /// The log holds a command under its session that it has not given.
    is_contradicted: bool,
    /// The time of the step under way.
    now_ms: u64,
    /// Told, in order; whoever drives the gateway takes them.
    pub(crate) answers: Vec<Answer>,
}

impl Gateway {
    pub(crate) fn new(node: NodeId, start: u64, patience: Patience) -> Self {
        Self {
            node,
            start,
            patience,
            session: None,
            nonce: 1,
            opening_asked_ms: None,
            window: VecDeque::new(),
            front: 1,
            base: 0,
            sent_end: 1,
            ever_sent_end: 1,
            bytes: 0,
            sent_bytes: 0,
            attempt: 1,
            sent_ms: 0,
            progress_ms: 0,
            resend_ms: RESEND_MS,
            held_end: 1,
            timed_out_end: 1,
            is_contradicted: false,
            now_ms: 0,
            answers: Vec::new(),
        }
    }

    /// A step begins at this time.
    pub(crate) fn set_now(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
    }

    /// Whether another command may be offered.
    pub(crate) fn has_room(&self) -> bool {
        self.window.len() < WINDOW_COMMANDS_MAX && self.bytes < WINDOW_BYTES_MAX
    }

    /// Commands that are not resolved.
    pub(crate) fn waiting(&self) -> usize {
        self.window.len()
    }

    /// The gateway's session, once it is open.
    pub(crate) fn session(&self) -> Option<SessionKey> {
        self.session
    }

    /// Whether the log says that this gateway gave a command which it did not give: its memory or a peer is wrong,
    /// and it cannot know any more which answers are whose.
    pub(crate) fn is_contradicted(&self) -> bool {
        self.is_contradicted
    }

    /// Whether the front of the window is what runs now.
    fn expects(&mut self, seq: Seq) -> bool {
        let is_front = seq.0.checked_add(self.base) == Some(self.front) && !self.window.is_empty();
        self.is_contradicted |= !is_front;
        is_front
    }

    /// Takes a write at the end of the order. `before` are reads of the same connection that must not see it.
    pub(crate) fn push(
        &mut self,
        write: &LoggedWrite,
        waiter: Option<(ConnectionId, u64)>,
        before: Vec<Ride>,
    ) -> Ticket {
        let ticket = Ticket(self.end());
        let write = entry::encode_write(write);
        self.bytes += write.len();
        self.window.push_back(Slot { write, waiter, arrived_ms: self.now_ms, before, after: Vec::new() });
        ticket
    }

    /// Whether somebody still waits for this write.
    pub(crate) fn is_unresolved(&self, ticket: Ticket) -> bool {
        self.slot(ticket).is_some_and(|slot| slot.waiter.is_some())
    }

    /// Whether this write is still to be sent for the first time. A read that arrives now may be answered right behind
    /// it: its place in the log is yet to come. Behind a write that was sent it may not: the log may hold later writes
    /// that were acknowledged before the read was asked, and a read at the older place would miss them.
    pub(crate) fn is_unsent(&self, ticket: Ticket) -> bool {
        ticket.0 >= self.ever_sent_end.max(self.front)
    }

    /// Lets a read be answered right behind an unresolved write.
    pub(crate) fn ride_after(&mut self, ticket: Ticket, ride: Ride) {
        let offset = usize::try_from(ticket.0 - self.front).expect("a ticket in the window");
        self.window[offset].after.push(ride);
    }

    /// All that was sent is to be sent again, from the lowest unresolved on, before anything new.
    pub(crate) fn begin_anew(&mut self) {
        self.attempt += 1;
        self.sent_end = self.front;
        self.sent_bytes = 0;
        self.progress_ms = self.now_ms;
        self.opening_asked_ms = None;
    }

    /// The session is gone from the state. Everything of it that ran was resolved by the applies before, and a session
    /// that is gone never comes back: what is unresolved has certainly not run, and is sent under a new session.
    pub(crate) fn session_lost(&mut self) {
        self.session = None;
        self.nonce += 1;
        self.ever_sent_end = self.front;
        self.begin_anew();
    }

    /// What is to be put into the log now, as items of a batch, in order.
    pub(crate) fn items_to_send(&mut self) -> Vec<Bytes> {
        let Some(session) = self.session else {
            let is_due =
                self.opening_asked_ms.is_none_or(|asked| self.now_ms.saturating_sub(asked) >= OPEN_AGAIN_MS);
            if !is_due {
                return Vec::new();
            }
            self.opening_asked_ms = Some(self.now_ms);
            return vec![entry::open_gateway(self.node, self.start, self.nonce)];
        };
        let mut items = Vec::new();
        while self.sent_end < self.end() && self.sent_bytes < SENT_BYTES_MAX {
            if self.sent_end == self.front {
                self.progress_ms = self.now_ms;
            }
            let run = self.next_run();
            self.sent_bytes += self.slots(run.clone()).map(|slot| slot.write.len()).sum::<usize>();
            let head = RunHead {
                session,
                attempt: self.attempt,
                acknowledged: Seq(self.front - 1 - self.base),
                first: Seq(run.start - self.base),
            };
            items.push(entry::run(head, self.slots(run.clone()).map(|slot| &slot.write)));
            self.sent_end = run.end;
            self.sent_ms = self.now_ms;
        }
        self.ever_sent_end = self.ever_sent_end.max(self.sent_end);
        items
    }

    /// The tickets of the next run: at least one, and no more bytes than a run should have.
    fn next_run(&self) -> Range<u64> {
        let mut end = self.sent_end + 1;
        let mut bytes: usize = self.slots(self.sent_end..end).map(|slot| slot.write.len()).sum();
        for slot in self.slots(end..self.end()) {
            bytes += slot.write.len();
            if bytes > RUN_BYTES_MAX {
                break;
            }
            end += 1;
        }
        self.sent_end..end
    }

    /// Looks at the clock: gives up what has waited too long, shows a sign of life, notices that nothing moves. What this
    /// server has put into its own log as the leader cannot be lost on the way.
    pub(crate) fn tick(&mut self, is_leader_known: bool, can_be_lost: bool, gateway_ttl_ms: u64) {
        if Bug::LeavesWaiters.is_put_back() {
            return;
        }
        self.held_end = self.held_end.max(self.front);
        while let Some(slot) = self.slot(Ticket(self.held_end)) {
            if self.now_ms.saturating_sub(slot.arrived_ms) < self.patience.election_hold_ms {
                break;
            }
            if !is_leader_known {
                self.give_up_if_unsent(Ticket(self.held_end));
            }
            self.held_end += 1;
        }
        self.timed_out_end = self.timed_out_end.max(self.front);
        while let Some(slot) = self.slot(Ticket(self.timed_out_end)) {
            if self.now_ms.saturating_sub(slot.arrived_ms) < self.patience.request_timeout_ms {
                break;
            }
            let ticket = Ticket(self.timed_out_end);
            self.give_up_if_unsent(ticket);
            self.answer_error(ticket, &ReplyError::InDoubt);
            self.timed_out_end += 1;
        }
        let is_anything_sent = self.sent_end > self.front;
        if is_anything_sent && can_be_lost && self.now_ms.saturating_sub(self.progress_ms) >= self.resend_ms {
            self.resend_ms = (self.resend_ms * 2).min(RESEND_MS_MAX);
            self.begin_anew();
        }
        let is_quiet = self.now_ms.saturating_sub(self.sent_ms) >= gateway_ttl_ms / KEEP_ALIVE_PART;
        if self.session.is_some() && self.window.is_empty() && is_quiet {
            self.push(&LoggedWrite::KeepAlive, None, Vec::new());
        }
    }

    /// "Not executed" is the truth only for a write that was never sent; its place in the order is taken by nothing.
    fn give_up_if_unsent(&mut self, ticket: Ticket) {
        let is_unsent = self.is_unsent(ticket);
        let is_unsent = Bug::RefusesWhatWasSent.spoils(is_unsent, || true);
        let is_unsent = Bug::RefusesWhatIsResent.spoils(is_unsent, || ticket.0 >= self.sent_end);
        if !is_unsent || !self.is_unresolved(ticket) {
            return;
        }
        self.answer_error(ticket, &ReplyError::ClusterDown);
        let nothing = entry::encode_write(&LoggedWrite::KeepAlive);
        let offset = usize::try_from(ticket.0 - self.front).expect("a ticket in the window");
        self.bytes -= self.window[offset].write.len();
        self.bytes += nothing.len();
        self.window[offset].write = nothing;
    }

    /// Tells the waiter of a write, and the reads that ride on it, that there is no answer. The write stays in the
    /// window: without it there would be a gap.
    fn answer_error(&mut self, ticket: Ticket, error: &ReplyError) {
        let offset = usize::try_from(ticket.0 - self.front).expect("a ticket in the window");
        let slot = &mut self.window[offset];
        let rides = |rides: &mut Vec<Ride>| std::mem::take(rides).into_iter();
        // A read has no effect, so what is not known of a write is "not executed" for it.
        self.answers.extend(rides(&mut slot.before).map(Ride::unanswered));
        if let Some((connection, tag)) = slot.waiter.take() {
            self.answers.push(Answer { connection, tag, reply: Reply::Error(error.clone()) });
        }
        self.answers.extend(rides(&mut slot.after).map(Ride::unanswered));
    }

    fn end(&self) -> u64 {
        self.front + self.window.len() as u64
    }

    fn slot(&self, ticket: Ticket) -> Option<&Slot> {
        let offset = ticket.0.checked_sub(self.front)?;
        self.window.get(usize::try_from(offset).ok()?)
    }

    fn slots(&self, tickets: Range<u64>) -> impl Iterator<Item = &Slot> + Clone {
        let offset = |ticket: u64| usize::try_from(ticket - self.front).expect("a ticket in the window");
        self.window.range(offset(tickets.start)..offset(tickets.end))
    }
}

impl Ride {
    fn answered(self, state: &Shards) -> Answer {
        Answer { connection: self.connection, tag: self.tag, reply: state.answer(&self.query) }
    }

    fn unanswered(self) -> Answer {
        Answer { connection: self.connection, tag: self.tag, reply: Reply::Error(ReplyError::ClusterDown) }
    }
}

impl Witness for Gateway {
    fn opened(&mut self, node: NodeId, start: u64, nonce: u64, session: SessionKey) {
        if (node, start, nonce) == (self.node, self.start, self.nonce) && self.session.is_none() {
            self.session = Some(session);
            self.base = Bug::FloorTooHigh.spoils(self.front - 1, || self.front);
        }
    }

    fn before(&mut self, session: SessionKey, seq: Seq, state: &Shards) {
        if self.session == Some(session)
            && self.expects(seq)
            && let Some(first) = self.window.front_mut()
        {
            let rides = std::mem::take(&mut first.before);
            self.answers.extend(rides.into_iter().map(|ride| ride.answered(state)));
        }
    }

    fn after(&mut self, session: SessionKey, seq: Seq, reply: &Reply, state: &Shards) {
        if self.session != Some(session) || !self.expects(seq) {
            return;
        }
        let Some(slot) = self.window.pop_front() else { return };
        self.bytes -= slot.write.len();
        if self.front < self.sent_end {
            self.sent_bytes -= slot.write.len();
        }
        self.front += 1;
        self.progress_ms = self.now_ms;
        self.resend_ms = RESEND_MS;
        // Sent in an earlier attempt and applied before it was sent again in this one.
        self.sent_end = self.sent_end.max(self.front);
        if let Some((connection, tag)) = slot.waiter {
            self.answers.push(Answer { connection, tag, reply: reply.clone() });
        }
        self.answers.extend(slot.after.into_iter().map(|ride| ride.answered(state)));
    }

    fn gap(&mut self, session: SessionKey, attempt: u64) {
        if self.session == Some(session) && self.attempt == attempt {
            self.begin_anew();
        }
    }
}
