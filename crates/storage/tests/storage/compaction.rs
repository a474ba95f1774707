//! A log behind a snapshot: what is deleted, what must stay, and what a log is worth that does not hold it.

use quorate_raft::{Entry, Index, Position, Restored, Term};
use quorate_storage::{LogError, OpenError, SimDisk, Wal, WalConfig, WriteError};

use crate::support::{Content, entry, existing, new_log, open, seal_checksum, segment, vote};

fn at(index: u64, term: u64) -> Position {
    Position::new(Term(term), Index(index))
}

/// A log that must be there, behind a snapshot.
fn behind(snapshot: Position) -> WalConfig {
    WalConfig { snapshot, ..existing() }
}

/// Entries 1 to `count` of term 1, each of which nearly fills a third of a segment.
fn thirds(count: u64) -> (SimDisk, Wal, Content) {
    let (disk, mut wal) = new_log();
    let mut content = Content::default();
    for index in 1..=count {
        let write = ((index == 1).then(|| vote(1, 2)), [entry(index, 1, [index as u8; 150])]);
        wal.append(write.0, &write.1).unwrap();
        wal.sync().unwrap();
        content.write(write.0, &write.1);
    }
    (disk, wal, content)
}

/// What a log claims is what a restart would find, also where nothing but its beginning is left.
fn check_claim(disk: &SimDisk, wal: &Wal, snapshot: Position) {
    let disk = disk.fork();
    disk.flip_bit(&disk.names()[0], 60, 0);
    let refused = open(&disk, &behind(snapshot)).err().expect("the first record is not missed");
    let OpenError::Log(LogError::Damaged(damage)) = refused else { panic!("{refused}") };
    assert_eq!(damage.synced, wal.claimed());
}

fn above(content: &Content, base: Position) -> Vec<Entry> {
    content.entries.iter().filter(|entry| entry.position.index > base.index).cloned().collect()
}

fn reopened(disk: &SimDisk, snapshot: Position) -> (Wal, Restored) {
    let disk = disk.fork();
    // What was deleted stays deleted.
    disk.crash_power(1);
    let (mut wal, restored) = open(&disk, &behind(snapshot)).unwrap();
    let claimed = wal.claimed();
    // Whatever was found, it is there again, and the log goes on.
    let next = entry(wal.last().index.next().0, restored.hard_state.term.0, [7; 500]);
    wal.append(None, std::slice::from_ref(&next)).unwrap();
    wal.sync().unwrap();
    disk.crash_power(0);
    let (wal, again) = open(&disk, &behind(snapshot)).unwrap();
    assert!(wal.claimed() >= claimed);
    assert_eq!(again.hard_state, restored.hard_state);
    assert_eq!(again.base, restored.base);
    assert_eq!(again.entries, [restored.entries.clone(), vec![next]].concat());
    (wal, restored)
}

#[test]
fn covered_segments_are_deleted_whole_and_the_vote_stays() {
    let (disk, mut wal, content) = thirds(12);
    assert_eq!(disk.names().len(), 4);
    let before = (wal.log_bytes(), wal.file_bytes());
    assert_eq!(before.1, 4096);
    for covered in 1..=12 {
        // As far as `through`, not as far as the snapshot.
        assert_eq!(
            wal.compact(at(12, 1), Index(covered - 1)).unwrap(),
            usize::from(covered % 3 == 1 && covered > 1)
        );
        let first = disk.names()[0].clone();
        check_claim(&disk, &wal, at(12, 1));
        let (_, restored) = reopened(&disk, at(12, 1));
        assert_eq!(restored.hard_state, vote(1, 2));
        assert!(restored.base.index.0 < covered, "nothing above was deleted");
        assert_eq!(restored.entries, above(&content, restored.base), "{first}");
    }
    assert_eq!(disk.names(), [segment(4)]);
    assert_eq!(wal.log_bytes(), 0);
}

#[test]
fn bytes_are_counted_behind_the_snapshot() {
    let (disk, mut wal, _) = thirds(10);
    let record = wal.log_bytes() / 10;
    assert!((200..300).contains(&record));
    wal.compact(at(4, 1), Index(4)).unwrap();
    assert_eq!(wal.log_bytes(), record * 6);
    disk.crash_process();
    let (wal, restored) = open(&disk, &behind(at(4, 1))).unwrap();
    assert_eq!(wal.log_bytes(), record * 6);
    assert_eq!(restored.base, at(3, 1));
    assert_eq!(
        wal.file_bytes(),
        disk.names().iter().map(|name| disk.content(name).unwrap().len() as u64).sum()
    );
}

/// With segments of their smallest size, the files of a log that is covered whole are less than two of them.
#[test]
fn a_covered_segment_that_is_half_full_is_left_early() {
    let (disk, mut wal, _) = thirds(5);
    assert_eq!(disk.names(), [segment(1), segment(2)]);
    assert_eq!(wal.compact(at(5, 1), Index(5)).unwrap(), 2);
    assert_eq!(disk.names(), [segment(3)]);
    assert_eq!(wal.compact(at(5, 1), Index(5)).unwrap(), 0, "once");
    check_claim(&disk, &wal, at(5, 1));
    let (_, restored) = reopened(&disk, at(5, 1));
    assert_eq!((restored.base, restored.entries.len(), restored.hard_state), (at(5, 1), 0, vote(1, 2)));
}

/// Entry 3 of term 1 is the last when segment 2 begins, and is truncated in it; then segment 1 goes.
#[test]
fn the_entry_behind_which_a_log_begins_may_have_been_truncated() {
    let (disk, mut wal, mut content) = thirds(3);
    for write in [
        (Some(vote(2, 1)), vec![entry(4, 2, [4; 150])]),
        (None, vec![entry(2, 2, [2; 150]), entry(3, 2, "three"), entry(4, 2, "four")]),
    ] {
        wal.append(write.0, &write.1).unwrap();
        content.write(write.0, &write.1);
    }
    wal.sync().unwrap();
    assert_eq!(wal.compact(at(3, 2), Index(3)).unwrap(), 1);
    assert_eq!(disk.names(), [segment(2)]);
    let (_, restored) = reopened(&disk, at(3, 2));
    assert_eq!(restored.base, at(2, 2));
    assert_eq!(restored.entries, above(&content, at(2, 2)));
}

/// Nothing orders the deletions of several files in a power cut: whichever of them are back, the log is the same.
#[test]
fn any_of_the_deleted_segments_may_come_back() {
    let (disk, mut wal, content) = thirds(12);
    let deleted: Vec<_> = (1..=3).map(|number| (segment(number), disk.content(&segment(number)))).collect();
    wal.compact(at(10, 1), Index(10)).unwrap();
    assert_eq!(disk.names(), [segment(4)]);
    for back in 0..8 {
        let disk = disk.fork();
        for (number, (name, bytes)) in deleted.iter().enumerate() {
            disk.plant(name, if back >> number & 1 == 1 { bytes.clone() } else { None });
        }
        let (_, restored) = reopened(&disk, at(10, 1));
        assert_eq!(restored.hard_state, vote(1, 2), "{back}");
        assert_eq!(restored.entries, above(&content, restored.base), "{back}");
        // What stands before a gap is removed.
        let (_, _) = open(&disk, &behind(at(10, 1))).unwrap();
        let numbers: Vec<_> = (1..=4).filter(|number| disk.content(&segment(*number)).is_some()).collect();
        assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{numbers:?}");
    }
}

/// Segment 3 began behind an uncovered entry that was truncated later: the log can only begin at segment 4.
#[test]
fn a_deletion_may_bring_back_a_segment_that_cannot_be_the_first() {
    let (disk, mut wal, mut content) = thirds(3);
    for write in [(Some(vote(2, 1)), vec![entry(4, 2, [4; 150]), entry(2, 2, [2; 500])])] {
        for entry in write.1 {
            wal.append(write.0, std::slice::from_ref(&entry)).unwrap();
            content.write(write.0, &[entry]);
        }
    }
    wal.append(None, &[entry(3, 2, [3; 700])]).unwrap();
    content.write(None, &[entry(3, 2, [3; 700])]);
    wal.sync().unwrap();
    assert_eq!(disk.names().len(), 4);
    let third = disk.content(&segment(3));
    assert_eq!(wal.compact(at(2, 2), Index(2)).unwrap(), 3);
    disk.plant(&segment(3), third);
    let (_, restored) = reopened(&disk, at(2, 2));
    assert_eq!((restored.base, restored.hard_state), (at(2, 2), vote(2, 1)));
    assert_eq!(restored.entries, above(&content, at(2, 2)));
}

#[test]
fn a_segment_that_no_snapshot_covers_is_missed() {
    let (disk, _, _) = thirds(12);
    for (gone, snapshot) in [(1, 2), (2, 5), (3, 8)] {
        let disk = disk.fork();
        disk.plant(&segment(gone), None);
        let refused = open(&disk, &behind(at(snapshot, 1))).err().expect("entries are missing");
        let OpenError::Log(LogError::MissingSegment { file, index }) = refused else { panic!("{refused}") };
        assert_eq!((file, index), (segment(gone), Index(snapshot + 1)));
        // One more, and nothing is missing.
        reopened(&disk, at(snapshot + 1, 1));
    }
    // The current one holds the newest vote: no snapshot makes up for it.
    let (disk, mut wal, _) = thirds(4);
    wal.prepare_next().unwrap();
    wal.compact(at(4, 1), Index(3)).unwrap();
    assert_eq!(disk.names(), [segment(2), segment(3)]);
    disk.plant(&segment(2), None);
    assert!(open(&disk, &behind(at(4, 1))).is_err());
    disk.plant(&segment(2), Some(vec![0; 1024]));
    assert!(open(&disk, &behind(at(4, 1))).is_err());
    disk.plant(&segment(3), None);
    assert!(open(&disk, &behind(at(4, 1))).is_err());
}

/// A full disk needs nothing more than a compaction.
#[test]
fn a_full_disk_is_compacted() {
    let (disk, mut wal, _) = thirds(6);
    disk.set_capacity_bytes(Some(2048));
    let alone = disk.fork();
    assert_eq!(wal.compact(at(6, 1), Index(6)).unwrap(), 2, "the first makes room for leaving the second");
    assert_eq!(disk.names(), [segment(3)]);

    alone.set_capacity_bytes(Some(1024));
    let (mut wal, _) = open(&alone, &behind(at(3, 1))).unwrap();
    assert_eq!(wal.compact(at(6, 1), Index(6)).unwrap(), 1, "the current one cannot be left");
    assert_eq!(alone.names(), [segment(2)]);
    alone.set_capacity_bytes(None);
    assert_eq!(wal.compact(at(6, 1), Index(6)).unwrap(), 1, "now it can");
    assert_eq!(alone.names(), [segment(3)]);
}

#[test]
fn a_log_that_finds_no_room_to_begin_anew_is_as_it_was() {
    let (disk, mut wal, content) = thirds(5);
    disk.set_capacity_bytes(Some(2048));
    let write = |wal: &mut Wal| wal.write(Some(vote(3, 1)), Some(at(9, 2)), &[entry(10, 3, "next")]);
    assert!(matches!(write(&mut wal), Err(WriteError::Full { .. })));
    wal.sync().unwrap();
    let (_, restored) = reopened(&unlimited(&disk), Position::ZERO);
    assert_eq!((restored.hard_state, restored.entries), (vote(3, 1), content.entries));
    disk.set_capacity_bytes(None);
    write(&mut wal).unwrap();
    wal.sync().unwrap();
    let (_, restored) = reopened(&disk, at(9, 2));
    assert_eq!((restored.base, restored.entries), (at(9, 2), vec![entry(10, 3, "next")]));
}

/// A log that begins anew, and finds room for that but not for what follows, takes the same write again.
#[test]
fn a_write_that_finds_no_room_behind_a_new_beginning_comes_again() {
    let (disk, mut wal, _) = thirds(5);
    wal.prepare_next().unwrap();
    disk.set_capacity_bytes(Some(disk.used_bytes()));
    let entries = [entry(10, 3, vec![1; 700]), entry(11, 3, vec![2; 700]), entry(12, 3, vec![3; 20_000])];
    let write = |wal: &mut Wal| wal.write(Some(vote(3, 1)), Some(at(9, 2)), &entries);
    assert!(matches!(write(&mut wal), Err(WriteError::Full { .. })));
    assert!(matches!(write(&mut wal), Err(WriteError::Full { .. })), "nothing has changed");
    wal.sync().unwrap();
    wal.mark_synced().unwrap();
    disk.set_capacity_bytes(None);
    write(&mut wal).unwrap();
    wal.sync().unwrap();
    let (_, restored) = reopened(&disk, at(9, 2));
    assert_eq!((restored.base, &restored.entries[..]), (at(9, 2), &entries[..]));
}

fn unlimited(disk: &SimDisk) -> SimDisk {
    let disk = disk.fork();
    disk.set_capacity_bytes(None);
    disk
}

/// Any number in a header, under a checksum that is right: refused or taken, and never a panic.
#[test]
fn forged_headers_do_not_panic() {
    let (disk, mut wal, _) = thirds(5);
    wal.reset_to(at(9, 1)).unwrap();
    wal.append(Some(vote(2, 1)), &[entry(10, 2, [1; 700]), entry(11, 2, [1; 700])]).unwrap();
    wal.sync().unwrap();
    disk.crash_power(0);
    let alone = disk.fork();
    (1..=2).for_each(|number| alone.plant(&segment(number), None));
    let mut taken = 0;
    for disk in [disk, alone] {
        for name in disk.names() {
            let original = disk.content(&name).unwrap();
            // Of the record: number; of the header: length, term, vote, base, last.
            for field in [24, 64, 72, 80, 88, 96, 104, 112] {
                for number in [0, 1, 2, 8, 9, 10, u64::MAX / 4, u64::MAX - 1, u64::MAX] {
                    let disk = disk.fork();
                    let mut bytes = original.clone();
                    bytes[field..field + 8].copy_from_slice(&number.to_le_bytes());
                    seal_checksum(&mut bytes, 0);
                    disk.plant(&name, Some(bytes));
                    for snapshot in [Position::ZERO, at(9, 1), at(9, 2), at(10, 2), at(12, 7)] {
                        let Ok((mut wal, restored)) = open(&disk.fork(), &behind(snapshot)) else { continue };
                        taken += 1;
                        assert!(restored.base.index <= snapshot.index);
                        let Some(term) = restored.hard_state.term.0.checked_add(1) else { continue };
                        let next = entry(wal.last().index.next().0, term, "next");
                        wal.append(Some(vote(term, 1)), &[next]).unwrap();
                        wal.compact(snapshot, snapshot.index).unwrap();
                    }
                }
            }
        }
    }
    assert!(taken > 50, "{taken}");
}

/// Safe and simple: what is damaged is damaged, also below the snapshot. A vote may be in there.
#[test]
fn damage_below_a_snapshot_is_damage() {
    let (disk, _, _) = thirds(4);
    disk.flip_bit(&segment(1), 700, 0);
    assert!(matches!(open(&disk, &behind(at(3, 1))), Err(OpenError::Log(LogError::Damaged(_)))));
}

#[test]
fn a_log_begins_anew_behind_a_snapshot_that_it_does_not_hold() {
    for (snapshot, what) in [(at(9, 1), "ahead of the log"), (at(3, 2), "of another term")] {
        let (disk, mut wal, _) = thirds(5);
        wal.append(Some(vote(2, 3)), &[]).unwrap();
        wal.sync().unwrap();
        // By recovery, which finds it so;
        let found = disk.fork();
        let (_, restored) = reopened(&found, snapshot);
        assert_eq!((restored.hard_state, restored.base), (vote(2, 3), snapshot), "{what}");
        assert!(restored.entries.is_empty());
        // and by the caller.
        wal.reset_to(snapshot).unwrap();
        assert_eq!((wal.last(), wal.log_bytes()), (snapshot, 0));
        check_claim(&disk, &wal, snapshot);
        assert_eq!(disk.names(), [segment(3)]);
        let next = entry(snapshot.index.0 + 1, 2, "next");
        wal.append(None, std::slice::from_ref(&next)).unwrap();
        // Once more, as a write with all its parts.
        let newer = at(snapshot.index.0 + 7, 3);
        let further = entry(newer.index.0 + 1, 4, "further");
        wal.write(Some(vote(4, 1)), Some(newer), std::slice::from_ref(&further)).unwrap();
        wal.sync().unwrap();
        let (_, restored) = reopened(&disk, newer);
        assert_eq!((restored.hard_state, restored.base), (vote(4, 1), newer), "{what}");
        assert_eq!((restored.entries, restored.snapshot), (vec![further], newer));
    }
}

/// The snapshot came with a later term, and the write of that term was lost: this node has not voted in it.
#[test]
fn a_snapshot_of_a_later_term_raises_the_term() {
    let (disk, _, _) = thirds(2);
    let (_, restored) = reopened(&disk, at(9, 5));
    assert_eq!((restored.hard_state, restored.base), (vote(5, 0), at(9, 5)));
}

/// The log that was begun anew needs its snapshot.
#[test]
fn a_missing_snapshot_is_missed() {
    let (disk, mut wal, _) = thirds(5);
    wal.reset_to(at(9, 1)).unwrap();
    drop(wal);
    assert_eq!(disk.names(), [segment(3)]);
    // Before the old segments are deleted, and after.
    for is_deleted in [false, true] {
        let disk = disk.fork();
        disk.crash_power(u64::from(is_deleted));
        assert_eq!(disk.names().len(), if is_deleted { 1 } else { 3 });
        let refused = open(&disk, &behind(at(8, 1))).err().expect("entry 9 is nowhere");
        let OpenError::Log(error) = refused else { panic!("{refused}") };
        assert_eq!(matches!(error, LogError::MissingSnapshot { .. }), !is_deleted, "{error}");
        let (_, restored) = reopened(&disk, at(9, 1));
        assert_eq!((restored.base, restored.entries.len()), (at(9, 1), 0));
    }
}

/// Of what a snapshot covers a tail comes back, in memory as long as it may be; of the rest nothing but where it ended.
#[test]
fn the_tail_behind_a_snapshot_comes_back() {
    let (disk, mut wal, mut content) = thirds(9);
    // Entries that were taken back, below and above where the tail begins.
    for (first, term) in [(8, 2), (4, 3)] {
        let entries: Vec<Entry> = (first..first + 5).map(|index| entry(index, term, [7; 40])).collect();
        wal.append(Some(vote(term, 0)), &entries).unwrap();
        wal.sync().unwrap();
        content.write(Some(vote(term, 0)), &entries);
    }
    for covered in 0_u64..=8 {
        let snapshot =
            covered.checked_sub(1).map_or(at(0, 0), |last| content.entries[last as usize].position);
        let covered_bytes = |entries: &[Entry]| -> usize {
            entries.iter().filter(|entry| entry.position.index.0 <= covered).map(Entry::cost).sum()
        };
        for tail_bytes in (0..1_500).step_by(23) {
            let (_, restored) = open(&disk.fork(), &WalConfig { tail_bytes, ..behind(snapshot) }).unwrap();
            assert!(covered_bytes(&restored.entries) as u64 <= tail_bytes);
            assert_eq!(restored.entries, above(&content, restored.base));
            let left_out = restored.base.index.0;
            assert!(left_out <= covered, "nothing above the snapshot is left out");
            if left_out > 0 {
                assert_eq!(restored.base, content.entries[left_out as usize - 1].position);
            }
            // What was taken back has left no gap in the middle, and nothing is left out for which there is room: but what
            // was read before a write that took back more than the tail.
            let one_more = &content.entries[left_out.saturating_sub(1) as usize..];
            assert!(left_out <= 4 || covered_bytes(one_more) as u64 > tail_bytes, "{left_out} {tail_bytes}");
        }
    }
}
