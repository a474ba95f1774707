//! `put`, `append`, `get` and `status` for the shell, and what a script learns from their exit status. Must not know
//! how a call is retried: the Clerk does that.

mod backup;
mod link;
mod members;
mod snapshot;

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use quorate_client::blocking::Clerk;
use quorate_client::{Cause, Config, Failure, Why};
use quorate_resp::Frame;

use crate::config::{Address, parse_duration};
pub(crate) use backup::{BackupArgs, backup};
use link::Link;
pub(crate) use members::{MembersArgs, members};
pub(crate) use snapshot::{SnapshotArgs, snapshot};

/// The servers of `quorate demo`.
pub(crate) const SERVERS_DEFAULT: &str = "127.0.0.1:6379,127.0.0.1:6380,127.0.0.1:6381";
/// How long one server may take to say how it is.
const STATUS_WAIT_MAX: Duration = Duration::from_secs(2);
/// How long the end of a session is waited for, once its command is done.
const CLOSE_WAIT_MAX: Duration = Duration::from_secs(1);
/// Not executed.
pub(crate) const EXIT_NOT_EXECUTED: u8 = 1;
/// It may have been executed, or may yet be.
pub(crate) const EXIT_UNKNOWN: u8 = 3;

/// Where the cluster is, and how long to try.
#[derive(Args, Debug)]
pub(crate) struct Target {
    /// Servers of the cluster; any of them will do
    #[arg(long, value_name = "HOST:PORT,…", env = "QUORATE_SERVERS", default_value = SERVERS_DEFAULT, value_delimiter = ',')]
    servers: Vec<Address>,
    /// How long to try: 10s, 500ms
    #[arg(long, value_name = "DURATION", env = "QUORATE_TIMEOUT", default_value = "10s", value_parser = parse_duration)]
    timeout: Duration,
}

/// `put KEY VALUE` and `append KEY VALUE`.
#[derive(Args, Debug)]
pub(crate) struct WriteArgs {
    /// The key
    key: String,
    /// The value; `-` reads it from standard input
    #[arg(allow_negative_numbers = true)]
    value: String,
    #[command(flatten)]
    target: Target,
}

/// `get KEY`.
#[derive(Args, Debug)]
pub(crate) struct GetArgs {
    /// The key
    key: String,
    #[command(flatten)]
    target: Target,
}

/// `status`.
#[derive(Args, Debug)]
#[command(mut_arg("servers", |servers| servers.help("Servers to ask, each of which is shown")))]
#[command(mut_arg("timeout", |timeout| timeout.help("How long each server may take to answer, 2s at most")))]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    target: Target,
}

/// Why a command of the shell was not done.
enum Problem {
    /// The cluster's fault, or the way's.
    Failure(Failure),
    /// This side's.
    Local(anyhow::Error),
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Local(error.into())
    }
}

/// `quorate put`.
pub(crate) fn put(args: WriteArgs) -> ExitCode {
    finish(write(args, |clerk, key, value, timeout| {
        clerk.put(key, value, timeout)?;
        Ok("OK".to_owned())
    }))
}

/// `quorate append`.
pub(crate) fn append(args: WriteArgs) -> ExitCode {
    finish(write(args, |clerk, key, value, timeout| Ok(clerk.append(key, value, timeout)?.to_string())))
}

/// `quorate get`: an empty line where there is no value.
pub(crate) fn get(args: GetArgs) -> ExitCode {
    let target = &args.target;
    finish(clerk(target).and_then(|clerk| {
        let value = clerk.get(args.key.into_bytes(), target.timeout)?.unwrap_or_default();
        print_line(&value)
    }))
}

fn write(
    args: WriteArgs,
    call: impl Fn(&Clerk, Vec<u8>, Bytes, Duration) -> Result<String, Failure>,
) -> Result<(), Problem> {
    let value = match args.value.as_str() {
        "-" => {
            let mut value = Vec::new();
            io::stdin().lock().read_to_end(&mut value)?;
            Bytes::from(value)
        }
        _ => Bytes::from(args.value.into_bytes()),
    };
    let clerk = clerk(&args.target)?;
    let answer = call(&clerk, args.key.into_bytes(), value, args.target.timeout)?;
    // Or each command would leave a session behind for an hour. It is no matter if that does not work.
    let _ = clerk.close(CLOSE_WAIT_MAX);
    if let Err(Problem::Local(error)) = print_line(answer.as_bytes()) {
        // It is done, and an exit status that said otherwise would have a script do it twice.
        complain(&format!("done, but the answer {answer} could not be written: {error:#}"));
    }
    Ok(())
}

fn clerk(target: &Target) -> Result<Clerk, Problem> {
    let mut config = Config::new(target.servers.iter().map(Address::to_string));
    config.waits_for_lone_server = false;
    Ok(Clerk::with_config(config)?)
}

fn print_line(line: &[u8]) -> Result<(), Problem> {
    let mut out = io::stdout().lock();
    out.write_all(line)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

fn finish(result: Result<(), Problem>) -> ExitCode {
    let (text, status) = match result {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Problem::Local(error)) => (format!("{error:#}"), EXIT_NOT_EXECUTED),
        Err(Problem::Failure(failure)) => {
            let status = match &failure {
                Failure::NotExecuted { .. } => EXIT_NOT_EXECUTED,
                Failure::InDoubt { .. } => EXIT_UNKNOWN,
            };
            (format!("{failure}{}", hint(failure.why())), status)
        }
    };
    complain(&text);
    ExitCode::from(status)
}

/// Nobody listens: most likely nothing was started.
fn hint(why: &Why) -> &'static str {
    match why {
        Why::ConnectionRefused { .. } | Why::Deadline { last: Some(Cause::ConnectionRefused { .. }) } => {
            "\nIs a server running there? To start three of them on this machine: quorate demo"
        }
        Why::Deadline { .. } | Why::Refused { .. } | Why::TooManyCalls { .. } | Why::Closed => "",
    }
}

/// To standard error; there is no other place if that fails.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "quorate: {text}");
}

/// `quorate status`: one line a server, plain text.
pub(crate) fn status(args: &StatusArgs) -> ExitCode {
    /// The head of each column, and the field of `INFO` that it shows.
    const COLUMNS: [(&str, &str); 12] = [
        ("ID", "raft_id"),
        ("ROLE", "raft_role"),
        ("TERM", "raft_term"),
        ("LEADER", "raft_leader"),
        ("COMMIT", "raft_commit"),
        ("APPLIED", "raft_applied"),
        ("SNAPSHOT", "raft_snapshot"),
        ("KEYS", "quorate_keys"),
        ("SESSIONS", "quorate_sessions"),
        ("DISK-FREE", "quorate_disk_free_human"),
        ("DIGEST", "quorate_digest"),
        ("STANDING", "quorate_standing"),
    ];
    let wait = args.target.timeout.min(STATUS_WAIT_MAX);
    let mut heads = vec!["SERVER".to_owned()];
    heads.extend(COLUMNS.iter().map(|(head, _)| (*head).to_owned()));
    let mut rows = vec![heads];
    let mut notes = Vec::new();
    let mut answered = 0;
    for server in &args.target.servers {
        let mut row = vec![server.to_string()];
        match ask_info(server, wait) {
            Ok(info) => {
                answered += 1;
                row.extend(COLUMNS.iter().map(|(_, field)| info.get(*field).cloned().unwrap_or_default()));
                let notice = info.get("quorate_notice").filter(|notice| !notice.is_empty());
                notes.extend(notice.map(|notice| format!("{server}: {notice}")));
            }
            Err(error) => {
                row.extend(COLUMNS.iter().map(|_| "-".to_owned()));
                notes.push(format!("{server}: {error}"));
            }
        }
        rows.push(row);
    }
    let mut text = table(&rows);
    for note in notes {
        text.push_str(&note);
        text.push('\n');
    }
    if io::stdout().lock().write_all(text.as_bytes()).is_err() {
        return ExitCode::from(EXIT_NOT_EXECUTED);
    }
    if answered == 0 { ExitCode::from(EXIT_NOT_EXECUTED) } else { ExitCode::SUCCESS }
}

/// Columns as wide as their widest cell, two blanks between them.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// The fields of one server's `INFO`.
pub(crate) fn ask_info(server: &Address, wait: Duration) -> Result<BTreeMap<String, String>, String> {
    let reply = ask(server, &["INFO"], wait)?;
    let text = reply.as_text().ok_or_else(|| format!("no answer to INFO: {reply:?}"))?;
    let text = String::from_utf8_lossy(text);
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    Ok(fields.map(|(field, value)| (field.to_owned(), value.to_owned())).collect())
}

/// Asks one server one question, within `wait`.
pub(crate) fn ask(server: &Address, command: &[&str], wait: Duration) -> Result<Frame, String> {
    let deadline = Instant::now() + wait;
    let mut link = Link::connect(server, wait)?;
    link.call(command, deadline.saturating_duration_since(Instant::now()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned_and_has_no_blanks_at_its_line_ends() {
        let rows =
            [["SERVER", "ID"], ["a:1", "10"], ["long.name:1", ""]].map(|row| row.map(String::from).to_vec());
        assert_eq!(table(&rows), "SERVER       ID\na:1          10\nlong.name:1\n");
    }
}
