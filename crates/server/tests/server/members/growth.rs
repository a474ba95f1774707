//! A cluster that grows and shrinks under load, its leader removed on the way: nobody who appends, and no client of a server that
//! stays, notices more than a moment.

#![allow(clippy::print_stdout, reason = "shown where the test fails, to tell which step did")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::cases::{VOTE, column, join, members};
use crate::failover::{append_until, each_append_is_there_once};
use crate::support::{Client, Cluster, ok, wait_for};

const CLERKS: usize = 16;
const KEYS: usize = 10;
/// The longest that a client of a server that stays may wait.
const GAP_MAX: Duration = Duration::from_secs(1);

/// 3 → 5 → 7 → 3 servers. Sixteen Clerks append throughout, and a plain client of a server that stays sets a key again and again.
#[test]
fn a_cluster_grows_from_three_to_seven_and_shrinks_to_three_others() {
    let mut cluster = Cluster::start(3);
    let servers: Vec<String> = cluster.plans.iter().map(|plan| format!("127.0.0.1:{}", plan.port)).collect();
    let stays = cluster.plans[2].port;
    let over = AtomicBool::new(false);
    let (acknowledged, (calls, gap)) = std::thread::scope(|scope| {
        let (servers, over) = (&servers, &over);
        let clerks: Vec<_> =
            (0..CLERKS).map(|clerk| scope.spawn(move || append_until(clerk, servers, over, KEYS))).collect();
        let plain = scope.spawn(move || sets_until(stays, over));
        for id in 4..=7 {
            let new = join(&mut cluster, id);
            change(&cluster, &["add", &id.to_string(), &cluster.plans[new].peer_address()]);
        }
        change(&cluster, &["transfer", "1"]);
        for id in [1, 7, 2, 6] {
            change(&cluster, &["remove", &id.to_string()]);
        }
        over.store(true, Ordering::Relaxed);
        let acknowledged: Vec<_> = clerks.into_iter().map(|clerk| clerk.join().unwrap()).collect();
        (acknowledged, plain.join().unwrap())
    });
    let votes = column(&cluster, VOTE);
    assert_eq!(votes.keys().copied().collect::<Vec<_>>(), [3, 4, 5]);
    assert!(votes.values().all(|vote| vote == "voter"), "{votes:?}");
    for at in 2..=4 {
        let all = each_append_is_there_once(&mut cluster.server(at).client(), &acknowledged, KEYS);
        assert!(all > CLERKS * 8, "too few appends to prove anything: {all}");
        println!("{all} acknowledged appends, each there once on server {}", at + 1);
    }
    println!("{calls} calls of a plain client, the longest took {} ms", gap.as_millis());
    assert!(gap < GAP_MAX, "{gap:?}");
}

#[track_caller]
fn change(cluster: &Cluster, words: &[&str]) {
    let begun = Instant::now();
    wait_for("the change to be done", || {
        let (status, out, notes) = members(cluster, words);
        println!("{words:?}: {status} after {} ms: {out}{notes}", begun.elapsed().as_millis());
        (status == 0).then_some(())
    });
}

/// One call after the other, none answered with an error; how many, and how long the longest took.
fn sets_until(port: u16, over: &AtomicBool) -> (u64, Duration) {
    let mut client = Client::connect(port);
    let (mut calls, mut longest) = (0, Duration::ZERO);
    while !over.load(Ordering::Relaxed) {
        let begun = Instant::now();
        assert_eq!(client.call(&["SET", "plain", &calls.to_string()]), ok());
        longest = longest.max(begun.elapsed());
        calls += 1;
    }
    (calls, longest)
}
