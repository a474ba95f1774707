//! Values of the largest size at full load: they take their time, and nobody else's. What is counted is elections and
//! commands, because a machine that runs other tests has no measure of time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use quorate_resp::{Frame, encode_command};

use crate::support::{Client, Cluster, ok};

/// The largest value.
const VALUE_BYTES: usize = 8 << 20;
/// On each connection, all under way at once.
const VALUES: usize = 10;
/// Terms that may begin meanwhile: a busy machine pauses a server now and then. With 64 MiB in flight to a follower, one
/// queue for heartbeats and values and turns without a bound there were eleven in three times as many values.
const ELECTIONS_MAX: u64 = 3;

/// Large values that are done while one small command waits. Three connections have two under way each, and each server sends
/// what it took; a server that takes all that is pipelined has ten of its own before the small one, and those of the others
/// beside them (22 and more were seen).
const WAITED_MAX: usize = 15;

fn term(cluster: &Cluster) -> u64 {
    (0..3).map(|at| cluster.server(at).info("raft_term").parse().unwrap()).max().unwrap()
}

/// Pipelines all values at once, then reads the answers.
fn write_large(port: u16, number: usize, done: &AtomicUsize) {
    let mut client = Client::connect(port);
    let mut sender = client.sender();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let value = vec![b'x'; VALUE_BYTES];
            let mut bytes = bytes::BytesMut::new();
            for round in 0..VALUES {
                bytes.clear();
                let key = format!("large{number}-{}", round % 2);
                encode_command(&mut bytes, &[&b"SET"[..], key.as_bytes(), &value]);
                std::io::Write::write_all(&mut sender, &bytes).unwrap();
            }
        });
        for _ in 0..VALUES {
            assert_eq!(client.receive(), Some(ok()));
            done.fetch_add(1, Ordering::Relaxed);
        }
    });
}

/// Small writes and reads one after the other, until all is done that is large; how many large ones were done while one of
/// these waited, at most.
fn write_small(port: u16, number: usize, done: &AtomicUsize) -> usize {
    let mut client = Client::connect(port);
    let key = format!("small{number}");
    let mut waited_max = 0;
    let mut length = 0;
    loop {
        let before = done.load(Ordering::Relaxed);
        if before == 3 * VALUES {
            return waited_max;
        }
        length += 1;
        assert_eq!(client.call(&["APPEND", &key, "x"]), Frame::Integer(length));
        let between = done.load(Ordering::Relaxed);
        assert_eq!(client.call(&["STRLEN", &key]), Frame::Integer(length));
        let after = done.load(Ordering::Relaxed);
        waited_max = waited_max.max(between - before).max(after - between);
    }
}

#[test]
fn the_largest_values_at_full_load_starve_nobody() {
    // What takes long on a busy machine is no error here.
    let cluster = Cluster::start_with(3, &["--request-timeout", "60s", "--election-hold", "60s"]);
    let before = term(&cluster);
    let done = AtomicUsize::new(0);
    let begun = Instant::now();
    let ports: Vec<u16> = cluster.plans.iter().map(|plan| plan.port).collect();
    let waited: Vec<usize> = std::thread::scope(|scope| {
        let done = &done;
        let large = ports
            .iter()
            .enumerate()
            .map(|(number, port)| scope.spawn(move || write_large(*port, number, done)));
        let large: Vec<_> = large.collect();
        let small = ports.iter().enumerate();
        let small = small.map(|(number, port)| scope.spawn(move || write_small(*port, number, done)));
        let small: Vec<_> = small.collect();
        let large: Vec<_> = large.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        if large.iter().any(Result::is_err) {
            done.store(3 * VALUES, Ordering::Relaxed);
        }
        assert!(large.iter().all(Result::is_ok), "a large write failed");
        small.into_iter().map(|small| small.join().unwrap()).collect()
    });
    let elections = term(&cluster) - before;
    let total = 3 * VALUES;
    println!(
        "{total} values of {VALUE_BYTES} bytes in {} ms, {waited:?} of them during one small command, {elections} elections",
        begun.elapsed().as_millis()
    );
    assert!(elections <= ELECTIONS_MAX, "{elections} elections");
    assert!(waited.iter().all(|waited| *waited <= WAITED_MAX), "{waited:?}");
}
