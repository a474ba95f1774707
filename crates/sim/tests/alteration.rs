//! The state of a server is altered: it finds out and stops, the others go on, and a start from its log heals it.

use quorate_sim::alteration::Alteration;
use quorate_sim::invariants::Violation;
use quorate_sim::schedule::SECOND;

/// Runs a story with some seeds, each with its own network and interval.
fn holds(seeds: std::ops::Range<u64>, story: impl Fn(u64) -> Result<(), Violation>) {
    for seed in seeds {
        if let Err(violation) = story(seed) {
            panic!("seed {seed}: {violation}");
        }
    }
}

/// The first server that does not lead.
fn follower(run: &Alteration, nodes: usize) -> usize {
    (0..nodes).find(|host| Some(*host) != run.leader()).expect("more than one server")
}

#[test]
fn a_follower_that_is_altered_stops_and_a_start_from_its_log_heals_it() {
    holds(1..5, |seed| {
        let mut run = Alteration::begin(seed, 3, false)?;
        let host = follower(&run, 3);
        run.alter(host);
        run.found(&[host])?;
        run.others_serve()?;
        run.restart(host)?;
        run.is_sound(host)?;
        run.finish()
    });
}

#[test]
fn a_leader_that_is_altered_leads_no_more() {
    holds(1..5, |seed| {
        let mut run = Alteration::begin(seed, 5, false)?;
        let Some(leader) = run.leader() else { return Ok(()) };
        run.alter(leader);
        run.found(&[leader])?;
        run.others_serve()?;
        run.restart(leader)?;
        run.is_sound(leader)?;
        run.finish()
    });
}

/// Three of five still agree.
#[test]
fn a_minority_that_is_altered_stops_each_for_itself() {
    holds(1..3, |seed| {
        let mut run = Alteration::begin(seed, 5, false)?;
        let leader = run.leader().unwrap_or(0);
        let others = [leader, (leader + 1) % 5];
        others.into_iter().for_each(|host| run.alter(host));
        run.found(&others)?;
        run.others_serve()
    });
}

#[test]
fn without_a_majority_nobody_serves_until_one_server_is_started_again() {
    holds(1..5, |seed| {
        let mut run = Alteration::begin(seed, 3, false)?;
        let first = follower(&run, 3);
        let second = (first + 1) % 3;
        run.alter(first);
        run.alter(second);
        run.no_majority()?;
        run.nothing_is_served(5 * SECOND)?;
        run.restart(first)?;
        run.is_sound(first)?;
        run.found(&[second])?;
        run.others_serve()?;
        run.restart(second)?;
        run.is_sound(second)?;
        run.finish()
    });
}

/// What was altered before it was written is in the snapshot, whose digest is right for it. So a start from there is found
/// out again; and no other snapshot is taken of such a state once it is found.
#[test]
fn an_altered_state_that_came_into_a_snapshot_is_found_again_after_every_start() {
    holds(1..5, |seed| {
        let mut run = Alteration::begin(seed, 3, true)?;
        let host = follower(&run, 3);
        run.alter(host);
        run.take_snapshot(host)?;
        run.found(&[host])?;
        let taken = run.snapshots_taken(host);
        run.others_serve()?;
        assert_eq!(run.snapshots_taken(host), taken);
        run.restart(host)?;
        run.found(&[host])?;
        run.others_serve()
    });
}
