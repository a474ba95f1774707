//! A member and its snapshots: when one is taken, what the log may lose for it, and what happens when one takes the place
//! of the state. How they travel is in [`crate::transfer`].

use bytes::Bytes;
use quorate_raft::{Input, NodeId, Position};

use super::Member;
use crate::replica::{Notice, Outbox};
use crate::status::SnapshotStatus;
use crate::transfer::{SnapshotJob, SnapshotNews};
use crate::wire::PeerMessage;

impl Member {
    /// The state as it is now, to be written while it changes.
    pub(super) fn take_snapshot(&mut self, out: &mut Outbox) {
        let position = self.machine.applied_position();
        if position.index > self.node.snapshot().index {
            self.transfers.take(self.machine.image(), out);
        } else {
            self.transfers.nothing_to_take();
        }
    }

    /// Somebody wants a snapshot of what is applied now: as soon as none is being taken.
    pub(crate) fn ask_for_snapshot(&mut self) {
        self.transfers.ask();
    }

    /// A look at snapshots.
    pub(crate) fn snapshots(&self) -> SnapshotStatus {
        self.transfers.status()
    }

    /// The newest snapshot here is rotten, or of the cluster that this one was restored from, while the state is as it should
    /// be: that is written again, over it where nothing was applied since. Until then this server cannot start again from
    /// one that is rotten.
    pub(crate) fn replace_snapshot(&mut self, out: &mut Outbox) {
        if self.transfers.may_take(self.uptime_ms) && !self.is_in_doubt() {
            self.transfers.take(self.machine.image(), out);
        }
    }

    /// Another server asks for a piece of a snapshot. One that a leader's log does not follow any more would be of no use
    /// to it: it is told so before all of it has come.
    pub(super) fn serve_snapshot(&mut self, to: NodeId, last: Position, offset: u64, out: &mut Outbox) {
        self.holding.fetches(to, last.index);
        if self.is_leader() && last.index < self.node.base().index {
            out.send(to, no_snapshot(last, offset));
        } else {
            self.transfers.serve(to, last, offset, self.snapshot_chunk_bytes, self.uptime_ms, out);
        }
    }

    pub(crate) fn snapshot_news(&mut self, news: SnapshotNews, out: &mut Outbox) {
        match news {
            SnapshotNews::Taken(position) => {
                self.look_again(position);
                // A newer one may have been installed meanwhile.
                let is_own = self.transfers.taken(position) && !self.has_diverged();
                if is_own && position.index > self.node.snapshot().index {
                    self.compact(position, out);
                }
            }
            SnapshotNews::Received { last, bytes } => {
                self.transfers.received(last, bytes, self.uptime_ms, out);
            }
            // What it was to replace is left for examination.
            SnapshotNews::Complete { last, machine } if self.has_diverged() => {
                self.transfers.complete(last, self.uptime_ms);
                out.actions.snapshot_jobs.push(SnapshotJob::Forget(machine));
            }
            SnapshotNews::Complete { last, machine } => {
                self.transfers.complete(last, self.uptime_ms);
                let membership = machine.membership().cloned();
                self.loaded = Some(machine);
                self.step(Input::Install { last, membership }, out);
                // Not installed if as much is applied here already.
                let unused = self.loaded.take();
                out.actions.snapshot_jobs.extend(unused.map(SnapshotJob::Forget));
                // Nor if the log holds as much by now, of which a part may still be to be applied: then the next one compacts.
                if self.node.snapshot() == last && self.machine.applied() >= last.index {
                    self.compact(last, out);
                }
            }
            SnapshotNews::Read { to, last, offset, .. } if self.is_in_doubt() => {
                self.transfers.served(to);
                out.send(to, no_snapshot(last, offset));
            }
            SnapshotNews::Read { to, last, offset, piece } => {
                self.transfers.served(to);
                let (total, bytes) = piece.unwrap_or_default();
                self.watch.sends(to, offset + bytes.len() as u64, total);
                out.send(to, PeerMessage::SnapshotChunk { last, offset, total, bytes });
            }
            SnapshotNews::Rotten { to, last, offset, why } => {
                out.send(to, no_snapshot(last, offset));
                if self.transfers.rotten(to, last) {
                    let text = format!("{why}. This server still has the state, and writes it anew");
                    out.actions.notices.push(Notice::Warn(text));
                }
                if last == self.node.snapshot() {
                    self.replace_snapshot(out);
                }
            }
            SnapshotNews::Backup(news) => self.backup_news(news, out),
            SnapshotNews::NotTaken { position, why } => {
                self.backups.not_taken(&why);
                self.transfers.not_taken(position, &why, self.uptime_ms);
                out.actions.notices.push(Notice::Warn(format!("the snapshot at {position}: {why}")));
            }
            SnapshotNews::Failed { last, why } => {
                self.transfers.failed(last, &why, self.uptime_ms);
                out.actions.notices.push(Notice::Warn(format!("the snapshot at {last}: {why}")));
            }
        }
    }

    /// State, sessions and applied index change together; what of ours ran meanwhile is in doubt.
    pub(super) fn install(&mut self, position: Position, out: &mut Outbox) {
        let machine = self.loaded.take().expect("consensus installs what it was just given");
        assert_eq!(machine.applied_position(), position, "the snapshot of another position");
        let before = std::mem::replace(&mut self.machine, *machine);
        out.actions.snapshot_jobs.push(SnapshotJob::Forget(Box::new(before)));
        self.transfers.installed(self.machine.now_ms());
        self.holding.installed(position.index);
        self.checks.installed();
        out.actions.notices.push(Notice::Info(format!(
            "the state is now that of the snapshot at {position}, from another server"
        )));
        let session = self.gateway.session();
        self.gateway.overtaken(session.and_then(|session| self.machine.sessions().gateway_last(session)));
        self.stamp_ms = self.stamp_ms.max(self.machine.now_ms());
    }
}

/// The snapshot that is asked for is not there, or not to be had.
pub(super) fn no_snapshot(last: Position, offset: u64) -> PeerMessage {
    PeerMessage::SnapshotChunk { last, offset, total: 0, bytes: Bytes::new() }
}
