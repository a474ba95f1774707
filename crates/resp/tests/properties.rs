//! What must hold for every stream: however it is cut it says the same; what is written reads back; garbage neither
//! panics nor costs more than its length.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use quorate_resp::{
    CommandDecoder, CommandLimits, Encoder, Frame, Incoming, Protocol, ProtocolError, ReplyDecoder,
    ReplyError, ReplyLimits, encode_command,
};

const SMALL_COMMANDS: CommandLimits = CommandLimits {
    inline_bytes_max: 24,
    protocol_arguments_max: 40,
    protocol_bulk_bytes_max: 200,
    arguments_max: 6,
    command_bytes_max: 80,
};
const SMALL_REPLIES: ReplyLimits =
    ReplyLimits { line_bytes_max: 24, reply_bytes_max: 120, elements_max: 12, depth_max: 3 };

type Commands = (Vec<Incoming>, Option<ProtocolError>);
type Replies = (Vec<Frame>, Option<ReplyError>);

/// Cuts `stream` at `cuts`, which wrap around its length.
fn pieces<'a>(stream: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
    cuts.extend([0, stream.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect()
}

fn commands(limits: CommandLimits, pieces: &[&[u8]]) -> Commands {
    let mut decoder = CommandDecoder::new(limits);
    let mut buffer = BytesMut::new();
    let mut all = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(incoming)) => all.push(incoming),
                Ok(None) => break,
                Err(error) => return (all, Some(error)),
            }
        }
    }
    (all, None)
}

fn replies(limits: ReplyLimits, pieces: &[&[u8]]) -> Replies {
    let mut decoder = ReplyDecoder::new(limits);
    let mut buffer = BytesMut::new();
    let mut all = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(reply)) => all.push(reply),
                Ok(None) => break,
                Err(error) => return (all, Some(error)),
            }
        }
    }
    (all, None)
}

/// Bytes that are likely to mean something to a decoder: random ones would be refused at the first.
fn plausible_stream() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
            Just(b"\r\n".to_vec()),
            Just(b"\n".to_vec()),
            Just(b"\r".to_vec()),
            Just(b"PING\r\n".to_vec()),
            Just(b"*1\r\n$4\r\nPING\r\n".to_vec()),
            Just(b"*2\r\n$4\r\nECHO\r\n$2\r\nhi\r\n".to_vec()),
            Just(b"*8\r\n".to_vec()),
            Just(b"SET k \"a b\"\r\n".to_vec()),
            Just(b"*2\r\n+a\r\n:1\r\n".to_vec()),
            Just(b"%1\r\n_\r\n,1.5\r\n".to_vec()),
            Just(b"|1\r\n+a\r\n#t\r\n".to_vec()),
            Just(b"=6\r\ntxt:hi\r\n".to_vec()),
            (0_u16..90).prop_map(|n| [
                format!("${n}\r\n").into_bytes(),
                vec![b'v'; n.into()],
                b"\r\n".to_vec()
            ]
            .concat()),
            (prop::sample::select(b"+-:$*%~>|,#=(!_\"' ".to_vec()), -2_i16..60).prop_map(|(kind, n)| [
                &[kind],
                format!("{n}\r\n").as_bytes()
            ]
            .concat()),
            prop::collection::vec(any::<u8>(), 0..40),
        ];
    prop::collection::vec(token, 0..12).prop_map(|tokens| tokens.concat())
}

fn text() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from)
}

fn line() -> impl Strategy<Value = Bytes> {
    "[ -~]{0,20}".prop_map(Bytes::from)
}

fn frame() -> impl Strategy<Value = Frame> {
    let leaf = prop_oneof![
        line().prop_map(Frame::Simple),
        line().prop_map(Frame::Error),
        any::<i64>().prop_map(Frame::Integer),
        text().prop_map(Frame::Bulk),
        Just(Frame::Null),
        prop::num::f64::NORMAL.prop_map(Frame::Double),
        Just(Frame::Double(f64::NEG_INFINITY)),
        any::<bool>().prop_map(Frame::Boolean),
        text().prop_map(|text| Frame::Verbatim { format: *b"txt", text }),
        "-?[1-9][0-9]{0,30}".prop_map(|digits| Frame::BigNumber(Bytes::from(digits))),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Frame::Array),
            prop::collection::vec(inner.clone(), 0..4).prop_map(Frame::Set),
            prop::collection::vec(inner.clone(), 0..4).prop_map(Frame::Push),
            prop::collection::vec((inner.clone(), inner), 0..4).prop_map(Frame::Map),
        ]
    })
}

/// What is left of a reply once RESP2 has said it.
fn as_resp2(frame: &Frame) -> Frame {
    let list = |items: &[Frame]| Frame::Array(items.iter().map(as_resp2).collect());
    match frame {
        Frame::Array(items) | Frame::Set(items) | Frame::Push(items) => list(items),
        Frame::Map(pairs) => {
            Frame::Array(pairs.iter().flat_map(|(key, value)| [as_resp2(key), as_resp2(value)]).collect())
        }
        Frame::Double(value) => {
            let mut out = BytesMut::new();
            Encoder::new(&mut out, Protocol::Resp3).double(*value);
            Frame::bulk(Bytes::copy_from_slice(&out[1..out.len() - 2]))
        }
        Frame::Boolean(value) => Frame::Integer(i64::from(*value)),
        Frame::Verbatim { text, .. } | Frame::BigNumber(text) => Frame::Bulk(text.clone()),
        Frame::Simple(_) | Frame::Error(_) | Frame::Integer(_) | Frame::Bulk(_) | Frame::Null => {
            frame.clone()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn a_stream_of_commands_means_the_same_however_it_is_cut(
        stream in plausible_stream(), cuts in prop::collection::vec(any::<usize>(), 0..8),
    ) {
        let whole = commands(SMALL_COMMANDS, &[&stream]);
        prop_assert_eq!(&commands(SMALL_COMMANDS, &pieces(&stream, &cuts)), &whole);
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        prop_assert_eq!(&commands(SMALL_COMMANDS, &bytes), &whole);
    }

    #[test]
    fn a_stream_of_replies_means_the_same_however_it_is_cut(
        stream in plausible_stream(), cuts in prop::collection::vec(any::<usize>(), 0..8),
    ) {
        let whole = replies(SMALL_REPLIES, &[&stream]);
        // Not by value: a NaN is not equal to itself.
        let whole = format!("{whole:?}");
        prop_assert_eq!(format!("{:?}", replies(SMALL_REPLIES, &pieces(&stream, &cuts))), whole.clone());
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        prop_assert_eq!(format!("{:?}", replies(SMALL_REPLIES, &bytes)), whole);
    }

    #[test]
    fn a_command_reads_back(all in prop::collection::vec(prop::collection::vec(text(), 1..6), 0..6)) {
        let mut wire = BytesMut::new();
        for arguments in &all {
            encode_command(&mut wire, arguments);
        }
        let (decoded, error) = commands(CommandLimits::default(), &[&wire]);
        prop_assert_eq!(error, None);
        let decoded: Vec<Vec<Bytes>> = decoded
            .into_iter()
            .map(|incoming| match incoming {
                Incoming::Command(command) => command.into_arguments(),
                Incoming::TooLarge(refusal) => panic!("{refusal}"),
            })
            .collect();
        prop_assert_eq!(decoded, all);
    }

    #[test]
    fn a_reply_reads_back_in_both_protocols(frame in frame()) {
        for (protocol, expected) in [(Protocol::Resp3, frame.clone()), (Protocol::Resp2, as_resp2(&frame))] {
            let mut wire = BytesMut::new();
            Encoder::new(&mut wire, protocol).frame(&frame);
            let (decoded, error) = replies(ReplyLimits::default(), &[&wire]);
            prop_assert_eq!(error, None);
            prop_assert_eq!(decoded, vec![expected]);
        }
    }

    #[test]
    fn an_inline_command_in_quotes_reads_back(words in prop::collection::vec(text(), 1..5)) {
        let quoted: Vec<String> = words
            .iter()
            .map(|word| word.iter().fold(String::from("\""), |text, byte| format!("{text}\\x{byte:02x}")) + "\"")
            .collect();
        let wire = format!("{}\r\n", quoted.join(" "));
        let (decoded, error) = commands(CommandLimits::default(), &[wire.as_bytes()]);
        prop_assert_eq!(error, None);
        let Some(Incoming::Command(command)) = decoded.into_iter().next() else { panic!("no command") };
        prop_assert_eq!(command.into_arguments(), words);
    }

    #[test]
    fn garbage_never_panics(stream in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = commands(SMALL_COMMANDS, &[&stream]);
        let _ = commands(CommandLimits::default(), &[&stream]);
        let _ = replies(SMALL_REPLIES, &[&stream]);
        let _ = replies(ReplyLimits::default(), &[&stream]);
    }
}
