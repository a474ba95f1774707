//! Snapshots: entries that one stands for leave the log (and the memory sooner, once they are applied and on the disk), and
//! a follower that is too far behind gets one instead of entries (thesis §5, figure 5.3). Knows where a
//! snapshot stands, never what is in it, nor how it travels.

use std::sync::Arc;

use crate::effects::Fetch;
use crate::member::Member;
use crate::membership::Membership;
use crate::node::Node;
use crate::role::{Role, RoleState};
use crate::sabotage::Bug;
use crate::types::{Index, NodeId, Position, Term};
use crate::verdict::{DropReason, Verdict};

/// What becomes of a snapshot.
enum Use {
    /// As much is committed here.
    Old,
    /// The log holds its position: all up to there is committed.
    Held,
    /// The log does not reach so far, or holds another entry there, and all of that is void.
    Ahead,
}

/// Decides; changes nothing.
fn judge(member: &Member, last: Position) -> Use {
    if last.index <= member.log.commit() {
        Use::Old
    } else if member.log.holds(last) {
        Use::Held
    } else {
        Use::Ahead
    }
}

/// A leader says that what this log needs next is gone there, and that a snapshot stands for all up to `last`. What is
/// answered is what is proven: a leader holds everything that is committed.
pub(crate) fn on_offer(member: &mut Member, from: NodeId, last: Position) -> Verdict {
    let is_possible = last.term > Term::ZERO && last.index > Index::ZERO && last.index.0 < u64::MAX;
    if !is_possible {
        return Err(DropReason::BeyondLog);
    }
    if last.term > member.term() {
        return Err(DropReason::TermAhead);
    }
    match judge(member, last) {
        Use::Old => {
            if member.log.term_at(last.index).is_some_and(|term| term != last.term) {
                return Err(DropReason::ContradictsCommitted);
            }
            member.acknowledge(from, member.log.commit());
        }
        Use::Held => {
            member.log.commit_to(last.index);
            member.acknowledge(from, last.index);
        }
        Use::Ahead => member.effects.fetch = Some(Fetch { from, last }),
    }
    Ok(())
}

impl Node {
    /// A snapshot was taken here: entries leave.
    pub(crate) fn compact(&mut self, snapshot: Position, through: Index) {
        let member = &mut self.member;
        assert!(snapshot.index <= member.applied(), "a snapshot of {snapshot}, which was never applied");
        assert!(through <= snapshot.index, "entries up to {through} for a snapshot of {snapshot}");
        // A newer one may have been installed while this one was written.
        if snapshot.index >= member.log.snapshot().index {
            member.log.cover(snapshot);
            member.log.compact(through);
            // A follower may be waiting for it.
            if let RoleState::Leader(leader) = &mut self.role {
                leader.settle(member);
            }
        }
    }

    /// Entries leave the memory that are applied and durable here.
    pub(crate) fn forget(&mut self, through: Index) {
        let member = &mut self.member;
        let (applied, durable) = (member.applied(), member.writes.durable());
        assert!(through <= applied, "entries up to {through} are forgotten, applied up to {applied}");
        assert!(through <= durable, "entries up to {through} are forgotten, durable up to {durable}");
        member.log.forget(through);
    }

    /// A snapshot has come from a leader, and is durable.
    pub(crate) fn install(&mut self, last: Position, membership: Option<Arc<Membership>>) {
        let member = &mut self.member;
        assert!(last.term <= member.term(), "a snapshot of {last}, which nobody has offered");
        let what = judge(member, last);
        match Bug::InstallsOverNewer.spoils(what, || Use::Ahead) {
            Use::Old => return,
            Use::Held => {
                member.log.commit_to(last.index);
                member.log.cover(last);
            }
            // A leader holds everything that is committed: who gave it this was wrong.
            Use::Ahead if self.role.role() == Role::Leader => return,
            Use::Ahead => member.install(last, membership),
        }
        if let Some(leader) = self.member.leader.filter(|&leader| leader != self.member.id) {
            self.member.acknowledge(leader, last.index);
        }
    }
}
