//! What the tests of members share: the commands, what the leader says, and servers that wait to be let in.

use std::collections::BTreeMap;
use std::path::Path;

use quorate_resp::Frame;

use crate::ports::free_port;
use crate::support::{Client, Cluster, Plan, run, text, wait_for};

/// The fields of a map, sent as a list.
pub(super) fn fields(frame: &Frame) -> BTreeMap<String, Frame> {
    let Frame::Array(items) = frame else { panic!("no map: {frame:?}") };
    items.chunks_exact(2).map(|pair| (text(&pair[0]), pair[1].clone())).collect()
}

/// `quorate members` with these words: exit status, standard output, standard error.
pub(super) fn members(cluster: &Cluster, words: &[&str]) -> (i32, String, String) {
    let servers = cluster.addresses();
    let mut all = vec!["members"];
    all.extend(words);
    all.extend(["--servers", &servers, "--timeout", "20s"]);
    run(&all, b"")
}

/// The word of each member's line in this column, by id.
pub(super) fn column(cluster: &Cluster, column: usize) -> BTreeMap<u64, String> {
    let (status, out, notes) = members(cluster, &["list"]);
    assert_eq!(status, 0, "{notes}");
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    out.lines().map(words).map(|words| (words[0].parse().unwrap(), words[column].clone())).collect()
}

pub(super) const VOTE: usize = 2;
pub(super) const ADDRESS: usize = 7;

#[track_caller]
pub(super) fn done(cluster: &Cluster, words: &[&str]) -> String {
    let (status, out, notes) = members(cluster, words);
    assert_eq!((status, out.lines().last()), (0, Some("done")), "{words:?}: {out}{notes}");
    out
}

impl Plan {
    /// Where the other servers dial it.
    pub(super) fn peer_address(&self) -> String {
        format!("127.0.0.1:{}", self.peer_port)
    }
}

/// What `MEMBERS LIST` says where it is answered, by whoever leads; `None` while nobody does.
pub(super) fn report(cluster: &Cluster) -> Option<BTreeMap<String, Frame>> {
    let ports = cluster.servers.iter().flatten().map(|server| server.port);
    ports.into_iter().find_map(|port| {
        let reply = Client::try_connect(port)?.try_call(&["MEMBERS", "LIST"])?;
        matches!(reply, Frame::Array(_)).then(|| fields(&reply))
    })
}

/// The maps in this list of a report.
pub(super) fn rows(report: &BTreeMap<String, Frame>, list: &str) -> Vec<BTreeMap<String, Frame>> {
    let Frame::Array(rows) = &report[list] else { panic!("no list of {list}") };
    rows.iter().map(fields).collect()
}

pub(super) fn is_member(cluster: &Cluster, id: u64) -> bool {
    column(cluster, VOTE).contains_key(&id)
}

/// Starts a new server that knows no more than where the others are, and waits until the leader knows it; its place.
#[track_caller]
pub(super) fn join(cluster: &mut Cluster, id: u64) -> usize {
    let (port, peer_port) = (free_port(), free_port());
    let others: Vec<String> = cluster.plans.iter().map(Plan::peer_address).collect();
    let flags = ["--join", &others.join(","), "--peer-listen", &format!("127.0.0.1:{peer_port}")];
    let data = cluster.plans[0].data.parent().unwrap().join(format!("joined-{id}"));
    let plan =
        Plan { id, port, peer_port, peers: String::new(), data, flags: flags.map(String::from).to_vec() };
    cluster.servers.push(None);
    cluster.plans.push(plan);
    restart(cluster, cluster.plans.len() - 1);
    waits(cluster, id);
    cluster.plans.len() - 1
}

/// Waits until the leader knows that this server waits to be let in.
#[track_caller]
pub(super) fn waits(cluster: &Cluster, id: u64) {
    wait_for("a server that waits", || {
        let waiting = rows(&report(cluster)?, "waiting");
        waiting.iter().any(|row| row["id"] == Frame::Integer(id.cast_signed())).then_some(())
    });
}

/// Kills a server, and starts it with an empty folder.
#[track_caller]
pub(super) fn wipe(cluster: &mut Cluster, at: usize) {
    cluster.take(at).kill();
    let data: &Path = &cluster.plans[at].data;
    std::fs::remove_dir_all(data).unwrap();
    cluster.restart(at);
}

/// Starts a server that is down; one that was to be taken in may still wait for that.
#[track_caller]
pub(super) fn restart(cluster: &mut Cluster, at: usize) {
    assert!(cluster.servers[at].is_none(), "it is up");
    let mut server = cluster.plans[at].spawn();
    let line = server.ready_line();
    let ready = format!("ready id={} listen=127.0.0.1:{}", cluster.plans[at].id, cluster.plans[at].port);
    assert!(line.starts_with(&ready), "{line}the log says:\n{}", server.log());
    cluster.servers[at] = Some(server);
}
