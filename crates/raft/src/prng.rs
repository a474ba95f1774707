//! A small seeded generator for election timeouts. Knows no entropy: its seed comes from the caller.

/// `SplitMix64` (Steele, Lea, Flood 2014): one addition and three mixes a draw, every seed is a good one. It is
/// for spreading timeouts, not for secrets.
#[derive(Clone, Debug)]
pub(crate) struct Prng(u64);

const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

impl Prng {
    /// The stream of `seed`; `salt` gives nodes that were handed the same seed different streams.
    pub(crate) fn new(seed: u64, salt: u64) -> Self {
        Self(seed ^ salt.wrapping_mul(GOLDEN_GAMMA))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN_GAMMA);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from `[min, max]`.
    pub(crate) fn between(&mut self, min: u32, max: u32) -> u32 {
        assert!(min <= max, "a range from {min} to {max}");
        let width = u64::from(max - min) + 1;
        // The high bits scaled to the width: biased by less than 2^-32, which no timeout feels.
        let offset = ((self.next() >> 32) * width) >> 32;
        min + u32::try_from(offset).expect("below the width of a u32 range")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_stay_in_range_and_reach_both_ends() {
        let mut prng = Prng::new(7, 1);
        let draws: Vec<u32> = (0..1_000).map(|_| prng.between(10, 20)).collect();
        assert!(draws.iter().all(|draw| (10..=20).contains(draw)));
        assert!(draws.contains(&10) && draws.contains(&20));
        assert_eq!(Prng::new(1, 1).between(5, 5), 5);
    }

    #[test]
    fn same_seed_same_stream_but_not_for_another_node() {
        let stream = |seed, salt| {
            let mut prng = Prng::new(seed, salt);
            (0..8).map(|_| prng.between(0, u32::MAX)).collect::<Vec<_>>()
        };
        assert_eq!(stream(1, 1), stream(1, 1));
        assert_ne!(stream(1, 1), stream(1, 2));
        assert_ne!(stream(1, 1), stream(2, 1));
    }
}
