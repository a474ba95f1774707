//! All tests of the course, in its order. Knows nothing of what they do.

use crate::lab::raft::{part_2a, part_2b, part_2b_counts, part_2c, part_2c_wild, part_2d};
use crate::lab::service::{memory, part_3a, part_3b, rsm};
use crate::lab::{Scenario, Verdict};

const fn test(
    name: &'static str,
    servers: usize,
    story: &'static str,
    script: fn(u64) -> Verdict,
) -> Scenario {
    Scenario { name, servers, story, script }
}

/// One line of the list each.
pub const SCENARIOS: &[Scenario] = &[
    // The addition of 2025 about memory. It stands first: later a process holds memory that it does not use.
    test("kvsrv-MemPutManyClients", 1, "100000 clients put once each and vanish", memory::many_clients),
    // Part 2A.
    test("InitialElection2A", 3, "one leader, one term, both stay in an idle 2 s", part_2a::initial_election),
    test(
        "ReElection2A",
        3,
        "the leader is cut off and comes back; no majority, no leader",
        part_2a::re_election,
    ),
    test(
        "ManyElections2A",
        7,
        "9 rounds with 3 random servers cut off: a leader always exists",
        part_2a::many_elections,
    ),
    // Part 2B.
    test(
        "BasicAgree2B",
        3,
        "3 commands at indexes 1 to 3, none before it was proposed",
        part_2b::basic_agree,
    ),
    test("RPCBytes2B", 3, "10 commands of 5000 bytes cross to each peer once", part_2b_counts::rpc_bytes),
    test(
        "FollowerFailure2B",
        3,
        "followers are lost one by one; then nothing commits",
        part_2b::follower_failure,
    ),
    test("LeaderFailure2B", 3, "leaders are lost one by one; then nothing commits", part_2b::leader_failure),
    test("FailAgree2B", 3, "a follower comes back: all agree on 7 commands", part_2b::fail_agree),
    test("FailNoAgree2B", 5, "3 cut off: no commit in 2 s; then full agreement", part_2b::fail_no_agree),
    test(
        "ConcurrentStarts2B",
        3,
        "5 commands at one instant in one term all commit",
        part_2b::concurrent_starts,
    ),
    test("Rejoin2B", 3, "an old leader with 3 uncommitted commands comes back", part_2b::rejoin),
    test("Backup2B", 5, "logs that conflict over 50 entries, in three regimes", part_2b::backup),
    test("Count2B", 3, "messages of an election, of 10 commands, of an idle second", part_2b_counts::count),
    // Part 2C.
    test("Persist12C", 3, "all, then leaders, then a follower restart", part_2c::persist_1),
    test("Persist22C", 5, "5 rounds of crashes that go around", part_2c::persist_2),
    test("Persist32C", 3, "a leader and a follower crash while the third is cut off", part_2c::persist_3),
    test("Figure82C", 5, "1000 rounds: the leader crashes, at least 3 stay up", part_2c::figure_8),
    test("UnreliableAgree2C", 5, "49 x 5 commands at once, unreliable network", part_2c::unreliable_agree),
    test(
        "Figure8Unreliable2C",
        5,
        "1000 rounds: leaders are cut off; answers seconds late from round 200 on",
        part_2c_wild::figure_8_unreliable,
    ),
    test(
        "ReliableChurn2C",
        5,
        "3 clients, 20 rounds of cuts, crashes, restarts",
        part_2c_wild::reliable_churn,
    ),
    test("UnreliableChurn2C", 5, "the same over an unreliable network", part_2c_wild::unreliable_churn),
    // Part 2D.
    test("SnapshotBasic2D", 3, "30 rounds, a snapshot each 10 entries, log below 2000 bytes", part_2d::basic),
    test("SnapshotInstall2D", 3, "a server that was cut off must get a snapshot", part_2d::install),
    test(
        "SnapshotInstallUnreliable2D",
        3,
        "the same over an unreliable network",
        part_2d::install_unreliable,
    ),
    test("SnapshotInstallCrash2D", 3, "a server that crashed must get a snapshot", part_2d::install_crash),
    test(
        "SnapshotInstallUnCrash2D",
        3,
        "the same over an unreliable network",
        part_2d::install_unreliable_crash,
    ),
    test("SnapshotAllCrash2D", 3, "5 rounds: all crash, the index never falls", part_2d::all_crash),
    test("SnapshotInit2D", 3, "all crash twice after a snapshot", part_2d::init),
    // Part 3A: 3 rounds of 5 s of load where no more is said.
    test("Basic3A", 5, "1 client", part_3a::basic),
    test("Speed3A", 3, "1 client, 1000 appends one after the other", part_3a::speed),
    test("Concurrent3A", 5, "5 clients", part_3a::concurrent),
    test("Unreliable3A", 5, "5 clients, unreliable network", part_3a::unreliable),
    test(
        "UnreliableOneKey3A",
        3,
        "5 clients append 10 times to one key, unreliable",
        part_3a::unreliable_one_key,
    ),
    test(
        "OnePartition3A",
        5,
        "the majority goes on, the minority waits and ends soon after",
        part_3a::one_partition,
    ),
    test("ManyPartitionsOneClient3A", 5, "1 client, partitions", part_3a::many_partitions_one_client),
    test("ManyPartitionsManyClients3A", 5, "5 clients, partitions", part_3a::many_partitions_many_clients),
    test("PersistOneClient3A", 5, "1 client, restarts of all", part_3a::persist_one_client),
    test("PersistConcurrent3A", 5, "5 clients, restarts of all", part_3a::persist_concurrent),
    test("PersistConcurrentUnreliable3A", 5, "the same, unreliable", part_3a::persist_concurrent_unreliable),
    test("PersistPartition3A", 5, "5 clients, restarts, partitions", part_3a::persist_partition),
    test("PersistPartitionUnreliable3A", 5, "the same, unreliable", part_3a::persist_partition_unreliable),
    test(
        "PersistPartitionUnreliableLinearizable3A",
        7,
        "15 clients, restarts, partitions, unreliable, random keys",
        part_3a::persist_partition_unreliable_linearizable,
    ),
    // Part 3B.
    test("SnapshotRPC3B", 3, "50 puts to a majority; the server that lags is then needed", part_3b::rpc),
    test(
        "SnapshotSize3B",
        3,
        "800 calls on one key: log below 8000 bytes, snapshot below 500",
        part_3b::size,
    ),
    test("Speed3B", 3, "1000 appends one after the other, with snapshots", part_3b::speed),
    test("SnapshotRecover3B", 5, "1 client, restarts", part_3b::recover),
    test("SnapshotRecoverManyClients3B", 5, "20 clients, restarts", part_3b::recover_many_clients),
    test("SnapshotUnreliable3B", 5, "5 clients, unreliable network", part_3b::unreliable),
    test("SnapshotUnreliableRecover3B", 5, "the same, restarts", part_3b::unreliable_recover),
    test(
        "SnapshotUnreliableRecoverConcurrentPartition3B",
        5,
        "the same, partitions",
        part_3b::unreliable_recover_partition,
    ),
    test(
        "SnapshotUnreliableRecoverConcurrentPartitionLinearizable3B",
        7,
        "15 clients, everything, random keys",
        part_3b::unreliable_recover_partition_linearizable,
    ),
    // The additions of 2025.
    test("rsm-Basic4A", 3, "10 submits", rsm::basic),
    test("rsm-Concurrent4A", 3, "50 submits at once", rsm::concurrent),
    test("rsm-LeaderFailure4A", 3, "the leader stops and comes back", rsm::leader_failure),
    test(
        "rsm-LeaderPartition4A",
        3,
        "100 submits on a leader that is cut off all end",
        rsm::leader_partition,
    ),
    test("rsm-RestartReplay4A", 3, "100 submits, all restart, all are there", rsm::restart_replay),
    test("rsm-Shutdown4A", 3, "100 pending submits end when all servers stop", rsm::shutdown),
    test("rsm-RestartSubmit4A", 3, "the same, and 100 more after the restart", rsm::restart_submit),
    test("rsm-Snapshot4C", 3, "the log stays below twice its bound", rsm::snapshot),
];
