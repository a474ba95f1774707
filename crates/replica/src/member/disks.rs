//! Which servers' disks have no room left, and who must know. A server tells the others of its own, so that whoever leads
//! refuses in time what could not be committed. And how far its own disk is behind, which a leader must not run away from.
//! Knows no disk: the shell looks, and says what it saw.

use std::collections::{BTreeMap, VecDeque};

use quorate_raft::{Entry, Input, Membership, NodeId, WriteId};

use super::Member;
use crate::command::ReplyError;
use crate::replica::{DiskSpace, Notice, Outbox};
use crate::shortage::{Shortage, folder_name};
use crate::wire::{DiskRoom, PeerMessage};

/// Milliseconds after which the others are told again that there is no room.
const TELL_AGAIN_MS: u64 = 1_000;
/// Milliseconds for which a server is believed that it has no room: it may have stopped, and its disk with it.
const BELIEVED_MS: u64 = 3_000;
/// Bytes of entries that may wait for the disk of a leader, for room on it, or to be synced while the others have committed
/// them: it can commit without its own disk. Past it, it proposes nothing.
const BEHIND_BYTES_MAX: u64 = 64 << 20;
/// Milliseconds for which a leader may propose nothing over its disk, before it hands over to a server whose disk gets on.
const STUCK_MS_MAX: u64 = 1_000;
/// With no room, a snapshot is due after this part of the bytes after which it is due anyway: it frees a segment at least.
const LOG_PART_WHEN_SHORT: u64 = 8;

const _: () = assert!(TELL_AGAIN_MS < BELIEVED_MS);

/// See the module.
#[derive(Debug)]
pub(super) struct Disks {
    own: DiskRoom,
    held_bytes: u64,
    /// The entries' bytes of what this server's disk was given and has not said to be synced, and of all of them together.
    unsynced: VecDeque<(WriteId, u64)>,
    unsynced_bytes: u64,
    /// Since when this server leads and proposes nothing, or when it last tried to hand over.
    stuck_ms: Option<u64>,
    /// When the others were last told that there is no room; `None` where they believe that there is.
    told_ms: Option<u64>,
    /// Those of others that have no room, and until when they are believed.
    others: BTreeMap<NodeId, (DiskRoom, u64)>,
}

impl Disks {
    pub(super) fn new(reserve_bytes: u64, folder: &str) -> Self {
        let own =
            DiskRoom { is_short: false, free_bytes: u64::MAX, reserve_bytes, folder: folder_name(folder) };
        Self {
            own,
            held_bytes: 0,
            unsynced: VecDeque::new(),
            unsynced_bytes: 0,
            stuck_ms: None,
            told_ms: None,
            others: BTreeMap::new(),
        }
    }

    /// The disk is given these entries.
    pub(super) fn given(&mut self, write: WriteId, entries: &[Entry]) {
        let bytes = entries.iter().map(|entry| entry.cost() as u64).sum();
        // Or those that only carry messages would pile up here for as long as a disk stands still.
        if bytes > 0 {
            self.unsynced.push_back((write, bytes));
            self.unsynced_bytes += bytes;
        }
    }

    /// All writes up to this one are synced.
    pub(super) fn synced(&mut self, write: WriteId) {
        while let Some((_, bytes)) = self.unsynced.pop_front_if(|(given, _)| *given <= write) {
            self.unsynced_bytes -= bytes;
        }
    }

    /// This server's own.
    pub(super) fn own(&self) -> &DiskRoom {
        &self.own
    }

    /// Bytes of entries by which the disk is behind: what is not committed waits for others, too.
    fn behind_bytes(&self, uncommitted_bytes: usize) -> u64 {
        self.held_bytes.max(self.unsynced_bytes.saturating_sub(uncommitted_bytes as u64))
    }

    /// Bytes of the log after which a snapshot is due.
    pub(super) fn log_bytes_max(&self, log_bytes_max: u64) -> u64 {
        if self.own.is_short { log_bytes_max / LOG_PART_WHEN_SHORT } else { log_bytes_max }
    }

    /// The disk for which a write that makes the state grow must not be proposed by `leader`: its own, or one of those
    /// without which there is no majority.
    pub(super) fn shortage(&self, id: NodeId, leader: NodeId, membership: &Membership) -> Option<Shortage> {
        if !self.own.is_short && self.others.is_empty() {
            return None;
        }
        let of = |node: NodeId| match self.others.get(&node) {
            _ if node == id => Some(&self.own).filter(|own| own.is_short),
            told => told.map(|(room, _)| room),
        };
        let (server, room) = match of(leader) {
            Some(room) => (leader, room),
            None if membership.reached(|node| of(node).is_none()) => return None,
            None => membership.voters().iter().find_map(|node| Some((*node, of(*node)?)))?,
        };
        let DiskRoom { is_short: _, free_bytes, reserve_bytes, folder } = room;
        Some(Shortage::Disk { server, free: *free_bytes, reserve: *reserve_bytes, folder: folder.clone() })
    }
}

impl Member {
    /// How the disk of this server is.
    pub(crate) fn disk(&self) -> &DiskRoom {
        self.disks.own()
    }

    /// Bytes of entries that wait for room on it.
    pub(crate) fn disk_held_bytes(&self) -> u64 {
        self.disks.held_bytes
    }

    /// Why reads are not answered while writes wait for room: no leader sends without end what is not acknowledged, and what
    /// does not come is not applied here.
    pub(super) fn left_behind(&self) -> Option<ReplyError> {
        let folder = &self.disks.own.folder;
        let why = || {
            format!(
                "the disk of the folder {folder} is full, and this server falls behind: make room there, or ask another \
                 server; not executed"
            )
        };
        (self.disks.held_bytes > 0 && !self.is_leader()).then(|| ReplyError::NotServing(why()))
    }

    /// Whether this server may lead on no further, for the sake of its disk.
    pub(super) fn is_stuck(&self) -> bool {
        self.disks.behind_bytes(self.node.uncommitted_bytes()) >= BEHIND_BYTES_MAX
    }

    /// The shell has looked at the disk.
    pub(crate) fn disk_space(&mut self, space: DiskSpace, out: &mut Outbox) {
        let DiskSpace { free_bytes, held_bytes, is_held } = space;
        self.disks.held_bytes = held_bytes;
        let own = &mut self.disks.own;
        let was_short = own.is_short;
        own.free_bytes = free_bytes;
        own.is_short = is_held || free_bytes < own.reserve_bytes;
        let DiskRoom { is_short, free_bytes, reserve_bytes, folder } = own;
        if *is_short && !was_short {
            out.actions.notices.push(Notice::Warn(format!(
                "{free_bytes} bytes are free for {folder}, and --disk-reserve is {reserve_bytes} bytes: writes that make \
                 the state grow are refused while this server leads or is needed for a majority; make room"
            )));
        } else if was_short && !*is_short {
            self.transfers.room_again();
            out.actions.notices.push(Notice::Info(format!(
                "{free_bytes} bytes are free for {folder} again: all writes are taken"
            )));
        }
        self.tell_disk(out);
    }

    /// Another server says how its disk is.
    pub(super) fn disk_told(&mut self, from: NodeId, room: DiskRoom) {
        if room.is_short {
            self.disks.others.insert(from, (room, self.uptime_ms + BELIEVED_MS));
        } else {
            self.disks.others.remove(&from);
        }
    }

    /// Forgets what was not renewed, and tells the others in time.
    pub(super) fn tick_disks(&mut self, out: &mut Outbox) {
        let now_ms = self.uptime_ms;
        self.disks.others.retain(|_, (_, until_ms)| *until_ms > now_ms);
        self.tell_disk(out);
        if !self.is_leader() || !self.is_stuck() || self.node.voters().len() == 1 {
            self.disks.stuck_ms = None;
        } else if now_ms.saturating_sub(*self.disks.stuck_ms.get_or_insert(now_ms)) >= STUCK_MS_MAX {
            self.disks.stuck_ms = Some(now_ms);
            out.actions.notices.push(Notice::Warn(format!(
                "the disk of {} is {} bytes behind: another server is to lead",
                self.disks.own.folder,
                self.disks.behind_bytes(self.node.uncommitted_bytes())
            )));
            self.step(Input::Transfer { to: None }, out);
        }
    }

    fn tell_disk(&mut self, out: &mut Outbox) {
        let is_due = match self.disks.told_ms {
            None => self.disks.own.is_short,
            Some(told_ms) => {
                !self.disks.own.is_short || self.uptime_ms.saturating_sub(told_ms) >= TELL_AGAIN_MS
            }
        };
        if !is_due {
            return;
        }
        self.disks.told_ms = self.disks.own.is_short.then_some(self.uptime_ms);
        for to in self.node.membership().others(out.id) {
            out.send(to, PeerMessage::DiskRoom(self.disks.own.clone()));
        }
    }
}
