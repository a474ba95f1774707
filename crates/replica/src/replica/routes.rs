//! Whom this server must reach, told to the shell whenever it changes. Knows nothing of links.

use quorate_raft::NodeId;
use quorate_storage::Incarnation;

use super::Replica;
use crate::seat::{Seat, incarnation_of};
use crate::versions::Greeted;

impl Replica {
    /// Tells the shell who the other members are, if that is news. Until this server takes part it knows nobody but those
    /// whom the shell was told to dial.
    pub(super) fn tell_routes(&mut self) {
        let Some(node) = self.raft() else { return };
        // By what it says, not by its index: an entry may have been replaced by another one at the same index.
        if self.routes.as_ref() == Some(node.membership()) {
            return;
        }
        let membership = node.membership().clone();
        let nobody = || Seat { incarnation: Incarnation(0), address: Box::default() };
        let seat = |id| Seat::of(&membership, id).unwrap_or_else(nobody);
        let others = membership.others(self.config.id).into_iter();
        self.outbox.actions.routes = Some(others.map(|id| (id, seat(id))).collect());
        self.routes = Some(membership);
    }

    /// What is known of another server's program.
    pub fn program(&self, node: NodeId) -> Option<&Greeted> {
        self.programs.of(node)
    }

    /// The level at which the cluster acts: what is written to the log is of this level or an older one. `None` as long as
    /// this server does not know the programs of all members: then it writes what the oldest program can read.
    pub fn level(&self) -> Option<u16> {
        let membership = self.routes.as_ref()?;
        let others = membership.others(self.config.id).into_iter();
        self.programs.level(others.map(|id| (id, incarnation_of(membership, id))))
    }
}
