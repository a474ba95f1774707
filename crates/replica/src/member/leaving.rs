//! A member that is about to stop: it lets another lead, and finishes what its own clients have under way. Knows nothing of
//! connections, nor of why it stops.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use quorate_raft::{Input, NodeId};

use super::Member;
use crate::replica::Outbox;
use crate::sabotage::Bug;

/// Milliseconds that leaving takes at most. A transfer that fails is given up after an election timeout, and tried again.
pub(crate) const LEAVE_MS_MAX: u64 = 2_000;

/// How far [`crate::replica::Event::Leave`] has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// The others do without this one, and nothing of its clients is under way.
    InOrder,
    /// There is nobody to hand over to, or the time for it is over: to wait any longer is of no use.
    Unsettled,
}

/// What is known of leaving.
#[derive(Debug)]
pub(super) struct Leaving {
    /// Whoever was silent for so many ticks is taken for dead.
    silent_ticks_max: u64,
    /// Since when, once it is; and whether it led then.
    since: Option<(u64, bool)>,
    /// Who was asked to lead in its place. Whoever does not within an election timeout is not asked again: it is withdrawn, or cut
    /// off, and meanwhile nobody's write gets on.
    asked: BTreeSet<NodeId>,
    /// To whom the way is known to be broken: whoever stops says so by that.
    unreachable: BTreeSet<NodeId>,
}

impl Leaving {
    pub(super) fn new(silent_ticks_max: u32) -> Self {
        Self {
            silent_ticks_max: u64::from(silent_ticks_max),
            since: None,
            asked: BTreeSet::new(),
            unreachable: BTreeSet::new(),
        }
    }

    pub(super) fn link_up(&mut self, node: NodeId) {
        self.unreachable.remove(&node);
    }

    pub(super) fn link_down(&mut self, node: NodeId) {
        self.unreachable.insert(node);
    }
}

impl Member {
    /// From now on it lets others lead. It serves until it has left.
    pub(crate) fn leave(&mut self) {
        let now = (self.uptime_ms, self.is_leader());
        self.leaving.since.get_or_insert(now);
    }

    pub(crate) fn link_down(&mut self, node: NodeId, out: &mut Outbox) {
        self.leaving.link_down(node);
        self.step(Input::Unreachable { node }, out);
    }

    /// At the end of a step: goes on with leaving, and says where it stands.
    pub(super) fn go_on_leaving(&mut self, out: &mut Outbox) {
        let Some((since_ms, has_led)) = self.leaving.since else { return };
        let is_in_time = self.uptime_ms.saturating_sub(since_ms) < LEAVE_MS_MAX;
        out.actions.left = match self.hand_over(has_led, out) {
            HandedOver::Yes if self.is_settled() => Some(Left::InOrder),
            HandedOver::Yes | HandedOver::NotYet if is_in_time => None,
            HandedOver::Yes | HandedOver::NotYet | HandedOver::Never => Some(Left::Unsettled),
        };
    }

    fn hand_over(&mut self, has_led: bool, out: &mut Outbox) -> HandedOver {
        let voters = self.node.voters();
        let is_voter = voters.contains(&out.id);
        if !is_voter && !self.is_leader() || is_voter && voters.len() == 1 {
            return HandedOver::Yes;
        }
        let is_reachable = |id: &&NodeId| **id != out.id && !self.leaving.unreachable.contains(id);
        if !voters.iter().any(|id| is_reachable(&id)) {
            return HandedOver::Never;
        }
        match self.node.leader() {
            Some(leader) if leader != out.id => HandedOver::Yes,
            Some(_) if self.node.transfer().is_some() => HandedOver::NotYet,
            Some(_) => match self.best_successor(out.id) {
                Some(to) => {
                    self.leaving.asked.insert(to);
                    self.step(Input::Transfer { to: Some(to) }, out);
                    HandedOver::NotYet
                }
                None => HandedOver::Never,
            },
            // The successor is being elected, or nobody can be.
            None if has_led => HandedOver::NotYet,
            None => HandedOver::Yes,
        }
    }

    /// The voter that is heard and holds most of the log.
    fn best_successor(&self, own: NodeId) -> Option<NodeId> {
        let Leaving { asked, unreachable, .. } = &self.leaving;
        let is_candidate = |id: &NodeId| {
            *id != own && self.node.voters().contains(id) && !asked.contains(id) && !unreachable.contains(id)
        };
        let candidates = self.node.progress()?.iter().filter(|(id, progress)| {
            let silent_ticks = self.node.ticks() - progress.heard_tick();
            is_candidate(id) && silent_ticks < self.leaving.silent_ticks_max
        });
        candidates.max_by_key(|(id, progress)| (progress.match_index(), Reverse(**id))).map(|(id, _)| *id)
    }

    /// Nothing of its clients is under way.
    fn is_settled(&self) -> bool {
        let is_settled = self.gateway.waiting() == 0 && self.reads.is_empty() && !self.backups.is_awaited();
        Bug::LeavesInFlight.spoils(is_settled, || true)
    }
}

/// Whether the others do without this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HandedOver {
    Yes,
    NotYet,
    /// There is nobody.
    Never,
}
