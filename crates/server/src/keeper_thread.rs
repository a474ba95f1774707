//! The thread that writes, reads and receives snapshots, so that neither the loop nor the log waits for one. Must not know
//! what is in them.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};

use quorate_replica::keeper::{Keeper, Worked};
use quorate_replica::transfer::{SnapshotJob, SnapshotNews};
use quorate_storage::DiskError;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// How far the thread stands back, as `nice` counts it: it gets about a third of what a busy loop gets on one processor. With
/// less a snapshot would take so long that most of the state is copied meanwhile.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 5;

/// The loop's end of the keeper's thread. The replica asks for one thing at a time for each server and for itself, so the
/// queues stay short. It is not waited for at the end of the process: what it has not finished does not count.
#[derive(Debug)]
pub(crate) struct KeeperThread {
    jobs: Sender<SnapshotJob>,
    /// What became of jobs; an error is a sentence, and the last.
    pub(crate) news: UnboundedReceiver<Result<SnapshotNews, String>>,
}

impl KeeperThread {
    /// Starts the thread. `written` is told the bytes so far of the snapshot that is being written.
    pub(crate) fn start(folder: PathBuf, keeper: Keeper, written: Arc<AtomicU64>) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel();
        let (report, news) = unbounded_channel();
        let work = move || {
            yield_to_others();
            if let Err(error) = serve(keeper, &queue, &report, &written) {
                let sentence = format!("the data folder {}: {error}", folder.display());
                // If nobody listens, the process is ending anyway.
                let _ = report.send(Err(sentence));
            }
        };
        std::thread::Builder::new().name("snapshots".to_owned()).spawn(work)?;
        Ok(Self { jobs, news })
    }

    /// Queues a job.
    pub(crate) fn submit(&self, job: SnapshotJob) {
        // A thread that has failed is gone; it has said why, and the loop ends the process over it.
        let _ = self.jobs.send(job);
    }
}

/// The loop and the log go first where there are fewer processors than threads: a snapshot may take longer, a client should
/// not. Linux counts this for each thread; elsewhere it may concern the whole process, and is left alone.
fn yield_to_others() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!("the thread of snapshots has the priority of the others: {error}");
    }
}

fn serve(
    mut keeper: Keeper,
    queue: &Receiver<SnapshotJob>,
    report: &UnboundedSender<Result<SnapshotNews, String>>,
    written: &AtomicU64,
) -> Result<(), DiskError> {
    let mut is_idle = true;
    loop {
        let job = match is_idle {
            true => queue.recv().map_err(|_| TryRecvError::Disconnected),
            false => queue.try_recv(),
        };
        match job {
            Ok(job) => keeper.push(job),
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => return Ok(()),
        }
        let worked = keeper.work()?;
        written.store(keeper.written_bytes(), Ordering::Relaxed);
        is_idle = match worked {
            Worked::Idle => true,
            Worked::On => false,
            Worked::Done(news) => {
                let _ = report.send(Ok(news));
                false
            }
        };
    }
}
