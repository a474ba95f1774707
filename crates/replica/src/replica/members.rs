//! What `MEMBERS` should know besides the log: the programs and the addresses of the others. Knows nothing of what is
//! made of it.

use super::{Replica, Request};
use crate::command::Operation;
use crate::members::Neighbour;

impl Replica {
    /// Adds what this server knows to what its shell does.
    pub(super) fn inform_members(&self, request: &mut Request) {
        let Operation::Members(call) = &mut request.operation else { return };
        for (id, neighbour) in &mut call.neighbours {
            let Some(greeted) = self.program(*id) else { continue };
            let Neighbour { dialled, version, .. } = neighbour;
            version.clone_from(&greeted.program);
            // What it says of itself holds for others too; where this server dials it may be this server's own matter.
            if !greeted.address.is_empty() {
                dialled.clone_from(&greeted.address);
            }
        }
    }
}

#[cfg(feature = "sabotage")]
impl Replica {
    /// Asks consensus for something behind everybody's back: a change of the members that no command would make, so that
    /// arbitrary ones are tried.
    pub fn ask_consensus(
        &mut self,
        input: quorate_raft::Input,
    ) -> (Option<Result<quorate_raft::Position, quorate_raft::Refusal>>, super::Actions) {
        let mut proposed = None;
        self.with_member(|member, out| proposed = member.step(input, out));
        self.with_member(crate::member::Member::flush);
        self.tell_routes();
        (proposed, std::mem::take(&mut self.outbox.actions))
    }
}
