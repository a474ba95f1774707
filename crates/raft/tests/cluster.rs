//! Whole groups: the plain course of things, and random schedules of loss, disorder and crashes.

mod harness;

use bytes::Bytes;
use harness::{Cluster, node_id, test_limits};
use quorate_raft::{Index, Input, Role};

fn elect(cluster: &mut Cluster, id: u64) {
    while cluster.node(node_id(id)).role() == Role::Follower {
        cluster.tick(node_id(id));
    }
    cluster.deliver_all();
    assert_eq!(cluster.leader(), Some(node_id(id)));
}

#[test]
fn a_group_elects_replicates_and_commits() {
    for nodes in [1, 2, 3, 5, 7] {
        let mut cluster = Cluster::new(nodes, 1, test_limits());
        elect(&mut cluster, 1);
        for value in ["a", "b", "c"] {
            cluster.step(node_id(1), Input::Propose { payload: Bytes::from(value) });
        }
        cluster.deliver_all();
        for id in cluster.ids() {
            assert_eq!(cluster.node(id).commit(), Index(4), "{id} of {nodes}");
        }
    }
}
