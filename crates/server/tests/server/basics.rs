//! One server, or three without any fault: the ready line, the settings, the commands of the shell, every server for
//! every command.

use std::time::Duration;

use quorate_resp::Frame;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::ports::free_port;
use crate::support::{Cluster, Plan, QUORATE, bulk, ok, run, text, wait_for};

#[test]
fn every_server_takes_every_command() {
    let cluster = Cluster::start(3);
    let mut clients: Vec<_> = (0..3).map(|at| cluster.server(at).client()).collect();
    for round in 0..10 {
        for (at, client) in clients.iter_mut().enumerate() {
            let key = format!("k{round}-{at}");
            assert_eq!(client.call(&["SET", &key, "v"]), ok());
            assert_eq!(client.call(&["APPEND", &key, "w"]), Frame::Integer(2));
        }
        // What one server has acknowledged, each of them shows at once.
        for (at, client) in clients.iter_mut().enumerate() {
            let key = format!("k{round}-{}", (at + 1) % 3);
            assert_eq!(client.call(&["GET", &key]), bulk("vw"));
            assert_eq!(client.call(&["DBSIZE"]), Frame::Integer((round + 1) * 3));
        }
    }
    wait_for("three equal digests", || {
        let digests: Vec<String> = (0..3).map(|at| cluster.server(at).info("quorate_digest")).collect();
        digests.iter().all(|digest| *digest == digests[0]).then_some(())
    });
}

#[test]
fn servers_compare_their_states() {
    let cluster = Cluster::start(3);
    assert_eq!(cluster.server(0).client().call(&["SET", "k", "v"]), ok());
    wait_for("a check on which all agree", || {
        let of = |at: usize| {
            let mut client = cluster.server(at).client();
            ["index", "agreed_index", "digest"].map(|field| client.info(&format!("quorate_check_{field}")))
        };
        let checks: Vec<_> = (0..3).map(of).collect();
        let [last, agreed, _] = &checks[0];
        (last != "0" && last == agreed && checks.iter().all(|check| *check == checks[0])).then_some(())
    });
    assert!((0..3).all(|at| cluster.server(at).info("quorate_standing") == "member"));
}

#[test]
fn a_pipeline_through_a_follower_keeps_its_order() {
    let cluster = Cluster::start(3);
    let follower = cluster.other(cluster.leader());
    let mut client = cluster.server(follower).client();
    for length in 1..=200 {
        client.send(&["APPEND", "k", "x"]);
        client.send(&["STRLEN", "k"]);
        if length % 7 == 0 {
            client.send(&["PING"]);
        }
    }
    for length in 1..=200 {
        assert_eq!(client.receive(), Some(Frame::Integer(length)));
        assert_eq!(
            client.receive(),
            Some(Frame::Integer(length)),
            "a read after a write of its own connection"
        );
        if length % 7 == 0 {
            assert_eq!(client.receive(), Some(Frame::simple("PONG")));
        }
    }
}

#[test]
fn roles_are_told_as_redis_tells_them() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader();
    let port = |at: usize| cluster.plans[at].port;
    for at in 0..3 {
        let role = wait_for("a role with the other servers' addresses", || {
            let Frame::Array(role) = cluster.server(at).client().call(&["ROLE"]) else { panic!("no list") };
            let is_whole = if at == leader {
                matches!(&role[2], Frame::Array(replicas) if replicas.len() == 2)
            } else {
                role[3] == bulk("connected")
            };
            is_whole.then_some(role)
        });
        if at == leader {
            assert_eq!(role[0], bulk("master"));
        } else {
            assert_eq!(role[..2], [bulk("slave"), bulk("127.0.0.1")]);
            assert_eq!(role[2], Frame::Integer(i64::from(port(leader))));
        }
        let mut client = cluster.server(at).client();
        assert_eq!(client.info("role"), "master", "to its clients every server is one");
        assert_eq!(client.info("raft_role"), if at == leader { "leader" } else { "follower" });
        assert_eq!(client.info("raft_id"), (at + 1).to_string());
        assert_eq!(client.info("raft_leader"), (leader + 1).to_string());
        assert_eq!(client.info("raft_members"), "1,2,3");
        assert_eq!(client.info("raft_snapshot"), "0");
        assert_eq!(client.info("loading"), "0");
        assert_eq!(client.info("redis_mode"), "standalone");
    }
}

#[test]
fn info_shows_the_sections_that_are_asked_for() {
    let folder = TempDir::new().unwrap();
    let server = Plan::alone(folder.path()).start();
    server.serving();
    let mut client = server.client();
    let raft = text(&client.call(&["INFO", "raft"]));
    let fields: Vec<&str> = raft.lines().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(
        fields,
        [
            "# Raft",
            "raft_id",
            "raft_role",
            "raft_term",
            "raft_leader",
            "raft_commit",
            "raft_applied",
            "raft_last",
            "raft_snapshot",
            "raft_members"
        ]
    );
    let both = text(&client.call(&["INFO", "keyspace", "CLUSTER"]));
    assert_eq!(both, "# Cluster\r\ncluster_enabled:0\r\n\r\n# Keyspace\r\n");
    assert!(text(&client.call(&["INFO", "everything"])).contains("# Quorate"));
    assert_eq!(text(&client.call(&["INFO", "nothing"])), "");
}

#[test]
fn a_server_stops_in_order_and_goes_on_where_it_was() {
    let folder = TempDir::new().unwrap();
    let plan = Plan::alone(folder.path());
    for (round, signal) in [Signal::TERM, Signal::INT, Signal::TERM].into_iter().enumerate() {
        let server = plan.start();
        server.serving();
        let mut client = server.client();
        assert_eq!(client.call(&["APPEND", "k", "x"]), Frame::Integer(round as i64 + 1));
        server.signal(signal);
        let (status, log) = server.ended();
        assert_eq!(status, Some(0), "{log}");
        assert_eq!(client.receive(), None, "the connection is closed");
    }
}

#[test]
fn settings_come_from_file_and_environment_and_flags_win() {
    let folder = TempDir::new().unwrap();
    let (port, peer_port) = (free_port(), free_port());
    let file = folder.path().join("quorate.toml");
    let text = format!(
        "id = 1\nlisten = \"127.0.0.1:1\"\nmax-connections = 1\nelection-hold = \"1s\"\n[peers]\n1 = \"127.0.0.1:{peer_port}\"\n"
    );
    std::fs::write(&file, text).unwrap();
    let mut plan = Plan::alone(folder.path());
    plan.port = port;
    plan.flags = vec!["--config".to_owned(), file.display().to_string()];
    let mut command = std::process::Command::new(QUORATE);
    command.arg("serve").arg("--config").arg(&file).args(["--listen", &format!("127.0.0.1:{port}")]);
    command.env("QUORATE_DATA", folder.path().join("data")).stdout(std::process::Stdio::piped());
    let mut child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    let mut ready = String::new();
    let out = child.stdout.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut ready).unwrap();
    assert_eq!(ready, format!("ready id=1 listen=127.0.0.1:{port}\n"));
    let mut first = crate::support::Client::connect(port);
    assert_eq!(first.call(&["PING"]), Frame::simple("PONG"));
    // The file's limit of one connection.
    let mut second = crate::support::Client::connect(port);
    assert_eq!(
        second.receive().map(|error| text_of(&error)).as_deref(),
        Some("ERR max number of clients reached")
    );
    assert_eq!(second.receive(), None);
    child.kill().unwrap();
    child.wait().unwrap();
}

fn text_of(frame: &Frame) -> String {
    text(frame)
}

#[test]
fn wrong_usage_exits_with_2_and_says_what_is_wrong() {
    for (arguments, said) in [
        (&["serve"][..], "--id is missing"),
        (&["serve", "--id", "0"], "ids are 1 and up"),
        (&["serve", "--id", "1", "--data", "d", "--peers", "2=a:1"], "--peers names no server of this id"),
        (&["serve", "--id", "1", "--cluster-listen", "a:1"], "--cluster-listen is not supported yet"),
        (&["serve", "--nonsense"], "--nonsense"),
        (&["serve", "--config", "/nothing/there.toml"], "/nothing/there.toml"),
        (&["put", "k"], "<VALUE>"),
        (&["get", "k", "--timeout", "soon"], "soon"),
        (&["nonsense"], "nonsense"),
        (&[], "Usage"),
    ] {
        let (status, out, err) = run(arguments, b"");
        assert_eq!((status, out.as_str()), (2, ""), "{arguments:?}: {err}");
        assert!(err.contains(said), "{arguments:?}: {err}");
    }
    assert_eq!(
        run(&["--version"], b""),
        (0, format!("quorate {}\n", env!("CARGO_PKG_VERSION")), String::new())
    );
}

#[test]
fn the_shell_puts_appends_and_gets() {
    let cluster = Cluster::start(3);
    let servers = cluster.addresses();
    let quorate = |arguments: &[&str], stdin: &[u8]| {
        let mut all = arguments.to_vec();
        all.extend(["--servers", &servers]);
        let (status, out, err) = run(&all, stdin);
        assert_eq!(err, "", "{arguments:?}");
        (status, out)
    };
    assert_eq!(quorate(&["put", "greeting", "hello"], b""), (0, "OK\n".to_owned()));
    assert_eq!(quorate(&["append", "greeting", " world"], b""), (0, "11\n".to_owned()));
    assert_eq!(quorate(&["get", "greeting"], b""), (0, "hello world\n".to_owned()));
    assert_eq!(quorate(&["get", "nothing"], b""), (0, "\n".to_owned()));
    assert_eq!(quorate(&["put", "k", "-"], b"from\nstdin\n"), (0, "OK\n".to_owned()));
    assert_eq!(quorate(&["get", "k"], b""), (0, "from\nstdin\n\n".to_owned()));
    assert_eq!(quorate(&["put", "k", "-5"], b""), (0, "OK\n".to_owned()));
    let (status, table) = quorate(&["status"], b"");
    assert_eq!(status, 0);
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows.len(), 4, "{table}");
    assert_eq!(rows[0][..3], ["SERVER", "ID", "ROLE"]);
    assert_eq!(rows[1..].iter().filter(|row| row[2] == "leader").count(), 1, "{table}");
}

/// A command at a prompt leaves no session behind, and one whose answer cannot be written has been done all the same: a
/// script that tried again would do it twice.
#[test]
fn a_write_of_the_shell_is_done_once_and_leaves_nothing_behind() {
    let cluster = Cluster::start(3);
    for _ in 0..3 {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let status = std::process::Command::new(QUORATE)
            .args(["append", "k", "x", "--servers", &cluster.addresses()])
            .stdout(full)
            .stderr(std::process::Stdio::null())
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(0));
    }
    assert_eq!(cluster.server(0).client().call(&["GET", "k"]), bulk("xxx"));
    assert_eq!(cluster.server(0).info("quorate_sessions"), "0");
}

#[test]
fn the_shell_does_not_wait_for_a_lone_server_that_refuses() {
    let server = format!("127.0.0.1:{}", free_port());
    let begun = std::time::Instant::now();
    let (status, out, err) = run(&["put", "k", "v", "--servers", &server], b"");
    assert_eq!((status, out.as_str()), (1, ""));
    assert!(err.contains(&server) && err.contains("quorate demo"), "{err}");
    assert!(begun.elapsed() < Duration::from_secs(5));
    // Of several, each may come back, so the time is used.
    let two = format!("{server},127.0.0.1:{}", free_port());
    let (status, _, err) = run(&["get", "k", "--servers", &two, "--timeout", "300ms"], b"");
    assert_eq!(status, 1, "{err}");
    assert_eq!(run(&["status", "--servers", &server], b"").0, 1);
}

#[test]
fn a_server_that_strangers_may_reach_is_warned_about() {
    let folder = TempDir::new().unwrap();
    let mut plan = Plan::alone(folder.path());
    plan.flags = vec!["--peer-listen".to_owned(), format!("0.0.0.0:{}", plan.peer_port)];
    let server = plan.start();
    wait_for("the warning", || server.log().contains("no authentication").then_some(()));
}
