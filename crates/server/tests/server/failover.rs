//! Servers that die, pause and come back: what was acknowledged is there, nothing runs twice, and clients of the
//! others notice little.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use quorate_client::blocking::Clerk;
use quorate_resp::Frame;
use rustix::process::Signal;

use crate::support::{Client, Cluster, bulk, ok, text, wait_for};

#[test]
fn a_plain_connection_to_a_survivor_sees_no_error_while_the_leader_dies() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    let mut client = cluster.server(cluster.other(leader)).client();
    for length in 1..=50 {
        assert_eq!(client.call(&["APPEND", "k", "x"]), Frame::Integer(length));
    }
    // In flight while it dies, and after.
    for _ in 51..=100 {
        client.send(&["APPEND", "k", "x"]);
    }
    cluster.take(leader).kill();
    let killed = Instant::now();
    for length in 51..=100 {
        assert_eq!(client.receive(), Some(Frame::Integer(length)));
    }
    assert_eq!(client.call(&["APPEND", "k", "x"]), Frame::Integer(101));
    let outage = killed.elapsed();
    println!("writes went on {} ms after the kill", outage.as_millis());
    // One second on a machine of its own; the tests share theirs.
    assert!(outage < Duration::from_secs(3), "{outage:?}");
    cluster.restart(leader);
    let mut back = cluster.server(leader).client();
    assert_eq!(text(&back.call(&["GET", "k"])).len(), 101);
}

#[test]
fn all_servers_die_at_once_and_what_was_acknowledged_is_there() {
    let mut cluster = Cluster::start(3);
    let mut client = cluster.server(1).client();
    for number in 0..100 {
        assert_eq!(client.call(&["SET", &format!("k{number}"), "v"]), ok());
    }
    for at in 0..3 {
        cluster.take(at).kill();
    }
    for at in 0..3 {
        cluster.restart(at);
    }
    let mut client = cluster.server(2).client();
    assert_eq!(client.call(&["DBSIZE"]), Frame::Integer(100));
    assert_eq!(client.call(&["GET", "k99"]), bulk("v"));
}

#[test]
fn a_minority_answers_no_read_and_no_write() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    let mut client = cluster.server(leader).client();
    assert_eq!(client.call(&["SET", "k", "old"]), ok());
    for at in 0..3 {
        if at != leader {
            cluster.take(at).kill();
        }
    }
    for command in [&["GET", "k"][..], &["SET", "k", "new"], &["GET", "k"], &["DBSIZE"]] {
        let refusal = text(&client.call(command));
        let class = refusal.split(' ').next().unwrap();
        assert!(["CLUSTERDOWN", "INDOUBT"].contains(&class), "{command:?}: {refusal}");
    }
    assert!(cluster.server(leader).info("raft_role") != "leader", "a leader without a majority steps down");
    let Frame::Array(role) = client.call(&["ROLE"]) else { panic!("no list") };
    assert_eq!(role, [bulk("slave"), bulk(""), Frame::Integer(0), bulk("connect"), Frame::Integer(-1)]);
    // With a majority again it serves, and nothing has come of a refused write, unless its outcome was unknown.
    cluster.restart(cluster.servers.iter().position(Option::is_none).unwrap());
    wait_for("service", || matches!(client.call(&["GET", "k"]), Frame::Bulk(_)).then_some(()));
}

#[test]
fn a_paused_leader_that_wakes_answers_nothing_stale() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader();
    let other = cluster.other(leader);
    let mut old = cluster.server(leader).client();
    assert_eq!(old.call(&["SET", "k", "old"]), ok());
    cluster.server(leader).signal(Signal::STOP);
    // Already in its socket when it wakes, before it can know that it leads no more.
    for _ in 0..100 {
        old.send(&["GET", "k"]);
    }
    let mut new = cluster.server(other).client();
    assert_eq!(new.call(&["SET", "k", "new"]), ok());
    cluster.server(leader).signal(Signal::CONT);
    for _ in 0..100 {
        assert_eq!(old.receive(), Some(bulk("new")));
    }
}

/// Sixteen Clerks append to ten keys while the leader is killed again and again, then all servers at once. Afterwards
/// each acknowledged append is there exactly once, and those of one Clerk to one key stand in its order.
#[test]
fn sixteen_clerks_append_while_leaders_die() {
    const CLERKS: usize = 16;
    const KEYS: usize = 10;
    const KILLS: usize = 10;
    let mut cluster = Cluster::start(3);
    let servers: Vec<String> = cluster.plans.iter().map(|plan| format!("127.0.0.1:{}", plan.port)).collect();
    let over = AtomicBool::new(false);
    let acknowledged: Vec<Vec<(usize, String)>> = std::thread::scope(|scope| {
        let clerk = |clerk: usize| {
            let (servers, over) = (&servers, &over);
            scope.spawn(move || append_until(clerk, servers, over, KEYS))
        };
        let clerks: Vec<_> = (0..CLERKS).map(clerk).collect();
        for kill in 0..KILLS {
            let leader = cluster.leader();
            cluster.take(leader).kill();
            // Another one leads before the dead one is back.
            cluster.leader();
            cluster.restart(leader);
            println!("kill {} of {KILLS}: server {}", kill + 1, leader + 1);
        }
        for at in 0..3 {
            cluster.take(at).kill();
        }
        for at in 0..3 {
            cluster.restart(at);
        }
        cluster.leader();
        over.store(true, Ordering::Relaxed);
        clerks.into_iter().map(|clerk| clerk.join().unwrap()).collect()
    });
    let all = each_append_is_there_once(&mut cluster.server(0).client(), &acknowledged, KEYS);
    println!("{all} acknowledged appends, each there once");
    assert!(all > CLERKS * KILLS, "too few appends to prove anything: {all}");
}

/// Each acknowledged append is there exactly once, and those of one Clerk to one key stand in its order; how many there are.
#[track_caller]
pub(crate) fn each_append_is_there_once(
    client: &mut Client,
    acknowledged: &[Vec<(usize, String)>],
    keys: usize,
) -> usize {
    let mut all = 0;
    for key in 0..keys {
        let value = text(&client.call(&["GET", &format!("key{key}")]));
        let mut places: BTreeMap<&str, usize> = BTreeMap::new();
        for (place, word) in value.split_terminator(',').enumerate() {
            assert_eq!(places.insert(word, place), None, "{word} was appended twice to key {key}");
        }
        for words in acknowledged {
            let own: Vec<usize> = words
                .iter()
                .filter(|(at, _)| *at == key)
                .map(|(_, word)| *places.get(word.as_str()).unwrap_or_else(|| panic!("{word} is lost")))
                .collect();
            assert!(own.is_sorted(), "a Clerk's appends to key {key} stand out of order");
            all += own.len();
        }
    }
    all
}

/// What one Clerk has appended, and was told so, until it is over.
pub(crate) fn append_until(
    clerk: usize,
    servers: &[String],
    over: &AtomicBool,
    keys: usize,
) -> Vec<(usize, String)> {
    let connection = Clerk::connect(servers.iter().cloned()).unwrap();
    let mut acknowledged = Vec::new();
    let mut number = 0;
    while !over.load(Ordering::Relaxed) {
        number += 1;
        let key = (clerk + number) % keys;
        let word = format!("c{clerk}n{number}");
        match connection.append(format!("key{key}"), format!("{word},"), Duration::from_secs(60)) {
            Ok(_) => acknowledged.push((key, word)),
            Err(failure) => panic!("Clerk {clerk} gave up: {failure}"),
        }
    }
    acknowledged
}
