//! The tests of the course that this database comes from (MIT 6.824 / 6.5840), each a named scenario on virtual time:
//! its servers, clients, faults and limits, and our own tighter limits beside them. Knows nothing of swarms and seeds'
//! faults: what happens here is scripted, and chance only fills in what the script leaves open.
//!
//! - `raft`: parts 2A to 2D, on real consensus nodes under the course's network;
//! - `service`: parts 3A and 3B and the additions of 2025, on whole servers, gateways and Clerks of the [`crate::world`].
//!
//! Read so: indexes count commands, not the no-op of a term; an RPC is one request message with its answer; a message
//! takes 1 ms and a sync 0.1 ms where the network is reliable; a checker that runs out of time has failed.

mod figures;
mod list;
pub(crate) mod raft;
pub(crate) mod service;

use std::fmt;
use std::panic::{self, AssertUnwindSafe};

pub use figures::Figure;
pub use list::SCENARIOS;

use crate::invariants::Violation;
use crate::schedule::{Micros, SECOND};

/// What a scenario measured, or what did not hold.
pub(crate) type Verdict = Result<Figures, Violation>;

/// What a scenario measured.
#[derive(Debug, Default)]
pub struct Figures {
    /// Beside their limits.
    pub list: Vec<Figure>,
    /// Virtual time that it took.
    pub took: Micros,
}

/// No test of the course may take longer, in real time there, in virtual time here.
const SCENARIO_MAX: Micros = 120 * SECOND;

/// One test of the course.
#[derive(Debug)]
pub struct Scenario {
    /// The course's name, without `Test`.
    pub name: &'static str,
    /// How many servers.
    pub servers: usize,
    /// What is done and demanded.
    pub story: &'static str,
    /// How it runs, from a seed for what the script leaves open.
    pub(crate) script: fn(u64) -> Verdict,
}

/// What came of a scenario.
#[derive(Debug)]
pub enum Outcome {
    /// All held.
    Passed(Figures),
    /// Something did not hold.
    Failed(Violation),
}

impl Scenario {
    /// Runs it. A panic of the code under test is a failure like any other.
    pub fn run(&self, seed: u64) -> Outcome {
        match panic::catch_unwind(AssertUnwindSafe(|| (self.script)(seed))) {
            Ok(Ok(figures)) => figures.judged(),
            Ok(Err(violation)) => Outcome::Failed(violation),
            Err(payload) => {
                let text = payload.downcast_ref::<String>().cloned();
                let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                let story = text.unwrap_or_else(|| "without a word".to_owned());
                Outcome::Failed(Violation { invariant: "panic", story })
            }
        }
    }
}

impl Figures {
    fn judged(self) -> Outcome {
        if let Some(figure) = self.list.iter().find(|figure| !figure.is_within()) {
            return Outcome::Failed(Violation { invariant: "lab limit", story: figure.to_string() });
        }
        if self.took > SCENARIO_MAX {
            let story = format!("it took {} virtual seconds", self.took / SECOND);
            return Outcome::Failed(Violation { invariant: "lab limit", story });
        }
        Outcome::Passed(self)
    }
}

/// One line of the list: the name first.
impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, servers, story, .. } = self;
        write!(f, "{name}  servers {servers}: {story}")
    }
}

/// The rest of a scenario's line, behind its name.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed(Figures { list, took }) => {
                write!(f, "passed in {:.1} virtual s", *took as f64 / SECOND as f64)?;
                list.iter().try_for_each(|figure| write!(f, "; {figure}"))
            }
            Self::Failed(violation) => write!(f, "FAILED {violation}"),
        }
    }
}
