//! Backups of a cluster whose messages and disks do as they are told, and a cluster that is founded from one.

use quorate_raft::{HardState, Position};
use quorate_replica::backup::{BACKUP_IDLE_MS, BackupCall, BackupId, BackupJob, BackupNews};
use quorate_replica::keeper::{self, Worked};
use quorate_replica::transfer::SnapshotNews;
use quorate_storage::{Origin, SnapshotFile};

use super::*;

/// Ticks, and keepers that do all that they are asked.
fn run(cluster: &mut Cluster, ticks: u64) {
    for _ in 0..ticks {
        cluster.run(1);
        for node in cluster.servers.keys().copied().collect::<Vec<_>>() {
            let server = cluster.servers.get_mut(&node).unwrap();
            server.jobs.drain(..).for_each(|job| server.keeper.push(job));
            loop {
                match cluster.servers.get_mut(&node).unwrap().keeper.work().unwrap() {
                    Worked::Idle => break,
                    Worked::On => {}
                    Worked::Done(news) => cluster.step(node, Event::Snapshot(news)),
                }
            }
        }
        cluster.settle();
    }
}

fn texts(reply: &Reply) -> Vec<String> {
    let Reply::Values(values) = reply else { panic!("{reply:?}") };
    let text =
        |value: &Option<Value>| String::from_utf8(value.as_ref().unwrap().to_bytes().into_owned()).unwrap();
    values.iter().map(text).collect()
}

fn begin(cluster: &mut Cluster, node: NodeId) -> (BackupId, u64) {
    let begun = texts(&cluster.call(node, Operation::Backup(BackupCall::Begin)));
    (begun[0].parse().unwrap(), begun[1].parse().unwrap())
}

/// All bytes of a backup that is ready.
fn fetch(cluster: &mut Cluster, node: NodeId, id: BackupId) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let call = BackupCall::Read { id, offset: bytes.len() as u64, count: 77 };
        cluster.take_answers(node);
        cluster.request(node, 9, 1, Operation::Backup(call));
        run(cluster, 1);
        let (_, reply) = cluster.take_answers(node).remove(0);
        let Reply::Value(piece) = reply else { panic!("{reply:?}") };
        if piece.is_empty() {
            return bytes;
        }
        bytes.extend_from_slice(&piece.to_bytes());
    }
}

/// Of a cluster of three with a key and a session: its state, the bytes of a backup, and the session.
fn backed_up() -> (Machine, Vec<u8>, SessionId) {
    let mut cluster = founded(3);
    assert_eq!(cluster.call(id(1), put("k", "v")), Reply::Ok);
    let open = Operation::Write(Write::OpenSession { ttl_ms: None });
    let Reply::Session(session) = cluster.call(id(2), open) else { panic!("no session") };
    let command = Command::Append { key: bytes("log"), value: bytes("entry") };
    assert_eq!(cluster.call(id(3), once(session, 1, 0, command)), Reply::Integer(5));
    let (backup, floor) = begin(&mut cluster, id(2));
    run(&mut cluster, 3);
    let state = texts(&cluster.call(id(2), Operation::Backup(BackupCall::State(backup))));
    assert_eq!((state[0].as_str(), &state[1]), ("ready", &floor.to_string()));
    let machine = cluster.servers[&id(2)].replica.machine().unwrap().clone();
    assert_eq!(machine.applied().0, floor, "nothing was written since");
    let bytes = fetch(&mut cluster, id(2), backup);
    assert_eq!(bytes.len().to_string(), state[3]);
    (machine, bytes, session)
}

fn file(bytes: &[u8]) -> SnapshotFile {
    let disk = SimDisk::new();
    disk.plant("backup", Some(bytes.to_vec()));
    SnapshotFile::open_named(&disk, "backup").unwrap()
}

/// Members whose folders were restored from these backups, one each.
fn restored(backups: &[&[u8]]) -> Cluster {
    let mut cluster = Cluster::new(0);
    for (number, bytes) in (1..).zip(backups) {
        let file = file(bytes);
        let machine = keeper::load(&file, 5).unwrap();
        let origin = Origin { cluster: file.cluster(), position: file.position(), digest: machine.digest() };
        let identity =
            Identity { origin: Some(origin), ..Identity::new(id(number), Incarnation(200 + number)) };
        let position: Position = file.position();
        let hard_state = HardState { term: position.term, vote: None };
        let log = Restored {
            hard_state,
            base: position,
            entries: Vec::new(),
            snapshot: position,
            membership: None,
        };
        cluster.start_on(backups.len() as u64, identity, log, SimDisk::new(), Some(machine));
    }
    cluster
}

#[test]
fn a_cluster_is_founded_from_a_backup_and_runs_nothing_of_an_old_session() {
    let (machine, backup, session) = backed_up();
    let mut cluster = restored(&[&backup[..]; 3]);
    run(&mut cluster, 100);
    for node in 1..=3 {
        let server = &cluster.servers[&id(node)];
        let new = server.replica.machine().unwrap();
        assert_ne!(new.cluster(), machine.cluster());
        assert_eq!(new.shards().digest(), machine.shards().digest());
        assert!(new.now_ms() >= machine.now_ms() && new.applied() > machine.applied());
        assert_eq!(new.sessions().clients(), 0);
        // One of its own has taken the backup's place.
        let names = quorate_storage::snapshot::list(&server.files).unwrap();
        assert_eq!(names, [machine.applied_position()]);
        let own = quorate_storage::snapshot::file_name(names[0]);
        assert_eq!(SnapshotFile::open_named(&server.files, &own).unwrap().cluster(), new.cluster());
    }
    let append = |text: &str| Command::Append { key: bytes("log"), value: bytes(text) };
    for seq in [1, 2] {
        let refused = cluster.call(id(1), once(session, seq, 0, append("entry")));
        assert_eq!(refused, Reply::Error(ReplyError::SessionExpired));
    }
    assert_eq!(cluster.call(id(2), get("log")), value("entry"));
    assert_eq!(cluster.call(id(2), get("k")), value("v"));
    let Reply::Session(new) = cluster.call(id(3), Operation::Write(Write::OpenSession { ttl_ms: None }))
    else {
        panic!("no session");
    };
    assert!(new.cluster != session.cluster && new.key.index > machine.applied().0);
    assert_eq!(cluster.call(id(3), once(new, 1, 0, append("!"))), Reply::Integer(6));
    assert_eq!(cluster.call(id(1), once(new, 1, 0, append("!"))), Reply::Integer(6));
    run(&mut cluster, 20);
    assert_eq!(cluster.digests().len(), 1);
}

#[test]
fn members_of_different_backups_found_no_cluster() {
    let (_, one, _) = backed_up();
    let mut other = founded(3);
    assert_eq!(other.call(id(1), put("k", "w")), Reply::Ok);
    let (backup, _) = begin(&mut other, id(1));
    run(&mut other, 3);
    let two = fetch(&mut other, id(1), backup);
    assert_ne!(one, two);
    let mut cluster = restored(&[&one, &one, &two]);
    run(&mut cluster, 200);
    for node in 1..=3 {
        let server = &cluster.servers[&id(node)];
        assert!(server.replica.raft().is_none(), "server {node} has founded one");
        let Standing::Founding { conflict: Some(why), .. } = server.replica.standing() else {
            panic!("none")
        };
        assert!(why.contains("must be restored from one backup"), "{why}");
        let told = server.notices.iter().filter(|notice| matches!(notice, Notice::Warn(_)));
        assert!(told.count() >= 1);
        let refused = cluster.call(id(node), get("k"));
        assert_eq!(
            refused,
            Reply::Error(ReplyError::NotServing(format!("starting: the cluster is not founded: {why}")))
        );
    }
}

/// A leader that was cut off does not know what was acknowledged since.
#[test]
fn a_backup_waits_for_a_majority_and_is_refused_without_one() {
    let mut cluster = founded(3);
    let leader = cluster.leader();
    cluster.cut.insert(leader);
    cluster.request(leader, 1, 1, Operation::Backup(BackupCall::Begin));
    run(&mut cluster, 100);
    let next = cluster.leader();
    assert_eq!(cluster.call(next, put("k", "new")), Reply::Ok);
    let committed = cluster.servers[&next].replica.raft().unwrap().commit();
    assert!(cluster.take_answers(leader).is_empty());
    cluster.cut.clear();
    run(&mut cluster, 50);
    let (_, reply) = cluster.take_answers(leader).remove(0);
    let floor: u64 = texts(&reply)[1].parse().unwrap();
    assert!(floor >= committed.0, "{floor} is below {committed}");

    let others: Vec<NodeId> = cluster.servers.keys().copied().filter(|node| *node != next).collect();
    cluster.cut.extend(others);
    cluster.request(next, 1, 2, Operation::Backup(BackupCall::Begin));
    run(&mut cluster, 700);
    let (_, reply) = cluster.take_answers(next).remove(0);
    assert!(matches!(reply, Reply::Error(ReplyError::ClusterDown | ReplyError::TooSlow { .. })), "{reply:?}");
    let status = cluster.servers[&next].replica.status();
    assert_eq!(status.backups, 0);
}

/// Who began it has died: its file is closed, and its place is free.
#[test]
fn a_backup_of_which_nobody_speaks_is_closed() {
    let mut cluster = founded(1);
    assert_eq!(cluster.call(id(1), put("k", "v")), Reply::Ok);
    let ids: Vec<BackupId> = (0..4).map(|_| begin(&mut cluster, id(1)).0).collect();
    run(&mut cluster, 3);
    let full = cluster.call(id(1), Operation::Backup(BackupCall::Begin));
    assert!(matches!(&full, Reply::Error(ReplyError::NotServing(why)) if why.starts_with("backups full")));
    let files = |cluster: &Cluster| cluster.servers[&id(1)].files.files();
    let named = files(&cluster);
    // Newer snapshots take its name away, not the file, until it is closed.
    for number in 0..3 {
        assert_eq!(cluster.call(id(1), put("k", &number.to_string())), Reply::Ok);
        cluster.step(id(1), Event::TakeSnapshot);
        run(&mut cluster, 3);
    }
    let held = files(&cluster);
    assert!(held > named, "{held} files");
    for _ in 0..BACKUP_IDLE_MS / 100 {
        // One of the four is asked for, now and then.
        run(&mut cluster, 11);
        cluster.call(id(1), Operation::Backup(BackupCall::State(ids[3])));
    }
    assert_eq!(cluster.servers[&id(1)].replica.status().backups, 1);
    let gone = cluster.call(id(1), Operation::Backup(BackupCall::State(ids[0])));
    assert_eq!(gone, Reply::Error(ReplyError::NoBackup));
    assert!(!fetch(&mut cluster, id(1), ids[3]).is_empty());
    cluster.call(id(1), Operation::Backup(BackupCall::End(ids[3])));
    run(&mut cluster, 1);
    assert_eq!(cluster.servers[&id(1)].replica.status().backups, 0);
}

#[test]
fn a_backup_without_a_snapshot_fails_with_the_reason() {
    let mut cluster = founded(1);
    let (backup, floor) = begin(&mut cluster, id(1));
    cluster.run(3);
    let job = cluster.servers.get_mut(&id(1)).unwrap().jobs.pop_front();
    let Some(SnapshotJob::Take(image)) = job else { panic!("{job:?}") };
    assert!(image.position().index.0 >= floor);
    let why = "no room".to_owned();
    let failed = SnapshotNews::NotTaken { position: image.position(), why: why.clone() };
    cluster.step(id(1), Event::Snapshot(failed));
    // News of a backup that nobody knows change nothing.
    cluster.step(id(1), Event::Snapshot(SnapshotNews::Backup(BackupNews::NotThere { number: 77 })));
    let refused = cluster.call(id(1), Operation::Backup(BackupCall::State(backup)));
    assert_eq!(refused, Reply::Error(ReplyError::BackupFailed(why)));
    assert_eq!(cluster.servers[&id(1)].replica.status().backups, 0);
}

/// The snapshot that stands for all that a backup needs has lost its file, or is of another cluster: it is not looked for in
/// every tick, but written anew, and where that fails, not at once again.
#[test]
fn a_backup_whose_snapshot_is_not_there_has_it_written_anew() {
    let mut cluster = founded(1);
    assert_eq!(cluster.call(id(1), put("k", "v")), Reply::Ok);
    let (first, floor) = begin(&mut cluster, id(1));
    run(&mut cluster, 3);
    assert_eq!(cluster.call(id(1), Operation::Backup(BackupCall::End(first))), Reply::Ok);
    let (mut backup, again) = begin(&mut cluster, id(1));
    assert_eq!(again, floor, "nothing was applied since");
    let (mut begun, mut looked, mut taken) = (1, 0, Vec::new());
    for _ in 0..3_000 {
        cluster.run(1);
        for job in std::mem::take(&mut cluster.servers.get_mut(&id(1)).unwrap().jobs) {
            let news = match job {
                SnapshotJob::Backup(BackupJob::Open { number, .. }) => {
                    looked += 1;
                    SnapshotNews::Backup(BackupNews::NotThere { number })
                }
                SnapshotJob::Take(image) => {
                    taken.push(cluster.now_ms);
                    SnapshotNews::NotTaken { position: image.position(), why: "no room".to_owned() }
                }
                SnapshotJob::Forget(_)
                | SnapshotJob::Receive { .. }
                | SnapshotJob::Store { .. }
                | SnapshotJob::Read { .. }
                | SnapshotJob::Close
                | SnapshotJob::Abandon { .. }
                | SnapshotJob::Backup(_) => continue,
            };
            cluster.step(id(1), Event::Snapshot(news));
        }
        let state = cluster.call(id(1), Operation::Backup(BackupCall::State(backup)));
        if let Reply::Error(error) = state {
            assert_eq!(error, ReplyError::BackupFailed("no room".to_owned()));
            (backup, _) = begin(&mut cluster, id(1));
            begun += 1;
        }
    }
    assert!(taken.len() >= 3, "it is tried again: {taken:?}");
    let is_patient = taken.windows(2).all(|pair| pair[1] - pair[0] >= 10_000);
    assert!(is_patient, "{} times, and at first at {:?}", taken.len(), &taken[..3]);
    assert_eq!(begun, taken.len() + 1);
    assert!((1..=begun).contains(&looked), "{looked} times");
    // Once there is room the backup that waits has its snapshot.
    run(&mut cluster, 1_100);
    let state = texts(&cluster.call(id(1), Operation::Backup(BackupCall::State(backup))));
    assert_eq!(state[0], "ready");
}
