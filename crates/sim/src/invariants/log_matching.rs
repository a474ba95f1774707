//! Log matching: if two logs contain an entry with the same index and term, then the logs are identical in all
//! entries up through the given index (Raft paper, figure 3 and §5.3; thesis, figure 3.2 and §3.5).

use std::collections::BTreeMap;

use quorate_raft::{Entry, Position};

use super::{Violation, violation};
use crate::ledger::{Chain, LogModel};
use crate::network::HostIndex;

/// The one prefix that each position ever written names.
#[derive(Debug, Default)]
pub struct LogMatching {
    prefixes: BTreeMap<Position, (Chain, HostIndex)>,
}

impl LogMatching {
    /// A server wrote these entries; its log is this now.
    ///
    /// # Errors
    /// If another server wrote one of these positions after another prefix or with another content.
    pub fn wrote(&mut self, host: HostIndex, entries: &[Entry], log: &LogModel) -> Result<(), Violation> {
        for entry in entries {
            let chain = log.chain_at(entry.position.index).unwrap_or_default();
            let (first, by) = *self.prefixes.entry(entry.position).or_insert((chain, host));
            if first != chain {
                let story = format!(
                    "n{} and n{} both hold {} after different logs, or with different content",
                    by + 1,
                    host + 1,
                    entry.position,
                );
                return violation("log matching", story);
            }
        }
        Ok(())
    }
}
