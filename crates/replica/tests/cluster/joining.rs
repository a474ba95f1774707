//! A server that has no part in the cluster waits until it is taken in: a new one, one with an empty folder, one with an older
//! copy of its own, and one that was removed.

use quorate_replica::members::{Change, MembersAsk, MembersCall, MembersReply};

use super::*;

fn members(cluster: &mut Cluster, ask: MembersAsk) -> Reply {
    let leader = cluster.leader();
    let call = MembersCall { ask, neighbours: BTreeMap::new() };
    cluster.call(leader, Operation::Members(Box::new(call)))
}

/// Asks the leader for a change until it is begun; who was not heard yet is heard soon.
fn change(cluster: &mut Cluster, change: &Change) {
    for _ in 0..20 {
        let ask = MembersAsk::Change { change: change.clone(), is_forced: false };
        let reply = members(cluster, ask);
        if let Reply::Members(reply) = reply {
            assert!(matches!(*reply, MembersReply::Change { .. }), "{reply:?}");
            return;
        }
        assert!(matches!(reply, Reply::Error(ReplyError::NotServing(_))), "{reply:?}");
        cluster.run(50);
    }
    panic!("never taken");
}

fn joining(cluster: &Cluster, node: u64) -> String {
    let standing = cluster.servers[&id(node)].replica.standing();
    let Standing::Joining { why } = standing else { panic!("{standing:?}") };
    why
}

fn is_voter(cluster: &Cluster, node: u64) -> bool {
    let leader = cluster.leader();
    cluster.servers[&leader].replica.raft().unwrap().voters().contains(&id(node))
}

/// Until all have the same state, and this server votes.
fn until_it_votes(cluster: &mut Cluster, node: u64) {
    for _ in 0..40 {
        cluster.run(50);
        if is_voter(cluster, node) && cluster.digests().len() == 1 {
            return;
        }
    }
    panic!("it does not vote, or has not caught up");
}

#[test]
fn a_server_on_an_empty_folder_joins_by_itself_once_it_is_rebuilt() {
    let mut cluster = founded(3);
    assert_eq!(cluster.call(id(1), put("k", "v")), Reply::Ok);
    cluster.servers.remove(&id(3));
    cluster.heard.remove(&id(3));
    cluster.start(3, Identity::new(id(3), Incarnation(999)), Restored::default());
    cluster.run(200);
    assert!(joining(&cluster, 3).contains("`quorate members rebuild 3`"));
    change(&mut cluster, &Change::Rebuild { id: id(3) });
    until_it_votes(&mut cluster, 3);
    assert_eq!(cluster.call(id(3), append("k", "w")), Reply::Integer(2));
    assert_eq!(cluster.call(id(3), get("k")), value("vw"));
    // It is what it was told, also after a start.
    let server = cluster.servers.remove(&id(3)).unwrap();
    assert!(!server.identity.is_founder());
    cluster.start(3, server.identity, server.log);
    cluster.run(100);
    assert_eq!(cluster.call(id(3), get("k")), value("vw"));
    // And it counts: with another one away, a majority needs it.
    let away = cluster.leader();
    cluster.cut.insert(away);
    cluster.run(200);
    let other = if away == id(1) { id(2) } else { id(1) };
    assert_eq!(cluster.call(other, append("k", "x")), Reply::Integer(3));
}

#[test]
fn a_new_server_joins_by_itself_once_it_is_added() {
    let mut cluster = Cluster::configured(3, |config| {
        config.joins = config.id == id(4);
        config.address = format!("h:{}", config.id.get()).into();
    });
    cluster.run(100);
    assert_eq!(cluster.call(id(1), put("k", "v")), Reply::Ok);
    cluster.start(4, Identity::new(id(4), Incarnation(444)), Restored::default());
    assert_eq!(cluster.call(id(4), get("k")), Reply::Error(ReplyError::NotServing(joining(&cluster, 4))));
    cluster.run(100);
    assert!(joining(&cluster, 4).contains("`quorate members add 4 h:4`"), "{}", joining(&cluster, 4));
    let Reply::Members(list) = members(&mut cluster, MembersAsk::List) else { panic!("no list") };
    let MembersReply::Report(report) = *list else { panic!("no report") };
    assert_eq!(report.waiting.len(), 1);
    assert_eq!(report.waiting[0].command, "quorate members add 4 h:4");
    change(&mut cluster, &Change::Add { id: id(4), address: "h:4".into() });
    until_it_votes(&mut cluster, 4);
    assert_eq!(cluster.call(id(4), append("k", "w")), Reply::Integer(2));
}

#[test]
fn a_server_that_was_removed_stays_up_and_says_so() {
    let mut cluster = founded(3);
    cluster.run(20);
    let gone = (1..=3).map(id).find(|node| *node != cluster.leader()).unwrap();
    // It hears of it from whoever it speaks to.
    cluster.cut.insert(gone);
    change(&mut cluster, &Change::Remove { id: gone });
    cluster.run(100);
    cluster.cut.clear();
    cluster.run(200);
    let Standing::Removed { why } = cluster.servers[&gone].replica.standing() else {
        panic!("{:?}", cluster.servers[&gone].replica.standing())
    };
    assert!(
        why.contains("was removed") && why.contains(&format!("`quorate members add {}", gone.get())),
        "{why}"
    );
    assert_eq!(cluster.call(gone, get("k")), Reply::Error(ReplyError::NotServing(why)));
    let leader = cluster.leader();
    assert_eq!(cluster.call(leader, put("k", "v")), Reply::Ok);
}

/// Whoever says that a server was removed may only not have heard yet that it was added again. (Found as seed 100330 of the
/// simulator.)
#[test]
fn a_word_of_removal_counts_until_the_log_says_otherwise() {
    let mut cluster = founded(3);
    let leader = cluster.leader();
    let followers: Vec<NodeId> = (1..=3).map(id).filter(|node| *node != leader).collect();
    let (told, other) = (followers[0], followers[1]);
    let word = |cluster: &Cluster| {
        let (cluster_id, incarnation) = true_name(cluster, other);
        let index = cluster.servers[&leader].replica.raft().unwrap().last().index;
        let message = PeerMessage::Removed { incarnation: true_name(cluster, told).1, index };
        let start = cluster.start_of(other);
        Event::Peer(PeerEnvelope { cluster: cluster_id, from: other, to: told, incarnation, start, message })
    };
    let standing = |cluster: &Cluster| cluster.servers[&told].replica.standing();
    let goes_on = |address: &str| Change::SetAddress { id: other, address: address.into() };
    assert_eq!(cluster.call(leader, put("k", "v")), Reply::Ok);
    let event = word(&cluster);
    cluster.step(told, event);
    cluster.run(20);
    change(&mut cluster, &goes_on("h:20"));
    cluster.run(100);
    assert_eq!(standing(&cluster), Standing::Member, "its log has gone on before it believed that");

    assert_eq!(cluster.call(leader, put("k", "v")), Reply::Ok);
    let event = word(&cluster);
    cluster.step(told, event);
    cluster.deaf.insert(told);
    cluster.request(told, 1, 1, get("k"));
    cluster.run(100);
    let Standing::Removed { why } = standing(&cluster) else { panic!("{:?}", standing(&cluster)) };
    assert_eq!(cluster.take_answers(told), [(1, Reply::Error(ReplyError::NotServing(why.clone())))]);
    assert_eq!(cluster.call(told, get("k")), Reply::Error(ReplyError::NotServing(why)));
    cluster.deaf.clear();
    change(&mut cluster, &goes_on("h:21"));
    cluster.run(100);
    assert_eq!(standing(&cluster), Standing::Member);
    assert_eq!(cluster.call(told, get("k")), value("v"));
}

/// It hears nothing of it: when it is taken in, its log says first that it was removed. (Found as seeds 478 and 795 of the
/// simulator, with members that change.)
#[test]
fn a_server_that_was_removed_and_added_again_follows_its_log_to_the_end() {
    let mut cluster = Cluster::configured(3, |config| config.joins = config.id == id(4));
    cluster.run(100);
    cluster.start(4, Identity::new(id(4), Incarnation(444)), Restored::default());
    cluster.deaf.insert(id(4));
    let add = Change::Add { id: id(4), address: "h:4".into() };
    for step in [add.clone(), Change::Remove { id: id(4) }, add] {
        cluster.run(100);
        change(&mut cluster, &step);
        // More than one message holds: the log comes to it piece by piece.
        let large = "v".repeat(4 << 20);
        assert_eq!(cluster.call(id(1), put("k", &large)), Reply::Ok);
    }
    joining(&cluster, 4);
    cluster.deaf.clear();
    until_it_votes(&mut cluster, 4);
}

#[test]
fn a_server_on_an_older_copy_begins_anew_once_it_is_rebuilt() {
    let mut cluster = founded(3);
    assert_eq!(cluster.call(id(1), put("k", "v")), Reply::Ok);
    cluster.run(20);
    let server = cluster.servers.remove(&id(3)).unwrap();
    let (older, own) = ((server.identity.clone(), Restored::default()), (server.identity, server.log));
    cluster.start(3, own.0, own.1);
    cluster.run(200);
    cluster.servers.remove(&id(3));
    // All that it has voted for and acknowledged is gone.
    cluster.start(3, older.0.clone(), older.1);
    cluster.run(200);
    assert!(matches!(cluster.servers[&id(3)].replica.standing(), Standing::Refused { .. }));
    change(&mut cluster, &Change::Rebuild { id: id(3) });
    cluster.run(200);
    let fresh = cluster.anew.remove(&id(3)).expect("its folder begins anew");
    assert_ne!(fresh.incarnation, older.0.incarnation);
    assert_eq!(cluster.anew, BTreeMap::new(), "once");
    cluster.servers.remove(&id(3));
    cluster.heard.remove(&id(3));
    cluster.start(3, fresh, Restored::default());
    until_it_votes(&mut cluster, 3);
    assert_eq!(cluster.call(id(3), get("k")), value("v"));
}

/// A leader that takes its leave with the entry that removes it would leave the others to find out, by an election timeout. Here
/// no time passes, and clients never pause, so that no other server is level with it before it stops proposing.
#[test]
fn a_leader_that_is_removed_hands_over_before_it_goes() {
    let mut cluster = founded(3);
    // Long enough to have heard everybody.
    cluster.run(150);
    let old = cluster.leader();
    let other = (1..=3).map(id).find(|node| *node != old).unwrap();
    let ask = MembersAsk::Change { change: Change::Remove { id: old }, is_forced: false };
    let call = MembersCall { ask, neighbours: BTreeMap::new() };
    cluster.request(old, 1, 1, Operation::Members(Box::new(call)));
    let is_led_by_another = |cluster: &Cluster| {
        let raft = cluster.servers[&other].replica.raft().unwrap();
        raft.leader().is_some_and(|leader| leader != old)
    };
    for tag in 2..1_000 {
        if is_led_by_another(&cluster) {
            break;
        }
        cluster.request(old, 2, tag, put("k", "v"));
        for envelope in std::mem::take(&mut cluster.network) {
            cluster.step(envelope.to, Event::Peer(envelope));
        }
        for node in [1, 2, 3].map(id) {
            cluster.sync(node);
        }
    }
    assert!(is_led_by_another(&cluster));
    cluster.run(100);
    assert!(matches!(cluster.servers[&old].replica.standing(), Standing::Removed { .. }));
    assert_eq!(cluster.call(other, put("k", "v")), Reply::Ok);
}

/// All founders have left their old folders, and none was taken in yet: together they would be a cluster of their own, under the
/// ids of one that goes on elsewhere. (Found as seed 270 of the simulator, with members that change.)
#[test]
fn folders_that_begin_anew_found_no_cluster() {
    let mut cluster = founded(3);
    cluster.run(200);
    for node in 1..=3 {
        cluster.servers.remove(&id(node));
    }
    for node in 1..=3 {
        cluster.start(3, Identity::new(id(node), Incarnation(900 + node)), Restored::default());
    }
    cluster.run(200);
    for node in 1..=3 {
        assert!(!joining(&cluster, node).is_empty());
    }
}

/// A founder ends before it knows on its disk that the cluster is founded, and others have stored which process that was. The
/// next one must say what was before it although it is of no cluster yet. (Found as seed 7 of the simulator.)
#[test]
fn a_founder_that_does_not_know_it_yet_is_known_at_its_next_start() {
    let mut cluster = founded(3);
    cluster.run(200);
    let server = cluster.servers.remove(&id(3)).unwrap();
    let founding = Vec::new();
    cluster.heard.remove(&id(3));
    cluster.start(3, Identity { founding, ..server.identity }, Restored::default());
    cluster.run(200);
    assert!(matches!(cluster.servers[&id(3)].replica.standing(), Standing::Member));
}
