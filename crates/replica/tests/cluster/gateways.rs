//! What a gateway sends, and sends again, and how reads keep their place among its writes.

use super::*;

/// A write of the connection is in the log already, applied elsewhere but not yet here; another client's later write is
/// acknowledged; then the connection asks. Answered at the place of its own earlier write, the read would be stale.
#[test]
fn a_read_does_not_ride_on_a_write_that_was_sent_before_it_came() {
    let mut cluster = founded(3);
    let leader = cluster.leader();
    let follower = cluster.servers.keys().copied().find(|node| *node != leader).unwrap();
    cluster.request(follower, 9, 1, put("other", "1"));
    // The forward reaches the leader; nothing comes back to the follower.
    let forwards: Vec<PeerEnvelope> = cluster.network.drain(..).collect();
    cluster.cut.insert(follower);
    for envelope in forwards {
        cluster.step(envelope.to, Event::Peer(envelope));
    }
    cluster.settle();
    assert_eq!(cluster.call(leader, put("k", "acknowledged")), Reply::Ok);
    cluster.request(follower, 9, 2, get("k"));
    assert_eq!(cluster.take_answers(follower), []);
    cluster.cut.clear();
    cluster.run(100);
    assert_eq!(cluster.take_answers(follower), [(1, Reply::Ok), (2, value("acknowledged"))]);
}

#[test]
fn a_lost_forward_is_sent_again_in_order() {
    let mut cluster = founded(3);
    let leader = cluster.leader();
    let follower = cluster.servers.keys().copied().find(|node| *node != leader).unwrap();
    cluster.request(follower, 9, 1, append("k", "a"));
    cluster.network.clear();
    cluster.request(follower, 9, 2, append("k", "b"));
    cluster.settle();
    cluster.run(5);
    assert_eq!(cluster.take_answers(follower), [(1, Reply::Integer(1)), (2, Reply::Integer(2))]);
    assert_eq!(cluster.call(leader, get("k")), value("ab"));
}

/// A follower that was paused, and is cut off, for longer than its gateway's session lives; it has appended "a" to "k".
fn with_an_expired_gateway() -> (Cluster, NodeId, NodeId) {
    let mut cluster = founded(3);
    let leader = cluster.leader();
    let follower = cluster.servers.keys().copied().find(|node| *node != leader).unwrap();
    assert_eq!(cluster.call(follower, append("k", "a")), Reply::Integer(1));
    cluster.cut.insert(follower);
    let paused = cluster.servers.remove(&follower).unwrap();
    for _ in 0..10 {
        cluster.now_ms += 10_000;
        cluster.run(10);
        assert_eq!(cluster.call(leader, put("tick", "tock")), Reply::Ok);
    }
    cluster.servers.insert(follower, paused);
    (cluster, leader, follower)
}

/// The server was paused for longer than its gateway's session lives. What it had sent may stand in the log behind the
/// expiry, where it does not run; it is sent again under a new session and runs once.
#[test]
fn a_gateway_whose_session_expired_opens_another_and_nothing_runs_twice() {
    let (mut cluster, leader, follower) = with_an_expired_gateway();
    cluster.request(follower, 9, 1, append("k", "b"));
    cluster.request(follower, 9, 2, append("k", "c"));
    cluster.cut.clear();
    cluster.run(200);
    assert_eq!(cluster.take_answers(follower), [(1, Reply::Integer(2)), (2, Reply::Integer(3))]);
    assert_eq!(cluster.call(leader, get("k")), value("abc"));
    assert_eq!(cluster.digests().len(), 1);
}

/// A write that was sent is to be sent again under another session: as one that never was, a read may ride on it, but not past an
/// earlier read of its connection that waits. (Found as seed 101129 of the simulator, with members that change.)
#[test]
fn reads_of_a_connection_keep_their_order_when_the_session_changes() {
    let (mut cluster, _, follower) = with_an_expired_gateway();
    cluster.request(follower, 9, 1, append("k", "b"));
    cluster.request(follower, 9, 2, get("k"));
    cluster.settle();
    // It learns that its session is gone, and cannot open another one yet.
    cluster.cut.clear();
    cluster.mute.insert(follower);
    cluster.run(30);
    cluster.request(follower, 9, 3, get("k"));
    cluster.mute.clear();
    cluster.run(200);
    let answers = cluster.take_answers(follower);
    assert_eq!(answers, [(1, Reply::Integer(2)), (2, value("ab")), (3, value("ab"))]);
}

/// A leader whose disks stand still for seconds must not be buried under copies of what waits there already.
#[test]
fn a_slow_leader_is_not_sent_the_same_again_and_again() {
    let mut cluster = founded(3);
    let leader = cluster.leader();
    let follower = cluster.servers.keys().copied().find(|node| *node != leader).unwrap();
    let last = |cluster: &Cluster| cluster.servers[&leader].replica.status().last;
    let before = last(&cluster);
    cluster.request(leader, 1, 1, append("k", "a"));
    cluster.request(follower, 2, 2, append("k", "b"));
    for _ in 0..400 {
        cluster.now_ms += 10;
        for node in [1, 2, 3].map(id) {
            cluster.step(node, Event::Tick);
        }
        while let Some(envelope) = cluster.network.pop_front() {
            cluster.step(envelope.to, Event::Peer(envelope));
        }
    }
    let entries = last(&cluster) - before;
    assert!(entries <= 5, "{entries} entries for two commands");
    cluster.settle();
    assert_eq!(cluster.take_answers(leader).len() + cluster.take_answers(follower).len(), 2);
    let Reply::Value(value) = cluster.call(leader, get("k")) else { panic!("no value") };
    assert_eq!(value.len(), 2);
}

/// The first batch carries a time that a majority's clocks have reached, not none at all: the gateways' sessions, opened at
/// time zero, would be long expired at the next batch.
#[test]
fn each_gateway_of_a_new_cluster_opens_one_session() {
    let mut cluster = founded(3);
    for node in 1..=3 {
        assert_eq!(cluster.call(id(node), append("k", "x")), Reply::Integer(node as i64));
    }
    let log = cluster.servers[&cluster.leader()].replica.raft().unwrap();
    let openings = log.entries_after(Index::ZERO).filter_map(|entry| match &entry.payload {
        Payload::Data(payload) => match entry::parse(payload) {
            Ok(EntryPayload::Batch { items, .. }) => Some(items),
            Ok(EntryPayload::Founding(_)) | Err(_) => None,
        },
        Payload::Noop | Payload::Membership(_) => None,
    });
    let openings = openings.flatten().filter(|item| matches!(item, Item::OpenGateway { .. }));
    assert_eq!(openings.count(), 3);
}

/// All stand still for longer than a gateway's session lives, and many clients' sessions that expired before it are removed
/// first: its runs are skipped from its deadline on, not from its removal.
#[test]
fn a_gateway_that_expired_behind_many_sessions_opens_another_at_once() {
    let mut cluster = founded(3);
    let leader = cluster.leader();
    for node in 1..=3 {
        assert!(matches!(cluster.call(id(node), append("k", "x")), Reply::Integer(_)));
    }
    for tag in 0..6_400 {
        let write = Write::OpenSession { ttl_ms: Some(30_000) };
        cluster.request(leader, 1, tag, Operation::Write(write));
    }
    cluster.settle();
    cluster.run(10);
    assert_eq!(cluster.take_answers(leader).len(), 6_400);
    cluster.now_ms += 70_000;
    cluster.run(20);
    for node in 1..=3 {
        cluster.request(id(node), 100 + node, 10_000 + node, append("k", "y"));
    }
    cluster.run(50);
    for node in 1..=3 {
        let answers = cluster.take_answers(id(node));
        assert!(matches!(answers[..], [(_, Reply::Integer(_))]), "{node}: {answers:?}");
    }
}
