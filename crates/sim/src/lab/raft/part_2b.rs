//! Part 2B: agreement, with and without failures. What is counted stands in `part_2b_counts`.

use bytes::Bytes;

use crate::invariants::Violation;
use crate::lab::raft::checks::{ELECTION, demand, failed};
use crate::lab::raft::cluster::Cluster;
use crate::lab::{Figure, Verdict};
use crate::schedule::SECOND;

/// Ours, where nothing fails once there is a leader: append and answer, 1 ms each, a sync of 0.1 ms, 1 ms until the
/// followers know of the commit, 1 ms of polling; the first command of a scenario waits for the first election.
pub(crate) const FIRST_AGREEMENT_MS: u64 = 1_010;

/// Ours, where a leader is lost while the command waits: one election more, with one split vote.
const ELECTION_AGREEMENT_MS: u64 = 1_100;

/// Three commands, each at its index, none before it was proposed.
pub(crate) fn basic_agree(seed: u64) -> Verdict {
    let mut cluster = Cluster::new(3, seed)?;
    cluster.one_leader()?;
    for index in 1..4 {
        cluster.nothing_at(index)?;
        cluster.one_at(index, 3)?;
    }
    // One round to the followers and one message that tells them: 3.1 ms, and the poll of 1 ms.
    Ok(cluster.figures(5, Vec::new()))
}

/// Followers are lost one after the other; without a majority nothing commits.
pub(crate) fn follower_failure(seed: u64) -> Verdict {
    let mut cluster = Cluster::new(3, seed)?;
    cluster.one_at(1, 3)?;
    let first = cluster.one_leader()?;
    cluster.disconnect(first + 1);
    cluster.one_at(2, 2)?;
    cluster.run_for(ELECTION)?;
    cluster.one_at(3, 2)?;
    let second = cluster.one_leader()?;
    cluster.disconnect(second + 1);
    cluster.disconnect(second + 2);
    let started = cluster.must_propose(second)?;
    demand(started.index == 4, || format!("the command stands at {}, not at 4", started.index))?;
    cluster.run_for(2 * ELECTION)?;
    cluster.nothing_at(4)?;
    Ok(cluster.figures(FIRST_AGREEMENT_MS, Vec::new()))
}

/// Leaders are lost one after the other; without a majority nothing commits.
pub(crate) fn leader_failure(seed: u64) -> Verdict {
    let mut cluster = Cluster::new(3, seed)?;
    cluster.one_at(1, 3)?;
    let first = cluster.one_leader()?;
    cluster.disconnect(first);
    cluster.one_at(2, 2)?;
    cluster.run_for(ELECTION)?;
    cluster.one_at(3, 2)?;
    let second = cluster.one_leader()?;
    cluster.disconnect(second);
    for server in 0..3 {
        let command = cluster.command(8);
        cluster.propose(server, &command)?;
    }
    cluster.run_for(2 * ELECTION)?;
    cluster.nothing_at(4)?;
    Ok(cluster.figures(ELECTION_AGREEMENT_MS, Vec::new()))
}

/// A follower comes back and catches up.
pub(crate) fn fail_agree(seed: u64) -> Verdict {
    let mut cluster = Cluster::new(3, seed)?;
    cluster.one_at(1, 3)?;
    let leader = cluster.one_leader()?;
    cluster.disconnect(leader + 1);
    cluster.one_at(2, 2)?;
    cluster.one_at(3, 2)?;
    cluster.run_for(ELECTION)?;
    cluster.one_at(4, 2)?;
    cluster.one_at(5, 2)?;
    cluster.connect(leader + 1);
    cluster.one(3, true)?;
    cluster.run_for(ELECTION)?;
    let last = cluster.one(3, true)?;
    demand(last == 7, || format!("the seventh command stands at {last}"))?;
    Ok(cluster.figures(FIRST_AGREEMENT_MS, Vec::new()))
}

/// Three of five are cut off: no commit; after the repair the servers agree again.
pub(crate) fn fail_no_agree(seed: u64) -> Verdict {
    let mut cluster = Cluster::new(5, seed)?;
    cluster.one_at(1, 5)?;
    let leader = cluster.one_leader()?;
    (1..4).for_each(|other| cluster.disconnect(leader + other));
    let started = cluster.must_propose(leader)?;
    demand(started.index == 2, || format!("the command stands at {}, not at 2", started.index))?;
    cluster.run_for(2 * ELECTION)?;
    cluster.nothing_at(2)?;
    (1..4).for_each(|other| cluster.connect(leader + other));
    // The cut-off three may have chosen a leader that does not know the command at 2.
    let second = cluster.one_leader()?;
    let started = cluster.must_propose(second)?;
    demand((2..=3).contains(&started.index), || format!("the command stands at {}", started.index))?;
    cluster.one(5, true)?;
    Ok(cluster.figures(FIRST_AGREEMENT_MS, Vec::new()))
}

/// Five commands proposed at one instant, in one term, all commit.
pub(crate) fn concurrent_starts(seed: u64) -> Verdict {
    let mut cluster = Cluster::new(3, seed)?;
    for attempt in 0..5 {
        if attempt > 0 {
            cluster.run_for(3 * SECOND)?;
        }
        let leader = cluster.one_leader()?;
        let term = cluster.must_propose(leader)?.term;
        let began = cluster.now();
        let commands: Vec<Bytes> = (0..5).map(|_| cluster.command(8)).collect();
        let mut indexes = Vec::new();
        for command in &commands {
            if let Some(started) = cluster.propose(leader, command)?.filter(|started| started.term == term) {
                indexes.push(started.index);
            }
        }
        if let Some(found) = all_at(&mut cluster, &indexes, term)? {
            demand(commands.iter().all(|command| found.contains(command)), || {
                "a command is missing".to_owned()
            })?;
            let took = cluster.now() - began;
            let list = vec![
                Figure::new("tries", attempt + 1, 5, 1),
                // The checker's own first pause is 10 ms.
                Figure::ms("five commands, ms", took, 10_000, 11),
            ];
            return Ok(cluster.figures(0, list));
        }
    }
    failed("the term changed in each of five tries".to_owned())
}

/// What stands at these indexes on all servers; `None` if the term changed.
fn all_at(
    cluster: &mut Cluster,
    indexes: &[usize],
    term: quorate_raft::Term,
) -> Result<Option<Vec<Bytes>>, Violation> {
    let mut found = Vec::new();
    for index in indexes {
        let Some(command) = cluster.wait(*index, cluster.count(), Some(term))? else { return Ok(None) };
        found.push(command);
    }
    Ok(Some(found))
}

/// A leader with entries that nobody else has comes back: they give way.
pub(crate) fn rejoin(seed: u64) -> Verdict {
    let mut cluster = Cluster::new(3, seed)?;
    cluster.one(3, true)?;
    let first = cluster.one_leader()?;
    cluster.disconnect(first);
    for _ in 0..3 {
        let command = cluster.command(8);
        cluster.propose(first, &command)?;
    }
    cluster.one(2, true)?;
    let second = cluster.one_leader()?;
    cluster.disconnect(second);
    cluster.connect(first);
    cluster.one(2, true)?;
    cluster.connect(second);
    // The second one may believe still that it leads, and take the command: the driver proposes it again after 2 s.
    cluster.one(3, true)?;
    Ok(cluster.figures(2_000 + ELECTION_AGREEMENT_MS, Vec::new()))
}

fn propose_fifty(cluster: &mut Cluster, leader: usize) -> Result<(), Violation> {
    (0..50).try_for_each(|_| cluster.must_propose(leader).map(|_| ()))
}

fn agree_fifty(cluster: &mut Cluster, servers: usize) -> Result<(), Violation> {
    (0..50).try_for_each(|_| cluster.one(servers, true).map(|_| ()))
}

/// Logs that conflict over fifty entries, in three regimes, are brought together fast.
pub(crate) fn backup(seed: u64) -> Verdict {
    const SERVERS: usize = 5;
    let mut cluster = Cluster::new(SERVERS, seed)?;
    cluster.one(SERVERS, true)?;
    let first = cluster.one_leader()?;
    // The leader and one follower are alone with fifty commands that cannot commit.
    (2..5).for_each(|other| cluster.disconnect(first + other));
    propose_fifty(&mut cluster, first)?;
    cluster.run_for(ELECTION / 2)?;
    (0..2).for_each(|other| cluster.disconnect(first + other));
    // The three others agree on fifty.
    (2..5).for_each(|other| cluster.connect(first + other));
    agree_fifty(&mut cluster, 3)?;
    // One of them is cut off, and two have fifty that cannot commit.
    let second = cluster.one_leader()?;
    let other = if second == (first + 2) % SERVERS { (second + 1) % SERVERS } else { (first + 2) % SERVERS };
    cluster.disconnect(other);
    propose_fifty(&mut cluster, second)?;
    cluster.run_for(ELECTION / 2)?;
    // The first two and the one that was cut off agree on fifty: their logs conflict.
    (0..SERVERS).for_each(|server| cluster.disconnect(server));
    [first, first + 1, other].into_iter().for_each(|server| cluster.connect(server));
    let rejected = cluster.traffic.rejections;
    agree_fifty(&mut cluster, 3)?;
    (0..SERVERS).for_each(|server| cluster.connect(server));
    cluster.one(SERVERS, true)?;
    // Four followers in turn hold another log; a hint skips a whole term, and a log holds three terms at most.
    let rejections = Figure::of_ours("rejected appends", cluster.traffic.rejections - rejected, 12);
    Ok(cluster.figures(ELECTION_AGREEMENT_MS, vec![rejections]))
}
