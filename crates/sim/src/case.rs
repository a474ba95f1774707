//! A run as a person names it: a seed, perhaps a bug put back, and options changed by hand. What it prints is what the
//! command line takes.

use std::fmt;

use crate::options::Options;
use crate::overrides::{Override, Refused, apply};
use crate::prng::Prng;
use crate::run::{Report, run_with};
use crate::sabotage::Sabotage;
use crate::trace::Trace;

/// A run to come.
#[derive(Clone)]
pub struct Case {
    /// The seed.
    pub seed: u64,
    /// The bug that is put back, in whose weather the options are drawn.
    pub sabotage: Option<&'static Sabotage>,
    /// Options changed afterwards, in this order.
    pub overrides: Vec<Override>,
}

impl Case {
    /// A seed as it is.
    pub fn of_seed(seed: u64) -> Self {
        Self { seed, sabotage: None, overrides: Vec::new() }
    }

    /// What it runs under, and the chance that goes on from there.
    ///
    /// # Errors
    /// If an option cannot be changed so.
    pub fn options(&self) -> Result<(Options, Prng), Refused> {
        let (mut options, prng) = match self.sabotage {
            Some(sabotage) => sabotage.swarm(self.seed),
            None => {
                let mut prng = Prng::new(self.seed);
                (Options::swarm(&mut prng), prng)
            }
        };
        apply(&self.overrides, &mut options)?;
        Ok((options, prng))
    }

    /// Runs it.
    ///
    /// # Errors
    /// If an option cannot be changed so.
    pub fn run(&self, trace: Trace) -> Result<Report, Refused> {
        let (options, mut prng) = self.options()?;
        Ok(match self.sabotage {
            Some(sabotage) => sabotage.run_with(self.seed, options, &mut prng, trace),
            None => run_with(self.seed, options, &mut prng, trace),
        })
    }
}

/// `--seed 4 --sabotage read-without-round --set nodes=3`.
impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--seed {}", self.seed)?;
        if let Some(sabotage) = self.sabotage {
            write!(f, " --sabotage {}", sabotage.name)?;
        }
        self.overrides.iter().try_for_each(|one| match one.value.contains('[') {
            // A shell would look for files of such names.
            true => write!(f, " --set '{one}'"),
            false => write!(f, " --set {one}"),
        })
    }
}
