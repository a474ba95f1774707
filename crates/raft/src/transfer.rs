//! Leadership is handed to another (thesis §3.10). Knows nothing of how the other is elected.

use crate::canonical::Words;
use crate::leader::Leader;
use crate::member::Member;
use crate::message::Body;
use crate::node::Node;
use crate::progress::Progress;
use crate::role::RoleState;
use crate::sabotage::Bug;
use crate::types::NodeId;
use crate::verdict::{DropReason, Verdict};

/// A transfer under way: nothing is proposed meanwhile, so what `to` lacks only shrinks.
#[derive(Clone, Debug)]
pub(crate) struct Transfer {
    pub(crate) to: NodeId,
    /// It is given up when none is left: whoever waits to propose must not wait for ever.
    ticks_left: u32,
    /// It was told since the last heartbeat. The message may be lost, so each heartbeat tells it again.
    is_urged: bool,
}

impl Transfer {
    pub(crate) fn canonical(&self, words: &mut Words<'_>) {
        words.number(u64::from(self.ticks_left));
        words.number(u64::from(self.is_urged));
    }
}

impl Leader {
    /// Begins to hand over, to `to` or the voter that is alive and holds most of the log. Without one, and where another
    /// transfer is under way, nothing happens.
    pub(crate) fn start_transfer(&mut self, member: &mut Member, to: Option<NodeId>) {
        if self.transfer.is_some() {
            return;
        }
        let is_candidate = |id: &NodeId| {
            *id != member.id && member.membership().voters().contains(id) && to.is_none_or(|to| to == *id)
        };
        let is_alive = |progress: &Progress| {
            to.is_some() || member.ticks - progress.heard_tick() < u64::from(member.limits.election_ticks_min)
        };
        let candidates =
            self.progress().iter().filter(|(id, progress)| is_candidate(id) && is_alive(progress));
        let best = candidates.max_by_key(|(id, progress)| (progress.match_index(), std::cmp::Reverse(**id)));
        if let Some((&to, _)) = best {
            let ticks_left = member.limits.election_ticks_max;
            self.transfer = Some(Transfer { to, ticks_left, is_urged: false });
            self.urge(member);
        }
    }

    /// One tick of a transfer under way. Says whether it is given up.
    pub(crate) fn tick_transfer(&mut self) -> bool {
        let Some(transfer) = &mut self.transfer else { return false };
        transfer.ticks_left = transfer.ticks_left.saturating_sub(1);
        let is_over = transfer.ticks_left == 0;
        if is_over {
            self.transfer = None;
        }
        is_over
    }

    /// Before each round of heartbeats.
    pub(crate) fn forget_urging(&mut self) {
        if let Some(transfer) = &mut self.transfer {
            transfer.is_urged = false;
        }
    }

    /// Tells whom it wants to lead to campaign, once that holds the whole log: with less it could not win, and would only
    /// cost everybody an election.
    pub(crate) fn urge(&mut self, member: &mut Member) {
        let Some(transfer) = self.transfer.as_ref().filter(|transfer| !transfer.is_urged) else { return };
        let to = transfer.to;
        let is_level = self
            .progress()
            .get(&to)
            .is_some_and(|progress| progress.match_index() == member.log.last().index);
        if Bug::TransfersToLaggard.spoils(is_level, || true) {
            member.send(to, Body::TimeoutNow);
            self.transfer.iter_mut().for_each(|transfer| transfer.is_urged = true);
        }
    }
}

impl Node {
    pub(crate) fn start_transfer(&mut self, to: Option<NodeId>) {
        if let RoleState::Leader(leader) = &mut self.role {
            leader.start_transfer(&mut self.member, to);
        }
    }

    /// Whom this node, which leads, is handing leadership to.
    pub fn transfer(&self) -> Option<NodeId> {
        match &self.role {
            RoleState::Leader(leader) => leader.transfer.as_ref().map(|transfer| transfer.to),
            RoleState::Follower | RoleState::PreCandidate(_) | RoleState::Candidate(_) => None,
        }
    }

    /// The leader wants this node to lead. No pre-vote: the others hear from their leader, and would refuse it.
    pub(crate) fn on_timeout_now(&mut self, from: NodeId) -> Verdict {
        self.follow(from)?;
        if self.member.is_withdrawn || !self.member.may_be_needed() {
            return Err(DropReason::NotAsked);
        }
        self.start_campaign(true);
        Ok(())
    }
}
