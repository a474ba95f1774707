//! The way to one other server: frames wait in it, and leave while it is up. Must not know what a frame says, nor how the
//! way comes about.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, BytesMut};
use quorate_raft::{Body, NodeId};
use quorate_replica::wire::{self, PEER_FRAME_BYTES_MAX, PeerEnvelope, PeerMessage};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tracing::warn;

use crate::config::Address;

/// Bytes that wait to be sent to one server; past it the newest message is dropped.
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// Frames that are written in one go, in bytes: what comes up meanwhile waits for no more than these.
const WRITING_BYTES_MAX: usize = 256 << 10;
/// Bytes written in one turn: others have theirs.
const WRITE_BYTES_PER_TURN: usize = 1 << 20;

/// Time between two lines in the log about one way that is down.
const REPORT_EVERY: Duration = Duration::from_secs(1);

const _: () = assert!(QUEUE_BYTES_MAX > PEER_FRAME_BYTES_MAX);

/// The way to one other server. To another address leads another way.
pub(crate) struct Link {
    /// Who is looked for; `None` for whoever answers, as `--join` has it.
    pub(super) peer: Option<NodeId>,
    /// Who answered.
    found: Cell<Option<NodeId>>,
    /// Where it is dialled.
    pub(super) address: Address,
    /// Dials it, and sends what waits.
    task: RefCell<Option<AbortHandle>>,
    state: RefCell<LinkState>,
    /// The other server is up: it has dialled us. Try again at once.
    pub(super) is_back: Notify,
    /// It was dialled once, whatever came of it.
    pub(super) is_tried: Cell<bool>,
    /// What was said last in the log about why it is down, and when: once for each reason.
    reported: RefCell<Option<(String, Instant)>>,
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
    pub(super) fn new(peer: Option<NodeId>, address: Address) -> Self {
        Self {
            peer,
            found: Cell::new(None),
            address,
            task: RefCell::new(None),
            state: RefCell::default(),
            is_back: Notify::new(),
            is_tried: Cell::new(false),
            reported: RefCell::new(None),
        }
    }

    /// Whether messages leave.
    pub(super) fn is_up(&self) -> bool {
        self.state.borrow().stream.is_some()
    }

    /// Who is at its end, while it is up.
    pub(super) fn found(&self) -> Option<NodeId> {
        self.found.get().filter(|_| self.is_up())
    }

    /// From now on this task keeps it up, until it is [`Link::close`]d.
    pub(super) fn is_kept_by(&self, task: AbortHandle) {
        let before = self.task.borrow_mut().replace(task);
        assert!(before.is_none(), "two tasks for one way");
    }

    /// It leads nowhere any more: the connection is closed, and what waits is dropped.
    pub(super) fn close(&self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
        *self.state.borrow_mut() = LinkState::default();
    }

    /// It is up, and leads to this server.
    pub(super) fn opened(&self, to: NodeId, stream: TcpStream) {
        self.found.set(Some(to));
        *self.reported.borrow_mut() = None;
        self.state.borrow_mut().stream = Some(Rc::new(stream));
    }

    /// Sends what waits, while it is up; ends when it is down, with what has broken it.
    pub(super) async fn carry(&self) -> io::Error {
        let error = poll_fn(|context| self.poll(context)).await;
        *self.state.borrow_mut() = LinkState::default();
        error
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
                warn!("a message of {length} bytes to {self} is above the limit of {PEER_FRAME_BYTES_MAX}");
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

    /// It is down, and why: said where that is news, at most once a second.
    pub(super) fn report_down(&self, error: &str) {
        let mut reported = self.reported.borrow_mut();
        let is_news =
            reported.as_ref().is_none_or(|(said, at)| said != error && at.elapsed() >= REPORT_EVERY);
        if is_news {
            warn!("no way to {self}: {error}; trying on");
            *reported = Some((error.to_owned(), Instant::now()));
        }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.peer {
            Some(peer) => write!(f, "node {} at {}", peer.get(), self.address),
            None => write!(f, "the server of --join at {}", self.address),
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
        | PeerMessage::Refused { .. }
        | PeerMessage::Outdated { .. }
        | PeerMessage::Started { .. }
        | PeerMessage::Introduce
        | PeerMessage::Announce { .. }
        | PeerMessage::Welcome { .. }
        | PeerMessage::Unknown { .. }
        | PeerMessage::Removed { .. } => false,
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
