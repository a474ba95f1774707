//! What clients and servers of the Redis protocol may send: any bytes, however they are cut. Knows no command.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use quorate_resp::{
    CommandDecoder, CommandLimits, Encoder, Frame, Incoming, Protocol, ReplyDecoder, ReplyLimits,
    encode_command,
};

/// Both decoders over the same bytes. The first byte says how the stream is cut and which limits hold.
///
/// # Panics
/// If a decoder panics, if what it finds depends on how the stream was cut, or if what it understood does not come
/// back when it is said again.
pub fn frames(data: &[u8]) {
    let Some((&control, wire)) = data.split_first() else { return };
    let (is_small, is_guest, chunk) = (control & 1 != 0, control & 2 != 0, 1 + usize::from(control >> 2));
    commands(wire, is_small, is_guest, chunk);
    replies(wire, is_small, chunk);
}

/// What a decoder says to a stream that arrives in chunks.
fn decoded<T, E: Clone + Debug + PartialEq>(
    wire: &[u8],
    chunk: usize,
    mut decode: impl FnMut(&mut BytesMut) -> Result<Option<T>, E>,
) -> (Vec<T>, Option<E>) {
    let mut buffer = BytesMut::new();
    let mut values = Vec::new();
    for piece in wire.chunks(chunk.max(1)) {
        buffer.extend_from_slice(piece);
        loop {
            match decode(&mut buffer) {
                Ok(Some(value)) => values.push(value),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(decode(&mut buffer).err(), Some(error.clone()), "an error that does not last");
                    return (values, Some(error));
                }
            }
        }
    }
    (values, None)
}

fn commands(wire: &[u8], is_small: bool, is_guest: bool, chunk: usize) {
    let limits = if is_small {
        CommandLimits {
            inline_bytes_max: 32,
            arguments_max: 4,
            command_bytes_max: 48,
            ..CommandLimits::DEFAULT
        }
    } else {
        CommandLimits::DEFAULT
    };
    let decoder = || {
        let mut decoder = CommandDecoder::new(limits);
        decoder.set_authenticated(!is_guest);
        decoder
    };
    let (mut one, mut other) = (decoder(), decoder());
    let whole = decoded(wire, wire.len(), |buffer| one.decode(buffer));
    let pieces = decoded(wire, chunk, |buffer| {
        let room = other.room_wanted(buffer.len(), 16);
        assert!(room <= buffer.len().max(16), "room of {room} bytes for {} that arrived", buffer.len());
        other.decode(buffer)
    });
    assert_eq!(whole, pieces, "commands depend on how the stream is cut");
    for incoming in whole.0 {
        let Incoming::Command(command) = incoming else { continue };
        let mut again = BytesMut::new();
        encode_command(&mut again, command.arguments());
        let found = CommandDecoder::new(CommandLimits::DEFAULT).decode(&mut again);
        assert_eq!(found, Ok(Some(Incoming::Command(command))));
    }
}

fn replies(wire: &[u8], is_small: bool, chunk: usize) {
    let limits = if is_small {
        ReplyLimits { line_bytes_max: 32, reply_bytes_max: 256, elements_max: 16, depth_max: 3 }
    } else {
        ReplyLimits::DEFAULT
    };
    let (mut one, mut other) = (ReplyDecoder::new(limits), ReplyDecoder::new(limits));
    let whole = decoded(wire, wire.len(), |buffer| one.decode(buffer));
    let pieces = decoded(wire, chunk, |buffer| other.decode(buffer));
    // As text: a double may be no number, and that equals nothing.
    assert_eq!(format!("{whole:?}"), format!("{pieces:?}"), "replies depend on how the stream is cut");
    for frame in &whole.0 {
        let _ = said(frame, Protocol::Resp2);
        let once = said(frame, Protocol::Resp3);
        let mut buffer = BytesMut::from(&once[..]);
        let found = ReplyDecoder::new(ReplyLimits::DEFAULT).decode(&mut buffer);
        let found = found.ok().flatten().expect("what we write is a reply");
        assert_eq!(said(&found, Protocol::Resp3), once, "{frame:?} comes back as {found:?}");
    }
}

fn said(frame: &Frame, protocol: Protocol) -> Bytes {
    let mut out = BytesMut::new();
    Encoder::new(&mut out, protocol).frame(frame);
    out.freeze()
}
