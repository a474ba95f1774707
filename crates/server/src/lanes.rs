//! Makes the state of a snapshot on several threads: one reads and verifies the file, the others fill the hash tables, each
//! its own. Must not know what stands in the blocks.

use std::collections::VecDeque;
use std::num::NonZero;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, ScopedJoinHandle, available_parallelism};

use quorate_replica::Machine;
use quorate_replica::keeper::{self, RestoreError};
use quorate_replica::snapshot::{Keys, Lane, LoadError, LoadedLane, Splitter};
use quorate_storage::SnapshotReader;

/// Threads that fill hash tables; more would wait for the one that reads.
const LANES_MAX: usize = 8;
/// Blocks that wait for one of them at most: what is in memory besides the state, with the two that are worked on.
const BLOCKS_WAITING_MAX: usize = 4;

/// A block that was verified, and where its keys are.
struct Piece {
    buffer: Vec<u8>,
    content: Range<usize>,
    keys: Keys,
}

/// Loads the state of a snapshot that is read from its beginning; `seed` is of its hash tables.
pub(crate) fn load(reader: &mut SnapshotReader<'_>, seed: u64) -> Result<Box<Machine>, RestoreError> {
    let lanes = available_parallelism().map_or(1, NonZero::get).min(LANES_MAX);
    let mut splitter = Splitter::new(reader.cluster(), reader.position(), reader.bytes());
    let loaded = thread::scope(|scope| {
        let (senders, threads): (Vec<_>, Vec<_>) = Lane::all(seed, lanes)
            .into_iter()
            .map(|lane| {
                let (sender, pieces) = sync_channel(BLOCKS_WAITING_MAX);
                (sender, scope.spawn(move || fill(lane, &pieces)))
            })
            .unzip();
        let read = read(reader, &mut splitter, &senders);
        // The end of what they wait for.
        drop(senders);
        let lanes = join(threads);
        read.map(|()| lanes)
    })?;
    let lanes = loaded.map_err(|error| RestoreError::content(reader, error))?;
    keeper::finish(reader, splitter, lanes)
}

/// What all lanes have loaded, or what one of them was stopped by.
fn join(
    threads: Vec<ScopedJoinHandle<'_, Result<LoadedLane, LoadError>>>,
) -> Result<Vec<LoadedLane>, LoadError> {
    // A panic of a thread has ended the process.
    threads.into_iter().map(|thread| thread.join().expect("a lane ends with an answer")).collect()
}

fn fill(mut lane: Lane, pieces: &Receiver<Arc<Piece>>) -> Result<LoadedLane, LoadError> {
    for piece in pieces {
        lane.load(&piece.keys, &piece.buffer[piece.content.clone()]);
    }
    lane.finish()
}

/// Reads to the end, and gives each block to every lane.
fn read(
    reader: &mut SnapshotReader<'_>,
    splitter: &mut Splitter,
    lanes: &[SyncSender<Arc<Piece>>],
) -> Result<(), RestoreError> {
    let mut given: VecDeque<Arc<Piece>> = VecDeque::new();
    loop {
        let mut buffer = reused(&mut given).unwrap_or_default();
        let Some(content) = reader.block_into(&mut buffer)? else { return Ok(()) };
        let keys =
            splitter.block(&buffer[content.clone()]).map_err(|error| RestoreError::content(reader, error))?;
        let piece = Arc::new(Piece { buffer, content, keys });
        for lane in lanes {
            lane.send(Arc::clone(&piece)).expect("a lane takes all that comes");
        }
        given.push_back(piece);
    }
}

/// The buffer of the oldest block, once no lane has it any more.
fn reused(given: &mut VecDeque<Arc<Piece>>) -> Option<Vec<u8>> {
    Arc::get_mut(given.front_mut()?)?;
    given.pop_front().and_then(Arc::into_inner).map(|piece| piece.buffer)
}
