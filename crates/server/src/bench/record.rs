//! What became of the requests: how long each took, and when, and which failed and why. Bounded, however long it goes on. Must
//! not know connections or a clock: moments are nanoseconds that the caller names.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::commands::Kind;

/// The longest time that is told from a longer one: an hour.
const LATENCY_MAX: u64 = 3_600_000_000_000;
/// The shortest such time, in nanoseconds.
const LATENCY_MIN: u64 = 100;
/// Digits of a latency that are right, in what is reported of a whole run, and of a moment of it.
const DIGITS: u8 = 3;
const DIGITS_OF_MOMENT: u8 = 2;
/// Moments that are kept apart. When there are more, two become one, twice as long.
const MOMENTS_MAX: usize = 600;
/// How long a moment is at first, in nanoseconds.
const MOMENT_NANOS: u64 = 100_000_000;
/// Classes of errors that are told apart.
const CLASSES_MAX: usize = 32;
/// Bytes of an error's text that are kept as an example.
const EXAMPLE_BYTES_MAX: usize = 200;

/// Counts of latencies, in nanoseconds.
pub(super) type Latencies = Histogram<u64>;

/// A histogram that is empty.
pub(super) fn latencies() -> Latencies {
    Histogram::new_with_bounds(LATENCY_MIN, LATENCY_MAX, DIGITS).expect("bounds that are fixed")
}

/// What happened during one moment.
#[derive(Debug)]
pub(super) struct Moment {
    /// How long the requests took that were answered in it.
    pub(super) latencies: Histogram<u32>,
    /// Requests that failed.
    pub(super) errors: u64,
}

impl Moment {
    fn new() -> Self {
        let latencies = Histogram::new_with_bounds(LATENCY_MIN, LATENCY_MAX, DIGITS_OF_MOMENT);
        Self { latencies: latencies.expect("bounds that are fixed"), errors: 0 }
    }

    fn add(&mut self, other: &Self) {
        self.latencies.add(&other.latencies).expect("the bounds are the same");
        self.errors += other.errors;
    }
}

/// The moments of a run, all of the same length.
#[derive(Debug)]
pub(super) struct Series {
    start: u64,
    width: u64,
    moments: Vec<Moment>,
}

impl Series {
    fn new(start: u64) -> Self {
        Self { start, width: MOMENT_NANOS, moments: vec![Moment::new()] }
    }

    /// How long each is, in nanoseconds.
    pub(super) fn width(&self) -> u64 {
        self.width
    }

    /// In their order, the first from the end of the warm-up on.
    pub(super) fn moments(&self) -> &[Moment] {
        &self.moments
    }

    /// What happened since this moment at the latest, in whole moments, and for how many nanoseconds that is.
    pub(super) fn since(&self, from: u64, now: u64) -> (Moment, u64) {
        let first = usize::try_from(from.saturating_sub(self.start) / self.width).unwrap_or(usize::MAX);
        let first = first.min(self.moments.len() - 1);
        let mut sum = Moment::new();
        self.moments[first..].iter().for_each(|moment| sum.add(moment));
        (sum, now.saturating_sub(self.start + first as u64 * self.width))
    }

    #[inline]
    fn at(&mut self, now: u64) -> &mut Moment {
        let mut place = now.saturating_sub(self.start) / self.width;
        if place >= self.moments.len() as u64 {
            while place >= MOMENTS_MAX as u64 {
                self.halve();
                place = now.saturating_sub(self.start) / self.width;
            }
            let place = usize::try_from(place).expect("it is below the limit");
            self.moments.resize_with(place + 1, Moment::new);
        }
        &mut self.moments[usize::try_from(place).expect("it is below the limit")]
    }

    fn halve(&mut self) {
        let mut pairs = std::mem::take(&mut self.moments).into_iter();
        while let Some(mut first) = pairs.next() {
            if let Some(second) = pairs.next() {
                first.add(&second);
            }
            self.moments.push(first);
        }
        self.width *= 2;
    }
}

/// How many errors of one class there were, and the first of them.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(super) struct Class {
    /// How many.
    pub(super) count: u64,
    /// The text of the first.
    pub(super) example: String,
}

/// Errors by class.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(super) struct Errors(BTreeMap<String, Class>);

impl Errors {
    /// So many of this class.
    pub(super) fn count(&mut self, class: &str, text: &str, count: u64) {
        if count == 0 {
            return;
        }
        let is_new = !self.0.contains_key(class);
        let class = if is_new && self.0.len() >= CLASSES_MAX { "others" } else { class };
        let entry = self.0.entry(class.to_owned()).or_insert_with(|| {
            let cut = text.char_indices().map(|(at, _)| at).take_while(|at| *at <= EXAMPLE_BYTES_MAX).last();
            let is_whole = text.len() <= EXAMPLE_BYTES_MAX;
            let example = if is_whole { text } else { &text[..cut.unwrap_or(0)] };
            Class { count: 0, example: example.to_owned() }
        });
        entry.count += count;
    }

    /// All of them, by name.
    pub(super) fn classes(&self) -> impl Iterator<Item = (&str, &Class)> {
        self.0.iter().map(|(name, class)| (name.as_str(), class))
    }

    /// How many there are.
    pub(super) fn sum(&self) -> u64 {
        self.0.values().map(|class| class.count).sum()
    }
}

/// What became of the requests of one kind.
#[derive(Debug)]
pub(super) struct Tally {
    /// Of those that were answered without an error.
    pub(super) latencies: Latencies,
    /// Among them: those whose answer was that there is no such key.
    pub(super) nil: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Record {
    start: u64,
    /// When the last request was answered.
    last: u64,
    tallies: [Tally; 3],
    series: Series,
    errors: Errors,
    connection_errors: Errors,
    /// Open loop: how long after they were due requests were sent.
    lateness: Latencies,
}

impl Record {
    /// What begins before `start` does not count.
    pub(super) fn new(start: u64) -> Self {
        Self {
            start,
            last: start,
            tallies: Kind::ALL.map(|_| Tally { latencies: latencies(), nil: 0 }),
            series: Series::new(start),
            errors: Errors::default(),
            connection_errors: Errors::default(),
            lateness: latencies(),
        }
    }

    /// A request was answered without an error.
    #[inline]
    pub(super) fn answered(&mut self, kind: Kind, begun: u64, now: u64, is_nil: bool) {
        if begun < self.start {
            return;
        }
        let latency = now.saturating_sub(begun);
        self.last = now;
        let tally = &mut self.tallies[kind.place()];
        tally.latencies.saturating_record(latency);
        tally.nil += u64::from(is_nil);
        self.series.at(now).latencies.saturating_record(latency);
    }

    /// A request failed.
    pub(super) fn failed(&mut self, begun: u64, now: u64, class: &str, text: &str) {
        if begun < self.start {
            return;
        }
        self.errors.count(class, text, 1);
        self.series.at(now).errors += 1;
    }

    /// So many requests were never sent, though they were due.
    pub(super) fn unsent(&mut self, count: u64, text: &str) {
        self.errors.count("unsent", text, count);
    }

    /// A connection could not be made.
    pub(super) fn not_connected(&mut self, class: &str, text: &str) {
        self.connection_errors.count(class, text, 1);
    }

    /// Connections that could not be made before this began.
    pub(super) fn take_connection_errors(&mut self, before: Self) {
        self.connection_errors = before.connection_errors;
    }

    /// A request of an open loop was sent.
    #[inline]
    pub(super) fn sent(&mut self, begun: u64, now: u64) {
        if begun >= self.start {
            self.lateness.saturating_record(now.saturating_sub(begun));
        }
    }

    /// Nanoseconds from the end of the warm-up to the last answer.
    pub(super) fn span(&self) -> u64 {
        self.last - self.start
    }

    /// Requests that were answered without an error.
    pub(super) fn answers(&self) -> u64 {
        self.tallies.iter().map(|tally| tally.latencies.len()).sum()
    }

    /// What became of the requests of this kind.
    pub(super) fn tally(&self, kind: Kind) -> &Tally {
        &self.tallies[kind.place()]
    }

    /// How it went over time.
    pub(super) fn series(&self) -> &Series {
        &self.series
    }

    /// Requests that failed.
    pub(super) fn errors(&self) -> &Errors {
        &self.errors
    }

    /// Connections that could not be made.
    pub(super) fn connection_errors(&self) -> &Errors {
        &self.connection_errors
    }

    /// See [`Record::sent`].
    pub(super) fn lateness(&self) -> &Latencies {
        &self.lateness
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn what_begins_in_the_warm_up_does_not_count() {
        let mut record = Record::new(100);
        record.answered(Kind::Set, 99, 500, false);
        record.failed(99, 500, "ERR", "ERR no");
        record.sent(99, 500);
        assert_eq!((record.answers(), record.errors().sum(), record.lateness().len()), (0, 0, 0));
        record.answered(Kind::Get, 100, 500, true);
        record.failed(100, 500, "ERR", "ERR no");
        record.sent(100, 500);
        assert_eq!((record.answers(), record.errors().sum(), record.lateness().len()), (1, 1, 1));
        assert_eq!((record.tally(Kind::Get).nil, record.tally(Kind::Set).nil), (1, 0));
        assert_eq!(record.span(), 400);
    }

    #[test]
    fn percentiles_are_those_of_the_values_to_three_digits() {
        let mut record = Record::new(0);
        for number in 1..=100_000_u64 {
            record.answered(Kind::Set, 0, number * 10_000, false);
        }
        let latencies = &record.tally(Kind::Set).latencies;
        for (quantile, expected) in
            [(0.5, 500.0 * 1e6), (0.99, 990.0 * 1e6), (0.999, 999.0 * 1e6), (1.0, 1000.0 * 1e6)]
        {
            #[expect(clippy::cast_precision_loss, reason = "a ratio of two of them is looked at")]
            let found = latencies.value_at_quantile(quantile) as f64;
            assert!((found / expected - 1.0).abs() < 0.001, "{quantile}: {found}");
        }
    }

    #[test]
    fn a_long_run_has_as_many_moments_as_a_short_one_and_loses_nothing() {
        let mut record = Record::new(0);
        for second in 0..10_000 {
            record.answered(Kind::Set, second * 1_000 * MS, second * 1_000 * MS + MS, false);
            record.failed(second * 1_000 * MS, second * 1_000 * MS + MS, "ERR", "ERR");
        }
        let series = record.series();
        assert!(
            (MOMENTS_MAX / 2..=MOMENTS_MAX).contains(&series.moments().len()),
            "{}",
            series.moments().len()
        );
        assert_eq!(series.moments().iter().map(|moment| moment.latencies.len()).sum::<u64>(), 10_000);
        assert_eq!(series.moments().iter().map(|moment| moment.errors).sum::<u64>(), 10_000);
        assert!(series.width() * series.moments().len() as u64 >= 9_999 * 1_000 * MS);
    }

    #[test]
    fn a_stall_is_moments_without_answers() {
        let mut record = Record::new(0);
        record.answered(Kind::Set, 0, 50 * MS, false);
        record.answered(Kind::Set, 60 * MS, 450 * MS, false);
        let answers: Vec<u64> =
            record.series().moments().iter().map(|moment| moment.latencies.len()).collect();
        assert_eq!(answers, [1, 0, 0, 0, 1]);
        let (recent, span) = record.series().since(250 * MS, 460 * MS);
        assert_eq!((recent.latencies.len(), span), (1, 260 * MS));
    }

    #[test]
    fn errors_are_told_apart_up_to_a_limit_and_none_is_lost() {
        let mut errors = Errors::default();
        for number in 0..100 {
            errors.count(&format!("E{number:03}"), &"é".repeat(1_000), 2);
        }
        errors.count("E000", "another text", 1);
        errors.count("never", "", 0);
        assert_eq!(errors.sum(), 201);
        assert!(errors.classes().count() <= CLASSES_MAX + 1);
        let (name, class) = errors.classes().next().unwrap();
        assert_eq!((name, class.count, class.example.len()), ("E000", 3, EXAMPLE_BYTES_MAX));
    }
}
