//! Who dials this server at the moment. Must not know what they say.

use std::collections::{BTreeMap, BTreeSet};

use quorate_raft::NodeId;
use quorate_storage::Incarnation;
use tokio::sync::oneshot;

/// Connections of one id at most, past which the oldest ends: of a server and one that has taken its number by mistake, and
/// of both while they wait to be added.
const CONNECTIONS_PER_NODE_MAX: usize = 4;

/// The connections on which other servers send, by who they say they are.
#[derive(Default)]
pub(super) struct Callers {
    by_id: BTreeMap<NodeId, Vec<Caller>>,
    last_serial: u64,
}

/// What a connection is one of: when it is made anew, the one before it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Purpose {
    /// The data folder of the server that dials.
    pub(super) incarnation: Incarnation,
    /// It looked for this very server, not for any.
    pub(super) is_directed: bool,
}

struct Caller {
    serial: u64,
    purpose: Purpose,
    /// Dropped when the connection is to end.
    _keep: oneshot::Sender<()>,
}

/// One of the connections: its number, and what resolves when it is to end.
pub(super) struct Call {
    pub(super) serial: u64,
    pub(super) is_over: oneshot::Receiver<()>,
}

impl Callers {
    /// A server has dialled.
    pub(super) fn add(&mut self, id: NodeId, purpose: Purpose) -> Call {
        self.last_serial += 1;
        let (keep, is_over) = oneshot::channel();
        let callers = self.by_id.entry(id).or_default();
        callers.retain(|caller| caller.purpose != purpose);
        if callers.len() >= CONNECTIONS_PER_NODE_MAX {
            callers.remove(0);
        }
        callers.push(Caller { serial: self.last_serial, purpose, _keep: keep });
        Call { serial: self.last_serial, is_over }
    }

    /// This connection has ended; says whether the server has no other.
    pub(super) fn remove(&mut self, id: NodeId, serial: u64) -> bool {
        let Some(callers) = self.by_id.get_mut(&id) else { return true };
        callers.retain(|caller| caller.serial != serial);
        let is_gone = callers.is_empty();
        if is_gone {
            self.by_id.remove(&id);
        }
        is_gone
    }

    /// Who dials.
    pub(super) fn ids(&self) -> BTreeSet<NodeId> {
        self.by_id.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;

    fn purpose(incarnation: u64, is_directed: bool) -> Purpose {
        Purpose { incarnation: Incarnation(incarnation), is_directed }
    }

    fn is_over(call: &mut Call) -> bool {
        call.is_over.try_recv() == Err(TryRecvError::Closed)
    }

    #[test]
    fn a_connection_ends_when_the_same_server_dials_anew() {
        let (one, mut callers) = (NodeId::new(1).unwrap(), Callers::default());
        let mut first = callers.add(one, purpose(7, true));
        // Nor another folder under its number, nor its own search for a cluster, are its connection.
        let mut impostor = callers.add(one, purpose(8, true));
        let mut search = callers.add(one, purpose(7, false));
        assert!(!is_over(&mut first));
        let mut second = callers.add(one, purpose(7, true));
        assert!(is_over(&mut first) && !is_over(&mut impostor) && !is_over(&mut search));
        assert!(!callers.remove(one, first.serial));
        assert!(!is_over(&mut second));
        for call in [&impostor, &search] {
            assert!(!callers.remove(one, call.serial));
        }
        assert_eq!(callers.ids().len(), 1);
        assert!(callers.remove(one, second.serial));
        assert!(callers.ids().is_empty());
    }

    #[test]
    fn one_number_has_a_few_connections_at_most() {
        let (one, mut callers) = (NodeId::new(1).unwrap(), Callers::default());
        let mut calls: Vec<Call> = (0..10).map(|folder| callers.add(one, purpose(folder, true))).collect();
        let open = calls.iter_mut().filter_map(|call| (!is_over(call)).then_some(call.serial));
        assert_eq!(open.collect::<Vec<_>>(), [7, 8, 9, 10]);
    }
}
