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
