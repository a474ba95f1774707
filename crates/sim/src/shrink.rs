//! Makes a failing run small: fewer faults, servers, clients and operations, less time, as long as it still fails with
//! the same invariant. Knows the options only as paths and values, so that a new one is reduced without a word here.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use crate::case::Case;
use crate::duration;
use crate::invariants::Violation;
use crate::options::Options;
use crate::overrides::{self, Override, Refused, apply, difference, leaves};
use crate::run::{Report, run_with};
use crate::schedule::{MS, SECOND};
use crate::trace::Trace;

/// Runs that are tried by default.
pub const ATTEMPTS: u64 = 300;

/// Other courses of the same seed that are tried for a step that would make the run much smaller, and for the rest:
/// what is left of a run is another run, and its first course may be a lucky one.
const COURSES_MANY: u64 = 8;
const COURSES: u64 = 3;

/// How often one change is tried in all.
const TRIES: u32 = 2;

/// Parts of the options that can be off as a whole.
const PARTS: [&str; 5] = ["faults", "network", "host", "workload", "faults.flags"];

/// A failing run and how large it is.
#[derive(Clone)]
pub struct Shrunk {
    /// What to run.
    pub case: Case,
    /// Under what it runs.
    pub options: Options,
    /// What it violates.
    pub violation: Violation,
    /// Operations that clients called.
    pub operations: usize,
    /// Virtual time.
    pub simulated: u64,
}

/// `3 servers, 2 clients, 14 operations, 3.2 simulated seconds, faults: partition, pause`.
impl fmt::Display for Shrunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { options, operations, simulated, .. } = self;
        let clients = options.workload.clerks + options.workload.pipeliners;
        let seconds = *simulated as f64 / SECOND as f64;
        let many = |count: u64, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let (servers, clients) = (many(options.nodes, "server"), many(clients.into(), "client"));
        let operations = many(*operations as u64, "operation");
        write!(f, "{servers}, {clients}, {operations}, {seconds:.1} s")?;
        match faults(options) {
            on if on.is_empty() => f.write_str(", no faults"),
            on => write!(f, ", faults: {}", on.join(", ")),
        }
    }
}

/// What goes wrong under these options, by the names of the fields.
pub fn faults(options: &Options) -> Vec<String> {
    let name = |path: String| path.rsplit('.').next().unwrap_or_default().to_owned();
    wrong(options).into_iter().filter(|path| !is_size(path)).map(name).collect()
}

/// Paths of what is not as it would be if nothing went wrong.
fn wrong(options: &Options) -> Vec<String> {
    let calm = leaves(&options.without_faults());
    let on = leaves(options).into_iter().zip(calm).filter(|(on, off)| on.1 != off.1);
    on.map(|((path, _), _)| path).collect()
}

/// How long or how far something goes wrong, where another option says whether.
fn is_size(path: &str) -> bool {
    let sizes = ["faults.lasts_min", "faults.lasts_max", "faults.clock_jump_ms", "network.delay_max"];
    sizes.contains(&path)
}

/// Makes a run small. `progress` hears of each step that was taken. `None` if the run does not fail.
///
/// # Errors
/// If the case has an option that cannot be set so.
pub fn shrink(
    case: &Case,
    attempts: u64,
    progress: impl FnMut(&Progress<'_>),
) -> Result<Option<(Shrunk, u64)>, Refused> {
    let (options, _) = case.options()?;
    let report = case.run(Trace::default())?;
    let Some(violation) = report.violation.clone() else { return Ok(None) };
    let first = Shrunk {
        case: case.clone(),
        options,
        violation,
        operations: report.operations.0,
        simulated: report.simulated,
    };
    let mut shrinker = Shrinker { best: first, used: 1, attempts, failed: BTreeMap::new(), progress };
    shrinker.tell("as it is");
    while shrinker.pass()? {}
    Ok(Some((shrinker.best, shrinker.used)))
}

/// A step that was taken.
pub struct Progress<'a> {
    /// Runs so far.
    pub attempts: u64,
    /// What was changed.
    pub step: &'a str,
    /// What is left.
    pub left: &'a Shrunk,
}

struct Shrinker<P> {
    best: Shrunk,
    used: u64,
    attempts: u64,
    /// How often a change has failed: once more, when the rest is smaller, is enough.
    failed: BTreeMap<String, u32>,
    progress: P,
}

impl<P: FnMut(&Progress<'_>)> Shrinker<P> {
    fn tell(&mut self, step: &str) {
        (self.progress)(&Progress { attempts: self.used, step, left: &self.best });
    }

    /// Tries everything once. Whether anything was taken.
    fn pass(&mut self) -> Result<bool, Refused> {
        let mut any = false;
        for part in PARTS {
            any |= self.step(part, &Value::from("off"), COURSES)?;
        }
        any |= self.shorter()?;
        let nodes = self.best.options.nodes;
        for nodes in [1, 3, 5].into_iter().filter(|fewer| *fewer < nodes) {
            if self.step("nodes", &Value::from(nodes), COURSES_MANY)? {
                any = true;
                break;
            }
        }
        for path in wrong(&self.best.options) {
            any |= self.step(&path, &Value::from("off"), COURSES)?;
        }
        any |= self.fewer_operations()?;
        for (path, _) in leaves(&self.best.options) {
            for value in smaller(&path, &self.best.options) {
                if self.step(&path, &value, COURSES)? {
                    any = true;
                    break;
                }
            }
        }
        Ok(any && self.used < self.attempts)
    }

    fn shorter(&mut self) -> Result<bool, Refused> {
        let mut any = false;
        for (times, of) in [(1, 8), (1, 4), (1, 2), (3, 4)] {
            loop {
                let last = self.best.options.faults_last / of * times / (100 * MS) * (100 * MS);
                if last == 0 || !self.step("faults_last", &Value::from(duration::written(last)), COURSES)? {
                    break;
                }
                any = true;
            }
        }
        Ok(any)
    }

    fn fewer_operations(&mut self) -> Result<bool, Refused> {
        let mut any = false;
        for (times, of) in [(1, 8), (1, 2), (3, 4), (9, 10)] {
            loop {
                let called = self.best.operations as u64;
                let most = self.best.options.workload.operations_max.unwrap_or(called).min(called);
                let fewer = most * times / of;
                if fewer == 0 || !self.step("workload.operations_max", &Value::from(fewer), COURSES)? {
                    break;
                }
                any = true;
            }
        }
        Ok(any)
    }

    /// Tries one change in a few courses; keeps it if the same invariant still fails.
    fn step(&mut self, path: &str, value: &Value, courses: u64) -> Result<bool, Refused> {
        let change = Override::new(path, value);
        let mut options = self.best.options.clone();
        let is_change = apply(std::slice::from_ref(&change), &mut options).is_ok();
        let failed = self.failed.entry(change.to_string()).or_default();
        if !is_change || options == self.best.options || *failed >= TRIES {
            return Ok(false);
        }
        *failed += 1;
        let luck = options.luck;
        for course in 0..courses {
            if self.used >= self.attempts {
                return Ok(false);
            }
            options.luck = if course == 0 { luck } else { self.used };
            if let Some(shrunk) = self.attempt(&options)? {
                self.best = shrunk;
                self.tell(&change.to_string());
                self.failed.remove(&change.to_string());
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn attempt(&mut self, options: &Options) -> Result<Option<Shrunk>, Refused> {
        self.used += 1;
        let Case { seed, sabotage, .. } = self.best.case;
        let (seeds, _) = Case { seed, sabotage, overrides: Vec::new() }.options()?;
        let case = Case { seed, sabotage, overrides: shortest(&seeds, options) };
        let Report { violation, operations, simulated, .. } = case.run(Trace::default())?;
        let Some(violation) = violation.filter(|violation| is_alike(violation, &self.best.violation)) else {
            return Ok(None);
        };
        if sabotage.is_some() {
            // What fails without the bug too is not its doing.
            self.used += 1;
            let (options, mut prng) = case.options()?;
            if run_with(seed, options, &mut prng, Trace::default()).violation.is_some() {
                return Ok(None);
            }
        }
        let options = options.clone();
        Ok(Some(Shrunk { case, options, violation, operations: operations.0, simulated }))
    }
}

/// Panics are told apart by their text, numbers aside.
fn is_alike(one: &Violation, other: &Violation) -> bool {
    let words = |story: &str| -> String { story.chars().filter(|c| !c.is_ascii_digit()).collect() };
    one.invariant == other.invariant && (one.invariant != "panic" || words(&one.story) == words(&other.story))
}

/// Values that make the run smaller than this option's, the boldest first.
fn smaller(path: &str, options: &Options) -> Vec<Value> {
    let Some((_, value)) = leaves(options).into_iter().find(|(name, _)| name == path) else {
        return Vec::new();
    };
    match &value {
        Value::Number(number) if number.is_f64() && wrong(options).iter().any(|name| name == path) => {
            let rarer = number.as_f64().unwrap_or_default() / 4.0;
            if rarer > 0.000_001 { vec![Value::from(rarer)] } else { Vec::new() }
        }
        // Counts of the workload: clients, keys, commands in flight, padding.
        Value::Number(number) if path.starts_with("workload.") && path != "workload.operations_max" => {
            let number = number.as_u64().unwrap_or_default();
            let mut fewer = vec![0, 1, number / 2, number.saturating_sub(1)];
            fewer.retain(|fewer| *fewer < number);
            fewer.dedup();
            fewer.into_iter().map(Value::from).collect()
        }
        Value::String(text) if overrides::can_be_off(path, options) => {
            let every = duration::read(text).unwrap_or_default();
            // Rarer than once in the run is off, which has been tried.
            let rarer = [every.saturating_mul(4), every.saturating_mul(2)];
            let rarer = rarer.into_iter().filter(|rarer| *rarer < options.faults_last);
            rarer.map(|rarer| Value::from(duration::written(rarer))).collect()
        }
        Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_) => Vec::new(),
    }
}

/// The fewest overrides that make the one of the other: parts that are mostly off are turned off first.
fn shortest(from: &Options, to: &Options) -> Vec<Override> {
    let mut start = from.clone();
    let mut first = Vec::new();
    for part in PARTS {
        let mut off = start.clone();
        let change = Override::new(part, &Value::from("off"));
        if apply(std::slice::from_ref(&change), &mut off).is_ok()
            && difference(&off, to).len() + 1 < difference(&start, to).len()
        {
            start = off;
            first.push(change);
        }
    }
    first.extend(difference(&start, to));
    first
}
