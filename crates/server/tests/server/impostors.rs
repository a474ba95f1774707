//! Who speaks in another server's name, for another cluster or with another folder: none of it stops a server or moves
//! it.

use bytes::{BufMut, BytesMut};
use quorate_raft::{Body, Index, Message, NodeId, Position, Round, Term};
use quorate_replica::wire::{self, PeerEnvelope, PeerMessage};
use quorate_storage::{ClusterId, Incarnation, Start};

use crate::greetings::Greeting;
use crate::support::{Client, Cluster, ok, wait_for};

/// The id of the server at this place.
fn id(at: usize) -> NodeId {
    NodeId::new(at as u64 + 1).unwrap()
}

fn cluster_of(cluster: &Cluster, at: usize) -> ClusterId {
    let digits = cluster.server(at).info("quorate_cluster");
    ClusterId::new(u128::from_str_radix(&digits, 16).unwrap()).unwrap()
}

fn incarnation_of(cluster: &Cluster, at: usize) -> Incarnation {
    Incarnation(u64::from_str_radix(&cluster.server(at).info("quorate_incarnation"), 16).unwrap())
}

fn greeting(cluster: ClusterId, from: NodeId, to: NodeId) -> BytesMut {
    Greeting::new(from.get(), to.get(), cluster.get()).encode()
}

fn frame(envelope: &PeerEnvelope) -> BytesMut {
    let mut message = BytesMut::new();
    wire::encode(envelope, &mut message);
    let mut bytes = BytesMut::new();
    bytes.put_u32_le(message.len() as u32);
    bytes.put_slice(&message);
    bytes
}

/// A term that no cluster reaches in a test.
const HOSTILE_TERM_MIN: u64 = 1_000;

/// What would depose a leader, were it believed: heartbeats and campaigns of later terms, and the word that this server's
/// folder is unknown.
fn hostile() -> Vec<PeerMessage> {
    let raft = |term, body| PeerMessage::Raft(Message { term: Term(term), body });
    let last = Position::new(Term(HOSTILE_TERM_MIN), Index(1_000));
    vec![
        raft(HOSTILE_TERM_MIN, Body::Heartbeat { round: Round(1), commit: Index(1_000) }),
        raft(2 * HOSTILE_TERM_MIN, Body::PreVote { last }),
        raft(3 * HOSTILE_TERM_MIN, Body::Vote { last, is_transfer: false }),
        raft(4 * HOSTILE_TERM_MIN, Body::HeartbeatReply { round: Round(1), clock: u64::MAX }),
        PeerMessage::Refused { incarnation: Incarnation(1), known: Incarnation(2) },
        PeerMessage::Founded { members: vec![(id(0), Incarnation(1)), (id(1), Incarnation(2))] },
    ]
}

fn counter(cluster: &Cluster, at: usize, field: &str) -> u64 {
    cluster.server(at).info(field).parse().unwrap()
}

/// Whether all servers serve as if nothing had been said. (On a busy machine leaders may change of themselves, but not into
/// the terms of [`hostile`].)
#[track_caller]
fn check_unmoved(cluster: &Cluster) {
    for at in 0..3 {
        assert_eq!(cluster.server(at).client().call(&["SET", "k", "v"]), ok());
        assert!(counter(cluster, at, "raft_term") < HOSTILE_TERM_MIN, "{}", cluster.server(at).log());
        assert_eq!(cluster.server(at).info("quorate_standing"), "member");
    }
}

#[test]
fn greetings_of_a_foreign_cluster_stop_nobody() {
    let cluster = Cluster::start(3);
    let target = cluster.leader();
    let foreign = ClusterId::new(cluster_of(&cluster, target).get() ^ 1).unwrap();
    let before = counter(&cluster, target, "quorate_peer_connections_refused");
    // All the others, again and again: a majority of --peers, if their word were believed.
    let others: Vec<usize> = (0..3).filter(|at| *at != target).collect();
    for round in 0..3 {
        for other in &others {
            let mut caller = Client::connect(cluster.plans[target].peer_port);
            caller.try_send_raw(&greeting(foreign, id(*other), id(target)));
            // The server's own greeting, and the end.
            assert!(!caller.receive_raw_bytes().is_empty(), "round {round}");
        }
    }
    wait_for("six refusals", || {
        (counter(&cluster, target, "quorate_peer_connections_refused") >= before + 6).then_some(())
    });
    wait_for("a sentence in the log", || {
        cluster.server(target).log().contains("belongs to cluster").then_some(())
    });
    check_unmoved(&cluster);
}

#[test]
fn messages_of_a_foreign_cluster_or_folder_are_dropped_and_counted() {
    let cluster = Cluster::start(3);
    let target = cluster.leader();
    let from = cluster.other(target);
    let own = cluster_of(&cluster, target);
    let known = incarnation_of(&cluster, from);
    let foreign = ClusterId::new(own.get() ^ 1);
    let strange = Incarnation(known.0 ^ 1);
    let strangers = [(foreign, known), (None, known), (Some(own), strange), (foreign, Incarnation(7))];
    for (cluster_named, incarnation) in strangers {
        let before = counter(&cluster, target, "quorate_dropped_messages");
        // In one piece: between two, the true server might dial anew and take its place back.
        let mut bytes = greeting(own, id(from), id(target));
        let mut messages = hostile();
        if cluster_named == Some(own) {
            // What asks may come from a leader that this server does not know yet; what answers counts for nothing.
            messages = vec![messages.swap_remove(3); 4];
        }
        for message in messages {
            let (from, to) = (id(from), id(target));
            let start = Start::default();
            let envelope = PeerEnvelope { cluster: cluster_named, from, to, incarnation, start, message };
            bytes.extend(frame(&envelope));
        }
        let mut caller = Client::connect(cluster.plans[target].peer_port);
        caller.try_send_raw(&bytes);
        wait_for("four dropped messages", || {
            (counter(&cluster, target, "quorate_dropped_messages") >= before + 4).then_some(())
        });
        drop(caller);
    }
    check_unmoved(&cluster);
}

/// The connection says who speaks: a message in another's name is none of its sender's.
#[test]
fn a_message_in_another_servers_name_ends_the_connection() {
    let cluster = Cluster::start(3);
    let target = cluster.leader();
    let from = cluster.other(target);
    let named = (0..3).find(|at| *at != target && *at != from).unwrap();
    let own = cluster_of(&cluster, target);
    let before = counter(&cluster, target, "quorate_peer_connections_refused");
    for message in hostile() {
        // It would be believed, came it from the server it names.
        let envelope = PeerEnvelope {
            cluster: Some(own),
            from: id(named),
            to: id(target),
            incarnation: incarnation_of(&cluster, named),
            start: Start::default(),
            message,
        };
        let mut bytes = greeting(own, id(from), id(target));
        bytes.extend(frame(&envelope));
        let mut caller = Client::connect(cluster.plans[target].peer_port);
        caller.try_send_raw(&bytes);
        caller.receive_raw_bytes();
    }
    wait_for("a refusal each", || {
        let refused = counter(&cluster, target, "quorate_peer_connections_refused");
        (refused >= before + hostile().len() as u64).then_some(())
    });
    check_unmoved(&cluster);
}
