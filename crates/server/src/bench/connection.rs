//! One connection: requests that wait to be written, and those that wait to be answered. Must not know when requests are due, or
//! what is counted.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};

use mio::net::TcpStream;

use super::commands::Kind;
use super::replies::{Malformed, Replies, Reply};

/// A buffer that grew beyond this is not kept once it is empty.
const KEPT_BYTES_MAX: usize = 64 << 10;

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// There is none; another try comes at this moment.
    Down(u64),
    /// It is being made, since this moment.
    Connecting(u64),
    /// It can be used.
    Up,
}

/// A request that is under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    /// When it began: see the gate.
    pub(super) begun: u64,
    /// What it is.
    pub(super) kind: Kind,
}

/// Why a connection is of no more use.
#[derive(Debug)]
pub(super) enum Loss {
    /// The server has closed it.
    Closed,
    /// The system says so.
    Io(io::Error),
    /// The server speaks something else.
    Malformed(Malformed),
}

impl Loss {
    /// The class under which its requests are counted, and the text.
    pub(super) fn class(&self) -> (&'static str, String) {
        match self {
            Self::Closed => ("closed", "the server has closed the connection".to_owned()),
            Self::Io(error) => ("closed", error.to_string()),
            Self::Malformed(error) => ("malformed", error.to_string()),
        }
    }
}

/// See the module.
pub(super) struct Connection {
    /// The socket, while there is one.
    pub(super) stream: Option<TcpStream>,
    /// How far it is.
    pub(super) standing: Standing,
    /// Which server it is to, by place.
    pub(super) server: usize,
    /// Tries in a row that did not work.
    pub(super) failures: u32,
    /// Whether it stands in the queue of those that may send.
    pub(super) is_queued: bool,
    /// Since when an answer is waited for.
    pub(super) waits_since: u64,
    /// Written, not sent.
    pub(super) out: Vec<u8>,
    sent: usize,
    under_way: VecDeque<Request>,
    replies: Replies,
}

impl Connection {
    /// One that is to be made at once.
    pub(super) fn new(server: usize) -> Self {
        Self {
            stream: None,
            standing: Standing::Down(0),
            server,
            failures: 0,
            is_queued: false,
            waits_since: 0,
            out: Vec::new(),
            sent: 0,
            under_way: VecDeque::new(),
            replies: Replies::default(),
        }
    }

    /// Requests without an answer.
    pub(super) fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// One more request stands in `out`.
    #[inline]
    pub(super) fn push(&mut self, request: Request, now: u64) {
        if self.under_way.is_empty() {
            self.waits_since = now;
        }
        self.under_way.push_back(request);
    }

    /// Sends what the system takes; how many bytes.
    pub(super) fn flush(&mut self) -> Result<usize, Loss> {
        let Some(stream) = &mut self.stream else { return Ok(0) };
        let before = self.sent;
        while self.sent < self.out.len() {
            match stream.write(&self.out[self.sent..]) {
                Ok(0) => return Err(Loss::Closed),
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(self.sent - before),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Loss::Io(error)),
            }
        }
        let count = self.sent - before;
        self.sent = 0;
        self.out.clear();
        if self.out.capacity() > KEPT_BYTES_MAX.max(4 * count) {
            self.out = Vec::new();
        }
        Ok(count)
    }

    /// Whether anything waits for the system to take it.
    pub(super) fn has_unsent(&self) -> bool {
        self.sent < self.out.len()
    }

    /// Reads once; how many bytes, and whether there may be more.
    pub(super) fn read(&mut self, scrap: &mut [u8]) -> Result<(usize, bool), Loss> {
        let Some(stream) = &mut self.stream else { return Ok((0, false)) };
        loop {
            return match stream.read(scrap) {
                Ok(0) => Err(Loss::Closed),
                Ok(count) => Ok((count, count == scrap.len())),
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok((0, false)),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => Err(Loss::Io(error)),
            };
        }
    }

    /// Takes what was read, and hands over each answer with its request. An answer that nobody asked for is malformed, unless it
    /// is an error: servers say so why they close a connection.
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(Option<Request>, Reply<'_>),
    ) -> Result<(), Malformed> {
        let under_way = &mut self.under_way;
        let mut unasked = Ok(());
        self.replies.scan(bytes, |reply| {
            let request = under_way.pop_front();
            if request.is_none() && !matches!(reply, Reply::Error(_)) {
                unasked = Err(Malformed);
                return;
            }
            each(request, reply);
        })?;
        unasked
    }

    /// Ends it; the requests that will not be answered.
    pub(super) fn end(&mut self, again_at: u64) -> VecDeque<Request> {
        self.stream = None;
        self.standing = Standing::Down(again_at);
        self.out = Vec::new();
        self.sent = 0;
        self.replies = Replies::default();
        std::mem::take(&mut self.under_way)
    }
}
