//! Bugs that the simulator puts back, to prove that it would find them. Each stands at the very line where it would
//! have been made. Without the feature `sabotage`, which nothing but `quorate-sim` asks for, no bug can be put back:
//! the question is a constant, and the compiler drops the line.

use crate::message::Body;

/// A mistake that consensus could make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// In a group of five or more, what the leader and one other hold is committed.
    CommitsWithoutMajority,
    /// An entry of an old term is committed by counting (figure 8 of the paper).
    CommitsOldTerm,
    /// A vote, or the word of a candidate that it votes for itself, leaves before it is durable.
    VotesBeforeSync,
    /// A node speaks in a term before the term is durable.
    SpeaksBeforeTerm,
    /// An acknowledgement of an earlier term is counted: index alone, whatever entry stood there then.
    CountsStaleAcknowledgements,
    /// The leader counts itself before its own sync.
    CountsItselfBeforeSync,
    /// A read is served without a round.
    ReadsWithoutRound,
    /// A new leader serves reads before it has committed in its term.
    ReadsBeforeOwnCommit,
    /// The election timeout is drawn once and never again.
    DrawsTimeoutOnce,
    /// A pre-vote is refused without a word of the later term that it is refused for.
    RefusesPreVoteSilently,
    /// Campaigns are given up after as long a time, however many were lost.
    NeverWaitsLonger,
    /// A leader's heartbeats wait for its own disk.
    HeartbeatsWaitForDisk,
    /// A follower's answers to heartbeats wait for its disk.
    EchoesWaitForDisk,
    /// Who loses the way to its leader campaigns at once, and asks nobody whether there is a reason.
    CampaignsForBrokenWay,
    /// The next index may fall to the match index and below.
    NextBelowMatch,
    /// A read joins a round whose messages have left.
    JoinsRoundUnderWay,
    /// The echo of an older round counts for the one in flight.
    CountsOldEchoes,
    /// Whoever is spared stays spared, whether or not the others answer.
    SparesForEver,
    /// Replicated time is the leader's own clock.
    BelievesOneClock,
    /// The completion of an older write makes an entry durable that was written anew since.
    TrustsOlderWrite,
    /// A snapshot is installed although more than it says has been applied.
    InstallsOverNewer,
    /// A leader whose log does not reach back far enough sends from where it begins, for ever.
    ProbesWithPurgedLog,
    /// A joint configuration is decided by its incoming voters alone.
    CommitsByIncomingAlone,
    /// Voters change without a joint configuration, and before the leader has committed in its term (the mistake of 2015 in
    /// changes of one server at a time).
    ChangesInOneStep,
    /// A learner counts as if it had a vote.
    CountsLearners,
    /// Leadership is handed to one that lacks entries.
    TransfersToLaggard,
    /// Who has no vote any more does not campaign, though the change that says so may be undone (thesis, figure 4.6).
    SilencesOutgoing,
    /// A change that a leader has begun is completed by no other.
    LeavesChangesToOthers,
    /// What stands behind an installed snapshot in the log stays, whether or not it follows it.
    KeepsConflictingSuffix,
}

impl Bug {
    /// `right`, or where this bug is put back, `wrong`.
    #[inline]
    pub(crate) fn spoils<T>(self, right: T, wrong: impl FnOnce() -> T) -> T {
        if self.is_put_back() { wrong() } else { right }
    }
}

/// [`Bug::VotesBeforeSync`] and [`Bug::SpeaksBeforeTerm`].
#[inline]
pub(crate) fn leaves_early(body: &Body) -> bool {
    let is_vote = matches!(body, Body::Vote { .. } | Body::VoteReply { .. });
    Bug::VotesBeforeSync.spoils(false, || is_vote) || Bug::SpeaksBeforeTerm.spoils(false, || !is_vote)
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
    pub static MARKER: &str = "quorate: this program can put the bugs of consensus back";

    thread_local! {
        static PUT_BACK: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// From now on all nodes of this thread have this bug, or none.
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
