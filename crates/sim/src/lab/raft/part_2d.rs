//! Part 2D: snapshots. Each server takes one every ten commands, and its log stays short.

use quorate_raft::Index;

use crate::invariants::Violation;
use crate::lab::raft::checks::demand;
use crate::lab::raft::cluster::Cluster;
use crate::lab::{Figure, Verdict};

const SERVERS: usize = 3;

/// Commands from one snapshot to the next.
const EVERY: usize = 10;

const ROUNDS: usize = 30;

/// What happens to one server in each round, while the others go on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Victim {
    /// There is none.
    Nobody,
    /// It is cut off.
    CutOff,
    /// It crashes.
    Crashes,
}

/// `snapcommon`: rounds of commands, in each of which a server falls behind and catches up.
fn rounds(seed: u64, victims: Victim, is_unreliable: bool) -> Verdict {
    let mut cluster = Cluster::of_snapshots(SERVERS, EVERY, seed)?;
    cluster.network.is_unreliable = is_unreliable;
    cluster.one(SERVERS, true)?;
    let mut leader = cluster.one_leader()?;
    for round in 0..ROUNDS {
        let next = (leader + 1) % SERVERS;
        let (victim, sender) = if round % 3 == 1 { (leader, next) } else { (next, leader) };
        match victims {
            Victim::Nobody => {}
            Victim::CutOff => {
                cluster.disconnect(victim);
                cluster.one(SERVERS - 1, true)?;
            }
            Victim::Crashes => {
                cluster.crash(victim);
                cluster.one(SERVERS - 1, true)?;
            }
        }
        for _ in 0..EVERY / 2 + cluster.prng.below(EVERY as u64) as usize {
            let command = cluster.command(8);
            // As in the course it need not lead.
            cluster.propose(sender, &command)?;
        }
        if victims == Victim::Nobody {
            cluster.one(SERVERS, true)?;
        } else {
            cluster.one(SERVERS - 1, true)?;
            comes_back(&mut cluster, victim)?;
            leader = cluster.one_leader()?;
        }
    }
    let installed = (0..SERVERS).map(|server| cluster.installed(server)).sum();
    let offers = cluster.traffic.offers;
    let snapshots = if victims == Victim::Nobody {
        // Nobody is behind for longer than a message takes.
        vec![Figure::of_ours("snapshots offered", offers, 0)]
    } else {
        vec![Figure::seen("snapshots installed", installed).at_least(ROUNDS as u64 / 3)]
    };
    let agreement_ms = match (victims, is_unreliable) {
        (Victim::CutOff, _) => DEPOSED_AGREEMENT_MS,
        (Victim::Nobody | Victim::Crashes, true) => UNRELIABLE_AGREEMENT_MS,
        (Victim::Nobody | Victim::Crashes, false) => AGREEMENT_MS,
    };
    finished(&cluster, agreement_ms, snapshots)
}

/// Ours: an election with one split vote, and the snapshot or the entries that were missed.
const AGREEMENT_MS: u64 = 1_100;

/// Ours, where an offer, the question for it or its bytes may be lost, each with its own patience.
const UNRELIABLE_AGREEMENT_MS: u64 = 2_100;

/// Ours, where the driver may propose to a leader that was cut off and is about to learn that it leads no more: what it
/// took is given up and proposed again after 2 s.
const DEPOSED_AGREEMENT_MS: u64 = 3_100;

fn finished(cluster: &Cluster, agreement_ms: u64, mut list: Vec<Figure>) -> Verdict {
    // The course's bound is exclusive. Ours: as many commands as a round can add to those before the snapshot, and no-ops.
    list.insert(0, Figure::new("largest log, bytes", cluster.largest_log, 1_999, 1_200).at_least(1));
    Ok(cluster.figures(agreement_ms, list))
}

/// The server runs and is reached again, and catches up: if what it needs is gone everywhere else, by a snapshot.
fn comes_back(cluster: &mut Cluster, victim: usize) -> Result<(), Violation> {
    let others = (0..SERVERS).filter(|server| *server != victim);
    let gone: Index = others.map(|server| cluster.gone_up_to(server)).min().unwrap_or_default();
    let needs_one = cluster.last_on_disk(victim) < gone;
    let before = cluster.installed(victim);
    if !cluster.is_up(victim) {
        cluster.start(victim)?;
    }
    cluster.connect(victim);
    cluster.one(SERVERS, true)?;
    demand(!needs_one || cluster.installed(victim) > before, || {
        format!("n{} came back without a snapshot, and all others have lost the log up to {gone}", victim + 1)
    })
}

/// Nobody falls behind: the log stays short, and no snapshot travels.
pub(crate) fn basic(seed: u64) -> Verdict {
    rounds(seed, Victim::Nobody, false)
}

/// A server that was cut off must get a snapshot.
pub(crate) fn install(seed: u64) -> Verdict {
    rounds(seed, Victim::CutOff, false)
}

/// The same over an unreliable network.
pub(crate) fn install_unreliable(seed: u64) -> Verdict {
    rounds(seed, Victim::CutOff, true)
}

/// A server that crashed must get a snapshot.
pub(crate) fn install_crash(seed: u64) -> Verdict {
    rounds(seed, Victim::Crashes, false)
}

/// The same over an unreliable network.
pub(crate) fn install_unreliable_crash(seed: u64) -> Verdict {
    rounds(seed, Victim::Crashes, true)
}

fn all_restart(cluster: &mut Cluster) -> Result<(), Violation> {
    (0..SERVERS).for_each(|server| cluster.crash(server));
    cluster.restore_all()
}

/// All crash, five times: the index never falls.
pub(crate) fn all_crash(seed: u64) -> Verdict {
    let mut cluster = Cluster::of_snapshots(SERVERS, EVERY, seed)?;
    cluster.one(SERVERS, true)?;
    for _ in 0..5 {
        for _ in 0..EVERY / 2 + cluster.prng.below(EVERY as u64) as usize {
            cluster.one(SERVERS, true)?;
        }
        let before = cluster.one(SERVERS, true)?;
        all_restart(&mut cluster)?;
        let after = cluster.one(SERVERS, true)?;
        demand(after > before, || format!("the index fell from {before} to {after}"))?;
    }
    finished(&cluster, AGREEMENT_MS, Vec::new())
}

/// All crash twice after a snapshot: what was restored from it is there after the second time.
pub(crate) fn init(seed: u64) -> Verdict {
    let mut cluster = Cluster::of_snapshots(SERVERS, EVERY, seed)?;
    cluster.one(SERVERS, true)?;
    for _ in 0..=EVERY {
        cluster.one(SERVERS, true)?;
    }
    demand((0..SERVERS).all(|server| cluster.gone_up_to(server) > Index::ZERO), || {
        "a server has no snapshot".to_owned()
    })?;
    all_restart(&mut cluster)?;
    cluster.one(SERVERS, true)?;
    all_restart(&mut cluster)?;
    let index = cluster.one(SERVERS, true)?;
    // One, eleven, one and one.
    demand(index == EVERY + 4, || format!("the last command came to stand at {index}"))?;
    finished(&cluster, AGREEMENT_MS, Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bound of the log must be able to refuse.
    #[test]
    fn a_log_that_no_snapshot_shortens_is_too_long() -> Result<(), Violation> {
        let mut cluster = Cluster::of_snapshots(SERVERS, 1_000, 1)?;
        for _ in 0..100 {
            cluster.one(SERVERS, true)?;
        }
        let figures = finished(&cluster, AGREEMENT_MS, Vec::new())?;
        assert!(figures.list.iter().any(|figure| !figure.is_within()), "{:?}", figures.list);
        Ok(())
    }
}
