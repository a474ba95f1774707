//! The ways to the other servers: one connection for each direction, on which frames leave. Must not know what a
//! message means; each may be lost, and the protocols above recover.
//!
//! A server dials every other one and sends on the connection that it dialled; it receives on those that it accepted.
//! On either, both sides greet first (`greeting`); then the dialling side sends frames: a length of 4 bytes
//! (little-endian) and that many bytes of `quorate_replica::wire`.

mod acceptor;
mod greeting;
mod link;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use quorate_raft::NodeId;
use quorate_replica::wire::PeerEnvelope;
use quorate_storage::ClusterId;
use tokio::sync::{Notify, oneshot};

pub(crate) use acceptor::accept;
pub(crate) use link::dial;

use crate::config::{Address, ServeConfig};
use crate::shared::{Counters, Shared};
use greeting::Greeting;
use link::Link;

/// All other servers.
pub(crate) struct Peers {
    id: NodeId,
    /// What other servers are told about where clients find this one.
    advertised: Address,
    links: BTreeMap<NodeId, Rc<Link>>,
    /// A server was dialled for the first time.
    tried: Notify,
    state: RefCell<PeersState>,
}

#[derive(Default)]
struct PeersState {
    /// Where clients find each server, as it said when it greeted.
    client_addresses: BTreeMap<NodeId, Address>,
    /// The connection on which each server sends to us; when it is replaced, the one before it ends.
    incoming: BTreeMap<NodeId, oneshot::Sender<()>>,
    /// Servers that said they belong to another cluster, and to which.
    foreign: BTreeMap<NodeId, ClusterId>,
}

impl Peers {
    /// The others of these members, none connected yet.
    pub(crate) fn new(config: &ServeConfig, advertised: Address) -> Self {
        let others = config.peers.iter().filter(|(peer, _)| **peer != config.id);
        let links =
            others.map(|(peer, address)| (*peer, Rc::new(Link::new(*peer, address.clone())))).collect();
        Self { id: config.id, advertised, links, tried: Notify::new(), state: RefCell::default() }
    }

    /// Queues a message, or drops it if its way is down or full. [`Peers::flush`] sends it.
    pub(crate) fn send(&self, envelope: &PeerEnvelope, counters: &Counters) {
        let is_queued = self.links.get(&envelope.to).is_some_and(|link| link.send(envelope));
        if !is_queued {
            Counters::count(&counters.peer_messages_unsent);
        }
    }

    /// Sends what can be sent.
    pub(crate) fn flush(&self) {
        for link in self.links.values() {
            link.flush();
        }
    }

    /// Where clients find this server, if it has greeted since our start.
    pub(crate) fn client_address(&self, peer: NodeId) -> Option<Address> {
        let advertised = self.state.borrow().client_addresses.get(&peer).cloned()?;
        let is_reachable = !matches!(advertised.host.as_str(), "0.0.0.0" | "::");
        if is_reachable {
            return Some(advertised);
        }
        // It listens on all its addresses: the one at which we dial it is one of them.
        let host = self.links.get(&peer)?.address.host.clone();
        Some(Address { host, port: advertised.port })
    }

    /// Where clients find the other servers that are connected.
    pub(crate) fn client_addresses(&self) -> Vec<Address> {
        let connected = self.links.iter().filter(|(_, link)| link.is_up());
        connected.filter_map(|(peer, _)| self.client_address(*peer)).collect()
    }

    /// How many ways are up.
    pub(crate) fn connected(&self) -> usize {
        self.links.values().filter(|link| link.is_up()).count()
    }

    /// Waits until each of the others was dialled once: it has greeted, or there is no way to it at the moment.
    pub(crate) async fn all_tried(&self) {
        while !self.links.values().all(|link| link.is_tried.get()) {
            self.tried.notified().await;
        }
    }

    fn own_greeting(&self, to: NodeId, shared: &Shared) -> Greeting {
        let cluster = own_cluster(shared);
        Greeting { from: self.id, to, cluster, advertised: self.advertised.clone() }
    }

    /// Believes a greeting, or says what is wrong with it. Only who answers at an address of our own `--peers` may make us
    /// doubt ourselves: whoever dials us may have been told a wrong address.
    fn check(&self, greeting: &Greeting, direction: Direction, shared: &Shared) -> Result<(), String> {
        if greeting.to != self.id {
            return Err(format!(
                "node {} looks for node {} here, and this is node {}: its --peers names a wrong address",
                greeting.from.get(),
                greeting.to.get(),
                self.id.get()
            ));
        }
        if !self.links.contains_key(&greeting.from) {
            return Err(format!("node {} is none of --peers", greeting.from.get()));
        }
        let mut state = self.state.borrow_mut();
        if let (Some(own), Some(other)) = (own_cluster(shared), greeting.cluster)
            && own != other
        {
            if direction == Direction::Dialled {
                state.foreign.insert(greeting.from, other);
            }
            let agreeing = state.foreign.values().filter(|cluster| **cluster == other).count();
            let sentence = format!(
                "node {} belongs to cluster {other}, and the data folder {} to cluster {own}: one of both was started \
                 on another cluster's data",
                greeting.from.get(),
                shared.config.data.display()
            );
            // If most members are of one other cluster, it is we who do not belong here.
            if agreeing * 2 > self.links.len() + 1 {
                shared.inbox.fail(format!(
                    "the data folder {} belongs to cluster {own}, and most of --peers to cluster {other}: start this \
                     server with its --data folder of that cluster, or with its own cluster's --peers",
                    shared.config.data.display()
                ));
            }
            return Err(sentence);
        }
        state.foreign.remove(&greeting.from);
        state.client_addresses.insert(greeting.from, greeting.advertised.clone());
        Ok(())
    }
}

/// Who began a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    /// This server.
    Dialled,
    /// The other one.
    Accepted,
}

fn own_cluster(shared: &Shared) -> Option<ClusterId> {
    let cluster = shared.status().cluster?;
    ClusterId::new(u128::from_str_radix(&cluster, 16).ok()?)
}
