//! Election safety: at most one leader can be elected in a given term (Raft paper, figure 3 and §5.2; thesis,
//! figure 3.2 and §3.4).

use std::collections::BTreeMap;

use quorate_raft::{Role, Term};

use super::{View, Violation, violation};
use crate::network::HostIndex;

/// Who led each term.
#[derive(Debug, Default)]
pub struct ElectionSafety {
    leaders: BTreeMap<Term, HostIndex>,
}

impl ElectionSafety {
    /// A server has taken a step.
    ///
    /// # Errors
    /// If another has led this server's term.
    pub fn stepped(&mut self, view: View) -> Result<(), Violation> {
        if view.role != Role::Leader {
            return Ok(());
        }
        let first = *self.leaders.entry(view.term).or_insert(view.host);
        if first == view.host {
            return Ok(());
        }
        violation("election safety", format!("{view}, and n{} has led term {} too", first + 1, view.term))
    }
}
