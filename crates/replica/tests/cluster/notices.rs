//! Who is told at once of what is committed: where somebody waits for it.

use super::*;

/// The last index of the leader's log.
fn last(cluster: &Cluster) -> u64 {
    cluster.servers[&cluster.leader()].replica.status().last
}

#[test]
fn who_waits_is_told_at_once_and_others_with_the_next_message() {
    let mut cluster = founded(3);
    let leader = cluster.leader();
    let applied = |cluster: &Cluster, node: &NodeId| cluster.servers[node].replica.status().applied;
    let followers: Vec<NodeId> = cluster.servers.keys().copied().filter(|node| *node != leader).collect();
    let [one, other] = followers[..] else { panic!("two follow") };
    // Nobody has asked them anything for long.
    cluster.run(100);
    let before = last(&cluster);
    assert_eq!(cluster.call(leader, append("k", "a")), Reply::Integer(1));
    assert_eq!((applied(&cluster, &one), applied(&cluster, &other)), (before, before));
    // No tick passes: it is answered all the same.
    assert_eq!(cluster.call(one, append("k", "b")), Reply::Integer(2));
    assert_eq!((applied(&cluster, &one), applied(&cluster, &other)), (before + 2, before + 1));
    assert_eq!(cluster.call(other, get("k")), value("ab"));
    assert_eq!((applied(&cluster, &one), applied(&cluster, &other)), (before + 2, before + 2));
    // And without anything more, all of them know a heartbeat later.
    cluster.run(100);
    assert_eq!(cluster.call(leader, append("k", "c")), Reply::Integer(3));
    assert_eq!((applied(&cluster, &one), applied(&cluster, &other)), (before + 2, before + 2));
    cluster.run(5);
    assert_eq!((applied(&cluster, &one), applied(&cluster, &other)), (before + 3, before + 3));
}

/// One follower suffices to commit: the other gets the entries at the next tick, unless somebody waits at it.
#[test]
fn a_follower_that_is_spared_serves_its_clients_at_once() {
    let mut cluster = Cluster::configured(3, |config| config.raft.spares_followers = true);
    cluster.run(100);
    let leader = cluster.leader();
    let held = |cluster: &Cluster, node: &NodeId| cluster.servers[node].replica.status().last;
    let followers: Vec<NodeId> = cluster.servers.keys().copied().filter(|node| *node != leader).collect();
    let before = last(&cluster);
    assert_eq!(cluster.call(leader, append("k", "a")), Reply::Integer(1));
    let spared: Vec<&NodeId> = followers.iter().filter(|node| held(&cluster, node) == before).collect();
    let [spared] = spared[..] else { panic!("{} are spared", spared.len()) };
    let quick = followers.iter().find(|node| *node != spared).unwrap();
    assert_eq!(held(&cluster, quick), before + 1);
    // No tick passes.
    assert_eq!(cluster.call(*spared, get("k")), value("a"));
    assert_eq!(cluster.call(*spared, append("k", "b")), Reply::Integer(2));
    cluster.run(100);
    assert_eq!(cluster.call(leader, append("k", "c")), Reply::Integer(3));
    cluster.run(1);
    assert_eq!((held(&cluster, spared), held(&cluster, quick)), (last(&cluster), last(&cluster)));
    // Without the quick one the other takes its place.
    let quick = *followers.iter().find(|node| held(&cluster, node) == last(&cluster)).unwrap();
    cluster.cut.insert(quick);
    cluster.request(leader, 5, 5, append("k", "d"));
    cluster.run(2);
    assert_eq!(cluster.take_answers(leader), [(5, Reply::Integer(4))]);
}
