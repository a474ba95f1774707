//! What a leader lets the state grow to: refusals take the place of writes, and every server answers them alike.

use quorate_replica::memory::KEY_OVERHEAD_BYTES;
use quorate_replica::shortage::Shortage;

use super::*;

/// Room for one key of one byte with a value of 100, and not for two.
const MEMORY_BYTES_MAX: u64 = 2 * (KEY_OVERHEAD_BYTES + 1) + 150;

/// Servers of different limits: what is refused depends on who leads, and nothing else does.
fn limited() -> Cluster {
    let mut cluster = Cluster::configured(3, |config| {
        config.memory_bytes_max = MEMORY_BYTES_MAX + config.id.get();
    });
    cluster.run(100);
    cluster
}

fn hundred() -> String {
    "x".repeat(100)
}

fn delete(key: &str) -> Operation {
    plain(Command::Delete { keys: vec![bytes(key)] })
}

/// The limit that a reply says was reached.
fn limit_in(reply: &Reply) -> Option<u64> {
    let Reply::Error(ReplyError::Short(shortage)) = reply else { return None };
    let Shortage::Memory { limit, .. } = **shortage else { panic!("{shortage}") };
    Some(limit)
}

fn open(cluster: &mut Cluster, node: NodeId) -> SessionId {
    let reply = cluster.call(node, Operation::Write(Write::OpenSession { ttl_ms: None }));
    let Reply::Session(session) = reply else { panic!("{reply:?}") };
    session
}

/// A follower has no limit of its own, so its writes travel, and are refused in the log.
#[test]
fn past_the_limit_only_what_does_not_grow_passes() {
    let mut cluster = limited();
    let leader = cluster.leader();
    for node in [1, 2, 3].map(id) {
        assert_eq!(cluster.call(node, put("k", &hundred())), Reply::Ok);
        let limit = Some(MEMORY_BYTES_MAX + leader.get());
        assert_eq!(limit_in(&cluster.call(node, put("l", &hundred()))), limit);
        assert_eq!(limit_in(&cluster.call(node, append("k", &"y".repeat(250)))), limit);
        assert_eq!(cluster.call(node, get("l")), Reply::Nil);
        assert_eq!(cluster.call(node, get("k")), value(&hundred()));
        assert_eq!(cluster.call(node, put("k", "as long at most")), Reply::Ok);
        assert_eq!(cluster.call(node, delete("k")), Reply::Integer(1));
        cluster.run(10);
        assert_eq!(cluster.digests().len(), 1);
    }
    assert_eq!(cluster.servers[&leader].replica.status().memory.total(), 0);
}

/// Tiny keys cost more than their bytes.
#[test]
fn keys_without_values_are_counted_too() {
    let mut cluster = limited();
    let leader = cluster.leader();
    let replies: Vec<Reply> = ["a", "b", "c"].map(|key| cluster.call(leader, put(key, ""))).into();
    assert_eq!(replies[..2], [Reply::Ok, Reply::Ok]);
    assert!(limit_in(&replies[2]).is_some(), "{replies:?}");
}

/// The refusal uses its sequence: what comes before it and behind it on the same connection is answered as ever.
#[test]
fn a_refusal_leaves_no_hole_in_the_order() {
    let mut cluster = limited();
    let leader = cluster.leader();
    for node in [1, 2, 3].map(id) {
        let operations = [
            append("k", "a"),
            put("l", &"y".repeat(400)),
            append("k", "b"),
            get("k"),
            get("l"),
            append("k", &"z".repeat(400)),
            delete("k"),
        ];
        // All of them wait when the shell steps.
        let mut events: Vec<Event> = (0..)
            .zip(operations)
            .map(|(tag, operation)| Event::Request(Request { connection: ConnectionId(5), tag, operation }))
            .collect();
        let server = cluster.servers.get_mut(&node).unwrap();
        let actions = server.replica.step(cluster.now_ms, &mut events);
        cluster.perform(node, actions);
        cluster.settle();
        let mut answers = cluster.take_answers(node);
        answers.sort_by_key(|(tag, _)| *tag);
        let limit = Some(MEMORY_BYTES_MAX + leader.get());
        let replies: Vec<Reply> = answers.into_iter().map(|(_, reply)| reply).collect();
        assert_eq!((limit_in(&replies[1]), limit_in(&replies[5])), (limit, limit), "{replies:?}");
        let others = [0, 2, 3, 4, 6].map(|place| replies[place].clone());
        assert_eq!(
            others,
            [Reply::Integer(1), Reply::Integer(2), value("ab"), Reply::Nil, Reply::Integer(1)]
        );
    }
    cluster.run(10);
    assert_eq!(cluster.digests().len(), 1);
}

#[test]
fn what_is_under_way_counts() {
    let mut cluster = limited();
    let leader = cluster.leader();
    let other = [1, 2, 3].map(id).into_iter().find(|node| *node != leader).unwrap();
    // Nothing of this is applied when the last is judged.
    for (tag, key) in (0..).zip(["a", "b", "c"]) {
        cluster.request(other, 5, tag, put(key, ""));
    }
    cluster.settle();
    let refused = cluster.take_answers(other).iter().filter(|(_, reply)| limit_in(reply).is_some()).count();
    assert_eq!(refused, 1);
    assert_eq!(cluster.call(other, Operation::Read(Query::Size)), Reply::Integer(2));
}

#[test]
fn a_refused_command_of_a_session_runs_when_it_is_sent_again_and_there_is_room() {
    let mut cluster = limited();
    let leader = cluster.leader();
    let other = [1, 2, 3].map(id).into_iter().find(|node| *node != leader).unwrap();
    for node in [leader, other] {
        let session = open(&mut cluster, node);
        let command = Command::Append { key: bytes("k"), value: bytes(&"z".repeat(400)) };
        let refused = cluster.call(node, once(session, 1, 0, command.clone()));
        assert!(limit_in(&refused).is_some(), "{refused:?}");
        let small = Command::Append { key: bytes("k"), value: bytes("a") };
        assert_eq!(cluster.call(node, once(session, 1, 0, small.clone())), Reply::Integer(1), "not recorded");
        assert_eq!(
            cluster.call(node, once(session, 1, 0, command)),
            Reply::Error(ReplyError::SequenceReused { seq: Seq(1) })
        );
        let close = Operation::Write(Write::CloseSession { session });
        assert_eq!(cluster.call(node, close), Reply::Ok);
        assert_eq!(cluster.call(node, delete("k")), Reply::Integer(1));
    }
    cluster.run(10);
    assert_eq!(cluster.digests().len(), 1);
}

/// It has run, and there is no room for it a second time: the recorded reply is the answer, and not the refusal.
#[test]
fn a_repeat_is_answered_by_the_record_though_memory_is_full() {
    let mut cluster = limited();
    let leader = cluster.leader();
    let other = [1, 2, 3].map(id).into_iter().find(|node| *node != leader).unwrap();
    let session = open(&mut cluster, other);
    let filling = Command::Append { key: bytes("k"), value: bytes(&"z".repeat(50)) };
    let filled = |count: i64| Reply::Integer(50 * count);
    assert_eq!(cluster.call(other, once(session, 1, 0, filling.clone())), filled(1));
    let refused = cluster.call(other, once(session, 2, 0, filling.clone()));
    assert!(limit_in(&refused).is_some(), "{refused:?}");
    for node in [leader, other] {
        assert_eq!(cluster.call(node, once(session, 1, 0, filling.clone())), filled(1));
    }
    // Sent twice before the first is applied: the leader cannot know, and the state machine does.
    let server = cluster.servers.get_mut(&other).unwrap();
    let (small, tags) = (Command::Append { key: bytes("k"), value: bytes("") }, [1, 2]);
    let mut events: Vec<Event> = tags
        .map(|tag| {
            let operation = once(session, 3, 0, small.clone());
            Event::Request(Request { connection: ConnectionId(6), tag, operation })
        })
        .into();
    let actions = server.replica.step(cluster.now_ms, &mut events);
    cluster.perform(other, actions);
    cluster.settle();
    assert_eq!(cluster.take_answers(other), tags.map(|tag| (tag, filled(1))));
}

/// A copy of a run that was refused at first, and that the leader would let pass by now, is a repeat.
#[test]
fn a_refusal_is_final_for_its_sequence() {
    let mut cluster = limited();
    let leader = cluster.leader();
    let other = [1, 2, 3].map(id).into_iter().find(|node| *node != leader).unwrap();
    assert_eq!(cluster.call(leader, put("k", &"y".repeat(150))), Reply::Ok);
    cluster.request(other, 5, 1, put("l", &hundred()));
    let forward = cluster.network.back().unwrap().clone();
    assert!(matches!(forward.message, PeerMessage::Forward { .. }), "{forward:?}");
    cluster.settle();
    let answers = cluster.take_answers(other);
    assert!(limit_in(&answers[0].1).is_some(), "{answers:?}");
    assert_eq!(cluster.call(leader, delete("k")), Reply::Integer(1));
    cluster.network.push_back(forward);
    cluster.settle();
    assert_eq!(cluster.call(other, get("l")), Reply::Nil);
}

/// The account follows from the state: whoever starts from a snapshot counts the same.
#[test]
fn the_account_survives_a_snapshot() {
    let mut cluster = Cluster::new(1);
    cluster.run(100);
    let session = open(&mut cluster, id(1));
    for (seq, text) in (1..).zip(["a", "bb", "ccc"]) {
        let set = Command::Put {
            key: bytes(text),
            value: bytes(&hundred()),
            condition: Condition::Always,
            get: seq == 3,
        };
        let _ = cluster.call(id(1), once(session, seq, 0, set.clone()));
        let _ = cluster.call(id(1), once(session, seq + 10, 0, set));
    }
    assert_eq!(cluster.call(id(1), delete("bb")), Reply::Integer(1));
    let machine = cluster.servers[&id(1)].replica.machine().unwrap();
    let mut loader = quorate_replica::Loader::new(
        cluster.servers[&id(1)].identity.cluster().unwrap(),
        machine.applied_position(),
        7,
    );
    for block in machine.image().blocks() {
        loader.block(&block).unwrap();
    }
    let loaded = loader.finish().unwrap();
    let memory = machine.memory();
    assert_eq!(loaded.memory(), memory);
    assert_eq!(memory.data_bytes, 2 * 100 + 4);
    assert_eq!(memory.overhead_bytes, 2 * KEY_OVERHEAD_BYTES);
    assert!(memory.session_bytes > 6 * 64 + 100, "{memory:?}");
}

/// Servers that keep a thousand bytes free.
fn with_reserve() -> Cluster {
    let mut cluster = Cluster::configured(3, |config| {
        config.disk_reserve_bytes = 1_000;
        config.folder = format!("/data/{}", config.id.get()).into();
    });
    cluster.run(100);
    cluster
}

fn see_room(cluster: &mut Cluster, node: NodeId, free_bytes: u64) {
    let (held_bytes, is_held) = (0, false);
    cluster.step(node, Event::DiskSpace(DiskSpace { free_bytes, held_bytes, is_held }));
    cluster.settle();
}

/// The server whose disk a reply names.
fn server_in(reply: &Reply) -> Option<NodeId> {
    let Reply::Error(ReplyError::Short(shortage)) = reply else { return None };
    let Shortage::Disk { server, folder, .. } = &**shortage else { panic!("{shortage}") };
    assert_eq!(**folder, format!("/data/{}", server.get()));
    Some(*server)
}

/// Everyone refuses alike, whether the write comes here or there.
#[track_caller]
fn check_refused(cluster: &mut Cluster, by: Option<NodeId>) {
    for node in [1, 2, 3].map(id) {
        let reply = cluster.call(node, append("k", "x"));
        assert_eq!(server_in(&reply), by, "{reply:?}");
        assert_eq!(cluster.call(node, put("l", "")), Reply::Ok, "no larger than it was");
        assert!(matches!(cluster.call(node, get("k")), Reply::Value(_)));
        assert_eq!(cluster.call(node, delete("nothing")), Reply::Integer(0));
    }
}

#[test]
fn one_full_disk_is_no_matter_and_the_leaders_or_a_majoritys_is() {
    let mut cluster = with_reserve();
    let leader = cluster.leader();
    let others: Vec<NodeId> = [1, 2, 3].map(id).into_iter().filter(|node| *node != leader).collect();
    assert_eq!(cluster.call(leader, put("l", "")), Reply::Ok);
    check_refused(&mut cluster, None);
    see_room(&mut cluster, others[0], 999);
    check_refused(&mut cluster, None);
    see_room(&mut cluster, others[1], 10);
    check_refused(&mut cluster, Some(others[0]));
    // It is said again and again, so a server that is not heard any more is forgotten, and so is one that says so.
    cluster.run(500);
    check_refused(&mut cluster, Some(others[0]));
    see_room(&mut cluster, others[1], 1_000);
    check_refused(&mut cluster, None);
    see_room(&mut cluster, leader, 0);
    check_refused(&mut cluster, Some(leader));
    see_room(&mut cluster, leader, 5_000);
    check_refused(&mut cluster, None);
    cluster.run(10);
    assert_eq!(cluster.digests().len(), 1);
}

#[test]
fn a_server_that_is_gone_is_not_believed_to_be_full_for_ever() {
    let mut cluster = with_reserve();
    let leader = cluster.leader();
    let others: Vec<NodeId> = [1, 2, 3].map(id).into_iter().filter(|node| *node != leader).collect();
    others.iter().for_each(|node| see_room(&mut cluster, *node, 0));
    assert!(server_in(&cluster.call(leader, append("k", "x"))).is_some());
    cluster.cut.insert(others[0]);
    cluster.run(400);
    assert_eq!(cluster.call(leader, append("k", "x")), Reply::Integer(1));
}

/// The leader learns of it while the write is on its way, so the refusal stands in the log.
#[test]
fn a_write_on_its_way_to_a_full_disk_is_refused_under_its_sequence() {
    let mut cluster = with_reserve();
    let leader = cluster.leader();
    let other = [1, 2, 3].map(id).into_iter().find(|node| *node != leader).unwrap();
    for (tag, operation) in (0..).zip([append("k", "a"), append("k", "b")]) {
        cluster.request(other, 5, tag, operation);
    }
    let (free_bytes, held_bytes, is_held) = (5_000, 1, true);
    cluster.step(leader, Event::DiskSpace(DiskSpace { free_bytes, held_bytes, is_held }));
    cluster.settle();
    let answers = cluster.take_answers(other);
    assert!(answers.iter().all(|(_, reply)| server_in(reply) == Some(leader)), "{answers:?}");
    see_room(&mut cluster, leader, 5_000);
    assert_eq!(cluster.call(other, append("k", "c")), Reply::Integer(1));
}

/// Where there is no room, an eighth of the log is enough for a snapshot, and no tail is kept behind it.
#[test]
fn with_no_room_a_snapshot_is_taken_early() {
    let mut cluster = Cluster::configured(1, |config| {
        (config.log_bytes_max, config.log_tail_bytes) = (8_000, 4_000);
        config.disk_reserve_bytes = 1_000;
        config.folder = "/data/1".into();
    });
    cluster.run(100);
    for number in 0..20 {
        assert_eq!(cluster.call(id(1), put("k", &number.to_string())), Reply::Ok);
    }
    cluster.run(10);
    assert!(cluster.servers[&id(1)].jobs.is_empty());
    see_room(&mut cluster, id(1), 10);
    cluster.run(1);
    let jobs = &cluster.servers[&id(1)].jobs;
    assert!(matches!(jobs.front(), Some(SnapshotJob::Take(_))), "{jobs:?}");
}

/// A server whose disk holds writes acknowledges nothing, and a leader sends no more than 256 messages without that. So far it
/// answers what the others answer; behind that it says why it cannot.
#[test]
fn a_server_that_holds_writes_serves_until_it_falls_behind_and_says_so() {
    let mut cluster = founded(3);
    let leader = cluster.leader();
    let held = cluster.servers.keys().copied().find(|node| *node != leader).unwrap();
    let exists = || Operation::Read(Query::Exists { keys: vec![bytes("k199")] });
    cluster.stopped.insert(held);
    let (free_bytes, held_bytes, is_held) = (0, 1, true);
    let write = |cluster: &mut Cluster, numbers: std::ops::Range<u64>| {
        for number in numbers {
            assert_eq!(cluster.call(leader, put(&format!("k{number}"), "v")), Reply::Ok);
        }
    };
    write(&mut cluster, 0..200);
    cluster.step(held, Event::DiskSpace(DiskSpace { free_bytes, held_bytes, is_held }));
    cluster.settle();
    cluster.run(10);
    assert_eq!(cluster.call(held, exists()), Reply::Integer(1));
    write(&mut cluster, 200..400);
    cluster.take_answers(held);
    cluster.request(held, 5, 1, exists());
    cluster.run(510);
    let answers = cluster.take_answers(held);
    let [(1, Reply::Error(ReplyError::NotServing(why)))] = &answers[..] else { panic!("{answers:?}") };
    assert!(why.contains("make room there, or ask another server"), "{why}");
    // What was held is written, and the rest comes.
    cluster.stopped.remove(&held);
    see_room(&mut cluster, held, 1 << 40);
    cluster.run(10);
    assert_eq!(cluster.call(held, exists()), Reply::Integer(1));
}

/// The first send is in the log, and not applied where the second comes: "not executed" would be a lie.
#[test]
fn a_numbered_write_is_not_refused_beside_another_send_of_it() {
    let mut cluster = limited();
    let leader = cluster.leader();
    let other = [1, 2, 3].map(id).into_iter().find(|node| *node != leader).unwrap();
    let session = open(&mut cluster, other);
    let filling = Command::Append { key: bytes("k"), value: bytes(&"z".repeat(50)) };
    cluster.request(other, 5, 1, once(session, 1, 0, filling.clone()));
    let sent: Vec<PeerEnvelope> = cluster.network.drain(..).collect();
    for envelope in sent {
        cluster.step(envelope.to, Event::Peer(envelope));
    }
    cluster.request(leader, 6, 2, once(session, 1, 0, filling));
    assert_eq!(cluster.take_answers(leader), []);
    cluster.settle();
    cluster.run(50);
    assert_eq!(cluster.take_answers(other), [(1, Reply::Integer(50))]);
    assert_eq!(cluster.take_answers(leader), [(2, Reply::Integer(50))]);
}
