//! What `quorate-sim shrink` prints.

use std::io;

use quorate_sim::case::Case;
use quorate_sim::shrink::{Progress, shrink};

/// Makes a run small, and prints the one command that replays what is left. True if it fails, and so could be.
pub(crate) fn smaller(out: &mut impl io::Write, case: &Case, attempts: u64) -> anyhow::Result<bool> {
    let mut heard = Ok(());
    let shrunk = shrink(case, attempts, |Progress { attempts, step, left }| {
        // Nobody may listen any more; that is said at the end.
        if heard.is_ok() {
            heard = writeln!(out, "{attempts:>5}  {step:<34} {left}").and_then(|()| out.flush());
        }
    })?;
    heard?;
    let Some((left, used)) = shrunk else {
        writeln!(out, "seed {}: passes; there is nothing to make smaller", case.seed)?;
        return Ok(false);
    };
    writeln!(out, "after {used} runs: {left}")?;
    writeln!(out, "  VIOLATION of {}", left.violation.to_string().replace('\n', "\n  "))?;
    writeln!(out, "  replay: quorate-sim run {} --trace", left.case)?;
    writeln!(out, "  look:   quorate-sim run {} --html seed-{}.html", left.case, case.seed)?;
    Ok(true)
}
