//! One simulated server: its disk, its clock, and while it lives, the process on it. Holds state only; what
//! happens to it is in `shell`, `disk` and `faults`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use quorate_raft::{Index, NodeId};
use quorate_replica::command::Reply;
use quorate_replica::disk_queue::DiskQueue;
use quorate_replica::keeper::Keeper;
use quorate_replica::replica::{DiskWrite, Event, Replica, Request};
use quorate_storage::{FolderLock, Identity, Incarnation, SimDisk, Starts, Wal};

use crate::ledger::HostLedger;
use crate::network::HostIndex;
use crate::schedule::Micros;

/// The node id of a server.
///
/// # Panics
/// Never: indexes count from 0, ids from 1.
pub fn node_id(host: HostIndex) -> NodeId {
    NodeId::new(host as u64 + 1).expect("one or more")
}

/// The server of a node id.
pub fn host_of(id: NodeId) -> HostIndex {
    id.get() as usize - 1
}

/// Milliseconds since 1970 at the start of a run, on a clock without an offset.
const EPOCH_MS: i64 = 1_700_000_000_000;

/// A wall clock that is wrong, runs wrong, and jumps.
#[derive(Clone, Copy, Debug, Default)]
pub struct WallClock {
    /// How far it is off.
    pub offset_ms: i64,
    /// How much it gains.
    pub drift_ppm: i64,
}

impl WallClock {
    /// What it shows.
    pub fn now_ms(&self, now: Micros) -> u64 {
        let ran = now as i64 / 1_000;
        (EPOCH_MS + self.offset_ms + ran + ran * self.drift_ppm / 1_000_000).max(0) as u64
    }

    /// How long an interval is that a timer on this clock's crystal takes for `interval`.
    pub fn stretched(&self, interval: Micros) -> Micros {
        (interval as i64 - interval as i64 * self.drift_ppm / 1_000_000).max(1) as Micros
    }
}

/// A client's connection, as its server sees it: answers leave in the order of the requests.
#[derive(Debug, Default)]
pub struct Accepted {
    /// Requests that have arrived.
    pub asked: u64,
    /// Answers that have left.
    pub answered: u64,
    /// For each request that is not answered, the tick of its arrival.
    pub asked_ticks: VecDeque<u64>,
    /// Answers that wait for those before them, by tag.
    pub ready: BTreeMap<u64, Reply>,
}

/// A process: what a crash takes away.
pub struct Process {
    /// The server without its shell.
    pub replica: Replica,
    /// Its log.
    pub wal: Wal,
    /// Its claim on the folder.
    pub lock: Box<dyn FolderLock>,
    /// What has happened and was not stepped.
    pub inbox: Vec<Event>,
    /// Requests that were not stepped; they stay here while the replica has no room.
    pub backlog: VecDeque<Request>,
    /// A step is on its way.
    pub is_waking: bool,
    /// It was told to stop.
    pub is_leaving: bool,
    /// Writes that wait for the disk, and what the log is not needed for any more.
    pub queue: DiskQueue,
    /// Another try of the writes that have found no room is on its way.
    pub is_retrying: bool,
    /// It was told last that its disk has little room.
    pub is_told_of_room: bool,
    /// Writes that are being synced together.
    pub syncing: Vec<DiskWrite>,
    /// Ticks of its timer.
    pub ticks: u64,
    /// Counts what the disk did, to see whether it has been idle.
    pub disk_turns: u64,
    /// Does what is to be done to snapshots.
    pub keeper: Keeper,
    /// It has something to do, and is at it.
    pub is_keeping: bool,
    /// An identity on its way to the disk.
    pub storing: Option<Identity>,
    /// What was heard of the starts of others, on its way to the disk.
    pub storing_starts: Option<Starts>,
    /// What its folder is to become, on its way to the disk.
    pub beginning: Option<Identity>,
    /// The folders that its latest membership names, as its last step has left them.
    pub named: BTreeMap<NodeId, Incarnation>,
    /// Connections of clients.
    pub accepted: BTreeMap<u64, Accepted>,
}

/// A folder at the beginning of a process, before that counted itself.
pub struct FolderCopy {
    /// What was on the disk.
    pub disk: SimDisk,
    /// What of that counts.
    pub ledger: HostLedger,
    /// Whose folder it is.
    pub incarnation: Incarnation,
    /// The number of the process.
    pub start_number: u64,
}

/// What a server has forgotten.
#[derive(Clone)]
pub struct Amnesia {
    /// What the processes that run on what is left have drawn.
    pub draws: BTreeSet<u64>,
    /// The folder that has promised what is forgotten.
    pub incarnation: Incarnation,
}

/// A server, running or not.
#[derive(Default)]
pub struct Host {
    /// Survives all crashes, as far as it was synced.
    pub disk: SimDisk,
    /// Its wall clock.
    pub clock: WallClock,
    /// Counts its processes; events of an earlier one are void.
    pub life: u64,
    /// The process, while there is one.
    pub process: Option<Process>,
    /// It stands still until then.
    pub asleep_until: Micros,
    /// Its disk is slow until then.
    pub slow_until: Micros,
    /// What was lost with the latest process came with a loss of power: nobody resets connections then.
    pub lost_power: bool,
    /// Its steps wait long for the processor until then.
    pub slow_steps_until: Micros,
    /// Its next sync fails.
    pub sync_fails: bool,
    /// Its disk has no room.
    pub is_full: bool,
    /// How often its disk was full.
    pub full_times: u64,
    /// It has taken part in the cluster, and knows that on its disk.
    pub was_member: bool,
    /// A bit on its disk has turned; if it finds that out, it does not start any more.
    pub is_rotten: bool,
    /// Its state was altered: it is not what the log makes, and need not be.
    pub is_altered: bool,
    /// What its folder was when its present process began.
    pub copy: Option<FolderCopy>,
    /// Processes behind this one, and the incarnations that have promised before it, have forgotten something.
    pub amnesia: Option<Amnesia>,
    /// The folder that it has.
    pub incarnation: Incarnation,
    /// The folder that it would be taken in with, as this process tells everybody.
    pub announced: Option<Incarnation>,
    /// By which membership, that of this entry, it was seen to act, in which life.
    pub acted_by: Option<(u64, Index)>,
    /// It does not come back: the others go on without it.
    pub is_lost: bool,
    /// It does not come back.
    pub is_gone: bool,
}

impl Host {
    /// The others may have to go on without it.
    pub fn is_hit(&self) -> bool {
        self.is_lost || self.is_rotten
    }

    /// It runs on the folder that has promised what it has forgotten.
    pub fn is_older_copy(&self) -> bool {
        self.amnesia.as_ref().is_some_and(|amnesia| amnesia.incarnation == self.incarnation)
    }

    /// A process starts on this folder. Says whether it has begun anew: its last process may have died when that was
    /// decided, and not yet done.
    pub fn opened(&mut self, incarnation: Incarnation) -> bool {
        let begins_anew = ![Incarnation::default(), incarnation].contains(&self.incarnation);
        (self.incarnation, self.announced) = (incarnation, None);
        if self.amnesia.as_ref().is_some_and(|amnesia| amnesia.incarnation != incarnation) {
            // What it forgot another folder had promised.
            self.is_lost = self.is_gone;
        }
        begins_anew
    }

    /// The process of this life, if it still runs.
    pub fn alive(&mut self, life: u64) -> Option<&mut Process> {
        if self.life == life { self.process.as_mut() } else { None }
    }
}
