//! Waits until a change is done, with progress, whoever leads meanwhile. Must not know how a change is carried out.

use std::time::{Duration, Instant};

use super::cluster::{Cluster, Miss, pause};
use super::report::{Begun, Report, Row};
use super::{Goal, look, send};
use crate::progress::Progress;
use crate::shell::complain;

/// For so long at most a leader takes a server for what it was before it was silent, or began anew.
const NOTICED_WITHIN: Duration = Duration::from_secs(2);

/// How a change stands.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    /// It is done, and committed.
    Done,
    /// It goes on: a step as a sentence, and how far that is.
    Goes(String, Option<(u64, u64)>),
    /// Nothing goes on, and it is not done: the leader that took it was lost before a majority had it.
    Lost,
    /// Nothing goes on, it is not done, and somebody has changed something else since.
    Overtaken,
}

/// Until the goal is reached, or nothing gets any further for as long as `patience`. `begun` is the leader's answer, and what
/// it said before that.
pub(super) fn wait(
    cluster: &mut Cluster,
    words: &[String],
    goal: &Goal,
    (before, mut begun): (&Report, Begun),
    patience: Duration,
) -> Result<Report, Miss> {
    let mut moved = Instant::now();
    let mut last = String::new();
    let mut last_step = String::new();
    let mut progress = Progress::new(String::new(), &complain);
    loop {
        let report = look(cluster).map_err(|miss| match miss {
            Miss::Refused(text) | Miss::Unknown(text) => Miss::Unknown(format!(
                "{text}; it was begun, and goes on by itself as far as it can: run it again to wait for it"
            )),
        })?;
        let seen = how(&report, goal, before, begun.index);
        let now = match &seen {
            Look::Done => return Ok(report),
            Look::Goes(step, how_far) => {
                progress.step(step, *how_far);
                last_step.clone_from(step);
                format!("{} {} {step} {how_far:?}", report.term, report.index)
            }
            Look::Lost => {
                begun = send(cluster, words)?;
                last.clone()
            }
            Look::Overtaken => {
                return Err(Miss::Refused(
                    "it was not done: another change has taken its place; quorate members list shows how things are now"
                        .to_owned(),
                ));
            }
        };
        if now != last {
            (last, moved) = (now, Instant::now());
        }
        if moved.elapsed() >= patience {
            drop(progress);
            if let (Goal::Leads(_), Look::Lost) = (goal, &seen) {
                return Err(Miss::Refused(format!(
                    "leadership could not be handed over: server {} leads on",
                    report.leader
                )));
            }
            let step = if last_step.is_empty() { "it was begun" } else { &last_step };
            return Err(Miss::Unknown(format!(
                "{step}: nothing has changed for {} s; it goes on by itself as far as it can: run it again to wait for it",
                patience.as_secs()
            )));
        }
        pause();
    }
}

/// Waits until the leader has heard this server on another folder than it had, or it is plain that there is none: who starts a
/// server and asks for this next is faster than the server. What is so then, the leader says.
pub(super) fn await_new_folder(cluster: &mut Cluster, id: u64, patience: Duration) -> Result<(), Miss> {
    let begun = Instant::now();
    let mut progress = Progress::new(String::new(), &complain);
    loop {
        let report = look(cluster)?;
        let Some(member) = report.member(id) else { return Ok(()) };
        let is_there = member.health == "refused" || member.standing == "joining";
        let wait = if member.health == "down" { patience } else { patience.min(NOTICED_WITHIN) };
        if is_there || begun.elapsed() >= wait {
            return Ok(());
        }
        if member.health == "down" {
            progress.step(&format!("server {id} is not heard: is it started, on an empty folder?"), None);
        }
        pause();
    }
}

fn how(report: &Report, goal: &Goal, before: &Report, index: u64) -> Look {
    let is_settled = report.change.is_empty();
    let member = |id: &u64| report.member(*id);
    let stands = |id: &u64, standing: &str| member(id).is_some_and(|row| row.standing == standing);
    let is_reached = match goal {
        Goal::Voter(id) => is_settled && stands(id, "voter"),
        Goal::Gone(id) => is_settled && member(id).is_none(),
        Goal::Replaced(old, new) => is_settled && member(old).is_none() && member(new).is_some(),
        Goal::Rebuilt(id) => {
            is_settled
                && report.index >= index
                && member(id).is_some_and(|row| row.standing != "joining" && row.health != "refused")
        }
        Goal::Learner(id) => is_settled && stands(id, "learner"),
        Goal::Leads(Some(id)) => report.leader == *id,
        Goal::Leads(None) => report.leader != before.leader,
        Goal::At(id, address) => is_settled && member(id).is_some_and(|row| row.address == *address),
    };
    if is_reached {
        return Look::Done;
    }
    if matches!(goal, Goal::Leads(_)) {
        return if report.transfer > 0 {
            Look::Goes(format!("leadership is handed over to server {}", report.transfer), None)
        } else {
            // The transfer was given up, since the heir was not there in time; or it came to nothing with its leader.
            Look::Lost
        };
    }
    if is_settled {
        return if report.index < index { Look::Lost } else { Look::Overtaken };
    }
    match report.members.iter().find(|row| row.standing == "joining") {
        Some(joiner) => catches_up(joiner, report.commit),
        None => Look::Goes(report.change.clone(), None),
    }
}

/// How far one is that will vote once it has caught up.
fn catches_up(joiner: &Row, commit: u64) -> Look {
    let id = joiner.id;
    if joiner.health == "down" {
        return Look::Goes(format!("server {id} at {} is not heard", joiner.address), None);
    }
    if joiner.snapshot_bytes > 0 {
        let how_far = (joiner.snapshot_sent >> 20, joiner.snapshot_bytes >> 20);
        return Look::Goes(format!("server {id} receives the snapshot (MiB)"), Some(how_far));
    }
    Look::Goes(
        format!("server {id} catches up (entries)"),
        Some((joiner.matched, commit.max(joiner.matched))),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `leader index change`, then a row each: `id standing health match`.
    fn report(head: (u64, u64, &str), rows: &[(u64, &str, &str, u64)]) -> Report {
        let (leader, index, change) = head;
        let mut report = Report::default();
        (report.leader, report.index, report.commit) = (leader, index, 100);
        change.clone_into(&mut report.change);
        for (id, standing, health, matched) in rows {
            let mut row = Row::default();
            (row.id, row.matched, row.address) = (*id, *matched, format!("h{id}:7"));
            (row.standing, row.health) = ((*standing).to_owned(), (*health).to_owned());
            report.members.push(row);
        }
        report
    }

    const VOTERS: [(u64, &str, &str, u64); 3] =
        [(1, "voter", "up", 100), (2, "voter", "up", 100), (3, "voter", "down", 50)];

    #[test]
    fn it_is_done_when_nothing_is_under_way_and_all_is_as_it_should_be() {
        let before = report((1, 0, ""), &VOTERS);
        let now = report((2, 9, ""), &VOTERS);
        for goal in [
            Goal::Voter(3),
            Goal::Gone(4),
            Goal::Replaced(4, 3),
            Goal::Rebuilt(3),
            Goal::Leads(Some(2)),
            Goal::Leads(None),
            Goal::At(3, "h3:7".to_owned()),
        ] {
            assert_eq!(how(&now, &goal, &before, 9), Look::Done, "{goal:?}");
        }
        let mut joint = report((2, 9, "the voters 1, 2, 3, 4 become 1, 2, 3"), &VOTERS);
        assert!(matches!(how(&joint, &Goal::Gone(4), &before, 9), Look::Goes(_, None)));
        joint.transfer = 3;
        assert!(matches!(how(&joint, &Goal::Leads(Some(3)), &before, 9), Look::Goes(_, None)));
    }

    #[test]
    fn what_was_lost_with_its_leader_is_told_from_what_another_change_undid() {
        let before = report((1, 5, ""), &VOTERS);
        // The entry at 9 is not there: the new leader has none after 5.
        assert_eq!(how(&report((2, 5, ""), &VOTERS), &Goal::Voter(4), &before, 9), Look::Lost);
        assert_eq!(how(&report((2, 12, ""), &VOTERS), &Goal::Voter(4), &before, 9), Look::Overtaken);
        assert_eq!(how(&report((1, 5, ""), &VOTERS), &Goal::Leads(None), &before, 5), Look::Lost);
    }

    #[test]
    fn who_catches_up_is_shown_with_how_far_it_is() {
        let before = report((1, 0, ""), &VOTERS);
        let joining = |health: &str, matched: u64| {
            let rows = [&VOTERS[..], &[(4, "joining", health, matched)]].concat();
            report((1, 9, "server 4 catches up, and will vote then"), &rows)
        };
        let goal = Goal::Voter(4);
        assert_eq!(
            how(&joining("behind", 40), &goal, &before, 9),
            Look::Goes("server 4 catches up (entries)".to_owned(), Some((40, 100)))
        );
        assert_eq!(
            how(&joining("down", 40), &goal, &before, 9),
            Look::Goes("server 4 at h4:7 is not heard".to_owned(), None)
        );
        let mut receiving = joining("behind", 0);
        let row = receiving.members.last_mut().unwrap();
        (row.snapshot_sent, row.snapshot_bytes) = (3 << 20, 12 << 20);
        assert_eq!(
            how(&receiving, &goal, &before, 9),
            Look::Goes("server 4 receives the snapshot (MiB)".to_owned(), Some((3, 12)))
        );
    }
}
