//! Where a backup is written: aside until it is whole and synced, or to standard output. Must not know what it is.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

/// Bytes after which what was written is synced, so that the last sync is short.
const SYNC_STEP_BYTES: u64 = 16 << 20;

/// Why there is no backup here.
pub(super) struct Unfinished {
    /// In words.
    pub(super) text: String,
    /// It is there whole, and whether it stays is not known.
    pub(super) is_unknown: bool,
}

/// See the module.
pub(super) enum Out {
    /// A file.
    File {
        /// Its name in the end.
        path: PathBuf,
        /// Its name until then.
        aside: PathBuf,
        /// Open.
        file: File,
        /// Bytes written since the last sync.
        unsynced: u64,
    },
    /// Standard output, and whether anything was written to it.
    Stdout(bool),
}

impl Out {
    /// `-` is standard output. The name of a file aside ends in `.part`; what a try before has left under it is replaced.
    pub(super) fn open(name: &str) -> Result<Self, Unfinished> {
        if name == "-" {
            if io::stdout().is_terminal() {
                return Err(failure("standard output is a terminal: give --out a file, or send it to one"));
            }
            return Ok(Self::Stdout(false));
        }
        let path = PathBuf::from(name);
        if path.is_dir() || path.file_name().is_none() {
            return Err(failure(&format!("{name} is a folder: give --out a file")));
        }
        let mut aside = path.clone().into_os_string();
        aside.push(".part");
        let aside = PathBuf::from(aside);
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(&aside);
        let file = file.map_err(|error| wrong(&aside, &error))?;
        Ok(Self::File { path, aside, file, unsynced: 0 })
    }

    /// Writes the next bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Unfinished> {
        match self {
            Self::File { aside, file, unsynced, .. } => {
                *unsynced += bytes.len() as u64;
                let mut written = file.write_all(bytes);
                if *unsynced >= SYNC_STEP_BYTES {
                    written = written.and_then(|()| file.sync_data());
                    *unsynced = 0;
                }
                written.map_err(|error| wrong(aside, &error))
            }
            Self::Stdout(is_begun) => {
                *is_begun = true;
                io::stdout()
                    .lock()
                    .write_all(bytes)
                    .map_err(|error| failure(&format!("standard output: {error}")))
            }
        }
    }

    /// Whether what was written can be taken back.
    pub(super) fn can_begin_anew(&self) -> bool {
        !matches!(self, Self::Stdout(true))
    }

    /// Another server begins anew, because of `why`.
    pub(super) fn restart(&mut self, why: &str) -> Result<(), Unfinished> {
        match self {
            Self::File { aside, file, unsynced, .. } => {
                *unsynced = 0;
                let emptied = file.set_len(0).and_then(|()| io::Seek::rewind(file));
                emptied.map_err(|error| wrong(aside, &error))
            }
            Self::Stdout(false) => Ok(()),
            Self::Stdout(true) => {
                Err(failure(&format!("{why}; the beginning is on standard output already: do not use it")))
            }
        }
    }

    /// All of it is written: it is synced and gets its name, and `line` says what it is.
    pub(super) fn finish(self, line: &str) -> Result<(), Unfinished> {
        match self {
            Self::File { path, aside, file, .. } => {
                file.sync_all().map_err(|error| wrong(&aside, &error))?;
                std::fs::rename(&aside, &path).map_err(|error| wrong(&path, &error))?;
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                let synced =
                    File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all());
                synced.map_err(|error| Unfinished {
                    text: format!(
                        "{} is whole, and whether its name is durable is not known: {error}",
                        path.display()
                    ),
                    is_unknown: true,
                })?;
                // It is done, also where that cannot be said.
                let _ = writeln!(io::stdout().lock(), "{}: {line}", path.display());
            }
            Self::Stdout(_) => {
                io::stdout().lock().flush().map_err(|error| failure(&format!("standard output: {error}")))?;
                super::complain(line);
            }
        }
        Ok(())
    }

    /// Nothing comes of it.
    pub(super) fn abandon(self) {
        if let Self::File { aside, file, .. } = self {
            drop(file);
            // It has no name that anybody would take for a backup's.
            let _ = std::fs::remove_file(aside);
        }
    }
}

fn failure(text: &str) -> Unfinished {
    Unfinished { text: text.to_owned(), is_unknown: false }
}

fn wrong(path: &Path, error: &io::Error) -> Unfinished {
    failure(&format!("{}: {error}; no backup was written", path.display()))
}
