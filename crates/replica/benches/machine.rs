//! What the state machine costs: an entry applied, a question answered, a snapshot laid out, the digest of all of it; at
//! ten thousand keys and at a million.
//!
//! `cargo bench -p quorate-replica`

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on panics")]

use bytes::Bytes;
use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use quorate_raft::{Entry, NodeId, Payload, Position, Term};
use quorate_replica::Machine;
use quorate_replica::command::{Command, Condition, Query, Seq, SessionKey};
use quorate_replica::entry::{self, LoggedWrite, RunHead, StateLimits};
use quorate_replica::machine::Nobody;
use quorate_storage::ClusterId;

/// Commands of one entry.
const BATCH: u64 = 64;
const VALUE: [u8; 100] = [b'v'; 100];
const KEYS: [u64; 2] = [10_000, 1_000_000];

fn main() {
    divan::main();
}

fn key(number: u64) -> Bytes {
    Bytes::from(format!("key:{number:012}"))
}

/// The places of keys as a client asks for them: in no order.
fn scattered(number: u64, keys: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % keys
}

struct State {
    machine: Machine,
    session: SessionKey,
    seq: u64,
}

impl State {
    fn with_keys(keys: u64) -> Self {
        let machine = Machine::new(ClusterId::new(1).unwrap(), 1);
        let mut state = Self { machine, session: SessionKey { index: 2, place: 0 }, seq: 1 };
        state.apply(entry::founding(&StateLimits::default()));
        state.apply(entry::batch(1, &[entry::open_gateway(NodeId::new(1).unwrap(), 1, 1)]));
        for first in (0..keys).step_by(1_000) {
            let puts: Vec<LoggedWrite> = (first..keys.min(first + 1_000)).map(put).collect();
            let payload = state.run(&puts);
            state.apply(payload);
        }
        state
    }

    fn apply(&mut self, payload: Bytes) {
        let position = Position::new(Term(1), self.machine.applied().next());
        let entry = Entry { position, payload: Payload::Data(payload) };
        assert_eq!(self.machine.apply(&entry, &mut Nobody), Ok(None));
    }

    /// The entry of the next commands.
    fn run(&mut self, writes: &[LoggedWrite]) -> Bytes {
        let writes: Vec<Bytes> = writes.iter().map(entry::encode_write).collect();
        let (first, acknowledged) = (Seq(self.seq), Seq(self.seq - 1));
        self.seq += writes.len() as u64;
        let head = RunHead { session: self.session, attempt: 1, acknowledged, first };
        entry::batch(1, &[entry::run(head, writes.iter())])
    }
}

fn put(number: u64) -> LoggedWrite {
    let value = Bytes::from_static(&VALUE);
    LoggedWrite::Plain(Command::Put { key: key(number), value, condition: Condition::Always, get: false })
}

#[divan::bench(args = KEYS)]
fn apply_puts(bencher: Bencher<'_, '_>, keys: u64) {
    let mut state = State::with_keys(keys);
    let mut number = 0;
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        let writes: Vec<LoggedWrite> =
            (number..number + BATCH).map(|number| put(scattered(number, keys))).collect();
        number += BATCH;
        let payload = state.run(&writes);
        state.apply(payload);
    });
}

#[divan::bench(args = KEYS)]
fn answer_get(bencher: Bencher<'_, '_>, keys: u64) {
    let state = State::with_keys(keys);
    let mut number = 0;
    let next = || {
        number += 1;
        Query::Get { key: key(scattered(number, keys)) }
    };
    bencher.with_inputs(next).bench_local_refs(|query| state.machine.answer(query));
}

/// To a value of so many bytes.
#[divan::bench(args = [0, 7 << 20], sample_count = 20, sample_size = 10)]
fn append(bencher: Bencher<'_, '_>, bytes: usize) {
    let mut state = State::with_keys(1);
    let append = |value: Bytes| LoggedWrite::Plain(Command::Append { key: key(7), value });
    let payload = state.run(&[append(Bytes::from(vec![b'v'; bytes]))]);
    state.apply(payload);
    bencher.bench_local(|| {
        let payload = state.run(&[append(Bytes::from_static(&VALUE))]);
        state.apply(payload);
    });
}

#[divan::bench(args = KEYS, sample_count = 5, sample_size = 1)]
fn snapshot(bencher: Bencher<'_, '_>, keys: u64) {
    let state = State::with_keys(keys);
    let bytes: usize = state.machine.image().blocks().map(|block| block.len()).sum();
    bencher.counter(BytesCount::new(bytes)).bench_local(|| state.machine.image().blocks().count());
}

/// What holds the loop when a snapshot begins.
#[divan::bench(args = KEYS, sample_count = 20, sample_size = 10)]
fn image(bencher: Bencher<'_, '_>, keys: u64) {
    let state = State::with_keys(keys);
    bencher.bench_local(|| state.machine.image());
}

#[divan::bench(args = KEYS)]
fn digest(bencher: Bencher<'_, '_>, keys: u64) {
    let state = State::with_keys(keys);
    bencher.bench_local(|| black_box(&state.machine).digest());
}
