//! Replies and commands as bytes. Knows the wire; must not know which command a reply belongs to.

use bytes::{BufMut, BytesMut};

use crate::frame::{Frame, Protocol};
use crate::number::double_text;

/// Writes replies to the end of a buffer, in the protocol of one connection.
///
/// An aggregate is announced by its length and followed by its elements: `array(2)`, then two replies. The caller
/// keeps the count; [`Encoder::frame`] keeps it by itself.
#[derive(Debug)]
pub struct Encoder<'a> {
    out: &'a mut BytesMut,
    protocol: Protocol,
}

impl<'a> Encoder<'a> {
    /// An encoder that appends to `out`.
    pub fn new(out: &'a mut BytesMut, protocol: Protocol) -> Self {
        Self { out, protocol }
    }

    /// The protocol that this encoder writes.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// `+OK`.
    pub fn ok(&mut self) {
        self.out.put_slice(b"+OK\r\n");
    }

    /// A status. A line break in it becomes a blank: it would forge a second reply.
    pub fn simple(&mut self, text: &str) {
        self.line(b'+', text.as_bytes());
    }

    /// An error, `text` beginning with its class. A line break in it becomes a blank.
    pub fn error(&mut self, text: &str) {
        self.line(b'-', text.as_bytes());
    }

    /// A number.
    pub fn integer(&mut self, value: i64) {
        self.number(b':', value);
    }

    /// A string of bytes.
    pub fn bulk(&mut self, text: &[u8]) {
        // One reservation instead of one for each part.
        self.out.reserve(text.len() + 32);
        self.length(b'$', text.len());
        self.out.put_slice(text);
        self.out.put_slice(b"\r\n");
    }

    /// A string of bytes, or null.
    pub fn bulk_or_null(&mut self, text: Option<&[u8]>) {
        match text {
            Some(text) => self.bulk(text),
            None => self.null(),
        }
    }

    /// Nothing there: the null bulk string of RESP2, the null of RESP3.
    pub fn null(&mut self) {
        self.out.put_slice(match self.protocol {
            Protocol::Resp2 => b"$-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        });
    }

    /// Nothing there, where a list would stand (an aborted `EXEC`): the null array of RESP2, the null of RESP3.
    pub fn null_array(&mut self) {
        self.out.put_slice(match self.protocol {
            Protocol::Resp2 => b"*-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        });
    }

    /// The head of a list of `length` replies.
    pub fn array(&mut self, length: usize) {
        self.length(b'*', length);
    }

    /// The head of `pairs` pairs: in RESP2 a flat list of twice as many replies.
    pub fn map(&mut self, pairs: usize) {
        match self.protocol {
            Protocol::Resp2 => self.length(b'*', pairs * 2),
            Protocol::Resp3 => self.length(b'%', pairs),
        }
    }

    /// The head of a set: in RESP2 a list.
    pub fn set(&mut self, length: usize) {
        match self.protocol {
            Protocol::Resp2 => self.length(b'*', length),
            Protocol::Resp3 => self.length(b'~', length),
        }
    }

    /// The head of a message that answers no command: in RESP2 a list.
    pub fn push(&mut self, length: usize) {
        match self.protocol {
            Protocol::Resp2 => self.length(b'*', length),
            Protocol::Resp3 => self.length(b'>', length),
        }
    }

    /// A floating point number: in RESP2 a string.
    pub fn double(&mut self, value: f64) {
        let text = double_text(value);
        match self.protocol {
            Protocol::Resp2 => self.bulk(text.as_bytes()),
            Protocol::Resp3 => self.line(b',', text.as_bytes()),
        }
    }

    /// A truth value: in RESP2 the numbers 1 and 0.
    pub fn boolean(&mut self, value: bool) {
        match self.protocol {
            Protocol::Resp2 => self.integer(i64::from(value)),
            Protocol::Resp3 => self.out.put_slice(if value { b"#t\r\n" } else { b"#f\r\n" }),
        }
    }

    /// Text with its format, three letters such as `txt`: in RESP2 a string.
    pub fn verbatim(&mut self, format: [u8; 3], text: &[u8]) {
        match self.protocol {
            Protocol::Resp2 => self.bulk(text),
            Protocol::Resp3 => {
                self.length(b'=', text.len() + 4);
                self.out.put_slice(&format);
                self.out.put_u8(b':');
                self.out.put_slice(text);
                self.out.put_slice(b"\r\n");
            }
        }
    }

    /// An integer of any size, as its digits: in RESP2 a string.
    pub fn big_number(&mut self, digits: &[u8]) {
        match self.protocol {
            Protocol::Resp2 => self.bulk(digits),
            Protocol::Resp3 => self.line(b'(', digits),
        }
    }

    /// A whole reply.
    pub fn frame(&mut self, frame: &Frame) {
        match frame {
            Frame::Simple(text) => self.line(b'+', text),
            Frame::Error(text) => self.line(b'-', text),
            Frame::Integer(value) => self.integer(*value),
            Frame::Bulk(text) => self.bulk(text),
            Frame::Null => self.null(),
            Frame::Array(items) => {
                self.array(items.len());
                self.frames(items);
            }
            Frame::Map(pairs) => {
                self.map(pairs.len());
                for (key, value) in pairs {
                    self.frame(key);
                    self.frame(value);
                }
            }
            Frame::Set(items) => {
                self.set(items.len());
                self.frames(items);
            }
            Frame::Double(value) => self.double(*value),
            Frame::Boolean(value) => self.boolean(*value),
            Frame::Verbatim { format, text } => self.verbatim(*format, text),
            Frame::Push(items) => {
                self.push(items.len());
                self.frames(items);
            }
            Frame::BigNumber(digits) => self.big_number(digits),
        }
    }

    fn frames(&mut self, items: &[Frame]) {
        for item in items {
            self.frame(item);
        }
    }

    fn line(&mut self, kind: u8, text: &[u8]) {
        self.out.reserve(text.len() + 3);
        self.out.put_u8(kind);
        if memchr::memchr2(b'\r', b'\n', text).is_none() {
            self.out.put_slice(text);
        } else {
            for byte in text {
                self.out.put_u8(if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte });
            }
        }
        self.out.put_slice(b"\r\n");
    }

    fn number(&mut self, kind: u8, value: i64) {
        put_number(self.out, kind, itoa::Buffer::new().format(value));
    }

    fn length(&mut self, kind: u8, length: usize) {
        put_number(self.out, kind, itoa::Buffer::new().format(length));
    }
}

/// Appends one command as an array of bulk strings, as every server of either protocol takes it.
pub fn encode_command<A: AsRef<[u8]>>(out: &mut BytesMut, arguments: &[A]) {
    // "$", at most 20 digits, and two line ends for each argument.
    const OVERHEAD: usize = 25;
    let bytes: usize = arguments.iter().map(|argument| argument.as_ref().len() + OVERHEAD).sum();
    out.reserve(bytes + OVERHEAD);
    put_number(out, b'*', itoa::Buffer::new().format(arguments.len()));
    for argument in arguments {
        let argument = argument.as_ref();
        put_number(out, b'$', itoa::Buffer::new().format(argument.len()));
        out.put_slice(argument);
        out.put_slice(b"\r\n");
    }
}

fn put_number(out: &mut BytesMut, kind: u8, digits: &str) {
    out.put_u8(kind);
    out.put_slice(digits.as_bytes());
    out.put_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(write: impl Fn(&mut Encoder<'_>)) -> (String, String) {
        let encode = |protocol| {
            let mut out = BytesMut::new();
            write(&mut Encoder::new(&mut out, protocol));
            String::from_utf8(out.to_vec()).unwrap()
        };
        (encode(Protocol::Resp2), encode(Protocol::Resp3))
    }

    #[track_caller]
    fn check(write: impl Fn(&mut Encoder<'_>), resp2: &str, resp3: &str) {
        assert_eq!(both(write), (resp2.to_owned(), resp3.to_owned()));
    }

    #[test]
    #[expect(
        clippy::redundant_closure_for_method_calls,
        reason = "the method is not general in its lifetime"
    )]
    fn each_kind_of_reply_in_both_protocols() {
        check(|e| e.ok(), "+OK\r\n", "+OK\r\n");
        check(|e| e.simple("PONG"), "+PONG\r\n", "+PONG\r\n");
        check(|e| e.error("ERR no"), "-ERR no\r\n", "-ERR no\r\n");
        check(|e| e.integer(i64::MIN), ":-9223372036854775808\r\n", ":-9223372036854775808\r\n");
        check(|e| e.bulk(b"a\r\nb"), "$4\r\na\r\nb\r\n", "$4\r\na\r\nb\r\n");
        check(|e| e.bulk(b""), "$0\r\n\r\n", "$0\r\n\r\n");
        check(|e| e.null(), "$-1\r\n", "_\r\n");
        check(|e| e.null_array(), "*-1\r\n", "_\r\n");
        check(|e| e.array(0), "*0\r\n", "*0\r\n");
        check(|e| e.map(2), "*4\r\n", "%2\r\n");
        check(|e| e.set(2), "*2\r\n", "~2\r\n");
        check(|e| e.push(2), "*2\r\n", ">2\r\n");
        check(|e| e.double(1.5), "$3\r\n1.5\r\n", ",1.5\r\n");
        check(|e| e.boolean(true), ":1\r\n", "#t\r\n");
        check(|e| e.boolean(false), ":0\r\n", "#f\r\n");
        check(|e| e.verbatim(*b"txt", b"hi"), "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n");
        check(|e| e.big_number(b"123"), "$3\r\n123\r\n", "(123\r\n");
        check(|e| e.bulk_or_null(None), "$-1\r\n", "_\r\n");
        check(|e| e.bulk_or_null(Some(b"x")), "$1\r\nx\r\n", "$1\r\nx\r\n");
    }

    #[test]
    fn a_line_break_in_an_error_forges_no_second_reply() {
        check(|e| e.error("ERR a\r\n+OK"), "-ERR a  +OK\r\n", "-ERR a  +OK\r\n");
        check(|e| e.simple("a\nb"), "+a b\r\n", "+a b\r\n");
    }

    #[test]
    fn a_command_is_an_array_of_bulk_strings() {
        let mut out = BytesMut::new();
        encode_command(&mut out, &["SET", "k", ""]);
        assert_eq!(&out[..], b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n");
    }
}
