//! Who is sent entries as they come, and who once a tick. A majority suffices to commit; each other follower would be woken, and
//! would sync, thousands of times in a second for nothing. It gets the same entries together, a tick later at most. Knows
//! nothing of what is in them, nor of reads.

use crate::leader::Leader;
use crate::member::Member;
use crate::progress::ProgressState;
use crate::sabotage::Bug;
use crate::types::{Index, NodeId};

impl Leader {
    /// Whether a follower may wait for the next tick: others suffice, and nobody waits at it. While members change or leadership
    /// is handed over, nobody is spared.
    pub(crate) fn is_spared(&self, member: &Member, to: NodeId) -> bool {
        let progress = &self.progress[&to];
        !self.quick.is_empty()
            && !self.quick.contains(&to)
            && self.transfer.is_none()
            && !member.is_change_pending()
            && progress.state() == ProgressState::Replicate
            && !progress.is_hurried(member.ticks, &member.limits)
    }

    /// Sends to those who were spared, and chooses anew who will be. Where something is not committed that the log held a tick ago,
    /// one of the quick does not answer as it should: nobody is spared until the next tick, and then those that did.
    pub(crate) fn tick_spared(&mut self, member: &mut Member) {
        let is_fixed = Bug::SparesForEver.spoils(false, || !self.quick.is_empty());
        if !member.limits.spares_followers || is_fixed {
            return;
        }
        let last_at_tick = std::mem::replace(&mut self.last_at_tick, member.log.last().index);
        let is_late = member.log.commit() < last_at_tick;
        self.quick = if is_late { Vec::new() } else { self.choose_quick(member, last_at_tick) };
        for place in 0..self.peers.len() {
            self.replicate(member, self.peers[place]);
        }
    }

    /// As few as suffice: of those that hold what the log held a tick ago first where somebody waits, who gets all anyway, then
    /// who holds most, then who was quick before. Nobody where all together do not suffice.
    fn choose_quick(&self, member: &Member, last_at_tick: Index) -> Vec<NodeId> {
        let voters = self.peers.iter().copied().filter(|id| member.membership().is_voter(*id));
        let mut quick: Vec<NodeId> = voters.collect();
        quick.sort_by_key(|id| {
            let progress = &self.progress[id];
            let lags = progress.state() != ProgressState::Replicate || progress.match_index() < last_at_tick;
            let is_hurried = progress.is_hurried(member.ticks, &member.limits);
            (lags, !is_hurried, u64::MAX - progress.match_index().0, !self.quick.contains(id))
        });
        let count = (1..=quick.len()).find(|count| self.suffice(member, &quick[..*count]));
        quick.truncate(count.unwrap_or(0));
        quick
    }
}
