//! The course's tests of speed a second time: in real time, against real servers, through the real Clerk.

use std::time::{Duration, Instant};

use quorate_client::blocking::Clerk;
use tempfile::TempDir;

use crate::cluster::{Cluster, SOON};
use crate::run::product;

/// What the course demands of `Speed3A` and `Speed3B`: 33.3 ms an append, a third of its heartbeat.
const LAB_LIMIT: Duration = Duration::from_millis(33_300);
const APPENDS: usize = 1_000;

/// Bytes of each append of `Speed3B`: the log's limit of 1 MiB, the least a server takes, is passed several times.
const LONG_WORD_BYTES: usize = 4 << 10;

fn started(folder: &TempDir) -> (Cluster, Clerk) {
    let mut cluster = Cluster::new(&product(), folder.path(), &[5_000; 3], |_, _, port| port);
    cluster.start_all();
    for server in &cluster.servers {
        server.serves_within(SOON).unwrap();
    }
    let servers = cluster.servers.iter().map(|server| format!("127.0.0.1:{}", server.port));
    let clerk = Clerk::connect(servers).unwrap();
    // The session and the connections are there before the clock runs, as the course has it.
    clerk.append("0", "", SOON).unwrap();
    (cluster, clerk)
}

/// The limit is the course's, and loose, since other tests run beside; the figure is printed.
fn appends_in_time(name: &str, clerk: &Clerk, word: impl Fn(usize) -> String) {
    let begun = Instant::now();
    let mut bytes = 0;
    for number in 0..APPENDS {
        let word = word(number);
        bytes += word.len() as u64;
        assert_eq!(clerk.append("0", word, SOON), Ok(bytes), "each append once and in order");
    }
    let took = begun.elapsed();
    println!("{name} in real time: {APPENDS} appends in {} ms (lab 33300)", took.as_millis());
    assert!(took <= LAB_LIMIT, "{APPENDS} appends in {took:?}");
}

#[test]
fn speed_3a_in_real_time() {
    let folder = TempDir::new().unwrap();
    let (_cluster, clerk) = started(&folder);
    appends_in_time("Speed3A", &clerk, |number| format!("x 0 {number} y"));
}

#[test]
fn speed_3b_in_real_time() {
    let folder = TempDir::new().unwrap();
    let (cluster, clerk) = started(&folder);
    appends_in_time("Speed3B", &clerk, |number| format!("x 0 {number:>LONG_WORD_BYTES$} y"));
    for server in &cluster.servers {
        assert!(server.has_snapshot_within(SOON), "server {} took no snapshot meanwhile", server.id);
    }
}
