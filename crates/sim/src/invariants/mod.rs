//! What must hold after every event, one property a file. Only what an event has touched is looked at again.
//!
//! | file | property |
//! |---|---|
//! | `election_safety` | one leader a term (thesis, figure 3.2) |
//! | `log_matching` | one position names one entry and one prefix (thesis, figure 3.2) |
//! | `leader_completeness` | a leader holds all that was committed before its term (thesis, figure 3.2) |
//! | `committed` | what is committed never changes, and is on the disks of a majority (thesis §3.6) |
//! | `state_machine` | same index applied, same digest of the state (thesis, figure 3.2) |
//! | `false_alarm` | who finds its state diverged is right |
//! | `members` | quorums of successive memberships overlap; one change at a time; who acts by a membership has it from its snapshot and log; leadership goes to who holds the whole log (thesis §4, §3.10) |
//! | `monotonic` | commit, applied and term never fall in a process; term and vote never regress (thesis §3.8) |
//! | `promise` | no vote or acknowledgement leaves before what it promises is durable, and nobody speaks in a term that it could forget (thesis §3.8) |
//! | `recovery` | a disk gives back what was synced, and then a beginning of what was not (thesis §3.8) |
//! | `replicated_time` | never ahead of a majority's clocks |
//! | `amnesia` | nobody who has forgotten what it promised helps a majority, and nobody else is refused |
//! | `steady` | nobody is elected where nothing gives a reason: slow disks and a broken link are none |
//! | `answered` | every request is answered, if only with "unknown" |
//! | `exactly_once` | every token appended is there once at most, and once if it was acknowledged (thesis §6.3) |
//! | `connection_order` | commands of a connection take effect in the order sent, reads among them |

pub mod amnesia;
pub mod answered;
pub mod committed;
pub mod connection_order;
pub mod election_safety;
pub mod exactly_once;
pub mod false_alarm;
pub mod leader_completeness;
pub mod log_matching;
pub mod members;
pub mod monotonic;
pub mod promise;
pub mod replicated_time;
pub mod state_machine;
pub mod steady;

use std::fmt;

use quorate_raft::{Index, Membership, Node, Position, Restored, Role, Term, WriteId};
use quorate_replica::replica::DiskWrite;
use quorate_replica::wire::PeerEnvelope;

use crate::ledger::{Chain, Ledger};
use crate::network::HostIndex;

/// A property that did not hold. The run ends with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: &'static str,
    /// What was seen.
    pub story: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.story)
    }
}

/// A violation of `invariant`, in words.
pub(crate) fn violation(invariant: &'static str, story: String) -> Result<(), Violation> {
    Err(Violation { invariant, story })
}

/// What the checks see of a server after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Which server.
    pub host: HostIndex,
    /// Its role.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// Its commit index.
    pub commit: Index,
    /// The index its state machine has applied.
    pub applied: Index,
    /// The index of its last entry.
    pub last: Index,
    /// The digest of its state machine's state.
    pub digest: u64,
}

impl View {
    /// Of a server, from its consensus and its state machine.
    pub fn new(host: HostIndex, node: &Node, applied: Index, digest: u64) -> Self {
        Self {
            host,
            role: node.role(),
            term: node.term(),
            commit: node.commit(),
            applied,
            last: node.last().index,
            digest,
        }
    }
}

/// `n2@5 leader commit=9 applied=8`, as in the traces.
impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, role, term, commit, applied, last, digest: _ } = self;
        write!(f, "n{}@{term} {role} last={last} commit={commit} applied={applied}", host + 1)
    }
}

/// All properties that are checked while the run goes on.
#[derive(Debug)]
pub struct Invariants {
    /// What everybody has written.
    pub ledger: Ledger,
    election_safety: election_safety::ElectionSafety,
    log_matching: log_matching::LogMatching,
    /// Where each log ended before the step that its server takes.
    before: Vec<Position>,
    /// What is committed.
    pub committed: committed::Committed,
    leader_completeness: leader_completeness::LeaderCompleteness,
    /// Who belongs to the cluster.
    pub members: members::Members,
    /// What the committed log makes.
    pub state_machine: state_machine::StateMachineSafety,
    monotonic: monotonic::Monotonic,
    /// What clocks have shown.
    pub replicated_time: replicated_time::ReplicatedTime,
    /// Whether there may be elections.
    pub steady: steady::Steady,
}

impl Invariants {
    /// For a cluster of `hosts` servers that has done nothing yet.
    pub fn new(hosts: usize) -> Self {
        Self::founded_by(hosts, hosts)
    }

    /// The same, where the first `founders` of the servers found it, and the rest may come later.
    pub fn founded_by(founders: usize, hosts: usize) -> Self {
        Self {
            members: members::Members::new(founders),
            before: vec![Position::ZERO; hosts],
            ledger: Ledger::new(hosts),
            election_safety: election_safety::ElectionSafety::default(),
            log_matching: log_matching::LogMatching::default(),
            committed: committed::Committed::default(),
            leader_completeness: leader_completeness::LeaderCompleteness::new(hosts),
            state_machine: state_machine::StateMachineSafety::default(),
            monotonic: monotonic::Monotonic::new(hosts),
            replicated_time: replicated_time::ReplicatedTime::new(hosts),
            steady: steady::Steady::default(),
        }
    }

    /// A server takes a step: what it writes by it is told next, and what it sends.
    pub fn steps(&mut self, host: HostIndex) {
        self.before[host] = self.ledger.host(host).log.last();
    }

    /// A server hands a write to its disk.
    ///
    /// # Errors
    /// A property that does not hold.
    pub fn wrote(&mut self, host: HostIndex, write: &DiskWrite) -> Result<(), Violation> {
        let before = self.ledger.host(host).hard_state;
        let base = match write.reset_to.map(|position| (position, self.committed.chain_at(position.index))) {
            None => Chain::default(),
            Some((_, Some(chain))) => chain,
            Some((position, None)) => {
                let story = format!("n{} begins its log behind {position}, which is not committed", host + 1);
                return violation("log", story);
            }
        };
        if !self.ledger.wrote(host, write, base) {
            return violation("log", format!("n{} wrote entries that leave a gap in its log", host + 1));
        }
        monotonic::check_hard_state(host, before, self.ledger.host(host).hard_state)?;
        self.log_matching.wrote(host, &write.entries, &self.ledger.host(host).log)?;
        self.members.wrote(host, write, &self.ledger.host(host).log)
    }

    /// All writes up to this one that a server handed to its disk are synced.
    pub fn synced(&mut self, host: HostIndex, through: WriteId) {
        self.ledger.synced(host, through);
    }

    /// A server starts from what its disk gave back.
    ///
    /// # Errors
    /// A property that does not hold.
    pub fn restarted(&mut self, host: HostIndex, restored: &Restored) -> Result<(), Violation> {
        self.monotonic.restarted(host);
        self.leader_completeness.restarted(host);
        match self.ledger.restarted(host, restored, |index| self.committed.chain_at(index)) {
            Ok(()) => Ok(()),
            Err(story) => violation("recovery", format!("n{}: {story}", host + 1)),
        }
    }

    /// A message leaves a server.
    ///
    /// # Errors
    /// A property that does not hold.
    pub fn sends(&self, host: HostIndex, envelope: &PeerEnvelope) -> Result<(), Violation> {
        members::hands_over(host, envelope, &self.ledger, self.before[host])?;
        promise::check(host, self.ledger.host(host), envelope)
    }

    /// A server has taken a step; its writes were told by [`Self::wrote`] before. Its state is looked at apart, once
    /// what it committed is applied.
    ///
    /// # Errors
    /// A property that does not hold.
    pub fn stepped(&mut self, view: View) -> Result<(), Violation> {
        let log = &self.ledger.host(view.host).log;
        if log.last().index != view.last {
            return violation("log", format!("{view}: its writes end at {}", log.last()));
        }
        self.monotonic.stepped(view)?;
        self.election_safety.stepped(view)?;
        self.committed.stepped(view, &self.ledger, &self.members)?;
        let committed = self.committed.index();
        self.members.commit(log, view.commit);
        self.members.stepped(view, log, committed)?;
        self.leader_completeness.stepped(view, log, &self.committed)
    }

    /// A server acts by this membership, of the entry at `index`.
    ///
    /// # Errors
    /// If its snapshot and its log say another one.
    pub fn acts_by(&self, host: HostIndex, index: Index, membership: &Membership) -> Result<(), Violation> {
        self.members.acts_by(host, (index, membership), &self.ledger.host(host).log)
    }

    /// This is replicated time by the committed log.
    ///
    /// # Errors
    /// If it is ahead of the clocks.
    pub fn stamped(&mut self, stamp_ms: u64) -> Result<(), Violation> {
        self.replicated_time.stamped(stamp_ms, &self.members)
    }
}
