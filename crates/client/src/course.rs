//! How one request has fared so far: its sends, and what may be said of them. Must not know what it asks.

use crate::event::AttemptId;
use crate::message::Cause;

/// What a request is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Phase {
    /// It has no place yet.
    #[default]
    Waiting,
    /// A send is under way, and trusted until then.
    Trying { attempt: AttemptId, until_ms: u64 },
    /// The last try failed; the next comes then.
    Pausing { until_ms: u64 },
}

/// The tries of one request under one sequence.
#[derive(Debug, Default)]
pub(crate) struct Course {
    pub(crate) phase: Phase,
    /// Sends of which a byte may have left.
    sends: u32,
    /// Those among them without an answer, in the order sent.
    open: Vec<AttemptId>,
    /// Whether a send ended without a certain answer.
    pub(crate) doubtful: bool,
    pub(crate) failures: u32,
    pub(crate) silences: u32,
    pub(crate) redirects: u32,
    pub(crate) last: Option<Cause>,
    pub(crate) armed_ms: Option<u64>,
}

impl Course {
    pub(crate) fn begin(&mut self, attempt: AttemptId, until_ms: u64) {
        self.sends = self.sends.saturating_add(1);
        self.open.push(attempt);
        self.phase = Phase::Trying { attempt, until_ms };
    }

    /// A send has ended, one way or another; whether it was the current one.
    pub(crate) fn settle(&mut self, attempt: AttemptId) -> bool {
        let sends_before = self.open.len();
        self.open.retain(|open| *open != attempt);
        assert!(self.open.len() + 1 == sends_before, "a send ends once");
        matches!(self.phase, Phase::Trying { attempt: current, .. } if current == attempt)
    }

    /// A send that was settled turns out not to have been one.
    pub(crate) fn revoke(&mut self) {
        assert!(self.sends > 0, "a send that never began");
        self.sends -= 1;
    }

    /// Whether a refusal proves nothing any more: it speaks of its own send alone, and there was another, or one
    /// without a certain answer.
    pub(crate) fn may_have_run(&self) -> bool {
        self.sends > 1 || self.doubtful || !self.open.is_empty()
    }

    pub(crate) fn open_sends(&self) -> &[AttemptId] {
        &self.open
    }
}
