//! Linearizable reads: rounds of confirmation and the read index each confirms (thesis §6.4). Knows no messages.

use std::collections::BTreeSet;

use crate::canonical::Words;
use crate::sabotage::Bug;
use crate::types::{Index, NodeId, ReadToken, Round};

/// The reads of one leader in one term.
///
/// Invariants:
/// - A read joins a round only at its start, before any message of the round has left: an echo of an earlier
///   message may be older than a write that another leader has acknowledged since.
/// - One round at a time is in flight; what arrives meanwhile shares the next.
/// - Who is asked decides nothing: a round is confirmed by a majority, whoever that is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reads {
    /// The last round started.
    round: Round,
    confirming: Option<ReadRound>,
    waiting: Vec<ReadToken>,
    /// Who confirmed the last round, in ascending order: the quickest to answer. They are asked first in the next.
    quickest: Vec<NodeId>,
}

/// A round in flight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReadRound {
    /// The commit index when it started.
    pub(crate) index: Index,
    /// Who is confirmed by it.
    pub(crate) tokens: Vec<ReadToken>,
    /// Only [`Reads::quickest`] were asked.
    asks_few: bool,
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

    /// Who confirmed the last round.
    pub(crate) fn quickest(&self) -> &[NodeId] {
        &self.quickest
    }

    /// Starts a round for all who wait, and says whether only the quickest are asked.
    pub(crate) fn start(&mut self, commit: Index, asks_few: bool) {
        assert!(self.wants_round(), "a round without need, or beside another");
        self.round = Round(self.round.0 + 1);
        let tokens = std::mem::take(&mut self.waiting);
        self.confirming = Some(ReadRound { index: commit, tokens, asks_few });
    }

    /// Whether the others are to be asked too: the quickest have let a tick go by. True once in a round.
    pub(crate) fn asks_more(&mut self) -> bool {
        self.confirming.as_mut().is_some_and(|round| std::mem::take(&mut round.asks_few))
    }

    /// A majority has echoed up to `echoed`, and `who` the round in flight: gives that, if it is confirmed.
    pub(crate) fn confirm(&mut self, echoed: Round, who: impl Iterator<Item = NodeId>) -> Option<ReadRound> {
        if Bug::ReadsWithoutRound.spoils(echoed, || self.round) < self.round {
            return None;
        }
        let round = self.confirming.take()?;
        self.quickest.clear();
        self.quickest.extend(who);
        Some(round)
    }

    pub(crate) fn canonical(&self, words: &mut Words<'_>) {
        words.number(self.round.0);
        words.length(usize::from(self.confirming.is_some()));
        if let Some(round) = &self.confirming {
            words.number(round.index.0);
            words.length(round.tokens.len());
            round.tokens.iter().for_each(|token| words.number(token.0));
            words.number(u64::from(round.asks_few));
        }
        let quickest: BTreeSet<u64> = self.quickest.iter().map(|&id| words.renamed(id).get()).collect();
        words.length(quickest.len());
        quickest.into_iter().for_each(|id| words.number(id));
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
