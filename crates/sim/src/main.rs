//! The command line of the simulator. The only place that looks at a clock or starts threads: several seeds at
//! once, each of them one thread.

mod cli;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use cli::look::{Shown, Which, check, look};
use cli::tell::tell;
use quorate_sim::case::Case;
use quorate_sim::explore;
use quorate_sim::lab::{Outcome, SCENARIOS};
use quorate_sim::liveness::ELECTION_TIMEOUT;
use quorate_sim::run::{Report, run};
use quorate_sim::sabotage::{self, Sabotage};
use quorate_sim::schedule::SECOND;
use quorate_sim::shrink;
use quorate_sim::speed::{self, CALM_OPERATIONS_A_SECOND_MIN, Calm};
use quorate_sim::trace::Trace;

/// Runs whole clusters on a virtual clock, breaks what can break, and checks what was promised.
#[derive(Parser)]
#[command(name = "quorate-sim", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs one seed.
    Run {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        shown: Shown,
    },
    /// Makes a failing run small: fewer faults, servers, clients, operations, and less time.
    Shrink {
        #[command(flatten)]
        which: Which,
        /// Runs that are tried.
        #[arg(long, default_value_t = shrink::ATTEMPTS)]
        attempts: u64,
    },
    /// Judges a history that `run --history` wrote.
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Runs many seeds; stops at the first violation.
    Seeds {
        /// The first.
        #[arg(long, default_value_t = 1)]
        from: u64,
        /// How many.
        #[arg(long)]
        count: u64,
        /// Seeds at once.
        #[arg(long, default_value_t = 2)]
        jobs: u64,
        /// Goes on after a violation.
        #[arg(long)]
        keep_going: bool,
    },
    /// Runs the tests of the course that this database comes from, each with its limits and ours.
    Lab {
        /// Only this one.
        name: Option<String>,
        /// Prints their names, one a line, and runs nothing.
        #[arg(long)]
        list: bool,
        /// What fills in where the script leaves something open.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Puts a bug back on purpose, and tries seeds until it is found.
    Sabotage {
        /// Which.
        #[arg(required_unless_present_any = ["list", "all"])]
        name: Option<String>,
        /// Prints the bugs that can be put back, one a line, the name first.
        #[arg(long)]
        list: bool,
        /// Every bug, one after the other, as a table.
        #[arg(long, conflicts_with = "name")]
        all: bool,
        /// The first seed.
        #[arg(long, default_value_t = 1)]
        from: u64,
        /// Seeds within which it must be found.
        #[arg(long, default_value_t = sabotage::SEEDS)]
        seeds: u64,
        /// Runs the first seed alone, and prints one line an event.
        #[arg(long)]
        trace: bool,
    },
    /// Takes every order of events of three real nodes, within the larger bounds; minutes, and some memory.
    Explore,
    /// Measures the simulator on one thread, in one fixed setting: five servers, five Clerks, faults and checks on.
    Speed {
        /// The first seed.
        #[arg(long, default_value_t = 1)]
        from: u64,
        /// How many, one after the other.
        #[arg(long, default_value_t = 10)]
        count: u64,
    },
    /// Runs one seed twice and compares the traces, byte for byte.
    Determinism {
        /// Which.
        #[arg(long)]
        seed: u64,
    },
}

fn main() -> ExitCode {
    // A panic of the code under test is reported with its seed, once.
    std::panic::set_hook(Box::new(|_| {}));
    match carry_out(Arguments::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let nobody_listens = error
                .downcast_ref::<io::Error>()
                .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe);
            // A reader that closes the pipe early (`| head`) has seen enough.
            if !nobody_listens {
                let _ = writeln!(io::stderr(), "{error:#}");
            }
            ExitCode::from(2)
        }
    }
}

/// True if nothing was violated.
fn carry_out(command: Command) -> anyhow::Result<bool> {
    let mut out = io::stdout().lock();
    let done = match command {
        Command::Run { which, shown } => return look(&mut out, &which.case(), &shown),
        Command::Shrink { which, attempts } => {
            return cli::smaller::smaller(&mut out, &which.case(), attempts);
        }
        Command::Check { file } => return check(&mut out, &file),
        Command::Seeds { from, count, jobs, keep_going } => many(&mut out, from, count, jobs, keep_going),
        Command::Lab { list: true, .. } => {
            SCENARIOS.iter().try_for_each(|test| writeln!(out, "{test}")).map(|()| true)
        }
        Command::Lab { name, list: false, seed } => lab(&mut out, name.as_deref(), seed),
        Command::Sabotage { list: true, .. } => sabotage::command::list(&mut out),
        Command::Sabotage { all: true, from, seeds, .. } => sabotage::command::all(&mut out, from, seeds),
        Command::Sabotage { name, from, trace: true, .. } => {
            let name = name.unwrap_or_default();
            let sabotage =
                Sabotage::named(&name).with_context(|| format!("{name}: no such bug; see --list"))?;
            let case = Case { sabotage: Some(sabotage), ..Case::of_seed(from) };
            // Here it is the bug that is looked for.
            return Ok(!look(&mut out, &case, &Shown { trace: true, ..Shown::default() })?);
        }
        Command::Sabotage { name, from, seeds, .. } => {
            sabotage::command::one(&mut out, &name.unwrap_or_default(), from, seeds)
        }
        Command::Explore => explore_all(&mut out),
        Command::Speed { from, count } => speed(&mut out, from, count),
        Command::Determinism { seed } => cli::lockstep::compare(&mut out, seed),
    };
    Ok(done?)
}

fn explore_all(out: &mut impl io::Write) -> io::Result<bool> {
    let mut is_sound = true;
    for bounds in explore::by_hand() {
        let report = explore::run(&bounds);
        writeln!(out, "{bounds}\n{report}")?;
        is_sound &= report.violation.is_none();
    }
    Ok(is_sound)
}

#[derive(Default)]
struct Totals {
    seeds: u64,
    violations: u64,
    simulated: u64,
    operations: usize,
    crashes: u64,
    partitions: u64,
    served_quickly: u64,
}

/// Service within two election timeouts after the faults, in this share of the seeds at least.
const SERVED_QUICKLY_MIN: f64 = 0.95;

/// In fewer seeds that share says nothing.
const SHARE_MEANS_SOMETHING_FROM: u64 = 100;

impl Totals {
    fn mostly_served_quickly(&self) -> bool {
        self.served_quickly as f64 >= SERVED_QUICKLY_MIN * self.seeds as f64
    }

    fn add(&mut self, report: &Report) {
        self.seeds += 1;
        self.violations += u64::from(report.violation.is_some());
        self.simulated += report.simulated;
        self.operations += report.operations.1;
        self.crashes += report.counts.crashes;
        self.partitions += report.counts.partitions;
        self.served_quickly +=
            u64::from(report.served_after.is_some_and(|after| after <= 2 * ELECTION_TIMEOUT));
    }
}

#[expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "seeds run side by side, and people wait"
)]
fn many(out: &mut impl io::Write, from: u64, count: u64, jobs: u64, keep_going: bool) -> io::Result<bool> {
    let began = std::time::Instant::now();
    let next = AtomicU64::new(from);
    let stop = AtomicBool::new(false);
    let totals = Mutex::new(Totals::default());
    let worker = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= from.saturating_add(count) || stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            let report = run(seed, Trace::default());
            let mut totals = totals.lock().expect("no worker panics while it counts");
            totals.add(&report);
            let mut out = io::stderr().lock();
            if report.violation.is_some() {
                stop.store(!keep_going, Ordering::Relaxed);
                tell(&mut out, Some(&Case::of_seed(seed)), &report)?;
            } else if totals.seeds % 100 == 0 {
                let rate = totals.seeds as f64 / began.elapsed().as_secs_f64();
                writeln!(out, "{} of {count} seeds, {rate:.1} a second", totals.seeds)?;
            }
        }
    };
    let done: io::Result<()> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs.max(1)).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("a run reports its panics"))
    });
    done?;
    let totals = totals.into_inner().expect("no worker panics while it counts");
    let seconds = began.elapsed().as_secs_f64();
    writeln!(
        out,
        "{} seeds from {from}: {} violations; {:.2} simulated hours in {seconds:.1} s ({:.0} simulated seconds a \
         second, {:.1} seeds a second); {} operations, {} crashes; served within 2 election timeouts after the \
         faults in {:.1} %",
        totals.seeds,
        totals.violations,
        totals.simulated as f64 / SECOND as f64 / 3_600.0,
        totals.simulated as f64 / SECOND as f64 / seconds,
        totals.seeds as f64 / seconds,
        totals.operations,
        totals.crashes,
        100.0 * totals.served_quickly as f64 / totals.seeds.max(1) as f64,
    )?;
    if totals.seeds >= SHARE_MEANS_SOMETHING_FROM && !totals.mostly_served_quickly() {
        writeln!(out, "VIOLATION of liveness: that is less than {:.0} %", 100.0 * SERVED_QUICKLY_MIN)?;
        return Ok(false);
    }
    Ok(totals.violations == 0)
}

#[expect(clippy::disallowed_types, reason = "this is about real time")]
fn speed(out: &mut impl io::Write, from: u64, count: u64) -> io::Result<bool> {
    let mut totals = Totals::default();
    let mut calm = Calm::default();
    let (began, spent) = (std::time::Instant::now(), processor_time());
    for seed in from..from.saturating_add(count) {
        let (report, its_calm) = speed::run(seed);
        totals.add(&report);
        calm.lasted += its_calm.lasted;
        calm.operations += its_calm.operations;
        if report.violation.is_some() {
            tell(out, None, &report)?;
            return Ok(false);
        }
    }
    let (seconds, processor_seconds) = (began.elapsed().as_secs_f64(), processor_time() - spent);
    let simulated = totals.simulated as f64 / SECOND as f64;
    let (calm_seconds, calm_rate) = (calm.lasted as f64 / SECOND as f64, calm.a_second());
    writeln!(
        out,
        "{} runs of five servers and five Clerks from seed {from}, one after the other: {simulated:.1} simulated \
         seconds in {seconds:.2} s, {:.0} a second, and in {processor_seconds:.2} s of processor time, {:.0} a \
         second; {} operations, {} crashes, {} partitions; while no fault was active ({calm_seconds:.1} simulated \
         seconds) {} operations, {calm_rate:.1} a simulated second",
        totals.seeds,
        simulated / seconds,
        simulated / processor_seconds,
        totals.operations,
        totals.crashes,
        totals.partitions,
        calm.operations,
    )?;
    Ok(calm_rate >= CALM_OPERATIONS_A_SECOND_MIN)
}

/// Seconds that this thread has been on a processor: the real time of a core that nobody else uses.
fn processor_time() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn lab(out: &mut impl io::Write, name: Option<&str>, seed: u64) -> io::Result<bool> {
    let mut wanted = SCENARIOS.iter().filter(|test| name.is_none_or(|name| name == test.name)).peekable();
    if wanted.peek().is_none() {
        writeln!(out, "no test has this name; `quorate-sim lab --list` names them")?;
        return Ok(false);
    }
    let mut all_hold = true;
    for test in wanted {
        let outcome = test.run(seed);
        all_hold &= !matches!(outcome, Outcome::Failed(_));
        writeln!(out, "{}  {outcome}", test.name)?;
        out.flush()?;
    }
    Ok(all_hold)
}
