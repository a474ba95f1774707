//! A server that was away until the others' logs did not reach back to it any more, while clients go on writing and the
//! others go on taking snapshots: it must come back within a stated time. Knows nothing of how that is done.

use bytes::Bytes;
use quorate_raft::Index;
use quorate_replica::command::Condition;

use crate::history::Action;
use crate::invariants::Violation;
use crate::lab::service::cluster::Service;
use crate::options::HostOptions;
use crate::schedule::{Micros, SECOND};
use crate::world::World;

/// The one that was away.
const AWAY: usize = 2;
const KEYS: usize = 200;
const VALUE_BYTES: usize = 1_000;
/// Entries that a follower without a fault may be behind.
const NEAR: u64 = 20;
/// Bytes of a snapshot that travel in a second, as long as that is enough.
const RATE: u64 = 20_000;
/// A snapshot of the keys at that rate takes ten seconds. Each try is twice as fast as the one before, so however many there
/// are, all of them together take less than twice as long as the first; and what is left over is for what came meanwhile.
const BOUND: Micros = 25 * SECOND;

fn put(number: usize) -> (Bytes, Action) {
    let value = Bytes::from(format!("{number:->VALUE_BYTES$}"));
    let key = Bytes::from(format!("k{}", number % KEYS));
    (key, Action::Put { value, condition: Condition::Always, get: false })
}

fn last(world: &World, host: usize) -> Index {
    let raft = world.hosts[host].process.as_ref().and_then(|process| process.replica.raft());
    raft.map_or(Index::ZERO, |raft| raft.last().index)
}

fn applied(world: &World, host: usize) -> Index {
    let machine = world.hosts[host].process.as_ref().and_then(|process| process.replica.machine());
    machine.map_or(Index::ZERO, quorate_replica::Machine::applied)
}

/// How long it took to come back, and how many snapshots the leader took meanwhile.
fn comes_back(tell: impl FnOnce(&mut HostOptions)) -> Result<(Micros, u64), Violation> {
    let mut service = Service::on_hosts(3, 7, tell)?;
    let clerk = service.clerk(&[0, 1]);
    service.tell(clerk, (0..KEYS).map(put));
    service.finish(&[clerk], 20 * SECOND)?;
    service.partition(&[0, 0, 1]);
    // More than it calls in all the time there is.
    service.tell(clerk, (KEYS..100_000).map(put));
    service.run_for(10 * SECOND)?;
    let leader = service.leader()?;
    let base = |service: &Service, host| service.raft(host).map(|raft| raft.base().index);
    assert!(
        (0..2).all(|host| base(&service, host) > Some(last(&service.world, AWAY))),
        "what it needs is gone"
    );
    let taken = |service: &Service| {
        let leader = service.world.hosts[leader].process.as_ref();
        leader.map_or(0, |process| process.replica.status().snapshots.taken)
    };
    let before = taken(&service);
    service.heal();
    let is_near = |world: &World| applied(world, AWAY).0 + NEAR >= last(world, leader).0;
    let took = service.until("the one that was away", BOUND, is_near)?;
    let others = taken(&service) - before;
    // And it stays.
    service.run_for(5 * SECOND)?;
    assert!(is_near(&service.world), "it has fallen behind again");
    service.hush(clerk);
    service.finish(&[clerk], 5 * SECOND)?;
    service.judged(Vec::new())?;
    Ok((took, others))
}

#[test]
fn a_server_comes_back_though_a_snapshot_takes_longer_than_the_time_between_two() {
    let result = comes_back(|host| {
        host.log_bytes_max = 300_000;
        host.snapshot_chunk_bytes = 2_000;
        host.snapshot_chunks_per_second = RATE / 2_000;
    });
    let (took, taken) = result.unwrap_or_else(|violation| panic!("{violation}"));
    println!("after {} ms, in which the leader has taken {taken} snapshots", took / 1_000);
    // Or it would not be what it is meant to be.
    assert!(taken >= 3, "{taken}");
}

/// Here no haste helps: a piece is asked for when the one before is stored, and pieces are small. What it needs must be held.
#[test]
fn a_server_comes_back_though_a_snapshot_is_slow_whatever_it_is_asked_for() {
    let result = comes_back(|host| {
        host.log_bytes_max = 300_000;
        host.snapshot_chunk_bytes = 500;
        host.snapshot_chunks_per_second = 100_000;
    });
    let (took, taken) = result.unwrap_or_else(|violation| panic!("{violation}"));
    println!("after {} ms, in which the leader has taken {taken} snapshots", took / 1_000);
    assert!(taken >= 1, "{taken}");
}

/// Logs are on the disks only, and no snapshot is taken but for the one that was away. It takes seconds to get there, in which
/// the others write many times what they keep in memory: what follows it must be held.
#[test]
fn a_server_comes_back_though_nobody_has_a_snapshot_or_what_it_lacks_in_memory() {
    let result = comes_back(|host| {
        host.log_memory_bytes = 20_000;
        host.snapshot_chunk_bytes = 2_000;
        host.snapshot_chunks_per_second = RATE / 2_000;
    });
    let (took, taken) = result.unwrap_or_else(|violation| panic!("{violation}"));
    println!("after {} ms, in which the leader has taken {taken} snapshots", took / 1_000);
    assert_eq!(taken, 1);
}
