//! The peer port: accepts other servers, greets them, and hands their messages on. Must not trust anything that
//! arrives.

use std::cell::Cell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use quorate_raft::NodeId;
use quorate_replica::replica::Event;
use quorate_replica::wire::{self, PEER_FRAME_BYTES_MAX};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tracing::warn;

use super::Peers;
use super::callers::{Call, Purpose};
use super::check::Direction;
use super::dialler::{GREETING_TIMEOUT, prepare};
use super::greeting::{Greeting, NoGreeting};
use crate::shared::{Counters, Shared};

/// Connections that have not greeted yet; past it new ones are closed at once.
const STRANGERS_MAX: usize = 64;
/// Bytes of one read, as long as no large frame is awaited.
const READ_BYTES: usize = 64 << 10;
/// Bytes read in one turn: others have theirs.
const READ_BYTES_PER_TURN: usize = 256 << 10;
/// Time between two lines in the log about strangers.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// The pause after an accept that failed for want of files or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is said about strangers, at most once a second.
#[derive(Default)]
struct Reports {
    last: Cell<Option<Instant>>,
    unsaid: Cell<u64>,
    strangers: Cell<usize>,
}

/// Accepts other servers for ever.
pub(crate) async fn accept(shared: Rc<Shared>, listener: TcpListener) {
    let reports = Rc::new(Reports::default());
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!("another server could not be accepted: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if reports.strangers.get() >= STRANGERS_MAX {
            reports.refuse(&shared, address, "too many connections that do not greet");
            continue;
        }
        let (shared, reports) = (Rc::clone(&shared), Rc::clone(&reports));
        tokio::task::spawn_local(async move {
            if let Err(problem) = serve(&shared, &reports, stream, address).await {
                reports.refuse(&shared, address, &problem);
            }
        });
    }
}

impl Reports {
    fn refuse(&self, shared: &Shared, address: SocketAddr, problem: &str) {
        Counters::count(&shared.counters.peers_refused);
        let now = Instant::now();
        let is_too_soon = self.last.get().is_some_and(|last| now.duration_since(last) < REPORT_EVERY);
        if is_too_soon {
            self.unsaid.set(self.unsaid.get() + 1);
            return;
        }
        self.last.set(Some(now));
        match self.unsaid.replace(0) {
            0 => warn!("closed a connection to the peer port from {address}: {problem}"),
            unsaid => warn!(
                "closed a connection to the peer port from {address}: {problem} (and {unsaid} more, not shown)"
            ),
        }
    }
}

/// Serves one connection; an error is what the other side did wrong.
async fn serve(
    shared: &Rc<Shared>,
    reports: &Reports,
    mut stream: TcpStream,
    address: SocketAddr,
) -> Result<(), String> {
    prepare(&stream).map_err(|error| error.to_string())?;
    let mut buffer = BytesMut::new();
    reports.strangers.set(reports.strangers.get() + 1);
    let greeting = timeout(GREETING_TIMEOUT, take_greeting(&mut stream, &mut buffer)).await;
    reports.strangers.set(reports.strangers.get() - 1);
    let greeting = greeting.map_err(|_| "it does not greet".to_owned())?;
    // Answered before it is judged: so the other side learns what is wrong, too.
    let speaker = match &greeting {
        Ok(greeting) => Some(greeting.from),
        Err(problem) if problem.is_of_a_server => None,
        Err(problem) => return Err(problem.text.clone()),
    };
    let own = shared.peers.own_greeting(speaker, shared);
    stream.write_all(&own.encode()).await.map_err(|error| error.to_string())?;
    let greeting = greeting.map_err(|problem| problem.text)?;
    shared.peers.check(&greeting, Direction::Accepted, address.ip(), shared)?;
    let (from, purpose) = (greeting.from, Purpose::of(&greeting));
    let Call { serial, is_over } = shared.peers.begin_call(from, purpose);
    let result = tokio::select! {
        result = receive(shared, from, &mut stream, &mut buffer) => result,
        // The other side has dialled anew: this connection is a remnant.
        _ = is_over => Ok(()),
    };
    shared.peers.end_call(from, serial, shared);
    result
}

/// Why no greeting came.
struct Problem {
    text: String,
    /// It is a server all the same, and should hear what is wrong with it.
    is_of_a_server: bool,
}

impl Problem {
    fn of_the_way(text: &dyn ToString) -> Self {
        Self { text: text.to_string(), is_of_a_server: false }
    }
}

/// Reads until a greeting has arrived; what follows it stays in the buffer.
pub(super) async fn read_greeting(stream: &mut TcpStream, buffer: &mut BytesMut) -> Result<Greeting, String> {
    take_greeting(stream, buffer).await.map_err(|problem| problem.text)
}

async fn take_greeting(stream: &mut TcpStream, buffer: &mut BytesMut) -> Result<Greeting, Problem> {
    loop {
        let greeting = Greeting::decode(buffer).map_err(|wrong| Problem {
            is_of_a_server: matches!(wrong, NoGreeting::Ancient(_)),
            text: wrong.to_string(),
        })?;
        if let Some(greeting) = greeting {
            return Ok(greeting);
        }
        match stream.read_buf(buffer).await {
            Ok(0) => return Err(Problem::of_the_way(&"it has closed the connection without a greeting")),
            Ok(_) => {}
            Err(error) => return Err(Problem::of_the_way(&error)),
        }
    }
}

impl Peers {
    /// A server that greeted sends from now on.
    fn begin_call(&self, from: NodeId, purpose: Purpose) -> Call {
        let state = &mut *self.state.borrow_mut();
        if let Some(link) = state.links.get(&from) {
            link.is_back.notify_one();
        }
        state.callers.add(from, purpose)
    }

    /// It does not any more.
    fn end_call(&self, from: NodeId, serial: u64, shared: &Rc<Shared>) {
        let mut state = self.state.borrow_mut();
        if state.callers.remove(from, serial) {
            if state.routes.gone(from) {
                state.client_addresses.remove(&from);
            }
            drop(state);
            self.redial(shared);
        }
    }
}

impl Purpose {
    fn of(greeting: &Greeting) -> Self {
        Self { incarnation: greeting.incarnation, is_directed: greeting.to.is_some() }
    }
}

/// Hands on the messages of one greeted server until it goes.
async fn receive(
    shared: &Rc<Shared>,
    peer: NodeId,
    stream: &mut TcpStream,
    buffer: &mut BytesMut,
) -> Result<(), String> {
    let mut read = 0;
    loop {
        while let Some(missing) = hand_on(shared, peer, buffer)? {
            if read >= READ_BYTES_PER_TURN {
                read = 0;
                tokio::task::yield_now().await;
            }
            // Room for what is announced, but never for more than has arrived.
            buffer.reserve(missing.min(buffer.len()).max(READ_BYTES));
            match stream.read_buf(buffer).await {
                // A server that ends, or dies, is no news here: the link to it says so.
                Ok(0) | Err(_) => return Ok(()),
                Ok(bytes) => read += bytes,
            }
        }
        poll_fn(|context| {
            if shared.inbox.takes_peers() {
                return Poll::Ready(());
            }
            shared.inbox.wait_as_peer(context);
            Poll::Pending
        })
        .await;
    }
}

/// Hands on all whole frames; how many bytes the next one lacks, or `None` if the loop must turn first.
fn hand_on(shared: &Shared, peer: NodeId, buffer: &mut BytesMut) -> Result<Option<usize>, String> {
    const PREFIX: usize = size_of::<u32>();
    loop {
        let Some(prefix) = buffer.first_chunk::<PREFIX>() else { return Ok(Some(PREFIX)) };
        let length = u32::from_le_bytes(*prefix) as usize;
        if length > PEER_FRAME_BYTES_MAX {
            return Err(format!(
                "node {} sends a frame of {length} bytes, the limit is {PEER_FRAME_BYTES_MAX}",
                peer.get()
            ));
        }
        if buffer.len() < PREFIX + length {
            return Ok(Some(PREFIX + length - buffer.len()));
        }
        if !shared.inbox.takes_peers() {
            return Ok(None);
        }
        buffer.advance(PREFIX);
        // A copy of its own: what is kept of it, entries of the log, must not keep a whole read buffer alive.
        let frame = Bytes::copy_from_slice(&buffer[..length]);
        buffer.advance(length);
        let envelope = wire::decode(&frame)
            .map_err(|error| format!("node {} sends what is no message: {}", peer.get(), error.0))?;
        if envelope.from != peer || envelope.to != shared.config.id {
            return Err(format!(
                "node {} sends a message from node {} to node {}",
                peer.get(),
                envelope.from.get(),
                envelope.to.get()
            ));
        }
        shared.inbox.peer(Event::Peer(envelope), length);
    }
}
