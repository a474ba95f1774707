//! Exhaustive search: three real `quorate_raft::Node`s, and **every** order in which timeouts, messages, syncs,
//! crashes and proposals can happen within bounds. Where `world` draws one run of millions, this takes them all,
//! as far as it goes. Knows no time, no gateway, no state machine: it is about elections and replication alone.
//!
//! # What can happen
//!
//! A node's election timer runs out; a leader's heartbeat timer ticks; any message in flight arrives (messages are
//! never in order; one that is lost is one that never arrives; one that is doubled arrives and stays in flight); the
//! oldest write of a node is synced; a node crashes and starts again from what was synced (what is lost with it is
//! all that was not: a write that was synced but not reported is the same as one whose promises are never
//! delivered); the leader takes a proposal, or a read; a node takes a snapshot, durable at once, of all it has applied,
//! and its log forgets it; a snapshot that a node was told to fetch arrives, or never does.
//!
//! # What makes it finite
//!
//! - [`Bounds`]: terms, crashes, proposals, heartbeats, doubled messages, reads, compactions.
//! - Equal messages in flight are one.
//! - Election timeouts are no draw; the moment at which one ends is what the search decides. A leader's memory of
//!   when it heard from whom counts up to where it decides nothing any more ([`quorate_raft::Node::canonical`]).
//! - Nodes have no rank: worlds that are equal up to the names of their nodes are one. Nothing in a `Node` depends
//!   on the order of ids but the order of messages in one step, and messages have no order here.
//! - A message that its receiver, whatever happens to it, will drop without a word is no longer in flight.
//! - With [`Bounds::granted_pre_votes`] who asks for pre-votes may get them at any time, from nobody: more than can
//!   really happen, since a pre-vote changes nothing at who is asked. So it hides no violation.
//!
//! # What is judged, after every event
//!
//! The five properties of the paper's figure 3, in `judge`; that a confirmed read does not miss what was committed
//! when it was asked; that no correct node sends what another must take for broken; and the nodes' own assertions.

mod catalog;
mod judge;
mod local;
mod search;

use std::fmt;

/// How far the search goes.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// The highest term that anybody campaigns in.
    pub terms: u64,
    /// Crashes, of all nodes together.
    pub crashes: u8,
    /// Proposals that leaders take.
    pub proposals: u8,
    /// Heartbeat ticks of leaders.
    pub heartbeats: u8,
    /// Messages that arrive and stay in flight.
    pub duplicates: u8,
    /// Reads that leaders take.
    pub reads: u8,
    /// Snapshots that are taken, of all nodes together.
    pub compactions: u8,
    /// Messages in flight; worlds with more are counted, and not searched. With a bound, messages can be lost.
    pub in_flight: usize,
    /// Writes of a node that wait for their sync; with more, the oldest are synced at once.
    pub writes_waiting: usize,
    /// Pre-votes are given by nobody, at any time.
    pub granted_pre_votes: bool,
    /// The search ends unfinished after as many states.
    pub states_max: usize,
}

impl Bounds {
    /// Two terms, syncs at once, and nothing else: what a search is about is added to it.
    pub const CALM: Self = Self {
        terms: 2,
        crashes: 0,
        proposals: 0,
        heartbeats: 0,
        duplicates: 0,
        reads: 0,
        compactions: 0,
        in_flight: usize::MAX,
        writes_waiting: 0,
        granted_pre_votes: true,
        states_max: 1_000_000,
    };
}

/// Bounds that are too wide for every run of the tests; minutes each, and up to half a gigabyte.
pub fn by_hand() -> [Bounds; 6] {
    let calm = Bounds { states_max: 40_000_000, ..Bounds::CALM };
    [
        Bounds { heartbeats: 1, ..calm.clone() },
        Bounds { crashes: 1, proposals: 1, ..calm.clone() },
        Bounds { crashes: 1, writes_waiting: 1, ..calm.clone() },
        Bounds { compactions: 1, crashes: 1, ..calm.clone() },
        Bounds { compactions: 1, writes_waiting: 1, ..calm.clone() },
        Bounds { terms: 3, ..calm },
    ]
}

/// A carrier of the node that breaks its contract on purpose, to see that the search can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// A crash forgets the vote, not the term.
    ForgetsVote,
    /// A crash forgets the synced log.
    ForgetsLog,
    /// A crash forgets the snapshot and all of a log that goes on behind it.
    ForgetsSnapshot,
    /// What should leave after the sync leaves before it.
    AnswersBeforeSync,
    /// The node is told that a write is synced when it is only queued.
    ReportsBeforeSync,
}

/// A property that does not hold, and the shortest way to see it.
#[derive(Clone, Debug)]
pub struct Violation {
    /// What is wrong.
    pub claim: String,
    /// One line an event, from the start; no other order of fewer events shows it.
    pub trace: Vec<String>,
}

/// What a search has seen.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Different states of the whole, up to the names of the nodes.
    pub states: usize,
    /// Events tried.
    pub transitions: u64,
    /// Events from the start to the farthest state.
    pub depth: usize,
    /// Different states of one node, its disk and its queue of writes.
    pub node_states: usize,
    /// Different messages.
    pub messages: usize,
    /// Worlds not searched because of [`Bounds::in_flight`], or because somebody entered a later term than
    /// [`Bounds::terms`].
    pub cut: usize,
    /// The highest term that had a leader.
    pub terms_led: u64,
    /// The longest committed log.
    pub committed: usize,
    /// Reads confirmed.
    pub reads_confirmed: u64,
    /// Snapshots of others installed.
    pub installed: u64,
    /// Whether all states within the bounds were seen.
    pub is_complete: bool,
    /// The first violation; the search ends with it.
    pub violation: Option<Violation>,
}

/// Searches all states within `bounds`.
pub fn run(bounds: &Bounds) -> Report {
    search::search(bounds, None)
}

/// The same over a broken carrier.
pub fn run_sabotaged(bounds: &Bounds, sabotage: Sabotage) -> Report {
    search::search(bounds, Some(sabotage))
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { terms, crashes, proposals, heartbeats, duplicates, reads, compactions, in_flight, .. } =
            self;
        write!(
            f,
            "3 nodes, terms ≤ {terms}, {crashes} crashes, {proposals} proposals, {heartbeats} heartbeats, "
        )?;
        write!(f, "{duplicates} duplicates, {reads} reads, {compactions} compactions, ")?;
        if *in_flight < usize::MAX {
            write!(f, "{in_flight} messages in flight, ")?;
        }
        if self.writes_waiting < usize::MAX {
            write!(f, "{} writes waiting, ", self.writes_waiting)?;
        }
        f.write_str(if self.granted_pre_votes { "pre-votes granted" } else { "pre-votes asked" })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { states, transitions, depth, node_states, messages, terms_led, committed, .. } = self;
        let extent = if self.is_complete { "all" } else { "not all" };
        writeln!(
            f,
            "{states} states ({extent} within the bounds), {transitions} events tried, depth {depth}"
        )?;
        write!(f, "{node_states} states of one node, {messages} messages, terms led up to {terms_led}, ")?;
        write!(f, "up to {committed} entries committed, {} reads confirmed, ", self.reads_confirmed)?;
        write!(f, "{} snapshots installed", self.installed)?;
        if self.cut > 0 {
            write!(f, ", {} ways cut at the bounds", self.cut)?;
        }
        if let Some(Violation { claim, trace }) = &self.violation {
            write!(f, "\nVIOLATION after {} events: {claim}", trace.len())?;
            for line in trace {
                write!(f, "\n  {line}")?;
            }
        }
        Ok(())
    }
}
