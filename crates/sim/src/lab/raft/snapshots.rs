//! Snapshots in parts 2A to 2D: what the state machine was, as bytes that travel over the same network as all else. Each
//! is synced before anything rests on it, and the disk's log goes only behind the writes before. Knows nothing of what a
//! test wants.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use quorate_raft::{Fetch, Index, Input, NodeId, Position, Restored, WriteId};
use quorate_replica::wire::PeerMessage;

use crate::host::node_id;
use crate::invariants::Violation;
use crate::lab::raft::cluster::{Cluster, Happening, SYNC, Server};
use crate::schedule::{MS, Micros};

/// Snapshots that a disk keeps: the newest, and the one before it for whoever is fetching that.
const KEPT: usize = 2;

/// A snapshot that has not come is asked for again after this.
const ASK_AGAIN: Micros = 100 * MS;

/// The state machine at one position: all commands up to there, as the course has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) position: Position,
    pub(super) digest: u64,
    pub(super) commands: Vec<Bytes>,
}

/// A snapshot on its way to the disk.
pub(super) struct Writing {
    snapshot: Snapshot,
    is_own: bool,
}

/// The snapshots of a server.
#[derive(Default)]
pub(super) struct Shelf {
    /// Durable, the newest last.
    kept: Vec<Snapshot>,
    writing: VecDeque<Writing>,
    fetching: Option<(Fetch, Micros)>,
    /// What the disk's log may lose once this write is synced.
    compaction: Option<(Index, WriteId)>,
    /// How often one took the place of the state machine.
    pub(super) installed: u64,
}

impl Snapshot {
    fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u64(self.digest);
        for command in &self.commands {
            out.put_u32(command.len() as u32);
            out.put_slice(command);
        }
        out.freeze()
    }

    fn decode(position: Position, mut bytes: Bytes) -> Self {
        let digest = bytes.get_u64();
        let mut commands = Vec::new();
        while bytes.has_remaining() {
            let length = bytes.get_u32() as usize;
            commands.push(bytes.split_to(length));
        }
        Self { position, digest, commands }
    }
}

impl Shelf {
    fn keep(&mut self, snapshot: Snapshot) {
        self.kept.retain(|other| other.position != snapshot.position);
        self.kept.push(snapshot);
        self.kept.sort_by_key(|snapshot| snapshot.position.index);
        let surplus = self.kept.len().saturating_sub(KEPT);
        self.kept.drain(..surplus);
    }

    fn at(&self, position: Position) -> Option<&Snapshot> {
        self.kept.iter().find(|snapshot| snapshot.position == position)
    }

    /// How many are not durable.
    pub(super) fn unsynced(&self) -> usize {
        self.writing.len()
    }

    /// The process is gone; so many of what it was writing have become durable.
    pub(super) fn crashed(&mut self, survive: usize) {
        let survivors: Vec<Writing> = self.writing.drain(..).take(survive).collect();
        survivors.into_iter().for_each(|writing| self.keep(writing.snapshot));
        self.fetching = None;
        self.compaction = None;
    }
}

impl Server {
    /// What a process finds on this disk: the newest snapshot is the state, and a log that does not hold its position
    /// is dropped.
    pub(super) fn recover(&mut self) -> Restored {
        let newest = self.shelf.kept.last().cloned();
        let snapshot = newest.as_ref().map_or(Position::ZERO, |newest| newest.position);
        let is_held = self.base == snapshot || self.entries.iter().any(|entry| entry.position == snapshot);
        if !is_held {
            self.base = snapshot;
            self.entries.clear();
            if snapshot.term > self.hard_state.term {
                // It came with that term, whose write was lost: this node has not voted in it.
                self.hard_state.term = snapshot.term;
                self.hard_state.vote = None;
            }
        }
        (self.applied, self.digest) =
            newest.map_or((Vec::new(), 0), |newest| (newest.commands, newest.digest));
        Restored {
            hard_state: self.hard_state,
            base: self.base,
            entries: self.entries.clone(),
            snapshot,
            membership: None,
        }
    }

    /// The last position on the disk.
    fn last(&self) -> Position {
        self.entries.last().map_or(self.base, |entry| entry.position)
    }

    /// Bytes of the log on the disk: term and vote, and what each entry costs, command and head.
    pub(super) fn log_bytes(&self) -> u64 {
        let entries: usize = self.entries.iter().map(quorate_raft::Entry::cost).sum();
        (size_of::<[u64; 2]>() + entries) as u64
    }

    /// The log loses what it may.
    fn compact(&mut self, synced: Option<WriteId>) {
        let is_behind = |after: WriteId| synced.is_some_and(|synced| after <= synced);
        let Some((through, _)) = self.shelf.compaction.take_if(|(_, after)| is_behind(*after)) else {
            return;
        };
        let gone = self.entries.iter().take_while(|entry| entry.position.index <= through).count();
        if let Some(last) = self.entries.drain(..gone).last() {
            self.base = last.position;
        }
    }
}

impl Cluster {
    /// The last position on a server's disk.
    pub(crate) fn last_on_disk(&self, server: usize) -> Index {
        self.servers[server].last().index
    }

    /// Up to where a server's log is gone, in memory as on its disk.
    pub(crate) fn gone_up_to(&self, server: usize) -> Index {
        self.servers[server].base.index
    }

    /// How often a server's state machine was replaced by a snapshot of others.
    pub(crate) fn installed(&self, server: usize) -> u64 {
        self.servers[server].shelf.installed
    }

    /// A server has applied a command: now and then it takes a snapshot.
    pub(super) fn applied(&mut self, server: usize, position: Position) {
        let place = &mut self.servers[server];
        let is_due = self.snapshot_every.is_some_and(|every| place.applied.len().is_multiple_of(every));
        if is_due {
            let snapshot = Snapshot { position, digest: place.digest, commands: place.applied.clone() };
            self.write_snapshot(server, snapshot, true);
        }
    }

    fn write_snapshot(&mut self, server: usize, snapshot: Snapshot, is_own: bool) {
        let place = &mut self.servers[server];
        place.shelf.writing.push_back(Writing { snapshot, is_own });
        let life = place.life;
        self.schedule.after(SYNC, Happening::Kept { server, life });
    }

    /// The oldest snapshot under way is durable.
    pub(super) fn kept(&mut self, server: usize) -> Result<(), Violation> {
        let shelf = &mut self.servers[server].shelf;
        let Some(Writing { snapshot, is_own }) = shelf.writing.pop_front() else { return Ok(()) };
        let position = snapshot.position;
        shelf.keep(snapshot);
        if is_own {
            let newest = self.node(server).map(quorate_raft::Node::snapshot);
            return if newest.is_some_and(|newest| newest.index < position.index) {
                self.compact(server, position)
            } else {
                Ok(())
            };
        }
        shelf.fetching.take_if(|(fetch, _)| fetch.last == position);
        self.step(server, Input::Install { last: position, membership: None })?;
        let is_in_use = self.node(server).is_some_and(|node| node.snapshot() == position);
        if is_in_use { self.compact(server, position) } else { Ok(()) }
    }

    fn compact(&mut self, server: usize, snapshot: Position) -> Result<(), Violation> {
        self.step(server, Input::Compact { snapshot, through: snapshot.index })?;
        let Some(issued) = self.node(server).map(quorate_raft::Node::issued) else { return Ok(()) };
        let place = &mut self.servers[server];
        place.shelf.compaction = Some((snapshot.index, issued));
        let is_idle = place.queued.is_empty();
        self.compact_disk(server, is_idle.then_some(issued));
        Ok(())
    }

    /// All writes of a server up to `synced` are.
    pub(super) fn compact_disk(&mut self, server: usize, synced: Option<WriteId>) {
        self.servers[server].compact(synced);
    }

    /// The state machine of a server is what a snapshot says.
    pub(super) fn install(&mut self, server: usize, position: Position) -> Result<(), Violation> {
        let place = &mut self.servers[server];
        let Some(Snapshot { digest, commands, .. }) = place.shelf.at(position).cloned() else {
            let story = format!("n{} installs a snapshot at {position}, which it does not have", server + 1);
            return Err(Violation { invariant: "lab", story });
        };
        if commands.len() < place.applied.len() || !self.agreed.starts_with(&commands) {
            let story = format!(
                "n{} had applied {} commands, and became a snapshot of {} that are not the ones agreed",
                server + 1,
                place.applied.len(),
                commands.len()
            );
            return Err(Violation { invariant: "state machine safety", story });
        }
        (place.applied, place.digest) = (commands, digest);
        place.shelf.installed += 1;
        Ok(())
    }

    // --- the way of a snapshot ---

    /// A server needs a snapshot.
    pub(super) fn fetch(&mut self, server: usize, fetch: Fetch) -> Result<(), Violation> {
        let shelf = &mut self.servers[server].shelf;
        let is_under_way = shelf.fetching.is_some_and(|(fetching, _)| fetching.last == fetch.last);
        let is_here = shelf.writing.iter().any(|writing| writing.snapshot.position == fetch.last);
        if is_under_way || is_here { Ok(()) } else { self.ask(server, fetch) }
    }

    fn ask(&mut self, server: usize, fetch: Fetch) -> Result<(), Violation> {
        let now = self.now();
        self.servers[server].shelf.fetching = Some((fetch, now));
        let question = PeerMessage::FetchSnapshot { last: fetch.last, offset: 0 };
        self.send_to(server, fetch.from, question)
    }

    /// Asks again for what has not come, as long as it is needed.
    pub(super) fn ask_again(&mut self, server: usize) -> Result<(), Violation> {
        let Some(commit) = self.node(server).map(quorate_raft::Node::commit) else { return Ok(()) };
        let now = self.now();
        let shelf = &mut self.servers[server].shelf;
        shelf.fetching.take_if(|(fetch, _)| fetch.last.index <= commit);
        match shelf.fetching {
            Some((fetch, asked)) if now - asked >= ASK_AGAIN => self.ask(server, fetch),
            Some(_) | None => Ok(()),
        }
    }

    /// Somebody asks for a snapshot, in one piece.
    pub(super) fn serve(&mut self, server: usize, to: usize, last: Position) -> Result<(), Violation> {
        let place = &self.servers[server];
        let Some(snapshot) = place.shelf.at(last).filter(|_| place.node.is_some()) else { return Ok(()) };
        let bytes = snapshot.encode();
        let piece = PeerMessage::SnapshotChunk { last, offset: 0, total: bytes.len() as u64, bytes };
        self.send_to(server, node_id(to), piece)
    }

    /// A snapshot has come.
    pub(super) fn received(&mut self, server: usize, last: Position, bytes: Bytes) {
        let shelf = &mut self.servers[server].shelf;
        let is_wanted = shelf.fetching.is_some_and(|(fetch, _)| fetch.last == last);
        let is_here = shelf.writing.iter().any(|writing| writing.snapshot.position == last);
        if is_wanted && !is_here {
            self.write_snapshot(server, Snapshot::decode(last, bytes), false);
        }
    }

    fn send_to(&mut self, server: usize, to: NodeId, message: PeerMessage) -> Result<(), Violation> {
        let envelope = super::cluster::enveloped(server, to, message);
        self.send(server, &envelope)
    }
}

#[cfg(test)]
mod tests {
    use quorate_raft::Term;

    use super::*;

    #[test]
    fn a_snapshot_comes_out_of_its_bytes_as_it_went_in() {
        let position = Position::new(Term(3), Index(7));
        let commands = vec![Bytes::from_static(b"1."), Bytes::new(), Bytes::from_static(b"2.xx")];
        let snapshot = Snapshot { position, digest: 9, commands };
        assert_eq!(Snapshot::decode(position, snapshot.encode()), snapshot);
    }
}
