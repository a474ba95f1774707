//! A server on an older copy of its data folder has forgotten what it promised since: nobody takes its word, and it says so.

use quorate_raft::{Body, Message, Term};

use super::*;

/// Stops a server, and starts it on what its folder was.
fn put_back(cluster: &mut Cluster, node: NodeId, (identity, log, heard): (Identity, Restored, Starts)) {
    cluster.servers.remove(&node);
    cluster.network.clear();
    cluster.heard.insert(node, heard);
    cluster.start(3, identity, log);
}

/// What the folder of a server is now.
fn copy(cluster: &Cluster, node: NodeId) -> (Identity, Restored, Starts) {
    let server = &cluster.servers[&node];
    (server.identity.clone(), server.log.clone(), cluster.heard[&node].clone())
}

fn refusal(cluster: &Cluster, node: NodeId) -> Option<String> {
    match cluster.servers[&node].replica.standing() {
        Standing::Refused { why } => Some(why),
        Standing::Founding { .. }
        | Standing::Joining { .. }
        | Standing::Member
        | Standing::Removed { .. }
        | Standing::InDoubt { .. } => None,
    }
}

#[test]
fn a_server_on_an_older_copy_of_its_folder_is_refused_and_says_so() {
    let mut cluster = founded(3);
    assert_eq!(cluster.call(id(3), put("k", "v")), Reply::Ok);
    cluster.run(10);
    let older = copy(&cluster, id(3));
    // It is started again on its own folder, which is as it should be; then on the copy, whose next number is the same.
    let own = copy(&cluster, id(3));
    put_back(&mut cluster, id(3), own);
    cluster.run(100);
    assert_eq!(cluster.call(id(3), append("k", "w")), Reply::Integer(2));
    cluster.run(10);
    put_back(&mut cluster, id(3), older);
    cluster.request(id(3), 9, 1, append("k", "never"));
    cluster.request(id(3), 9, 2, get("k"));
    cluster.run(100);
    let why = refusal(&cluster, id(3)).expect("it is refused");
    assert!(why.contains("an older copy") && why.contains("start number 2, and this is number 2"), "{why}");
    assert_eq!(
        cluster.servers[&id(3)].notices.iter().filter(|notice| **notice == Notice::Warn(why.clone())).count(),
        1
    );
    // Whoever had asked it is told, and who asks it now.
    let mut answers = cluster.take_answers(id(3));
    answers.sort_by_key(|(tag, _)| *tag);
    let told = Reply::Error(ReplyError::NotServing(why));
    assert_eq!(answers, [(1, told.clone()), (2, told.clone())]);
    assert_eq!(cluster.call(id(3), get("k")), told);
    assert_eq!(cluster.call(id(1), get("k")), value("vw"), "what it was asked went nowhere");
}

/// The leader of a term that has voted in it for another, as far as it remembers for nobody: that would be two leaders.
#[test]
fn nothing_that_an_older_folder_says_is_taken() {
    let mut cluster = founded(3);
    cluster.run(10);
    let leader = cluster.leader();
    let [node, other] = (1..=3).map(id).filter(|node| *node != leader).collect::<Vec<_>>()[..] else {
        panic!("three servers")
    };
    let older = copy(&cluster, node);
    let own = copy(&cluster, node);
    put_back(&mut cluster, node, own);
    cluster.run(100);
    cluster.servers.remove(&node);
    let term = |cluster: &Cluster, node: NodeId| cluster.servers[&node].replica.raft().unwrap().term();
    let before = term(&cluster, other);
    let (identity, start) = (older.0.started(77), older.0.started(77).start());
    let (from, incarnation) = (node, identity.incarnation);
    let body =
        Body::Vote { last: cluster.servers[&leader].replica.raft().unwrap().last(), is_transfer: true };
    let message = PeerMessage::Raft(Message { term: Term(before.0 + 5), body });
    for to in [leader, other] {
        let (cluster_id, message) = (identity.cluster(), message.clone());
        let envelope = PeerEnvelope { cluster: cluster_id, from, to, incarnation, start, message };
        cluster.network.clear();
        cluster.step(to, Event::Peer(envelope));
        let said: Vec<_> = cluster.network.iter().filter(|envelope| envelope.to == from).collect();
        let refused = |envelope: &&&PeerEnvelope| matches!(envelope.message, PeerMessage::Outdated { start: of, .. } if of == start);
        assert_eq!(said.iter().filter(refused).count(), said.len(), "{said:?}");
        assert_eq!((term(&cluster, to), said.len()), (before, 1));
    }
}

/// A receiver that forgets a start it has believed would believe an older one later.
#[test]
fn a_new_start_is_stored_before_its_first_word_is_taken() {
    let mut cluster = founded(3);
    cluster.run(10);
    let leader = cluster.leader();
    let node = (1..=3).map(id).find(|node| *node != leader).unwrap();
    let identity = cluster.servers[&node].identity.clone();
    let start = identity.started(77).start();
    let introduced = PeerEnvelope {
        cluster: identity.cluster(),
        from: node,
        to: leader,
        incarnation: identity.incarnation,
        start,
        message: PeerMessage::Started { earlier: identity.draws.clone() },
    };
    let term = cluster.servers[&leader].replica.raft().unwrap().term();
    let said = |term: u64| {
        let message =
            PeerMessage::Raft(Message { term: Term(term), body: Body::VoteReply { granted: false } });
        let (cluster, incarnation) = (identity.cluster(), identity.incarnation);
        Event::Peer(PeerEnvelope { cluster, from: node, to: leader, incarnation, start, message })
    };
    let replica = &mut cluster.servers.get_mut(&leader).unwrap().replica;
    let asked = replica.step(cluster.now_ms, &mut vec![said(term.0 + 3)]);
    assert!(asked.send.iter().any(|envelope| envelope.message == PeerMessage::Introduce));
    assert_eq!(asked.store_starts, None, "which start that is, is to be said first");
    let actions = replica.step(cluster.now_ms, &mut vec![Event::Peer(introduced), said(term.0 + 3)]);
    let stored = actions.store_starts.expect("it is to be stored");
    assert_eq!(stored.get(node, identity.incarnation), Some(start));
    assert_eq!(replica.raft().unwrap().term(), term, "not taken yet");
    let actions = replica.step(cluster.now_ms, &mut vec![said(term.0 + 2), Event::StartsStored]);
    assert_eq!(actions.store_starts, None);
    assert_eq!(replica.raft().unwrap().term().0, term.0 + 3, "taken now");
}

/// What the disk has lost with a crash before it was synced, the next process hears anew.
#[test]
fn an_older_copy_is_known_however_often_it_is_started() {
    let mut cluster = founded(3);
    cluster.run(10);
    let older = copy(&cluster, id(3));
    let own = copy(&cluster, id(3));
    put_back(&mut cluster, id(3), own);
    cluster.run(200);
    let (mut identity, log, heard) = older;
    for draw in 900..905 {
        // Nobody hears of these: a crash takes each before it speaks.
        identity = identity.started(draw);
    }
    put_back(&mut cluster, id(3), (identity, log, heard));
    cluster.run(200);
    assert!(refusal(&cluster, id(3)).is_some_and(|why| why.contains("an older copy")));
}

#[test]
fn a_message_of_an_earlier_process_says_nothing_of_this_one() {
    let mut cluster = founded(3);
    cluster.run(10);
    let own = copy(&cluster, id(2));
    put_back(&mut cluster, id(2), own);
    cluster.run(50);
    let (identity, start) = (cluster.servers[&id(1)].identity.clone(), cluster.start_of(id(1)));
    let now = cluster.start_of(id(2));
    for refused in [Start { number: now.number - 1, ..now }, Start { draw: now.draw + 1, ..now }] {
        let message = PeerMessage::Outdated { start: refused, known: now };
        let (from, to, incarnation) = (id(1), id(2), identity.incarnation);
        cluster.step(
            to,
            Event::Peer(PeerEnvelope { cluster: identity.cluster(), from, to, incarnation, start, message }),
        );
        assert_eq!(refusal(&cluster, to), None);
    }
    assert_eq!(cluster.call(id(2), put("k", "v")), Reply::Ok);
}
