//! The writes that a replica has handed to its disk and that are not appended to the log yet. Where the disk has no room for
//! one it is held, and all behind it, until there is: nothing of them was promised. Knows no thread: whoever has it decides
//! where and when it is asked.

use std::collections::VecDeque;

use quorate_raft::{Index, Position, WriteId};
use quorate_storage::{Wal, WriteError};

use crate::replica::{Compaction, DiskWrite};
use crate::sabotage::Bug;

/// Messages that wait for writes without content while writes are held, at most: the oldest are lost, as on any network.
const HELD_MESSAGES_MAX: usize = 1_024;

/// The disk has no room for the log's next segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom {
    /// Bytes that the segment needs.
    pub needed: u64,
    /// Bytes that are free.
    pub free: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct DiskQueue {
    writes: VecDeque<DiskWrite>,
    /// Of the entries in them.
    bytes: u64,
    /// The last that was ever queued.
    last: WriteId,
    /// What the log is not needed for any more, once all writes up to this are synced.
    compaction: Option<(Compaction, WriteId)>,
    no_room: Option<NoRoom>,
}

impl DiskQueue {
    /// Queues a write behind all before it.
    pub fn push(&mut self, write: DiskWrite) {
        self.last = write.write;
        self.bytes += bytes_of(&write);
        match self.writes.back_mut() {
            // A leader goes on asking a follower whose disk is full, for as long as it is.
            Some(tail) if self.no_room.is_some() && is_empty(tail) && is_empty(&write) => {
                tail.write = write.write;
                tail.send_after.extend(write.send_after);
                let excess = tail.send_after.len().saturating_sub(HELD_MESSAGES_MAX);
                tail.send_after.drain(..excess);
            }
            Some(_) | None => self.writes.push_back(write),
        }
    }

    /// Lets the log go as far as this says, behind all writes before it.
    pub fn compact_later(&mut self, compaction: Compaction) {
        self.compaction = Some((compaction, self.last));
    }

    /// Whether nothing waits to be appended.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// What there was no room for when it was last tried; `None` if nothing is held.
    pub fn no_room(&self) -> Option<NoRoom> {
        self.no_room
    }

    /// Bytes of what is held.
    pub fn held_bytes(&self) -> u64 {
        if self.no_room.is_some() { self.bytes } else { 0 }
    }

    /// Appends what waits, as far as there is room, and gives what was appended: promised once the log is synced.
    ///
    /// # Errors
    /// If the disk fails. A full disk is no such error.
    pub fn append(&mut self, wal: &mut Wal) -> Result<Vec<DiskWrite>, WriteError> {
        let mut appended = Vec::with_capacity(self.writes.len());
        self.no_room = None;
        while let Some(write) = self.writes.pop_front() {
            match wal.write(write.hard_state, write.reset_to, &write.entries) {
                Ok(()) => {
                    self.bytes -= bytes_of(&write);
                    appended.push(write);
                }
                Err(WriteError::Full { needed, free }) => {
                    self.no_room = Some(NoRoom { needed, free });
                    if Bug::PromisesWhatIsHeld.is_put_back() {
                        appended.push(write);
                        continue;
                    }
                    self.writes.push_front(write);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(appended)
    }

    /// To be called when all that was appended is synced: compacts the log, if that is due, and says up to where. While
    /// writes are held the log goes as far as none of them reaches back: it may be what takes the room.
    ///
    /// # Errors
    /// If the disk fails. A full disk is no such error.
    pub fn compact(&mut self, wal: &mut Wal) -> Result<Option<Index>, WriteError> {
        let Some((Compaction { snapshot, through }, after)) = self.compaction else { return Ok(None) };
        let is_behind = self.writes.front().is_none_or(|write| write.write > after);
        if is_behind {
            self.compaction = None;
        } else if self.no_room.is_none() {
            return Ok(None);
        }
        let ceiling = if is_behind || Bug::CompactsUnderHeld.is_put_back() {
            Index(u64::MAX)
        } else {
            self.untouched()
        };
        let (snapshot, through) =
            (Position::new(snapshot.term, snapshot.index.min(ceiling)), through.min(ceiling));
        match wal.compact(snapshot, through) {
            Ok(_) | Err(WriteError::Full { .. }) => Ok(Some(through)),
            Err(error) => Err(error),
        }
    }

    /// Up to here nothing that waits writes anew.
    fn untouched(&self) -> Index {
        let first = |write: &DiskWrite| match (write.reset_to, write.entries.first()) {
            (Some(_), _) => Some(Index::ZERO),
            (None, first) => first.map(|entry| entry.position.index.previous()),
        };
        self.writes.iter().filter_map(first).min().unwrap_or(Index(u64::MAX))
    }
}

fn bytes_of(write: &DiskWrite) -> u64 {
    write.entries.iter().map(|entry| entry.cost() as u64).sum()
}

/// Nothing but messages that wait for the writes before it.
fn is_empty(write: &DiskWrite) -> bool {
    write.hard_state.is_none() && write.reset_to.is_none() && write.entries.is_empty()
}

#[cfg(test)]
mod tests {
    use quorate_raft::{Entry, NodeId, Payload, Term};
    use quorate_storage::{Incarnation, Start};

    use super::*;
    use crate::wire::{PeerEnvelope, PeerMessage};

    fn message(number: u64) -> PeerEnvelope {
        PeerEnvelope {
            cluster: None,
            from: NodeId::new(1).unwrap(),
            to: NodeId::new(2).unwrap(),
            incarnation: Incarnation(number),
            start: Start::default(),
            message: PeerMessage::Refused { incarnation: Incarnation(1), known: Incarnation(2) },
        }
    }

    fn write(number: u64, entries: Vec<Entry>) -> DiskWrite {
        let send_after = vec![message(number)];
        DiskWrite { write: WriteId(number), hard_state: None, reset_to: None, entries, send_after }
    }

    #[test]
    fn a_held_queue_does_not_grow_by_writes_without_content() {
        let no_room = Some(NoRoom { needed: 1, free: 0 });
        let mut queue = DiskQueue { no_room, ..DiskQueue::default() };
        let entry = Entry { position: Position::new(Term(1), Index(1)), payload: Payload::Noop };
        queue.push(write(1, vec![entry]));
        for number in 2..=3_000 {
            queue.push(write(number, Vec::new()));
        }
        // The one with content keeps its number: a compaction that was asked for behind it waits for it.
        assert_eq!(queue.writes.iter().map(|write| write.write.0).collect::<Vec<_>>(), [1, 3_000]);
        let kept = &queue.writes[1].send_after;
        assert_eq!((kept.len(), kept[0].incarnation.0), (HELD_MESSAGES_MAX, 3_000 - 1_023));
        queue.push(write(3_001, vec![]));
        queue.no_room = None;
        queue.push(write(3_002, vec![]));
        assert_eq!(queue.writes.len(), 3, "what is about to be appended is left alone");
    }
}
