//! What a client makes of the bytes of its server.

use bytes::{Bytes, BytesMut};
use quorate_resp::{Frame, ReplyDecoder, ReplyError, ReplyLimits};

const SMALL: ReplyLimits =
    ReplyLimits { line_bytes_max: 20, reply_bytes_max: 64, elements_max: 6, depth_max: 2 };

fn decode(limits: ReplyLimits, input: &[u8]) -> Result<Option<Frame>, ReplyError> {
    ReplyDecoder::new(limits).decode(&mut BytesMut::from(input))
}

#[track_caller]
fn check(input: &[u8], reply: Frame) {
    assert_eq!(decode(ReplyLimits::default(), input), Ok(Some(reply)), "{}", input.escape_ascii());
}

fn bulk(text: &'static str) -> Frame {
    Frame::bulk(text)
}

#[test]
fn each_kind_of_reply() {
    check(b"+OK\r\n", Frame::simple("OK"));
    check(b"-ERR no\r\n", Frame::Error(Bytes::from_static(b"ERR no")));
    check(b"!9\r\nERR a\r\nbb\r\n", Frame::Error(Bytes::from_static(b"ERR a\r\nbb")));
    check(b":-7\r\n", Frame::Integer(-7));
    check(b"$4\r\na\r\nb\r\n", bulk("a\r\nb"));
    check(b"$0\r\n\r\n", bulk(""));
    for null in [&b"$-1\r\n"[..], b"*-1\r\n", b"_\r\n"] {
        check(null, Frame::Null);
    }
    check(
        b"*2\r\n*1\r\n:1\r\n$-1\r\n",
        Frame::Array(vec![Frame::Array(vec![Frame::Integer(1)]), Frame::Null]),
    );
    check(b"*0\r\n", Frame::Array(vec![]));
    check(b"%1\r\n+a\r\n%0\r\n", Frame::Map(vec![(Frame::simple("a"), Frame::Map(vec![]))]));
    check(b"~1\r\n#t\r\n", Frame::Set(vec![Frame::Boolean(true)]));
    check(b">1\r\n#f\r\n", Frame::Push(vec![Frame::Boolean(false)]));
    check(b",-inf\r\n", Frame::Double(f64::NEG_INFINITY));
    check(b",1e3\r\n", Frame::Double(1000.0));
    check(
        b"(-12345678901234567890123\r\n",
        Frame::BigNumber(Bytes::from_static(b"-12345678901234567890123")),
    );
    check(b"=6\r\ntxt:hi\r\n", Frame::Verbatim { format: *b"txt", text: Bytes::from_static(b"hi") });
}

#[test]
fn attributes_are_no_elements() {
    check(b"|1\r\n+ttl\r\n:9\r\n+OK\r\n", Frame::simple("OK"));
    check(
        b"*2\r\n|1\r\n+ttl\r\n*1\r\n:9\r\n+a\r\n+b\r\n",
        Frame::Array(vec![Frame::simple("a"), Frame::simple("b")]),
    );
    check(b"*1\r\n+a\r\n|0\r\n", Frame::Array(vec![Frame::simple("a")]));
}

#[test]
fn what_is_no_reply_is_an_error_for_good() {
    assert_eq!(decode(SMALL, b"PING\r\n"), Err(ReplyError::UnknownType(b'P')));
    for (input, kind) in [
        (&b":x\r\n"[..], b':'),
        (b"$-2\r\n", b'$'),
        (b"%-1\r\n", b'%'),
        (b"#x\r\n", b'#'),
        (b",x\r\n", b','),
        (b"(\r\n", b'('),
        (b"_x\r\n", b'_'),
        (b"=2\r\nab\r\n", b'='),
        (b"$1\r\nabc", b'$'),
        (b"+a\rb", b'+'),
    ] {
        assert_eq!(decode(SMALL, input), Err(ReplyError::Malformed(kind)), "{}", input.escape_ascii());
    }
    let mut decoder = ReplyDecoder::new(SMALL);
    let mut buffer = BytesMut::from(&b":x\r\n+OK\r\n"[..]);
    for _ in 0..2 {
        assert_eq!(decoder.decode(&mut buffer), Err(ReplyError::Malformed(b':')));
    }
}

#[test]
fn every_limit_is_named() {
    for (input, limit, max) in [
        (&b"+aaaaaaaaaaaaaaaaaaaaaaaa"[..], "line_bytes_max", 20),
        (b"$60\r\n", "reply_bytes_max", 64),
        (b"$9223372036854775807\r\n", "reply_bytes_max", 64),
        (b"*3\r\n$20\r\naaaaaaaaaaaaaaaaaaaa\r\n$30\r\n", "reply_bytes_max", 64),
        (b"*7\r\n", "elements_max", 6),
        (b"*5\r\n:1\r\n*2\r\n:1\r\n:1\r\n:1\r\n:1\r\n", "elements_max", 6),
        (b"*1\r\n*1\r\n*1\r\n", "depth_max", 2),
    ] {
        assert_eq!(
            decode(SMALL, input),
            Err(ReplyError::TooLarge { limit, max }),
            "{}",
            input.escape_ascii()
        );
    }
}

#[test]
fn limits_hold_for_each_reply_alone() {
    let mut decoder = ReplyDecoder::new(SMALL);
    let mut buffer = BytesMut::from(b"*2\r\n:1\r\n:2\r\n".repeat(50).as_slice());
    let mut count = 0;
    while let Some(reply) = decoder.decode(&mut buffer).unwrap() {
        assert_eq!(reply, Frame::Array(vec![Frame::Integer(1), Frame::Integer(2)]));
        count += 1;
    }
    assert_eq!(count, 50);
}
