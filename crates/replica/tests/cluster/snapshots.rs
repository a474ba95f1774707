//! Snapshots: when one is due, what leaves the log behind it, a start from one, and a server that is brought up by one.

use quorate_raft::Position;
use quorate_replica::keeper::{self, Worked};
use quorate_replica::transfer::SnapshotNews;
use quorate_storage::SnapshotFile;
use quorate_storage::snapshot::list;

use super::*;

pub(super) const LOG_BYTES_MAX: u64 = 2_000;
pub(super) const TAIL_BYTES: u64 = 500;
pub(super) const PIECE_BYTES: usize = 100;

pub(super) fn with_snapshots(size: u64, tail_bytes: u64, piece_bytes: usize) -> Cluster {
    let mut cluster = Cluster::new(0);
    cluster.bytes_max = (LOG_BYTES_MAX, tail_bytes, piece_bytes);
    for number in 1..=size {
        let identity = Identity::new(id(number), Incarnation(100 + number));
        cluster.start(size, identity, Restored::default());
    }
    cluster.run(100);
    cluster
}

/// Writes more than the log may hold.
pub(super) fn fill(cluster: &mut Cluster, node: NodeId) {
    let text = "x".repeat(200);
    for _ in 0..LOG_BYTES_MAX / 200 {
        assert_eq!(cluster.call(node, put("filling", &text)), Reply::Ok);
    }
}

/// The keeper does what was asked for, up to the first job that is done.
pub(super) fn work(cluster: &mut Cluster, node: NodeId) -> Option<SnapshotNews> {
    let server = cluster.servers.get_mut(&node).unwrap();
    server.jobs.drain(..).for_each(|job| server.keeper.push(job));
    loop {
        match server.keeper.work().unwrap() {
            Worked::Idle => return None,
            Worked::On => {}
            Worked::Done(news) => return Some(news),
        }
    }
}

/// What is being taken becomes durable.
pub(super) fn finish(cluster: &mut Cluster, node: NodeId) -> Position {
    let news = work(cluster, node).expect("no snapshot is being taken");
    let SnapshotNews::Taken(position) = news else { panic!("{news:?}") };
    cluster.step(node, Event::Snapshot(news));
    position
}

/// Ticks, and keepers that do all that they are asked, until a server has got so many bytes of a snapshot.
pub(super) fn run_until_received(cluster: &mut Cluster, node: NodeId, enough: u64) {
    for _ in 0..1_000 {
        cluster.run(1);
        for worker in cluster.servers.keys().copied().collect::<Vec<_>>() {
            while let Some(news) = work(cluster, worker) {
                let is_enough =
                    matches!(news, SnapshotNews::Received { bytes, .. } if worker == node && bytes >= enough);
                cluster.step(worker, Event::Snapshot(news));
                if is_enough {
                    return;
                }
            }
        }
    }
    panic!("{node} did not get {enough} bytes");
}

pub(super) fn run_keeping(cluster: &mut Cluster, ticks: u64) {
    for _ in 0..ticks {
        cluster.run(1);
        for worker in cluster.servers.keys().copied().collect::<Vec<_>>() {
            while let Some(news) = work(cluster, worker) {
                cluster.step(worker, Event::Snapshot(news));
            }
        }
    }
}

pub(super) fn raft(cluster: &Cluster, node: NodeId) -> &quorate_raft::Node {
    cluster.servers[&node].replica.raft().unwrap()
}

/// The process ends; its disk, and the snapshots on it, stay.
pub(super) fn restart(cluster: &mut Cluster, size: u64, node: NodeId) {
    let Server { identity, log, files, .. } = cluster.servers.remove(&node).unwrap();
    let machine = list(&files).unwrap().last().map(|position| {
        assert_eq!(*position, log.snapshot);
        let file = SnapshotFile::open(&files, identity.cluster().unwrap(), *position).unwrap();
        keeper::load(&file, 99).unwrap()
    });
    cluster.start_on(size, identity, log, files, machine);
}

/// A follower, and one of the others.
pub(super) fn follower_and_leader(cluster: &Cluster) -> (NodeId, NodeId) {
    let leader = cluster.leader();
    ((1..=3).map(id).find(|node| *node != leader).unwrap(), leader)
}

/// All but one have taken snapshots, and none has what the one lacks in its log.
pub(super) fn leave_behind(cluster: &mut Cluster, behind: NodeId, leader: NodeId) {
    fill(cluster, leader);
    // Nothing is held for one that is silent for so long.
    cluster.run(100);
    for node in (1..=3).map(id).filter(|node| *node != behind) {
        finish(cluster, node);
        assert!(raft(cluster, node).base().index > Index::ZERO);
    }
}

#[test]
fn a_full_log_leaves_behind_a_snapshot() {
    let mut cluster = with_snapshots(1, TAIL_BYTES, PIECE_BYTES);
    assert!(cluster.servers[&id(1)].jobs.is_empty());
    fill(&mut cluster, id(1));
    cluster.run(1);
    assert_eq!(cluster.servers[&id(1)].jobs.len(), 1);
    // A second one is not asked for while the first is being taken.
    fill(&mut cluster, id(1));
    cluster.run(1);
    assert_eq!(cluster.servers[&id(1)].jobs.len(), 1);
    let held = raft(&cluster, id(1)).entries_after(Index::ZERO).count();
    let position = finish(&mut cluster, id(1));
    let node = raft(&cluster, id(1));
    assert_eq!(node.snapshot(), position);
    assert!(node.entries_after(Index::ZERO).count() < held);
    let upto = node
        .entries_after(node.base().index)
        .take_while(|entry| entry.position.index <= position.index)
        .map(|entry| entry.cost() as u64);
    let tail_bytes = upto.sum::<u64>();
    assert!((TAIL_BYTES / 3..=TAIL_BYTES).contains(&tail_bytes), "{tail_bytes} bytes");
    // As much was written meanwhile, so the next one is due.
    cluster.run(1);
    assert!(finish(&mut cluster, id(1)).index > position.index);
    assert_eq!(cluster.call(id(1), get("filling")), value(&"x".repeat(200)));
}

#[test]
fn a_snapshot_that_failed_is_asked_for_again_later() {
    let mut cluster = with_snapshots(1, TAIL_BYTES, PIECE_BYTES);
    fill(&mut cluster, id(1));
    cluster.run(1);
    let job = cluster.servers.get_mut(&id(1)).unwrap().jobs.pop_front();
    let Some(SnapshotJob::Take(image)) = job else { panic!("{job:?}") };
    let last = image.position();
    let failed = SnapshotNews::NotTaken { position: last, why: "no room".to_owned() };
    cluster.step(id(1), Event::Snapshot(failed));
    // Whoever answers twice is not believed twice.
    cluster.step(id(1), Event::Snapshot(SnapshotNews::Taken(last)));
    assert_eq!(raft(&cluster, id(1)).base(), Position::ZERO);
    let notices = &cluster.servers[&id(1)].notices;
    assert!(notices.iter().any(|notice| matches!(notice, Notice::Warn(text) if text.ends_with("no room"))));
    cluster.run(900);
    assert!(cluster.servers[&id(1)].jobs.is_empty(), "again at once");
    cluster.run(101);
    assert!(finish(&mut cluster, id(1)).index >= last.index);
    assert!(raft(&cluster, id(1)).base().index > Index::ZERO);
}

/// A piece that came for the very position that is being taken here was refused: two snapshots would be written at once.
#[test]
fn a_fetch_that_failed_says_nothing_of_the_snapshot_that_is_being_taken() {
    let mut cluster = with_snapshots(1, TAIL_BYTES, PIECE_BYTES);
    fill(&mut cluster, id(1));
    cluster.run(1);
    let job = cluster.servers.get_mut(&id(1)).unwrap().jobs.pop_front();
    let Some(SnapshotJob::Take(image)) = job else { panic!("{job:?}") };
    let failed = SnapshotNews::Failed { last: image.position(), why: "spoiled".to_owned() };
    cluster.step(id(1), Event::Snapshot(failed));
    cluster.step(id(1), Event::TakeSnapshot);
    cluster.run(2_000);
    assert!(cluster.servers[&id(1)].jobs.is_empty(), "a second one while the first is being written");
}

#[test]
fn a_server_goes_on_from_its_snapshot() {
    let mut cluster = with_snapshots(3, TAIL_BYTES, PIECE_BYTES);
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
#[should_panic(expected = "a state and a log that do not belong together")]
fn a_server_does_not_start_on_another_state_than_the_snapshots() {
    let mut cluster = with_snapshots(1, TAIL_BYTES, PIECE_BYTES);
    fill(&mut cluster, id(1));
    cluster.run(1);
    finish(&mut cluster, id(1));
    let Server { identity, log, files, .. } = cluster.servers.remove(&id(1)).unwrap();
    cluster.start_on(1, identity, log, files, None);
}

/// What has come of a snapshot is not fetched again: after a cut all of it, after the end of the process all blocks that
/// are whole.
#[test]
fn a_server_that_was_away_is_brought_up_in_pieces_and_goes_on_after_interruptions() {
    const BLOCK: u64 = 1 << 20;
    let mut cluster = with_snapshots(3, 0, 100 << 10);
    let (away, leader) = follower_and_leader(&cluster);
    cluster.cut.insert(away);
    let text = "x".repeat(900 << 10);
    for key in ["a", "b", "c"] {
        assert_eq!(cluster.call(leader, put(key, &text)), Reply::Ok);
    }
    leave_behind(&mut cluster, away, leader);
    cluster.cut.clear();
    run_until_received(&mut cluster, away, BLOCK / 2);
    assert!(cluster.pieces.len() >= 5, "{:?}", cluster.pieces);

    cluster.cut.insert(away);
    cluster.run(20);
    cluster.cut.clear();
    cluster.pieces.clear();
    run_until_received(&mut cluster, away, BLOCK * 3 / 2);
    assert!(cluster.pieces[0] >= BLOCK / 2, "began again at {}", cluster.pieces[0]);

    assert_eq!(raft(&cluster, away).snapshot(), Position::ZERO);
    restart(&mut cluster, 3, away);
    // What the process before has asked for is not answered to it.
    cluster.network.clear();
    cluster.pieces.clear();
    run_keeping(&mut cluster, 200);
    assert!((BLOCK..BLOCK * 3 / 2).contains(&cluster.pieces[0]), "went on at {}", cluster.pieces[0]);
    assert!(raft(&cluster, away).snapshot().index > Index::ZERO);
    assert_eq!(cluster.digests().len(), 1);
    assert_eq!(cluster.call(away, get("b")), value(&text));
}

/// Everything that waits in the network goes to its receiver; what that brings stays on the way.
fn deliver_once(cluster: &mut Cluster) {
    let sent: Vec<PeerEnvelope> = cluster.network.drain(..).collect();
    for envelope in sent {
        cluster.step(envelope.to, Event::Peer(envelope));
    }
}

/// Two commands of a connection in one step, so that the read rides on the write.
fn write_and_read(cluster: &mut Cluster, node: NodeId, tag: u64, write: Operation, read: Operation) {
    let request = |tag, operation| Event::Request(Request { connection: ConnectionId(9), tag, operation });
    let now_ms = cluster.now_ms;
    let server = cluster.servers.get_mut(&node).unwrap();
    let actions = server.replica.step(now_ms, &mut vec![request(tag, write), request(tag + 1, read)]);
    cluster.perform(node, actions);
}

#[test]
fn who_waits_for_what_a_snapshot_holds_is_told_so_once_and_the_rest_runs_once() {
    let mut cluster = with_snapshots(3, 0, PIECE_BYTES);
    let (away, leader) = follower_and_leader(&cluster);
    // It reaches the leader; nothing comes back.
    write_and_read(&mut cluster, away, 1, append("k", "a"), get("k"));
    deliver_once(&mut cluster);
    cluster.cut.insert(away);
    // It does not reach the leader.
    write_and_read(&mut cluster, away, 3, append("k", "b"), get("k"));
    cluster.settle();
    assert_eq!(cluster.call(leader, get("k")), value("a"));
    leave_behind(&mut cluster, away, leader);
    assert_eq!(cluster.take_answers(away), []);
    cluster.cut.clear();
    run_keeping(&mut cluster, 300);
    assert!(raft(&cluster, away).snapshot().index > Index::ZERO);
    let mut answers = cluster.take_answers(away);
    answers.sort_by_key(|(tag, _)| *tag);
    let (overtaken, rest) = answers.split_at(2);
    assert_eq!(overtaken[0], (1, Reply::Error(ReplyError::InDoubt)));
    let (2, Reply::Error(error)) = &overtaken[1] else { panic!("{overtaken:?}") };
    assert!(error.to_string().starts_with("TRYAGAIN "), "{error}");
    assert_eq!(rest, [(3, Reply::Integer(2)), (4, value("ab"))]);
    assert_eq!(cluster.call(leader, get("k")), value("ab"));
    assert_eq!(cluster.digests().len(), 1);
}

#[test]
fn a_gateway_whose_session_a_snapshot_does_not_hold_opens_another() {
    let mut cluster = with_snapshots(3, 0, PIECE_BYTES);
    let (away, leader) = follower_and_leader(&cluster);
    assert_eq!(cluster.call(away, append("k", "a")), Reply::Integer(1));
    write_and_read(&mut cluster, away, 1, append("k", "b"), get("k"));
    deliver_once(&mut cluster);
    // It stands still for longer than its session lives.
    let paused = cluster.servers.remove(&away).unwrap();
    cluster.cut.insert(away);
    for _ in 0..10 {
        cluster.now_ms += 10_000;
        cluster.run(10);
        assert_eq!(cluster.call(leader, put("tick", "tock")), Reply::Ok);
    }
    leave_behind(&mut cluster, away, leader);
    cluster.servers.insert(away, paused);
    cluster.cut.clear();
    run_keeping(&mut cluster, 300);
    assert!(raft(&cluster, away).snapshot().index > Index::ZERO);
    let mut answers = cluster.take_answers(away);
    answers.sort_by_key(|(tag, _)| *tag);
    assert_eq!(answers.len(), 2, "{answers:?}");
    assert_eq!(answers[0], (1, Reply::Error(ReplyError::InDoubt)));
    let (2, Reply::Error(error)) = &answers[1] else { panic!("{answers:?}") };
    assert!(error.to_string().starts_with("TRYAGAIN "), "{error}");
    assert_eq!(cluster.call(away, append("k", "c")), Reply::Integer(3));
    assert_eq!(cluster.call(leader, get("k")), value("abc"));
    assert_eq!(cluster.digests().len(), 1);
}

/// Turns a bit of the newest snapshot of a server, in this byte.
fn rot(cluster: &mut Cluster, node: NodeId, offset: u64) {
    let files = &cluster.servers[&node].files;
    let last = *list(files).unwrap().last().unwrap();
    files.flip_bit(&quorate_storage::snapshot::file_name(last), offset, 3);
}

fn warnings_of_rot(cluster: &Cluster, node: NodeId) -> usize {
    let is_of_rot =
        |notice: &&Notice| matches!(notice, Notice::Warn(text) if text.ends_with("writes it anew"));
    cluster.servers[&node].notices.iter().filter(is_of_rot).count()
}

/// Nothing was applied since, so that there is nothing newer to take a snapshot of: it is written over.
#[test]
fn a_rotten_snapshot_is_not_given_to_others_but_written_anew() {
    let mut cluster = with_snapshots(3, 0, PIECE_BYTES);
    let (away, leader) = follower_and_leader(&cluster);
    cluster.cut.insert(away);
    leave_behind(&mut cluster, away, leader);
    assert_eq!(raft(&cluster, leader).snapshot().index, raft(&cluster, leader).applied());
    rot(&mut cluster, leader, 300);
    cluster.cut.clear();
    run_keeping(&mut cluster, 300);
    assert!(raft(&cluster, away).snapshot().index > Index::ZERO);
    assert_eq!(warnings_of_rot(&cluster, leader), 1);
    assert_eq!(cluster.digests().len(), 1);
    // It can start again.
    restart(&mut cluster, 3, leader);
}

/// The receiver refuses a block twice and begins again; so the sender looks at its file again.
#[test]
fn a_snapshot_that_rots_while_it_travels_is_written_anew() {
    let mut cluster = with_snapshots(3, 0, 100 << 10);
    let (away, leader) = follower_and_leader(&cluster);
    cluster.cut.insert(away);
    for key in ["a", "b", "c"] {
        assert_eq!(cluster.call(leader, put(key, &"x".repeat(900 << 10))), Reply::Ok);
    }
    leave_behind(&mut cluster, away, leader);
    cluster.cut.clear();
    run_until_received(&mut cluster, away, 1 << 19);
    rot(&mut cluster, leader, 3 << 19);
    assert_eq!(warnings_of_rot(&cluster, leader), 0);
    run_keeping(&mut cluster, 1_500);
    assert_eq!(warnings_of_rot(&cluster, leader), 1);
    assert!(raft(&cluster, away).snapshot().index > Index::ZERO);
    assert_eq!(cluster.digests().len(), 1);
}

#[test]
fn rot_that_several_come_upon_is_said_once() {
    let mut cluster = with_snapshots(1, 0, PIECE_BYTES);
    fill(&mut cluster, id(1));
    cluster.run(1);
    let last = finish(&mut cluster, id(1));
    for to in [2, 3].map(id) {
        let why = "a bit has turned".to_owned();
        cluster.step(id(1), Event::Snapshot(SnapshotNews::Rotten { to, last, offset: 0, why }));
    }
    assert_eq!(warnings_of_rot(&cluster, id(1)), 1);
    assert_eq!(cluster.servers[&id(1)].jobs.len(), 1);
}

/// The leader that gave the snapshot is gone, and its successor commits from an older one on: it sends as entries what the
/// snapshot holds as well, and they are not all applied when the snapshot is complete.
#[test]
fn a_fetched_snapshot_that_the_log_holds_by_now_is_no_compaction() {
    let mut cluster = with_snapshots(3, 0, PIECE_BYTES);
    cluster.configure = |config| config.raft.apply_bytes_max = 300;
    let (away, leader) = follower_and_leader(&cluster);
    let other = (1..=3).map(id).find(|node| *node != away && *node != leader).unwrap();
    restart(&mut cluster, 3, away);
    cluster.network.clear();
    cluster.run(100);
    assert_eq!(cluster.leader(), leader);
    cluster.cut.insert(away);
    fill(&mut cluster, leader);
    cluster.run(100);
    // Only the leader's snapshot is done; the other one's disk is slower.
    finish(&mut cluster, leader);
    assert!(raft(&cluster, leader).base().index > Index::ZERO);
    cluster.cut.clear();
    let complete = (0..2_000).find_map(|_| {
        cluster.run(1);
        for worker in [leader, away] {
            while let Some(news) = work(&mut cluster, worker) {
                if worker == away && matches!(news, SnapshotNews::Complete { .. }) {
                    return Some(news);
                }
                cluster.step(worker, Event::Snapshot(news));
            }
        }
        None
    });
    let complete = complete.expect("it comes");
    let SnapshotNews::Complete { last, .. } = &complete else { unreachable!() };
    let last = *last;
    cluster.cut.insert(leader);
    cluster.servers.get_mut(&other).unwrap().jobs.clear();
    restart(&mut cluster, 3, other);
    cluster.network.clear();
    cluster.stopped.insert(away);
    let has_it = (0..500).any(|_| {
        cluster.run(1);
        while cluster.servers[&away].disk.front().is_some_and(|write| write.entries.is_empty()) {
            cluster.sync(away);
            cluster.settle();
        }
        raft(&cluster, away).last().index >= last.index
    });
    assert!(has_it && raft(&cluster, away).applied() < last.index);
    cluster.step(away, Event::Snapshot(complete));
    cluster.stopped.clear();
    cluster.run(300);
    let next = cluster.leader();
    assert_eq!(cluster.call(next, put("k", "goes on")), Reply::Ok);
}
