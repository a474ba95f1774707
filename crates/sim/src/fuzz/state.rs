//! What the blocks of a snapshot may hold: anything at all, under checksums that are right. Knows the layout only as far
//! as it makes the digest right, so that what comes in is gone on with.

use bytes::Bytes;
use quorate_raft::{Entry, Index, NodeId, Payload, Position, Term};
use quorate_replica::command::{Command, Condition, Seq, SessionKey};
use quorate_replica::entry::{self, LoggedWrite, RunHead};
use quorate_replica::machine::{Machine, Nobody};
use quorate_replica::snapshot::{LoadError, Loader};
use quorate_storage::ClusterId;

/// Where the digest stands: behind the format, the cluster, and a term and an index of one byte each.
const DIGEST: std::ops::Range<usize> = 19..27;

fn cluster() -> ClusterId {
    ClusterId::new(7).expect("not zero")
}

/// What every input is a snapshot of, if it is one.
fn position() -> Position {
    Position::new(Term(1), Index(9))
}

fn load(bytes: &[u8], block_bytes: usize) -> Result<Machine, LoadError> {
    let mut loader = Loader::new(cluster(), position(), 1);
    for block in bytes.chunks(block_bytes) {
        loader.block(block)?;
    }
    loader.finish()
}

/// The first byte says how long blocks are; the rest is what is in them.
///
/// # Panics
/// If making a state of it panics; if a state that was made is not made again from its own blocks; if it cannot be gone
/// on with.
pub fn state(data: &[u8]) {
    let Some((length, bytes)) = data.split_first() else { return };
    let block_bytes = 1 + usize::from(*length);
    let mut bytes = bytes.to_vec();
    if let Err(LoadError::OtherDigest { computed, .. }) = load(&bytes, block_bytes) {
        bytes[DIGEST].copy_from_slice(&computed.to_le_bytes());
    }
    let Ok(mut machine) = load(&bytes, block_bytes) else { return };
    let again: Vec<Bytes> = machine.image().blocks().collect();
    let again = load(&again.concat(), usize::MAX).expect("its own blocks are readable");
    assert_eq!(again.digest(), machine.digest());
    assert_eq!(again.sessions().next_deadline_ms(), machine.sessions().next_deadline_ms());
    go_on(&mut machine);
}

/// Commands of gateways and sessions with low numbers, as the corpus has them, and then the end of all time.
fn go_on(machine: &mut Machine) {
    let key = Bytes::from_static(b"k");
    let command = Command::Put { key, value: Bytes::new(), condition: Condition::Always, get: true };
    for index in 0..8 {
        let session = SessionKey { index, place: 0 };
        let first = machine.sessions().gateway_last(session).map_or(Seq(1), |last| Seq(last.0 + 1));
        let once = |seq, acknowledged| LoggedWrite::Once {
            session: SessionKey { index: seq, place: 0 },
            seq: Seq(seq),
            acknowledged: Seq(acknowledged),
            checksum: 0,
            command: command.clone(),
        };
        let writes = [LoggedWrite::OpenSession { ttl_ms: None }, once(4, 0), once(5, 4), once(u64::MAX, 1)];
        let writes: Vec<Bytes> = writes.iter().map(entry::encode_write).collect();
        let head = RunHead { session, attempt: 1, acknowledged: Seq(0), first };
        apply(machine, 0, &[entry::run(head, writes.iter())]);
    }
    let node = NodeId::new(1).expect("not zero");
    apply(machine, 1, &[entry::open_gateway(node, 5, 6)]);
    apply(machine, u64::MAX, &[]);
}

fn apply(machine: &mut Machine, stamp_ms: u64, items: &[Bytes]) {
    let position = Position::new(Term(2), machine.applied().next());
    let entry = Entry { position, payload: Payload::Data(entry::batch(stamp_ms, items)) };
    machine.apply(&entry, &mut Nobody).expect("a batch of ours");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An input that is a state, as this program lays it out; the corpus has one.
    #[test]
    fn a_state_of_ours_is_gone_on_with() {
        let mut machine = Machine::new(cluster(), 1);
        let founding = Payload::Data(entry::founding(&entry::StateLimits::default()));
        let first = Entry { position: Position::new(Term(1), Index(1)), payload: founding };
        machine.apply(&first, &mut Nobody).expect("a founding of ours");
        let node = NodeId::new(1).expect("not zero");
        let noop = |machine: &mut Machine| {
            let position = Position::new(Term(1), machine.applied().next());
            machine.apply(&Entry { position, payload: Payload::Noop }, &mut Nobody).expect("nothing");
        };
        let at = |machine: &mut Machine, items: &[Bytes]| {
            let position = Position::new(Term(1), machine.applied().next());
            let payload = Payload::Data(entry::batch(1_000, items));
            machine.apply(&Entry { position, payload }, &mut Nobody).expect("a batch of ours");
        };
        at(&mut machine, &[entry::open_gateway(node, 5, 5)]);
        noop(&mut machine);
        let session = SessionKey { index: 2, place: 0 };
        let run = |first, writes: &[LoggedWrite]| {
            let writes: Vec<Bytes> = writes.iter().map(entry::encode_write).collect();
            let head = RunHead { session, attempt: 1, acknowledged: Seq(0), first: Seq(first) };
            entry::run(head, writes.iter())
        };
        at(&mut machine, &[run(1, &[LoggedWrite::OpenSession { ttl_ms: None }])]);
        at(&mut machine, &[run(2, &[LoggedWrite::OpenSession { ttl_ms: Some(2_000) }])]);
        let put = |get, value: &'static [u8]| Command::Put {
            key: Bytes::from_static(b"key"),
            value: Bytes::from_static(value),
            condition: Condition::Always,
            get,
        };
        let append = Command::Append { key: Bytes::from_static(b"log"), value: Bytes::from_static(b"line") };
        let once = |index, seq, command| LoggedWrite::Once {
            session: SessionKey { index, place: 0 },
            seq: Seq(seq),
            acknowledged: Seq(0),
            checksum: 0,
            command,
        };
        let writes = [once(4, 1, put(true, b"one")), once(4, 2, append), once(4, 3, put(true, b"two"))];
        at(&mut machine, &[run(3, &writes)]);
        at(&mut machine, &[run(6, &[once(5, 9, put(false, b"three")), LoggedWrite::KeepAlive])]);
        noop(&mut machine);
        noop(&mut machine);
        assert_eq!(machine.applied_position(), position());
        let blocks: Vec<Bytes> = machine.image().blocks().collect();
        let made = load(&blocks.concat(), 16).expect("a state of ours");
        assert_eq!(made.digest(), machine.digest());
        let input = [&[15], &blocks.concat()[..]].concat();
        state(&input);
        assert_eq!(
            input,
            include_bytes!("../../../../fuzz/corpus/state/of-ours"),
            "the corpus is of another format"
        );
    }
}
