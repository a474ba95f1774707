//! All tests of the course, in its order. Knows nothing of what they do.

use crate::lab::raft::{part_2a, part_2b, part_2b_counts, part_2c, part_2c_wild};
use crate::lab::{Scenario, Verdict, What};

const fn runs(
    name: &'static str,
    servers: usize,
    story: &'static str,
    scenario: fn(u64) -> Verdict,
) -> Scenario {
    Scenario { name, servers, story, what: What::Runs(scenario) }
}

const fn pending(name: &'static str, servers: usize, story: &'static str) -> Scenario {
    // Every test that waits today waits for the same feature.
    Scenario { name, servers, story, what: What::Pending("snapshots") }
}

/// One line of the list each.
pub const SCENARIOS: &[Scenario] = &[
    // Part 2A.
    runs("InitialElection2A", 3, "one leader, one term, both stay in an idle 2 s", part_2a::initial_election),
    runs(
        "ReElection2A",
        3,
        "the leader is cut off and comes back; no majority, no leader",
        part_2a::re_election,
    ),
    runs(
        "ManyElections2A",
        7,
        "9 rounds with 3 random servers cut off: a leader always exists",
        part_2a::many_elections,
    ),
    // Part 2B.
    runs(
        "BasicAgree2B",
        3,
        "3 commands at indexes 1 to 3, none before it was proposed",
        part_2b::basic_agree,
    ),
    runs("RPCBytes2B", 3, "10 commands of 5000 bytes cross to each peer once", part_2b_counts::rpc_bytes),
    runs(
        "FollowerFailure2B",
        3,
        "followers are lost one by one; then nothing commits",
        part_2b::follower_failure,
    ),
    runs("LeaderFailure2B", 3, "leaders are lost one by one; then nothing commits", part_2b::leader_failure),
    runs("FailAgree2B", 3, "a follower comes back: all agree on 7 commands", part_2b::fail_agree),
    runs("FailNoAgree2B", 5, "3 cut off: no commit in 2 s; then full agreement", part_2b::fail_no_agree),
    runs(
        "ConcurrentStarts2B",
        3,
        "5 commands at one instant in one term all commit",
        part_2b::concurrent_starts,
    ),
    runs("Rejoin2B", 3, "an old leader with 3 uncommitted commands comes back", part_2b::rejoin),
    runs("Backup2B", 5, "logs that conflict over 50 entries, in three regimes", part_2b::backup),
    runs("Count2B", 3, "messages of an election, of 10 commands, of an idle second", part_2b_counts::count),
    // Part 2C.
    runs("Persist12C", 3, "all, then leaders, then a follower restart", part_2c::persist_1),
    runs("Persist22C", 5, "5 rounds of crashes that go around", part_2c::persist_2),
    runs("Persist32C", 3, "a leader and a follower crash while the third is cut off", part_2c::persist_3),
    runs("Figure82C", 5, "1000 rounds: the leader crashes, at least 3 stay up", part_2c::figure_8),
    runs("UnreliableAgree2C", 5, "49 x 5 commands at once, unreliable network", part_2c::unreliable_agree),
    runs(
        "Figure8Unreliable2C",
        5,
        "1000 rounds: leaders are cut off; answers seconds late from round 200 on",
        part_2c_wild::figure_8_unreliable,
    ),
    runs(
        "ReliableChurn2C",
        5,
        "3 clients, 20 rounds of cuts, crashes, restarts",
        part_2c_wild::reliable_churn,
    ),
    runs("UnreliableChurn2C", 5, "the same over an unreliable network", part_2c_wild::unreliable_churn),
    // Part 2D.
    pending("SnapshotBasic2D", 3, "30 rounds, a snapshot each 10 entries, log below 2000 bytes"),
    pending("SnapshotInstall2D", 3, "a server that was cut off must get a snapshot"),
    pending("SnapshotInstallUnreliable2D", 3, "the same over an unreliable network"),
    pending("SnapshotInstallCrash2D", 3, "a server that crashed must get a snapshot"),
    pending("SnapshotInstallUnCrash2D", 3, "the same over an unreliable network"),
    pending("SnapshotAllCrash2D", 3, "5 rounds: all crash, the index never falls"),
    pending("SnapshotInit2D", 3, "all crash twice after a snapshot"),
];
