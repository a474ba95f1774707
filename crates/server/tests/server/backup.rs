//! Backups of real servers, and clusters that are founded from them.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use quorate_resp::Frame;
use tempfile::TempDir;

use crate::support::{Client, Cluster, Plan, bulk, ok, run, text, wait_for};

/// Sets keys to their number, many at a time.
fn fill(client: &mut Client, numbers: std::ops::Range<usize>) {
    for number in numbers.clone() {
        client.send(&["SET", &format!("k{number}"), &number.to_string()]);
    }
    for _ in numbers {
        assert_eq!(client.receive(), Some(ok()));
    }
}

/// A snapshot that a cluster of one server has taken of `keys` keys, in a folder of its own.
fn snapshot_of(keys: usize) -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let plan = Plan::alone(folder.path());
    let server = plan.start();
    server.serving();
    fill(&mut server.client(), 0..keys);
    assert_eq!(run(&["snapshot", "--servers", &format!("127.0.0.1:{}", plan.port)], b"").0, 0);
    let names = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let path = names.into_iter().find(|path| path.extension().is_some_and(|end| end == "snap")).unwrap();
    (folder, path)
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
    let (_one, first) = snapshot_of(10);
    let (_two, second) = snapshot_of(10);
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
    let (_folder, snapshot) = snapshot_of(100);
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
    let (_folder, snapshot) = snapshot_of(100);
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
    assert_eq!(run(&["snapshot", "--servers", &format!("127.0.0.1:{}", plan.port)], b"").0, 0);
    let old_cluster = client.info("quorate_cluster");
    let names = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let snapshot = names.into_iter().find(|path| path.extension().is_some_and(|end| end == "snap")).unwrap();

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
