//! Snapshot files: what was written comes back, every changed byte is found, and a copy can be taken in any pieces.

use std::sync::Arc;

use expect_test::expect;
use proptest::collection::vec;
use proptest::prelude::*;
use quorate_raft::{Index, Position, Term};
use quorate_storage::snapshot::{self, BLOCK_BYTES_MAX, SYNC_STEP_BYTES};
use quorate_storage::{
    ClusterId, Disk, SimDisk, SnapshotError, SnapshotFile, SnapshotReceiver, SnapshotWriter,
};

use crate::support::{hexdump, sentence};

const DIGEST: u64 = 0x0123_4567_89ab_cdef;

pub(crate) fn cluster() -> ClusterId {
    ClusterId::new(0xc1c2_c3c4_c5c6_c7c8_c9ca_cbcc_cdce_cfd0).unwrap()
}

fn at(index: u64, term: u64) -> Position {
    Position::new(Term(term), Index(index))
}

pub(crate) fn shared(disk: &SimDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

fn take(disk: &SimDisk, position: Position, blocks: &[&[u8]]) -> SnapshotFile {
    let mut writer = SnapshotWriter::create(shared(disk), cluster(), position).unwrap();
    blocks.iter().for_each(|block| writer.block(block).unwrap());
    let bytes = writer.bytes();
    let file = writer.finish(DIGEST).unwrap();
    assert!(file.bytes() > bytes);
    file
}

fn open(disk: &SimDisk, position: Position) -> SnapshotFile {
    SnapshotFile::open(disk, cluster(), position).unwrap()
}

fn read(file: &SnapshotFile) -> Result<Vec<Vec<u8>>, SnapshotError> {
    let mut reader = file.reader();
    let mut blocks = Vec::new();
    while let Some(block) = reader.block()? {
        blocks.push(block.to_vec());
    }
    assert_eq!(reader.digest(), Some(DIGEST));
    assert_eq!(reader.offset(), file.bytes());
    Ok(blocks)
}

/// A small one, and its name.
fn small() -> (SimDisk, String, Vec<u8>) {
    let disk = SimDisk::new();
    let name = take(&disk, at(5, 2), &[b"hello", b"world!"]).name().to_owned();
    let bytes = disk.content(&name).unwrap();
    (disk, name, bytes)
}

#[test]
fn a_snapshot_of_two_blocks() {
    let (disk, name, bytes) = small();
    assert_eq!(name, "snapshot-00000000000000000005-2.snap");
    assert_eq!(disk.names(), [name]);
    expect![[r#"
        0000  51 52 54 53 4e 41 50 00 a7 23 0b dd 01 00 00 00  QRTSNAP..#......
        0010  d0 cf ce cd cc cb ca c9 c8 c7 c6 c5 c4 c3 c2 c1  ................
        0020  02 00 00 00 00 00 00 00 05 00 00 00 00 00 00 00  ................
        *
        0040  05 00 00 00 03 84 7b 39 01 00 00 00 00 00 00 00  ......{9........
        0050  01 00 00 00 00 00 00 00 68 65 6c 6c 6f 06 00 00  ........hello...
        0060  00 fc c2 9f e0 02 00 00 00 00 00 00 00 01 00 00  ................
        0070  00 00 00 00 00 77 6f 72 6c 64 21 20 00 00 00 5e  .....world! ...^
        0080  c8 34 6e 03 00 00 00 00 00 00 00 02 00 00 00 00  .4n.............
        0090  00 00 00 02 00 00 00 00 00 00 00 0b 00 00 00 00  ................
        00a0  00 00 00 ef cd ab 89 67 45 23 01 cb d5 d5 47 00  .......gE#....G.
        *
        00b3
    "#]]
    .assert_eq(&hexdump(&bytes));
}

#[test]
fn blocks_come_back() {
    let disk = SimDisk::new();
    let big = vec![7; BLOCK_BYTES_MAX];
    let blocks: Vec<&[u8]> = vec![b"a", &big, b"b"];
    take(&disk, at(1, 1), &blocks);
    take(&disk, at(9, 3), &[]);
    disk.crash_power(0);
    assert_eq!(read(&open(&disk, at(1, 1))).unwrap(), blocks);
    assert_eq!(read(&open(&disk, at(9, 3))).unwrap(), Vec::<Vec<u8>>::new());
    assert_eq!(snapshot::list(&disk).unwrap(), [at(1, 1), at(9, 3)]);
    let mut heard = Vec::new();
    let digest =
        snapshot::verify(&disk, cluster(), at(1, 1), &mut |done, all| heard.push((done, all))).unwrap();
    assert_eq!(digest, DIGEST);
    // Three blocks, and the end.
    assert_eq!(heard.len(), 4);
    assert!(heard.is_sorted() && heard.last().is_some_and(|(done, all)| done == all), "{heard:?}");
}

#[test]
fn every_flipped_bit_is_found() {
    let (disk, name, bytes) = small();
    for offset in 0..bytes.len() {
        for bit in 0..8 {
            let disk = disk.fork();
            assert!(disk.flip_bit(&name, offset as u64, bit));
            let error = read(&open(&disk, at(5, 2)))
                .expect_err(&format!("bit {bit} of byte {offset} went unnoticed"));
            assert!(matches!(error, SnapshotError::Damaged { .. }), "{error}");
        }
    }
}

#[test]
fn every_other_length_is_found() {
    let (disk, name, bytes) = small();
    for length in 0..bytes.len() {
        disk.plant(&name, Some(bytes[..length].to_vec()));
        assert!(
            matches!(read(&open(&disk, at(5, 2))), Err(SnapshotError::Damaged { .. })),
            "cut to {length}"
        );
    }
    for more in [vec![0], vec![0; 24], bytes.clone()] {
        disk.plant(&name, Some([bytes.clone(), more].concat()));
        assert!(matches!(read(&open(&disk, at(5, 2))), Err(SnapshotError::Damaged { .. })));
    }
}

/// Each block is right by itself; the order, the number and the file are not.
#[test]
fn blocks_out_of_place_are_found() {
    let (disk, name, bytes) = small();
    let (first, second, trailer) = (64..93, 93..123, 123..bytes.len());
    let other = SimDisk::new();
    take(&other, at(5, 2), &[b"hello", b"WORLD?"]);
    let other_second = other.content(&name).unwrap()[second.clone()].to_vec();
    let head = &bytes[..64];
    let changed = [
        [head, &bytes[second.clone()], &bytes[first.clone()], &bytes[trailer.clone()]].concat(),
        [head, &bytes[first.clone()], &bytes[trailer.clone()]].concat(),
        [head, &bytes[first.clone()], &bytes[first.clone()], &bytes[second], &bytes[trailer.clone()]]
            .concat(),
        // Of another file of the same position: only the checksum over all tells.
        [head, &bytes[first], &other_second, &bytes[trailer]].concat(),
    ];
    for changed in changed {
        disk.plant(&name, Some(changed));
        let error = read(&open(&disk, at(5, 2))).expect_err("blocks are out of place");
        assert!(matches!(error, SnapshotError::Damaged { .. }), "{error}");
    }
}

#[test]
fn a_snapshot_of_another_name_cluster_or_format_is_refused() {
    let (disk, name, mut bytes) = small();
    disk.plant("snapshot-00000000000000000006-2.snap", Some(bytes.clone()));
    assert!(matches!(read(&open(&disk, at(6, 2))), Err(SnapshotError::Damaged { .. })));
    let other = SnapshotFile::open(&disk, ClusterId::new(7).unwrap(), at(5, 2)).unwrap();
    expect![[r#"
        snapshot-00000000000000000005-2.snap is a snapshot of cluster
        c1c2c3c4c5c6c7c8c9cacbcccdcecfd0, and this folder is of cluster
        00000000000000000000000000000007: somebody has copied it here; take it away, put
        this cluster's own there, and do not start a server before
    "#]]
    .assert_eq(&sentence(&read(&other).unwrap_err()));
    bytes[12] = 2;
    let sum = crc32c::crc32c(&bytes[12..64]);
    bytes[8..12].copy_from_slice(&sum.to_le_bytes());
    disk.plant(&name, Some(bytes));
    expect![[r#"
        snapshot-00000000000000000005-2.snap has format 2, and this program reads format
        1: start a newer version
    "#]]
    .assert_eq(&sentence(&read(&open(&disk, at(5, 2))).unwrap_err()));
}

#[test]
fn damage_is_said_with_file_offset_and_index() {
    let (disk, name, _) = small();
    disk.flip_bit(&name, 100, 0);
    expect![[r#"
        snapshot-00000000000000000005-2.snap is not readable at offset 93 (the checksum
        of a block is wrong): the snapshot of index 5 is damaged. No server may start on
        this folder as it is: keep a copy of it. An intact snapshot of the same cluster
        with the same or a higher index, from another server or from a copy of this
        folder, may be put beside or in its place; the votes are in the log, which must
        stay as it is
    "#]]
    .assert_eq(&sentence(&read(&open(&disk, at(5, 2))).unwrap_err()));
}

#[test]
fn the_newest_two_are_kept() {
    let disk = SimDisk::new();
    for index in [10, 30, 20, 40] {
        take(&disk, at(index, 1), &[b"x"]);
    }
    assert_eq!(snapshot::list(&disk).unwrap(), [at(30, 1), at(40, 1)]);
    // The same once more takes its place.
    take(&disk, at(40, 1), &[b"x", b"y"]);
    assert_eq!(read(&open(&disk, at(40, 1))).unwrap().len(), 2);
    let abandoned = SnapshotWriter::create(shared(&disk), cluster(), at(50, 1)).unwrap();
    assert_eq!(disk.names().len(), 3);
    abandoned.abandon().unwrap();
    assert_eq!(snapshot::list(&disk).unwrap(), [at(30, 1), at(40, 1)]);
}

/// It took so long that two newer ones have come meanwhile: complete all the same, and gone at once.
#[test]
fn a_snapshot_may_be_too_old_when_it_is_complete() {
    let disk = SimDisk::new();
    let mut slow = SnapshotWriter::create(shared(&disk), cluster(), at(10, 1)).unwrap();
    slow.block(b"slow").unwrap();
    take(&disk, at(20, 1), &[b"x"]);
    take(&disk, at(30, 1), &[b"x"]);
    let file = slow.finish(DIGEST).unwrap();
    assert_eq!(snapshot::list(&disk).unwrap(), [at(20, 1), at(30, 1)]);
    assert_eq!(read(&file).unwrap(), [b"slow"]);
}

#[test]
fn a_full_disk_takes_no_snapshot_and_gets_its_room_back() {
    let disk = SimDisk::new();
    disk.set_capacity_bytes(Some(10_000));
    let mut writer = SnapshotWriter::create(shared(&disk), cluster(), at(5, 2)).unwrap();
    let full = loop {
        match writer.block(&[1; 1000]) {
            Ok(()) => assert!(writer.bytes() < 10_000),
            Err(error) => break error,
        }
    };
    assert!(matches!(full, SnapshotError::Disk(error) if error.is_full()));
    writer.abandon().unwrap();
    assert_eq!(disk.free_bytes().unwrap(), 10_000);
}

/// Wherever in it the room ends, also at its head and its trailer: nothing of it stays.
#[test]
fn a_snapshot_that_finds_no_room_leaves_nothing_behind() {
    let disk = SimDisk::new();
    let whole = take(&disk, at(5, 2), &[&[1; 1000], &[2; 1000]]).bytes();
    for room in (0..whole).step_by(7).chain([whole - 1]) {
        let disk = SimDisk::new();
        disk.set_capacity_bytes(Some(room));
        let full =
            |error: SnapshotError| assert!(matches!(error, SnapshotError::Disk(error) if error.is_full()));
        match SnapshotWriter::create(shared(&disk), cluster(), at(5, 2)) {
            Err(error) => full(error),
            Ok(mut writer) => match writer.block(&[1; 1000]).and_then(|()| writer.block(&[2; 1000])) {
                Err(error) => {
                    full(error);
                    writer.abandon().unwrap();
                }
                Ok(()) => full(writer.finish(DIGEST).map(drop).unwrap_err()),
            },
        }
        assert_eq!(disk.names(), [] as [String; 0], "room for {room} of {whole}");
    }
}

/// Several followers read one file, and its name goes away meanwhile.
#[test]
fn an_open_snapshot_is_read_by_many_and_outlives_its_name() {
    let (disk, name, bytes) = small();
    let file = Arc::new(open(&disk, at(5, 2)));
    for index in [6, 7] {
        take(&disk, at(index, 2), &[b"x"]);
    }
    assert!(disk.content(&name).is_none());
    let whole = |step: usize| {
        let pieces = (0..).map(|number| file.read_at((number * step) as u64, step).unwrap());
        pieces.take_while(|piece| !piece.is_empty()).collect::<Vec<_>>().concat()
    };
    for step in [1, 7, 64, 10_000] {
        assert_eq!(whole(step), bytes);
    }
    assert!(file.read_at(1 << 40, 10).unwrap().is_empty());
    assert_eq!(read(&file).unwrap().len(), 2);
}

#[test]
fn a_copy_is_received_in_pieces_of_any_size() {
    let (_, name, bytes) = small();
    for size in 1..=bytes.len() {
        let disk = SimDisk::new();
        let mut receiver = SnapshotReceiver::open(shared(&disk), cluster(), at(5, 2)).unwrap();
        for piece in bytes.chunks(size) {
            let from = receiver.received();
            assert_eq!(receiver.chunk(from + 1, piece).unwrap(), from, "too early");
            assert_eq!(receiver.chunk(from, piece).unwrap(), from + piece.len() as u64);
            assert_eq!(receiver.chunk(from, piece).unwrap(), from + piece.len() as u64, "twice");
        }
        // One that overlaps is taken from where it is new.
        assert_eq!(receiver.chunk(0, &bytes).unwrap(), bytes.len() as u64);
        assert!(receiver.is_complete());
        let file = receiver.finish().unwrap();
        assert_eq!(read(&file).unwrap(), [b"hello".to_vec(), b"world!".to_vec()]);
        assert_eq!(disk.names(), std::slice::from_ref(&name));
        disk.crash_power(0);
        assert_eq!(disk.content(&name).unwrap(), bytes);
    }
}

/// The process is killed, or the power fails, after any number of bytes: the next one goes on behind the last block
/// that is whole.
#[test]
fn a_copy_is_gone_on_with_after_a_restart() {
    let (_, name, bytes) = small();
    let ends = [0, 64, 93, 123, bytes.len() as u64];
    for length in 0..=bytes.len() {
        for power in [None, Some(0), Some(1), Some(7)] {
            let disk = SimDisk::new();
            let mut receiver = SnapshotReceiver::open(shared(&disk), cluster(), at(5, 2)).unwrap();
            receiver.chunk(0, &bytes[..length]).unwrap();
            power.map_or_else(|| disk.crash_process(), |seed| disk.crash_power(seed));
            let mut receiver = SnapshotReceiver::open(shared(&disk), cluster(), at(5, 2)).unwrap();
            let from = receiver.received();
            let whole = *ends.iter().rfind(|end| **end <= length as u64).unwrap();
            assert!(if power.is_none() { from == whole } else { from <= whole && ends.contains(&from) });
            receiver.chunk(from, &bytes[from as usize..]).unwrap();
            receiver.finish().unwrap();
            disk.crash_power(0);
            assert_eq!(disk.content(&name).unwrap(), bytes);
        }
    }
}

#[test]
fn what_is_received_damaged_is_not_taken() {
    let (_, _, bytes) = small();
    for offset in 0..bytes.len() {
        let disk = SimDisk::new();
        let mut receiver = SnapshotReceiver::open(shared(&disk), cluster(), at(5, 2)).unwrap();
        let mut rotten = bytes.clone();
        rotten[offset] ^= 1;
        let refused = receiver.chunk(0, &rotten);
        // A length that says "more" waits for it.
        assert!(refused.is_err() || !receiver.is_complete(), "byte {offset}");
        if refused.is_err() {
            let from = receiver.received();
            assert!(from <= offset as u64);
            receiver.chunk(from, &bytes[from as usize..]).unwrap();
            receiver.finish().unwrap();
        }
    }
}

/// Half from one server, half from another that has taken a snapshot of the same position in other blocks: dropped as a
/// whole, and begun anew.
#[test]
fn a_copy_of_two_files_is_begun_anew() {
    let (disk, _, bytes) = small();
    take(&disk, at(5, 2), &[b"HELLO", b"world!"]);
    let other = disk.content("snapshot-00000000000000000005-2.snap").unwrap();
    let disk = SimDisk::new();
    let mut receiver = SnapshotReceiver::open(shared(&disk), cluster(), at(5, 2)).unwrap();
    receiver.chunk(0, &bytes[..95]).unwrap();
    let mut refusals = 0;
    while !receiver.is_complete() {
        let from = receiver.received() as usize;
        refusals += usize::from(receiver.chunk(from as u64, &other[from..]).is_err());
        assert!(refusals <= 4, "it never ends");
    }
    receiver.finish().unwrap();
    assert_eq!(disk.content("snapshot-00000000000000000005-2.snap").unwrap(), other);
}

/// What a power cut has left behind the end belongs to an older, longer file.
#[test]
fn a_longer_left_over_is_not_taken_for_a_copy() {
    let (_, _, bytes) = small();
    let disk = SimDisk::new();
    disk.plant("snapshot-00000000000000000005-2.part.tmp", Some([bytes.clone(), vec![9; 3]].concat()));
    let receiver = SnapshotReceiver::open(shared(&disk), cluster(), at(5, 2)).unwrap();
    assert!(receiver.is_complete());
    assert!(matches!(receiver.finish(), Err(SnapshotError::Damaged { .. })));
    assert!(disk.names().is_empty());
    let mut receiver = SnapshotReceiver::open(shared(&disk), cluster(), at(5, 2)).unwrap();
    receiver.chunk(0, &bytes).unwrap();
    receiver.finish().unwrap();
}

#[test]
fn a_large_snapshot_is_synced_in_steps() {
    let disk = SimDisk::new();
    let block = vec![3; BLOCK_BYTES_MAX];
    let count = 2 * SYNC_STEP_BYTES as usize / BLOCK_BYTES_MAX;
    let mut writer = SnapshotWriter::create(shared(&disk), cluster(), at(5, 2)).unwrap();
    let mut unsynced_max = 0;
    for number in 1..=count {
        writer.block(&block).unwrap();
        if number % 8 == 0 {
            // Its name is not synced yet; here it is looked at alone.
            let image = disk.fork();
            image.sync_folder().unwrap();
            image.crash_power(0);
            let synced = image.content("snapshot-00000000000000000005-2.tmp").unwrap().len() as u64;
            unsynced_max = unsynced_max.max(writer.bytes() - synced);
        }
    }
    assert!(unsynced_max < SYNC_STEP_BYTES, "{unsynced_max}");
    writer.finish(DIGEST).unwrap();
}

/// Makes the checksums right again, as a program that means it would.
fn repair(bytes: &mut [u8]) {
    if bytes.len() < 64 {
        return;
    }
    let header = crc32c::crc32c(&bytes[12..64]);
    bytes[8..12].copy_from_slice(&header.to_le_bytes());
    let mut from = 64;
    while let Some(head) = bytes.get(from..from + 24) {
        let length = u32::from_le_bytes(head[..4].try_into().unwrap()) as usize;
        let Some(end) = from.checked_add(24 + length).filter(|end| *end <= bytes.len()) else { return };
        let sum = crc32c::crc32c(&header.to_le_bytes());
        let sum = crc32c::crc32c_append(sum, &bytes[from..from + 4]);
        let sum = crc32c::crc32c_append(sum, &bytes[from + 8..end]);
        bytes[from + 4..from + 8].copy_from_slice(&sum.to_le_bytes());
        from = end;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Read and received alike, in any pieces: what was changed is refused or never complete, also where each block's
    /// checksum was made right; and never a panic.
    #[test]
    fn a_changed_snapshot_is_never_taken(
        changes in vec((any::<u16>(), any::<u8>()), 0..4),
        cut in proptest::option::of(0..180_usize),
        is_repaired: bool,
        piece in 1..80_usize,
    ) {
        let (disk, name, original) = small();
        let mut bytes = original.clone();
        for (offset, mask) in changes {
            let length = bytes.len();
            bytes[usize::from(offset) % length] ^= mask;
        }
        bytes.truncate(cut.unwrap_or(usize::MAX));
        if is_repaired {
            repair(&mut bytes);
        }
        // The digest is the caller's to check; the trailer is the only place that nothing but itself vouches for.
        let is_same = bytes.len() == original.len() && bytes[..123] == original[..123];
        disk.plant(&name, Some(bytes.clone()));
        let is_read = open(&disk, at(5, 2)).verify(&mut |_, _| {}).is_ok();
        prop_assert!(is_same || !is_read);
        prop_assert!(is_read || bytes != original);

        let disk = SimDisk::new();
        let mut receiver = SnapshotReceiver::open(shared(&disk), cluster(), at(5, 2)).unwrap();
        for _ in 0..400 {
            let from = receiver.received() as usize;
            let Some(rest) = bytes.get(from..).filter(|rest| !rest.is_empty()) else { break };
            let _ = receiver.chunk(from as u64, &rest[..rest.len().min(piece)]);
        }
        prop_assert_eq!(receiver.is_complete(), is_read);
        if is_read {
            prop_assert_eq!(receiver.finish().unwrap().bytes(), bytes.len() as u64);
        }
    }
}
