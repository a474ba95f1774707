//! A table: at each step of each command the leader, the server that it is about, and the one that joins are killed. The
//! cluster serves on, and the command can be finished by running it again.

#![allow(clippy::print_stdout, reason = "shown where the test fails, to tell which step did")]

use std::collections::BTreeMap;

use quorate_resp::Frame;
use rustix::process::Signal;

use super::cases::{VOTE, column, fields, join, members, report, restart, rows, waits, wipe};
use crate::support::{Client, Cluster, ok, wait_for};

/// When somebody is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The leader has answered that the change begins.
    Begun,
    /// Somebody catches up.
    Joining,
    /// Two sets of voters must agree.
    Joint,
    /// It is as it should be.
    Done,
}

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Leader,
    /// The server that the command is about: the one that joins, where one does.
    Target,
}

/// A command on a cluster of so many, and who votes in the end.
struct Case {
    servers: usize,
    command: &'static str,
    /// Whom it is about.
    target: u64,
    voters: &'static [u64],
    learners: &'static [u64],
    steps: &'static [Step],
}

const ADD: Case = Case {
    servers: 3,
    command: "ADD 4 ADDRESS",
    target: 4,
    voters: &[1, 2, 3, 4],
    learners: &[],
    steps: &[Step::Begun, Step::Joining, Step::Joint, Step::Done],
};
const REPLACE: Case = Case { command: "REPLACE 3 4 ADDRESS", voters: &[1, 2, 4], ..ADD };
// One that has lost its folder is one that has failed: of five two may.
const REBUILD: Case = Case { servers: 5, command: "REBUILD 4", voters: &[1, 2, 3, 4, 5], ..ADD };
const REMOVE: Case = Case {
    servers: 4,
    command: "REMOVE 4",
    voters: &[1, 2, 3],
    steps: &[Step::Begun, Step::Joint, Step::Done],
    ..ADD
};
const DEMOTE: Case = Case { command: "DEMOTE 4", learners: &[4], ..REMOVE };
const PROMOTE: Case = Case { servers: 4, command: "PROMOTE 4", ..ADD };
const TRANSFER: Case = Case {
    servers: 3,
    command: "TRANSFER 3",
    target: 3,
    voters: &[1, 2, 3],
    learners: &[],
    steps: &[Step::Begun, Step::Done],
};
const SET_ADDRESS: Case = Case { command: "SET-ADDRESS 3 ELSEWHERE", ..TRANSFER };

macro_rules! table {
    ($($name:ident: $case:expr, $victim:expr;)*) => {
        $(
            #[test]
            fn $name() {
                for step in $case.steps {
                    run(&$case, *step, $victim);
                }
            }
        )*
    };
}

table! {
    the_leader_dies_while_a_server_is_added: ADD, Victim::Leader;
    the_joiner_dies_while_it_is_added: ADD, Victim::Target;
    the_leader_dies_while_a_server_is_replaced: REPLACE, Victim::Leader;
    the_joiner_dies_while_it_replaces_a_server: REPLACE, Victim::Target;
    the_leader_dies_while_a_server_is_rebuilt: REBUILD, Victim::Leader;
    the_server_dies_while_it_is_rebuilt: REBUILD, Victim::Target;
    the_leader_dies_while_a_server_is_removed: REMOVE, Victim::Leader;
    the_server_dies_while_it_is_removed: REMOVE, Victim::Target;
    the_leader_dies_while_a_server_is_demoted: DEMOTE, Victim::Leader;
    the_server_dies_while_it_is_demoted: DEMOTE, Victim::Target;
    the_leader_dies_while_a_server_is_promoted: PROMOTE, Victim::Leader;
    the_server_dies_while_it_is_promoted: PROMOTE, Victim::Target;
    the_leader_dies_while_it_hands_over: TRANSFER, Victim::Leader;
    the_heir_dies_while_it_takes_over: TRANSFER, Victim::Target;
    the_leader_dies_while_an_address_changes: SET_ADDRESS, Victim::Leader;
    the_server_dies_while_its_address_changes: SET_ADDRESS, Victim::Target;
}

fn run(case: &Case, step: Step, victim: Victim) {
    println!("{} at {step:?}: {victim:?} dies", case.command);
    let mut cluster = prepared(case);
    let words = words(case, &cluster);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let leader = begin(case, step, &cluster, &words);
    let dies = match victim {
        Victim::Leader => leader,
        Victim::Target => place(&cluster, case.target),
    };
    cluster.take(dies).kill();
    resume(&cluster);
    let survivor = (0..3).find(|at| *at != dies).unwrap();
    // Clients of those who stay are served, whatever has become of the change.
    serves(&cluster, survivor, step);
    restart(&mut cluster, dies);
    wait_for("the command to be finished by running it again", || {
        let (status, out, notes) = members(&cluster, &shell_words(&words));
        println!("{status} {out}{notes}");
        (status == 0).then_some(())
    });
    let votes = column(&cluster, VOTE);
    let with = |word: &str| -> Vec<u64> {
        votes.iter().filter(|(_, vote)| *vote == word).map(|(id, _)| *id).collect()
    };
    assert_eq!((with("voter"), with("learner")), (case.voters.to_vec(), case.learners.to_vec()), "{votes:?}");
    serves(&cluster, survivor, step);
    let member = case.voters.iter().chain(case.learners).copied().find(|id| *id == case.target);
    if let Some(target) = member {
        serves(&cluster, place(&cluster, target), step);
    }
}

/// The cluster as it is before the command, with another server than the target in the lead.
fn prepared(case: &Case) -> Cluster {
    let mut cluster = Cluster::start(case.servers);
    let target = case.target as usize - 1;
    if case.servers > target {
        wait_for("another leader", || {
            let (status, ..) = members(&cluster, &["transfer", "1"]);
            (status == 0).then_some(())
        });
    }
    match case.command.split(' ').next().unwrap() {
        "ADD" | "REPLACE" => {
            join(&mut cluster, case.target);
        }
        "REBUILD" => {
            wipe(&mut cluster, target);
            waits(&cluster, case.target);
        }
        "PROMOTE" => {
            wait_for("a learner", || {
                let (status, ..) = members(&cluster, &["demote", &case.target.to_string()]);
                (status == 0).then_some(())
            });
        }
        _ => {}
    }
    cluster
}

fn words(case: &Case, cluster: &Cluster) -> Vec<String> {
    let elsewhere = format!("127.0.0.1:{}", crate::ports::free_port());
    let word = |word: &str| match word {
        "ADDRESS" => cluster.plans[place(cluster, case.target)].peer_address(),
        "ELSEWHERE" => elsewhere.clone(),
        word => word.to_owned(),
    };
    case.command.split(' ').map(word).collect()
}

fn shell_words(words: &[&str]) -> Vec<&'static str> {
    // The sub-command is the command in lower case; leaked, as the words of a test may be.
    words.iter().map(|word| &*word.to_lowercase().leak()).collect()
}

/// Sends the command to the leader, and gives its place when the step is reached.
fn begin(case: &Case, step: Step, cluster: &Cluster, words: &[&str]) -> usize {
    let all = [&["MEMBERS"], words].concat();
    let target = place(cluster, case.target);
    // Who catches up must not, or the step is over before it was seen.
    let catches_up = case.steps.contains(&Step::Joining);
    let is_slow = catches_up && matches!(step, Step::Joining | Step::Joint);
    let leader = wait_for("a change that begins", || {
        let leader = leading(cluster)?;
        if is_slow {
            cluster.server(target).signal(Signal::STOP);
            falls_behind(cluster, leader, case.target);
        }
        if step == Step::Joint && !catches_up {
            pause_others(cluster, &[leader, target]);
        }
        let reply = Client::try_connect(cluster.server(leader).port)?.try_call(&all)?;
        if !matches!(reply, Frame::Array(_)) {
            resume(cluster);
            println!("{reply:?}");
            return None;
        }
        let state = fields(&reply)["state"].clone();
        (state != Frame::bulk("done")).then_some(leader)
    });
    let has_step = |report: &BTreeMap<String, Frame>, standing: &str| {
        rows(report, "members").iter().any(|row| row["standing"] == Frame::bulk(standing.to_owned()))
    };
    if step == Step::Joint && catches_up {
        observe(cluster, leader, |report| has_step(report, "joining") && is_committed(report));
        pause_others(cluster, &[leader, target]);
        cluster.server(target).signal(Signal::CONT);
    }
    match step {
        Step::Begun => {}
        Step::Joining => observe(cluster, leader, |report| has_step(report, "joining")),
        Step::Joint => observe(cluster, leader, |report| has_step(report, "outgoing")),
        Step::Done => {
            let is_over = |report: &BTreeMap<String, Frame>| {
                report["change"] == Frame::bulk("") && report["transfer"] == Frame::Integer(0)
            };
            wait_for("the end of the change", || report(cluster).filter(is_over));
        }
    }
    leader
}

/// A member that has stopped lacks something, or it would have caught up already.
fn falls_behind(cluster: &Cluster, leader: usize, target: u64) {
    let mut client = cluster.server(leader).client();
    assert_eq!(client.call(&["SET", "k", "v"]), ok());
    wait_for("a server that is behind", || {
        let report = fields(&client.call(&["MEMBERS", "LIST"]));
        let row = rows(&report, "members")
            .into_iter()
            .find(|row| row["id"] == Frame::Integer(target.cast_signed()));
        row.is_none_or(|row| row["health"] != Frame::bulk("up")).then_some(())
    });
}

/// Nothing but the joiner is waited for.
fn is_committed(report: &BTreeMap<String, Frame>) -> bool {
    let (Frame::Integer(commit), Frame::Integer(index)) = (&report["commit"], &report["index"]) else {
        panic!("no numbers")
    };
    commit >= index
}

/// Until this leader shows the step, or leads no more: it was cut off from the others, and has it in its log.
fn observe(cluster: &Cluster, leader: usize, is_reached: impl Fn(&BTreeMap<String, Frame>) -> bool) {
    wait_for("a step of the change", || {
        let reply = Client::try_connect(cluster.server(leader).port)?.try_call(&["MEMBERS", "LIST"])?;
        if !matches!(reply, Frame::Array(_)) {
            println!("it leads no more: {reply:?}");
            return Some(());
        }
        is_reached(&fields(&reply)).then_some(())
    });
}

/// The place of the server that leads now.
fn leading(cluster: &Cluster) -> Option<usize> {
    let Frame::Integer(id) = report(cluster)?["leader"] else { return None };
    Some(place(cluster, id.cast_unsigned()))
}

fn place(cluster: &Cluster, id: u64) -> usize {
    cluster.plans.iter().position(|plan| plan.id == id).expect("a server of this id")
}

fn pause_others(cluster: &Cluster, but: &[usize]) {
    for (at, server) in cluster.servers.iter().enumerate().filter(|(at, _)| !but.contains(at)) {
        let _ = at;
        server.iter().for_each(|server| server.signal(Signal::STOP));
    }
}

fn resume(cluster: &Cluster) {
    cluster.servers.iter().flatten().for_each(|server| server.signal(Signal::CONT));
}

fn serves(cluster: &Cluster, at: usize, step: Step) {
    wait_for(&format!("service of server {} at {step:?}", at + 1), || {
        let mut client = Client::try_connect(cluster.server(at).port)?;
        (client.try_call(&["SET", "k", "v"])? == ok()).then_some(())
    });
}
