//! Machines that have applied anything, laid out and made again.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use quorate_raft::{Entry, Index, Membership, NodeId, Payload, Position, Term};
use quorate_storage::snapshot::BLOCK_BYTES_MAX;
use quorate_storage::{ClusterId, Incarnation, SimDisk, SnapshotWriter};

use super::*;
use crate::command::{Command, Condition, Reply, Seq};
use crate::entry::{self, LoggedWrite, RunHead};
use crate::machine::{Machine, Nobody, Witness};
use crate::seat::Seat;

const NOW_MS: u64 = 1_700_000_000_000;

fn cluster() -> ClusterId {
    ClusterId::new(0x0123_4567_89ab_cdef_0011_2233_4455_6677).unwrap()
}

/// Small, so that all of them are met.
fn limits() -> StateLimits {
    StateLimits {
        key_bytes_max: 3,
        value_bytes_max: 300,
        session_window: 4,
        session_reply_bytes_max: 600,
        sessions_max: 3,
        session_ttl_ms: 400,
        gateway_ttl_ms: 500,
        session_ttl_ms_max: 1_000,
    }
}

/// A command of a gateway; sessions are named by their place among all that were opened.
#[derive(Clone, Debug)]
enum Wish {
    Plain(Command),
    Open(Option<u64>),
    Once(usize, u64, u64, Command),
    Close(usize),
}

/// What the next entry is to hold.
#[derive(Clone, Debug)]
enum Step {
    Noop,
    OpenGateway(u64, u64),
    /// Who votes from now on, and where the first of them is.
    Members(u64, String),
    /// Milliseconds that pass, a server, and its commands.
    Run(u64, u64, Vec<Wish>),
}

/// Hears every reply.
#[derive(Default)]
struct Told {
    replies: Vec<(Seq, Reply)>,
    opened: Vec<SessionKey>,
}

impl Witness for Told {
    fn opened(&mut self, _: NodeId, _: u64, _: u64, _: SessionKey) {}
    fn before(&mut self, _: SessionKey, _: Seq, _: &Shards) {}
    fn after(&mut self, _: SessionKey, seq: Seq, reply: &Reply, _: &Shards) {
        if let Reply::Session(id) = reply {
            self.opened.push(id.key);
        }
        self.replies.push((seq, reply.clone()));
    }
    fn gap(&mut self, _: SessionKey, _: u64) {}
}

/// A machine, and who writes to it.
struct Life {
    machine: Machine,
    now_ms: u64,
    opened: Vec<SessionKey>,
}

impl Life {
    /// Founded under these limits.
    fn new(limits: &StateLimits) -> Self {
        let mut life = Self { machine: Machine::new(cluster(), 1), now_ms: NOW_MS, opened: Vec::new() };
        life.apply(Payload::Data(entry::founding(limits)));
        life
    }

    fn apply(&mut self, payload: Payload) -> (Entry, Told) {
        let index = self.machine.applied().next();
        let entry = Entry { position: Position::new(Term(1 + index.0 / 8), index), payload };
        let mut told = Told::default();
        self.machine.apply(&entry, &mut told).unwrap();
        self.opened.extend(&told.opened);
        (entry, told)
    }

    fn step(&mut self, step: Step) -> (Entry, Told) {
        let payload = match step {
            Step::Noop => Payload::Noop,
            Step::Members(count, address) => {
                let id = |id| NodeId::new(id).unwrap();
                let membership = Membership::simple((1..=count).map(id).collect());
                let seat = Seat { incarnation: Incarnation(count), address: address.into() };
                Payload::Membership(Arc::new(membership.with_seat(id(1), seat.to_bytes())))
            }
            Step::OpenGateway(node, start) => {
                let item = entry::open_gateway(NodeId::new(node).unwrap(), start, 1);
                Payload::Data(entry::batch(self.now_ms, &[item]))
            }
            Step::Run(ms, node, wishes) => {
                self.now_ms += ms;
                let writes: Vec<Bytes> =
                    wishes.into_iter().map(|wish| entry::encode_write(&self.logged(wish))).collect();
                let (_, gateways) = self.machine.sessions().parts();
                let gateway = gateways.iter().find(|(_, gateway)| gateway.node.get() == node);
                let items = gateway.map(|(session, gateway)| {
                    let first = Seq(gateway.last.0 + 1);
                    let head = RunHead { session: *session, attempt: 1, acknowledged: Seq(0), first };
                    entry::run(head, writes.iter())
                });
                Payload::Data(entry::batch(self.now_ms, items.as_slice()))
            }
        };
        self.apply(payload)
    }

    fn logged(&self, wish: Wish) -> LoggedWrite {
        let session = |place: usize| {
            let nowhere = SessionKey { index: 1 << 40, place: 0 };
            self.opened.get(place % self.opened.len().max(1)).copied().unwrap_or(nowhere)
        };
        match wish {
            Wish::Plain(command) => LoggedWrite::Plain(command),
            Wish::Open(ttl_ms) => LoggedWrite::OpenSession { ttl_ms },
            Wish::Close(place) => LoggedWrite::CloseSession { session: session(place) },
            Wish::Once(place, seq, acknowledged, command) => LoggedWrite::Once {
                session: session(place),
                seq: Seq(seq),
                acknowledged: Seq(acknowledged.min(seq - 1)),
                checksum: entry::checksum_of(&command),
                command,
            },
        }
    }
}

fn laid_out(machine: &Machine, block_bytes: usize) -> Vec<Bytes> {
    Blocks::new(machine.image(), block_bytes).collect()
}

fn load_at<'a>(position: Position, blocks: impl IntoIterator<Item = &'a [u8]>) -> Result<Machine, LoadError> {
    let blocks: Vec<&[u8]> = blocks.into_iter().collect();
    // Another seed: nothing may depend on it.
    let mut loader = Loader::new(cluster(), position, 2);
    let alone = blocks.iter().try_for_each(|block| loader.block(block)).and_then(|()| loader.finish());
    for lanes in [2, 3] {
        let together = load_in_lanes(position, &blocks, lanes);
        assert_eq!(alone.as_ref().map(Machine::digest).ok(), together.as_ref().map(Machine::digest).ok());
        if let (Ok(alone), Ok(together)) = (&alone, &together) {
            check_equal(alone, together);
        }
    }
    alone
}

fn load_in_lanes(position: Position, blocks: &[&[u8]], lanes: usize) -> Result<Machine, LoadError> {
    let bytes = blocks.iter().map(|block| block.len() as u64).sum();
    let mut splitter = Splitter::new(cluster(), position, bytes);
    let mut lanes = Lane::all(2, lanes);
    let count = lanes.len();
    for (number, block) in blocks.iter().enumerate() {
        let keys = splitter.block(block)?;
        lanes[number % count].load(&keys, block);
    }
    let shares = Share::all(lanes).into_iter().map(Share::finish).collect::<Result<_, _>>()?;
    splitter.finish(shares)
}

fn load(machine: &Machine, blocks: &[Bytes]) -> Result<Machine, LoadError> {
    load_at(machine.applied_position(), blocks.iter().map(|block| &block[..]))
}

fn check_equal(one: &Machine, other: &Machine) {
    assert_eq!(one.digest(), other.digest());
    assert_eq!((one.applied_position(), one.now_ms()), (other.applied_position(), other.now_ms()));
    assert_eq!(one.limits(), other.limits());
    assert_eq!(one.membership(), other.membership());
    let counts = |machine: &Machine| {
        let (sessions, shards) = (machine.sessions(), machine.shards());
        (sessions.clients(), sessions.next_deadline_ms(), shards.keys(), shards.data_bytes())
    };
    assert_eq!(counts(one), counts(other));
    for (key, value) in one.shards().iter() {
        assert_eq!(other.get(key), Some(value));
    }
}

fn any_command() -> impl Strategy<Value = Command> {
    // Keys and values above the limits too.
    let key = || "[abcd]{0,4}".prop_map(Bytes::from);
    let value = || {
        prop_oneof![4 => 0usize..8, 1 => 250usize..310]
            .prop_flat_map(|length| proptest::collection::vec(any::<u8>(), length))
            .prop_map(Bytes::from)
    };
    let condition =
        prop_oneof![Just(Condition::Always), Just(Condition::IfAbsent), Just(Condition::IfPresent)];
    prop_oneof![
        (key(), value(), condition, any::<bool>()).prop_map(|(key, value, condition, get)| Command::Put {
            key,
            value,
            condition,
            get
        }),
        (key(), value()).prop_map(|(key, value)| Command::Append { key, value }),
        proptest::collection::vec(key(), 0..4).prop_map(|keys| Command::Delete { keys }),
    ]
}

fn any_wish() -> impl Strategy<Value = Wish> {
    prop_oneof![
        3 => any_command().prop_map(Wish::Plain),
        2 => proptest::option::of(1u64..1_100).prop_map(Wish::Open),
        6 => (0usize..8, 1u64..9, 0u64..8, any_command())
            .prop_map(|(place, seq, acknowledged, command)| Wish::Once(place, seq, acknowledged, command)),
        1 => (0usize..8).prop_map(Wish::Close),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => Just(Step::Noop),
        1 => (1u64..5, "[a-z.:]{0,20}").prop_map(|(count, address)| Step::Members(count, address)),
        2 => (1u64..4, any::<u64>()).prop_map(|(node, start)| Step::OpenGateway(node, start)),
        8 => (0u64..150, 1u64..4, proptest::collection::vec(any_wish(), 0..6))
            .prop_map(|(ms, node, wishes)| Step::Run(ms, node, wishes)),
    ]
}

fn any_steps(count: usize) -> impl Strategy<Value = Vec<Step>> {
    let gateways = (1..4).map(|node| Step::OpenGateway(node, node << 60)).collect::<Vec<_>>();
    proptest::collection::vec(any_step(), 0..count).prop_map(move |steps| {
        let mut all = gateways.clone();
        all.extend(steps);
        all
    })
}

proptest! {
    /// The same state comes out, and is the same for ever: it gives the same replies to the same entries.
    #[test]
    fn a_machine_is_made_again(before in any_steps(40), after in any_steps(12), block_bytes in 1usize..400) {
        let mut life = Life::new(&limits());
        for step in before {
            life.step(step);
        }
        let blocks = laid_out(&life.machine, block_bytes);
        prop_assert!(blocks.iter().all(|block| !block.is_empty() && block.len() <= block_bytes));
        prop_assert_eq!(blocks.concat(), laid_out(&life.machine, BLOCK_BYTES_MAX).concat());
        let mut made = load(&life.machine, &blocks).unwrap();
        check_equal(&life.machine, &made);
        for step in after {
            let (entry, told) = life.step(step);
            let mut told_again = Told::default();
            made.apply(&entry, &mut told_again).unwrap();
            prop_assert_eq!(told.replies, told_again.replies);
            check_equal(&life.machine, &made);
        }
    }

    /// What is written while an image is laid out is not in it.
    #[test]
    fn writes_go_on_while_an_image_is_laid_out(
        before in any_steps(30), after in any_steps(20), block_bytes in 1usize..60
    ) {
        let mut life = Life::new(&limits());
        for step in before {
            life.step(step);
        }
        let expected = laid_out(&life.machine, block_bytes);
        let mut blocks = Blocks::new(life.machine.image(), block_bytes);
        let mut seen = Vec::new();
        for step in after {
            life.step(step);
            seen.extend(blocks.next());
        }
        seen.extend(blocks);
        prop_assert_eq!(seen, expected);
    }

    /// Whatever comes: no panic, and no machine whose digest is not the one that is written there.
    #[test]
    fn any_bytes_are_refused_or_a_machine(blocks in proptest::collection::vec(any::<Vec<u8>>(), 0..4)) {
        let machine = Life::new(&limits()).machine;
        let loaded = load(&machine, &blocks.into_iter().map(Bytes::from).collect::<Vec<_>>());
        prop_assert!(loaded.is_err());
    }
}

/// Its bytes are a state, and not the one that was written: the digest is computed anew, and says so.
#[test]
fn a_state_of_another_digest_than_the_recorded_one_is_refused() {
    let mut life = Life::new(&limits());
    life.step(Step::OpenGateway(1, 7));
    life.step(Step::Run(1, 1, vec![Wish::Plain(put(b"k", b"value", false))]));
    let mut bytes = laid_out(&life.machine, BLOCK_BYTES_MAX).concat();
    let place = bytes.windows(5).position(|window| window == b"value").unwrap();
    bytes[place] ^= 1;
    let Err(LoadError::OtherDigest { recorded, computed }) = load(&life.machine, &[Bytes::from(bytes)])
    else {
        panic!("it was taken");
    };
    assert_eq!(recorded, life.machine.digest());
    assert_ne!(computed, recorded);
}

fn put(key: &'static [u8], value: &'static [u8], get: bool) -> Command {
    Command::Put {
        key: Bytes::from_static(key),
        value: Bytes::from_static(value),
        condition: Condition::Always,
        get,
    }
}

/// One of each: gateways, a session with each kind of reply, keys.
fn small_life() -> Life {
    let mut life = Life::new(&limits());
    life.step(Step::OpenGateway(1, 7));
    life.step(Step::OpenGateway(2, u64::MAX));
    life.step(Step::Run(
        1,
        1,
        vec![Wish::Open(None), Wish::Open(Some(900)), Wish::Plain(put(b"k", b"v", false))],
    ));
    let long = Bytes::from_static(&[b'x'; 301]);
    life.step(Step::Run(
        1,
        2,
        vec![
            Wish::Once(0, 1, 0, put(b"a", b"1", true)),
            Wish::Once(0, 2, 0, Command::Append { key: Bytes::from_static(b"a"), value: long }),
            Wish::Once(0, 3, 0, put(b"toolong", b"", false)),
            Wish::Once(0, 4, 0, Command::Delete { keys: vec![Bytes::from_static(b"none")] }),
            Wish::Once(1, 2, 1, put(b"a", b"22", true)),
            Wish::Once(1, 4, 1, put(b"", b"", false)),
        ],
    ));
    life
}

#[test]
fn every_cut_and_every_turned_bit_is_refused_or_means_the_same() {
    let machine = small_life().machine;
    let whole = laid_out(&machine, BLOCK_BYTES_MAX).concat();
    check_equal(&machine, &load(&machine, &[whole.clone().into()]).unwrap());
    for length in 0..whole.len() {
        let (head, tail) = whole.split_at(length);
        assert!(load_at(machine.applied_position(), [head]).is_err(), "cut to {length}");
        check_equal(&machine, &load_at(machine.applied_position(), [head, tail]).unwrap());
    }
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut turned = whole.clone();
            turned[at] ^= 1 << bit;
            if let Ok(made) = load_at(machine.applied_position(), [&turned[..]]) {
                check_equal(&machine, &made);
            }
        }
    }
    let longer = [&whole[..], b"x"].concat();
    let left_over = LoadError::Malformed { block: 1, what: "bytes are left over" };
    assert_eq!(load_at(machine.applied_position(), [&longer[..]]).err(), Some(left_over));
}

#[test]
fn an_error_says_what_and_where() {
    let machine = small_life().machine;
    let mut blocks = laid_out(&machine, 50);
    let position = machine.applied_position();
    assert!(blocks.len() > 2);
    let last = blocks.pop().unwrap();
    let text = load(&machine, &blocks).err().unwrap().to_string();
    let number = blocks.len();
    assert_eq!(
        text,
        format!("block {number} of the snapshot cannot be read: it is the last, and more must come")
    );

    blocks.push(last);
    let elsewhere = Position::new(position.term, Index(position.index.0 + 1));
    let text = load_at(elsewhere, blocks.iter().map(|block| &block[..])).err().unwrap().to_string();
    assert!(text.contains("at 5@1") && text.contains("at 6@1"), "{text}");

    let newer = load_at(position, [&[3][..]]).err().unwrap();
    assert_eq!(newer, LoadError::NewerFormat { found: 3 });
}

fn put_number_to(bytes: &mut Vec<u8>, number: u64) {
    let mut out = bytes::BytesMut::new();
    blocks::put_number(&mut out, number);
    bytes.extend_from_slice(&out);
}

/// A length that is not there yet takes no memory, and a count none either.
#[test]
fn claims_take_no_memory() {
    let machine = Life::new(&StateLimits { value_bytes_max: u64::MAX, ..limits() }).machine;
    let mut bytes = laid_out(&machine, BLOCK_BYTES_MAX).concat();
    bytes.truncate(bytes.len() - 3);
    for count in [0, 0, u64::MAX] {
        put_number_to(&mut bytes, count);
    }
    bytes.extend([1, b'k']);
    put_number_to(&mut bytes, u64::MAX >> 1);
    let mut loader = Loader::new(cluster(), machine.applied_position(), 1);
    loader.block(&bytes).unwrap();
    loader.block(b"x").unwrap();
    assert!(loader.carried() < 200);
    assert!(loader.finish().is_err());
}

#[test]
fn a_state_before_its_founding_is_made_again() {
    let mut machine = Machine::new(cluster(), 1);
    let entry = Entry { position: Position::new(Term(1), Index(1)), payload: Payload::Noop };
    machine.apply(&entry, &mut Nobody).unwrap();
    check_equal(&machine, &load(&machine, &laid_out(&machine, BLOCK_BYTES_MAX)).unwrap());
}

#[test]
fn a_large_value_goes_over_several_blocks() {
    let mut life = Life::new(&StateLimits::default());
    life.step(Step::OpenGateway(1, 1));
    let value = Bytes::from((0..3_500_000u32).map(|at| (at % 251) as u8).collect::<Vec<_>>());
    let command =
        Command::Put { key: Bytes::from_static(b"k"), value, condition: Condition::Always, get: false };
    life.step(Step::Run(0, 1, vec![Wish::Plain(command)]));
    let blocks: Vec<_> = life.machine.image().blocks().collect();
    assert_eq!(
        blocks.iter().map(|block| block.len() == BLOCK_BYTES_MAX).collect::<Vec<_>>(),
        [true, true, true, false]
    );
    check_equal(&life.machine, &load(&life.machine, &blocks).unwrap());
}

/// A cluster of three and one client that has written 800 times to one key: the file, all of it.
#[test]
fn a_small_state_is_a_small_file() {
    let mut life = Life::new(&StateLimits::default());
    for node in 1..=3 {
        life.step(Step::OpenGateway(node, u64::MAX / 3 * node));
    }
    life.step(Step::Run(1, 1, vec![Wish::Open(None)]));
    for seq in 1..=800 {
        life.step(Step::Run(1, 1 + seq % 3, vec![Wish::Once(0, seq, seq - 1, put(b"x", b"800", false))]));
    }
    let image = life.machine.image();
    let (position, digest) = (image.position(), image.digest());
    let mut writer = SnapshotWriter::create(Arc::new(SimDisk::new()), cluster(), position).unwrap();
    for block in image.blocks() {
        writer.block(&block).unwrap();
    }
    let bytes = writer.finish(digest).unwrap().bytes();
    assert!(bytes <= 320, "{bytes} bytes");
}

#[test]
fn numbers_of_either_sign_come_back() {
    for number in [0, 1, -1, 63, -64, 64, i64::MAX, i64::MIN] {
        assert_eq!(cursor::unzigzag(blocks::zigzag(number)), number);
    }
}
