//! From which processes this server takes messages: from no older copy of a data folder, and from a new start only when that
//! is stored. Knows nothing of what they say.

use quorate_raft::NodeId;
use quorate_storage::starts::Verdict;
use quorate_storage::{Incarnation, Start, Starts};

use crate::sabotage::Bug;
use crate::wire::{PeerEnvelope, PeerMessage, fields_bytes};

/// Messages of new starts that wait to be believed. Past it they are dropped, as any message may be.
const WAITING_MESSAGES_MAX: usize = 1_024;
/// Bytes of them; one message may be larger.
const WAITING_BYTES_MAX: usize = 4 << 20;

/// What is stored of the starts of others, and who waits for more of it.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    stored: Starts,
    /// What is on its way to the disk.
    storing: Option<Starts>,
    waiting: Vec<PeerEnvelope>,
    waiting_bytes: usize,
}

/// What becomes of a message.
pub(super) enum Heard {
    /// It is taken.
    Taken(PeerEnvelope),
    /// It waits, and if there is something in this, until that is stored.
    Waits(Option<Starts>),
    /// It is dropped.
    Dropped,
    /// Its sender is to say first which starts were before it.
    Unknown,
    /// Its sender runs on an older copy of its folder.
    Outdated {
        /// The later start that was heard of the folder.
        known: Start,
    },
}

impl Hearing {
    pub(super) fn new(stored: Starts) -> Self {
        Self { stored, ..Self::default() }
    }

    /// Whether anything was ever stored: only members do.
    pub(super) fn has_heard(&self) -> bool {
        !self.stored.is_empty()
    }

    /// A message of a process of this cluster. Where many folders are known, those that `counts` denies make room.
    pub(super) fn hear(
        &mut self,
        envelope: PeerEnvelope,
        counts: impl Fn(NodeId, Incarnation) -> bool,
    ) -> Heard {
        let (node, incarnation, start) = (envelope.from, envelope.incarnation, envelope.start);
        // What is on its way to the disk was heard as well: it is only not believed yet.
        let newest = self.storing.as_ref().unwrap_or(&self.stored);
        if let Verdict::Outdated { known } = newest.judge(node, incarnation, start) {
            if Bug::TakesOlderFolders.is_put_back() {
                return Heard::Taken(envelope);
            }
            return Heard::Outdated { known };
        }
        if self.stored.judge(node, incarnation, start) == Verdict::Known {
            return Heard::Taken(envelope);
        }
        // A higher number alone says nothing: an older copy that is started again and again has one, some time.
        let folder = (node, incarnation);
        let goes_on = if let PeerMessage::Started { earlier } = &envelope.message {
            newest.goes_on(folder, start, earlier).unwrap_or(true)
        } else if newest.get(node, incarnation).is_none_or(|known| known == start) {
            true
        } else {
            return Heard::Unknown;
        };
        if let (false, Some(known)) = (goes_on, newest.get(node, incarnation)) {
            return Heard::Outdated { known };
        }
        let bytes = fields_bytes(&envelope.message);
        let has_room = self.waiting.is_empty()
            || self.waiting.len() < WAITING_MESSAGES_MAX && self.waiting_bytes + bytes <= WAITING_BYTES_MAX;
        if !has_room {
            return Heard::Dropped;
        }
        if self.storing.is_none() {
            let mut next = self.stored.clone();
            if !next.hear((node, incarnation), start, counts) {
                return Heard::Dropped;
            }
            self.storing = Some(next);
            self.wait(envelope, bytes);
            return Heard::Waits(self.storing.clone());
        }
        self.wait(envelope, bytes);
        Heard::Waits(None)
    }

    fn wait(&mut self, envelope: PeerEnvelope, bytes: usize) {
        self.waiting_bytes += bytes;
        self.waiting.push(envelope);
    }

    /// What was on its way to the disk is there: who waited is to be heard again, in order.
    pub(super) fn stored_now(&mut self) -> Vec<PeerEnvelope> {
        if let Some(stored) = self.storing.take() {
            self.stored = stored;
        }
        self.waiting_bytes = 0;
        std::mem::take(&mut self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(number: u64, draw: u64) -> PeerEnvelope {
        PeerEnvelope {
            cluster: None,
            from: NodeId::new(2).unwrap(),
            to: NodeId::new(1).unwrap(),
            incarnation: Incarnation(22),
            start: Start { number, draw },
            message: PeerMessage::ReadIndex { start: draw, counter: number },
        }
    }

    fn introduced(number: u64, draw: u64, earlier: &[u64]) -> PeerEnvelope {
        PeerEnvelope { message: PeerMessage::Started { earlier: earlier.to_vec() }, ..said(number, draw) }
    }

    fn hear(hearing: &mut Hearing, envelope: PeerEnvelope) -> Heard {
        hearing.hear(envelope, |_, _| true)
    }

    /// One that has heard and stored start 1, which has drawn 7.
    fn after_first() -> Hearing {
        let mut hearing = Hearing::default();
        assert!(matches!(hear(&mut hearing, said(1, 7)), Heard::Waits(Some(starts)) if starts.len() == 1));
        assert_eq!(hearing.stored_now().len(), 1);
        hearing
    }

    #[test]
    fn a_new_start_is_believed_when_it_is_stored_and_not_before() {
        let mut hearing = Hearing::default();
        assert!(matches!(hear(&mut hearing, said(1, 7)), Heard::Waits(Some(_))));
        assert!(matches!(hear(&mut hearing, said(1, 7)), Heard::Waits(None)));
        assert!(
            matches!(hear(&mut hearing, introduced(2, 8, &[7])), Heard::Waits(None)),
            "later than what is stored"
        );
        let waiting = hearing.stored_now();
        assert_eq!(waiting.len(), 3);
        let mut again = waiting.into_iter().map(|envelope| hear(&mut hearing, envelope));
        assert!(matches!(again.next(), Some(Heard::Taken(_))));
        assert!(matches!(again.next(), Some(Heard::Taken(_))));
        assert!(matches!(again.next(), Some(Heard::Waits(Some(_)))));
        assert!(again.next().is_none());
        // The later one was heard, whether it is stored or not.
        assert!(matches!(
            hear(&mut hearing, said(1, 7)),
            Heard::Outdated { known: Start { number: 2, draw: 8 } }
        ));
        assert!(matches!(hear(&mut hearing, said(2, 8)), Heard::Waits(None)));
        assert_eq!(hearing.stored_now().len(), 2);
        assert!(
            matches!(hear(&mut hearing, said(2, 9)), Heard::Outdated { .. }),
            "the same number, another process"
        );
        assert!(matches!(hear(&mut hearing, said(2, 8)), Heard::Taken(_)));
    }

    /// A copy that was taken in start 0 and is started again and again has a higher number than the original, some time.
    #[test]
    fn a_later_number_of_an_older_copy_is_outdated_as_well() {
        let mut hearing = after_first();
        assert!(
            matches!(hear(&mut hearing, said(2, 9)), Heard::Unknown),
            "it does not say what was before it"
        );
        assert!(matches!(hear(&mut hearing, introduced(2, 9, &[8])), Heard::Outdated { .. }));
        assert!(matches!(hear(&mut hearing, introduced(4, 9, &[1, 2, 3])), Heard::Outdated { .. }));
        assert!(matches!(hear(&mut hearing, introduced(4, 9, &[1, 2, 7])), Heard::Waits(Some(_))));
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut hearing = Hearing::default();
        for _ in 0..WAITING_MESSAGES_MAX {
            assert!(matches!(hear(&mut hearing, said(1, 7)), Heard::Waits(_)));
        }
        assert!(matches!(hear(&mut hearing, said(1, 7)), Heard::Dropped));
        assert_eq!(hearing.stored_now().len(), WAITING_MESSAGES_MAX);
        assert!(matches!(hear(&mut hearing, said(1, 7)), Heard::Taken(_)));
    }
}
