//! Commit index, applied index and term never fall while a process lives; term and vote never regress on a disk:
//! a later write has a higher term, or the same term and the same vote or one where there was none (Raft paper,
//! figure 2; thesis §3.8).

use quorate_raft::HardState;

use super::{View, Violation, violation};
use crate::network::HostIndex;

/// Each server after its last step in this process.
#[derive(Debug)]
pub struct Monotonic {
    last: Vec<Option<View>>,
}

impl Monotonic {
    /// Nobody has taken a step.
    pub fn new(hosts: usize) -> Self {
        Self { last: vec![None; hosts] }
    }

    /// A new process may begin lower: commit and applied are not stored.
    pub fn restarted(&mut self, host: HostIndex) {
        self.last[host] = None;
    }

    /// A server has taken a step.
    ///
    /// # Errors
    /// If something fell.
    pub fn stepped(&mut self, view: View) -> Result<(), Violation> {
        let Some(before) = self.last[view.host].replace(view) else { return Ok(()) };
        if before.term <= view.term && before.commit <= view.commit && before.applied <= view.applied {
            return Ok(());
        }
        violation("monotonic", format!("{view} after {before}"))
    }
}

/// # Errors
/// If what is written regresses.
pub fn check_hard_state(host: HostIndex, before: HardState, after: HardState) -> Result<(), Violation> {
    let keeps_vote = before.vote.is_none() || before.vote == after.vote;
    if after.term > before.term || after.term == before.term && keeps_vote {
        return Ok(());
    }
    violation("vote never regresses", format!("n{} wrote {after:?} after {before:?}", host + 1))
}
