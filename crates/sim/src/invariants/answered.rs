//! Every request is answered, if its connection lasts and its server runs: with its outcome, or with the word that the
//! outcome is not known (`docs/semantics.md`, the classes of errors). Time is counted as the server counts it, in ticks
//! of its own timer, so that one that stands still owes nothing meanwhile.

use super::{Violation, violation};
use crate::host::Accepted;
use crate::network::HostIndex;

/// Ticks within which a request is answered. The server's own limit is 5 s; a read that has waited for as long may be
/// taken along by a write that comes behind it on its connection, and then waits with that for 5 s more.
const TICKS_MAX: u64 = 1_050;

/// # Errors
/// If somebody has waited for too long.
pub fn check(host: HostIndex, ticks: u64, connection: u64, accepted: &Accepted) -> Result<(), Violation> {
    let Some(asked_tick) = accepted.asked_ticks.front() else { return Ok(()) };
    let waited = ticks - asked_tick;
    if waited <= TICKS_MAX {
        return Ok(());
    }
    let tag = accepted.answered + 1;
    let story =
        format!("n{} has not answered #{tag} of connection {connection} for {waited} ticks", host + 1);
    violation("every request is answered", story)
}
