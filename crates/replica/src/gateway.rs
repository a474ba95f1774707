//! The gateway of one server: every write that enters it gets the next sequence of one session, is sent to whoever leads,
//! and is sent again until this server applies it itself. Knows nothing of sockets or of how a leader is found.
//!
//! The reply comes from this server's **own** apply, so nothing but the log carries it, and a waiter is named by
//! (session, sequence), which no other command ever has: no reply can go to somebody else. Sequences are applied without
//! gaps ([`crate::session`]), so a lost message costs a resend, never an order.
//!
//! A command gets its sequence when it is sent for the first time. Before that it can be given up without a trace; after
//! that it stays in the window until it has run, whoever still waits, or there would be a gap: or until the window is full
//! of what nobody waits for, and the session is left behind. Until it has a sequence it is named by its *ticket*, which
//! counts in the life of the process.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use quorate_raft::NodeId;

use crate::command::{Query, Reply, ReplyError, Seq, SessionKey};
use crate::entry::{self, LoggedWrite, RunHead};
use crate::machine::Witness;
use crate::replica::{Answer, ConnectionId};
use crate::sabotage::Bug;
use crate::shard::Shards;

/// Writes, and reads that ride on them, that wait for their reply at one server; past it the server reads no more from its clients.
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

/// Why a read that stood between two writes was not answered.
const OVERTAKEN: &str = "the server has caught up by a snapshot; ask again";

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
    ticket: Ticket,
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

impl Slot {
    /// What it counts against [`WINDOW_BYTES_MAX`].
    fn bytes(&self) -> usize {
        self.write.len() + self.before.iter().chain(&self.after).map(Ride::bytes).sum::<usize>()
    }

    /// What it counts against [`WINDOW_COMMANDS_MAX`].
    fn commands(&self) -> usize {
        1 + self.before.len() + self.after.len()
    }
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
    /// Unresolved writes in order: first those that were ever sent under this session, then those that were not.
    window: VecDeque<Slot>,
    /// Where the next writes are laid out.
    room: BytesMut,
    /// The sequence of the window's first slot. The others that were sent follow without a gap.
    first_seq: u64,
    /// How many of the window's slots are sent in this attempt.
    sent: usize,
    /// How many were sent at some time under this session: "not executed" may not be said of them.
    ever_sent: usize,
    /// How many of those are past the timeout and answered.
    timed_out: usize,
    next_ticket: u64,
    /// Commands and bytes of the window, rides included.
    commands: usize,
    bytes: usize,
    sent_bytes: usize,
    attempt: u64,
    sent_ms: u64,
    progress_ms: u64,
    /// What is waited without progress before everything is sent again.
    resend_ms: u64,
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
            room: BytesMut::new(),
            first_seq: 1,
            sent: 0,
            ever_sent: 0,
            timed_out: 0,
            next_ticket: 1,
            commands: 0,
            bytes: 0,
            sent_bytes: 0,
            attempt: 1,
            sent_ms: 0,
            progress_ms: 0,
            resend_ms: RESEND_MS,
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
        self.commands < WINDOW_COMMANDS_MAX && self.bytes < WINDOW_BYTES_MAX
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
        let is_front = seq.0 == self.first_seq && self.ever_sent > 0;
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
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        let write = entry::encode_write_in(&mut self.room, write);
        let slot = Slot { ticket, write, waiter, arrived_ms: self.now_ms, before, after: Vec::new() };
        self.bytes += slot.bytes();
        self.commands += slot.commands();
        self.window.push_back(slot);
        ticket
    }

    /// Whether somebody still waits for this write.
    pub(crate) fn is_unresolved(&self, ticket: Ticket) -> bool {
        self.place_of(ticket).is_some_and(|place| self.window[place].waiter.is_some())
    }

    /// Whether this write is still to be sent for the first time. A read that arrives now may be answered right behind
    /// it: its place in the log is yet to come. Behind a write that was sent it may not: the log may hold later writes
    /// that were acknowledged before the read was asked, and a read at the older place would miss them.
    pub(crate) fn is_unsent(&self, ticket: Ticket) -> bool {
        self.place_of(ticket).is_some_and(|place| place >= self.ever_sent)
    }

    /// Lets a read be answered right behind an unresolved write.
    pub(crate) fn ride_after(&mut self, ticket: Ticket, ride: Ride) {
        let place = self.place_of(ticket).expect("a ticket in the window");
        self.bytes += ride.bytes();
        self.commands += 1;
        self.window[place].after.push(ride);
    }

    fn place_of(&self, ticket: Ticket) -> Option<usize> {
        self.window.binary_search_by_key(&ticket, |slot| slot.ticket).ok()
    }

    /// All that was sent is to be sent again, from the lowest unresolved on, before anything new.
    pub(crate) fn begin_anew(&mut self) {
        self.attempt += 1;
        self.sent = 0;
        self.sent_bytes = 0;
        self.progress_ms = self.now_ms;
        self.opening_asked_ms = None;
    }

    /// The state is that of a snapshot, which stands for entries that were never applied here: what of this gateway's
    /// commands ran in them is not known to have been answered how. `last` is the last sequence that ran under the
    /// session, `None` if the session is gone.
    pub(crate) fn overtaken(&mut self, last: Option<Seq>) {
        let Some(_) = self.session else {
            // The session that was asked for may have been opened in one of them: another is asked for.
            self.nonce += 1;
            self.opening_asked_ms = None;
            return;
        };
        let ran = match last {
            Some(last) => (last.0 + 1).saturating_sub(self.first_seq),
            None => self.ever_sent as u64,
        };
        if ran > self.ever_sent as u64 {
            self.is_contradicted = true;
            return;
        }
        for _ in 0..ran {
            let slot = self.window.pop_front().expect("as many as were sent");
            self.bytes -= slot.bytes();
            self.commands -= slot.commands();
            if self.sent > 0 {
                self.sent_bytes -= slot.write.len();
            }
            self.first_seq += 1;
            self.sent = self.sent.saturating_sub(1);
            self.ever_sent -= 1;
            self.timed_out = self.timed_out.saturating_sub(1);
            let of_read = ReplyError::NotServing(OVERTAKEN.to_owned());
            slot.answer_error(&ReplyError::InDoubt, &of_read, &mut self.answers);
        }
        if last.is_none() {
            self.leave_session();
        }
    }

    /// The session is gone from the state. Everything of it that ran was resolved by the applies before, and a session
    /// that is gone never comes back: what is unresolved has certainly not run, and is sent under a new session.
    pub(crate) fn session_lost(&mut self) {
        self.leave_session();
    }

    fn leave_session(&mut self) {
        self.session = None;
        self.nonce += 1;
        self.ever_sent = 0;
        self.timed_out = 0;
        self.begin_anew();
    }

    /// All that was sent is given up, and fills the window: clients that come now would not even be told so. It is
    /// forgotten, and what comes is sent under a new session. What of the old one stands in the log before the new one
    /// opens still runs, and nothing else of it ever does, because that opening closes it: so it was in doubt, as its
    /// clients were told, and nothing of it overtakes what comes after.
    fn forget_sent(&mut self) {
        for slot in self.window.drain(..self.ever_sent) {
            self.bytes -= slot.bytes();
            self.commands -= slot.commands();
        }
        self.leave_session();
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
        while self.sent < self.window.len() && self.sent_bytes < SENT_BYTES_MAX {
            if self.sent == 0 {
                self.progress_ms = self.now_ms;
            }
            let run = self.next_run();
            let writes = || self.window.range(run.clone()).map(|slot| &slot.write);
            let head = RunHead {
                session,
                attempt: self.attempt,
                acknowledged: Seq(self.first_seq - 1),
                first: Seq(self.first_seq + run.start as u64),
            };
            items.push(entry::run(head, writes()));
            self.sent_bytes += writes().map(Bytes::len).sum::<usize>();
            self.sent = run.end;
            self.sent_ms = self.now_ms;
        }
        self.ever_sent = self.ever_sent.max(self.sent);
        items
    }

    /// The places of the next run: at least one, and no more bytes than a run should have.
    fn next_run(&self) -> Range<usize> {
        let mut bytes = 0;
        let fits = |slot: &&Slot| {
            bytes += slot.write.len();
            bytes <= RUN_BYTES_MAX
        };
        let count = self.window.range(self.sent..).take_while(fits).count().max(1);
        self.sent..self.sent + count
    }

    /// Looks at the clock: gives up what has waited too long, shows a sign of life, notices that nothing moves. What this
    /// server has put into its own log as the leader cannot be lost on the way.
    pub(crate) fn tick(&mut self, is_leader_known: bool, can_be_lost: bool, gateway_ttl_ms: u64) {
        if Bug::LeavesWaiters.is_put_back() {
            return;
        }
        self.give_up_unsent(is_leader_known);
        self.give_up_sent();
        if !self.has_room() && self.ever_sent > 0 && self.timed_out == self.ever_sent {
            self.forget_sent();
        }
        if self.sent > 0 && can_be_lost && self.now_ms.saturating_sub(self.progress_ms) >= self.resend_ms {
            self.resend_ms = (self.resend_ms * 2).min(RESEND_MS_MAX);
            self.begin_anew();
        }
        let is_quiet = self.now_ms.saturating_sub(self.sent_ms) >= gateway_ttl_ms / KEEP_ALIVE_PART;
        if self.session.is_some() && self.window.is_empty() && is_quiet {
            self.push(&LoggedWrite::KeepAlive, None, Vec::new());
        }
    }

    /// "Not executed" is the truth for writes that were never sent, and for those alone: nothing is left of them.
    fn give_up_unsent(&mut self, is_leader_known: bool) {
        let (patience_ms, error) = if is_leader_known {
            let limit_ms = self.patience.request_timeout_ms;
            (limit_ms, ReplyError::TooSlow { limit_ms })
        } else {
            (self.patience.election_hold_ms.min(self.patience.request_timeout_ms), ReplyError::ClusterDown)
        };
        self.refuse_unsent(patience_ms, &error);
    }

    /// Forgets the writes that were never sent and have waited for so long.
    fn refuse_unsent(&mut self, patience_ms: u64, error: &ReplyError) {
        let is_due = |slot: &&Slot| self.now_ms.saturating_sub(slot.arrived_ms) >= patience_ms;
        let count = self.window.range(self.ever_sent..).take_while(is_due).count();
        for slot in self.window.drain(self.ever_sent..self.ever_sent + count) {
            self.bytes -= slot.bytes();
            self.commands -= slot.commands();
            slot.answer_error(error, error, &mut self.answers);
        }
    }

    /// What was sent and is not answered in time may take effect, now or later.
    fn give_up_sent(&mut self) {
        let limit_ms = self.patience.request_timeout_ms;
        // A read has no effect, so what is in doubt for a write is "not executed" for it.
        self.doubt_sent(limit_ms, &ReplyError::TooSlow { limit_ms });
    }

    /// Answers what was sent and has waited for so long. It stays in the window, see [`Gateway::forget_sent`].
    fn doubt_sent(&mut self, patience_ms: u64, of_read: &ReplyError) {
        while self.timed_out < self.ever_sent {
            let slot = &mut self.window[self.timed_out];
            if self.now_ms.saturating_sub(slot.arrived_ms) < patience_ms {
                return;
            }
            self.bytes -= slot.bytes();
            self.commands -= slot.commands();
            let told = Slot {
                write: slot.write.clone(),
                before: Vec::new(),
                after: Vec::new(),
                waiter: None,
                ..*slot
            };
            let slot = std::mem::replace(slot, told);
            self.bytes += slot.write.len();
            self.commands += 1;
            let error = Bug::RefusesWhatWasSent.spoils(ReplyError::InDoubt, || ReplyError::ClusterDown);
            let is_sent_anew = self.timed_out < self.sent;
            let error = Bug::RefusesWhatIsResent
                .spoils(error, || if is_sent_anew { ReplyError::InDoubt } else { ReplyError::ClusterDown });
            slot.answer_error(&error, of_read, &mut self.answers);
            self.timed_out += 1;
        }
    }

    /// Nobody is to be answered from this server's state any more: whoever waits is told so now.
    pub(crate) fn stop_serving(&mut self, why: &ReplyError) {
        self.refuse_unsent(0, why);
        self.doubt_sent(0, why);
    }
}

impl Slot {
    /// Tells who waits for the write, and the reads that ride on it, that there is no answer.
    fn answer_error(self, of_write: &ReplyError, of_read: &ReplyError, answers: &mut Vec<Answer>) {
        answers.extend(self.before.into_iter().map(|ride| ride.refused(of_read)));
        if let Some((connection, tag)) = self.waiter {
            answers.push(Answer { connection, tag, reply: Reply::Error(of_write.clone()) });
        }
        answers.extend(self.after.into_iter().map(|ride| ride.refused(of_read)));
    }
}

impl Ride {
    fn answered(self, state: &Shards) -> Answer {
        Answer { connection: self.connection, tag: self.tag, reply: state.answer(&self.query) }
    }

    fn refused(self, error: &ReplyError) -> Answer {
        Answer { connection: self.connection, tag: self.tag, reply: Reply::Error(error.clone()) }
    }

    fn bytes(&self) -> usize {
        self.query.bytes()
    }
}

impl Witness for Gateway {
    fn opened(&mut self, node: NodeId, start: u64, nonce: u64, session: SessionKey) {
        if (node, start, nonce) == (self.node, self.start, self.nonce) && self.session.is_none() {
            self.session = Some(session);
            self.first_seq = Bug::FloorTooHigh.spoils(1, || 2);
        }
    }

    fn before(&mut self, session: SessionKey, seq: Seq, state: &Shards) {
        if self.session == Some(session)
            && self.expects(seq)
            && let Some(first) = self.window.front_mut()
        {
            let rides = std::mem::take(&mut first.before);
            self.bytes -= rides.iter().map(Ride::bytes).sum::<usize>();
            self.commands -= rides.len();
            self.answers.extend(rides.into_iter().map(|ride| ride.answered(state)));
        }
    }

    fn after(&mut self, session: SessionKey, seq: Seq, reply: &Reply, state: &Shards) {
        if self.session != Some(session) || !self.expects(seq) {
            return;
        }
        let Some(slot) = self.window.pop_front() else { return };
        // The rides before it are answered and gone.
        self.bytes -= slot.bytes();
        self.commands -= slot.commands();
        if self.sent > 0 {
            self.sent_bytes -= slot.write.len();
        }
        self.first_seq += 1;
        self.progress_ms = self.now_ms;
        self.resend_ms = RESEND_MS;
        // It may have been sent in an earlier attempt only, and applied before it was sent in this one.
        self.sent = self.sent.saturating_sub(1);
        self.ever_sent -= 1;
        self.timed_out = self.timed_out.saturating_sub(1);
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
