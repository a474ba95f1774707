//! `quorate members …`: shows who belongs to the cluster, and changes it, with progress until it is done. Must not know which
//! changes are good: the leader does.

mod cluster;
mod report;
mod wait;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use quorate_resp::Frame;

use super::{EXIT_NOT_EXECUTED, EXIT_UNKNOWN, SERVERS_DEFAULT, ask_info, complain, table};
use crate::config::{Address, parse_duration};
use cluster::{Cluster, Miss};
use report::{Begun, Report};

/// How long a server may take to say whom it dials where.
const ASK_WAIT_MAX: Duration = Duration::from_millis(500);

/// `members`.
#[derive(Args, Debug)]
pub(crate) struct MembersArgs {
    #[command(flatten)]
    target: MembersTarget,
    #[command(subcommand)]
    command: MembersCommand,
}

/// As [`super::Target`], before and after the sub-command.
#[derive(Args, Debug)]
struct MembersTarget {
    /// Servers of the cluster; any of them will do
    #[arg(
        long,
        value_name = "HOST:PORT,…",
        env = "QUORATE_SERVERS",
        default_value = SERVERS_DEFAULT,
        value_delimiter = ',',
        global = true
    )]
    servers: Vec<Address>,
    /// How long nothing may get any further: 10s, 500ms
    #[arg(
        long,
        value_name = "DURATION",
        env = "QUORATE_TIMEOUT",
        default_value = "10s",
        value_parser = parse_duration,
        global = true
    )]
    timeout: Duration,
}

#[derive(Debug, Subcommand)]
enum MembersCommand {
    /// Shows the members, and who waits to be one
    List,
    /// Makes a server that waits a voter, once it has caught up
    Add {
        /// Its id, as it was started with
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        id: u64,
        /// Where the other servers dial it
        #[arg(value_name = "HOST:PORT")]
        address: Address,
        #[command(flatten)]
        force: Force,
    },
    /// Takes a server out of the cluster
    Remove {
        /// Its id
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        id: u64,
        #[command(flatten)]
        force: Force,
    },
    /// Puts a server that waits in the place of another one, in one step, once it has caught up
    Replace {
        /// The id of the one that goes
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        old: u64,
        /// The id of the one that comes
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        new: u64,
        /// Where the other servers dial the one that comes
        #[arg(value_name = "HOST:PORT")]
        address: Address,
        #[command(flatten)]
        force: Force,
    },
    /// Lets a server whose folder was lost go on under its id, with an empty one
    Rebuild {
        /// Its id
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        id: u64,
        #[command(flatten)]
        force: Force,
    },
    /// Makes a learner a voter, once it has caught up
    Promote {
        /// Its id
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        id: u64,
        #[command(flatten)]
        force: Force,
    },
    /// Makes a voter a learner: it receives everything, and votes no more
    Demote {
        /// Its id
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        id: u64,
        #[command(flatten)]
        force: Force,
    },
    /// Hands leadership over
    Transfer {
        /// To whom; without it, to the voter that is furthest
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        id: Option<u64>,
        #[command(flatten)]
        force: Force,
    },
    /// Has the other servers dial a server elsewhere
    SetAddress {
        /// Its id
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        id: u64,
        /// Where
        #[arg(value_name = "HOST:PORT")]
        address: Address,
        #[command(flatten)]
        force: Force,
    },
}

#[derive(Args, Clone, Copy, Debug)]
struct Force {
    /// Also if a majority of the new voters would not be alive and caught up; the refusal says what that risks
    #[arg(long)]
    force: bool,
}

/// What a change is to come to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Goal {
    /// This server votes.
    Voter(u64),
    /// This server is no member.
    Gone(u64),
    /// The second has taken the place of the first.
    Replaced(u64, u64),
    /// This server is there on its new folder.
    Rebuilt(u64),
    /// This server is a learner.
    Learner(u64),
    /// This server leads, or any other than the one that did.
    Leads(Option<u64>),
    /// This server is dialled here.
    At(u64, String),
}

/// `quorate members`.
pub(crate) fn members(args: MembersArgs) -> ExitCode {
    let MembersArgs { target, command } = args;
    let mut cluster = Cluster::new(target.servers, target.timeout);
    match request(&command) {
        None => list(&mut cluster),
        Some((words, goal)) => change(&mut cluster, &words, &goal, target.timeout),
    }
}

/// What is sent, and what should come of it; `None` for a list.
fn request(command: &MembersCommand) -> Option<(Vec<String>, Goal)> {
    let id = |id: &u64| id.to_string();
    let (words, force, goal) = match command {
        MembersCommand::List => return None,
        MembersCommand::Add { id: new, address, force } => {
            (vec!["ADD".to_owned(), id(new), address.to_string()], force, Goal::Voter(*new))
        }
        MembersCommand::Remove { id: old, force } => {
            (vec!["REMOVE".to_owned(), id(old)], force, Goal::Gone(*old))
        }
        MembersCommand::Replace { old, new, address, force } => {
            let words = vec!["REPLACE".to_owned(), id(old), id(new), address.to_string()];
            (words, force, Goal::Replaced(*old, *new))
        }
        MembersCommand::Rebuild { id: lost, force } => {
            (vec!["REBUILD".to_owned(), id(lost)], force, Goal::Rebuilt(*lost))
        }
        MembersCommand::Promote { id: learner, force } => {
            (vec!["PROMOTE".to_owned(), id(learner)], force, Goal::Voter(*learner))
        }
        MembersCommand::Demote { id: voter, force } => {
            (vec!["DEMOTE".to_owned(), id(voter)], force, Goal::Learner(*voter))
        }
        MembersCommand::Transfer { id: to, force } => {
            let words = std::iter::once("TRANSFER".to_owned()).chain(to.as_ref().map(id)).collect();
            (words, force, Goal::Leads(*to))
        }
        MembersCommand::SetAddress { id: member, address, force } => {
            let goal = Goal::At(*member, address.to_string());
            (vec!["SET-ADDRESS".to_owned(), id(member), address.to_string()], force, goal)
        }
    };
    let mut all = vec!["MEMBERS".to_owned()];
    all.extend(words);
    all.extend(force.force.then(|| "FORCE".to_owned()));
    Some((all, goal))
}

/// One member a line, the id first. What is no member goes to standard error where no terminal reads the table.
fn list(cluster: &mut Cluster) -> ExitCode {
    let report = match look(cluster) {
        Ok(report) => report,
        Err(miss) => return told(&miss),
    };
    let is_terminal = io::stdout().is_terminal();
    let mut rows = report.rows();
    if is_terminal {
        rows.insert(0, Report::heads());
    }
    let mut text = table(&rows);
    let mut notes = report.notes();
    notes.extend(overrides(&report, None));
    if is_terminal {
        for note in &notes {
            text.push_str(note);
            text.push('\n');
        }
    } else {
        notes.iter().for_each(|note| complain(note));
    }
    print(&text)
}

/// Members, or this one, that some server dials where its own `--peers` says, whatever the log says.
fn overrides(report: &Report, only: Option<u64>) -> Vec<String> {
    let mut notes = Vec::new();
    for (server, address) in report.reachable() {
        // One that does not answer is shown as what it is in the list.
        let Ok(info) = ask_info(&address, ASK_WAIT_MAX) else { continue };
        let Some(overridden) = info.get("quorate_peer_addresses_overridden") else { continue };
        for (id, address) in overridden.split(',').filter_map(|pair| pair.split_once('=')) {
            if only.is_none_or(|only| id == only.to_string()) {
                notes.push(format!(
                    "server {server} dials server {id} at {address}, as its own --peers says, whatever the cluster says"
                ));
            }
        }
    }
    notes
}

fn look(cluster: &mut Cluster) -> Result<Report, Miss> {
    let frame = cluster.ask(&["MEMBERS".to_owned(), "LIST".to_owned()])?;
    let report = Report::parse(&frame).map_err(Miss::Refused)?;
    cluster.learn(report.clients());
    Ok(report)
}

fn change(cluster: &mut Cluster, words: &[String], goal: &Goal, patience: Duration) -> ExitCode {
    // Who leads before, for whoever should not lead after.
    let before = match look(cluster) {
        Ok(report) => report,
        Err(miss) => return told(&miss),
    };
    let heard = match goal {
        Goal::Rebuilt(id) => wait::await_new_folder(cluster, *id, patience),
        Goal::Voter(_)
        | Goal::Gone(_)
        | Goal::Replaced(..)
        | Goal::Learner(_)
        | Goal::Leads(_)
        | Goal::At(..) => Ok(()),
    };
    let begun = match heard.and_then(|()| send(cluster, words)) {
        Ok(begun) => begun,
        Err(miss) => return told(&miss),
    };
    // What was begun goes on if nobody reads this.
    let _ = print(&format!("{}\n", begun.says.join("\n")));
    if begun.state == "done" {
        let _ = print("done: so it was already\n");
        return ExitCode::SUCCESS;
    }
    match wait::wait(cluster, words, goal, (&before, begun), patience) {
        Ok(report) => {
            if let Goal::At(id, _) = goal {
                overrides(&report, Some(*id)).iter().for_each(|note| complain(note));
            }
            let _ = print("done\n");
            ExitCode::SUCCESS
        }
        Err(miss) => told(&miss),
    }
}

fn send(cluster: &mut Cluster, words: &[String]) -> Result<Begun, Miss> {
    let frame: Frame = cluster.ask(words)?;
    Begun::parse(&frame).map_err(Miss::Unknown)
}

fn told(miss: &Miss) -> ExitCode {
    let (text, status) = match miss {
        Miss::Refused(text) => (text, EXIT_NOT_EXECUTED),
        Miss::Unknown(text) => (text, EXIT_UNKNOWN),
    };
    complain(text);
    ExitCode::from(status)
}

fn print(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(EXIT_NOT_EXECUTED),
    }
}
