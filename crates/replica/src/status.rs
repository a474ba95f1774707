//! What `INFO`, `ROLE` and `status` show of a replica.

use std::collections::BTreeSet;

use quorate_raft::{NodeId, Role, Term};
use quorate_storage::{Identity, Incarnation};

use crate::checks::{Agreement, CheckStatus};
use crate::member::Member;
use crate::memory::Memory;
use crate::replica::Standing;
use crate::versions::Greeted;
use crate::wire::DiskRoom;

/// What came of snapshots since the process began, and what is under way.
#[derive(Clone, Debug, Default)]
pub struct SnapshotStatus {
    /// The replicated time of the state in the newest one, in milliseconds since 1970; 0 if there is none.
    pub time_ms: u64,
    /// Bytes of applied entries that no snapshot stands for.
    pub log_bytes: u64,
    /// The index of the one that is being taken.
    pub taking: Option<u64>,
    /// The index of the one that is being received, and how many of its bytes are here.
    pub receiving: Option<(u64, u64)>,
    /// Taken here.
    pub taken: u64,
    /// Received from another server and put in the place of the state.
    pub installed: u64,
    /// Neither could be finished.
    pub failed: u64,
    /// Why the last one failed; empty where it did not.
    pub failure: String,
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
    /// The index that a snapshot stands for; 0 if there is none.
    pub snapshot: u64,
    /// More about snapshots.
    pub snapshots: SnapshotStatus,
    /// What the comparisons with the other servers' states say of this one's.
    pub agreement: Agreement,
    /// What the newest of them came to.
    pub checks: CheckStatus,
    /// Who votes.
    pub members: BTreeSet<NodeId>,
    /// Keys held.
    pub keys: u64,
    /// What the state costs.
    pub memory: Memory,
    /// What it may cost while this server leads, in bytes; 0 for no limit.
    pub memory_bytes_max: u64,
    /// The disk of this server, once it takes part.
    pub disk: Option<DiskRoom>,
    /// Bytes of entries that wait for room on it.
    pub disk_held_bytes: u64,
    /// Bytes of the log's entries that are held in memory.
    pub log_memory_bytes: u64,
    /// Backups under way.
    pub backups: u64,
    /// Client sessions open.
    pub sessions: u64,
    /// Commands of the gateway that are not resolved.
    pub gateway_waiting: u64,
    /// Replicated time, in milliseconds since 1970.
    pub time_ms: u64,
    /// Order-independent digest of the whole state, at `applied`.
    pub digest: u64,
    /// Likewise of keys and values alone: of a restored cluster, the same as in the backup.
    pub data_digest: u64,
    /// The programs of the other servers, as far as they have greeted since the process began, ascending by id.
    pub programs: Vec<Greeted>,
    /// The newest level that all members can act at, once all their programs are known ([`crate::versions`]).
    pub level: Option<u16>,
    /// Messages of peers that were dropped because they broke the protocol or named another cluster.
    pub dropped_messages: u64,
}

impl Status {
    /// Of a server that has not read its data folder yet: it knows who it is, and nothing else.
    pub fn loading(id: NodeId) -> Self {
        let identity = Identity::new(id, Incarnation(0));
        Self::new(&identity, Standing::Founding { missing: Vec::new(), conflict: None }, None, 0)
    }

    pub(crate) fn new(
        identity: &Identity,
        standing: Standing,
        member: Option<&Member>,
        dropped_messages: u64,
    ) -> Self {
        let node = member.map(Member::node);
        let machine = member.map(Member::machine);
        Self {
            id: identity.node,
            cluster: identity.cluster().map(|cluster| cluster.to_string()),
            incarnation: identity.incarnation,
            standing,
            role: node.map_or(Role::Follower, quorate_raft::Node::role),
            term: node.map_or(Term::ZERO, quorate_raft::Node::term),
            leader: node.and_then(quorate_raft::Node::leader),
            commit: node.map_or(0, |node| node.commit().0),
            applied: machine.map_or(0, |machine| machine.applied().0),
            last: node.map_or(0, |node| node.last().index.0),
            snapshot: node.map_or(0, |node| node.snapshot().index.0),
            snapshots: member.map_or_else(SnapshotStatus::default, Member::snapshots),
            agreement: member.map_or(Agreement::Sound, |member| member.agreement().clone()),
            checks: member.map_or_else(CheckStatus::default, Member::check_status),
            members: node.map_or_else(BTreeSet::new, |node| node.voters().clone()),
            keys: machine.map_or(0, |machine| machine.shards().keys()),
            memory: machine.map_or_else(Memory::default, crate::machine::Machine::memory),
            disk: member.map(|member| member.disk().clone()),
            disk_held_bytes: member.map_or(0, Member::disk_held_bytes),
            memory_bytes_max: member.map_or(0, Member::memory_bytes_max),
            log_memory_bytes: node.map_or(0, |node| node.log_bytes() as u64),
            backups: member.map_or(0, |member| member.backup_count() as u64),
            sessions: machine.map_or(0, |machine| machine.sessions().clients()),
            gateway_waiting: member.map_or(0, |member| member.waiting() as u64),
            time_ms: machine.map_or(0, crate::machine::Machine::now_ms),
            digest: machine.map_or(0, crate::machine::Machine::digest),
            data_digest: machine.map_or(0, |machine| machine.shards().digest()),
            programs: Vec::new(),
            level: None,
            dropped_messages,
        }
    }
}
