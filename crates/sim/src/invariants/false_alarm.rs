//! Replicas compare themselves, and who differs from a majority stops serving (`docs/architecture.md`). That costs a server,
//! so it must not happen to one whose state is what the log makes: not with reports that are lost, late, or of other
//! checks, and not after restarts, snapshots or changes of leader.

use quorate_replica::Agreement;

use super::{Violation, violation};
use crate::network::HostIndex;

/// A server has taken a step. Its own state, or that of any, may have been altered by the run.
///
/// # Errors
/// If it doubts its state without a reason.
pub fn check(
    host: HostIndex,
    agreement: Option<&Agreement>,
    is_altered: bool,
    any_altered: bool,
) -> Result<(), Violation> {
    let has_reason = match agreement {
        None | Some(Agreement::Sound) => true,
        Some(Agreement::Undecided { .. }) => any_altered,
        Some(Agreement::Diverged { .. }) => is_altered,
    };
    if has_reason {
        return Ok(());
    }
    violation("false alarm", format!("n{} is what the log makes of it, and says: {agreement:?}", host + 1))
}
