//! The report as a page: one file that loads nothing, runs nothing, and is light or dark as its reader wants it. Must not know
//! how it was measured.

use std::fmt::Write as _;

use super::chart::{Axis, Chart, HALF, WIDE};
use super::figures::{latency, rate, whole};
use super::record::Errors;
use super::report::{CurvePoint, Percentiles, Report, Run, SeriesPoint};

/// How it looks.
const STYLE: &str = include_str!("report.css");

/// Text as it may stand between tags and in attributes.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    out
}

/// All of it.
pub(super) fn page(report: &Report) -> String {
    let program = report.target.program.as_deref().unwrap_or("unknown program");
    let title = escaped(&format!("{program}, measured"));
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n"
    );
    head(&mut html, report, program);
    summary(&mut html, report);
    report.runs.iter().for_each(|run| section(&mut html, run));
    // Writing to a string does not fail.
    let _ = writeln!(
        html,
        "<footer>{}, {}. Latencies are from an HDR histogram, to three digits, over time to two.</footer>\n</body>\n</html>",
        escaped(&report.program),
        escaped(&report.started)
    );
    html
}

fn head(html: &mut String, report: &Report, program: &str) {
    let (target, plan) = (&report.target, &report.plan);
    let servers = target.servers.join(" ");
    let leader = if target.to == "leader" { ", which leads" } else { "" };
    let mut facts = vec![format!("{} connections", plan.connections)];
    if plan.pipeline > 1 {
        facts.push(format!("pipeline {}", plan.pipeline));
    }
    facts.push(format!("{} keys of {} B", whole(plan.keys), plan.key_bytes));
    facts.push(format!("values of {} B", whole(plan.value_bytes as u64)));
    let explained = match plan.rate {
        Some(rate) => {
            facts.insert(0, format!("open loop, {} a second", whole(rate)));
            "Latency is from the moment when a request was due to its answer, whether or not it could be sent then."
        }
        None => {
            facts.insert(0, "closed loop".to_owned());
            "Latency is from the sending of a request to its answer. Who waits for an answer sends nothing."
        }
    };
    let facts: String = facts.iter().map(|fact| format!("<li>{fact}</li>")).collect();
    // Writing to a string does not fail.
    let _ = writeln!(
        html,
        "<header>\n<h1>{}</h1>\n<p class=\"where\">{}{leader}</p>\n<ul class=\"facts\">{facts}</ul>\n<p class=\"quiet\">{explained}</p>\n</header>",
        escaped(program),
        escaped(&servers)
    );
}

/// One row for each workload, and for each kind of a mix.
fn summary(html: &mut String, report: &Report) {
    html.push_str(
        "<section class=\"card wide\">\n<table>\n<thead><tr><th>Workload</th><th>Requests</th><th>Per second</th><th>p50</th>\
         <th>p90</th><th>p99</th><th>p99.9</th><th>Max</th><th>Errors</th></tr></thead>\n<tbody>\n",
    );
    for run in &report.runs {
        let class = if run.errors > 0 { "bad" } else { "" };
        let errors = format!("<td class=\"{class}\">{}</td>", whole(run.errors));
        row(html, "", &run.workload, (run.requests, run.requests_per_second), &run.latency_ms, &errors);
        if run.operations.len() > 1 {
            for (name, part) in &run.operations {
                row(
                    html,
                    "part",
                    name,
                    (part.requests, part.requests_per_second),
                    &part.latency_ms,
                    "<td></td>",
                );
            }
        }
    }
    html.push_str("</tbody>\n</table>\n</section>\n");
}

fn row(
    html: &mut String,
    class: &str,
    name: &str,
    (count, per_second): (u64, f64),
    ms: &Percentiles,
    errors: &str,
) {
    let cells: String = [ms.p50, ms.p90, ms.p99, ms.p99_9, ms.max]
        .map(|ms| if count > 0 { format!("<td>{}</td>", latency(ms)) } else { "<td>–</td>".to_owned() })
        .concat();
    // Writing to a string does not fail.
    let _ = writeln!(
        html,
        "<tr class=\"{class}\"><th>{}</th><td>{}</td><td class=\"strong\">{}</td>{cells}{errors}</tr>",
        escaped(name),
        whole(count),
        rate(per_second)
    );
}

fn section(html: &mut String, run: &Run) {
    // Writing to a string does not fail.
    let _ = writeln!(html, "<h2>{}</h2>", escaped(&run.workload));
    tiles(html, run);
    notes(html, run);
    if run.requests == 0 {
        return;
    }
    html.push_str("<div class=\"charts\">\n");
    card(html, "Throughput", "requests a second, over time", &band_legend(run), &throughput(run));
    let legend = [("p50", "p50"), ("p99", "p99"), ("max", "max")];
    card(html, "Latency", "over time", &legend, &latencies(run));
    card(html, "Latency by percentile", "the share of requests that took no longer", &[], &percentiles(run));
    html.push_str("</div>\n");
}

fn tiles(html: &mut String, run: &Run) {
    let ms = &run.latency_ms;
    let at = |ms: f64| if run.requests > 0 { latency(ms) } else { "–".to_owned() };
    let tiles = [
        ("a second", rate(run.requests_per_second), "main"),
        ("p50", at(ms.p50), ""),
        ("p99", at(ms.p99), ""),
        ("p99.9", at(ms.p99_9), ""),
        ("max", at(ms.max), ""),
        ("errors", whole(run.errors), if run.errors > 0 { "bad" } else { "" }),
    ];
    let tiles = tiles.map(|(name, value, class)| {
        format!("<div class=\"tile {class}\"><span class=\"value\">{value}</span><span class=\"name\">{name}</span></div>")
    });
    // Writing to a string does not fail.
    let _ = writeln!(html, "<div class=\"tiles\">{}</div>", tiles.concat());
}

/// What is not in the figures.
fn notes(html: &mut String, run: &Run) {
    let mut notes = Vec::new();
    if let Some(why) = run.stopped {
        notes.push(format!("Stopped after {:.1} s: {}", run.seconds, escaped(why)));
    }
    classes(&mut notes, "", &run.error_classes);
    classes(&mut notes, "connections: ", &run.connection_error_classes);
    if run.nil > 0 {
        notes.push(format!("{} of the answers were that there is no such key", whole(run.nil)));
    }
    if let Some(late) = run.lateness_ms {
        let (p50, p99, max) = (latency(late.p50), latency(late.p99), latency(late.max));
        notes.push(format!("Sent after it was due: p50 {p50}, p99 {p99}, max {max}"));
    }
    if !notes.is_empty() {
        let items: String = notes.iter().map(|note| format!("<li>{note}</li>")).collect();
        // Writing to a string does not fail.
        let _ = writeln!(html, "<ul class=\"notes\">{items}</ul>");
    }
}

fn classes(notes: &mut Vec<String>, what: &str, errors: &Errors) {
    notes.extend(errors.classes().map(|(class, errors)| {
        format!(
            "<b>{what}{} × {}</b> the first: {}",
            whole(errors.count),
            escaped(class),
            escaped(&errors.example)
        )
    }));
}

fn card(html: &mut String, title: &str, about: &str, legend: &[(&str, &str)], chart: &str) {
    let legend: String =
        legend.iter().map(|(class, name)| format!("<span class=\"key {class}\">{name}</span>")).collect();
    // Writing to a string does not fail.
    let _ = writeln!(
        html,
        "<figure class=\"card\">\n<figcaption><b>{title}</b> <span class=\"quiet\">{about}</span>\
         <span class=\"legend\">{legend}</span></figcaption>\n{chart}</figure>"
    );
}

/// Its middle, for a line.
fn middle(point: &SeriesPoint) -> f64 {
    point.at_seconds + point.seconds / 2.0
}

fn per_second(point: &SeriesPoint) -> f64 {
    point.requests as f64 / point.seconds
}

fn time_axis(run: &Run) -> Axis {
    Axis::linear_to(run.seconds, |seconds| format!("{} s", (seconds * 100.0).round() / 100.0))
}

/// How a moment is marked: one with errors, and one without an answer.
fn mark(point: &SeriesPoint) -> Option<&'static str> {
    match (point.requests, point.errors) {
        (_, 1..) => Some("failed"),
        (0, 0) => Some("silent"),
        (_, 0) => None,
    }
}

/// The moments that are marked, as bands: those beside each other are one.
fn bands(chart: &mut Chart, run: &Run) {
    for moments in run.series.chunk_by(|one, other| mark(one) == mark(other)) {
        let (Some(first), Some(last)) = (moments.first(), moments.last()) else { continue };
        if let Some(class) = mark(first) {
            chart.band(class, first.at_seconds, last.at_seconds + last.seconds);
        }
    }
}

/// What the bands mean, where there are any.
fn band_legend(run: &Run) -> Vec<(&'static str, &'static str)> {
    let all = [("failed", "errors"), ("silent", "no answers")];
    all.into_iter().filter(|(class, _)| run.series.iter().any(|point| mark(point) == Some(class))).collect()
}

fn hovers(chart: &mut Chart, run: &Run) {
    for point in &run.series {
        let mut text = format!("at {:.2} s: {} a second", point.at_seconds, rate(per_second(point)));
        if point.requests > 0 {
            let (p50, p99, max) = (latency(point.p50_ms), latency(point.p99_ms), latency(point.max_ms));
            // Writing to a string does not fail.
            let _ = write!(text, ", p50 {p50}, p99 {p99}, max {max}");
        }
        if point.errors > 0 {
            let _ = write!(text, ", {} errors", whole(point.errors));
        }
        chart.hover(point.at_seconds, point.at_seconds + point.seconds, &text);
    }
}

fn throughput(run: &Run) -> String {
    let points: Vec<(f64, f64)> = run.series.iter().map(|point| (middle(point), per_second(point))).collect();
    let top = points.iter().map(|(_, y)| *y).fold(0.0, f64::max);
    let mut chart = Chart::new("Requests a second over time", WIDE, time_axis(run), Axis::linear(top, short));
    bands(&mut chart, run);
    chart.area("rate", &points);
    let line: Vec<(f64, Option<f64>)> = points.iter().map(|(x, y)| (*x, Some(*y))).collect();
    chart.line("rate", &line);
    hovers(&mut chart, run);
    chart.finish()
}

fn latencies(run: &Run) -> String {
    let of = |value: fn(&SeriesPoint) -> f64| -> Vec<(f64, Option<f64>)> {
        let at = |point: &SeriesPoint| (middle(point), (point.requests > 0).then(|| value(point)));
        run.series.iter().map(at).collect()
    };
    let (p50, p99, max) = (of(|point| point.p50_ms), of(|point| point.p99_ms), of(|point| point.max_ms));
    let least = p50.iter().filter_map(|(_, y)| *y).fold(f64::MAX, f64::min);
    let most = max.iter().filter_map(|(_, y)| *y).fold(0.0, f64::max);
    let mut chart = Chart::new("Latency over time", HALF, time_axis(run), Axis::log(least, most, tick));
    bands(&mut chart, run);
    chart.line("p50", &p50);
    chart.line("p99", &p99);
    chart.line("max", &max);
    hovers(&mut chart, run);
    chart.finish()
}

/// How far to the right: each tenth of what is left to a hundred percent is as wide as the one before.
fn rarity(percent: f64) -> f64 {
    (100.0 / (100.0 - percent).max(1e-9)).log10()
}

fn percentiles(run: &Run) -> String {
    const MARKS: [(f64, &str); 8] = [
        (0.0, "0 %"),
        (50.0, "50 %"),
        (90.0, "90 %"),
        (99.0, "99 %"),
        (99.9, "99.9 %"),
        (99.99, "99.99 %"),
        (99.999, "99.999 %"),
        (99.9999, "99.9999 %"),
    ];
    // The last one of n requests is at 1 - 1/n; the curve says 100 there. On a long axis there is no room for the half.
    let end = (run.requests.max(10) as f64).log10().min(7.0);
    let marks = MARKS.iter().map(|(percent, label)| (rarity(*percent), (*label).to_owned()));
    let x = Axis::with_ticks(
        end,
        marks.filter(|(at, _)| *at <= end && (end < 4.5 || *at < 0.1 || *at > 0.9)).collect(),
    );
    let (least, most) = (run.latency_ms.min, run.latency_ms.max);
    let mut chart = Chart::new("Latency by percentile", HALF, x, Axis::log(least, most, tick));
    let at = |point: &CurvePoint| (rarity(point.percent).min(end), point.ms);
    let points: Vec<(f64, f64)> = run.curve.iter().map(at).collect();
    chart.area("curve", &points);
    let line: Vec<(f64, Option<f64>)> = points.iter().map(|(x, y)| (*x, Some(*y))).collect();
    chart.line("curve", &line);
    for pair in run.curve.windows(2) {
        let text = format!("{}: {}", percent(pair[1].percent), latency(pair[1].ms));
        chart.hover(at(&pair[0]).0, at(&pair[1]).0, &text);
    }
    chart.finish()
}

/// With as many digits as tell it from a hundred.
fn percent(percent: f64) -> String {
    let text = format!("{percent:.5}");
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

/// `25k`, `1.5M`.
fn short(number: f64) -> String {
    let (number, unit) = match number {
        number if number >= 1e6 => (number / 1e6, "M"),
        number if number >= 1e3 => (number / 1e3, "k"),
        number => (number, ""),
    };
    format!("{}{unit}", (number * 100.0).round() / 100.0)
}

/// A latency at an axis: a round number.
fn tick(ms: f64) -> String {
    let (number, unit) = match ms {
        ms if ms < 0.999_9 => (ms * 1e3, "µs"),
        ms if ms < 999.9 => (ms, "ms"),
        ms => (ms / 1e3, "s"),
    };
    format!("{} {unit}", (number * 100.0).round() / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_and_percents_are_short() {
        for (ms, text) in [(0.05, "50 µs"), (1.0, "1 ms"), (20.0, "20 ms"), (1_000.0, "1 s"), (0.002, "2 µs")]
        {
            assert_eq!(tick(ms), text);
        }
        for (number, text) in [(0.0, "0"), (250.0, "250"), (25_000.0, "25k"), (1_500_000.0, "1.5M")] {
            assert_eq!(short(number), text);
        }
        for (number, text) in [(50.0, "50 %"), (99.9, "99.9 %"), (99.99, "99.99 %"), (100.0, "100 %")] {
            assert_eq!(percent(number), text);
        }
        assert!((rarity(99.9) - 3.0).abs() < 1e-9);
    }

    #[test]
    fn the_page_loads_nothing_and_runs_nothing() {
        let page = page(&super::super::report::tests::example());
        for forbidden in ["http:", "https:", "<script", "<link", "src=", "url(", "@import", "NaN", "inf"] {
            let found =
                page.split_once(forbidden).map(|(_, after)| after.chars().take(60).collect::<String>());
            assert_eq!(found, None, "{forbidden}");
        }
        assert_eq!(page.matches("<svg").count(), 3);
        assert!(page.contains("OOM &lt;b&gt;disk&lt;/b&gt; full") && !page.contains("<b>disk"), "{page}");
        assert!(page.contains("prefers-color-scheme: dark"));
        // The stall, and the moment of the error, in both pictures over time.
        assert_eq!(
            (page.matches("class=\"silent\"").count(), page.matches("class=\"failed\"").count()),
            (2, 2)
        );
    }

    #[test]
    fn nothing_that_a_server_says_gets_out_of_its_place() {
        assert_eq!(escaped("<script>\"a\" & b"), "&lt;script&gt;&quot;a&quot; &amp; b");
    }
}
