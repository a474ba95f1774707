//! From a change that is asked for to the membership that should be, or to a sentence why not. A pure question, asked at the
//! leader. Knows nothing of how a membership is agreed on.

use std::collections::{BTreeMap, BTreeSet};

use quorate_raft::NodeId;
use quorate_storage::Incarnation;

use super::roster::list;
use super::{Change, Health, LEARNERS_MAX, Roster, VOTERS_MAX, faults_borne, quorum};
use crate::seat::Seat;

/// What a leader knows when it is asked.
pub(crate) struct View<'a> {
    /// Who leads.
    pub(crate) own: NodeId,
    /// It has just begun to, and may not have heard from all who are alive.
    pub(crate) is_new: bool,
    /// The latest membership, committed or not, each seat with all that is known of it.
    pub(crate) roster: &'a Roster,
    /// It is not committed, or joint.
    pub(crate) is_pending: bool,
    /// To whom leadership is being handed over.
    pub(crate) transfer: Option<NodeId>,
    /// Whether each member does its part.
    pub(crate) known: &'a BTreeMap<NodeId, Health>,
    /// Who has said lately that it waits.
    pub(crate) waiting: &'a BTreeMap<NodeId, Waiting>,
}

/// A server that waits.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    /// On which folder.
    pub(crate) incarnation: Incarnation,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Planned {
    /// Nothing: so it is.
    Done(Vec<String>),
    /// Nothing: so it will be.
    UnderWay(Vec<String>),
    /// This membership is to be proposed.
    Reconfigure(Box<Roster>, Vec<String>),
    /// Leadership is to be handed over.
    Transfer(Option<NodeId>, Vec<String>),
}

/// Why nothing is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// As things are, it must not be.
    Never(String),
    /// Something that takes a moment must come to its end first.
    NotNow(String),
}

/// How a change stands before anything is done for it.
enum Already {
    No,
    Coming,
    There,
}

/// What this change takes.
pub(crate) fn plan(view: &View<'_>, change: &Change, is_forced: bool) -> Result<Planned, Refused> {
    let says = vec![what(change)];
    match view.already(change)? {
        Already::There if !view.is_pending => {
            return Ok(Planned::Done(view.with_voters(says, &view.roster.voters)));
        }
        Already::There | Already::Coming => {
            return Ok(Planned::UnderWay(view.with_voters(says, &view.roster.voters_in_the_end())));
        }
        Already::No => {}
    }
    view.check_pending(change)?;
    if let Change::Transfer { to } = change {
        view.check_heir(*to, is_forced)?;
        return Ok(Planned::Transfer(*to, says));
    }
    let target = view.target(change)?;
    let voters_in_the_end = target.voters_in_the_end();
    check_bounds(&target, &voters_in_the_end)?;
    if !is_forced {
        view.check_majority(&target.voters)?;
        view.check_majority(&voters_in_the_end)?;
    }
    let says = view.with_voters(says, &voters_in_the_end);
    Ok(Planned::Reconfigure(Box::new(target), says))
}

/// The change, as a sentence.
fn what(change: &Change) -> String {
    match change {
        Change::Add { id, address } => {
            format!("server {} at {address} becomes a voter, once it has caught up", id.get())
        }
        Change::Remove { id } => format!("server {} is no member any more", id.get()),
        Change::Replace { old, new, address } => format!(
            "server {} at {address} takes the place of server {}, once it has caught up",
            new.get(),
            old.get()
        ),
        Change::Rebuild { id } => format!(
            "server {} goes on with its new folder: it receives everything anew, and votes once it has caught up",
            id.get()
        ),
        Change::Promote { id } => format!("server {} becomes a voter, once it has caught up", id.get()),
        Change::Demote { id } => format!("server {} becomes a learner: it votes no more", id.get()),
        Change::Transfer { to: Some(to) } => format!("server {} leads", to.get()),
        Change::Transfer { to: None } => "another server leads".to_owned(),
        Change::SetAddress { id, address } => format!("server {} is dialled at {address}", id.get()),
    }
}

impl View<'_> {
    /// Whether it is, or will be, as asked for. What contradicts what is there is refused.
    fn already(&self, change: &Change) -> Result<Already, Refused> {
        let Roster { voters, learners, joining, .. } = self.roster;
        let here = |is_here: bool| if is_here { Already::There } else { Already::No };
        Ok(match change {
            Change::Add { id, address } => {
                if !self.roster.contains(*id) {
                    return Ok(Already::No);
                }
                self.check_folder(*id)?;
                self.check_address(*id, address)?;
                if joining.contains_key(id) { Already::Coming } else { here(voters.contains(id)) }
            }
            Change::Remove { id } => {
                if voters.contains(id) || learners.contains(id) {
                    Already::No
                } else {
                    Already::There
                }
            }
            Change::Replace { old, new, address } => {
                if !self.roster.contains(*new) {
                    return Ok(Already::No);
                }
                self.check_folder(*new)?;
                self.check_address(*new, address)?;
                match joining.get(new) {
                    Some(replaced) if *replaced == Some(*old) => Already::Coming,
                    Some(_) => Already::No,
                    None => here(voters.contains(new) && !voters.contains(old) && !learners.contains(old)),
                }
            }
            Change::Rebuild { id } => {
                self.check_known(*id)?;
                if self.other_folder(*id).is_some() {
                    Already::No
                } else if joining.contains_key(id) {
                    Already::Coming
                } else {
                    self.check_heard(*id)?;
                    Already::There
                }
            }
            Change::Promote { id } => {
                self.check_known(*id)?;
                if joining.contains_key(id) { Already::Coming } else { here(voters.contains(id)) }
            }
            Change::Demote { id } => {
                self.check_known(*id)?;
                here(learners.contains(id) && !joining.contains_key(id))
            }
            Change::Transfer { to: Some(to) } => {
                self.check_known(*to)?;
                if self.transfer == Some(*to) { Already::Coming } else { here(*to == self.own) }
            }
            Change::Transfer { to: None } => Already::No,
            Change::SetAddress { id, address } => {
                self.check_known(*id)?;
                here(self.address(*id) == &**address)
            }
        })
    }

    /// One change at a time. What only ends the change under way is let through.
    fn check_pending(&self, change: &Change) -> Result<(), Refused> {
        if let Some(to) = self.transfer {
            let text = format!("leadership is being handed over to server {}: wait for that", to.get());
            return Err(Refused::NotNow(text));
        }
        let is_transfer = matches!(change, Change::Transfer { .. });
        if self.is_pending && !is_transfer {
            let text = |what: &str| format!("another change is under way: {what}; wait for that");
            return Err(match self.roster.under_way() {
                Some(change) => Refused::Never(text(&change)),
                None => Refused::NotNow(text("it waits for a majority to store it")),
            });
        }
        let is_about_joiner = match change {
            Change::Remove { id } | Change::Rebuild { id } | Change::Demote { id } => {
                self.roster.joining.contains_key(id)
            }
            Change::Transfer { .. } | Change::SetAddress { .. } => true,
            Change::Add { .. } | Change::Replace { .. } | Change::Promote { .. } => false,
        };
        match self.roster.joining.first_key_value() {
            Some((joiner, _)) if !is_about_joiner => Err(Refused::Never(format!(
                "another change is under way: {}; wait for that, or give it up: quorate members remove {}",
                self.roster.under_way().unwrap_or_default(),
                joiner.get()
            ))),
            Some(_) | None => Ok(()),
        }
    }

    /// The membership to propose.
    fn target(&self, change: &Change) -> Result<Roster, Refused> {
        let mut target = self.roster.clone();
        match change {
            Change::Add { id, address } => {
                self.check_new_address(*id, address)?;
                self.seat(&mut target, *id, address)?;
                target.learners.insert(*id);
                target.joining.insert(*id, None);
            }
            Change::Remove { id } => self.remove(&mut target, *id)?,
            Change::Replace { old, new, address } => {
                self.check_known(*old)?;
                if self.roster.voters.contains(new) {
                    return Err(Refused::Never(format!(
                        "server {new} is a voter already: to take server {old} out, run quorate members remove {old}",
                        new = new.get(),
                        old = old.get()
                    )));
                }
                self.check_new_address(*new, address)?;
                self.seat(&mut target, *new, address)?;
                target.learners.insert(*new);
                if target.voters.contains(old) {
                    target.joining.insert(*new, Some(*old));
                } else {
                    self.remove(&mut target, *old)?;
                }
            }
            Change::Rebuild { id } => {
                if target.voters.contains(id) {
                    self.demote(&mut target, *id)?;
                    target.joining.insert(*id, None);
                }
                let address = self.address(*id).to_owned();
                self.seat(&mut target, *id, &address)?;
            }
            Change::Promote { id } => {
                target.joining.insert(*id, None);
            }
            Change::Demote { id } => self.demote(&mut target, *id)?,
            Change::SetAddress { id, address } => {
                self.check_new_address(*id, address)?;
                if let Some(seat) = target.seats.get_mut(id) {
                    seat.address = address.clone();
                }
            }
            Change::Transfer { .. } => {}
        }
        Ok(target)
    }

    fn demote(&self, target: &mut Roster, id: NodeId) -> Result<(), Refused> {
        if target.voters.contains(&id) {
            self.check_not_last(id)?;
        }
        target.voters.remove(&id);
        target.learners.insert(id);
        target.joining.remove(&id);
        Ok(())
    }

    fn remove(&self, target: &mut Roster, id: NodeId) -> Result<(), Refused> {
        if target.voters.contains(&id) {
            self.check_not_last(id)?;
        }
        target.voters.remove(&id);
        target.learners.remove(&id);
        target.joining.remove(&id);
        target.seats.remove(&id);
        for replaced in target.joining.values_mut() {
            replaced.take_if(|replaced| *replaced == id);
        }
        Ok(())
    }

    /// The place of one who comes, with the folder that waits under this id; one that is a learner already may keep its own.
    fn seat(&self, target: &mut Roster, id: NodeId, address: &str) -> Result<(), Refused> {
        let waiting = self.waiting.get(&id).map(|waiting| waiting.incarnation);
        let own = target.seats.get(&id).map(|seat| seat.incarnation);
        let Some(incarnation) = waiting.or(own) else {
            return Err(self.unheard(format!(
                "no server {id} waits to be added; start it on an empty folder, on its own machine, and run this again: \
                 quorate serve --id {id} --data DIR --listen HOST:PORT --peer-listen {address} --join {join}",
                id = id.get(),
                join = self.somebody(),
            )));
        };
        target.seats.insert(id, Seat { incarnation, address: address.into() });
        Ok(())
    }

    fn check_known(&self, id: NodeId) -> Result<(), Refused> {
        if self.roster.contains(id) {
            return Ok(());
        }
        let members = list(self.roster.members());
        Err(Refused::Never(format!(
            "there is no server {} in this cluster; its members are {members}",
            id.get()
        )))
    }

    /// A member that is to be added again must not be there on another folder.
    fn check_folder(&self, id: NodeId) -> Result<(), Refused> {
        match self.other_folder(id) {
            None => Ok(()),
            Some(_) => Err(Refused::Never(format!(
                "server {id} is a member, and now there on another folder: run quorate members rebuild {id}",
                id = id.get()
            ))),
        }
    }

    /// A member that is to be added again must be where it was.
    fn check_address(&self, id: NodeId, address: &str) -> Result<(), Refused> {
        let current = self.address(id);
        if current == address {
            return Ok(());
        }
        Err(Refused::Never(format!(
            "server {id} is a member, at {}: to have it dialled elsewhere, run quorate members set-address {id} {address}",
            if current.is_empty() { "an address that is not known here" } else { current },
            id = id.get(),
        )))
    }

    fn check_new_address(&self, id: NodeId, address: &str) -> Result<(), Refused> {
        let mut others = self.roster.seats.iter().filter(|(other, _)| **other != id);
        match others.find(|(_, seat)| &*seat.address == address) {
            None => Ok(()),
            Some((other, _)) => {
                Err(Refused::Never(format!("{address} is the address of server {}", other.get())))
            }
        }
    }

    /// There is nothing to rebuild unless the server says so, and one that says nothing cannot.
    fn check_heard(&self, id: NodeId) -> Result<(), Refused> {
        match self.known.get(&id) {
            Some(Health::Up | Health::Behind) if !self.is_new => Ok(()),
            Some(_) | None => Err(self.unheard(format!(
                "server {id} is not heard, and no server {id} waits to be rebuilt; start it on an empty folder, and run this \
                 again: quorate serve --id {id} --data DIR --listen HOST:PORT --peer-listen {address} --join {join}",
                id = id.get(),
                address = self.address(id),
                join = self.somebody(),
            ))),
        }
    }

    fn check_not_last(&self, id: NodeId) -> Result<(), Refused> {
        if self.roster.voters.iter().any(|voter| *voter != id) {
            return Ok(());
        }
        Err(Refused::Never(format!("server {} is the only voter: without it there is no cluster", id.get())))
    }

    fn check_heir(&self, to: Option<NodeId>, is_forced: bool) -> Result<(), Refused> {
        let Some(to) = to else {
            let mut others = self.roster.voters.iter().filter(|voter| **voter != self.own);
            let is_any_up = others.any(|voter| self.is_up(*voter));
            return if is_any_up {
                Ok(())
            } else {
                Err(self.unheard("no other voter is alive and caught up: none could lead".to_owned()))
            };
        };
        if !self.roster.voters.contains(&to) {
            return Err(Refused::Never(format!("server {} is no voter: only a voter leads", to.get())));
        }
        if is_forced || self.is_up(to) {
            return Ok(());
        }
        let health = self.health(to);
        Err(self.unheard(format!(
            "server {} is {health}: only a voter that is alive and caught up can take over; FORCE (--force) tries it all the \
             same, and risks that writes wait for half a second, and that nothing comes of it",
            to.get()
        )))
    }

    /// A majority of these voters must be alive and caught up. One who joins is made a voter only once it is caught up.
    fn check_majority(&self, voters: &BTreeSet<NodeId>) -> Result<(), Refused> {
        if *voters == self.roster.voters {
            return Ok(());
        }
        let needed = quorum(voters.len());
        let missing: Vec<NodeId> = voters.iter().copied().filter(|voter| !self.will_be_up(*voter)).collect();
        let up = voters.len() - missing.len();
        if up >= needed {
            return Ok(());
        }
        let missing: Vec<String> = missing
            .into_iter()
            .map(|voter| format!("server {} is {}", voter.get(), self.health(voter)))
            .collect();
        Err(self.unheard(format!(
            "{needed} of the voters {} would have to be alive and caught up, and {up} would be: {}. Bring them back first. FORCE \
             (--force) makes the change all the same, and risks that the cluster serves nobody until they are back",
            list(voters.iter().copied()),
            missing.join(", ")
        )))
    }

    /// Someone is missed who may only not have been heard yet.
    fn unheard(&self, text: String) -> Refused {
        if !self.is_new {
            return Refused::Never(text);
        }
        Refused::NotNow(format!(
            "this server has just begun to lead, and may not have heard everybody: {text}"
        ))
    }

    fn health(&self, id: NodeId) -> Health {
        self.known.get(&id).copied().unwrap_or(Health::Down)
    }

    fn is_up(&self, id: NodeId) -> bool {
        id == self.own || self.health(id) == Health::Up
    }

    fn will_be_up(&self, id: NodeId) -> bool {
        let is_voter = self.roster.voters.contains(&id);
        let is_there =
            self.waiting.contains_key(&id) || matches!(self.health(id), Health::Up | Health::Behind);
        self.is_up(id) || is_there && (!is_voter || self.other_folder(id).is_some())
    }

    /// The folder on which a member waits that is known under another one.
    fn other_folder(&self, id: NodeId) -> Option<Incarnation> {
        let waiting = self.waiting.get(&id)?.incarnation;
        let known = self.roster.seats.get(&id).map(|seat| seat.incarnation);
        (self.roster.contains(id) && known != Some(waiting)).then_some(waiting)
    }

    fn address(&self, id: NodeId) -> &str {
        self.roster.seats.get(&id).map_or("", |seat| &seat.address)
    }

    /// Addresses at which a new server finds the cluster.
    fn somebody(&self) -> String {
        let seats =
            self.roster.seats.iter().filter(|(id, seat)| self.is_up(**id) && !seat.address.is_empty());
        let addresses: Vec<&str> = seats.map(|(_, seat)| &*seat.address).collect();
        if addresses.is_empty() { "HOST:PORT,…".to_owned() } else { addresses.join(",") }
    }

    /// Adds the voters, the quorum and the faults borne, before and after.
    fn with_voters(&self, mut says: Vec<String>, after: &BTreeSet<NodeId>) -> Vec<String> {
        let before = if self.roster.is_joint() { &self.roster.outgoing } else { &self.roster.voters };
        let count = before.len();
        let voters = |voters: &BTreeSet<NodeId>| list(voters.iter().copied());
        if before == after {
            says.push(format!(
                "voters {}; quorum {} of {count}; faults borne {}",
                voters(before),
                quorum(count),
                faults_borne(count)
            ));
            return says;
        }
        says.push(format!(
            "voters {} -> {}; quorum {} of {count} -> {} of {}; faults borne {} -> {}",
            voters(before),
            voters(after),
            quorum(count),
            quorum(after.len()),
            after.len(),
            faults_borne(count),
            faults_borne(after.len()),
        ));
        if faults_borne(after.len()) < faults_borne(count) {
            says.push("warning: fewer servers may fail than before".to_owned());
        } else if after.len() > count && after.len().is_multiple_of(2) {
            says.push(format!(
                "note: {} voters bear no more faults than {}; an odd number is better",
                after.len(),
                after.len() - 1
            ));
        }
        says
    }
}

fn check_bounds(target: &Roster, voters: &BTreeSet<NodeId>) -> Result<(), Refused> {
    let refused = |count: usize, most: usize, what: &str| {
        (count > most)
            .then(|| Refused::Never(format!("that would be {count} {what}; a cluster has at most {most}")))
    };
    let refusal = refused(voters.len(), VOTERS_MAX, "voters")
        .or_else(|| refused(target.learners.len(), LEARNERS_MAX, "learners"));
    refusal.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests;
