//! The operator: asks for changes of the members, and that another leads, whenever it pleases. What it asks for bears the
//! faults so far: of the voters of no membership that may come of it half are lost. Everything else is the servers' matter.

use std::collections::BTreeSet;

use quorate_raft::{Input, Membership, NodeId, Position, Refusal, Role};
use quorate_replica::seat::Seat;

use crate::host::{Host, host_of, node_id};
use crate::invariants::Violation;
use crate::invariants::members::Named;
use crate::network::HostIndex;
use crate::prng::Prng;
use crate::world::World;

/// How often it thinks of something that it can want.
const TRIES: usize = 8;

/// What it remembers.
#[derive(Debug, Default)]
pub(crate) struct Operator {
    /// Counts addresses that it gave.
    addresses: u64,
}

/// What it wants.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wish {
    /// These vote and nobody else, at once.
    Voters(BTreeSet<NodeId>),
    /// A new member, which is to vote.
    Add(NodeId),
    /// No member any more.
    Remove(NodeId),
    /// One takes the place of the other.
    Replace(NodeId, NodeId),
    /// It has another folder.
    Rebuild(NodeId),
    /// A learner is to vote.
    Promote(NodeId),
    /// A voter becomes a learner.
    Demote(NodeId),
    /// It is dialled elsewhere.
    SetAddress(NodeId, u64),
}

impl World {
    /// Whether the faults so far, and this server's loss too, leave more than half of the voters of each membership that
    /// may come to count.
    pub(crate) fn members_bear(&self, lost: Option<HostIndex>) -> bool {
        let memberships = self.invariants.members.to_count(&self.invariants.ledger);
        memberships.into_iter().all(|membership| self.bears(membership, lost))
    }

    /// The same of one membership, and of all that it may become by itself.
    fn bears(&self, membership: &Membership, lost: Option<HostIndex>) -> bool {
        let is_hit = |id: &&NodeId| {
            let host = host_of(**id);
            Some(host) == lost || self.hosts[host].is_hit() || !self.has_seat_in(membership, **id)
        };
        let bears = |voters: &BTreeSet<NodeId>| voters.iter().filter(is_hit).count() * 2 < voters.len();
        let is_borne = bears(membership.voters()) && (!membership.is_joint() || bears(membership.outgoing()));
        let joining: Vec<_> = membership.joining().iter().collect();
        is_borne
            && (1_u32..1 << joining.len()).all(|some| {
                let mut voters = membership.voters().clone();
                for (place, (id, replaced)) in joining.iter().enumerate() {
                    if some & 1 << place != 0 {
                        voters.insert(**id);
                        replaced.iter().for_each(|replaced| _ = voters.remove(replaced));
                    }
                }
                bears(&voters)
            })
    }

    /// Whether a server has, or is about to have, the folder that a membership names under its id.
    pub(crate) fn has_seat_in(&self, membership: &Membership, id: NodeId) -> bool {
        let host = &self.hosts[host_of(id)];
        Seat::of(membership, id).is_none_or(|seat| {
            seat.incarnation == host.incarnation || Some(seat.incarnation) == host.announced
        })
    }

    /// One who leads, by its own account.
    fn one_who_leads(&mut self) -> Option<HostIndex> {
        let leads = |host: &HostIndex| {
            let node = self.hosts[*host].process.as_ref().and_then(|process| process.replica.raft());
            node.is_some_and(|node| node.role() == Role::Leader)
                && self.hosts[*host].asleep_until <= self.now()
        };
        let leaders: Vec<HostIndex> = (0..self.hosts.len()).filter(leads).collect();
        self.chance.operator.pick(&leaders).copied()
    }

    /// Somebody is asked to change the members.
    pub(crate) fn operator_changes(&mut self) -> Result<(), Violation> {
        let Some(leader) = self.one_who_leads() else { return Ok(()) };
        let process = self.hosts[leader].process.as_ref();
        let Some(node) = process.and_then(|process| process.replica.raft()) else { return Ok(()) };
        let membership = node.membership().settled();
        let sound =
            (0..self.hosts.len()).filter(|host| !self.hosts[*host].is_gone && !self.hosts[*host].is_rotten);
        let sound = sound.map(node_id);
        let (members, others): (Vec<NodeId>, Vec<NodeId>) = sound.partition(|id| membership.contains(*id));
        let waits = |id: &NodeId| self.hosts[host_of(*id)].announced.is_some();
        let (members, anew): (Vec<NodeId>, Vec<NodeId>) =
            members.into_iter().partition(|id| self.has_seat_in(&membership, *id) && !waits(id));
        let members = members.into_iter().filter(|id| !self.hosts[host_of(*id)].is_lost).collect();
        let known = Known {
            members,
            others: others.into_iter().filter(waits).collect(),
            anew: anew.into_iter().filter(waits).collect(),
        };
        let address = self.operator.addresses + 1;
        // Much of what could be wanted is so already, or too much.
        let wanted = (0..TRIES).find_map(|_| {
            let wish = wish(&mut self.chance.operator, &membership, &known, address)?;
            let target = self.target(&membership, &wish).filter(|target| self.bears(target, None))?;
            Some((wish, target))
        });
        let Some((wish, target)) = wanted else { return Ok(()) };
        self.operator.addresses = address;
        let text = format!("n{} is asked for {wish:?}: {}", leader + 1, Named(&target));
        self.mark(Some(leader), text);
        let taken = self.ask_consensus(leader, Input::Reconfigure { target })?;
        self.counts.changes += u64::from(matches!(taken, Some(Ok(_))));
        self.line(format_args!("n{} says to that {taken:?}", leader + 1));
        Ok(())
    }

    /// Whoever leads is asked to let another.
    pub(crate) fn operator_transfers(&mut self) -> Result<(), Violation> {
        let Some(leader) = self.one_who_leads() else { return Ok(()) };
        let to = self.chance.operator.below(self.hosts.len() as u64) as HostIndex;
        let to = self.chance.operator.chance(0.6).then_some(node_id(to));
        let whom = to.map_or_else(|| "whoever can".to_owned(), |to| to.to_string());
        self.mark(Some(leader), format!("n{} is asked to let {whom} lead", leader + 1));
        self.ask_consensus(leader, Input::Transfer { to }).map(|_| ())
    }

    fn ask_consensus(
        &mut self,
        host: HostIndex,
        input: Input,
    ) -> Result<Option<Result<Position, Refusal>>, Violation> {
        let Some(process) = self.hosts[host].process.as_mut() else { return Ok(None) };
        let (proposed, actions) = process.replica.ask_consensus(input);
        self.perform(host, actions)?;
        Ok(proposed)
    }

    /// What comes of a wish, if anything does.
    fn target(&self, now: &Membership, wish: &Wish) -> Option<Membership> {
        let seat = |id: NodeId| {
            let Host { incarnation, announced, .. } = &self.hosts[host_of(id)];
            Seat { incarnation: announced.unwrap_or(*incarnation), address: format!("{id}:2").into() }
                .to_bytes()
        };
        let is_last = |id: &NodeId| now.voters().len() == 1 && now.voters().contains(id);
        match wish {
            Wish::Voters(voters) => {
                let learners = now.learners().difference(voters).copied().collect();
                let target = Membership::simple(voters.clone()).with_learners(learners);
                let members = target.members();
                let seat = |id: NodeId| now.seat(id).cloned().unwrap_or_else(|| seat(id));
                Some(members.into_iter().fold(target, |target, id| target.with_seat(id, seat(id))))
            }
            Wish::Add(id) => {
                (!now.contains(*id)).then(|| now.clone().with_joining(*id, None).with_seat(*id, seat(*id)))
            }
            Wish::Remove(id) => (now.contains(*id) && !is_last(id)).then(|| now.clone().without(*id)),
            Wish::Replace(old, new) => (now.voters().contains(old) && !now.contains(*new))
                .then(|| now.clone().with_joining(*new, Some(*old)).with_seat(*new, seat(*new))),
            Wish::Rebuild(id) => (now.contains(*id) && !is_last(id))
                .then(|| now.clone().without(*id).with_joining(*id, None).with_seat(*id, seat(*id))),
            Wish::Promote(id) => now.learners().contains(id).then(|| now.clone().with_joining(*id, None)),
            Wish::Demote(id) => {
                (now.voters().contains(id) && !is_last(id)).then(|| now.clone().with_demoted(*id))
            }
            Wish::SetAddress(id, number) => {
                let seat = Seat::of(now, *id)?;
                let seat = Seat { address: format!("n{id}:{number}").into(), ..seat };
                Some(now.clone().with_seat(*id, seat.to_bytes()))
            }
        }
    }
}

/// What it knows of servers without a fault.
struct Known {
    /// Members, on the folders that they are known by.
    members: Vec<NodeId>,
    /// They wait to be added.
    others: Vec<NodeId>,
    /// They wait to be rebuilt.
    anew: Vec<NodeId>,
}

/// What it wants of a cluster with these members.
fn wish(prng: &mut Prng, now: &Membership, known: &Known, address: u64) -> Option<Wish> {
    let members: Vec<NodeId> = now.members().into_iter().collect();
    let voters: Vec<NodeId> = now.voters().iter().copied().collect();
    let learners: Vec<NodeId> = now.learners().iter().copied().collect();
    let mut one = |of: &[NodeId]| prng.pick(of).copied();
    let anew = one(&known.anew);
    let (member, voter, other, learner) = (one(&members)?, one(&voters)?, one(&known.others), one(&learners));
    match prng.below(16) {
        0 | 1 => Some(Wish::Remove(member)),
        2 if anew.is_some() => anew.map(Wish::Rebuild),
        2..=6 => other.map(Wish::Add),
        7 | 8 => other.map(|other| Wish::Replace(voter, other)),
        9 => anew.map(Wish::Rebuild),
        10 => learner.map(Wish::Promote),
        11 | 12 => Some(Wish::Demote(voter)),
        13 => Some(Wish::SetAddress(member, address)),
        _ => {
            let voters: BTreeSet<NodeId> =
                known.members.iter().copied().filter(|_| prng.chance(0.5)).collect();
            (!voters.is_empty()).then_some(Wish::Voters(voters))
        }
    }
}
