//! Part 2A: elections.

use crate::lab::raft::checks::{ELECTION, demand};
use crate::lab::raft::cluster::Cluster;
use crate::lab::{Figure, Verdict};
use crate::schedule::MS;

fn finished(cluster: &Cluster, list: Vec<Figure>) -> Verdict {
    Ok(cluster.figures(0, list))
}

/// One leader, one term, and both stay. The course only warns if they do not.
pub(crate) fn initial_election(seed: u64) -> Verdict {
    let mut cluster = Cluster::new(3, seed)?;
    let leader = cluster.one_leader()?;
    cluster.run_for(50 * MS)?;
    let term = cluster.one_term()?;
    demand(term.0 >= 1, || format!("the term is {term}"))?;
    cluster.run_for(2 * ELECTION)?;
    let later = cluster.one_term()?;
    demand(later == term, || format!("term {term} became {later} without a failure"))?;
    let still = cluster.one_leader()?;
    demand(still == leader, || format!("n{} took over from n{} without a failure", still + 1, leader + 1))?;
    // A term costs one campaign of one candidate: two pre-votes and two votes. A second candidate may have woken
    // within the same two milliseconds, hence the room for one more.
    let campaigns = cluster.traffic.campaigns;
    finished(&cluster, vec![Figure::of_ours("campaign messages", campaigns, 8)])
}

/// Leaders are cut off and come back: no disturbance; no majority, no leader.
pub(crate) fn re_election(seed: u64) -> Verdict {
    let mut cluster = Cluster::new(3, seed)?;
    let first = cluster.one_leader()?;
    cluster.disconnect(first);
    let second = cluster.one_leader()?;
    let term = cluster.one_term()?;
    cluster.connect(first);
    let leader = cluster.one_leader()?;
    let after = cluster.one_term()?;
    // Pre-vote and check-quorum let the old leader come back without an election.
    demand((leader, after) == (second, term), || {
        format!(
            "the old leader's return moved the leadership: n{}@{term} to n{}@{after}",
            second + 1,
            leader + 1
        )
    })?;
    cluster.disconnect(leader);
    cluster.disconnect(leader + 1);
    cluster.run_for(2 * ELECTION)?;
    cluster.no_leader()?;
    cluster.connect(leader + 1);
    cluster.one_leader()?;
    cluster.connect(leader);
    cluster.one_leader()?;
    finished(&cluster, Vec::new())
}

/// Three of seven are cut off, again and again: a leader always exists.
pub(crate) fn many_elections(seed: u64) -> Verdict {
    const SERVERS: usize = 7;
    let mut cluster = Cluster::new(SERVERS, seed)?;
    cluster.one_leader()?;
    for _ in 1..10 {
        let cut: [usize; 3] = std::array::from_fn(|_| cluster.prng.below(SERVERS as u64) as usize);
        cut.iter().for_each(|server| cluster.disconnect(*server));
        cluster.one_leader()?;
        cut.iter().for_each(|server| cluster.connect(*server));
    }
    cluster.one_leader()?;
    finished(&cluster, Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::Violation;

    /// The harness must be able to refuse.
    #[test]
    fn a_cluster_without_a_majority_has_no_leader() -> Result<(), Violation> {
        let mut cluster = Cluster::new(3, 1)?;
        cluster.disconnect(0);
        cluster.disconnect(1);
        assert!(cluster.one_leader().is_err());
        assert!(cluster.one(1, true).is_err());
        Ok(())
    }
}
