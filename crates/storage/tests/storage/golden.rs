//! The formats, byte by byte. A difference here is a new format version (`docs/storage.md`).

use expect_test::{Expect, expect};
use quorate_raft::{Index, NodeId, Position, Term};
use quorate_storage::{ClusterId, Identity, Incarnation, Member, Origin, SimDisk, identity};

use crate::support::{entry, hexdump, new_log, noop, record_offsets, segment, vote};

fn node(id: u64) -> NodeId {
    NodeId::new(id).unwrap()
}

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
        0000  51 52 54 49 44 45 4e 54 76 32 d6 f5 01 00 00 00  QRTIDENTv2......
        0010  40 00 00 00 00 00 00 00 02 00 00 00 00 00 00 00  @...............
        0020  dd dd cc cc bb bb aa aa 00 00 00 00 00 00 00 00  ................
        *
        0040
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
        0000  51 52 54 49 44 45 4e 54 5f 01 36 8f 01 00 00 00  QRTIDENT_.6.....
        0010  70 00 00 00 03 00 00 00 02 00 00 00 00 00 00 00  p...............
        0020  dd dd cc cc bb bb aa aa fb 08 03 fe 20 6a c5 8d  ............ j..
        0030  43 59 4c 9c 27 a3 99 70 00 00 00 00 00 00 00 00  CYL.'..p........
        0040  01 00 00 00 00 00 00 00 11 11 00 00 00 00 00 00  ................
        0050  02 00 00 00 00 00 00 00 dd dd cc cc bb bb aa aa  ................
        0060  03 00 00 00 00 00 00 00 33 33 00 00 00 00 00 00  ........33......
        0070
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
        0000  51 52 54 49 44 45 4e 54 e7 59 3a b6 02 00 00 00  QRTIDENT.Y:.....
        0010  68 00 00 00 00 00 00 00 02 00 00 00 00 00 00 00  h...............
        0020  dd dd cc cc bb bb aa aa 00 00 00 00 00 00 00 00  ................
        *
        0040  00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f  ................
        0050  07 00 00 00 00 00 00 00 d2 04 00 00 00 00 00 00  ................
        0060  d1 d1 00 00 00 00 00 00                          ........
        0068
    "#]],
    );
    assert_eq!(identity::load(&disk, node(2)).unwrap(), Some(identity));
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
