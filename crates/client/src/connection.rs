//! One connection to one server: dials, sends what it is given, and says of each send how it ended. Must not know why
//! anything is sent, or what happens next.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use quorate_resp::{Frame, ReplyDecoder, ReplyLimits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::timeout;

use crate::event::{AttemptId, Event};
use crate::message::{Request, Unsent};
use crate::wire::{self, Expected};

/// Bytes that are encoded ahead of the socket. A request begun above it waits in the queue, where it is certainly
/// not sent.
const OUTPUT_BYTES_MAX: usize = 256 << 10;
/// Room made for each read.
const READ_BYTES: usize = 16 << 10;

/// What a connection is told.
#[derive(Debug)]
pub(crate) enum Order {
    /// Send this.
    Send { attempt: AttemptId, request: Request },
    /// This send has waited for too long: end, unless anything was heard since.
    Suspect { attempt: AttemptId },
}

/// A request without its answer.
struct Pending {
    attempt: AttemptId,
    expected: Expected,
    /// How many bytes of the stream lay before it.
    begins_at: u64,
    /// How many bytes had been heard when it was written.
    heard_before: u64,
}

/// Dials `server` and serves orders until the connection ends or nobody gives orders any more. Each send is reported
/// once, also those still in the queue at the end.
pub(crate) async fn run(
    server: Arc<str>,
    dial_timeout: Duration,
    mut orders: UnboundedReceiver<Order>,
    events: UnboundedSender<Event>,
) {
    // The name is resolved at each dial: an address may have moved since the last.
    let reason = match timeout(dial_timeout, TcpStream::connect(&*server)).await {
        Ok(Ok(stream)) => {
            Pipe::new(&events).serve(stream, &mut orders).await;
            Unsent::Unreachable
        }
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Unsent::ConnectionRefused,
        Ok(Err(_)) | Err(_) => Unsent::Unreachable,
    };
    orders.close();
    while let Some(order) = orders.recv().await {
        if let Order::Send { attempt, .. } = order {
            tell(&events, Event::Unsent { attempt, reason });
        }
    }
}

/// Nobody listens any more: then nobody waits either.
fn tell(events: &UnboundedSender<Event>, event: Event) {
    drop(events.send(event));
}

/// The connection is of no more use.
struct Ended;

struct Pipe<'a> {
    events: &'a UnboundedSender<Event>,
    decoder: ReplyDecoder,
    input: BytesMut,
    output: BytesMut,
    /// Bytes of the stream that the system has taken.
    written: u64,
    heard: u64,
    pending: VecDeque<Pending>,
}

impl<'a> Pipe<'a> {
    fn new(events: &'a UnboundedSender<Event>) -> Self {
        Self {
            events,
            decoder: ReplyDecoder::new(ReplyLimits::default()),
            input: BytesMut::new(),
            output: BytesMut::new(),
            written: 0,
            heard: 0,
            pending: VecDeque::new(),
        }
    }

    async fn serve(mut self, mut stream: TcpStream, orders: &mut UnboundedReceiver<Order>) {
        // Without it a request may wait for the acknowledgement of the one before; failing to set it costs only that.
        let _ = stream.set_nodelay(true);
        let (mut reader, mut writer) = stream.split();
        loop {
            self.input.reserve(READ_BYTES);
            let went_on = tokio::select! {
                biased;
                read = reader.read_buf(&mut self.input) => self.heard(read),
                wrote = writer.write_buf(&mut self.output), if !self.output.is_empty() => self.wrote(wrote),
                order = orders.recv(), if self.output.len() < OUTPUT_BYTES_MAX => self.obey(order),
            };
            if let Err(Ended) = went_on {
                break;
            }
        }
        self.end();
    }

    fn heard(&mut self, read: io::Result<usize>) -> Result<(), Ended> {
        let bytes = read.map_err(|_| Ended)?;
        if bytes == 0 {
            return Err(Ended);
        }
        self.heard += bytes as u64;
        loop {
            let Some(frame) = self.decoder.decode(&mut self.input).map_err(|_| Ended)? else { return Ok(()) };
            // A push answers nothing.
            if matches!(frame, Frame::Push(_)) {
                continue;
            }
            let Some(pending) = self.pending.front() else { return Err(Ended) };
            let response = wire::decode(pending.expected, frame).ok_or(Ended)?;
            tell(self.events, Event::Answered { attempt: pending.attempt, response });
            self.pending.pop_front();
        }
    }

    fn wrote(&mut self, wrote: io::Result<usize>) -> Result<(), Ended> {
        let bytes = wrote.map_err(|_| Ended)?;
        self.written += bytes as u64;
        Ok(())
    }

    fn obey(&mut self, order: Option<Order>) -> Result<(), Ended> {
        match order.ok_or(Ended)? {
            Order::Send { attempt, request } => {
                let begins_at = self.written + self.output.len() as u64;
                let expected = wire::encode(&request, &mut self.output);
                self.pending.push_back(Pending { attempt, expected, begins_at, heard_before: self.heard });
                Ok(())
            }
            Order::Suspect { attempt } => {
                let suspect = self.pending.iter().find(|pending| pending.attempt == attempt);
                match suspect {
                    Some(pending) if pending.heard_before == self.heard => Err(Ended),
                    Some(_) | None => Ok(()),
                }
            }
        }
    }

    /// Every request without its answer is reported: as not sent only if the system took no byte of it.
    fn end(self) {
        for Pending { attempt, begins_at, .. } in self.pending {
            let event = if begins_at >= self.written {
                Event::Unsent { attempt, reason: Unsent::Unreachable }
            } else {
                Event::Lost { attempt }
            };
            tell(self.events, event);
        }
    }
}
