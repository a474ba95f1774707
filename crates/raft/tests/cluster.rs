//! Whole groups: the plain course of things, and random schedules of loss, disorder and crashes.

mod harness;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use harness::{Cluster, node_id, test_limits};
use quorate_raft::{Body, Fetch, Index, Input, NodeId, ProgressState, ReadToken, Role};

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

/// Requests that left since this was asked last; an answer belongs to its request.
fn requests(cluster: &mut Cluster) -> u64 {
    let sent = std::mem::take(&mut cluster.sent);
    ["prevote", "vote", "append", "heartbeat"].iter().filter_map(|kind| sent.get(kind)).sum()
}

/// The counts of the lab's tests `RPCBytes2B` and `Count2B`, for three servers: an election takes 1 to 30 requests, 12
/// commands in a row at most 42, and each command goes to each peer once.
#[test]
fn messages_stay_few() {
    let mut limits = test_limits();
    limits.inflight_messages_max = 64;
    limits.inflight_bytes_max = 1 << 20;
    limits.entry_bytes_max = 5_000;
    limits.append_bytes_max = 1 << 16;
    limits.uncommitted_bytes_max = 1 << 20;
    let mut cluster = Cluster::new(3, 1, limits);
    elect(&mut cluster, 1);
    let election = requests(&mut cluster);
    assert!((1..=30).contains(&election), "{election} requests for an election");

    let mut bytes = 0;
    for _ in 0..12 {
        cluster.step(node_id(1), Input::Propose { payload: Bytes::from(vec![0; 5_000]) });
    }
    while let Some(flight) = cluster.network.front() {
        if let Body::Append { run, .. } = &flight.message.body {
            bytes += run.entries().iter().map(|entry| entry.payload.len()).sum::<usize>();
        }
        cluster.deliver_at(0, false);
    }
    assert_eq!(bytes, 2 * 12 * 5_000, "each command once to each peer");
    let commands = requests(&mut cluster);
    assert!(commands <= 2 * 12 + 2, "{commands} requests for 12 commands");

    let heartbeat_ticks = cluster.limits.heartbeat_ticks;
    for _ in 0..10 * heartbeat_ticks {
        for id in cluster.ids() {
            cluster.tick(id);
        }
        cluster.deliver_all();
    }
    assert_eq!(requests(&mut cluster), 2 * 10, "an idle group sends its heartbeats");
}

/// Ticks pass and everything arrives, but of the appends to `to` only the first so many. Ticks from each lost one to the
/// next.
fn gaps_between_lost_appends(cluster: &mut Cluster, to: NodeId, ticks: u64, arrive: usize) -> Vec<u64> {
    let mut arrived = 0;
    let mut lost = Vec::new();
    for tick in 0..ticks {
        for id in cluster.ids() {
            cluster.tick(id);
        }
        while let Some(flight) = cluster.network.front() {
            let is_meant = flight.to == to && matches!(flight.message.body, Body::Append { .. });
            if is_meant && arrived == arrive {
                cluster.network.pop_front();
                lost.push(tick);
            } else {
                arrived += usize::from(is_meant);
                cluster.deliver_at(0, false);
            }
        }
    }
    lost.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

/// n3 answers heartbeats, while appends to it are lost, as on a way that is too slow for a megabyte. Each probe waits twice
/// as long as the one before, up to a bound; an answer to one begins anew; and what waits is sent in the end.
#[test]
fn patience_with_a_lost_probe_doubles_to_a_bound_and_begins_anew_with_an_answer() {
    let mut cluster = Cluster::new(3, 1, test_limits());
    let (old, leader, lagging) = (node_id(1), node_id(2), node_id(3));
    elect(&mut cluster, 1);
    // n3 misses something, so that the next leader must find out where their logs part.
    cluster.cut.insert((old, lagging));
    for value in ["a", "b", "c"] {
        cluster.step(old, Input::Propose { payload: Bytes::from(value) });
        cluster.deliver_all();
    }
    cluster.crash(old, usize::MAX);
    cluster.network.clear();
    while cluster.leader() != Some(leader) {
        gaps_between_lost_appends(&mut cluster, lagging, 1, 0);
    }

    let heartbeat = u64::from(cluster.limits.heartbeat_ticks);
    let bound = heartbeat << 5;
    let doubled = |from: u32| (from..=5).map(move |times| heartbeat << times);
    // The first probe of all was lost with the election.
    let gaps = gaps_between_lost_appends(&mut cluster, lagging, 7 * bound, 0);
    assert!(gaps[..5].iter().copied().eq(doubled(1)), "{gaps:?}");
    assert!(gaps.len() >= 8 && gaps[5..].iter().all(|gap| *gap == bound), "{gaps:?}");

    // One arrives and is rejected: the next leaves at once, and patience begins anew.
    let gaps = gaps_between_lost_appends(&mut cluster, lagging, 5 * bound, 1);
    assert!(gaps[..6].iter().copied().eq(doubled(0)), "{gaps:?}");
    assert!(gaps[6..].iter().all(|gap| *gap == bound), "{gaps:?}");

    gaps_between_lost_appends(&mut cluster, lagging, bound + heartbeat, usize::MAX);
    assert_eq!(cluster.node(lagging).last(), cluster.node(leader).last());
    assert_eq!(cluster.node(lagging).commit(), cluster.node(leader).commit());
}

/// A stream of small random numbers; the seed of a failing run is in its message.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % sides
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len())]
    }
}

/// How rough a run is: weights of what may happen, drawn for each run, some of them zero.
struct Weather {
    tick: usize,
    duplicate: usize,
    lose: usize,
    disorder: bool,
    crash: usize,
    cut: usize,
    /// Snapshots taken, and how many entries below each are kept.
    compact: usize,
    keep: u64,
    /// How often entries leave the memory that no snapshot stands for.
    forget: usize,
    /// Changes of membership, and transfers of leadership.
    change: usize,
    transfer: usize,
    /// How long cuts last: few heal soon, many never see another leader.
    healing_rarity: usize,
    /// Its timer nearly stands still, as in a process that is paused: a leader like that does not notice that
    /// it was deposed.
    paused: Option<NodeId>,
}

struct Run {
    cluster: Cluster,
    dice: Dice,
    weather: Weather,
    /// The highest index applied anywhere when each read arrived: no read may be confirmed below it.
    reads: Vec<Index>,
    /// Reads of nodes that have not crashed since, without an outcome.
    unsettled: BTreeSet<ReadToken>,
    asked: BTreeMap<ReadToken, NodeId>,
    proposals: u64,
    /// Snapshots taken, and got from another and installed.
    snapshots: usize,
    installs: usize,
    /// Times that entries left the memory, and snapshots that were taken because of that.
    forgotten: usize,
    taken_for_laggards: usize,
    /// Changes of membership that were taken.
    changes: usize,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let nodes = dice.pick(&[1, 2, 3, 3, 3, 4, 5, 5]);
        let spares = dice.pick(&[0, 0, 1, 2, 3]);
        let mut cluster = Cluster::with_spares(nodes, spares, seed, test_limits());
        cluster.auto_persist = false;
        let weather = Weather {
            tick: dice.pick(&[20, 60, 120]),
            duplicate: dice.pick(&[0, 2, 10]),
            lose: dice.pick(&[0, 2, 15]),
            disorder: dice.roll(2) == 0,
            crash: dice.pick(&[0, 1, 2]),
            cut: dice.pick(&[0, 1, 2]),
            compact: dice.pick(&[0, 0, 1, 5]),
            keep: dice.pick(&[0, 0, 1, 5, 20]),
            forget: dice.pick(&[0, 0, 1, 10]),
            change: dice.pick(&[0, 2, 10]),
            transfer: dice.pick(&[0, 1, 5]),
            healing_rarity: dice.pick(&[1, 4, 10]),
            paused: None,
        };
        Self {
            cluster,
            dice,
            weather,
            reads: Vec::new(),
            unsettled: BTreeSet::new(),
            asked: BTreeMap::new(),
            proposals: 0,
            snapshots: 0,
            installs: 0,
            forgotten: 0,
            taken_for_laggards: 0,
            changes: 0,
        }
    }

    fn applied_anywhere(&self) -> Index {
        self.cluster.last_committed()
    }

    /// How often what happens, in the order of [`Self::event`].
    fn weights(&self) -> [usize; 17] {
        let Weather { tick, duplicate, lose, crash, cut, compact, forget, change, transfer, .. } =
            self.weather;
        [
            tick,
            250,
            duplicate,
            lose,
            80,
            6,
            4,
            crash,
            crash * 3,
            cut,
            cut * 2,
            compact,
            2,
            20,
            change,
            transfer,
            forget,
        ]
    }

    fn event(&mut self) {
        let ids = self.cluster.ids();
        let id = self.dice.pick(&ids);
        let weights = self.weights();
        let mut roll = self.dice.roll(weights.iter().sum());
        let kind = weights
            .iter()
            .position(|&weight| {
                let is_it = roll < weight;
                roll = roll.saturating_sub(weight);
                is_it
            })
            .expect("the roll is below the sum");
        match kind {
            0 if self.weather.paused == Some(id) && self.dice.roll(10) > 0 => {}
            0 => self.cluster.tick(id),
            1 => self.deliver(false),
            2 => self.deliver(true),
            3 if !self.cluster.network.is_empty() => {
                let place = self.dice.roll(self.cluster.network.len());
                self.cluster.network.remove(place);
            }
            4 => {
                let count = 1 + self.dice.roll(4);
                self.cluster.persist(id, count);
            }
            5 => {
                let id = self.one_who_leads().unwrap_or(id);
                self.propose(id);
            }
            6 => {
                let id = self.one_who_leads().unwrap_or(id);
                self.read(id);
            }
            7 if self.cluster.is_up(id) => {
                let survivors = self.dice.roll(4);
                self.cluster.crash(id, survivors);
                self.unsettled.retain(|token| self.asked[token] != id);
            }
            8 if !self.cluster.is_up(id) => self.cluster.start(id),
            9 if self.dice.roll(self.weather.healing_rarity) == 0 => self.cut(id),
            10 if self.dice.roll(self.weather.healing_rarity) == 0 => {
                self.cluster.cut.clear();
                self.weather.paused = None;
            }
            11 if self.cluster.is_up(id) => self.compact(id),
            12 => self.install(id),
            13 => self.cluster.step(id, Input::ApplyMore),
            14 => self.change(),
            15 => self.transfer(id),
            16 if self.cluster.is_up(id) => self.forget(id),
            _ => {}
        }
    }

    /// A leader, or somebody who thinks so, is told to let another lead.
    fn transfer(&mut self, id: NodeId) {
        let ids = self.cluster.ids();
        let id = self.one_who_leads().unwrap_or(id);
        let to = (self.dice.roll(2) == 0).then(|| self.dice.pick(&ids));
        self.cluster.step(id, Input::Transfer { to });
    }

    /// A leader is told to make a few changes at once.
    fn change(&mut self) {
        let Some(leader) = self.one_who_leads() else { return };
        let ids = self.cluster.ids();
        let mut target = self.cluster.node(leader).membership().settled();
        for _ in 0..=self.dice.roll(3) {
            let id = self.dice.pick(&ids);
            let (is_voter, is_learner) = (target.voters().contains(&id), target.learners().contains(&id));
            let is_last_voter = is_voter && target.voters().len() == 1;
            target = match self.dice.roll(5) {
                0 | 1 if !is_voter => {
                    let replaced = Some(self.dice.pick(&ids)).filter(|replaced| *replaced != id);
                    target.with_joining(id, replaced.filter(|_| self.dice.roll(2) == 0))
                }
                2 if (is_voter || is_learner) && !is_last_voter => target.without(id),
                3 if is_voter && !is_last_voter => target.with_demoted(id),
                4 if is_voter || is_learner => {
                    let seat = [u8::try_from(self.dice.roll(3)).expect("below 256")];
                    target.with_seat(id, Bytes::copy_from_slice(&seat))
                }
                _ => target,
            };
        }
        let last = self.cluster.node(leader).last();
        self.cluster.step(leader, Input::Reconfigure { target });
        self.changes += usize::from(self.cluster.node(leader).last() != last);
    }

    fn compact(&mut self, id: NodeId) {
        let applied = self.cluster.node(id).applied().0;
        let through = applied.saturating_sub(self.dice.roll(3) as u64 * self.weather.keep);
        self.snapshots += usize::from(applied > 0);
        self.cluster.compact(id, Index(through));
    }

    fn forget(&mut self, id: NodeId) {
        let kept = self.dice.roll(3) as u64 * self.weather.keep;
        let before = self.cluster.node(id).base();
        self.cluster.forget(id, kept);
        self.forgotten += usize::from(self.cluster.node(id).base() != before);
    }

    /// Somebody needs what no snapshot stands for and the leader has forgotten: the leader takes one.
    fn take_for_laggards(&mut self, id: NodeId) {
        let node = self.cluster.node(id);
        let mut followers = node.progress().into_iter().flatten();
        let waits = followers.any(|(_, progress)| progress.state() == ProgressState::Snapshot);
        if waits && node.snapshot().index < node.base().index {
            self.compact(id);
            self.taken_for_laggards += 1;
        }
    }

    /// The snapshot that a server fetches is complete.
    fn install(&mut self, id: NodeId) {
        let Some(Fetch { last, .. }) = self.cluster.servers[&id].fetch else { return };
        if self.cluster.is_up(id) {
            let applied = self.cluster.node(id).applied();
            self.cluster.install(id, last);
            self.installs += usize::from(self.cluster.node(id).snapshot() == last && applied < last.index);
        }
    }

    /// Cuts one link or, half the time, all links of a node, and then of a leader if there is one.
    fn cut(&mut self, id: NodeId) {
        let ids = self.cluster.ids();
        if self.dice.roll(2) == 0 {
            let other = self.dice.pick(&ids);
            self.cluster.cut.extend([(id, other), (other, id)].iter().take(1 + self.dice.roll(2)));
            return;
        }
        let id = self.one_who_leads().unwrap_or(id);
        self.weather.paused = Some(id);
        self.cluster.cut.extend(ids.iter().flat_map(|&peer| [(id, peer), (peer, id)]));
    }

    /// One of those who think so: after an election there may be two.
    fn one_who_leads(&mut self) -> Option<NodeId> {
        let ids = self.cluster.ids().into_iter();
        let leads = |id: &NodeId| self.cluster.is_up(*id) && self.cluster.node(*id).role() == Role::Leader;
        let leaders: Vec<NodeId> = ids.filter(leads).collect();
        (!leaders.is_empty()).then(|| self.dice.pick(&leaders))
    }

    fn deliver(&mut self, keeps: bool) {
        let flights = self.cluster.network.len();
        if flights == 0 {
            return;
        }
        let place =
            if self.weather.disorder { self.dice.roll(flights) } else { self.dice.roll(flights.min(2)) };
        self.cluster.deliver_at(place, keeps && flights < 500);
    }

    fn propose(&mut self, id: NodeId) {
        self.proposals += 1;
        let length = self.dice.pick(&[1, 1, 100, 600, 1_000]);
        let mut payload = self.proposals.to_be_bytes().to_vec();
        payload.resize(length.max(8), b'.');
        self.cluster.step(id, Input::Propose { payload: Bytes::from(payload) });
    }

    fn read(&mut self, id: NodeId) {
        let token = ReadToken(self.reads.len() as u64);
        self.reads.push(self.applied_anywhere());
        if self.cluster.is_up(id) {
            self.unsettled.insert(token);
            self.asked.insert(token, id);
        }
        self.cluster.step(id, Input::Read { token });
    }

    fn check_reads(&mut self) {
        for (_, token, _) in std::mem::take(&mut self.cluster.refused) {
            assert!(self.unsettled.remove(&token), "a read was settled twice");
        }
        for (id, token, index) in std::mem::take(&mut self.cluster.confirmed) {
            let floor = self.reads[usize::try_from(token.0).expect("counted from 0")];
            assert!(self.unsettled.remove(&token), "a read was settled twice");
            assert!(
                index >= floor,
                "{id} confirmed a read at {index}, but {floor} was applied before it came"
            );
        }
    }

    /// All faults end: the group must agree soon.
    fn calm(&mut self) {
        self.cluster.cut.clear();
        self.cluster.auto_persist = true;
        for id in self.cluster.ids() {
            if self.cluster.is_up(id) {
                self.cluster.persist(id, usize::MAX);
            } else {
                self.cluster.start(id);
            }
        }
        let rounds = 10 * self.cluster.limits.election_ticks_max;
        for _ in 0..rounds {
            for id in self.cluster.ids() {
                self.cluster.tick(id);
            }
            self.cluster.deliver_all();
            for id in self.cluster.ids() {
                self.take_for_laggards(id);
                self.install(id);
            }
        }
        let leader = self.cluster.leader().expect("a calm group has a leader");
        assert!(self.cluster.node(leader).is_leader_ready());
        self.read(leader);
        self.propose(leader);
        self.cluster.deliver_all();
        let last = self.cluster.node(leader).last();
        let membership = self.cluster.node(leader).membership().clone();
        assert!(!self.cluster.node(leader).is_change_pending(), "a change that is never done");
        assert!(membership.is_voter(leader), "a leader without a vote");
        assert!(membership.joining().is_empty(), "a learner that never becomes a voter");
        for id in membership.members() {
            let node = self.cluster.node(id);
            assert_eq!(node.membership(), &membership, "{id}");
            assert_eq!((node.last(), node.commit(), node.leader()), (last, last.index, Some(leader)), "{id}");
            assert_eq!(node.uncommitted_bytes(), 0);
        }
        assert!(self.cluster.confirmed.iter().any(|read| read.1.0 + 1 == self.reads.len() as u64));
        self.check_reads();
        assert!(self.unsettled.is_empty(), "reads without an outcome: {:?}", self.unsettled);
    }
}

#[test]
fn random_schedules_keep_the_invariants_and_then_agree() {
    let (mut commits, mut confirmed, mut terms, mut snapshots, mut installs, mut changes) =
        (0, 0, 0, 0, 0, 0);
    let (mut forgotten, mut taken_for_laggards) = (0, 0);
    for seed in 0..600 {
        let mut run = Run::new(seed);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for event in 0..10_000 {
                run.event();
                confirmed += run.cluster.confirmed.len();
                run.check_reads();
                if event % 100 == 0 {
                    run.cluster.check_log_matching();
                }
            }
            commits += run.applied_anywhere().0;
            run.calm();
            run.check_reads();
            run.cluster.check_log_matching();
            terms += run.cluster.node(node_id(1)).term().0;
            snapshots += run.snapshots;
            installs += run.installs;
            changes += run.changes;
            forgotten += run.forgotten;
            taken_for_laggards += run.taken_for_laggards;
        }));
        assert!(outcome.is_ok(), "seed {seed}");
    }
    // A test that never gets anywhere proves nothing.
    println!(
        "{commits} commits, {confirmed} reads, {terms} terms, {snapshots} snapshots, {installs} installed, \
         {changes} changes, {forgotten} times forgotten, {taken_for_laggards} taken for laggards"
    );
    assert!(commits > 4_000 && confirmed > 1_000 && terms > 800, "{commits} {confirmed} {terms}");
    assert!(snapshots > 1_000 && installs > 100, "{snapshots} {installs}");
    assert!(changes > 500, "{changes}");
    assert!(forgotten > 1_000 && taken_for_laggards > 10, "{forgotten} {taken_for_laggards}");
}
