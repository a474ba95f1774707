//! Servers that are told to stop, under load: nobody else's client notices.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quorate_resp::Frame;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::{Client, Cluster, Plan, bulk, ok, text, wait_for};

/// Clients of each server.
const CLIENTS: usize = 4;
/// Calls of each client of the others, before and after.
const CALLS: u64 = 20;
/// Without a transfer nobody leads for at least so long: the shortest election timeout.
const ELECTION: Duration = Duration::from_millis(250);

/// Tells threads that it is over when it is dropped, also by a failure: or a scope would wait for them for ever.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A client of one server, which appends numbers to a key of its own, one after the other.
struct Appender {
    at: usize,
    port: u16,
    name: String,
    calls: AtomicU64,
    /// Microseconds of its longest call since this was set to zero.
    longest_us: AtomicU64,
    /// Connections that were closed under it.
    closed: AtomicU64,
}

impl Appender {
    fn new(at: usize, port: u16, number: usize) -> Self {
        let [calls, longest_us, closed] = [const { AtomicU64::new(0) }; 3];
        Self { at, port, name: format!("server{at}client{number}"), calls, longest_us, closed }
    }

    /// Works until it is over; gives the keys, and how many appends to each were acknowledged.
    fn work(&self, over: &AtomicBool, is_leaving: &[AtomicBool]) -> Vec<(String, u64)> {
        let mut keys = Vec::new();
        while !over.load(Ordering::Relaxed) {
            // Until it is up again, and serves.
            wait_for("its server", || {
                let is_up = !is_leaving[self.at].load(Ordering::Relaxed);
                (is_up || over.load(Ordering::Relaxed)).then_some(())
            });
            let Some(mut client) = Client::try_connect(self.port) else {
                let is_excused = is_leaving[self.at].load(Ordering::Relaxed) || over.load(Ordering::Relaxed);
                assert!(is_excused, "{} cannot connect", self.name);
                continue;
            };
            let key = format!("{}key{}", self.name, keys.len());
            let (mut acknowledged, mut length) = (0, 0);
            while !over.load(Ordering::Relaxed) {
                let number = format!("{acknowledged} ");
                let is_read = self.calls.load(Ordering::Relaxed) % 4 == 3;
                let begun = Instant::now();
                let reply = match is_read {
                    true => client.try_call(&["STRLEN", &key]),
                    false => client.try_call(&["APPEND", &key, &number]),
                };
                let took = u64::try_from(begun.elapsed().as_micros()).unwrap();
                match reply {
                    Some(Frame::Integer(found)) if is_read && found == length => {}
                    Some(Frame::Integer(found)) if !is_read => {
                        length += i64::try_from(number.len()).unwrap();
                        assert_eq!(found, length, "{key}");
                        acknowledged += 1;
                    }
                    None if is_leaving[self.at].load(Ordering::Relaxed) => {
                        self.closed.fetch_add(1, Ordering::Relaxed);
                        break;
                    }
                    reply => panic!("{} sees {reply:?} after {took} us", self.name),
                }
                self.longest_us.fetch_max(took, Ordering::Relaxed);
                self.calls.fetch_add(1, Ordering::Relaxed);
            }
            keys.push((key, acknowledged));
        }
        keys
    }
}

/// Waits until each of these has done so many more calls.
fn wait_for_calls<'a>(appenders: impl Iterator<Item = &'a Appender>) {
    let calls: Vec<_> =
        appenders.map(|appender| (appender, appender.calls.load(Ordering::Relaxed))).collect();
    wait_for("calls", || {
        let has_moved =
            |(appender, before): &(&Appender, u64)| appender.calls.load(Ordering::Relaxed) >= before + CALLS;
        calls.iter().all(has_moved).then_some(())
    });
}

fn median(mut all: Vec<u64>) -> u64 {
    all.sort_unstable();
    all[all.len() / 2]
}

/// The leader under load, again and again.
#[test]
fn the_leader_stops_under_load_and_nobody_elses_client_sees_an_error() {
    let gaps_us = stop_under_load(20, |cluster| cluster.leader());
    let limit = u64::try_from(ELECTION.as_micros()).unwrap();
    assert!(median(gaps_us.clone()) < limit, "an election each time: {gaps_us:?}");
}

#[test]
fn a_follower_stops_under_load_and_nobody_elses_client_sees_an_error() {
    stop_under_load(5, |cluster| cluster.other(cluster.leader()));
}

/// Stops servers and starts them again. Their own clients see at most the end of their connection; those of the others see
/// nothing but a pause: the longest of each round, in microseconds.
#[expect(clippy::print_stdout, reason = "the figures, for whoever reads the test's output")]
fn stop_under_load(rounds: usize, whom: impl Fn(&Cluster) -> usize) -> Vec<u64> {
    let mut cluster = Cluster::start(3);
    let is_leaving = [const { AtomicBool::new(false) }; 3];
    let over = AtomicBool::new(false);
    let appenders: Vec<Appender> = (0..3 * CLIENTS)
        .map(|number| Appender::new(number % 3, cluster.plans[number % 3].port, number / 3))
        .collect();
    let (mut gaps_us, mut stops_us) = (Vec::new(), Vec::new());
    let keys: Vec<(String, u64)> = std::thread::scope(|scope| {
        let threads: Vec<_> = appenders
            .iter()
            .map(|appender| {
                let (over, is_leaving) = (&over, &is_leaving);
                scope.spawn(move || appender.work(over, is_leaving))
            })
            .collect();
        let ending = Over(&over);
        for _ in 0..rounds {
            let at = whom(&cluster);
            wait_for_calls(appenders.iter());
            let others = || appenders.iter().filter(|appender| appender.at != at);
            others().for_each(|appender| appender.longest_us.store(0, Ordering::Relaxed));
            is_leaving[at].store(true, Ordering::Relaxed);
            let told = Instant::now();
            assert_eq!(cluster.take(at).stop().code(), Some(0));
            stops_us.push(u64::try_from(told.elapsed().as_micros()).unwrap());
            wait_for_calls(others());
            let longest = others().map(|appender| appender.longest_us.load(Ordering::Relaxed)).max();
            gaps_us.push(longest.unwrap());
            cluster.restart(at);
            cluster.server(at).serving();
            is_leaving[at].store(false, Ordering::Relaxed);
            wait_for_calls(appenders.iter());
        }
        drop(ending);
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let mut client = cluster.server(0).client();
    for (key, acknowledged) in &keys {
        let all = |count| (0..count).map(|number| format!("{number} ")).collect::<String>();
        let reply = client.call(&["GET", key]);
        let value = if reply == Frame::Null { String::new() } else { text(&reply) };
        // The last append before the end of a connection may have run.
        assert!(
            value == all(*acknowledged) || value == all(acknowledged + 1),
            "{key}: {acknowledged}, {value}"
        );
    }
    let closed: u64 = appenders.iter().map(|appender| appender.closed.load(Ordering::Relaxed)).sum();
    let calls: u64 = appenders.iter().map(|appender| appender.calls.load(Ordering::Relaxed)).sum();
    assert_eq!(closed, (rounds * CLIENTS) as u64, "each client of a server that stops sees one end");
    println!(
        "{rounds} servers stopped, {calls} calls, no error; the longest call at another server: median {:.1} ms, worst \
         {:.1} ms; from SIGTERM to the end of the process: median {:.1} ms, worst {:.1} ms",
        median(gaps_us.clone()) as f64 / 1_000.0,
        *gaps_us.iter().max().unwrap() as f64 / 1_000.0,
        median(stops_us.clone()) as f64 / 1_000.0,
        *stops_us.iter().max().unwrap() as f64 / 1_000.0,
    );
    gaps_us
}

/// A command as it is sent, in two parts.
const HALVES: (&[u8], &[u8]) = (b"*3\r\n$3\r\nSET\r\n$4\r\nha", b"lf\r\n$1\r\nv\r\n");

#[test]
fn what_a_client_has_begun_to_say_is_answered_before_the_end() {
    let folder = TempDir::new().unwrap();
    let plan = Plan::alone(folder.path());
    let server = plan.start();
    server.serving();
    let (mut idle, mut half, mut many) = (server.client(), server.client(), server.client());
    assert_eq!(idle.call(&["PING"]), Frame::simple("PONG"));
    half.send_raw(HALVES.0);
    // So many that they are not all read at once, and all of them there before the signal.
    for number in 1..=2_000 {
        many.send(&["APPEND", "log", "x"]);
        if number == 1 {
            assert_eq!(many.receive(), Some(Frame::Integer(1)));
        }
    }
    server.signal(Signal::TERM);
    wait_for("the signal", || server.log().contains("told to stop").then_some(()));
    assert_eq!(idle.receive(), None, "an idle client sees the end");
    for number in 2..=2_000 {
        assert_eq!(many.receive(), Some(Frame::Integer(number)));
    }
    assert_eq!(many.receive(), None);
    half.send_raw(HALVES.1);
    assert_eq!(half.receive(), Some(ok()));
    assert_eq!(half.receive(), None);
    let (status, log) = server.ended();
    assert!(status == Some(0) && log.contains("stopped in order"), "{log}");
    let server = plan.start();
    server.serving();
    assert_eq!(server.client().call(&["STRLEN", "log"]), Frame::Integer(2_000));
    assert_eq!(server.client().call(&["GET", "half"]), bulk("v"));
}

/// The leader with a write that cannot be committed, because the others stand still.
fn stuck() -> (Cluster, usize, Client) {
    let cluster = Cluster::start(3);
    let leader = cluster.leader();
    for at in (0..3).filter(|at| *at != leader) {
        cluster.server(at).signal(Signal::STOP);
    }
    let mut client = cluster.server(leader).client();
    client.send(&["SET", "k", "v"]);
    (cluster, leader, client)
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let (mut cluster, leader, mut client) = stuck();
    let server = cluster.take(leader);
    server.signal(Signal::TERM);
    wait_for("the first signal", || server.log().contains("told to stop: ").then_some(()));
    server.signal(Signal::INT);
    let (status, log) = server.ended();
    assert!(status == Some(0) && log.contains("told to stop again: stopping at once"), "{log}");
    assert_eq!(client.receive(), None, "no error, only the end");
}

#[test]
fn a_server_that_cannot_finish_ends_all_the_same() {
    let (mut cluster, leader, mut client) = stuck();
    assert_eq!(cluster.take(leader).stop().code(), Some(0));
    assert_eq!(client.receive(), None, "no error, only the end");
}

/// Far less than leaving may take.
const AT_ONCE: Duration = Duration::from_millis(1_500);

#[test]
fn servers_with_nobody_to_hand_over_to_end_at_once() {
    let mut cluster = Cluster::start(3);
    for at in 0..3 {
        cluster.server(at).signal(Signal::TERM);
    }
    let told = Instant::now();
    for at in 0..3 {
        assert_eq!(cluster.take(at).ended().0, Some(0));
    }
    assert!(told.elapsed() < AT_ONCE, "all three: {:?}", told.elapsed());

    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    for at in (0..3).filter(|at| *at != leader) {
        cluster.take(at).kill();
    }
    let mut client = cluster.server(leader).client();
    client.send(&["SET", "k", "v"]);
    let told = Instant::now();
    assert_eq!(cluster.take(leader).stop().code(), Some(0));
    assert!(told.elapsed() < AT_ONCE, "the last of three: {:?}", told.elapsed());
    assert_eq!(client.receive(), None, "no error, only the end");
}
