//! What servers say to each other, and how it stands in bytes. Knows no socket.

use bytes::Bytes;
use quorate_raft::{Index, Message, NodeId};
use quorate_storage::{ClusterId, Incarnation};

/// The version of this layout; servers name it when they greet each other.
pub const PROTOCOL_VERSION: u16 = 1;

/// One message between servers, with who speaks to whom: every message names cluster and incarnation, so
/// that no server takes part in another's consensus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerEnvelope {
    /// The sender's cluster; `None` while it is not founded.
    pub cluster: Option<ClusterId>,
    /// The sender.
    pub from: NodeId,
    /// The addressee.
    pub to: NodeId,
    /// The incarnation of the sender's data folder.
    pub incarnation: Incarnation,
    /// What it says.
    pub message: PeerMessage,
}

/// The closed list of what servers say to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerMessage {
    /// Consensus.
    Raft(Message),
    /// Put these commands of my gateway into the log.
    Forward {
        /// The items of a log entry, as [`crate::entry`] lays them out.
        items: Bytes,
    },
    /// Confirm a read index for me.
    ReadIndex {
        /// The number the asker drew at its process start.
        start: u64,
        /// Counts its questions.
        counter: u64,
    },
    /// The answer to the `ReadIndex` of the same start and counter.
    ReadIndexReply {
        /// As asked.
        start: u64,
        /// As asked.
        counter: u64,
        /// Answer from a state that has applied this; `None`: this server does not lead.
        index: Option<Index>,
    },
    /// I am not founded; I have seen these founding members.
    Founding {
        /// Ids and incarnations, the sender's own among them, ascending by id.
        seen: Vec<(NodeId, Incarnation)>,
    },
    /// The cluster is founded, with these members.
    Founded {
        /// Ids and incarnations, ascending by id.
        members: Vec<(NodeId, Incarnation)>,
    },
    /// You are not who you say: the cluster knows your id under another incarnation.
    Refused {
        /// The incarnation that is refused.
        incarnation: Incarnation,
        /// The incarnation the cluster knows.
        known: Incarnation,
    },
}
