//! What a leader does: replicate, commit, confirm reads, and step down when it cannot reach a majority. Knows
//! nothing of how it was elected.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::canonical::Words;
use crate::effects::{ReadOutcome, Refusal};
use crate::member::Member;
use crate::message::Body;
use crate::progress::{Progress, ProgressState};
use crate::read::Reads;
use crate::sabotage::Bug;
use crate::transfer::Transfer;
use crate::types::{ENTRY_OVERHEAD_BYTES, Entry, Index, NodeId, Payload, Position, ReadToken, Round};
use crate::verdict::{DropReason, Verdict};

/// The memory of one leader in one term.
#[derive(Clone, Debug)]
pub(crate) struct Leader {
    /// Everyone else, in ascending order: the keys of `progress`.
    pub(crate) peers: Vec<NodeId>,
    pub(crate) progress: BTreeMap<NodeId, Progress>,
    reads: Reads,
    heartbeat_ticks: u32,
    /// Where the no-op of this term stands.
    term_start: Index,
    /// Whom it wants to lead.
    pub(crate) transfer: Option<Transfer>,
    /// The commit index at the last heartbeat and at the one before it.
    pub(crate) levels: [Index; 2],
    /// Whom it sends entries as they come; empty for everyone. See [`crate::sparing`].
    pub(crate) quick: Vec<NodeId>,
    /// Where the log ended at the last tick.
    pub(crate) last_at_tick: Index,
}

impl Leader {
    /// Begins a term: appends its no-op and sends it to everyone. Only with an entry of its own term can a
    /// leader commit, and with it all before (thesis §3.6.2).
    pub(crate) fn begin(member: &mut Member) -> Self {
        let last = member.log.last().index;
        let peers = member.membership().others(member.id);
        let begun = |&id: &NodeId| {
            let mut progress = Progress::new(last, member.ticks);
            // Its answer brings its clock, which the first command of a new group waits for.
            progress.hurry(last.next(), member.ticks);
            (id, progress)
        };
        let progress = peers.iter().map(begun).collect();
        let mut leader = Self {
            peers,
            progress,
            reads: Reads::default(),
            heartbeat_ticks: 0,
            term_start: last.next(),
            transfer: None,
            levels: [Index(u64::MAX); 2],
            quick: Vec::new(),
            last_at_tick: last,
        };
        member.leader = Some(member.id);
        leader.append(member, Payload::Noop);
        leader
    }

    pub(crate) fn progress(&self) -> &BTreeMap<NodeId, Progress> {
        &self.progress
    }

    /// Whether it has committed an entry of its own term: from then on it knows of every committed entry.
    pub(crate) fn is_ready(&self, member: &Member) -> bool {
        member.log.commit() >= self.term_start
    }

    /// One tick. Says whether it still leads: not without a majority that answered within an election timeout,
    /// or clients of a cut-off leader would wait for ever (thesis §6.2).
    pub(crate) fn tick(&mut self, member: &mut Member) -> bool {
        let last_contact =
            member.membership().reached(|id| self.seen(member, id, member.ticks, Progress::heard_tick));
        if member.ticks - last_contact >= u64::from(member.limits.election_ticks_max) {
            return false;
        }
        if !self.tick_leaving(member) {
            return false;
        }
        self.tick_spared(member);
        self.heartbeat_ticks += 1;
        if self.heartbeat_ticks >= member.limits.heartbeat_ticks {
            // After a restart a leader knows of nothing committed before it has committed in its own term.
            let level = if self.is_ready(member) { member.log.commit() } else { Index(u64::MAX) };
            self.levels = [level, self.levels[0]];
            self.heartbeat_everyone(member);
        } else if self.reads.asks_more() {
            self.heartbeat_everyone(member);
        }
        true
    }

    /// What is known of a voter: `own` for the leader itself, the default for one it has no progress of.
    fn seen<V: Default>(&self, member: &Member, id: NodeId, own: V, of: impl Fn(&Progress) -> V) -> V {
        if id == member.id && !member.is_own_seat_taken() {
            return own;
        }
        self.progress.get(&id).map(of).unwrap_or_default()
    }

    /// The highest clock value that a majority's last-known clocks have reached.
    pub(crate) fn majority_clock(&self, member: &Member) -> u64 {
        let reached = member.membership().reached(|id| self.seen(member, id, member.clock, Progress::clock));
        Bug::BelievesOneClock.spoils(reached, || member.clock)
    }

    pub(crate) fn propose(&mut self, member: &mut Member, payload: Bytes) -> Result<Position, Refusal> {
        if payload.len() > member.limits.entry_bytes_max {
            return Err(Refusal::TooLarge);
        }
        if self.transfer.is_some() {
            return Err(Refusal::Busy);
        }
        let payload = Payload::Data(payload);
        let uncommitted = member.log.uncommitted_bytes();
        let entry_cost = payload.len() + ENTRY_OVERHEAD_BYTES;
        // One entry may always be under way, however small the bound.
        if uncommitted > 0 && uncommitted + entry_cost > member.limits.uncommitted_bytes_max {
            return Err(Refusal::Busy);
        }
        Ok(self.append(member, payload))
    }

    /// Adds an entry of this term. Its own write and the appends to the followers run side by side.
    fn append(&mut self, member: &mut Member, payload: Payload) -> Position {
        let position = self.push(member, payload);
        self.settle(member);
        position
    }

    /// Adds an entry of this term, and draws no conclusion yet.
    pub(crate) fn push(&mut self, member: &mut Member, payload: Payload) -> Position {
        let position = Position::new(member.term(), member.log.last().index.next());
        member.append(vec![Entry { position, payload }]);
        position
    }

    pub(crate) fn read(&mut self, member: &mut Member, token: ReadToken) {
        if self.reads.len() >= member.limits.reads_waiting_max {
            member.effects.reads.push(ReadOutcome::Refused { token, refusal: Refusal::Busy });
            return;
        }
        self.reads.wait(token);
        self.settle(member);
    }

    /// Somebody waits at a follower, or at one that is none.
    pub(crate) fn hurry(&mut self, member: &mut Member, to: NodeId) {
        if let Some(progress) = self.progress.get_mut(&to) {
            progress.hurry(member.log.last().index, member.ticks);
            self.replicate(member, to);
            self.tell_commit(member);
        }
    }

    /// The reads that leadership, now lost, leaves unanswered.
    pub(crate) fn into_reads(self) -> Vec<ReadToken> {
        self.reads.into_tokens()
    }

    pub(crate) fn on_appended(&mut self, member: &mut Member, from: NodeId, matched: Index) -> Verdict {
        if matched > member.log.last().index {
            return Err(DropReason::BeyondLog);
        }
        let base = member.log.base().index;
        self.heard(member, from).advance(matched, base);
        self.settle(member);
        Ok(())
    }

    pub(crate) fn on_rejected(
        &mut self,
        member: &mut Member,
        from: NodeId,
        base: Index,
        hint: Position,
    ) -> Verdict {
        let progress = self.heard(member, from);
        if !progress.is_rejection_current(base) {
            return Err(DropReason::StaleRejection);
        }
        // The follower's hint skips its terms that are not ours; this skips ours that are not the follower's. A hint
        // below our base says that the base is not there: were it, the hint would not be below. Then the index
        // before the base stands for all that is gone.
        let common = member.log.highest_not_above(hint).map(|position| position.index);
        progress.regress_next(base, common.unwrap_or(member.log.base().index.previous()));
        self.settle(member);
        Ok(())
    }

    pub(crate) fn on_heartbeat_reply(
        &mut self,
        member: &mut Member,
        from: NodeId,
        round: Round,
        clock: u64,
    ) -> Verdict {
        if round > self.reads.round() {
            return Err(DropReason::BeyondLog);
        }
        let round = Bug::CountsOldEchoes.spoils(round, || self.reads.round());
        self.heard(member, from).echo(round, clock);
        self.find_loss(member, from);
        self.settle(member);
        Ok(())
    }

    /// This node's own writes have come further.
    pub(crate) fn on_persisted(&mut self, member: &mut Member) {
        self.settle(member);
    }

    fn heard(&mut self, member: &Member, from: NodeId) -> &mut Progress {
        let progress =
            self.progress.get_mut(&from).expect("the sender is a member, and every member has progress");
        progress.heard(member.ticks);
        progress
    }

    /// Sends all that may be sent to a follower now.
    pub(crate) fn replicate(&mut self, member: &mut Member, to: NodeId) {
        let last = member.log.last().index;
        while self.progress[&to].may_send(last, &member.limits) && self.send_next(member, to, last) {}
    }

    /// Sends entries after `next_index`, or, where those are gone, the offer of the snapshot that stands for them. Says
    /// whether anything has left: not while that snapshot is still to be taken. One that ends below this log's beginning
    /// would be fetched in vain.
    fn send_next(&mut self, member: &mut Member, to: NodeId, last: Index) -> bool {
        let (base, snapshot) = (member.log.base(), member.log.snapshot());
        let progress = self.progress.get_mut(&to).expect("every member has progress");
        let is_gone = progress.next_index().previous() < base.index;
        if !Bug::ProbesWithPurgedLog.spoils(is_gone, || false) {
            self.send_append(member, to, last);
        } else if snapshot.index < base.index {
            progress.await_snapshot();
            return false;
        } else {
            progress.offered(member.ticks);
            member.send(to, Body::InstallSnapshot { last: snapshot });
        }
        true
    }

    /// Sends one append from `next_index` up to `last` at most. Where nothing is left to send it is a question:
    /// does the follower have what is before?
    fn send_append(&mut self, member: &mut Member, to: NodeId, last: Index) {
        let progress = self.progress.get_mut(&to).expect("every member has progress");
        let after = progress.next_index().previous();
        let after = Bug::ProbesWithPurgedLog.spoils(after, || after.max(member.log.base().index));
        let run = member.log.run_between(after, last, member.limits.append_bytes_max);
        let commit = member.log.commit();
        let bytes = run.entries().iter().map(Entry::cost).sum();
        progress.sent(run.last().index, bytes, commit, member.ticks);
        member.send(to, Body::Append { run, commit });
    }

    /// The follower lives, but an append has been out for longer than a heartbeat: it may be lost, and nothing
    /// that is sent later would tell.
    fn find_loss(&mut self, member: &mut Member, from: NodeId) {
        let progress = self.progress.get_mut(&from).expect("every member has progress");
        if !progress.is_overdue(member.ticks, member.limits.heartbeat_ticks) {
            return;
        }
        match progress.state() {
            ProgressState::Probe | ProgressState::Snapshot => progress.forget_probe(),
            // Asks for what is in flight without sending it again: rejected if it was lost.
            ProgressState::Replicate => {
                let sent = progress.next_index().previous();
                self.send_next(member, from, sent);
            }
        }
    }

    fn heartbeat_everyone(&mut self, member: &mut Member) {
        self.heartbeat_ticks = 0;
        self.forget_urging();
        for place in 0..self.peers.len() {
            self.heartbeat(member, self.peers[place]);
        }
    }

    fn heartbeat(&mut self, member: &mut Member, to: NodeId) {
        let progress = self.progress.get_mut(&to).expect("every member has progress");
        let commit = progress.heartbeat_commit(member.log.commit());
        progress.told(commit);
        member.send_heartbeat(to, Body::Heartbeat { round: self.reads.round(), commit });
    }

    pub(crate) fn canonical(&self, member: &Member, words: &mut Words<'_>) {
        words.number(u64::from(self.heartbeat_ticks));
        words.number(self.term_start.0);
        let progress: BTreeMap<NodeId, &Progress> =
            self.progress.iter().map(|(&id, progress)| (words.renamed(id), progress)).collect();
        for (id, progress) in progress {
            words.number(id.get());
            progress.canonical(member.ticks, &member.limits, words);
        }
        self.reads.canonical(words);
        if !member.membership().joining().is_empty() {
            self.levels.iter().for_each(|level| words.number(level.0));
        }
        words.id(self.transfer.as_ref().map(|transfer| transfer.to));
        if let Some(transfer) = &self.transfer {
            transfer.canonical(words);
        }
        if member.limits.spares_followers {
            words.number(self.last_at_tick.0.saturating_sub(member.log.commit().0));
            words.length(self.quick.len());
            self.quick.iter().for_each(|id| words.id(Some(*id)));
        }
    }

    /// Draws every conclusion from what is known now, in this order: what is committed, what can be sent (and
    /// carries that), which reads are confirmed, and who must be told by a message of its own.
    pub(crate) fn settle(&mut self, member: &mut Member) {
        self.advance_commit(member);
        self.advance_change(member);
        for place in 0..self.peers.len() {
            let to = self.peers[place];
            if !self.is_spared(member, to) {
                self.replicate(member, to);
            }
        }
        self.urge(member);
        self.advance_reads(member);
        self.tell_commit(member);
    }

    /// Tells the commit index to whom it must be told by a message of its own.
    fn tell_commit(&mut self, member: &mut Member) {
        for place in 0..self.peers.len() {
            let id = self.peers[place];
            if self.progress[&id].needs_commit_notice(member.log.commit(), member.ticks, &member.limits) {
                self.heartbeat(member, id);
            }
        }
    }

    /// What a majority holds durably is committed, if it is of this term: an older entry that a majority holds
    /// may still be replaced (figure 8 of the paper). The leader counts itself by its own durable index.
    pub(crate) fn advance_commit(&mut self, member: &mut Member) {
        let own = Bug::CountsItselfBeforeSync.spoils(member.writes.durable(), || member.log.last().index);
        let reached = member.membership().reached(|id| self.seen(member, id, own, Progress::match_index));
        let reached = Bug::CommitsWithoutMajority.spoils(reached, || self.held_by_two_of_five(reached, own));
        let is_own_term = member.log.term_at(reached) == Some(member.term());
        let is_own_term = Bug::CommitsOldTerm.spoils(is_own_term, || true);
        if reached > member.log.commit() && is_own_term {
            member.log.commit_to(reached);
        }
    }

    /// [`Bug::CommitsWithoutMajority`]; in a smaller group two are a majority.
    fn held_by_two_of_five(&self, reached: Index, own: Index) -> Index {
        let other = self.progress.values().map(Progress::match_index).max().unwrap_or_default();
        if self.peers.len() >= 4 { own.min(other) } else { reached }
    }

    fn advance_reads(&mut self, member: &mut Member) {
        if !Bug::ReadsBeforeOwnCommit.spoils(self.is_ready(member), || true) {
            return;
        }
        // Twice at most but in a group of one, where a round is confirmed as soon as it starts.
        loop {
            let own = self.reads.round();
            let echoed = member.membership().reached(|id| self.seen(member, id, own, Progress::echoed));
            let who =
                self.progress.iter().filter(|(_, progress)| progress.echoed() == own).map(|(&id, _)| id);
            if let Some(round) = self.reads.confirm(echoed, who) {
                let index = round.index;
                let outcomes = round.tokens.into_iter().map(|token| ReadOutcome::Confirmed { token, index });
                member.effects.reads.extend(outcomes);
            }
            if !self.reads.wants_round() {
                return;
            }
            let asks_few = self.suffice(member, self.reads.quickest());
            self.reads.start(member.log.commit(), asks_few);
            if asks_few {
                // One of them may have left since.
                for place in 0..self.peers.len() {
                    if self.reads.quickest().contains(&self.peers[place]) {
                        self.heartbeat(member, self.peers[place]);
                    }
                }
            } else {
                self.heartbeat_everyone(member);
            }
        }
    }

    /// Whether these and the leader are a majority. Where they are, they alone are asked to confirm a round: each other one
    /// would be woken for nothing, thousands of times in a second. If one of them does not answer, all are asked at the next
    /// tick, and who answers then is asked from then on. ([`crate::sparing`] does the same for entries.)
    pub(crate) fn suffice(&self, member: &Member, few: &[NodeId]) -> bool {
        let own = !member.is_own_seat_taken();
        member.membership().reached(|id| if id == member.id { own } else { few.contains(&id) })
    }
}
