//! Who belongs to the cluster, judged by the logs (thesis §4): successive memberships have no two quorums without a common
//! voter; a leader has at most one that is not committed; what a server takes for the latest is what its snapshot and log
//! say; and leadership is handed to nobody who lacks an entry.
//!
//! A voter is an id **and** the folder that its seat names: the same id on a new folder is somebody else.

use std::collections::BTreeSet;
use std::sync::Arc;

use quorate_raft::{Body, Index, Membership, Message, NodeId, Position, Role};
use quorate_replica::replica::DiskWrite;
use quorate_replica::seat::Seat;
use quorate_replica::wire::{PeerEnvelope, PeerMessage};

use super::{View, Violation, violation};
use crate::host::{host_of, node_id};
use crate::ledger::{HostLedger, Ledger, LogModel};
use crate::network::HostIndex;

/// A voter: who, and on which folder.
type Voter = (NodeId, Option<u64>);

/// The memberships of the cluster.
#[derive(Debug)]
pub struct Members {
    founding: Arc<Membership>,
    /// Those that are committed, ascending.
    committed: Vec<(Index, Arc<Membership>)>,
    /// All that were ever written, committed or not.
    written: Vec<Arc<Membership>>,
    /// Where each of these was written: one position names one entry, which is checked elsewhere.
    seen: BTreeSet<Position>,
}

impl Members {
    /// Of a cluster that is founded by so many servers.
    pub fn new(founders: usize) -> Self {
        let founding = Arc::new(Membership::simple((0..founders).map(node_id).collect()));
        let written = vec![Arc::clone(&founding)];
        Self { founding, committed: Vec::new(), written, seen: BTreeSet::new() }
    }

    /// The cluster is founded, and its members are known by these seats.
    pub fn founded(&mut self, membership: &Membership) {
        if self.committed.is_empty() {
            self.founding = Arc::new(membership.clone());
        }
    }

    /// All memberships that were ever written, the founding one first.
    pub fn written(&self) -> &[Arc<Membership>] {
        &self.written
    }

    /// The latest that is committed, and where.
    pub fn committed(&self) -> (Index, &Arc<Membership>) {
        self.committed.last().map_or((Index::ZERO, &self.founding), |(index, latest)| (*index, latest))
    }

    /// The one that is committed and counts at this index.
    fn committed_at(&self, at: Index) -> (Index, &Arc<Membership>) {
        let before = self.committed.partition_point(|(index, _)| *index <= at).checked_sub(1);
        before.map_or((Index::ZERO, &self.founding), |before| {
            let (index, membership) = &self.committed[before];
            (*index, membership)
        })
    }

    /// The latest of a log, and where it stands.
    pub fn latest_of<'a>(&'a self, log: &'a LogModel) -> (Index, &'a Arc<Membership>) {
        let latest = log.memberships().last();
        latest.map_or_else(|| self.committed_at(log.base()), |(index, latest)| (*index, latest))
    }

    /// The latest of a log, and if that stands behind `commit`, the one before it too.
    pub fn latest_of_log<'a>(&'a self, log: &'a LogModel, commit: Index) -> Vec<&'a Arc<Membership>> {
        let (index, latest) = self.latest_of(log);
        let mut both = vec![latest];
        if index > commit {
            let before = log.memberships().iter().rev().nth(1).map(|(_, membership)| membership);
            both.push(before.unwrap_or_else(|| self.committed_at(log.base()).1));
        }
        both
    }

    /// The memberships that may still come to count: the latest committed one, and all behind it in any log.
    pub fn to_count<'a>(&'a self, ledger: &'a Ledger) -> Vec<&'a Arc<Membership>> {
        let (from, latest) = self.committed();
        let mut all = vec![latest];
        for host in 0..ledger.hosts() {
            let HostLedger { log, durable_log, .. } = ledger.host(host);
            let entries = log.memberships().iter().chain(durable_log.memberships());
            all.extend(entries.filter(|(index, _)| *index > from).map(|(_, membership)| membership));
        }
        all
    }

    /// A server has written entries; its log is this now.
    ///
    /// # Errors
    /// If a membership among them may decide something together with the one before it, and neither knows of the other.
    pub fn wrote(&mut self, host: HostIndex, write: &DiskWrite, log: &LogModel) -> Result<(), Violation> {
        let of_entries = write
            .entries
            .iter()
            .filter(|entry| matches!(entry.payload, quorate_raft::Payload::Membership(_)));
        for entry in of_entries {
            if !self.seen.insert(entry.position) {
                continue;
            }
            let index = entry.position.index;
            let place = log.memberships().partition_point(|(at, _)| *at < index);
            let Some((_, now)) = log.memberships().get(place) else { continue };
            let before = place
                .checked_sub(1)
                .map_or_else(|| self.committed_at(log.base()).1, |before| &log.memberships()[before].1);
            if !overlap(before, now) {
                let story = format!(
                    "n{}: two quorums without a common voter, of {} and then, by entry {}, of {}",
                    host + 1,
                    Named(before),
                    entry.position,
                    Named(now)
                );
                return violation("quorums overlap", story);
            }
            self.written.push(Arc::clone(now));
        }
        Ok(())
    }

    /// Everything up to `commit` of this log is committed.
    pub fn commit(&mut self, log: &LogModel, commit: Index) {
        let (from, _) = self.committed();
        let fresh = log.memberships().iter().filter(|(index, _)| *index > from && *index <= commit);
        self.committed.extend(fresh.cloned());
    }

    /// A server has taken a step, after which so much is committed.
    ///
    /// # Errors
    /// If it leads with two changes under way.
    pub fn stepped(&self, view: View, log: &LogModel, committed: Index) -> Result<(), Violation> {
        if view.role != Role::Leader {
            return Ok(());
        }
        let pending = log.memberships().iter().rev().take_while(|(index, _)| *index > committed).count();
        if pending <= 1 {
            return Ok(());
        }
        let story = format!("{view}: {pending} memberships in its log are not committed ({committed} is)");
        violation("one change at a time", story)
    }

    /// A server acts by this membership, and has this log.
    ///
    /// # Errors
    /// If they are not the same.
    pub fn acts_by(
        &self,
        host: HostIndex,
        (index, membership): (Index, &Membership),
        log: &LogModel,
    ) -> Result<(), Violation> {
        let (_, latest) = self.latest_of(log);
        if **latest == *membership {
            return Ok(());
        }
        let story = format!(
            "n{} acts by {} of entry {index}, and its snapshot and log say {}",
            host + 1,
            Named(membership),
            Named(latest)
        );
        violation("membership", story)
    }

    /// Whether a majority that may decide for the sender of this view holds something.
    pub fn decides(&self, membership: &Membership, holds: impl Fn(HostIndex) -> bool) -> bool {
        components(membership)
            .iter()
            .all(|voters| voters.iter().filter(|(id, _)| holds(host_of(*id))).count() * 2 > voters.len())
    }
}

/// Leadership is handed over by one whose log ended at `last` before this step. (In the same step it may have given up, and
/// gone on.)
///
/// # Errors
/// If it goes to one that does not hold the whole log of the sender.
pub fn hands_over(
    host: HostIndex,
    envelope: &PeerEnvelope,
    ledger: &Ledger,
    last: Position,
) -> Result<(), Violation> {
    let PeerMessage::Raft(Message { term, body: Body::TimeoutNow }) = &envelope.message else {
        return Ok(());
    };
    let log = &ledger.host(host).log;
    let HostLedger { durable_log, lost_log, durable_hard_state, .. } = ledger.host(host_of(envelope.to));
    let chain = log.chain_at(last.index);
    // What it held when it said so; it may have followed a later leader since, or lost its folder.
    let holds = |other: &LogModel| other.last().index >= last.index && other.holds(last.index, chain);
    if durable_hard_state.term > *term || holds(durable_log) || holds(lost_log) {
        return Ok(());
    }
    let story = format!(
        "n{}@{term} wants {} to lead, which has {} of a log that ends at {last}",
        host + 1,
        envelope.to,
        durable_log.last()
    );
    violation("leadership goes to an equal", story)
}

/// The sets of voters of each of which a majority must agree.
pub fn components(membership: &Membership) -> Vec<BTreeSet<Voter>> {
    let voter = |id: &NodeId| (*id, Seat::of(membership, *id).map(|seat| seat.incarnation.0));
    let sets = [membership.voters(), membership.outgoing()];
    sets.into_iter().filter(|set| !set.is_empty()).map(|set| set.iter().map(voter).collect()).collect()
}

/// Whether each quorum of the one has a voter in common with each quorum of the other.
pub fn overlap(one: &Membership, other: &Membership) -> bool {
    let (one, other) = (components(one), components(other));
    if one.iter().any(|set| other.contains(set)) {
        return true;
    }
    let all: Vec<Voter> =
        one.iter().chain(&other).flatten().copied().collect::<BTreeSet<_>>().into_iter().collect();
    let mask = |set: &BTreeSet<Voter>| {
        let bits =
            all.iter().enumerate().filter(|(_, voter)| set.contains(voter)).map(|(bit, _)| 1_u32 << bit);
        bits.sum::<u32>()
    };
    let (one, other): (Vec<u32>, Vec<u32>) =
        (one.iter().map(mask).collect(), other.iter().map(mask).collect());
    let decides =
        |sets: &[u32], agree: u32| sets.iter().all(|set| (agree & set).count_ones() * 2 > set.count_ones());
    let everybody = (1_u32 << all.len()) - 1;
    !(0..=everybody).any(|agree| decides(&one, agree) && decides(&other, everybody & !agree))
}

/// A membership in the words of a trace: `1 2 3 | from 1 2 | learners 4+`.
pub struct Named<'a>(pub &'a Membership);

impl std::fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(membership) = self;
        let ids = |set: &BTreeSet<NodeId>| {
            let sign = |id: &NodeId| if membership.joining().contains_key(id) { "+" } else { "" };
            set.iter().map(|id| format!("{id}{}", sign(id))).collect::<Vec<_>>().join(" ")
        };
        write!(f, "{}", ids(membership.voters()))?;
        if membership.is_joint() {
            write!(f, " | from {}", ids(membership.outgoing()))?;
        }
        if !membership.learners().is_empty() {
            write!(f, " | learners {}", ids(membership.learners()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use quorate_storage::Incarnation;

    use super::*;

    fn of(ids: &[u64]) -> Membership {
        Membership::simple(ids.iter().filter_map(|id| NodeId::new(*id)).collect())
    }

    #[test]
    fn one_server_more_or_less_overlaps_and_two_may_not() {
        assert!(overlap(&of(&[1, 2, 3]), &of(&[1, 2, 3, 4])));
        assert!(overlap(&of(&[1, 2, 3, 4]), &of(&[1, 2, 3])));
        assert!(!overlap(&of(&[1, 2, 3]), &of(&[1, 2, 3, 4, 5])));
        assert!(!overlap(&of(&[1, 2, 3]), &of(&[3, 4, 5])));
        assert!(!overlap(&of(&[1, 2, 3, 4]), &of(&[2])));
        assert!(overlap(&of(&[1, 2]), &of(&[2])));
    }

    #[test]
    fn the_same_id_on_another_folder_is_somebody_else() {
        let seat = |incarnation| {
            let incarnation = Incarnation(incarnation);
            Seat { incarnation, address: "".into() }.to_bytes()
        };
        let [one, two] = [node_id(0), node_id(1)];
        let old = of(&[1, 2]).with_seat(one, seat(1)).with_seat(two, seat(2));
        let moved = Seat { incarnation: Incarnation(2), address: "n2:1".into() };
        assert!(overlap(&old, &old.clone().with_seat(two, moved.to_bytes())));
        let both_new = of(&[1, 2]).with_seat(one, seat(3)).with_seat(two, seat(4));
        assert!(!overlap(&old, &both_new));
    }
}
