//! The thread that writes and syncs the log, so that the loop never waits for a disk. Must not know what a write
//! means, nor who waits for it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use quorate_raft::WriteId;
use quorate_replica::disk_queue::DiskQueue;
use quorate_replica::replica::{Compaction, DiskSpace, DiskWrite};
use quorate_replica::wire::PeerEnvelope;
use quorate_storage::{Disk, DiskError, Identity, Starts, Wal, WriteError, anew, identity};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// After so long without a write the log is marked as synced: rot of its end is told from a torn tail then.
const MARK_AFTER: Duration = Duration::from_millis(10);
/// After so long without a write the next segment is made ready: it costs a segment of zeros, which no write should
/// wait for.
const PREPARE_AFTER: Duration = Duration::from_millis(300);

/// How often the free space is looked at where nothing is written.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Where something is, it is looked at after so long: a look costs a twentieth of a sync.
const LOOK_AFTER: Duration = Duration::from_millis(5);
/// It is told after so long.
const TELL_AFTER: Duration = Duration::from_millis(50);
/// Or as soon as this part of it is gone.
const TELL_PART: u64 = 32;
/// What has found no room is tried again so often, and the free space looked at.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(200);

const _: () = assert!(TRY_AGAIN_AFTER.as_millis() < LOOK_EVERY.as_millis());
const _: () = assert!(MARK_AFTER.as_millis() < PREPARE_AFTER.as_millis());

/// What the loop asks of the disk; writes are done in order, and the log is compacted behind those before it.
enum Job {
    Write(DiskWrite),
    StoreIdentity(Identity),
    StoreStarts(Starts),
    BeginAnew(Identity),
    Compact(Compaction),
}

/// What the disk has done.
#[derive(Debug)]
pub(crate) enum Done {
    /// This write and all before it are synced: send these, then step it.
    Persisted {
        /// The last write that the sync covers.
        write: WriteId,
        /// What may leave only now, in order.
        send_after: Vec<PeerEnvelope>,
    },
    /// The identity is synced.
    IdentityStored,
    /// The starts of others are synced.
    StartsStored,
    /// It is decided that the folder begins anew.
    BeginsAnew,
    /// So much room there is.
    Looked(DiskSpace),
    /// The disk failed, with a sentence. Nothing after what was reported before is durable.
    Failed(String),
}

/// The loop's end of the disk's thread.
///
/// Neither queue has a bound of its own: the replica bounds the bytes that it has asked to be written and that are not
/// synced. A follower is sent no more than may be in flight; a leader, which can commit without its own disk, proposes
/// nothing while that is too far behind the others.
#[derive(Debug)]
pub(crate) struct DiskThread {
    jobs: Option<Sender<Job>>,
    /// What was done.
    pub(crate) done: UnboundedReceiver<Done>,
    thread: Option<JoinHandle<()>>,
}

impl DiskThread {
    /// Starts the thread on this log of this folder.
    pub(crate) fn start(folder: PathBuf, disk: Arc<dyn Disk>, wal: Wal) -> std::io::Result<Self> {
        let (jobs, waiting) = mpsc::channel();
        let (report, done) = unbounded_channel();
        let queue = DiskQueue::default();
        let mut writer = Writer {
            folder,
            disk,
            wal,
            jobs: waiting,
            report,
            queue,
            storing: None,
            storing_starts: None,
            beginning: None,
            told: None,
            looked: None,
        };
        let thread = std::thread::Builder::new().name("disk".to_owned()).spawn(move || writer.run())?;
        Ok(Self { jobs: Some(jobs), done, thread: Some(thread) })
    }

    /// Queues a write behind all before it.
    pub(crate) fn write(&self, write: DiskWrite) {
        self.submit(Job::Write(write));
    }

    /// Queues the identity behind all writes before it.
    pub(crate) fn store_identity(&self, identity: Identity) {
        self.submit(Job::StoreIdentity(identity));
    }

    /// Queues the starts of others behind all writes before them.
    pub(crate) fn store_starts(&self, starts: Starts) {
        self.submit(Job::StoreStarts(starts));
    }

    /// Decides that the folder begins anew as this one.
    pub(crate) fn begin_anew(&self, identity: Identity) {
        self.submit(Job::BeginAnew(identity));
    }

    /// Lets the log go as far as this says, behind all writes before it.
    pub(crate) fn compact(&self, compaction: Compaction) {
        self.submit(Job::Compact(compaction));
    }

    fn submit(&self, job: Job) {
        let jobs = self.jobs.as_ref().expect("the queue is open until the end");
        // A thread that has failed is gone; it has said why, and the loop ends the process over it.
        let _ = jobs.send(job);
    }

    /// Waits until all that was queued is synced. Only for the end of the process: it blocks.
    pub(crate) fn finish(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has ended the process already.
            let _ = thread.join();
        }
    }
}

struct Writer {
    folder: PathBuf,
    disk: Arc<dyn Disk>,
    wal: Wal,
    jobs: Receiver<Job>,
    report: UnboundedSender<Done>,
    queue: DiskQueue,
    /// An identity for which there was no room.
    storing: Option<Identity>,
    /// Likewise.
    storing_starts: Option<Starts>,
    /// Likewise, of a folder that begins anew.
    beginning: Option<Identity>,
    /// The free space that was told last, and when.
    told: Option<(u64, Instant)>,
    /// When it was looked at last.
    looked: Option<Instant>,
}

/// Why the disk's thread ends.
#[derive(Debug, thiserror::Error)]
enum DiskFailure {
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl Writer {
    fn run(&mut self) {
        if let Err(failure) = self.serve() {
            let sentence = format!("the data folder {}: {failure}", self.folder.display());
            // If nobody listens, the process is ending anyway, and nothing was acknowledged.
            let _ = self.report.send(Done::Failed(sentence));
        }
    }

    fn serve(&mut self) -> Result<(), DiskFailure> {
        self.look();
        while self.wait()? {
            self.carry_out()?;
            if self.looked.is_none_or(|at| at.elapsed() >= LOOK_AFTER) || self.told.is_none() {
                self.look();
            }
        }
        // What is held was not promised.
        Ok(self.wal.mark_synced()?)
    }

    /// Waits for jobs, and uses the time if there are none; false at the end.
    fn wait(&mut self) -> Result<bool, DiskFailure> {
        if self.is_held() {
            return self.wait_for(TRY_AGAIN_AFTER, |_| Ok(true));
        }
        let prepare = |writer: &mut Self| {
            ignore_full(writer.wal.prepare_next())?;
            loop {
                match writer.jobs.recv_timeout(LOOK_EVERY) {
                    Ok(job) => return Ok(writer.take(job)),
                    Err(RecvTimeoutError::Disconnected) => return Ok(false),
                    Err(RecvTimeoutError::Timeout) => writer.look(),
                }
            }
        };
        self.wait_for(MARK_AFTER, |writer| {
            writer.wal.mark_synced()?;
            writer.wait_for(PREPARE_AFTER, prepare)
        })
    }

    /// Waits for a job, and does something else if there is none in time.
    fn wait_for(
        &mut self,
        patience: Duration,
        otherwise: impl FnOnce(&mut Self) -> Result<bool, DiskFailure>,
    ) -> Result<bool, DiskFailure> {
        match self.jobs.recv_timeout(patience) {
            Ok(job) => Ok(self.take(job)),
            Err(RecvTimeoutError::Disconnected) => Ok(false),
            Err(RecvTimeoutError::Timeout) => otherwise(self),
        }
    }

    /// Takes a job and all that have come after it.
    fn take(&mut self, first: Job) -> bool {
        let mut next = Some(first);
        while let Some(job) = next {
            match job {
                Job::Write(write) => self.queue.push(write),
                Job::StoreIdentity(identity) => self.storing = Some(identity),
                Job::BeginAnew(identity) => self.beginning = Some(identity),
                Job::StoreStarts(starts) => self.storing_starts = Some(starts),
                Job::Compact(compaction) => self.queue.compact_later(compaction),
            }
            next = self.jobs.try_recv().ok();
        }
        true
    }

    /// Whether something waits for room.
    fn is_held(&self) -> bool {
        self.queue.no_room().is_some()
            || [self.storing.is_some(), self.storing_starts.is_some(), self.beginning.is_some()]
                .contains(&true)
    }

    /// Does what was taken, with one sync for all writes; what finds no room stays, and is tried again.
    fn carry_out(&mut self) -> Result<(), DiskFailure> {
        let held_before = self.queue.no_room();
        let mut appended = self.queue.append(&mut self.wal)?;
        // One sync for what comes meanwhile, too.
        while self.queue.no_room().is_none()
            && let Ok(job) = self.jobs.try_recv()
        {
            self.take(job);
            appended.extend(self.queue.append(&mut self.wal)?);
        }
        if let Some(write) = appended.last().map(|write| write.write) {
            self.wal.sync()?;
            let send_after = appended.into_iter().flat_map(|write| write.send_after).collect();
            let _ = self.report.send(Done::Persisted { write, send_after });
            // A log that is never idle makes its next segment in small steps, or one write would wait for all of it.
            ignore_full(self.wal.prepare_step())?;
        }
        self.store_identity()?;
        self.store_starts()?;
        self.begin_anew()?;
        self.queue.compact(&mut self.wal)?;
        if self.queue.no_room().is_some() != held_before.is_some() {
            // What is looked at next is news in any case.
            self.told = None;
        }
        Ok(())
    }

    fn store_identity(&mut self) -> Result<(), DiskFailure> {
        let Some(identity) = &self.storing else { return Ok(()) };
        match identity::store(&*self.disk, identity) {
            Ok(()) => {
                self.storing = None;
                let _ = self.report.send(Done::IdentityStored);
                Ok(())
            }
            Err(error) if error.is_full() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn store_starts(&mut self) -> Result<(), DiskFailure> {
        let Some(starts) = &self.storing_starts else { return Ok(()) };
        match starts.store(&*self.disk) {
            Ok(()) => {
                self.storing_starts = None;
                let _ = self.report.send(Done::StartsStored);
                Ok(())
            }
            Err(error) if error.is_full() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn begin_anew(&mut self) -> Result<(), DiskFailure> {
        let Some(identity) = &self.beginning else { return Ok(()) };
        match anew::decide(&*self.disk, identity) {
            Ok(()) => {
                self.beginning = None;
                let _ = self.report.send(Done::BeginsAnew);
                Ok(())
            }
            Err(error) if error.is_full() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Looks at the free space, and tells of it where that is news.
    fn look(&mut self) {
        self.looked = Some(Instant::now());
        // Who cannot be asked is tried: a disk that has no room says so then.
        let Ok(free_bytes) = self.disk.free_bytes() else { return };
        let is_news =
            |(told, at): (u64, Instant)| free_bytes < told - told / TELL_PART || at.elapsed() >= TELL_AFTER;
        if self.told.is_none_or(is_news) {
            self.tell(free_bytes);
        }
    }

    fn tell(&mut self, free_bytes: u64) {
        self.told = Some((free_bytes, Instant::now()));
        let (held_bytes, is_held) = (self.queue.held_bytes(), self.queue.no_room().is_some());
        let _ = self.report.send(Done::Looked(DiskSpace { free_bytes, held_bytes, is_held }));
    }
}

/// A full disk is no failure as long as nothing must be written.
fn ignore_full(prepared: Result<(), WriteError>) -> Result<(), WriteError> {
    match prepared {
        Err(WriteError::Full { .. }) => Ok(()),
        other => other,
    }
}
