//! The additions of 2025: a replicated state machine under submits that nobody repeats. A submit is an append on a
//! plain connection: its answer is the length, so it counts.

use bytes::Bytes;

use crate::history::{Action, Outcome};
use crate::invariants::Violation;
use crate::lab::raft::checks::demand;
use crate::lab::service::cluster::{LogLimits, Service};
use crate::lab::{Figure, Verdict};
use crate::network::HostIndex;
use crate::schedule::SECOND;
use crate::world::ClientIndex;

const SERVERS: usize = 3;
const KEY: Bytes = Bytes::from_static(b"counter");

/// Seconds that the course gives to each submit.
const SUBMIT_MAX: u64 = 10 * SECOND;

/// Submits so many on one connection at once.
fn submit(service: &mut Service, client: ClientIndex, host: HostIndex, count: usize) {
    for _ in 0..count {
        let action = service.append(client);
        service.submit(client, host, KEY, action);
    }
}

/// How many of a client's submits were answered with a length, and how many with something else or nothing.
fn answered(service: &Service, client: ClientIndex) -> (usize, usize) {
    let own = service.operations().iter().filter(|operation| operation.client == client as u32);
    let lengths = own.clone().filter(|operation| matches!(operation.outcome, Outcome::Integer(_))).count();
    (lengths, own.count() - lengths)
}

/// Submits so many and waits until all are answered.
fn submit_all(
    service: &mut Service,
    client: ClientIndex,
    host: HostIndex,
    count: usize,
) -> Result<u64, Violation> {
    let before = answered(service, client).0;
    submit(service, client, host, count);
    let took = service.finish(&[client], SUBMIT_MAX)?;
    let done = answered(service, client).0 - before;
    demand(done == count, || format!("{done} of {count} submits returned a result"))?;
    Ok(took)
}

/// How many appends the counter's value holds; asked through a Clerk, so it is no matter who serves.
fn counted(service: &mut Service) -> Result<usize, Violation> {
    let clerk = service.clerk_of_all();
    let value = service.call(clerk, KEY, Action::Get)?;
    Ok(value.value().map_or(0, |value| value.iter().filter(|byte| **byte == b';').count()))
}

fn must_count(service: &mut Service, wanted: usize) -> Result<(), Violation> {
    let counted = counted(service)?;
    demand(counted == wanted, || format!("the counter is {counted}, not {wanted}"))
}

/// Ten submits, one after the other.
pub(crate) fn basic(seed: u64) -> Verdict {
    let mut service = Service::new(SERVERS, false, seed)?;
    let leader = service.leader()?;
    let client = service.plain();
    let mut slowest = 0;
    for _ in 0..10 {
        slowest = slowest.max(submit_all(&mut service, client, leader, 1)?);
    }
    must_count(&mut service, 10)?;
    // The first one dials, 2 ms, and may find the gateway without a session; then 4 ms and the syncs.
    service.judged(vec![Figure::ms("slowest submit, ms", slowest, 10_000, 12)])
}

/// Fifty submits at once.
pub(crate) fn concurrent(seed: u64) -> Verdict {
    let mut service = Service::new(SERVERS, false, seed)?;
    let leader = service.leader()?;
    let clients: Vec<ClientIndex> = (0..50).map(|_| service.plain()).collect();
    clients.iter().for_each(|client| submit(&mut service, *client, leader, 1));
    let took = service.finish(&clients, SUBMIT_MAX)?;
    must_count(&mut service, 50)?;
    service.judged(vec![Figure::ms("fifty submits, ms", took, 10_000, 15)])
}

/// The leader stops; the others go on; it comes back.
pub(crate) fn leader_failure(seed: u64) -> Verdict {
    let mut service = Service::new(SERVERS, false, seed)?;
    let leader = service.leader()?;
    let first = service.plain();
    submit_all(&mut service, first, leader, 1)?;
    service.stop(leader, false);
    let second = service.plain();
    let took = submit_all(&mut service, second, (leader + 1) % SERVERS, 1)?;
    service.start(leader);
    service.run_for(SECOND)?;
    let third = service.plain();
    submit_all(&mut service, third, leader, 1)?;
    must_count(&mut service, 3)?;
    // One election, with one split vote, and the submit itself.
    service.judged(vec![Figure::ms("served without its leader after, ms", took, 10_000, 1_020)])
}

/// A hundred submits on a leader that is cut off: no result before the partition ends, and all end soon after.
pub(crate) fn leader_partition(seed: u64) -> Verdict {
    let mut service = Service::new(SERVERS, false, seed)?;
    let leader = service.leader()?;
    let client = service.plain();
    submit_all(&mut service, client, leader, 1)?;
    let groups: Vec<usize> = (0..SERVERS).map(|host| usize::from(host == leader)).collect();
    service.partition(&groups);
    submit(&mut service, client, leader, 100);
    service.run_for(2 * SECOND)?;
    let other = service.plain();
    submit_all(&mut service, other, (leader + 1) % SERVERS, 10)?;
    let (results, _) = answered(&service, client);
    demand(results == 1, || format!("{} submits had a result without a majority", results - 1))?;
    service.heal();
    let took = service.finish(&[client], 2 * SECOND)?;
    // Unlike the course's, the gateway carries them to the new leader: what is answered then has run, once.
    let (results, _) = answered(&service, client);
    let counted = counted(&mut service)?;
    demand(counted >= results + 10, || format!("{counted} ran of {} that had a result", results + 10))?;
    let list = vec![
        Figure::ms("all returned after healing, ms", took, 1_000, 200),
        Figure::seen("of them with a result", results as u64 - 1),
    ];
    service.judged(list)
}

/// A hundred submits, all servers restart, and the state is there again.
pub(crate) fn restart_replay(seed: u64) -> Verdict {
    let mut service = Service::new(SERVERS, false, seed)?;
    let leader = service.leader()?;
    let client = service.plain();
    for _ in 0..100 {
        submit_all(&mut service, client, leader, 1)?;
    }
    (0..SERVERS).for_each(|host| service.stop(host, true));
    service.run_for(SECOND)?;
    (0..SERVERS).for_each(|host| service.start(host));
    let began = service.now();
    service.run_for(10_000)?;
    let leader = service.leader()?;
    let after = service.plain();
    submit_all(&mut service, after, leader, 1)?;
    let took = service.now() - began;
    must_count(&mut service, 101)?;
    service.judged(vec![Figure::ms("served after the restart, ms", took, 10_000, 1_100)])
}

/// A hundred submits are under way when all servers stop: all end.
fn shut_down(service: &mut Service) -> Result<(ClientIndex, u64), Violation> {
    let leader = service.leader()?;
    let client = service.plain();
    submit_all(service, client, leader, 1)?;
    // Cut off, so that none can end well; then all stop.
    let groups: Vec<usize> = (0..SERVERS).collect();
    service.partition(&groups);
    submit(service, client, leader, 100);
    service.run_for(20_000)?;
    (0..SERVERS).for_each(|host| service.stop(host, false));
    let took = service.finish(&[client], 11 * SECOND)?;
    let (results, _) = answered(service, client);
    demand(results == 1, || format!("{} submits had a result without a majority", results - 1))?;
    service.heal();
    (0..SERVERS).for_each(|host| service.start(host));
    Ok((client, took))
}

/// A hundred pending submits end when the servers stop.
pub(crate) fn shutdown(seed: u64) -> Verdict {
    let mut service = Service::new(SERVERS, false, seed)?;
    let (_, took) = shut_down(&mut service)?;
    service.run_for(SECOND)?;
    service.judged(vec![Figure::ms("all returned after the stop, ms", took, 11_000, 2)])
}

/// The same, and after the restart a hundred more are served.
pub(crate) fn restart_submit(seed: u64) -> Verdict {
    let mut service = Service::new(SERVERS, false, seed)?;
    let (_, took) = shut_down(&mut service)?;
    service.run_for(10_000)?;
    let leader = service.leader()?;
    let client = service.plain();
    let served = submit_all(&mut service, client, leader, 100)?;
    let counted = counted(&mut service)?;
    demand((101..=201).contains(&counted), || format!("the counter is {counted}"))?;
    let list = vec![
        Figure::ms("all returned after the stop, ms", took, 11_000, 2),
        Figure::ms("a hundred more, ms", served, 10_000, 15),
    ];
    service.judged(list)
}

/// A hundred submits with snapshots: the log stays short, and a restart goes on from them.
pub(crate) fn snapshot(seed: u64) -> Verdict {
    // The course allows twice its bound where it looks; ours holds at every instant.
    let limits = LogLimits { log_bytes_max: 300, lab: 2_000, ours: 2_000, ever: 2_000 };
    let mut service = Service::of_logs(SERVERS, false, Some(limits), seed)?;
    let leader = service.leader()?;
    let client = service.plain();
    for _ in 0..100 {
        submit_all(&mut service, client, leader, 1)?;
    }
    must_count(&mut service, 100)?;
    service.look_at_logs();
    demand(service.largest_snapshot() > 0, || "nobody took a snapshot".to_owned())?;
    (0..SERVERS).for_each(|host| service.stop(host, true));
    service.run_for(SECOND)?;
    (0..SERVERS).for_each(|host| service.start(host));
    let began = service.now();
    service.run_for(10_000)?;
    let leader = service.leader()?;
    let after = service.plain();
    submit_all(&mut service, after, leader, 1)?;
    let took = service.now() - began;
    must_count(&mut service, 101)?;
    service.judged(vec![Figure::ms("served after the restart, ms", took, 10_000, 1_100)])
}
