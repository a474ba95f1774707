//! Makes the state of a snapshot on several threads: one reads and verifies the file, the others take the keys out of its
//! blocks, and then fill the hash tables, each its own. Must not know what stands in the blocks.

use std::num::NonZero;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{self, ScopedJoinHandle, available_parallelism};

use quorate_replica::Machine;
use quorate_replica::keeper::{self, RestoreError};
use quorate_replica::snapshot::{Keys, Lane, LoadError, LoadedShare, Share, Splitter};
use quorate_storage::SnapshotReader;

/// Threads that load keys; more would wait for the one that reads.
const LANES_MAX: usize = 8;
/// Blocks that wait for them at most: what is in memory besides the state, with those that are worked on.
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
    let (pieces, given) = sync_channel(BLOCKS_WAITING_MAX);
    let (used, buffers) = channel();
    let given = Mutex::new(given);
    let shares = thread::scope(|scope| {
        let lanes = Lane::all(seed, lanes);
        let threads = lanes.into_iter().map(|lane| scope.spawn(|| fill(lane, &given, &used)));
        let threads = threads.collect();
        let read = read(reader, &mut splitter, &pieces, &buffers);
        // The end of what they wait for.
        drop(pieces);
        let lanes = join(threads);
        read?;
        let threads = Share::all(lanes).into_iter().map(|share| scope.spawn(|| share.finish())).collect();
        Ok::<_, RestoreError>(join(threads).into_iter().collect::<Result<Vec<LoadedShare>, LoadError>>())
    })?;
    let shares = shares.map_err(|error| RestoreError::content(reader, error))?;
    keeper::finish(reader, splitter, shares)
}

fn join<T>(threads: Vec<ScopedJoinHandle<'_, T>>) -> Vec<T> {
    // A panic of a thread has ended the process.
    threads.into_iter().map(|thread| thread.join().expect("a thread ends with an answer")).collect()
}

/// Loads what is given, a block at a time, and gives the buffers back.
fn fill(mut lane: Lane, given: &Mutex<Receiver<Piece>>, used: &Sender<Vec<u8>>) -> Lane {
    loop {
        let next = given.lock().expect("nobody panics with it").recv();
        let Ok(Piece { buffer, content, keys }) = next else { return lane };
        lane.load(&keys, &buffer[content]);
        // If nobody wants it, all is read.
        let _ = used.send(buffer);
    }
}

/// Reads to the end, and gives each block to whoever is free.
fn read(
    reader: &mut SnapshotReader<'_>,
    splitter: &mut Splitter,
    pieces: &SyncSender<Piece>,
    buffers: &Receiver<Vec<u8>>,
) -> Result<(), RestoreError> {
    loop {
        let mut buffer = buffers.try_recv().unwrap_or_default();
        let Some(content) = reader.block_into(&mut buffer)? else { return Ok(()) };
        let keys =
            splitter.block(&buffer[content.clone()]).map_err(|error| RestoreError::content(reader, error))?;
        pieces.send(Piece { buffer, content, keys }).expect("they take all that comes");
    }
}
