//! The prover proved: a sample of the bugs put back, each found within a few seeds; and the product holds none of them.

#![allow(clippy::print_stdout, reason = "the table of what was found, for whoever reads the test's output")]

mod product;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use quorate_sim::sabotage::{SABOTAGES, Sabotage};

/// Puts a bug back and expects it to be found within a few seeds.
fn is_found(name: &str, from: u64, seeds: u64) {
    let sabotage = Sabotage::named(name).expect("a bug of the list");
    let caught = sabotage.hunt(from, seeds);
    let caught = caught.unwrap_or_else(|| panic!("{name} goes unnoticed in {seeds} seeds from {from}"));
    let (invariant, story) = caught.by();
    println!("{name}: seed {}, {} tried: {invariant}: {story}", caught.seed, caught.tried);
}

#[test]
fn a_commit_without_a_majority_is_found() {
    is_found("commit-without-majority", 1, 5);
}

#[test]
fn a_vote_before_its_sync_is_found() {
    is_found("vote-before-sync", 1, 5);
}

#[test]
fn a_leader_that_counts_itself_before_its_sync_is_found() {
    is_found("leader-before-sync", 1, 5);
}

#[test]
fn a_session_that_expires_by_a_local_clock_is_found() {
    is_found("local-expiry", 1, 5);
}

#[test]
fn replicated_time_of_one_clock_is_found() {
    is_found("one-clock", 1, 10);
}

#[test]
fn a_limit_read_from_a_flag_is_found() {
    is_found("local-limit", 1, 5);
}

#[test]
fn a_gap_in_a_gateways_sequences_is_found() {
    is_found("gateway-gap", 1, 10);
}

#[test]
fn a_server_that_leaves_in_flight_is_found() {
    is_found("leave-in-flight", 1, 5);
}

#[test]
fn an_empty_folder_that_votes_is_found() {
    is_found("empty-folder-votes", 1, 10);
}

#[test]
fn a_segment_without_its_sync_is_found() {
    is_found("segment-not-synced", 1, 5);
}

#[test]
fn a_sync_error_that_is_ignored_is_found() {
    is_found("sync-error-ignored", 1, 10);
}

#[test]
fn a_snapshot_without_sessions_is_found() {
    is_found("snapshot-without-sessions", 1, 5);
}

#[test]
fn a_snapshot_without_data_is_found() {
    is_found("snapshot-without-data", 1, 5);
}

#[test]
fn a_purged_log_that_is_sent_is_found() {
    is_found("purged-log-to-send", 1, 5);
}

#[test]
fn a_laggard_that_no_snapshot_is_taken_for_is_found() {
    is_found("no-snapshot-for-laggards", 1, 5);
}

#[test]
fn a_snapshot_without_its_content_synced_is_found() {
    is_found("snapshot-content-not-synced", 1, 5);
}

#[test]
fn a_report_of_a_later_state_is_found() {
    is_found("report-of-later-state", 1, 5);
}

#[test]
fn a_backup_without_a_read_index_is_found() {
    is_found("backup-without-round", 1, 5);
}

#[test]
fn a_change_in_one_step_is_found() {
    is_found("change-in-one-step", 1, 10);
}

#[test]
fn a_joint_configuration_that_half_decides_is_found() {
    is_found("commit-by-incoming", 1, 10);
}

#[test]
fn a_learner_that_counts_is_found() {
    is_found("learner-counts", 1, 10);
}

#[test]
fn a_change_that_nobody_completes_is_found() {
    is_found("change-left-to-others", 1, 5);
}

#[test]
fn a_transfer_to_one_that_lags_is_found() {
    is_found("transfer-to-laggard", 1, 5);
}

#[test]
fn a_heartbeat_that_waits_for_a_disk_is_found() {
    is_found("heartbeat-behind-sync", 1, 10);
    is_found("echo-behind-sync", 1, 10);
}

#[test]
fn campaigns_that_are_given_up_too_soon_are_found() {
    is_found("timeout-never-longer", 1, 10);
}

#[test]
fn a_campaign_for_nothing_but_a_broken_way_is_found() {
    is_found("campaign-for-broken-way", 1, 20);
}

#[test]
fn names_are_unique_and_in_the_docs() {
    let names: BTreeSet<&str> = SABOTAGES.iter().map(|sabotage| sabotage.name).collect();
    assert_eq!(names.len(), SABOTAGES.len());
    let page = include_str!("../../../docs/simulation.md");
    let missing: Vec<&&str> = names.iter().filter(|name| !page.contains(&format!("| `{name}` |"))).collect();
    assert!(missing.is_empty(), "not in the table of the docs: {missing:?}");
}

/// Every program that can put a bug back holds these bytes; see the modules they are from.
#[expect(clippy::disallowed_methods, reason = "it is about programs, not about a run")]
fn markers_in(program: &Path) -> usize {
    let bytes = std::fs::read(program).unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    let markers = [
        quorate_raft::sabotage::MARKER,
        quorate_replica::sabotage::MARKER,
        quorate_storage::sabotage::MARKER,
    ];
    let holds = |marker: &&str| bytes.windows(marker.len()).any(|window| window == marker.as_bytes());
    markers.iter().filter(|marker| holds(marker)).count()
}

/// The product is built as its users build it, apart from the simulator.
#[test]
fn the_product_holds_no_bug_that_can_be_put_back() {
    let simulator = PathBuf::from(env!("CARGO_BIN_EXE_quorate-sim"));
    assert_eq!(markers_in(&simulator), 3, "the simulator would not be told from a product without bugs");
    assert_eq!(markers_in(&product::built()), 0);
}
