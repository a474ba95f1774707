//! Backups of real servers, and clusters that are founded from them.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use quorate_client::blocking::Clerk;
use quorate_resp::Frame;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::{Client, Cluster, Plan, QUORATE, bulk, ok, run, text, wait_for};

/// Sets keys to their number, many at a time.
fn fill(client: &mut Client, numbers: std::ops::Range<usize>) {
    for number in numbers.clone() {
        client.send(&["SET", &format!("k{number}"), &number.to_string()]);
    }
    for _ in numbers {
        assert_eq!(client.receive(), Some(ok()));
    }
}

/// A backup of a cluster of one server with so many keys, in a folder of its own.
fn backup_of(keys: usize) -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let plan = Plan::alone(&folder.path().join("data"));
    let server = plan.start();
    server.serving();
    fill(&mut server.client(), 0..keys);
    let out = folder.path().join("backup");
    back_up(&format!("127.0.0.1:{}", plan.port), &out);
    (folder, out)
}

/// Takes a backup; what the program said.
#[track_caller]
fn back_up(servers: &str, out: &Path) -> String {
    let (status, said, err) = run(&["backup", "--servers", servers, "--out", path(out)], b"");
    assert_eq!((status, err.as_str()), (0, ""), "{said}");
    assert!(!out.with_extension("part").exists());
    said
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[track_caller]
fn restore(from: &Path, plan: &Plan) -> String {
    let id = plan.id.to_string();
    let (status, out, err) =
        run(&["restore", "--from", path(from), "--data", path(&plan.data), "--id", &id], b"");
    assert_eq!((status, err.as_str()), (0, ""), "{out}");
    out
}

/// Starts all servers of a cluster whose folders were restored.
fn start(cluster: &mut Cluster) {
    for at in 0..cluster.plans.len() {
        cluster.restart(at);
    }
    cluster.servers.iter().flatten().for_each(|server| server.serving());
}

/// A number in a line that ends with it: `… alone 0123456789abcdef`.
fn last_word(text: &str, line: &str) -> String {
    let line =
        text.lines().find(|found| found.starts_with(line)).unwrap_or_else(|| panic!("no {line}: {text}"));
    line.rsplit(' ').next().unwrap().to_owned()
}

#[test]
fn members_restored_from_different_backups_found_no_cluster() {
    let (_one, first) = backup_of(10);
    let (_two, second) = backup_of(10);
    let mut cluster = Cluster::plan(3, &[]);
    restore(&first, &cluster.plans[0]);
    restore(&second, &cluster.plans[1]);
    // The third begins with an empty folder.
    for at in 0..3 {
        cluster.restart(at);
    }
    for (at, other) in
        [(0, "server 2 was restored from"), (1, "server 1 was restored from"), (2, "server 1 was restored")]
    {
        let mut client = cluster.server(at).client();
        let sentence = wait_for("a refusal", || {
            let answer = text(&client.call(&["GET", "k1"]));
            answer.contains(other).then_some(answer)
        });
        assert!(sentence.starts_with("TRYAGAIN starting: the cluster is not founded: "), "{sentence}");
        assert!(client.info("quorate_notice").contains(other));
        assert_eq!(client.info("quorate_standing"), "founding");
        assert!(cluster.server(at).log().contains(other));
    }
    // Whoever is wrong is restored again, and all go on.
    for at in [1, 2] {
        cluster.take(at).kill();
        std::fs::remove_dir_all(&cluster.plans[at].data).unwrap();
        restore(&first, &cluster.plans[at]);
        cluster.restart(at);
    }
    for at in 0..3 {
        let mut client = cluster.server(at).client();
        wait_for("service", || (client.call(&["GET", "k7"]) == bulk("7")).then_some(()));
    }
}

#[test]
fn a_damaged_backup_is_refused_before_anything_is_written() {
    let (_folder, snapshot) = backup_of(100);
    let whole = std::fs::read(&snapshot).unwrap();
    let folder = TempDir::new().unwrap();
    let (backup, data) = (folder.path().join("backup"), folder.path().join("data"));
    let restored = ["restore", "--from", path(&backup), "--data", path(&data), "--id", "1"];
    let step = whole.len() / 40;
    for at in (0..whole.len()).step_by(step).chain([whole.len() - 1]) {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x10;
        std::fs::write(&backup, flipped).unwrap();
        for arguments in [&restored[..], &["verify", path(&backup)]] {
            let (status, out, err) = run(arguments, b"");
            assert_eq!((status, out.as_str()), (1, ""), "byte {at}");
            // A flipped bit in the number of the format says that it is a newer one.
            let says = err.contains("damaged at offset") || (12..16).contains(&at);
            assert!(says && err.contains(path(&backup)), "byte {at}: {err}");
        }
        assert!(!data.exists(), "byte {at}");
    }
    for cut in [0, 63, 64, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&backup, &whole[..cut]).unwrap();
        let (status, _, err) = run(&restored, b"");
        assert!(status == 1 && err.contains("it ends in the middle"), "cut to {cut}: {err}");
        assert!(!data.exists(), "cut to {cut}");
    }
    std::fs::write(&backup, &whole).unwrap();
    assert_eq!(run(&restored, b"").0, 0);
    let (status, _, err) = run(&restored, b"");
    assert!(status == 1 && err.contains("not empty: it holds "), "{err}");
    for wrong in [&restored[..5], &["restore", "--from", "x", "--data", "y", "--id", "0"]] {
        assert_eq!(run(wrong, b"").0, 2);
    }
}

#[test]
fn a_backup_is_read_where_nothing_can_be_written() {
    let (_folder, snapshot) = backup_of(100);
    let folder = TempDir::new().unwrap();
    let shelf = folder.path().join("shelf");
    std::fs::create_dir(&shelf).unwrap();
    let backup = shelf.join("backup");
    std::fs::copy(&snapshot, &backup).unwrap();
    std::fs::set_permissions(&backup, Permissions::from_mode(0o400)).unwrap();
    std::fs::set_permissions(&shelf, Permissions::from_mode(0o500)).unwrap();
    let (status, out, err) = run(&["verify", path(&backup)], b"");
    assert_eq!((status, err.as_str()), (0, ""));
    assert!(out.contains("100 keys") && out.ends_with(": whole\n"), "{out}");
    let plan = Plan::alone(&folder.path().join("data"));
    restore(&backup, &plan);
    let server = plan.start();
    server.serving();
    assert_eq!(server.client().call(&["GET", "k99"]), bulk("99"));
    // To be removed with the rest.
    std::fs::set_permissions(&shelf, Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn a_restored_cluster_goes_on_and_knows_no_old_session() {
    let folder = TempDir::new().unwrap();
    let plan = Plan::alone(folder.path());
    let server = plan.start();
    server.serving();
    let mut client = server.client();
    fill(&mut client, 0..50);
    let session = text(&client.call(&["SESSION", "OPEN"]));
    let once = ["ONCE", &session, "1", "0", "APPEND", "log", "entry"];
    assert_eq!(client.call(&once), Frame::Integer(5));
    let shelf = TempDir::new().unwrap();
    let snapshot = shelf.path().join("backup");
    back_up(&format!("127.0.0.1:{}", plan.port), &snapshot);
    let old_cluster = client.info("quorate_cluster");

    let mut cluster = Cluster::plan(3, &[]);
    let said: Vec<String> = cluster.plans.iter().map(|plan| restore(&snapshot, plan)).collect();
    start(&mut cluster);
    let digest = last_word(&said[0], "state at ");
    for at in 0..3 {
        let mut client = cluster.server(at).client();
        wait_for("the state of the backup", || {
            (client.call(&["DBSIZE"]) == Frame::Integer(51)).then_some(())
        });
        assert_eq!(client.info("quorate_data_digest"), digest);
        assert_ne!(client.info("quorate_cluster"), old_cluster);
        assert_eq!(client.info("quorate_sessions"), "0");
        let refused = text(&client.call(&once));
        assert!(refused.starts_with("SESSIONEXPIRED"), "{refused}");
        assert_eq!(client.call(&["SESSION", "CLOSE", &session]), ok());
        assert_eq!(client.call(&["GET", "log"]), bulk("entry"));
    }
    // It is a cluster as any other, also after all were killed.
    let mut client = cluster.server(0).client();
    let session = text(&client.call(&["SESSION", "OPEN"]));
    let once = ["ONCE", &session, "1", "0", "APPEND", "log", "entry"];
    assert_eq!(client.call(&once), Frame::Integer(10));
    for at in 0..3 {
        cluster.take(at).kill();
    }
    start(&mut cluster);
    assert_eq!(cluster.server(1).client().call(&once), Frame::Integer(10));
    wait_for("snapshots of the new cluster", || {
        let taken = |plan: &Plan| {
            let mut names = std::fs::read_dir(&plan.data).unwrap().map(|entry| entry.unwrap().path());
            let snapshot = names.find(|path| path.extension().is_some_and(|end| end == "snap"));
            let (_, out, _) = run(&["verify", path(&snapshot.unwrap())], b"");
            !out.contains(&old_cluster)
        };
        cluster.plans.iter().all(taken).then_some(())
    });
    for at in 0..3 {
        assert_eq!(cluster.take(at).stop().code(), Some(0));
        assert_eq!(run(&["verify", "--data", path(&cluster.plans[at].data)], b"").0, 0);
    }
}

/// Tells threads that it is over when it is dropped, also by a failure: or a scope would wait for them for ever.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What one writer has done: keys `w{writer}k1`, `w{writer}k2`, … one after the other, each to its number.
struct Writer {
    calls: Clerk,
    /// The last that was sent, and the last that was acknowledged.
    sent: AtomicU64,
    acknowledged: AtomicU64,
}

/// Four Clerks write while a backup is taken and a server is killed; what is restored holds all that was acknowledged before,
/// nothing that was sent only after, and of each writer's writes a beginning without a gap. And it is bit for bit what
/// the backup says.
#[test]
fn a_backup_under_load_is_a_state_of_one_moment() {
    let mut cluster = Cluster::start_with(3, &["--log-max", "1MiB"]);
    let addresses = cluster.addresses();
    let servers: Vec<&str> = addresses.split(',').collect();
    let writer = || Writer {
        calls: Clerk::connect(servers.clone()).unwrap(),
        sent: AtomicU64::new(0),
        acknowledged: AtomicU64::new(0),
    };
    let writers: Vec<Writer> = (0..4).map(|_| writer()).collect();
    let shelf = TempDir::new().unwrap();
    let over = AtomicBool::new(false);
    let mut taken = Vec::new();
    std::thread::scope(|scope| {
        for (number, writer) in writers.iter().enumerate() {
            let over = &over;
            scope.spawn(move || {
                for count in 1.. {
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    writer.sent.store(count, Ordering::SeqCst);
                    let value = format!("{count:-<1000}");
                    writer.calls.put(format!("w{number}k{count}"), value, Duration::from_secs(60)).unwrap();
                    writer.acknowledged.store(count, Ordering::SeqCst);
                }
            });
        }
        let until = Over(&over);
        let all = |counter: fn(&Writer) -> &AtomicU64| -> Vec<u64> {
            writers.iter().map(|writer| counter(writer).load(Ordering::SeqCst)).collect()
        };
        for round in 0..3 {
            wait_for("writes", || {
                all(|writer| &writer.acknowledged)
                    .iter()
                    .all(|count| *count >= 300 * (round + 1))
                    .then_some(())
            });
            let out = shelf.path().join(round.to_string());
            let before = all(|writer| &writer.acknowledged);
            let said = back_up(&addresses, &out);
            let after = all(|writer| &writer.sent);
            println!("{before:?}..{after:?} {said}");
            taken.push((out, before, after));
            if round == 1 {
                let leader = cluster.leader();
                cluster.take(leader).kill();
                cluster.restart(leader);
            }
        }
        drop(until);
    });
    for (out, before, after) in taken {
        holds_a_beginning_of_each(&out, &before, &after);
    }
}

/// A cluster restored from this holds of each writer's writes a beginning that ends somewhere from `before` to `after`, and
/// nothing else.
fn holds_a_beginning_of_each(out: &Path, before: &[u64], after: &[u64]) {
    let mut restored = Cluster::plan(3, &[]);
    let said: Vec<String> = restored.plans.iter().map(|plan| restore(out, plan)).collect();
    start(&mut restored);
    let digest = last_word(&said[0], "state at ");
    let mut client = restored.server(1).client();
    let mut keys = 0;
    for (number, (before, after)) in before.iter().zip(after).enumerate() {
        let holds = (1..=*after + 1).take_while(|count| {
            let value = client.call(&["GET", &format!("w{number}k{count}")]);
            assert!(value == Frame::Null || value == bulk(&format!("{count:-<1000}")), "w{number}k{count}");
            value != Frame::Null
        });
        let holds = holds.count() as u64;
        assert!((*before..=*after).contains(&holds), "writer {number}: {holds} of {before} to {after}");
        keys += holds;
    }
    // No gap: there are no keys but these.
    assert_eq!(client.call(&["DBSIZE"]), Frame::Integer(keys as i64));
    for at in 0..3 {
        assert_eq!(restored.server(at).info("quorate_data_digest"), digest);
    }
}

/// On whichever server it is begun.
#[test]
fn a_backup_holds_what_was_acknowledged_before_it_was_begun() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader();
    let mut clients: Vec<Client> = (0..3).map(|at| cluster.server(at).client()).collect();
    for round in 0..60 {
        assert_eq!(clients[leader].call(&["SET", "k", &round.to_string()]), ok());
        let applied: u64 = clients[leader].info("raft_applied").parse().unwrap();
        let Frame::Array(begun) = clients[round % 3].call(&["BACKUP", "BEGIN"]) else { panic!("no array") };
        let (id, floor) = (text(&begun[0]), text(&begun[1]).parse::<u64>().unwrap());
        assert!(floor >= applied, "{floor} is below {applied}");
        assert_eq!(clients[round % 3].call(&["BACKUP", "END", &id]), ok());
    }
    // With all followers stopped nobody can know what was acknowledged.
    for at in 0..3 {
        if at != leader {
            cluster.server(at).signal(Signal::STOP);
        }
    }
    let refused = text(&clients[leader].call(&["BACKUP", "BEGIN"]));
    assert!(refused.starts_with("CLUSTERDOWN") || refused.starts_with("TRYAGAIN"), "{refused}");
    for at in 0..3 {
        cluster.server(at).signal(Signal::CONT);
    }
}

fn begin(client: &mut Client) -> String {
    let answer = client.call(&["BACKUP", "BEGIN"]);
    let Frame::Array(begun) = &answer else { panic!("{answer:?}") };
    text(&begun[0])
}

/// Waits until it is ready; its bytes.
fn ready(client: &mut Client, id: &str) -> u64 {
    wait_for("a snapshot", || {
        let answer = client.call(&["BACKUP", "STATE", id]);
        let Frame::Array(state) = &answer else { panic!("{answer:?}") };
        assert!(state[0] == bulk("ready") || state[0] == bulk("taking"), "{state:?}");
        state.get(3).map(|bytes| text(bytes).parse().unwrap())
    })
}

#[test]
fn a_backup_outlives_newer_snapshots_and_lost_connections() {
    let folder = TempDir::new().unwrap();
    let plan = Plan::alone(&folder.path().join("data"));
    let server = plan.start();
    server.serving();
    let mut client = server.client();
    for number in 0..300 {
        assert_eq!(client.call(&["SET", &format!("k{number}"), &format!("{number:-<10000}")]), ok());
    }
    let id = begin(&mut client);
    let bytes = ready(&mut client, &id);
    assert!(bytes > 2 << 20, "{bytes}");
    let snapshots = || {
        let names = std::fs::read_dir(&plan.data).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.filter(|name| name.to_str().unwrap().ends_with(".snap")).collect();
        names.sort();
        names
    };
    let first = snapshots().remove(0);
    let mut whole = Vec::new();
    let mut count = 100_000;
    while (whole.len() as u64) < bytes {
        let piece = client.call(&["BACKUP", "READ", &id, &whole.len().to_string(), &count.to_string()]);
        let Frame::Bulk(piece) = piece else { panic!("{piece:?}") };
        whole.extend_from_slice(&piece);
        // More than there may be in one piece are not given.
        count = 100 << 20;
        assert!(piece.len() <= 1 << 20);
        // Each time another connection, and a newer snapshot.
        client = server.client();
        assert_eq!(client.call(&["SET", "k", &whole.len().to_string()]), ok());
        assert_eq!(run(&["snapshot", "--servers", &format!("127.0.0.1:{}", plan.port)], b"").0, 0);
    }
    assert!(!snapshots().contains(&first), "it is not one of the newest two any more");
    assert_eq!(client.call(&["BACKUP", "READ", &id, &bytes.to_string(), "10"]), bulk(""));
    let out = folder.path().join("backup");
    std::fs::write(&out, &whole).unwrap();
    let (status, said, err) = run(&["verify", path(&out)], b"");
    assert_eq!((status, err.as_str()), (0, ""));
    assert!(said.contains("300 keys"), "{said}");
    assert_eq!(client.call(&["BACKUP", "END", &id]), ok());
    let gone = text(&client.call(&["BACKUP", "READ", &id, "0", "10"]));
    assert!(gone.starts_with("ERR no such backup"), "{gone}");
}

#[test]
fn backups_are_bounded_and_refusals_say_why() {
    let folder = TempDir::new().unwrap();
    let plan = Plan::alone(&folder.path().join("data"));
    let server = plan.start();
    server.serving();
    let mut client = server.client();
    fill(&mut client, 0..10);
    let ids: Vec<String> = (0..4).map(|_| begin(&mut client)).collect();
    assert_eq!(client.info("quorate_backups"), "4");
    let full = text(&client.call(&["BACKUP", "BEGIN"]));
    assert!(full.starts_with("TRYAGAIN backups full: 4 are under way"), "{full}");
    // All at once, and each is whole.
    for id in &ids {
        let bytes = ready(&mut client, id);
        let Frame::Bulk(piece) = client.call(&["BACKUP", "READ", id, "0", "1000000"]) else { panic!("none") };
        assert_eq!(piece.len() as u64, bytes);
    }
    assert_eq!(client.call(&["BACKUP", "END", &ids[2]]), ok());
    assert_eq!(client.call(&["BACKUP", "END", &ids[2]]), ok());
    let out = folder.path().join("backup");
    back_up(&format!("127.0.0.1:{}", plan.port), &out);
    assert_eq!(client.info("quorate_backups"), "3", "the tool has ended its own");
    for wrong in [&["BACKUP", "STATE", "x"][..], &["BACKUP", "READ", "0000000000000000-1", "0", "10"]] {
        assert!(text(&client.call(wrong)).starts_with("ERR no such backup"));
    }
    for wrong in [
        &["BACKUP", "READ", &ids[0], "-1", "10"][..],
        &["BACKUP", "READ", &ids[0], "0", "0"],
        &["BACKUP", "ALL"],
    ] {
        assert!(text(&client.call(wrong)).starts_with("ERR "), "{wrong:?}");
    }
    // Of a write that was sent just before on the same connection it holds the effect.
    client.send(&["SET", "last", "words"]);
    client.send(&["BACKUP", "END", &ids[0]]);
    client.send(&["BACKUP", "BEGIN"]);
    assert_eq!((client.receive(), client.receive()), (Some(ok()), Some(ok())));
    let Some(Frame::Array(begun)) = client.receive() else { panic!("no array") };
    let floor: u64 = text(&begun[1]).parse().unwrap();
    assert_eq!(floor, client.info("raft_applied").parse::<u64>().unwrap());
}

/// One length is wrong, and longer than what there is: no piece of it looks wrong until the end has come.
#[test]
fn what_a_server_has_given_in_vain_is_taken_back() {
    const TRAILER_BYTES: usize = 24 + 32;
    let cluster = Cluster::start(3);
    fill(&mut cluster.server(0).client(), 0..100);
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("backup");
    let is_follower = |at: &usize| cluster.server(*at).client().info("raft_role") == "follower";
    let at = (0..3).find(is_follower).unwrap();
    let data = &cluster.plans[at].data;
    let snapshot = || {
        let files = std::fs::read_dir(data).unwrap().map(|file| file.unwrap().path());
        let mut snapshots: Vec<PathBuf> = files
            .filter(|file| {
                let name = file.file_name().unwrap().to_str().unwrap();
                name.starts_with("snapshot-") && !name.ends_with(".tmp")
            })
            .collect();
        snapshots.sort_unstable();
        snapshots.pop()
    };
    let mut others: Vec<String> =
        cluster.plans.iter().map(|plan| format!("127.0.0.1:{}", plan.port)).collect();
    others.swap(0, at);
    let servers = others.join(",");
    // Where the log has gone on meanwhile, the server writes another snapshot, which is whole.
    let was_asked = (0..20).any(|_| {
        let mut client = cluster.server(at).client();
        client.call(&["SET", "k", "v"]);
        let id = begin(&mut client);
        ready(&mut client, &id);
        client.call(&["BACKUP", "END", &id]);
        let file = snapshot().unwrap();
        let mut bytes = std::fs::read(&file).unwrap();
        let length_at = bytes.len() - TRAILER_BYTES;
        bytes[length_at] ^= 0x40;
        std::fs::write(&file, &bytes).unwrap();
        back_up(&servers, &out);
        let (status, said, _) = run(&["verify", path(&out)], b"");
        assert_eq!(status, 0, "{said}");
        snapshot().is_some_and(|now| now == file)
    });
    assert!(was_asked);
}

#[test]
fn the_tool_writes_a_whole_file_or_none() {
    let cluster = Cluster::start(3);
    fill(&mut cluster.server(0).client(), 0..100);
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("backup");
    std::fs::write(&out, b"yesterday's").unwrap();
    std::fs::write(folder.path().join("backup.part"), vec![1; 1 << 20]).unwrap();
    let nobody = format!("127.0.0.1:{}", crate::ports::free_port());
    let short = ["--timeout", "300ms"];
    let arguments = [&["backup", "--servers", &nobody, "--out", path(&out)][..], &short].concat();
    let (status, said, err) = run(&arguments, b"");
    assert_eq!((status, said.as_str()), (1, ""));
    assert!(err.contains(&nobody) && err.contains("no backup was written"), "{err}");
    assert_eq!(std::fs::read(&out).unwrap(), b"yesterday's");
    assert!(!folder.path().join("backup.part").exists());
    // One that is not there is no matter, as long as another is.
    let said = back_up(&format!("{nobody},{}", cluster.addresses()), &out);
    assert!(said.starts_with(path(&out)) && said.contains(" digest "), "{said}");
    let (status, whole, _) = run(&["verify", path(&out)], b"");
    assert!(status == 0 && whole.contains("100 keys"), "{whole}");
    let servers = cluster.addresses();
    let output = std::process::Command::new(QUORATE)
        .args(["backup", "--servers", &servers, "--out", "-"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    std::fs::write(&out, output.stdout).unwrap();
    assert_eq!(run(&["verify", path(&out)], b"").0, 0);
    assert_eq!(run(&["backup"], b"").0, 2);
    let nowhere = folder.path().join("no/such/folder");
    let (status, _, err) = run(&["backup", "--servers", &servers, "--out", path(&nowhere)], b"");
    assert!(status == 1 && err.contains("no/such/folder"), "{err}");
}
