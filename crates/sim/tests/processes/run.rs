//! One run from its beginning to its verdict: founding, load under faults, recovery, one more kill of all, judgement.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use quorate_sim::history::{Action, Operation, Outcome};
use tempfile::TempDir;

use crate::clients::{self, CLIENTS};
use crate::cluster::{Cluster, Connection, SOON, look_again};
use crate::plan::{Plan, SERVERS};
use crate::recorder::Recorder;
use crate::relay::Relays;
use crate::storm::{Counts, Net, Storm};
use crate::{Violation, product, verdict};

/// After the last fault each server answers within this time.
const SERVES_WITHIN: Duration = Duration::from_secs(10);
/// And a client that goes on has an answer to something that it asked after the last fault.
const CLIENTS_SERVED_WITHIN: Duration = Duration::from_secs(10);
/// How long clients go on in health.
const CLIENTS_GO_ON: Duration = Duration::from_secs(2);
/// Then they begin nothing new, and all that they began ends within this time.
const CALLS_END_WITHIN: Duration = Duration::from_secs(15);
/// All servers come to the same state within this time.
const CONVERGES_WITHIN: Duration = Duration::from_secs(10);
/// Reads that are sent in one go at the end.
const AUDIT_PIPELINE: usize = 100;

/// What a run may be told.
pub(crate) struct Settings {
    pub(crate) seed: u64,
    pub(crate) length_ms: u64,
    /// Without faults.
    pub(crate) is_calm: bool,
}

/// What came of a run.
pub(crate) struct Report {
    pub(crate) operations: Vec<Operation>,
    pub(crate) counts: Counts,
    pub(crate) served_after: Duration,
    pub(crate) bytes: u64,
    pub(crate) broken: u64,
    pub(crate) judged_in: Duration,
}

/// A run that is under way.
struct Run {
    cluster: Cluster,
    net: Net,
    recorder: Arc<Recorder>,
    plan: Plan,
    account: String,
    // Behind all that live in it.
    _relays: Relays,
    folder: TempDir,
}

/// # Panics
/// With all that is known, where something does not hold.
pub(crate) fn run(settings: &Settings) -> Report {
    let product = product();
    let mut run = Run::new(settings, &product);
    let result = run.live(settings);
    match result {
        Ok(report) => report,
        Err(violation) => run.fails(&violation),
    }
}

/// The program under test: the product, or another one that this test is put on trial with.
pub(crate) fn product() -> PathBuf {
    std::env::var_os("QUORATE_PROCESSES_PROGRAM").map_or_else(product::built, PathBuf::from)
}

impl Run {
    fn new(settings: &Settings, product: &Path) -> Self {
        let Settings { seed, length_ms, is_calm } = *settings;
        let mut plan = Plan::draw(seed, length_ms, CLIENTS);
        if is_calm {
            plan.steps.clear();
        }
        let folder = TempDir::new().expect("a folder");
        let relays = Relays::new();
        let mut links = BTreeMap::new();
        let way = |from, to, port| {
            let way = relays.way(port, seed);
            let port = way.port;
            links.insert((from, to), way);
            port
        };
        let cluster = Cluster::new(product, folder.path(), &plan.request_timeouts_ms, way);
        let ways = |_| cluster.servers.iter().map(|server| relays.way(server.port, seed)).collect();
        let net = Net { clients: (0..CLIENTS).map(ways).collect(), links };
        let recorder = Arc::new(Recorder::new());
        Self { cluster, net, recorder, plan, account: String::new(), _relays: relays, folder }
    }

    fn live(&mut self, settings: &Settings) -> Result<Report, Violation> {
        self.cluster.start_all();
        self.all_serve_within(SOON)?;
        let ports: Vec<Vec<u16>> =
            self.net.clients.iter().map(|ways| ways.iter().map(|way| way.port).collect()).collect();
        clients::start(&self.recorder, &ports, settings.seed);
        let mut storm = Storm::new(&mut self.cluster, &self.net);
        let raged = storm.rage(&self.plan, settings.length_ms);
        self.account = storm.account();
        let counts = raged?;
        let served_after = self.recover()?;
        self.audit()?;
        for server in &mut self.cluster.servers {
            server.kill();
        }
        self.cluster.start_all();
        self.all_serve_within(SERVES_WITHIN)?;
        self.audit()?;
        self.cluster.are_as_they_should()?;
        self.cluster.logs_are_sane()?;
        self.stop_in_order()?;
        self.recorder.no_complaints()?;
        let operations = self.recorder.operations();
        let begun = Instant::now();
        verdict::judge(&operations)?;
        let judged_in = begun.elapsed();
        let ways = self.net.clients.iter().flatten().chain(self.net.links.values());
        let (bytes, broken) =
            ways.map(|way| way.counts()).fold((0, 0), |sum, way| (sum.0 + way.0, sum.1 + way.1));
        Ok(Report { operations, counts, served_after, bytes, broken, judged_in })
    }

    /// From the end of the faults to quiet and equal servers. Gives how long it took until all served.
    fn recover(&mut self) -> Result<Duration, Violation> {
        let count = self.recorder.count();
        let healed = Instant::now();
        self.all_serve_within(SERVES_WITHIN)?;
        let served_after = healed.elapsed();
        self.wait("clients are served", CLIENTS_SERVED_WITHIN, |run| {
            if run.recorder.has_served_since(count) {
                Ok(())
            } else {
                Err("no operation has its answer".to_owned())
            }
        })?;
        std::thread::sleep(CLIENTS_GO_ON);
        self.recorder.ends();
        self.wait("every call ends", CALLS_END_WITHIN, |run| match run.recorder.unfinished() {
            0 => Ok(()),
            busy => Err(format!("{busy} clients have not ended")),
        })?;
        self.wait("the servers come to the same state", CONVERGES_WITHIN, |run| run.cluster.has_converged())?;
        Ok(served_after)
    }

    fn all_serve_within(&mut self, limit: Duration) -> Result<(), Violation> {
        let begun = Instant::now();
        for server in &self.cluster.servers {
            server.serves_within(limit.saturating_sub(begun.elapsed()))?;
        }
        Ok(())
    }

    fn wait(
        &self,
        property: &'static str,
        limit: Duration,
        holds: impl Fn(&Self) -> Result<(), String>,
    ) -> Result<(), Violation> {
        let begun = Instant::now();
        while let Err(story) = holds(self) {
            if begun.elapsed() > limit {
                return Err(Violation::new(property, format!("not within {limit:?}: {story}")));
            }
            look_again();
        }
        Ok(())
    }

    /// Reads all keys, each from a server of its own choice: the last word of the history.
    fn audit(&self) -> Result<(), Violation> {
        let refuse = |story: String| Violation::new("every key can be read at the end", story);
        let keys: Vec<_> = verdict::keys(&self.recorder.operations()).into_iter().collect();
        for (number, keys) in keys.chunks(AUDIT_PIPELINE).enumerate() {
            let server = &self.cluster.servers[number % SERVERS];
            let connection = Connection::open(server.port, SOON);
            let mut connection = connection.map_err(|error| refuse(error.to_string()))?;
            let commands: Vec<[&[u8]; 2]> = keys.iter().map(|key| [b"GET".as_slice(), key]).collect();
            let number = self.recorder.connection();
            let call = |key: &_| self.recorder.calls(CLIENTS as u32, number, Clone::clone(key), Action::Get);
            let calls: Vec<_> = keys.iter().map(call).collect();
            connection.send(&commands).map_err(|error| refuse(error.to_string()))?;
            for (key, id) in keys.iter().zip(calls) {
                let frame = connection.receive().map_err(|error| refuse(error.to_string()))?;
                let outcome = clients::answered(&Action::Get, &frame);
                let outcome = outcome.filter(|outcome| matches!(outcome, Outcome::Value(_) | Outcome::Nil));
                let outcome =
                    outcome.ok_or_else(|| refuse(format!("{} is {frame:?}", key.escape_ascii())))?;
                self.recorder.returned(id, outcome);
            }
        }
        Ok(())
    }

    fn stop_in_order(&mut self) -> Result<(), Violation> {
        for server in &mut self.cluster.servers {
            let status = server.stop();
            if !status.success() {
                let story = format!("server {} was asked to stop and ended with {status}", server.id);
                return Err(Violation::new("an orderly stop", story));
            }
        }
        Ok(())
    }

    /// Says all that is known and keeps the folder.
    fn fails(mut self, violation: &Violation) -> ! {
        self.recorder.ends();
        self.folder.disable_cleanup(true);
        let folder = self.folder.path();
        let operations = self.recorder.operations();
        let history = folder.join("history.jsonl");
        let written = std::fs::write(&history, verdict::json_lines(&operations));
        let own = operations.iter().filter(|operation| Some(&operation.key) == violation.key.as_ref());
        let own: Vec<Operation> = own.cloned().collect();
        let of_key = folder.join("key.jsonl");
        let of_key_written = std::fs::write(&of_key, verdict::json_lines(&own));
        panic!(
            "{}: {}\n\nthe plan: {}\nwhat really happened:\n{}\n\n{}\nseed {}; {} operations in {} ({written:?}), those of \
             the key in {} ({of_key_written:?}); data folders and whole logs beside them",
            violation.property,
            violation.story,
            self.plan,
            self.account,
            self.cluster.logs(),
            self.plan.seed,
            operations.len(),
            history.display(),
            of_key.display(),
        );
    }
}

/// The seconds of faults in each run of the tests.
const SECONDS_DEFAULT: u64 = 45;
/// And what seed decides them.
const SEED_DEFAULT: u64 = 1;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}: no number")))
}

/// `QUORATE_PROCESSES_SECONDS` and `QUORATE_PROCESSES_SEED` say otherwise by hand.
#[test]
fn what_clients_see_of_dying_cut_off_and_paused_servers_is_linearizable() {
    let seconds = setting("QUORATE_PROCESSES_SECONDS", SECONDS_DEFAULT);
    let seed = setting("QUORATE_PROCESSES_SEED", SEED_DEFAULT);
    let report = run(&Settings { seed, length_ms: seconds * 1_000, is_calm: false });
    let Report { operations, counts, served_after, bytes, broken, judged_in } = report;
    let of = |wanted: fn(&Operation) -> bool| operations.iter().filter(|operation| wanted(operation)).count();
    let answered = of(Operation::is_complete);
    let refused = of(|operation| operation.outcome == Outcome::NotExecuted);
    let open = of(|operation| operation.returned.is_none() && operation.is_write());
    let slowest = operations.iter().filter(|o| o.is_complete()).max_by_key(|o| o.returned_at - o.call_at);
    println!(
        "seed {seed}, {seconds} s of faults: {} operations on {} keys: {answered} answered, {refused} not executed, {open} \
         writes unknown; the slowest: {}",
        operations.len(),
        verdict::keys(&operations).len(),
        slowest.map_or("none".to_owned(), ToString::to_string),
    );
    let Counts { kills, pauses, cuts, holds, delays } = counts;
    println!(
        "{kills} kills, {pauses} pauses, {cuts} cuts, {holds} holds, {delays} delays; {bytes} bytes relayed, {broken} \
         connections broken; all served {} ms after the last fault; judged in {} ms",
        served_after.as_millis(),
        judged_in.as_millis(),
    );
    // A run in which nothing happened proves nothing.
    let seconds = usize::try_from(seconds).unwrap();
    assert!(answered > 20 * seconds, "too few answers to prove anything");
    for (what, count) in
        [("kill", kills), ("pause", pauses), ("cut", cuts), ("hold", holds), ("delay", delays)]
    {
        assert!(seconds < 40 || count > 0, "no {what} in {seconds} s");
    }
}
