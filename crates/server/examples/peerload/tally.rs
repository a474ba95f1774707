//! How long each batch took, all of them kept. Must not know what was in them.

use std::time::Duration;

/// The times of the batches of one client, or of all.
#[derive(Default)]
pub(crate) struct Tally {
    nanos: Vec<u64>,
}

impl Tally {
    pub(crate) fn record(&mut self, took: Duration) {
        self.nanos.push(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.nanos.extend(other.nanos);
    }

    /// The run as a line of JSON.
    pub(crate) fn line(&mut self, pipeline: usize, elapsed: Duration) -> String {
        self.nanos.sort_unstable();
        let operations = self.nanos.len() * pipeline;
        let seconds = elapsed.as_secs_f64();
        let mean = self.nanos.iter().sum::<u64>() / (self.nanos.len() as u64).max(1);
        format!(
            "{{\"operations\":{operations},\"seconds\":{seconds:.4},\"per_second\":{:.1},\"mean_us\":{:.1},\
             \"p50_us\":{:.1},\"p90_us\":{:.1},\"p99_us\":{:.1},\"p999_us\":{:.1},\"max_us\":{:.1}}}",
            operations as f64 / seconds,
            mean as f64 / 1e3,
            self.at(500),
            self.at(900),
            self.at(990),
            self.at(999),
            self.at(1000),
        )
    }

    /// Microseconds that so many of a thousand batches took at most.
    fn at(&self, thousandths: usize) -> f64 {
        let rank = (self.nanos.len() * thousandths).div_ceil(1000);
        self.nanos.get(rank.saturating_sub(1)).map_or(0.0, |nanos| *nanos as f64 / 1e3)
    }
}
