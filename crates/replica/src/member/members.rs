//! A member and `MEMBERS`: what a leader knows of the others, and what it does when it is asked to change who they are.
//! Which changes are good is in [`crate::members`]; how one is carried out is consensus's.

use std::collections::{BTreeMap, VecDeque};

use quorate_raft::{Index, Input, NodeId, Progress, ProgressState, Refusal, Term};
use quorate_storage::Incarnation;

use super::Member;
use super::candidates::Candidate;
use crate::command::{Reply, ReplyError};
use crate::members::{
    Change, ChangeStage, Health, MemberRow, MembersAsk, MembersCall, MembersReply, MembersReport, Neighbour,
    Planned, Refused, Roster, Standing, View, Waiting, WaitingRow, faults_borne, plan, quorum,
};
use crate::replica::{Answer, ConnectionId, Outbox, TICK_MS};
use crate::seat::Seat;

/// A member that has been silent for longer is down.
const SILENT_MS: u64 = 1_000;
/// A member that lacks what was committed so long ago is behind. A leader that has led for less knows of nobody yet.
const LAG_MS: u64 = 1_000;
/// Between two looks at the commit index.
const LOOK_MS: u64 = 100;

/// What a leader remembers to tell who keeps up.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// The term in which it has led since `led_since_ms`.
    led: Option<(Term, u64)>,
    /// The commit index at times of the last [`LAG_MS`] and one more.
    commits: VecDeque<(u64, Index)>,
    /// Bytes so far, and all, of the snapshot that each was last sent.
    sent: BTreeMap<NodeId, (u64, u64)>,
}

impl Watch {
    /// A piece of a snapshot goes to this server, which then has so many bytes of so many.
    pub(super) fn sends(&mut self, to: NodeId, sent: u64, total: u64) {
        self.sent.insert(to, (sent, total));
    }

    /// The commit index of [`LAG_MS`] ago, as nearly as it is known.
    fn committed_before(&self) -> Index {
        self.commits.front().map_or(Index::ZERO, |(_, commit)| *commit)
    }
}

impl Member {
    /// In each tick.
    pub(super) fn tick_members(&mut self) {
        let (now_ms, term) = (self.uptime_ms, self.node.term());
        if !self.is_leader() {
            self.watch = Watch::default();
            return;
        }
        if self.watch.led.is_none_or(|(led, _)| led != term) {
            self.watch = Watch { led: Some((term, now_ms)), ..Watch::default() };
        }
        let commits = &mut self.watch.commits;
        if commits.back().is_none_or(|(at_ms, _)| now_ms - at_ms >= LOOK_MS) {
            commits.push_back((now_ms, self.node.commit()));
        }
        while commits.get(1).is_some_and(|(at_ms, _)| now_ms - at_ms >= LAG_MS) {
            commits.pop_front();
        }
    }

    pub(super) fn members(&mut self, to: (ConnectionId, u64), call: &MembersCall, out: &mut Outbox) {
        let reply = match self.members_reply(call, out) {
            Ok(reply) => Reply::Members(Box::new(reply)),
            Err(error) => Reply::Error(error),
        };
        let (connection, tag) = to;
        out.actions.answers.push(Answer { connection, tag, reply });
    }

    fn members_reply(&mut self, call: &MembersCall, out: &mut Outbox) -> Result<MembersReply, ReplyError> {
        if !self.is_leader() {
            return Err(self.elsewhere(call));
        }
        let roster = Roster::new(self.node.membership(), &call.neighbours);
        match &call.ask {
            MembersAsk::List => {
                Ok(MembersReply::Report(Box::new(self.report(&roster, &call.neighbours, out.id))))
            }
            MembersAsk::Change { change, is_forced } => self.change(&roster, change, *is_forced, out),
        }
    }

    /// Who answers this.
    fn elsewhere(&self, call: &MembersCall) -> ReplyError {
        let Some(leader) = self.node.leader() else { return ReplyError::ClusterDown };
        match call.neighbours.get(&leader) {
            Some(neighbour) if !neighbour.client.is_empty() => {
                ReplyError::Moved { leader: neighbour.client.clone() }
            }
            Some(_) | None => ReplyError::NotServing(format!(
                "server {} leads, and its address for clients is not known here (yet)",
                leader.get()
            )),
        }
    }

    fn change(
        &mut self,
        roster: &Roster,
        change: &Change,
        is_forced: bool,
        out: &mut Outbox,
    ) -> Result<MembersReply, ReplyError> {
        let is_new = self.watch.led.is_none_or(|(_, since_ms)| self.uptime_ms - since_ms < LAG_MS);
        let (known, waiting) = (self.known(roster, out.id), self.who_waits());
        let view = View {
            own: out.id,
            is_new,
            roster,
            is_pending: self.node.is_change_pending(),
            transfer: self.node.transfer(),
            known: &known,
            waiting: &waiting,
        };
        let (stage, says) = match plan(&view, change, is_forced) {
            Ok(Planned::Done(says)) => (ChangeStage::Done, says),
            Ok(Planned::UnderWay(says)) => (ChangeStage::UnderWay, says),
            Ok(Planned::Reconfigure(target, says)) => {
                self.reconfigure(&target, out)?;
                (ChangeStage::Begun, says)
            }
            Ok(Planned::Transfer(to, says)) => {
                self.step(Input::Transfer { to }, out);
                (ChangeStage::Begun, says)
            }
            Err(Refused::Never(why)) => return Err(ReplyError::MembersRefused(why)),
            Err(Refused::NotNow(why)) => return Err(ReplyError::NotServing(why)),
        };
        Ok(MembersReply::Change { stage, index: self.node.membership_index().0, says })
    }

    fn report(
        &self,
        roster: &Roster,
        neighbours: &BTreeMap<NodeId, Neighbour>,
        own: NodeId,
    ) -> MembersReport {
        let members = roster.members().into_iter().map(|id| self.row(id, roster, neighbours, own)).collect();
        let voters = roster.voters.len();
        MembersReport {
            leader: own,
            term: self.node.term().0,
            commit: self.node.commit().0,
            index: self.node.membership_index().0,
            quorum: quorum(voters) as u64,
            voters: voters as u64,
            faults: faults_borne(voters) as u64,
            change: self.under_way(roster),
            transfer: self.node.transfer(),
            members,
            waiting: self.waiting_rows(roster),
            notes: Vec::new(),
        }
    }

    fn under_way(&self, roster: &Roster) -> String {
        let waits = || "a change waits for a majority to store it".to_owned();
        roster.under_way().or_else(|| self.node.is_change_pending().then(waits)).unwrap_or_default()
    }

    fn row(
        &self,
        id: NodeId,
        roster: &Roster,
        neighbours: &BTreeMap<NodeId, Neighbour>,
        own: NodeId,
    ) -> MemberRow {
        let progress = self.progress_of(id);
        let neighbour = neighbours.get(&id).cloned().unwrap_or_default();
        let matched =
            if id == own { self.node.durable() } else { progress.map_or(Index::ZERO, Progress::match_index) };
        let is_sent = progress.is_some_and(|progress| progress.state() == ProgressState::Snapshot);
        let seat = roster.seats.get(&id);
        let standing = if roster.voters.contains(&id) {
            Standing::Voter
        } else if roster.outgoing.contains(&id) {
            Standing::Outgoing
        } else if roster.joining.contains_key(&id) {
            Standing::Joining
        } else {
            Standing::Learner
        };
        MemberRow {
            id,
            incarnation: seat.map_or(Incarnation(0), |seat| seat.incarnation),
            is_leader: id == own,
            standing,
            replaces: roster.joining.get(&id).copied().flatten(),
            health: self.health(id, seat, own),
            matched: matched.0,
            lag: self.node.commit().distance_from(matched),
            seen_ms: if id == own { 0 } else { self.silent_ms(progress) },
            snapshot: self.watch.sent.get(&id).copied().filter(|_| is_sent),
            address: seat.map_or_else(|| "".into(), |seat| seat.address.clone()),
            client: neighbour.client,
            version: neighbour.version,
        }
    }

    fn progress_of(&self, id: NodeId) -> Option<&Progress> {
        self.node.progress().and_then(|progress| progress.get(&id))
    }

    fn silent_ms(&self, progress: Option<&Progress>) -> u64 {
        let heard_tick = progress.map_or(0, Progress::heard_tick);
        self.node.ticks().saturating_sub(heard_tick).saturating_mul(TICK_MS)
    }

    fn health(&self, id: NodeId, seat: Option<&Seat>, own: NodeId) -> Health {
        if id == own {
            return Health::Up;
        }
        let waits = self.who_waits().get(&id).map(|waiting| waiting.incarnation);
        if waits.is_some_and(|waits| seat.is_none_or(|seat| seat.incarnation != waits)) {
            return Health::Refused;
        }
        let progress = self.progress_of(id);
        if self.silent_ms(progress) > SILENT_MS {
            return Health::Down;
        }
        let is_behind = progress.is_none_or(|progress| {
            // One that has nothing was not heard since this server leads.
            progress.match_index() < self.watch.committed_before() || progress.match_index() == Index::ZERO
        });
        if is_behind { Health::Behind } else { Health::Up }
    }

    fn who_waits(&self) -> BTreeMap<NodeId, Waiting> {
        let waiting = |candidate: &Candidate| Waiting { incarnation: candidate.incarnation };
        self.candidates().map(|(id, candidate)| (id, waiting(candidate))).collect()
    }

    fn waiting_rows(&self, roster: &Roster) -> Vec<WaitingRow> {
        let is_strange = |id: NodeId, candidate: &Candidate| {
            roster.seats.get(&id).is_none_or(|seat| seat.incarnation != candidate.incarnation)
        };
        let strange = self.candidates().filter(|(id, candidate)| is_strange(*id, candidate));
        let row = |(id, candidate): (NodeId, &Candidate)| WaitingRow {
            id,
            incarnation: candidate.incarnation,
            address: candidate.address.clone(),
            seen_ms: self.uptime_ms.saturating_sub(candidate.heard_ms),
            command: match roster.seats.contains_key(&id) {
                true => format!("quorate members rebuild {}", id.get()),
                false => format!("quorate members add {} {}", id.get(), candidate.address),
            },
        };
        strange.map(row).collect()
    }

    fn reconfigure(&mut self, target: &Roster, out: &mut Outbox) -> Result<(), ReplyError> {
        let later = |why: &str| Err(ReplyError::NotServing(format!("{why}: try again in a moment")));
        match self.step(Input::Reconfigure { target: target.to_membership() }, out) {
            Some(Ok(_)) => Ok(()),
            Some(Err(Refusal::NotReady)) => later("this server has just begun to lead"),
            Some(Err(Refusal::ChangePending)) => later("another change is under way"),
            Some(Err(Refusal::Busy | Refusal::TooLarge)) => later("too much is under way"),
            Some(Err(Refusal::NotLeader { .. })) | None => Err(ReplyError::ClusterDown),
        }
    }

    fn known(&self, roster: &Roster, own: NodeId) -> BTreeMap<NodeId, Health> {
        let health = |id: NodeId| (id, self.health(id, roster.seats.get(&id), own));
        roster.members().into_iter().map(health).collect()
    }
}
