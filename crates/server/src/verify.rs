//! `quorate verify`: reads every byte of a stopped node's folder, or of one backup or other snapshot file, and says what it found. Must not
//! change anything, nor know what the bytes mean.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use quorate_replica::keeper;
use quorate_storage::snapshot::file_name;
use quorate_storage::{Outcome, SnapshotFile, verify};

use crate::backup_file;
use crate::file_disk::FileDisk;
use crate::progress::Progress;
use crate::shell::complain;

/// Damaged, or not readable.
const EXIT_FAILED: u8 = 1;

/// `verify`.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct VerifyArgs {
    /// The data folder of a server that is stopped
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// A backup, or any snapshot file
    file: Option<PathBuf>,
}

/// `quorate verify`.
pub(crate) fn verify(args: &VerifyArgs) -> ExitCode {
    let verified = match (&args.data, &args.file) {
        (Some(data), _) => verify_folder(data).with_context(|| format!("the data folder {}", data.display())),
        (None, Some(file)) => verify_file(file).with_context(|| file.display().to_string()),
        (None, None) => unreachable!("one of them is required"),
    };
    let written = verified.and_then(|text| Ok(io::stdout().lock().write_all(text.as_bytes())?));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn verify_folder(data: &Path) -> anyhow::Result<String> {
    if !data.is_dir() {
        bail!("there is no such folder");
    }
    let disk = FileDisk::open(data)?;
    let mut progress = Progress::new(data.display().to_string(), &complain);
    let found = verify::folder(&disk, &mut |done, total| progress.at(done, total))?;
    let Some(found) = found else { bail!("it is empty: no server was ever started on it") };
    let mut text = String::new();
    for (position, bytes) in &found.snapshots {
        text.push_str(&format!("{}: {bytes} bytes, whole\n", file_name(*position)));
    }
    if let Some((newest, _)) = found.snapshots.last() {
        let file = SnapshotFile::open_named(&disk, &file_name(*newest))?;
        // Builds the state, which compares its digest with the recorded one.
        let machine = keeper::load(&file, 0)?;
        text.push_str(&backup_file::describe(&machine));
        text.push('\n');
    }
    text.push_str(&match found.entries {
        None => "log: no entries, whole\n".to_owned(),
        Some((first, count)) => format!("log: {count} entries from {first} on, whole\n"),
    });
    if let Outcome::Torn(cut) = found.outcome {
        let sentence = "the log ends in a write that was never acknowledged";
        text.push_str(&format!("{sentence}, at {}; a start cuts it there\n", cut.at));
    }
    let cluster = found.identity.cluster().map_or("no cluster yet".to_owned(), |id| format!("cluster {id}"));
    text.push_str(&format!("node {} of {cluster}: whole\n", found.identity.node.get()));
    Ok(text)
}

fn verify_file(path: &Path) -> anyhow::Result<String> {
    let file = backup_file::open(path)?;
    let name = file.name().to_owned();
    let mut progress = Progress::new(name.clone(), &complain);
    let machine = backup_file::load(&file, &mut progress)?;
    drop(progress);
    let (position, cluster, bytes) = (file.position(), file.cluster(), file.bytes());
    let state = backup_file::describe(&machine);
    Ok(format!("{state}\n{name}: {bytes} bytes, the state of cluster {cluster} at {position}: whole\n"))
}
