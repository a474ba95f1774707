//! The formats, byte by byte. A difference here is a new format version (`docs/storage.md`).

use expect_test::{Expect, expect};
use quorate_raft::{Index, Position, Term};
use quorate_storage::{
    ClusterId, Disk, Identity, Incarnation, Member, Origin, SimDisk, Start, Starts, identity,
};

use crate::support::{entry, hexdump, new_log, node, noop, open_folder, record_offsets, segment, vote};

fn check(bytes: &[u8], expected: &Expect) {
    expected.assert_eq(&hexdump(bytes));
}

#[test]
fn an_identity_before_and_after_founding() {
    let disk = SimDisk::new();
    let identity = Identity::new(node(2), Incarnation(0xaaaa_bbbb_cccc_dddd));
    identity::store(&disk, &identity).unwrap();
    check(
        &disk.content("identity").unwrap(),
        &expect![[r#"
            0000  51 52 54 49 44 45 4e 54 52 c0 f9 7d 03 00 00 00  QRTIDENTR..}....
            0010  48 00 00 00 00 00 00 00 02 00 00 00 00 00 00 00  H...............
            0020  dd dd cc cc bb bb aa aa 00 00 00 00 00 00 00 00  ................
            *
            0048
        "#]],
    );
    let members = [
        Member { id: node(3), incarnation: Incarnation(0x3333) },
        Member { id: node(1), incarnation: Incarnation(0x1111) },
        Member { id: node(2), incarnation: identity.incarnation },
    ];
    identity::store(&disk, &identity.founded(&members)).unwrap();
    check(
        &disk.content("identity").unwrap(),
        &expect![[r#"
            0000  51 52 54 49 44 45 4e 54 a5 7c 99 f1 03 00 00 00  QRTIDENT.|......
            0010  78 00 00 00 03 00 00 00 02 00 00 00 00 00 00 00  x...............
            0020  dd dd cc cc bb bb aa aa fb 08 03 fe 20 6a c5 8d  ............ j..
            0030  43 59 4c 9c 27 a3 99 70 00 00 00 00 00 00 00 00  CYL.'..p........
            0040  01 00 00 00 00 00 00 00 11 11 00 00 00 00 00 00  ................
            0050  02 00 00 00 00 00 00 00 dd dd cc cc bb bb aa aa  ................
            0060  03 00 00 00 00 00 00 00 33 33 00 00 00 00 00 00  ........33......
            *
            0078
        "#]],
    );
    assert_eq!(disk.names(), ["identity"]);
}

#[test]
fn an_identity_of_a_restored_folder() {
    let disk = SimDisk::new();
    let cluster = ClusterId::new(0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100).unwrap();
    let origin = Origin { cluster, position: Position::new(Term(7), Index(1234)), digest: 0xd1d1 };
    let identity =
        Identity { origin: Some(origin), ..Identity::new(node(2), Incarnation(0xaaaa_bbbb_cccc_dddd)) };
    identity::store(&disk, &identity).unwrap();
    check(
        &disk.content("identity").unwrap(),
        &expect![[r#"
            0000  51 52 54 49 44 45 4e 54 2f 9a 75 2d 03 00 00 00  QRTIDENT/.u-....
            0010  70 00 00 00 00 00 00 00 02 00 00 00 00 00 00 00  p...............
            0020  dd dd cc cc bb bb aa aa 00 00 00 00 00 00 00 00  ................
            *
            0040  00 00 00 00 00 00 00 00 00 01 02 03 04 05 06 07  ................
            0050  08 09 0a 0b 0c 0d 0e 0f 07 00 00 00 00 00 00 00  ................
            0060  d2 04 00 00 00 00 00 00 d1 d1 00 00 00 00 00 00  ................
            0070
        "#]],
    );
    assert_eq!(identity::load(&disk, node(2)).unwrap(), Some(identity));
}

/// As the first versions wrote it, before there were start numbers: it is read, and the next start writes it anew.
#[test]
fn identities_of_formats_1_and_2_are_read_and_become_3() {
    for (old, members, has_origin) in [
        (
            "51525449 44454e54 5f01368f 01000000 70000000 03000000 02000000 00000000 ddddcccc bbbbaaaa fb0803fe 206ac58d 43594c9c \
          27a39970 00000000 00000000 01000000 00000000 11110000 00000000 02000000 00000000 ddddcccc bbbbaaaa 03000000 00000000 \
          33330000 00000000",
            3,
            false,
        ),
        (
            "51525449 44454e54 e7593ab6 02000000 68000000 00000000 02000000 00000000 ddddcccc bbbbaaaa 00000000 00000000 00000000 \
          00000000 00000000 00000000 00010203 04050607 08090a0b 0c0d0e0f 07000000 00000000 d2040000 00000000 d1d10000 00000000",
            0,
            true,
        ),
    ] {
        let digits: Vec<u8> = old.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
        let bytes: Vec<u8> = digits.chunks_exact(2).map(byte).collect();
        let disk = SimDisk::new();
        disk.plant("identity", Some(bytes));
        let found = identity::load(&disk, node(2)).unwrap().unwrap();
        assert_eq!((found.founding.len(), found.origin.is_some()), (members, has_origin));
        assert_eq!((found.incarnation, found.start_number), (Incarnation(0xaaaa_bbbb_cccc_dddd), 0));
        identity::store(&disk, &found.started(0xd1)).unwrap();
        assert_eq!(disk.content("identity").unwrap()[12], 3);
        assert_eq!(identity::load(&disk, node(2)).unwrap(), Some(found.started(0xd1)));
    }
}

/// A folder of a node that has joined is not in the list of the founders.
#[test]
fn an_identity_of_a_node_that_has_joined() {
    let disk = SimDisk::new();
    let founders = [Member { id: node(1), incarnation: Incarnation(0x1111) }];
    let identity = Identity::new(node(2), Incarnation(0xaaaa)).started(0xd1).joined(&founders);
    identity::store(&disk, &identity).unwrap();
    check(
        &disk.content("identity").unwrap(),
        &expect![[r#"
            0000  51 52 54 49 44 45 4e 54 d1 c3 2a ac 03 00 00 00  QRTIDENT..*.....
            0010  60 00 00 00 01 00 00 00 02 00 00 00 00 00 00 00  `...............
            0020  aa aa 00 00 00 00 00 00 24 91 2d 12 7f d3 f8 d3  ........$.-.....
            0030  9d 7c 97 fa f3 53 ce 94 01 00 00 00 00 00 00 00  .|...S..........
            0040  01 00 00 00 00 00 00 00 11 11 00 00 00 00 00 00  ................
            0050  01 00 00 00 00 00 00 00 d1 00 00 00 00 00 00 00  ................
            0060
        "#]],
    );
    assert_eq!(identity::load(&disk, node(2)).unwrap().as_ref(), Some(&identity));
    assert!(!identity.is_founder() && identity.cluster() == Some(ClusterId::of(&founders)));
}

#[test]
fn what_was_heard_of_the_starts_of_others() {
    let disk = SimDisk::new();
    let mut starts = Starts::default();
    for (id, number) in [(3, 9), (1, 2)] {
        let start = Start { number, draw: 0xdddd };
        assert!(starts.hear((node(id), Incarnation(0xcccc)), start, |_, _| true));
    }
    starts.store(&disk).unwrap();
    check(
        &disk.content("starts").unwrap(),
        &expect![[r#"
        0000  51 52 54 53 54 41 52 54 73 9c b9 b6 01 00 00 00  QRTSTARTs.......
        0010  58 00 00 00 02 00 00 00 01 00 00 00 00 00 00 00  X...............
        0020  cc cc 00 00 00 00 00 00 02 00 00 00 00 00 00 00  ................
        0030  dd dd 00 00 00 00 00 00 03 00 00 00 00 00 00 00  ................
        0040  cc cc 00 00 00 00 00 00 09 00 00 00 00 00 00 00  ................
        0050  dd dd 00 00 00 00 00 00                          ........
        0058
    "#]],
    );
    assert_eq!(disk.names(), ["starts"]);
}

/// A start is counted last, when nothing can refuse the folder any more.
#[test]
fn a_start_is_counted_in_the_identity() {
    let disk = SimDisk::new();
    for number in 1..=3 {
        let folder = open_folder(&disk, 2, 0xaaaa).unwrap();
        assert_eq!(folder.identity.start_number, number);
        drop(folder);
        disk.crash_power(0);
    }
    let file = disk.open("identity").unwrap();
    assert_eq!(file.size().unwrap(), 64 + 8 + 3 * 8);
    assert_eq!(disk.content("identity").unwrap()[56..64], 3_u64.to_le_bytes());
}

#[test]
fn a_segment_with_a_header_a_write_a_marker_and_a_seal() {
    let (disk, mut wal) = new_log();
    wal.append(Some(vote(5, 2)), &[noop(1, 5), entry(2, 5, "hello")]).unwrap();
    wal.sync().unwrap();
    wal.mark_synced().unwrap();
    wal.append(None, &[entry(3, 5, [b'x'; 800])]).unwrap();
    wal.sync().unwrap();
    let bytes = disk.content(&segment(1)).unwrap();
    let at = record_offsets(&bytes);
    assert_eq!(at.len(), 4);
    check(
        &bytes[at[0]..at[1]],
        &expect![[r#"
        0000  68 00 00 00 c1 10 db 0f 01 01 00 00 00 00 00 00  h...............
        0010  01 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00  ................
        0020  01 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  ................
        0030  51 52 54 4c 4f 47 00 00 f0 de bc 9a 78 56 34 12  QRTLOG......xV4.
        0040  00 04 00 00 00 00 00 00 00 00 00 00 00 00 00 00  ................
        *
        0098
    "#]],
    );
    check(
        &bytes[at[1]..at[2]],
        &expect![[r#"
        0000  4d 00 00 00 c9 3e 19 69 02 01 00 00 c1 10 db 0f  M....>.i........
        0010  01 00 00 00 00 00 00 00 02 00 00 00 00 00 00 00  ................
        0020  01 00 00 00 00 00 00 00 98 00 00 00 00 00 00 00  ................
        0030  01 00 00 00 02 00 00 00 05 00 00 00 00 00 00 00  ................
        0040  02 00 00 00 00 00 00 00 05 00 00 00 00 00 00 00  ................
        0050  01 00 00 00 00 00 00 00 00 00 00 00 01 00 00 00  ................
        0060  05 00 00 00 00 00 00 00 02 00 00 00 00 00 00 00  ................
        0070  05 00 00 00 02 00 00 00 68 65 6c 6c 6f 00 00 00  ........hello...
        0080
    "#]],
    );
    check(
        &bytes[at[2]..at[3]],
        &expect![[r#"
        0000  00 00 00 00 ec 57 01 b3 03 01 00 00 c9 3e 19 69  .....W.......>.i
        0010  01 00 00 00 00 00 00 00 03 00 00 00 00 00 00 00  ................
        0020  01 00 00 00 00 00 00 00 18 01 00 00 00 00 00 00  ................
        0030
    "#]],
    );
    check(
        &bytes[at[3]..],
        &expect![[r#"
        0000  08 00 00 00 f9 c4 eb e7 04 01 00 00 ec 57 01 b3  .............W..
        0010  01 00 00 00 00 00 00 00 04 00 00 00 00 00 00 00  ................
        0020  01 00 00 00 00 00 00 00 48 01 00 00 00 00 00 00  ........H.......
        0030  00 06 00 00 00 00 00 00 00 00 00 00 00 00 00 00  ................
        *
        02b8
    "#]],
    );
}

#[test]
fn the_header_of_a_next_segment_repeats_the_hard_state_and_says_what_came_before() {
    let (disk, mut wal) = new_log();
    wal.append(Some(vote(5, 2)), &[noop(1, 5), entry(2, 5, "hello")]).unwrap();
    wal.append(None, &[entry(3, 5, [b'x'; 800])]).unwrap();
    wal.sync().unwrap();
    let bytes = disk.content(&segment(2)).unwrap();
    check(
        &bytes[..record_offsets(&bytes)[1]],
        &expect![[r#"
            0000  68 00 00 00 80 48 d1 f0 01 01 00 00 aa 5c 3e 7a  h....H.......\>z
            0010  02 00 00 00 00 00 00 00 04 00 00 00 00 00 00 00  ................
            0020  02 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  ................
            0030  51 52 54 4c 4f 47 00 00 f0 de bc 9a 78 56 34 12  QRTLOG......xV4.
            0040  00 06 00 00 00 00 00 00 05 00 00 00 00 00 00 00  ................
            0050  02 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  ................
            0060  00 00 00 00 00 00 00 00 05 00 00 00 00 00 00 00  ................
            0070  02 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  ................
            *
            0098
        "#]],
    );
}
