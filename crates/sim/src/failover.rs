//! How long nobody leads when the leader dies or stands still, in virtual time and with the defaults; and that a disk that is
//! slow is no reason for an election. Knows nothing of how that is done.

use bytes::Bytes;
use quorate_raft::Term;

use crate::invariants::Violation;
use crate::lab::service::cluster::Service;
use crate::network::HostIndex;
use crate::schedule::{MS, Micros, SECOND};

const SEEDS: u64 = 60;

/// From what happens to the leader to the acknowledgement of a write that a survivor was asked for right after it.
fn outage(seed: u64, strike: impl FnOnce(&mut Service, HostIndex)) -> Result<Micros, Violation> {
    let mut service = Service::new(3, false, seed)?;
    let leader = service.leader()?;
    let others: Vec<HostIndex> = (0..3).filter(|host| *host != leader).collect();
    let clerk = service.clerk(&others);
    let key = Bytes::from_static(b"k");
    let append = service.append(clerk);
    service.call(clerk, key.clone(), append)?;
    // Anywhere between two heartbeats.
    service.run_for(seed * 7 % 100 * MS)?;
    let struck = service.now();
    strike(&mut service, leader);
    let append = service.append(clerk);
    service.call(clerk, key, append)?;
    let outage = service.now() - struck;
    service.start(leader);
    service.run_for(6 * SECOND)?;
    service.judged(Vec::new())?;
    Ok(outage)
}

/// Median and worst.
fn outages(strike: impl Fn(&mut Service, HostIndex)) -> (Micros, Micros) {
    let outage = |seed| outage(seed, &strike).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
    let mut all: Vec<Micros> = (1..=SEEDS).map(outage).collect();
    all.sort_unstable();
    let (median, worst) = (all[all.len() / 2], all[all.len() - 1]);
    println!("median {} ms, worst {} ms", median / MS, worst / MS);
    (median, worst)
}

/// Without the hint that a closed connection is, it is what it is when the leader stands still.
#[test]
fn a_leader_that_dies_is_soon_replaced() {
    let (median, worst) = outages(|service, leader| service.stop(leader, false));
    assert!(median <= 120 * MS && worst <= 400 * MS, "{median} {worst}");
}

#[test]
fn a_leader_that_stands_still_is_replaced_within_an_election_timeout() {
    let (median, worst) = outages(|service, leader| {
        let until = service.now() + 5 * SECOND;
        service.world.hosts[leader].asleep_until = until;
        service.world.invariants.steady.disturbed();
    });
    assert!((250 * MS..=420 * MS).contains(&median) && worst <= 700 * MS, "{median} {worst}");
}

fn terms(service: &Service) -> Vec<Option<Term>> {
    (0..3).map(|host| service.raft(host).map(quorate_raft::Node::term)).collect()
}

/// Every sync of every disk takes 500 ms, which is the longest election timeout.
#[test]
fn disks_that_take_as_long_as_an_election_timeout_cause_no_election() {
    let no_election = || -> Result<u64, Violation> {
        let mut service = Service::new(3, false, 7)?;
        service.leader()?;
        let terms_before = terms(&service);
        service.world.options.host.sync_min = 500 * MS;
        service.world.options.host.sync_max = 500 * MS;
        let clerk = service.clerk_of_all();
        let calls: Vec<_> = (0..1_000).map(|_| (Bytes::from_static(b"k"), service.append(clerk))).collect();
        service.tell(clerk, calls);
        service.run_for(60 * SECOND)?;
        assert_eq!(terms(&service), terms_before);
        service.hush(clerk);
        service.finish(&[clerk], 10 * SECOND)?;
        let written = service.operations().iter().filter(|operation| operation.is_complete()).count();
        service.judged(Vec::new())?;
        Ok(written as u64)
    };
    let written = no_election().unwrap_or_else(|violation| panic!("{violation}"));
    // One sync each, two at most: a follower's begins while the leader's of another write is under way.
    assert!(written >= 50, "{written}");
}

/// Two such syncs stand between a campaign and its end: the candidate's own vote, and then a voter's.
#[test]
fn disks_that_take_as_long_as_an_election_timeout_elect_a_leader() {
    let elected = || -> Result<Micros, Violation> {
        let mut service =
            Service::on_hosts(3, 7, |host| (host.sync_min, host.sync_max) = (500 * MS, 500 * MS))?;
        let leader = service.leader()?;
        service.stop(leader, false);
        let others: Vec<HostIndex> = (0..3).filter(|host| *host != leader).collect();
        let clerk = service.clerk(&others);
        let append = service.append(clerk);
        service.tell(clerk, [(Bytes::from_static(b"k"), append)]);
        let took = service.finish(&[clerk], 20 * SECOND)?;
        service.start(leader);
        service.run_for(6 * SECOND)?;
        service.judged(Vec::new())?;
        Ok(took)
    };
    let took = elected().unwrap_or_else(|violation| panic!("{violation}"));
    println!("a write is served after {} ms", took / MS);
}
