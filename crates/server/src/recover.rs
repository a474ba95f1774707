//! `quorate recover`: founds a new cluster with what one server has, when a majority of its cluster is gone for good. Must
//! not know how files change places, nor what the bytes mean.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use quorate_replica::survivor::{self, Found, Survivor};
use quorate_storage::survivor::{RECOVERING_FILE, Recovered};
use quorate_storage::{Disk, Incarnation, Outcome};

use crate::backup_file;
use crate::file_disk::FileDisk;
use crate::progress::Progress;
use crate::shell::{EXIT_NOT_EXECUTED, EXIT_UNKNOWN, complain};
use crate::timestamp;

/// What may be typed instead of the cluster's id.
const CONFIRMATION: &str = "lose data";

/// What is at stake. One paragraph each.
const WARNING: &str = "\
What may be lost: writes that were acknowledged and have not reached this server. Nobody can say here whether there are any.
What may become real: entries that its log holds and that were never committed, of which clients heard INDOUBT or nothing.
Sessions of the old cluster are expired: the outcome of a command that was under way in one stays unknown.
Do it only if a majority is gone for good. A server that can come back with its disk brings everything back; start it instead.
If more than one server is left, look at each with `quorate recover --show`, and go on with the one whose last entry has the
highest term, and among those the highest index. The others join the new cluster with empty folders.";

/// `recover`.
#[derive(Args, Debug)]
pub(crate) struct RecoverArgs {
    /// The folder of a server that is left, and stopped
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Founds the new cluster without asking
    #[arg(long, conflicts_with = "show")]
    yes_lose_data: bool,
    /// Only shows what the folder has
    #[arg(long)]
    show: bool,
    /// Says it as JSON, one object a line
    #[arg(long)]
    json: bool,
}

/// `quorate recover`.
pub(crate) fn recover(args: &RecoverArgs) -> ExitCode {
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err((error, status)) => {
            complain(&format!("{error:#}"));
            ExitCode::from(status)
        }
    }
}

fn run(args: &RecoverArgs) -> Result<(), (anyhow::Error, u8)> {
    let not_done = |error: anyhow::Error| (error.context(folder(&args.data)), EXIT_NOT_EXECUTED);
    if !args.data.is_dir() {
        return Err(not_done(anyhow!("there is no such folder")));
    }
    let disk = FileDisk::open_existing(&args.data).map_err(|error| not_done(error.into()))?;
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let seed = draw().map_err(not_done)?;
    let mut progress = Progress::new(format!("reading {}", args.data.display()), &complain);
    let found = survivor::open(Arc::clone(&disk), seed, &mut |done, all| progress.at(done, all));
    drop(progress);
    let survivor = match found.map_err(|error| not_done(error.into()))? {
        Found::Survivor(survivor) => survivor,
        Found::Unfinished(_) if args.show => {
            return Err(not_done(anyhow!(
                "its recovery is decided and not finished: call this again without --show"
            )));
        }
        Found::Unfinished(unfinished) => {
            complain("a recovery of this folder was confirmed before: finishing it");
            let recovered = unfinished.finish().map_err(|error| not_done(error.into()))?;
            return say_recovered(args, &recovered).map_err(|error| (error, EXIT_NOT_EXECUTED));
        }
    };
    say(&if args.json { in_json(&survivor) } else { in_words(args, &survivor) }).map_err(not_done)?;
    if args.show {
        return Ok(());
    }
    confirm(args, &survivor).map_err(not_done)?;
    let incarnation = Incarnation(draw().map_err(not_done)?);
    match survivor.found_anew(incarnation, &mut |_| {}) {
        Ok(recovered) => say_recovered(args, &recovered).map_err(|error| (error, EXIT_NOT_EXECUTED)),
        // From then on the folder is the new one, and it is only not known whether a power cut would take that back.
        Err(error) if !matches!(disk.exists(RECOVERING_FILE), Ok(false)) => {
            let error = anyhow::Error::from(error).context("not finished: call this again");
            Err((error.context(folder(&args.data)), EXIT_UNKNOWN))
        }
        Err(error) => Err(not_done(error.into())),
    }
}

/// What the folder has, and what it would mean to go on with that.
fn in_words(args: &RecoverArgs, survivor: &Survivor) -> String {
    let (folder, machine) = (survivor.folder(), survivor.machine());
    let founding: Vec<String> =
        folder.identity.founding.iter().map(|member| member.id.get().to_string()).collect();
    let cluster = machine.cluster();
    let snapshot = match folder.snapshot.index.0 {
        0 => "no snapshot".to_owned(),
        _ => format!("a snapshot at {}", folder.snapshot),
    };
    let torn = match folder.outcome {
        Outcome::Clean => String::new(),
        Outcome::Torn(cut) => {
            format!("The log ends in a write that was never acknowledged, at {}; it is cut there\n", cut.at)
        }
    };
    format!(
        "{}: server {} of cluster {cluster}, which servers {} have founded\nterm {}, last entry {}, {snapshot}, {} entries \
         behind it\n{}\ntime of the last entry {}\n{torn}\n{WARNING}\n\n",
        args.data.display(),
        folder.identity.node.get(),
        founding.join(", "),
        folder.hard_state.term.0,
        folder.last(),
        folder.entries.len(),
        backup_file::describe(machine),
        timestamp::utc(machine.now_ms()),
    )
}

/// The same for programs. There is nothing in it that would have to be escaped.
fn in_json(survivor: &Survivor) -> String {
    let (folder, machine) = (survivor.folder(), survivor.machine());
    let (last, snapshot) = (folder.last(), folder.snapshot);
    format!(
        "{{\"node\":{},\"cluster\":\"{}\",\"term\":{},\"last_term\":{},\"last_index\":{},\"snapshot_term\":{},\
         \"snapshot_index\":{},\"entries\":{},\"torn\":{},\"keys\":{},\"digest\":\"{:016x}\",\"data_digest\":\"{:016x}\",\
         \"time_ms\":{},\"time\":\"{}\"}}\n",
        folder.identity.node.get(),
        machine.cluster(),
        folder.hard_state.term.0,
        last.term.0,
        last.index.0,
        snapshot.term.0,
        snapshot.index.0,
        folder.entries.len(),
        folder.outcome != Outcome::Clean,
        machine.shards().keys(),
        machine.digest(),
        machine.shards().digest(),
        machine.now_ms(),
        timestamp::utc(machine.now_ms()),
    )
}

/// Only with a word that nobody types by accident.
fn confirm(args: &RecoverArgs, survivor: &Survivor) -> anyhow::Result<()> {
    if args.yes_lose_data {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        bail!(
            "nothing was changed: to found a new cluster with this, confirm it on a terminal, or with --yes-lose-data"
        );
    }
    let cluster = survivor.machine().cluster().to_string();
    write!(io::stderr().lock(), "To go on, type the cluster's id, or: {CONFIRMATION}\n> ")?;
    is_confirmed(&cluster, &mut io::stdin().lock())
}

fn is_confirmed(cluster: &str, input: &mut dyn BufRead) -> anyhow::Result<()> {
    let mut line = String::new();
    input.read_line(&mut line).context("nothing was changed: standard input")?;
    let line = line.trim();
    if line != cluster && line != CONFIRMATION {
        bail!("nothing was changed: what was typed is neither the cluster's id nor \"{CONFIRMATION}\"");
    }
    Ok(())
}

fn say_recovered(args: &RecoverArgs, recovered: &Recovered) -> anyhow::Result<()> {
    let (data, node) = (args.data.display(), recovered.identity.node.get());
    let cluster = recovered.identity.cluster().context("a new cluster has an id")?;
    let old = &recovered.old_files;
    let said = if args.json {
        say(&format!(
            "{{\"node\":{node},\"cluster\":\"{cluster}\",\"recovered\":true,\"old_files\":\"{old}*\"}}\n"
        ))
    } else {
        say(&format!(
            "{data}: server {node} of the new cluster {cluster}, alone\nStart it with: quorate serve --id {node} --data {data} \
             --listen HOST:PORT --peers {node}=HOST:PORT\nThe old files are kept as {data}/{old}*; once the new cluster has \
             what you need: rm {data}/{old}*\n"
        ))
    };
    said.context("recovered, but")
}

fn say(text: &str) -> anyhow::Result<()> {
    Ok(io::stdout().lock().write_all(text.as_bytes())?)
}

fn draw() -> anyhow::Result<u64> {
    getrandom::u64().context("the operating system gives no random numbers")
}

fn folder(path: &Path) -> String {
    format!("the data folder {}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_words_confirm() {
        let cluster = "0123456789abcdef0123456789abcdef";
        let confirms = |typed: &str| is_confirmed(cluster, &mut typed.as_bytes()).is_ok();
        for typed in ["lose data\n", "lose data", "  0123456789abcdef0123456789abcdef\n"] {
            assert!(confirms(typed), "{typed}");
        }
        for typed in ["", "\n", "y\n", "yes\n", "lose\n", "LOSE DATA\n", "0123\n", "no\nlose data\n"] {
            assert!(!confirms(typed), "{typed}");
        }
    }
}
