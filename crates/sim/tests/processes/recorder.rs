//! What the clients do next, and what they saw: one history for all threads. Knows no socket.
//!
//! A call is stamped before anything of it is sent and a return after all of its answer was received, both under one
//! lock: so an operation that returned before another was called has the lower stamps, and never the other way round.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use bytes::Bytes;
use quorate_replica::command::Condition;
use quorate_sim::history::{Action, History, Operation, OperationId, Outcome};
use quorate_sim::prng::Prng;

use crate::Violation;

/// Keys at one time that are only appended to: their last value tells the order of all that happened there.
const APPEND_KEYS: u64 = 3;
/// Keys at one time on which everything happens.
const MIXED_KEYS: u64 = 2;
/// Operations on a key; then a fresh one takes its place, so that values stay short and each search small.
const OPERATIONS_A_KEY: u64 = 160;
/// So many more an outcome that is unknown counts for: in an outage keys give way sooner, since a search must try all ways
/// in which what is unknown may have happened.
const DOUBT: u64 = 4;
/// Operations that only look.
const READS: f64 = 0.3;
/// Tokens differ in length, so that the length that an append is answered says almost as much as the value would.
const PADDING_MAX: u64 = 120;
/// Now and then one is large: it travels in many chunks.
const LARGE: (f64, u64) = (0.005, 40_000);

/// What a client can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vocabulary {
    /// What a Clerk offers.
    Clerk,
    /// What the protocol offers.
    Plain,
}

/// The history, and where it comes from.
pub(crate) struct Recorder {
    history: Mutex<History>,
    begun: Instant,
    asked: [AtomicU64; (APPEND_KEYS + MIXED_KEYS) as usize],
    tokens: AtomicU64,
    connections: AtomicU64,
    complaints: Mutex<Vec<Violation>>,
    is_over: AtomicBool,
    unfinished: AtomicU32,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        Self {
            history: Mutex::default(),
            begun: Instant::now(),
            asked: [const { AtomicU64::new(0) }; _],
            tokens: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            complaints: Mutex::default(),
            is_over: AtomicBool::new(false),
            unfinished: AtomicU32::new(0),
        }
    }

    /// Microseconds since the beginning.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).expect("a short life")
    }

    /// A number that no other connection, or Clerk that makes one call at a time, has.
    pub(crate) fn connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Before anything is sent.
    pub(crate) fn calls(&self, client: u32, connection: u64, key: Bytes, action: Action) -> OperationId {
        self.locked().call(self.now(), client, connection, key, action)
    }

    /// After all of the answer is there.
    pub(crate) fn returned(&self, id: OperationId, outcome: Outcome) {
        if outcome == Outcome::Unknown {
            self.never_returned(id);
        } else {
            self.locked().returned(self.now(), id, outcome);
        }
    }

    /// There is no answer, or one that says nothing: the operation stays open for ever.
    pub(crate) fn never_returned(&self, id: OperationId) {
        let place = self.locked().get(id).key.get(1).map_or(0, |digit| usize::from(digit - b'0'));
        self.asked[place].fetch_add(DOUBT, Ordering::Relaxed);
    }

    /// An answer that must never come.
    pub(crate) fn complain(&self, violation: Violation) {
        self.complaints.lock().expect("no panic with it").push(violation);
    }

    /// # Errors
    /// The first complaint.
    pub(crate) fn no_complaints(&self) -> Result<(), Violation> {
        let first = self.complaints.lock().expect("no panic with it").pop();
        first.map_or(Ok(()), Err)
    }

    /// Nobody begins anything new.
    pub(crate) fn ends(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    pub(crate) fn client_begins(&self) {
        self.unfinished.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn client_ends(&self) {
        self.unfinished.fetch_sub(1, Ordering::SeqCst);
    }

    /// Clients that have not come to their end.
    pub(crate) fn unfinished(&self) -> u32 {
        self.unfinished.load(Ordering::SeqCst)
    }

    /// All operations so far.
    pub(crate) fn operations(&self) -> Vec<Operation> {
        self.locked().operations().to_vec()
    }

    /// How many operations there are.
    pub(crate) fn count(&self) -> usize {
        self.locked().operations().len()
    }

    /// Whether an operation that was called after this many others has its answer.
    pub(crate) fn has_served_since(&self, count: usize) -> bool {
        self.locked().operations()[count..].iter().any(Operation::is_complete)
    }

    /// What a client does next.
    pub(crate) fn next(&self, client: u32, vocabulary: Vocabulary, prng: &mut Prng) -> (Bytes, Action) {
        let place = prng.below(APPEND_KEYS + MIXED_KEYS);
        let asked = self.asked[place as usize].fetch_add(1, Ordering::Relaxed);
        let generation = asked / OPERATIONS_A_KEY;
        let is_append_key = place < APPEND_KEYS;
        let kind = if is_append_key { 'a' } else { 'm' };
        let key = Bytes::from(format!("{kind}{place}.{generation}"));
        if prng.chance(READS) {
            let is_length = vocabulary == Vocabulary::Plain && prng.chance(0.2);
            return (key, if is_length { Action::Length } else { Action::Get });
        }
        let value = self.token(client, prng);
        (key, if is_append_key { Action::Append { value } } else { change(value, vocabulary, prng) })
    }

    fn token(&self, client: u32, prng: &mut Prng) -> Bytes {
        let number = self.tokens.fetch_add(1, Ordering::Relaxed);
        let padding_max = if prng.chance(LARGE.0) { LARGE.1 } else { PADDING_MAX };
        let padding = prng.below(padding_max);
        Bytes::from(format!("{client}.{number}{};", "-".repeat(padding as usize)))
    }

    fn locked(&self) -> MutexGuard<'_, History> {
        self.history.lock().expect("no panic with it")
    }
}

fn change(value: Bytes, vocabulary: Vocabulary, prng: &mut Prng) -> Action {
    let is_plain = vocabulary == Vocabulary::Plain;
    match prng.below(10) {
        0..=4 => Action::Append { value },
        5 | 6 => Action::Put { value, condition: Condition::Always, get: false },
        7 => Action::Delete { token: None },
        8 if is_plain => Action::Put { value, condition: Condition::IfAbsent, get: prng.chance(0.3) },
        9 if is_plain => Action::Put { value, condition: Condition::IfPresent, get: prng.chance(0.3) },
        _ => Action::Put { value, condition: Condition::Always, get: is_plain && prng.chance(0.3) },
    }
}
