//! `quorate members` and `MEMBERS` on real servers: each command, and what it shows.

use std::collections::BTreeMap;

use quorate_resp::Frame;

use crate::support::{Cluster, run, text, wait_for};

/// The fields of a map, sent as a list.
fn fields(frame: &Frame) -> BTreeMap<String, Frame> {
    let Frame::Array(items) = frame else { panic!("no map: {frame:?}") };
    items.chunks_exact(2).map(|pair| (text(&pair[0]), pair[1].clone())).collect()
}

/// `quorate members` with these words: exit status, standard output, standard error.
fn members(cluster: &Cluster, words: &[&str]) -> (i32, String, String) {
    let servers = cluster.addresses();
    let mut all = vec!["members"];
    all.extend(words);
    all.extend(["--servers", &servers, "--timeout", "20s"]);
    run(&all, b"")
}

#[test]
fn a_list_names_each_member_with_its_health() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    let (status, out, notes) = members(&cluster, &["list"]);
    assert_eq!(status, 0, "{notes}");
    let lines: Vec<Vec<&str>> = out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines.len(), 3, "{out}");
    for (at, line) in lines.iter().enumerate() {
        let plan = &cluster.plans[at];
        assert_eq!(line[0], plan.id.to_string());
        assert_eq!(line[1], if at == leader { "leader" } else { "follower" });
        assert_eq!(line[2], "voter");
        assert!(["up", "behind"].contains(&line[3]), "{out}");
        assert_eq!(line[7], format!("127.0.0.1:{}", plan.peer_port));
        assert_eq!(line[8], format!("127.0.0.1:{}", plan.port));
    }
    assert!(notes.contains("quorum 2 of 3 voters; faults borne 1"), "{notes}");
    let dead = cluster.other(leader);
    cluster.take(dead).kill();
    let health_of = |at: usize| {
        let (_, out, _) = members(&cluster, &["list"]);
        let line = out.lines().nth(at).unwrap_or_default();
        line.split_whitespace().nth(3).unwrap_or_default().to_owned()
    };
    wait_for("a server that is down", || (health_of(dead) == "down").then_some(()));
    let third = (0..3).find(|at| *at != dead && *at != leader).unwrap();
    wait_for("a server that is up", || (health_of(third) == "up").then_some(()));
}

#[test]
fn who_does_not_lead_names_who_does() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader();
    let other = cluster.other(leader);
    let mut client = cluster.server(other).client();
    let moved = format!("MOVED 0 127.0.0.1:{}", cluster.plans[leader].port);
    assert_eq!(text(&client.call(&["MEMBERS", "LIST"])), moved);
    assert_eq!(text(&client.call(&["MEMBERS", "REMOVE", "1"])), moved);
    let report = fields(&cluster.server(leader).client().call(&["MEMBERS", "LIST"]));
    assert_eq!(report["leader"], Frame::Integer(leader as i64 + 1));
    assert_eq!(report["quorum"], Frame::Integer(2));
    let Frame::Array(rows) = &report["members"] else { panic!("no list") };
    assert_eq!(
        rows.iter().map(|row| fields(row)["id"].clone()).collect::<Vec<_>>(),
        [1, 2, 3].map(Frame::Integer)
    );
}

#[test]
fn leadership_goes_to_whom_it_is_handed() {
    let cluster = Cluster::start(3);
    let heir = cluster.other(cluster.leader());
    let id = (heir + 1).to_string();
    // The servers are named before the sub-command here.
    let servers = cluster.addresses();
    let (status, out, notes) = run(&["members", "--servers", &servers, "transfer", &id], b"");
    assert_eq!((status, out.lines().last()), (0, Some("done")), "{out}{notes}");
    assert_eq!(cluster.leader(), heir);
    let (status, out, notes) = members(&cluster, &["transfer", &id]);
    assert_eq!((status, out.lines().last()), (0, Some("done: so it was already")), "{notes}");
    let (status, out, notes) = members(&cluster, &["transfer"]);
    assert_eq!(status, 0, "{out}{notes}");
    assert_ne!(cluster.leader(), heir);
}

#[test]
fn the_exit_status_says_what_became_of_it() {
    let cluster = Cluster::start(1);
    let (status, _, notes) = members(&cluster, &["remove", "1"]);
    assert_eq!(status, 1);
    assert_eq!(notes, "quorate: server 1 is the only voter: without it there is no cluster\n");
    for wrong in [&["add", "0", "h:1"][..], &["add", "4", "h"], &["add", "4"], &["grow"], &[]] {
        assert_eq!(members(&cluster, wrong).0, 2, "{wrong:?}");
    }
    let nobody = format!("127.0.0.1:{}", crate::ports::free_port());
    let (status, out, notes) = run(&["members", "list", "--servers", &nobody, "--timeout", "100ms"], b"");
    assert_eq!((status, out.as_str()), (1, ""), "{notes}");
}

/// The word of each member's line in this column, by id.
fn column(cluster: &Cluster, column: usize) -> BTreeMap<u64, String> {
    let (status, out, notes) = members(cluster, &["list"]);
    assert_eq!(status, 0, "{notes}");
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    out.lines().map(words).map(|words| (words[0].parse().unwrap(), words[column].clone())).collect()
}

const VOTE: usize = 2;
const ADDRESS: usize = 7;

#[track_caller]
fn done(cluster: &Cluster, words: &[&str]) -> String {
    let (status, out, notes) = members(cluster, words);
    assert_eq!((status, out.lines().last()), (0, Some("done")), "{words:?}: {out}{notes}");
    out
}

#[test]
fn a_voter_becomes_a_learner_and_a_voter_again() {
    let cluster = Cluster::start(3);
    let other = (cluster.other(cluster.leader()) + 1) as u64;
    let out = done(&cluster, &["demote", &other.to_string()]);
    assert!(out.contains("quorum 2 of 3 -> 2 of 2; faults borne 1 -> 0"), "{out}");
    assert!(out.contains("warning: fewer servers may fail than before"), "{out}");
    assert_eq!(column(&cluster, VOTE)[&other], "learner");
    done(&cluster, &["promote", &other.to_string()]);
    assert_eq!(column(&cluster, VOTE)[&other], "voter");
}

#[test]
fn a_server_is_removed_even_if_it_leads() {
    let cluster = Cluster::start(3);
    let leader = (cluster.leader() + 1) as u64;
    done(&cluster, &["remove", &leader.to_string()]);
    let votes = column(&cluster, VOTE);
    assert_eq!(votes.len(), 2);
    assert!(!votes.contains_key(&leader));
    let mut client = cluster.server(cluster.other(leader as usize - 1)).client();
    assert_eq!(client.call(&["SET", "k", "v"]), crate::support::ok());
    let (status, out, notes) = members(&cluster, &["remove", &leader.to_string()]);
    assert_eq!((status, out.lines().last()), (0, Some("done: so it was already")), "{notes}");
}

#[test]
fn an_address_changes() {
    let cluster = Cluster::start(3);
    let other = (cluster.other(cluster.leader()) + 1).to_string();
    let address = format!("127.0.0.1:{}", crate::ports::free_port());
    let (status, out, notes) = members(&cluster, &["set-address", &other, &address]);
    assert_eq!((status, out.lines().last()), (0, Some("done")), "{notes}");
    assert_eq!(column(&cluster, ADDRESS)[&other.parse::<u64>().unwrap()], address);
}
