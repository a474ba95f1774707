//! One follower as its leader sees it. Knows no messages and sends none: it says what may be sent.

use std::collections::VecDeque;

use crate::canonical::Words;
use crate::limits::Limits;
use crate::sabotage::Bug;
use crate::types::{Index, Round};

/// How often the patience with a probe doubles.
const PROBE_DOUBLINGS_MAX: u32 = 5;

/// How a follower is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgressState {
    /// Where the logs part is not known: one append at a time, until one is accepted.
    Probe,
    /// They match: appends leave without waiting for the answers to those before.
    Replicate,
    /// What it needs next is not in the leader's log any more: it is offered the leader's snapshot, and sent no
    /// appends, until it holds enough.
    Snapshot,
}

/// What is known of one follower.
///
/// Invariants:
/// - `match_index` < `next_index`.
/// - `match_index` never falls: it is durable there.
/// - In flight is only what lies between the two, and only while replicating.
/// - While it is offered a snapshot, `next_index` is at most the base of the leader's log.
#[derive(Clone, Debug)]
pub struct Progress {
    match_index: Index,
    next_index: Index,
    state: ProgressState,
    /// The last index and the bytes of each append not acknowledged, in order.
    inflight: VecDeque<(Index, usize)>,
    inflight_bytes: usize,
    /// A probe, or the offer of a snapshot, is out, and no answer to it has come.
    is_probe_out: bool,
    /// Probes, or offers, that counted as lost since the last answer to one.
    probes_lost: u32,
    sent_tick: u64,
    heard_tick: u64,
    clock: u64,
    echoed: Round,
    told_commit: Index,
    /// When somebody last began to wait at it for what is committed, and where the log ended then.
    hurried: Option<(u64, Index)>,
}

impl Progress {
    /// A follower of which nothing is known but that its leader's log ends at `last`.
    pub(crate) fn new(last: Index, now_tick: u64) -> Self {
        Self {
            match_index: Index::ZERO,
            next_index: last.next(),
            state: ProgressState::Probe,
            inflight: VecDeque::new(),
            inflight_bytes: 0,
            is_probe_out: false,
            probes_lost: 0,
            sent_tick: now_tick,
            heard_tick: now_tick,
            clock: 0,
            echoed: Round::default(),
            told_commit: Index::ZERO,
            hurried: None,
        }
    }

    /// The last index known to be equal and durable there.
    pub fn match_index(&self) -> Index {
        self.match_index
    }

    /// The next index to send.
    pub fn next_index(&self) -> Index {
        self.next_index
    }

    /// How it is served.
    pub fn state(&self) -> ProgressState {
        self.state
    }

    /// Bytes of entries sent and not acknowledged.
    pub fn inflight_bytes(&self) -> usize {
        self.inflight_bytes
    }

    /// Append messages with entries sent and not acknowledged.
    pub fn inflight_messages(&self) -> usize {
        self.inflight.len()
    }

    /// The leader's count of ticks when it last heard from it.
    pub fn heard_tick(&self) -> u64 {
        self.heard_tick
    }

    /// Its clock in its last answer to a heartbeat; 0 before the first.
    pub fn clock(&self) -> u64 {
        self.clock
    }

    /// The last round of reads it has echoed.
    pub(crate) fn echoed(&self) -> Round {
        self.echoed
    }

    /// It said something in the current term.
    pub(crate) fn heard(&mut self, now_tick: u64) {
        self.heard_tick = now_tick;
    }

    /// It echoed a heartbeat. A round never falls, whatever order the network delivers in.
    pub(crate) fn echo(&mut self, round: Round, clock: u64) {
        self.echoed = self.echoed.max(round);
        self.clock = clock;
    }

    /// Whether an append, or an offer, may leave, where the log ends at `last`.
    pub(crate) fn may_send(&self, last: Index, limits: &Limits) -> bool {
        match self.state {
            ProgressState::Probe | ProgressState::Snapshot => !self.is_probe_out,
            ProgressState::Replicate => {
                self.next_index <= last
                    && self.inflight.len() < limits.inflight_messages_max
                    && self.inflight_bytes < limits.inflight_bytes_max
            }
        }
    }

    /// An append from `next_index` up to `last` leaves, with the commit index `commit`.
    pub(crate) fn sent(&mut self, last: Index, bytes: usize, commit: Index, now_tick: u64) {
        assert!(last >= self.next_index.previous(), "an append that does not start at next_index");
        self.sent_tick = now_tick;
        match self.state {
            ProgressState::Snapshot => panic!("an append to a follower that needs a snapshot"),
            ProgressState::Probe => self.is_probe_out = true,
            ProgressState::Replicate => {
                if last >= self.next_index {
                    self.inflight.push_back((last, bytes));
                    self.inflight_bytes += bytes;
                    self.next_index = last.next();
                }
            }
        }
        self.told(commit.min(last));
    }

    /// What it needs next is not in the leader's log any more, and there is no snapshot yet that could be offered.
    pub(crate) fn await_snapshot(&mut self) {
        if self.state != ProgressState::Snapshot {
            self.probe_anew();
            self.state = ProgressState::Snapshot;
        }
        self.check();
    }

    /// What it needs next is not in the leader's log any more, and the offer of a snapshot leaves.
    pub(crate) fn offered(&mut self, now_tick: u64) {
        self.await_snapshot();
        self.is_probe_out = true;
        self.sent_tick = now_tick;
        self.check();
    }

    /// It proved to hold the log up to `matched`, durably. The leader's log begins after `base`.
    pub(crate) fn advance(&mut self, matched: Index, base: Index) {
        let is_news = matched > self.match_index;
        self.match_index = self.match_index.max(matched);
        let is_found = match self.state {
            // Only an answer to the probe, or one that proves more, ends the probing: an older acknowledgement
            // says nothing of where the logs part now.
            ProgressState::Probe => matched.next() >= self.next_index,
            ProgressState::Replicate => false,
            // However it came by what it holds: entries go on from there.
            ProgressState::Snapshot => self.match_index >= base,
        };
        if is_found {
            self.state = ProgressState::Replicate;
        }
        // Of an offer even less is an answer: it has installed an older one.
        if is_found || self.state == ProgressState::Snapshot && is_news {
            self.is_probe_out = false;
            self.probes_lost = 0;
        }
        self.next_index = self.next_index.max(self.match_index.next());
        while let Some(&(last, bytes)) = self.inflight.front()
            && last <= self.match_index
        {
            self.inflight.pop_front();
            self.inflight_bytes -= bytes;
        }
        self.check();
    }

    /// Whether a rejection of `base` is news: an older one may arrive after the follower has moved on.
    pub(crate) fn is_rejection_current(&self, base: Index) -> bool {
        let is_above_match = Bug::NextBelowMatch.spoils(base > self.match_index, || true);
        match self.state {
            ProgressState::Probe => self.is_probe_out && base == self.next_index.previous() && is_above_match,
            ProgressState::Replicate => is_above_match && base < self.next_index,
            ProgressState::Snapshot => false,
        }
    }

    /// It rejected `base`, and `hint` is the highest index at which the logs may agree: probe after it.
    pub(crate) fn regress_next(&mut self, base: Index, hint: Index) {
        assert!(self.is_rejection_current(base), "a stale rejection");
        // At most the base, so that each rejection gets lower whatever the hint says.
        let floor = Bug::NextBelowMatch.spoils(self.match_index.next(), || Index(1));
        self.next_index = hint.next().min(base).max(floor);
        self.probe_anew();
        self.check();
    }

    /// Nothing is in flight any more.
    fn probe_anew(&mut self) {
        self.state = ProgressState::Probe;
        self.inflight.clear();
        self.inflight_bytes = 0;
        self.is_probe_out = false;
        self.probes_lost = 0;
        // What appends in flight said of the commit index may not have been taken either.
        self.told_commit = Index::ZERO;
    }

    /// Whether an append has been out for `ticks` without the answer it should have had. A probe may hold a megabyte, and
    /// a slow way or a slow disk looks like a loss: for each one that counted as lost the next waits twice as long.
    pub(crate) fn is_overdue(&self, now_tick: u64, ticks: u32) -> bool {
        let (is_out, doublings) = match self.state {
            ProgressState::Probe | ProgressState::Snapshot => {
                (self.is_probe_out, self.probes_lost.min(PROBE_DOUBLINGS_MAX))
            }
            ProgressState::Replicate => (self.match_index.next() < self.next_index, 0),
        };
        is_out && now_tick - self.sent_tick >= u64::from(ticks) << doublings
    }

    /// The probe, or the offer, counts as lost: another may leave.
    pub(crate) fn forget_probe(&mut self) {
        self.is_probe_out = false;
        self.probes_lost += 1;
    }

    /// The commit index that a heartbeat to it may carry: only what it is known to hold.
    pub(crate) fn heartbeat_commit(&self, commit: Index) -> Index {
        commit.min(self.match_index)
    }

    /// A message that names this commit index has left for it.
    pub(crate) fn told(&mut self, commit: Index) {
        self.told_commit = self.told_commit.max(commit);
    }

    /// Somebody waits at it for what is committed, of a log that ends at `last`.
    pub(crate) fn hurry(&mut self, last: Index, now_tick: u64) {
        self.hurried = Some((now_tick, last));
    }

    /// Whether it should be told of the commit index by a message of its own: only where somebody waits for that, since
    /// such a message costs both sides as much as an append does. While appends are in flight the answer to the last of
    /// them is the better moment: one notice then covers all.
    pub(crate) fn needs_commit_notice(&self, commit: Index, now_tick: u64, limits: &Limits) -> bool {
        self.is_hurried(now_tick, limits)
            && self.state == ProgressState::Replicate
            && self.inflight.is_empty()
            && self.told_commit < self.heartbeat_commit(commit)
    }

    /// Whether somebody waits at it: it was not told of all that the log held then, or that was lately.
    pub(crate) fn is_hurried(&self, now_tick: u64, limits: &Limits) -> bool {
        let is_hurried = |(tick, last): (u64, Index)| {
            self.told_commit < last || now_tick - tick < u64::from(limits.notice_ticks)
        };
        limits.notice_ticks == u32::MAX || self.hurried.is_some_and(is_hurried)
    }

    // Taken apart by name, so that a new field asks whether it decides anything.
    pub(crate) fn canonical(&self, now_tick: u64, limits: &Limits, words: &mut Words<'_>) {
        let Self {
            match_index,
            next_index,
            state,
            inflight,
            inflight_bytes: _,
            is_probe_out,
            probes_lost,
            sent_tick,
            heard_tick,
            clock,
            echoed,
            told_commit,
            hurried,
        } = self;
        let doublings = (*probes_lost).min(PROBE_DOUBLINGS_MAX);
        let sent_age = (now_tick - sent_tick).min(u64::from(limits.heartbeat_ticks) << doublings);
        let heard_age = (now_tick - heard_tick).min(u64::from(limits.election_ticks_max));
        for number in [match_index.0, next_index.0, sent_age, heard_age, *clock, u64::from(doublings)] {
            words.number(number);
        }
        if limits.notice_ticks != u32::MAX {
            let (tick, last) = hurried.map_or((0, 0), |(tick, last)| (tick, last.0));
            words.number((now_tick - tick).min(u64::from(limits.notice_ticks)));
            words.number(if told_commit.0 < last { last } else { 0 });
        }
        for number in [*state as u64, u64::from(*is_probe_out), echoed.0, told_commit.0] {
            words.number(number);
        }
        words.length(inflight.len());
        for &(last, bytes) in inflight {
            words.number(last.0);
            words.length(bytes);
        }
    }

    fn check(&self) {
        assert!(self.match_index < self.next_index, "match {} next {}", self.match_index, self.next_index);
        assert!(
            self.state == ProgressState::Replicate || self.inflight.is_empty(),
            "in flight while not replicating"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            heartbeat_ticks: 2,
            election_ticks_min: 10,
            election_ticks_max: 20,
            election_patience_max: 1,
            hurry_ticks_min: 3,
            hurry_ticks_max: 6,
            entry_bytes_max: 100,
            append_bytes_max: 100,
            inflight_bytes_max: 50,
            inflight_messages_max: 3,
            uncommitted_bytes_max: 100,
            apply_bytes_max: 100,
            reads_waiting_max: 1,
            notice_ticks: u32::MAX,
            spares_followers: false,
        }
    }

    /// A follower that matches up to 10, where the log ends at 20.
    fn replicating() -> Progress {
        let mut progress = Progress::new(Index(10), 0);
        progress.sent(Index(10), 0, Index::ZERO, 0);
        progress.advance(Index(10), Index::ZERO);
        assert_eq!(progress.state(), ProgressState::Replicate);
        progress
    }

    #[test]
    fn only_the_answer_to_the_probe_ends_the_probing() {
        let mut progress = Progress::new(Index(10), 0);
        assert!(progress.may_send(Index(10), &limits()));
        progress.sent(Index(10), 0, Index::ZERO, 0);
        assert!(!progress.may_send(Index(20), &limits()));
        progress.advance(Index(5), Index::ZERO);
        assert_eq!((progress.state(), progress.match_index()), (ProgressState::Probe, Index(5)));
        progress.advance(Index(10), Index::ZERO);
        assert_eq!((progress.state(), progress.next_index()), (ProgressState::Replicate, Index(11)));
    }

    #[test]
    fn each_rejection_gets_lower_whatever_its_hint_says() {
        let mut progress = Progress::new(Index(10), 0);
        progress.sent(Index(10), 0, Index::ZERO, 0);
        progress.regress_next(Index(10), Index(15));
        assert_eq!(progress.next_index(), Index(10));
        progress.sent(Index(9), 0, Index::ZERO, 0);
        assert!(!progress.is_rejection_current(Index(10)));
        progress.regress_next(Index(9), Index(3));
        assert_eq!(progress.next_index(), Index(4));
    }

    #[test]
    fn nothing_goes_back_below_what_matches() {
        let mut progress = replicating();
        progress.sent(Index(12), 10, Index::ZERO, 0);
        assert!(!progress.is_rejection_current(Index(10)));
        assert!(!progress.is_rejection_current(Index(13)));
        progress.regress_next(Index(12), Index(1));
        assert_eq!((progress.match_index(), progress.next_index()), (Index(10), Index(11)));
    }

    #[test]
    fn window_is_bounded_in_messages_and_bytes() {
        let mut progress = replicating();
        for last in 11..=13 {
            assert!(progress.may_send(Index(20), &limits()));
            progress.sent(Index(last), 1, Index::ZERO, 0);
        }
        assert!(!progress.may_send(Index(20), &limits()));
        progress.advance(Index(12), Index::ZERO);
        assert_eq!((progress.inflight_messages(), progress.inflight_bytes()), (1, 1));
        progress.sent(Index(14), 60, Index::ZERO, 0);
        assert!(!progress.may_send(Index(20), &limits()));
    }

    #[test]
    fn offer_ends_with_what_the_log_can_follow() {
        let mut progress = replicating();
        progress.sent(Index(12), 10, Index(12), 0);
        progress.offered(0);
        assert_eq!((progress.state(), progress.inflight_messages()), (ProgressState::Snapshot, 0));
        assert!(!progress.may_send(Index(40), &limits()) && !progress.is_rejection_current(Index(12)));
        // Word from before, and then of a snapshot that is not enough: that is no loss, so the next goes at once.
        progress.advance(Index(10), Index(30));
        assert!(!progress.may_send(Index(40), &limits()));
        progress.advance(Index(20), Index(30));
        assert_eq!((progress.state(), progress.next_index()), (ProgressState::Snapshot, Index(21)));
        assert!(progress.may_send(Index(40), &limits()));
        progress.offered(0);
        progress.advance(Index(30), Index(30));
        assert_eq!((progress.state(), progress.next_index()), (ProgressState::Replicate, Index(31)));
        assert!(progress.needs_commit_notice(Index(30), 0, &limits()));
    }

    #[test]
    fn each_offer_waits_twice_as_long_as_the_one_before() {
        let mut progress = replicating();
        let mut now = 0;
        let mut waits = Vec::new();
        for _ in 0..8 {
            progress.offered(now);
            let wait = (0..).find(|wait| progress.is_overdue(now + wait, 2)).unwrap();
            waits.push(wait);
            now += wait;
            progress.forget_probe();
        }
        assert_eq!(waits, [2, 4, 8, 16, 32, 64, 64, 64]);
    }

    #[test]
    fn notice_waits_for_what_is_in_flight() {
        let mut progress = replicating();
        assert!(progress.needs_commit_notice(Index(10), 0, &limits()));
        progress.sent(Index(12), 10, Index(5), 0);
        assert!(!progress.needs_commit_notice(Index(10), 0, &limits()));
        progress.advance(Index(12), Index::ZERO);
        assert!(progress.needs_commit_notice(Index(12), 0, &limits()));
        progress.told(progress.heartbeat_commit(Index(20)));
        assert!(!progress.needs_commit_notice(Index(20), 0, &limits()));
    }
}
