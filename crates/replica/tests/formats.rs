//! The bytes of log entries and of messages between servers, as they are. A change here is a change of a format: it
//! needs a new version and a line in the changelog.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use expect_test::{Expect, expect};
use proptest::prelude::*;
use quorate_raft::{Body, Entry, Index, Membership, Message, NodeId, Payload, Position, Round, Run, Term};
use quorate_replica::command::{Command, Condition, Seq, SessionKey};
use quorate_replica::entry::{self, EntryPayload, Item, LoggedWrite, OnceName, StateLimits};
use quorate_replica::machine::{Machine, Nobody};
use quorate_replica::shortage::{Shortage, folder_name};
use quorate_replica::wire::{self, DiskRoom, PeerEnvelope, PeerMessage};
use quorate_storage::{ClusterId, Incarnation, Origin, Start};

fn hexdump(bytes: &[u8]) -> String {
    let mut out = String::new();
    for (row, chunk) in bytes.chunks(16).enumerate() {
        let hex: Vec<String> = chunk.iter().map(|byte| format!("{byte:02x}")).collect();
        let text: String =
            chunk.iter().map(|byte| if byte.is_ascii_graphic() { char::from(*byte) } else { '.' }).collect();
        writeln!(out, "{:04x}  {:<47}  {text}", row * 16, hex.join(" ")).unwrap();
    }
    out
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn id(number: u64) -> NodeId {
    NodeId::new(number).unwrap()
}

fn envelope(message: PeerMessage) -> PeerEnvelope {
    PeerEnvelope {
        cluster: ClusterId::new(0x0123_4567_89ab_cdef_0011_2233_4455_6677),
        from: id(1),
        to: id(2),
        incarnation: Incarnation(0xaabb),
        start: Start { number: 3, draw: 0x5157 },
        message,
    }
}

fn frame(envelope: &PeerEnvelope) -> Bytes {
    let mut out = BytesMut::new();
    wire::encode(envelope, &mut out);
    out.freeze()
}

fn check_frame(message: PeerMessage, expected: &Expect) {
    let envelope = envelope(message);
    let frame = frame(&envelope);
    assert_eq!(wire::decode(&frame), Ok(envelope));
    expected.assert_eq(&hexdump(&frame));
}

#[test]
fn an_append_on_the_wire() {
    let entries = vec![
        Entry { position: Position::new(Term(7), Index(4)), payload: Payload::Noop },
        Entry { position: Position::new(Term(7), Index(5)), payload: Payload::Data(bytes("payload")) },
        Entry {
            position: Position::new(Term(7), Index(6)),
            payload: Payload::Membership(Arc::new(Membership::simple([id(1), id(2)].into_iter().collect()))),
        },
    ];
    let run = Run::parse(Position::new(Term(6), Index(3)), entries).unwrap();
    let message = Message { term: Term(7), body: Body::Append { run, commit: Index(2) } };
    check_frame(
        PeerMessage::Raft(message),
        &expect![[r#"
            0000  63 31 1a 26 77 66 55 44 33 22 11 00 ef cd ab 89  c1.&wfUD3"......
            0010  67 45 23 01 01 00 00 00 00 00 00 00 02 00 00 00  gE#.............
            0020  00 00 00 00 bb aa 00 00 00 00 00 00 03 00 00 00  ................
            0030  00 00 00 00 57 51 00 00 00 00 00 00 05 07 00 00  ....WQ..........
            0040  00 00 00 00 00 02 00 00 00 00 00 00 00 06 00 00  ................
            0050  00 00 00 00 00 03 00 00 00 00 00 00 00 03 00 00  ................
            0060  00 07 00 00 00 00 00 00 00 00 00 00 00 00 07 00  ................
            0070  00 00 00 00 00 00 01 07 00 00 00 70 61 79 6c 6f  ...........paylo
            0080  61 64 07 00 00 00 00 00 00 00 02 17 00 00 00 01  ad..............
            0090  02 01 00 00 00 00 00 00 00 02 00 00 00 00 00 00  ................
            00a0  00 00 00 00 00 00                                ......
        "#]],
    );
}

#[test]
fn a_heartbeat_reply_on_the_wire() {
    let body = Body::HeartbeatReply { round: Round(3), clock: 1_000 };
    check_frame(
        PeerMessage::Raft(Message { term: Term(7), body }),
        &expect![[r#"
            0000  a3 ac f2 53 77 66 55 44 33 22 11 00 ef cd ab 89  ...SwfUD3"......
            0010  67 45 23 01 01 00 00 00 00 00 00 00 02 00 00 00  gE#.............
            0020  00 00 00 00 bb aa 00 00 00 00 00 00 03 00 00 00  ................
            0030  00 00 00 00 57 51 00 00 00 00 00 00 09 07 00 00  ....WQ..........
            0040  00 00 00 00 00 03 00 00 00 00 00 00 00 e8 03 00  ................
            0050  00 00 00 00 00                                   .....
        "#]],
    );
}

#[test]
fn a_founding_report_on_the_wire() {
    let seen = vec![(id(1), Incarnation(0xaabb)), (id(3), Incarnation(0xccdd))];
    check_frame(
        PeerMessage::Founding { origin: None, seen },
        &expect![[r#"
            0000  50 4a 30 b3 77 66 55 44 33 22 11 00 ef cd ab 89  PJ0.wfUD3"......
            0010  67 45 23 01 01 00 00 00 00 00 00 00 02 00 00 00  gE#.............
            0020  00 00 00 00 bb aa 00 00 00 00 00 00 03 00 00 00  ................
            0030  00 00 00 00 57 51 00 00 00 00 00 00 30 02 00 00  ....WQ......0...
            0040  00 01 00 00 00 00 00 00 00 bb aa 00 00 00 00 00  ................
            0050  00 03 00 00 00 00 00 00 00 dd cc 00 00 00 00 00  ................
            0060  00                                               .
        "#]],
    );
}

fn origin() -> Origin {
    let cluster = ClusterId::new(0xc0c1).unwrap();
    Origin { cluster, position: Position::new(Term(7), Index(1234)), digest: 0xd1d2 }
}

#[test]
fn a_founding_report_of_a_restored_member_on_the_wire() {
    let seen = vec![(id(1), Incarnation(0xaabb))];
    check_frame(
        PeerMessage::Founding { origin: Some(origin()), seen },
        &expect![[r#"
            0000  d8 51 47 5c 77 66 55 44 33 22 11 00 ef cd ab 89  .QG\wfUD3"......
            0010  67 45 23 01 01 00 00 00 00 00 00 00 02 00 00 00  gE#.............
            0020  00 00 00 00 bb aa 00 00 00 00 00 00 03 00 00 00  ................
            0030  00 00 00 00 57 51 00 00 00 00 00 00 33 c1 c0 00  ....WQ......3...
            0040  00 00 00 00 00 00 00 00 00 00 00 00 00 07 00 00  ................
            0050  00 00 00 00 00 d2 04 00 00 00 00 00 00 d2 d1 00  ................
            0060  00 00 00 00 00 01 00 00 00 01 00 00 00 00 00 00  ................
            0070  00 bb aa 00 00 00 00 00 00                       .........
        "#]],
    );
}

#[test]
fn a_check_report_on_the_wire() {
    let position = Position::new(Term(7), Index(9));
    check_frame(
        PeerMessage::CheckReport { position, digest: 0x0123_4567_89ab_cdef, asks: true },
        &expect![[r#"
            0000  f4 e3 d0 f4 77 66 55 44 33 22 11 00 ef cd ab 89  ....wfUD3"......
            0010  67 45 23 01 01 00 00 00 00 00 00 00 02 00 00 00  gE#.............
            0020  00 00 00 00 bb aa 00 00 00 00 00 00 03 00 00 00  ................
            0030  00 00 00 00 57 51 00 00 00 00 00 00 28 07 00 00  ....WQ......(...
            0040  00 00 00 00 00 09 00 00 00 00 00 00 00 ef cd ab  ................
            0050  89 67 45 23 01 01                                .gE#..
        "#]],
    );
}

#[test]
fn a_disk_without_room_on_the_wire() {
    let (free_bytes, reserve_bytes) = (0x1122, 0x3344);
    check_frame(
        PeerMessage::DiskRoom(DiskRoom { is_short: true, free_bytes, reserve_bytes, folder: "/d".into() }),
        &expect![[r#"
            0000  53 24 3a ea 77 66 55 44 33 22 11 00 ef cd ab 89  S$:.wfUD3"......
            0010  67 45 23 01 01 00 00 00 00 00 00 00 02 00 00 00  gE#.............
            0020  00 00 00 00 bb aa 00 00 00 00 00 00 03 00 00 00  ................
            0030  00 00 00 00 57 51 00 00 00 00 00 00 2c 01 22 11  ....WQ......,.".
            0040  00 00 00 00 00 00 44 33 00 00 00 00 00 00 02 00  ......D3........
            0050  00 00 2f 64                                      ../d
        "#]],
    );
}

#[test]
fn a_check_in_the_log() {
    let payload = entry::batch(1_700_000_000_000, &[entry::check()]);
    expect![[r#"
        0000  01 00 68 e5 cf 8b 01 00 00 03                    ..h.......
    "#]]
    .assert_eq(&hexdump(&payload));
    let batch = EntryPayload::Batch { stamp_ms: 1_700_000_000_000, items: vec![Item::Check] };
    assert_eq!(entry::parse(&payload), Ok(batch));
}

fn every_write() -> Vec<LoggedWrite> {
    let put = Command::Put { key: bytes("k"), value: bytes("v"), condition: Condition::IfAbsent, get: true };
    let append = Command::Append { key: bytes("k"), value: bytes("w") };
    let session = SessionKey { index: 9, place: 1 };
    let name = OnceName { session, seq: Seq(6), acknowledged: Seq(5), checksum: 0xabcd };
    let disk = Shortage::Disk { server: id(2), free: 4, reserve: 5, folder: folder_name("/d") };
    vec![
        LoggedWrite::Plain(put),
        LoggedWrite::Plain(Command::Delete { keys: vec![bytes("k"), bytes("l")] }),
        LoggedWrite::Once { session, seq: Seq(5), acknowledged: Seq(4), checksum: 0, command: append },
        LoggedWrite::OpenSession { ttl_ms: Some(60_000) },
        LoggedWrite::CloseSession { session },
        LoggedWrite::KeepAlive,
        LoggedWrite::Refused { shortage: Shortage::Memory { needed: 1, used: 2, limit: 3 }, once: None },
        LoggedWrite::Refused { shortage: disk, once: Some(name) },
    ]
}

#[test]
fn a_batch_in_the_log() {
    let writes: Vec<Bytes> = every_write().iter().map(entry::encode_write).collect();
    let head = entry::RunHead {
        session: SessionKey { index: 2, place: 0 },
        attempt: 1,
        acknowledged: Seq(10),
        first: Seq(11),
    };
    let items = [entry::open_gateway(id(3), 0x1111, 2), entry::run(head, writes.iter())];
    let payload = entry::batch(1_700_000_000_000, &items);
    expect![[r#"
        0000  01 00 68 e5 cf 8b 01 00 00 02 03 00 00 00 00 00  ..h.............
        0010  00 00 11 11 00 00 00 00 00 00 02 00 00 00 00 00  ................
        0020  00 00 01 de 00 00 00 02 00 00 00 00 00 00 00 00  ................
        0030  00 00 00 01 00 00 00 00 00 00 00 0a 00 00 00 00  ................
        0040  00 00 00 0b 00 00 00 00 00 00 00 08 00 00 00 01  ................
        0050  05 01 00 00 00 6b 01 00 00 00 76 03 02 00 00 00  .....k....v.....
        0060  01 00 00 00 6b 01 00 00 00 6c 10 09 00 00 00 00  ....k....l......
        0070  00 00 00 01 00 00 00 05 00 00 00 00 00 00 00 04  ................
        0080  00 00 00 00 00 00 00 02 01 00 00 00 6b 01 00 00  ............k...
        0090  00 77 11 60 ea 00 00 00 00 00 00 12 09 00 00 00  .w.`............
        00a0  00 00 00 00 01 00 00 00 13 14 01 01 00 00 00 00  ................
        00b0  00 00 00 02 00 00 00 00 00 00 00 03 00 00 00 00  ................
        00c0  00 00 00 00 14 02 02 00 00 00 00 00 00 00 04 00  ................
        00d0  00 00 00 00 00 00 05 00 00 00 00 00 00 00 02 00  ................
        00e0  00 00 2f 64 01 09 00 00 00 00 00 00 00 01 00 00  ../d............
        00f0  00 06 00 00 00 00 00 00 00 05 00 00 00 00 00 00  ................
        0100  00 cd ab 00 00                                   .....
    "#]]
    .assert_eq(&hexdump(&payload));

    let EntryPayload::Batch { stamp_ms, items } = entry::parse(&payload).unwrap() else { panic!("no batch") };
    assert_eq!(stamp_ms, 1_700_000_000_000);
    assert_eq!(items[0], Item::OpenGateway { node: id(3), start: 0x1111, nonce: 2 });
    let Item::Run(run) = &items[1] else { panic!("no run") };
    assert_eq!((run.attempt, run.acknowledged, run.first), (1, Seq(10), Seq(11)));
    let mut expected = every_write();
    if let (LoggedWrite::Once { checksum, .. }, LoggedWrite::Once { checksum: found, .. }) =
        (&mut expected[2], &run.writes[2])
    {
        *checksum = *found;
    }
    assert_eq!(run.writes, expected);
}

#[test]
fn a_founding_entry_in_the_log() {
    let payload = entry::founding(&StateLimits::default());
    expect![[r#"
        0000  02 02 00 00 00 01 00 00 00 00 00 00 00 80 00 00  ................
        0010  00 00 00 00 04 00 00 00 00 00 00 00 00 00 01 00  ................
        0020  00 00 00 a0 86 01 00 00 00 00 00 80 ee 36 00 00  .............6..
        0030  00 00 00 60 ea 00 00 00 00 00 00 00 5c 26 05 00  ...`........\&..
        0040  00 00 00                                         ...
    "#]]
    .assert_eq(&hexdump(&payload));
    assert_eq!(entry::parse(&payload), Ok(EntryPayload::Founding(StateLimits::default())));
}

/// Clusters that were founded before sessions had a longest lifetime have none, on every server.
#[test]
fn a_founding_entry_of_the_first_version() {
    let mut payload = entry::founding(&StateLimits::default()).to_vec();
    payload[1] = 1;
    payload.truncate(payload.len() - 8);
    let limits = StateLimits { session_ttl_ms_max: u64::MAX, ..StateLimits::default() };
    assert_eq!(entry::parse(&Bytes::from(payload)), Ok(EntryPayload::Founding(limits)));
}

fn some_frames() -> Vec<Bytes> {
    let raft = |body| PeerMessage::Raft(Message { term: Term(7), body });
    let position = Position::new(Term(6), Index(3));
    let entries =
        vec![Entry { position: Position::new(Term(7), Index(4)), payload: Payload::Data(bytes("data")) }];
    let messages = [
        raft(Body::PreVote { last: position }),
        raft(Body::PreVoteReply { granted: true }),
        raft(Body::Vote { last: position, is_transfer: true }),
        raft(Body::TimeoutNow),
        raft(Body::VoteReply { granted: false }),
        raft(Body::Append { run: Run::parse(position, entries).unwrap(), commit: Index(1) }),
        raft(Body::Appended { matched: Index(4) }),
        raft(Body::Rejected { base: Index(3), hint: position }),
        raft(Body::Heartbeat { round: Round(1), commit: Index(1) }),
        raft(Body::HeartbeatReply { round: Round(1), clock: 9 }),
        raft(Body::InstallSnapshot { last: position }),
        PeerMessage::Forward { items: entry::open_gateway(id(1), 2, 3) },
        PeerMessage::ReadIndex { start: 1, counter: 2 },
        PeerMessage::ReadIndexReply { start: 1, counter: 2, index: Index(3) },
        PeerMessage::FetchSnapshot { last: position, offset: 5 },
        PeerMessage::SnapshotChunk { last: position, offset: 5, total: 9, bytes: bytes("rest") },
        PeerMessage::CheckReport { position, digest: 9, asks: true },
        PeerMessage::Founding { origin: None, seen: vec![(id(1), Incarnation(2))] },
        PeerMessage::Founding { origin: Some(origin()), seen: vec![(id(1), Incarnation(2))] },
        PeerMessage::DiskRoom(DiskRoom {
            is_short: false,
            free_bytes: 1,
            reserve_bytes: u64::MAX,
            folder: folder_name("/data"),
        }),
        PeerMessage::Founded { members: vec![(id(1), Incarnation(2)), (id(2), Incarnation(3))] },
        PeerMessage::Refused { incarnation: Incarnation(1), known: Incarnation(2) },
    ];
    messages.into_iter().map(|message| frame(&envelope(message))).collect()
}

/// Founded, a gateway, a client's session with the reply of `SET k v`.
#[test]
fn a_state_in_the_blocks_of_a_snapshot() {
    let command = put_once();
    let writes = [
        LoggedWrite::OpenSession { ttl_ms: None },
        LoggedWrite::Once {
            session: SessionKey { index: 3, place: 0 },
            seq: Seq(1),
            acknowledged: Seq(0),
            checksum: 0,
            command,
        },
    ];
    let writes: Vec<Bytes> = writes.iter().map(entry::encode_write).collect();
    let session = SessionKey { index: 2, place: 0 };
    let head = entry::RunHead { session, attempt: 1, acknowledged: Seq(0), first: Seq(1) };
    let payloads = [
        entry::founding(&StateLimits::default()),
        entry::batch(1_700_000_000_000, &[entry::open_gateway(id(1), 0xabcd, 1)]),
        entry::batch(1_700_000_000_005, &[entry::run(head, writes.iter())]),
    ];
    let mut machine = Machine::new(ClusterId::new(0x0123_4567_89ab_cdef_0011_2233_4455_6677).unwrap(), 1);
    for (index, payload) in (1..).zip(payloads) {
        let entry = Entry { position: Position::new(Term(2), Index(index)), payload: Payload::Data(payload) };
        machine.apply(&entry, &mut Nobody).unwrap();
    }
    let blocks: Vec<Bytes> = machine.image().blocks().collect();
    expect![[r#"
        0000  01 77 66 55 44 33 22 11 00 ef cd ab 89 67 45 23  .wfUD3"......gE#
        0010  01 02 03 0c be e4 a3 48 ab e9 23 85 d0 95 ff bc  .......H..#.....
        0020  31 01 80 80 04 80 80 80 04 80 08 80 80 80 08 a0  1...............
        0030  8d 06 80 dd db 01 e0 d4 03 80 b8 99 29 01 01 01  ............)...
        0040  02 00 01 cd ab 00 00 00 00 00 00 01 e5 a4 99 ff  ................
        0050  bc 31 02 03 00 80 dd db 01 85 ad f1 80 bd 31 00  .1............1.
        0060  01 01 b1 04 7a 52 01 01 6b 01 76                 ....zR..k.v
    "#]]
    .assert_eq(&hexdump(&blocks.concat()));
}

fn put_once() -> Command {
    Command::Put { key: bytes("k"), value: bytes("v"), condition: Condition::Always, get: false }
}

#[test]
fn every_message_comes_back_as_it_went() {
    for frame in some_frames() {
        let decoded = wire::decode(&frame).unwrap();
        let mut again = BytesMut::new();
        wire::encode(&decoded, &mut again);
        assert_eq!(again.freeze(), frame);
    }
}

#[test]
fn a_frame_that_is_cut_or_changed_is_refused() {
    for frame in some_frames() {
        for end in 0..frame.len() {
            assert!(wire::decode(&frame.slice(..end)).is_err());
        }
        for place in 0..frame.len() {
            let mut spoiled = frame.to_vec();
            spoiled[place] ^= 1;
            assert!(wire::decode(&Bytes::from(spoiled)).is_err());
        }
    }
}

proptest! {
    /// Whoever can forge a checksum still cannot make a server panic.
    #[test]
    fn any_bytes_with_a_right_checksum_do_not_panic(which: prop::sample::Index, edits in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..4), cut: u16) {
        let mut frame = which.get(&some_frames()).to_vec();
        for (place, byte) in edits {
            let place = 4 + usize::from(place) % (frame.len() - 4);
            frame[place] = byte;
        }
        frame.truncate(4 + usize::from(cut) % frame.len());
        let checksum = crc32c::crc32c(&frame[4.min(frame.len())..]).to_le_bytes();
        let head = 4.min(frame.len());
        frame[..head].copy_from_slice(&checksum[..head]);
        let _ = wire::decode(&Bytes::from(frame));
    }

    #[test]
    fn any_bytes_are_no_entry_or_one_that_parses(edits in proptest::collection::vec((any::<u16>(), any::<u8>()), 0..4), cut: u16) {
        let writes: Vec<Bytes> = every_write().iter().map(entry::encode_write).collect();
        let head = entry::RunHead { session: SessionKey { index: 2, place: 0 }, attempt: 1, acknowledged: Seq(0), first: Seq(1) };
        let mut payload = entry::batch(1, &[entry::open_gateway(id(3), 1, 2), entry::run(head, writes.iter())]).to_vec();
        for (place, byte) in edits {
            let place = usize::from(place) % payload.len();
            payload[place] = byte;
        }
        payload.truncate(1 + usize::from(cut) % payload.len());
        let _ = entry::parse(&Bytes::from(payload));
    }
}
