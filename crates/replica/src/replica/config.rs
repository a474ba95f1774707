//! What a replica is told at its start, and the defaults. Knows nothing of what is done with it.

use std::collections::BTreeSet;

use quorate_raft::{ENTRY_OVERHEAD_BYTES, NodeId};

use crate::checks::CHECK_INTERVAL_MS;
use crate::entry::StateLimits;
use crate::gateway::RUN_BYTES_MAX;
use quorate_storage::Incarnation;

use crate::transfer::{SNAPSHOT_BYTES_PER_SECOND, SNAPSHOT_CHUNK_BYTES_MAX};

/// What a replica starts from, besides what its disk holds.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who this is.
    pub id: NodeId,
    /// All founding members, this one among them; not heeded where it joins.
    pub members: BTreeSet<NodeId>,
    /// A folder that belongs to no cluster yet founds none: it waits until a running one takes it in.
    pub joins: bool,
    /// Where the other servers find this one, as text; empty where that is not known.
    pub address: Box<str>,
    /// Drawn at this process start: what the folder becomes where it is to begin anew.
    pub fresh_incarnation: Incarnation,
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
    /// What this server writes into the founding entry, if it is the one that does.
    pub founding_limits: StateLimits,
    /// Bytes that the state may grow to while this server leads, as [`crate::Memory`] counts them; 0 for no limit.
    pub memory_bytes_max: u64,
    /// Bytes that must be free on the disk, or nothing may make the state grow while this server leads or is needed.
    pub disk_reserve_bytes: u64,
    /// The data folder, as clients are told of it where it has no room.
    pub folder: Box<str>,
    /// Bytes of entries after which a snapshot is taken.
    pub log_bytes_max: u64,
    /// Bytes of entries behind a snapshot that are kept for followers that are a little behind.
    pub log_tail_bytes: u64,
    /// Bytes of applied entries that stay in memory for them, if that is more.
    pub log_memory_bytes: u64,
    /// And this part of what the state costs, if that is more still: who needs what is gone is sent all of the state.
    pub log_memory_part: u64,
    /// Milliseconds between two comparisons of the servers' states.
    pub check_interval_ms: u64,
    /// Bytes of a snapshot that are sent to another server in one message, at most [`SNAPSHOT_CHUNK_BYTES_MAX`].
    pub snapshot_chunk_bytes: usize,
    /// Bytes of a snapshot that this server asks another for in a second, as long as that is enough to keep up with it.
    pub snapshot_bytes_per_second: u64,
}

/// Bytes of entries after which a snapshot is taken, unless configured.
pub const LOG_BYTES_MAX: u64 = 1 << 30;
/// Bytes of entries kept behind a snapshot, unless configured.
pub const LOG_TAIL_BYTES: u64 = 32 << 20;
/// Bytes of applied entries that stay in memory, unless the tail or the state's part is more.
pub const LOG_MEMORY_BYTES: u64 = 32 << 20;
/// An eighth of what the state costs stays in memory of the log, where that is more.
pub const LOG_MEMORY_PART: u64 = 8;

const _: () = assert!(LOG_TAIL_BYTES < LOG_BYTES_MAX);

/// Bytes of one proposal. One command of [`WRITE_BYTES_MAX`] fits with its heads.
const ENTRY_BYTES_MAX: usize = 12 << 20;
/// Bytes of one write as it stands in the log: the largest command of a client and some room.
pub const WRITE_BYTES_MAX: usize = 10 << 20;

const _: () = assert!(WRITE_BYTES_MAX + RUN_BYTES_MAX < ENTRY_BYTES_MAX);
const _: () = assert!(ENTRY_BYTES_MAX + ENTRY_OVERHEAD_BYTES < quorate_storage::ENTRY_BYTES_MAX);
const _: () = assert!(2 * ENTRY_BYTES_MAX < crate::wire::PEER_FRAME_BYTES_MAX);

impl Config {
    /// The defaults for this server in this cluster.
    pub fn new(id: NodeId, members: BTreeSet<NodeId>, start: u64, seed: u64) -> Self {
        Self {
            id,
            members,
            joins: false,
            fresh_incarnation: Incarnation(start ^ seed),
            address: Box::default(),
            start,
            seed,
            election_hold_ms: 3_000,
            request_timeout_ms: 5_000,
            raft: Self::default_limits(),
            founding_limits: StateLimits::default(),
            memory_bytes_max: 0,
            disk_reserve_bytes: 0,
            folder: "".into(),
            log_bytes_max: LOG_BYTES_MAX,
            log_tail_bytes: LOG_TAIL_BYTES,
            log_memory_bytes: LOG_MEMORY_BYTES,
            log_memory_part: LOG_MEMORY_PART,
            check_interval_ms: CHECK_INTERVAL_MS,
            snapshot_chunk_bytes: SNAPSHOT_CHUNK_BYTES_MAX,
            snapshot_bytes_per_second: SNAPSHOT_BYTES_PER_SECOND,
        }
    }

    /// Consensus times in ticks of [`super::TICK_MS`], and bounds.
    pub fn default_limits() -> quorate_raft::Limits {
        quorate_raft::Limits {
            heartbeat_ticks: 5,
            election_ticks_min: 25,
            election_ticks_max: 50,
            election_patience_max: 4,
            hurry_ticks_min: 6,
            hurry_ticks_max: 15,
            entry_bytes_max: ENTRY_BYTES_MAX,
            append_bytes_max: 1 << 20,
            inflight_bytes_max: 8 << 20,
            inflight_messages_max: 256,
            uncommitted_bytes_max: 64 << 20,
            // Of small commands so many take about two milliseconds.
            apply_bytes_max: 256 << 10,
            reads_waiting_max: 4_096,
            notice_ticks: 25,
            spares_followers: true,
        }
    }
}
