//! A few dozen seeds in every test run, and those that once failed, each with its story. CI runs hundreds more
//! through `quorate-sim seeds`. (A seed draws its options first: a change there makes other runs of all seeds, so a
//! story that must outlive it names its options, or becomes a test of what it was about.)

use quorate_sim::run::run;
use quorate_sim::trace::Trace;

fn passes(seeds: impl IntoIterator<Item = u64>) {
    for seed in seeds {
        let report = run(seed, Trace::default());
        if let Some(violation) = report.violation {
            panic!("seed {seed}: {violation}\n  replay: quorate-sim run --seed {seed} --trace");
        }
        assert!(report.simulated >= 25_000_000, "seed {seed} was over too soon");
    }
}

/// Tests of four seeds each, so that they run side by side and a hanging one is found.
macro_rules! fresh {
    ($($name:ident: $from:literal,)*) => {
        $(#[test]
        fn $name() {
            passes($from..$from + 4);
        })*
    };
}

fresh! {
    seeds_from_1: 1,
    seeds_from_5: 5,
    seeds_from_9: 9,
    seeds_from_13: 13,
    seeds_from_17: 17,
    seeds_from_21: 21,
    seeds_from_25: 25,
    seeds_from_29: 29,
}

/// A Clerk has two deletions of one key under way when its session expires; both are sent again under a new session. The
/// history gave both new names to the first, and the second, acknowledged, seemed never to have run.
#[test]
fn two_deletions_of_one_key_change_their_session_together() {
    passes([20_188]);
}
