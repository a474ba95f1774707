//! The course's tests on trial: with a bug put back, the test that was made for it must fail.

use quorate_raft::sabotage::Bug as RaftBug;
use quorate_replica::sabotage::Bug as ReplicaBug;
use quorate_sim::lab::{Outcome, SCENARIOS};

fn fails(name: &str) -> bool {
    let test = SCENARIOS.iter().find(|test| test.name == name).expect("a test of this name");
    matches!(test.run(1), Outcome::Failed(_))
}

fn finds_of_raft(bug: RaftBug, name: &str) {
    assert!(!fails(name), "{name} fails without a bug");
    quorate_raft::sabotage::put_back(Some(bug));
    let is_found = fails(name);
    quorate_raft::sabotage::put_back(None);
    assert!(is_found, "{name} passes with {bug:?}");
}

fn finds_of_replica(bug: ReplicaBug, name: &str) {
    assert!(!fails(name), "{name} fails without a bug");
    quorate_replica::sabotage::put_back(Some(bug));
    let is_found = fails(name);
    quorate_replica::sabotage::put_back(None);
    assert!(is_found, "{name} passes with {bug:?}");
}

#[test]
fn a_commit_without_a_majority_is_found() {
    finds_of_raft(RaftBug::CommitsWithoutMajority, "FailNoAgree2B");
    finds_of_raft(RaftBug::CommitsWithoutMajority, "OnePartition3A");
}

#[test]
fn a_vote_before_its_sync_is_found() {
    finds_of_raft(RaftBug::VotesBeforeSync, "InitialElection2A");
}

#[test]
fn a_next_index_that_falls_below_the_match_is_found() {
    // By seeds 1 to 8, all of them; with one key, by seven of them.
    finds_of_raft(RaftBug::NextBelowMatch, "Unreliable3A");
}

#[test]
fn a_read_of_a_leader_that_is_cut_off_is_found() {
    finds_of_raft(RaftBug::ReadsWithoutRound, "OnePartition3A");
}

#[test]
fn a_repeat_without_its_answer_is_found() {
    finds_of_replica(ReplicaBug::SkipsRepeats, "UnreliableOneKey3A");
    finds_of_replica(ReplicaBug::RecordsBeforeEffect, "UnreliableOneKey3A");
}

#[test]
fn a_waiter_that_is_left_waiting_is_found() {
    finds_of_replica(ReplicaBug::LeavesWaiters, "rsm-LeaderPartition4A");
}

#[test]
fn a_leader_that_has_lost_what_it_must_send_is_found() {
    finds_of_raft(RaftBug::ProbesWithPurgedLog, "SnapshotInstall2D");
    finds_of_raft(RaftBug::ProbesWithPurgedLog, "SnapshotRPC3B");
}

#[test]
fn a_snapshot_without_all_of_the_state_is_found() {
    finds_of_replica(ReplicaBug::SnapshotWithoutData, "SnapshotRPC3B");
    finds_of_replica(ReplicaBug::SnapshotWithoutSessions, "SnapshotRecover3B");
}
