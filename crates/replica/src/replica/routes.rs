//! Whom this server must reach, told to the shell whenever it changes. Knows nothing of links.

use std::collections::BTreeMap;

use quorate_raft::NodeId;

use super::Replica;
use crate::versions::Greeted;

impl Replica {
    /// Tells the shell who the other members are, if that is news. Until this server takes part it knows nobody but those
    /// whom the shell was told to dial.
    pub(super) fn tell_routes(&mut self) {
        let Some(node) = self.raft() else { return };
        let members = node.voters().iter().filter(|id| **id != self.config.id);
        if self.routes.as_ref().is_some_and(|told| told.keys().eq(members.clone())) {
            return;
        }
        let routes: BTreeMap<NodeId, Box<str>> = members.map(|id| (*id, Box::default())).collect();
        self.routes = Some(routes.clone());
        self.outbox.actions.routes = Some(routes);
    }

    /// What is known of another server's program.
    pub fn program(&self, node: NodeId) -> Option<&Greeted> {
        self.programs.of(node)
    }

    /// The newest level that all members can act at, as far as this server knows their programs.
    pub fn level(&self) -> u16 {
        let others = self.routes.iter().flat_map(|routes| routes.keys().copied());
        self.programs.level(others)
    }
}
