//! Which key and which value come next. Must not know who is asked for them.

use std::cell::Cell;
use std::rc::Rc;

use crate::{Args, Work};

/// Length of a key: as `redis-benchmark -r` has them.
pub(crate) const KEY_BYTES: usize = 16;

/// Bytes that values are cut from: longer than what a compressor looks back over.
const POOL_BYTES: usize = 1 << 20;

/// What all clients of a run share: how many commands are still to be given out.
pub(crate) struct Share {
    left: Cell<u64>,
    next: Cell<u64>,
}

impl Share {
    pub(crate) fn new(count: u64) -> Self {
        Self { left: Cell::new(count), next: Cell::new(0) }
    }
}

/// One client's source of keys and values.
pub(crate) struct Draw {
    state: u64,
    keys: u64,
    fixed: Option<Vec<u8>>,
    in_order: bool,
    value_bytes: usize,
    pool: Rc<Vec<u8>>,
    share: Rc<Share>,
    key: Vec<u8>,
}

impl Draw {
    pub(crate) fn new(args: &Args, client: u64, share: Rc<Share>) -> Self {
        thread_local! {
            static POOL: Rc<Vec<u8>> = Rc::new(pool());
        }
        Self {
            state: random(args.seed << 32 | client).max(1),
            keys: args.keys,
            fixed: args.key.clone().map(String::into_bytes),
            in_order: args.work == Work::Fill,
            value_bytes: args.value_bytes,
            pool: POOL.with(Rc::clone),
            share,
            key: Vec::with_capacity(KEY_BYTES),
        }
    }

    /// Takes a batch from what all still have to do; `false`: nothing is left.
    pub(crate) fn take(&mut self, batch: u64) -> bool {
        let left = self.share.left.get();
        self.share.left.set(left.saturating_sub(batch));
        left > 0
    }

    /// The next key. When keys are written in order, the last batch writes some of the first once more.
    pub(crate) fn key(&mut self) -> &[u8] {
        if self.fixed.is_some() {
            return self.fixed.as_deref().unwrap_or_default();
        }
        let number = if self.in_order {
            let next = self.share.next.get();
            self.share.next.set(next + 1);
            next % self.keys
        } else {
            self.next() % self.keys
        };
        self.key.clear();
        self.key.extend_from_slice(b"key:");
        let mut place = 100_000_000_000;
        for _ in 4..KEY_BYTES {
            self.key.push(b'0' + u8::try_from(number / place % 10).unwrap_or(0));
            place /= 10;
        }
        &self.key
    }

    /// Puts the next value at the end of `to`.
    pub(crate) fn value(&mut self, to: &mut Vec<u8>) {
        let mut left = self.value_bytes;
        while left > 0 {
            let at = usize::try_from(self.next() % (POOL_BYTES as u64 / 2)).unwrap_or(0);
            let part = left.min(POOL_BYTES / 2);
            to.extend_from_slice(&self.pool[at..at + part]);
            left -= part;
        }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        random(self.state)
    }
}

/// `splitmix64`: of each number another one, well mixed.
fn random(from: u64) -> u64 {
    let mut mixed = from;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn pool() -> Vec<u8> {
    let mut pool = Vec::with_capacity(POOL_BYTES);
    let mut state = 0_u64;
    while pool.len() < POOL_BYTES {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        pool.extend_from_slice(&random(state).to_le_bytes());
    }
    pool
}
