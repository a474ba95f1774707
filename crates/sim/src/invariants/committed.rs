//! What is committed never changes, and stands on the disks of a majority from the instant at which any server
//! takes it for committed (Raft paper §5.3, §5.4; thesis §3.6, §3.8).
//!
//! Since no entry is applied, and so no write acknowledged, before it is committed, this is also the durability
//! of every acknowledged write, checked at the earliest instant it could be broken.

use std::sync::Arc;

use quorate_raft::{Index, Membership, Role};

use super::members::{Members, Named};
use super::{View, Violation, violation};
use crate::ledger::{Chain, HostLedger, Ledger};
use crate::network::HostIndex;

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
    pub fn stepped(&mut self, view: View, ledger: &Ledger, members: &Members) -> Result<(), Violation> {
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
        let before = self.index();
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
        // A membership decides about itself, and about what stands behind it until the next. (The next may be in the log
        // already: whoever leads appends it in the step in which it sees that this one is committed.)
        let fresh = log.memberships().iter().filter(|(index, _)| *index > before && *index <= view.commit);
        for (index, membership) in fresh {
            self.check_decided(view, *index, &[membership], ledger, members)?;
        }
        let mut may_decide = members.latest_of_log(log, view.commit);
        if view.role != Role::Leader {
            // Its leader has seen it first, by a membership that stands behind this log, if not by one in it.
            may_decide.extend(members.to_count(ledger));
        }
        self.check_decided(view, view.commit, &may_decide, ledger, members)
    }

    /// # Errors
    /// If none of these memberships has a majority whose disks hold the log up to here. Disks that are lost since count as
    /// well: of those there are few, and they may have acknowledged it.
    fn check_decided(
        &self,
        view: View,
        index: Index,
        may_decide: &[&Arc<Membership>],
        ledger: &Ledger,
        members: &Members,
    ) -> Result<(), Violation> {
        let chain = self.chain_at(index);
        let holds = |host: HostIndex| {
            let HostLedger { durable_log, lost_log, .. } = ledger.host(host);
            [durable_log, lost_log].iter().any(|log| log.holds(index, chain))
        };
        if may_decide.iter().any(|membership| members.decides(membership, holds)) {
            return Ok(());
        }
        let holders = (0..ledger.hosts()).filter(|host| holds(*host)).map(|host| format!("n{}", host + 1));
        let story = format!(
            "{view}: {index} is committed, and on the disks of {} alone; the members are {}",
            holders.collect::<Vec<_>>().join(" "),
            may_decide
                .iter()
                .map(|membership| Named(membership).to_string())
                .collect::<Vec<_>>()
                .join(", or "),
        );
        violation("durability", story)
    }
}
