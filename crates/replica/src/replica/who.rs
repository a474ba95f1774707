//! Who is who: whom this server believes, and what it does where others do not believe it. Knows nothing of what members say
//! to each other.

use quorate_raft::{Body, Index, Message, NodeId};
use quorate_storage::{Incarnation, Start};

use super::hearing::Heard;
use super::{Replica, Stage};
use crate::sabotage::Bug;
use crate::seat::incarnation_of;
use crate::wire::{PeerEnvelope, PeerMessage};

/// Somebody has told this server that it is a member no more.
pub(super) struct Removal {
    /// Of the latest membership of which it was told.
    index: Index,
    /// When it was told first.
    told_tick: u64,
}

impl Replica {
    /// Every message passes here: who speaks, for which cluster, with which folder, in which process.
    pub(super) fn receive(&mut self, envelope: PeerEnvelope) {
        let PeerEnvelope { cluster, from, to, incarnation, .. } = envelope;
        if to != self.config.id || from == to {
            self.dropped_messages += 1;
            return;
        }
        let is_ours = cluster.is_some() && cluster == self.outbox.cluster;
        match envelope.message {
            PeerMessage::Announce { id, incarnation, address } => {
                self.on_announce(from, (id, incarnation), address);
            }
            // These say who the sender takes this server for.
            PeerMessage::Refused { incarnation, known } => self.on_refused(incarnation, known),
            PeerMessage::Unknown { incarnation } => self.on_unknown(incarnation),
            PeerMessage::Founded { members } => self.on_founded(&members),
            PeerMessage::Welcome { incarnation, founders } => {
                self.on_welcome(cluster, incarnation, &founders);
            }
            // Whoever asks has heard an earlier process on this folder, which may not be founded yet, as far as it knows.
            PeerMessage::Introduce if is_ours || self.outbox.cluster.is_none() => {
                let message = self.introduction();
                self.outbox.send(from, message);
            }
            PeerMessage::Outdated { start, known } if is_ours => self.on_outdated(from, start, known),
            PeerMessage::Removed { incarnation, index } if is_ours => self.on_removed(incarnation, index),
            PeerMessage::Introduce | PeerMessage::Outdated { .. } | PeerMessage::Removed { .. } => {
                self.dropped_messages += 1;
            }
            PeerMessage::Founding { origin, seen } if !matches!(self.stage, Stage::Member(_)) => {
                self.on_founding((from, incarnation), origin, seen);
            }
            // It does not know yet that the cluster is founded; its folder may be a copy from before that.
            PeerMessage::Founding { .. } if self.known_incarnation(from) == Some(incarnation) => {
                self.hear(envelope);
            }
            PeerMessage::Started { .. }
                if cluster.is_none() && self.known_incarnation(from) == Some(incarnation) =>
            {
                self.hear(envelope);
            }
            PeerMessage::Founding { .. } => self.take(envelope),
            PeerMessage::Raft(_)
            | PeerMessage::Forward { .. }
            | PeerMessage::ReadIndex { .. }
            | PeerMessage::ReadIndexReply { .. }
            | PeerMessage::FetchSnapshot { .. }
            | PeerMessage::SnapshotChunk { .. }
            | PeerMessage::CheckReport { .. }
            | PeerMessage::DiskRoom(_)
            | PeerMessage::Started { .. } => {
                if is_ours && matches!(self.stage, Stage::Member(_)) {
                    self.hear(envelope);
                } else if Bug::TakesEmptyFolders.is_put_back() {
                    self.take(envelope);
                } else {
                    self.dropped_messages += 1;
                }
            }
        }
    }

    /// A member takes nothing of a process that it has not heard before, until it can never forget that it has: what it says
    /// counts for more than what an older copy of that server's folder says later.
    fn hear(&mut self, envelope: PeerEnvelope) {
        let (from, start) = (envelope.from, envelope.start);
        let (hearing, stage, founding) = (&mut self.hearing, &self.stage, &self.identity.founding);
        let counts = |node, incarnation| {
            let named = match stage {
                Stage::Member(member) => incarnation_of(member.node().membership(), node),
                Stage::Founding { .. } | Stage::Joining(_) | Stage::Refused { .. } => None,
            };
            named == Some(incarnation)
                || founding.iter().any(|member| member.id == node && member.incarnation == incarnation)
        };
        match hearing.hear(envelope, counts) {
            Heard::Taken(envelope) => self.take(envelope),
            Heard::Waits(store) => {
                if store.is_some() {
                    self.outbox.actions.store_starts = store;
                }
            }
            Heard::Dropped => self.dropped_messages += 1,
            // It is dropped, as any message may be.
            Heard::Unknown => self.outbox.send(from, PeerMessage::Introduce),
            Heard::Outdated { known } => {
                self.dropped_messages += 1;
                self.outbox.send(from, PeerMessage::Outdated { start, known });
            }
        }
    }

    /// A message of a process of this cluster, or of one that founds it. What asks is taken from any of them: a member that
    /// lags must follow a leader that it does not know yet. What answers counts only from the folder that this server's own
    /// latest membership names: no other has promised what is asked of it.
    fn take(&mut self, envelope: PeerEnvelope) {
        let PeerEnvelope { from, incarnation, message, .. } = envelope;
        #[cfg(feature = "sabotage")]
        let envelope_start = envelope.start;
        let is_named = self.known_incarnation(from) == Some(incarnation);
        if let PeerMessage::Founding { origin, seen } = message {
            self.on_founding((from, incarnation), origin, seen);
            return;
        }
        if !is_named && matches!(message, PeerMessage::Started { .. }) {
            self.tell_removed(from, incarnation);
            return;
        }
        if !(is_named || asks(&message) || Bug::TakesEmptyFolders.is_put_back()) {
            self.dropped_messages += 1;
            return;
        }
        #[cfg(feature = "sabotage")]
        if matches!(message, PeerMessage::Raft(_)) && !asks(&message) {
            self.counted.push((from, incarnation, envelope_start));
        }
        self.with_member(|member, out| member.receive(from, message, out));
    }

    /// Whose answers of consensus were counted since this was asked last: the judges of a test know who has forgotten what.
    #[cfg(feature = "sabotage")]
    pub fn take_counted(&mut self) -> Vec<(NodeId, Incarnation, Start)> {
        std::mem::take(&mut self.counted)
    }

    /// The way to another server works again.
    pub(super) fn link_up(&mut self, node: NodeId) {
        if let Stage::Member(member) = &mut self.stage {
            member.link_up(node);
            let message = self.introduction();
            self.outbox.send(node, message);
        }
    }

    /// Who follows speaks to the leader alone, and the leader may be away when an older copy of this folder is put back: so all
    /// others hear of this start, again and again, for a word may be lost.
    pub(super) fn tell_start(&mut self) {
        let Stage::Member(member) = &self.stage else { return };
        for to in member.node().membership().others(self.config.id) {
            let message = self.introduction();
            self.outbox.send(to, message);
        }
    }

    /// Which start of its folder this is, and which were before it.
    fn introduction(&self) -> PeerMessage {
        PeerMessage::Started { earlier: self.identity.draws.iter().skip(1).copied().collect() }
    }

    /// The folder that this server's latest membership names under an id.
    pub(super) fn known_incarnation(&self, id: NodeId) -> Option<Incarnation> {
        let Stage::Member(member) = &self.stage else { return None };
        incarnation_of(member.node().membership(), id)
    }

    /// Another server has heard a later start of this folder: what was promised since is not in it.
    fn on_outdated(&mut self, from: NodeId, refused: Start, known: Start) {
        // What was meant for an earlier process, or for whoever runs on another copy, says nothing of this one.
        if refused != self.outbox.start {
            return;
        }
        let id = self.config.id.get();
        self.leave(format!(
            "the data folder of server {id} is an older copy: server {from} has heard its start number {known}, and this is \
             number {refused}. It has forgotten what it promised since, and must not take part. Start it on the folder that it \
             had last; if that is lost, run `quorate members rebuild {id}`, and it joins again by itself, without what is in \
             this one, whose files are put aside",
            from = from.get(),
            known = known.number,
            refused = refused.number,
        ));
    }

    /// A server that is no member speaks as if it were one.
    fn tell_removed(&mut self, to: NodeId, incarnation: Incarnation) {
        let Stage::Member(member) = &self.stage else { return };
        let node = member.node();
        if !node.is_change_pending() {
            let index = node.membership_index();
            self.outbox.send(to, PeerMessage::Removed { incarnation, index });
        }
    }

    /// Another member knows a membership that this one is not in, and that is later than any that it is in. Where it is in none
    /// that it knows, it has joined, and will hear more. Whoever says so may be behind itself, and the log take this one in
    /// again later: so it counts only from an election timeout on, and only until that is heard.
    fn on_removed(&mut self, removed: Incarnation, index: Index) {
        let Stage::Member(member) = &self.stage else { return };
        let node = member.node();
        let known = node.membership_index();
        let is_news = if self.is_named_in(node.membership()) { index > known } else { index >= known };
        if removed == self.identity.incarnation && is_news && self.was_named && !member.is_leader() {
            let told_tick = self.ticks;
            let removal = self.removal.get_or_insert(Removal { index, told_tick });
            removal.index = removal.index.max(index);
        }
    }

    /// Whether it takes itself for removed. It goes on as a member does, since it may be one, but clients are better off
    /// elsewhere.
    pub(super) fn is_removed(&self) -> bool {
        self.ticks_since_removal() >= u64::from(self.config.raft.election_ticks_max)
    }

    fn ticks_since_removal(&self) -> u64 {
        self.removal.as_ref().map_or(0, |removal| self.ticks - removal.told_tick)
    }

    /// After a tick: tells everybody who waits for an answer once it is removed.
    pub(super) fn tick_removal(&mut self) {
        if self.ticks_since_removal() == u64::from(self.config.raft.election_ticks_max) {
            let why = self.why_removed();
            self.outbox.warn(why.clone());
            self.with_member(|member, out| member.silence(&why, out));
        }
    }

    /// Whether this server's own log says that it is no member any more. It asks the others then: the log may go on, and take
    /// it in again.
    pub(super) fn look_for_removal(&mut self) {
        self.look_for_return();
        let Stage::Member(member) = &self.stage else { return };
        if member.is_leader() {
            // It hands over first, or nobody would lead until an election timeout has passed.
            return;
        }
        let node = member.node();
        let seen = Some((node.membership_index(), node.is_change_pending()));
        if std::mem::replace(&mut self.seen_membership, seen) == seen {
            return;
        }
        if self.is_named_in(node.membership()) {
            self.was_named = true;
        } else if self.was_named && !node.is_change_pending() {
            self.tell_start();
        }
    }

    /// Whether the log goes on behind the removal of which this server was told, and takes it in again.
    fn look_for_return(&mut self) {
        let (Some(removal), Stage::Member(member)) = (&self.removal, &self.stage) else { return };
        let node = member.node();
        let is_back = self.is_named_in(node.membership()) && node.membership_index() > removal.index;
        if !is_back && !member.is_leader() {
            return;
        }
        if self.is_removed() {
            self.outbox.inform(format!("server {} is a member again", self.config.id.get()));
        }
        self.removal = None;
    }

    pub(super) fn why_removed(&self) -> String {
        let (id, address) = (self.config.id.get(), &self.config.address);
        let address = if address.is_empty() { "HOST:PORT" } else { address };
        format!(
            "server {id} was removed from the cluster: it may be stopped. To take it in again, as a new server without what is in \
             its data folder, run `quorate members add {id} {address}`; if it was rebuilt, it joins by itself"
        )
    }

    /// Takes part no more, and tells everybody who waits for an answer. It waits to be taken in with a fresh folder.
    fn leave(&mut self, why: String) {
        let Stage::Member(member) = &mut self.stage else { return };
        self.outbox.warn(why.clone());
        member.silence(&why, &mut self.outbox);
        self.stage = Stage::Refused { why, fresh: Some(self.config.fresh_incarnation) };
    }
}

/// Whether a message is one that any server of the cluster may send.
fn asks(message: &PeerMessage) -> bool {
    match message {
        PeerMessage::Raft(Message { body, .. }) => match body {
            Body::PreVote { .. }
            | Body::Vote { .. }
            | Body::Append { .. }
            | Body::Heartbeat { .. }
            | Body::InstallSnapshot { .. }
            | Body::TimeoutNow => true,
            Body::PreVoteReply { .. }
            | Body::VoteReply { .. }
            | Body::Appended { .. }
            | Body::Rejected { .. }
            | Body::HeartbeatReply { .. } => false,
        },
        PeerMessage::FetchSnapshot { .. }
        | PeerMessage::SnapshotChunk { .. }
        | PeerMessage::ReadIndexReply { .. } => true,
        PeerMessage::Forward { .. }
        | PeerMessage::ReadIndex { .. }
        | PeerMessage::CheckReport { .. }
        | PeerMessage::DiskRoom(_)
        | PeerMessage::Founding { .. }
        | PeerMessage::Founded { .. }
        | PeerMessage::Refused { .. }
        | PeerMessage::Outdated { .. }
        | PeerMessage::Started { .. }
        | PeerMessage::Introduce
        | PeerMessage::Announce { .. }
        | PeerMessage::Welcome { .. }
        | PeerMessage::Unknown { .. }
        | PeerMessage::Removed { .. } => false,
    }
}
