//! What consensus costs besides disk, network and encoding: from a proposal until all three nodes have applied it.
//!
//! `cargo bench -p quorate-raft`

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on panics")]

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use divan::Bencher;
use divan::counter::ItemsCount;
use quorate_raft::{Config, Effects, Input, Limits, Membership, Node, NodeId, ReadToken, Restored, Role};

/// Commands that one entry carries under load, about.
const COMMANDS: usize = 64;
/// Bytes that each takes in it.
const COMMAND_BYTES: usize = 126;

const LIMITS: Limits = Limits {
    heartbeat_ticks: 5,
    election_ticks_min: 25,
    election_ticks_max: 50,
    election_patience_max: 4,
    hurry_ticks_min: 6,
    hurry_ticks_max: 15,
    entry_bytes_max: 1 << 20,
    append_bytes_max: 1 << 20,
    inflight_bytes_max: 8 << 20,
    inflight_messages_max: 256,
    uncommitted_bytes_max: 64 << 20,
    apply_bytes_max: 256 << 10,
    reads_waiting_max: 4_096,
    notice_ticks: u32::MAX,
    spares_followers: false,
};

fn main() {
    divan::main();
}

/// Three nodes whose messages arrive at once and whose disks sync at once.
struct Group {
    nodes: Vec<Node>,
    inputs: VecDeque<(usize, Input)>,
    applied: usize,
    reads: usize,
}

impl Group {
    fn elected() -> Self {
        let ids: BTreeSet<NodeId> = (1..=3).filter_map(NodeId::new).collect();
        let node = |&id: &NodeId| {
            let membership = Membership::simple(ids.clone());
            Node::new(
                Config { id, membership, own_seat: Bytes::new(), limits: LIMITS, seed: 1 },
                Restored::default(),
            )
        };
        let nodes = ids.iter().map(node).collect();
        let mut group = Self { nodes, inputs: VecDeque::new(), applied: 0, reads: 0 };
        while group.nodes[0].role() != Role::Leader {
            group.step(0, Input::Tick { clock: 1 });
        }
        group
    }

    fn step(&mut self, at: usize, input: Input) {
        self.inputs.push_back((at, input));
        while let Some((at, input)) = self.inputs.pop_front() {
            let Effects { send_now, persist, apply, reads, .. } = self.nodes[at].step(input);
            self.applied += apply.len();
            self.reads += reads.len();
            let from = self.nodes[at].id();
            let (write, after) =
                persist.map_or((None, Vec::new()), |persist| (Some(persist.write), persist.send_after));
            for envelope in send_now.into_iter().chain(after) {
                let to = usize::try_from(envelope.to.get()).unwrap() - 1;
                self.inputs.push_back((to, Input::Message { from, message: envelope.message }));
            }
            self.inputs.extend(write.map(|write| (at, Input::Persisted { write })));
        }
    }
}

#[divan::bench]
fn propose_to_applied_everywhere(bencher: Bencher<'_, '_>) {
    let mut group = Group::elected();
    let payload = Bytes::from(vec![0; COMMANDS * COMMAND_BYTES]);
    bencher.counter(ItemsCount::new(COMMANDS)).bench_local(|| {
        let before = group.applied;
        group.step(0, Input::Propose { payload: payload.clone() });
        assert_eq!(group.applied, before + 3);
    });
}

#[divan::bench]
fn read_round(bencher: Bencher<'_, '_>) {
    let mut group = Group::elected();
    bencher.bench_local(|| {
        let before = group.reads;
        group.step(0, Input::Read { token: ReadToken(1) });
        assert_eq!(group.reads, before + 1);
    });
}
