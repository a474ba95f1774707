//! What every role has: hard state, log, writes, timer, and the effects of the step under way. Knows nothing of
//! what the roles do with it.

use std::sync::Arc;

use bytes::Bytes;

use crate::canonical::Words;
use crate::effects::{Effects, Persist};
use crate::limits::Limits;
use crate::log::Log;
use crate::membership::{Membership, Memberships};
use crate::message::{Body, Envelope, Message};
use crate::node::{Config, Restored};
use crate::prng::Prng;
use crate::sabotage::{self, Bug};
use crate::types::{Entry, HardState, Index, NodeId, Position, Term};
use crate::writes::Writes;

/// A member of the group, whatever its role.
///
/// Invariants:
/// - The term never falls; within a term the vote is given once.
/// - No entry is of a later term than the hard state's.
/// - What this node promises leaves through [`Member::promise`] or [`Member::acknowledge`], never otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) id: NodeId,
    /// What its seat begins with.
    own_seat: Bytes,
    pub(crate) limits: Limits,
    pub(crate) memberships: Memberships,
    hard_state: HardState,
    pub(crate) log: Log,
    pub(crate) writes: Writes,
    /// Who leads the current term, as far as known.
    pub(crate) leader: Option<NodeId>,
    /// It leaves leading to others.
    pub(crate) is_withdrawn: bool,
    /// Entries handed to the state machine.
    applied: Index,
    /// The caller's clock at the last tick; opaque.
    pub(crate) clock: u64,
    /// Ticks since the start of the process.
    pub(crate) ticks: u64,
    /// Ticks since the election timer was reset.
    timer_ticks: u32,
    timeout_ticks: u32,
    prng: Prng,
    pub(crate) effects: Effects,
    step: StepWrites,
}

/// What the step under way must write.
#[derive(Clone, Debug, Default)]
struct StepWrites {
    hard_state_changed: bool,
    /// The log begins anew here.
    reset_to: Option<Position>,
    /// The first entry that changed.
    entries_from: Option<Index>,
    send_after: Vec<Envelope>,
}

impl Member {
    pub(crate) fn new(config: Config, restored: Restored) -> Self {
        let Config { id, membership, own_seat, limits, seed } = config;
        limits.check();
        let Restored { hard_state, base, entries, snapshot, membership: of_snapshot } = restored;
        let is_log_empty = entries.is_empty();
        let mut memberships = Memberships::new(membership, snapshot.index, of_snapshot);
        memberships.append(&entries);
        let log = Log::new(base, entries, snapshot);
        let last = log.last();
        // Term and entries share one log, but a snapshot is a file of its own, and may have become durable first.
        let is_term_lost = is_log_empty && last.term > hard_state.term;
        assert!(is_term_lost || last.term <= hard_state.term, "the log is ahead of the stored term");
        let mut member = Self {
            id,
            own_seat,
            memberships,
            hard_state,
            writes: Writes::new(log.last().index),
            leader: None,
            is_withdrawn: false,
            applied: log.commit(),
            log,
            clock: 0,
            ticks: 0,
            timer_ticks: 0,
            timeout_ticks: 0,
            prng: Prng::new(seed, id.get()),
            limits,
            effects: Effects::default(),
            step: StepWrites::default(),
        };
        if is_term_lost {
            // This node has not spoken in that term, so nobody has its vote in it.
            member.enter_term(last.term);
        }
        member.reset_timer();
        member
    }

    /// The one that counts: the latest in the log.
    pub(crate) fn membership(&self) -> &Membership {
        self.memberships.latest()
    }

    /// Whether another server has this node's id in the membership that counts: what this one holds or votes does not count.
    pub(crate) fn is_own_seat_taken(&self) -> bool {
        !self.membership().is_seated(self.id, &self.own_seat)
    }

    /// Whether it has a vote to campaign with, or may come to have it again.
    pub(crate) fn may_be_needed(&self) -> bool {
        self.memberships.may_need(self.id, &self.own_seat)
    }

    /// Whether it is not committed, or leads on to another one.
    pub(crate) fn is_change_pending(&self) -> bool {
        self.memberships.latest_index() > self.log.commit() || self.membership().is_joint()
    }

    pub(crate) fn term(&self) -> Term {
        self.hard_state.term
    }

    pub(crate) fn vote(&self) -> Option<NodeId> {
        self.hard_state.vote
    }

    pub(crate) fn applied(&self) -> Index {
        self.applied
    }

    /// Enters a later term, in which nobody has this node's vote yet.
    pub(crate) fn enter_term(&mut self, term: Term) {
        assert!(term > self.hard_state.term, "the term would fall from {} to {term}", self.hard_state.term);
        self.hard_state = HardState { term, vote: None };
        self.step.hard_state_changed = true;
        self.leader = None;
    }

    /// Gives the one vote of this term.
    pub(crate) fn vote_for(&mut self, candidate: NodeId) {
        assert!(self.hard_state.vote.is_none(), "a second vote in term {}", self.hard_state.term);
        self.hard_state.vote = Some(candidate);
        self.step.hard_state_changed = true;
    }

    /// Whether term and vote would survive a crash now.
    pub(crate) fn is_hard_state_durable(&self) -> bool {
        !self.step.hard_state_changed && self.writes.is_hard_state_durable()
    }

    /// Adds entries at the end of the log.
    pub(crate) fn append(&mut self, entries: Vec<Entry>) {
        let Some(first) = entries.first().map(|entry| entry.position.index) else { return };
        self.memberships.append(&entries);
        self.log.append(entries);
        assert!(self.log.last().term <= self.term(), "an entry of a later term than this node's");
        let from = self.step.entries_from.map_or(first, |from| from.min(first));
        self.step.entries_from = Some(from);
    }

    /// Replaces the tail of the log from the first entry on.
    pub(crate) fn rewrite(&mut self, entries: Vec<Entry>) {
        let first = entries.first().expect("a tail is only ever replaced by another").position.index;
        self.log.truncate_from(first);
        self.memberships.truncate_from(first);
        self.writes.rewrite_from(first);
        self.append(entries);
    }

    /// Begins anew at a snapshot that is durable and ahead of what is committed here, with a log that does not hold
    /// its position. What is on the disk up to the old commit index is good for as long as it is there; what was
    /// written beyond may be another log's, and does not count.
    pub(crate) fn install(&mut self, snapshot: Position, membership: Option<Arc<Membership>>) {
        let kept = Bug::KeepsConflictingSuffix.spoils(Vec::new(), || self.conflicting_suffix(snapshot));
        self.writes.rewrite_from(self.log.commit().next());
        self.log.reset(snapshot);
        self.memberships.reset(snapshot.index, membership);
        self.applied = snapshot.index;
        self.step.reset_to = Some(snapshot);
        self.effects.install = Some(snapshot);
        self.append(kept);
    }

    /// [`Bug::KeepsConflictingSuffix`], where nobody would see it at once.
    fn conflicting_suffix(&self, snapshot: Position) -> Vec<Entry> {
        let suffix = self.log.between(snapshot.index, self.log.last().index);
        suffix.filter(|entry| entry.position.term >= snapshot.term).cloned().collect()
    }

    /// Sends what promises nothing.
    pub(crate) fn send(&mut self, to: NodeId, body: Body) {
        let message = Message { term: self.term(), body };
        self.effects.send_now.push(Envelope { to, message });
    }

    /// Sends a heartbeat, which promises nothing either: were it to wait for this node's disk, one slow sync would cost it the
    /// leadership.
    pub(crate) fn send_heartbeat(&mut self, to: NodeId, body: Body) {
        if Bug::HeartbeatsWaitForDisk.is_put_back() {
            let message = Message { term: self.term(), body };
            self.step.send_after.push(Envelope { to, message });
            return;
        }
        self.send(to, body);
    }

    /// Sends what promises nothing, in a term that this node has not entered (pre-vote).
    pub(crate) fn send_in_term(&mut self, to: NodeId, term: Term, body: Body) {
        self.effects.send_now.push(Envelope { to, message: Message { term, body } });
    }

    /// Sends what rests on term and vote: only once they are durable. The log may be under way still, so a slow
    /// disk does not silence a node.
    pub(crate) fn promise(&mut self, to: NodeId, body: Body) {
        let envelope = Envelope { to, message: Message { term: self.term(), body } };
        let is_durable = self.is_hard_state_durable();
        let is_echo = matches!(envelope.message.body, Body::HeartbeatReply { .. });
        let is_durable = Bug::EchoesWaitForDisk.spoils(is_durable, || is_durable && !is_echo);
        if is_durable || sabotage::leaves_early(&envelope.message.body) {
            self.effects.send_now.push(envelope);
        } else {
            self.step.send_after.push(envelope);
        }
    }

    /// Sends `Appended { matched }`: only once the log up to `matched` is durable, and the term with it.
    pub(crate) fn acknowledge(&mut self, to: NodeId, matched: Index) {
        let is_durable = matched <= self.writes.durable() && self.is_hard_state_durable();
        let message = Message { term: self.term(), body: Body::Appended { matched } };
        let envelope = Envelope { to, message };
        if is_durable {
            self.effects.send_now.push(envelope);
        } else {
            self.step.send_after.push(envelope);
        }
    }

    /// Starts the election timer anew with a newly drawn timeout. Drawn each time: two nodes that once drew the
    /// same would otherwise split the vote for ever.
    pub(crate) fn reset_timer(&mut self) {
        self.timer_ticks = 0;
        if self.timeout_ticks > 0 && Bug::DrawsTimeoutOnce.is_put_back() {
            return;
        }
        let Limits { election_ticks_min, election_ticks_max, .. } = self.limits;
        let drawn = self.prng.between(election_ticks_min, election_ticks_max);
        self.timeout_ticks = drawn.saturating_mul(self.patience());
    }

    /// Times an election timeout. A candidate's vote, and then a voter's, must be on a disk before it counts: where two syncs
    /// take longer than a timeout nobody would ever be elected, if all did not wait longer from time to time.
    fn patience(&self) -> u32 {
        let lost_terms = self.term().0.saturating_sub(self.log.last().term.0).saturating_sub(1);
        let doublings = u32::try_from(lost_terms).unwrap_or(u32::MAX).min(16);
        Bug::NeverWaitsLonger.spoils((1 << doublings).min(self.limits.election_patience_max), || 1)
    }

    /// What is left of the timer is cut down to a newly drawn, short time.
    pub(crate) fn hurry_timer(&mut self) {
        if Bug::DrawsTimeoutOnce.is_put_back() {
            return;
        }
        let Limits { hurry_ticks_min, hurry_ticks_max, .. } = self.limits;
        let left = self.prng.between(hurry_ticks_min, hurry_ticks_max);
        self.timeout_ticks = self.timeout_ticks.min(self.timer_ticks.saturating_add(left));
    }

    /// One tick of the election timer. Says whether an election is due: it ran out, or there is nobody to wait for.
    pub(crate) fn tick_timer(&mut self) -> bool {
        self.timer_ticks = self.timer_ticks.saturating_add(1);
        let is_alone = self.leader.is_none() && self.membership().is_sole_voter(self.id);
        is_alone || self.timer_ticks >= self.timeout_ticks
    }

    /// Whether a follower heard from its leader so lately that no election is due (thesis §4.2.3). Without a
    /// known leader it is false, whatever reset the timer.
    pub(crate) fn has_lively_leader(&self) -> bool {
        self.leader.is_some() && self.timer_ticks < self.limits.election_ticks_min
    }

    /// Between two steps: nothing of one is under way.
    pub(crate) fn canonical(&self, words: &mut Words<'_>) {
        words.id(Some(self.id));
        words.number(self.term().0);
        words.id(self.vote());
        words.id(self.leader);
        words.number(u64::from(self.is_withdrawn));
        for number in [self.applied.0, self.clock, u64::from(self.timer_ticks), u64::from(self.timeout_ticks)]
        {
            words.number(number);
        }
        let last = self.log.last().index;
        words.membership(self.membership());
        words.number(self.memberships.latest_index().0);
        words.position(self.log.base());
        words.position(self.log.snapshot());
        words.number(self.log.commit().0);
        words.number(last.0);
        self.log.between(self.log.base().index, last).for_each(|entry| words.entry(entry));
        self.writes.canonical(words);
    }

    /// Not gated on our own sync: committed is what a majority has, and this node may be the slow one.
    fn hand_over(&mut self) {
        let commit = self.log.commit();
        if self.applied < commit {
            let run = self.log.run_between(self.applied, commit, self.limits.apply_bytes_max);
            self.applied = run.last().index;
            (_, self.effects.apply) = run.into_parts();
        }
        self.effects.more_to_apply = self.applied < commit;
    }

    /// Ends the step: hands over what is committed, and puts all writes of the step into one.
    pub(crate) fn finish_step(&mut self) -> Effects {
        self.hand_over();
        self.memberships.committed(self.log.commit());
        let StepWrites { hard_state_changed, reset_to, entries_from, send_after } =
            std::mem::take(&mut self.step);
        if hard_state_changed || reset_to.is_some() || entries_from.is_some() || !send_after.is_empty() {
            let last = self.log.last().index;
            let entries = entries_from
                .map(|from| self.log.between(from.previous(), last).cloned().collect())
                .unwrap_or_default();
            self.effects.persist = Some(Persist {
                write: self.writes.issue(hard_state_changed, last),
                hard_state: hard_state_changed.then_some(self.hard_state),
                reset_to,
                entries,
                send_after,
            });
        }
        std::mem::take(&mut self.effects)
    }
}
