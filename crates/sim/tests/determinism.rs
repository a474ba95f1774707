//! A run is a function of its seed: without that no failure could be replayed, so this comes first.

use quorate_sim::run::run;
use quorate_sim::trace::Trace;

#[test]
fn the_same_seed_gives_the_same_trace_byte_for_byte() {
    for seed in [1, 2] {
        let (first, second) = (run(seed, Trace::kept()), run(seed, Trace::kept()));
        assert!(first.trace.lines().count() > 1_000, "seed {seed}: hardly anything happened");
        // Not assert_eq: nobody wants to read two traces of megabytes.
        assert!(
            first.trace == second.trace,
            "seed {seed}: replay with `quorate-sim determinism --seed {seed}`"
        );
    }
}

#[test]
fn looking_changes_nothing() {
    let (seen, unseen) = (run(4, Trace::kept()), run(4, Trace::default()));
    assert_eq!(seen.simulated, unseen.simulated);
    assert_eq!(seen.counts.events, unseen.counts.events);
    assert_eq!(seen.operations, unseen.operations);
}

#[test]
fn another_seed_gives_another_run() {
    assert!(run(1, Trace::kept()).trace != run(5, Trace::kept()).trace);
}
