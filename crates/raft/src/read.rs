//! Linearizable reads: rounds of confirmation and the read index each confirms (thesis §6.4). Knows no messages.

use crate::canonical::Words;
use crate::sabotage::Bug;
use crate::types::{Index, ReadToken, Round};

/// The reads of one leader in one term.
///
/// Invariants:
/// - A read joins a round only at its start, before any message of the round has left: an echo of an earlier
///   message may be older than a write that another leader has acknowledged since.
/// - One round at a time is in flight; what arrives meanwhile shares the next.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reads {
    /// The last round started.
    round: Round,
    confirming: Option<ReadRound>,
    waiting: Vec<ReadToken>,
}

/// A round in flight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReadRound {
    /// The commit index when it started.
    pub(crate) index: Index,
    /// Who is confirmed by it.
    pub(crate) tokens: Vec<ReadToken>,
}

impl Reads {
    /// The last round started; zero before the first.
    pub(crate) fn round(&self) -> Round {
        self.round
    }

    /// Reads not settled.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len() + self.confirming.as_ref().map_or(0, |round| round.tokens.len())
    }

    /// The read waits for the next round.
    pub(crate) fn wait(&mut self, token: ReadToken) {
        if Bug::JoinsRoundUnderWay.is_put_back()
            && let Some(round) = &mut self.confirming
        {
            return round.tokens.push(token);
        }
        self.waiting.push(token);
    }

    /// Whether a round can start: somebody waits, and none is in flight.
    pub(crate) fn wants_round(&self) -> bool {
        self.confirming.is_none() && !self.waiting.is_empty()
    }

    /// Starts a round for all who wait.
    pub(crate) fn start(&mut self, commit: Index) {
        assert!(self.wants_round(), "a round without need, or beside another");
        self.round = Round(self.round.0 + 1);
        self.confirming = Some(ReadRound { index: commit, tokens: std::mem::take(&mut self.waiting) });
    }

    /// A majority has echoed up to `echoed`: gives the round in flight, if that confirms it.
    pub(crate) fn confirm(&mut self, echoed: Round) -> Option<ReadRound> {
        if Bug::ReadsWithoutRound.spoils(echoed, || self.round) < self.round {
            return None;
        }
        self.confirming.take()
    }

    pub(crate) fn canonical(&self, words: &mut Words<'_>) {
        words.number(self.round.0);
        words.length(usize::from(self.confirming.is_some()));
        if let Some(round) = &self.confirming {
            words.number(round.index.0);
            words.length(round.tokens.len());
            round.tokens.iter().for_each(|token| words.number(token.0));
        }
        words.length(self.waiting.len());
        self.waiting.iter().for_each(|token| words.number(token.0));
    }

    /// Leadership is lost: everyone who waits, in the order of arrival.
    pub(crate) fn into_tokens(self) -> Vec<ReadToken> {
        let mut tokens = self.confirming.map(|round| round.tokens).unwrap_or_default();
        tokens.extend(self.waiting);
        tokens
    }
}
