//! Who speaks in another server's name, for another cluster or with another folder is not heard, whatever it says.

use quorate_raft::{Body, Message, Position, Round, Term};
use quorate_replica::wire::PeerMessage;
use quorate_storage::ClusterId;

use super::*;

/// The first session that this server's gateway was given.
fn gateway_session(cluster: &Cluster, node: NodeId) -> quorate_replica::command::SessionKey {
    let log = cluster.servers[&node].replica.raft().unwrap();
    for entry in log.entries_after(Index::ZERO) {
        let Payload::Data(payload) = &entry.payload else { continue };
        let Ok(EntryPayload::Batch { items, .. }) = entry::parse(payload) else { continue };
        let openings = items.iter().filter_map(|item| match item {
            Item::OpenGateway { node, .. } => Some(*node),
            Item::Run(_) | Item::Check => None,
        });
        if let Some(place) = openings.into_iter().position(|opened| opened == node) {
            return quorate_replica::command::SessionKey {
                index: entry.position.index.0,
                place: place as u32,
            };
        }
    }
    panic!("its gateway has no session");
}

/// What a server really says about itself.
/// Two servers' commands arrive at the leader; the second server tells them in the first one's name. Were they believed,
/// the first would find commands in its name that it has not given, and stop; or its session closed.
#[test]
fn a_forward_in_another_servers_name_is_dropped() {
    let mut cluster = founded(3);
    for node in 1..=3 {
        assert_eq!(cluster.call(id(node), append("k", "x")), Reply::Integer(node as i64));
    }
    cluster.run(10);
    let leader = cluster.leader();
    let mut others = (1..=3).map(id).filter(|node| *node != leader);
    let (victim, impostor) = (others.next().unwrap(), others.next().unwrap());
    let write = entry::encode_write(&LoggedWrite::Plain(Command::Put {
        key: bytes("k"),
        value: bytes("forged"),
        condition: Condition::Always,
        get: false,
    }));
    let head = |node, first| entry::RunHead {
        session: gateway_session(&cluster, node),
        attempt: 1,
        acknowledged: Seq(0),
        first: Seq(first),
    };
    let honest = entry::run(head(impostor, 2), [&write].into_iter());
    let forged = entry::run(head(victim, 2), [&write].into_iter());
    let leaders = entry::run(head(leader, 2), [&write].into_iter());
    let opening = entry::open_gateway(victim, 77, 1);
    let last = |cluster: &Cluster| cluster.servers[&leader].replica.status().last;
    let before = last(&cluster);
    // One item in another's name is enough, wherever it stands.
    let mixed = [&honest[..], &forged[..]].concat();
    for items in [forged, leaders, opening, Bytes::from(mixed)] {
        let (cluster_id, incarnation) = true_name(&cluster, impostor);
        let envelope = PeerEnvelope {
            cluster: cluster_id,
            from: impostor,
            to: leader,
            incarnation,
            start: cluster.start_of(impostor),
            message: PeerMessage::Forward { items },
        };
        cluster.step(leader, Event::Peer(envelope));
        cluster.settle();
        assert_eq!(last(&cluster), before, "it came into the log");
    }
    for node in 1..=3 {
        assert_eq!(cluster.call(id(node), append("k", "x")), Reply::Integer(3 + node as i64));
    }
    assert_eq!(cluster.call(victim, get("k")), value("xxxxxx"));
}

/// Everything a server can say, said so that it would do harm.
fn hostile(incarnation: Incarnation) -> Vec<PeerMessage> {
    let raft = |body| PeerMessage::Raft(Message { term: Term(1_000), body });
    let last = Position::new(Term(1_000), Index(1_000));
    vec![
        raft(Body::Heartbeat { round: Round(1), commit: Index(1_000) }),
        raft(Body::PreVote { last }),
        raft(Body::Vote { last, is_transfer: false }),
        raft(Body::Appended { matched: Index(1_000) }),
        raft(Body::HeartbeatReply { round: Round(1_000), clock: u64::MAX }),
        PeerMessage::Forward { items: entry::open_gateway(id(1), 77, 1) },
        PeerMessage::ReadIndex { start: 1, counter: 1 },
        PeerMessage::ReadIndexReply { start: 1, counter: 1, index: Index(1_000) },
        PeerMessage::Refused { incarnation, known: Incarnation(999) },
        PeerMessage::Founded { members: vec![(id(1), Incarnation(1)), (id(2), Incarnation(2))] },
        PeerMessage::Founding { origin: None, seen: vec![(id(1), Incarnation(1))] },
    ]
}

/// What any server of the cluster may say.
fn asks(message: &PeerMessage) -> bool {
    if let PeerMessage::Raft(message) = message {
        return matches!(message.body, Body::Heartbeat { .. } | Body::PreVote { .. } | Body::Vote { .. });
    }
    matches!(message, PeerMessage::ReadIndexReply { .. })
}

#[test]
fn messages_of_a_foreign_cluster_or_folder_move_nobody() {
    let mut cluster = founded(3);
    assert_eq!(cluster.call(id(1), put("k", "v")), Reply::Ok);
    cluster.run(10);
    let term = |cluster: &Cluster, node| cluster.servers[&node].replica.raft().unwrap().term();
    let leader = cluster.leader();
    let in_term = term(&cluster, leader);
    for to in [1, 2, 3].map(id) {
        let from = id(to.get() % 3 + 1);
        let (own, known) = true_name(&cluster, from);
        let foreign = ClusterId::new(own.unwrap().get() ^ 1);
        let own_incarnation = true_name(&cluster, to).1;
        let strange = Incarnation(known.0 ^ 1);
        for (cluster_id, incarnation) in [(foreign, known), (None, known), (own, strange), (foreign, strange)]
        {
            // What asks may come from a leader that this server does not know yet, and pre-votes keep the peace.
            let is_unknown = cluster_id == own;
            for message in
                hostile(own_incarnation).into_iter().filter(|message| !is_unknown || !asks(message))
            {
                let start = cluster.start_of(from);
                let envelope = PeerEnvelope { cluster: cluster_id, from, to, incarnation, start, message };
                cluster.step(to, Event::Peer(envelope));
            }
        }
        let dropped = cluster.servers[&to].replica.status().dropped_messages;
        assert!(dropped >= 3 * 8 + 4, "{dropped} dropped");
    }
    cluster.run(10);
    for node in [1, 2, 3].map(id) {
        assert_eq!(term(&cluster, node), in_term);
        assert_eq!(cluster.servers[&node].replica.standing(), Standing::Member);
        assert_eq!(cluster.call(node, get("k")), value("v"));
    }
    assert_eq!(cluster.leader(), leader);
}
