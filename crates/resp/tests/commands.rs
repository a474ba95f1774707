//! What a server makes of the bytes of its clients: commands, refusals, and Redis's own words for a broken stream.

use bytes::{Bytes, BytesMut};
use quorate_resp::{CommandDecoder, CommandLimits, Incoming, ProtocolError, TooLarge};

const SMALL: CommandLimits = CommandLimits {
    inline_bytes_max: 32,
    protocol_arguments_max: 100,
    protocol_bulk_bytes_max: 1_000,
    arguments_max: 4,
    command_bytes_max: 64,
};

/// All that is in `input`: one line for each command or refusal, and the error that ended it.
fn decode_with(decoder: &mut CommandDecoder, input: &[u8]) -> String {
    let mut buffer = BytesMut::from(input);
    let mut story = Vec::new();
    loop {
        match decoder.decode(&mut buffer) {
            Ok(Some(Incoming::Command(command))) => {
                let words: Vec<String> =
                    command.arguments().iter().map(|word| word.escape_ascii().to_string()).collect();
                story.push(words.join("|"));
            }
            Ok(Some(Incoming::TooLarge(refusal))) => story.push(refusal.to_string()),
            Ok(None) => break,
            Err(error) => {
                story.push(error.to_string());
                break;
            }
        }
    }
    story.join("\n")
}

fn decode(limits: CommandLimits, input: &[u8]) -> String {
    decode_with(&mut CommandDecoder::new(limits), input)
}

#[track_caller]
fn check(input: &[u8], story: &str) {
    assert_eq!(decode(CommandLimits::default(), input), story, "{}", input.escape_ascii());
}

#[track_caller]
fn check_small(input: &[u8], story: &str) {
    assert_eq!(decode(SMALL, input), story, "{}", input.escape_ascii());
}

#[test]
fn commands_as_clients_send_them() {
    check(b"*1\r\n$4\r\nPING\r\n", "PING");
    check(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n", "SET|k|");
    check(b"*2\r\n$3\r\nGET\r\n$4\r\na\r\nb\r\n", r"GET|a\r\nb");
    check(b"*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nQUIT\r\nHELLO 3\r\n", "PING\nQUIT\nHELLO|3");
    check(b"*1\r\n$4\r\nPIN", "");
}

#[test]
fn inline_commands() {
    check(b"HELLO 3\r\n", "HELLO|3");
    check(b"PING\n", "PING");
    check(b"SET k \"a b\\x21\"\r\n", "SET|k|a b!");
    check(b"$4\r\n", "$4");
    check(b"PING", "");
}

#[test]
fn what_is_no_command_is_passed_over() {
    check(b"\r\n\n  \r\n*0\r\n*-1\r\n*-7\r\nPING\r\n", "PING");
    // The end of `redis-cli --pipe`.
    check(b"\r\n*2\r\n$4\r\nECHO\r\n$2\r\nxy\r\n", "ECHO|xy");
}

#[test]
fn a_broken_stream_in_the_words_of_redis() {
    const MULTIBULK: &str = "ERR Protocol error: invalid multibulk length";
    const BULK: &str = "ERR Protocol error: invalid bulk length";
    for input in
        [&b"*x\r\n"[..], b"*\r\n", b"*01\r\n", b"*+1\r\n", b"*2147483648\r\n", b"*1\rx", b"*1\n*1\r\n"]
    {
        check(input, MULTIBULK);
    }
    for input in
        [&b"*1\r\n$x\r\n"[..], b"*1\r\n$\r\n", b"*1\r\n$-1\r\n", b"*1\r\n$536870913\r\n", b"*1\r\n$1\rx"]
    {
        check(input, BULK);
    }
    check(b"*1\r\nx", "ERR Protocol error: expected '$', got 'x'");
    check(b"*2\r\n$4\r\nECHO\r\n:1\r\n", "ERR Protocol error: expected '$', got ':'");
    check(b"*1\r\n\n", "ERR Protocol error: expected '$', got '\\x0a'");
    check(b"*1\r\n$1\r\nab\r\n", "ERR Protocol error: expected line end after bulk, got 'b'");
    check(b"*1\r\n$1\r\na\rb", "ERR Protocol error: expected line end after bulk, got 'b'");
    check(b"SET k \"v\r\n", "ERR Protocol error: unbalanced quotes in request");
    check(b"PING\r\n*x\r\nPING\r\n", "PING\nERR Protocol error: invalid multibulk length");
}

#[test]
fn a_line_without_end_is_a_broken_stream() {
    let long = |prefix: &str| format!("{prefix}{}", "1".repeat(65_537 - prefix.len()));
    check(long("PING").as_bytes(), "ERR Protocol error: too big inline request");
    check(long("*").as_bytes(), "ERR Protocol error: too big mbulk count string");
    let head = long("$");
    check(format!("*1\r\n{head}").as_bytes(), "ERR Protocol error: too big bulk count string");
    check(format!("{}\r\n", "a".repeat(65_536)).as_bytes(), "ERR Protocol error: too big inline request");
    assert_eq!(
        decode(CommandLimits::default(), format!("{}\n", "a".repeat(65_536)).as_bytes()).len(),
        65_536
    );
}

#[test]
fn after_an_error_nothing_more_is_understood() {
    let mut decoder = CommandDecoder::new(CommandLimits::default());
    let mut buffer = BytesMut::from(&b"*x\r\nPING\r\n"[..]);
    for _ in 0..2 {
        assert_eq!(decoder.decode(&mut buffer), Err(ProtocolError::InvalidMultibulkLength));
    }
    assert!(!decoder.is_at_start());
}

#[test]
fn past_our_limits_a_command_is_refused_and_the_connection_goes_on() {
    let value = "v".repeat(60);
    check_small(
        format!("*2\r\n$3\r\nGET\r\n$60\r\n{value}\r\nPING\r\n").as_bytes(),
        "ERR command of 80 bytes exceeds the limit of 64 bytes\nPING",
    );
    check_small(
        b"*5\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n$1\r\nd\r\n$1\r\ne\r\nPING\r\n",
        "ERR command of 5 arguments exceeds the limit of 4 arguments\nPING",
    );
    // At the limit, to the byte.
    let value = "v".repeat(53);
    check_small(format!("*1\r\n$53\r\n{value}\r\n").as_bytes(), &value);
    let value = "v".repeat(54);
    check_small(
        format!("*1\r\n$54\r\n{value}\r\n").as_bytes(),
        "ERR command of 65 bytes exceeds the limit of 64 bytes",
    );
    // What we swallow must still be in step.
    check_small(b"*5\r\n$1\r\na\r\nx", "ERR Protocol error: expected '$', got 'x'");
    check_small(
        format!("*1\r\n$60\r\n{}xx", "v".repeat(60)).as_bytes(),
        "ERR Protocol error: expected line end after bulk, got 'x'",
    );
}

#[test]
fn without_a_password_only_small_commands() {
    let mut decoder = CommandDecoder::new(CommandLimits::default());
    decoder.set_authenticated(false);
    let story = decode_with(&mut decoder, b"*2\r\n$4\r\nAUTH\r\n$1\r\np\r\n*11\r\n");
    assert_eq!(story, "AUTH|p\nERR Protocol error: unauthenticated multibulk length");
    let mut decoder = CommandDecoder::new(CommandLimits::default());
    decoder.set_authenticated(false);
    assert_eq!(
        decode_with(&mut decoder, b"*1\r\n$16385\r\n"),
        "ERR Protocol error: unauthenticated bulk length"
    );
}

#[test]
fn arguments_are_slices_of_the_buffer() {
    let input = BytesMut::from(&b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\nGET other\r\n"[..]);
    let span = input.as_ptr_range();
    let (begin, end) = (span.start as usize, span.end as usize);
    let mut buffer = input;
    let mut decoder = CommandDecoder::new(CommandLimits::default());
    for _ in 0..2 {
        let Some(Incoming::Command(command)) = decoder.decode(&mut buffer).unwrap() else {
            panic!("a command")
        };
        for argument in command.arguments() {
            assert!((begin..end).contains(&(argument.as_ptr() as usize)), "{argument:?} was copied");
        }
    }
}

/// 9 MiB drip in by 1 KiB; looking at all of it at each read would be 40 GiB.
#[test]
fn a_large_command_that_drips_in_costs_its_length() {
    let value = vec![b'v'; 8 << 20];
    let mut wire = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$8388608\r\n".to_vec();
    wire.extend_from_slice(&value);
    wire.extend_from_slice(b"\r\n");
    let mut decoder = CommandDecoder::new(CommandLimits::default());
    let mut buffer = BytesMut::new();
    let mut commands = 0;
    for chunk in wire.chunks(1 << 10) {
        buffer.extend_from_slice(chunk);
        while let Some(incoming) = decoder.decode(&mut buffer).unwrap() {
            let Incoming::Command(command) = incoming else { panic!("it is within the limits") };
            assert_eq!(command.arguments()[2], value);
            commands += 1;
        }
    }
    assert_eq!(commands, 1);
}

/// The same, as a million small arguments, byte by byte in the worst place: the heads.
#[test]
fn many_arguments_that_drip_in_cost_their_length() {
    let count = 200_000;
    let mut wire = format!("*{count}\r\n").into_bytes();
    for _ in 0..count {
        wire.extend_from_slice(b"$1\r\nx\r\n");
    }
    let mut decoder = CommandDecoder::new(CommandLimits::default());
    let mut buffer = BytesMut::new();
    let mut lengths = Vec::new();
    for byte in wire {
        buffer.extend_from_slice(&[byte]);
        if let Some(Incoming::Command(command)) = decoder.decode(&mut buffer).unwrap() {
            lengths.push(command.arguments().len());
        }
    }
    assert_eq!(lengths, [count]);
}

#[test]
fn an_announcement_reserves_nothing() {
    for announcement in ["*1048576\r\n", "*2147483647\r\n", "*1\r\n$536870912\r\n", "*1\r\n$9000000\r\n"] {
        let mut decoder = CommandDecoder::new(CommandLimits::default());
        let mut buffer = BytesMut::from(announcement);
        let room = buffer.capacity();
        assert_eq!(decoder.decode(&mut buffer), Ok(None), "{announcement}");
        assert!(buffer.capacity() <= room);
        assert_eq!(decoder.room_wanted(buffer.len(), 4_096), 4_096);
    }
}

#[test]
fn room_grows_with_what_has_arrived_and_ends_with_the_argument() {
    let mut decoder = CommandDecoder::new(CommandLimits::default());
    let mut buffer = BytesMut::from("*1\r\n$1000000\r\n");
    assert_eq!(decoder.decode(&mut buffer), Ok(None));
    assert_eq!(decoder.room_wanted(100, 4_096), 4_096);
    assert_eq!(decoder.room_wanted(100_000, 4_096), 100_000);
    assert_eq!(decoder.room_wanted(990_000, 4_096), 10_000);
    assert_eq!(decoder.room_wanted(999_999, 4_096), 4_096);
}

/// What is refused leaves no trace in the buffer while it is still arriving.
#[test]
fn a_refused_command_is_not_buffered() {
    let mut decoder = CommandDecoder::new(CommandLimits::default());
    let mut buffer = BytesMut::from("*2\r\n$3\r\nSET\r\n$104857600\r\n");
    let chunk = vec![b'v'; 1 << 20];
    for _ in 0..100 {
        assert_eq!(decoder.decode(&mut buffer), Ok(None));
        assert!(buffer.is_empty());
        buffer.extend_from_slice(&chunk);
    }
    buffer.extend_from_slice(b"\r\nPING\r\n");
    let refusal = TooLarge::Bytes { bytes: 104_857_600 + 27, command_bytes_max: 9 << 20 };
    assert_eq!(decoder.decode(&mut buffer), Ok(Some(Incoming::TooLarge(refusal))));
    let Ok(Some(Incoming::Command(command))) = decoder.decode(&mut buffer) else { panic!("a command") };
    assert_eq!(command.name(), &Bytes::from_static(b"PING"));
    assert!(buffer.capacity() <= 4 << 20, "{}", buffer.capacity());
}
