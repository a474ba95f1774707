//! Part 2C: what survives a restart. The wild ones stand in `part_2c_wild`.

use crate::invariants::Violation;
use crate::lab::Verdict;
use crate::lab::raft::checks::{Agreement, ELECTION};
use crate::lab::raft::cluster::Cluster;
use crate::schedule::MS;

/// Ours: a restart costs one election, with one split vote, and the first poll of the proposer.
const RESTART_AGREEMENT_MS: u64 = 1_100;

fn restart(cluster: &mut Cluster, server: usize) -> Result<(), Violation> {
    let server = server % cluster.count();
    cluster.start(server)?;
    cluster.connect(server);
    Ok(())
}

/// All, then leaders, then a follower restart.
pub(crate) fn persist_1(seed: u64) -> Verdict {
    let mut cluster = Cluster::new(3, seed)?;
    cluster.one(3, true)?;
    (0..3).try_for_each(|server| restart(&mut cluster, server))?;
    cluster.one(3, true)?;
    let first = cluster.one_leader()?;
    cluster.disconnect(first);
    restart(&mut cluster, first)?;
    cluster.one(3, true)?;
    let second = cluster.one_leader()?;
    cluster.disconnect(second);
    cluster.one(2, true)?;
    restart(&mut cluster, second)?;
    cluster.wait(4, 3, None)?;
    let third = cluster.one_leader()? + 1;
    cluster.disconnect(third);
    cluster.one(2, true)?;
    restart(&mut cluster, third)?;
    cluster.one(3, true)?;
    Ok(cluster.figures(RESTART_AGREEMENT_MS, Vec::new()))
}

/// Five rounds of crashes that go around.
pub(crate) fn persist_2(seed: u64) -> Verdict {
    let mut cluster = Cluster::new(5, seed)?;
    for _ in 0..5 {
        cluster.one(5, true)?;
        let leader = cluster.one_leader()?;
        cluster.disconnect(leader + 1);
        cluster.disconnect(leader + 2);
        cluster.one(3, true)?;
        [0, 3, 4].into_iter().for_each(|other| cluster.disconnect(leader + other));
        restart(&mut cluster, leader + 1)?;
        restart(&mut cluster, leader + 2)?;
        cluster.run_for(ELECTION)?;
        restart(&mut cluster, leader + 3)?;
        cluster.one(3, true)?;
        cluster.connect(leader + 4);
        cluster.connect(leader);
    }
    cluster.one(5, true)?;
    Ok(cluster.figures(RESTART_AGREEMENT_MS, Vec::new()))
}

/// A leader and a follower crash while the third was cut off.
pub(crate) fn persist_3(seed: u64) -> Verdict {
    let mut cluster = Cluster::new(3, seed)?;
    cluster.one(3, true)?;
    let leader = cluster.one_leader()?;
    cluster.disconnect(leader + 2);
    cluster.one(2, true)?;
    cluster.crash(leader);
    cluster.crash((leader + 1) % 3);
    cluster.connect(leader + 2);
    restart(&mut cluster, leader)?;
    cluster.one(2, true)?;
    restart(&mut cluster, leader + 1)?;
    cluster.one(3, true)?;
    Ok(cluster.figures(RESTART_AGREEMENT_MS, Vec::new()))
}

/// The leader crashes a thousand times, often with entries that only it holds (figure 8 of the paper).
pub(crate) fn figure_8(seed: u64) -> Verdict {
    const SERVERS: u64 = 5;
    let mut cluster = Cluster::of_small_appends(SERVERS as usize, seed)?;
    cluster.one(1, true)?;
    let mut up = SERVERS;
    for _ in 0..1_000 {
        let mut leader = None;
        for server in 0..SERVERS as usize {
            let command = cluster.command(8);
            if cluster.propose(server, &command)?.is_some() {
                leader = Some(server);
            }
        }
        // The course sleeps for whole milliseconds; here a message takes one, so what lies between them matters.
        let pause = if cluster.prng.chance(0.1) { ELECTION / 2 } else { 13 * MS };
        let pause = cluster.prng.below(pause);
        cluster.run_for(pause)?;
        if let Some(leader) = leader {
            cluster.crash(leader);
            up -= 1;
        }
        if up < 3 {
            let server = cluster.prng.below(SERVERS) as usize;
            if !cluster.is_up(server) {
                restart(&mut cluster, server)?;
                up += 1;
            }
        }
    }
    cluster.restore_all()?;
    cluster.one(SERVERS as usize, true)?;
    Ok(cluster.figures(RESTART_AGREEMENT_MS, Vec::new()))
}

/// Many commands at once over a network that delays and drops.
pub(crate) fn unreliable_agree(seed: u64) -> Verdict {
    const SERVERS: usize = 5;
    let mut cluster = Cluster::new(SERVERS, seed)?;
    cluster.network.is_unreliable = true;
    let mut open: Vec<Agreement> = Vec::new();
    for _ in 1..50 {
        for _ in 0..4 {
            let command = cluster.command(8);
            open.push(Agreement::new(&cluster, command, 1, true));
        }
        let command = cluster.command(8);
        let mut own = Agreement::new(&cluster, command, 1, true);
        while own.poll(&mut cluster)?.is_none() {
            cluster.run_for(MS)?;
            look_after(&mut cluster, &mut open)?;
        }
    }
    cluster.network.is_unreliable = false;
    while !open.is_empty() {
        cluster.run_for(MS)?;
        look_after(&mut cluster, &mut open)?;
    }
    cluster.one(SERVERS, true)?;
    // A message to the one follower that would make the majority may be lost; the next heartbeat but one finds it out.
    Ok(cluster.figures(1_500, Vec::new()))
}

fn look_after(cluster: &mut Cluster, open: &mut Vec<Agreement>) -> Result<(), Violation> {
    let mut still = Vec::with_capacity(open.len());
    for mut agreement in open.drain(..) {
        if agreement.poll(cluster)?.is_none() {
            still.push(agreement);
        }
    }
    *open = still;
    Ok(())
}
