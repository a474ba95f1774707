//! One run, shown as a person asked: as a trace, as a history, as a page.

use std::io::{self, BufWriter, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use quorate_sim::case::Case;
use quorate_sim::overrides::{Listed, Override};
use quorate_sim::run::Report;
use quorate_sim::sabotage::Sabotage;
use quorate_sim::schedule::{Micros, SECOND};
use quorate_sim::trace::{LEGEND, LEGEND_OF_ALL, Trace};
use quorate_sim::{html, jsonl, verdict};

use super::tell::tell;

/// Which run.
#[derive(Args)]
pub(crate) struct Which {
    /// The seed.
    #[arg(long)]
    pub(crate) seed: u64,
    /// Puts this bug back, and draws the options in its weather; `sabotage --list` names them.
    #[arg(long, value_name = "NAME", value_parser = sabotage)]
    pub(crate) sabotage: Option<&'static Sabotage>,
    /// Changes an option that the seed has drawn; again for another. `--options` names them.
    #[arg(long, value_name = "PATH=VALUE")]
    pub(crate) set: Vec<Override>,
}

impl Which {
    pub(crate) fn case(self) -> Case {
        Case { seed: self.seed, sabotage: self.sabotage, overrides: self.set }
    }
}

fn sabotage(name: &str) -> Result<&'static Sabotage, String> {
    Sabotage::named(name).ok_or_else(|| "no such bug; `quorate-sim sabotage --list` names them".to_owned())
}

/// How it is shown.
#[derive(Args, Default)]
pub(crate) struct Shown {
    /// Prints one line an event, as it happens.
    #[arg(long)]
    pub(crate) trace: bool,
    /// The trace with heartbeats, departures and all else that is always the same.
    #[arg(long, requires = "trace")]
    pub(crate) all: bool,
    /// The trace from this simulated second on.
    #[arg(long, value_name = "SECOND", requires = "trace")]
    pub(crate) from: Option<f64>,
    /// The trace up to this simulated second.
    #[arg(long, value_name = "SECOND", requires = "trace")]
    pub(crate) to: Option<f64>,
    /// The last seconds of the trace; the seed is run once more to know where they begin.
    #[arg(long, value_name = "SECONDS", requires = "trace", conflicts_with_all = ["from", "to"])]
    pub(crate) last: Option<f64>,
    /// Writes what clients did and saw to this file, one operation a line.
    #[arg(long, value_name = "FILE")]
    pub(crate) history: Option<PathBuf>,
    /// Writes a page to look at to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Prints the options, as they can be set, and runs nothing.
    #[arg(long)]
    pub(crate) options: bool,
}

/// Runs it. True if nothing was violated.
pub(crate) fn look(out: &mut impl io::Write, case: &Case, shown: &Shown) -> anyhow::Result<bool> {
    let (options, _) = case.options()?;
    if shown.options {
        writeln!(out, "{}", Listed(&options))?;
        return Ok(true);
    }
    let trace = trace(out, case, shown)?;
    let report = case.run(trace)?;
    tell(out, Some(case), &report)?;
    if let Some(path) = &shown.history {
        let ranks = ranks(&report);
        write_file(path, |to| jsonl::write(to, report.history.operations(), &ranks))?;
        writeln!(out, "  history: {}", path.display())?;
    }
    if let Some(path) = &shown.html {
        write_file(path, |to| html::write(to, &case.to_string(), &options, &report))?;
        writeln!(out, "  page: {}", path.display())?;
    }
    Ok(report.violation.is_none())
}

fn ranks(report: &Report) -> Vec<Option<u64>> {
    let operations = report.history.operations();
    match &report.effects {
        Some(effects) => verdict::ranks(operations, effects),
        None => vec![None; operations.len()],
    }
}

fn trace(out: &mut impl io::Write, case: &Case, shown: &Shown) -> anyhow::Result<Trace> {
    if !shown.trace {
        return Ok(Trace::default());
    }
    let micros = |seconds: f64| (seconds.max(0.0) * SECOND as f64) as Micros;
    let mut window = shown.from.map_or(0, micros)..shown.to.map_or(Micros::MAX, micros);
    if let Some(last) = shown.last {
        let end = case.run(Trace::default())?.simulated;
        window = end.saturating_sub(micros(last))..Micros::MAX;
    }
    write!(out, "{LEGEND}{}", if shown.all { LEGEND_OF_ALL } else { "" })?;
    out.flush()?;
    let trace = Trace::streamed(BufWriter::new(io::stdout())).within(window);
    Ok(if shown.all { trace.with_all() } else { trace })
}

#[expect(clippy::disallowed_types, reason = "the person's own disk")]
fn write_file(
    path: &PathBuf,
    write: impl FnOnce(&mut BufWriter<std::fs::File>) -> io::Result<()>,
) -> anyhow::Result<()> {
    let file = std::fs::File::create(path).and_then(|file| {
        let mut file = BufWriter::new(file);
        write(&mut file)?;
        file.flush()
    });
    file.with_context(|| format!("{} cannot be written", path.display()))
}

/// Judges a history that was written to a file. True if every key of it is linearizable.
#[expect(clippy::disallowed_types, reason = "the person's own disk")]
pub(crate) fn check(out: &mut impl io::Write, path: &PathBuf) -> anyhow::Result<bool> {
    let file = std::fs::File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let (operations, ranks) =
        jsonl::read(io::BufReader::new(file)).with_context(|| path.display().to_string())?;
    match verdict::check_keys(&operations, &ranks) {
        Ok(()) => {
            writeln!(out, "{} operations: every key is linearizable", operations.len())?;
            Ok(true)
        }
        Err(guilty) => {
            writeln!(out, "{} operations: VIOLATION of {}", operations.len(), guilty.violation)?;
            Ok(false)
        }
    }
}
