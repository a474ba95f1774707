//! Times and bounds of a node. Knows nothing of what keeps to them.

/// Times in ticks and bounds in bytes. Equal on all members is advisable, not needed for safety.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Ticks between two heartbeats of a leader.
    pub heartbeat_ticks: u32,
    /// The shortest election timeout, in ticks.
    pub election_ticks_min: u32,
    /// The longest election timeout, in ticks; drawn anew each time from `[min, max]`.
    pub election_ticks_max: u32,
    /// How many times as long an election timeout becomes at most, where one campaign after the other is lost: it doubles with
    /// each term in which nobody has led, as far as the log knows.
    pub election_patience_max: u32,
    /// The shortest time, in ticks, that is left of an election timeout where there is reason to believe that waiting is of
    /// no use: see [`crate::Input::Unreachable`], and what a candidate does that is refused. More than a heartbeat, so that a leader
    /// that lives is heard first.
    pub hurry_ticks_min: u32,
    /// The longest, in ticks; drawn anew each time.
    pub hurry_ticks_max: u32,
    /// Bytes of one proposal.
    pub entry_bytes_max: usize,
    /// Bytes of entries in one append message (one entry may exceed it alone).
    pub append_bytes_max: usize,
    /// Bytes of entries sent to one follower and not acknowledged.
    pub inflight_bytes_max: usize,
    /// Append messages sent to one follower and not acknowledged.
    pub inflight_messages_max: usize,
    /// Bytes of entries proposed here and not yet committed; past it a proposal is `Busy`.
    pub uncommitted_bytes_max: usize,
    /// Bytes of committed entries handed over in one step (one entry may exceed it alone).
    pub apply_bytes_max: usize,
    /// Reads waiting for confirmation; past it a read is `Busy`.
    pub reads_waiting_max: usize,
    /// Ticks, after an [`crate::Input::Hurry`] for it, in which a follower is told of the commit index by messages of their own.
    /// Otherwise it learns of it from the next append or heartbeat. `u32::MAX` for always.
    pub notice_ticks: u32,
    /// Followers that no majority needs are sent entries once a tick, not as they come.
    pub spares_followers: bool,
}

impl Limits {
    /// Stops a process whose limits cannot work together.
    pub(crate) fn check(&self) {
        assert!(self.heartbeat_ticks > 0, "a heartbeat every zero ticks");
        assert!(
            self.heartbeat_ticks < self.election_ticks_min,
            "an election would be due before a heartbeat"
        );
        assert!(self.election_ticks_min <= self.election_ticks_max, "election timeouts from more to less");
        assert!(self.election_patience_max > 0, "election timeouts of nothing");
        assert!(
            (1..=self.hurry_ticks_max).contains(&self.hurry_ticks_min),
            "hurried timeouts from more to less, or of nothing"
        );
        assert!(self.append_bytes_max > 0 && self.inflight_bytes_max > 0, "nothing could be sent");
        assert!(self.apply_bytes_max > 0, "nothing could be applied");
        assert!(self.inflight_messages_max > 0, "nothing could be in flight");
        assert!(self.reads_waiting_max > 0, "no read could ever wait");
    }
}
