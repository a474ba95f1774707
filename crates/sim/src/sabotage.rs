//! The simulator on trial: bugs are put back on purpose, one at a time, and each must be found. What finds them is what
//! every run has: the invariants, the checkers, the liveness phase. Nothing here looks for a particular bug; a bug only
//! chooses the weather in which it would show.

mod catalog;
pub mod command;
mod weather;

use std::fmt;

use quorate_storage::DiskBug;

pub use catalog::SABOTAGES;

use crate::options::Options;
use crate::prng::Prng;
use crate::run::{Report, run_with};
use crate::trace::Trace;

/// Seeds within which each must be found.
pub const SEEDS: u64 = 1_000;

/// Whose mistake it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Of consensus.
    Raft(quorate_raft::sabotage::Bug),
    /// Of the key/value server.
    Replica(quorate_replica::sabotage::Bug),
    /// Of the log.
    Log(quorate_storage::sabotage::Bug),
    /// Of the log, as far as a disk can imitate it.
    Disk(DiskBug),
}

/// A bug to put back.
#[derive(Clone, Copy)]
pub struct Sabotage {
    /// What it is called.
    pub name: &'static str,
    /// What is wrong then.
    pub about: &'static str,
    /// Where it stands.
    pub bug: Bug,
    /// Makes of a seed's swarm one in which the bug can show.
    weather: fn(&mut Options, &mut Prng),
}

/// How a bug was found.
#[derive(Debug)]
pub struct Caught {
    /// The seed that found it, and that passes without it.
    pub seed: u64,
    /// Seeds that were tried.
    pub tried: u64,
    /// Seeds that failed without the bug too, and so prove nothing.
    pub void: u64,
    /// What it violated.
    pub report: Report,
}

/// A bug put back in this thread, as long as this lives.
struct PutBack;

impl PutBack {
    fn new(bug: Bug) -> Self {
        match bug {
            Bug::Raft(bug) => quorate_raft::sabotage::put_back(Some(bug)),
            Bug::Replica(bug) => quorate_replica::sabotage::put_back(Some(bug)),
            Bug::Log(bug) => quorate_storage::sabotage::put_back(Some(bug)),
            // It travels with the options.
            Bug::Disk(_) => {}
        }
        Self
    }
}

impl Drop for PutBack {
    fn drop(&mut self) {
        quorate_raft::sabotage::put_back(None);
        quorate_replica::sabotage::put_back(None);
        quorate_storage::sabotage::put_back(None);
    }
}

impl Sabotage {
    /// The one of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        SABOTAGES.iter().find(|sabotage| sabotage.name == name)
    }

    /// What a seed draws in the weather of the bug, and the chance that goes on from there.
    pub fn swarm(&self, seed: u64) -> (Options, Prng) {
        let mut prng = Prng::new(seed);
        // Those whose weather it is turn it on again.
        let mut options = Options::swarm(&mut prng).without_changes();
        (self.weather)(&mut options, &mut prng);
        (options, prng)
    }

    /// Runs one seed with the bug.
    pub fn run(&self, seed: u64, trace: Trace) -> Report {
        let (options, mut prng) = self.swarm(seed);
        self.run_with(seed, options, &mut prng, trace)
    }

    /// Runs one seed with the bug under given options.
    pub fn run_with(&self, seed: u64, mut options: Options, prng: &mut Prng, trace: Trace) -> Report {
        let _put_back = PutBack::new(self.bug);
        options.faults.disk_bug = if let Bug::Disk(bug) = self.bug { Some(bug) } else { None };
        run_with(seed, options, prng, trace)
    }

    /// Runs one seed in the same weather without the bug.
    pub fn run_without(&self, seed: u64, trace: Trace) -> Report {
        let (options, mut prng) = self.swarm(seed);
        run_with(seed, options, &mut prng, trace)
    }

    /// Tries seeds until one finds the bug. It must pass without it: else it is not the bug that was found.
    pub fn hunt(&self, from: u64, seeds: u64) -> Option<Caught> {
        let mut void = 0;
        for seed in from..from.saturating_add(seeds) {
            let report = self.run(seed, Trace::default());
            if report.violation.is_none() {
                continue;
            }
            if self.run_without(seed, Trace::default()).violation.is_none() {
                return Some(Caught { seed, tried: seed - from + 1, void, report });
            }
            void += 1;
        }
        None
    }
}

/// `commit-without-majority  In a group of five ...`, one line.
impl fmt::Display for Sabotage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<28} {}", self.name, self.about)
    }
}

impl Caught {
    /// The property that the bug violated, and its story's first line.
    pub fn by(&self) -> (&'static str, &str) {
        self.report.violation.as_ref().map_or(("", ""), |violation| {
            (violation.invariant, violation.story.lines().next().unwrap_or_default())
        })
    }
}
