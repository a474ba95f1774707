//! One client's connection: bytes in, commands on to the replica, answers out in order. Must not know what a command
//! does.

use std::cell::{Cell, Ref, RefCell};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};
use quorate_replica::command::Reply;
use quorate_replica::replica::{ConnectionId, Event, Request};
use quorate_resp::{Command, CommandDecoder, CommandLimits, Encoder, Incoming};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::buffers::Buffers;
use crate::command::client::Client;
use crate::command::{self, Call, Outcome};
use crate::outbox::Outbox;
use crate::shared::{Counters, Shared};

/// Bytes of one read, as long as no large argument is awaited.
const READ_BYTES: usize = 16 << 10;
/// Bytes of one read at most.
const READ_BYTES_MAX: usize = 256 << 10;
/// Bytes read in one turn: a client that never pauses must not keep the others waiting, nor the clock.
const READ_BYTES_PER_TURN: usize = 64 << 10;
/// Bytes written in one turn, for the same reason.
const WRITE_BYTES_PER_TURN: usize = 512 << 10;
/// Commands of one connection without an answer; past it the connection is not read.
const WAITING_MAX: usize = 8_192;
/// Bytes of those commands, for the same: the writes of all connections wait in one line, and a client that sends
/// megabytes ahead would have the others wait for all of them. Two of the largest fit, so that one is always under way.
const WAITING_BYTES_MAX: usize = 16 << 20;
/// Capacity that a connection keeps for its next answer on the spot.
const REPLY_BYTES_KEPT: usize = 64 << 10;
/// What an argument costs, and counts, besides its bytes.
const ARGUMENT_BYTES: usize = 64;
/// How long a client that broke the protocol may go on sending, so that it can still read why it was cut off: closing
/// on unread bytes takes what was sent back.
const LINGER: Duration = Duration::from_secs(1);
/// Bytes that it may send in that time.
const LINGER_BYTES_MAX: usize = 16 << 20;
/// How long a client may take to see that a server that stops has said its last, for the same reason.
const FAREWELL: Duration = Duration::from_millis(100);
/// Bytes that are read of one client at most once the server is about to stop: where it never pauses, it is cut off.
const LAST_BYTES_MAX: usize = 1 << 20;
/// Answers that one client has not taken, in bytes; past it the connection is not read.
const UNSENT_BYTES_MAX: usize = 16 << 20;

/// One connection, as the loop and other connections see it.
pub(crate) struct Connection {
    /// Never used again in this process.
    pub(crate) id: ConnectionId,
    stream: TcpStream,
    client: RefCell<Client>,
    outbox: RefCell<Outbox>,
    ending: Cell<Ending>,
    /// The reader stopped because of the limits of this connection.
    is_stalled: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// It goes on.
    Open,
    /// The server is about to stop: what the client has begun to say is read to its end.
    Leaving,
    /// No more commands are read; it ends once all is answered.
    Draining,
    /// It ends now.
    Now,
}

impl Ending {
    /// Whether commands are read.
    fn is_listening(self) -> bool {
        matches!(self, Self::Open | Self::Leaving)
    }
}

/// How writing came out.
enum Written {
    /// Nothing that could be written is left.
    All,
    /// The socket takes no more at the moment.
    Blocked,
    /// There is more, and others have their turn first.
    TurnOver,
    /// The client is gone.
    Gone,
}

impl Connection {
    /// Answers one request. [`Connection::flush`] sends it.
    pub(crate) fn answer(&self, tag: u64, reply: Reply) {
        self.outbox.borrow_mut().answer(tag, reply);
    }

    /// Sends what can be sent. What cannot, and all else that follows from it, is left to the connection's own task.
    pub(crate) fn flush(&self, buffers: &Buffers) {
        let written = self.write(buffers);
        let is_done = matches!(written, Written::All);
        if !is_done || self.is_stalled.get() || self.ending.get() != Ending::Open {
            self.wake();
        }
    }

    /// What is known of the client. Must not be called from its own command, which has it borrowed.
    pub(crate) fn client(&self) -> Ref<'_, Client> {
        self.client.borrow()
    }

    /// Ends it without ceremony.
    pub(crate) fn kill(&self) {
        self.ending.set(Ending::Now);
        self.wake();
    }

    /// Lets its task look at what has changed.
    pub(crate) fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn wakes_by(&self, task: &Waker) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(task)) {
            *waker = Some(task.clone());
        }
    }

    fn write(&self, buffers: &Buffers) -> Written {
        let mut outbox = self.outbox.borrow_mut();
        buffers.lend(outbox.buffer());
        let written = self.write_from(&mut outbox);
        buffers.give_back(outbox.buffer());
        written
    }

    fn write_from(&self, outbox: &mut Outbox) -> Written {
        let mut budget = WRITE_BYTES_PER_TURN;
        loop {
            let (first, second) = outbox.pieces();
            let result = match (first.is_empty(), second.is_empty()) {
                (true, true) => return Written::All,
                (false, true) => self.stream.try_write(first),
                (_, false) => self.stream.try_write_vectored(&[IoSlice::new(first), IoSlice::new(second)]),
            };
            match result {
                Ok(0) => return Written::Gone,
                Ok(bytes) => {
                    outbox.written(bytes);
                    budget = budget.saturating_sub(bytes);
                    if budget == 0 {
                        return Written::TurnOver;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Written::Blocked,
                Err(_) => return Written::Gone,
            }
        }
    }

    fn is_at_limit(&self) -> bool {
        let outbox = self.outbox.borrow();
        outbox.waiting() >= WAITING_MAX
            || outbox.waiting_bytes() >= WAITING_BYTES_MAX
            || outbox.unsent_bytes() >= UNSENT_BYTES_MAX
    }

    /// Whether the client has said more than was read. That the socket is not known to be readable does not say so: what came
    /// since it was read to its end may not have been told yet.
    fn has_unread(&self) -> bool {
        let mut byte = [0; 1];
        let peeked = rustix::net::recv(&self.stream, &mut byte, rustix::net::RecvFlags::PEEK);
        matches!(peeked, Ok((1.., _)))
    }
}

/// Serves one client until it is gone, or told to go.
pub(crate) async fn serve(shared: Rc<Shared>, stream: TcpStream, address: SocketAddr) {
    let Ok(local_address) = stream.local_addr() else { return };
    let id = shared.connections.next_id();
    let connection = Rc::new(Connection {
        id: ConnectionId(id),
        stream,
        client: RefCell::new(Client::new(id, address, local_address, Instant::now())),
        outbox: RefCell::default(),
        ending: Cell::new(Ending::Open),
        is_stalled: Cell::new(false),
        waker: RefCell::new(None),
    });
    shared.connections.add(Rc::clone(&connection));
    let decoder = CommandDecoder::new(CommandLimits::default());
    let mut reader = Reader {
        shared: &shared,
        connection: &connection,
        decoder,
        input: BytesMut::new(),
        is_lent: false,
        reply: BytesMut::new(),
        is_out_of_step: false,
        last_bytes: 0,
    };
    poll_fn(|context| reader.poll(context)).await;
    let is_out_of_step = reader.is_out_of_step;
    if shared.inbox.is_closed() && connection.ending.get() == Ending::Draining {
        // The server does not end before that.
        let _ = timeout(FAREWELL, linger(&connection.stream)).await;
    }
    shared.connections.remove(id);
    if shared.loading().is_none() {
        shared.inbox.event(Event::Disconnected(ConnectionId(id)));
    }
    if is_out_of_step {
        // Whether it has read the error or the time is over, the connection ends.
        shared.connections.linger(true);
        let _ = timeout(LINGER, linger(&connection.stream)).await;
        shared.connections.linger(false);
    }
}

/// Says that nothing more comes, and throws away what the client still sends.
async fn linger(stream: &TcpStream) -> io::Result<()> {
    rustix::net::shutdown(stream, rustix::net::Shutdown::Write)?;
    // On the heap: what is held over an `await` is part of every connection's task.
    let mut scrap = vec![0; READ_BYTES];
    let mut thrown_away = 0;
    while thrown_away < LINGER_BYTES_MAX {
        stream.readable().await?;
        match stream.try_read(&mut scrap) {
            Ok(0) => break,
            Ok(bytes) => thrown_away += bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The task of one connection.
struct Reader<'a> {
    shared: &'a Shared,
    connection: &'a Connection,
    decoder: CommandDecoder,
    /// What was read and not understood yet.
    input: BytesMut,
    /// That is in memory that all connections read into.
    is_lent: bool,
    /// A local answer in the making.
    reply: BytesMut,
    /// The client broke the protocol.
    is_out_of_step: bool,
    /// Bytes that were read since the server is about to stop.
    last_bytes: usize,
}

/// How reading came out.
enum Step {
    /// There may be more; so many bytes were read.
    More(usize),
    /// Whatever is awaited wakes the task.
    Wait,
}

impl Reader<'_> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.connection.wakes_by(context.waker());
        self.connection.is_stalled.set(false);
        if self.shared.inbox.is_overdue_at_turn() && self.connection.ending.get() != Ending::Now {
            self.shared.inbox.wait_for_turn(self.connection.id.0, context);
            return Poll::Pending;
        }
        if self.shared.inbox.is_closed() && self.connection.ending.get() == Ending::Open {
            self.connection.ending.set(Ending::Leaving);
        }
        // Answers that are there at once are laid out in it, too.
        self.shared.buffers.lend(self.connection.outbox.borrow_mut().buffer());
        let mut bytes = 0;
        while self.connection.ending.get().is_listening() {
            if bytes >= READ_BYTES_PER_TURN {
                context.waker().wake_by_ref();
                break;
            }
            match self.read(context) {
                Step::More(read) => bytes += read,
                Step::Wait => break,
            }
        }
        self.finish_turn(context)
    }

    /// Writes, and says whether the connection is over.
    fn finish_turn(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.connection.ending.get() == Ending::Now {
                return Poll::Ready(());
            }
            match self.connection.write(&self.shared.buffers) {
                Written::Gone => return Poll::Ready(()),
                Written::All => break,
                Written::TurnOver => {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Written::Blocked => match self.connection.stream.poll_write_ready(context) {
                    Poll::Pending => break,
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                },
            }
        }
        if self.connection.ending.get() == Ending::Draining && self.connection.outbox.borrow().is_empty() {
            return Poll::Ready(());
        }
        // Writing may have made the room that reading waits for.
        if self.connection.is_stalled.get() && !self.connection.is_at_limit() {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Runs what was read, then reads more.
    fn read(&mut self, context: &mut Context<'_>) -> Step {
        if matches!(self.run_buffered(context), Step::Wait) || !self.connection.ending.get().is_listening() {
            return Step::Wait;
        }
        self.keep_rest();
        let is_leaving = self.connection.ending.get() == Ending::Leaving;
        if is_leaving && self.last_bytes >= LAST_BYTES_MAX {
            self.connection.ending.set(Ending::Draining);
            return Step::Wait;
        }
        match self.connection.stream.poll_read_ready(context) {
            Poll::Pending => {
                if is_leaving && self.input.is_empty() && !self.connection.has_unread() {
                    // Between two commands, and nothing of the next one is there.
                    self.connection.ending.set(Ending::Draining);
                }
                return Step::Wait;
            }
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => {
                self.connection.ending.set(Ending::Now);
                return Step::Wait;
            }
        }
        match self.read_socket() {
            // The client says no more; what it has asked is still answered.
            Ok(0) => self.connection.ending.set(Ending::Draining),
            Ok(bytes) => {
                self.last_bytes += if is_leaving { bytes } else { 0 };
                self.connection.client.borrow_mut().active = Instant::now();
                return Step::More(bytes);
            }
            // Readiness is cleared by this: the next look registers the task.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.connection.ending.set(Ending::Now),
        }
        Step::More(0)
    }

    fn read_socket(&mut self) -> io::Result<usize> {
        let Self { shared, connection, decoder, input, is_lent, .. } = self;
        *is_lent = input.is_empty() && decoder.is_at_start();
        let mut lent = is_lent.then(|| shared.buffers.reading(READ_BYTES));
        let buffer = match &mut lent {
            Some(lent) => &mut **lent,
            None => {
                input.reserve(decoder.room_wanted(input.len(), READ_BYTES));
                &mut *input
            }
        };
        let room_bytes = (buffer.capacity() - buffer.len()).min(READ_BYTES_MAX);
        let read = connection.stream.try_read_buf(&mut buffer.limit(READ_BYTES_MAX));
        if read.as_ref().is_ok_and(|bytes| (1..room_bytes).contains(bytes)) {
            // There is no more: the next look need not ask the kernel, which tells when something comes. This is how a
            // socket that was read to its end is marked as such.
            let end = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
            let _ = connection.stream.try_io(Interest::READABLE, end);
        }
        if let Some(mut lent) = lent {
            *input = lent.split();
        }
        read
    }

    /// What was read and is no whole command yet stays, in memory of its own.
    fn keep_rest(&mut self) {
        if std::mem::take(&mut self.is_lent) {
            self.input = BytesMut::from(&self.input[..]);
            self.decoder.detach();
        } else if self.input.is_empty() {
            self.input = BytesMut::new();
        }
    }

    /// Runs all whole commands that were read; `More` if it takes more bytes to go on.
    fn run_buffered(&mut self, context: &Context<'_>) -> Step {
        while !self.input.is_empty() && self.connection.ending.get().is_listening() {
            if self.connection.is_at_limit() {
                self.connection.is_stalled.set(true);
                return Step::Wait;
            }
            if !self.shared.inbox.takes_requests() {
                self.shared.inbox.wait(self.connection.id.0, context);
                return Step::Wait;
            }
            match self.decoder.decode(&mut self.input) {
                Ok(None) => return Step::More(0),
                Ok(Some(Incoming::Command(command))) => {
                    let is_answered = self.run(&command);
                    if is_answered && self.shared.inbox.is_turn_overdue() {
                        self.shared.inbox.wait_for_turn(self.connection.id.0, context);
                        return Step::Wait;
                    }
                }
                Ok(Some(Incoming::TooLarge(refusal))) => self.refuse(&refusal.to_string()),
                Err(error) => {
                    self.refuse(&error.to_string());
                    self.is_out_of_step = true;
                    self.connection.ending.set(Ending::Draining);
                }
            }
        }
        Step::More(0)
    }

    /// Whether it was answered on the spot.
    fn run(&mut self, command: &Command) -> bool {
        Counters::count(&self.shared.counters.commands);
        let mut client = self.connection.client.borrow_mut();
        let call = &mut Call {
            shared: self.shared,
            client: &mut client,
            arguments: command.arguments(),
            out: &mut self.reply,
        };
        let outcome = command::run(call);
        let is_silent = client.is_silent();
        let protocol = client.protocol;
        let mut outbox = self.connection.outbox.borrow_mut();
        match outcome {
            Ok(Outcome::Ask(operation)) => {
                let bytes = command.arguments().iter().map(|argument| ARGUMENT_BYTES + argument.len()).sum();
                let tag = outbox.expect(protocol, is_silent, bytes);
                self.shared.inbox.request(Request { connection: self.connection.id, tag, operation }, bytes);
                return false;
            }
            Ok(Outcome::Answered) => {}
            Ok(Outcome::Goodbye) => self.connection.ending.set(Ending::Draining),
            Err(error) => {
                Counters::count(&self.shared.counters.errors);
                self.reply.clear();
                Encoder::new(&mut self.reply, protocol).error(&error.to_string());
            }
        }
        if is_silent {
            self.reply.clear();
        } else {
            outbox.push(&mut self.reply);
        }
        if self.reply.capacity() > REPLY_BYTES_KEPT {
            self.reply = BytesMut::new();
        }
        true
    }

    /// Answers a command that was never understood.
    fn refuse(&mut self, error: &str) {
        Counters::count(&self.shared.counters.errors);
        let mut client = self.connection.client.borrow_mut();
        if !client.is_silent() {
            Encoder::new(&mut self.reply, client.protocol).error(error);
            self.connection.outbox.borrow_mut().push(&mut self.reply);
        }
    }
}
