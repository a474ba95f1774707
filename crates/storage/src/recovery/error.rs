//! Why a log is not gone on with, and what to do then. Knows nothing of how it is found out.

use quorate_raft::{Index, Position};

use crate::identity::Incarnation;
use crate::record::{self, LogOffset};

/// The log is not readable as it is. Nothing has been changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// Something that was synced is not there any more. Replace the node.
    #[error(
        "{} is not readable, although the log was synced up to {}: it is damaged. {}",
        .0.at, .0.synced, lost(.0.index)
    )]
    Damaged(Damage),
    /// A segment's file is gone, and no snapshot covers what was in it; or that snapshot is gone.
    #[error("the file {file} of the log is missing, and no snapshot makes up for it. {}", lost(*.index))]
    MissingSegment {
        /// Its name.
        file: String,
        /// The first index that may be lost.
        index: Index,
    },
    /// The snapshot that the log follows is gone.
    #[error(
        "the log begins at {at} behind the snapshot of index {}, and no snapshot in the folder reaches that: it is \
         missing. {}", .snapshot.index.0, snapshot_lost()
    )]
    MissingSnapshot {
        /// Where the log begins.
        at: LogOffset,
        /// What the snapshot held, at least.
        snapshot: Position,
    },
    /// A segment's file was made shorter or longer by someone else.
    #[error("{file} has {found} bytes and was made with {expected}: it is damaged. {}", lost(*.index))]
    WrongLength {
        /// Its name.
        file: String,
        /// What it was made with.
        expected: u64,
        /// What it has.
        found: u64,
        /// The first index that may be lost.
        index: Index,
    },
    /// Start a newer program.
    #[error(
        "{at} has format {found}, this program reads up to {}: start a newer version",
        record::FORMAT_VERSION
    )]
    NewerFormat {
        /// Where.
        at: LogOffset,
        /// The version of the record there.
        found: u8,
    },
    /// Put the right file there.
    #[error(
        "{file} belongs to another data folder: its incarnation is {found}, this folder's is {expected}. \
         Somebody has copied it here: keep the folder for examination, and do not start a server on it"
    )]
    Foreign {
        /// The file.
        file: String,
        /// The incarnation in it.
        found: Incarnation,
        /// This folder's.
        expected: Incarnation,
    },
    /// A valid record contradicts those before it: a mistake of the program that wrote it.
    #[error("the log makes no sense at {at}: {what}. {}", lost(*.index))]
    Senseless {
        /// Where.
        at: LogOffset,
        /// What it says.
        what: &'static str,
        /// The first index concerned.
        index: Index,
    },
}

/// What every loss means, and what to do.
fn lost(index: Index) -> String {
    format!(
        "Entries from index {index} on may be lost, and votes with them, so no server may start on this folder: \
         keep it for examination. The other servers hold the data, and go on as long as they are a majority. This \
         one may come back with a copy of its folder that was taken after it last stopped; with an older copy, \
         or with an empty folder, it would have forgotten what it promised"
    )
}

/// What the loss of a snapshot means, and what to do: unlike the log it is the same on all servers.
pub(crate) fn snapshot_lost() -> &'static str {
    "No server may start on this folder as it is: keep a copy of it. An intact snapshot of the same cluster with the \
     same or a higher index, from another server or from a copy of this folder, may be put beside or in its place; the \
     votes are in the log, which must stay as it is"
}

/// Where synced bytes are not readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The first place that is not readable.
    pub at: LogOffset,
    /// Up to here it was synced.
    pub synced: LogOffset,
    /// The first index that may be lost.
    pub index: Index,
}
