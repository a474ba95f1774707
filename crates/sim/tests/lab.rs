//! The course's tests, all of them: the list is whole, and none fails.

use std::collections::BTreeSet;

use quorate_sim::lab::{Outcome, SCENARIOS};

/// Parts 2A to 2D, by the names of 2023.
const RAFT: &str = "InitialElection2A ReElection2A ManyElections2A BasicAgree2B RPCBytes2B FollowerFailure2B \
    LeaderFailure2B FailAgree2B FailNoAgree2B ConcurrentStarts2B Rejoin2B Backup2B Count2B Persist12C Persist22C \
    Persist32C Figure82C UnreliableAgree2C Figure8Unreliable2C ReliableChurn2C UnreliableChurn2C SnapshotBasic2D \
    SnapshotInstall2D SnapshotInstallUnreliable2D SnapshotInstallCrash2D SnapshotInstallUnCrash2D SnapshotAllCrash2D \
    SnapshotInit2D";

/// Parts 3A and 3B.
const SERVICE: &str = "Basic3A Speed3A Concurrent3A Unreliable3A UnreliableOneKey3A OnePartition3A \
    ManyPartitionsOneClient3A ManyPartitionsManyClients3A PersistOneClient3A PersistConcurrent3A \
    PersistConcurrentUnreliable3A PersistPartition3A PersistPartitionUnreliable3A \
    PersistPartitionUnreliableLinearizable3A SnapshotRPC3B SnapshotSize3B Speed3B SnapshotRecover3B \
    SnapshotRecoverManyClients3B SnapshotUnreliable3B SnapshotUnreliableRecover3B \
    SnapshotUnreliableRecoverConcurrentPartition3B SnapshotUnreliableRecoverConcurrentPartitionLinearizable3B";

/// The additions of 2025.
const ADDED: &str = "rsm-Basic4A rsm-Concurrent4A rsm-LeaderFailure4A rsm-LeaderPartition4A rsm-RestartReplay4A \
    rsm-Shutdown4A rsm-RestartSubmit4A rsm-Snapshot4C kvsrv-MemPutManyClients";

#[test]
fn the_list_holds_every_test_of_the_course_once() {
    let listed: Vec<&str> = SCENARIOS.iter().map(|test| test.name).collect();
    let unique: BTreeSet<&str> = listed.iter().copied().collect();
    assert_eq!(unique.len(), listed.len(), "a name stands twice");
    let wanted: BTreeSet<&str> = [RAFT, SERVICE, ADDED].into_iter().flat_map(str::split_whitespace).collect();
    assert_eq!(unique, wanted);
    for test in SCENARIOS {
        let line = test.to_string();
        assert!(line.starts_with(test.name) && !line.contains('\n'), "{line}");
    }
}

#[test]
fn the_page_tells_of_every_test() {
    let page = include_str!("../../../docs/lab.md");
    for test in SCENARIOS {
        assert!(page.contains(&format!("| {} |", test.name)), "{} is not told of", test.name);
    }
}

#[test]
fn none_fails() {
    let failed: Vec<String> = SCENARIOS
        .iter()
        .map(|test| (test.name, test.run(1)))
        .filter(|(_, outcome)| matches!(outcome, Outcome::Failed(_)))
        .map(|(name, outcome)| format!("{name}  {outcome}"))
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
