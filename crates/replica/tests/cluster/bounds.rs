//! What waits at one server is bounded in number and in bytes: past a bound the shell is told to read no more, nothing that
//! was taken is lost, and a full window empties, with or without a leader.

use quorate_replica::gateway::{WINDOW_BYTES_MAX, WINDOW_COMMANDS_MAX};
use quorate_replica::pending::READS_BYTES_MAX;

use super::*;

/// All of these wait when the shell steps.
fn offer(cluster: &mut Cluster, node: NodeId, requests: impl IntoIterator<Item = Request>) {
    let mut events: Vec<Event> = requests.into_iter().map(Event::Request).collect();
    let server = cluster.servers.get_mut(&node).unwrap();
    let actions = server.replica.step(cluster.now_ms, &mut events);
    cluster.perform(node, actions);
}

/// The same operation `count` times, over some connections; the tags count.
fn many(count: usize, operation: &Operation) -> impl Iterator<Item = Request> {
    (0..count as u64).map(move |tag| Request {
        connection: ConnectionId(100 + tag % 64),
        tag,
        operation: operation.clone(),
    })
}

fn has_room(cluster: &Cluster, node: NodeId) -> bool {
    cluster.servers[&node].replica.has_room()
}

/// Nobody hears anybody, and everybody knows.
fn leaderless() -> Cluster {
    let mut cluster = founded(3);
    cluster.cut.extend([1, 2, 3].map(id));
    cluster.run(100);
    for server in cluster.servers.values() {
        assert_eq!(server.replica.raft().unwrap().leader(), None);
    }
    cluster
}

/// All tags up to `count` are answered, each once, and so.
#[track_caller]
fn check_answers(cluster: &mut Cluster, node: NodeId, count: usize, reply: &Reply) {
    let answers = cluster.take_answers(node);
    let tags: BTreeSet<u64> = answers.iter().map(|(tag, _)| *tag).collect();
    assert_eq!((answers.len(), tags.len()), (count, count));
    assert!(tags.into_iter().eq(0..count as u64));
    if let Some((tag, other)) = answers.iter().find(|(_, answer)| answer != reply) {
        panic!("{tag} is answered {other:?}");
    }
}

/// The server answers on: errors as long as there is no leader, and everything once there is one.
#[track_caller]
fn check_serves_on(cluster: &mut Cluster, node: NodeId) {
    assert!(has_room(cluster, node), "full for ever");
    offer(cluster, node, many(1, &put("after", "1")));
    cluster.run(310);
    check_answers(cluster, node, 1, &Reply::Error(ReplyError::ClusterDown));
    cluster.cut.clear();
    cluster.run(150);
    assert_eq!(cluster.call(node, put("after", "2")), Reply::Ok);
    for other in 1..=3 {
        assert_eq!(cluster.call(id(other), get("after")), value("2"));
    }
    cluster.run(10);
    assert_eq!(cluster.digests().len(), 1);
}

#[test]
fn a_window_full_of_writes_that_were_never_sent_empties_without_a_leader() {
    let mut cluster = leaderless();
    let node = id(1);
    offer(&mut cluster, node, many(WINDOW_COMMANDS_MAX - 1, &append("k", "x")));
    assert!(has_room(&cluster, node));
    let last = WINDOW_COMMANDS_MAX as u64 - 1;
    offer(&mut cluster, node, many(WINDOW_COMMANDS_MAX, &append("k", "x")).filter(|one| one.tag == last));
    assert!(!has_room(&cluster, node));
    cluster.run(310);
    check_answers(&mut cluster, node, WINDOW_COMMANDS_MAX, &Reply::Error(ReplyError::ClusterDown));
    check_serves_on(&mut cluster, node);
    assert_eq!(cluster.call(node, get("k")), Reply::Nil, "not executed is not executed");
}

#[test]
fn a_window_full_of_bytes_empties_without_a_leader() {
    const VALUE_BYTES: usize = 8 << 20;
    let mut cluster = leaderless();
    let node = id(1);
    let large = plain(Command::Put {
        key: bytes("k"),
        value: Bytes::from(vec![b'x'; VALUE_BYTES]),
        condition: Condition::Always,
        get: false,
    });
    let count = WINDOW_BYTES_MAX / VALUE_BYTES;
    for tag in 0..count as u64 {
        assert!(has_room(&cluster, node), "{tag} values of {count}");
        offer(&mut cluster, node, many(count, &large).filter(|one| one.tag == tag));
    }
    assert!(!has_room(&cluster, node));
    cluster.run(310);
    check_answers(&mut cluster, node, count, &Reply::Error(ReplyError::ClusterDown));
    check_serves_on(&mut cluster, node);
}

/// What was sent may not be forgotten as long as it could still run in its order; but nobody waits for it any more, and the
/// clients that come now must not stand before a closed door.
#[test]
fn a_window_full_of_writes_that_were_sent_empties_without_a_leader() {
    let mut cluster = founded(3);
    let leader = cluster.leader();
    let node = (1..=3).map(id).find(|node| *node != leader).unwrap();
    cluster.cut.extend([1, 2, 3].map(id));
    offer(&mut cluster, node, many(WINDOW_COMMANDS_MAX, &append("k", "x")));
    assert!(!has_room(&cluster, node));
    cluster.run(510);
    check_answers(&mut cluster, node, WINDOW_COMMANDS_MAX, &Reply::Error(ReplyError::InDoubt));
    check_serves_on(&mut cluster, node);
    let length = Operation::Read(Query::Length { key: bytes("k") });
    let Reply::Integer(length) = cluster.call(node, length) else { panic!("no length") };
    assert!(length == 0 || length == WINDOW_COMMANDS_MAX as i64, "{length} of {WINDOW_COMMANDS_MAX} ran");
}

/// The same, but the writes have reached the leader and run, and this server alone does not hear of it in time.
#[test]
fn a_window_full_of_writes_in_doubt_that_have_run_runs_nothing_twice() {
    let mut cluster = founded(3);
    let leader = cluster.leader();
    let node = (1..=3).map(id).find(|node| *node != leader).unwrap();
    offer(&mut cluster, node, many(WINDOW_COMMANDS_MAX, &append("k", "x")));
    let forwards: Vec<PeerEnvelope> = cluster.network.drain(..).collect();
    cluster.cut.insert(node);
    for envelope in forwards {
        assert_eq!(envelope.to, leader);
        cluster.step(leader, Event::Peer(envelope));
    }
    cluster.run(510);
    check_answers(&mut cluster, node, WINDOW_COMMANDS_MAX, &Reply::Error(ReplyError::InDoubt));
    assert_eq!(cluster.call(leader, append("k", "y")), Reply::Integer(WINDOW_COMMANDS_MAX as i64 + 1));
    check_serves_on(&mut cluster, node);
    assert_eq!(cluster.call(node, append("k", "z")), Reply::Integer(WINDOW_COMMANDS_MAX as i64 + 2));
}

/// Sixteen keys of 64 KiB each.
fn large_read() -> (Query, usize) {
    let query = Query::GetMany { keys: vec![Bytes::from(vec![b'k'; 64 << 10]); 16] };
    let bytes = query.bytes();
    (query, bytes)
}

#[test]
fn reads_that_wait_are_bounded_in_bytes_and_none_is_lost() {
    let mut cluster = founded(3);
    let leader = cluster.leader();
    let node = (1..=3).map(id).find(|node| *node != leader).unwrap();
    let (query, bytes) = large_read();
    let count = READS_BYTES_MAX.div_ceil(bytes);
    assert!(count < 100, "the bound in number is another test's");
    let nothing = Reply::Values(vec![None; 16]);
    let read = Operation::Read(query);
    for healed in [true, false] {
        cluster.cut.insert(node);
        for tag in 0..count as u64 {
            assert!(has_room(&cluster, node), "{tag} reads of {count}");
            offer(&mut cluster, node, many(count, &read).filter(|one| one.tag == tag));
        }
        assert!(!has_room(&cluster, node));
        // Some more that were under way already are taken too.
        offer(&mut cluster, node, many(count + 3, &read).filter(|one| one.tag >= count as u64));
        assert_eq!(cluster.take_answers(node), []);
        if healed {
            cluster.cut.clear();
            cluster.run(100);
            check_answers(&mut cluster, node, count + 3, &nothing);
        } else {
            cluster.run(310);
            check_answers(&mut cluster, node, count + 3, &Reply::Error(ReplyError::ClusterDown));
        }
        assert!(has_room(&cluster, node));
    }
}

#[test]
fn reads_that_ride_are_bounded_in_bytes_and_none_is_lost() {
    let (query, bytes) = large_read();
    let Query::GetMany { keys } = &query else { unreachable!() };
    let write = plain(Command::Put {
        key: keys[0].clone(),
        value: bytes_of_value(),
        condition: Condition::Always,
        get: false,
    });
    let count = WINDOW_BYTES_MAX.div_ceil(bytes);
    // Before the write, where they have waited as reads do, or behind it.
    for write_tag in [0, count as u64 - 1] {
        let mut cluster = leaderless();
        let node = id(1);
        let operations = (0..=count as u64)
            .map(|tag| if tag == write_tag { write.clone() } else { Operation::Read(query.clone()) });
        for (tag, operation) in (0..).zip(operations) {
            assert!(has_room(&cluster, node), "{tag} commands of {count}");
            cluster.request(node, 5, tag, operation);
        }
        assert!(!has_room(&cluster, node), "the rides are not counted");
        assert_eq!(cluster.take_answers(node), []);
        cluster.cut.clear();
        cluster.run(150);
        let answers: BTreeMap<u64, Reply> = cluster.take_answers(node).into_iter().collect();
        assert_eq!(answers.len(), count + 1);
        for (tag, answer) in answers {
            let seen = (tag > write_tag).then(|| Value::copy_from(&bytes_of_value()));
            let expected = if tag == write_tag { Reply::Ok } else { Reply::Values(vec![seen; 16]) };
            assert!(answer == expected, "{tag} of {count}");
        }
        assert!(has_room(&cluster, node));
    }
}

fn bytes_of_value() -> Bytes {
    bytes("seen")
}

/// A start may have the whole log to apply, and one that comes back as much: in one turn it would neither hear nor say
/// anything meanwhile.
#[test]
fn what_is_committed_is_applied_in_slices_a_turn() {
    const WRITES: usize = 40;
    const VALUE_BYTES: usize = 100 << 10;
    let mut cluster = founded(1);
    for number in 0..WRITES {
        assert_eq!(cluster.call(id(1), put(&format!("k{number}"), &"x".repeat(VALUE_BYTES))), Reply::Ok);
    }
    let Server { identity, log, files, .. } = cluster.servers.remove(&id(1)).unwrap();
    let written = log.entries.last().unwrap().position.index;
    cluster.start_on(1, identity, log, files, None);
    let Server { replica, disk, .. } = cluster.servers.get_mut(&id(1)).unwrap();
    let keys = |replica: &Replica| replica.machine().unwrap().shards().keys();
    let mut most = 0;
    let mut goes_on = Vec::new();
    // Ticks until it leads and knows what is committed; then nothing but turns.
    for _ in 0..1_000 {
        let before = keys(replica);
        let is_behind = replica.raft().unwrap().commit() >= written;
        let mut events: Vec<Event> =
            disk.drain(..).map(|write: DiskWrite| Event::Persisted(write.write)).collect();
        if !is_behind {
            events.push(Event::Tick);
        }
        let actions = replica.step(cluster.now_ms, &mut events);
        disk.extend(actions.persist);
        most = most.max(keys(replica) - before);
        goes_on.push(actions.goes_on);
        if keys(replica) == WRITES as u64 {
            break;
        }
    }
    assert_eq!(keys(replica), WRITES as u64, "it says that it has more to do until it has done it");
    // A slice is 256 KiB, and each input of a turn brings one.
    assert!((1..=12).contains(&most), "{most} of {WRITES} in one turn");
    assert!(goes_on.into_iter().filter(|goes_on| *goes_on).count() >= 2);
}

/// It commits without its own disk: what waits for that one must not grow for ever, and nobody shall wait for it for long.
#[test]
fn a_leader_whose_disk_stands_still_takes_no_more_than_a_bound_and_hands_over() {
    const BOUND_BYTES: usize = 64 << 20;
    const WRITE_BYTES: usize = 1 << 20;
    let mut cluster = founded(3);
    let leader = cluster.leader();
    cluster.stopped.insert(leader);
    let text = "x".repeat(WRITE_BYTES);
    let queued = |cluster: &Cluster| -> usize {
        cluster.servers[&leader]
            .disk
            .iter()
            .flat_map(|write| &write.entries)
            .map(quorate_raft::Entry::cost)
            .sum()
    };
    for tag in 0..200 {
        cluster.request(leader, 1, tag, put("k", &text));
        cluster.run(1);
    }
    assert!((BOUND_BYTES..=BOUND_BYTES + (8 << 20)).contains(&queued(&cluster)), "{}", queued(&cluster));
    cluster.run(300);
    assert_ne!(cluster.leader(), leader);
    let next = cluster.leader();
    cluster.request(next, 2, 0, put("k", "another leads"));
    cluster.run(100);
    assert_eq!(cluster.take_answers(next), [(0, Reply::Ok)]);
    cluster.stopped.clear();
    cluster.run(300);
    let mut answers = cluster.take_answers(leader);
    answers.sort_by_key(|(tag, _)| *tag);
    assert!(answers.iter().map(|(tag, _)| *tag).eq(0..200), "each is answered once");
    let taken = answers.iter().filter(|(_, reply)| *reply == Reply::Ok).count();
    assert!(taken >= BOUND_BYTES / WRITE_BYTES, "{taken}");
}

/// All disks stand still, the leader's a moment before the others: what waits is not committed but for that moment's, and has a
/// bound of its own. Nobody would lead better.
#[test]
fn a_leader_whose_disk_is_no_slower_than_the_others_goes_on_leading() {
    let mut cluster = founded(3);
    let leader = cluster.leader();
    let term = |cluster: &Cluster| cluster.servers[&leader].replica.raft().unwrap().term();
    let before = term(&cluster);
    let text = "x".repeat(1 << 20);
    for tag in 0..110 {
        if tag == 0 {
            cluster.stopped.insert(leader);
        } else if tag == 55 {
            cluster.stopped.extend([1, 2, 3].map(id));
        }
        cluster.request(leader, 1, tag, put("k", &text));
        cluster.run(1);
    }
    cluster.run(300);
    assert_eq!((cluster.leader(), term(&cluster)), (leader, before));
    let hands_over =
        |notice: &Notice| matches!(notice, Notice::Warn(text) if text.contains("another server is to lead"));
    assert!(!cluster.servers[&leader].notices.iter().any(hands_over));
    cluster.stopped.clear();
    cluster.run(300);
    assert_eq!(cluster.call(leader, put("k", "y")), Reply::Ok);
}
