//! Elections: pre-vote, vote, and what it takes to win. Knows nothing of replication.

use crate::leader::Leader;
use crate::message::Body;
use crate::node::Node;
use crate::role::{Ballot, RoleState};
use crate::sabotage::Bug;
use crate::types::{NodeId, Position, Term};
use crate::verdict::{DropReason, Verdict};

impl Node {
    /// The election timer ran out: asks first whether a campaign could succeed. A node that is cut off so never
    /// raises its term, and does not disturb the others when it returns (thesis §9.6).
    pub(crate) fn start_pre_vote(&mut self) {
        let Some(term) = self.member.term().next() else { return };
        self.member.reset_timer();
        self.member.leader = None;
        let mut ballot = Ballot::default();
        if !self.member.is_own_seat_taken() {
            ballot.grant(self.member.id);
        }
        self.role = RoleState::PreCandidate(ballot);
        let last = self.member.log.last();
        for id in self.member.membership().other_voters(self.member.id) {
            self.member.send_in_term(id, term, Body::PreVote { last });
        }
        self.count_pre_votes();
    }

    /// Without a leader that it knows of, this node grants the pre-vote of others that have lost the way, too. If the
    /// leader lives, its next heartbeat makes all of it undone.
    pub(crate) fn unreachable(&mut self, id: NodeId) {
        if matches!(self.role, RoleState::Follower) && self.member.leader == Some(id) {
            self.member.leader = None;
            self.member.hurry_timer();
            if Bug::CampaignsForBrokenWay.is_put_back() {
                self.start_campaign(false);
            }
        }
    }

    /// Enters the next term and asks for votes in it. The requests and the own vote wait for the hard state:
    /// a node that forgets its own vote can give it to another.
    pub(crate) fn start_campaign(&mut self, is_transfer: bool) {
        let Some(term) = self.member.term().next() else { return };
        self.member.enter_term(term);
        self.member.reset_timer();
        self.member.vote_for(self.member.id);
        self.role = RoleState::Candidate(Ballot::default());
        let last = self.member.log.last();
        for id in self.member.membership().other_voters(self.member.id) {
            self.member.promise(id, Body::Vote { last, is_transfer });
        }
    }

    /// Whether a candidate's log is at least as complete as this one (thesis §3.6.1).
    fn is_complete(&self, last: Position) -> bool {
        last >= self.member.log.last()
    }

    /// Changes nothing here; only says whether the vote would be given. A refusal names this node's own term, so
    /// that a candidate who is behind catches up and is not refused for ever.
    pub(crate) fn on_pre_vote(&mut self, from: NodeId, term: Term, last: Position) -> Verdict {
        if self.has_better_leader_than(from) {
            return Err(DropReason::LeaderIsLively);
        }
        if term > self.member.term() && self.is_complete(last) {
            self.member.send_in_term(from, term, Body::PreVoteReply { granted: true });
        } else if !Bug::RefusesPreVoteSilently.is_put_back() {
            self.member.promise(from, Body::PreVoteReply { granted: false });
        }
        Ok(())
    }

    pub(crate) fn on_pre_vote_granted(&mut self, from: NodeId, term: Term) -> Verdict {
        let asked = self.member.term().next();
        match &mut self.role {
            RoleState::PreCandidate(ballot) if asked == Some(term) => ballot.grant(from),
            RoleState::PreCandidate(_)
            | RoleState::Follower
            | RoleState::Candidate(_)
            | RoleState::Leader(_) => return Err(DropReason::NotAsked),
        }
        self.count_pre_votes();
        Ok(())
    }

    fn count_pre_votes(&mut self) {
        if let RoleState::PreCandidate(ballot) = &self.role
            && ballot.is_won(self.member.membership())
        {
            self.start_campaign(false);
        }
    }

    pub(crate) fn on_vote(&mut self, from: NodeId, last: Position) {
        let is_free = match self.member.vote() {
            Some(vote) => vote == from,
            // A leader of this term is known, so a majority has voted: another vote could only split.
            None => self.member.leader.is_none(),
        };
        let granted = is_free && self.is_complete(last);
        if granted && self.member.vote().is_none() {
            self.member.vote_for(from);
            // An own pre-vote under way would depose whom this vote is about to elect.
            self.become_follower(None);
            self.member.reset_timer();
        }
        self.member.promise(from, Body::VoteReply { granted });
    }

    pub(crate) fn on_vote_reply(&mut self, from: NodeId, granted: bool) -> Verdict {
        let RoleState::Candidate(ballot) = &mut self.role else { return Err(DropReason::NotAsked) };
        if granted {
            ballot.grant(from);
        } else if self.is_first_try() {
            self.member.hurry_timer();
        }
        self.count_votes();
        Ok(())
    }

    /// Whether nobody has campaigned since there was a leader, as far as the log knows. A vote that was split, most likely
    /// between two that saw the leader die at the same time, is tried again soon; what then goes wrong is another matter,
    /// for which haste may be the very reason: messages that are longer on the way than that.
    fn is_first_try(&self) -> bool {
        self.member.log.last().term.next() == Some(self.member.term())
    }

    /// Wins only with the own vote durable: it stands for this node's promise not to vote for another.
    pub(crate) fn count_votes(&mut self) {
        let RoleState::Candidate(ballot) = &mut self.role else { return };
        if !self.member.is_hard_state_durable() {
            return;
        }
        if !self.member.is_own_seat_taken() {
            ballot.grant(self.member.id);
        }
        if ballot.is_won(self.member.membership()) {
            self.role = RoleState::Leader(Leader::begin(&mut self.member));
        }
    }
}
