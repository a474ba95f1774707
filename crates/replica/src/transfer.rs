//! Which snapshots a member takes, offers and fetches, and how far it is with each. Knows no file: what is to be done to
//! one is a [`SnapshotJob`] for the shell.
//!
//! A snapshot travels by being pulled: the leader only says that it has one ([`quorate_raft::Body::InstallSnapshot`]), and
//! who needs it asks for piece after piece, one at a time, as fast as its pace allows. So the sender holds nothing of a
//! transfer, several followers share one file, and after any interruption the receiver goes on where its own file ends.

mod pace;

use std::collections::BTreeSet;

use bytes::Bytes;
use quorate_raft::{Fetch, Index, NodeId, Position};
use quorate_storage::ClusterId;

use crate::backup::{BackupJob, BackupNews};
use crate::machine::Machine;
use crate::replica::{Config, Outbox, TICK_MS};
use crate::snapshot::Image;
use crate::status::SnapshotStatus;
use crate::wire::{PEER_FRAME_BYTES_MAX, PeerMessage};
use pace::Pace;
pub use pace::SNAPSHOT_BYTES_PER_SECOND;

/// Bytes of a snapshot in one message, at most and unless configured.
pub const SNAPSHOT_CHUNK_BYTES_MAX: usize = 256 << 10;
/// Milliseconds after which a piece that has not come is asked for again.
const ASK_AGAIN_MS: u64 = 500;

/// Milliseconds without a piece after which a transfer is given up for a newer snapshot.
const GIVE_UP_MS: u64 = 2_000;

const _: () = assert!(ASK_AGAIN_MS < GIVE_UP_MS);
const _: () = assert!(SNAPSHOT_CHUNK_BYTES_MAX < PEER_FRAME_BYTES_MAX);

/// Something to be done to a snapshot's file. The shell does them in order, away from its loop.
#[derive(Debug)]
pub enum SnapshotJob {
    /// Forget this state: it may be gigabytes, and the loop has no time for that.
    Forget(Box<Machine>),
    /// Write this state as a snapshot; then step [`SnapshotNews::Taken`] or [`SnapshotNews::NotTaken`].
    Take(Box<Image>),
    /// Get ready to receive the snapshot of this position, and go on with what is here of it; then step
    /// [`SnapshotNews::Received`]. A transfer of another is given up.
    Receive {
        /// Whose.
        cluster: ClusterId,
        /// The last position that it stands for.
        last: Position,
    },
    /// Add this piece to what is received; then step [`SnapshotNews::Received`], or where it was the last,
    /// [`SnapshotNews::Complete`] once the snapshot is verified as a whole, durable, and loaded.
    Store {
        /// The last position that the snapshot stands for.
        last: Position,
        /// Where the piece begins.
        offset: u64,
        /// The piece.
        bytes: Bytes,
    },
    /// Read a piece of an own complete snapshot; then step [`SnapshotNews::Read`] or [`SnapshotNews::Rotten`].
    Read {
        /// For whom.
        to: NodeId,
        /// Whose.
        cluster: ClusterId,
        /// The last position that the snapshot stands for.
        last: Position,
        /// Where to begin.
        offset: u64,
        /// Bytes of the piece, at most.
        length: usize,
    },
    /// Nobody has asked for a piece for a while: what is open for that is closed, and what has lost its name is gone.
    Close,
    /// What is here of this snapshot is not needed any more.
    Abandon {
        /// The last position that it stands for.
        last: Position,
    },
    /// Something to be done for a backup.
    Backup(BackupJob),
}

/// What became of a [`SnapshotJob`].
#[derive(Debug)]
pub enum SnapshotNews {
    /// The snapshot of this position is complete and durable.
    Taken(Position),
    /// So many bytes of it are here, from its beginning on.
    Received {
        /// The last position that the snapshot stands for.
        last: Position,
        /// Bytes.
        bytes: u64,
    },
    /// The snapshot is here, verified and durable, and this is its state.
    Complete {
        /// The last position that it stands for.
        last: Position,
        /// The state.
        machine: Box<Machine>,
    },
    /// A piece for another server; `None` where the snapshot is not there any more.
    Read {
        /// For whom.
        to: NodeId,
        /// The last position that the snapshot stands for.
        last: Position,
        /// Where the piece begins.
        offset: u64,
        /// Bytes of the whole snapshot, and the piece.
        piece: Option<(u64, Bytes)>,
    },
    /// An own complete snapshot is not what was written any more, and nothing of it is given to others.
    Rotten {
        /// Who had asked for a piece.
        to: NodeId,
        /// The last position that the snapshot stands for.
        last: Position,
        /// Where the piece was to begin.
        offset: u64,
        /// What is wrong with it.
        why: String,
    },
    /// The own snapshot of this position could not be taken; nothing of it counts.
    NotTaken {
        /// Its position.
        position: Position,
        /// What happened.
        why: String,
    },
    /// The snapshot that was on its way here could not be received, or is not what it should be; nothing of it counts.
    Failed {
        /// The last position that it stands for.
        last: Position,
        /// What happened.
        why: String,
    },
    /// What became of a job for a backup.
    Backup(BackupNews),
}

/// A snapshot on its way to this server.
#[derive(Debug)]
struct Fetching {
    from: NodeId,
    last: Position,
    /// Bytes that are stored; `None` until the shell has said.
    stored: Option<u64>,
    /// The shell is storing a piece, or getting ready to.
    is_storing: bool,
    /// When the next piece was asked for.
    asked_ms: Option<u64>,
    /// When it was last seen to go on.
    progress_ms: u64,
}

/// A snapshot that is being taken.
#[derive(Debug)]
struct Taking {
    position: Position,
    /// The replicated time of its state.
    time_ms: u64,
    /// What it will cover of [`Transfers::log_bytes`].
    covered: u64,
}

/// What came of snapshots since the process began, for onlookers.
#[derive(Clone, Debug, Default)]
struct History {
    time_ms: u64,
    taken: u64,
    installed: u64,
    failed: u64,
    failure: String,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Transfers {
    /// Bytes of applied entries that no snapshot stands for.
    log_bytes: u64,
    /// Bytes that count as if they had been applied, so that servers that apply the same do not write their snapshots at
    /// the same time: what this server begins with, and what is left of it.
    stagger: (u64, u64),
    taking: Option<Taking>,
    /// Somebody has asked for a snapshot of what is applied now.
    is_asked_for: bool,
    history: History,
    /// Taking one failed: not before this time again.
    not_before_ms: u64,
    fetching: Option<Fetching>,
    /// The last own snapshot that was found rotten.
    rotten: Option<Position>,
    /// Fetching one failed: not before this time again.
    fetch_not_before_ms: u64,
    pace: Pace,
    /// Servers for which a piece is being read.
    reading: BTreeSet<NodeId>,
    /// When one was asked for last; `None` if nothing is open for that.
    served_ms: Option<u64>,
}

/// Milliseconds after a snapshot that was fetched in vain until the next try: all of it may have to come anew.
const FETCH_AGAIN_MS: u64 = 2_000;
/// Milliseconds after a snapshot that could not be taken until the next try.
const TAKE_AGAIN_MS: u64 = 10_000;
/// The same where a follower waits for it, whom a majority may need.
const TAKE_AGAIN_FOR_LAGGARD_MS: u64 = 2_000;
/// Milliseconds without a question after which a snapshot is not kept open for others any more.
const CLOSE_AFTER_MS: u64 = 30_000;

/// How much earlier than others a server takes its first snapshot: an eighth of the log for each member before it.
pub(crate) fn stagger_bytes(config: &Config) -> u64 {
    let before = config.members.iter().take_while(|member| **member < config.id).count();
    (config.log_bytes_max / 8).saturating_mul(before as u64)
}

impl Transfers {
    /// For a state machine that begins at this replicated time.
    pub(crate) fn new(time_ms: u64, bytes_per_second: u64, stagger_bytes: u64) -> Self {
        let history = History { time_ms, ..History::default() };
        let stagger = (stagger_bytes, stagger_bytes);
        Self { history, pace: Pace::new(bytes_per_second), stagger, ..Self::default() }
    }

    /// A look at them.
    pub(crate) fn status(&self) -> SnapshotStatus {
        let History { time_ms, taken, installed, failed, failure } = self.history.clone();
        let receiving = self.fetching.as_ref();
        SnapshotStatus {
            time_ms,
            log_bytes: self.log_bytes,
            taking: self.taking.as_ref().map(|taking| taking.position.index.0),
            receiving: receiving.map(|fetching| (fetching.last.index.0, fetching.stored.unwrap_or(0))),
            taken,
            installed,
            failed,
            failure,
        }
    }

    /// A snapshot is to be taken of what is applied now, or later.
    pub(crate) fn ask(&mut self) {
        self.is_asked_for = true;
    }

    /// An entry was applied.
    pub(crate) fn applied(&mut self, bytes: usize) {
        self.log_bytes += bytes as u64;
    }

    /// Whether a snapshot is due; none while one is being taken.
    pub(crate) fn is_due(&self, now_ms: u64, log_bytes_max: u64) -> bool {
        let is_long = self.log_bytes.saturating_add(self.stagger.1) > log_bytes_max;
        self.is_asked_for && self.taking.is_none() || is_long && self.may_take(now_ms)
    }

    /// The index of the one that is being taken.
    pub(crate) fn taking(&self) -> Option<Index> {
        self.taking.as_ref().map(|taking| taking.position.index)
    }

    /// Whether one may be taken at once.
    pub(crate) fn may_take(&self, now_ms: u64) -> bool {
        self.taking.is_none() && now_ms >= self.not_before_ms
    }

    /// There is room again: what could not be taken is tried at once.
    pub(crate) fn room_again(&mut self) {
        self.not_before_ms = 0;
    }

    /// Whether one may be taken for a follower that needs it.
    pub(crate) fn may_take_for_laggard(&self, now_ms: u64) -> bool {
        self.may_take(now_ms + TAKE_AGAIN_MS - TAKE_AGAIN_FOR_LAGGARD_MS)
    }

    /// It was due, and there is nothing that no snapshot stands for.
    pub(crate) fn nothing_to_take(&mut self) {
        self.is_asked_for = false;
    }

    /// The state is written as a snapshot.
    pub(crate) fn take(&mut self, image: Image, out: &mut Outbox) {
        // From here on the distance stays, unless all were asked at once.
        self.stagger.1 = if self.is_asked_for { self.stagger.0 } else { 0 };
        self.is_asked_for = false;
        let (position, time_ms) = (image.position(), image.now_ms);
        self.taking = Some(Taking { position, time_ms, covered: self.log_bytes });
        out.actions.snapshot_jobs.push(SnapshotJob::Take(Box::new(image)));
    }

    /// It is durable. Says whether it was taken here.
    pub(crate) fn taken(&mut self, position: Position) -> bool {
        let Some(taken) = self.taking.take_if(|taking| taking.position == position) else { return false };
        self.log_bytes = self.log_bytes.saturating_sub(taken.covered);
        self.history.taken += 1;
        self.history.failure.clear();
        self.history.time_ms = self.history.time_ms.max(taken.time_ms);
        true
    }

    /// The leader has a snapshot that is needed here. What is on its way already goes on, also where the leader has a newer
    /// one by now: or a follower would never be done with any.
    pub(crate) fn fetch(&mut self, fetch: Fetch, now_ms: u64, out: &mut Outbox) {
        let Fetch { from, last } = fetch;
        let Some(cluster) = out.cluster else { return };
        match &mut self.fetching {
            Some(fetching) if fetching.last == last => fetching.from = from,
            // While a piece is being stored nobody else can be blamed, however long this server's disk takes.
            Some(fetching) if fetching.is_storing => {}
            Some(fetching) if now_ms.saturating_sub(fetching.progress_ms) < GIVE_UP_MS => {}
            None if now_ms < self.fetch_not_before_ms => {}
            _ => {
                self.pace.begin(now_ms);
                let progress_ms = now_ms;
                let (stored, asked_ms) = (None, None);
                self.fetching =
                    Some(Fetching { from, last, stored, is_storing: true, asked_ms, progress_ms });
                out.actions.snapshot_jobs.push(SnapshotJob::Receive { cluster, last });
            }
        }
    }

    /// What time brings: the next piece is asked for, where it is time to, or nothing more of it is.
    pub(crate) fn tick(&mut self, now_ms: u64, commit: Index, out: &mut Outbox) {
        if let Some(unused) = self.fetching.take_if(|fetching| fetching.last.index <= commit) {
            out.actions.snapshot_jobs.push(SnapshotJob::Abandon { last: unused.last });
        }
        if self.served_ms.take_if(|served| now_ms.saturating_sub(*served) >= CLOSE_AFTER_MS).is_some() {
            out.actions.snapshot_jobs.push(SnapshotJob::Close);
        }
        self.pace.tick();
        self.ask_for_piece(now_ms, out);
    }

    /// Asks for the next piece, where that is stored which is before it.
    fn ask_for_piece(&mut self, now_ms: u64, out: &mut Outbox) {
        let Some(Fetching { from, last, stored: Some(stored), is_storing: false, asked_ms, .. }) =
            &mut self.fetching
        else {
            return;
        };
        if asked_ms.is_some_and(|asked_ms| now_ms.saturating_sub(asked_ms) < ASK_AGAIN_MS)
            || !self.pace.allows_more()
        {
            return;
        }
        *asked_ms = Some(now_ms);
        out.send(*from, PeerMessage::FetchSnapshot { last: *last, offset: *stored });
    }

    /// A piece has come; only the one that is next counts. An empty one says that the snapshot is not there any more, or of
    /// no use.
    pub(crate) fn chunk(&mut self, last: Position, offset: u64, bytes: Bytes, now_ms: u64, out: &mut Outbox) {
        let Some(fetching) = &mut self.fetching else { return };
        let is_next = fetching.last == last && fetching.stored == Some(offset) && !fetching.is_storing;
        if is_next && bytes.is_empty() {
            self.fetching = None;
            self.pace.end(now_ms);
        } else if is_next && bytes.len() <= SNAPSHOT_CHUNK_BYTES_MAX {
            fetching.is_storing = true;
            self.pace.spend(bytes.len());
            out.actions.snapshot_jobs.push(SnapshotJob::Store { last, offset, bytes });
        }
    }

    /// So much of it is here.
    pub(crate) fn received(&mut self, last: Position, bytes: u64, now_ms: u64, out: &mut Outbox) {
        if let Some(fetching) = self.fetching.as_mut().filter(|fetching| fetching.last == last) {
            fetching.stored = Some(bytes);
            fetching.is_storing = false;
            fetching.asked_ms = None;
            fetching.progress_ms = now_ms;
            self.ask_for_piece(now_ms, out);
        }
    }

    /// All of it is here, and the state machine is at `last` or will be.
    pub(crate) fn complete(&mut self, last: Position, now_ms: u64) {
        if self.fetching.take_if(|fetching| fetching.last == last).is_some() {
            self.pace.end(now_ms);
        }
    }

    /// The state machine is what a snapshot says: no applied entry is left that none stands for.
    pub(crate) fn installed(&mut self, time_ms: u64) {
        self.log_bytes = 0;
        self.stagger.1 = self.stagger.0;
        // What is being taken covers nothing of what comes.
        if let Some(taking) = &mut self.taking {
            taking.covered = 0;
        }
        self.history.installed += 1;
        self.history.failure.clear();
        self.history.time_ms = time_ms;
    }

    /// Another server asks for a piece of a snapshot. One at a time for each.
    pub(crate) fn serve(
        &mut self,
        to: NodeId,
        last: Position,
        offset: u64,
        length: usize,
        now_ms: u64,
        out: &mut Outbox,
    ) {
        self.served_ms = Some(now_ms);
        if let Some(cluster) = out.cluster
            && self.reading.insert(to)
        {
            out.actions.snapshot_jobs.push(SnapshotJob::Read { to, cluster, last, offset, length });
        }
    }

    /// The piece was read.
    pub(crate) fn served(&mut self, to: NodeId) {
        self.reading.remove(&to);
    }

    /// Nothing was read, because the snapshot is rotten. Says whether that is news.
    pub(crate) fn rotten(&mut self, to: NodeId, last: Position) -> bool {
        self.served(to);
        self.rotten.replace(last) != Some(last)
    }

    /// The own snapshot could not be taken: it is due again later. What is told of another one says nothing of it.
    pub(crate) fn not_taken(&mut self, position: Position, why: &str, now_ms: u64) {
        self.note_failure(why);
        if self.taking.take_if(|taking| taking.position == position).is_some() {
            self.not_before_ms = now_ms + TAKE_AGAIN_MS;
        }
    }

    /// A transfer went wrong: it begins anew when the leader offers a snapshot again, later.
    pub(crate) fn failed(&mut self, last: Position, why: &str, now_ms: u64) {
        self.note_failure(why);
        if self.fetching.take_if(|fetching| fetching.last == last).is_some() {
            self.fetch_not_before_ms = now_ms + FETCH_AGAIN_MS;
        }
    }

    fn note_failure(&mut self, why: &str) {
        self.history.failed += 1;
        why.clone_into(&mut self.history.failure);
    }
}

const _: () = assert!(ASK_AGAIN_MS > TICK_MS);
