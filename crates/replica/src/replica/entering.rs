//! How a server comes to take part: it founds the cluster with others, or is taken in by one that runs. Knows nothing of what
//! members say to each other.

use quorate_raft::{Membership, NodeId, Payload, Restored};
use quorate_storage::{ClusterId, Identity, Incarnation, Member as Founder, Origin};

use super::{Answer, ConnectionId, Replica, Stage};
use crate::command::{Reply, ReplyError};
use crate::member::Member;
use crate::sabotage::Bug;
use crate::seat::{founding_membership, incarnation_of};
use crate::wire::PeerMessage;

/// A server that no cluster has taken in yet.
pub(super) struct Joining {
    why: String,
    /// What its log held: nothing, for it was never a member.
    restored: Restored,
    /// The identity that is on its way to the disk.
    storing: Option<Identity>,
}

impl Joining {
    /// What it waits for.
    pub(super) fn why(&self) -> &str {
        &self.why
    }
}

impl Replica {
    /// At the start of the process.
    pub(super) fn enter(&mut self) {
        if self.identity.cluster().is_some() {
            self.become_member();
        } else if self.config.joins || self.hearing.has_heard() {
            // Who has heard members was one: with this folder it begins anew, and founds nothing. All founders might, and be
            // another cluster under the old ids.
            self.join("no server of the cluster has answered yet".to_owned());
        } else {
            self.finish_founding();
        }
    }

    /// Tells whoever can be reached that this server is there and takes no part yet.
    pub(super) fn announce(&mut self) {
        let fresh = match &self.stage {
            Stage::Founding { founding, .. } => {
                let seen = founding.seen();
                for to in self.config.members.iter().filter(|to| **to != self.config.id) {
                    let (origin, seen) = (founding.origin(), seen.clone());
                    self.outbox.send(*to, PeerMessage::Founding { origin, seen });
                }
                return;
            }
            Stage::Joining(_) => self.identity.incarnation,
            Stage::Refused { fresh: Some(fresh), .. } => *fresh,
            Stage::Member(_) if self.is_removed() => self.config.fresh_incarnation,
            Stage::Refused { fresh: None, .. } | Stage::Member(_) => return,
        };
        let (id, address) = (self.config.id, self.config.address.clone());
        let message = PeerMessage::Announce { id, incarnation: fresh, address };
        let envelope = self.outbox.envelope(id, message);
        self.outbox.actions.announce.push(envelope);
    }

    /// A server that is not founded says whom it has seen.
    pub(super) fn on_founding(
        &mut self,
        (from, incarnation): (NodeId, Incarnation),
        origin: Option<Origin>,
        seen: Vec<(NodeId, Incarnation)>,
    ) {
        if let Stage::Founding { founding, told, .. } = &mut self.stage {
            if !self.config.members.contains(&from) {
                self.dropped_messages += 1;
                return;
            }
            founding.on_report((from, incarnation), origin, seen);
            let conflict = founding.conflict();
            if *told != conflict {
                told.clone_from(&conflict);
                conflict.into_iter().for_each(|text| self.outbox.warn(text));
            }
            self.finish_founding();
            return;
        }
        let founder = self
            .identity
            .founding
            .iter()
            .any(|founder| founder.id == from && founder.incarnation == incarnation);
        let is_named = self.known_incarnation(from) == Some(incarnation);
        if (founder && is_named) || Bug::TakesEmptyFolders.is_put_back() {
            let members = self.founders();
            self.outbox.send(from, PeerMessage::Founded { members });
        } else {
            self.answer_stranger(from, incarnation);
        }
    }

    /// Whether this cluster has the folder that speaks, another one under its id, or none.
    pub(super) fn answer_stranger(&mut self, from: NodeId, incarnation: Incarnation) {
        if !matches!(self.stage, Stage::Member(_)) {
            self.dropped_messages += 1;
            return;
        }
        let message = match self.known_incarnation(from) {
            Some(known) if known == incarnation => {
                PeerMessage::Welcome { incarnation, founders: self.founders() }
            }
            Some(known) => PeerMessage::Refused { incarnation, known },
            None => PeerMessage::Unknown { incarnation },
        };
        self.outbox.send(from, message);
    }

    fn founders(&self) -> Vec<(NodeId, Incarnation)> {
        self.identity.founding.iter().map(|founder| (founder.id, founder.incarnation)).collect()
    }

    /// A server waits to be taken in.
    pub(super) fn on_announce(
        &mut self,
        from: NodeId,
        (id, incarnation): (NodeId, Incarnation),
        address: Box<str>,
    ) {
        let is_named = self.known_incarnation(id) == Some(incarnation);
        if from == id {
            self.answer_stranger(from, incarnation);
        }
        let Stage::Member(member) = &mut self.stage else { return };
        if member.is_leader() {
            if !is_named {
                member.hear_candidate(id, incarnation, address);
            }
        } else if let Some(leader) = member.node().leader().filter(|leader| from == id && *leader != id) {
            self.outbox.send(leader, PeerMessage::Announce { id, incarnation, address });
        }
    }

    pub(super) fn on_founded(&mut self, members: &[(NodeId, Incarnation)]) {
        if let Stage::Founding { founding, storing: storing @ None, .. } = &mut self.stage
            && let Some(list) = founding.adopt(members)
        {
            let identity = self.identity.founded(&list);
            *storing = Some(Box::new(identity.clone()));
            self.outbox.actions.store_identity = Some(identity);
        }
    }

    /// A cluster has another folder under this id. One that is of a cluster already knows better than whoever speaks.
    pub(super) fn on_refused(&mut self, refused: Incarnation, known: Incarnation) {
        if refused != self.identity.incarnation || self.identity.cluster().is_some() {
            return;
        }
        let id = self.config.id.get();
        self.join(format!(
            "server {id} is known to the others with another data folder (incarnation {known}; this folder is new, {refused}): it \
             has forgotten its votes and must not take part. If the old folder is lost, run `quorate members rebuild {id}`, and \
             this one takes its place by itself; if not, start the server on it again"
        ));
    }

    /// No member has this id.
    pub(super) fn on_unknown(&mut self, unknown: Incarnation) {
        if unknown != self.identity.incarnation || self.identity.cluster().is_some() {
            return;
        }
        let (id, address) = (self.config.id.get(), &self.config.address);
        let address = if address.is_empty() { "HOST:PORT" } else { address };
        self.join(format!(
            "server {id} is no member of the cluster: run `quorate members add {id} {address}`, and it is taken in by itself"
        ));
    }

    /// Waits to be taken in, for this reason.
    fn join(&mut self, why: String) {
        if self.identity.origin.is_some() {
            let why = format!(
                "the data folder of server {} was restored from a backup, and so founds a cluster or is in none: start it on an \
                 empty folder",
                self.config.id.get()
            );
            self.outbox.warn(why.clone());
            self.stage = Stage::Refused { why, fresh: None };
            return;
        }
        match &mut self.stage {
            Stage::Joining(joining) if joining.why == why => {}
            Stage::Joining(joining) => {
                self.outbox.warn(why.clone());
                joining.why = why;
            }
            Stage::Founding { storing: None, restored, .. } => {
                self.outbox.warn(why.clone());
                let restored = std::mem::take(&mut **restored);
                self.stage = Stage::Joining(Box::new(Joining { why, restored, storing: None }));
            }
            Stage::Founding { storing: Some(_), .. } | Stage::Refused { .. } | Stage::Member(_) => {}
        }
    }

    /// A member's latest membership names this folder.
    pub(super) fn on_welcome(
        &mut self,
        cluster: Option<ClusterId>,
        incarnation: Incarnation,
        founders: &[(NodeId, Incarnation)],
    ) {
        let founders: Vec<Founder> =
            founders.iter().map(|(id, incarnation)| Founder { id: *id, incarnation: *incarnation }).collect();
        if founders.is_empty() || cluster != Some(ClusterId::of(&founders)) {
            self.dropped_messages += 1;
            return;
        }
        if self.is_removed() && incarnation == self.config.fresh_incarnation {
            self.stage = Stage::Refused { why: self.why_removed(), fresh: Some(incarnation) };
        }
        if let Stage::Refused { fresh, .. } = &mut self.stage {
            if *fresh == Some(incarnation) {
                *fresh = None;
                self.outbox.actions.begin_anew = Some(Identity::new(self.config.id, incarnation));
                self.outbox.inform(format!(
                    "server {} is taken in anew: what its data folder holds is put aside",
                    self.config.id.get()
                ));
            }
            return;
        }
        if incarnation != self.identity.incarnation || self.identity.cluster().is_some() {
            return;
        }
        if self.identity.origin.is_some() {
            self.join(String::new());
            return;
        }
        // It may have been a founder's own folder: then it has never taken part, or its identity would say so.
        let identity = self.identity.joined(&founders);
        if matches!(self.stage, Stage::Founding { .. }) {
            self.join("a cluster has taken this server in".to_owned());
        }
        if let Stage::Joining(joining) = &mut self.stage
            && joining.storing.is_none()
        {
            joining.storing = Some(identity.clone());
            self.outbox.actions.store_identity = Some(identity);
        }
    }

    pub(super) fn finish_founding(&mut self) {
        if let Stage::Founding { founding, storing: storing @ None, .. } = &mut self.stage
            && let Some(list) = founding.agreed()
        {
            let identity = self.identity.founded(&list);
            *storing = Some(Box::new(identity.clone()));
            self.outbox.actions.store_identity = Some(identity);
        }
    }

    /// The founding list is durable: from here on this server may vote, if it is a voter.
    pub(super) fn identity_stored(&mut self) {
        let stored = match &mut self.stage {
            Stage::Founding { storing, .. } => storing.take().map(|identity| *identity),
            Stage::Joining(joining) => joining.storing.take(),
            Stage::Refused { .. } | Stage::Member(_) => None,
        };
        if let Some(identity) = stored {
            self.identity = identity;
            self.become_member();
        }
    }

    fn become_member(&mut self) {
        let (restored, machine) = match &mut self.stage {
            Stage::Founding { restored, machine, .. } => (std::mem::take(&mut **restored), machine.take()),
            Stage::Joining(joining) => (std::mem::take(&mut joining.restored), None),
            Stage::Refused { .. } | Stage::Member(_) => return,
        };
        let cluster = self.identity.cluster().expect("a member of no cluster");
        self.outbox.cluster = Some(cluster);
        // The file is the old cluster's as long as no snapshot of the new one has taken its place.
        let is_restored = machine.as_ref().is_some_and(|machine| machine.cluster() != cluster);
        let machine = match machine {
            Some(machine) if is_restored => Some(Box::new(machine.founded_anew(cluster))),
            machine => machine,
        };
        let founding = self.first_membership();
        let in_state = machine.as_ref().and_then(|machine| machine.membership());
        let in_log = restored.entries.iter().filter_map(|entry| match &entry.payload {
            Payload::Membership(membership) => Some(membership),
            Payload::Noop | Payload::Data(_) => None,
        });
        self.was_named = self.identity.is_founder()
            || in_state.into_iter().chain(in_log).any(|membership| self.is_named_in(membership));
        let mut member =
            Member::new(&self.config, (cluster, self.identity.incarnation), founding, restored, machine);
        if is_restored {
            member.replace_snapshot(&mut self.outbox);
        }
        self.stage = Stage::Member(Box::new(member));
        self.entered_tick = self.ticks;
        self.outbox.inform(format!("server {} takes part in cluster {cluster}", self.config.id.get()));
    }

    /// Whether this folder is the one that a membership names under this id.
    pub(super) fn is_named_in(&self, membership: &Membership) -> bool {
        incarnation_of(membership, self.config.id) == Some(self.identity.incarnation)
    }

    /// Who votes as far as neither log nor snapshot say otherwise. A folder that has joined has no vote before its log says
    /// so, whatever the founding members were: under its id it may have been another folder.
    fn first_membership(&self) -> Membership {
        let founding = founding_membership(&self.identity.founding);
        let own = self.config.id;
        if self.identity.is_founder() || !founding.contains(own) || Bug::TakesEmptyFolders.is_put_back() {
            return founding;
        }
        if founding.members().len() > 1 {
            return founding.without(own);
        }
        // Its id alone has founded the cluster: until it has the log, somebody votes who is nobody.
        Membership::simple([NodeId::new(u64::MAX).expect("not zero")].into())
    }

    pub(super) fn refuse(&mut self, (connection, tag): (ConnectionId, u64)) {
        let why = match &self.stage {
            Stage::Refused { why, .. } => why.clone(),
            Stage::Joining(joining) => joining.why.clone(),
            Stage::Founding { founding, .. } => match founding.conflict() {
                Some(conflict) => format!("starting: the cluster is not founded: {conflict}"),
                None => {
                    let missing: Vec<String> =
                        founding.missing().iter().map(|id| id.get().to_string()).collect();
                    format!("starting: the cluster is not founded; waiting for server {}", missing.join(", "))
                }
            },
            Stage::Member(_) => self.why_removed(),
        };
        let reply = Reply::Error(ReplyError::NotServing(why));
        self.outbox.actions.answers.push(Answer { connection, tag, reply });
    }
}
