//! Leadership is steady: where no server stops, stands still or is cut off, whoever leads goes on leading. No sync is a reason
//! for an election, however long it takes, and neither is one link that breaks (`docs/architecture.md`). It is checked in runs
//! that hold no better reason.

use quorate_raft::{Role, Term};

use super::{View, Violation, violation};
use crate::options::{FaultOptions, Options};
use crate::schedule::{MS, Micros, SECOND};

/// From then on a new leader has nothing to fear from what went before it.
const SETTLED_AFTER: Micros = 2 * SECOND;
/// A step that waits longer for its processor is a reason.
const WAKE_MAX: Micros = 5 * MS;
/// And so is a message that is longer on the way.
const DELAY_MAX: Micros = 20 * MS;
/// Links that break are not, as long as there is so much time between two on average: both of a leader's in the same instant
/// are.
const RESETS_APART: Micros = 4 * SECOND;

/// Who leads, and since when.
#[derive(Debug, Default)]
pub struct Steady {
    is_watched: bool,
    since: Option<(Term, Micros)>,
}

impl Steady {
    /// Watches runs of these options, if nothing in them is a reason.
    pub fn of(options: &Options) -> Self {
        Self { is_watched: has_no_reason(options), since: None }
    }

    /// There is a reason: from now on anybody may be elected.
    pub fn disturbed(&mut self) {
        self.is_watched = false;
    }

    /// A server has taken a step.
    ///
    /// # Errors
    /// If it is in a later term than a leader that has settled.
    pub fn stepped(&mut self, view: View, now: Micros) -> Result<(), Violation> {
        if !self.is_watched {
            return Ok(());
        }
        match self.since {
            Some((term, since)) if view.term > term && now - since > SETTLED_AFTER => violation(
                "steady leader",
                format!("{view}, and nothing was wrong with the leader of term {term}"),
            ),
            Some((term, _)) if view.term <= term => Ok(()),
            Some(_) | None => {
                if view.role == Role::Leader {
                    self.since = Some((view.term, now));
                }
                Ok(())
            }
        }
    }
}

fn has_no_reason(options: &Options) -> bool {
    let Options { network, host, faults, .. } = options;
    let is_fast = network.delay_max <= DELAY_MAX && network.tail == 0.0 && host.wake_max <= WAKE_MAX;
    let is_whole = network.loss == 0.0 && network.corruption == 0.0 && host.crash_at_effect == 0.0;
    let harmless = FaultOptions {
        // What these do is no reason.
        slow_disk: faults.slow_disk,
        clock_jump: faults.clock_jump,
        link_reset: faults.link_reset.filter(|every| *every >= RESETS_APART),
        // And these are no faults.
        clock_jump_ms: faults.clock_jump_ms,
        lasts_min: faults.lasts_min,
        lasts_max: faults.lasts_max,
        odd_cuts: faults.odd_cuts,
        crash_again: faults.crash_again,
        clients_first: faults.clients_first,
        flags: faults.flags.clone(),
        ..FaultOptions::default()
    };
    is_fast && is_whole && *faults == harmless && faults.flags.election_ticks.is_none()
}

#[cfg(test)]
mod tests {
    use quorate_raft::Index;

    use super::*;
    use crate::prng::Prng;

    fn view(term: u64, role: Role) -> View {
        let (commit, applied, last) = (Index::ZERO, Index::ZERO, Index::ZERO);
        View { host: 0, role, term: Term(term), commit, applied, last, digest: 0 }
    }

    fn calm() -> Options {
        Options::swarm(&mut Prng::new(1)).without_faults()
    }

    #[test]
    fn a_later_term_is_wrong_once_a_leader_has_settled() {
        let mut steady = Steady::of(&calm());
        assert!(steady.is_watched);
        steady.stepped(view(3, Role::Candidate), 0).unwrap();
        steady.stepped(view(3, Role::Leader), SECOND).unwrap();
        steady.stepped(view(4, Role::Candidate), 2 * SECOND).unwrap();
        steady.stepped(view(4, Role::Leader), 2 * SECOND).unwrap();
        steady.stepped(view(3, Role::Follower), 9 * SECOND).unwrap();
        steady.stepped(view(4, Role::Follower), 9 * SECOND).unwrap();
        steady.stepped(view(5, Role::Candidate), 9 * SECOND).unwrap_err();
        steady.disturbed();
        steady.stepped(view(5, Role::Candidate), 9 * SECOND).unwrap();
    }

    #[test]
    fn a_run_that_holds_a_reason_is_not_watched() {
        let mut options = calm();
        options.faults.slow_disk = Some(SECOND);
        options.faults.link_reset = Some(RESETS_APART);
        options.host.slow_sync = 0.5;
        assert!(Steady::of(&options).is_watched);
        options.faults.pause = Some(SECOND);
        assert!(!Steady::of(&options).is_watched);
        let mut options = calm();
        options.faults.link_reset = Some(SECOND);
        assert!(!Steady::of(&options).is_watched);
        let mut options = calm();
        options.network.loss = 0.1;
        let mut steady = Steady::of(&options);
        steady.stepped(view(1, Role::Leader), 0).unwrap();
        steady.stepped(view(2, Role::Leader), 9 * SECOND).unwrap();
    }
}
