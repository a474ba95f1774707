//! Snapshots of real servers: the folder stays bounded, nothing is lost while they are written, whoever was away gets one,
//! and a start reads little more than the newest.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use quorate_client::blocking::Clerk;
use quorate_resp::Frame;
use tempfile::TempDir;

use crate::support::{Client, Cluster, Plan, bulk, ok, run, wait_for};

/// Tells threads that it is over when it is dropped, also by a failure: or a scope would wait for them for ever.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The smallest log that a server takes.
const SMALL_LOG: [&str; 2] = ["--log-max", "1MiB"];

fn number(client: &mut Client, field: &str) -> u64 {
    client.info(field).parse().unwrap()
}

/// Bytes of the files in a folder that have such a name.
fn folder_bytes(folder: &Path, is_meant: impl Fn(&str) -> bool) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    let meant = entries.filter(|entry| is_meant(entry.file_name().to_str().unwrap()));
    // One that is renamed or removed meanwhile has no size any more.
    meant.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}

/// Sets keys `from..to` modulo `keys` to 1,000 bytes that begin with their number, many at a time.
fn fill(client: &mut Client, numbers: std::ops::Range<usize>, keys: usize) {
    let numbers: Vec<usize> = numbers.collect();
    for batch in numbers.chunks(100) {
        for number in batch {
            client.send(&["SET", &format!("k{}", number % keys), &format!("{number:-<1000}")]);
        }
        for _ in batch {
            assert_eq!(client.receive(), Some(ok()));
        }
    }
}

#[test]
fn a_folder_stays_bounded_and_a_start_reads_the_snapshot_and_a_short_log() {
    const KEYS: usize = 500;
    let folder = TempDir::new().unwrap();
    let mut plan = Plan::alone(folder.path());
    plan.flags = SMALL_LOG.map(str::to_owned).into();
    let server = plan.start();
    server.serving();
    let mut client = server.client();
    let mut largest = 0;
    for round in 0..40 {
        fill(&mut client, round * KEYS..(round + 1) * KEYS, KEYS);
        largest = largest.max(folder_bytes(folder.path(), |_| true));
    }
    // Twenty megabytes were written. A log of one, as much again while a snapshot is written, and three snapshots of half.
    println!("{largest} bytes at most");
    assert!(largest < 6 << 20, "{largest}");
    wait_for("the last snapshot", || (number(&mut client, "rdb_bgsave_in_progress") == 0).then_some(()));
    let (snapshot, applied) = (number(&mut client, "raft_snapshot"), number(&mut client, "raft_applied"));
    assert!(snapshot > 0 && number(&mut client, "quorate_snapshots_taken") >= 5);
    assert!(number(&mut client, "quorate_log_bytes") < 2 << 20);
    let last = number(&mut client, "raft_last");
    server.kill();
    let server = plan.start();
    server.serving();
    let mut client = server.client();
    assert!(number(&mut client, "raft_snapshot") >= snapshot);
    assert!(number(&mut client, "raft_applied") > applied, "an entry of its own term");
    // The log holds nothing more since: what was behind the newest snapshot is all that is applied.
    let behind = last - number(&mut client, "raft_snapshot");
    let log = server.log();
    assert!(log.contains(&format!("{behind} of them behind it")), "{behind}: {log}");
    for key in 0..KEYS {
        let value = format!("{:-<1000}", 39 * KEYS + key);
        assert_eq!(client.call(&["GET", &format!("k{key}")]), bulk(&value));
    }
}

/// Four Clerks write while servers are killed in the middle of a snapshot, one after the other; then all of them.
#[test]
fn servers_killed_while_they_write_snapshots_lose_nothing() {
    const CLERKS: usize = 4;
    const KEYS: usize = 500;
    const KILLS: usize = 9;
    let mut cluster = Cluster::start_with(3, &SMALL_LOG);
    let servers: Vec<String> = cluster.plans.iter().map(|plan| format!("127.0.0.1:{}", plan.port)).collect();
    let over = AtomicBool::new(false);
    let written: Vec<BTreeMap<String, String>> = std::thread::scope(|scope| {
        let clerk = |clerk: usize| {
            let (servers, over) = (&servers, &over);
            scope.spawn(move || {
                let (calls, mut written) = (Clerk::connect(servers.clone()).unwrap(), BTreeMap::new());
                for number in 0.. {
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    let (key, value) = (format!("c{clerk}k{}", number % KEYS), format!("{number:-<1000}"));
                    calls.put(key.clone(), value.clone(), Duration::from_secs(60)).unwrap();
                    written.insert(key, value);
                }
                written
            })
        };
        let clerks: Vec<_> = (0..CLERKS).map(clerk).collect();
        let until = Over(&over);
        for kill in 0..KILLS {
            let at = kill % 3;
            let data = cluster.plans[at].data.clone();
            wait_for("a snapshot that is being written", || {
                (folder_bytes(&data, |name| name.ends_with(".tmp")) > 0).then_some(())
            });
            cluster.take(at).kill();
            cluster.restart(at);
            cluster.server(at).serving();
        }
        drop(until);
        clerks.into_iter().map(|clerk| clerk.join().unwrap()).collect()
    });
    for at in 0..3 {
        cluster.take(at).kill();
    }
    for at in 0..3 {
        cluster.restart(at);
    }
    let mut client = cluster.server(0).client();
    let count: usize = written.iter().map(BTreeMap::len).sum();
    println!("{count} keys written");
    wait_for("service", || (client.call(&["DBSIZE"]) == Frame::Integer(count as i64)).then_some(()));
    for (key, value) in written.iter().flatten() {
        assert_eq!(client.call(&["GET", key]), bulk(value), "{key}");
    }
    same_digests(&cluster);
}

/// Waits until all servers have applied the same, and compares what came of it.
#[track_caller]
fn same_digests(cluster: &Cluster) {
    wait_for("the same applied index and digest everywhere", || {
        let seen: Vec<(String, String)> = (0..3)
            .map(|at| {
                let mut client = cluster.server(at).client();
                (client.info("raft_applied"), client.info("quorate_digest"))
            })
            .collect();
        seen.windows(2).all(|pair| pair[0] == pair[1]).then_some(())
    });
}

#[test]
fn a_server_that_was_away_for_longer_than_the_log_gets_a_snapshot_while_clients_go_on() {
    const KEYS: usize = 1_000;
    let mut cluster = Cluster::start_with(3, &SMALL_LOG);
    let leader = cluster.leader();
    let away = cluster.other(leader);
    let mut client = cluster.server(leader).client();
    fill(&mut client, 0..100, KEYS);
    let last: u64 = cluster.server(away).info("raft_last").parse().unwrap();
    cluster.take(away).kill();
    fill(&mut client, 100..6_000, KEYS);
    assert!(number(&mut client, "raft_snapshot") > last);
    assert!(!cluster.plans[leader].data.join("log-0000000001").exists(), "what it needs is gone");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut number = 6_000;
            while !over.load(Ordering::Relaxed) {
                fill(&mut client, number..number + 100, KEYS);
                number += 100;
            }
            number - 6_000
        });
        let until = Over(&over);
        cluster.restart(away);
        let mut back = cluster.server(away).client();
        wait_for("a snapshot", || (number(&mut back, "quorate_snapshots_installed") > 0).then_some(()));
        drop(until);
        println!("{} writes meanwhile", writer.join().unwrap());
    });
    same_digests(&cluster);
    let mut back = cluster.server(away).client();
    assert!(number(&mut back, "raft_snapshot") > last);
    assert_eq!(back.call(&["DBSIZE"]), Frame::Integer(KEYS as i64));
}

#[test]
fn a_snapshot_is_taken_when_one_is_asked_for() {
    let cluster = Cluster::start(3);
    let mut client = cluster.server(0).client();
    fill(&mut client, 0..100, 100);
    same_digests(&cluster);
    let applied: Vec<u64> =
        (0..3).map(|at| number(&mut cluster.server(at).client(), "raft_applied")).collect();
    let (status, out, err) = run(&["snapshot", "--servers", &cluster.addresses()], b"");
    assert_eq!((status, err.as_str()), (0, ""), "{out}");
    assert_eq!(out.lines().count(), 3);
    for (at, applied) in applied.iter().enumerate() {
        let mut client = cluster.server(at).client();
        assert!(number(&mut client, "raft_snapshot") >= *applied);
        assert!(number(&mut client, "quorate_snapshot_time_ms") > 0);
        let snapshots = folder_bytes(&cluster.plans[at].data, |name| name.ends_with(".snap"));
        assert!(snapshots > 100_000, "{snapshots}");
        assert!(out.contains(&format!("127.0.0.1:{} snapshot index=", cluster.plans[at].port)), "{out}");
    }
    // There is nothing new, and the one that is there will do.
    let (status, again, _) = run(&["snapshot", "--servers", &cluster.addresses()], b"");
    assert_eq!(status, 0);
    assert_eq!(again, out);
    let Frame::Integer(seconds) = client.call(&["LASTSAVE"]) else { panic!("no number") };
    assert!(seconds > 1_600_000_000, "{seconds}");
    let nobody = format!("127.0.0.1:{}", crate::ports::free_port());
    let (status, _, err) = run(&["snapshot", "--servers", &nobody], b"");
    assert_eq!(status, 1);
    assert!(err.contains(&nobody), "{err}");
}

#[test]
fn every_byte_of_a_stopped_folder_and_of_a_snapshot_is_checked() {
    let folder = TempDir::new().unwrap();
    let plan = Plan::alone(folder.path());
    let server = plan.start();
    server.serving();
    fill(&mut server.client(), 0..300, 100);
    let address = format!("127.0.0.1:{}", plan.port);
    assert_eq!(run(&["snapshot", "--servers", &address], b"").0, 0);
    fill(&mut server.client(), 300..400, 100);
    let data = folder.path().to_str().unwrap();
    let (status, _, err) = run(&["verify", "--data", data], b"");
    assert!(status == 1 && err.contains("in use"), "{status} {err}");
    assert_eq!(server.stop().code(), Some(0));
    let (status, out, err) = run(&["verify", "--data", data], b"");
    assert_eq!((status, err.as_str()), (0, ""));
    assert!(out.contains("100 keys") && out.ends_with(": whole\n"), "{out}");
    let names = std::fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path());
    let snapshot = names.into_iter().find(|path| path.extension().is_some_and(|end| end == "snap")).unwrap();
    // Under any name, too.
    let copy = TempDir::new().unwrap();
    let copy = copy.path().join("copy");
    std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
    std::fs::copy(&snapshot, &copy).unwrap();
    let (status, out, err) = run(&["verify", copy.to_str().unwrap()], b"");
    assert_eq!((status, err.as_str()), (0, ""));
    assert!(out.contains("copy: ") && out.contains("100 keys"), "{out}");
    let whole = std::fs::read(&snapshot).unwrap();
    for at in [0, 9, 20, 40, 60, 5_000, whole.len() - 30, whole.len() - 1] {
        let mut flipped = whole.clone();
        flipped[at] ^= 4;
        for (path, argument) in
            [(&copy, vec!["verify", copy.to_str().unwrap()]), (&snapshot, vec!["verify", "--data", data])]
        {
            std::fs::write(path, &flipped).unwrap();
            let (status, out, err) = run(&argument, b"");
            assert_eq!((status, out.as_str()), (1, ""), "byte {at}");
            assert!(err.contains(path.file_name().unwrap().to_str().unwrap()), "byte {at}: {err}");
        }
    }
    std::fs::write(&snapshot, &whole).unwrap();
    assert_eq!(run(&["verify", "--data", data], b"").0, 0);
    let log = Path::new(data).join("log-0000000001");
    let mut bytes = std::fs::read(&log).unwrap();
    bytes[3_000] ^= 1;
    std::fs::write(&log, bytes).unwrap();
    let (status, _, err) = run(&["verify", "--data", data], b"");
    assert!(status == 1 && err.contains("log-0000000001"), "{status} {err}");
    for wrong in [&["verify"][..], &["verify", "--data", data, "x"]] {
        assert_eq!(run(wrong, b"").0, 2);
    }
    let (status, _, err) = run(&["verify", "--data", "/nowhere/at/all"], b"");
    assert!(status == 1 && err.contains("no such folder"), "{status} {err}");
}
