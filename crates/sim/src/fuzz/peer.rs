//! What another server may send to a member of a founded cluster: any frame, with a checksum that is right. Knows no
//! other server: a liar sits at each of the two others.

use std::collections::{BTreeSet, VecDeque};

use bytes::{BufMut, Bytes, BytesMut};
use quorate_raft::{Entry, HardState, Index, NodeId, Payload, Position, Restored, Term, WriteId};
use quorate_replica::command::{Command, Condition, Operation, Query, Write};
use quorate_replica::entry::{self, StateLimits};
use quorate_replica::replica::{Actions, Config, ConnectionId, Event, Replica, Request};
use quorate_replica::wire::{self, PeerEnvelope};
use quorate_storage::{Identity, Incarnation, Member, Start, Starts};

use super::input::Input;

/// Ticks that one decision may let pass: more than the longest election timeout.
const TICKS_MAX: u8 = 64;
/// The wall clock of the whole run.
const NOW_MS: u64 = 1_700_000_000_000;

/// A member, and liars around it. Each decision is a byte: time passes, a write is synced, a client asks, or a frame
/// arrives, whose bytes follow.
///
/// # Panics
/// If the server panics; if a frame that is understood is not the one that is written for it; if the server writes
/// one that nobody understands.
pub fn peer(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    let _ = wire::decode(&bytes);
    let _ = entry::parse(&bytes);
    let _ = entry::parse_items(&bytes);
    let mut input = Input(data);
    let mut server = Server::new(input.byte() & 1 != 0);
    while !input.is_empty() && !server.has_halted {
        server.decision(&mut input);
    }
}

struct Server {
    replica: Replica,
    writes: VecDeque<WriteId>,
    requests: u64,
    has_halted: bool,
}

fn id(number: u64) -> NodeId {
    NodeId::new(number).expect("one or more")
}

/// The incarnation of each member's folder.
fn incarnation(of: NodeId) -> Incarnation {
    Incarnation(0x100 + of.get())
}

fn identity() -> Identity {
    let members = [1, 2, 3].map(|number| Member { id: id(number), incarnation: incarnation(id(number)) });
    Identity::new(id(1), incarnation(id(1))).founded(&members)
}

/// The starts of the others that were heard.
fn starts() -> Starts {
    let mut starts = Starts::default();
    for from in [2, 3].map(id) {
        let is_heard = starts.hear((from, incarnation(from)), Start { number: 1, draw: 1 }, |_, _| true);
        assert!(is_heard, "there is room for two");
    }
    starts
}

/// A log with a founding entry, a batch and a term change.
fn some_log() -> Restored {
    let payloads = [
        (1, Payload::Noop),
        (1, Payload::Data(entry::founding(&StateLimits::default()))),
        (1, Payload::Data(entry::batch(NOW_MS, &[entry::open_gateway(id(2), 7, 7)]))),
        (2, Payload::Noop),
    ];
    let entries = (1..)
        .zip(payloads)
        .map(|(index, (term, payload))| Entry { position: Position::new(Term(term), Index(index)), payload });
    let hard_state = HardState { term: Term(2), vote: Some(id(2)) };
    Restored {
        hard_state,
        base: Position::ZERO,
        entries: entries.collect(),
        snapshot: Position::ZERO,
        membership: None,
    }
}

impl Server {
    fn new(has_log: bool) -> Self {
        let members: BTreeSet<NodeId> = [1, 2, 3].map(id).into();
        let restored = if has_log { some_log() } else { Restored::default() };
        let (replica, actions) =
            Replica::new(Config::new(id(1), members, 1, 1), identity(), starts(), restored, None, NOW_MS);
        let mut server = Self { replica, writes: VecDeque::new(), requests: 0, has_halted: false };
        server.perform(actions);
        server
    }

    fn decision(&mut self, input: &mut Input<'_>) {
        match input.byte() {
            ticks @ 0..TICKS_MAX => (0..=ticks).for_each(|_| self.happens(Event::Tick)),
            64..96 => {
                if let Some(write) = self.writes.pop_front() {
                    self.happens(Event::Persisted(write));
                }
            }
            96..112 => self.ask(input.byte()),
            112..116 => self.happens(Event::LinkUp(id(2 + u64::from(input.byte() & 1)))),
            116..120 => self.happens(Event::Disconnected(ConnectionId(u64::from(input.byte() & 3)))),
            120..128 => {
                let length = usize::from(input.number()) % 4_096;
                self.frame(input.take(length));
            }
            kind => self.honest_looking(kind, input),
        }
    }

    fn ask(&mut self, kind: u8) {
        self.requests += 1;
        let (key, value) = (Bytes::from_static(b"key"), Bytes::from_static(b"value"));
        let operation = match kind % 4 {
            0 => Operation::Read(Query::Get { key }),
            1 => Operation::Write(Write::Plain(Command::Append { key, value })),
            2 => Operation::Write(Write::OpenSession { ttl_ms: None }),
            _ => {
                let command = Command::Put { key, value, condition: Condition::Always, get: false };
                Operation::Write(Write::Plain(command))
            }
        };
        let connection = ConnectionId(u64::from(kind >> 6));
        self.happens(Event::Request(Request { connection, tag: self.requests, operation }));
    }

    /// A frame whose header is right, so that all turns on its body.
    fn honest_looking(&mut self, kind: u8, input: &mut Input<'_>) {
        let from = id(2 + u64::from(kind & 1));
        let length = usize::from(input.byte());
        let mut body = BytesMut::new();
        body.put_u128_le(identity().cluster().expect("founded").get());
        body.put_u64_le(from.get());
        body.put_u64_le(1);
        body.put_u64_le(incarnation(from).0);
        // Mostly the start that is known; sometimes a newer one, or an older.
        body.put_u64_le(if kind & 0x70 == 0x70 { u64::from(kind & 6) } else { 1 });
        body.put_u64_le(1);
        body.put_slice(input.take(length));
        self.frame(&body);
    }

    /// All of a frame but its checksum.
    fn frame(&mut self, body: &[u8]) {
        let mut frame = BytesMut::new();
        frame.put_u32_le(crc32c::crc32c(body));
        frame.put_slice(body);
        let frame = frame.freeze();
        let Ok(envelope) = wire::decode(&frame) else { return };
        assert_eq!(written(&envelope), frame, "{envelope:?} is written in two ways");
        self.happens(Event::Peer(envelope));
    }

    fn happens(&mut self, event: Event) {
        if self.has_halted {
            return;
        }
        let actions = self.replica.step(NOW_MS, &mut vec![event]);
        self.perform(actions);
    }

    fn perform(&mut self, actions: Actions) {
        let Actions { send, persist, halt, .. } = actions;
        // A leader that lies can make it commit what cannot be: then it stops with a sentence, and does not panic.
        self.has_halted = halt.is_some();
        let promised = persist.iter().flat_map(|write| &write.send_after);
        for envelope in send.iter().chain(promised) {
            let frame = written(envelope);
            assert_eq!(wire::decode(&frame).as_ref(), Ok(envelope));
        }
        self.writes.extend(persist.iter().map(|write| write.write));
    }
}

fn written(envelope: &PeerEnvelope) -> Bytes {
    let mut out = BytesMut::new();
    wire::encode(envelope, &mut out);
    out.freeze()
}
