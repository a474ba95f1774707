//! Bytes that are not what was written: refused with a sentence, or cut where nothing was promised; never
//! silently wrong.

use bytes::Bytes;
use expect_test::{Expect, expect};
use quorate_raft::{Entry, Payload};
use quorate_storage::{Cut, Incarnation, LogError, OpenError, Outcome, SimDisk, Wal, WalConfig};

use crate::support::{
    Content, Step, config, entry, existing, new_log, open, record_offsets, seal_checksum, segment, sentence,
    vote, workload,
};

/// Two segments and a prepared third; the last write is `marked` or not.
fn small_log(marked: bool) -> (SimDisk, Content) {
    let (disk, mut wal) = new_log();
    let mut content = Content::default();
    let mut write = |wal: &mut Wal, hard_state, entries: &[Entry]| {
        wal.append(hard_state, entries).unwrap();
        wal.sync().unwrap();
        content.write(hard_state, entries);
    };
    write(&mut wal, Some(vote(1, 1)), &[]);
    write(&mut wal, None, &[entry(1, 1, [1; 300]), entry(2, 1, "two")]);
    write(&mut wal, Some(vote(2, 0)), &[entry(2, 2, [2; 300])]);
    write(&mut wal, None, &[entry(3, 2, [3; 30])]);
    wal.prepare_next().unwrap();
    write(&mut wal, Some(vote(3, 3)), &[entry(4, 3, [4; 50]), entry(5, 3, [5; 50])]);
    if marked {
        wal.mark_synced().unwrap();
    }
    disk.crash_power(0);
    assert_eq!(disk.names(), [segment(1), segment(2), segment(3)]);
    (disk, content)
}

/// What recovery makes of it; that a refusal changes nothing is checked here.
fn judge(disk: &SimDisk) -> Result<(Content, Outcome), LogError> {
    let before: Vec<_> = disk.names().iter().map(|name| disk.content(name)).collect();
    let operations = disk.operations();
    match open(disk, &existing()) {
        Ok((wal, restored)) => Ok((Content::from(restored), wal.outcome())),
        Err(OpenError::Log(error)) => {
            let after: Vec<_> = disk.names().iter().map(|name| disk.content(name)).collect();
            assert_eq!(disk.operations(), operations, "a refusal touched the disk");
            assert_eq!(before, after, "a refusal changed something");
            Err(error)
        }
        Err(error) => panic!("{error}"),
    }
}

fn says(error: &impl std::fmt::Display, expected: &Expect) {
    expected.assert_eq(&sentence(error));
}

#[test]
fn every_flipped_bit_below_a_marker_is_refused() {
    let (disk, content) = small_log(true);
    let mut refused = 0;
    for number in 1..=3 {
        let bytes = disk.content(&segment(number)).unwrap();
        let marker = *record_offsets(&bytes).last().unwrap_or(&0);
        for offset in 0..bytes.len() {
            for bit in if number == 2 { 0..8 } else { (offset % 8) as u8..(offset % 8) as u8 + 1 } {
                let disk = disk.fork();
                assert!(disk.flip_bit(&segment(number), offset as u64, bit));
                let what = format!("bit {bit} of byte {offset} of segment {number}");
                let must_refuse = number == 1 || (number == 2 && offset < marker);
                match judge(&disk) {
                    Err(_) => refused += 1,
                    Ok((found, outcome)) => {
                        assert!(!must_refuse, "{what} went unnoticed");
                        assert_eq!(found, content, "{what}");
                        assert!(matches!(outcome, Outcome::Torn(_)), "{what}");
                    }
                }
            }
        }
    }
    assert!(refused > 4000, "{refused}");
}

/// What the log says of itself is what recovery finds: at each step of many runs, after crashes too.
#[test]
fn a_log_knows_what_it_claims() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..60 {
        let disk = SimDisk::new();
        let (mut wal, _) = open(&disk, &config()).unwrap();
        for step in workload(seed, 60) {
            let _ = match step {
                Step::Append(hard_state, entries) => wal.append(hard_state, &entries),
                Step::Sync => wal.sync(),
                Step::Mark => wal.mark_synced(),
                Step::Prepare => wal.prepare_next(),
                Step::Piece => wal.prepare_step(),
                Step::Reopen => {
                    wal.sync().unwrap();
                    wal = open(&disk, &existing()).unwrap().0;
                    Ok(())
                }
            };
            check_claim(&disk, &wal);
            // A torn tail takes its claims with it.
            let torn = disk.fork();
            if wal.claimed().offset > 1 {
                torn.flip_bit(&segment(wal.claimed().segment), wal.claimed().offset, 0);
            }
            let (wal, _) = open(&torn, &existing()).unwrap();
            check_claim(&torn, &wal);
            seen.insert(wal.claimed().offset.min(2));
        }
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 1, 2], "a segment's beginning, its file, a record");
}

/// Bytes of a segment's header.
const HEADER_BYTES: u64 = 152;

fn check_claim(disk: &SimDisk, wal: &Wal) {
    let disk = disk.fork();
    disk.flip_bit(&segment(1), 0, 0);
    match judge(&disk) {
        // That there is a header is what a founded identity says, where the log does not yet.
        Err(LogError::Damaged(damage)) if wal.claimed().offset == 0 && wal.claimed().segment == 1 => {
            assert_eq!((damage.synced.segment, damage.synced.offset), (1, HEADER_BYTES));
        }
        Err(LogError::Damaged(damage)) => assert_eq!(damage.synced, wal.claimed()),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("the first record of the log is not missed"),
    }
}

#[test]
fn every_flipped_bit_above_the_last_claim_cuts_the_last_write_alone() {
    let (disk, content) = small_log(false);
    let bytes = disk.content(&segment(2)).unwrap();
    let last = *record_offsets(&bytes).last().unwrap();
    let mut without = Content { hard_state: vote(2, 0), entries: content.entries.clone() };
    without.entries.truncate(3);
    for offset in 0..bytes.len() {
        let disk = disk.fork();
        disk.flip_bit(&segment(2), offset as u64, (offset % 8) as u8);
        let found = judge(&disk);
        let is_in_last = (last..last + record_bytes(&bytes, last)).contains(&offset);
        match found {
            Err(LogError::Damaged(damage)) => assert!(offset < last, "{offset}: {damage:?}"),
            Err(error) => panic!("byte {offset}: {error}"),
            Ok((found, _)) if is_in_last => assert_eq!(found, without, "byte {offset}"),
            Ok((found, _)) => {
                assert!(offset > last, "byte {offset} went unnoticed");
                assert_eq!(found, content, "byte {offset}");
            }
        }
    }
}

fn record_bytes(bytes: &[u8], at: usize) -> usize {
    let length = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    (48 + length).next_multiple_of(8)
}

#[test]
fn a_sector_that_reads_as_zeros_is_refused() {
    let (disk, content) = small_log(true);
    for number in 1..=2 {
        let bytes = disk.content(&segment(number)).unwrap();
        let marker = *record_offsets(&bytes).last().unwrap();
        for sector in 0..bytes.len() / 512 {
            let disk = disk.fork();
            let mut lost = bytes.clone();
            lost[sector * 512..(sector + 1) * 512].fill(0);
            let is_changed = lost != bytes;
            disk.plant(&segment(number), Some(lost));
            match judge(&disk) {
                Err(_) => assert!(is_changed),
                Ok((found, _)) if !is_changed => assert_eq!(found, content),
                // The limit of a marker: who takes the sector in which it lies takes with it what it vouches
                // for.
                Ok(_) => assert!(number == 2 && sector == marker / 512),
            }
        }
    }
}

/// Found by the fuzz target: what stands behind the seal must not hide that the next segment has been cut.
#[test]
fn a_next_segment_that_was_cut_is_refused_whatever_stands_behind_the_seal() {
    for garbage in [0, 0xA5] {
        let (disk, mut wal) = new_log();
        wal.append(Some(vote(1, 0)), &[entry(1, 1, [1; 600])]).unwrap();
        wal.sync().unwrap();
        // Seals the first segment; of the second nothing is written yet.
        wal.append(None, &[entry(2, 1, [2; 600])]).unwrap();
        drop(wal);
        disk.crash_power(0);
        let mut sealed = disk.content(&segment(1)).unwrap();
        *sealed.last_mut().unwrap() = garbage;
        disk.plant(&segment(1), Some(sealed));
        disk.plant(&segment(2), Some(vec![0; 64]));
        let refused = judge(&disk).expect_err("a segment of 64 bytes");
        assert!(matches!(refused, LogError::WrongLength { found: 64, .. }), "{refused}");
    }
}

/// As if they had never been written: whichever record goes, one at the end of a segment too, something
/// tells.
#[test]
fn a_record_that_reads_as_zeros_is_refused() {
    let (disk, content) = small_log(true);
    for number in 1..=2 {
        let bytes = disk.content(&segment(number)).unwrap();
        let offsets = record_offsets(&bytes);
        for at in &offsets {
            let disk = disk.fork();
            let mut lost = bytes.clone();
            lost[*at..at + record_bytes(&bytes, *at)].fill(0);
            disk.plant(&segment(number), Some(lost));
            match judge(&disk) {
                Err(error) => assert!(matches!(error, LogError::Damaged(_)), "{error}"),
                Ok((found, _)) => {
                    assert_eq!((number, at), (2, offsets.last().unwrap()), "only the marker");
                    assert_eq!(found, content);
                }
            }
        }
    }
}

/// Zeros are passed over quickly when a record is looked for that tells of the lost one: no length of them hides it.
#[test]
fn zeros_of_any_length_hide_no_claim() {
    let config = WalConfig { segment_bytes: 16 << 10, ..config() };
    for words in 0..1_100 {
        let disk = SimDisk::new();
        let (mut wal, _) = open(&disk, &config).unwrap();
        wal.append(Some(vote(1, 0)), &[entry(1, 1, "kept")]).unwrap();
        wal.append(None, &[entry(2, 1, vec![1; words * 8])]).unwrap();
        wal.sync().unwrap();
        wal.mark_synced().unwrap();
        let mut bytes = disk.content(&segment(1)).unwrap();
        let [.., lost, marker] = record_offsets(&bytes)[..] else { panic!("a write and a marker") };
        bytes[lost..marker].fill(0);
        disk.plant(&segment(1), Some(bytes));
        assert!(matches!(judge(&disk), Err(LogError::Damaged(_))), "{words} words");
    }
}

#[test]
fn a_file_of_another_length_is_refused() {
    let (disk, content) = small_log(true);
    for number in 1..=2 {
        let bytes = disk.content(&segment(number)).unwrap();
        for length in (0..bytes.len()).step_by(7).chain([bytes.len() - 1]) {
            let disk = disk.fork();
            disk.plant(&segment(number), Some(bytes[..length].to_vec()));
            assert!(judge(&disk).is_err(), "segment {number} cut to {length} bytes went unnoticed");
        }
        let disk = disk.fork();
        disk.plant(&segment(number), Some([&bytes[..], &[0; 512]].concat()));
        assert!(matches!(judge(&disk), Err(LogError::WrongLength { .. })));
    }
    // A third one that was not begun is made again.
    disk.plant(&segment(3), Some(vec![0; 100]));
    assert_eq!(judge(&disk).unwrap().0, content);
    open(&disk, &existing()).unwrap().0.prepare_next().unwrap();
    assert_eq!(disk.content(&segment(3)).unwrap(), vec![0; 1024]);
}

#[test]
fn damage_is_said_with_file_offset_and_index() {
    let (disk, _) = small_log(true);
    disk.flip_bit(&segment(1), 400, 0);
    says(
        &judge(&disk).unwrap_err(),
        &expect![[r#"
        log-0000000001 at offset 224 is not readable, although the log was synced up to
        log-0000000002 at offset 904: it is damaged. Entries from index 1 on may be lost,
        and votes with them, so no server may start on this folder: keep it for
        examination. The other servers hold the data, and go on as long as they are a
        majority. This one may come back with a copy of its folder that was taken after
        it last stopped; with an older copy, or with an empty folder, it would have
        forgotten what it promised
    "#]],
    );
}

#[test]
fn a_missing_segment_is_refused() {
    let (disk, content) = small_log(true);
    for number in 1..=2 {
        let disk = disk.fork();
        disk.plant(&segment(number), None);
        assert!(matches!(judge(&disk), Err(LogError::MissingSegment { .. })), "segment {number}");
    }
    let without_third = disk.fork();
    without_third.plant(&segment(3), None);
    assert_eq!(judge(&without_third).unwrap().0, content);
    // Without the second and the third, the seal of the first still says that there was more.
    without_third.plant(&segment(2), None);
    says(
        &judge(&without_third).unwrap_err(),
        &expect![[r#"
            the file log-0000000002 of the log is missing, and no snapshot makes up for it.
            Entries from index 3 on may be lost, and votes with them, so no server may start
            on this folder: keep it for examination. The other servers hold the data, and go
            on as long as they are a majority. This one may come back with a copy of its
            folder that was taken after it last stopped; with an older copy, or with an empty
            folder, it would have forgotten what it promised
        "#]],
    );
    without_third.plant(&segment(1), None);
    assert!(matches!(judge(&without_third), Err(LogError::MissingSegment { .. })));
}

#[test]
fn a_blank_log_of_a_founded_node_is_refused() {
    let disk = SimDisk::new();
    disk.plant(&segment(1), Some(vec![0; 1024]));
    assert!(matches!(judge(&disk), Err(LogError::Damaged(_))));
    assert!(open(&disk, &config()).is_ok(), "not founded, it is made anew");
}

#[test]
fn a_segment_of_another_folder_is_refused() {
    let (disk, _) = small_log(true);
    let other = SimDisk::new();
    let owner = Incarnation(7);
    open(&other, &WalConfig { owner, ..config() }).unwrap();
    disk.plant(&segment(1), other.content(&segment(1)));
    says(
        &judge(&disk).unwrap_err(),
        &expect![[r#"
        log-0000000001 belongs to another data folder: its incarnation is
        0000000000000007, this folder's is 123456789abcdef0. Somebody has copied it here:
        keep the folder for examination, and do not start a server on it
    "#]],
    );
}

#[test]
fn a_segment_of_an_older_copy_of_the_folder_is_refused() {
    let (disk, _) = small_log(true);
    let (other, mut wal) = new_log();
    for index in 1..=3 {
        wal.append(Some(vote(9, 0)), &[entry(index, 9, [9; 500])]).unwrap();
    }
    wal.sync().unwrap();
    disk.plant(&segment(2), other.content(&segment(2)));
    says(
        &judge(&disk).unwrap_err(),
        &expect![[r#"
        the log makes no sense at log-0000000002 at offset 0: this segment does not
        follow the one before it. Entries from index 3 on may be lost, and votes with
        them, so no server may start on this folder: keep it for examination. The other
        servers hold the data, and go on as long as they are a majority. This one may
        come back with a copy of its folder that was taken after it last stopped; with an
        older copy, or with an empty folder, it would have forgotten what it promised
    "#]],
    );
}

#[test]
fn a_newer_format_is_refused() {
    let (disk, _) = small_log(true);
    let mut bytes = disk.content(&segment(2)).unwrap();
    bytes[9] = 3;
    seal_checksum(&mut bytes, 0);
    disk.plant(&segment(2), Some(bytes));
    says(
        &judge(&disk).unwrap_err(),
        &expect![[r#"
        log-0000000002 at offset 0 has format 3, this program reads up to 2: start a
        newer version
    "#]],
    );
}

#[test]
fn a_gap_between_entries_is_refused() {
    let (disk, mut wal) = new_log();
    wal.append(Some(vote(1, 0)), &[entry(1, 1, "a")]).unwrap();
    wal.sync().unwrap();
    let mut bytes = disk.content(&segment(1)).unwrap();
    let write = record_offsets(&bytes)[1];
    bytes[write + 48 + 24 + 8] = 2;
    seal_checksum(&mut bytes, write);
    disk.plant(&segment(1), Some(bytes));
    says(
        &judge(&disk).unwrap_err(),
        &expect![[r#"
        the log makes no sense at log-0000000001 at offset 152: entries are missing
        before it. Entries from index 1 on may be lost, and votes with them, so no server
        may start on this folder: keep it for examination. The other servers hold the
        data, and go on as long as they are a majority. This one may come back with a
        copy of its folder that was taken after it last stopped; with an older copy, or
        with an empty folder, it would have forgotten what it promised
    "#]],
    );
}

/// Every checksum holds, and no node could go on with it: it would have to have voted in a term that it does not know.
#[test]
fn an_entry_of_a_later_term_than_the_hard_state_is_refused() {
    let (disk, mut wal) = new_log();
    wal.append(Some(vote(1, 1)), &[entry(1, 1, "a")]).unwrap();
    wal.append(None, &[entry(2, 1, "b"), entry(3, 1, "c")]).unwrap();
    wal.sync().unwrap();
    let mut bytes = disk.content(&segment(1)).unwrap();
    let write = record_offsets(&bytes)[2];
    let last = write + 48 + 24 + 24 + "b".len();
    assert_eq!(bytes[last + 8], 3, "its index");
    bytes[last] = 2;
    seal_checksum(&mut bytes, write);
    disk.plant(&segment(1), Some(bytes));
    says(
        &judge(&disk).unwrap_err(),
        &expect![[r#"
        the log makes no sense at log-0000000001 at offset 256: an entry is of a later
        term than the hard state. Entries from index 3 on may be lost, and votes with
        them, so no server may start on this folder: keep it for examination. The other
        servers hold the data, and go on as long as they are a majority. This one may
        come back with a copy of its folder that was taken after it last stopped; with an
        older copy, or with an empty folder, it would have forgotten what it promised
    "#]],
    );
}

#[test]
fn an_entry_of_term_zero_is_refused() {
    let (disk, mut wal) = new_log();
    wal.append(Some(vote(1, 1)), &[entry(1, 1, "a")]).unwrap();
    wal.sync().unwrap();
    let mut bytes = disk.content(&segment(1)).unwrap();
    let write = record_offsets(&bytes)[1];
    bytes[write + 48 + 24] = 0;
    seal_checksum(&mut bytes, write);
    disk.plant(&segment(1), Some(bytes));
    says(
        &judge(&disk).unwrap_err(),
        &expect![[r#"
        the log makes no sense at log-0000000001 at offset 152: an entry is of term zero,
        in which nobody leads. Entries from index 1 on may be lost, and votes with them,
        so no server may start on this folder: keep it for examination. The other servers
        hold the data, and go on as long as they are a majority. This one may come back
        with a copy of its folder that was taken after it last stopped; with an older
        copy, or with an empty folder, it would have forgotten what it promised
    "#]],
    );
}

/// The running number is checked by itself, though the checksum of the record before implies it.
#[test]
fn a_record_out_of_number_ends_the_chain() {
    let (disk, mut wal) = new_log();
    wal.append(Some(vote(1, 0)), &[entry(1, 1, "a")]).unwrap();
    wal.append(None, &[entry(2, 1, "b")]).unwrap();
    wal.sync().unwrap();
    let mut bytes = disk.content(&segment(1)).unwrap();
    let last = record_offsets(&bytes)[2];
    bytes[last + 24] += 1;
    seal_checksum(&mut bytes, last);
    disk.plant(&segment(1), Some(bytes));
    assert_eq!(judge(&disk).unwrap().0.entries, [entry(1, 1, "a")]);
}

/// A wrote 1, 2 and 3; the crash tears 2; recovery cuts; 2 is written anew with the same length. If the cut
/// had not overwritten 3, it would stand right behind the new 2.
#[test]
fn a_cut_record_does_not_rise_behind_a_new_one_of_the_same_length() {
    let (disk, mut wal) = new_log();
    wal.append(Some(vote(1, 0)), &[entry(1, 1, "1111")]).unwrap();
    wal.sync().unwrap();
    let synced = disk.fork();
    wal.append(None, &[entry(2, 1, "2222")]).unwrap();
    wal.append(None, &[entry(3, 1, "3333")]).unwrap();
    wal.sync().unwrap();
    let old = disk.content(&segment(1)).unwrap();
    let third = record_offsets(&old)[3];

    // What recovery does: the third is gone from the disk.
    let torn = disk.fork();
    torn.flip_bit(&segment(1), third as u64 - 20, 0);
    assert!(matches!(judge(&torn).unwrap().1, Outcome::Torn(_)));
    let content = torn.content(&segment(1)).unwrap();
    assert!(content[record_offsets(&old)[2]..].iter().all(|byte| *byte == 0), "cut means zeros");

    // And if it were still there, the chain of checksums would not reach it.
    let (mut wal, _) = open(&synced, &existing()).unwrap();
    wal.append(None, &[entry(2, 1, "two!")]).unwrap();
    wal.sync().unwrap();
    let mut bytes = synced.content(&segment(1)).unwrap();
    assert_eq!(record_offsets(&bytes).len(), 3);
    bytes[third..].copy_from_slice(&old[third..]);
    synced.plant(&segment(1), Some(bytes));
    let (found, outcome) = judge(&synced).unwrap();
    assert_eq!(found.entries, [entry(1, 1, "1111"), entry(2, 1, "two!")]);
    assert!(matches!(outcome, Outcome::Torn(Cut { at, .. }) if at.offset == third as u64));
}

/// A segment that was used before and not filled with zeros anew: its old records carry its old number.
#[test]
fn a_record_of_a_used_segment_is_none() {
    let (disk, content) = small_log(true);
    let used = disk.content(&segment(1)).unwrap();
    disk.plant(&segment(3), Some(used.clone()));
    assert_eq!(judge(&disk).unwrap().0, content);

    let (disk, content) = small_log(true);
    let mut bytes = disk.content(&segment(2)).unwrap();
    let end = bytes.len() - bytes.iter().rev().take_while(|byte| **byte == 0).count();
    let end = end.next_multiple_of(8);
    bytes[end..].copy_from_slice(&used[end..]);
    disk.plant(&segment(2), Some(bytes));
    assert_eq!(judge(&disk).unwrap().0, content);
}

/// A client that stores the bytes of a record must not make a torn tail look like damage: its record would
/// claim that all before it was synced.
#[test]
fn a_value_that_looks_like_a_record_claims_nothing() {
    let (other, mut wal) = {
        let disk = SimDisk::new();
        let wal = open(&disk, &WalConfig { owner: Incarnation(0), ..config() }).unwrap().0;
        (disk, wal)
    };
    for index in 1..=5 {
        wal.append(Some(vote(1, 0)), &[entry(index, 1, "x")]).unwrap();
        wal.sync().unwrap();
        wal.mark_synced().unwrap();
    }
    let forged = other.content(&segment(1)).unwrap();
    let forged = forged[*record_offsets(&forged).last().unwrap()..][..48].to_vec();

    let (disk, mut wal) = new_log();
    let payload = Payload::Data(Bytes::from(forged.clone()));
    wal.append(Some(vote(1, 0)), &[Entry { position: entry(1, 1, "").position, payload }]).unwrap();
    wal.sync().unwrap();
    let bytes = disk.content(&segment(1)).unwrap();
    let at = bytes.windows(48).position(|window| window == forged).unwrap();
    assert_eq!(at % 8, 0, "where recovery looks for records");
    disk.flip_bit(&segment(1), record_offsets(&bytes)[1] as u64, 0);
    let (found, outcome) = judge(&disk).unwrap();
    assert_eq!(found, Content::default());
    assert!(matches!(outcome, Outcome::Torn(_)));
}

/// The file of a third segment is made only once the header of the second is synced: its being there tells.
#[test]
fn a_prepared_segment_vouches_for_the_header_before_it() {
    let (disk, mut wal) = new_log();
    for index in 1..=2 {
        wal.append(Some(vote(1, 0)), &[entry(index, 1, [1; 600])]).unwrap();
        wal.sync().unwrap();
    }
    wal.prepare_next().unwrap();
    disk.flip_bit(&segment(2), 20, 0);
    assert!(matches!(judge(&disk), Err(LogError::Damaged(_))));
    // Without it, this is the last write before any marker: it looks like a tear.
    disk.plant(&segment(3), None);
    let (found, outcome) = judge(&disk).unwrap();
    assert_eq!(found.entries, [entry(1, 1, [1; 600])]);
    assert!(matches!(outcome, Outcome::Torn(Cut { at, .. }) if at.segment == 2 && at.offset == 0));
}

/// The seal reads as zeros, and behind it nothing but one unmarked write: the header before that claims all
/// segments before its own.
#[test]
fn a_segment_that_goes_on_without_a_seal_is_refused() {
    let (disk, mut wal) = new_log();
    for index in 1..=2 {
        wal.append(Some(vote(1, 0)), &[entry(index, 1, [1; 600])]).unwrap();
        wal.sync().unwrap();
    }
    let mut bytes = disk.content(&segment(1)).unwrap();
    let seal = *record_offsets(&bytes).last().unwrap();
    bytes[seal..].fill(0);
    disk.plant(&segment(1), Some(bytes));
    assert!(matches!(judge(&disk), Err(LogError::Damaged(damage)) if damage.at.offset == seal as u64));
}

/// Sealed, and the power fails before the next segment's header is synced; its file holds a used segment.
#[test]
fn a_used_segment_behind_a_seal_is_not_begun() {
    let (disk, mut wal) = new_log();
    wal.append(Some(vote(1, 0)), &[entry(1, 1, [1; 600])]).unwrap();
    wal.append(None, &[entry(2, 1, [2; 600])]).unwrap();
    disk.crash_power(0);
    disk.plant(&segment(2), disk.content(&segment(1)));
    let (found, outcome) = judge(&disk).unwrap();
    assert_eq!(found.entries, [entry(1, 1, [1; 600])]);
    assert!(matches!(outcome, Outcome::Torn(_)));
    let (mut wal, _) = open(&disk, &existing()).unwrap();
    wal.append(None, &[entry(2, 1, "two")]).unwrap();
    wal.sync().unwrap();
    assert_eq!(judge(&disk).unwrap().0.entries, [entry(1, 1, [1; 600]), entry(2, 1, "two")]);
}

/// Other sizes from start to start: a segment keeps the length that it was made with.
#[test]
fn a_larger_segment_size_applies_to_segments_not_yet_promised() {
    let larger = WalConfig { segment_bytes: 4096, ..existing() };
    let (disk, mut wal) = new_log();
    wal.append(Some(vote(1, 0)), &[entry(1, 1, [1; 600])]).unwrap();
    wal.append(None, &[entry(2, 1, [2; 600])]).unwrap();
    disk.crash_power(0);
    for operation in 1.. {
        let disk = disk.fork();
        disk.crash_at(disk.operations() + operation, operation);
        let is_done = open(&disk, &larger).is_ok();
        disk.crash_process();
        assert_eq!(judge(&disk).unwrap().0.entries, [entry(1, 1, [1; 600])]);
        if is_done {
            break;
        }
    }
    let (mut wal, _) = open(&disk, &larger).unwrap();
    for index in 2..=9 {
        wal.append(Some(vote(1, 0)), &[entry(index, 1, [2; 600])]).unwrap();
    }
    wal.sync().unwrap();
    assert_eq!(judge(&disk).unwrap().0.entries.len(), 9);
    let sizes: Vec<usize> = disk.names().iter().map(|name| disk.content(name).unwrap().len()).collect();
    assert_eq!(sizes, [1024, 1024, 4096, 4096]);
}
