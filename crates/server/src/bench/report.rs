//! What was measured, in the form in which it is shown and written: the fields are those of the JSON, which docs/bench.md
//! describes. Must not know how it was measured.

use std::collections::BTreeMap;

use serde::Serialize;

use super::commands::{Kind, Mix};
use super::engine::Outcome;
use super::gate::{Extent, NANOS};
use super::plan::{Load, Plan};
use super::record::{Errors, Latencies, Moment, latencies};
use super::servers::Servers;

/// The version of the JSON: fields may come without a new one, and none goes or changes its meaning.
const FORMAT: u32 = 1;

/// Everything.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    /// Of these fields.
    pub(super) format: u32,
    /// What measured: `quorate 0.1.0`.
    pub(super) program: String,
    /// When it began, in UTC.
    pub(super) started: String,
    /// What was measured.
    pub(super) target: Target,
    /// How.
    pub(super) plan: Settings,
    /// What came of each workload.
    pub(super) runs: Vec<Run>,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Target {
    /// Where the connections went.
    pub(super) servers: Vec<String>,
    /// `all` or `leader`.
    pub(super) to: &'static str,
    /// What they say they are: `quorate 0.1.0`, `redis 7.0.15`.
    pub(super) program: Option<String>,
}

/// How it was measured.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Settings {
    /// `closed` or `open`.
    pub(super) r#loop: &'static str,
    /// Requests a second, in an open loop.
    pub(super) rate: Option<u64>,
    /// How many.
    pub(super) connections: usize,
    /// Requests under way on each of them.
    pub(super) pipeline: usize,
    /// Bytes of a key.
    pub(super) key_bytes: usize,
    /// Bytes of a value.
    pub(super) value_bytes: usize,
    /// How many.
    pub(super) keys: u64,
    /// How long, if that is what was asked for.
    pub(super) duration_seconds: Option<f64>,
    /// How many requests, if that is what was asked for.
    pub(super) requests: Option<u64>,
    /// Before it was measured.
    pub(super) warm_up_seconds: f64,
    /// For an answer.
    pub(super) timeout_seconds: f64,
}

/// What came of one workload.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Run {
    /// As on the command line.
    pub(super) workload: String,
    /// From the end of the warm-up to the last answer.
    pub(super) seconds: f64,
    /// Answered without an error.
    pub(super) requests: u64,
    /// Of those, a second.
    pub(super) requests_per_second: f64,
    /// Of those, how many found no such key.
    pub(super) nil: u64,
    /// How long they took.
    pub(super) latency_ms: Percentiles,
    /// The same by kind.
    pub(super) operations: BTreeMap<&'static str, Operation>,
    /// Requests that failed.
    pub(super) errors: u64,
    /// By class.
    pub(super) error_classes: Errors,
    /// Connections that could not be made.
    pub(super) connection_errors: u64,
    /// By class.
    pub(super) connection_error_classes: Errors,
    /// Why it ended before its time, if it did.
    pub(super) stopped: Option<&'static str>,
    /// In an open loop: how long after they were due requests were sent.
    pub(super) lateness_ms: Option<Percentiles>,
    /// What the measuring cost.
    pub(super) generator: Generator,
    /// Percent, and how long at most that share of the requests took.
    pub(super) curve: Vec<CurvePoint>,
    /// How it went over time.
    pub(super) series: Vec<SeriesPoint>,
}

/// What came of one kind of requests.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Operation {
    /// Answered without an error.
    pub(super) requests: u64,
    /// Of those, a second.
    pub(super) requests_per_second: f64,
    /// Of those, how many found no such key.
    pub(super) nil: u64,
    /// How long they took.
    pub(super) latency_ms: Percentiles,
}

/// Latencies in milliseconds, to three digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Percentiles {
    /// The shortest.
    pub(super) min: f64,
    /// The mean.
    pub(super) mean: f64,
    /// Half of all took no longer.
    pub(super) p50: f64,
    /// And so on.
    pub(super) p90: f64,
    /// And so on.
    pub(super) p99: f64,
    /// 99.9 percent.
    pub(super) p99_9: f64,
    /// The longest.
    pub(super) max: f64,
}

/// What the measuring cost.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Generator {
    /// Processor time.
    pub(super) cpu_seconds: f64,
    /// Of requests, warm-up included.
    pub(super) sent_bytes: u64,
    /// Of answers, warm-up included.
    pub(super) received_bytes: u64,
}

/// One point of the curve.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct CurvePoint {
    /// Of all requests.
    pub(super) percent: f64,
    /// How long they took at most.
    pub(super) ms: f64,
}

/// One moment of the run.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct SeriesPoint {
    /// When it began, since the end of the warm-up.
    pub(super) at_seconds: f64,
    /// How long it was.
    pub(super) seconds: f64,
    /// Answered without an error.
    pub(super) requests: u64,
    /// Failed.
    pub(super) errors: u64,
    /// Of those answered, to two digits; 0 where there are none.
    pub(super) p50_ms: f64,
    /// The same.
    pub(super) p99_ms: f64,
    /// The same.
    pub(super) max_ms: f64,
}

impl Report {
    /// One without any runs yet.
    pub(super) fn new(plan: &Plan, servers: &Servers, started: String) -> Self {
        let load = &plan.load;
        let (duration_seconds, requests) = match load.extent {
            Extent::Time(span) => (Some(seconds(span)), None),
            Extent::Requests(count) => (None, Some(count)),
        };
        Self {
            format: FORMAT,
            program: format!("quorate {}", env!("CARGO_PKG_VERSION")),
            started,
            target: Target {
                servers: servers.names.clone(),
                to: plan.to.name(),
                program: servers.program.clone(),
            },
            plan: Settings {
                r#loop: if load.rate.is_some() { "open" } else { "closed" },
                rate: load.rate,
                connections: load.connections,
                pipeline: load.pipeline,
                key_bytes: load.sizes.key_bytes,
                value_bytes: load.sizes.value_bytes,
                keys: load.sizes.keys,
                duration_seconds,
                requests,
                warm_up_seconds: load.warm_up.as_secs_f64(),
                timeout_seconds: load.timeout.as_secs_f64(),
            },
            runs: Vec::new(),
        }
    }

    /// Whether there is a workload of which nothing succeeded, or none at all.
    pub(super) fn has_failed(&self) -> bool {
        self.runs.is_empty() || self.runs.iter().any(|run| run.requests == 0)
    }
}

impl Run {
    /// What came of this workload.
    pub(super) fn new(mix: Mix, load: &Load, outcome: &Outcome) -> Self {
        let record = &outcome.record;
        let span = seconds(record.span());
        let mut all = latencies();
        let mut operations = BTreeMap::new();
        for kind in mix.kinds() {
            let tally = record.tally(kind);
            all.add(&tally.latencies).expect("the bounds are the same");
            operations.insert(
                kind.name(),
                Operation {
                    requests: tally.latencies.len(),
                    requests_per_second: rate(tally.latencies.len(), span),
                    nil: tally.nil,
                    latency_ms: Percentiles::of(&tally.latencies),
                },
            );
        }
        Self {
            workload: mix.to_string(),
            seconds: span,
            requests: all.len(),
            requests_per_second: rate(all.len(), span),
            nil: Kind::ALL.iter().map(|kind| record.tally(*kind).nil).sum(),
            latency_ms: Percentiles::of(&all),
            operations,
            errors: record.errors().sum(),
            error_classes: record.errors().clone(),
            connection_errors: record.connection_errors().sum(),
            connection_error_classes: record.connection_errors().clone(),
            stopped: outcome.stopped,
            lateness_ms: load.rate.map(|_| Percentiles::of(record.lateness())),
            generator: Generator {
                cpu_seconds: seconds(outcome.cpu),
                sent_bytes: outcome.sent_bytes,
                received_bytes: outcome.received_bytes,
            },
            curve: curve(&all),
            series: series(outcome),
        }
    }
}

impl Percentiles {
    fn of(latencies: &Latencies) -> Self {
        if latencies.is_empty() {
            return Self::default();
        }
        let at = |quantile| ms(latencies.value_at_quantile(quantile));
        Self {
            min: ms(latencies.min()),
            mean: round(latencies.mean() / 1e6),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            max: ms(latencies.max()),
        }
    }
}

/// Points at even distances as the curve is drawn: each half of what is left to a hundred percent has as many.
fn curve(latencies: &Latencies) -> Vec<CurvePoint> {
    const POINTS_EACH_HALF: u32 = 5;
    let points = latencies.iter_quantiles(POINTS_EACH_HALF).map(|point| CurvePoint {
        percent: point.quantile_iterated_to() * 100.0,
        ms: ms(point.value_iterated_to()),
    });
    points.collect()
}

fn series(outcome: &Outcome) -> Vec<SeriesPoint> {
    let series = outcome.record.series();
    let (width, span) = (series.width(), outcome.record.span());
    let point = |(at, moment): (usize, &Moment)| {
        let begun = at as u64 * width;
        let quantile = |quantile| ms(moment.latencies.value_at_quantile(quantile));
        SeriesPoint {
            at_seconds: seconds(begun),
            seconds: seconds(width.min(span.saturating_sub(begun)).max(1)),
            requests: moment.latencies.len(),
            errors: moment.errors,
            p50_ms: quantile(0.5),
            p99_ms: quantile(0.99),
            max_ms: quantile(1.0),
        }
    };
    series.moments().iter().enumerate().map(point).collect()
}

#[expect(clippy::cast_precision_loss, reason = "what is shown has six digits")]
fn rate(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { (count as f64 / seconds * 10.0).round() / 10.0 } else { 0.0 }
}

#[expect(clippy::cast_precision_loss, reason = "a run of three months is told to the nanosecond")]
fn seconds(nanos: u64) -> f64 {
    nanos as f64 / NANOS as f64
}

#[expect(clippy::cast_precision_loss, reason = "three digits are right")]
fn ms(nanos: u64) -> f64 {
    round(nanos as f64 / 1e6)
}

/// To the microsecond.
fn round(ms: f64) -> f64 {
    (ms * 1e3).round() / 1e3
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::super::commands::Sizes;
    use super::super::plan::Whereto;
    use super::super::record::Record;
    use super::*;

    const MS: u64 = 1_000_000;

    /// A second of which the middle is a stall, with an error at its end.
    pub(in super::super) fn example() -> Report {
        let load = Load {
            connections: 1,
            pipeline: 1,
            extent: Extent::Requests(8),
            rate: Some(10),
            warm_up: Duration::ZERO,
            sizes: Sizes { key_bytes: 16, value_bytes: 100, keys: 10 },
            timeout: Duration::from_secs(1),
        };
        let mix = "set=1,get=1".parse().unwrap();
        let mut record = Record::new(0);
        for (kind, begun, now) in
            [(Kind::Set, 0, 1), (Kind::Get, 100, 102), (Kind::Set, 200, 804), (Kind::Get, 300, 805)]
        {
            record.sent(begun * MS, begun * MS);
            record.answered(kind, begun * MS, now * MS, kind == Kind::Get && begun == 100);
        }
        record.failed(400 * MS, 806 * MS, "OOM", "OOM <b>disk</b> full");
        record.not_connected("refused", "127.0.0.1:1: refused");
        record.unsent(3, "due, and not sent");
        let outcome =
            Outcome { record, stopped: Some("interrupted"), cpu: MS, sent_bytes: 10, received_bytes: 20 };
        let plan = Plan {
            workloads: vec![mix],
            servers: vec!["127.0.0.1:6379".parse().unwrap()],
            to: Whereto::Leader,
            load,
            is_filled: true,
            json: None,
            html: None,
        };
        let servers = Servers {
            addresses: Vec::new(),
            names: vec!["127.0.0.1:6379".to_owned()],
            program: Some("redis 7.0.15".to_owned()),
        };
        let mut report = Report::new(&plan, &servers, "2026-11-23T00:00:00.000Z".to_owned());
        report.runs.push(Run::new(mix, &load, &outcome));
        report
    }

    #[test]
    fn the_figures_are_those_of_what_happened() {
        let report = example();
        let run = &report.runs[0];
        assert_eq!((run.requests, run.nil, run.errors, run.connection_errors), (4, 1, 4, 1));
        assert_eq!((run.seconds, run.requests_per_second), (0.805, 5.0));
        assert_eq!(run.operations.values().map(|operation| operation.requests).collect::<Vec<_>>(), [2, 2]);
        assert!(
            (run.latency_ms.max - 604.0).abs() < 1.0 && (run.latency_ms.min - 1.0).abs() < 0.01,
            "{run:?}"
        );
        assert!(
            (run.latency_ms.p99 - 604.0).abs() < 1.0 && (run.latency_ms.p50 - 2.0).abs() < 0.01,
            "{run:?}"
        );
        assert_eq!(
            run.series.iter().map(|moment| moment.requests).collect::<Vec<_>>(),
            [1, 1, 0, 0, 0, 0, 0, 0, 2]
        );
        assert_eq!(run.series.iter().map(|moment| moment.errors).sum::<u64>(), 1);
        let (first, last) = (run.curve.first().unwrap(), run.curve.last().unwrap());
        assert!(run.curve.is_sorted_by(|a, b| a.percent <= b.percent && a.ms <= b.ms));
        assert!((first.ms - 1.0).abs() < 0.01 && (last.percent - 100.0).abs() < 1e-9, "{:?}", run.curve);
        assert!(!report.has_failed());
    }

    #[test]
    fn a_report_without_an_answer_has_failed() {
        let mut report = example();
        report.runs[0].requests = 0;
        assert!(report.has_failed());
        report.runs.clear();
        assert!(report.has_failed());
    }

    fn names(value: &serde_json::Value, into: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(fields) => {
                for (name, value) in fields {
                    into.push(name.clone());
                    // Beneath these the names are data.
                    if name.ends_with("classes") {
                        fields[name].as_object().unwrap().values().for_each(|class| names(class, into));
                    } else {
                        names(value, into);
                    }
                }
            }
            serde_json::Value::Array(items) => items.iter().for_each(|item| names(item, into)),
            serde_json::Value::Null
            | serde_json::Value::Bool(_)
            | serde_json::Value::Number(_)
            | serde_json::Value::String(_) => {}
        }
    }

    #[test]
    fn each_field_is_explained_in_the_documentation() {
        let documentation = include_str!("../../../../docs/bench.md");
        let mut all = Vec::new();
        names(&serde_json::to_value(example()).unwrap(), &mut all);
        assert!(all.len() > 80, "{}", all.len());
        for name in all {
            assert!(documentation.contains(&format!("`{name}`")), "{name}");
        }
    }
}
