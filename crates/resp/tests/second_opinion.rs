//! What we write, and what we read, next to what the crate `redis-protocol` makes of the same bytes.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use quorate_resp::{
    CommandDecoder, CommandLimits, Encoder, Frame, Incoming, Protocol, ReplyDecoder, ReplyLimits,
    encode_command,
};
use redis_protocol::{resp2, resp3};

fn bulk(data: Vec<u8>) -> Frame {
    Frame::bulk(data)
}

fn from_resp2(frame: resp2::types::OwnedFrame) -> Frame {
    use resp2::types::OwnedFrame as Other;
    match frame {
        Other::SimpleString(data) => Frame::Simple(data.into()),
        Other::Error(data) => Frame::Error(data.into()),
        Other::Integer(value) => Frame::Integer(value),
        Other::BulkString(data) => bulk(data),
        Other::Array(items) => Frame::Array(items.into_iter().map(from_resp2).collect()),
        Other::Null => Frame::Null,
    }
}

/// `None` for what keeps no order there, and cannot be compared.
fn from_resp3(frame: resp3::types::OwnedFrame) -> Option<Frame> {
    use resp3::types::OwnedFrame as Other;
    let list = |items: Vec<Other>| items.into_iter().map(from_resp3).collect::<Option<Vec<_>>>();
    match frame {
        Other::BlobString { data, .. } => Some(bulk(data)),
        Other::BlobError { data, .. } => Some(Frame::Error(data.into())),
        Other::SimpleString { data, .. } => Some(Frame::Simple(data.into())),
        Other::SimpleError { data, .. } => Some(Frame::Error(data.into())),
        Other::Boolean { data, .. } => Some(Frame::Boolean(data)),
        Other::Null => Some(Frame::Null),
        Other::Number { data, .. } => Some(Frame::Integer(data)),
        Other::Double { data, .. } => Some(Frame::Double(data)),
        Other::BigNumber { data, .. } => Some(Frame::BigNumber(data.into())),
        Other::VerbatimString { data, .. } => Some(Frame::Verbatim { format: *b"txt", text: data.into() }),
        Other::Array { data, .. } => list(data).map(Frame::Array),
        Other::Push { data, .. } => list(data).map(Frame::Push),
        Other::Map { .. } | Other::Set { .. } | Other::Hello { .. } | Other::ChunkedString(_) => None,
    }
}

fn ours(wire: &[u8]) -> Frame {
    let mut buffer = BytesMut::from(wire);
    let reply =
        ReplyDecoder::new(ReplyLimits::default()).decode(&mut buffer).ok().flatten().expect("a whole reply");
    assert!(buffer.is_empty());
    reply
}

fn frame() -> impl Strategy<Value = Frame> {
    let text = || prop::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from);
    let leaf = prop_oneof![
        "[ -~]{0,20}".prop_map(|text| Frame::Simple(text.into())),
        "[ -~]{0,20}".prop_map(|text| Frame::Error(text.into())),
        any::<i64>().prop_map(Frame::Integer),
        text().prop_map(Frame::Bulk),
        Just(Frame::Null),
        prop::num::f64::NORMAL.prop_map(Frame::Double),
        any::<bool>().prop_map(Frame::Boolean),
        text().prop_map(|text| Frame::Verbatim { format: *b"txt", text }),
        "-?[1-9][0-9]{0,30}".prop_map(|digits| Frame::BigNumber(digits.into())),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| prop::collection::vec(inner, 0..4).prop_map(Frame::Array))
}

proptest! {
    #[test]
    fn replies_in_resp2(frame in frame()) {
        let mut wire = BytesMut::new();
        Encoder::new(&mut wire, Protocol::Resp2).frame(&frame);
        let (theirs, bytes) = resp2::decode::decode(&wire).unwrap().expect("a whole reply");
        prop_assert_eq!(bytes, wire.len());
        prop_assert_eq!(ours(&wire), from_resp2(theirs));
    }

    #[test]
    fn replies_in_resp3(frame in frame()) {
        let mut wire = BytesMut::new();
        Encoder::new(&mut wire, Protocol::Resp3).frame(&frame);
        let (theirs, bytes) = resp3::decode::complete::decode(&wire).unwrap().expect("a whole reply");
        prop_assert_eq!(bytes, wire.len());
        prop_assert_eq!(Some(ours(&wire)), from_resp3(theirs));
    }

    #[test]
    fn commands(arguments in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..30), 1..6)) {
        let mut wire = BytesMut::new();
        encode_command(&mut wire, &arguments);
        let (theirs, bytes) = resp2::decode::decode(&wire).unwrap().expect("a whole command");
        prop_assert_eq!(bytes, wire.len());
        let Ok(Some(Incoming::Command(ours))) = CommandDecoder::new(CommandLimits::default()).decode(&mut wire)
        else { panic!("no command") };
        let ours = ours.into_arguments().into_iter().map(Frame::Bulk).collect();
        prop_assert_eq!(Frame::Array(ours), from_resp2(theirs));
    }
}
