//! State machine safety: if a server has applied a log entry at a given index to its state machine, no other
//! server will ever apply a different log entry for the same index (Raft paper, figure 3 and §5.4.3; thesis,
//! figure 3.2). Checked by its consequence: at the same applied index all states have the same digest.

use super::{View, Violation, violation};
use crate::network::HostIndex;

/// The digest of the state after each index at which some server stopped to look.
#[derive(Debug, Default)]
pub struct StateMachineSafety {
    digests: Vec<Option<(u64, HostIndex)>>,
}

impl StateMachineSafety {
    /// A server has taken a step.
    ///
    /// # Errors
    /// If its state differs from that of another at the same applied index, or it applied what is not
    /// committed.
    pub fn stepped(&mut self, view: View) -> Result<(), Violation> {
        if view.applied > view.commit {
            return violation("state machine safety", format!("{view}: applied above its commit index"));
        }
        let at = view.applied.0 as usize;
        if self.digests.len() <= at {
            self.digests.resize(at + 1, None);
        }
        let (digest, first) = *self.digests[at].get_or_insert((view.digest, view.host));
        if digest == view.digest {
            return Ok(());
        }
        let story = format!("{view}: its state differs from that of n{} at this index", first + 1);
        violation("state machine safety", story)
    }
}
