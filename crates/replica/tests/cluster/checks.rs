//! Replicas compare themselves. No replica's state can be altered from here, so one is misled about those of the others.

use quorate_raft::Position;
use quorate_replica::Agreement;
use quorate_replica::checks::{CHECK_INTERVAL_MS, DISPUTE_MS};

use super::*;

/// Ticks in which a check is proposed, committed, reported and judged.
const CHECK_TICKS: u64 = CHECK_INTERVAL_MS / 10 + 10;

fn raft(cluster: &Cluster, node: NodeId) -> &quorate_raft::Node {
    cluster.servers[&node].replica.raft().unwrap()
}

fn agreement(cluster: &Cluster, node: NodeId) -> Agreement {
    cluster.servers[&node].replica.status().agreement
}

/// The index of the last check that a server has applied, and the last that a majority agreed with it on.
fn checks(cluster: &Cluster, node: NodeId) -> (u64, u64) {
    let checks = cluster.servers[&node].replica.status().checks;
    (checks.last, checks.agreed)
}

fn diverged(cluster: &Cluster, node: NodeId) -> bool {
    matches!(agreement(cluster, node), Agreement::Diverged { .. })
}

fn nodes() -> impl Iterator<Item = NodeId> {
    (1..=3).map(id)
}

/// Three servers of which one, with its clients' connection 1, is misled until it stops serving.
fn with_one_misled(leads: bool) -> (Cluster, NodeId) {
    let mut cluster = founded(3);
    let leader = cluster.leader();
    let misled = nodes().find(|node| (*node == leader) == leads).unwrap();
    assert_eq!(cluster.call(misled, put("k", "v")), Reply::Ok);
    cluster.misled.insert(misled);
    cluster.run(CHECK_TICKS);
    assert!(diverged(&cluster, misled), "{:?}", agreement(&cluster, misled));
    (cluster, misled)
}

#[test]
fn servers_agree_wherever_anything_was_applied() {
    let mut cluster = founded(3);
    assert_eq!(cluster.call(id(2), put("k", "v")), Reply::Ok);
    cluster.run(CHECK_TICKS);
    let first = checks(&cluster, id(1));
    assert!(first.0 > 0 && first.0 == first.1);
    assert!(
        nodes().all(|node| checks(&cluster, node) == first && agreement(&cluster, node) == Agreement::Sound)
    );
    // The sign of life of a gateway is a change too.
    cluster.run(CHECK_TICKS);
    assert!(checks(&cluster, id(1)).0 > first.0);
}

#[test]
fn a_group_of_one_has_nobody_to_compare_with() {
    let mut cluster = founded(1);
    assert_eq!(cluster.call(id(1), put("k", "v")), Reply::Ok);
    cluster.run(2 * CHECK_TICKS);
    assert_eq!(checks(&cluster, id(1)), (0, 0));
}

#[test]
fn a_leader_that_has_diverged_leaves_its_place_and_the_others_serve() {
    let (mut cluster, old) = with_one_misled(true);
    cluster.run(60);
    let leader = cluster.leader();
    assert_ne!(leader, old);
    for (node, length) in nodes().filter(|node| *node != old).zip(2..) {
        assert_eq!(cluster.call(node, append("k", "w")), Reply::Integer(length));
        assert_eq!(agreement(&cluster, node), Agreement::Sound);
    }
    let warned = |notice: &Notice| matches!(notice, Notice::Warn(text) if text.starts_with("NOT SERVING"));
    assert_eq!(cluster.servers[&old].notices.iter().filter(|notice| warned(notice)).count(), 1);
    // It keeps the log, says that it does, and its state is left as it was.
    cluster.run(10);
    assert_eq!(raft(&cluster, old).commit(), raft(&cluster, leader).commit());
    let applied = |node| cluster.servers[&node].replica.machine().unwrap().applied();
    assert!(applied(old) < applied(leader));
    // Where nobody leads, it does not.
    cluster.cut.insert(leader);
    cluster.run(200);
    assert_ne!(cluster.leader(), old);
}

#[test]
fn who_has_diverged_answers_nobody() {
    let (mut cluster, node) = with_one_misled(false);
    for operation in [get("k"), put("k", "x"), Operation::Read(Query::Size)] {
        let reply = cluster.call(node, operation);
        let says = |why: &str| why.contains("that of a majority");
        assert!(matches!(&reply, Reply::Error(ReplyError::NotServing(why)) if says(why)), "{reply:?}");
    }
    // It takes no snapshot either, not even one that is asked for.
    cluster.step(node, Event::TakeSnapshot);
    cluster.run(10);
    assert!(cluster.servers[&node].jobs.is_empty());
    assert_eq!(cluster.take_answers(node), []);
}

/// What was sent may have been, or yet be, executed; what was not sent was not, and reads have no effect.
#[test]
fn waiters_of_a_server_that_stops_are_told_the_truth() {
    let mut cluster = founded(3);
    let leader = cluster.leader();
    let node = nodes().find(|node| *node != leader).unwrap();
    cluster.run(CHECK_TICKS);
    let index = Index(checks(&cluster, node).0);
    let position = Position::new(raft(&cluster, node).term_at(index).unwrap(), index);
    // A write that is on its way, a read that rides on one that is not sent yet, and a read that waits for its index.
    cluster.request(node, 5, 1, append("k", "w"));
    let under_way = std::mem::take(&mut cluster.network);
    assert!(under_way.iter().any(|envelope| matches!(envelope.message, PeerMessage::Forward { .. })));
    let asked =
        [(5, 2, append("l", "w")), (5, 3, get("l")), (6, 4, get("k"))].map(|(connection, tag, operation)| {
            Event::Request(Request { connection: ConnectionId(connection), tag, operation })
        });
    let reports = nodes().filter(|other| *other != node).map(|other| {
        let incarnation = cluster.servers[&other].identity.incarnation;
        let message = PeerMessage::CheckReport { position, digest: 1, asks: false };
        let start = cluster.start_of(other);
        let cluster = cluster.servers[&other].identity.cluster();
        Event::Peer(PeerEnvelope { cluster, from: other, to: node, incarnation, start, message })
    });
    let mut events: Vec<Event> = asked.into_iter().chain(reports).collect();
    let actions = cluster.servers.get_mut(&node).unwrap().replica.step(cluster.now_ms, &mut events);
    cluster.perform(node, actions);
    assert!(diverged(&cluster, node));
    let mut answers = cluster.take_answers(node);
    answers.sort_by_key(|(tag, _)| *tag);
    assert_eq!(answers.remove(0), (1, Reply::Error(ReplyError::InDoubt)));
    assert_eq!(answers.len(), 3);
    for (_, reply) in answers {
        assert!(matches!(reply, Reply::Error(ReplyError::NotServing(_))), "{reply:?}");
    }
    // The first takes effect, and the second never.
    cluster.network.extend(under_way);
    cluster.run(10);
    assert_eq!(cluster.call(leader, get("k")), value("w"));
    assert_eq!(cluster.call(leader, get("l")), Reply::Nil);
    assert_eq!(cluster.take_answers(node), []);
}

/// A folder that was lost, or a server of another cluster, has no say; nor has garbage.
#[test]
fn reports_count_only_from_the_folders_that_vote() {
    let mut cluster = founded(3);
    cluster.run(CHECK_TICKS);
    let index = Index(checks(&cluster, id(1)).0);
    let position = Position::new(raft(&cluster, id(1)).term_at(index).unwrap(), index);
    let message = PeerMessage::CheckReport { position, digest: 1, asks: true };
    let ours = cluster.servers[&id(1)].identity.cluster();
    for from in [id(2), id(3), id(9)] {
        for (whose, incarnation) in [(ours, 7), (None, 100 + from.get())] {
            let (incarnation, start) = (Incarnation(incarnation), cluster.start_of(from));
            let message = message.clone();
            cluster.step(
                id(1),
                Event::Peer(PeerEnvelope { cluster: whose, from, to: id(1), incarnation, start, message }),
            );
        }
        for index in [0, u64::MAX] {
            let position = Position::new(position.term, Index(index));
            let message = PeerMessage::CheckReport { position, digest: 1, asks: true };
            let (incarnation, start) = (Incarnation(100 + from.get()), cluster.start_of(from));
            cluster.step(
                id(1),
                Event::Peer(PeerEnvelope { cluster: ours, from, to: id(1), incarnation, start, message }),
            );
        }
    }
    cluster.run(DISPUTE_MS);
    assert_eq!(agreement(&cluster, id(1)), Agreement::Sound);
}

/// A client's server does not put checks into the log: only who leads does.
#[test]
fn a_check_that_is_forwarded_is_not_taken() {
    let mut cluster = founded(3);
    let leader = cluster.leader();
    let from = nodes().find(|node| *node != leader).unwrap();
    let last = raft(&cluster, leader).last();
    let message = PeerMessage::Forward { items: entry::check() };
    let (ours, incarnation) = (cluster.servers[&from].identity.cluster(), Incarnation(100 + from.get()));
    let start = cluster.start_of(from);
    let envelope = PeerEnvelope { cluster: ours, from, to: leader, incarnation, start, message };
    cluster.step(leader, Event::Peer(envelope));
    cluster.settle();
    assert_eq!(raft(&cluster, leader).last(), last);
}

/// Two of three say different things, and the third nothing.
#[test]
fn servers_that_differ_without_a_majority_wait_and_then_stop_until_there_is_one() {
    let mut cluster = founded(3);
    let leader = cluster.leader();
    let (one, away) = {
        let mut others = nodes().filter(|node| *node != leader);
        (others.next().unwrap(), others.next().unwrap())
    };
    cluster.cut.insert(away);
    cluster.misled.extend([leader, one]);
    cluster.run(CHECK_TICKS);
    assert_eq!((agreement(&cluster, leader), agreement(&cluster, one)), (Agreement::Sound, Agreement::Sound));
    cluster.run(DISPUTE_MS / 10);
    for node in [leader, one] {
        assert!(matches!(agreement(&cluster, node), Agreement::Undecided { .. }));
        let reply = cluster.call(node, get("k"));
        assert!(
            matches!(&reply, Reply::Error(ReplyError::NotServing(why)) if why.contains("no majority")),
            "{reply:?}"
        );
    }
    assert_eq!(cluster.leader(), leader, "the log goes on, or the third would never get there");
    cluster.cut.clear();
    cluster.misled.clear();
    cluster.run(CHECK_TICKS);
    for node in nodes() {
        assert_eq!(cluster.call(node, get("k")), Reply::Nil);
        assert_eq!(agreement(&cluster, node), Agreement::Sound);
    }
}

/// A server that was away for a check is asked for its report when it is back.
#[test]
fn a_report_that_was_lost_is_asked_for() {
    let mut cluster = founded(3);
    let leader = cluster.leader();
    let away = nodes().find(|node| *node != leader).unwrap();
    let judge = nodes().find(|node| *node != leader && *node != away).unwrap();
    cluster.cut.insert(away);
    cluster.run(CHECK_TICKS);
    let (last, agreed) = checks(&cluster, judge);
    assert!(last > 0 && last == agreed, "two of three are a majority");
    cluster.cut.clear();
    cluster.run(50);
    assert_eq!(checks(&cluster, away), (last, last));
}
