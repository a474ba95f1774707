//! Counts replies as they arrive, in place: nothing is copied and nothing allocated, because the generator shares the processor
//! with what it measures. Knows the replies of RESP2 that are no aggregates; must not know what was asked.

use memchr::memchr;

/// Bytes of a line at most. One that arrives in pieces is kept until its end is there.
const LINE_BYTES_MAX: usize = 64 << 10;

/// One reply.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply<'a> {
    /// A status, a number, or a value.
    Done,
    /// There is no such value.
    Nil,
    /// The text of an error; its first word is its class.
    Error(&'a [u8]),
}

/// What came is no reply that any of our commands has: the connection is of no more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what came is no reply to SET, GET or APPEND")]
pub(super) struct Malformed;

/// Where in the stream of one connection we are.
#[derive(Debug, Default)]
pub(super) struct Replies {
    /// Bytes of a value, and of the line end behind it, that are still to come.
    skip: usize,
    /// The beginning of a line whose end is still to come.
    line: Vec<u8>,
}

impl Replies {
    /// Takes what has arrived, and hands over each reply that it completes.
    pub(super) fn scan(
        &mut self,
        mut bytes: &[u8],
        mut each: impl FnMut(Reply<'_>),
    ) -> Result<(), Malformed> {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = &bytes[skipped..];
                if self.skip == 0 {
                    each(Reply::Done);
                }
                continue;
            }
            let Some(end) = memchr(b'\n', bytes) else {
                self.line.extend_from_slice(bytes);
                return if self.line.len() > LINE_BYTES_MAX { Err(Malformed) } else { Ok(()) };
            };
            let (line, rest) = bytes.split_at(end + 1);
            bytes = rest;
            if self.line.is_empty() {
                self.skip = head(line, &mut each)?;
            } else {
                self.line.extend_from_slice(line);
                self.skip = head(&self.line, &mut each)?;
                self.line.clear();
            }
        }
        Ok(())
    }
}

/// One line with its end. How many bytes belong to the reply besides; none if it is the reply.
fn head(line: &[u8], each: &mut impl FnMut(Reply<'_>)) -> Result<usize, Malformed> {
    let [kind, text @ .., b'\r', b'\n'] = line else { return Err(Malformed) };
    match kind {
        b'+' | b':' => each(Reply::Done),
        b'-' => each(Reply::Error(text)),
        b'$' if text == b"-1" => each(Reply::Nil),
        b'$' => return length(text).ok_or(Malformed),
        _ => return Err(Malformed),
    }
    Ok(0)
}

/// The bytes of a value and its line end.
fn length(digits: &[u8]) -> Option<usize> {
    if digits.is_empty() {
        return None;
    }
    digits
        .iter()
        .try_fold(0_usize, |length, digit| {
            let digit = char::from(*digit).to_digit(10)?;
            length.checked_mul(10)?.checked_add(digit as usize)
        })?
        .checked_add(2)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;
    use quorate_resp::{Encoder, Frame, Protocol, ReplyDecoder, ReplyLimits};

    use super::*;

    fn scanned(replies: &mut Replies, bytes: &[u8]) -> Result<Vec<String>, Malformed> {
        let mut all = Vec::new();
        replies.scan(bytes, |reply| {
            all.push(match reply {
                Reply::Done => "done".to_owned(),
                Reply::Nil => "nil".to_owned(),
                Reply::Error(text) => String::from_utf8_lossy(text).into_owned(),
            });
        })?;
        Ok(all)
    }

    #[test]
    fn each_kind_of_reply_is_told_from_the_others() {
        let bytes = b"+OK\r\n:12\r\n$3\r\na\r\n\r\n$0\r\n\r\n$-1\r\n-OOM disk full\r\n";
        let all = scanned(&mut Replies::default(), bytes).unwrap();
        assert_eq!(all, ["done", "done", "done", "done", "nil", "OOM disk full"]);
    }

    #[test]
    fn what_is_no_reply_is_an_error() {
        for bytes in
            [&b"HTTP/1.1 400\r\n"[..], b"*1\r\n:1\r\n", b"+OK\n", b"$x\r\n", b"$\r\n", b"$-2\r\n", b"\r\n"]
        {
            assert_eq!(scanned(&mut Replies::default(), bytes), Err(Malformed), "{bytes:?}");
        }
        let endless = vec![b'+'; LINE_BYTES_MAX + 1];
        assert_eq!(scanned(&mut Replies::default(), &endless), Err(Malformed));
        let huge = b"$99999999999999999999999999\r\n";
        assert_eq!(scanned(&mut Replies::default(), huge), Err(Malformed));
    }

    fn frame() -> impl Strategy<Value = Frame> {
        prop_oneof![
            Just(Frame::simple("OK")),
            any::<i64>().prop_map(Frame::Integer),
            Just(Frame::Null),
            "[A-Z]{1,8} [ -~]{0,40}".prop_map(|text| Frame::Error(text.into())),
            prop::collection::vec(any::<u8>(), 0..300).prop_map(Frame::bulk),
        ]
    }

    proptest! {
        /// The decoder that everything else uses is the second opinion, however the stream is cut.
        #[test]
        fn it_counts_what_the_decoder_decodes(
            frames in prop::collection::vec(frame(), 0..30),
            cuts in prop::collection::vec(1_usize..200, 1..20),
        ) {
            let mut stream = BytesMut::new();
            for frame in &frames {
                Encoder::new(&mut stream, Protocol::Resp2).frame(frame);
            }
            let (mut replies, mut counted) = (Replies::default(), Vec::new());
            let mut rest = &stream[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, after) = rest.split_at(rest.len().min(*cut));
                counted.extend(scanned(&mut replies, piece).unwrap());
                rest = after;
            }
            let mut decoder = ReplyDecoder::new(ReplyLimits::default());
            let mut decoded = Vec::new();
            while let Some(frame) = decoder.decode(&mut stream).unwrap() {
                decoded.push(if let Frame::Error(text) = frame {
                    String::from_utf8_lossy(&text).into_owned()
                } else if frame == Frame::Null {
                    "nil".to_owned()
                } else {
                    "done".to_owned()
                });
            }
            prop_assert_eq!(counted, decoded);
        }
    }
}
