//! State machine safety: if a server has applied a log entry at a given index to its state machine, no other
//! server will ever apply a different log entry for the same index (Raft paper, figure 3 and §5.4.3; thesis,
//! figure 3.2). Checked by its consequence: wherever a server stops, its state has the digest that a machine of the
//! simulator's own had after that entry of the committed log.

use quorate_raft::Index;

use super::{View, Violation, violation};

/// The digest of the state after each committed entry.
#[derive(Debug, Default)]
pub struct StateMachineSafety {
    /// That after entry 1 stands first.
    digests: Vec<u64>,
}

impl StateMachineSafety {
    /// The next entry is committed, and leads to a state of this digest.
    pub fn committed(&mut self, digest: u64) {
        self.digests.push(digest);
    }

    /// The digest of the state after the entry of this index, once that is committed.
    pub fn digest_at(&self, index: Index) -> Option<u64> {
        let before = usize::try_from(index.0.checked_sub(1)?).ok()?;
        self.digests.get(before).copied()
    }

    /// A server has taken a step.
    ///
    /// # Errors
    /// If its state is not that of the log up to the index it has applied, or it applied what is not committed.
    pub fn stepped(&self, view: View) -> Result<(), Violation> {
        if view.applied > view.commit {
            return violation("state machine safety", format!("{view}: applied above its commit index"));
        }
        let Some(last) = view.applied.0.checked_sub(1) else { return Ok(()) };
        if self.digests.get(last as usize) == Some(&view.digest) {
            return Ok(());
        }
        violation(
            "state machine safety",
            format!("{view}: its state is not what the log makes up to this index"),
        )
    }
}
