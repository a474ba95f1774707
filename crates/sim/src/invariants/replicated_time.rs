//! Replicated time is never ahead of what the clocks of a majority have shown (`docs/semantics.md`, *Sessions*): one
//! clock that is years ahead must not let everybody's sessions expire. It may lag; that costs patience alone.

use quorate_raft::{joint_majority, majority};

use super::members::Members;
use super::{Violation, violation};
use crate::host::host_of;
use crate::network::HostIndex;

/// The latest time that each server's clock has shown it. Clocks jump back; what was shown once may have been told.
#[derive(Debug)]
pub struct ReplicatedTime {
    shown_ms: Vec<u64>,
    /// The latest replicated time that was found right.
    stamped_ms: u64,
}

impl ReplicatedTime {
    /// No clock has been looked at.
    pub fn new(hosts: usize) -> Self {
        Self { shown_ms: vec![0; hosts], stamped_ms: 0 }
    }

    /// A server looks at its clock.
    pub fn shown(&mut self, host: HostIndex, now_ms: u64) {
        self.shown_ms[host] = self.shown_ms[host].max(now_ms);
    }

    /// This is replicated time by the committed log.
    ///
    /// # Errors
    /// If no membership ever had a majority of clocks that have come so far. (Time goes on from where a membership before
    /// has brought it, whatever the clocks of those who came since.)
    pub fn stamped(&mut self, stamp_ms: u64, members: &Members) -> Result<(), Violation> {
        if stamp_ms <= self.stamped_ms {
            return Ok(());
        }
        let mut reached_ms = 0;
        for membership in members.written().iter().rev() {
            let clock = |id| self.shown_ms[host_of(id)];
            let reached = match membership.is_joint() {
                true => joint_majority(membership.voters(), membership.outgoing(), clock),
                false => majority(membership.voters(), clock),
            };
            reached_ms = reached_ms.max(reached);
            if stamp_ms <= reached_ms {
                self.stamped_ms = stamp_ms;
                return Ok(());
            }
        }
        let story = format!(
            "the log says {stamp_ms} ms, and a majority of the clocks has only reached {reached_ms} ms"
        );
        violation("replicated time", story)
    }
}
