//! Servers that are told to stop, where nothing else goes wrong: nobody's write is lost, and no client of any server hears
//! of it, but for connections that end. The swarm tells servers to stop under all faults.

use quorate_sim::options::Options;
use quorate_sim::prng::Prng;
use quorate_sim::run::run_with;
use quorate_sim::schedule::{MS, SECOND};
use quorate_sim::trace::Trace;

#[test]
fn servers_that_leave_cost_nobody_an_answer() {
    let (mut left, mut operations) = (0, 0);
    for seed in 1..=12 {
        let mut prng = Prng::new(seed);
        let mut options = Options::swarm(&mut prng).without_faults();
        options.nodes = if seed % 2 == 0 { 3 } else { 5 };
        options.faults_last = 20 * SECOND;
        options.workload.clerks = 4;
        options.workload.pipeliners = 3;
        options.faults.leave = Some(2 * SECOND);
        options.faults.lasts_min = 100 * MS;
        options.faults.lasts_max = 500 * MS;
        let report = run_with(seed, options, &mut prng, Trace::default());
        if let Some(violation) = report.violation {
            panic!("seed {seed}: {violation}");
        }
        assert_eq!(report.counts.errors, 0, "seed {seed}: clients heard of it");
        left += report.counts.left;
        operations += report.operations.1;
    }
    assert!(left > 80, "{left} servers left in order");
    assert!(operations > 2_000, "{operations} operations");
}
