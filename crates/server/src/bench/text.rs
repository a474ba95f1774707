//! The report as text: a table at the end, and what there is to say about it. Must not know how it was measured.

use std::fmt::Write as _;

use super::figures::{latency, rate, whole};
use super::record::Errors;
use super::report::{Operation, Report, Run};
use crate::shell::table;

/// Of a processor: a generator that needs this much of one may be what limits.
const BUSY: f64 = 0.9;

/// What is measured, in a few lines.
pub(super) fn head(report: &Report) -> String {
    let (target, plan) = (&report.target, &report.plan);
    let program = target.program.as_deref().unwrap_or("unknown program");
    let servers = target.servers.join(" ");
    let leader = if target.to == "leader" { ", which leads" } else { "" };
    let mut text = format!("{program} at {servers}{leader}\n");
    let pipeline = if plan.pipeline > 1 { format!(" × pipeline {}", plan.pipeline) } else { String::new() };
    let (keys, key, value) = (whole(plan.keys), plan.key_bytes, plan.value_bytes);
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "{} connections{pipeline}, {keys} keys of {key} bytes, values of {value} bytes",
        plan.connections
    );
    let _ = match plan.rate {
        Some(rate) => writeln!(
            text,
            "open loop, {} requests a second: latency is from when a request was due to its answer",
            whole(rate)
        ),
        None => writeln!(
            text,
            "closed loop: latency is from the sending of a request to its answer; who waits sends nothing"
        ),
    };
    text
}

/// All of it as a table, and below it what went wrong.
pub(super) fn results(report: &Report) -> String {
    let heads = ["WORKLOAD", "REQUESTS", "PER-SECOND", "MEAN", "P50", "P90", "P99", "P99.9", "MAX", "ERRORS"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for run in &report.runs {
        let all = Operation {
            requests: run.requests,
            requests_per_second: run.requests_per_second,
            nil: run.nil,
            latency_ms: run.latency_ms,
        };
        rows.push(row(&run.workload, &all, &whole(run.errors)));
        if run.operations.len() > 1 {
            rows.extend(
                run.operations.iter().map(|(name, operation)| row(&format!("  {name}"), operation, "")),
            );
        }
    }
    let mut text = table(&rows);
    report.runs.iter().for_each(|run| notes(run, &mut text));
    text
}

fn row(name: &str, operation: &Operation, errors: &str) -> Vec<String> {
    let latencies = operation.latency_ms;
    let mut row = vec![name.to_owned(), whole(operation.requests), rate(operation.requests_per_second)];
    let all = [latencies.mean, latencies.p50, latencies.p90, latencies.p99, latencies.p99_9, latencies.max];
    row.extend(all.map(|ms| if operation.requests > 0 { latency(ms) } else { "-".to_owned() }));
    row.push(errors.to_owned());
    row
}

/// What the table does not say.
fn notes(run: &Run, text: &mut String) {
    let name = &run.workload;
    // Writing to a string does not fail.
    if let Some(why) = run.stopped {
        let _ = writeln!(text, "{name}: stopped after {:.1} s: {why}", run.seconds);
    }
    classes(name, "", &run.error_classes, text);
    classes(name, "connections: ", &run.connection_error_classes, text);
    if run.nil > 0 {
        let _ = writeln!(text, "{name}: {} of the answers were that there is no such key", whole(run.nil));
    }
    if let Some(late) = run.lateness_ms {
        let (p50, p99, max) = (latency(late.p50), latency(late.p99), latency(late.max));
        let _ = writeln!(text, "{name}: sent after it was due: p50 {p50}, p99 {p99}, max {max}");
    }
    if run.seconds > 0.0 && run.generator.cpu_seconds / run.seconds > BUSY {
        let _ = writeln!(text, "{name}: the generator had no processor time left, and may be what limits");
    }
}

fn classes(name: &str, what: &str, errors: &Errors, text: &mut String) {
    for (class, errors) in errors.classes() {
        // Writing to a string does not fail.
        let _ =
            writeln!(text, "{name}: {what}{} × {class}, the first: {}", whole(errors.count), errors.example);
    }
}
