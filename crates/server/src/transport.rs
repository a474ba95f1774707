//! The ways to the other servers: one connection for each direction, on which frames leave. Must not know what a
//! message means; each may be lost, and the protocols above recover.
//!
//! A server dials every other one and sends on the connection that it dialled; it receives on those that it accepted.
//! On either, both sides greet first (`greeting`); then the dialling side sends frames: a length of 4 bytes
//! (little-endian) and that many bytes of `quorate_replica::wire`.

mod acceptor;
mod callers;
mod check;
mod dialler;
mod greeting;
mod link;
mod routes;
mod versions;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use quorate_raft::NodeId;
use quorate_replica::seat::Seat;
use quorate_replica::wire::PeerEnvelope;
use quorate_storage::ClusterId;
use tokio::sync::Notify;
use tracing::{info, warn};

pub(crate) use acceptor::accept;

use crate::config::{Address, ServeConfig};
use crate::shared::{Counters, Shared};
use callers::Callers;
use greeting::Greeting;
use link::Link;
use routes::{Member, Routes};
use versions::Versions;

/// All other servers.
pub(crate) struct Peers {
    id: NodeId,
    /// What other servers are told about where clients find this one.
    advertised: Address,
    /// What they are told about where they find it themselves.
    peer_advertised: Address,
    /// Where a cluster is that is to take this server in.
    join: Vec<Address>,
    /// A server was dialled for the first time.
    tried: Notify,
    state: RefCell<PeersState>,
}

#[derive(Default)]
struct PeersState {
    /// Ways are dialled from now on.
    is_dialling: bool,
    routes: Routes,
    links: BTreeMap<NodeId, Rc<Link>>,
    /// Ways to `join`, as long as they are needed.
    joins: Vec<Rc<Link>>,
    /// Members that were said to be out of reach.
    unknown: Vec<NodeId>,
    /// Where clients find each server, as it said when it greeted.
    client_addresses: BTreeMap<NodeId, Address>,
    callers: Callers,
    /// Servers of `--peers` that said they belong to another cluster, and to which.
    foreign: BTreeMap<NodeId, ClusterId>,
}

impl Peers {
    /// The others of these members, none dialled yet.
    pub(crate) fn new(config: &ServeConfig, advertised: Address) -> Self {
        let mut others = config.peers.clone();
        others.remove(&config.id);
        let state = PeersState { routes: Routes::new(others), ..PeersState::default() };
        Self {
            id: config.id,
            advertised,
            peer_advertised: config.peer_advertise.clone(),
            join: config.join.clone(),
            tried: Notify::new(),
            state: RefCell::new(state),
        }
    }

    /// Queues a message, or drops it if its way is down or full. [`Peers::flush`] sends it.
    pub(crate) fn send(&self, envelope: &PeerEnvelope, counters: &Counters) {
        let state = self.state.borrow();
        let link = state.links.get(&envelope.to).or_else(|| state.join_to(envelope.to));
        if !link.is_some_and(|link| link.send(envelope)) {
            Counters::count(&counters.peer_messages_unsent);
        }
    }

    /// Queues a message to every server that can be reached.
    pub(crate) fn announce(&self, mut envelope: PeerEnvelope) {
        let state = self.state.borrow();
        let by_id = state.links.iter().map(|(id, link)| (*id, link));
        let known = |id: &NodeId| state.links.get(id).is_some_and(|link| link.is_up());
        let joins = state.joins.iter().filter_map(|link| Some((link.found()?, link)));
        for (id, link) in by_id.chain(joins.filter(|(id, _)| !known(id))) {
            envelope.to = id;
            // It is said again and again.
            let _ = link.send(&envelope);
        }
    }

    /// Sends what can be sent.
    pub(crate) fn flush(&self) {
        let state = self.state.borrow();
        for link in state.links.values().chain(&state.joins) {
            link.flush();
        }
    }

    /// Where clients find this server, if it has greeted since our start.
    pub(crate) fn client_address(&self, peer: NodeId) -> Option<Address> {
        self.state.borrow().client_address(peer)
    }

    /// Where clients find the other servers that are connected.
    pub(crate) fn client_addresses(&self) -> Vec<Address> {
        let state = self.state.borrow();
        let connected = state.links.iter().filter(|(_, link)| link.is_up());
        connected.filter_map(|(peer, _)| state.client_address(*peer)).collect()
    }

    /// How many ways are up.
    pub(crate) fn connected(&self) -> usize {
        let state = self.state.borrow();
        state.links.values().chain(&state.joins).filter(|link| link.is_up()).count()
    }

    /// Where this server dials each other one.
    pub(crate) fn addresses(&self) -> BTreeMap<NodeId, Address> {
        self.state.borrow().routes.wanted()
    }

    /// Members of which this server's `--peers` says another address than the log, and that address.
    pub(crate) fn overridden(&self) -> BTreeMap<NodeId, Address> {
        let state = self.state.borrow();
        state.routes.overridden().into_iter().map(|(id, address)| (id, address.clone())).collect()
    }

    /// Waits until each of the others was dialled once: it has greeted, or there is no way to it at the moment.
    pub(crate) async fn all_tried(&self) {
        while !self.state.borrow().all_tried() {
            self.tried.notified().await;
        }
    }

    /// From now on there is a way to each of the others.
    pub(crate) fn dial(&self, shared: &Rc<Shared>) {
        self.state.borrow_mut().is_dialling = true;
        self.redial(shared);
    }

    /// These are the other members.
    pub(crate) fn set_members(&self, members: &BTreeMap<NodeId, Seat>, shared: &Rc<Shared>) {
        let mut state = self.state.borrow_mut();
        let read = |(id, seat): (&NodeId, &Seat)| {
            let address = seat.address.parse().ok();
            if address.is_none() && !seat.address.is_empty() {
                warn!("the cluster's address of node {}, '{}', is none", id.get(), seat.address);
            }
            (*id, Member { incarnation: seat.incarnation, address })
        };
        let callers = state.callers.ids();
        state.routes.set_members(members.iter().map(read).collect(), callers);
        for id in state.routes.superfluous() {
            let (id, address) =
                (id.get(), state.routes.address(id).map(Address::to_string).unwrap_or_default());
            warn!(
                "node {id} of --peers is no member of this cluster, and is not dialled: to add it, start it with --join, and \
                 run `quorate members add {id} {address}`"
            );
        }
        drop(state);
        self.redial(shared);
    }

    /// Gives up ways that lead nowhere any more, and begins those that are missing.
    fn redial(&self, shared: &Rc<Shared>) {
        let state = &mut *self.state.borrow_mut();
        if !state.is_dialling {
            return;
        }
        let wanted = state.routes.wanted();
        state.links.retain(|id, link| {
            let is_wanted = wanted.get(id) == Some(&link.address);
            if !is_wanted {
                info!("the way to {link} is given up");
                link.close();
            }
            is_wanted
        });
        for (id, address) in wanted {
            state.links.entry(id).or_insert_with(|| begin(Link::new(Some(id), address), shared));
        }
        let unknown = state.routes.unknown();
        let joins = own_cluster(shared).is_none() || !unknown.is_empty();
        if !joins {
            state.joins.drain(..).for_each(|link| link.close());
        } else if state.joins.is_empty() {
            let links = self.join.iter().map(|address| begin(Link::new(None, address.clone()), shared));
            state.joins.extend(links);
        }
        if unknown != state.unknown {
            for id in &unknown {
                info!(
                    "nobody has told this server where node {} is: it is heard as soon as it dials",
                    id.get()
                );
            }
            state.unknown = unknown;
        }
    }

    fn own_greeting(&self, to: Option<NodeId>, shared: &Shared) -> Greeting {
        let status = shared.status();
        let cluster = status.cluster.as_deref().and_then(parse_cluster);
        Greeting {
            from: self.id,
            to,
            cluster,
            incarnation: status.incarnation,
            versions: Versions::own(status.level),
            client_address: self.advertised.to_string(),
            peer_address: self.peer_advertised.to_string(),
        }
    }
}

impl PeersState {
    fn join_to(&self, node: NodeId) -> Option<&Rc<Link>> {
        self.joins.iter().find(|link| link.found() == Some(node))
    }

    fn all_tried(&self) -> bool {
        self.links.values().chain(&self.joins).all(|link| link.is_tried.get())
    }

    fn client_address(&self, peer: NodeId) -> Option<Address> {
        let advertised = self.client_addresses.get(&peer).cloned()?;
        if !advertised.is_unspecified() {
            return Some(advertised);
        }
        // It listens on all its addresses: the one at which we dial it is one of them.
        let host = self.links.get(&peer)?.address.host.clone();
        Some(Address { host, port: advertised.port })
    }
}

/// A task of its own keeps this way up.
fn begin(link: Link, shared: &Rc<Shared>) -> Rc<Link> {
    let link = Rc::new(link);
    let task = tokio::task::spawn_local(dialler::keep_up(Rc::clone(shared), Rc::clone(&link)));
    link.is_kept_by(task.abort_handle());
    link
}

fn own_cluster(shared: &Shared) -> Option<ClusterId> {
    parse_cluster(&shared.status().cluster?)
}

fn parse_cluster(text: &str) -> Option<ClusterId> {
    ClusterId::new(u128::from_str_radix(text, 16).ok()?)
}
