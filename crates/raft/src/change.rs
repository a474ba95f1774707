//! What a leader does to change the membership (thesis §4). Knows nothing of what a seat says.
//!
//! A change of voters is two entries: the joint configuration, in which both sets must agree, and, once that is committed,
//! the new one. The second is appended by whoever leads then, so a change that has been committed halfway is completed
//! whatever crashes; one whose first entry was lost has never been. One at a time: the next begins when the last one's entry
//! is committed. Learners and seats count in no majority, so a change of these alone is one entry.

use std::sync::Arc;

use crate::effects::Refusal;
use crate::leader::Leader;
use crate::member::Member;
use crate::membership::Membership;
use crate::progress::Progress;
use crate::sabotage::Bug;
use crate::types::{NodeId, Payload, Position};

impl Leader {
    /// Begins a change.
    pub(crate) fn reconfigure(
        &mut self,
        member: &mut Member,
        target: &Membership,
    ) -> Result<Position, Refusal> {
        assert!(!target.is_joint(), "a joint configuration is nothing to aim at");
        if !Bug::ChangesInOneStep.spoils(self.is_ready(member), || true) {
            return Err(Refusal::NotReady);
        }
        if member.is_change_pending() {
            return Err(Refusal::ChangePending);
        }
        if self.transfer.is_some() {
            return Err(Refusal::Busy);
        }
        let next = member.membership().towards(target);
        let position = self.change(member, next);
        self.settle(member);
        Ok(position)
    }

    /// Takes the next step of a change, if one is due: leaves a joint configuration that is committed, or makes a voter of a
    /// learner that has caught up. A leader that has no vote any more hands over.
    pub(crate) fn advance_change(&mut self, member: &mut Member) {
        let latest = member.memberships.latest_index();
        if !self.is_ready(member) || latest > member.log.commit() || self.transfer.is_some() {
            return;
        }
        let now = member.membership();
        if now.is_joint() {
            let is_own = member.log.term_at(latest) == Some(member.term());
            if Bug::LeavesChangesToOthers.spoils(false, || !is_own) {
                return;
            }
            let next = now.settled();
            self.change(member, next);
        } else if !now.is_voter(member.id) {
            self.start_transfer(member, None);
        } else if let Some(id) = now.joining().keys().copied().find(|id| self.has_caught_up(*id)) {
            let next = now.towards(&now.promoted(id));
            self.change(member, next);
        }
    }

    /// Its log is at most two heartbeats behind: as a voter it would hold up nothing.
    fn has_caught_up(&self, id: NodeId) -> bool {
        self.progress.get(&id).is_some_and(|progress| progress.match_index() >= self.levels[1])
    }

    fn change(&mut self, member: &mut Member, next: Membership) -> Position {
        let before = Arc::clone(member.memberships.latest());
        let position = self.push(member, Payload::Membership(Arc::new(next)));
        let now = member.membership();
        self.peers = now.others(member.id);
        // Who has another seat is another server: what the one before it held proves nothing.
        self.progress.retain(|id, _| now.contains(*id) && before.seat(*id) == now.seat(*id));
        for id in &self.peers {
            self.progress.entry(*id).or_insert_with(|| Progress::new(position.index, member.ticks));
        }
        self.advance_commit(member);
        position
    }

    /// One tick of handing over. Says whether it goes on leading: not without a vote, once nobody has taken over.
    pub(crate) fn tick_leaving(&mut self, member: &Member) -> bool {
        let is_given_up = self.tick_transfer();
        let is_out = !member.is_change_pending() && !member.membership().is_voter(member.id);
        !(is_out && (is_given_up || self.transfer.is_none()))
    }
}
