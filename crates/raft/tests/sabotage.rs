//! Bugs put back: what each does to a group that does well without it. Those that need more than a few steps to show are
//! the simulator's.
#![cfg(feature = "sabotage")]

mod harness;

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use harness::{Cluster, node_id, test_limits};
use quorate_raft::sabotage::{Bug, put_back};
use quorate_raft::{Entry, HardState, Index, Payload, Position, Role, Term};

fn at(term: u64, index: u64) -> Position {
    Position::new(Term(term), Index(index))
}

/// A server that starts in this term from a snapshot, and entries of these terms behind it.
fn start(cluster: &mut Cluster, id: u64, term: u64, snapshot: Position, terms: &[u64]) {
    cluster.crash(node_id(id), 0);
    let disk = &mut cluster.servers.get_mut(&node_id(id)).expect("a server").disk;
    disk.hard_state = HardState { term: Term(term), vote: None };
    (disk.base, disk.snapshot) = (snapshot, snapshot);
    let positions = terms.iter().zip(snapshot.index.0 + 1..).map(|(&term, index)| at(term, index));
    let payload = Payload::Data(Bytes::from_static(b"x"));
    disk.entries = positions.map(|position| Entry { position, payload: payload.clone() }).collect();
    cluster.start(node_id(id));
}

fn elect(cluster: &mut Cluster, id: u64) {
    while cluster.node(node_id(id)).role() == Role::Follower {
        cluster.tick(node_id(id));
    }
    cluster.deliver_all();
    assert_eq!(cluster.leader(), Some(node_id(id)));
}

/// Whether `story` ends well, with this bug in every node.
fn ends_well(bug: Option<Bug>, story: fn()) -> bool {
    put_back(bug);
    let outcome = catch_unwind(AssertUnwindSafe(story));
    put_back(None);
    outcome.is_ok()
}

#[track_caller]
fn is_found(bug: Bug, story: fn()) {
    assert!(ends_well(None, story), "the story is wrong without {bug:?}");
    assert!(!ends_well(Some(bug), story), "{bug:?} does nothing");
}

#[test]
fn a_snapshot_over_newer_entries_is_found() {
    is_found(Bug::InstallsOverNewer, || {
        let mut cluster = Cluster::new(3, 1, test_limits());
        elect(&mut cluster, 1);
        for _ in 0..3 {
            cluster.step(node_id(1), quorate_raft::Input::Propose { payload: Bytes::from_static(b"x") });
        }
        cluster.deliver_all();
        cluster.install(node_id(3), at(1, 2));
        assert_eq!(cluster.node(node_id(3)).applied(), Index(4));
    });
}

#[test]
fn a_leader_that_probes_for_ever_is_found() {
    is_found(Bug::ProbesWithPurgedLog, || {
        let mut cluster = Cluster::new(3, 1, test_limits());
        start(&mut cluster, 1, 2, at(2, 5), &[]);
        start(&mut cluster, 2, 2, at(2, 5), &[]);
        elect(&mut cluster, 1);
        for _ in 0..1_000 {
            cluster.tick(node_id(1));
            cluster.deliver_all();
            if let Some(fetch) = cluster.servers[&node_id(3)].fetch {
                cluster.install(node_id(3), fetch.last);
            }
        }
        assert_eq!(cluster.node(node_id(3)).commit(), Index(6), "it never caught up");
    });
}

/// n3 led term 3, and n5 heard of it; the others never did, and went on from another entry at index 3.
#[test]
fn a_conflicting_suffix_is_found() {
    is_found(Bug::KeepsConflictingSuffix, || {
        let mut cluster = Cluster::new(5, 1, test_limits());
        for id in [1, 2, 4] {
            start(&mut cluster, id, 4, at(2, 3), &[4]);
        }
        for id in [3, 5] {
            start(&mut cluster, id, 3, Position::ZERO, &[1, 3, 3, 3, 3]);
        }
        cluster.cut = [(node_id(1), node_id(5)), (node_id(5), node_id(1))].into();
        elect(&mut cluster, 1);
        let fetch = cluster.servers[&node_id(3)].fetch.expect("n3 lacks what is gone");
        cluster.install(node_id(3), fetch.last);
        cluster.check_log_matching();
    });
}
