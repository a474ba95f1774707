//! All servers are restarted, one after the other, under load, with the very commands of `docs/operations.md`.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use quorate_resp::Frame;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::support::{Client, Cluster, Plan, QUORATE, SOON, text, wait_for};

/// Clients of each server.
const CLIENTS: usize = 4;
/// Microseconds that a call at another server may take.
const GAP_US_MAX: u64 = 1_000_000;
/// No server is being restarted.
const NOBODY: u64 = u64::MAX;

/// The commands of this section of the operations page, word for word.
fn commands(heading: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operations.md");
    let page = std::fs::read_to_string(page).unwrap();
    let section = page.split("\n## ").find(|section| section.lines().next() == Some(heading)).expect(heading);
    let block = section.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next());
    block.expect("a block of commands").to_owned()
}

/// The shell of an operator, who has all machines under one roof. Its servers end with it.
struct Operator {
    shell: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
}

impl Operator {
    fn new(programs: &Path) -> Self {
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
        let mut shell = Command::new("bash")
            .args(["-u", "-s"])
            .env("PATH", path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (shell.stdin.take().unwrap(), shell.stdout.take().unwrap());
        let (print, lines) = channel();
        std::thread::spawn(move || {
            let printed = BufReader::new(stdout).lines().map_while(Result::ok);
            // Nobody reads any more when the test has failed.
            printed.map_while(|line| print.send(line).ok()).for_each(drop);
        });
        let mut operator = Self { shell, stdin, lines };
        operator.runs("trap 'kill -9 $(jobs -p)' EXIT");
        operator
    }

    /// Runs these commands; what they print.
    #[track_caller]
    fn runs(&mut self, commands: &str) -> String {
        const END: &str = "-- end of the output --";
        writeln!(self.stdin, "{commands}\necho '{END}'").unwrap();
        let mut output = String::new();
        loop {
            let line = self.lines.recv_timeout(SOON);
            let line = line.unwrap_or_else(|_| panic!("in vain:\n{commands}\nprinted so far:\n{output}"));
            if line == END {
                return output;
            }
            output.push_str(&line);
            output.push('\n');
        }
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        // Also from the middle of a loop that does not end.
        if kill_process(Pid::from_child(&self.shell), Signal::TERM).is_ok() {
            let _ = self.shell.wait();
        }
    }
}

/// A plain client of one server: it appends to a key of its own, and reads it.
struct Caller {
    at: usize,
    port: u16,
    key: String,
    calls: AtomicU64,
    /// Microseconds of its longest call, as long as it is not waiting for its own server.
    longest_us: AtomicU64,
}

impl Caller {
    /// Works until it is over; says how many appends were acknowledged, and how many connections ended under it.
    fn work(&self, is_over: &AtomicBool, restarting: &AtomicU64) -> (u64, u64) {
        let (mut acknowledged, mut ended) = (0, 0);
        let is_restarting = || restarting.load(Ordering::SeqCst) == self.at as u64;
        while !is_over.load(Ordering::SeqCst) {
            let Some(mut client) = Client::try_connect(self.port) else {
                assert!(is_restarting(), "{} cannot connect", self.key);
                wait_for("its server", || (is_over.load(Ordering::SeqCst) || !is_restarting()).then_some(()));
                continue;
            };
            while !is_over.load(Ordering::SeqCst) {
                let was_restarting = is_restarting();
                let begun = Instant::now();
                let length = match client.try_call(&["APPEND", &self.key, "x"]) {
                    Some(Frame::Integer(length)) => length.cast_unsigned(),
                    // Its own server stops, or reads its data: it goes on there when it is back.
                    answer if was_restarting || is_restarting() => {
                        ended += u64::from(answer.is_none());
                        wait_for("its server", || {
                            (is_over.load(Ordering::SeqCst) || !is_restarting()).then_some(())
                        });
                        break;
                    }
                    answer => panic!("{} sees {answer:?}", self.key),
                };
                acknowledged += 1;
                // What was sent as the connection ended may have been done; nothing is done twice, or lost.
                assert!((acknowledged..=acknowledged + ended).contains(&length), "{}: {length}", self.key);
                if !was_restarting && !is_restarting() {
                    let took = u64::try_from(begun.elapsed().as_micros()).unwrap();
                    self.longest_us.fetch_max(took, Ordering::SeqCst);
                }
                self.calls.fetch_add(1, Ordering::SeqCst);
            }
        }
        (acknowledged, ended)
    }
}

/// No error at clients of the other servers; and how long their longest call took each time.
#[test]
fn a_rolling_restart_as_the_page_tells_it() {
    let procedure = commands("Rolling restarts and upgrades");
    let start =
        procedure.lines().find(|line| line.starts_with("quorate serve")).expect("how a server is started");
    let programs = TempDir::new().unwrap();
    symlink(QUORATE, programs.path().join("quorate")).unwrap();
    let mut cluster = Cluster::plan(3, &[]);
    let mut operator = Operator::new(programs.path());
    operator.runs(&format!("SERVERS={} PEERS={}", cluster.addresses(), cluster.plans[0].peers));
    for (at, plan) in cluster.plans.iter().enumerate() {
        operator.runs(&format!("{}\n{start}\nPIDS[{at}]=$PID", machine(plan, at)));
    }
    for plan in &cluster.plans {
        wait_for("a server that serves", || {
            let mut client = Client::try_connect(plan.port)?;
            matches!(client.try_call(&["DBSIZE"])?, Frame::Integer(_)).then_some(())
        });
    }
    let (is_over, restarting) = (AtomicBool::new(false), AtomicU64::new(NOBODY));
    let callers: Vec<Caller> = (0..3 * CLIENTS)
        .map(|number| Caller {
            at: number % 3,
            port: cluster.plans[number % 3].port,
            key: format!("server{}client{number}", number % 3),
            calls: AtomicU64::new(0),
            longest_us: AtomicU64::new(0),
        })
        .collect();
    let mut gaps = Vec::new();
    let results = std::thread::scope(|scope| {
        let threads: Vec<_> =
            callers.iter().map(|caller| scope.spawn(|| caller.work(&is_over, &restarting))).collect();
        let over = Over(&is_over);
        let mut order: Vec<usize> = (0..3).collect();
        let last = leader(&cluster.plans);
        order.sort_by_key(|at| *at == last);
        for at in order {
            wait_for_calls(&callers);
            callers.iter().for_each(|caller| caller.longest_us.store(0, Ordering::SeqCst));
            let role = if at == leader(&cluster.plans) { "leader" } else { "follower" };
            restarting.store(at as u64, Ordering::SeqCst);
            let before = Client::connect(cluster.plans[at].port).info("process_id");
            let output =
                operator.runs(&format!("{}\n{procedure}\nPIDS[{at}]=$PID", machine(&cluster.plans[at], at)));
            assert_eq!(
                output.matches(" up ").count(),
                4,
                "three members, and then the one that is back: {output}"
            );
            assert_ne!(Client::connect(cluster.plans[at].port).info("process_id"), before);
            restarting.store(NOBODY, Ordering::SeqCst);
            let others = callers.iter().filter(|caller| caller.at != at);
            let gap = others.map(|caller| caller.longest_us.load(Ordering::SeqCst)).max().unwrap();
            gaps.push(format!("{role} {:.1} ms", gap as f64 / 1_000.0));
            assert!(gap < GAP_US_MAX, "{gaps:?}");
            wait_for_calls(&callers);
        }
        drop(over);
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    check_values(&cluster.plans[0], &callers, &results);
    let calls: u64 = results.iter().map(|(acknowledged, _)| acknowledged).sum();
    println!(
        "three servers restarted, {calls} calls, no error; the longest call at the others: {}",
        gaps.join(", ")
    );
    cluster.servers.clear();
}

/// What the procedure calls this server's settings.
fn machine(plan: &Plan, at: usize) -> String {
    let (id, data) = (plan.id, plan.data.display());
    format!("ID={id} DATA='{data}' LISTEN=127.0.0.1:{} PID=${{PIDS[{at}]:-}}", plan.port)
}

fn leader(plans: &[Plan]) -> usize {
    wait_for("a leader", || {
        plans.iter().position(|plan| Client::connect(plan.port).info("raft_role") == "leader")
    })
}

fn check_values(plan: &Plan, callers: &[Caller], results: &[(u64, u64)]) {
    let mut client = Client::connect(plan.port);
    for (caller, (acknowledged, ended)) in callers.iter().zip(results) {
        let length = text(&client.call(&["GET", &caller.key])).len() as u64;
        assert!((*acknowledged..=acknowledged + ended).contains(&length), "{}: {length}", caller.key);
    }
}

/// Waits until each has done some more.
fn wait_for_calls(callers: &[Caller]) {
    const CALLS: u64 = 20;
    let before: Vec<u64> = callers.iter().map(|caller| caller.calls.load(Ordering::SeqCst)).collect();
    wait_for("calls of all clients", || {
        let mut pairs = callers.iter().zip(&before);
        pairs.all(|(caller, before)| caller.calls.load(Ordering::SeqCst) >= before + CALLS).then_some(())
    });
}

/// Tells threads that it is over when it is dropped, also by a failure.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
