//! Sends one workload and counts what comes back: one thread, one read and one write for each time that a connection has
//! something to say, and no allocation in between, because the generator shares the machine with what it measures. Must not know
//! what is reported of it.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::time::{ClockId, clock_gettime};

use super::commands::Commands;
use super::connection::{Connection, Loss, Request, Standing};
use super::gate::{Gate, NANOS};
use super::plan::Load;
use super::record::Record;
use super::replies::Reply;

/// Bytes of one read: it is for all connections, one after the other.
const READ_BYTES: usize = 64 << 10;
/// Between two looks at what nobody wakes us for: answers that do not come, and the picture of how it goes.
const LOOK_NANOS: u64 = NANOS / 10;
/// The same while a connection is to be made again.
const LOOK_SOON_NANOS: u64 = NANOS / 100;
/// Before a connection that could not be made, or was lost, is made again.
const AGAIN_NANOS: u64 = NANOS / 50;
/// Events that are handled in one go.
const EVENTS_MAX: usize = 256;

/// What became of a workload.
pub(super) struct Outcome {
    /// What was counted.
    pub(super) record: Record,
    /// Whether it was stopped early, and why.
    pub(super) stopped: Option<&'static str>,
    /// Processor time of this process during it, in nanoseconds.
    pub(super) cpu: u64,
    /// Bytes that were sent.
    pub(super) sent_bytes: u64,
    /// Bytes that came.
    pub(super) received_bytes: u64,
}

/// How it goes.
pub(super) struct View<'a> {
    /// What was counted so far.
    pub(super) record: &'a Record,
    /// Nanoseconds since the end of the warm-up; none before.
    pub(super) measured: Option<u64>,
    /// Now, as moments of the record are counted.
    pub(super) now: u64,
    /// Requests of an open loop that are due and not sent.
    pub(super) behind: u64,
    /// Connections that can be used.
    pub(super) up: usize,
}

/// See the module.
pub(super) struct Engine<'a> {
    load: Load,
    addresses: &'a [SocketAddr],
    poll: Poll,
    clock: Instant,
    connections: Vec<Connection>,
    /// Those that may send, in turn.
    queue: VecDeque<usize>,
    /// Those that have something new to flush.
    fresh: Vec<usize>,
    commands: Commands,
    gate: Gate,
    record: Record,
    scrap: Vec<u8>,
    under_way: usize,
    sent_bytes: u64,
    received_bytes: u64,
    /// When a connection could be used last.
    last_up: u64,
    last_error: String,
    stopped: Option<&'static str>,
}

impl<'a> Engine<'a> {
    /// Makes the connections; the reason if there is none.
    pub(super) fn connect(
        load: Load,
        addresses: &'a [SocketAddr],
        commands: Commands,
    ) -> Result<Self, String> {
        let connections = (0..load.connections).map(|at| Connection::new(at % addresses.len())).collect();
        let mut engine = Self {
            load,
            addresses,
            poll: Poll::new().map_err(|error| error.to_string())?,
            clock: Instant::now(),
            connections,
            queue: VecDeque::with_capacity(load.connections),
            fresh: Vec::with_capacity(load.connections),
            commands,
            gate: Gate::shut(),
            record: Record::new(u64::MAX),
            scrap: vec![0; READ_BYTES],
            under_way: 0,
            sent_bytes: 0,
            received_bytes: 0,
            last_up: 0,
            last_error: String::new(),
            stopped: None,
        };
        engine.assemble()?;
        Ok(engine)
    }

    /// Until each connection is there, or could not be made to any server.
    fn assemble(&mut self) -> Result<(), String> {
        let timeout = nanos(self.load.timeout);
        let tries = u32::try_from(self.addresses.len()).unwrap_or(u32::MAX);
        let mut events = Events::with_capacity(EVENTS_MAX);
        loop {
            let now = self.now();
            self.look_after(now);
            let is_settled =
                |connection: &Connection| connection.standing == Standing::Up || connection.failures >= tries;
            if self.connections.iter().all(is_settled) || now > timeout {
                break;
            }
            self.wait(&mut events, now, now + LOOK_SOON_NANOS);
            events.iter().for_each(|event| self.on_event(event));
        }
        if self.connections.iter().any(|connection| connection.standing == Standing::Up) {
            return Ok(());
        }
        Err(format!("no connection: {}", self.last_error))
    }

    /// Sends the workload, and waits for the answers. `show` is called now and then. Once `is_stopped`, it ends soon.
    pub(super) fn run(mut self, is_stopped: &AtomicBool, show: &mut dyn FnMut(&View<'_>)) -> Outcome {
        let mut now = self.now();
        let cpu = cpu();
        self.gate = Gate::new(now, nanos(self.load.warm_up), self.load.extent, self.load.rate);
        let early = std::mem::replace(&mut self.record, Record::new(self.gate.measured_from()));
        self.record.take_connection_errors(early);
        self.last_up = now;
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut look_at = now;
        loop {
            now = self.now();
            if now >= look_at {
                if is_stopped.load(Ordering::Relaxed) && self.stopped.is_none() {
                    self.stop(now, "interrupted");
                }
                let is_whole = self.look_after(now);
                show(&self.view(now));
                look_at = now + if is_whole { LOOK_NANOS } else { LOOK_SOON_NANOS };
            }
            self.dispatch(now);
            if self.is_done(now) {
                break;
            }
            let due = self.gate.next_due().filter(|_| !self.queue.is_empty());
            self.wait(&mut events, now, due.map_or(look_at, |due| due.min(look_at)));
            events.iter().for_each(|event| self.on_event(event));
        }
        self.give_up(now);
        Outcome {
            record: self.record,
            stopped: self.stopped,
            cpu: self::cpu().saturating_sub(cpu),
            sent_bytes: self.sent_bytes,
            received_bytes: self.received_bytes,
        }
    }

    fn view(&self, now: u64) -> View<'_> {
        let up = self.connections.iter().filter(|connection| connection.standing == Standing::Up).count();
        let measured = now.checked_sub(self.gate.measured_from());
        View { record: &self.record, measured, now, behind: self.gate.behind(now), up }
    }

    fn stop(&mut self, now: u64, why: &'static str) {
        self.gate.stop(now);
        self.stopped = Some(why);
    }

    /// Whether all is answered that will be. What was due or sent before the end is waited for, as long as one answer may take.
    fn is_done(&mut self, now: u64) -> bool {
        let timeout = nanos(self.load.timeout);
        if self.gate.until().is_none() && now.saturating_sub(self.last_up) > timeout {
            self.stop(now, "no server could be reached any more");
        }
        let is_late = self.gate.until().is_some_and(|until| now > until.saturating_add(timeout));
        let is_quiet = self.gate.is_over(now) && self.under_way == 0;
        is_quiet || is_late || (self.stopped.is_some() && self.last_up < now && self.nobody_is_up())
    }

    fn nobody_is_up(&self) -> bool {
        self.connections.iter().all(|connection| connection.standing != Standing::Up)
    }

    /// What is not answered now will not be.
    fn give_up(&mut self, now: u64) {
        for at in 0..self.connections.len() {
            self.fail_all(at, now, "timeout", "no answer in time, at the end");
        }
        let behind = self.gate.behind(now);
        self.record.unsent(behind, "due, and not sent in time: the answers before it took too long");
    }

    /// Answers that do not come, and connections that are to be made. Whether all are there.
    fn look_after(&mut self, now: u64) -> bool {
        let timeout = nanos(self.load.timeout);
        let (mut is_whole, mut is_any_up) = (true, false);
        for at in 0..self.connections.len() {
            let connection = &self.connections[at];
            let (standing, waits_since) = (connection.standing, connection.waits_since);
            is_whole &= standing == Standing::Up;
            match standing {
                Standing::Up => {
                    is_any_up = true;
                    if connection.under_way() > 0 && now.saturating_sub(waits_since) > timeout {
                        self.lose(at, now, "timeout", &format!("no answer within {:?}", self.load.timeout));
                    }
                }
                Standing::Connecting(since) if now.saturating_sub(since) > timeout => {
                    self.lose(at, now, "timeout", &format!("no connection within {:?}", self.load.timeout));
                }
                Standing::Down(again_at) if again_at <= now => self.dial(at, now),
                Standing::Connecting(_) | Standing::Down(_) => {}
            }
        }
        if is_any_up {
            self.last_up = now;
        }
        is_whole
    }

    fn dial(&mut self, at: usize, now: u64) {
        let connection = &mut self.connections[at];
        let stream = TcpStream::connect(self.addresses[connection.server]).and_then(|mut stream| {
            let both = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, Token(at), both)?;
            Ok(stream)
        });
        match stream {
            Ok(stream) => {
                connection.stream = Some(stream);
                connection.standing = Standing::Connecting(now);
            }
            Err(error) => self.lose(at, now, class(error.kind()), &error.to_string()),
        }
    }

    /// Ends a connection, or the try to make one. The next try is at the next server.
    fn lose(&mut self, at: usize, now: u64, class: &str, text: &str) {
        let connection = &mut self.connections[at];
        if connection.standing != Standing::Up {
            let address = self.addresses[connection.server];
            connection.failures = connection.failures.saturating_add(1);
            self.last_error = format!("{address}: {text}");
            self.record.not_connected(class, &self.last_error);
        }
        connection.server = (connection.server + 1) % self.addresses.len();
        self.fail_all(at, now, class, text);
    }

    fn fail_all(&mut self, at: usize, now: u64, class: &str, text: &str) {
        let lost = self.connections[at].end(now + AGAIN_NANOS);
        self.under_way -= lost.len();
        for request in lost {
            self.record.failed(request.begun, now, class, text);
        }
    }

    fn on_event(&mut self, event: &Event) {
        let at = event.token().0;
        match self.connections[at].standing {
            Standing::Connecting(_) => self.connected(at),
            Standing::Up => {
                if event.is_writable() && self.connections[at].has_unsent() {
                    self.flush(at);
                }
                if event.is_readable() || event.is_read_closed() || event.is_error() {
                    self.receive(at, event.is_read_closed() || event.is_error());
                }
            }
            Standing::Down(_) => {}
        }
    }

    fn connected(&mut self, at: usize) {
        let Some(stream) = &self.connections[at].stream else { return };
        let made = match stream.take_error() {
            Ok(None) => stream.peer_addr().and_then(|_| stream.set_nodelay(true)),
            Ok(Some(error)) | Err(error) => Err(error),
        };
        match made {
            Ok(()) => {
                self.connections[at].standing = Standing::Up;
                self.connections[at].failures = 0;
                self.enqueue(at);
            }
            // It is under way.
            Err(error) if error.kind() == ErrorKind::NotConnected => {}
            Err(error) => {
                let now = self.now();
                self.lose(at, now, class(error.kind()), &error.to_string());
            }
        }
    }

    /// Reads what has arrived; what it answers makes room for the next requests.
    fn receive(&mut self, at: usize, is_closed: bool) {
        loop {
            let connection = &mut self.connections[at];
            if connection.standing != Standing::Up {
                return;
            }
            let (count, is_more) = match connection.read(&mut self.scrap) {
                Ok(read) => read,
                Err(loss) => return self.broken(at, &loss),
            };
            if count == 0 {
                return;
            }
            let now = nanos(self.clock.elapsed());
            self.received_bytes += count as u64;
            connection.waits_since = now;
            let (record, under_way) = (&mut self.record, &mut self.under_way);
            let taken = connection.take(&self.scrap[..count], |request, reply| {
                *under_way -= usize::from(request.is_some());
                count_reply(record, request, &reply, now);
            });
            if let Err(malformed) = taken {
                return self.broken(at, &Loss::Malformed(malformed));
            }
            self.enqueue(at);
            self.dispatch(now);
            if !is_more && !is_closed {
                return;
            }
        }
    }

    fn broken(&mut self, at: usize, loss: &Loss) {
        let (class, text) = loss.class();
        let now = self.now();
        self.lose(at, now, class, &text);
    }

    /// It may send, if it has room.
    fn enqueue(&mut self, at: usize) {
        let is_open = self.load.rate.is_some();
        let connection = &mut self.connections[at];
        let has_room =
            if is_open { connection.under_way() < self.load.pipeline } else { connection.under_way() == 0 };
        if has_room && !connection.is_queued {
            connection.is_queued = true;
            self.queue.push_back(at);
        }
    }

    /// Sends what may be sent: in a closed loop a whole pipeline on a connection that waits for nothing, in an open loop what is
    /// due, on the connections in turn.
    fn dispatch(&mut self, now: u64) {
        let is_open = self.load.rate.is_some();
        let share = if is_open { 1 } else { self.load.pipeline };
        while let Some(&at) = self.queue.front() {
            let connection = &mut self.connections[at];
            let mut taken = 0;
            if connection.standing == Standing::Up {
                while taken < share
                    && let Some(begun) = self.gate.next(now)
                {
                    let kind = self.commands.write(&mut connection.out);
                    connection.push(Request { begun, kind }, now);
                    if is_open {
                        self.record.sent(begun, now);
                    }
                    taken += 1;
                }
                if taken == 0 {
                    break;
                }
            }
            self.queue.pop_front();
            connection.is_queued = false;
            if taken > 0 {
                self.under_way += taken;
                self.fresh.push(at);
                self.enqueue(at);
            }
        }
        while let Some(at) = self.fresh.pop() {
            self.flush(at);
        }
    }

    fn flush(&mut self, at: usize) {
        match self.connections[at].flush() {
            Ok(count) => self.sent_bytes += count as u64,
            Err(loss) => self.broken(at, &loss),
        }
    }

    /// Sleeps until something arrives, or until this moment.
    fn wait(&mut self, events: &mut Events, now: u64, until: u64) {
        let mut wait = Duration::from_nanos(until.saturating_sub(now));
        if self.load.rate.is_some() && !wait.is_zero() {
            // The schedule is finer than the milliseconds of the other call.
            let timeout = Timespec::try_from(wait).ok();
            let _ = rustix::event::poll(
                &mut [PollFd::new(self.poll.registry(), PollFlags::IN)],
                timeout.as_ref(),
            );
            wait = Duration::ZERO;
        }
        if self.poll.poll(events, Some(wait)).is_err() {
            // A signal: what has arrived is still there the next time.
            events.clear();
        }
    }

    fn now(&self) -> u64 {
        nanos(self.clock.elapsed())
    }
}

fn count_reply(record: &mut Record, request: Option<Request>, reply: &Reply<'_>, now: u64) {
    match (request, reply) {
        (Some(request), Reply::Done) => record.answered(request.kind, request.begun, now, false),
        (Some(request), Reply::Nil) => record.answered(request.kind, request.begun, now, true),
        (Some(request), Reply::Error(text)) => {
            let text = String::from_utf8_lossy(text);
            record.failed(request.begun, now, text.split(' ').next().unwrap_or_default(), &text);
        }
        // A server says why it closes a connection.
        (None, Reply::Error(text)) => record.not_connected("refused", &String::from_utf8_lossy(text)),
        (None, Reply::Done | Reply::Nil) => {}
    }
}

fn class(kind: ErrorKind) -> &'static str {
    #[expect(clippy::wildcard_enum_match_arm, reason = "there are too many to name, and more will come")]
    match kind {
        ErrorKind::ConnectionRefused => "refused",
        ErrorKind::ConnectionReset => "reset",
        ErrorKind::TimedOut => "timeout",
        _ => "failed",
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Processor time of this process, in nanoseconds.
fn cpu() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let (seconds, rest) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_nsec));
    seconds.unwrap_or(0) * NANOS + rest.unwrap_or(0)
}
