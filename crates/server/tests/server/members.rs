//! `quorate members` and `MEMBERS` on real servers: each command, and what it shows.

mod cases;
mod faults;
mod growth;
mod replace;

use quorate_resp::Frame;

use crate::support::{Cluster, ok, run, text, wait_for};
use cases::{ADDRESS, VOTE, column, done, fields, is_member, join, members, wipe};

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
    assert_eq!(client.call(&["SET", "k", "v"]), ok());
    let (status, out, notes) = members(&cluster, &["remove", &leader.to_string()]);
    assert_eq!((status, out.lines().last()), (0, Some("done: so it was already")), "{notes}");
}

#[test]
fn an_address_changes_and_who_overrides_it_is_named() {
    let cluster = Cluster::start(3);
    let other = (cluster.other(cluster.leader()) + 1).to_string();
    let address = format!("127.0.0.1:{}", crate::ports::free_port());
    let (status, out, notes) = members(&cluster, &["set-address", &other, &address]);
    assert_eq!((status, out.lines().last()), (0, Some("done")), "{notes}");
    assert_eq!(column(&cluster, ADDRESS)[&other.parse::<u64>().unwrap()], address);
    // Each of the two others has another one in its --peers; the leader knows of the change before the other one does.
    assert!(notes.contains(&format!("dials server {other} at")), "{notes}");
    wait_for("all servers that override it", || {
        let (_, _, notes) = members(&cluster, &["list"]);
        (notes.matches("as its own --peers says").count() == 2).then_some(())
    });
}

#[test]
fn a_new_server_is_added_once_it_has_caught_up() {
    let mut cluster = Cluster::start(3);
    fill(&cluster, 0);
    let (status, _, refusal) = members(&cluster, &["add", "4", "127.0.0.1:7"]);
    assert_eq!(status, 1);
    assert!(refusal.contains("no server 4 waits to be added; start it"), "{refusal}");
    let new = join(&mut cluster, 4);
    let out = done(&cluster, &["add", "4", &cluster.plans[new].peer_address()]);
    assert!(out.contains("voters 1, 2, 3 -> 1, 2, 3, 4; quorum 2 of 3 -> 3 of 4"), "{out}");
    assert_eq!(column(&cluster, VOTE)[&4], "voter");
    holds_all(&cluster, new);
}

#[test]
fn a_dead_server_is_replaced_by_one_command() {
    let mut cluster = Cluster::start(3);
    fill(&cluster, 0);
    let dead = cluster.other(cluster.leader());
    let id = (dead + 1) as u64;
    cluster.take(dead).kill();
    let new = join(&mut cluster, 4);
    let address = cluster.plans[new].peer_address();
    done(&cluster, &["replace", &id.to_string(), "4", &address]);
    assert!(!is_member(&cluster, id));
    assert_eq!(column(&cluster, VOTE)[&4], "voter");
    holds_all(&cluster, new);
    let (status, out, notes) = members(&cluster, &["replace", &id.to_string(), "4", &address]);
    assert_eq!((status, out.lines().last()), (0, Some("done: so it was already")), "{notes}");
}

#[test]
fn a_server_whose_folder_is_gone_goes_on_once_it_is_rebuilt() {
    let mut cluster = Cluster::start(3);
    fill(&cluster, 0);
    let lost = cluster.other(cluster.leader());
    let id = (lost + 1).to_string();
    wipe(&mut cluster, lost);
    wait_for("a server that is refused", || {
        (column(&cluster, 3)[&(lost as u64 + 1)] == "refused").then_some(())
    });
    let refusal = text(&cluster.server(lost).client().call(&["GET", "k0"]));
    assert!(refusal.starts_with("TRYAGAIN"), "{refusal}");
    assert!(refusal.contains(&format!("quorate members rebuild {id}")), "{refusal}");
    let (_, _, notes) = members(&cluster, &["list"]);
    assert!(notes.contains(&format!("quorate members rebuild {id}")), "{notes}");
    done(&cluster, &["rebuild", &id]);
    wait_for("a member that is up", || (column(&cluster, 3)[&(lost as u64 + 1)] == "up").then_some(()));
    holds_all(&cluster, lost);
}

const KEYS: usize = 100;

/// Sets keys on this server.
fn fill(cluster: &Cluster, at: usize) {
    let mut client = cluster.server(at).client();
    for key in 0..KEYS {
        assert_eq!(client.call(&["SET", &format!("k{key}"), "v"]), ok());
    }
}

/// This server answers, and has all of them.
#[track_caller]
fn holds_all(cluster: &Cluster, at: usize) {
    wait_for("all keys", || {
        let size = cluster.server(at).client().call(&["DBSIZE"]);
        (size == Frame::Integer(KEYS as i64)).then_some(())
    });
}
