//! Whom this server must reach, told to the shell whenever it changes. Knows nothing of links.

use quorate_raft::NodeId;

use super::Replica;
use crate::seat::Seat;
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
        let address = |id| Seat::of(&membership, id).map(|seat| seat.address).unwrap_or_default();
        let others = membership.others(self.config.id).into_iter();
        self.outbox.actions.routes = Some(others.map(|id| (id, address(id))).collect());
        self.routes = Some(membership);
    }

    /// What is known of another server's program.
    pub fn program(&self, node: NodeId) -> Option<&Greeted> {
        self.programs.of(node)
    }

    /// The newest level that all members can act at, as far as this server knows their programs.
    pub fn level(&self) -> u16 {
        let others = self.routes.iter().flat_map(|membership| membership.others(self.config.id));
        self.programs.level(others)
    }
}
