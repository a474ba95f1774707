//! Bugs that the simulator puts back, to prove that it would find them. Each stands at the very line where it would
//! have been made. Without the feature `sabotage`, which nothing but `quorate-sim` asks for, no bug can be put back:
//! the question is a constant, and the compiler drops the line.

use crate::entry::StateLimits;

/// A mistake that the key/value server could make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A command of a session that is sent again is skipped, and its answer with it.
    SkipsRepeats,
    /// A reply is recorded before the command has run.
    RecordsBeforeEffect,
    /// Sessions expire by each server's own clock.
    ExpiresByLocalClock,
    /// Commands are judged by the limits in this server's flags.
    DecidesByLocalLimits,
    /// Commands are refused by the memory limit in this server's flags when they are applied.
    DecidesMemoryWhenApplied,
    /// A write that the leader refuses is left out of its run: those behind it take its place.
    LeavesRefusedOut,
    /// A write that finds no room on the disk counts as written.
    PromisesWhatIsHeld,
    /// The log goes as far as a snapshot says though writes that are held reach further back.
    CompactsUnderHeld,
    /// Entries leave the memory that are applied, on the disk or not.
    ForgetsWhatIsNotDurable,
    /// No snapshot is taken for a follower that needs what has left the memory since the last one.
    TakesNoneForLaggards,
    /// Who waits is left waiting when leadership is lost, and for ever.
    LeavesWaiters,
    /// A server that is told to stop does so as soon as another leads.
    LeavesInFlight,
    /// The answer to a read of an earlier process counts.
    BelievesOldReplies,
    /// "Not executed" is said of a command that was sent.
    RefusesWhatWasSent,
    /// "Not executed" is said of a command that was sent, and is to be sent again.
    RefusesWhatIsResent,
    /// A gateway's sequences are applied with gaps.
    AppliesWithGaps,
    /// A gateway's floor is one too high: its first command counts as resolved.
    FloorTooHigh,
    /// A server on an empty folder takes part under a known id.
    TakesEmptyFolders,
    /// A server on an older copy of its folder is heard as if it remembered.
    TakesOlderFolders,
    /// A backup is begun of whatever is applied, without a read index.
    BackupWithoutRound,
    /// A snapshot does not hold the sessions.
    SnapshotWithoutSessions,
    /// A snapshot does not hold the membership.
    SnapshotWithoutMembership,
    /// A snapshot does not hold keys and values.
    SnapshotWithoutData,
    /// A snapshot is given to others without a look at whether it has rotted.
    ServesRottenSnapshots,
    /// The digest that a server reports of a check is that of its state when it gets to reporting.
    ReportsLaterState,
    /// Reports are compared whatever checks they are of.
    ComparesAnyCheck,
}

impl Bug {
    /// `right`, or where this bug is put back, `wrong`.
    #[inline]
    pub(crate) fn spoils<T>(self, right: T, wrong: impl FnOnce() -> T) -> T {
        if self.is_put_back() { wrong() } else { right }
    }
}

/// The limits in the flags of the server that applies next, and its limit of memory, for [`Bug::DecidesByLocalLimits`] and
/// [`Bug::DecidesMemoryWhenApplied`].
#[cfg(not(feature = "sabotage"))]
pub(crate) const fn note_flags(_: &StateLimits, _: u64) {}

/// What was noted last.
#[cfg(not(feature = "sabotage"))]
pub(crate) const fn noted_flags() -> Option<StateLimits> {
    None
}

/// The limit of memory that was noted last.
#[cfg(not(feature = "sabotage"))]
pub(crate) const fn noted_memory_bytes_max() -> u64 {
    0
}

#[cfg(not(feature = "sabotage"))]
impl Bug {
    pub(crate) const fn is_put_back(self) -> bool {
        false
    }
}

#[cfg(feature = "sabotage")]
pub use put_back::{MARKER, put_back};
#[cfg(feature = "sabotage")]
pub(crate) use put_back::{note_flags, noted_flags, noted_memory_bytes_max};

#[cfg(feature = "sabotage")]
mod put_back {
    use std::cell::Cell;
    use std::hint::black_box;

    use super::{Bug, StateLimits};

    /// A program that holds these bytes can put bugs back.
    pub static MARKER: &str = "quorate: this program can put the bugs of its replica back";

    thread_local! {
        static PUT_BACK: Cell<Option<Bug>> = const { Cell::new(None) };
        static FLAGS: Cell<Option<StateLimits>> = const { Cell::new(None) };
        static MEMORY_BYTES_MAX: Cell<u64> = const { Cell::new(0) };
    }

    /// From now on all servers of this thread have this bug, or none.
    pub fn put_back(bug: Option<Bug>) {
        PUT_BACK.set(bug);
    }

    pub(crate) fn note_flags(limits: &StateLimits, memory_bytes_max: u64) {
        FLAGS.set(Some(*limits));
        MEMORY_BYTES_MAX.set(memory_bytes_max);
    }

    pub(crate) fn noted_memory_bytes_max() -> u64 {
        MEMORY_BYTES_MAX.get()
    }

    pub(crate) fn noted_flags() -> Option<StateLimits> {
        FLAGS.get()
    }

    impl Bug {
        pub(crate) fn is_put_back(self) -> bool {
            black_box(MARKER);
            PUT_BACK.get() == Some(self)
        }
    }
}
