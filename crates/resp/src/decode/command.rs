//! Commands out of the bytes that a client sends. Knows the wire and its limits; must not know any command by name.

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};

use super::inline;
use super::line::{Line, LineScan};
use crate::number::parse_integer;

/// How much one command may cost. The first three are the protocol's own and Redis's: past them a client is out of
/// step, and its connection ends. The last two are ours: past them the command is refused and the connection goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandLimits {
    /// Bytes of an inline command, and of any line that announces a length. Redis: 64 KiB.
    pub inline_bytes_max: usize,
    /// Arguments that one command may announce at all. Redis: 2^31 − 1.
    pub protocol_arguments_max: u64,
    /// Bytes that one argument may announce at all. Redis: 512 MiB (`proto-max-bulk-len`).
    pub protocol_bulk_bytes_max: u64,
    /// Arguments of a command that we take.
    pub arguments_max: u64,
    /// Bytes, as sent, of a command that we take.
    pub command_bytes_max: u64,
}

impl CommandLimits {
    /// The limits of a server that is told nothing else.
    pub const DEFAULT: Self = Self {
        inline_bytes_max: 64 << 10,
        protocol_arguments_max: (1 << 31) - 1,
        protocol_bulk_bytes_max: 512 << 20,
        arguments_max: 1 << 20,
        command_bytes_max: 9 << 20,
    };
}

// An inline command, short as it is, must never be one that we refuse; and what we take, the protocol must allow.
const _: () =
    assert!((CommandLimits::DEFAULT.inline_bytes_max as u64) < CommandLimits::DEFAULT.command_bytes_max);
const _: () = assert!(CommandLimits::DEFAULT.arguments_max <= CommandLimits::DEFAULT.protocol_arguments_max);
const _: () =
    assert!(CommandLimits::DEFAULT.command_bytes_max <= CommandLimits::DEFAULT.protocol_bulk_bytes_max);

impl Default for CommandLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Arguments that a command may have before its client has given its password (Redis's number).
pub const UNAUTHENTICATED_ARGUMENTS_MAX: u64 = 10;
/// Bytes that an argument may have before its client has given its password (Redis's number).
pub const UNAUTHENTICATED_BULK_BYTES_MAX: u64 = 16_384;

/// One command: its name and its arguments, never empty.
///
/// Each argument is a slice of the connection's read buffer and keeps all of that buffer alive: copy what is kept
/// for longer than the command runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    arguments: Vec<Bytes>,
}

impl Command {
    /// The name, as it was sent: Redis compares it without regard to case.
    #[must_use]
    pub fn name(&self) -> &Bytes {
        self.arguments.first().expect("a command has a name")
    }

    /// The arguments, the name first.
    #[must_use]
    pub fn arguments(&self) -> &[Bytes] {
        &self.arguments
    }

    /// The arguments, the name first.
    #[must_use]
    pub fn into_arguments(self) -> Vec<Bytes> {
        self.arguments
    }
}

/// What a client has sent, complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// Run it.
    Command(Command),
    /// Answer with the error and go on: all bytes of the command are gone.
    TooLarge(TooLarge),
}

/// A command that the protocol allows and we refuse. As text: an error reply that names the limit and the size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooLarge {
    /// Past [`CommandLimits::arguments_max`].
    #[error("ERR command of {arguments} arguments exceeds the limit of {arguments_max} arguments")]
    Arguments {
        /// What the command has.
        arguments: u64,
        /// What it may have.
        arguments_max: u64,
    },
    /// Past [`CommandLimits::command_bytes_max`].
    #[error("ERR command of {bytes} bytes exceeds the limit of {command_bytes_max} bytes")]
    Bytes {
        /// What the command has, as sent.
        bytes: u64,
        /// What it may have.
        command_bytes_max: u64,
    },
}

/// The client is out of step: nothing that follows can be understood, so its connection ends after this error. As
/// text: the error reply, in Redis's own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The head of a command announces no number, or one past the protocol's limit.
    #[error("ERR Protocol error: invalid multibulk length")]
    InvalidMultibulkLength,
    /// The head of an argument announces no number, a negative one, or one past the protocol's limit.
    #[error("ERR Protocol error: invalid bulk length")]
    InvalidBulkLength,
    /// Something else stands where an argument must begin.
    #[error("ERR Protocol error: expected '$', got '{}'", Printable(*got))]
    ExpectedBulk {
        /// The first byte of it.
        got: u8,
    },
    /// An argument goes on past its announced length.
    #[error("ERR Protocol error: expected line end after bulk, got '{}'", Printable(*got))]
    ExpectedLineEnd {
        /// The byte that stands there.
        got: u8,
    },
    /// An inline command of more bytes than allowed.
    #[error("ERR Protocol error: too big inline request")]
    InlineTooLong,
    /// The head of a command does not end.
    #[error("ERR Protocol error: too big mbulk count string")]
    MultibulkLineTooLong,
    /// The head of an argument does not end.
    #[error("ERR Protocol error: too big bulk count string")]
    BulkLineTooLong,
    /// A quote in an inline command does not close.
    #[error("ERR Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
    /// More arguments than a client without its password may send.
    #[error("ERR Protocol error: unauthenticated multibulk length")]
    UnauthenticatedMultibulkLength,
    /// More bytes in one argument than a client without its password may send.
    #[error("ERR Protocol error: unauthenticated bulk length")]
    UnauthenticatedBulkLength,
}

/// One byte of a stranger in a line of text.
struct Printable(u8);

impl fmt::Display for Printable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            byte @ b' '..=b'~' => write!(f, "{}", char::from(byte)),
            byte => write!(f, "\\x{byte:02x}"),
        }
    }
}

/// What must arrive next.
#[derive(Debug)]
enum Expect {
    /// The first byte of a command.
    Command,
    /// The rest of a line of words.
    Inline,
    /// `*<arguments>`.
    Count,
    /// `$<bytes>`.
    Length,
    /// The bytes of an argument and its line end.
    Bulk { bytes: u64 },
    /// Nothing: the stream was broken here.
    Nothing(ProtocolError),
}

/// What one step of the decoder came to.
enum Step {
    More,
    On,
    Done(Incoming),
}

/// Commands out of one connection's bytes, incremental and zero-copy.
///
/// What it has understood it takes from the buffer at once, argument by argument, so a command that drips in costs
/// its length. Of a command that it will refuse it keeps no byte.
#[derive(Debug)]
pub struct CommandDecoder {
    limits: CommandLimits,
    authenticated: bool,
    expect: Expect,
    line: LineScan,
    /// The command under way: the arguments that have arrived …
    arguments: Vec<Bytes>,
    /// … how many it announced, and how many are still to come …
    announced: u64,
    missing: u64,
    /// … its bytes so far, those of the announced argument included …
    bytes: u64,
    /// … and whether it is only swallowed.
    refused: bool,
}

impl CommandDecoder {
    /// A decoder for one connection, at the start of its stream.
    #[must_use]
    pub fn new(limits: CommandLimits) -> Self {
        Self {
            limits,
            authenticated: true,
            expect: Expect::Command,
            line: LineScan::default(),
            arguments: Vec::new(),
            announced: 0,
            missing: 0,
            bytes: 0,
            refused: false,
        }
    }

    /// Says whether the client still owes its password: until it has given it, it may send small commands only.
    pub fn set_authenticated(&mut self, authenticated: bool) {
        self.authenticated = authenticated;
    }

    /// The next command in `buffer`, or `None` until more bytes have arrived.
    ///
    /// # Errors
    /// The stream is broken for good: every later call says the same.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Incoming>, ProtocolError> {
        loop {
            match self.step(buffer) {
                Ok(Step::On) => {}
                Ok(Step::More) => return Ok(None),
                Ok(Step::Done(incoming)) => return Ok(Some(incoming)),
                Err(error) => {
                    self.arguments = Vec::new();
                    self.expect = Expect::Nothing(error);
                    return Err(error);
                }
            }
        }
    }

    /// How many bytes of room are worth having before the next read, if `buffered` bytes have arrived and are not
    /// understood yet: never more than what has arrived, so that an announcement alone reserves nothing, and never
    /// less than `chunk`.
    #[must_use]
    pub fn room_wanted(&self, buffered: usize, chunk: usize) -> usize {
        match self.expect {
            Expect::Bulk { bytes } if !self.refused => {
                let missing = usize::try_from(bytes).unwrap_or(usize::MAX).saturating_sub(buffered);
                missing.min(buffered).max(chunk)
            }
            Expect::Command
            | Expect::Inline
            | Expect::Count
            | Expect::Length
            | Expect::Bulk { .. }
            | Expect::Nothing(_) => chunk,
        }
    }

    /// Whether no command is under way: a stream that ends here was cut nowhere.
    #[must_use]
    pub fn is_at_start(&self) -> bool {
        matches!(self.expect, Expect::Command)
    }

    /// Copies what it has taken of a command that is not whole yet: the buffer that it took it from may be shared with
    /// others, and this command may take its time.
    pub fn detach(&mut self) {
        for argument in &mut self.arguments {
            *argument = Bytes::copy_from_slice(argument);
        }
    }

    fn step(&mut self, buffer: &mut BytesMut) -> Result<Step, ProtocolError> {
        match self.expect {
            Expect::Command => Ok(self.first_byte(buffer)),
            Expect::Inline => self.inline(buffer),
            Expect::Count => self.count(buffer),
            Expect::Length => self.length(buffer),
            Expect::Bulk { bytes } if self.refused => self.swallow(buffer, bytes),
            Expect::Bulk { bytes } => self.bulk(buffer, bytes),
            Expect::Nothing(error) => Err(error),
        }
    }

    fn first_byte(&mut self, buffer: &BytesMut) -> Step {
        self.expect = match buffer.first() {
            None => return Step::More,
            Some(b'*') => Expect::Count,
            Some(_) => Expect::Inline,
        };
        Step::On
    }

    fn inline(&mut self, buffer: &mut BytesMut) -> Result<Step, ProtocolError> {
        let end = match self.line.newline(buffer, self.limits.inline_bytes_max) {
            Line::Ends(end) => end,
            Line::Partial => return Ok(Step::More),
            Line::TooLong | Line::Malformed => return Err(ProtocolError::InlineTooLong),
        };
        let mut line = buffer.split_to(end).freeze();
        buffer.advance(1);
        if line.last() == Some(&b'\r') {
            line.truncate(line.len() - 1);
        }
        let arguments = inline::split(&line).map_err(|inline::Unbalanced| ProtocolError::UnbalancedQuotes)?;
        self.expect = Expect::Command;
        // An empty line is no command: `redis-cli --pipe` sends one before its last.
        Ok(if arguments.is_empty() { Step::On } else { Step::Done(Incoming::Command(Command { arguments })) })
    }

    fn count(&mut self, buffer: &mut BytesMut) -> Result<Step, ProtocolError> {
        let end = match self.line.crlf(buffer, self.limits.inline_bytes_max) {
            Line::Ends(end) => end,
            Line::Partial => return Ok(Step::More),
            Line::TooLong => return Err(ProtocolError::MultibulkLineTooLong),
            Line::Malformed => return Err(ProtocolError::InvalidMultibulkLength),
        };
        let count = announced(buffer, end).ok_or(ProtocolError::InvalidMultibulkLength)?;
        // Zero and below is no command, as in Redis.
        let count = u64::try_from(count).unwrap_or(0);
        if count > self.limits.protocol_arguments_max {
            return Err(ProtocolError::InvalidMultibulkLength);
        }
        if !self.authenticated && count > UNAUTHENTICATED_ARGUMENTS_MAX {
            return Err(ProtocolError::UnauthenticatedMultibulkLength);
        }
        buffer.advance(end + 2);
        if count == 0 {
            self.expect = Expect::Command;
            return Ok(Step::On);
        }
        self.begin(count, end + 2);
        Ok(Step::On)
    }

    fn begin(&mut self, count: u64, head_bytes: usize) {
        /// What an announcement may reserve: enough for the usual command, nothing for an attacker.
        const ARGUMENTS_RESERVED_MAX: u64 = 8;
        let reserved = count.min(ARGUMENTS_RESERVED_MAX);
        self.announced = count;
        self.missing = count;
        self.bytes = head_bytes as u64;
        self.refused = count > self.limits.arguments_max;
        self.arguments = Vec::with_capacity(usize::try_from(reserved).unwrap_or_default());
        self.expect = Expect::Length;
    }

    fn length(&mut self, buffer: &mut BytesMut) -> Result<Step, ProtocolError> {
        match buffer.first() {
            None => return Ok(Step::More),
            Some(b'$') => {}
            Some(got) => return Err(ProtocolError::ExpectedBulk { got: *got }),
        }
        let end = match self.line.crlf(buffer, self.limits.inline_bytes_max) {
            Line::Ends(end) => end,
            Line::Partial => return Ok(Step::More),
            Line::TooLong => return Err(ProtocolError::BulkLineTooLong),
            Line::Malformed => return Err(ProtocolError::InvalidBulkLength),
        };
        let bytes = announced(buffer, end)
            .and_then(|bytes| u64::try_from(bytes).ok())
            .filter(|bytes| *bytes <= self.limits.protocol_bulk_bytes_max)
            .ok_or(ProtocolError::InvalidBulkLength)?;
        if !self.authenticated && bytes > UNAUTHENTICATED_BULK_BYTES_MAX {
            return Err(ProtocolError::UnauthenticatedBulkLength);
        }
        buffer.advance(end + 2);
        // Saturating: 2^31 arguments of 512 MiB are 2^60 bytes, but the limits are the caller's.
        self.bytes = self.bytes.saturating_add(bytes).saturating_add(end as u64 + 4);
        if self.bytes > self.limits.command_bytes_max {
            self.refused = true;
            self.arguments = Vec::new();
        }
        self.expect = Expect::Bulk { bytes };
        Ok(Step::On)
    }

    fn bulk(&mut self, buffer: &mut BytesMut, bytes: u64) -> Result<Step, ProtocolError> {
        let bytes = usize::try_from(bytes).expect("a command that we take fits into memory");
        if buffer.len() < bytes + 2 {
            return Ok(Step::More);
        }
        // An empty slice would keep the whole read buffer alive for nothing.
        let argument = if bytes == 0 { Bytes::new() } else { buffer.split_to(bytes).freeze() };
        line_end(buffer)?;
        self.arguments.push(argument);
        Ok(self.argument_ended())
    }

    /// Throws away what has arrived of an argument that nobody will see.
    fn swallow(&mut self, buffer: &mut BytesMut, bytes: u64) -> Result<Step, ProtocolError> {
        let arrived = bytes.min(buffer.len() as u64);
        buffer.advance(usize::try_from(arrived).expect("no more than the buffer holds"));
        self.expect = Expect::Bulk { bytes: bytes - arrived };
        if arrived < bytes || buffer.len() < 2 {
            return Ok(Step::More);
        }
        line_end(buffer)?;
        Ok(self.argument_ended())
    }

    fn argument_ended(&mut self) -> Step {
        assert!(self.missing > 0, "an argument that was not announced");
        self.missing -= 1;
        if self.missing > 0 {
            self.expect = Expect::Length;
            return Step::On;
        }
        self.expect = Expect::Command;
        let arguments = std::mem::take(&mut self.arguments);
        Step::Done(if self.refused {
            Incoming::TooLarge(self.refusal())
        } else {
            assert!(arguments.len() as u64 == self.announced, "an argument was lost");
            Incoming::Command(Command { arguments })
        })
    }

    fn refusal(&self) -> TooLarge {
        let CommandLimits { arguments_max, command_bytes_max, .. } = self.limits;
        if self.announced > arguments_max {
            TooLarge::Arguments { arguments: self.announced, arguments_max }
        } else {
            TooLarge::Bytes { bytes: self.bytes, command_bytes_max }
        }
    }
}

/// The number in a line such as `*3` that ends at `end`.
fn announced(buffer: &[u8], end: usize) -> Option<i64> {
    parse_integer(buffer.get(1..end)?)
}

/// Takes the line end after an argument. Redis takes any two bytes here; then a client that counts wrong goes on out
/// of step, and its data is run as commands.
fn line_end(buffer: &mut BytesMut) -> Result<(), ProtocolError> {
    let got = match buffer.get(..2) {
        Some(b"\r\n") => {
            buffer.advance(2);
            return Ok(());
        }
        Some([b'\r', got] | [got, _]) => *got,
        Some(_) | None => unreachable!("the caller has seen two bytes"),
    };
    Err(ProtocolError::ExpectedLineEnd { got })
}
