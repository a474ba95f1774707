//! `quorate restore`: makes of a backup the data folder of one founding member of a new cluster. Must not know how the
//! members find each other, nor what the bytes mean.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use quorate_raft::NodeId;
use quorate_storage::restore::{self, RestoreFolderError};
use quorate_storage::{Disk, Incarnation};

use crate::backup_file;
use crate::file_disk::FileDisk;
use crate::progress::Progress;
use crate::shell::{EXIT_NOT_EXECUTED, EXIT_UNKNOWN, complain};

/// `restore`.
#[derive(Args, Debug)]
pub(crate) struct RestoreArgs {
    /// The backup: a file that `quorate backup` has written
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// The folder to make: missing or empty
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Which founding member of the new cluster the folder is for: 1 or more
    #[arg(long, value_name = "N", value_parser = parse_id)]
    id: NodeId,
}

fn parse_id(text: &str) -> Result<NodeId, String> {
    let id = text.parse().ok().and_then(NodeId::new);
    id.ok_or_else(|| "an id is a whole number, 1 or more".to_owned())
}

/// `quorate restore`.
pub(crate) fn restore(args: &RestoreArgs) -> ExitCode {
    let (error, status) = match run(args) {
        Ok(text) => match io::stdout().lock().write_all(text.as_bytes()) {
            Ok(()) => return ExitCode::SUCCESS,
            Err(error) => (anyhow::Error::from(error).context("restored, but"), EXIT_NOT_EXECUTED),
        },
        Err((error, status)) => (error, status),
    };
    complain(&format!("{error:#}"));
    ExitCode::from(status)
}

fn run(args: &RestoreArgs) -> Result<String, (anyhow::Error, u8)> {
    let not_done = |error| (error, EXIT_NOT_EXECUTED);
    let backup = || args.from.display().to_string();
    let file = backup_file::open(&args.from).with_context(backup).map_err(not_done)?;
    // What can be told without it is told before the backup is read, which may take long.
    if args.data.exists() {
        let found = FileDisk::open_existing(&args.data).map_err(Into::into);
        let found = found.and_then(|disk| restore::check(&disk).map_err(anyhow::Error::from));
        found.with_context(|| folder(&args.data)).map_err(not_done)?;
    }
    // All of it, before anything is written: also that a server can make a state of it.
    let mut progress = Progress::new(format!("verifying {}", backup()), &complain);
    let machine = backup_file::load(&file, &mut progress).with_context(backup).map_err(not_done)?;
    drop(progress);
    let state = backup_file::describe(&machine);
    drop(machine);
    let incarnation = getrandom::u64().context("the operating system gives no random numbers");
    let incarnation = Incarnation(incarnation.map_err(not_done)?);
    let disk = FileDisk::open(&args.data).with_context(|| folder(&args.data)).map_err(not_done)?;
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let mut progress = Progress::new(format!("writing {}", args.data.display()), &complain);
    let restored =
        restore::restore(&disk, &file, (args.id, incarnation), &mut |done, all| progress.at(done, all));
    drop(progress);
    match restored {
        Ok((origin, _lock)) => Ok(format!(
            "{state}\n{}: server {} of a new cluster, restored from {origin}\nThe cluster is founded once all its members \
             are up, each on a folder restored from this same file\n",
            args.data.display(),
            args.id.get(),
        )),
        Err(error) => {
            // It was all there, and only the last sync failed.
            let is_complete = matches!(restore::check(&*disk), Err(RestoreFolderError::NotEmpty { .. }));
            let status = if is_complete { EXIT_UNKNOWN } else { EXIT_NOT_EXECUTED };
            Err((anyhow::Error::from(error).context(folder(&args.data)), status))
        }
    }
}

fn folder(path: &Path) -> String {
    format!("the data folder {}", path.display())
}
