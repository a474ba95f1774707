//! Peers are weather: whatever they say, a node neither stops nor breaks what it keeps.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;
use quorate_raft::{
    Body, Config, Effects, Entry, Fetch, HardState, Index, Input, Limits, Malformed, Membership, Message,
    Node, NodeId, Payload, Position, ReadOutcome, ReadToken, Restored, Role, Round, Run, Term, WriteId,
};

fn node_id(id: u64) -> NodeId {
    NodeId::new(id).expect("not zero")
}

/// Mostly small numbers, which meet; now and then the ends of the range.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0..12_u64, 1 => Just(u64::MAX - 1), 1 => Just(u64::MAX)]
}

fn position() -> impl Strategy<Value = Position> {
    (number(), number()).prop_map(|(term, index)| Position::new(Term(term), Index(index)))
}

fn entry(position: Position) -> Entry {
    Entry { position, payload: Payload::Data(Bytes::from_static(b"x")) }
}

/// A run whose terms rise by these steps.
fn run() -> impl Strategy<Value = Run> {
    (position(), proptest::collection::vec(0..3_u64, 0..5)).prop_filter_map("malformed", |(base, steps)| {
        let mut last = base;
        let mut entries = Vec::new();
        for step in steps {
            last = Position::new(Term(last.term.0.checked_add(step)?), Index(last.index.0.checked_add(1)?));
            entries.push(entry(last));
        }
        Run::parse(base, entries).ok()
    })
}

fn body() -> impl Strategy<Value = Body> {
    let index = || number().prop_map(Index);
    let round = || number().prop_map(Round);
    prop_oneof![
        1 => position().prop_map(|last| Body::PreVote { last }),
        1 => any::<bool>().prop_map(|granted| Body::PreVoteReply { granted }),
        1 => (position(), any::<bool>()).prop_map(|(last, is_transfer)| Body::Vote { last, is_transfer }),
        1 => Just(Body::TimeoutNow),
        1 => any::<bool>().prop_map(|granted| Body::VoteReply { granted }),
        4 => (run(), index()).prop_map(|(run, commit)| Body::Append { run, commit }),
        2 => position().prop_map(|last| Body::InstallSnapshot { last }),
        2 => index().prop_map(|matched| Body::Appended { matched }),
        2 => (index(), position()).prop_map(|(base, hint)| Body::Rejected { base, hint }),
        1 => (round(), index()).prop_map(|(round, commit)| Body::Heartbeat { round, commit }),
        1 => (round(), number()).prop_map(|(round, clock)| Body::HeartbeatReply { round, clock }),
    ]
}

/// What happens next. Terms are given relative to the node's own, or the dice would never meet it.
#[derive(Clone, Debug)]
enum Event {
    Tick,
    Message {
        from: u64,
        term: TermOf,
        body: Body,
    },
    Persisted {
        back: u64,
    },
    Propose,
    Read,
    /// Of what was applied some entries ago; some entries below it stay.
    Compact {
        back: u64,
        kept: u64,
    },
    /// What is applied and durable leaves the memory, but for some entries.
    Forget {
        kept: u64,
    },
    /// What was asked for last has come.
    Install,
    ApplyMore,
    Unreachable {
        node: u64,
    },
    Withdraw,
    Hurry {
        to: u64,
    },
}

#[derive(Clone, Copy, Debug)]
enum TermOf {
    Own,
    Next,
    Exactly(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let term =
        prop_oneof![6 => Just(TermOf::Own), 2 => Just(TermOf::Next), 1 => number().prop_map(TermOf::Exactly)];
    prop_oneof![
        6 => Just(Event::Tick),
        20 => (1..=5_u64, term, body()).prop_map(|(from, term, body)| Event::Message { from, term, body }),
        4 => (0..4_u64).prop_map(|back| Event::Persisted { back }),
        2 => Just(Event::Propose),
        2 => Just(Event::Read),
        2 => (0..3_u64, 0..3_u64).prop_map(|(back, kept)| Event::Compact { back, kept }),
        2 => (0..4_u64).prop_map(|kept| Event::Forget { kept }),
        2 => Just(Event::Install),
        2 => Just(Event::ApplyMore),
        2 => (1..=5_u64).prop_map(|node| Event::Unreachable { node }),
        1 => Just(Event::Withdraw),
        2 => (1..=4_u64).prop_map(|to| Event::Hurry { to }),
    ]
}

fn started() -> Node {
    let limits = Limits {
        heartbeat_ticks: 1,
        election_ticks_min: 3,
        election_ticks_max: 5,
        election_patience_max: 2,
        hurry_ticks_min: 2,
        hurry_ticks_max: 3,
        entry_bytes_max: 100,
        append_bytes_max: 100,
        inflight_bytes_max: 300,
        inflight_messages_max: 3,
        uncommitted_bytes_max: 300,
        apply_bytes_max: 80,
        reads_waiting_max: 3,
        notice_ticks: 4,
        spares_followers: true,
    };
    let voters: BTreeSet<NodeId> = (1..=3).map(node_id).collect();
    let entries =
        [1, 1, 2, 4].iter().zip(1..).map(|(&term, index)| entry(Position::new(Term(term), Index(index))));
    let restored = Restored {
        hard_state: HardState { term: Term(4), vote: None },
        base: Position::ZERO,
        entries: entries.collect(),
        snapshot: Position::ZERO,
        membership: None,
    };
    Node::new(
        Config {
            id: node_id(1),
            membership: Membership::simple(voters),
            own_seat: Bytes::new(),
            limits,
            seed: 1,
        },
        restored,
    )
}

/// The same node, leading: it has asked and was answered, and has committed its no-op.
fn leading() -> Node {
    let mut node = started();
    let hear = |node: &mut Node, term: Term, body: Body| {
        let effects = node.step(Input::Message { from: node_id(2), message: Message { term, body } });
        assert!(effects.reads.is_empty());
    };
    while node.role() == Role::Follower {
        let _ = node.step(Input::Tick { clock: 1 });
    }
    hear(&mut node, Term(5), Body::PreVoteReply { granted: true });
    let _ = node.step(Input::Persisted { write: node.issued() });
    hear(&mut node, Term(5), Body::VoteReply { granted: true });
    assert_eq!(node.role(), Role::Leader);
    node
}

/// Which terms are on the disk: no node may lead in another.
struct TermsOnDisk {
    writes: Vec<(WriteId, Term)>,
    durable: Term,
}

impl TermsOnDisk {
    fn step(&mut self, input: &Input, effects: &Effects) {
        if let Some(persist) = &effects.persist
            && let Some(hard_state) = persist.hard_state
        {
            self.writes.push((persist.write, hard_state.term));
        }
        if let Input::Persisted { write } = input {
            let done = self.writes.iter().filter(|(of, _)| of <= write).map(|(_, term)| *term);
            self.durable = done.fold(self.durable, Term::max);
        }
    }
}

fn input(node: &Node, event: Event, token: u64, fetch: Option<Fetch>) -> Option<Input> {
    Some(match event {
        Event::Tick => Input::Tick { clock: token },
        Event::Message { from, term, body } => {
            let own = node.term();
            let term = match term {
                TermOf::Own => own,
                TermOf::Next => own.next().unwrap_or(own),
                TermOf::Exactly(term) => Term(term),
            };
            Input::Message { from: node_id(from), message: Message { term, body } }
        }
        Event::Persisted { back } => {
            Input::Persisted { write: WriteId(node.issued().0.saturating_sub(back)) }
        }
        Event::Propose => Input::Propose { payload: Bytes::from_static(b"mine") },
        Event::Read => Input::Read { token: ReadToken(token) },
        Event::ApplyMore => Input::ApplyMore,
        Event::Unreachable { node } => Input::Unreachable { node: node_id(node) },
        Event::Withdraw => Input::Withdraw,
        Event::Hurry { to } => Input::Hurry { to: node_id(to) },
        Event::Compact { back, kept } => {
            let index = Index(node.applied().0.saturating_sub(back));
            let snapshot = Position::new(node.term_at(index)?, index);
            Input::Compact { snapshot, through: Index(index.0.saturating_sub(kept)) }
        }
        Event::Forget { kept } => {
            let through = node.applied().min(node.durable());
            Input::Forget { through: Index(through.0.saturating_sub(kept)) }
        }
        // Whoever offers a snapshot of the end of the number range does not have it.
        Event::Install => Input::Install {
            last: fetch.filter(|fetch| fetch.last.index < Index(1_000))?.last,
            membership: None,
        },
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// No input of a peer panics, and none takes back a term, a vote, or what is committed.
    #[test]
    fn messages_never_stop_a_node(
        leads in any::<bool>(),
        events in proptest::collection::vec(event(), 1..100),
    ) {
        let mut node = if leads { leading() } else { started() };
        let mut disk = TermsOnDisk { writes: Vec::new(), durable: node.term() };
        let mut applied: BTreeMap<Index, Entry> = BTreeMap::new();
        let mut fetch = None;
        for (token, event) in events.into_iter().enumerate() {
            let (term, vote, commit) = (node.term(), node.vote(), node.commit());
            let (base, snapshot, applied_before) = (node.base(), node.snapshot(), node.applied());
            let Some(input) = input(&node, event, token as u64, fetch) else { continue };
            let effects = node.step(input.clone());
            disk.step(&input, &effects);
            prop_assert!(node.role() != Role::Leader || node.term() == disk.durable);
            prop_assert!(node.role() == Role::Follower || !node.is_withdrawn());
            prop_assert!(node.term() >= term);
            prop_assert!(node.term() > term || vote.is_none() || node.vote() == vote);
            prop_assert!(node.commit() >= commit && node.commit() <= node.last().index);
            prop_assert!(node.last().term <= node.term());
            fetch = effects.fetch.or(fetch);
            prop_assert!(node.base().index >= base.index);
            prop_assert!(node.base().index <= node.snapshot().index.max(node.applied()));
            for envelope in &effects.send_now {
                if let Body::InstallSnapshot { last } = envelope.message.body {
                    prop_assert!(last.index >= node.base().index, "an offer that leads nowhere");
                }
            }
            prop_assert!(node.snapshot().index >= snapshot.index && node.snapshot().index <= commit.max(node.commit()));
            let mut next = applied_before;
            if let Some(installed) = effects.install {
                prop_assert!(installed.index > applied_before && node.base() == installed);
                next = installed.index;
            }
            let cost: usize = effects.apply.iter().map(Entry::cost).sum();
            prop_assert!(cost <= 80 || effects.apply.len() == 1);
            for entry in effects.apply {
                next = next.next();
                prop_assert_eq!(entry.position.index, next);
                applied.insert(next, entry);
            }
            prop_assert_eq!(next, node.applied());
            prop_assert_eq!(effects.more_to_apply, node.applied() < node.commit());
            prop_assert!(next > applied_before || node.applied() == node.commit(), "nothing was handed over");
            for (index, entry) in applied.range(node.base().index.next()..) {
                prop_assert_eq!(node.entry(*index), Some(entry));
            }
            for progress in node.progress().into_iter().flatten() {
                prop_assert!(progress.1.match_index() < progress.1.next_index());
                prop_assert!(progress.1.next_index() <= node.last().index.next());
            }
        }
    }

    /// A run is taken exactly if it has no gap, no zero, no falling term and no end of the number range.
    #[test]
    fn runs_are_parsed_like_the_rules_say(
        base in position(),
        positions in proptest::collection::vec(position(), 0..4),
        follows in any::<bool>(),
    ) {
        let mut positions = positions;
        if follows {
            for (place, position) in positions.iter_mut().enumerate() {
                position.index = Index(base.index.0.wrapping_add(place as u64 + 1));
            }
        }
        let chain: Vec<Position> = std::iter::once(base).chain(positions.iter().copied()).collect();
        let is_base_good = (base.index.0 == 0) == (base.term.0 == 0);
        let is_chain_good = chain.windows(2).all(|pair| {
            pair[0].index.0.checked_add(1) == Some(pair[1].index.0)
                && pair[1].index.0 != u64::MAX
                && pair[1].term.0 != 0
                && pair[0].term <= pair[1].term
        });
        let entries: Vec<Entry> = positions.iter().copied().map(entry).collect();
        match Run::parse(base, entries.clone()) {
            Ok(run) => {
                prop_assert!(is_base_good && is_chain_good);
                prop_assert_eq!(run.last(), *chain.last().expect("it has a base"));
                prop_assert_eq!(run.into_parts(), (base, entries));
            }
            Err(_) => prop_assert!(!is_base_good || !is_chain_good),
        }
    }
}

#[test]
fn malformed_runs_say_what_is_wrong() {
    let at = |term, index| Position::new(Term(term), Index(index));
    let parse = |base, entries: &[Position]| Run::parse(base, entries.iter().copied().map(entry).collect());
    assert_eq!(parse(at(0, 1), &[]), Err(Malformed::Zero));
    assert_eq!(parse(at(1, 0), &[]), Err(Malformed::Zero));
    assert_eq!(parse(at(1, 1), &[at(1, 3)]), Err(Malformed::Gap));
    assert_eq!(parse(at(2, 1), &[at(1, 2)]), Err(Malformed::TermRegression));
    assert_eq!(parse(at(0, 0), &[at(0, 1)]), Err(Malformed::Zero));
    assert_eq!(parse(at(1, u64::MAX - 1), &[at(1, u64::MAX)]), Err(Malformed::Overflow));
}

fn hear(node: &mut Node, from: u64, term: u64, body: Body) -> Effects {
    node.step(Input::Message { from: node_id(from), message: Message { term: Term(term), body } })
}

/// A vote that was given before it was asked for, while the candidate's own is under way behind another write.
#[test]
fn nobody_leads_before_its_own_vote_is_durable() {
    let mut node = started();
    let _ = hear(&mut node, 2, 5, Body::Vote { last: Position::ZERO, is_transfer: false });
    while node.role() == Role::Follower {
        let _ = node.step(Input::Tick { clock: 1 });
    }
    let effects = hear(&mut node, 2, 6, Body::PreVoteReply { granted: true });
    assert_eq!((node.role(), node.term()), (Role::Candidate, Term(6)));
    assert!(effects.send_now.is_empty(), "requests for votes before the own one is durable");
    let own = effects.persist.expect("term and vote").write;
    let _ = hear(&mut node, 2, 6, Body::VoteReply { granted: true });
    let _ = hear(&mut node, 3, 6, Body::VoteReply { granted: true });
    assert_eq!(node.role(), Role::Candidate);
    let _ = node.step(Input::Persisted { write: WriteId(own.0 - 1) });
    assert_eq!(node.role(), Role::Candidate);
    let _ = node.step(Input::Persisted { write: own });
    assert_eq!(node.role(), Role::Leader);
}

/// A fetch of old may be done when this node leads. A leader holds everything that is committed, so a snapshot that
/// its log does not hold is not of this group.
#[test]
fn a_leader_installs_nothing() {
    let mut node = started();
    let last = Position::new(Term(5), Index(9));
    let effects = hear(&mut node, 2, 5, Body::InstallSnapshot { last });
    assert_eq!(effects.fetch, Some(Fetch { from: node_id(2), last }));
    while node.role() == Role::Follower {
        let _ = node.step(Input::Tick { clock: 1 });
    }
    let _ = hear(&mut node, 2, 6, Body::PreVoteReply { granted: true });
    let _ = node.step(Input::Persisted { write: node.issued() });
    let _ = hear(&mut node, 2, 6, Body::VoteReply { granted: true });
    assert_eq!((node.role(), node.last().index), (Role::Leader, Index(5)));
    assert_eq!(node.step(Input::Install { last, membership: None }), Effects::default());
    assert_eq!((node.base(), node.last().index), (Position::ZERO, Index(5)));
}

/// An echo of a round that has not begun is no echo, now or later.
#[test]
fn echo_of_a_round_to_come_confirms_nothing() {
    let mut node = leading();
    let last = node.last().index;
    let _ = node.step(Input::Persisted { write: node.issued() });
    let _ = hear(&mut node, 2, 5, Body::Appended { matched: last });
    assert!(node.is_leader_ready());
    let _ = hear(&mut node, 2, 5, Body::HeartbeatReply { round: Round(9), clock: 0 });
    assert!(node.step(Input::Read { token: ReadToken(1) }).reads.is_empty());
    let effects = hear(&mut node, 2, 5, Body::HeartbeatReply { round: Round(1), clock: 0 });
    assert_eq!(effects.reads, [ReadOutcome::Confirmed { token: ReadToken(1), index: last }]);
}
