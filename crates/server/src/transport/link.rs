//! The way to one other server: dials it, greets it, sends frames, and begins again when it breaks. Must not know what
//! a frame says.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use quorate_raft::{Body, NodeId};
use quorate_replica::replica::Event;
use quorate_replica::wire::{self, PEER_FRAME_BYTES_MAX, PeerEnvelope, PeerMessage};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;
use tracing::{info, warn};

use super::Direction;
use super::acceptor::read_greeting;
use crate::config::Address;
use crate::shared::Shared;

/// Bytes that wait to be sent to one server; past it the newest message is dropped.
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// Frames that are written in one go, in bytes: what comes up meanwhile waits for no more than these.
const WRITING_BYTES_MAX: usize = 256 << 10;
/// Bytes written in one turn: others have theirs.
const WRITE_BYTES_PER_TURN: usize = 1 << 20;
/// How long a connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the other side may take to greet.
pub(super) const GREETING_TIMEOUT: Duration = Duration::from_secs(3);
/// The first pause before another try; each next one is twice as long.
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// After how long without an acknowledgement by the other machine a connection is given up: a machine that lost its
/// power says no goodbye.
const SILENCE_MAX: Duration = Duration::from_secs(5);

const _: () = assert!(QUEUE_BYTES_MAX > PEER_FRAME_BYTES_MAX);
const _: () = assert!(PAUSE_MIN.as_millis() < PAUSE_MAX.as_millis());

/// The way to one other server.
pub(crate) struct Link {
    peer: NodeId,
    /// Where it is dialled.
    pub(super) address: Address,
    state: RefCell<LinkState>,
    /// The other server is up: it has dialled us. Try again at once.
    pub(super) is_back: Notify,
    /// It was dialled once, whatever came of it.
    pub(super) is_tried: Cell<bool>,
    /// Its state was said in the log: once for each change.
    is_down_reported: Cell<bool>,
}

#[derive(Default)]
struct LinkState {
    /// Greeted and ready; `None` while it is down.
    stream: Option<Rc<TcpStream>>,
    /// Whole frames that are being written; the front one may be in part.
    writing: BytesMut,
    /// Frames that go before those of `bulk`.
    urgent: BytesMut,
    /// Frames that carry commands, and the length of each.
    bulk: BytesMut,
    bulk_frames: VecDeque<usize>,
    waker: Option<Waker>,
}

impl Link {
    pub(super) fn new(peer: NodeId, address: Address) -> Self {
        Self {
            peer,
            address,
            state: RefCell::default(),
            is_back: Notify::new(),
            is_tried: Cell::new(false),
            is_down_reported: Cell::new(false),
        }
    }

    /// Whether messages leave.
    pub(super) fn is_up(&self) -> bool {
        self.state.borrow().stream.is_some()
    }

    /// Queues a message; false if it is dropped.
    pub(super) fn send(&self, envelope: &PeerEnvelope) -> bool {
        let state = &mut *self.state.borrow_mut();
        if state.stream.is_none() || state.queued() >= QUEUE_BYTES_MAX {
            return false;
        }
        let is_bulk = is_bulk(&envelope.message);
        let queue = if is_bulk { &mut state.bulk } else { &mut state.urgent };
        let head = queue.len();
        queue.put_u32_le(0);
        wire::encode(envelope, queue);
        let length = queue.len() - head - size_of::<u32>();
        match u32::try_from(length) {
            Ok(prefix) if length <= PEER_FRAME_BYTES_MAX => {
                queue[head..head + size_of::<u32>()].copy_from_slice(&prefix.to_le_bytes());
                if is_bulk {
                    state.bulk_frames.push_back(length + size_of::<u32>());
                }
                true
            }
            Ok(_) | Err(_) => {
                queue.truncate(head);
                warn!(
                    "a message of {length} bytes to node {} is above the limit of {PEER_FRAME_BYTES_MAX}",
                    self.peer.get()
                );
                false
            }
        }
    }

    /// Sends what can be sent; the rest is left to the link's own task.
    pub(super) fn flush(&self) {
        let mut state = self.state.borrow_mut();
        let is_left = !matches!(state.write(), Ok(Sent::All));
        if is_left && let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<io::Error> {
        let mut state = self.state.borrow_mut();
        state.waker = Some(context.waker().clone());
        let stream = Rc::clone(state.stream.as_ref().expect("it is polled while it is up"));
        // The other side says nothing here any more, except that it is gone.
        while stream.poll_read_ready(context).is_ready() {
            let mut scrap = [0; 64];
            match stream.try_read(&mut scrap) {
                Ok(0) => return Poll::Ready(io::ErrorKind::ConnectionReset.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(error),
            }
        }
        loop {
            match state.write() {
                Ok(Sent::All) => return Poll::Pending,
                Ok(Sent::TurnOver) => {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Ok(Sent::Blocked) => match stream.poll_write_ready(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(error),
                },
                Err(error) => return Poll::Ready(error),
            }
        }
    }

    fn report_down(&self, error: &str) {
        if !self.is_down_reported.replace(true) {
            warn!("no way to node {} at {}: {error}; trying on", self.peer.get(), self.address);
        }
    }
}

/// Whether a message carries commands, and so may be large. The others are small, and what elections are decided by: a
/// heartbeat must not wait behind megabytes. Messages may overtake each other anywhere, so they may here.
fn is_bulk(message: &PeerMessage) -> bool {
    match message {
        PeerMessage::Forward { .. } | PeerMessage::SnapshotChunk { .. } => true,
        PeerMessage::Raft(message) => matches!(message.body, Body::Append { .. }),
        PeerMessage::ReadIndex { .. }
        | PeerMessage::ReadIndexReply { .. }
        | PeerMessage::FetchSnapshot { .. }
        | PeerMessage::CheckReport { .. }
        | PeerMessage::DiskRoom(_)
        | PeerMessage::Founding { .. }
        | PeerMessage::Founded { .. }
        | PeerMessage::Refused { .. } => false,
    }
}

/// How writing came out.
enum Sent {
    /// Nothing is left.
    All,
    /// The socket takes no more at the moment.
    Blocked,
    /// There is more, and others have their turn first.
    TurnOver,
}

impl LinkState {
    fn queued(&self) -> usize {
        self.writing.len() + self.urgent.len() + self.bulk.len()
    }

    fn write(&mut self) -> io::Result<Sent> {
        let Some(stream) = self.stream.clone() else { return Ok(Sent::All) };
        let mut budget = WRITE_BYTES_PER_TURN;
        while self.take_up() {
            match stream.try_write(&self.writing) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => {
                    self.writing.advance(bytes);
                    budget = budget.saturating_sub(bytes);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Sent::Blocked),
                Err(error) => return Err(error),
            }
            if budget == 0 {
                return Ok(Sent::TurnOver);
            }
        }
        Ok(Sent::All)
    }

    /// Takes up the next frames if none are being written; false if there are none.
    fn take_up(&mut self) -> bool {
        if !self.writing.is_empty() {
            return true;
        }
        if !self.urgent.is_empty() {
            std::mem::swap(&mut self.writing, &mut self.urgent);
            return true;
        }
        let mut bytes = 0;
        while let Some(frame) = self.bulk_frames.front() {
            if bytes > 0 && bytes + frame > WRITING_BYTES_MAX {
                break;
            }
            bytes += frame;
            self.bulk_frames.pop_front();
        }
        if self.bulk_frames.is_empty() {
            assert!(bytes == self.bulk.len(), "a frame without its length");
            std::mem::swap(&mut self.writing, &mut self.bulk);
        } else {
            self.writing = self.bulk.split_to(bytes);
        }
        bytes > 0
    }
}

/// Keeps the way to every other server up, for ever.
pub(crate) fn dial(shared: &Rc<Shared>) {
    for link in shared.peers.links.values() {
        tokio::task::spawn_local(keep_up(Rc::clone(shared), Rc::clone(link)));
    }
}

async fn keep_up(shared: Rc<Shared>, link: Rc<Link>) {
    let mut pause = PAUSE_MIN;
    loop {
        let connected = connect(&shared, &link).await;
        link.is_tried.set(true);
        shared.peers.tried.notify_one();
        match connected {
            Ok(stream) => {
                pause = PAUSE_MIN;
                info!("the way to node {} at {} is up", link.peer.get(), link.address);
                link.is_down_reported.set(false);
                link.state.borrow_mut().stream = Some(Rc::new(stream));
                shared.inbox.event(Event::LinkUp(link.peer));
                let error = poll_fn(|context| link.poll(context)).await;
                *link.state.borrow_mut() = LinkState::default();
                link.report_down(&error.to_string());
            }
            Err(error) => link.report_down(&error),
        }
        // Whether the pause is over or the other server is back, the next thing is to try.
        let _ = timeout(pause, link.is_back.notified()).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Dials, and greets.
async fn connect(shared: &Shared, link: &Link) -> Result<TcpStream, String> {
    let Address { host, port } = &link.address;
    // The name is resolved anew at each dial: a server may have moved.
    let connecting = timeout(CONNECT_TIMEOUT, TcpStream::connect((host.as_str(), *port)));
    let connected = connecting.await.map_err(|_| "it takes too long to connect".to_owned())?;
    let mut stream = connected.map_err(|error| error.to_string())?;
    prepare(&stream).map_err(|error| error.to_string())?;
    let own = shared.peers.own_greeting(link.peer, shared);
    let greeting = timeout(GREETING_TIMEOUT, async {
        stream.write_all(&own.encode()).await.map_err(|error| error.to_string())?;
        let mut buffer = BytesMut::new();
        read_greeting(&mut stream, &mut buffer).await
    });
    let greeting = greeting.await.map_err(|_| "it does not greet".to_owned())??;
    if greeting.from != link.peer {
        return Err(format!("there is node {}: --peers names a wrong address", greeting.from.get()));
    }
    shared.peers.check(&greeting, Direction::Dialled, shared)?;
    Ok(stream)
}

pub(super) fn prepare(stream: &TcpStream) -> io::Result<()> {
    use rustix::net::sockopt;
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, SILENCE_MAX)?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(1))?;
    sockopt::set_tcp_user_timeout(stream, u32::try_from(SILENCE_MAX.as_millis()).expect("seconds"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(urgent: &[u8], bulk: &[&[u8]]) -> LinkState {
        LinkState {
            urgent: urgent.into(),
            bulk: bulk.concat().as_slice().into(),
            bulk_frames: bulk.iter().map(|frame| frame.len()).collect(),
            ..LinkState::default()
        }
    }

    #[test]
    fn small_messages_go_first_and_never_into_a_frame() {
        let large = vec![b'l'; WRITING_BYTES_MAX];
        let mut state = state(b"u", &[b"abc", &large, b"d"]);
        let mut sent = Vec::new();
        while state.take_up() {
            sent.push(state.writing.len());
            // Something urgent comes up while the first frames are on their way: it waits for their end.
            if sent.len() == 2 {
                state.writing.advance(1);
                state.urgent.put_slice(b"uu");
                assert!(state.take_up());
                assert_eq!(state.writing.len(), 2);
            }
            state.writing.clear();
        }
        assert_eq!(sent, [1, 3, 2, WRITING_BYTES_MAX, 1]);
        assert_eq!(state.queued(), 0);
    }
}
