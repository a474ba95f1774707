//! How long to wait before the next try: longer each time, and never the same for two Clerks. The randomness comes
//! from a seed, so the same seed gives the same pauses.

/// Pauses that double from `ms_min` to `ms_max`; each is drawn from the upper half of its span.
#[derive(Debug)]
pub(crate) struct Pauses {
    ms_min: u64,
    ms_max: u64,
    state: u64,
}

impl Pauses {
    pub(crate) fn new(ms_min: u64, ms_max: u64, seed: u64) -> Self {
        assert!(0 < ms_min && ms_min <= ms_max, "pauses must be something and have a limit");
        Self { ms_min, ms_max, state: seed }
    }

    /// The pause before the try that follows `failures` failed ones.
    pub(crate) fn next_ms(&mut self, failures: u32) -> u64 {
        let span = doubled(self.ms_min, failures.saturating_sub(1), self.ms_max);
        span - self.draw() % (span / 2 + 1)
    }

    /// `SplitMix64`: enough to keep Clerks out of step.
    fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// `ms` doubled so many times, up to a limit.
pub(crate) fn doubled(ms: u64, times: u32, ms_max: u64) -> u64 {
    let factor = 1_u64.checked_shl(times).unwrap_or(u64::MAX);
    ms.saturating_mul(factor).min(ms_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_limit_and_differ() {
        let mut pauses = Pauses::new(10, 1_000, 7);
        for (failures, span) in [(0, 10), (1, 10), (2, 20), (3, 40), (7, 640), (8, 1_000), (u32::MAX, 1_000)]
        {
            for _ in 0..50 {
                let pause = pauses.next_ms(failures);
                assert!((span / 2..=span).contains(&pause), "{failures} failures: {pause} ms");
            }
        }
        let mut other = Pauses::new(10, 1_000, 8);
        let mut same = Pauses::new(10, 1_000, 8);
        let draws: Vec<u64> = (0..20).map(|_| other.next_ms(9)).collect();
        assert_eq!(draws, (0..20).map(|_| same.next_ms(9)).collect::<Vec<_>>());
        assert_ne!(draws, (0..20).map(|_| pauses.next_ms(9)).collect::<Vec<_>>());
    }
}
