//! The exhaustive search within bounds that fit into every run of the tests; and the search on trial: over broken
//! carriers it must fail, and by a short way.

#![allow(clippy::print_stdout, reason = "a search that fails is read as its report")]

use quorate_sim::explore::{Bounds, Report, Sabotage, run, run_sabotaged};

/// Each test adds what it is about.
const CALM: Bounds = Bounds::CALM;

/// Nothing is wrong anywhere within the bounds, and they hold at least so many states: a space that has shrunk
/// would mean that something cannot happen any more.
fn check(bounds: &Bounds, states_min: usize) -> Report {
    let report = run(bounds);
    println!("{bounds}\n{report}");
    assert!(report.violation.is_none(), "{report}");
    assert!(report.is_complete, "{report}");
    assert_eq!(report.terms_led, bounds.terms, "the highest term within the bounds had no leader");
    // Each term brings a no-op, and all that is proposed can be committed.
    assert!(report.committed > usize::from(bounds.proposals), "{report}");
    assert!(report.states >= states_min, "only {} states", report.states);
    report
}

#[test]
fn one_term_with_two_crashes_and_writes_under_way() {
    check(&Bounds { terms: 1, crashes: 2, proposals: 1, writes_waiting: usize::MAX, ..CALM }, 80_000);
}

#[test]
fn two_terms_with_a_crash() {
    check(&Bounds { crashes: 1, ..CALM }, 100_000);
}

#[test]
fn two_terms_with_a_proposal() {
    check(&Bounds { proposals: 1, ..CALM }, 200_000);
}

#[test]
fn two_terms_with_a_write_under_way() {
    check(&Bounds { writes_waiting: 1, ..CALM }, 300_000);
}

#[test]
fn two_terms_with_a_doubled_message() {
    check(&Bounds { duplicates: 1, ..CALM }, 100_000);
}

#[test]
fn two_terms_with_a_read() {
    let report = check(&Bounds { reads: 1, ..CALM }, 250_000);
    assert!(report.reads_confirmed > 0, "no read was ever confirmed");
}

#[test]
fn two_terms_with_a_snapshot() {
    let report = check(&Bounds { compactions: 1, ..CALM }, 50_000);
    assert!(report.installed > 0, "no snapshot was ever installed");
}

#[test]
fn one_term_with_pre_votes_asked() {
    check(&Bounds { terms: 1, crashes: 1, granted_pre_votes: false, ..CALM }, 40_000);
}

fn must_fail(sabotage: Sabotage, claim: &str, events_max: usize) {
    let bounds = Bounds { crashes: 1, writes_waiting: usize::MAX, ..CALM };
    must_fail_within(&bounds, sabotage, claim, events_max);
}

fn must_fail_within(bounds: &Bounds, sabotage: Sabotage, claim: &str, events_max: usize) {
    let report = run_sabotaged(bounds, sabotage);
    println!("{sabotage:?}: {report}");
    let violation = report.violation.expect("the search does not see the bug");
    assert!(violation.claim.starts_with(claim), "{}", violation.claim);
    assert!(violation.trace.len() <= events_max, "{} events", violation.trace.len());
}

#[test]
fn vote_that_is_forgotten_is_found() {
    must_fail(Sabotage::ForgetsVote, "election safety", 13);
}

#[test]
fn log_that_is_forgotten_is_found() {
    must_fail(Sabotage::ForgetsLog, "leader completeness", 17);
}

#[test]
fn snapshot_that_is_forgotten_is_found() {
    let bounds = Bounds { crashes: 1, compactions: 1, ..CALM };
    must_fail_within(&bounds, Sabotage::ForgetsSnapshot, "leader completeness", 17);
}

#[test]
fn answer_before_the_sync_is_found() {
    must_fail(Sabotage::AnswersBeforeSync, "election safety", 11);
}

#[test]
fn leader_that_counts_itself_before_its_sync_is_found() {
    must_fail(Sabotage::ReportsBeforeSync, "leader completeness", 16);
}
