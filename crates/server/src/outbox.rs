//! The answers of one connection, in the order of its commands, and the bytes of them that were not written yet. Must
//! not know sockets, nor who answers.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use quorate_replica::command::Reply;
use quorate_replica::value::Value;
use quorate_resp::{Encoder, Protocol};

use crate::command::members;

/// Bytes that are encoded ahead of the socket. A value above [`VALUE_COPIED_BYTES_MAX`] is not among them.
const ENCODED_BYTES_MAX: usize = 64 << 10;
/// Values up to so many bytes are copied into the encoded bytes; larger ones are written from where they are.
const VALUE_COPIED_BYTES_MAX: usize = 16 << 10;
/// Bytes that an answer counts, besides those of its values.
const SLOT_BYTES: usize = 64;
/// Bytes that an answer about the members counts: it is bounded by how many there may be.
const MEMBERS_COST_BYTES: usize = 8 << 10;

/// What is owed to one client.
///
/// A command takes a slot when it is read; slots leave from the front, and only once they are answered, so answers
/// keep the order of their commands whatever order they come in.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    slots: VecDeque<Slot>,
    /// The tag of the front slot.
    first_tag: u64,
    /// Slots without an answer.
    waiting: usize,
    /// Bytes of their commands.
    waiting_bytes: usize,
    /// What all answers in slots count.
    held_bytes: usize,
    /// Encoded, to be written first.
    encoded: BytesMut,
    /// Then the rest of this value, and a line end.
    value: Option<(Value, usize)>,
    /// Then the other values of the answer under way.
    rest: Option<(std::vec::IntoIter<Option<Value>>, Protocol)>,
}

/// One command's place in the order.
#[derive(Debug)]
struct Slot {
    /// What the client spoke when it sent the command.
    protocol: Protocol,
    /// The client wants no answer.
    is_silent: bool,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Waiting {
        /// Of the command.
        bytes: usize,
    },
    Encoded(Bytes),
    Reply(Reply),
}

impl Outbox {
    /// Takes a place for an answer that comes later, under the tag that is returned; the command has so many bytes.
    pub(crate) fn expect(&mut self, protocol: Protocol, is_silent: bool, bytes: usize) -> u64 {
        let tag = self.first_tag + self.slots.len() as u64;
        self.slots.push_back(Slot { protocol, is_silent, content: Content::Waiting { bytes } });
        self.waiting_bytes += bytes;
        self.waiting += 1;
        tag
    }

    /// An answer that is there at once; it leaves after those before it. Empties `bytes`.
    pub(crate) fn push(&mut self, bytes: &mut BytesMut) {
        if self.slots.is_empty() && self.value.is_none() && self.rest.is_none() {
            self.encoded.put_slice(bytes);
            bytes.clear();
            return;
        }
        let content = Content::Encoded(Bytes::copy_from_slice(bytes));
        bytes.clear();
        self.held_bytes += content.cost();
        self.slots.push_back(Slot { protocol: Protocol::Resp2, is_silent: false, content });
    }

    /// The answer for a tag.
    ///
    /// # Panics
    /// If there is no such place, or it is answered already: the replica answers each request once.
    pub(crate) fn answer(&mut self, tag: u64, reply: Reply) {
        let at = tag.checked_sub(self.first_tag).and_then(|at| usize::try_from(at).ok());
        let slot =
            at.and_then(|at| self.slots.get_mut(at)).expect("an answer to a request that was not asked");
        let Content::Waiting { bytes } = slot.content else { panic!("a request was answered twice") };
        self.waiting_bytes -= bytes;
        slot.content = if slot.is_silent { Content::Encoded(Bytes::new()) } else { Content::Reply(reply) };
        self.held_bytes += slot.content.cost();
        self.waiting -= 1;
    }

    /// Commands that are not answered yet.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Bytes of those commands.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// What the client has not been sent yet, counted as memory that it may cost.
    pub(crate) fn unsent_bytes(&self) -> usize {
        let value = self.value.as_ref().map_or(0, |(value, written)| value.len() - written);
        self.held_bytes + self.encoded.len() + value
    }

    /// Whether nothing is owed, answered or not.
    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.encoded.is_empty() && self.value.is_none() && self.rest.is_none()
    }

    /// What answers are laid out in: lent while there is something to write, and given back.
    pub(crate) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.encoded
    }

    /// The next bytes to write, as up to two pieces; both empty if nothing can be written now.
    pub(crate) fn pieces(&mut self) -> (&[u8], &[u8]) {
        self.fill();
        let value = self.value.as_ref().map_or(&[][..], |(value, written)| value.piece_at(*written));
        (&self.encoded, value)
    }

    /// So many bytes of [`Outbox::pieces`] were written.
    pub(crate) fn written(&mut self, bytes: usize) {
        let encoded = bytes.min(self.encoded.len());
        self.encoded.advance(encoded);
        if let Some((value, written)) = &mut self.value {
            *written += bytes - encoded;
            assert!(*written <= value.len(), "more was written than there was");
            if *written == value.len() {
                self.value = None;
                self.encoded.put_slice(b"\r\n");
            }
        } else {
            assert!(encoded == bytes, "more was written than there was");
        }
    }

    /// Encodes answers from the front until there is enough to write, or an answer is missing.
    fn fill(&mut self) {
        while self.encoded.len() < ENCODED_BYTES_MAX && self.value.is_none() {
            if let Some((values, protocol)) = &mut self.rest {
                let protocol = *protocol;
                match values.next() {
                    Some(value) => {
                        self.held_bytes -= value_cost(value.as_ref());
                        self.put_value(value, protocol);
                    }
                    None => self.rest = None,
                }
                continue;
            }
            match self.slots.front() {
                Some(slot) if !matches!(slot.content, Content::Waiting { .. }) => {}
                Some(_) | None => return,
            }
            let slot = self.slots.pop_front().expect("it was just there");
            self.first_tag += 1;
            self.put(slot);
        }
    }

    fn put(&mut self, slot: Slot) {
        let protocol = slot.protocol;
        self.held_bytes -= slot.content.cost();
        let mut encoder = Encoder::new(&mut self.encoded, protocol);
        match slot.content {
            Content::Waiting { .. } => unreachable!("only answered slots leave"),
            Content::Encoded(bytes) => self.encoded.put_slice(&bytes),
            Content::Reply(reply) => match reply {
                Reply::Ok => encoder.ok(),
                Reply::Nil => encoder.null(),
                Reply::Integer(number) => encoder.integer(number),
                Reply::Session(session) => encoder.bulk(session.to_string().as_bytes()),
                Reply::Error(error) => encoder.error(&error.to_string()),
                Reply::Members(members) => members::put(&mut encoder, &members),
                Reply::Value(value) => self.put_value(Some(value), protocol),
                Reply::Values(values) => {
                    encoder.array(values.len());
                    // They go on counting until each is written.
                    self.held_bytes += values.iter().map(|value| value_cost(value.as_ref())).sum::<usize>();
                    self.rest = Some((values.into_iter(), protocol));
                }
            },
        }
    }

    fn put_value(&mut self, value: Option<Value>, protocol: Protocol) {
        match value {
            Some(value) if value.len() > VALUE_COPIED_BYTES_MAX => {
                self.encoded.put_slice(format!("${}\r\n", value.len()).as_bytes());
                self.value = Some((value, 0));
            }
            value => {
                let bytes = value.as_ref().map(Value::to_bytes);
                Encoder::new(&mut self.encoded, protocol).bulk_or_null(bytes.as_deref());
            }
        }
    }
}

impl Content {
    fn cost(&self) -> usize {
        match self {
            Self::Waiting { .. } => 0,
            Self::Encoded(bytes) => SLOT_BYTES + bytes.len(),
            Self::Reply(reply) => SLOT_BYTES + cost(reply),
        }
    }
}

fn value_cost(value: Option<&Value>) -> usize {
    SLOT_BYTES + value.map_or(0, Value::len)
}

fn cost(reply: &Reply) -> usize {
    match reply {
        Reply::Value(value) => value.len(),
        Reply::Values(values) => values.iter().map(|value| value_cost(value.as_ref())).sum(),
        Reply::Members(_) => MEMBERS_COST_BYTES,
        Reply::Ok | Reply::Nil | Reply::Integer(_) | Reply::Session(_) | Reply::Error(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that can be written now, in pieces of at most `step` bytes.
    fn drain(outbox: &mut Outbox, step: usize) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let (first, second) = outbox.pieces();
            let joined: Vec<u8> = first.iter().chain(second).copied().take(step).collect();
            if joined.is_empty() {
                return all;
            }
            outbox.written(joined.len());
            all.extend_from_slice(&joined);
        }
    }

    #[test]
    fn answers_leave_in_the_order_of_their_commands() {
        let mut outbox = Outbox::default();
        let one = outbox.expect(Protocol::Resp2, false, 100);
        outbox.push(&mut BytesMut::from("+PONG\r\n"));
        let two = outbox.expect(Protocol::Resp3, false, 20);
        let silent = outbox.expect(Protocol::Resp2, true, 3);
        outbox.answer(silent, Reply::Ok);
        outbox.answer(two, Reply::Nil);
        assert_eq!(drain(&mut outbox, 99), b"");
        assert_eq!((outbox.waiting(), outbox.waiting_bytes()), (1, 100));
        outbox.answer(one, Reply::Integer(7));
        assert_eq!(drain(&mut outbox, 99), b":7\r\n+PONG\r\n_\r\n");
        assert!(outbox.is_empty());
        assert_eq!((outbox.unsent_bytes(), outbox.waiting_bytes()), (0, 0));
    }

    #[test]
    fn large_values_are_written_whole_whatever_the_socket_takes() {
        let large = Value::copy_from(&[b'x'; 100_000]);
        let small = Value::copy_from(b"small");
        for step in [1, 7, 4_096, usize::MAX] {
            let mut outbox = Outbox::default();
            let values = vec![Some(large.clone()), None, Some(small.clone()), Some(large.clone())];
            let tag = outbox.expect(Protocol::Resp2, false, 100);
            let next = outbox.expect(Protocol::Resp2, false, 100);
            outbox.answer(tag, Reply::Values(values));
            outbox.answer(next, Reply::Value(large.clone()));
            assert!(outbox.unsent_bytes() > 300_000);
            let text = "x".repeat(100_000);
            let expected = format!(
                "*4\r\n$100000\r\n{text}\r\n$-1\r\n$5\r\nsmall\r\n$100000\r\n{text}\r\n$100000\r\n{text}\r\n"
            );
            assert!(drain(&mut outbox, step) == expected.as_bytes(), "in steps of {step}");
            assert!(outbox.is_empty());
            assert_eq!(outbox.unsent_bytes(), 0);
        }
    }

    #[test]
    fn what_is_encoded_ahead_is_bounded_and_what_is_unsent_is_counted() {
        let mut outbox = Outbox::default();
        let value = Value::copy_from(&[b'x'; 10_000]);
        for _ in 0..1_000 {
            let tag = outbox.expect(Protocol::Resp2, false, 100);
            outbox.answer(tag, Reply::Value(value.clone()));
        }
        assert!(outbox.pieces().0.len() < ENCODED_BYTES_MAX + 10_100);
        assert!(outbox.unsent_bytes() >= 10_000_000);
    }

    #[test]
    #[should_panic(expected = "answered twice")]
    fn a_second_answer_is_a_bug_of_ours() {
        let mut outbox = Outbox::default();
        outbox.expect(Protocol::Resp2, false, 100);
        let tag = outbox.expect(Protocol::Resp2, false, 100);
        outbox.answer(tag, Reply::Ok);
        outbox.answer(tag, Reply::Ok);
    }
}
