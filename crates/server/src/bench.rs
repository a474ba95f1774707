//! `quorate bench`: sends requests to servers and shows how fast they are answered. It speaks nothing but standard commands, so
//! that other servers can be measured by the same measure.
//!
//! | part | knows |
//! |---|---|
//! | `plan` | what is asked for, and whether it can be done |
//! | `servers` | where they are, and who leads |
//! | `gate` | when a request begins: the closed and the open loop |
//! | `commands`, `replies` | the bytes of a command, and of an answer |
//! | `connection`, `engine` | sockets, and whose turn it is |
//! | `record` | what became of it all |
//! | `report` | the figures, as they are written and shown |
//! | `live`, `text`, `html`, `chart` | how they look |

mod chart;
mod commands;
mod connection;
mod engine;
mod figures;
mod gate;
mod html;
mod live;
mod plan;
mod record;
mod replies;
mod report;
mod servers;
mod text;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use crate::EXIT_USAGE;
use crate::listener::raise_file_limit;
use crate::shell::{EXIT_NOT_EXECUTED, complain};
use crate::timestamp::utc;
use commands::{Commands, Kind, Mix};
use engine::{Engine, Outcome};
use live::Live;
use plan::{Load, Plan};
use report::{Report, Run};
use servers::Servers;

pub(crate) use plan::BenchArgs;

/// The same commands each time.
const SEED: u64 = 1;
/// Interrupted for the second time, as shells have it.
const EXIT_INTERRUPTED: i32 = 130;

/// `quorate bench`.
pub(crate) fn bench(args: BenchArgs) -> ExitCode {
    let plan = match args.resolve() {
        Ok(plan) => plan,
        Err(wrong) => {
            complain(&wrong);
            return ExitCode::from(EXIT_USAGE);
        }
    };
    match measure(&plan) {
        Ok(report) if report.has_failed() => ExitCode::from(EXIT_NOT_EXECUTED),
        Ok(_) => ExitCode::SUCCESS,
        Err(problem) => {
            complain(&problem);
            ExitCode::from(EXIT_NOT_EXECUTED)
        }
    }
}

fn measure(plan: &Plan) -> Result<Report, String> {
    let room = raise_file_limit(plan.load.connections);
    if room < plan.load.connections {
        return Err(format!(
            "--connections {}: the system lets this process have {room}",
            plan.load.connections
        ));
    }
    check_files(plan)?;
    let servers = Servers::find(&plan.servers, plan.to, plan.load.timeout)?;
    let is_stopped = stop_on_interrupt()?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut report = Report::new(plan, &servers, utc(u64::try_from(now.as_millis()).unwrap_or(0)));
    complain_plainly(&text::head(&report));
    let measured = workloads(plan, &servers, &is_stopped, &mut report);
    // What there is is shown, also where the next workload could not be measured.
    if !report.runs.is_empty() {
        write(plan, &report)?;
    }
    measured.map(|()| report)
}

fn workloads(
    plan: &Plan,
    servers: &Servers,
    is_stopped: &AtomicBool,
    report: &mut Report,
) -> Result<(), String> {
    let mut is_filled = !plan.is_filled;
    for (workload, mix) in plan.workloads.iter().enumerate() {
        if is_stopped.load(Ordering::Relaxed) {
            break;
        }
        if mix.weight(Kind::Get) > 0 && !is_filled {
            fill(plan, servers, is_stopped)?;
            is_filled = true;
        }
        let commands = Commands::random(*mix, plan.load.sizes, SEED + 1 + workload as u64);
        let outcome = run(&mix.to_string(), plan.load, servers, commands, is_stopped)?;
        report.runs.push(Run::new(*mix, &plan.load, &outcome));
    }
    Ok(())
}

/// Sets each key once, so that reads find something.
fn fill(plan: &Plan, servers: &Servers, is_stopped: &AtomicBool) -> Result<(), String> {
    let load = plan.load.filling();
    let outcome = run("fill", load, servers, Commands::fill(load.sizes, SEED), is_stopped)?;
    let failed = Run::new(Mix::only(Kind::Set), &load, &outcome);
    let class = failed.error_classes.classes().next();
    match class {
        Some((_, class)) if failed.requests == 0 => Err(format!("no key could be set: {}", class.example)),
        Some((_, class)) => {
            complain(&format!("{} keys could not be set; the first: {}", failed.errors, class.example));
            Ok(())
        }
        None => Ok(()),
    }
}

fn run(
    name: &str,
    load: Load,
    servers: &Servers,
    commands: Commands,
    is_stopped: &AtomicBool,
) -> Result<Outcome, String> {
    let mut live = Live::new(name.to_owned(), &load);
    let engine = Engine::connect(load, &servers.addresses, commands)?;
    Ok(engine.run(is_stopped, &mut |view| live.show(view)))
}

/// The table to standard output, or to standard error where the JSON goes there.
fn write(plan: &Plan, report: &Report) -> Result<(), String> {
    let results = text::results(report);
    let is_json_out = plan.json.as_deref() == Some(Path::new("-"));
    if is_json_out {
        complain_plainly(&results);
    } else {
        io::stdout()
            .lock()
            .write_all(results.as_bytes())
            .map_err(|error| format!("standard output: {error}"))?;
    }
    if let Some(path) = &plan.json {
        let mut json = serde_json::to_string_pretty(report).map_err(|error| error.to_string())?;
        json.push('\n');
        if is_json_out {
            let written = io::stdout().lock().write_all(json.as_bytes());
            written.map_err(|error| format!("standard output: {error}"))?;
        } else {
            std::fs::write(path, json).map_err(|error| format!("{}: {error}", path.display()))?;
        }
    }
    if let Some(path) = &plan.html {
        std::fs::write(path, html::page(report)).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

/// Whether the results can be written: that is to be known before they are measured. What is there stays until they are.
fn check_files(plan: &Plan) -> Result<(), String> {
    let json = plan.json.as_deref().filter(|path| *path != Path::new("-"));
    for path in json.into_iter().chain(plan.html.as_deref()) {
        let opened = std::fs::OpenOptions::new().append(true).create(true).open(path);
        opened.map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

/// To standard error, without a name before it; there is no other place if that fails.
fn complain_plainly(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// The first Ctrl-C ends what is under way and shows what was measured; the second ends the process.
fn stop_on_interrupt() -> Result<Arc<AtomicBool>, String> {
    let is_stopped = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let told = Arc::clone(&is_stopped);
    let waits = move || {
        runtime.block_on(async {
            while tokio::signal::ctrl_c().await.is_ok() {
                if told.swap(true, Ordering::Relaxed) {
                    std::process::exit(EXIT_INTERRUPTED);
                }
            }
        });
    };
    let thread = std::thread::Builder::new().name("interrupt".to_owned()).spawn(waits);
    thread.map_err(|error| error.to_string())?;
    Ok(is_stopped)
}
