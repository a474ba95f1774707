//! Backups under way at one server: who asked for one, which snapshot it is, and when it is given up. Knows no file: what
//! is to be done to one is a [`BackupJob`] for the shell.
//!
//! A backup is a snapshot that holds everything that was acknowledged before it was begun: the beginning is confirmed as a
//! read is, on whichever server, and a snapshot is taken of what is applied then, unless there is one. Its bytes are asked
//! for piece after piece by whoever began it, on any connection, so that neither side holds more than a piece. The file
//! stays open meanwhile: newer snapshots may take its name away, not its bytes.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use quorate_raft::{Index, Position};
use quorate_storage::ClusterId;

use crate::gateway::Ticket;
use crate::replica::ConnectionId;
use crate::value::Value;

/// Backups under way at one server at most. Each may hold a snapshot on the disk that nobody else needs any more.
pub const BACKUPS_MAX: usize = 4;
/// Milliseconds without a word of whoever began it after which a backup is given up.
pub const BACKUP_IDLE_MS: u64 = 30_000;
/// Bytes of one piece at most.
pub const BACKUP_PIECE_BYTES_MAX: usize = 1 << 20;
/// Pieces of one backup that are being read at most.
const READING_MAX: usize = 4;

/// A backup: the number that its server drew when it was started, and a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackupId {
    pub(crate) start: u64,
    pub(crate) number: u64,
}

/// Sixteen hexadecimal digits, and a decimal number.
impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.start, self.number)
    }
}

/// The text is no backup's id, so no backup has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotABackup;

impl FromStr for BackupId {
    type Err = NotABackup;

    fn from_str(text: &str) -> Result<Self, NotABackup> {
        let (start, number) = text.split_once('-').ok_or(NotABackup)?;
        let start = u64::from_str_radix(start, 16).map_err(|_| NotABackup)?;
        let id = Self { start, number: number.parse().map_err(|_| NotABackup)? };
        if id.to_string() == text { Ok(id) } else { Err(NotABackup) }
    }
}

/// What is asked of backups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupCall {
    /// `BACKUP BEGIN`: answered with the id, and an index up to which everything is in it.
    Begin,
    /// `BACKUP STATE id`: answered with `taking` and that index, or with `ready`, index, term, bytes and cluster.
    State(BackupId),
    /// `BACKUP READ id offset count`.
    Read {
        /// Of which.
        id: BackupId,
        /// Where to begin.
        offset: u64,
        /// Bytes at most; more than [`BACKUP_PIECE_BYTES_MAX`] are never given.
        count: usize,
    },
    /// `BACKUP END id`.
    End(BackupId),
}

/// Something to be done to the file of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupJob {
    /// Open the snapshot of this position, and keep it open; then step [`BackupNews::Open`] or [`BackupNews::NotThere`].
    Open {
        /// For which backup.
        number: u64,
        /// Whose.
        cluster: ClusterId,
        /// The last position that it stands for.
        position: Position,
    },
    /// Read a piece; then step [`BackupNews::Read`].
    Read {
        /// Of which backup.
        number: u64,
        /// Who waits for it.
        to: (ConnectionId, u64),
        /// Where to begin.
        offset: u64,
        /// Bytes at most.
        count: usize,
    },
    /// Close it.
    Close {
        /// Which.
        number: u64,
    },
}

/// What became of a [`BackupJob`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupNews {
    /// It is open.
    Open {
        /// Which.
        number: u64,
        /// What it is a snapshot of.
        position: Position,
        /// Its length.
        bytes: u64,
    },
    /// There is no such snapshot.
    NotThere {
        /// For which backup.
        number: u64,
    },
    /// A piece, empty behind the end; or why it could not be read.
    Read {
        /// Of which backup.
        number: u64,
        /// Who waits for it.
        to: (ConnectionId, u64),
        /// The piece.
        piece: Result<Value, String>,
    },
}

/// A beginning that is not confirmed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) to: (ConnectionId, u64),
    /// The last write of its connection, where it was unresolved: it is in the backup.
    pub(crate) after: Option<Ticket>,
    /// What is applied here holds everything that was acknowledged before.
    pub(crate) is_confirmed: bool,
}

/// How far a backup is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// A snapshot is being taken, or was asked for.
    Taking,
    /// Its file is being opened.
    Opening,
    /// Its bytes can be had.
    Ready { position: Position, bytes: u64 },
    /// There is none, and why.
    Failed(String),
}

/// A backup under way.
#[derive(Debug)]
pub(crate) struct Backup {
    /// Everything up to here is in it.
    pub(crate) floor: Index,
    pub(crate) stage: Stage,
    /// The snapshot that was looked for last: where it is not there, it has to be written before it is looked for again.
    pub(crate) looked_for: Option<Position>,
    /// Pieces that are being read.
    pub(crate) reading: usize,
    touched_ms: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Backups {
    /// Those that were begun, and wait for their turn.
    pub(crate) asked: Vec<Asked>,
    pub(crate) open: BTreeMap<u64, Backup>,
    last: u64,
}

impl Backups {
    /// Backups under way.
    pub(crate) fn count(&self) -> usize {
        self.open.len()
    }

    /// Whether somebody waits for an answer about one.
    pub(crate) fn is_awaited(&self) -> bool {
        !self.asked.is_empty() || self.open.values().any(|backup| backup.reading > 0)
    }

    pub(crate) fn has_room(&self) -> bool {
        self.asked.len() + self.open.len() < BACKUPS_MAX
    }

    /// The read index of what came with this tag is confirmed and applied. Says whether it was the beginning of a backup.
    pub(crate) fn confirm(&mut self, to: (ConnectionId, u64)) -> bool {
        let asked = self.asked.iter_mut().find(|asked| asked.to == to);
        asked.map(|asked| asked.is_confirmed = true).is_some()
    }

    /// It will not be confirmed.
    pub(crate) fn forget(&mut self, to: (ConnectionId, u64)) {
        self.asked.retain(|asked| asked.to != to);
    }

    /// Takes out who waits for a beginning.
    pub(crate) fn take_waiting(&mut self) -> impl Iterator<Item = (ConnectionId, u64)> {
        self.asked.drain(..).map(|asked| asked.to)
    }

    /// Begins one that holds everything up to `floor`; returns its number.
    pub(crate) fn begin(&mut self, floor: Index, now_ms: u64) -> u64 {
        self.last += 1;
        let backup = Backup { floor, stage: Stage::Taking, looked_for: None, reading: 0, touched_ms: now_ms };
        self.open.insert(self.last, backup);
        self.last
    }

    /// One of which somebody has spoken just now.
    pub(crate) fn touch(&mut self, number: u64, now_ms: u64) -> Option<&mut Backup> {
        let backup = self.open.get_mut(&number)?;
        backup.touched_ms = now_ms;
        Some(backup)
    }

    /// Takes out the numbers of those of which nobody has spoken for too long.
    pub(crate) fn take_idle(&mut self, now_ms: u64) -> Vec<u64> {
        let is_idle =
            |_: &u64, backup: &mut Backup| now_ms.saturating_sub(backup.touched_ms) >= BACKUP_IDLE_MS;
        self.open.extract_if(.., is_idle).map(|(number, _)| number).collect()
    }

    /// No snapshot could be taken.
    pub(crate) fn not_taken(&mut self, why: &str) {
        for backup in self.open.values_mut().filter(|backup| backup.stage == Stage::Taking) {
            backup.stage = Stage::Failed(why.to_owned());
        }
    }
}

impl Backup {
    /// Whether another piece may be read; then it is.
    pub(crate) fn begin_read(&mut self) -> bool {
        let has_room = self.reading < READING_MAX;
        self.reading += usize::from(has_room);
        has_room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_spelling() {
        let id = BackupId { start: 0xabc, number: 12 };
        assert_eq!(id.to_string(), "0000000000000abc-12");
        assert_eq!("0000000000000abc-12".parse(), Ok(id));
        for other in
            ["abc-12", "0000000000000abc-012", "0000000000000ABC-12", "0000000000000abc", "", "-", "x-1"]
        {
            assert_eq!(other.parse::<BackupId>(), Err(NotABackup), "{other}");
        }
    }

    #[test]
    fn a_backup_that_nobody_asks_for_is_given_up() {
        let mut backups = Backups::default();
        let (first, second) = (backups.begin(Index(5), 0), backups.begin(Index(6), 0));
        assert!(backups.touch(second, BACKUP_IDLE_MS / 2).is_some());
        assert_eq!(backups.take_idle(BACKUP_IDLE_MS - 1), [0; 0]);
        assert_eq!(backups.take_idle(BACKUP_IDLE_MS), [first]);
        assert!(backups.touch(first, BACKUP_IDLE_MS).is_none());
        assert_eq!(backups.count(), 1);
    }
}
