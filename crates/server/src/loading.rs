//! Reads the data folder on a thread of its own, while the ports are open already. Must not know what clients are told
//! meanwhile.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use quorate_replica::Machine;
use quorate_storage::{Folder, FolderConfig, Incarnation, Outcome, SEGMENT_BYTES_DEFAULT, SnapshotReader};
use tokio::sync::oneshot;
use tracing::info;

use crate::config::ServeConfig;
use crate::file_disk::FileDisk;
use crate::lanes;
use crate::progress::Progress;

/// A log that is as long as it may be has at least so many segments.
const SEGMENTS_PER_LOG: u64 = 8;

/// How far loading is: told by its thread, read by the loop.
#[derive(Debug)]
pub(crate) struct LoadProgress {
    begun: Instant,
    begun_at: SystemTime,
    done: AtomicU64,
    total: AtomicU64,
}

impl LoadProgress {
    /// Of a load that begins now.
    pub(crate) fn begin() -> Self {
        let (done, total) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { begun: Instant::now(), begun_at: SystemTime::now(), done, total }
    }

    fn at(&self, done: u64, total: u64) {
        self.done.store(done, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }

    /// Bytes that are read.
    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Bytes that there are, once that is known.
    pub(crate) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Whole percents, 100 only when all is read.
    pub(crate) fn percent(&self) -> u64 {
        self.done().saturating_mul(100).checked_div(self.total()).unwrap_or(0).min(100)
    }

    /// Seconds since 1970 at its beginning.
    pub(crate) fn begun_s(&self) -> u64 {
        self.begun_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
    }

    /// How long the rest takes, if it goes on as it has begun.
    pub(crate) fn left(&self) -> Duration {
        let left = self.total().saturating_sub(self.done());
        let nanos = self.begun.elapsed().as_nanos().saturating_mul(u128::from(left));
        let nanos = nanos.checked_div(u128::from(self.done())).unwrap_or(0);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// A data folder, and the state that it holds.
pub(crate) struct Loaded {
    pub(crate) disk: Arc<FileDisk>,
    pub(crate) folder: Folder,
    /// The state of its snapshot, if it has one.
    pub(crate) machine: Option<Box<Machine>>,
}

/// Loads the folder of this configuration. `seed` is of the hash tables of the state.
///
/// Dropped before it is done, it leaves its thread behind: only for the end of the process. Nothing is promised before
/// it is done, so an end in its middle is a crash like any other.
pub(crate) async fn load(
    config: &ServeConfig,
    seed: u64,
    at: Arc<LoadProgress>,
) -> anyhow::Result<Box<Loaded>> {
    let (report, loaded) = oneshot::channel();
    let config = config.clone();
    let work = move || {
        // If nobody listens, the process is ending.
        let _ = report.send(read(&config, seed, &at));
    };
    std::thread::Builder::new().name("loading".to_owned()).spawn(work).context("the thread of loading")?;
    // The sender is dropped by a panic only, which ends the process.
    loaded.await.context("the thread of loading")?
}

fn read(config: &ServeConfig, seed: u64, at: &LoadProgress) -> anyhow::Result<Box<Loaded>> {
    let name = || format!("the data folder {}", config.data.display());
    let disk = Arc::new(FileDisk::open(&config.data).with_context(name)?);
    let folder_config = FolderConfig {
        node: config.id,
        fresh_incarnation: Incarnation(getrandom::u64().context("no random numbers")?),
        segment_bytes: segment_bytes(config.log_bytes_max),
        tail_bytes: config.log_tail_bytes,
    };
    let mut progress = Progress::new(format!("reading {}", name()), &|line| info!("{line}"));
    let mut machine = None;
    let mut load = |reader: &mut SnapshotReader<'_>| {
        machine = Some(lanes::load(reader, seed)?);
        Ok(())
    };
    let folder = Folder::open_loading(disk.clone(), &folder_config, &mut load, &mut |done, total| {
        at.at(done, total);
        progress.at(done, total);
    })
    .with_context(name)?;
    drop(progress);
    describe(&folder, &config.data);
    Ok(Box::new(Loaded { disk, folder, machine }))
}

/// Segments are deleted whole, and the next one is made ahead: small enough for both to matter little beside the log.
fn segment_bytes(log_bytes_max: u64) -> u64 {
    (log_bytes_max / SEGMENTS_PER_LOG).min(SEGMENT_BYTES_DEFAULT)
}

/// Tells the operator what was found.
fn describe(folder: &Folder, data: &Path) {
    match folder.wal.outcome() {
        Outcome::Clean => {}
        Outcome::Torn(cut) => info!(
            "the log ended in a write that was never acknowledged, at {}; it is cut there, before index {}",
            cut.at, cut.index
        ),
    }
    let (snapshot, entries) = (folder.restored.snapshot, &folder.restored.entries);
    let behind = entries.iter().filter(|entry| entry.position.index > snapshot.index).count();
    info!(
        "the data folder {}: {}, {} entries, {behind} of them behind it, last {}",
        data.display(),
        if snapshot.index.0 == 0 { "no snapshot".to_owned() } else { format!("a snapshot at {snapshot}") },
        entries.len(),
        folder.wal.last()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentage_is_of_what_there_is() {
        let progress = LoadProgress::begin();
        assert_eq!((progress.percent(), progress.left()), (0, Duration::ZERO));
        progress.at(999, 1_000);
        assert_eq!((progress.percent(), progress.done(), progress.total()), (99, 999, 1_000));
        progress.at(1_000, 1_000);
        assert_eq!((progress.percent(), progress.left()), (100, Duration::ZERO));
    }
}
