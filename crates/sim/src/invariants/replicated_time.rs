//! Replicated time is never ahead of what the clocks of a majority have shown (`docs/semantics.md`, *Sessions*): one
//! clock that is years ahead must not let everybody's sessions expire. It may lag; that costs patience alone.

use std::collections::BTreeSet;

use quorate_raft::{NodeId, majority};

use super::{Violation, violation};
use crate::host::{host_of, node_id};
use crate::network::HostIndex;

/// The latest time that each server's clock has shown it. Clocks jump back; what was shown once may have been told.
#[derive(Debug)]
pub struct ReplicatedTime {
    shown_ms: Vec<u64>,
    voters: BTreeSet<NodeId>,
}

impl ReplicatedTime {
    /// No clock has been looked at.
    pub fn new(hosts: usize) -> Self {
        Self { shown_ms: vec![0; hosts], voters: (0..hosts).map(node_id).collect() }
    }

    /// A server looks at its clock.
    pub fn shown(&mut self, host: HostIndex, now_ms: u64) {
        self.shown_ms[host] = self.shown_ms[host].max(now_ms);
    }

    /// This is replicated time by the committed log.
    ///
    /// # Errors
    /// If fewer than a majority of the clocks have come so far.
    pub fn stamped(&self, stamp_ms: u64) -> Result<(), Violation> {
        let reached_ms = majority(&self.voters, |id| self.shown_ms[host_of(id)]);
        if stamp_ms <= reached_ms {
            return Ok(());
        }
        let story = format!(
            "the log says {stamp_ms} ms, and a majority of the clocks has only reached {reached_ms} ms"
        );
        violation("replicated time", story)
    }
}
