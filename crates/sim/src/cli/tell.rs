//! What is said of a run that is over.

use std::io;

use quorate_sim::case::Case;
use quorate_sim::run::Report;
use quorate_sim::schedule::SECOND;

/// One line of a run that passed; of one that did not, the story, and the commands that go on from it.
pub(crate) fn tell(out: &mut impl io::Write, case: Option<&Case>, report: &Report) -> io::Result<()> {
    let Report { seed, simulated, operations: (called, completed), counts, violation, .. } = report;
    let seconds = *simulated as f64 / SECOND as f64;
    let Some(violation) = violation else {
        return writeln!(
            out,
            "seed {seed}: passed, {seconds:.1} simulated seconds, {called} operations ({completed} with a known \
             outcome), {} events, {} messages, {} crashes, {} partitions, {} faults",
            counts.events, counts.messages, counts.crashes, counts.partitions, counts.faults,
        );
    };
    writeln!(
        out,
        "seed {seed}: VIOLATION of {} after {seconds:.6} simulated seconds\n  {}",
        violation.invariant,
        violation.story.replace('\n', "\n  "),
    )?;
    let Some(case) = case else { return Ok(()) };
    writeln!(out, "  replay: quorate-sim run {case} --trace --last 2")?;
    writeln!(out, "  look:   quorate-sim run {case} --html seed-{seed}.html")?;
    writeln!(out, "  shrink: quorate-sim shrink {case}")
}
