//! One member of the group: [`Node::step`] takes one input and says what is owed for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::effects::{Effects, ReadOutcome, Refusal};
use crate::follower;
use crate::limits::Limits;
use crate::member::Member;
use crate::membership::Membership;
use crate::message::{Body, Message};
use crate::progress::Progress;
use crate::role::{Role, RoleState};
use crate::sabotage::Bug;
use crate::snapshot;
use crate::types::{Entry, HardState, Index, NodeId, Position, ReadToken, Round, Term, WriteId};
use crate::verdict::{DropReason, Dropped, Verdict};

/// Everything that can happen to a node. There is no other way in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A tick of the caller's timer has passed.
    Tick {
        /// The caller's clock, an opaque number that heartbeat answers carry.
        clock: u64,
    },
    /// A peer said something. The caller vouches for who it was.
    Message {
        /// The sender.
        from: NodeId,
        /// What it said.
        message: Message,
    },
    /// The write of this number, and all before it, are synced.
    Persisted {
        /// Its number.
        write: WriteId,
    },
    /// Append this to the log, if this node leads.
    Propose {
        /// Opaque bytes of the state machine, at most [`Limits::entry_bytes_max`].
        payload: Bytes,
    },
    /// The state machine has room for more of what is committed; see [`Effects::more_to_apply`].
    ApplyMore,
    /// Confirm a read index, if this node leads.
    Read {
        /// Named again in the outcome.
        token: ReadToken,
    },
    /// The caller has a durable snapshot of its state machine: entries may leave the memory. One that is older than
    /// [`Node::snapshot`] changes nothing.
    Compact {
        /// The position that the state machine had applied when it was taken. From now on it is what a follower is
        /// offered whose next entry is gone, so it must be readable until the next `Compact` or `Install`.
        snapshot: Position,
        /// Entries up to here leave, at most `snapshot.index`: a tail that is kept spares a follower that is a little
        /// behind the whole snapshot. From the disk's log they may leave behind all writes that were handed out
        /// before this step: one of those may still rewrite what is on the disk now.
        through: Index,
    },
    /// Entries leave the memory and nothing else changes: all of them are applied, and on this node's own disk. A follower
    /// that turns out to need one of them needs a snapshot; if [`Node::snapshot`] ends below [`Node::base`], one that is
    /// still to be taken, as [`ProgressState::Snapshot`](crate::ProgressState::Snapshot) says of it then.
    Forget {
        /// Entries up to here leave, at most up to [`Node::applied`] and [`Node::durable`].
        through: Index,
    },
    /// The snapshot that was asked for in [`crate::Effects::fetch`] is here: complete, verified and durable, so that
    /// this node would start from it after a crash. Whether it is installed is what [`crate::Effects::install`] says.
    /// It is not if as much is committed here already. Where the log holds its position, the entries up to it are
    /// committed and handed over like others, and it is now [`Node::snapshot`] as if taken here.
    Install {
        /// The last position that it stands for.
        last: Position,
        /// The membership that was applied by then, if it is not that of the founding.
        membership: Option<Arc<Membership>>,
    },
    /// Make this the membership, if this node leads. Where the voters change it comes about by a joint configuration
    /// (thesis §4.3); what follows of it, also the promotion of who is joining, any leader does by itself. What became of
    /// it is in [`Effects::proposed`]: nothing is done until it is committed, and it is undone if the entry is.
    Reconfigure {
        /// A simple configuration, made of the one that counts ([`Node::membership`]).
        target: Membership,
    },
    /// Somebody at this server waits for what is committed: if this node leads, it tells it of the commit index at once, until
    /// that has reached the end of the log as it is now, and for the next [`Limits::notice_ticks`].
    Hurry {
        /// The server.
        to: NodeId,
    },
    /// Let another lead, if this node does (thesis §3.10): it is brought up to date, and then told to campaign at once.
    /// Meanwhile nothing is proposed ([`Refusal::Busy`]), so that nothing has to be resent. Who it will be, if anybody
    /// can, says [`Node::transfer`]; after the longest election timeout it is given up.
    Transfer {
        /// Who, a voter; `None` for the one that holds most of the log.
        to: Option<NodeId>,
    },
    /// The other end has closed the way to this node, as it does when its process dies. If it leads, the election timer is
    /// shortened; whoever hears from that leader refuses the pre-vote all the same. A hint: wrong or late it costs only time.
    Unreachable {
        /// Who.
        node: NodeId,
    },
    /// The caller does not trust its state machine any more: from now on, and for the life of the process, this node
    /// does not campaign, and if it leads, it follows. It holds the log and votes as before: what it promises rests on
    /// its log, in which nothing is wrong, and the others may need it to go on. (Not always does that help: where it
    /// alone of those who are alive holds the end of the log, nobody can be elected.)
    Withdraw,
}

/// What a node starts from.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who this is.
    pub id: NodeId,
    /// Who belongs to the group where neither log nor snapshot says otherwise. It need not hold `id`: a server that is to
    /// join follows, and campaigns only once its log makes it a voter.
    pub membership: Membership,
    /// What this node's seat begins with: where a membership has another seat under its id, that is another server, in whose
    /// name this one neither votes nor campaigns. Empty where seats tell nothing.
    pub own_seat: Bytes,
    /// Times and bounds.
    pub limits: Limits,
    /// Seeds the draw of election timeouts: from entropy in production, from the run's seed in simulation.
    pub seed: u64,
}

/// What recovery found on the disk, all of it durable.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    /// Term and vote.
    pub hard_state: HardState,
    /// The position before the first entry that the disk's log still holds.
    pub base: Position,
    /// The log after `base`, without a gap.
    pub entries: Vec<Entry>,
    /// The position of the snapshot that the state machine was restored from, (0, 0) without one. Everything up to it
    /// is committed and applied. It is `base`, or the position of one of `entries`: a log that did not hold it,
    /// because the snapshot was ahead of it or contradicts its tail, recovery has dropped and begun anew at the
    /// snapshot.
    pub snapshot: Position,
    /// The membership that the snapshot holds, if it is not that of the founding.
    pub membership: Option<Arc<Membership>>,
}

/// One member of the group.
#[derive(Clone, Debug)]
pub struct Node {
    pub(crate) member: Member,
    pub(crate) role: RoleState,
    dropped: Dropped,
}

impl Node {
    /// A follower that knows what was restored, and of no leader.
    ///
    /// # Panics
    /// If `config` cannot work, or `restored` breaks an invariant of the log: it has passed recovery, so it is
    /// this server's own bookkeeping.
    pub fn new(config: Config, restored: Restored) -> Self {
        Self { member: Member::new(config, restored), role: RoleState::Follower, dropped: Dropped::new() }
    }

    /// Takes one input; gives what is owed for it, in order.
    ///
    /// # Panics
    /// If this node's own bookkeeping is wrong, or the caller's: a completed write that was never issued, a snapshot
    /// of what was never applied. No message does it.
    pub fn step(&mut self, input: Input) -> Effects {
        match input {
            Input::Tick { clock } => self.tick(clock),
            Input::Message { from, message } => {
                if let Err(reason) = self.receive(from, message) {
                    *self.dropped.entry(reason).or_default() += 1;
                }
            }
            Input::Persisted { write } => self.persisted(write),
            Input::Propose { payload } => self.propose(payload),
            Input::ApplyMore => {}
            Input::Read { token } => self.read(token),
            Input::Compact { snapshot, through } => self.compact(snapshot, through),
            Input::Forget { through } => self.forget(through),
            Input::Install { last, membership } => self.install(last, membership),
            Input::Reconfigure { target } => self.reconfigure(&target),
            Input::Hurry { to } => self.hurry(to),
            Input::Transfer { to } => self.start_transfer(to),
            Input::Unreachable { node } => self.unreachable(node),
            Input::Withdraw => self.withdraw(),
        }
        self.member.finish_step()
    }

    fn tick(&mut self, clock: u64) {
        self.member.clock = clock;
        self.member.ticks += 1;
        if let RoleState::Leader(leader) = &mut self.role {
            if !leader.tick(&mut self.member) {
                self.become_follower(None);
            }
        } else if self.member.tick_timer() {
            if self.member.is_withdrawn || !self.member.may_be_needed() {
                self.member.leader = None;
                self.member.reset_timer();
            } else {
                self.start_pre_vote();
            }
        }
    }

    /// Whatever it was about to win it gives up: a ballot that is left behind is not counted.
    fn withdraw(&mut self) {
        self.member.is_withdrawn = true;
        match self.role {
            RoleState::Follower => {}
            RoleState::PreCandidate(_) | RoleState::Candidate(_) | RoleState::Leader(_) => {
                self.become_follower(None);
            }
        }
    }

    fn hurry(&mut self, to: NodeId) {
        if let RoleState::Leader(leader) = &mut self.role {
            leader.hurry(&mut self.member, to);
        }
    }

    fn receive(&mut self, from: NodeId, message: Message) -> Verdict {
        let Message { term, body } = message;
        // Only what answers a question must come from a member: who asks may be one that this log does not name yet.
        if from == self.member.id || body.is_answer() && !self.member.membership().contains(from) {
            return Err(DropReason::UnknownSender);
        }
        self.settle_term(from, term, &body)?;
        match body {
            Body::PreVote { last } => self.on_pre_vote(from, term, last),
            Body::PreVoteReply { granted: true } => self.on_pre_vote_granted(from, term),
            // What it has to say is its term, which is settled.
            Body::PreVoteReply { granted: false } => Ok(()),
            Body::Vote { last, is_transfer: _ } => {
                self.on_vote(from, last);
                Ok(())
            }
            Body::VoteReply { granted } => self.on_vote_reply(from, granted),
            Body::Append { run, commit } => {
                self.follow(from)?;
                follower::on_append(&mut self.member, from, run, commit)
            }
            Body::InstallSnapshot { last } => {
                self.follow(from)?;
                snapshot::on_offer(&mut self.member, from, last)
            }
            Body::TimeoutNow => self.on_timeout_now(from),
            Body::Heartbeat { round, commit } => {
                self.follow(from)?;
                follower::on_heartbeat(&mut self.member, from, round, commit)
            }
            Body::Appended { .. } | Body::Rejected { .. } | Body::HeartbeatReply { .. } => {
                self.receive_as_leader(from, &body)
            }
        }
    }

    /// The term rule, once for all roles (thesis §3.3): a later term is entered, an earlier one is answered with
    /// ours. Two exceptions: pre-votes speak of a term that nobody has entered, and who hears from its leader
    /// ignores campaigns (thesis §4.2.3), or a node that hears only half the group could depose it.
    fn settle_term(&mut self, from: NodeId, term: Term, body: &Body) -> Verdict {
        if matches!(body, Body::PreVote { .. } | Body::PreVoteReply { granted: true }) {
            return Ok(());
        }
        let is_campaign = matches!(body, Body::Vote { is_transfer: false, .. });
        if is_campaign && term != self.member.term() && self.has_better_leader_than(from) {
            return Err(DropReason::LeaderIsLively);
        }
        let is_stale = term < self.member.term();
        if Bug::CountsStaleAcknowledgements
            .spoils(is_stale, || is_stale && !matches!(body, Body::Appended { .. }))
        {
            self.answer_stale(from, body);
            return Err(DropReason::StaleTerm);
        }
        if term > self.member.term() {
            let was_asking = matches!(self.role, RoleState::PreCandidate(_));
            self.member.enter_term(term);
            let is_leader = matches!(
                body,
                Body::Append { .. }
                    | Body::InstallSnapshot { .. }
                    | Body::Heartbeat { .. }
                    | Body::TimeoutNow
            );
            self.become_follower(is_leader.then_some(from));
            if was_asking && matches!(body, Body::PreVoteReply { .. }) {
                // It was refused for its term alone, as far as it knows: with the later one it asks again.
                self.start_pre_vote();
            }
        }
        Ok(())
    }

    /// Lets a sender of an earlier term know of ours; answers to our own questions of old need none.
    fn answer_stale(&mut self, from: NodeId, body: &Body) {
        let clock = self.member.clock;
        match body {
            Body::Vote { .. } => self.member.promise(from, Body::VoteReply { granted: false }),
            // Round zero: it is no echo, whoever leads our term by the time it arrives.
            Body::Append { .. } | Body::InstallSnapshot { .. } | Body::Heartbeat { .. } => {
                self.member.promise(from, Body::HeartbeatReply { round: Round::default(), clock });
            }
            Body::PreVote { .. }
            | Body::PreVoteReply { .. }
            | Body::VoteReply { .. }
            | Body::TimeoutNow
            | Body::Appended { .. }
            | Body::Rejected { .. }
            | Body::HeartbeatReply { .. } => {}
        }
    }

    /// Whether this node leads, or hears from who does. A leader that campaigns itself leads no more.
    pub(crate) fn has_better_leader_than(&self, candidate: NodeId) -> bool {
        let leads = matches!(self.role, RoleState::Leader(_));
        leads || (self.member.has_lively_leader() && self.member.leader != Some(candidate))
    }

    /// The sender leads the current term: there is at most one, so whoever else says so is wrong.
    pub(crate) fn follow(&mut self, from: NodeId) -> Verdict {
        if self.member.leader.is_some_and(|leader| leader != from) {
            return Err(DropReason::SecondLeader);
        }
        match self.role {
            RoleState::Follower => {}
            RoleState::PreCandidate(_) | RoleState::Candidate(_) => self.become_follower(None),
            RoleState::Leader(_) => return Err(DropReason::SecondLeader),
        }
        self.member.leader = Some(from);
        self.member.reset_timer();
        Ok(())
    }

    /// Follows from now on, `leader` if known. Reads that wait for a confirmation are refused at once: it will
    /// not come.
    pub(crate) fn become_follower(&mut self, leader: Option<NodeId>) {
        let before = std::mem::replace(&mut self.role, RoleState::Follower);
        self.member.leader = leader;
        match before {
            RoleState::Follower | RoleState::PreCandidate(_) => {}
            RoleState::Candidate(_) => self.member.reset_timer(),
            RoleState::Leader(before) => {
                self.member.reset_timer();
                let refusal = Refusal::NotLeader { leader };
                let outcomes =
                    before.into_reads().into_iter().map(|token| ReadOutcome::Refused { token, refusal });
                self.member.effects.reads.extend(outcomes);
            }
        }
    }

    fn receive_as_leader(&mut self, from: NodeId, body: &Body) -> Verdict {
        let RoleState::Leader(leader) = &mut self.role else { return Err(DropReason::NotAsked) };
        match *body {
            Body::Appended { matched } => leader.on_appended(&mut self.member, from, matched),
            Body::Rejected { base, hint } => leader.on_rejected(&mut self.member, from, base, hint),
            Body::HeartbeatReply { round, clock } => {
                leader.on_heartbeat_reply(&mut self.member, from, round, clock)
            }
            Body::PreVote { .. }
            | Body::PreVoteReply { .. }
            | Body::Vote { .. }
            | Body::VoteReply { .. }
            | Body::Append { .. }
            | Body::InstallSnapshot { .. }
            | Body::TimeoutNow
            | Body::Heartbeat { .. } => unreachable!("only what a leader is answered comes here"),
        }
    }

    fn persisted(&mut self, write: WriteId) {
        if !self.member.writes.complete(write) {
            return;
        }
        match &mut self.role {
            RoleState::Follower | RoleState::PreCandidate(_) => {}
            RoleState::Candidate(_) => self.count_votes(),
            RoleState::Leader(leader) => leader.on_persisted(&mut self.member),
        }
    }

    fn reconfigure(&mut self, target: &Membership) {
        let proposed = match &mut self.role {
            RoleState::Leader(leader) => leader.reconfigure(&mut self.member, target),
            RoleState::Follower | RoleState::PreCandidate(_) | RoleState::Candidate(_) => {
                Err(Refusal::NotLeader { leader: self.member.leader })
            }
        };
        self.member.effects.proposed = Some(proposed);
    }

    fn propose(&mut self, payload: Bytes) {
        let proposed = match &mut self.role {
            RoleState::Leader(leader) => leader.propose(&mut self.member, payload),
            RoleState::Follower | RoleState::PreCandidate(_) | RoleState::Candidate(_) => {
                Err(Refusal::NotLeader { leader: self.member.leader })
            }
        };
        self.member.effects.proposed = Some(proposed);
    }

    fn read(&mut self, token: ReadToken) {
        match &mut self.role {
            RoleState::Leader(leader) => leader.read(&mut self.member, token),
            RoleState::Follower | RoleState::PreCandidate(_) | RoleState::Candidate(_) => {
                let refusal = Refusal::NotLeader { leader: self.member.leader };
                self.member.effects.reads.push(ReadOutcome::Refused { token, refusal });
            }
        }
    }
}

/// What others may ask of a node; none of it changes anything.
impl Node {
    /// Who this is.
    pub fn id(&self) -> NodeId {
        self.member.id
    }

    /// Its role.
    pub fn role(&self) -> Role {
        self.role.role()
    }

    /// Its term.
    pub fn term(&self) -> Term {
        self.member.term()
    }

    /// Whom it voted for in its term.
    pub fn vote(&self) -> Option<NodeId> {
        self.member.vote()
    }

    /// Who leads its term, as far as it knows.
    pub fn leader(&self) -> Option<NodeId> {
        self.member.leader
    }

    /// The commit index.
    pub fn commit(&self) -> Index {
        self.member.log.commit()
    }

    /// The last index handed out in [`Effects::apply`], or that of the snapshot in [`Effects::install`].
    pub fn applied(&self) -> Index {
        self.member.applied()
    }

    /// The last position of its log.
    pub fn last(&self) -> Position {
        self.member.log.last()
    }

    /// The position before the first entry that it holds in memory.
    pub fn base(&self) -> Position {
        self.member.log.base()
    }

    /// The position of its newest snapshot, which as a leader it offers. Where it is below the base it is of no use to a
    /// follower, and offered to none.
    pub fn snapshot(&self) -> Position {
        self.member.log.snapshot()
    }

    /// The last index that is on its own disk's log. May be below the base for a while: a snapshot can be faster
    /// than the log.
    pub fn durable(&self) -> Index {
        self.member.writes.durable()
    }

    /// The last write it handed out.
    pub fn issued(&self) -> WriteId {
        self.member.writes.issued()
    }

    /// The term of the entry at `index`, or of the base.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        self.member.log.term_at(index)
    }

    /// The entry at `index`.
    pub fn entry(&self, index: Index) -> Option<&Entry> {
        self.member.log.entry(index)
    }

    /// The entries after `after`, in order.
    pub fn entries_after(&self, after: Index) -> impl Iterator<Item = &Entry> {
        self.member.log.between(after, self.member.log.last().index)
    }

    /// The cost of the entries that are held in memory.
    pub fn log_bytes(&self) -> usize {
        self.member.log.bytes()
    }

    /// Ticks since it began: what [`Progress::heard_tick`] counts in.
    pub fn ticks(&self) -> u64 {
        self.member.ticks
    }

    /// The cost of the entries that are not committed, as [`Limits::uncommitted_bytes_max`] counts it.
    pub fn uncommitted_bytes(&self) -> usize {
        self.member.log.uncommitted_bytes()
    }

    /// Whether it was told to leave leading to others ([`Input::Withdraw`]).
    pub fn is_withdrawn(&self) -> bool {
        self.member.is_withdrawn
    }

    /// Who belongs to the group.
    pub fn membership(&self) -> &Membership {
        self.member.membership()
    }

    /// Where the entry stands that says so: that of the snapshot where that says so, 0 for the founding.
    pub fn membership_index(&self) -> Index {
        self.member.memberships.latest_index()
    }

    /// Whether the membership that counts is not committed, or leads on to another one.
    pub fn is_change_pending(&self) -> bool {
        self.member.is_change_pending()
    }

    /// Who votes.
    pub fn voters(&self) -> &BTreeSet<NodeId> {
        self.member.membership().voters()
    }

    /// The followers as this node, if it leads, sees them.
    pub fn progress(&self) -> Option<&BTreeMap<NodeId, Progress>> {
        match &self.role {
            RoleState::Leader(leader) => Some(leader.progress()),
            RoleState::Follower | RoleState::PreCandidate(_) | RoleState::Candidate(_) => None,
        }
    }

    /// Whether it leads and has committed an entry of its own term: only then does it know every committed
    /// entry, and can confirm reads.
    pub fn is_leader_ready(&self) -> bool {
        match &self.role {
            RoleState::Leader(leader) => leader.is_ready(&self.member),
            RoleState::Follower | RoleState::PreCandidate(_) | RoleState::Candidate(_) => false,
        }
    }

    /// The highest clock value that a majority of the voters' last-known clocks has reached: its own from the
    /// last tick, a follower's from its last answer to a heartbeat in this term, 0 where there was none. 0 if
    /// this node does not lead. One clock that is years ahead moves it nowhere.
    pub fn majority_clock(&self) -> u64 {
        match &self.role {
            RoleState::Leader(leader) => leader.majority_clock(&self.member),
            RoleState::Follower | RoleState::PreCandidate(_) | RoleState::Candidate(_) => 0,
        }
    }

    /// How many messages it dropped, by reason.
    pub fn dropped(&self) -> &Dropped {
        &self.dropped
    }
}
