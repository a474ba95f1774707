//! Servers that wait to be taken in, as a leader has heard of them. Knows nothing of what is done about them.

use std::collections::BTreeMap;

use quorate_raft::NodeId;
use quorate_storage::Incarnation;

use super::Member;

/// Servers that are remembered at most.
const CANDIDATES_MAX: usize = 64;
/// Milliseconds after which one that was not heard again is forgotten.
const CANDIDATE_MS: u64 = 5_000;

/// A server that waits to be added or rebuilt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Its data folder.
    pub(crate) incarnation: Incarnation,
    /// Where it says that it is dialled.
    pub(crate) address: Box<str>,
    /// When it was heard, by the time of waiting.
    pub(crate) heard_ms: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    by_id: BTreeMap<NodeId, Candidate>,
}

impl Candidates {
    /// One says that it waits. Past the limit those that are there already stay.
    pub(super) fn hear(&mut self, id: NodeId, candidate: Candidate) {
        let now_ms = candidate.heard_ms;
        self.by_id.retain(|_, known| now_ms.saturating_sub(known.heard_ms) < CANDIDATE_MS);
        if self.by_id.len() < CANDIDATES_MAX || self.by_id.contains_key(&id) {
            self.by_id.insert(id, candidate);
        }
    }
}

impl Member {
    /// A server waits to be taken in.
    pub(crate) fn hear_candidate(&mut self, id: NodeId, incarnation: Incarnation, address: Box<str>) {
        let heard_ms = self.uptime_ms;
        self.candidates.hear(id, Candidate { incarnation, address, heard_ms });
    }

    /// Those that wait, and were heard a short time ago. Each speaks again and again, also to whoever leads by then.
    pub(crate) fn candidates(&self) -> impl Iterator<Item = (NodeId, &Candidate)> {
        let now_ms = self.uptime_ms;
        let is_new = move |candidate: &Candidate| now_ms.saturating_sub(candidate.heard_ms) < CANDIDATE_MS;
        let by_id = self.candidates.by_id.iter().map(|(id, candidate)| (*id, candidate));
        by_id.filter(move |(_, candidate)| is_new(candidate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_heard_again_makes_room() {
        let mut candidates = Candidates::default();
        let mut hear = |id: u64, heard_ms: u64| {
            let candidate = Candidate { incarnation: Incarnation(id), address: "".into(), heard_ms };
            candidates.hear(NodeId::new(id).unwrap(), candidate);
            candidates.by_id.len()
        };
        for id in 1..=CANDIDATES_MAX as u64 + 1 {
            assert_eq!(hear(id, 10), CANDIDATES_MAX.min(id as usize));
        }
        assert_eq!(hear(1, 11), CANDIDATES_MAX, "one that is there is heard again");
        assert_eq!(hear(1_000, 10 + CANDIDATE_MS), 2);
    }
}
