//! The invariants on trial: each must refuse what it is there to refuse, and pass the rest.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_raft::{
    Body, Entry, HardState, Index, Message, NodeId, Payload, Position, Restored, Role, Term, WriteId,
};
use quorate_replica::replica::DiskWrite;
use quorate_replica::wire::{PeerEnvelope, PeerMessage};
use quorate_sim::effects::Effects;
use quorate_sim::history::{Action, Operation, Outcome};
use quorate_sim::host::node_id;
use quorate_sim::invariants::{Invariants, View, connection_order, exactly_once};
use quorate_sim::options::Options;
use quorate_sim::prng::Prng;
use quorate_sim::trace::Trace;
use quorate_sim::verdict;
use quorate_sim::world::World;
use quorate_storage::Incarnation;

fn entry(index: u64, term: u64, text: &'static str) -> Entry {
    let position = Position::new(Term(term), Index(index));
    Entry { position, payload: Payload::Data(Bytes::from_static(text.as_bytes())) }
}

fn write(hard_state: Option<HardState>, entries: Vec<Entry>) -> DiskWrite {
    DiskWrite { write: WriteId(1), hard_state, reset_to: None, entries, send_after: Vec::new() }
}

fn in_term(term: u64, vote: Option<NodeId>) -> Option<HardState> {
    Some(HardState { term: Term(term), vote })
}

fn view(host: usize, role: Role, term: u64, commit: u64, last: u64) -> View {
    let (term, commit, last) = (Term(term), Index(commit), Index(last));
    View { host, role, term, commit, applied: commit, last, digest: commit.0 }
}

/// Three servers that hold 1@1 and 2@1, durable on the first `durable` of them.
fn three(durable: usize) -> Invariants {
    let mut invariants = Invariants::new(3);
    for host in 0..3 {
        let both = vec![entry(1, 1, "a"), entry(2, 1, "b")];
        invariants.wrote(host, &write(in_term(1, None), both)).expect("a healthy write");
        if host < durable {
            invariants.synced(host, WriteId(1));
        }
    }
    invariants
}

fn refused<T: std::fmt::Debug>(result: Result<T, quorate_sim::invariants::Violation>, invariant: &str) {
    assert_eq!(result.expect_err("it passed").invariant, invariant);
}

#[test]
fn a_healthy_course_passes() {
    let mut invariants = three(2);
    invariants.stepped(view(0, Role::Leader, 1, 2, 2)).unwrap();
    invariants.stepped(view(1, Role::Follower, 1, 1, 2)).unwrap();
    invariants.wrote(1, &write(in_term(2, Some(node_id(1))), vec![entry(3, 2, "c")])).unwrap();
    invariants.stepped(view(1, Role::Leader, 2, 2, 3)).unwrap();
}

#[test]
fn two_leaders_of_one_term_are_refused() {
    let mut invariants = three(2);
    invariants.stepped(view(0, Role::Leader, 1, 0, 2)).unwrap();
    refused(invariants.stepped(view(1, Role::Leader, 1, 0, 2)), "election safety");
}

#[test]
fn one_position_with_two_contents_is_refused() {
    let mut invariants = three(2);
    refused(invariants.wrote(2, &write(None, vec![entry(2, 1, "not b")])), "log matching");
}

#[test]
fn a_commit_that_a_minority_holds_is_refused() {
    refused(three(1).stepped(view(0, Role::Leader, 1, 2, 2)), "durability");
    three(2).stepped(view(0, Role::Leader, 1, 2, 2)).unwrap();
}

#[test]
fn a_committed_entry_that_changes_is_refused() {
    let mut invariants = three(2);
    invariants.stepped(view(0, Role::Leader, 1, 2, 2)).unwrap();
    invariants.wrote(2, &write(in_term(2, None), vec![entry(2, 2, "other")])).unwrap();
    refused(invariants.stepped(view(2, Role::Follower, 2, 2, 2)), "committed never changes");
}

#[test]
fn a_leader_without_a_committed_entry_is_refused() {
    let mut invariants = three(2);
    invariants.stepped(view(0, Role::Leader, 1, 2, 2)).unwrap();
    invariants.wrote(2, &write(in_term(2, None), vec![entry(2, 2, "other")])).unwrap();
    refused(invariants.stepped(view(2, Role::Leader, 2, 0, 2)), "leader completeness");
}

/// A log that begins behind a snapshot, and later behind an older one, has lost what it held.
#[test]
fn a_log_that_falls_back_to_an_older_snapshot_is_refused() {
    let mut invariants = three(3);
    invariants.stepped(view(0, Role::Leader, 1, 2, 2)).unwrap();
    let behind = |index: u64, entries: Vec<Entry>| {
        let base = Position::new(Term(1), Index(index));
        let hard_state = HardState { term: Term(1), vote: None };
        Restored { hard_state, base, entries, snapshot: base, membership: None }
    };
    invariants.restarted(0, &behind(2, Vec::new())).unwrap();
    invariants.wrote(0, &write(None, vec![entry(3, 1, "c")])).unwrap();
    invariants.synced(0, WriteId(1));
    invariants.restarted(0, &behind(2, vec![entry(3, 1, "c")])).unwrap();
    refused(invariants.restarted(0, &behind(1, Vec::new())), "recovery");
}

#[test]
fn states_that_differ_at_one_index_are_refused() {
    let mut invariants = three(2);
    invariants.state_machine.committed(1);
    invariants.state_machine.committed(2);
    invariants.state_machine.stepped(view(0, Role::Leader, 1, 2, 2)).unwrap();
    let other = View { digest: 77, ..view(1, Role::Follower, 1, 2, 2) };
    refused(invariants.state_machine.stepped(other), "state machine safety");
    let ahead = view(1, Role::Follower, 1, 3, 3);
    refused(invariants.state_machine.stepped(ahead), "state machine safety");
}

#[test]
fn a_term_a_commit_or_a_vote_that_goes_back_is_refused() {
    let mut invariants = three(2);
    invariants.stepped(view(0, Role::Leader, 1, 2, 2)).unwrap();
    refused(invariants.stepped(view(0, Role::Follower, 1, 1, 2)), "monotonic");
    let mut invariants = three(2);
    invariants.wrote(0, &write(in_term(2, Some(node_id(0))), Vec::new())).unwrap();
    refused(invariants.wrote(0, &write(in_term(2, Some(node_id(1))), Vec::new())), "vote never regresses");
}

#[test]
fn a_promise_that_is_not_durable_is_refused() {
    let mut invariants = three(3);
    let says = |body| PeerEnvelope {
        cluster: None,
        from: node_id(0),
        to: node_id(1),
        incarnation: Incarnation(1),
        start: quorate_storage::Start::default(),
        message: PeerMessage::Raft(Message { term: Term(2), body }),
    };
    invariants.wrote(0, &write(in_term(2, Some(node_id(1))), vec![entry(3, 2, "c")])).unwrap();
    let vote = says(Body::VoteReply { granted: true });
    let acknowledgement = says(Body::Appended { matched: Index(3) });
    refused(invariants.sends(0, &vote), "durable promise");
    refused(invariants.sends(0, &acknowledgement), "durable promise");
    invariants.synced(0, WriteId(1));
    invariants.sends(0, &vote).unwrap();
    invariants.sends(0, &acknowledgement).unwrap();
}

#[test]
fn a_disk_that_forgets_what_was_synced_is_refused() {
    let hard_state = HardState { term: Term(1), vote: None };
    let restored = |entries| Restored { hard_state, entries, ..Restored::default() };
    three(1).restarted(0, &restored(vec![entry(1, 1, "a"), entry(2, 1, "b")])).unwrap();
    refused(three(1).restarted(0, &restored(vec![entry(1, 1, "a")])), "recovery");
    // What was never synced may be there, in part, or not at all.
    three(1).restarted(2, &restored(vec![entry(1, 1, "a")])).unwrap();
    three(1).restarted(2, &Restored::default()).unwrap();
    refused(three(1).restarted(2, &restored(vec![entry(1, 1, "x")])), "recovery");
}

/// A whole run, to be spoiled.
fn judged() -> World {
    let mut prng = Prng::new(2);
    let mut options = Options::swarm(&mut prng);
    options.workload.pipeliners = 3;
    options.workload.pipeline_depth = 8;
    let mut world = World::new(options, &mut prng, Trace::default());
    world.run_until(world.options.faults_last, |_| false).expect("a run without a violation");
    world.recover().expect("a run without a violation");
    world
}

#[test]
fn spoiled_histories_of_a_real_run_are_refused() {
    let world = judged();
    let effects = world.effects().unwrap();
    let good = world.history().operations().to_vec();
    exactly_once::check(&good, effects).unwrap();
    connection_order::check(&good, effects).unwrap();
    verdict::check_keys(&good, &verdict::ranks(&good, effects)).unwrap();

    let at = position(&good, |o| o.is_complete() && matches!(o.action, Action::Append { .. }));
    let mut lost = good.clone();
    lost[at].token = Some(Bytes::from_static(b"never applied"));
    refused(exactly_once::check(&lost, effects), "exactly once");

    let mut lied = good.clone();
    lied[at].outcome = Outcome::NotExecuted;
    refused(exactly_once::check(&lied, effects), "exactly once");

    let (first, second) = two_writes_of_a_pipeline(&good);
    let mut swapped = good.clone();
    let token = swapped[first].token.clone();
    swapped[first].token = swapped[second].token.clone();
    swapped[second].token = token;
    refused(connection_order::check(&swapped, effects), "order on a connection");
    assert!(reads_without_the_write_before(&good, effects) > 0, "no read follows a write of its connection");

    // Only appended to: what it lacks cannot have been deleted meanwhile; and behind an append that was acknowledged before
    // it was asked, so that nothing of what it lacks can be still to come.
    let is_behind = |read: &Operation, write: &Operation| {
        write.key == read.key && write.is_complete() && write.is_write() && write.returned < Some(read.call)
    };
    let read = position(&good, |o| {
        let is_long = o.outcome.value().is_some_and(|v| v.len() > 30);
        let is_read = o.key.starts_with(b"a") && is_long && o.action == Action::Get;
        is_read && good.iter().any(|write| is_behind(o, write))
    });
    let mut stale = good.clone();
    stale[read].outcome = Outcome::Nil;
    let guilty = verdict::check_keys(&stale, &verdict::ranks(&stale, effects)).expect_err("it passed");
    assert_eq!(guilty.violation.invariant, "linearizability");
    let blame = guilty.blame.expect("it is found who is to blame");
    assert_eq!(blame.culprit.0, read, "{}", guilty.violation);
    assert!(blame.core.len() > 1 && blame.core.contains(&blame.culprit), "{}", guilty.violation);
}

fn position(operations: &[Operation], is: impl Fn(&Operation) -> bool) -> usize {
    operations.iter().position(is).expect("a run has one of these")
}

/// Takes the last append before a read out of what the read saw. If the append was acknowledged that is refused; if it was
/// answered "may or may not, now or later" it may still have been to come. Gives how many reads were tried.
fn reads_without_the_write_before(good: &[Operation], effects: &Effects) -> usize {
    let mut tried = 0;
    for (at, read) in good.iter().enumerate().filter(|(_, o)| o.connection != 0 && o.action == Action::Get) {
        let before = good[..at].iter().rposition(|o| o.connection == read.connection);
        let Some(write) = before.filter(|write| good[*write].key == read.key) else { continue };
        let Action::Append { value: token } = &good[write].action else { continue };
        let Some(old) = read.outcome.value().and_then(|value| value.strip_suffix(&token[..])) else {
            continue;
        };
        if old.is_empty() || !good[write].is_complete() {
            continue;
        }
        let mut stale = good.to_vec();
        stale[at].outcome = Outcome::Value(Bytes::copy_from_slice(old));
        refused(connection_order::check(&stale[..=at], effects), "order on a connection");
        stale[write].outcome = Outcome::Unknown;
        connection_order::check(&stale[..=at], effects).expect("the append may be to come");
        tried += 1;
    }
    tried
}

/// Two completed appends of one connection.
fn two_writes_of_a_pipeline(operations: &[Operation]) -> (usize, usize) {
    let mut first: BTreeMap<u64, usize> = BTreeMap::new();
    for (at, operation) in operations.iter().enumerate() {
        let is_append = operation.is_complete() && matches!(operation.action, Action::Append { .. });
        if operation.connection != 0 && is_append {
            if let Some(first) = first.get(&operation.connection) {
                return (*first, at);
            }
            first.insert(operation.connection, at);
        }
    }
    panic!("no connection has two appends");
}
