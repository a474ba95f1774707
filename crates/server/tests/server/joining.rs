//! `--join`: a new server looks for its cluster, says what it waits for, and is taken in.

use tempfile::TempDir;

use crate::ports::free_port;
use crate::support::{Client, Cluster, Plan, Server, bulk, ok, run, text, wait_for};

/// A new server that looks for its cluster there.
fn joiner(id: u64, folder: &TempDir, join: &str) -> Plan {
    let (port, peer_port) = (free_port(), free_port());
    let flags =
        ["--join", join, "--peer-listen", &format!("127.0.0.1:{peer_port}")].map(String::from).to_vec();
    Plan { id, port, peer_port, peers: String::new(), data: folder.path().to_owned(), flags }
}

fn connected(server: &Server) -> u64 {
    server.info("quorate_peers_connected").parse().unwrap()
}

#[track_caller]
fn members(cluster: &Cluster, words: &[&str]) -> String {
    let servers = cluster.addresses();
    let all = [&["members"], words, &["--servers", &servers, "--timeout", "30s"]].concat();
    let (status, out, notes) = run(&all, b"");
    assert_eq!(status, 0, "{words:?}: {out}{notes}");
    out
}

#[test]
fn a_new_server_says_what_it_waits_for_and_is_taken_in() {
    let cluster = Cluster::start(3);
    assert_eq!(cluster.server(0).client().call(&["SET", "k", "v"]), ok());
    let folder = TempDir::new().unwrap();
    // One of the addresses leads nowhere.
    let known = cluster.plans[cluster.other(cluster.leader())].peer_port;
    let plan = joiner(4, &folder, &format!("127.0.0.1:{},127.0.0.1:{known}", free_port()));
    let command = format!("quorate members add 4 127.0.0.1:{}", plan.peer_port);
    let mut server = plan.spawn();
    assert_eq!(
        server.ready_line(),
        format!("ready id=4 listen=127.0.0.1:{} waits for: {command}\n", plan.port)
    );
    assert_eq!(server.info("quorate_standing"), "joining");
    assert!(server.info("quorate_notice").contains(&command), "{}", server.info("quorate_notice"));
    let answer = text(&Client::connect(plan.port).call(&["GET", "k"]));
    assert!(answer.starts_with("TRYAGAIN ") && answer.contains(&command), "{answer}");
    let (_, shown, _) = run(&["status", "--servers", &format!("127.0.0.1:{}", plan.port)], b"");
    assert!(shown.contains("joining") && shown.contains(&command), "{shown}");
    // The very command.
    members(&cluster, &command.split(' ').skip(2).collect::<Vec<_>>());
    server.serving();
    assert_eq!(server.client().call(&["GET", "k"]), bulk("v"));
    assert_eq!(server.client().call(&["APPEND", "k", "w"]), quorate_resp::Frame::Integer(2));
    // Of the founding members, whose addresses are not in the log, it was told by themselves.
    wait_for("ways to all", || (connected(&server) == 3 && connected(cluster.server(0)) == 3).then_some(()));
    // Started again, with or without the servers that it joined by.
    server.stop();
    let server = plan.start();
    server.serving();
    assert!(server.log().contains("nobody has to take this server in"), "{}", server.log());
    wait_for("ways to all", || (connected(&server) == 3).then_some(()));
}

#[test]
fn a_new_server_that_finds_nobody_waits_and_says_so() {
    let folder = TempDir::new().unwrap();
    let plan = joiner(4, &folder, &format!("127.0.0.1:{}", free_port()));
    let mut server = plan.spawn();
    let command = format!("quorate members add 4 127.0.0.1:{}", plan.peer_port);
    assert_eq!(
        server.ready_line(),
        format!("ready id=4 listen=127.0.0.1:{} waits for: {command}\n", plan.port)
    );
    let log = server.log();
    assert!(log.contains("no way to the server of --join at 127.0.0.1:"), "{log}");
    assert_eq!(server.info("quorate_standing"), "joining");
    assert_eq!(server.stop().code(), Some(0));
}

/// The way to whoever answers, and the way back.
#[test]
fn a_joiner_dials_whoever_is_there_and_is_dialled_back() {
    let cluster = Cluster::start(1);
    let folder = TempDir::new().unwrap();
    let plan = joiner(4, &folder, &format!("127.0.0.1:{}", cluster.plans[0].peer_port));
    let joiner = plan.spawn();
    wait_for("both ways", || {
        let way_back = format!("4=127.0.0.1:{}", plan.peer_port);
        let is_there = cluster.server(0).info("quorate_peer_addresses") == way_back;
        (is_there && connected(cluster.server(0)) == 1).then_some(())
    });
    assert_eq!(cluster.server(0).client().call(&["SET", "k", "v"]), ok());
    joiner.kill();
    wait_for("its end", || cluster.server(0).info("quorate_peer_addresses").is_empty().then_some(()));
}
