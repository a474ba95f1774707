//! Whether a server that greets is one to deal with. Must not know what is said after the greetings.

use std::net::IpAddr;
use std::rc::Rc;

use quorate_raft::NodeId;
use quorate_replica::replica::Event;
use quorate_replica::versions::Greeted;

use super::greeting::{Greeting, told_address};
use super::{Peers, own_cluster};
use crate::shared::Shared;

/// Who began a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// This server, in search of that one, or of any.
    Dialled { looked_for: Option<NodeId> },
    /// The other one.
    Accepted,
}

impl Peers {
    /// Believes a greeting, or says what is wrong with it.
    pub(super) fn check(
        &self,
        greeting: &Greeting,
        direction: Direction,
        heard_from: IpAddr,
        shared: &Rc<Shared>,
    ) -> Result<(), String> {
        let name = format!("node {}", greeting.from.get());
        let own = self.own_greeting(Some(greeting.from), shared).versions;
        let protocol = own.meet(&greeting.versions, &name)?;
        self.check_names(greeting, direction, shared)?;
        self.check_cluster(greeting, direction, shared)?;
        self.take_note(greeting, direction, heard_from, shared)?;
        self.redial(shared);
        shared.inbox.event(Event::Greeted(Greeted {
            node: greeting.from,
            incarnation: greeting.incarnation,
            address: greeting.peer_address.as_str().into(),
            program: greeting.versions.program.as_str().into(),
            protocol,
            level_min: greeting.versions.levels.oldest,
            level_max: greeting.versions.levels.newest,
        }));
        Ok(())
    }

    /// Whether each of both is whom the other means.
    fn check_names(&self, greeting: &Greeting, direction: Direction, shared: &Shared) -> Result<(), String> {
        let (from, own) = (greeting.from.get(), self.id.get());
        if greeting.from == self.id {
            return Err(match greeting.incarnation == shared.status().incarnation {
                true => "this server has dialled itself".to_owned(),
                false => {
                    format!("another server says it is node {own}, as this one is: no two have the same --id")
                }
            });
        }
        if let Some(to) = greeting.to.filter(|to| *to != self.id) {
            return Err(format!(
                "node {from} looks for node {} here, and this is node {own}: it was told a wrong address, by its --peers or \
                 the cluster",
                to.get(),
            ));
        }
        if let Direction::Dialled { looked_for: Some(looked_for) } = direction
            && looked_for != greeting.from
        {
            let why = match self.state.borrow().routes.is_configured(looked_for) {
                true => "--peers names a wrong address".to_owned(),
                false => format!("the address that the cluster has of node {} is wrong", looked_for.get()),
            };
            return Err(format!("there is node {from}: {why}"));
        }
        Ok(())
    }

    /// Whether it is of another cluster. Only who answers at an address of our own `--peers` may make us doubt ourselves:
    /// whoever dials us may have been told a wrong address.
    fn check_cluster(
        &self,
        greeting: &Greeting,
        direction: Direction,
        shared: &Shared,
    ) -> Result<(), String> {
        let state = &mut *self.state.borrow_mut();
        let (Some(own), Some(other)) = (own_cluster(shared), greeting.cluster) else { return Ok(()) };
        if own == other {
            state.foreign.remove(&greeting.from);
            return Ok(());
        }
        let is_dialled = direction != Direction::Accepted;
        if is_dialled && state.routes.is_configured(greeting.from) {
            state.foreign.insert(greeting.from, other);
        }
        let agreeing = state.foreign.values().filter(|cluster| **cluster == other).count();
        // If most members are of one other cluster, it is we who do not belong here.
        if agreeing * 2 > state.routes.configured() + 1 {
            shared.inbox.fail(format!(
                "the data folder {} belongs to cluster {own}, and most of --peers to cluster {other}: start this \
                 server with its --data folder of that cluster, or with its own cluster's --peers",
                shared.config.data.display()
            ));
        }
        Err(format!(
            "node {} belongs to cluster {other}, and the data folder {} to cluster {own}: one of both was started \
             on another cluster's data",
            greeting.from.get(),
            shared.config.data.display()
        ))
    }

    /// Remembers where it is found; refuses strangers who are none of this server's business.
    fn take_note(
        &self,
        greeting: &Greeting,
        direction: Direction,
        heard_from: IpAddr,
        shared: &Shared,
    ) -> Result<(), String> {
        let from = greeting.from;
        let state = &mut *self.state.borrow_mut();
        let told = told_address(&greeting.peer_address, heard_from);
        match (direction, told) {
            (Direction::Dialled { looked_for: Some(_) }, _)
            | (Direction::Dialled { looked_for: None }, None) => {}
            (Direction::Dialled { looked_for: None }, Some(address)) => state.routes.learned(from, address),
            (Direction::Accepted, told) => {
                let founds = own_cluster(shared).is_none() && self.join.is_empty();
                if founds && !state.routes.is_member(from) {
                    return Err(format!("node {} is none of --peers", from.get()));
                }
                let is_reached = state.links.get(&from).is_some_and(|link| link.is_up());
                if !state.routes.heard((from, greeting.incarnation), told, is_reached) {
                    return Err(format!(
                        "node {} is no member, and too many such dial this server",
                        from.get()
                    ));
                }
            }
        }
        if let Some(address) = told_address(&greeting.client_address, heard_from) {
            state.client_addresses.insert(from, address);
        }
        Ok(())
    }
}
