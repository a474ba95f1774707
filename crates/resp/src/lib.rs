//! The Redis protocol, both directions: RESP2, RESP3 and inline commands. Knows bytes; must not know the cluster,
//! sockets, clocks or async.
//!
//! | who | decodes | encodes |
//! |---|---|---|
//! | server | [`CommandDecoder`]: commands, zero-copy, incremental | [`Encoder`]: replies in the connection's [`Protocol`] |
//! | client | [`ReplyDecoder`]: replies as [`Frame`]s, incremental | [`encode_command`] |
//!
//! Both decoders take from a `bytes::BytesMut` that the caller fills: they consume what they have understood, keep
//! what they know about the rest, and look at no byte twice, however the stream was cut. Nothing is reserved on an
//! announcement alone: memory grows with the bytes that have arrived.
//!
//! ```
//! use bytes::BytesMut;
//! use quorate_resp::{CommandDecoder, CommandLimits, Encoder, Incoming, Protocol};
//!
//! let mut decoder = CommandDecoder::new(CommandLimits::default());
//! let mut input = BytesMut::from(&b"*2\r\n$4\r\nECHO\r\n$2\r\nhi\r\nPIN"[..]);
//! let mut output = BytesMut::new();
//! while let Some(incoming) = decoder.decode(&mut input)? {
//!     match incoming {
//!         Incoming::Command(command) => {
//!             let text = command.arguments().last().cloned().unwrap_or_default();
//!             Encoder::new(&mut output, Protocol::Resp2).bulk(&text);
//!         }
//!         Incoming::TooLarge(refusal) => {
//!             Encoder::new(&mut output, Protocol::Resp2).error(&refusal.to_string());
//!         }
//!     }
//! }
//! assert_eq!(&output[..], b"$2\r\nhi\r\n");
//! # Ok::<(), quorate_resp::ProtocolError>(())
//! ```

#![forbid(unsafe_code)]

mod decode;
mod encode;
mod frame;
mod number;

pub use decode::command::{
    Command, CommandDecoder, CommandLimits, Incoming, ProtocolError, TooLarge, UNAUTHENTICATED_ARGUMENTS_MAX,
    UNAUTHENTICATED_BULK_BYTES_MAX,
};
pub use decode::reply::{ReplyDecoder, ReplyError, ReplyLimits};
pub use encode::{Encoder, encode_command};
pub use frame::{Frame, Protocol};
pub use number::parse_integer;
