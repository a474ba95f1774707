//! A server that reads a large data folder: its port is open, it says how far it is, and nothing is asked of data that is
//! not there yet.

use std::time::Instant;

use quorate_resp::Frame;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::{Client, Plan, Server, bulk, ok, run, text, wait_for};

/// Keys, and bytes of each value: enough for a start to take a while.
const KEYS: usize = 1_700;
const VALUE_BYTES: usize = 60_000;

/// A stopped server with a hundred megabytes in its snapshot.
fn large_folder(folder: &TempDir) -> Plan {
    let plan = Plan::alone(folder.path());
    let server = plan.start();
    server.serving();
    let mut client = server.client();
    let numbers: Vec<usize> = (0..KEYS).collect();
    for batch in numbers.chunks(50) {
        for number in batch {
            client.send(&["SET", &format!("k{number}"), &value(*number)]);
        }
        for _ in batch {
            assert_eq!(client.receive(), Some(ok()));
        }
    }
    assert_eq!(run(&["snapshot", "--servers", &format!("127.0.0.1:{}", plan.port)], b"").0, 0);
    assert_eq!(server.stop().code(), Some(0));
    plan
}

fn value(number: usize) -> String {
    format!("{number:-<VALUE_BYTES$}")
}

/// Waits until the port is open.
fn connect(server: &Server) -> Client {
    wait_for("an open port", || Client::try_connect(server.port))
}

/// What one write of many commands was answered: by the first and the last, whether the folder was being read all the
/// while.
fn ask_all(client: &mut Client, new_key: &str) -> (bool, Vec<Frame>) {
    let commands: [&[&str]; 12] = [
        &["INFO", "persistence"],
        &["GET", "k1"],
        &["SET", new_key, "x"],
        &["DBSIZE"],
        &["SESSION", "OPEN"],
        &["BGSAVE"],
        &["LASTSAVE"],
        &["PING"],
        &["ROLE"],
        &["CLIENT", "ID"],
        &["HELLO", "2"],
        &["INFO"],
    ];
    for command in commands {
        client.send(command);
    }
    let replies: Vec<Frame> = commands.iter().map(|_| client.receive().expect("a reply")).collect();
    let is_loading = |reply: &Frame| text(reply).contains("\r\nloading:1\r\n");
    (is_loading(&replies[0]) && is_loading(&replies[11]), replies)
}

fn percent(frame: &Frame) -> u64 {
    let text = text(frame);
    let percent =
        text.strip_prefix("TRYAGAIN loading the data folder, ").and_then(|rest| rest.strip_suffix(" %"));
    percent.unwrap_or_else(|| panic!("{text}")).parse().unwrap()
}

#[test]
fn while_the_folder_is_read_clients_hear_how_far_it_is() {
    let folder = TempDir::new().unwrap();
    let plan = large_folder(&folder);
    let begun = Instant::now();
    let mut server = plan.spawn();
    let mut client = connect(&server);
    let (mut last, mut rounds) = (0, 0);
    let mut refused_keys = Vec::new();
    loop {
        let new_key = format!("new{rounds}");
        let (is_loading, replies) = ask_all(&mut client, &new_key);
        if matches!(&replies[2], Frame::Error(_)) {
            refused_keys.push(new_key);
        }
        if !is_loading {
            break;
        }
        rounds += 1;
        for refused in &replies[1..7] {
            assert!((last..=100).contains(&percent(refused)), "{refused:?} after {last} %");
            last = percent(refused);
        }
        assert_eq!(replies[7], Frame::simple("PONG"));
        assert!(format!("{:?}", replies[8]).contains("slave"), "{:?}", replies[8]);
        assert!(matches!(replies[9], Frame::Integer(_)), "{:?}", replies[9]);
        let info = text(&replies[11]);
        for field in
            ["loading_start_time:", "loading_total_bytes:", "loading_loaded_perc:", "loading_eta_seconds:"]
        {
            assert!(info.contains(field), "{field} in {info}");
        }
        assert!(info.contains("quorate_standing:loading\r\n"), "{info}");
    }
    println!("{rounds} rounds of questions, up to {last} %, in {:?}", begun.elapsed());
    assert!(rounds > 0, "nothing was seen of loading");
    server.ready(plan.id);
    // The connection of before goes on.
    wait_for("service", || matches!(client.call(&["DBSIZE"]), Frame::Integer(_)).then_some(()));
    for key in &refused_keys {
        assert_eq!(client.call(&["EXISTS", key]), Frame::Integer(0), "{key} was refused, and is there");
    }
    let executed = rounds + 1 - refused_keys.len();
    assert_eq!(client.call(&["DBSIZE"]), Frame::Integer((KEYS + executed) as i64));
    assert!(client.call(&["GET", "k1"]) == bulk(&value(1)));
    assert_eq!(client.info("loading"), "0");
}

#[test]
fn a_server_that_is_told_to_stop_while_it_reads_stops_at_once_and_loses_nothing() {
    let folder = TempDir::new().unwrap();
    let plan = large_folder(&folder);
    let mut stopped_early = 0;
    for _ in 0..3 {
        let server = plan.spawn();
        let mut client = connect(&server);
        let is_loading = client.info("loading") == "1";
        server.signal(Signal::TERM);
        let (status, log) = server.ended();
        assert_eq!(status, Some(0), "{log}");
        stopped_early += usize::from(is_loading && log.contains("while the data folder is read"));
    }
    assert!(stopped_early > 0, "no start was stopped in its middle");
    let server = plan.start();
    server.serving();
    let mut client = server.client();
    assert_eq!(client.call(&["DBSIZE"]), Frame::Integer(KEYS as i64));
    assert!(client.call(&["GET", "k7"]) == bulk(&value(7)));
}
