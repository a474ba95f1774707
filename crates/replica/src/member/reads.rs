//! A member and the reads of its clients: each joins a queue, rides on a write, or waits for a confirmed read index. What
//! waits is in [`crate::pending`]; how an index is confirmed is consensus's.

use quorate_raft::{Input, NodeId, ReadOutcome, ReadToken};

use super::Member;
use crate::command::{Reply, ReplyError};
use crate::pending::WaitingRead;
use crate::replica::{Answer, Outbox};
use crate::shard::PREFETCHED_MAX;
use crate::wire::PeerMessage;

/// A read of another server that waits for this leader's round.
#[derive(Clone, Copy)]
pub(super) struct RemoteRead {
    pub(super) from: NodeId,
    pub(super) start: u64,
    pub(super) counter: u64,
}

impl Member {
    pub(super) fn read(&mut self, mut read: WaitingRead) {
        let order = self.connections.entry(read.connection).or_default();
        // A write that was sent is as one that never was when the session changes: reads that came between wait.
        let is_behind_read = order.reads.iter().any(|id| self.reads.holds(*id));
        match order.last_write.filter(|ticket| self.gateway.is_unresolved(*ticket)) {
            Some(ticket) if !is_behind_read && self.gateway.is_unsent(ticket) => {
                self.gateway.ride_after(ticket, read.into_ride());
            }
            unresolved => {
                read.after = unresolved;
                if unresolved.is_none() && order.reads.first().is_some_and(|first| !self.reads.holds(*first))
                {
                    // Answered in order, so those before the first that waits are answered too.
                    order.reads.retain(|id| self.reads.holds(*id));
                }
                order.reads.push(self.reads.push(read));
            }
        }
    }

    /// A read has no effect, so one that is not answered was not executed.
    pub(super) fn give_up_reads(&mut self, is_leader_known: bool, out: &mut Outbox) {
        let limit_ms = self.patience.request_timeout_ms;
        let (patience_ms, error) = if is_leader_known {
            (limit_ms, self.left_behind().unwrap_or(ReplyError::TooSlow { limit_ms }))
        } else {
            (self.patience.election_hold_ms.min(limit_ms), ReplyError::ClusterDown)
        };
        let Some(arrived_ms_max) = self.uptime_ms.checked_sub(patience_ms) else { return };
        for WaitingRead { connection, tag, .. } in self.reads.take_older(arrived_ms_max) {
            self.backups.forget((connection, tag));
            out.actions.answers.push(Answer { connection, tag, reply: Reply::Error(error.clone()) });
        }
    }

    pub(super) fn settle_read(&mut self, read: ReadOutcome, out: &mut Outbox) {
        match read {
            ReadOutcome::Confirmed { token, index } => match self.remote_reads.remove(&token) {
                Some(RemoteRead { from, start, counter }) => {
                    out.send(from, PeerMessage::ReadIndexReply { start, counter, index });
                }
                None => self.reads.confirm(token, index),
            },
            ReadOutcome::Refused { token, .. } => {
                if self.remote_reads.remove(&token).is_none() {
                    self.reads.forget_questions();
                }
            }
        }
    }

    /// One question for all reads that have come.
    pub(super) fn ask_for_reads(&mut self, out: &mut Outbox) {
        let Some(leader) = self.node.leader() else { return };
        if !self.reads.wants_question() {
            return;
        }
        let token = self.take_token();
        self.reads.ask(token, self.uptime_ms);
        if leader == out.id {
            self.step(Input::Read { token }, out);
        } else {
            out.send(leader, PeerMessage::ReadIndex { start: self.start, counter: token.0 });
        }
    }

    pub(super) fn answer_reads(&mut self) {
        let mut ready = self.reads.ready(self.machine.applied()).into_iter();
        while !ready.as_slice().is_empty() {
            let count = ready.len().min(PREFETCHED_MAX);
            self.machine.prefetch(ready.as_slice()[..count].iter().map(|read| &read.query));
            for read in ready.by_ref().take(count) {
                self.answer_read(read);
            }
        }
    }

    fn answer_read(&mut self, read: WaitingRead) {
        if self.backups.confirm((read.connection, read.tag)) {
            return;
        }
        match read.after.filter(|ticket| self.gateway.is_unresolved(*ticket)) {
            Some(ticket) => self.gateway.ride_after(ticket, read.into_ride()),
            None => {
                let reply = self.machine.answer(&read.query);
                self.gateway.answers.push(Answer { connection: read.connection, tag: read.tag, reply });
            }
        }
    }

    pub(super) fn take_token(&mut self) -> ReadToken {
        let token = ReadToken(self.next_token);
        self.next_token += 1;
        token
    }
}
