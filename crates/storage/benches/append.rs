//! What the log costs besides the disk: entries laid out in records, with their checksums, on a disk in memory.
//!
//! `cargo bench -p quorate-storage`

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on panics")]

use std::sync::Arc;

use bytes::Bytes;
use divan::Bencher;
use divan::counter::BytesCount;
use quorate_raft::{Entry, HardState, Index, Payload, Position, Term};
use quorate_storage::{IfMissing, Incarnation, SEGMENT_BYTES_DEFAULT, SimDisk, Wal, WalConfig};

fn main() {
    divan::main();
}

/// One entry of so many bytes, and its sync.
#[divan::bench(args = [128, 8 << 10, 1 << 20], sample_count = 50, sample_size = 10)]
fn append_and_sync(bencher: Bencher<'_, '_>, bytes: usize) {
    let config = WalConfig {
        owner: Incarnation(1),
        segment_bytes: SEGMENT_BYTES_DEFAULT,
        if_missing: IfMissing::Create,
        snapshot: Position::ZERO,
        tail_bytes: 0,
    };
    let (mut log, _) = Wal::open(Arc::new(SimDisk::new()), &config).unwrap();
    let (term, payload) = (Term(1), Bytes::from(vec![b'v'; bytes]));
    log.append(Some(HardState { term, vote: None }), &[]).unwrap();
    let mut last = Index::ZERO;
    bencher.counter(BytesCount::new(bytes)).bench_local(|| {
        last = last.next();
        let payload = Payload::Data(payload.clone());
        log.append(None, &[Entry { position: Position::new(term, last), payload }]).unwrap();
        log.sync().unwrap();
    });
}
