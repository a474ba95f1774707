//! The ways between servers: who is dialled where, who is heard, and who is refused.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use quorate_replica::versions::LEVEL_MAX;
use quorate_replica::wire::PROTOCOL_VERSION;
use tempfile::TempDir;

use crate::greetings::Greeting;
use crate::ports::free_port;
use crate::support::{Cluster, Plan, SOON, Server, ok, run, wait_for};

fn cluster_of(server: &Server) -> u128 {
    u128::from_str_radix(&server.info("quorate_cluster"), 16).unwrap()
}

fn refused(server: &Server) -> u64 {
    server.info("quorate_peer_connections_refused").parse().unwrap()
}

/// Dials a server, greets it, and reads its greeting.
fn greet(peer_port: u16, greeting: &Greeting) -> (TcpStream, Option<Greeting>) {
    let mut stream = TcpStream::connect(("127.0.0.1", peer_port)).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(&greeting.encode()).unwrap();
    let theirs = read_greeting(&mut stream);
    (stream, theirs)
}

/// `None` if the connection ends before.
fn read_greeting(stream: &mut TcpStream) -> Option<Greeting> {
    let mut bytes = Vec::new();
    let mut scrap = [0; 512];
    loop {
        if let Some(greeting) = Greeting::decode(&bytes) {
            return Some(greeting);
        }
        match stream.read(&mut scrap) {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend_from_slice(&scrap[..count]),
        }
    }
}

#[track_caller]
fn says(server: &Server, sentence: &str) {
    wait_for(&format!("'{sentence}' in the log"), || server.log().contains(sentence).then_some(()));
}

#[test]
fn a_server_that_is_too_new_or_too_old_is_refused_and_told() {
    let folder = TempDir::new().unwrap();
    let plan = Plan::alone(folder.path());
    let server = plan.start();
    server.serving();
    let cluster = cluster_of(&server);
    let usual = Greeting::new(2, 1, cluster);
    let (newer, level) = (PROTOCOL_VERSION + 1, LEVEL_MAX + 1);
    for (greeting, sentences) in [
        (
            Greeting { protocol: (newer, newer + 2), program: "9.9.9".to_owned(), ..usual.clone() },
            [
                format!("node 2 runs quorate 9.9.9 and speaks version {newer} to {}", newer + 2),
                "this server is too old".to_owned(),
            ],
        ),
        (
            Greeting { levels: (level, level), ..usual.clone() },
            [
                format!(
                    "acts at level {LEVEL_MAX} of the formats, and node 2, quorate {}, knows {level}: this",
                    usual.program
                ),
                "this server is too old".to_owned(),
            ],
        ),
        (
            Greeting { acts_at: level, ..usual.clone() },
            [format!("the cluster acts at level {level}"), "this server is too old".to_owned()],
        ),
        (
            Greeting { protocol: (2, 2), ..usual.clone() },
            [
                "it speaks version 2 of the protocol between servers".to_owned(),
                "too old for this server".to_owned(),
            ],
        ),
    ] {
        let before = refused(&server);
        // The other one is told who this is, and so what is wrong; then the connection ends.
        let (mut stream, theirs) = greet(plan.peer_port, &greeting);
        let theirs = theirs.expect("it is greeted before it is judged");
        assert_eq!((theirs.from, theirs.cluster, theirs.protocol.1), (1, cluster, PROTOCOL_VERSION));
        assert!(!theirs.program.is_empty() && theirs.levels.1 == LEVEL_MAX);
        let mut rest = Vec::new();
        assert_eq!(stream.read_to_end(&mut rest).unwrap_or(0), 0, "{rest:?}");
        assert_eq!(refused(&server), before + 1);
        // At most one sentence a second: until this one is said, it is tried again.
        wait_for(&sentences[0], || {
            let log = server.log();
            let is_said = sentences.iter().all(|sentence| log.contains(sentence));
            if !is_said {
                greet(plan.peer_port, &greeting);
            }
            is_said.then_some(())
        });
    }
    let log = server.log();
    let lines = log.lines().filter(|line| line.contains("closed a connection to the peer port")).count();
    assert!(refused(&server) > lines as u64, "each refusal has a line");
    assert_eq!(server.client().call(&["SET", "k", "v"]), ok());
}

#[test]
fn a_program_with_a_newer_and_this_version_is_heard_at_this_one() {
    let folder = TempDir::new().unwrap();
    let plan = Plan::alone(folder.path());
    let server = plan.start();
    server.serving();
    let before = refused(&server);
    let newer = Greeting {
        protocol: (PROTOCOL_VERSION, PROTOCOL_VERSION + 1),
        levels: (1, LEVEL_MAX + 1),
        program: "9.9.9".to_owned(),
        ..Greeting::new(7, 1, cluster_of(&server))
    };
    let (_stream, theirs) = greet(plan.peer_port, &newer);
    assert!(theirs.is_some());
    wait_for("its version", || (server.info("quorate_peer_versions") == "7=9.9.9").then_some(()));
    assert_eq!(refused(&server), before);
}

/// The other side of the same: a server that dials one that is too new says what to do, too.
#[test]
fn who_dials_a_server_that_is_too_new_is_told() {
    let folder = TempDir::new().unwrap();
    let mut plan = Plan::alone(folder.path());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    plan.peers.push_str(&format!(",2={}", listener.local_addr().unwrap()));
    let mut server = plan.spawn();
    let (mut stream, _) = listener.accept().unwrap();
    let theirs = read_greeting(&mut stream).unwrap();
    assert_eq!((theirs.from, theirs.to, theirs.cluster), (1, 2, 0));
    assert_eq!(theirs.peer_address, format!("127.0.0.1:{}", plan.peer_port));
    let newer = (PROTOCOL_VERSION + 1, PROTOCOL_VERSION + 1);
    stream.write_all(&Greeting { protocol: newer, ..Greeting::new(2, 1, 0) }.encode()).unwrap();
    says(
        &server,
        "this server is too old for it: stop it, and start it with the program that the others run",
    );
    server.ready(1);
    assert!(refused(&server) >= 1);
}

/// A member that lags must hear a leader that it does not know yet; and whom it hears it must be able to answer.
#[test]
fn a_stranger_of_the_cluster_is_heard_and_dialled_back_as_long_as_it_stays() {
    let cluster = Cluster::start(1);
    let server = cluster.server(0);
    let own = cluster_of(server);
    let dialled_back = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = dialled_back.local_addr().unwrap().to_string();
    for told in [address.clone(), format!("0.0.0.0:{}", dialled_back.local_addr().unwrap().port())] {
        let stranger = Greeting { peer_address: told, ..Greeting::new(9, 1, own) };
        let (stream, theirs) = greet(cluster.plans[0].peer_port, &stranger);
        assert_eq!(theirs.unwrap().cluster, own);
        let (mut back, _) = dialled_back.accept().unwrap();
        let theirs = read_greeting(&mut back).unwrap();
        assert_eq!((theirs.from, theirs.to, theirs.cluster), (1, 9, own));
        back.write_all(&Greeting::new(9, 1, own).encode()).unwrap();
        wait_for("the way to it", || (server.info("quorate_peers_connected") == "1").then_some(()));
        assert_eq!(server.info("quorate_peer_addresses"), format!("9={address}"));
        drop(stream);
        // It is given up, and its connection closed.
        assert!(read_greeting(&mut back).is_none());
        assert_eq!(server.info("quorate_peer_addresses"), "");
    }
    // A stranger of another cluster is not, and neither is a search for a cluster that ends elsewhere.
    let before = refused(server);
    for wrong in [Greeting::new(9, 1, own ^ 1), Greeting::new(9, 2, own), Greeting::new(1, 1, own)] {
        let (mut stream, _) = greet(cluster.plans[0].peer_port, &wrong);
        assert!(read_greeting(&mut stream).is_none());
    }
    assert_eq!(refused(server), before + 3);
}

/// A name with more than one address, of which one leads nowhere: `localhost` is both of this machine's.
#[test]
fn a_name_with_two_addresses_leads_to_the_one_that_answers() {
    let mut cluster = Cluster::plan(2, &[]);
    for plan in &mut cluster.plans {
        plan.peers = plan.peers.replace("127.0.0.1", "localhost");
        plan.flags = vec!["--peer-listen".to_owned(), format!("127.0.0.1:{}", plan.peer_port)];
    }
    cluster.restart(0);
    cluster.restart(1);
    cluster.server(0).serving();
}

/// `quorate members` with these words, which must do.
#[track_caller]
fn members(cluster: &Cluster, words: &[&str]) {
    let servers = cluster.addresses();
    let all = [&["members"], words, &["--servers", &servers, "--timeout", "20s"]].concat();
    let (status, out, notes) = run(&all, b"");
    assert_eq!(status, 0, "{words:?}: {out}{notes}");
}

fn address_of(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

#[track_caller]
fn dials(server: &Server, expected: &[(u64, u16)]) {
    let expected: Vec<String> =
        expected.iter().map(|(id, port)| format!("{id}={}", address_of(*port))).collect();
    wait_for(&expected.join(","), || {
        let is_so = server.info("quorate_peer_addresses") == expected.join(",");
        let is_up = server.info("quorate_peers_connected") == expected.len().to_string();
        (is_so && is_up).then_some(())
    });
}

/// Servers that are told nothing but their own address find each other where the log says, also when that changes; a
/// server's own --peers has the last word.
#[test]
fn links_follow_the_addresses_of_the_log() {
    let mut cluster = Cluster::start(3);
    let ports: Vec<u16> = cluster.plans.iter().map(|plan| plan.peer_port).collect();
    for (at, port) in ports.iter().enumerate() {
        members(&cluster, &["set-address", &(at + 1).to_string(), &address_of(*port)]);
    }
    let founding = cluster.plans[0].peers.clone();
    for (at, port) in ports.iter().enumerate() {
        cluster.take(at).stop();
        cluster.plans[at].peers = format!("{}={}", at + 1, address_of(*port));
        cluster.restart(at);
        cluster.server(at).serving();
    }
    dials(cluster.server(0), &[(2, ports[1]), (3, ports[2])]);
    dials(cluster.server(2), &[(1, ports[0]), (2, ports[1])]);
    // It moves, and is nowhere else than where the log says.
    cluster.take(2).stop();
    let moved = free_port();
    cluster.plans[2].peer_port = moved;
    cluster.plans[2].peers = format!("3={}", address_of(moved));
    members(&cluster, &["set-address", "3", &address_of(moved)]);
    cluster.restart(2);
    cluster.server(2).serving();
    dials(cluster.server(0), &[(2, ports[1]), (3, moved)]);
    assert_eq!(cluster.server(0).info("quorate_peer_addresses_overridden"), "");
    assert!(
        cluster
            .server(0)
            .log()
            .contains(&format!("the way to node 3 at {} is given up", address_of(ports[2])))
    );
    // One that is told otherwise looks where it is told, and says so.
    cluster.take(1).stop();
    cluster.plans[1].peers = founding;
    cluster.restart(1);
    let overridden = format!("3={}", address_of(ports[2]));
    wait_for("what is overridden", || {
        (cluster.server(1).info("quorate_peer_addresses_overridden") == overridden).then_some(())
    });
    assert!(cluster.server(1).info("quorate_peer_addresses").contains(&overridden));
}

/// The way to a server that is no member any more ends with the membership; it is heard, and answered, as long as it is up.
#[test]
fn the_way_to_a_removed_server_is_given_up() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    let (removed, stays) = match leader {
        0 => (1, 2),
        1 => (0, 2),
        _ => (0, 1),
    };
    let removed_id = cluster.plans[removed].id;
    members(&cluster, &["remove", &removed_id.to_string()]);
    cluster.take(removed).kill();
    for (at, other) in [(leader, stays), (stays, leader)] {
        dials(cluster.server(at), &[(cluster.plans[other].id, cluster.plans[other].peer_port)]);
    }
    assert_eq!(cluster.server(stays).client().call(&["SET", "k", "v"]), ok());
}
