//! Leader completeness: if a log entry is committed in a given term, then that entry is present in the logs of
//! the leaders for all higher-numbered terms (Raft paper, figure 3 and §5.4; thesis, figure 3.2 and §3.6).

use quorate_raft::{Index, Role, Term};

use super::committed::Committed;
use super::{View, Violation, violation};
use crate::ledger::LogModel;
use crate::network::HostIndex;

/// Who leads, by its own account.
#[derive(Debug)]
pub struct LeaderCompleteness {
    leading: Vec<Option<Term>>,
    /// The highest term in which anything was committed, and up to where.
    committed: Vec<(Term, Index)>,
}

impl LeaderCompleteness {
    /// Nobody leads.
    pub fn new(hosts: usize) -> Self {
        Self { leading: vec![None; hosts], committed: Vec::new() }
    }

    /// A server has forgotten that it led.
    pub fn restarted(&mut self, host: HostIndex) {
        self.leading[host] = None;
    }

    /// A server has taken a step; its log is this now.
    ///
    /// # Errors
    /// If it leads without an entry that was committed in an earlier term.
    pub fn stepped(&mut self, view: View, log: &LogModel, committed: &Committed) -> Result<(), Violation> {
        if view.role != Role::Leader {
            self.leading[view.host] = None;
            return Ok(());
        }
        self.note(view);
        let before = self.committed.iter().rev().find(|(term, _)| *term < view.term);
        let Some((term, index)) = before.copied() else { return Ok(()) };
        let fresh = self.leading[view.host] != Some(view.term);
        self.leading[view.host] = Some(view.term);
        if log.holds(index, committed.chain_at(index)) {
            return Ok(());
        }
        let when = if fresh { "was elected" } else { "leads" };
        let story = format!("{view} {when} without {index}, which was committed in term {term}");
        violation("leader completeness", story)
    }

    /// A leader commits in its own term.
    fn note(&mut self, view: View) {
        match self.committed.binary_search_by_key(&view.term, |(term, _)| *term) {
            Ok(at) => self.committed[at].1 = self.committed[at].1.max(view.commit),
            Err(at) => {
                let before = at.checked_sub(1).map_or(Index::ZERO, |at| self.committed[at].1);
                // What it knew as committed when elected was committed in an earlier term.
                self.committed.insert(at, (view.term, before.max(view.commit)));
            }
        }
    }
}
