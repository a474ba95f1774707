//! One server is left of three: it becomes a cluster of its own, and none of the others ever belongs to that.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use quorate_resp::Frame;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use tempfile::TempDir;

use crate::ports::free_port;
use crate::support::{Cluster, Plan, QUORATE, Server, bulk, ok, run, text, wait_for};

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The word behind `before`.
#[track_caller]
fn word<'a>(text: &'a str, before: &str) -> &'a str {
    let from = text.find(before).unwrap_or_else(|| panic!("no {before:?} in:\n{text}")) + before.len();
    text[from..].split([' ', ',', '\n', '"']).next().unwrap()
}

/// Three servers with data and a session; all have applied it, and all were killed.
fn lost() -> (Cluster, Vec<String>) {
    let mut cluster = Cluster::start(3);
    let mut client = cluster.server(0).client();
    for number in 0..100 {
        assert_eq!(client.call(&["SET", &format!("k{number}"), &number.to_string()]), ok());
    }
    let session = text(&client.call(&["SESSION", "OPEN"]));
    let once = ["ONCE", &session, "1", "0", "APPEND", "log", "entry"].map(str::to_owned).to_vec();
    assert_eq!(client.call(&once), Frame::Integer(5));
    let digest = client.info("quorate_data_digest");
    for at in 0..3 {
        wait_for("the same state everywhere", || {
            (cluster.server(at).info("quorate_data_digest") == digest).then_some(())
        });
    }
    (0..3).for_each(|at| cluster.take(at).kill());
    (cluster, once)
}

/// The same server with nobody else.
fn alone(plan: &Plan) -> Plan {
    Plan { peers: format!("{}=127.0.0.1:{}", plan.id, plan.peer_port), ..plan.clone() }
}

/// Two more, with empty folders and under the old ids, join the server of this plan.
fn make_three_of_it(plan: &Plan, survivor: Server, new_cluster: &str) {
    let folder = TempDir::new().unwrap();
    let servers = format!("127.0.0.1:{}", plan.port);
    let others: Vec<_> = [2, 3]
        .map(|id| {
            let (port, peer_port) = (free_port(), free_port());
            let join = format!("127.0.0.1:{}", plan.peer_port);
            let own = format!("127.0.0.1:{peer_port}");
            let flags = ["--join", &join, "--peer-listen", &own].map(str::to_owned).to_vec();
            let data = folder.path().join(id.to_string());
            let server = Plan { id, port, peer_port, peers: String::new(), data, flags }.spawn();
            let add = ["members", "add", &id.to_string(), &own, "--servers", &servers, "--timeout", "30s"];
            let (status, out, notes) = run(&add, b"");
            assert_eq!(status, 0, "{out}{notes}");
            server
        })
        .into();
    for server in &others {
        server.serving();
        assert_eq!(server.info("quorate_cluster"), new_cluster);
        assert_eq!(server.client().call(&["GET", "side"]), bulk("new"));
    }
    survivor.kill();
    wait_for("service without the survivor", || {
        (others[0].client().call(&["SET", "side", "newer"]) == ok()).then_some(())
    });
    assert_eq!(others[1].client().call(&["GET", "side"]), bulk("newer"));
}

#[test]
fn a_survivor_goes_on_alone_and_the_old_members_never_mix_with_it() {
    let (mut cluster, once) = lost();
    let data = cluster.plans[0].data.clone();
    let (status, shown, err) = run(&["recover", "--data", path(&data), "--show"], b"");
    assert_eq!((status, err.as_str()), (0, ""), "{shown}");
    let old_cluster = word(&shown, "server 1 of cluster ").to_owned();
    assert!(shown.contains("which servers 1, 2, 3 have founded"), "{shown}");
    assert!(shown.contains("101 keys") && shown.contains("What may be lost: "), "{shown}");
    assert!(word(&shown, "time of the last entry ").starts_with("20"), "{shown}");

    let (status, said, err) = run(&["recover", "--data", path(&data), "--yes-lose-data"], b"");
    assert_eq!((status, err.as_str()), (0, ""), "{said}");
    assert!(said.starts_with(&shown), "it says what it has before:\n{said}");
    let new_cluster = word(&said, "of the new cluster ").to_owned();
    assert_ne!(old_cluster, new_cluster);
    let (status, verified, _) = run(&["verify", "--data", path(&data)], b"");
    assert!(status == 0 && verified.contains(&new_cluster), "{verified}");

    let survivor = alone(&cluster.plans[0]).start();
    survivor.serving();
    let mut client = survivor.client();
    assert_eq!(client.info("quorate_cluster"), new_cluster);
    assert_eq!(client.info("quorate_data_digest"), word(&shown, "of keys and values alone "));
    assert_eq!(client.call(&["GET", "log"]), bulk("entry"));
    let refused = text(&client.call(&once));
    assert!(refused.starts_with("SESSIONEXPIRED"), "{refused}");
    assert_eq!(client.call(&["SET", "side", "new"]), ok());

    // The others were not gone for good after all. They are the old cluster, and know nobody else.
    cluster.restart(1);
    cluster.restart(2);
    cluster.server(1).serving();
    let mut other = cluster.server(1).client();
    assert_eq!(other.info("quorate_cluster"), old_cluster);
    assert_eq!(other.call(&["SET", "side", "old"]), ok());
    wait_for("a refusal of an old member", || {
        survivor.log().contains("closed a connection to the peer port").then_some(())
    });
    assert_eq!(client.call(&["GET", "side"]), bulk("new"));
    assert_eq!(client.call(&["DBSIZE"]), Frame::Integer(102));
    assert_eq!(other.call(&["GET", "side"]), bulk("old"));
    assert_eq!(cluster.server(2).client().call(&["GET", "side"]), bulk("old"));

    // Started as it was before, with the others in --peers, it is the new cluster all the same.
    survivor.kill();
    let survivor = cluster.plans[0].start();
    survivor.serving();
    assert_eq!(survivor.info("quorate_cluster"), new_cluster);
    assert_eq!(survivor.client().call(&["GET", "side"]), bulk("new"));
    assert_eq!(other.call(&["APPEND", "side", "er"]), Frame::Integer(5));

    survivor.kill();
    // It is a folder as any other, with the old files and without.
    let old_files = word(&said, "are kept as ").rsplit('/').next().unwrap().trim_end_matches(['*', ';']);
    let mut removed = 0;
    for file in std::fs::read_dir(&data).unwrap().map(|file| file.unwrap().path()) {
        if file.file_name().unwrap().to_str().unwrap().starts_with(old_files) {
            std::fs::remove_file(file).unwrap();
            removed += 1;
        }
    }
    assert!(removed >= 2, "identity and log, at least");
    let plan = alone(&cluster.plans[0]);
    let survivor = plan.start();
    survivor.serving();
    assert_eq!(survivor.client().call(&["GET", "side"]), bulk("new"));

    make_three_of_it(&plan, survivor, &new_cluster);
}

#[test]
fn without_a_confirmation_nothing_is_changed() {
    let (mut cluster, once) = lost();
    let data = cluster.plans[2].data.clone();
    let names = || {
        let names = std::fs::read_dir(&data).unwrap().map(|file| file.unwrap().file_name());
        names.collect::<std::collections::BTreeSet<_>>()
    };
    let before = names();
    let (status, shown, err) = run(&["recover", "--data", path(&data)], b"lose data\n");
    assert!(status == 1 && shown.contains("101 keys") && err.contains("--yes-lose-data"), "{err}");
    let (status, shown, err) = run(&["recover", "--data", path(&data), "--json"], b"");
    assert!(status == 1 && err.contains("--yes-lose-data"), "{err}");
    assert!(shown.starts_with("{\"node\":3,") && shown.contains("\"keys\":101,"), "{shown}");
    assert_eq!(run(&["recover", "--data", path(&data), "--show", "--yes-lose-data"], b"").0, 2);
    assert_eq!(run(&["recover"], b"").0, 2);

    let (status, err) = recover_on_a_terminal(&data, "yes\n");
    assert!(status == 1 && err.contains("nothing was changed") && err.contains("lose data"), "{err}");
    assert_eq!(names(), before);
    for at in 0..3 {
        cluster.restart(at);
    }
    cluster.server(2).serving();
    assert_eq!(cluster.server(2).client().call(&once), Frame::Integer(5), "the old session lives");
}

#[test]
fn the_words_on_a_terminal_confirm() {
    let (cluster, _) = lost();
    for (at, words) in [(0, "lose data\n".to_owned()), (1, String::new())] {
        let plan = alone(&cluster.plans[at]);
        let words = match words.is_empty() {
            true => {
                let (_, shown, _) = run(&["recover", "--data", path(&plan.data), "--json", "--show"], b"");
                format!("{}\n", word(&shown, "\"cluster\":\""))
            }
            false => words,
        };
        let (status, err) = recover_on_a_terminal(&plan.data, &words);
        assert_eq!(status, 0, "{err}");
        let server = plan.start();
        server.serving();
        assert_eq!(server.client().call(&["DBSIZE"]), Frame::Integer(101));
    }
}

/// Types this; exit status and what it said on standard error.
fn recover_on_a_terminal(data: &Path, typed: &str) -> (i32, String) {
    let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&keyboard).unwrap();
    unlockpt(&keyboard).unwrap();
    let name = ptsname(&keyboard, Vec::new()).unwrap();
    let terminal = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    let mut keyboard = File::from(keyboard);
    keyboard.write_all(typed.as_bytes()).unwrap();
    let output = Command::new(QUORATE)
        .args(["recover", "--data", path(data)])
        .stdin(Stdio::from(terminal))
        .output()
        .unwrap();
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn what_cannot_be_recovered_is_refused() {
    let folder = TempDir::new().unwrap();
    let refused = |data: &Path, sentence: &str| {
        let (status, out, err) = run(&["recover", "--data", path(data), "--yes-lose-data"], b"");
        assert_eq!((status, out.as_str()), (1, ""), "{err}");
        assert!(err.contains(sentence) && err.contains(path(data)), "{err}");
    };
    refused(&folder.path().join("none"), "there is no such folder");
    refused(folder.path(), "no server was ever started on it");

    let plan = Plan::alone(&folder.path().join("running"));
    let server = plan.start();
    server.serving();
    assert_eq!(server.client().call(&["SET", "k", "v"]), ok());
    refused(&plan.data, "in use by another server");
    assert_eq!(server.stop().code(), Some(0));

    // One of three that never heard of the others.
    let waiting = Cluster::plan(3, &[]).plans.remove(0);
    let waiting = Plan { data: folder.path().join("waiting"), ..waiting };
    waiting.start().kill();
    refused(&waiting.data, "never a member of a founded cluster");

    // Damaged: in the words of verify, and nothing is changed.
    let log = plan.data.join("log-0000000001");
    let whole = std::fs::read(&log).unwrap();
    let mut flipped = whole.clone();
    flipped[200] ^= 1;
    std::fs::write(&log, flipped).unwrap();
    let (_, _, verified) = run(&["verify", "--data", path(&plan.data)], b"");
    let (status, _, err) = run(&["recover", "--data", path(&plan.data), "--yes-lose-data"], b"");
    assert_eq!((status, &err), (1, &verified));
    std::fs::write(&log, whole).unwrap();
    let server = plan.start();
    server.serving();
    assert_eq!(server.client().call(&["GET", "k"]), bulk("v"));
}
