//! `quorate bench`: what it says of real servers, and of servers that misbehave in known ways.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use quorate_resp::{CommandDecoder, CommandLimits, Frame, Incoming};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::ports::free_port;
use crate::support::{Client, Cluster, Plan, QUORATE, run, wait_for};

/// Runs it without a warm-up; exit status, the results, and what it said besides.
fn bench(servers: &str, arguments: &[&str]) -> (i32, Value, String) {
    let all = [&["bench", "--servers", servers, "--warm-up", "0", "--json", "-"], arguments].concat();
    let (status, out, err) = run(&all, b"");
    let results = serde_json::from_str(&out).unwrap_or(Value::Null);
    (status, results, err)
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("no number: {value}"))
}

/// What a server that is none does with each command, by its number over all connections.
enum Act {
    Say(&'static str),
    Close,
    /// Says so once it has been silent for so long.
    Late(Duration, &'static str),
}

/// A port where `act` decides. It is there until the process ends.
fn impostor(act: impl Fn(u64) -> Act + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (act, count) = (Arc::new(act), Arc::new(AtomicU64::new(0)));
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (act, count) = (Arc::clone(&act), Arc::clone(&count));
            std::thread::spawn(move || serve(stream, &*act, &count));
        }
    });
    port
}

fn serve(mut stream: TcpStream, act: &dyn Fn(u64) -> Act, count: &AtomicU64) {
    let mut decoder = CommandDecoder::new(CommandLimits::default());
    let (mut buffer, mut scrap) = (BytesMut::new(), [0; 4096]);
    while let Ok(read @ 1..) = stream.read(&mut scrap) {
        buffer.extend_from_slice(&scrap[..read]);
        while let Some(Incoming::Command(command)) = decoder.decode(&mut buffer).unwrap() {
            let text = match command.arguments()[0].as_ref() {
                b"INFO" => "$0\r\n\r\n",
                _ => match act(count.fetch_add(1, Ordering::Relaxed)) {
                    Act::Say(text) => text,
                    Act::Close => return,
                    Act::Late(wait, text) => {
                        // Nothing comes meanwhile: the pipeline is full.
                        stream.set_read_timeout(Some(wait)).unwrap();
                        let begun = Instant::now();
                        while begun.elapsed() < wait {
                            match stream.read(&mut scrap) {
                                Err(error)
                                    if matches!(
                                        error.kind(),
                                        ErrorKind::WouldBlock | ErrorKind::TimedOut
                                    ) => {}
                                // The client has gone.
                                Ok(_) | Err(_) => return,
                            }
                        }
                        stream.set_read_timeout(None).unwrap();
                        text
                    }
                },
            };
            if stream.write_all(text.as_bytes()).is_err() {
                return;
            }
        }
    }
}

#[test]
fn a_cluster_is_measured_and_the_results_are_written() {
    let cluster = Cluster::start(3);
    let folder = TempDir::new().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (json, html) = (file("results.json"), file("results.html"));
    let servers = cluster.addresses();
    let (status, out, err) = run(
        &[
            "bench",
            "get",
            "set=1,get=3",
            "append",
            "--servers",
            &servers,
            "-n",
            "2000",
            "--keys",
            "200",
            "-c",
            "8",
            "-P",
            "4",
            "--warm-up",
            "0",
            "--json",
            &json,
            "--html",
            &html,
        ],
        b"",
    );
    assert_eq!(status, 0, "{err}");
    assert!(err.contains("closed loop") && err.contains(&servers.replace(',', " ")), "{err}");
    let lines: Vec<&str> = out.lines().map(|line| line.split("  ").next().unwrap()).collect();
    assert_eq!(lines[..3], ["WORKLOAD", "get", "set=1,get=3"], "{out}");
    let results: Value = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    assert_eq!((results["format"].as_u64(), results["plan"]["loop"].as_str()), (Some(1), Some("closed")));
    assert!(results["target"]["program"].as_str().unwrap().starts_with("quorate "));
    for (run, kinds) in
        results["runs"].as_array().unwrap().iter().zip([&["get"][..], &["get", "set"], &["append"]])
    {
        assert_eq!((run["requests"].as_u64(), run["errors"].as_u64()), (Some(2_000), Some(0)), "{run}");
        // All keys were set before.
        assert_eq!(run["nil"].as_u64(), Some(0));
        let operations = run["operations"].as_object().unwrap();
        assert_eq!(operations.keys().collect::<Vec<_>>(), kinds);
        let sum = |items: &mut dyn Iterator<Item = &Value>| {
            items.map(|item| item["requests"].as_u64().unwrap()).sum::<u64>()
        };
        assert_eq!(sum(&mut operations.values()), 2_000);
        assert_eq!(sum(&mut run["series"].as_array().unwrap().iter()), 2_000);
        let ms = &run["latency_ms"];
        let order = ["min", "p50", "p90", "p99", "p99_9", "max"].map(|name| number(&ms[name]));
        assert!(order.is_sorted() && order[0] > 0.0, "{ms}");
        assert!(number(&run["generator"]["cpu_seconds"]) > 0.0);
    }
    let page = std::fs::read_to_string(html).unwrap();
    assert_eq!(page.matches("<svg").count(), 9);
    let mut client = cluster.server(0).client();
    assert_eq!(client.call(&["DBSIZE"]), Frame::Integer(200));
    let Frame::Integer(bytes) = client.call(&["STRLEN", "bench:0000000000"]) else { panic!("no length") };
    assert!(bytes >= 100 && bytes % 100 == 0, "{bytes}");
}

#[test]
fn the_leader_alone_is_measured_where_that_is_asked_for() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader();
    let (status, results, err) =
        bench(&cluster.addresses(), &["set", "-n", "200", "-c", "4", "--to", "leader"]);
    assert_eq!(status, 0, "{err}");
    let expected = format!("127.0.0.1:{}", cluster.server(leader).port);
    assert_eq!(results["target"]["servers"], serde_json::json!([expected]));
    assert_eq!(results["target"]["to"], "leader");
}

/// In an open loop who waits does not hide that others would have waited too.
#[test]
fn an_open_loop_counts_from_when_a_request_was_due() {
    const STALL: Duration = Duration::from_millis(300);
    let port = impostor(|number| if number == 0 { Act::Late(STALL, "+OK\r\n") } else { Act::Say("+OK\r\n") });
    let arguments = ["set", "-n", "200", "-c", "1", "--rate", "1000"];
    let (status, results, err) = bench(&format!("127.0.0.1:{port}"), &arguments);
    assert_eq!(status, 0, "{err}");
    let run = &results["runs"][0];
    assert_eq!(run["requests"].as_u64(), Some(200));
    // They were due one a millisecond, and none was answered within the first 300.
    let at = |name: &str| number(&run["latency_ms"][name]);
    assert!(at("min") >= 100.0 && at("p50") >= 199.0 && at("max") >= 299.0, "{run}");
    assert!(number(&run["lateness_ms"]["p50"]) >= 199.0, "{run}");
}

#[test]
fn what_was_due_and_never_sent_is_an_error() {
    const NEVER: Duration = Duration::from_secs(3_600);
    let port = impostor(|number| if number < 5 { Act::Say("+OK\r\n") } else { Act::Late(NEVER, "") });
    let arguments = ["set", "--duration", "200ms", "-c", "1", "--rate", "100", "--timeout", "1s"];
    let (status, results, err) = bench(&format!("127.0.0.1:{port}"), &arguments);
    assert_eq!(status, 0, "{err}");
    let run = &results["runs"][0];
    let classes = run["error_classes"].as_object().unwrap();
    assert!(classes.contains_key("timeout") && classes.contains_key("unsent"), "{run}");
    assert_eq!(run["requests"].as_u64().unwrap() + run["errors"].as_u64().unwrap(), 20, "{run}");
    assert!(err.contains("× unsent") && err.contains("× timeout"), "{err}");
}

#[test]
fn errors_are_shown_by_class_and_nothing_but_errors_is_a_failure() {
    let port = impostor(|number| match number % 2 {
        0 => Act::Say("-TRYAGAIN starting: waiting for server 3\r\n"),
        _ => Act::Say("-OOM disk full\r\n"),
    });
    let (status, results, err) = bench(&format!("127.0.0.1:{port}"), &["set", "-n", "100", "-c", "2"]);
    assert_eq!(status, 1, "{err}");
    let run = &results["runs"][0];
    assert_eq!((run["requests"].as_u64(), run["errors"].as_u64()), (Some(0), Some(100)));
    assert_eq!(run["error_classes"]["OOM"], serde_json::json!({ "count": 50, "example": "OOM disk full" }));
    assert!(err.contains("50 × TRYAGAIN, the first: TRYAGAIN starting: waiting for server 3"), "{err}");
}

#[test]
fn a_lost_connection_is_counted_and_made_again_at_the_next_server() {
    let folder = TempDir::new().unwrap();
    let server = Plan::alone(folder.path()).start();
    server.serving();
    let closes = impostor(|_| Act::Close);
    let servers = format!("127.0.0.1:{closes},127.0.0.1:{}", server.port);
    let (status, results, err) = bench(&servers, &["set", "-n", "1000", "-c", "2"]);
    assert_eq!(status, 0, "{err}");
    let run = &results["runs"][0];
    assert_eq!(run["errors"].as_u64(), run["error_classes"]["closed"]["count"].as_u64(), "{run}");
    assert!(run["errors"].as_u64() >= Some(1), "{run}");
    assert_eq!(run["requests"].as_u64().unwrap() + run["errors"].as_u64().unwrap(), 1_000, "{run}");
}

#[test]
fn what_is_no_redis_is_said_to_be_none() {
    let port = impostor(|_| Act::Say("HTTP/1.1 400 Bad Request\r\n\r\n"));
    let (status, results, err) =
        bench(&format!("127.0.0.1:{port}"), &["get", "-n", "3", "-c", "1", "--no-fill"]);
    assert_eq!(status, 1, "{err}");
    assert_eq!(results["runs"][0]["error_classes"]["malformed"]["count"].as_u64(), Some(3), "{results}");
}

#[test]
fn where_nobody_listens_or_nothing_can_be_written_it_says_so_at_once() {
    let address = format!("127.0.0.1:{}", free_port());
    let (status, _, err) = bench(&address, &["set"]);
    assert_eq!(status, 1);
    assert!(err.contains("no connection") && err.contains(&address), "{err}");
    let (status, _, err) = bench(&address, &["set", "--to", "leader"]);
    assert_eq!(status, 1);
    assert!(err.contains("none of the servers leads") && err.contains(&address), "{err}");
    let (status, _, err) = bench(&address, &["set", "--html", "/nowhere/results.html"]);
    assert_eq!(status, 1);
    assert!(err.contains("/nowhere/results.html"), "{err}");
    let (status, _, err) = bench(&address, &["set", "--keys", "1000", "--key-size", "2"]);
    assert_eq!(status, 2);
    assert!(err.contains("--key-size 2"), "{err}");
}

#[test]
fn an_interrupt_ends_it_and_shows_what_there_is() {
    let folder = TempDir::new().unwrap();
    let server = Plan::alone(folder.path()).start();
    server.serving();
    let servers = format!("127.0.0.1:{}", server.port);
    let child = Command::new(QUORATE)
        .args([
            "bench",
            "set",
            "get",
            "--servers",
            &servers,
            "--duration",
            "60m",
            "--warm-up",
            "0",
            "--json",
            "-",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("a key that it has set", || {
        matches!(server.client().call(&["DBSIZE"]), Frame::Integer(1..)).then_some(())
    });
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let results: Value = serde_json::from_slice(&output.stdout).unwrap();
    let runs = results["runs"].as_array().unwrap();
    assert_eq!((runs.len(), runs[0]["stopped"].as_str()), (1, Some("interrupted")));
    assert!(runs[0]["requests"].as_u64() >= Some(1), "{results}");
}

/// A Redis, killed when it is dropped; `None` where none is installed.
struct Redis(Child);

impl Redis {
    fn start(folder: &TempDir, port: u16) -> Option<Self> {
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"])
            .arg(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match child {
            Ok(child) => Some(Self(child)),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => panic!("{error}"),
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_redis_is_measured_by_the_same_measure() {
    let folder = TempDir::new().unwrap();
    let port = free_port();
    let Some(_redis) = Redis::start(&folder, port) else {
        println!("no redis-server here: nothing is tried");
        return;
    };
    wait_for("a redis that answers", || {
        Client::try_connect(port)?.try_call(&["PING"]).filter(|answer| *answer == Frame::simple("PONG"))
    });
    let address = format!("127.0.0.1:{port}");
    let arguments = ["set", "get", "append", "-n", "3000", "--keys", "100", "-P", "16", "--to", "leader"];
    let (status, results, err) = bench(&address, &arguments);
    assert_eq!(status, 0, "{err}");
    assert!(results["target"]["program"].as_str().unwrap().starts_with("redis "), "{results}");
    for run in results["runs"].as_array().unwrap() {
        assert_eq!((run["requests"].as_u64(), run["nil"].as_u64()), (Some(3_000), Some(0)), "{run}");
        assert_eq!(run["errors"].as_u64(), Some(0), "{run}");
    }
}
