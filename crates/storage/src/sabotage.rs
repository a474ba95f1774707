//! A bug that the simulator puts back, to prove that it would find it; those that need no knowledge of the log are
//! [`crate::DiskBug`]s. Without the feature `sabotage`, which nothing but `quorate-sim` asks for, it cannot be put
//! back: the question is a constant, and the compiler drops the line.

/// A mistake that the log could make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A segment is left for the next without a sync of its end.
    RotatesWithoutSync,
    /// Segments are deleted before the header that repeats their hard state is synced.
    DeletesBeforeHeader,
    /// A snapshot gets its name before its content is synced.
    NamesSnapshotBeforeContent,
    /// The folder is not synced after a snapshot got its name.
    NamesSnapshotWithoutSync,
    /// A damaged newest snapshot is passed over for an older one.
    SkipsDamagedSnapshot,
    /// The log is kept although it does not hold the snapshot's position.
    KeepsLogWithoutSnapshot,
    /// A start is counted, and the folder is not synced before its first word.
    CountsStartsUnsynced,
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
mod put_back {
    use std::cell::Cell;
    use std::hint::black_box;

    use super::Bug;

    /// A program that holds these bytes can put bugs back.
    pub static MARKER: &str = "quorate: this program can put the bugs of its log back";

    thread_local! {
        static PUT_BACK: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// From now on all logs of this thread have this bug, or none.
    pub fn put_back(bug: Option<Bug>) {
        PUT_BACK.set(bug);
    }

    impl Bug {
        pub(crate) fn is_put_back(self) -> bool {
            black_box(MARKER);
            PUT_BACK.get() == Some(self)
        }
    }
}
