//! What strangers send to either port: the server says what is wrong, closes that connection alone, and serves on.

use std::net::TcpStream;
use std::time::Instant;

use quorate_replica::wire::PROTOCOL_VERSION;
use quorate_resp::Frame;
use tempfile::TempDir;

use crate::greetings::Greeting;
use crate::support::{Client, Cluster, Plan, Server, ok, text, wait_for};

fn alone(folder: &TempDir) -> Server {
    let server = Plan::alone(folder.path()).start();
    server.serving();
    server
}

#[test]
fn half_a_gigabyte_announced_and_never_sent_costs_nothing() {
    let folder = TempDir::new().unwrap();
    let server = alone(&folder);
    let before: u64 = server.info("used_memory_rss").parse().unwrap();
    let announcing: Vec<Client> = (0..100)
        .map(|_| {
            let mut client = server.client();
            client.send_raw(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\nonly the beginning");
            client
        })
        .collect();
    let mut other = server.client();
    assert_eq!(other.call(&["SET", "k", "v"]), ok());
    let after: u64 = server.info("used_memory_rss").parse().unwrap();
    assert!(after < before + (16 << 20), "{before} bytes before, {after} after");
    // One gigabyte is more than the protocol allows.
    let mut client = server.client();
    client.send_raw(b"*1\r\n$1073741824\r\n");
    assert_eq!(text(&client.receive().unwrap()), "ERR Protocol error: invalid bulk length");
    assert_eq!(client.receive(), None);
    drop(announcing);
    wait_for("the end of their connections", || (other.info("connected_clients") == "1").then_some(()));
}

#[test]
fn noise_on_the_client_port() {
    let folder = TempDir::new().unwrap();
    let server = alone(&folder);
    let mut noise: u64 = 0x9e37_79b9_7f4a_7c15;
    for _ in 0..200 {
        let bytes: Vec<u8> = (0..300)
            .map(|_| {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (noise >> 56) as u8
            })
            .collect();
        Client::connect(server.port).try_send_raw(&bytes);
    }
    assert_eq!(server.client().call(&["SET", "k", "v"]), ok());
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

#[test]
fn a_client_that_goes_in_the_middle_of_a_command() {
    let folder = TempDir::new().unwrap();
    let server = alone(&folder);
    for cut in 1..30 {
        let command = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n";
        server.client().send_raw(&command[..cut.min(command.len() - 1)]);
    }
    assert_eq!(server.client().call(&["GET", "k"]), Frame::Null);
}

#[test]
fn a_client_that_says_no_more_still_gets_its_answers() {
    let folder = TempDir::new().unwrap();
    let server = alone(&folder);
    let stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    let mut client = &stream;
    std::io::Write::write_all(&mut client, b"SET k v\r\nGET k\r\n").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answers = String::new();
    std::io::Read::read_to_string(&mut client, &mut answers).unwrap();
    assert_eq!(answers, "+OK\r\n$1\r\nv\r\n");
}

#[test]
fn strangers_on_the_peer_port() {
    let cluster = Cluster::start(3);
    let port = cluster.plans[0].peer_port;
    let refused = || cluster.server(0).info("quorate_peer_connections_refused").parse::<u64>().unwrap();
    let before = refused();
    // A browser, a client of ours, a version that is not there, a frame without a greeting, and noise.
    let mut version = b"QRTPEER\0".to_vec();
    version.extend_from_slice(&999_u16.to_le_bytes());
    version.extend_from_slice(&[0; 40]);
    let strangers: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        &version,
        &[0xff, 0xff, 0xff, 0x7f, 1, 2, 3],
        &[0; 1000],
    ];
    for bytes in strangers {
        let mut stranger = Client::connect(port);
        stranger.try_send_raw(bytes);
        assert!(stranger.receive_raw_bytes().is_empty(), "a stranger is told nothing");
    }
    wait_for("five refusals", || (refused() >= before + 5).then_some(()));
    wait_for("a sentence in the log", || {
        cluster.server(0).log().contains("closed a connection to the peer port").then_some(())
    });
    assert_eq!(cluster.server(0).client().call(&["SET", "k", "v"]), ok());
}

#[test]
fn a_greeting_and_then_garbage_on_the_peer_port() {
    let cluster = Cluster::start(3);
    let plan = &cluster.plans[0];
    let greeting = |version: u16, from: u64, to: u64| {
        Greeting { protocol: (version, version), ..Greeting::new(from, to, 0) }.encode().to_vec()
    };
    let frame = |payload: &[u8]| {
        let mut bytes = (payload.len() as u32).to_le_bytes().to_vec();
        bytes.extend_from_slice(payload);
        bytes
    };
    let (ours, another) = (PROTOCOL_VERSION, PROTOCOL_VERSION + 1);
    let refused = || cluster.server(0).info("quorate_peer_connections_refused").parse::<u64>().unwrap();
    let before = refused();
    let huge = u32::MAX.to_le_bytes().to_vec();
    for (greeting, rest) in [
        (greeting(ours, 2, 1), frame(b"no message at all")),
        (greeting(ours, 3, 1), frame(&[0; 64])),
        (greeting(ours, 3, 1), huge),
        (greeting(ours, 9, 1), frame(b"a stranger that is heard, and says nothing")),
        (greeting(ours, 2, 3), Vec::new()),
        (greeting(another, 2, 1), Vec::new()),
    ] {
        let mut peer = Client::connect(plan.peer_port);
        // In one piece: between two, the true server might dial anew and take its place back.
        peer.try_send_raw(&[greeting, rest].concat());
        peer.receive_raw_bytes();
    }
    wait_for("six refusals", || (refused() >= before + 6).then_some(()));
    let log = cluster.server(0).log();
    assert!(!log.contains("panicked"), "{log}");
    for at in 0..3 {
        assert_eq!(cluster.server(at).client().call(&["SET", "k", "v"]), ok());
    }
}

#[test]
fn past_the_limit_of_connections_a_client_is_told() {
    let folder = TempDir::new().unwrap();
    let mut plan = Plan::alone(folder.path());
    plan.flags = ["--max-connections", "10"].map(String::from).to_vec();
    let server = plan.start();
    let mut inside: Vec<Client> = (0..10).map(|_| server.client()).collect();
    for client in &mut inside {
        assert_eq!(client.call(&["PING"]), Frame::simple("PONG"));
    }
    let mut outside = server.client();
    assert_eq!(text(&outside.receive().unwrap()), "ERR max number of clients reached");
    assert_eq!(outside.receive(), None);
    inside.pop();
    wait_for("room for one more", || {
        matches!(server.client().try_call(&["PING"]), Some(Frame::Simple(_))).then_some(())
    });
}

#[test]
fn a_wide_pipeline_is_answered_whole() {
    let folder = TempDir::new().unwrap();
    let server = alone(&folder);
    let mut client = server.client();
    let begun = Instant::now();
    let count = 50_000;
    let mut sender = client.sender();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let commands = b"APPEND k x\r\n".repeat(count);
            std::io::Write::write_all(&mut sender, &commands).unwrap();
        });
        for length in 1..=count {
            assert_eq!(client.receive(), Some(Frame::Integer(length as i64)));
        }
    });
    println!("{count} appends of one connection in {} ms", begun.elapsed().as_millis());
}

#[test]
fn the_error_reaches_a_client_that_goes_on_sending() {
    let folder = TempDir::new().unwrap();
    let server = alone(&folder);
    for _ in 0..20 {
        let mut client = server.client();
        client.send_raw(b"*x\r\n");
        client.send_raw(&[b'y'; 100_000]);
        assert_eq!(text(&client.receive().unwrap()), "ERR Protocol error: invalid multibulk length");
        assert_eq!(client.receive(), None);
    }
}

#[test]
fn silent_strangers_on_the_peer_port_are_sent_away() {
    let mut cluster = Cluster::start(3);
    let port = cluster.plans[0].peer_port;
    let begun = Instant::now();
    let mut silent: Vec<Client> = (0..100)
        .map(|_| {
            let mut stranger = Client::connect(port);
            stranger.try_send_raw(b"QRTPEER");
            stranger
        })
        .collect();
    // A server that comes back while they take all places still finds its own.
    cluster.take(1).kill();
    cluster.restart(1);
    for stranger in &mut silent {
        assert!(stranger.receive_raw_bytes().is_empty());
    }
    println!("100 silent strangers were gone after {} ms", begun.elapsed().as_millis());
    wait_for("both ways up", || (cluster.server(1).info("quorate_peers_connected") == "2").then_some(()));
}

#[test]
fn what_is_asked_of_the_server_itself_has_limits_of_its_own() {
    let folder = TempDir::new().unwrap();
    let server = alone(&folder);
    let mut client = server.client();
    let mut call = |words: &[&str], more: usize| client.call(&[words, &vec!["client"; more][..]].concat());
    let refused = |frame: &Frame, what: &str| {
        text(frame).starts_with(&format!("ERR too many arguments for '{what}': 1025,"))
    };
    assert!(matches!(call(&["COMMAND", "INFO"], 1_022), Frame::Array(_)));
    assert!(refused(&call(&["COMMAND", "INFO"], 1_023), "command|info"));
    assert!(refused(&call(&["INFO"], 1_024), "info"));
    assert_eq!(call(&["DEL"], 5_000), Frame::Integer(0));
    assert!(matches!(call(&["COMMAND", "GETKEYS", "DEL"], 5_000), Frame::Array(keys) if keys.len() == 5_000));
    let long = "n".repeat(257);
    assert_eq!(call(&["CLIENT", "SETNAME", &long[1..]], 0), ok());
    for command in [
        &["CLIENT", "SETNAME", &long][..],
        &["CLIENT", "SETINFO", "lib-ver", &long],
        &["HELLO", "2", "SETNAME", &long],
    ] {
        let said = text(&call(command, 0));
        assert!(said.ends_with("cannot be longer than 256 bytes; this one has 257"), "{said}");
    }
}

#[test]
fn an_answer_leaves_no_memory_with_its_connection() {
    const CLIENTS: usize = 24;
    let folder = TempDir::new().unwrap();
    let server = alone(&folder);
    let value = vec![b'x'; 8 << 20];
    let resident = || server.info("used_memory_rss").parse::<usize>().unwrap();
    let before = resident();
    let clients: Vec<Client> = (0..CLIENTS)
        .map(|_| {
            let mut client = server.client();
            assert!(matches!(client.call(&[b"ECHO".as_slice(), &value]), Frame::Bulk(_)));
            client
        })
        .collect();
    let kept = resident().saturating_sub(before);
    assert!(kept < CLIENTS * value.len() / 2, "{kept} bytes for {} clients", clients.len());
}

/// Its socket is open for a second more, and that is one of the files which the server has room for.
#[test]
fn a_connection_that_was_cut_off_counts_until_it_is_closed() {
    let folder = TempDir::new().unwrap();
    let mut plan = Plan::alone(folder.path());
    plan.flags = ["--max-connections", "10"].map(String::from).to_vec();
    let server = plan.start();
    let _inside: Vec<Client> = (0..8)
        .map(|_| {
            let mut client = server.client();
            assert_eq!(client.call(&["PING"]), Frame::simple("PONG"));
            client
        })
        .collect();
    // Where the machine stands still for that second, they are gone again.
    wait_for("a refusal", || {
        let _cut_off: Vec<Client> = (0..2)
            .map(|_| {
                let mut client = server.client();
                client.send_raw(b"*x\r\n");
                client.receive();
                client
            })
            .collect();
        let mut another = server.client();
        another.send(&["PING"]);
        (text(&another.receive()?) == "ERR max number of clients reached").then_some(())
    });
}
