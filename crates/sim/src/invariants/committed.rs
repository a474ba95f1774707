//! What is committed never changes, and stands on the disks of a majority from the instant at which any server
//! takes it for committed (Raft paper §5.3, §5.4; thesis §3.6, §3.8).
//!
//! Since no entry is applied, and so no write acknowledged, before it is committed, this is also the durability
//! of every acknowledged write, checked at the earliest instant it could be broken.

use quorate_raft::Index;

use super::{View, Violation, violation};
use crate::ledger::{Chain, HostLedger, Ledger};

/// The log of the cluster.
#[derive(Debug, Default)]
pub struct Committed {
    chains: Vec<Chain>,
}

impl Committed {
    /// The highest index that any server has taken for committed.
    pub fn index(&self) -> Index {
        Index(self.chains.len() as u64)
    }

    /// The chain of the committed log at `index`.
    pub fn chain_at(&self, index: Index) -> Option<Chain> {
        match index.0 {
            0 => Some(Chain::EMPTY),
            at => self.chains.get(at as usize - 1).copied(),
        }
    }

    /// A server has taken a step.
    ///
    /// # Errors
    /// If it takes other entries for committed than somebody before, or entries that a majority could lose.
    pub fn stepped(&mut self, view: View, ledger: &Ledger) -> Result<(), Violation> {
        let log = &ledger.host(view.host).log;
        let known = view.commit.min(self.index());
        if !log.holds(known, self.chain_at(known)) {
            return violation(
                "committed never changes",
                format!("{view}: its log differs at or below {known}"),
            );
        }
        if view.commit <= self.index() {
            return Ok(());
        }
        while self.index() < view.commit {
            let next = self.index().next();
            let Some(chain) = log.chain_at(next) else {
                return violation(
                    "committed never changes",
                    format!("{view}: its log ends before its commit index"),
                );
            };
            self.chains.push(chain);
        }
        let chain = self.chain_at(view.commit);
        // Disks that are lost since count as well: of those there are few, and they may have acknowledged it.
        let holds = |host: &usize| {
            let HostLedger { durable_log, lost_log, .. } = ledger.host(*host);
            [durable_log, lost_log].iter().any(|log| log.holds(view.commit, chain))
        };
        let holders = (0..ledger.hosts()).filter(holds).count();
        if holders * 2 > ledger.hosts() {
            return Ok(());
        }
        let story =
            format!("{view}: {} is committed and on {holders} of {} disks", view.commit, ledger.hosts());
        violation("durability", story)
    }
}
