//! What clients ask for: few hot keys, some of which are only ever appended to, and a token of its own in every
//! write, so that a lost, doubled or swapped effect can be seen. Knows nothing of how it is carried.

use bytes::Bytes;
use quorate_replica::command::Condition;

use crate::history::Action;
use crate::options::WorkloadOptions;
use crate::prng::Prng;

/// Appends to a key of the append-only kind; then a fresh key takes its place, so that values stay short.
const APPENDS_A_KEY: u64 = 120;

/// Padding on keys that only grow.
const APPEND_PADDING_MAX: u64 = 24;

/// The source of operations.
#[derive(Debug)]
pub struct Workload {
    options: WorkloadOptions,
    prng: Prng,
    appends: Vec<u64>,
    tokens: u64,
}

/// What a client can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vocabulary {
    /// What a Clerk offers.
    Clerk,
    /// What the protocol offers.
    Plain,
}

impl Workload {
    /// Nothing asked yet.
    pub fn new(options: WorkloadOptions, prng: Prng) -> Self {
        let appends = vec![0; options.append_keys as usize];
        Self { options, prng, appends, tokens: 0 }
    }

    /// How long a client waits before its next operation.
    pub fn think(&mut self) -> u64 {
        self.prng.between(0, self.options.think_max)
    }

    /// The next operation of a client: its key, and what.
    pub fn next(&mut self, client: u32, vocabulary: Vocabulary) -> (Bytes, Action) {
        let keys = u64::from(self.options.append_keys + self.options.mixed_keys);
        let key = self.prng.below(keys);
        let is_read = client < self.options.readers || self.prng.chance(self.options.reads);
        let read = if vocabulary == Vocabulary::Plain && self.prng.chance(0.2) {
            Action::Length
        } else {
            Action::Get
        };
        match self.appends.get_mut(key as usize) {
            Some(appends) => {
                let generation = *appends / APPENDS_A_KEY;
                let name = Bytes::from(format!("a{key}.{generation}"));
                if is_read {
                    return (name, read);
                }
                *appends += 1;
                (name, Action::Append { value: self.token(client, APPEND_PADDING_MAX) })
            }
            None => {
                let name = Bytes::from(format!("m{key}"));
                (name, if is_read { read } else { self.change(client, vocabulary) })
            }
        }
    }

    fn change(&mut self, client: u32, vocabulary: Vocabulary) -> Action {
        let token = self.token(client, u64::MAX);
        match self.prng.below(10) {
            0..=4 => Action::Append { value: token },
            5 | 6 => Action::Put { value: token, condition: Condition::Always, get: false },
            7 => match vocabulary {
                Vocabulary::Clerk => Action::Delete { token: None },
                Vocabulary::Plain => Action::Delete { token: Some(token) },
            },
            choice => {
                let condition = match vocabulary {
                    Vocabulary::Clerk => Condition::Always,
                    Vocabulary::Plain if choice == 8 => Condition::IfAbsent,
                    Vocabulary::Plain => Condition::IfPresent,
                };
                let get = vocabulary == Vocabulary::Plain && self.prng.chance(0.3);
                Action::Put { value: token, condition, get }
            }
        }
    }

    fn token(&mut self, client: u32, padding_max: u64) -> Bytes {
        self.tokens += 1;
        let padding = self.prng.between(0, self.options.padding_max.min(padding_max)) as usize;
        Bytes::from(format!("{client}.{}{};", self.tokens, "-".repeat(padding)))
    }
}
