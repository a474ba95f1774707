//! The thread that writes and syncs the log, so that the loop never waits for a disk. Must not know what a write
//! means, nor who waits for it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use quorate_raft::WriteId;
use quorate_replica::replica::{Compaction, DiskWrite};
use quorate_replica::wire::PeerEnvelope;
use quorate_storage::{Disk, DiskError, Identity, Wal, WriteError, identity};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// After so long without a write the log is marked as synced: rot of its end is told from a torn tail then.
const MARK_AFTER: Duration = Duration::from_millis(10);
/// After so long without a write the next segment is made ready: it costs a segment of zeros, which no write should
/// wait for.
const PREPARE_AFTER: Duration = Duration::from_millis(300);

const _: () = assert!(MARK_AFTER.as_millis() < PREPARE_AFTER.as_millis());

/// What the loop asks of the disk; done in order.
enum Job {
    Write(DiskWrite),
    StoreIdentity(Identity),
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
    /// The disk failed, with a sentence. Nothing after what was reported before is durable.
    Failed(String),
}

/// The loop's end of the disk's thread.
///
/// Neither queue has a bound of its own: the replica bounds the bytes that it has asked to be written and that are not
/// synced, by its limits of what is not committed and of what is in flight.
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
        let (jobs, queue) = mpsc::channel();
        let (report, done) = unbounded_channel();
        let mut writer = Writer { folder, disk, wal, queue, report };
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
    queue: Receiver<Job>,
    report: UnboundedSender<Done>,
}

/// Why the disk's thread ends.
#[derive(Debug, thiserror::Error)]
enum DiskFailure {
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Identity(#[from] DiskError),
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
        while let Some(job) = self.next_job()? {
            self.carry_out(job)?;
        }
        Ok(self.wal.mark_synced()?)
    }

    /// Waits for a job, and uses the time if there is none; `None` at the end.
    fn next_job(&mut self) -> Result<Option<Job>, DiskFailure> {
        match self.queue.recv_timeout(MARK_AFTER) {
            Ok(job) => return Ok(Some(job)),
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) => self.wal.mark_synced()?,
        }
        match self.queue.recv_timeout(PREPARE_AFTER) {
            Ok(job) => return Ok(Some(job)),
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) => ignore_full(self.wal.prepare_next())?,
        }
        Ok(self.queue.recv().ok())
    }

    /// Carries out a job and all that have come after it, with one sync for all writes.
    fn carry_out(&mut self, first: Job) -> Result<(), DiskFailure> {
        let mut synced = None;
        let mut compaction = None;
        let mut send_after = Vec::new();
        let mut job = Some(first);
        while let Some(current) = job.take().or_else(|| self.queue.try_recv().ok()) {
            match current {
                Job::Write(write) => {
                    self.wal.write(write.hard_state, write.reset_to, &write.entries)?;
                    send_after.extend(write.send_after);
                    synced = Some(write.write);
                }
                Job::StoreIdentity(identity) => {
                    identity::store(&*self.disk, &identity)?;
                    let _ = self.report.send(Done::IdentityStored);
                }
                Job::Compact(latest) => compaction = Some(latest),
            }
        }
        if let Some(write) = synced {
            self.wal.sync()?;
            let _ = self.report.send(Done::Persisted { write, send_after });
            // A log that is never idle makes its next segment in small steps, or one write would wait for all of it.
            ignore_full(self.wal.prepare_step())?;
        }
        if let Some(Compaction { snapshot, through }) = compaction {
            ignore_full(self.wal.compact(snapshot, through).map(|_| ()))?;
        }
        Ok(())
    }
}

/// A full disk is no failure as long as nothing must be written.
fn ignore_full(prepared: Result<(), WriteError>) -> Result<(), WriteError> {
    match prepared {
        Err(WriteError::Full { .. }) => Ok(()),
        other => other,
    }
}
