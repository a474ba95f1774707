//! `quorate snapshot`: has servers take one now, and waits until it is durable. Must not know how a snapshot is taken.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use quorate_resp::Frame;

use super::{
    EXIT_NOT_EXECUTED, EXIT_UNKNOWN, Problem, STATUS_WAIT_MAX, Target, ask, ask_info, complain, print_line,
};
use crate::config::Address;

/// The pause between two looks at how far a server is.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// `snapshot`.
#[derive(Args, Debug)]
#[command(mut_arg("servers", |servers| servers.help("Servers, each of which takes one")))]
#[command(mut_arg("timeout", |timeout| timeout.help("How long a server may neither answer nor get any further")))]
pub(crate) struct SnapshotArgs {
    #[command(flatten)]
    target: Target,
}

/// Why there is no snapshot of a server.
enum Miss {
    /// None was begun for this command, or it failed.
    NotTaken(String),
    /// One was asked for, and then nothing was heard or seen for too long.
    Unknown(String),
}

/// `quorate snapshot`: on each server that is named, one after the other, so that not all are busy with it at once.
pub(crate) fn snapshot(args: &SnapshotArgs) -> ExitCode {
    let mut status = ExitCode::SUCCESS;
    let mut is_unknown = false;
    for server in &args.target.servers {
        let miss = match take(server, args.target.timeout) {
            Ok(index) => match print_line(format!("{server} snapshot index={index}").as_bytes()) {
                Ok(()) => continue,
                Err(Problem::Local(error)) => Miss::NotTaken(format!("taken at {index}, but: {error:#}")),
                Err(Problem::Failure(failure)) => Miss::NotTaken(failure.to_string()),
            },
            Err(miss) => miss,
        };
        let text = match miss {
            Miss::NotTaken(text) => text,
            Miss::Unknown(text) => {
                is_unknown = true;
                format!("{text}; whether a snapshot was taken is not known")
            }
        };
        complain(&format!("{server}: {text}"));
        status = ExitCode::from(if is_unknown { EXIT_UNKNOWN } else { EXIT_NOT_EXECUTED });
    }
    status
}

/// The index of a snapshot that stands for all that the server had applied when it was asked. `patience`: how long it may
/// neither answer nor get any further.
fn take(server: &Address, patience: Duration) -> Result<u64, Miss> {
    let wait = patience.min(STATUS_WAIT_MAX);
    let before = ask_info(server, wait).map_err(Miss::NotTaken)?;
    let applied = number(&before, "raft_applied");
    let failed = number(&before, "quorate_snapshots_failed");
    if applied == 0 {
        return Err(Miss::NotTaken("there is nothing to take a snapshot of yet".to_owned()));
    }
    match ask(server, &["BGSAVE", "SCHEDULE"], wait) {
        Ok(Frame::Error(text)) => return Err(Miss::NotTaken(String::from_utf8_lossy(&text).into_owned())),
        Ok(_) => {}
        Err(error) => return Err(Miss::Unknown(error)),
    }
    let mut seen = Vec::new();
    let mut moved = Instant::now();
    let mut last_error = "it gets no further".to_owned();
    loop {
        match ask_info(server, wait) {
            Ok(info) => {
                let index = number(&info, "raft_snapshot");
                if index >= applied {
                    show(None);
                    return Ok(index);
                }
                if number(&info, "quorate_snapshots_failed") > failed {
                    show(None);
                    let why = info.get("quorate_snapshot_failure").cloned().unwrap_or_default();
                    return Err(Miss::NotTaken(why));
                }
                let written = number(&info, "quorate_snapshot_written_bytes");
                show(Some((server, written, number(&info, "used_memory_dataset"))));
                let now = vec![index, written, number(&info, "quorate_snapshot_taking")];
                if now != seen {
                    (seen, moved) = (now, Instant::now());
                }
            }
            Err(error) => last_error = error,
        }
        if moved.elapsed() >= patience {
            show(None);
            return Err(Miss::Unknown(last_error));
        }
        pause();
    }
}

#[expect(clippy::disallowed_methods, reason = "no loop runs here, and only the server knows when it is done")]
fn pause() {
    std::thread::sleep(LOOK_EVERY);
}

fn number(info: &BTreeMap<String, String>, field: &str) -> u64 {
    info.get(field).and_then(|value| value.parse().ok()).unwrap_or(0)
}

/// How far a server is, on one line of a terminal; `None` takes the line away.
fn show(progress: Option<(&Address, u64, u64)>) {
    let mut out = io::stderr().lock();
    if !out.is_terminal() {
        return;
    }
    // There is no other place to say it if that fails.
    let _ = match progress {
        None => write!(out, "\r\x1b[K"),
        Some((server, written, data)) => {
            let mebibytes = |bytes: u64| bytes >> 20;
            write!(out, "\r\x1b[K{server}: {} MiB of about {} MiB", mebibytes(written), mebibytes(data))
        }
    };
    let _ = out.flush();
}
