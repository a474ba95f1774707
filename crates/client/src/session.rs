//! One session as its Clerk keeps it: which numbers are in use. Must not know what they are used for.

use std::collections::BTreeSet;

use crate::message::SessionId;

/// Numbers from 1 upward, each given once.
#[derive(Debug)]
pub(crate) struct Session {
    id: SessionId,
    next: u64,
    in_flight: BTreeSet<u64>,
    /// Whether a number ended without its outcome being known: it may still run, until a later send acknowledges it.
    has_doubt: bool,
}

impl Session {
    pub(crate) fn new(id: SessionId) -> Self {
        Self { id, next: 1, in_flight: BTreeSet::new(), has_doubt: false }
    }

    pub(crate) fn id(&self) -> &SessionId {
        &self.id
    }

    pub(crate) fn into_id(self) -> SessionId {
        self.id
    }

    /// The next number, if the window has room for it.
    pub(crate) fn begin(&mut self, window: u64) -> Option<u64> {
        let sequence = self.next;
        if sequence - self.acknowledged() > window {
            return None;
        }
        self.next += 1;
        self.in_flight.insert(sequence);
        Some(sequence)
    }

    /// Nothing more is asked for under this number.
    pub(crate) fn end(&mut self, sequence: u64, in_doubt: bool) {
        assert!(self.in_flight.remove(&sequence), "a sequence ends once");
        self.has_doubt |= in_doubt;
    }

    /// The highest number up to which nothing is in flight: the lowest in flight minus one.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.in_flight.first().unwrap_or(&self.next) - 1
    }

    /// Whether it may be given up for another: nothing that was sent in it can run any more.
    pub(crate) fn is_settled(&self) -> bool {
        self.is_idle() && !self.has_doubt
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn the_window_opens_with_the_lowest_number_only() {
        let mut session = Session::new(SessionId(Bytes::from_static(b"s")));
        assert_eq!(session.acknowledged(), 0);
        assert_eq!((session.begin(3), session.begin(3), session.begin(3)), (Some(1), Some(2), Some(3)));
        assert_eq!((session.begin(3), session.acknowledged()), (None, 0));
        session.end(2, false);
        assert_eq!((session.begin(3), session.acknowledged()), (None, 0));
        session.end(1, false);
        assert_eq!(session.acknowledged(), 2);
        assert_eq!((session.begin(3), session.begin(3), session.begin(3)), (Some(4), Some(5), None));
        for sequence in [3, 4, 5] {
            session.end(sequence, sequence == 4);
        }
        assert!(session.is_idle() && !session.is_settled());
        assert_eq!(session.acknowledged(), 5);
    }
}
