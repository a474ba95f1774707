//! Replies out of the bytes that a server sends. Knows the wire and its limits; must not know what was asked.

use bytes::{Buf, Bytes, BytesMut};

use super::line::{Line, LineScan};
use crate::frame::Frame;
use crate::number::parse_integer;

/// How much one reply may cost. Past any of them the connection is of no more use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyLimits {
    /// Bytes of a status, an error, a number, and of any line that announces a length.
    pub line_bytes_max: usize,
    /// Bytes of a whole reply, as sent.
    pub reply_bytes_max: usize,
    /// Values in a whole reply, aggregates and their elements alike.
    pub elements_max: usize,
    /// Aggregates within each other.
    pub depth_max: usize,
}

impl ReplyLimits {
    /// The limits of a client that is told nothing else.
    pub const DEFAULT: Self =
        Self { line_bytes_max: 64 << 10, reply_bytes_max: 64 << 20, elements_max: 1 << 20, depth_max: 16 };
}

const _: () = assert!(ReplyLimits::DEFAULT.line_bytes_max < ReplyLimits::DEFAULT.reply_bytes_max);
const _: () = assert!(ReplyLimits::DEFAULT.elements_max < ReplyLimits::DEFAULT.reply_bytes_max);

impl Default for ReplyLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What a server sent is no reply: close the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// No reply begins with this byte.
    #[error("no reply begins with byte 0x{0:02x}")]
    UnknownType(u8),
    /// A length, a number or a truth value is none, or a line end is missing.
    #[error("malformed reply of type '{}'", char::from(*.0))]
    Malformed(u8),
    /// Past one of [`ReplyLimits`], which is named.
    #[error("reply exceeds the limit {limit} of {max}")]
    TooLarge {
        /// Which limit.
        limit: &'static str,
        /// Its value.
        max: usize,
    },
}

/// The kinds of string that announce their length.
#[derive(Debug, Clone, Copy)]
enum Counted {
    Bulk,
    Error,
    Verbatim,
}

#[derive(Debug, Clone, Copy)]
enum Aggregate {
    Array,
    Map,
    Set,
    Push,
    /// Notes about the reply that follows: read and thrown away.
    Attribute,
}

/// An aggregate of which elements are missing.
#[derive(Debug)]
struct Open {
    kind: Aggregate,
    missing: usize,
    items: Vec<Frame>,
}

/// What one step of the decoder came to.
enum Step {
    More,
    /// An aggregate was opened or an attribute thrown away.
    On,
    Value(Frame),
}

/// Replies out of one connection's bytes, incremental; strings are slices of the buffer.
#[derive(Debug)]
pub struct ReplyDecoder {
    limits: ReplyLimits,
    line: LineScan,
    /// The string whose bytes are awaited.
    counted: Option<(Counted, usize)>,
    open: Vec<Open>,
    bytes: usize,
    elements: usize,
    failed: Option<ReplyError>,
}

impl ReplyDecoder {
    /// A decoder for one connection, at the start of its stream.
    #[must_use]
    pub fn new(limits: ReplyLimits) -> Self {
        Self {
            limits,
            line: LineScan::default(),
            counted: None,
            open: Vec::new(),
            bytes: 0,
            elements: 0,
            failed: None,
        }
    }

    /// The next reply in `buffer`, or `None` until more bytes have arrived.
    ///
    /// # Errors
    /// The stream is broken for good: every later call says the same.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, ReplyError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.advance(buffer).inspect_err(|error| {
            self.failed = Some(*error);
            self.open = Vec::new();
        })
    }

    fn advance(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, ReplyError> {
        loop {
            let step = match self.counted {
                Some((kind, bytes)) => self.counted(buffer, kind, bytes)?,
                None => self.head(buffer)?,
            };
            match step {
                Step::More => return Ok(None),
                Step::On => {}
                Step::Value(value) => {
                    if let Some(reply) = self.place(value) {
                        self.bytes = 0;
                        self.elements = 0;
                        return Ok(Some(reply));
                    }
                }
            }
        }
    }

    /// A line: a whole value, or the head of one.
    fn head(&mut self, buffer: &mut BytesMut) -> Result<Step, ReplyError> {
        let Some(&kind) = buffer.first() else { return Ok(Step::More) };
        if !b"+-:$*%~>|,#=(!_".contains(&kind) {
            return Err(ReplyError::UnknownType(kind));
        }
        let end = match self.line.crlf(buffer, self.limits.line_bytes_max) {
            Line::Ends(end) => end,
            Line::Partial => return Ok(Step::More),
            Line::TooLong => return Err(too_large("line_bytes_max", self.limits.line_bytes_max)),
            Line::Malformed => return Err(ReplyError::Malformed(kind)),
        };
        self.spend(end + 2)?;
        self.elements += 1;
        if self.elements > self.limits.elements_max {
            return Err(too_large("elements_max", self.limits.elements_max));
        }
        let mut line = buffer.split_to(end);
        buffer.advance(2);
        line.advance(1);
        match kind {
            b'$' => self.counted_head(kind, &line, Counted::Bulk),
            b'!' => self.counted_head(kind, &line, Counted::Error),
            b'=' => self.counted_head(kind, &line, Counted::Verbatim),
            b'*' => self.aggregate_head(kind, &line, Aggregate::Array),
            b'%' => self.aggregate_head(kind, &line, Aggregate::Map),
            b'~' => self.aggregate_head(kind, &line, Aggregate::Set),
            b'>' => self.aggregate_head(kind, &line, Aggregate::Push),
            b'|' => self.aggregate_head(kind, &line, Aggregate::Attribute),
            _ => scalar(kind, line.freeze()).map(Step::Value).ok_or(ReplyError::Malformed(kind)),
        }
    }

    fn counted_head(&mut self, kind: u8, line: &[u8], counted: Counted) -> Result<Step, ReplyError> {
        let Some(bytes) = length(kind, line)? else { return Ok(Step::Value(Frame::Null)) };
        self.spend(bytes.saturating_add(2))?;
        self.counted = Some((counted, bytes));
        Ok(Step::On)
    }

    fn counted(&mut self, buffer: &mut BytesMut, kind: Counted, bytes: usize) -> Result<Step, ReplyError> {
        if buffer.len() < bytes.saturating_add(2) {
            return Ok(Step::More);
        }
        self.counted = None;
        let mut text = buffer.split_to(bytes).freeze();
        if !buffer.starts_with(b"\r\n") {
            return Err(ReplyError::Malformed(b'$'));
        }
        buffer.advance(2);
        Ok(Step::Value(match kind {
            Counted::Bulk => Frame::Bulk(text),
            Counted::Error => Frame::Error(text),
            Counted::Verbatim => match *text {
                [a, b, c, b':', ..] => {
                    text.advance(4);
                    Frame::Verbatim { format: [a, b, c], text }
                }
                _ => return Err(ReplyError::Malformed(b'=')),
            },
        }))
    }

    fn aggregate_head(&mut self, kind: u8, line: &[u8], aggregate: Aggregate) -> Result<Step, ReplyError> {
        /// What an announcement may reserve.
        const ITEMS_RESERVED_MAX: usize = 16;
        let Some(length) = length(kind, line)? else { return Ok(Step::Value(Frame::Null)) };
        let missing = match aggregate {
            Aggregate::Map | Aggregate::Attribute => length.saturating_mul(2),
            Aggregate::Array | Aggregate::Set | Aggregate::Push => length,
        };
        if missing > self.limits.elements_max {
            return Err(too_large("elements_max", self.limits.elements_max));
        }
        if self.open.len() >= self.limits.depth_max {
            return Err(too_large("depth_max", self.limits.depth_max));
        }
        if missing == 0 {
            return Ok(close(aggregate, Vec::new()).map_or(Step::On, Step::Value));
        }
        let items = Vec::with_capacity(missing.min(ITEMS_RESERVED_MAX));
        self.open.push(Open { kind: aggregate, missing, items });
        Ok(Step::On)
    }

    /// Puts a value where it belongs; the whole reply, once nothing is missing.
    fn place(&mut self, mut value: Frame) -> Option<Frame> {
        while let Some(innermost) = self.open.last_mut() {
            innermost.items.push(value);
            innermost.missing -= 1;
            if innermost.missing > 0 {
                return None;
            }
            let Open { kind, items, .. } = self.open.pop().expect("it was just there");
            // An attribute is no element of what surrounds it: the value that it describes follows.
            value = close(kind, items)?;
        }
        Some(value)
    }

    fn spend(&mut self, bytes: usize) -> Result<(), ReplyError> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.limits.reply_bytes_max {
            return Err(too_large("reply_bytes_max", self.limits.reply_bytes_max));
        }
        Ok(())
    }
}

fn too_large(limit: &'static str, max: usize) -> ReplyError {
    ReplyError::TooLarge { limit, max }
}

/// An announced length; `None` for -1, the null of RESP2.
fn length(kind: u8, line: &[u8]) -> Result<Option<usize>, ReplyError> {
    match parse_integer(line) {
        Some(-1) if matches!(kind, b'$' | b'*') => Ok(None),
        Some(length) => usize::try_from(length).map(Some).map_err(|_| ReplyError::Malformed(kind)),
        None => Err(ReplyError::Malformed(kind)),
    }
}

/// A value that is one line; `None` if the line is no such value.
fn scalar(kind: u8, line: Bytes) -> Option<Frame> {
    match kind {
        b'+' => Some(Frame::Simple(line)),
        b'-' => Some(Frame::Error(line)),
        b':' => parse_integer(&line).map(Frame::Integer),
        b',' => std::str::from_utf8(&line).ok()?.parse().ok().map(Frame::Double),
        b'#' => match &*line {
            b"t" => Some(Frame::Boolean(true)),
            b"f" => Some(Frame::Boolean(false)),
            _ => None,
        },
        b'_' => line.is_empty().then_some(Frame::Null),
        b'(' => {
            let digits = line.strip_prefix(b"-").unwrap_or(&line);
            let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
            is_number.then_some(Frame::BigNumber(line))
        }
        _ => None,
    }
}

/// A complete aggregate; `None` for an attribute.
fn close(kind: Aggregate, items: Vec<Frame>) -> Option<Frame> {
    match kind {
        Aggregate::Array => Some(Frame::Array(items)),
        Aggregate::Set => Some(Frame::Set(items)),
        Aggregate::Push => Some(Frame::Push(items)),
        Aggregate::Map => Some(Frame::Map(pairs(items))),
        Aggregate::Attribute => None,
    }
}

fn pairs(items: Vec<Frame>) -> Vec<(Frame, Frame)> {
    let mut items = items.into_iter();
    let mut pairs = Vec::with_capacity(items.len() / 2);
    while let (Some(key), Some(value)) = (items.next(), items.next()) {
        pairs.push((key, value));
    }
    pairs
}
