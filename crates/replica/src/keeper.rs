//! Does what [`SnapshotJob`]s say, to the files of a data folder, in pieces small enough to be interrupted. Knows no thread:
//! whoever has it decides where and when it works.

mod backups;
mod lending;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use quorate_raft::Position;
use quorate_storage::{
    ClusterId, Disk, DiskError, SnapshotError, SnapshotFile, SnapshotReader, SnapshotReceiver,
    SnapshotWriter, StateError,
};

use quorate_storage::snapshot::is_possible;

use crate::machine::Machine;
use crate::snapshot::{Blocks, Image, Lane, LoadError, LoadedShare, Share, Splitter};
use crate::transfer::{SnapshotJob, SnapshotNews};
use backups::OpenBackups;
use lending::{Lending, Question};

/// Why the state of a snapshot was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The file is not readable, or not what was written.
    #[error(transparent)]
    File(#[from] SnapshotError),
    /// What is in it is no state.
    #[error("{name}: {error}; keep the folder for examination, and do not start a server on it")]
    Content {
        /// The file.
        name: String,
        /// What is wrong.
        error: LoadError,
    },
}

impl From<RestoreError> for StateError {
    fn from(error: RestoreError) -> Self {
        match error {
            RestoreError::File(error) => Self::File(error),
            content @ RestoreError::Content { .. } => Self::Content(Box::new(content)),
        }
    }
}

impl RestoreError {
    /// What is in the file that this reads is no state.
    pub fn content(reader: &SnapshotReader<'_>, error: LoadError) -> Self {
        Self::Content { name: reader.name().to_owned(), error }
    }
}

/// Loads the state of a snapshot; `seed` is of its hash tables.
///
/// # Errors
/// If the file is damaged, or holds no state.
pub fn load(file: &SnapshotFile, seed: u64) -> Result<Box<Machine>, RestoreError> {
    restore(&mut file.reader(), seed)
}

/// Loads the state of a snapshot that is read from its beginning, to its end. The server has a way to do the same on
/// several threads: [`Splitter`] and [`crate::snapshot::Lane`].
///
/// # Errors
/// If the file is damaged, or holds no state.
pub fn restore(reader: &mut SnapshotReader<'_>, seed: u64) -> Result<Box<Machine>, RestoreError> {
    let mut splitter = Splitter::new(reader.cluster(), reader.position(), reader.bytes());
    let mut lanes = Lane::all(seed, 1);
    let mut block = Vec::new();
    while let Some(content) = reader.block_into(&mut block)? {
        let content = &block[content];
        let keys = splitter.block(content).map_err(|error| RestoreError::content(reader, error))?;
        lanes[0].load(&keys, content);
    }
    let shares = Share::all(lanes).into_iter().map(Share::finish).collect::<Result<_, _>>();
    let shares = shares.map_err(|error| RestoreError::content(reader, error))?;
    finish(reader, splitter, shares)
}

/// The state, once the reader is at its end: the file's trailer and the state's own head must know it by its digest.
///
/// # Errors
/// If it is not the state that was written.
pub fn finish(
    reader: &SnapshotReader<'_>,
    splitter: Splitter,
    shares: Vec<LoadedShare>,
) -> Result<Box<Machine>, RestoreError> {
    let machine = splitter.finish(shares).map_err(|error| RestoreError::content(reader, error))?;
    let (recorded, computed) = (reader.digest(), machine.digest());
    match recorded {
        Some(recorded) if recorded == computed => Ok(Box::new(machine)),
        recorded => {
            let recorded = recorded.unwrap_or_default();
            Err(RestoreError::content(reader, LoadError::OtherDigest { recorded, computed }))
        }
    }
}

/// A snapshot that is being written.
struct Writing {
    writer: SnapshotWriter,
    blocks: Blocks,
    position: Position,
    digest: u64,
}

/// What came of a piece of work.
#[derive(Debug)]
pub enum Worked {
    /// There is nothing to do.
    Idle,
    /// There is more to do.
    On,
    /// A job is done, and there may be more.
    Done(SnapshotNews),
}

/// See the module.
pub struct Keeper {
    disk: Arc<dyn Disk>,
    seed: u64,
    jobs: VecDeque<SnapshotJob>,
    writing: Option<Writing>,
    receiving: Option<SnapshotReceiver>,
    lending: Lending,
    /// Those that backups read.
    backups: OpenBackups,
}

impl Keeper {
    /// Has nothing to do yet. `seed` is of the hash tables of the states it loads.
    pub fn new(disk: Arc<dyn Disk>, seed: u64) -> Self {
        Self {
            disk,
            seed,
            jobs: VecDeque::new(),
            writing: None,
            receiving: None,
            lending: Lending::default(),
            backups: OpenBackups::default(),
        }
    }

    /// Takes a job, behind all before it; but pieces for others and from others do not wait for a snapshot that is
    /// being written.
    pub fn push(&mut self, job: SnapshotJob) {
        self.jobs.push_back(job);
    }

    /// Bytes of the snapshot that is being written, so far; 0 where none is.
    pub fn written_bytes(&self) -> u64 {
        self.writing.as_ref().map_or(0, |writing| writing.writer.bytes())
    }

    /// Does one piece of work: a block of a snapshot that is written, or a whole other job.
    ///
    /// # Errors
    /// If the disk fails: what is on it is not known any more, and the process must end. A full disk is no such error.
    pub fn work(&mut self) -> Result<Worked, DiskError> {
        match self.jobs.pop_front() {
            Some(SnapshotJob::Forget(machine)) => {
                drop(machine);
                Ok(Worked::On)
            }
            Some(SnapshotJob::Take(image)) => self.begin(*image),
            Some(SnapshotJob::Receive { cluster, last }) => self.receive(cluster, last),
            Some(SnapshotJob::Store { last, offset, bytes }) => self.store(last, offset, &bytes),
            Some(SnapshotJob::Read { to, cluster, last, offset, length }) => {
                self.lend(Question { to, cluster, last, offset, length })
            }
            Some(SnapshotJob::Backup(job)) => {
                let news = self.backups.work(&*self.disk, job)?;
                Ok(news.map_or(Worked::On, |news| Worked::Done(SnapshotNews::Backup(news))))
            }
            Some(SnapshotJob::Close) => {
                self.lending.close();
                Ok(Worked::On)
            }
            Some(SnapshotJob::Abandon { last }) => self.abandon(last),
            None => match self.lending.work()? {
                (_, Some(news)) => Ok(Worked::Done(news)),
                (true, None) => Ok(Worked::On),
                (false, None) => self.write_on(),
            },
        }
    }

    fn begin(&mut self, image: Image) -> Result<Worked, DiskError> {
        let (cluster, position, digest) = (image.cluster(), image.position(), image.digest());
        assert!(self.writing.is_none(), "a second snapshot while one is being written");
        let (needed, free) = (image.bytes_min(), self.disk.free_bytes()?);
        if free < needed {
            // To try would take the last room from the log.
            let why =
                format!("the disk is full: it needs {needed} bytes and {free} are free; free some space");
            return Ok(Worked::Done(SnapshotNews::NotTaken { position, why }));
        }
        match SnapshotWriter::create(Arc::clone(&self.disk), cluster, position) {
            Ok(writer) => {
                self.writing = Some(Writing { writer, blocks: image.blocks(), position, digest });
                Ok(Worked::On)
            }
            Err(error) => not_taken(position, error),
        }
    }

    fn write_on(&mut self) -> Result<Worked, DiskError> {
        let Some(mut writing) = self.writing.take() else { return Ok(Worked::Idle) };
        let position = writing.position;
        let written = match writing.blocks.next() {
            Some(block) => match writing.writer.block(&block) {
                Ok(()) => {
                    self.writing = Some(writing);
                    return Ok(Worked::On);
                }
                Err(error) => {
                    writing.writer.abandon()?;
                    Err(error)
                }
            },
            None => writing.writer.finish(writing.digest),
        };
        match written {
            Ok(_) => Ok(Worked::Done(SnapshotNews::Taken(position))),
            Err(error) => not_taken(position, error),
        }
    }

    fn receive(&mut self, cluster: ClusterId, last: Position) -> Result<Worked, DiskError> {
        self.receiving = None;
        if !is_possible(last) {
            let why = "no snapshot can be of this position".to_owned();
            return Ok(Worked::Done(SnapshotNews::Failed { last, why }));
        }
        match SnapshotReceiver::open(Arc::clone(&self.disk), cluster, last) {
            Ok(receiver) if receiver.is_complete() => self.complete(receiver),
            Ok(receiver) => {
                let bytes = receiver.received();
                self.receiving = Some(receiver);
                Ok(Worked::Done(SnapshotNews::Received { last, bytes }))
            }
            Err(error) => failed(last, error),
        }
    }

    fn store(&mut self, last: Position, offset: u64, piece: &Bytes) -> Result<Worked, DiskError> {
        let Some(mut receiver) = self.receiving.take_if(|into| into.position() == last) else {
            return Ok(Worked::On);
        };
        match receiver.chunk(offset, piece) {
            Ok(_) if receiver.is_complete() => self.complete(receiver),
            // Refused at one place twice: another way or another sender may do better, once it is offered again.
            Err(error @ SnapshotError::Damaged { .. }) if receiver.received() == 0 => {
                receiver.abandon()?;
                failed(last, error)
            }
            // What was verified stays, and what did not fit is asked for again.
            Ok(_) | Err(SnapshotError::Damaged { .. }) => {
                let bytes = receiver.received();
                self.receiving = Some(receiver);
                Ok(Worked::Done(SnapshotNews::Received { last, bytes }))
            }
            Err(error) => {
                receiver.abandon()?;
                failed(last, error)
            }
        }
    }

    fn complete(&mut self, receiver: SnapshotReceiver) -> Result<Worked, DiskError> {
        let last = receiver.position();
        // Before it has its name: the next start would drop the log for a snapshot that nobody here can load.
        let loaded = match receiver.file() {
            Ok(file) => load(&file, self.seed),
            Err(error) => Err(error.into()),
        };
        let machine = match loaded {
            Ok(machine) => machine,
            Err(RestoreError::File(SnapshotError::Disk(error))) => return Err(error),
            Err(error) => {
                receiver.abandon()?;
                return Ok(Worked::Done(SnapshotNews::Failed { last, why: error.to_string() }));
            }
        };
        match receiver.finish() {
            Ok(_) => Ok(Worked::Done(SnapshotNews::Complete { last, machine })),
            Err(error) => failed(last, error),
        }
    }

    fn lend(&mut self, question: Question) -> Result<Worked, DiskError> {
        Ok(self.lending.ask(&*self.disk, question)?.map_or(Worked::On, Worked::Done))
    }

    /// Gives up what is received of this snapshot, and its place on the disk.
    fn abandon(&mut self, last: Position) -> Result<Worked, DiskError> {
        if let Some(receiver) = self.receiving.take_if(|into| into.position() == last) {
            receiver.abandon()?;
        }
        Ok(Worked::On)
    }
}

/// An own snapshot for which there was no room is given up; a disk that failed is not used any more.
fn not_taken(position: Position, error: SnapshotError) -> Result<Worked, DiskError> {
    let why = reason(error)?;
    Ok(Worked::Done(SnapshotNews::NotTaken { position, why }))
}

/// Likewise one from another server, also where it is not what it should be.
fn failed(last: Position, error: SnapshotError) -> Result<Worked, DiskError> {
    let why = reason(error)?;
    Ok(Worked::Done(SnapshotNews::Failed { last, why }))
}

/// What to say of an error after which the process may go on.
fn reason(error: SnapshotError) -> Result<String, DiskError> {
    let why = error.to_string();
    if let SnapshotError::Disk(error) = error
        && !error.is_full()
    {
        return Err(error);
    }
    Ok(why)
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").field("jobs", &self.jobs.len()).finish_non_exhaustive()
    }
}
