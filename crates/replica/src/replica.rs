//! The server without its shell: [`Replica::step`] takes what has happened and says what is owed for it.
//! Knows no socket, no clock, no thread, no file.

use std::collections::BTreeSet;

use quorate_raft::{Entry, HardState, NodeId, Restored, Role, Term, WriteId};
use quorate_storage::{Identity, Incarnation};

use crate::command::{Operation, Reply};
use crate::wire::PeerEnvelope;

/// A client's connection, as its server numbers it. Never used twice in a process's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// One request of a connection. Requests of one connection are stepped in the order they were sent.
#[derive(Clone, Debug)]
pub struct Request {
    /// Whose.
    pub connection: ConnectionId,
    /// Given back with the answer; answers of one connection may come in another order than the requests, and
    /// the connection puts them back in order.
    pub tag: u64,
    /// What.
    pub operation: Operation,
}

/// The answer to the request of this connection and tag: exactly one each, unless the connection is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whose.
    pub connection: ConnectionId,
    /// Which request.
    pub tag: u64,
    /// What to say.
    pub reply: Reply,
}

/// Everything that can happen to a replica.
#[derive(Debug)]
pub enum Event {
    /// The shell's timer, every [`TICK_MS`] milliseconds.
    Tick,
    /// A client asks. Offer no more while [`Replica::has_room`] says no.
    Request(Request),
    /// A client is gone: its answers have no taker any more. What it asked may still take effect.
    Disconnected(ConnectionId),
    /// Another server says something; decoded from the wire, not yet trusted.
    Peer(PeerEnvelope),
    /// The way to this server works again: what was sent before may be lost.
    LinkUp(NodeId),
    /// The write of this number, and all before it, are synced.
    Persisted(WriteId),
    /// The identity of [`Actions::store_identity`] is synced.
    IdentityStored,
}

/// What the shell owes after one [`Replica::step`].
///
/// `send` and `persist` may be carried out side by side; answers leave at any time. Order within each field
/// is kept.
#[must_use = "dropping actions loses votes, acknowledgements and answers"]
#[derive(Debug, Default)]
pub struct Actions {
    /// Send these now; each may be lost.
    pub send: Vec<PeerEnvelope>,
    /// Queue these behind all writes before them.
    pub persist: Vec<DiskWrite>,
    /// Store this identity, synced, then step [`Event::IdentityStored`].
    pub store_identity: Option<Identity>,
    /// Tell clients.
    pub answers: Vec<Answer>,
    /// Say these to the operator.
    pub notices: Vec<Notice>,
    /// Our own bookkeeping is broken, with a sentence that says how: stop the process.
    pub halt: Option<String>,
}

/// One numbered write to the log; writes complete in order.
#[derive(Debug)]
pub struct DiskWrite {
    /// Its number, for [`Event::Persisted`].
    pub write: WriteId,
    /// Term and vote, where they changed.
    pub hard_state: Option<HardState>,
    /// Entries; the first may truncate what is on the disk.
    pub entries: Vec<Entry>,
    /// Send these once this write is synced, never before.
    pub send_after: Vec<PeerEnvelope>,
}

/// What an operator should read in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// As it should be.
    Info(String),
    /// Someone should look.
    Warn(String),
}

/// Milliseconds between two [`Event::Tick`]s.
pub const TICK_MS: u64 = 10;

/// What a replica starts from, besides what its disk holds.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who this is.
    pub id: NodeId,
    /// All founding members, this one among them.
    pub members: BTreeSet<NodeId>,
    /// The number drawn at this process start: names the gateway and its reads.
    pub start: u64,
    /// Seeds election timeouts and the hash of the shards.
    pub seed: u64,
    /// Milliseconds a request waits for a leader before `CLUSTERDOWN`.
    pub election_hold_ms: u64,
    /// Milliseconds after which the outcome of a request that was sent is given up as `INDOUBT`.
    pub request_timeout_ms: u64,
    /// Consensus times and bounds.
    pub raft: quorate_raft::Limits,
}

/// Whether this server takes part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Waits for the founding members named.
    Founding {
        /// Whom it has not heard from.
        missing: Vec<NodeId>,
    },
    /// Votes and serves.
    Member,
    /// The others know this id under another incarnation: it votes for nothing and acknowledges nothing.
    Refused {
        /// What happened and what to do.
        why: String,
    },
}

/// A look at a replica, for `INFO`, `ROLE` and `status`.
#[derive(Clone, Debug)]
pub struct Status {
    /// Who this is.
    pub id: NodeId,
    /// The cluster, once it is founded, in hexadecimal.
    pub cluster: Option<String>,
    /// The data folder's incarnation.
    pub incarnation: Incarnation,
    /// Whether it takes part.
    pub standing: Standing,
    /// Its role.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// Who leads, as far as it knows.
    pub leader: Option<NodeId>,
    /// The commit index.
    pub commit: u64,
    /// The applied index.
    pub applied: u64,
    /// The index of the last entry.
    pub last: u64,
    /// The index that a snapshot covers; 0 until snapshots exist.
    pub snapshot: u64,
    /// Who votes.
    pub members: BTreeSet<NodeId>,
    /// Keys held.
    pub keys: u64,
    /// Bytes of keys and values.
    pub data_bytes: u64,
    /// Client sessions open.
    pub sessions: u64,
    /// Commands of the gateway that are not resolved.
    pub gateway_waiting: u64,
    /// Replicated time, in milliseconds since 1970.
    pub time_ms: u64,
    /// Order-independent digest of the whole state, at `applied`.
    pub digest: u128,
    /// Messages of peers that were dropped because they broke the protocol or named another cluster.
    pub dropped_messages: u64,
}
