//! Three replicas in one process, with a network and disks that do as they are told.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use quorate_raft::{Index, NodeId, Payload, Restored, Role};
use quorate_replica::command::{
    Command, Condition, Operation, Query, Reply, ReplyError, Seq, SessionId, Write,
};
use quorate_replica::entry::{self, EntryPayload, Item, LoggedWrite, StateLimits};
use quorate_replica::keeper::Keeper;
use quorate_replica::replica::{Compaction, DiskSpace, DiskWrite, Notice};
use quorate_replica::transfer::SnapshotJob;
use quorate_replica::value::Value;
use quorate_replica::wire::{self, PeerEnvelope, PeerMessage};
use quorate_replica::{Actions, Answer, Config, ConnectionId, Event, Machine, Replica, Request, Standing};
use quorate_storage::{ClusterId, Identity, Incarnation, SimDisk, Start, Starts};

struct Server {
    replica: Replica,
    identity: Identity,
    /// What names its process.
    start: Start,
    disk: VecDeque<DiskWrite>,
    log: Restored,
    answers: Vec<Answer>,
    notices: Vec<Notice>,
    /// What is to be done to snapshots, and was not begun.
    jobs: VecDeque<SnapshotJob>,
    keeper: Keeper,
    /// Where snapshots are.
    files: SimDisk,
}

struct Cluster {
    servers: BTreeMap<NodeId, Server>,
    /// What each has stored of the starts of others.
    heard: BTreeMap<NodeId, Starts>,
    /// What the folder of each is to become.
    anew: BTreeMap<NodeId, Identity>,
    network: VecDeque<PeerEnvelope>,
    cut: BTreeSet<NodeId>,
    /// Servers that hear nothing, and are heard.
    deaf: BTreeSet<NodeId>,
    /// Servers whose writes and questions get lost on the way to the leader.
    mute: BTreeSet<NodeId>,
    /// Servers whose disk syncs nothing.
    stopped: BTreeSet<NodeId>,
    now_ms: u64,
    starts: u64,
    /// Of every piece of a snapshot that was asked for, where it begins.
    pieces: Vec<u64>,
    /// Servers to whom the reports of others on their states come changed.
    misled: BTreeSet<NodeId>,
    /// Of every server that starts: bytes of the log, of its tail behind a snapshot, and of a snapshot in one message.
    bytes_max: (u64, u64, usize),
    /// What is asked of each server that starts.
    configure: fn(&mut Config),
}

fn id(number: u64) -> NodeId {
    NodeId::new(number).unwrap()
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

impl Cluster {
    fn new(size: u64) -> Self {
        Self::configured(size, |_| {})
    }

    fn configured(size: u64, configure: fn(&mut Config)) -> Self {
        let mut cluster = Self {
            servers: BTreeMap::new(),
            heard: BTreeMap::new(),
            anew: BTreeMap::new(),
            network: VecDeque::new(),
            cut: BTreeSet::new(),
            deaf: BTreeSet::new(),
            mute: BTreeSet::new(),
            stopped: BTreeSet::new(),
            now_ms: 1_000_000,
            starts: 0,
            pieces: Vec::new(),
            misled: BTreeSet::new(),
            bytes_max: (1 << 30, 0, 100),
            configure,
        };
        for number in 1..=size {
            let identity = Identity::new(id(number), Incarnation(100 + number));
            cluster.start(size, identity, Restored::default());
        }
        cluster
    }

    fn start(&mut self, size: u64, identity: Identity, log: Restored) {
        self.start_on(size, identity, log, SimDisk::new(), None);
    }

    fn start_on(
        &mut self,
        size: u64,
        identity: Identity,
        log: Restored,
        files: SimDisk,
        machine: Option<Box<Machine>>,
    ) {
        self.starts += 1;
        let mut identity = identity;
        identity = identity.started(self.starts);
        let node = identity.node;
        let start = identity.start();
        let heard = self.heard.entry(node).or_default().clone();
        let members = (1..=size).map(id).collect();
        let mut config = Config::new(node, members, self.starts, self.starts);
        (config.log_bytes_max, config.log_tail_bytes, config.snapshot_chunk_bytes) = self.bytes_max;
        // Nobody waits for a tick but where a test is about that.
        config.raft.spares_followers = false;
        (self.configure)(&mut config);
        let (replica, actions) =
            Replica::new(config, identity.clone(), heard, log.clone(), machine, self.now_ms);
        let server = Server {
            replica,
            identity,
            start,
            disk: VecDeque::new(),
            log,
            answers: Vec::new(),
            notices: Vec::new(),
            jobs: VecDeque::new(),
            keeper: Keeper::new(Arc::new(files.clone()), self.starts),
            files,
        };
        self.servers.insert(node, server);
        self.perform(node, actions);
    }

    /// The process that runs now, or for a server that there is none of, any.
    fn start_of(&self, node: NodeId) -> Start {
        self.servers.get(&node).map_or(Start { number: 1, draw: 1 }, |server| server.start)
    }

    fn step(&mut self, node: NodeId, event: Event) {
        let server = self.servers.get_mut(&node).unwrap();
        let actions = server.replica.step(self.now_ms, &mut vec![event]);
        self.perform(node, actions);
    }

    fn perform(&mut self, node: NodeId, actions: Actions) {
        let server = self.servers.get_mut(&node).unwrap();
        assert_eq!(actions.halt, None);
        server.disk.extend(actions.persist);
        server.answers.extend(actions.answers);
        server.notices.extend(actions.notices);
        server.jobs.extend(actions.snapshot_jobs);
        self.network.extend(actions.send);
        for envelope in actions.announce {
            let others = self.servers.keys().copied().filter(|to| *to != node);
            self.network.extend(others.map(|to| PeerEnvelope { to, ..envelope.clone() }));
        }
        if let Some(identity) = actions.begin_anew {
            self.anew.insert(node, identity);
        }
        if actions.goes_on {
            let server = self.servers.get_mut(&node).unwrap();
            let more = server.replica.step(self.now_ms, &mut Vec::new());
            self.perform(node, more);
        }
        let server = self.servers.get_mut(&node).unwrap();
        if let Some(identity) = actions.store_identity {
            server.identity = identity;
            self.step(node, Event::IdentityStored);
        }
        if let Some(starts) = actions.store_starts {
            self.heard.insert(node, starts);
            self.step(node, Event::StartsStored);
        }
        if let Some(Compaction { snapshot, through }) = actions.compact {
            // Writes that are under way come first, as on a disk.
            while self.sync(node) {}
            let server = self.servers.get_mut(&node).unwrap();
            assert!(quorate_storage::snapshot::list(&server.files).unwrap().contains(&snapshot));
            server.log.snapshot = snapshot;
            server.log.entries.retain(|entry| {
                let leaves = entry.position.index <= through;
                server.log.base = if leaves { entry.position } else { server.log.base };
                !leaves
            });
        }
    }

    fn sync(&mut self, node: NodeId) -> bool {
        let server = self.servers.get_mut(&node).unwrap();
        let Some(write) = server.disk.pop_front() else { return false };
        if let Some(hard_state) = write.hard_state {
            server.log.hard_state = hard_state;
        }
        if let Some(position) = write.reset_to {
            (server.log.base, server.log.snapshot) = (position, position);
            server.log.entries.clear();
        }
        if let Some(first) = write.entries.first() {
            server.log.entries.retain(|entry| entry.position.index < first.position.index);
            server.log.entries.extend(write.entries);
        }
        self.network.extend(write.send_after);
        self.step(node, Event::Persisted(write.write));
        true
    }

    /// Delivers and syncs until nothing moves.
    fn settle(&mut self) {
        loop {
            while let Some(envelope) = self.network.pop_front() {
                let is_lost = self.deaf.contains(&envelope.to) || self.cut.contains(&envelope.to);
                let asks =
                    matches!(envelope.message, PeerMessage::Forward { .. } | PeerMessage::ReadIndex { .. });
                let is_mute = asks && self.mute.contains(&envelope.from);
                if is_lost || is_mute || self.cut.contains(&envelope.from) {
                    continue;
                }
                let mut frame = BytesMut::new();
                wire::encode(&envelope, &mut frame);
                let mut decoded = wire::decode(&frame.freeze()).unwrap();
                assert_eq!(decoded, envelope);
                if let PeerMessage::CheckReport { digest, .. } = &mut decoded.message
                    && self.misled.contains(&decoded.to)
                {
                    *digest ^= 1;
                }
                if let PeerMessage::FetchSnapshot { offset, .. } = &decoded.message {
                    self.pieces.push(*offset);
                }
                self.step(decoded.to, Event::Peer(decoded));
            }
            let nodes: Vec<NodeId> = self.servers.keys().copied().collect();
            let mut moved = false;
            for node in nodes.into_iter().filter(|node| !self.stopped.contains(node)).collect::<Vec<_>>() {
                moved |= self.sync(node);
            }
            if !moved && self.network.is_empty() {
                return;
            }
        }
    }

    fn run(&mut self, ticks: u64) {
        for _ in 0..ticks {
            self.now_ms += 10;
            let nodes: Vec<NodeId> = self.servers.keys().copied().collect();
            for node in nodes {
                self.step(node, Event::Tick);
            }
            self.settle();
        }
    }

    fn leader(&self) -> NodeId {
        let leads = |server: &Server| server.replica.raft().is_some_and(|raft| raft.role() == Role::Leader);
        let live = self.servers.iter().filter(|(node, _)| !self.cut.contains(node));
        let mut leaders = live.filter(|(_, server)| leads(server));
        let (leader, _) = leaders.next().expect("nobody leads");
        assert!(leaders.next().is_none(), "two lead");
        *leader
    }

    fn request(&mut self, node: NodeId, connection: u64, tag: u64, operation: Operation) {
        self.step(node, Event::Request(Request { connection: ConnectionId(connection), tag, operation }));
    }

    fn call(&mut self, node: NodeId, operation: Operation) -> Reply {
        self.servers.get_mut(&node).unwrap().answers.clear();
        self.request(node, 1, 7, operation);
        self.settle();
        let mut answers = self.take_answers(node);
        assert_eq!(answers.len(), 1, "{answers:?}");
        answers.remove(0).1
    }

    fn take_answers(&mut self, node: NodeId) -> Vec<(u64, Reply)> {
        let answers = std::mem::take(&mut self.servers.get_mut(&node).unwrap().answers);
        answers.into_iter().map(|answer| (answer.tag, answer.reply)).collect()
    }

    fn digests(&self) -> BTreeSet<u64> {
        self.servers.values().filter_map(|server| server.replica.machine()).map(Machine::digest).collect()
    }
}

fn put(key: &str, value: &str) -> Operation {
    plain(Command::Put { key: bytes(key), value: bytes(value), condition: Condition::Always, get: false })
}

fn append(key: &str, value: &str) -> Operation {
    plain(Command::Append { key: bytes(key), value: bytes(value) })
}

fn plain(command: Command) -> Operation {
    Operation::Write(Write::Plain(command))
}

fn get(key: &str) -> Operation {
    Operation::Read(Query::Get { key: bytes(key) })
}

fn value(text: &str) -> Reply {
    Reply::Value(Value::copy_from(text.as_bytes()))
}

fn once(session: SessionId, seq: u64, acknowledged: u64, command: Command) -> Operation {
    Operation::Write(Write::Once { session, seq: Seq(seq), acknowledged: Seq(acknowledged), command })
}

fn true_name(cluster: &Cluster, node: NodeId) -> (Option<ClusterId>, Incarnation) {
    let identity = &cluster.servers[&node].identity;
    (identity.cluster(), identity.incarnation)
}

fn founded(size: u64) -> Cluster {
    let mut cluster = Cluster::new(size);
    cluster.run(100);
    cluster
}

#[test]
fn every_server_takes_every_command() {
    let mut cluster = founded(3);
    for node in 1..=3 {
        let text = format!("v{node}");
        assert_eq!(cluster.call(id(node), put("k", &text)), Reply::Ok);
        for other in 1..=3 {
            assert_eq!(cluster.call(id(other), get("k")), value(&text));
        }
    }
    cluster.run(10);
    assert_eq!(cluster.digests().len(), 1);
}

#[test]
fn a_single_server_serves() {
    let mut cluster = founded(1);
    assert_eq!(cluster.call(id(1), append("k", "ab")), Reply::Integer(2));
    assert_eq!(cluster.call(id(1), get("k")), value("ab"));
}

#[test]
fn pipelined_commands_of_a_connection_keep_their_order() {
    let mut cluster = founded(3);
    for node in 1..=3 {
        let key = format!("k{node}");
        let node = id(node);
        let operations =
            [get(&key), append(&key, "a"), get(&key), append(&key, "b"), append(&key, "c"), get(&key)];
        for (tag, operation) in (0..).zip(operations) {
            cluster.request(node, 5, tag, operation);
        }
        cluster.settle();
        let mut answers = cluster.take_answers(node);
        answers.sort_by_key(|(tag, _)| *tag);
        let replies: Vec<Reply> = answers.into_iter().map(|(_, reply)| reply).collect();
        let expected =
            [Reply::Nil, Reply::Integer(1), value("a"), Reply::Integer(2), Reply::Integer(3), value("abc")];
        assert_eq!(replies, expected);
    }
}

#[test]
fn a_command_under_a_session_runs_once() {
    let mut cluster = founded(3);
    let Reply::Session(session) = cluster.call(id(1), Operation::Write(Write::OpenSession { ttl_ms: None }))
    else {
        panic!("no session");
    };
    assert_eq!(session.to_string().parse(), Ok(session));
    let command = Command::Append { key: bytes("k"), value: bytes("x") };
    assert_eq!(cluster.call(id(2), once(session, 1, 0, command.clone())), Reply::Integer(1));
    assert_eq!(cluster.call(id(3), once(session, 1, 0, command.clone())), Reply::Integer(1));
    assert_eq!(cluster.call(id(1), get("k")), value("x"));
    let other = Command::Append { key: bytes("k"), value: bytes("y") };
    let error = |error| Reply::Error(error);
    assert_eq!(
        cluster.call(id(1), once(session, 1, 0, other)),
        error(ReplyError::SequenceReused { seq: Seq(1) })
    );
    assert_eq!(cluster.call(id(1), once(session, 3, 1, command.clone())), Reply::Integer(2));
    assert_eq!(
        cluster.call(id(1), once(session, 1, 0, command.clone())),
        error(ReplyError::StaleSequence { seq: Seq(1) })
    );
    assert_eq!(
        cluster.call(id(1), once(session, 1026, 1, command.clone())),
        error(ReplyError::WindowFull { limit: 1024 })
    );
    let close = Operation::Write(Write::CloseSession { session });
    assert_eq!(cluster.call(id(2), close.clone()), Reply::Ok);
    assert_eq!(cluster.call(id(2), close), Reply::Ok);
    assert_eq!(cluster.call(id(1), once(session, 4, 1, command)), error(ReplyError::SessionExpired));
}

#[test]
fn a_session_expires_by_replicated_time() {
    let mut cluster = founded(3);
    let open = Operation::Write(Write::OpenSession { ttl_ms: Some(2_000) });
    let Reply::Session(session) = cluster.call(id(1), open) else { panic!("no session") };
    let command = Command::Append { key: bytes("k"), value: bytes("x") };
    cluster.run(150);
    assert_eq!(cluster.call(id(1), once(session, 1, 0, command.clone())), Reply::Integer(1));
    cluster.run(150);
    assert_eq!(cluster.call(id(1), once(session, 2, 1, command.clone())), Reply::Integer(2));
    cluster.run(400);
    let expired = Reply::Error(ReplyError::SessionExpired);
    assert_eq!(cluster.call(id(1), once(session, 3, 2, command)), expired);
    let sessions = |cluster: &Cluster| cluster.servers[&id(2)].replica.status().sessions;
    assert_eq!(sessions(&cluster), 0);
}

#[test]
fn a_session_that_would_live_too_long_is_not_opened() {
    let mut cluster = founded(3);
    let open = |ttl_ms| Operation::Write(Write::OpenSession { ttl_ms: Some(ttl_ms) });
    let day_ms = StateLimits::default().session_ttl_ms_max;
    assert_eq!(day_ms, 86_400_000);
    let before = cluster.servers[&cluster.leader()].replica.status().last;
    for ttl_ms in [day_ms + 1, u64::MAX] {
        let Reply::Error(error) = cluster.call(id(1), open(ttl_ms)) else { panic!("it was opened") };
        assert_eq!(error, ReplyError::TtlTooLong { ttl_ms, limit_ms: day_ms });
        assert!(error.to_string().starts_with("ERR ") && error.to_string().contains("86400000"), "{error}");
    }
    let after = cluster.servers[&cluster.leader()].replica.status().last;
    assert_eq!(after, before, "what apply would refuse anyway came into the log");
    assert!(matches!(cluster.call(id(1), open(day_ms)), Reply::Session(_)));
}

/// Only the log decides: what a server has not heard of yet is not "expired" to it.
#[test]
fn a_lagging_server_does_not_call_a_session_expired() {
    let mut cluster = founded(3);
    let leader = cluster.leader();
    let lagging = (1..=3).map(id).find(|node| *node != leader).unwrap();
    cluster.cut.insert(lagging);
    let Reply::Session(session) = cluster.call(leader, Operation::Write(Write::OpenSession { ttl_ms: None }))
    else {
        panic!("no session");
    };
    let command = Command::Append { key: bytes("k"), value: bytes("v") };
    cluster.request(lagging, 9, 1, once(session, 1, 0, command));
    cluster.run(5);
    assert_eq!(cluster.take_answers(lagging), []);
    cluster.cut.clear();
    cluster.run(100);
    assert_eq!(cluster.take_answers(lagging), [(1, Reply::Integer(1))]);
}

#[test]
fn a_change_of_leader_in_mid_flight_is_invisible_to_a_plain_client() {
    let mut cluster = founded(3);
    let old = cluster.leader();
    let follower = cluster.servers.keys().copied().find(|node| *node != old).unwrap();
    assert_eq!(cluster.call(follower, append("k", "0")), Reply::Integer(1));
    cluster.cut.insert(old);
    for (tag, text) in (1..).zip(["1", "2", "3"]) {
        cluster.request(follower, 9, tag, append("k", text));
    }
    cluster.request(follower, 9, 4, get("k"));
    cluster.settle();
    assert_eq!(cluster.take_answers(follower), []);
    cluster.run(150);
    let mut answers = cluster.take_answers(follower);
    answers.sort_by_key(|(tag, _)| *tag);
    let expected =
        [(1, Reply::Integer(2)), (2, Reply::Integer(3)), (3, Reply::Integer(4)), (4, value("0123"))];
    assert_eq!(answers, expected);
    cluster.cut.clear();
    cluster.run(100);
    assert_eq!(cluster.call(old, get("k")), value("0123"));
    assert_eq!(cluster.digests().len(), 1);
}

#[test]
fn a_minority_answers_nothing_and_then_says_what_it_knows() {
    let mut cluster = founded(3);
    let old = cluster.leader();
    cluster.cut.insert(old);
    cluster.request(old, 1, 1, put("k", "lost?"));
    cluster.request(old, 2, 2, get("k"));
    cluster.settle();
    assert_eq!(cluster.take_answers(old), []);
    cluster.run(200);
    cluster.request(old, 3, 3, put("k", "never sent"));
    cluster.run(320);
    assert_eq!(
        cluster.take_answers(old),
        [
            (2, Reply::Error(ReplyError::ClusterDown)),
            (3, Reply::Error(ReplyError::ClusterDown)),
            (1, Reply::Error(ReplyError::InDoubt)),
        ]
    );
    // In doubt means now or later: the write takes effect once the server is back.
    cluster.cut.clear();
    cluster.run(100);
    assert_eq!(cluster.call(old, get("k")), value("lost?"));
}

#[test]
fn all_restart_and_everything_is_there() {
    let mut cluster = founded(3);
    for round in 0..20 {
        assert_eq!(cluster.call(id(round % 3 + 1), append("k", "x")), Reply::Integer(round as i64 + 1));
    }
    let servers = std::mem::take(&mut cluster.servers);
    cluster.network.clear();
    for server in servers.into_values() {
        cluster.start(3, server.identity, server.log);
    }
    cluster.run(100);
    for node in 1..=3 {
        assert_eq!(cluster.call(id(node), get("k")), value(&"x".repeat(20)));
    }
    assert_eq!(cluster.digests().len(), 1);
}

#[test]
fn an_empty_folder_under_a_known_id_is_refused_while_the_others_serve() {
    let mut cluster = founded(3);
    assert_eq!(cluster.call(id(1), put("k", "v")), Reply::Ok);
    cluster.servers.remove(&id(3));
    cluster.network.clear();
    cluster.start(3, Identity::new(id(3), Incarnation(999)), Restored::default());
    cluster.run(200);
    assert!(matches!(cluster.servers[&id(3)].replica.standing(), Standing::Joining { .. }));
    let reply = cluster.call(id(3), get("k"));
    assert!(
        matches!(&reply, Reply::Error(ReplyError::NotServing(why)) if why.contains("forgotten its votes") && why.contains("`quorate members rebuild 3`"))
    );
    for node in 1..=2 {
        assert_eq!(cluster.call(id(node), append("k", "w")), Reply::Integer(1 + node as i64));
        assert_eq!(cluster.call(id(node), get("k")), value(&format!("v{}", "w".repeat(node as usize))));
    }
}

#[test]
fn founding_waits_for_every_member_and_says_for_whom() {
    let mut cluster = Cluster::new(3);
    cluster.cut.insert(id(3));
    cluster.run(200);
    let reply = cluster.call(id(1), get("k"));
    let waits = |why: &str| why.contains("waiting for server 2, 3") || why.contains("waiting for server 3");
    assert!(matches!(&reply, Reply::Error(ReplyError::NotServing(why)) if waits(why)), "{reply:?}");
    cluster.cut.clear();
    cluster.run(100);
    assert_eq!(cluster.call(id(1), put("k", "v")), Reply::Ok);
}

#[path = "cluster/backups.rs"]
mod backups;
#[path = "cluster/bounds.rs"]
mod bounds;
#[path = "cluster/checks.rs"]
mod checks;
#[path = "cluster/gateways.rs"]
mod gateways;
#[path = "cluster/impostors.rs"]
mod impostors;
#[path = "cluster/joining.rs"]
mod joining;
#[path = "cluster/limits.rs"]
mod limits;
#[path = "cluster/log_memory.rs"]
mod log_memory;
#[path = "cluster/notices.rs"]
mod notices;
#[path = "cluster/older_folders.rs"]
mod older_folders;
#[path = "cluster/snapshots.rs"]
mod snapshots;
