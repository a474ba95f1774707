//! One seed from its first event to its verdict.

use std::panic::{self, AssertUnwindSafe};

use crate::blame::Blame;
use crate::chronicle::Chronicle;
use crate::effects::Effects;
use crate::history::History;
use crate::invariants::Violation;
use crate::options::Options;
use crate::prng::Prng;
use crate::schedule::Micros;
use crate::trace::Trace;
use crate::world::{Counts, World};

/// What came of a seed.
#[derive(Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Virtual time that it took.
    pub simulated: Micros,
    /// From the end of the faults to the first operation served; `None` if it did not come so far.
    pub served_after: Option<Micros>,
    /// Operations called, and those with a known outcome.
    pub operations: (usize, usize),
    /// Counts of what happened.
    pub counts: Counts,
    /// The property that did not hold.
    pub violation: Option<Violation>,
    /// The lines, if they are kept.
    pub trace: String,
    /// What clients did and saw.
    pub history: History,
    /// When each operation took effect, as far as the log tells.
    pub effects: Option<Effects>,
    /// What happened to the servers.
    pub chronicle: Chronicle,
    /// The operations to blame, where the violation is of what clients saw.
    pub blame: Option<Blame>,
}

/// Runs a seed.
pub fn run(seed: u64, trace: Trace) -> Report {
    let mut prng = Prng::new(seed);
    let options = Options::swarm(&mut prng);
    run_with(seed, options, &mut prng, trace)
}

/// Runs a seed with given options.
pub fn run_with(seed: u64, options: Options, prng: &mut Prng, trace: Trace) -> Report {
    run_watched(seed, options, prng, trace, |_| ())
}

/// Runs a seed with given options, and lets `watch` look on after each event of the fault phase.
pub fn run_watched(
    seed: u64,
    options: Options,
    prng: &mut Prng,
    mut trace: Trace,
    watch: impl Fn(&World),
) -> Report {
    trace.line(0, format_args!("seed {seed}: {options:?}"));
    if options.luck != 0 {
        *prng = Prng::new(prng.draw() ^ options.luck);
    }
    let mut world = World::new(options, prng, trace);
    // An assertion of the code under test is a finding like any other, and must not hide the trace.
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| whole(&mut world, watch)));
    let (served_after, violation) = match outcome {
        Ok(Ok(served_after)) => (Some(served_after), None),
        Ok(Err(violation)) => (None, Some(violation)),
        Err(payload) => {
            let text = payload.downcast_ref::<String>().cloned();
            let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            let story = text.unwrap_or_else(|| "without a word".to_owned());
            (None, Some(Violation { invariant: "panic", story }))
        }
    };
    if let Some(violation) = &violation {
        let story = violation.to_string();
        world.line(format_args!("✗ {story}"));
    }
    let operations = (world.history().operations().len(), world.history().completed());
    Report {
        seed,
        simulated: world.now(),
        served_after,
        operations,
        counts: world.counts(),
        violation,
        trace: world.trace.into_text(),
        history: world.history,
        effects: world.effects,
        chronicle: world.chronicle,
        blame: world.blame,
    }
}

fn whole(world: &mut World, watch: impl Fn(&World)) -> Result<Micros, Violation> {
    let look_on = |world: &World| {
        watch(world);
        false
    };
    world.run_until(world.options.faults_last, look_on)?;
    world.recover()
}
