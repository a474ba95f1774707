//! Reads that wait for a confirmed read index, and what each connection has under way, so that its commands keep their
//! order. Knows nothing of how an index is confirmed.

use std::collections::VecDeque;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use quorate_raft::{Index, ReadToken};

use crate::command::Query;
use crate::gateway::{Ride, Ticket};
use crate::replica::ConnectionId;

/// Reads that wait at one server; past it the server reads no more from its clients.
pub const READS_WAITING_MAX: usize = 65_536;
/// Bytes of those reads.
pub const READS_BYTES_MAX: usize = 64 << 20;
/// Milliseconds without an answer after which the leader is asked again for a read index. Doubles with each question
/// that is out, because a far leader looks like a lost question.
const ASK_AGAIN_MS: u64 = 200;
/// How often it doubles.
const ASK_AGAIN_DOUBLINGS_MAX: usize = 5;

/// A read that waits.
#[derive(Clone, Debug)]
pub(crate) struct WaitingRead {
    pub(crate) connection: ConnectionId,
    pub(crate) tag: u64,
    pub(crate) query: Query,
    pub(crate) arrived_ms: u64,
    /// A write of the same connection that was unresolved, and already sent, when the read came: the read is answered
    /// after it.
    pub(crate) after: Option<Ticket>,
}

impl WaitingRead {
    pub(crate) fn into_ride(self) -> Ride {
        Ride { connection: self.connection, tag: self.tag, query: self.query }
    }
}

/// A read's number in the life of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ReadId(u64);

#[derive(Debug)]
struct Ask {
    token: ReadToken,
    /// Covers the reads below, down to the ask before.
    end: u64,
    asked_ms: u64,
}

/// Reads in the order they came; each is covered by at most one question for a read index.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    /// `None`: answered, or gone to ride on a write.
    waiting: VecDeque<Option<WaitingRead>>,
    /// The number of the first.
    front: u64,
    asked: VecDeque<Ask>,
    /// Reads below are covered by a question.
    asked_end: u64,
    /// Reads below the first are confirmed at the second; both ascend.
    confirmed: VecDeque<(u64, Index)>,
    /// A question was lost, it seems: another is due even if no read has come since.
    is_renewal_due: bool,
    /// Of the reads that wait.
    bytes: usize,
}

impl Reads {
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.len() < READS_WAITING_MAX && self.bytes < READS_BYTES_MAX
    }

    /// Whether no read waits.
    pub(crate) fn is_empty(&self) -> bool {
        !self.waiting.iter().any(Option::is_some)
    }

    pub(crate) fn push(&mut self, read: WaitingRead) -> ReadId {
        let id = ReadId(self.end());
        self.bytes += read.query.bytes();
        self.waiting.push_back(Some(read));
        id
    }

    /// Whether a read still waits here.
    pub(crate) fn holds(&self, id: ReadId) -> bool {
        let offset = id.0.checked_sub(self.front).and_then(|offset| usize::try_from(offset).ok());
        offset.and_then(|offset| self.waiting.get(offset)).is_some_and(Option::is_some)
    }

    /// Takes a read out, if it still waits.
    pub(crate) fn take(&mut self, id: ReadId) -> Option<WaitingRead> {
        let offset = usize::try_from(id.0.checked_sub(self.front)?).ok()?;
        let read = self.waiting.get_mut(offset)?.take()?;
        self.bytes -= read.query.bytes();
        Some(read)
    }

    /// Whether a question is due: reads wait that none covers, or the last one seems to be lost.
    pub(crate) fn wants_question(&self) -> bool {
        self.is_renewal_due || self.has_fresh()
    }

    fn has_fresh(&self) -> bool {
        let offset = usize::try_from(self.asked_end.saturating_sub(self.front)).unwrap_or(usize::MAX);
        self.waiting.iter().skip(offset).any(Option::is_some)
    }

    /// One question covers all reads that have come until now.
    pub(crate) fn ask(&mut self, token: ReadToken, now_ms: u64) {
        self.is_renewal_due = false;
        self.asked_end = self.end();
        self.asked.push_back(Ask { token, end: self.asked_end, asked_ms: now_ms });
    }

    /// The question was answered. What holds for its reads holds for those of all questions before it: they came earlier.
    pub(crate) fn confirm(&mut self, token: ReadToken, index: Index) {
        let Some(place) = self.asked.iter().position(|ask| ask.token == token) else { return };
        let end = self.asked[place].end;
        self.asked.drain(..=place);
        // A later question may have been answered with a lower index than an earlier one only by another server;
        // waiting for the higher one is never wrong.
        let index = self.confirmed.back().map_or(index, |(_, last)| index.max(*last));
        self.confirmed.push_back((end, index));
    }

    /// No answer will come to the questions under way: their reads need a new one.
    pub(crate) fn forget_questions(&mut self) {
        self.asked.clear();
        self.is_renewal_due = false;
        self.asked_end = self.confirmed.back().map_or(self.front, |(end, _)| *end).max(self.front);
    }

    /// Asks again where the last question has waited so long that it, or its answer, may be lost. Those under way still
    /// count: an answer that comes late is as good.
    pub(crate) fn renew(&mut self, now_ms: u64) {
        let patience_ms = ASK_AGAIN_MS << self.asked.len().saturating_sub(1).min(ASK_AGAIN_DOUBLINGS_MAX);
        let is_late = |ask: &Ask| now_ms.saturating_sub(ask.asked_ms) >= patience_ms;
        self.is_renewal_due |= self.asked.back().is_some_and(is_late);
    }

    /// The reads that may be answered now that `applied` is applied, in order.
    pub(crate) fn ready(&mut self, applied: Index) -> Vec<WaitingRead> {
        let mut ready = Vec::new();
        while let Some((end, _)) = self.confirmed.front().copied().filter(|(_, index)| *index <= applied) {
            self.confirmed.pop_front();
            while self.front < end {
                ready.extend(self.pop());
            }
        }
        ready
    }

    /// Takes out the reads that came at or before `arrived_ms_max`.
    pub(crate) fn take_older(&mut self, arrived_ms_max: u64) -> Vec<WaitingRead> {
        let mut old = Vec::new();
        while self
            .waiting
            .front()
            .is_some_and(|read| read.as_ref().is_none_or(|read| read.arrived_ms <= arrived_ms_max))
        {
            old.extend(self.pop());
        }
        self.asked_end = self.asked_end.max(self.front);
        old
    }

    fn pop(&mut self) -> Option<WaitingRead> {
        self.front += 1;
        let read = self.waiting.pop_front().expect("a read in the queue");
        self.bytes -= read.as_ref().map_or(0, |read| read.query.bytes());
        read
    }

    fn end(&self) -> u64 {
        self.front + self.waiting.len() as u64
    }
}

/// What one connection has under way.
#[derive(Debug, Default)]
pub(crate) struct ConnectionOrder {
    /// Its last write.
    pub(crate) last_write: Option<Ticket>,
    /// Its reads that came after that; some may be answered already.
    pub(crate) reads: Vec<ReadId>,
}

/// By connection. Only ever looked up, never walked.
pub(crate) type Connections = HashMap<ConnectionId, ConnectionOrder, FixedState>;

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn read(tag: u64) -> WaitingRead {
        let query = Query::Get { key: Bytes::new() };
        WaitingRead { connection: ConnectionId(1), tag, query, arrived_ms: tag, after: None }
    }

    fn tags(reads: &[WaitingRead]) -> Vec<u64> {
        reads.iter().map(|read| read.tag).collect()
    }

    #[test]
    fn a_read_waits_for_a_question_asked_after_it_came() {
        let mut reads = Reads::default();
        reads.push(read(1));
        reads.ask(ReadToken(1), 0);
        reads.push(read(2));
        assert!(reads.has_fresh());
        reads.confirm(ReadToken(1), Index(5));
        assert!(reads.ready(Index(4)).is_empty());
        assert_eq!(tags(&reads.ready(Index(9))), [1]);
        reads.ask(ReadToken(2), 0);
        reads.confirm(ReadToken(2), Index(9));
        assert_eq!(tags(&reads.ready(Index(9))), [2]);
    }

    #[test]
    fn a_later_answer_serves_earlier_questions_too() {
        let mut reads = Reads::default();
        reads.push(read(1));
        reads.ask(ReadToken(1), 0);
        reads.push(read(2));
        reads.ask(ReadToken(2), 0);
        reads.confirm(ReadToken(2), Index(7));
        reads.confirm(ReadToken(1), Index(3));
        assert_eq!(tags(&reads.ready(Index(7))), [1, 2]);
    }

    #[test]
    fn forgotten_questions_are_asked_anew_but_confirmed_reads_are_not() {
        let mut reads = Reads::default();
        reads.push(read(1));
        reads.ask(ReadToken(1), 0);
        reads.confirm(ReadToken(1), Index(5));
        reads.push(read(2));
        reads.ask(ReadToken(2), 0);
        assert!(!reads.has_fresh());
        reads.forget_questions();
        assert!(reads.has_fresh());
        reads.confirm(ReadToken(2), Index(5));
        assert_eq!(tags(&reads.ready(Index(5))), [1]);
    }

    /// A leader that is far away answers late, but it answers: to forget its answer would be to wait for ever.
    #[test]
    fn a_late_answer_counts_though_the_question_was_renewed() {
        let mut reads = Reads::default();
        reads.push(read(1));
        reads.ask(ReadToken(1), 0);
        reads.renew(ASK_AGAIN_MS - 1);
        assert!(!reads.wants_question());
        reads.renew(ASK_AGAIN_MS);
        assert!(reads.wants_question());
        reads.ask(ReadToken(2), ASK_AGAIN_MS);
        reads.renew(2 * ASK_AGAIN_MS);
        assert!(!reads.wants_question(), "the second waits longer");
        reads.confirm(ReadToken(1), Index(3));
        assert_eq!(tags(&reads.ready(Index(3))), [1]);
        assert_eq!(reads.bytes, 0);
    }

    #[test]
    fn a_read_that_went_to_ride_is_not_answered_here() {
        let mut reads = Reads::default();
        let id = reads.push(read(1));
        assert_eq!(reads.take(id).map(|read| read.tag), Some(1));
        assert!(reads.take(id).is_none());
        assert!(!reads.has_fresh());
        assert_eq!(tags(&reads.take_older(10)), [] as [u64; 0]);
    }
}
