//! Backups under faults: each that is taken whole is the state at its index, and behind all that was committed when it was
//! asked for. What checks that is `quorate_sim::backups`.

use quorate_sim::options::Options;
use quorate_sim::prng::Prng;
use quorate_sim::run::run_with;
use quorate_sim::schedule::SECOND;
use quorate_sim::trace::Trace;

#[test]
fn backups_are_what_the_log_makes_up_to_their_index() {
    let mut taken = 0;
    for seed in 1..=12 {
        let mut prng = Prng::new(seed);
        let mut options = Options::swarm(&mut prng);
        options.workload.backups = 3;
        options.faults_last = 20 * SECOND;
        let report = run_with(seed, options, &mut prng, Trace::default());
        if let Some(violation) = report.violation {
            panic!("seed {seed}: {violation}");
        }
        taken += report.counts.backups;
    }
    assert!(taken > 30, "{taken} backups were taken whole");
}
