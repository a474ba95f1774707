//! What a snapshot costs those who write meanwhile: real servers on this machine under as many writes as they take, first
//! quiet, then while all of them write a snapshot, then while one that was away gets one. Prints a table of ratios, since
//! the figures themselves are the machine's.
//!
//! `cargo bench -p quorate --bench snapshots -- [--servers 1] [--keys 1000000] [--rounds 3] [--only snapshot|transfer]
//! [--binary PATH, of another version]`

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a measurement that cannot go on panics")]
#![allow(clippy::print_stdout, reason = "the table is what it is for")]

#[path = "../tests/server/ports.rs"]
mod ports;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Connections that write, one thread each.
const WRITERS: usize = 2;
/// Writes of each that are under way together.
const DEPTH: usize = 64;
const KEY_BYTES: usize = 16;
const VALUE_BYTES: usize = 100;
/// How long each quiet measurement lasts.
const QUIET: Duration = Duration::from_secs(4);
/// Snapshots and transfers may take so long.
const PATIENCE: Duration = Duration::from_secs(300);

/// What is asked for on the command line.
struct Plan {
    servers: usize,
    keys: u64,
    rounds: usize,
    only: Option<String>,
    binary: String,
}

impl Plan {
    fn parse() -> Self {
        let binary = env!("CARGO_BIN_EXE_quorate").to_owned();
        let mut plan = Self { servers: 1, keys: 1_000_000, rounds: 3, only: None, binary };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().expect("a value behind it");
            match word.as_str() {
                "--servers" => plan.servers = value().parse().unwrap(),
                "--keys" => plan.keys = value().parse().unwrap(),
                "--rounds" => plan.rounds = value().parse().unwrap(),
                "--binary" => plan.binary = value(),
                "--only" => plan.only = Some(value()),
                // Cargo's own.
                "--bench" => {}
                other => panic!("{other}: see the head of the file"),
            }
        }
        plan
    }

    fn wants(&self, what: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only == what)
    }
}

struct Server {
    binary: String,
    arguments: Vec<String>,
    port: u16,
    process: Option<Child>,
}

impl Server {
    fn start(&mut self) {
        let mut child = Command::new(&self.binary)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("ready"), "{line}");
        self.process = Some(child);
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.process.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Bytes of memory: now, and at the most since [`Server::forget_peak`].
    fn memory(&self) -> (u64, u64) {
        let pid = self.process.as_ref().unwrap().id();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
        };
        (field("VmRSS:"), field("VmHWM:"))
    }

    fn forget_peak(&self) {
        let pid = self.process.as_ref().unwrap().id();
        std::fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
    }

    fn info(&self, field: &str) -> String {
        let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", self.port)).unwrap());
        stream.get_mut().write_all(b"INFO everything\r\n").unwrap();
        let mut head = String::new();
        stream.read_line(&mut head).unwrap();
        let mut text = vec![0; head.trim().trim_start_matches('$').parse().unwrap()];
        stream.read_exact(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value.unwrap_or_default().to_owned()
    }

    /// Zero where this version does not count that.
    fn number(&self, field: &str) -> u64 {
        self.info(field).parse().unwrap_or(0)
    }

    fn tell(&self, command: &str) {
        let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", self.port)).unwrap());
        stream.get_mut().write_all(format!("{command}\r\n").as_bytes()).unwrap();
        let mut reply = String::new();
        stream.read_line(&mut reply).unwrap();
        assert!(reply.starts_with('+'), "{reply}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn cluster(plan: &Plan, folder: &TempDir, flags: &[&str]) -> Vec<Server> {
    let ports: Vec<(u16, u16)> =
        (0..plan.servers).map(|_| (ports::free_port(), ports::free_port())).collect();
    let peers = ports.iter().enumerate().map(|(at, (_, peer))| format!("{}=127.0.0.1:{peer}", at + 1));
    let peers = peers.collect::<Vec<_>>().join(",");
    let data: PathBuf = folder.path().into();
    let server = |(at, (port, _)): (usize, &(u16, u16))| {
        let data = data.join(at.to_string());
        let words = ["serve", "--id", &(at + 1).to_string(), "--data", data.to_str().unwrap()];
        let more = ["--listen", &format!("127.0.0.1:{port}"), "--peers", &peers];
        let arguments = words.iter().chain(&more).chain(flags).map(|word| (*word).to_owned()).collect();
        Server { binary: plan.binary.clone(), arguments, port: *port, process: None }
    };
    let mut servers: Vec<Server> = ports.iter().enumerate().map(server).collect();
    servers.iter_mut().for_each(Server::start);
    until("a leader", || leader(&servers).is_some());
    servers
}

fn leader(servers: &[Server]) -> Option<usize> {
    servers.iter().position(|server| server.process.is_some() && server.info("raft_role") == "leader")
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        pause(Duration::from_millis(20));
    }
}

#[expect(clippy::disallowed_methods, reason = "between two looks at other processes")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// `SET` of a key to a value of the lengths above.
fn set(out: &mut Vec<u8>, key: u64, value: u64) {
    let (key, value) = (format!("{key:0>KEY_BYTES$}"), format!("{value:0>VALUE_BYTES$}"));
    out.extend_from_slice(b"*3\r\n$3\r\nSET\r\n");
    for text in [key, value] {
        out.extend_from_slice(format!("${}\r\n{text}\r\n", text.len()).as_bytes());
    }
}

/// Sends these together and waits for all answers; gives the microseconds until each.
fn write(stream: &mut TcpStream, commands: &[u8], count: usize, took: &mut Vec<u32>) {
    let begun = Instant::now();
    stream.write_all(commands).unwrap();
    let (mut answers, mut read) = ([0; 5 * DEPTH], 0);
    while read < 5 * count {
        let more = stream.read(&mut answers[read..5 * count]).unwrap();
        assert!(more > 0, "the server has closed the connection");
        let now = u32::try_from(begun.elapsed().as_micros()).unwrap();
        took.extend((read / 5..(read + more) / 5).map(|_| now));
        read += more;
    }
    assert!(answers[..read].chunks(5).all(|answer| answer == b"+OK\r\n"), "{:?}", answers.escape_ascii());
}

/// All keys once, in order.
fn load(server: &Server, keys: u64) {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    let all: Vec<u64> = (0..keys).collect();
    for batch in all.chunks(DEPTH) {
        let mut commands = Vec::new();
        batch.iter().for_each(|key| set(&mut commands, *key, *key));
        write(&mut stream, &commands, batch.len(), &mut Vec::new());
    }
}

/// What the writers do, and what they have seen since it was taken last.
struct Load {
    port: u16,
    keys: u64,
    is_over: AtomicBool,
    took: Mutex<Vec<u32>>,
}

impl Load {
    fn run(&self, seed: u64) {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let (mut commands, mut took) = (Vec::new(), Vec::new());
        while !self.is_over.load(Ordering::Relaxed) {
            commands.clear();
            for _ in 0..DEPTH {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                set(&mut commands, random % self.keys, random);
            }
            write(&mut stream, &commands, DEPTH, &mut took);
            self.took.lock().unwrap().append(&mut took);
        }
    }

    /// Runs something under load, and gives what the writers saw meanwhile.
    fn during(&self, what: impl FnOnce()) -> Seen {
        self.took.lock().unwrap().clear();
        let begun = Instant::now();
        what();
        let lasted = begun.elapsed();
        let mut took = std::mem::take(&mut *self.took.lock().unwrap());
        took.sort_unstable();
        let at = |part: f64| took.get((took.len() as f64 * part) as usize).copied().unwrap_or(0);
        let (p50, p99, max) = (at(0.5), at(0.99), took.last().copied().unwrap_or(0));
        Seen { lasted, writes: took.len(), p50, p99, max }
    }
}

/// What writers saw, in microseconds.
struct Seen {
    lasted: Duration,
    writes: usize,
    p50: u32,
    p99: u32,
    max: u32,
}

impl Seen {
    fn show(&self, what: &str, than: Option<&Seen>) {
        let Self { lasted, writes, p50, p99, max } = self;
        let seconds = lasted.as_secs_f64();
        let rate = *writes as f64 / seconds;
        print!(
            "{what:<22} {seconds:6.2} s {rate:9.0} writes/s  p50 {p50:7}  p99 {p99:7}  longest {max:7} us"
        );
        if let Some(than) = than {
            let ratio = |a: u32, b: u32| f64::from(a) / f64::from(b.max(1));
            print!("   p50 x{:.2} p99 x{:.2}", ratio(*p50, than.p50), ratio(*p99, than.p99));
        }
        println!();
    }
}

/// What the servers themselves saw, of each the worst.
fn show_servers(servers: &[Server], before: &[u64]) {
    for (at, server) in servers.iter().enumerate().filter(|(_, server)| server.process.is_some()) {
        let (turn, tick) =
            (server.number("quorate_longest_turn_us"), server.number("quorate_latest_tick_us"));
        let (_, peak) = server.memory();
        println!(
            "    server {}: longest turn {turn} us, latest tick {tick} us late, memory {} MiB, before {} MiB: {:+.0} %",
            at + 1,
            peak >> 20,
            before[at] >> 20,
            100.0 * (peak as f64 / before[at] as f64 - 1.0)
        );
    }
}

fn reset(servers: &[Server]) -> Vec<u64> {
    let each = |server: &Server| {
        if server.process.is_none() {
            return 0;
        }
        server.forget_peak();
        server.tell("CONFIG RESETSTAT");
        server.memory().0
    };
    servers.iter().map(each).collect()
}

/// All servers write a snapshot at once.
fn snapshot(plan: &Plan) {
    let folder = TempDir::new().unwrap();
    let servers = cluster(plan, &folder, &["--log-max", "8GiB"]);
    let at = leader(&servers).unwrap();
    load(&servers[at], plan.keys);
    under_load(servers[at].port, plan.keys, |load| {
        for round in 1..=plan.rounds {
            reset(&servers);
            let quiet = load.during(|| pause(QUIET));
            quiet.show(&format!("{round} quiet"), None);
            show_servers(&servers, &servers.iter().map(|server| server.memory().0).collect::<Vec<_>>());
            let before = reset(&servers);
            let taken: Vec<u64> =
                servers.iter().map(|server| server.number("quorate_snapshots_taken")).collect();
            let seen = load.during(|| {
                servers.iter().for_each(|server| server.tell("BGSAVE"));
                for (server, taken) in servers.iter().zip(&taken) {
                    until("a snapshot", || server.number("quorate_snapshots_taken") > *taken);
                }
            });
            seen.show(&format!("{round} snapshot"), Some(&quiet));
            show_servers(&servers, &before);
        }
    });
}

fn under_load(port: u16, keys: u64, what: impl FnOnce(&Load)) {
    let load = Load { port, keys, is_over: AtomicBool::new(false), took: Mutex::default() };
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let load = &load;
            scope.spawn(move || load.run(writer as u64 + 1));
        }
        load.during(|| pause(Duration::from_secs(1)));
        what(&load);
        load.is_over.store(true, Ordering::Relaxed);
    });
}

/// One that was away until the others' logs did not reach back to it comes back.
fn transfer(plan: &Plan) {
    let folder = TempDir::new().unwrap();
    let mut servers = cluster(plan, &folder, &["--log-max", "16MiB"]);
    let at = leader(&servers).unwrap();
    load(&servers[at], plan.keys);
    let (port, keys) = (servers[at].port, plan.keys);
    let away = (at + 1) % servers.len();
    under_load(port, keys, |load| {
        for round in 1..=plan.rounds {
            let last = servers[away].number("raft_last");
            servers[away].kill();
            let taken = servers[at].number("quorate_snapshots_taken");
            until("two snapshots", || {
                servers[at].number("quorate_snapshots_taken") >= taken + 3
                    && servers[at].number("raft_snapshot") > last
            });
            let quiet = load.during(|| pause(QUIET * 2));
            quiet.show(&format!("{round} one is away"), None);
            let back = load.during(|| {
                servers[away].start();
                until("a snapshot", || servers[away].number("quorate_snapshots_installed") > 0);
                until("all of the log", || {
                    let last = servers[at].number("raft_applied");
                    servers[away].number("raft_applied") >= last
                });
            });
            back.show(&format!("{round} it comes back"), Some(&quiet));
            let taken = servers[at].number("quorate_snapshots_taken") - taken - 3;
            let installed = servers[away].number("quorate_snapshots_installed");
            println!("    the leader took {taken} snapshots since, and it has installed {installed}");
        }
    });
}

fn main() {
    let plan = Plan::parse();
    println!(
        "{} servers (3 at least for a transfer), {} keys of {KEY_BYTES} B / {VALUE_BYTES} B, {WRITERS} writers with {DEPTH} writes under way each",
        plan.servers, plan.keys
    );
    if plan.wants("snapshot") {
        snapshot(&plan);
    }
    if plan.wants("transfer") {
        transfer(&Plan { servers: plan.servers.max(3), only: None, ..plan });
    }
}
