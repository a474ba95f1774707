//! Who a node is in the eyes of its own log, and who may become a voter: what scripts cannot say.

mod harness;

use bytes::Bytes;
use harness::{node_id, test_limits};
use quorate_raft::{
    Config, Entry, HardState, Index, Input, Membership, Node, Payload, Position, Restored, Role, Term,
};

fn restored(membership: Option<Membership>, entries: u64) -> Restored {
    let entry = |index| Entry { position: Position::new(Term(1), Index(index)), payload: Payload::Noop };
    Restored {
        hard_state: HardState { term: Term(1), vote: None },
        entries: (1..=entries).map(entry).collect(),
        membership: membership.map(std::sync::Arc::new),
        ..Restored::default()
    }
}

/// It has joined anew, and the snapshot that it has installed is of a time at which the folder before it was a voter under its
/// id. Who remembers nothing must not vote in the name of who did. (Found as seed 61 of the simulator.)
#[test]
fn a_node_does_not_campaign_in_the_name_of_another_one_under_its_id() {
    let (own, old) = (Bytes::from_static(b"new"), Bytes::from_static(b"old"));
    for (seat, campaigns) in [(&own, true), (&old, false)] {
        let voters = [1, 2].map(node_id).into();
        let membership = Membership::simple(voters).with_seat(node_id(1), seat.clone());
        let (id, own_seat, limits) = (node_id(1), own.clone(), test_limits());
        let ticks = limits.election_ticks_max;
        let mut node = Node::new(Config { id, membership, own_seat, limits, seed: 1 }, restored(None, 3));
        for _ in 0..ticks {
            let _ = node.step(Input::Tick { clock: 1 });
        }
        assert_eq!(node.role() != Role::Follower, campaigns, "as {seat:?}");
    }
}

/// After a restart a leader knows of nothing committed until its own disk has its no-op. If that takes two heartbeats, whoever
/// waits to vote must not be measured by that. (Found as seed 80 of the simulator.)
#[test]
fn a_leader_with_a_slow_disk_makes_no_voter_of_who_has_nothing() {
    let (id, limits) = (node_id(1), test_limits());
    let (ticks, heartbeats) = (limits.election_ticks_max, 3 * limits.heartbeat_ticks);
    let membership = Membership::simple([id].into()).with_joining(node_id(2), None);
    let config = Config { id, membership, own_seat: Bytes::new(), limits, seed: 1 };
    let mut node = Node::new(config, restored(None, 3));
    let mut persist = Vec::new();
    for _ in 0..ticks {
        persist.extend(node.step(Input::Tick { clock: 1 }).persist);
        // The vote is on the disk; what comes behind it is not.
        if let [vote, ..] = &persist[..]
            && node.role() == Role::Candidate
        {
            persist.extend(node.step(Input::Persisted { write: vote.write }).persist);
        }
    }
    assert_eq!(node.role(), Role::Leader);
    for _ in 0..heartbeats {
        persist.extend(node.step(Input::Tick { clock: 1 }).persist);
    }
    let last = persist.last().expect("its no-op").write;
    let _ = node.step(Input::Persisted { write: last });
    assert!(node.is_leader_ready());
    for _ in 0..heartbeats {
        let _ = node.step(Input::Tick { clock: 1 });
    }
    assert!(
        !node.membership().is_joint() && node.membership().voters().len() == 1,
        "{:?}",
        node.membership()
    );
}
