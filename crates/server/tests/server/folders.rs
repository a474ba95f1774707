//! Data folders that are not what a server expects: each is refused with a sentence, and left as it was.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use quorate_resp::Frame;
use tempfile::TempDir;

use crate::support::{Cluster, Plan, bulk, ok, text, wait_for};

#[test]
fn two_servers_on_one_folder() {
    let folder = TempDir::new().unwrap();
    let first = Plan::alone(folder.path()).start();
    let (status, log) = Plan::alone(folder.path()).refused();
    assert_eq!(status, 1);
    assert!(
        log.contains(&folder.path().display().to_string()) && log.contains("in use by another server"),
        "{log}"
    );
    first.serving();
}

#[test]
fn the_folder_of_another_node() {
    let mut cluster = Cluster::start(3);
    cluster.take(0).stop();
    let mut plan = cluster.plans[0].clone();
    plan.id = 2;
    plan.port = crate::ports::free_port();
    plan.flags = vec!["--peer-listen".to_owned(), format!("127.0.0.1:{}", plan.peer_port)];
    let (status, log) = plan.refused();
    assert_eq!(status, 1);
    assert!(log.contains("belongs to node 1") && log.contains("started as node 2"), "{log}");
    cluster.restart(0);
    cluster.server(0).serving();
}

/// Who the members are is the cluster's business: `--peers` of a later day may name more, and makes nobody a member.
#[test]
fn a_server_that_peers_names_and_is_no_member() {
    let folder = TempDir::new().unwrap();
    let plan = Plan::alone(folder.path());
    let server = plan.start();
    server.serving();
    server.stop();
    let mut other = plan.clone();
    other.peers.push_str(",2=127.0.0.1:1");
    let server = other.start();
    server.serving();
    let log = server.log();
    assert!(
        log.contains("node 2 of --peers is no member") && log.contains("members add 2 127.0.0.1:1"),
        "{log}"
    );
    assert_eq!(
        (server.info("raft_members"), server.info("quorate_peer_addresses")),
        ("1".into(), String::new())
    );
    server.stop();
    plan.start().serving();
}

#[test]
fn the_folder_of_another_cluster_with_the_same_ids() {
    let (mut one, mut other) = (Cluster::start(3), Cluster::start(3));
    let mut client = one.server(1).client();
    assert_eq!(client.call(&["SET", "k", "one"]), ok());
    one.take(0).stop();
    other.take(0).stop();
    one.leader();
    let mut plan = one.plans[0].clone();
    plan.data.clone_from(&other.plans[0].data);
    let term = one.server(1).info("raft_term");
    let (status, log) = plan.refused();
    assert_eq!(status, 1, "{log}");
    let folder = plan.data.display().to_string();
    assert!(log.contains("belongs to cluster") && log.contains(&folder) && log.contains("--data"), "{log}");
    assert_eq!(client.call(&["GET", "k"]), bulk("one"));
    assert_eq!(one.server(1).info("raft_term"), term, "nobody has heard of it");
    one.restart(0);
    other.restart(0);
    other.server(0).serving();
}

#[test]
fn an_empty_folder_under_a_known_id_is_refused_while_the_others_serve() {
    let mut cluster = Cluster::start(3);
    let mut client = cluster.server(0).client();
    assert_eq!(client.call(&["SET", "k", "v"]), ok());
    cluster.take(2).kill();
    std::fs::remove_dir_all(&cluster.plans[2].data).unwrap();
    cluster.restart(2);
    let mut refused = cluster.server(2).client();
    wait_for("the refusal", || (refused.info("quorate_standing") == "joining").then_some(()));
    assert!(!refused.info("quorate_notice").is_empty());
    for command in [&["GET", "k"][..], &["SET", "k", "w"]] {
        let answer = text(&refused.call(command));
        assert!(answer.starts_with("TRYAGAIN "), "{answer}");
    }
    assert_eq!(refused.call(&["PING"]), Frame::simple("PONG"));
    assert_eq!(client.call(&["APPEND", "k", "w"]), Frame::Integer(2));
    // It is no majority's help: with one of the other two gone, nothing is decided.
    cluster.take(1).kill();
    let answer = text(&client.call(&["SET", "k", "x"]));
    assert!(answer.starts_with("CLUSTERDOWN") || answer.starts_with("INDOUBT"), "{answer}");
}

#[test]
fn founding_waits_for_all_and_says_for_whom() {
    let mut cluster = Cluster::start(3);
    for at in 0..3 {
        cluster.take(at).kill();
        std::fs::remove_dir_all(&cluster.plans[at].data).unwrap();
    }
    cluster.restart(0);
    cluster.restart(1);
    let mut client = cluster.server(0).client();
    wait_for("founding", || client.info("quorate_notice").ends_with("members 3").then_some(()));
    assert_eq!(client.info("quorate_standing"), "founding");
    let answer = text(&client.call(&["SET", "k", "v"]));
    assert!(answer.starts_with("TRYAGAIN "), "{answer}");
    cluster.restart(2);
    wait_for("service", || (client.call(&["SET", "k", "v"]) == ok()).then_some(()));
}

/// The segment of the log that was written first.
fn segment(folder: &Path) -> PathBuf {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.metadata().unwrap().len() >= 1 << 20)
        .collect();
    files.sort();
    files.swap_remove(0)
}

/// A lone server with some data, stopped.
fn written(folder: &Path) -> Plan {
    let plan = Plan::alone(folder);
    let server = plan.start();
    server.serving();
    let mut client = server.client();
    for number in 0..100 {
        assert_eq!(client.call(&["SET", &format!("k{number}"), "some value"]), ok());
    }
    assert_eq!(server.stop().code(), Some(0));
    plan
}

#[test]
fn a_flipped_bit_in_the_log() {
    let folder = TempDir::new().unwrap();
    let plan = written(folder.path());
    let path = segment(folder.path());
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 3_000).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 3_000).unwrap();
    let (status, log) = plan.refused();
    assert_eq!(status, 1);
    let name = path.file_name().unwrap().to_str().unwrap();
    assert!(log.contains("damaged") && log.contains(name), "{log}");
    // Nothing was changed: with the bit as it was, all is there.
    file.write_all_at(&byte, 3_000).unwrap();
    let server = plan.start();
    server.serving();
    assert_eq!(server.client().call(&["DBSIZE"]), Frame::Integer(100));
}

#[test]
fn a_truncated_log() {
    let folder = TempDir::new().unwrap();
    let plan = written(folder.path());
    let path = segment(folder.path());
    File::options().write(true).open(&path).unwrap().set_len(5_000).unwrap();
    let (status, log) = plan.refused();
    assert_eq!(status, 1);
    assert!(log.contains(path.file_name().unwrap().to_str().unwrap()) && log.contains("5000 bytes"), "{log}");
}

#[test]
fn a_log_without_its_identity() {
    let folder = TempDir::new().unwrap();
    let plan = written(folder.path());
    std::fs::remove_file(folder.path().join("identity")).unwrap();
    let (status, log) = plan.refused();
    assert_eq!(status, 1);
    assert!(log.contains("identity"), "{log}");
}

#[test]
fn a_folder_that_is_a_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let (status, log) = Plan::alone(file.path()).refused();
    assert_eq!(status, 1);
    assert!(log.contains(&file.path().display().to_string()), "{log}");
}

#[test]
fn a_client_port_in_use() {
    let folder = TempDir::new().unwrap();
    let mut plan = Plan::alone(folder.path());
    // A port that was free a moment ago may still be held by a process that another test is just starting.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    plan.port = taken.local_addr().unwrap().port();
    let (status, log) = plan.refused();
    assert_eq!(status, 1);
    assert!(log.contains(&format!("--listen 127.0.0.1:{}", plan.port)), "{log}");
}
