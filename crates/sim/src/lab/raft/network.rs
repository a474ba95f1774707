//! The course's network: servers are connected or not; an unreliable one delays and drops requests and drops
//! answers; *long reordering* delays most answers by seconds. Knows nothing of what is carried.

use crate::prng::Prng;
use crate::schedule::{MS, Micros};

/// A message's way where nothing goes wrong.
const WAY: Micros = MS;

/// An unreliable network delays each request by up to this.
const REQUEST_DELAY_MAX: Micros = 26 * MS;

/// And drops this part of the requests, and of the answers.
const DROPPED: f64 = 0.1;

/// Long reordering delays this part of the answers,
const REORDERED: f64 = 2.0 / 3.0;

/// by this much and up to [`REORDER_SPREAD_MS`] more.
const REORDER_DELAY: Micros = 200 * MS;

/// Drawn twice, as the course does: most delays are short, some are long.
const REORDER_SPREAD_MS: u64 = 2_000;

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is lost.
    Dropped,
    /// It arrives after this, if both ends are connected still.
    Arrives(Micros),
    /// It arrives after this, whoever was cut off meanwhile.
    ArrivesLate(Micros),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Network {
    prng: Prng,
    connected: Vec<bool>,
    /// Delays and drops.
    pub(crate) is_unreliable: bool,
    /// Delays most answers by seconds.
    pub(crate) is_reordering: bool,
}

impl Network {
    /// A reliable network; everybody is connected.
    pub(crate) fn new(servers: usize, prng: Prng) -> Self {
        Self { prng, connected: vec![true; servers], is_unreliable: false, is_reordering: false }
    }

    pub(crate) fn is_connected(&self, server: usize) -> bool {
        self.connected[server]
    }

    pub(crate) fn connect(&mut self, server: usize) {
        self.connected[server] = true;
    }

    pub(crate) fn disconnect(&mut self, server: usize) {
        self.connected[server] = false;
    }

    /// Whether a message passes now.
    pub(crate) fn is_open(&self, from: usize, to: usize) -> bool {
        self.connected[from] && self.connected[to]
    }

    /// What becomes of a message that leaves now.
    pub(crate) fn send(&mut self, from: usize, to: usize, is_request: bool) -> Fate {
        if !self.is_open(from, to) || (self.is_unreliable && self.prng.chance(DROPPED)) {
            return Fate::Dropped;
        }
        if is_request {
            let delay = if self.is_unreliable { self.prng.between(0, REQUEST_DELAY_MAX) } else { 0 };
            return Fate::Arrives(WAY + delay);
        }
        if self.is_reordering && self.prng.chance(REORDERED) {
            let spread = self.prng.between(0, REORDER_SPREAD_MS);
            return Fate::ArrivesLate(REORDER_DELAY + self.prng.between(0, spread) * MS);
        }
        Fate::Arrives(WAY)
    }
}
