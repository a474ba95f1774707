//! Many connections, and slow ones: what they may cost the server and its other clients.

use std::time::{Duration, Instant};

use quorate_resp::Frame;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;

use crate::support::{Client, Plan, bulk, ok};

/// As many files as this process may open, and how many that is.
fn raise_file_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[test]
fn ten_thousand_idle_connections() {
    // Where the system allows fewer files, as many as it allows.
    let count = usize::try_from(raise_file_limit().saturating_sub(200).min(10_000)).unwrap();
    let folder = TempDir::new().unwrap();
    let server = Plan::alone(folder.path()).start();
    server.serving();
    let before: u64 = server.info("used_memory_rss").parse().unwrap();
    let mut idle: Vec<Client> = Vec::with_capacity(count);
    for _ in 0..count {
        let mut client = server.client();
        assert_eq!(client.call(&["PING"]), Frame::simple("PONG"));
        idle.push(client);
    }
    let mut client = server.client();
    let after: u64 = client.info("used_memory_rss").parse().unwrap();
    let each = (after.saturating_sub(before)) / count as u64;
    println!("{count} idle connections, {each} bytes each");
    assert!(each < 8_192, "{each} bytes each");
    let begun = Instant::now();
    for number in 0..100 {
        assert_eq!(client.call(&["SET", "k", &number.to_string()]), ok());
    }
    println!("100 writes among them in {} ms", begun.elapsed().as_millis());
    assert!(begun.elapsed() < Duration::from_secs(10));
    // The first and the last of them are as alive as on their first day.
    for at in [0, count - 1] {
        assert_eq!(idle[at].call(&["GET", "k"]), bulk("99"));
    }
}

#[test]
fn a_slow_reader_costs_others_nothing() {
    const VALUE_BYTES: usize = 4 << 20;
    const READS: usize = 500;
    let folder = TempDir::new().unwrap();
    let server = Plan::alone(folder.path()).start();
    server.serving();
    let value = "x".repeat(VALUE_BYTES);
    let mut client = server.client();
    assert_eq!(client.call(&["SET", "big", &value]), ok());
    let before: u64 = client.info("used_memory_rss").parse().unwrap();
    let mut slow = server.client();
    for _ in 0..READS {
        slow.send(&["GET", "big"]);
    }
    // Two gigabytes are asked for and nobody reads them; the others go on.
    let begun = Instant::now();
    for number in 0..200 {
        assert_eq!(client.call(&["SET", "k", &number.to_string()]), ok());
    }
    println!("200 writes beside a slow reader in {} ms", begun.elapsed().as_millis());
    let after: u64 = client.info("used_memory_rss").parse().unwrap();
    println!("{before} bytes before, {after} bytes with the slow reader");
    assert!(after < before + (64 << 20), "{before} bytes before, {after} after");
    for _ in 0..READS {
        let Some(Frame::Bulk(bytes)) = slow.receive() else { panic!("no value") };
        assert!(bytes.len() == VALUE_BYTES);
    }
}
