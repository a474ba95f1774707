//! One flipped bit at a time, at 200 random places of each kind of file in a data folder: found, or without effect; what is
//! recovered is never anything else than what was written. Prints the table.

#![allow(clippy::unwrap_used, reason = "a helper of a test may fail as the test itself may")]

use std::sync::Arc;

use bytes::Bytes;
use quorate_raft::{Entry, HardState, Index, NodeId, Payload, Position, Restored, Term};
use quorate_replica::Machine;
use quorate_replica::command::{Command, Condition, Seq, SessionKey};
use quorate_replica::entry::{self, LoggedWrite, RunHead, StateLimits};
use quorate_replica::keeper;
use quorate_replica::machine::Nobody;
use quorate_storage::snapshot::file_name;
use quorate_storage::{
    ClusterId, Disk, Folder, FolderConfig, FolderError, Identity, Incarnation, Member, Outcome, SimDisk,
    SnapshotFile, SnapshotReader, SnapshotReceiver, SnapshotWriter, Start, Starts, identity, verify,
};

/// Bits of each kind of file.
const FLIPS: usize = 200;
const SEGMENT_BYTES: u64 = 16 << 10;
/// Short, so that a small state has many of them.
const BLOCK_BYTES: usize = 2_000;
const OLDER: Position = Position::new(Term(2), Index(60));
const NEWEST: Position = Position::new(Term(2), Index(120));
const LAST: Index = Index(180);
/// Of the snapshot that another server is sending.
const RECEIVED: Position = Position::new(Term(2), Index(240));
const NOT_MARKED: &str = "log, current segment, last write not marked yet";
const BACKUP: &str = "backup.qbak";

fn node() -> NodeId {
    NodeId::new(1).unwrap()
}

fn members() -> Vec<Member> {
    (1..=3).map(|id| Member { id: NodeId::new(id).unwrap(), incarnation: Incarnation(100 + id) }).collect()
}

fn cluster() -> ClusterId {
    ClusterId::of(&members())
}

/// The entry of this index, always the same.
fn entry_at(index: Index) -> Entry {
    let session = SessionKey { index: 2, place: 0 };
    let payload = match index.0 {
        1 => entry::founding(&StateLimits::default()),
        2 => entry::batch(1_000, &[entry::open_gateway(node(), 5, 5)]),
        number => {
            let key = Bytes::from(format!("key{}", number * 7 % 90));
            let value = Bytes::from(format!("{number:->300}"));
            let command = Command::Put { key, value, condition: Condition::Always, get: false };
            let write = entry::encode_write(&LoggedWrite::Plain(command));
            let head = RunHead { session, attempt: 1, acknowledged: Seq(0), first: Seq(number - 2) };
            entry::batch(1_000 + number, &[entry::run(head, [write].iter())])
        }
    };
    Entry {
        position: Position::new(Term(if index.0 < 50 { 1 } else { 2 }), index),
        payload: Payload::Data(payload),
    }
}

fn write_snapshot(disk: &SimDisk, machine: &Machine) {
    let image = machine.image();
    let (position, digest) = (image.position(), image.digest());
    let state: Vec<u8> = image.blocks().flatten().collect();
    let mut writer = SnapshotWriter::create(Arc::new(disk.clone()), cluster(), position).unwrap();
    state.chunks(BLOCK_BYTES).for_each(|block| writer.block(block).unwrap());
    writer.finish(digest).unwrap();
}

/// What a start makes of a folder.
#[derive(Clone, Debug, PartialEq)]
struct Recovered {
    /// As if no start were counted: a second one finds another number.
    identity: Identity,
    starts: Starts,
    hard_state: HardState,
    entries: Vec<Entry>,
    /// Of the newest snapshot and all entries behind it.
    digest: u64,
    /// Of the snapshot being received, when it was gone on with to its end.
    received: u64,
}

/// A folder with all that a folder may hold, and what it holds.
struct Original {
    disk: SimDisk,
    truth: Recovered,
    /// Bytes of the whole of the one that is being received.
    sent: Bytes,
}

/// `is_marked`: nothing was written for 10 ms at its end.
fn original(is_marked: bool) -> Original {
    let disk = SimDisk::new();
    identity::store(&disk, &Identity::new(node(), Incarnation(101))).unwrap();
    let Folder { identity, mut wal, .. } = Folder::open(Arc::new(disk.clone()), &config()).unwrap();
    identity::store(&disk, &identity.founded(&members())).unwrap();
    let mut starts = Starts::default();
    for Member { id, incarnation } in members() {
        assert!(starts.hear((id, incarnation), Start { number: 7, draw: 8 }, |_, _| true));
    }
    starts.store(&disk).unwrap();
    let mut machine = Machine::new(cluster(), 1);
    for number in 1..=LAST.0 {
        let entry = entry_at(Index(number));
        let vote = HardState { term: entry.position.term, vote: Some(node()) };
        let is_new = number == 1 || number == 50;
        wal.append(is_new.then_some(vote), std::slice::from_ref(&entry)).unwrap();
        wal.sync().unwrap();
        machine.apply(&entry, &mut Nobody).unwrap();
        if [OLDER, NEWEST].contains(&entry.position) {
            write_snapshot(&disk, &machine);
            wal.compact(entry.position, Index(number - 40)).unwrap();
        }
        if number == LAST.0 - 3 {
            wal.prepare_next().unwrap();
        }
    }
    if is_marked {
        wal.mark_synced().unwrap();
    }
    drop(wal);
    let sent = receive_in_part(&disk, &mut machine);
    disk.plant("lock", Some(vec![0xa5; 64]));
    disk.plant(
        &format!("{}.tmp", file_name(OLDER).trim_end_matches(".snap")),
        disk.content(&file_name(OLDER)),
    );
    disk.plant(BACKUP, disk.content(&file_name(NEWEST)));
    disk.crash_power(0);
    let (truth, _) = recover(&disk.fork(), &sent).unwrap();
    assert_eq!((truth.entries.last().unwrap().position.index, truth.received), (LAST, machine.digest()));
    Original { disk, truth, sent }
}

/// Two thirds of a newer snapshot have come from another server.
fn receive_in_part(disk: &SimDisk, machine: &mut Machine) -> Bytes {
    for number in LAST.0 + 1..=RECEIVED.index.0 {
        machine.apply(&entry_at(Index(number)), &mut Nobody).unwrap();
    }
    let other = SimDisk::new();
    write_snapshot(&other, machine);
    let file = SnapshotFile::open(&other, cluster(), RECEIVED).unwrap();
    let sent = file.read_at(0, usize::MAX).unwrap();
    let mut receiver = SnapshotReceiver::open(Arc::new(disk.clone()), cluster(), RECEIVED).unwrap();
    receiver.chunk(0, &sent[..sent.len() * 2 / 3]).unwrap();
    disk.open(&part_name()).unwrap().sync_data().unwrap();
    disk.sync_folder().unwrap();
    sent
}

fn part_name() -> String {
    format!("{}.part.tmp", file_name(RECEIVED).trim_end_matches(".snap"))
}

fn config() -> FolderConfig {
    FolderConfig {
        node: node(),
        fresh_incarnation: Incarnation(101),
        segment_bytes: SEGMENT_BYTES,
        tail_bytes: u64::MAX,
    }
}

/// Starts on the folder, applies all of its log, and goes on receiving; also how many bytes were there of that.
fn recover(disk: &SimDisk, sent: &Bytes) -> Result<(Recovered, u64), FolderError> {
    let mut machine = None;
    let mut load = |reader: &mut SnapshotReader<'_>| {
        machine = Some(keeper::restore(reader, 7)?);
        Ok(())
    };
    let folder = Folder::open_loading(Arc::new(disk.clone()), &config(), &mut load, &mut |_, _| {})?;
    let Folder { identity, starts, restored: Restored { hard_state, entries, .. }, .. } = folder;
    let identity = Identity { start_number: 0, draws: Vec::new(), ..identity };
    let mut machine = machine.expect("there is a snapshot");
    for entry in entries.iter().filter(|entry| entry.position.index > NEWEST.index) {
        machine.apply(entry, &mut Nobody).unwrap();
    }
    let digest = machine.digest();
    let (received, resumed_at) = go_on_receiving(disk, sent);
    Ok((Recovered { identity, starts, hard_state, entries, digest, received }, resumed_at))
}

/// As a server does: asks for what is missing until all is there.
fn go_on_receiving(disk: &SimDisk, sent: &Bytes) -> (u64, u64) {
    let mut receiver = SnapshotReceiver::open(Arc::new(disk.clone()), cluster(), RECEIVED).unwrap();
    let resumed_at = receiver.received();
    while !receiver.is_complete() {
        let offset = receiver.received();
        let at = usize::try_from(offset).unwrap();
        // What is refused is asked for again.
        let _ = receiver.chunk(offset, &sent[at..sent.len().min(at + 1_500)]);
    }
    let digest = keeper::load(&receiver.file().unwrap(), 3).unwrap().digest();
    (digest, resumed_at)
}

/// What a flipped bit led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// Whoever reads the file refuses it, or fetches it again; so does `verify`, where it reads it.
    Detected,
    /// What is recovered is what was written.
    WithoutEffect,
    /// Nobody reads the file at a start; whoever does later finds it.
    DetectedWhenNeeded,
    /// The last write within its 10 ms was taken for a torn tail: the assumption of `docs/storage.md`.
    TakenForTorn,
}

/// A kind of file: what it is called in the table, the files, and what is made of a flip in one of them.
struct Kind<'a> {
    name: &'static str,
    files: Vec<String>,
    disk: &'a SimDisk,
    judge: &'a dyn Fn(&SimDisk, &str) -> Seen,
}

/// A start, and `verify`: neither may call anything whole that the other refuses, but for the older snapshot.
fn start(original: &Original, flipped: &SimDisk, what: &str) -> Seen {
    let verified = verify::folder(&flipped.fork(), &mut |_, _| {});
    let disk = flipped.fork();
    match recover(&disk, &original.sent) {
        Err(error) => {
            assert!(error.is_refusal(), "{what}: {error}");
            assert!(verified.is_err(), "{what}: verify calls whole what a start refuses: {error}");
            Seen::Detected
        }
        Ok((found, resumed_at)) if found == original.truth => {
            let again = recover(&disk, &original.sent).expect("a start after a start");
            assert!(again.0 == original.truth, "{what}: the second start finds something else");
            let had = go_on_receiving(&original.disk.fork(), &original.sent).1;
            match verified {
                Err(_) => Seen::DetectedWhenNeeded,
                Ok(_) if resumed_at < had => Seen::Detected,
                Ok(_) => Seen::WithoutEffect,
            }
        }
        Ok((found, _)) => {
            // Nothing but the last write may be missing, and it must be said.
            let outcome = verified.unwrap().unwrap().outcome;
            let Some((_, before)) = original.truth.entries.split_last() else { panic!("{what}: no entries") };
            assert!(matches!(outcome, Outcome::Torn(_)) && found.entries == before, "{what}: wrong data");
            assert_eq!(
                (found.identity, found.hard_state),
                (original.truth.identity.clone(), original.truth.hard_state)
            );
            Seen::TakenForTorn
        }
    }
}

fn backup(flipped: &SimDisk, what: &str) -> Seen {
    let file = SnapshotFile::open_named(flipped, BACKUP).expect("the disk works");
    match keeper::load(&file, 1) {
        Err(keeper::RestoreError::File(_) | keeper::RestoreError::Content { .. }) => Seen::Detected,
        Ok(_) => panic!("{what} went unnoticed"),
    }
}

/// The finaliser of splitmix64 of a count: the same places every time.
fn draw(count: &mut u64) -> u64 {
    *count = count.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut bits = *count;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Flips the bits of one kind of file, one at a time; how often each thing was seen.
fn flip(kind: &Kind<'_>, seed: &mut u64) -> [usize; 4] {
    let disk = kind.disk;
    let sizes: Vec<u64> = kind.files.iter().map(|file| disk.content(file).unwrap().len() as u64).collect();
    let total: u64 = sizes.iter().sum();
    let mut seen = [0; 4];
    for _ in 0..FLIPS {
        let (mut offset, bit) = (draw(seed) % total, (draw(seed) % 8) as u8);
        let mut at = 0;
        while offset >= sizes[at] {
            offset -= sizes[at];
            at += 1;
        }
        let flipped = disk.fork();
        assert!(flipped.flip_bit(&kind.files[at], offset, bit));
        let what = format!("bit {bit} of byte {offset} of {}", kind.files[at]);
        seen[(kind.judge)(&flipped, &what) as usize] += 1;
    }
    seen
}

#[test]
fn a_flipped_bit_is_found_or_has_no_effect() {
    let (marked, fresh) = (original(true), original(false));
    let in_marked = |disk: &SimDisk, what: &str| start(&marked, disk, what);
    let in_fresh = |disk: &SimDisk, what: &str| start(&fresh, disk, what);
    let log: Vec<String> = marked.disk.names().into_iter().filter(|name| name.starts_with("log-")).collect();
    assert!(log.len() >= 4 && log[0] != "log-0000000001", "{log:?}");
    let (prepared, begun) = log.split_last().unwrap();
    let (current, full) = begun.split_last().unwrap();
    let taken = format!("{}.tmp", file_name(OLDER).trim_end_matches(".snap"));
    let kind =
        |name, files: &[String]| Kind { name, files: files.to_vec(), disk: &marked.disk, judge: &in_marked };
    let one = |name, file: &str| kind(name, &[file.to_owned()]);
    let kinds = [
        one("identity", "identity"),
        kind("log, full segments", full),
        one("log, current segment", current),
        Kind { disk: &fresh.disk, judge: &in_fresh, ..one(NOT_MARKED, current) },
        one("log, next segment", prepared),
        one("newest snapshot", &file_name(NEWEST)),
        one("older snapshot", &file_name(OLDER)),
        one("snapshot being received", &part_name()),
        one("snapshot being taken", &taken),
        one("lock", "lock"),
        Kind { judge: &backup, ..one("backup", BACKUP) },
        one("starts", "starts"),
    ];
    println!(
        "| file | files | detected | without effect | detected when needed | taken for a torn tail | wrong data |"
    );
    println!("|---|---|---|---|---|---|---|");
    let mut seed = 20;
    let mut seen = Vec::new();
    for kind in &kinds {
        let counts = flip(kind, &mut seed);
        let [detected, without_effect, when_needed, torn] = counts;
        let (name, files) = (kind.name, kind.files.len());
        println!("| {name} | {files} | {detected} | {without_effect} | {when_needed} | {torn} | 0 |");
        seen.push(counts);
    }
    for (kind, seen) in kinds.iter().zip(&seen) {
        let [detected, without_effect, when_needed, torn] = *seen;
        let is_as_documented = match kind.name {
            "identity" | "starts" | "newest snapshot" | "snapshot being received" | "backup" => {
                detected == FLIPS
            }
            "older snapshot" => when_needed == FLIPS,
            "snapshot being taken" | "lock" => without_effect == FLIPS,
            NOT_MARKED => when_needed == 0,
            // What is behind the last record is overwritten before it is used.
            _ => detected + without_effect == FLIPS && torn + when_needed == 0,
        };
        assert!(is_as_documented, "{}: {seen:?}", kind.name);
    }
    assert_eq!(
        seen[1][0], FLIPS,
        "a full segment has nothing that does not count, but for the zeros at its end"
    );
}
