//! The binary `quorate`: a server, a cluster to try, and commands for the shell. Must not know how any of them works.

#![forbid(unsafe_code)]

mod backup_file;
mod bench;
mod buffers;
mod command;
mod config;
mod connection;
mod demo;
mod disk_thread;
mod file_disk;
mod keeper_thread;
mod lanes;
mod leaving;
mod listener;
mod loading;
mod outbox;
mod progress;
mod recover;
mod replica_loop;
mod restore;
mod server;
mod shared;
mod shell;
mod timestamp;
mod transport;
mod verify;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// A linearizable, replicated key/value database behind the Redis protocol.
#[derive(Parser)]
#[command(name = "quorate", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs one server in the foreground
    Serve(Box<config::ServeArgs>),
    /// Runs three servers on this machine until Ctrl-C
    Demo(demo::DemoArgs),
    /// Sets the value of a key
    Put(shell::WriteArgs),
    /// Adds to the end of a key's value, and prints its new length
    Append(shell::WriteArgs),
    /// Prints the value of a key
    Get(shell::GetArgs),
    /// Has each server take a snapshot now, and waits for it
    Snapshot(shell::SnapshotArgs),
    /// Writes a consistent copy of everything to a file, while clients go on
    Backup(shell::BackupArgs),
    /// Makes of a backup the data folder of a founding member of a new cluster
    Restore(restore::RestoreArgs),
    /// Founds a new cluster with what one server has, when a majority is gone for good
    Recover(recover::RecoverArgs),
    /// Checks every byte of a stopped server's folder, or of a backup
    Verify(verify::VerifyArgs),
    /// Shows who belongs to the cluster, and changes it
    Members(shell::MembersArgs),
    /// Shows the servers and their roles
    Status(shell::StatusArgs),
    /// Measures how fast servers answer: these, or any that speak the Redis protocol
    Bench(Box<bench::BenchArgs>),
}

/// Wrong usage, as clap has it.
pub(crate) const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(args) => match args.resolve() {
            Ok(config) => {
                log_to_stderr();
                server::serve(config)
            }
            Err(wrong) => {
                shell::complain(&wrong.to_string());
                ExitCode::from(EXIT_USAGE)
            }
        },
        Command::Demo(args) => demo::demo(&args),
        Command::Put(args) => shell::put(args),
        Command::Append(args) => shell::append(args),
        Command::Get(args) => shell::get(args),
        Command::Snapshot(args) => shell::snapshot(&args),
        Command::Backup(args) => shell::backup(&args),
        Command::Restore(args) => restore::restore(&args),
        Command::Recover(args) => recover::recover(&args),
        Command::Verify(args) => verify::verify(&args),
        Command::Members(args) => shell::members(args),
        Command::Status(args) => shell::status(&args),
        Command::Bench(args) => bench::bench(*args),
    }
}

/// `QUORATE_LOG` chooses what is said, as `RUST_LOG` does elsewhere.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("QUORATE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}
