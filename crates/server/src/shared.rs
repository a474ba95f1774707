//! What the tasks of the one thread share: the replica, the events that wait for it, connections, peers, counters.
//! Must not know what any of them does.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use quorate_replica::replica::Actions;
use quorate_replica::{Event, Replica, Request, Status};

use crate::buffers::Buffers;
use crate::command::client::Client;
use crate::config::ServeConfig;
use crate::connection::Connection;
use crate::leaving::Leaving;
use crate::loading::LoadProgress;
use crate::transport::Peers;

/// The version of Redis whose commands and texts we follow: clients choose features by it.
pub(crate) const REDIS_VERSION: &str = "7.4.0";
/// What `HELLO` says we are: some clients accept nothing else.
pub(crate) const SERVER_NAME: &str = "redis";

/// Requests that wait for the loop's next turn; past it no connection is read until the loop has turned.
const REQUESTS_WAITING_MAX: usize = 16_384;
/// Bytes of requests that wait for the loop's next turn; past it no connection is read until the loop has turned. What
/// one turn takes in, it must be done with long before an election timeout.
const REQUEST_BYTES_WAITING_MAX: usize = 4 << 20;
/// Bytes of peers' messages that wait for the loop's next turn; past it no peer is read.
const PEER_BYTES_WAITING_MAX: usize = 4 << 20;

/// Time since the loop's last turn past which connections wait for the next one. What is answered on the spot, and what is
/// written, counts towards no other limit; the loop, which keeps the clock and talks to the other servers, has its turn behind
/// all of them.
const TURN_OVERDUE: Duration = Duration::from_millis(20);
/// Connections that have their turn between two looks at the clock, which would cost a small command some hundredths of itself.
const CONNECTIONS_PER_LOOK: u32 = 8;

/// Everything that more than one task of the server's thread uses. No borrow of a cell lives across an `await`.
pub(crate) struct Shared {
    /// What the server was told at its start; addresses as bound.
    pub(crate) config: ServeConfig,
    /// Drawn at this process start.
    pub(crate) start: u64,
    /// When the process started.
    pub(crate) started: Instant,
    /// What waits for the replica.
    pub(crate) inbox: Inbox,
    /// All client connections.
    pub(crate) connections: Connections,
    /// What they read into and write from.
    pub(crate) buffers: Buffers,
    /// The other servers.
    pub(crate) peers: Peers,
    /// Bytes so far of the snapshot that is being written.
    pub(crate) snapshot_written: Arc<AtomicU64>,
    /// How far the data folder is read.
    pub(crate) loading: Arc<LoadProgress>,
    /// How far leaving is.
    pub(crate) leaving: Leaving,
    /// For `INFO`.
    pub(crate) counters: Counters,
    /// Stepped by the loop alone; everyone else looks at it. `None` while the data folder is read.
    replica: RefCell<Option<Replica>>,
}

impl Shared {
    /// Of a server that has nothing but its configuration; `start` was drawn at this process start.
    pub(crate) fn new(config: ServeConfig, start: u64) -> Self {
        let advertised = config.advertise.clone().unwrap_or_else(|| config.listen.clone());
        Self {
            peers: Peers::new(&config, advertised),
            config,
            start,
            started: Instant::now(),
            inbox: Inbox::default(),
            connections: Connections::default(),
            buffers: Buffers::default(),
            snapshot_written: Arc::default(),
            loading: Arc::new(LoadProgress::begin()),
            leaving: Leaving::default(),
            counters: Counters::default(),
            replica: RefCell::new(None),
        }
    }

    /// The data folder is read, and this is what came of it.
    pub(crate) fn serve(&self, replica: Replica) {
        let before = self.replica.borrow_mut().replace(replica);
        assert!(before.is_none(), "a server has one replica");
    }

    /// How far the data folder is read, until it is.
    pub(crate) fn loading(&self) -> Option<&LoadProgress> {
        self.replica.borrow().is_none().then_some(&*self.loading)
    }

    /// Steps the replica: for its loop alone.
    pub(crate) fn step(&self, now_ms: u64, events: &mut Vec<Event>) -> Actions {
        self.replica.borrow_mut().as_mut().expect("the loop runs on a replica").step(now_ms, events)
    }

    /// Whether the replica takes more requests. Before there is one, each is answered without it.
    pub(crate) fn has_room(&self) -> bool {
        self.replica.borrow().as_ref().is_none_or(Replica::has_room)
    }

    /// A look at the replica, or at a server that has none yet.
    pub(crate) fn status(&self) -> Status {
        self.replica.borrow().as_ref().map_or_else(|| Status::loading(self.config.id), Replica::status)
    }
}

/// What waits for the replica, and who waits for room.
#[derive(Default)]
pub(crate) struct Inbox {
    state: RefCell<InboxState>,
}

#[derive(Default)]
struct InboxState {
    events: Vec<Event>,
    requests: usize,
    request_bytes: usize,
    peer_bytes: usize,
    /// The window of the replica is full.
    is_full: bool,
    /// The server is about to stop: connections end.
    is_closed: bool,
    /// Why the server cannot go on.
    failure: Option<String>,
    waker: Option<Waker>,
    /// Connections that stopped for want of room, by number: each waits once, however often it looks.
    waiting: HashMap<u64, Waker>,
    /// Peers' readers that stopped for want of room.
    waiting_peers: Vec<Waker>,
    /// When the loop last turned; `None` before its first turn.
    turned: Option<Instant>,
    /// That is known to be longer ago than it should.
    is_overdue: bool,
    /// For every few of which there is a look at the clock.
    connection_turns: u32,
    /// Connections that wait for the loop's next turn, in the order in which they began to: each waits once.
    waiting_for_turn: Vec<Waker>,
    /// Their numbers.
    are_waiting_for_turn: HashSet<u64>,
}

impl Inbox {
    /// Whether another request is taken now.
    pub(crate) fn takes_requests(&self) -> bool {
        let state = self.state.borrow();
        let has_room =
            state.requests < REQUESTS_WAITING_MAX && state.request_bytes < REQUEST_BYTES_WAITING_MAX;
        has_room && !state.is_full
    }

    /// Whether another message of a peer is taken now.
    pub(crate) fn takes_peers(&self) -> bool {
        self.state.borrow().peer_bytes < PEER_BYTES_WAITING_MAX
    }

    /// Wakes the task of this connection once there is room, for another look at [`Inbox::takes_requests`].
    pub(crate) fn wait(&self, connection: u64, context: &Context<'_>) {
        self.state.borrow_mut().waiting.insert(connection, context.waker().clone());
    }

    /// Whether the loop's next turn is overdue: nothing more is done before it that it would have to wait for.
    pub(crate) fn is_turn_overdue(&self) -> bool {
        let mut state = self.state.borrow_mut();
        state.is_overdue |= state.turned.is_some_and(|turned| turned.elapsed() >= TURN_OVERDUE);
        state.is_overdue
    }

    /// The same at the beginning of a connection's turn.
    pub(crate) fn is_overdue_at_turn(&self) -> bool {
        let mut state = self.state.borrow_mut();
        state.connection_turns = state.connection_turns.wrapping_add(1);
        if state.is_overdue || !state.connection_turns.is_multiple_of(CONNECTIONS_PER_LOOK) {
            return state.is_overdue;
        }
        drop(state);
        self.is_turn_overdue()
    }

    /// Wakes the task of this connection at the loop's next turn.
    pub(crate) fn wait_for_turn(&self, connection: u64, context: &Context<'_>) {
        let mut state = self.state.borrow_mut();
        if state.are_waiting_for_turn.insert(connection) {
            state.waiting_for_turn.push(context.waker().clone());
        }
    }

    /// Wakes this task at the loop's next turn, for another look at [`Inbox::takes_peers`].
    pub(crate) fn wait_as_peer(&self, context: &Context<'_>) {
        self.state.borrow_mut().waiting_peers.push(context.waker().clone());
    }

    /// Hands over a request whose arguments have so many bytes.
    pub(crate) fn request(&self, request: Request, bytes: usize) {
        let mut state = self.state.borrow_mut();
        state.requests += 1;
        state.request_bytes += bytes;
        drop(state);
        self.event(Event::Request(request));
    }

    /// Hands over a peer's message that took so many bytes.
    pub(crate) fn peer(&self, event: Event, bytes: usize) {
        self.state.borrow_mut().peer_bytes += bytes;
        self.event(event);
    }

    /// Hands over anything else.
    pub(crate) fn event(&self, event: Event) {
        let mut state = self.state.borrow_mut();
        state.events.push(event);
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    /// Takes all that waits, behind what was taken before; false if there is nothing, and then wakes the task when there is.
    pub(crate) fn take(&self, into: &mut Vec<Event>, context: &Context<'_>) -> bool {
        let mut state = self.state.borrow_mut();
        if state.events.is_empty() {
            state.waker = Some(context.waker().clone());
            return false;
        }
        if into.is_empty() {
            std::mem::swap(&mut state.events, into);
        } else {
            into.append(&mut state.events);
        }
        true
    }

    /// After a turn of the loop: whether the replica has room, and everyone who waited for it looks again.
    pub(crate) fn turned(&self, has_room: bool) {
        let mut state = self.state.borrow_mut();
        state.is_full = !has_room;
        state.requests = 0;
        state.request_bytes = 0;
        state.peer_bytes = 0;
        state.turned = Some(Instant::now());
        state.is_overdue = false;
        state.are_waiting_for_turn.clear();
        for connection in state.waiting_for_turn.drain(..) {
            connection.wake();
        }
        for peer in state.waiting_peers.drain(..) {
            peer.wake();
        }
        if has_room {
            for (_, waiter) in state.waiting.drain() {
                waiter.wake();
            }
        }
    }

    /// Ends the loop: this server cannot go on, for the reason given as a sentence.
    pub(crate) fn fail(&self, sentence: String) {
        let mut state = self.state.borrow_mut();
        state.failure = Some(sentence);
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    /// What [`Inbox::fail`] said.
    pub(crate) fn failure(&self) -> Option<String> {
        self.state.borrow_mut().failure.take()
    }

    /// Whether the loop is about to end over [`Inbox::fail`].
    pub(crate) fn has_failed(&self) -> bool {
        self.state.borrow().failure.is_some()
    }

    /// The server is about to stop: what clients have begun to say is taken, and nothing behind it.
    pub(crate) fn close(&self) {
        self.state.borrow_mut().is_closed = true;
    }

    /// Whether [`Inbox::close`] was called.
    pub(crate) fn is_closed(&self) -> bool {
        self.state.borrow().is_closed
    }
}

/// All client connections, by number.
#[derive(Default)]
pub(crate) struct Connections {
    by_id: RefCell<HashMap<u64, Rc<Connection>>>,
    last_id: Cell<u64>,
    /// Those that are over, and still wait for their clients to have read why.
    lingering: Cell<usize>,
    /// The task that waits for the last one to end.
    emptied: RefCell<Option<Waker>>,
}

impl Connections {
    /// A number that no connection had before.
    pub(crate) fn next_id(&self) -> u64 {
        self.last_id.set(self.last_id.get() + 1);
        self.last_id.get()
    }

    /// Adds one.
    pub(crate) fn add(&self, connection: Rc<Connection>) {
        let previous = self.by_id.borrow_mut().insert(connection.id.0, connection);
        assert!(previous.is_none(), "a connection's number was given twice");
    }

    /// Removes one.
    pub(crate) fn remove(&self, id: u64) {
        let mut by_id = self.by_id.borrow_mut();
        by_id.remove(&id);
        if by_id.is_empty()
            && let Some(waker) = self.emptied.take()
        {
            waker.wake();
        }
    }

    /// The connection of this number, while it lives.
    pub(crate) fn get(&self, id: u64) -> Option<Rc<Connection>> {
        self.by_id.borrow().get(&id).cloned()
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.by_id.borrow().len()
    }

    /// How many sockets of clients are open: those that linger, too.
    pub(crate) fn open(&self) -> usize {
        self.count() + self.lingering.get()
    }

    /// One that was removed lingers from now on, or does not any more.
    pub(crate) fn linger(&self, goes_on: bool) {
        let lingering = self.lingering.get();
        self.lingering.set(if goes_on { lingering + 1 } else { lingering - 1 });
    }

    /// Wakes all of them, for a look at what has changed around them.
    pub(crate) fn wake_all(&self) {
        for connection in self.by_id.borrow().values() {
            connection.wake();
        }
    }

    /// Whether none is left; if some are, the task is woken when none is.
    pub(crate) fn is_empty(&self, context: &Context<'_>) -> bool {
        let is_empty = self.by_id.borrow().is_empty();
        if !is_empty {
            *self.emptied.borrow_mut() = Some(context.waker().clone());
        }
        is_empty
    }

    /// One line for each client, in the order of their numbers; `own` is borrowed by its command at the moment.
    pub(crate) fn describe(&self, own: &Client, now: Instant) -> Vec<(u64, String)> {
        let mut lines = vec![(own.id, own.describe(now))];
        for (id, connection) in self.by_id.borrow().iter().filter(|(id, _)| **id != own.id) {
            lines.push((*id, connection.client().describe(now)));
        }
        lines.sort_unstable();
        lines
    }

    /// Ends each connection that is meant; `own` is borrowed by its command at the moment, and ends itself.
    pub(crate) fn kill(&self, own: &Client, is_meant: impl Fn(&Client) -> bool) -> Vec<u64> {
        let mut killed = Vec::new();
        if is_meant(own) {
            killed.push(own.id);
        }
        for (id, connection) in self.by_id.borrow().iter().filter(|(id, _)| **id != own.id) {
            if is_meant(&connection.client()) {
                connection.kill();
                killed.push(*id);
            }
        }
        killed
    }
}

/// What `INFO` counts. `CONFIG RESETSTAT` sets them to zero.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Client connections that were accepted.
    pub(crate) connections: Cell<u64>,
    /// Client connections that were closed at once, past the limit.
    pub(crate) rejected_connections: Cell<u64>,
    /// Commands of clients.
    pub(crate) commands: Cell<u64>,
    /// Errors that clients were answered.
    pub(crate) errors: Cell<u64>,
    /// Connections to the peer port that did not greet as a peer does, or broke the protocol later.
    pub(crate) peers_refused: Cell<u64>,
    /// Messages to peers that were dropped because the way was down or its queue full.
    pub(crate) peer_messages_unsent: Cell<u64>,
    /// Microseconds of the longest turn of the loop: the replica's step, and what it asked for.
    pub(crate) longest_turn_us: Cell<u64>,
    /// Microseconds by which the latest tick came late: that, or whatever else kept the loop.
    pub(crate) latest_tick_us: Cell<u64>,
}

impl Counters {
    /// One more.
    pub(crate) fn count(counter: &Cell<u64>) {
        counter.set(counter.get().saturating_add(1));
    }

    /// Something took so long.
    pub(crate) fn note_longest(longest_us: &Cell<u64>, took: Duration) {
        longest_us.set(longest_us.get().max(u64::try_from(took.as_micros()).unwrap_or(u64::MAX)));
    }

    /// All to zero.
    pub(crate) fn reset(&self) {
        let Self { connections, rejected_connections, commands, errors, peers_refused, .. } = self;
        for counter in [connections, rejected_connections, commands, errors, peers_refused] {
            counter.set(0);
        }
        let Self { peer_messages_unsent, longest_turn_us, latest_tick_us, .. } = self;
        for counter in [peer_messages_unsent, longest_turn_us, latest_tick_us] {
            counter.set(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_counts_until_the_loop_has_turned() {
        let inbox = Inbox::default();
        let context = Context::from_waker(Waker::noop());
        let mut taken = Vec::new();
        inbox.peer(Event::Tick, PEER_BYTES_WAITING_MAX);
        assert!(inbox.take(&mut taken, &context) && !inbox.takes_peers());
        inbox.event(Event::Tick);
        assert!(inbox.take(&mut taken, &context) && taken.len() == 2);
        inbox.turned(true);
        assert!(inbox.takes_peers() && !inbox.take(&mut taken, &context));
    }
}
