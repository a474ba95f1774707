//! Who is who: whom this server believes, and what it does where others do not believe it. Knows nothing of what members say
//! to each other.

use quorate_raft::NodeId;
use quorate_storage::Start;

use super::hearing::Heard;
use super::{Replica, Stage};
use crate::wire::{PeerEnvelope, PeerMessage};

impl Replica {
    /// Every message passes here: who speaks, for which cluster, with which folder, in which process.
    pub(super) fn receive(&mut self, envelope: PeerEnvelope) {
        let PeerEnvelope { cluster, from, to, .. } = envelope;
        if to != self.config.id || from == to || !self.config.members.contains(&from) {
            self.dropped_messages += 1;
            return;
        }
        match envelope.message {
            PeerMessage::Outdated { start, known } => {
                let is_ours = cluster.is_some() && cluster == self.outbox.cluster;
                if is_ours && self.known_incarnation(from) == Some(envelope.incarnation) {
                    self.on_outdated(from, start, known);
                } else {
                    self.dropped_messages += 1;
                }
            }
            PeerMessage::Refused { incarnation, known } => self.on_refused(from, incarnation, known),
            PeerMessage::Founded { members } => self.on_founded(&members),
            _ if matches!(self.stage, Stage::Member(_)) => self.hear(envelope),
            _ => self.take(envelope),
        }
    }

    /// A member takes nothing of a process that it has not heard before, until it can never forget that it has: what it says
    /// counts for more than what an older copy of that server's folder says later.
    fn hear(&mut self, envelope: PeerEnvelope) {
        let (from, start) = (envelope.from, envelope.start);
        let is_known = self.known_incarnation(from) == Some(envelope.incarnation);
        let is_ours = match envelope.cluster {
            // It does not know yet that the cluster is founded.
            None => matches!(envelope.message, PeerMessage::Founding { .. }),
            cluster @ Some(_) => cluster == self.outbox.cluster,
        };
        if !is_known || !is_ours {
            // Whoever that is has nothing to remember here.
            self.take(envelope);
            return;
        }
        let founding = &self.identity.founding;
        let counts = |node, incarnation| {
            founding.iter().any(|member| member.id == node && member.incarnation == incarnation)
        };
        match self.hearing.hear(envelope, counts) {
            Heard::Taken(envelope) => self.take(envelope),
            Heard::Waits(store) => {
                if store.is_some() {
                    self.outbox.actions.store_starts = store;
                }
            }
            Heard::Dropped => self.dropped_messages += 1,
            Heard::Outdated { known } => {
                self.dropped_messages += 1;
                self.outbox.send(from, PeerMessage::Outdated { start, known });
            }
        }
    }

    /// The way to another server works again.
    pub(super) fn link_up(&mut self, node: NodeId) {
        if let Stage::Member(member) = &mut self.stage {
            member.link_up(node);
            self.outbox.send(node, PeerMessage::Started);
        }
    }

    /// Who follows speaks to the leader alone, and the leader may be away when an older copy of this folder is put back: so all
    /// others hear of this start, again and again, for a word may be lost.
    pub(super) fn tell_start(&mut self) {
        let own = self.config.id;
        let others = self.identity.founding.iter().map(|member| member.id).filter(|id| *id != own);
        others.for_each(|to| self.outbox.send(to, PeerMessage::Started));
    }

    /// Another member has heard a later start of this folder: what was promised since is not in it.
    fn on_outdated(&mut self, from: NodeId, refused: Start, known: Start) {
        // What was meant for an earlier process, or for whoever runs on another copy, says nothing of this one.
        if refused != self.outbox.start {
            return;
        }
        let Stage::Member(member) = &mut self.stage else { return };
        let id = self.config.id.get();
        let why = format!(
            "the data folder of server {id} is an older copy: server {from} has heard its start number {known}, and this is \
             number {refused}. It has forgotten what it promised since, and must not take part. Start it on the folder that it \
             had last; a server whose folder is lost cannot be replaced yet",
            from = from.get(),
            known = known.number,
            refused = refused.number,
        );
        self.outbox.warn(why.clone());
        member.silence(&why, &mut self.outbox);
        self.stage = Stage::Refused { why };
    }
}
