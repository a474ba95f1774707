//! How fast a snapshot is asked for: so many bytes a second, and twice as many each time that was too slow. Knows neither
//! pieces nor who sends them.
//!
//! The sender's clients pay for a transfer, so it is slow where that is enough. Where it is not, because by the time that all
//! is here the sender's log does not follow it any more, another try at the same speed would end like the one before.

use crate::replica::TICK_MS;

/// Bytes of a snapshot that are asked for in a second, unless configured.
pub const SNAPSHOT_BYTES_PER_SECOND: u64 = 32 << 20;
/// Milliseconds after the end of a transfer within which another one that is needed says that it was too slow.
const TOO_SLOW_WITHIN_MS: u64 = 60_000;
/// How often the speed doubles, at most.
const DOUBLINGS_MAX: u32 = 10;
/// No way is faster, and no sum of it overflows.
const BYTES_PER_SECOND_MAX: u64 = 1 << 40;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pace {
    bytes_per_second: u64,
    doublings: u32,
    /// Bytes that may be asked for now; below zero where the last piece was larger than what was left.
    credit: i64,
    /// When the last transfer ended, by its own end or because it was of no use any more.
    ended_ms: Option<u64>,
}

impl Pace {
    pub(super) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second, ..Self::default() }
    }

    /// A transfer begins.
    pub(super) fn begin(&mut self, now_ms: u64) {
        let is_again = self.ended_ms.take().is_some_and(|ended| now_ms - ended < TOO_SLOW_WITHIN_MS);
        self.doublings = if is_again { DOUBLINGS_MAX.min(self.doublings + 1) } else { 0 };
        self.credit = self.tick_bytes();
    }

    /// A transfer ends.
    pub(super) fn end(&mut self, now_ms: u64) {
        self.ended_ms = Some(now_ms);
    }

    pub(super) fn tick(&mut self) {
        // What is not used in its time is lost, or a pause would be followed by a burst.
        self.credit = (self.credit + self.tick_bytes()).min(self.tick_bytes());
    }

    /// Whether another piece may be asked for.
    pub(super) fn allows_more(&self) -> bool {
        self.credit > 0
    }

    /// A piece of so many bytes has come.
    pub(super) fn spend(&mut self, bytes: usize) {
        self.credit -= i64::try_from(bytes).unwrap_or(i64::MAX);
    }

    fn tick_bytes(&self) -> i64 {
        let bytes = self.bytes_per_second.min(BYTES_PER_SECOND_MAX) * TICK_MS / 1_000;
        (bytes << self.doublings).max(1).cast_signed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that come in a second, in pieces that come as soon as they are asked for.
    fn second(pace: &mut Pace, piece: usize) -> usize {
        let mut bytes = 0;
        for _ in 0..1_000 / TICK_MS {
            pace.tick();
            while pace.allows_more() {
                pace.spend(piece);
                bytes += piece;
            }
        }
        bytes
    }

    #[test]
    fn a_second_brings_what_it_may_whatever_the_size_of_pieces() {
        for piece in [1, 1_000, 10_000, 64_000, 300_000] {
            let mut pace = Pace::new(1_000_000);
            pace.begin(0);
            let bytes = second(&mut pace, piece) + second(&mut pace, piece);
            assert!(
                (1_900_000..=2_000_000 + piece + 10_000).contains(&bytes),
                "{bytes} in pieces of {piece}"
            );
        }
    }

    #[test]
    fn a_transfer_that_was_too_slow_is_followed_by_one_that_is_twice_as_fast() {
        let mut pace = Pace::new(1_000_000);
        pace.begin(0);
        let mut bytes = vec![second(&mut pace, 1_000)];
        for now_ms in [10_000, 20_000] {
            pace.end(now_ms);
            pace.begin(now_ms + 1_000);
            bytes.push(second(&mut pace, 1_000));
        }
        pace.end(30_000);
        pace.begin(30_000 + TOO_SLOW_WITHIN_MS);
        bytes.push(second(&mut pace, 1_000));
        let about = |bytes: usize| (bytes + 50_000) / 100_000;
        assert_eq!(bytes.into_iter().map(about).collect::<Vec<_>>(), [10, 20, 40, 10]);
    }

    #[test]
    fn speed_has_no_limit_that_breaks_it() {
        for rate in [0, 1, u64::MAX] {
            let mut pace = Pace::new(rate);
            for _ in 0..100 {
                pace.begin(0);
                pace.tick();
                assert!(pace.allows_more());
                pace.end(0);
            }
        }
    }
}
