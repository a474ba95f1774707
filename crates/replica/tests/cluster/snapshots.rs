//! Snapshots that are taken here: when one is due, what leaves the log behind it, and a start from one.

use quorate_replica::Loader;

use super::*;

const LOG_BYTES_MAX: u64 = 2_000;
const TAIL_BYTES: u64 = 500;

fn with_snapshots(size: u64) -> Cluster {
    let mut cluster = Cluster::new(0);
    cluster.log_bytes = (LOG_BYTES_MAX, TAIL_BYTES);
    for number in 1..=size {
        let identity = Identity::new(id(number), Incarnation(100 + number));
        cluster.start(size, identity, Restored::default(), None);
    }
    cluster.run(100);
    cluster
}

/// Writes about as much as the log may hold.
fn fill(cluster: &mut Cluster, node: NodeId) {
    let text = "x".repeat(200);
    for _ in 0..LOG_BYTES_MAX / 200 {
        assert_eq!(cluster.call(node, put("k", &text)), Reply::Ok);
    }
}

/// What is being taken becomes durable, and what it holds is kept.
fn finish(cluster: &mut Cluster, node: NodeId) -> Position {
    let server = cluster.servers.get_mut(&node).unwrap();
    let TakeSnapshot { position, image } = server.taking.take().expect("no snapshot is being taken");
    assert_eq!(image.position(), position);
    server.snapshot = Some((position, image.blocks().collect()));
    cluster.step(node, Event::SnapshotTaken(position));
    position
}

fn raft(cluster: &Cluster, node: NodeId) -> &quorate_raft::Node {
    cluster.servers[&node].replica.raft().unwrap()
}

/// The process ends; its disk, and the last snapshot on it, stay.
fn restart(cluster: &mut Cluster, size: u64, node: NodeId) {
    let Server { identity, mut log, snapshot, .. } = cluster.servers.remove(&node).unwrap();
    let machine = snapshot.as_ref().map(|(position, blocks)| {
        let mut loader = Loader::new(identity.cluster().unwrap(), *position, 99);
        blocks.iter().for_each(|block| loader.block(block).unwrap());
        loader.finish().unwrap()
    });
    log.snapshot = snapshot.as_ref().map_or(Position::ZERO, |(position, _)| *position);
    cluster.start(size, identity, log, machine);
    cluster.servers.get_mut(&node).unwrap().snapshot = snapshot;
}

#[test]
fn a_full_log_leaves_behind_a_snapshot() {
    let mut cluster = with_snapshots(1);
    assert!(cluster.servers[&id(1)].taking.is_none());
    fill(&mut cluster, id(1));
    // A second one is not asked for: `perform` would say so.
    fill(&mut cluster, id(1));
    let held = raft(&cluster, id(1)).entries_after(Index::ZERO).count();
    let position = finish(&mut cluster, id(1));
    let node = raft(&cluster, id(1));
    assert_eq!(node.snapshot(), position);
    assert!(node.entries_after(Index::ZERO).count() < held);
    let between = |after: Index| {
        let upto = node.entries_after(after).take_while(|entry| entry.position.index <= position.index);
        upto.map(|entry| entry.cost() as u64).sum::<u64>()
    };
    let tail_bytes = between(node.base().index);
    assert!((TAIL_BYTES / 2..=TAIL_BYTES).contains(&tail_bytes), "{tail_bytes} bytes");
    // As much was written meanwhile, so the next one is due.
    cluster.run(1);
    assert!(finish(&mut cluster, id(1)).index > position.index);
    assert_eq!(cluster.call(id(1), get("k")), value(&"x".repeat(200)));
}

#[test]
fn a_snapshot_that_failed_is_asked_for_again_later() {
    let mut cluster = with_snapshots(1);
    fill(&mut cluster, id(1));
    let TakeSnapshot { position, image: _ } =
        cluster.servers.get_mut(&id(1)).unwrap().taking.take().expect("no snapshot is being taken");
    cluster.step(id(1), Event::SnapshotFailed(position));
    assert_eq!(raft(&cluster, id(1)).base(), Position::ZERO);
    assert!(cluster.servers[&id(1)].taking.is_none());
    // Whoever answers twice is not believed twice.
    cluster.step(id(1), Event::SnapshotTaken(position));
    assert_eq!(raft(&cluster, id(1)).base(), Position::ZERO);
    fill(&mut cluster, id(1));
    finish(&mut cluster, id(1));
    assert!(raft(&cluster, id(1)).base().index > position.index);
}

#[test]
fn a_server_goes_on_from_its_snapshot() {
    let mut cluster = with_snapshots(3);
    let opened = cluster.call(id(2), Operation::Write(Write::OpenSession { ttl_ms: None }));
    let Reply::Session(session) = opened else { panic!("{opened:?}") };
    let append_once = once(session, 1, 0, Command::Append { key: bytes("once"), value: bytes("abc") });
    assert_eq!(cluster.call(id(2), append_once.clone()), Reply::Integer(3));
    fill(&mut cluster, id(2));
    cluster.run(10);
    for number in 1..=3 {
        finish(&mut cluster, id(number));
    }
    // All of them at once: nothing but snapshots and logs is left of the cluster.
    for number in 1..=3 {
        restart(&mut cluster, 3, id(number));
        assert!(cluster.servers[&id(number)].replica.machine().unwrap().applied() > Index::ZERO);
    }
    cluster.network.clear();
    cluster.run(100);
    assert_eq!(cluster.call(id(1), append_once), Reply::Integer(3));
    assert_eq!(cluster.call(id(3), get("once")), value("abc"));
    fill(&mut cluster, id(3));
    cluster.run(10);
    assert_eq!(cluster.digests().len(), 1);
}

#[test]
#[should_panic(expected = "the state machine is not the snapshot's")]
fn a_server_does_not_start_on_another_state_than_the_snapshots() {
    let mut cluster = with_snapshots(1);
    fill(&mut cluster, id(1));
    finish(&mut cluster, id(1));
    let Server { identity, mut log, snapshot, .. } = cluster.servers.remove(&id(1)).unwrap();
    log.snapshot = snapshot.unwrap().0;
    cluster.start(1, identity, log, None);
}
