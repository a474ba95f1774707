//! Servers whose folder is lost, or put back to an older copy: they vote for nothing and serve nobody, say what to do, and join
//! by themselves once that is done.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use quorate_resp::Frame;

use crate::support::{Cluster, QUORATE, bulk, ok, run, text, wait_for};

/// Waits until it stands like this, and gives what it says of that.
fn stands(cluster: &Cluster, at: usize, standing: &str) -> String {
    let mut client = cluster.server(at).client();
    wait_for(standing, || (client.info("quorate_standing") == standing).then_some(()));
    let notice = client.info("quorate_notice");
    for command in [&["GET", "k"][..], &["SET", "k", "never"]] {
        assert_eq!(text(&client.call(command)), format!("TRYAGAIN {notice}"));
    }
    assert_eq!(client.call(&["PING"]), Frame::simple("PONG"));
    assert!(cluster.server(at).log().contains(&notice), "it is in the log: {notice}");
    notice
}

fn rebuild(cluster: &Cluster, id: &str) {
    let servers = cluster.addresses();
    let (status, _, notes) = run(&["members", "--servers", &servers, "rebuild", id], b"");
    assert_eq!(status, 0, "{notes}");
}

/// It serves, and a majority that needs it decides.
fn is_healthy(cluster: &mut Cluster, at: usize, expected: &str) {
    let mut client = cluster.server(at).client();
    wait_for("service", || (client.call(&["GET", "k"]) == bulk(expected)).then_some(()));
    assert_eq!(client.info("quorate_standing"), "member");
    wait_for("its vote", || {
        client.info("raft_members").split(',').any(|id| id == (at + 1).to_string()).then_some(())
    });
    let away = (0..3).find(|other| *other != at).unwrap();
    cluster.take(away).kill();
    wait_for("service by two", || (client.call(&["SET", "k", "by two"]) == ok()).then_some(()));
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

#[test]
fn a_wiped_folder_is_refused_until_it_is_rebuilt() {
    let mut cluster = Cluster::start(3);
    assert_eq!(cluster.server(0).client().call(&["SET", "k", "v"]), ok());
    cluster.take(2).kill();
    std::fs::remove_dir_all(&cluster.plans[2].data).unwrap();
    cluster.restart(2);
    let notice = stands(&cluster, 2, "joining");
    assert!(notice.contains("`quorate members rebuild 3`"), "{notice}");
    rebuild(&cluster, "3");
    is_healthy(&mut cluster, 2, "v");
}

#[test]
fn who_asks_before_the_server_is_heard_waits_for_it() {
    let mut cluster = Cluster::start(3);
    assert_eq!(cluster.server(0).client().call(&["SET", "k", "v"]), ok());
    cluster.take(2).kill();
    std::fs::remove_dir_all(&cluster.plans[2].data).unwrap();
    let servers = cluster.addresses();
    let mut rebuild = Command::new(QUORATE)
        .args(["members", "--servers", &servers, "--timeout", "60s", "rebuild", "3"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut notes = BufReader::new(rebuild.stderr.take().unwrap()).lines();
    assert!(notes.next().unwrap().unwrap().contains("server 3 is not heard: is it started"));
    cluster.restart(2);
    let rest: Vec<String> = notes.map(Result::unwrap).collect();
    assert!(rebuild.wait().unwrap().success(), "{rest:?}");
    is_healthy(&mut cluster, 2, "v");
}

#[test]
fn an_older_copy_of_a_folder_is_refused_until_it_is_rebuilt() {
    let mut cluster = Cluster::start(3);
    assert_eq!(cluster.server(0).client().call(&["SET", "k", "v"]), ok());
    let aside = tempfile::tempdir().unwrap();
    let older = aside.path().join("older");
    cluster.take(2).kill();
    copy(&cluster.plans[2].data, &older);
    // It serves on, from the folder that the copy is of.
    cluster.restart(2);
    let mut client = cluster.server(2).client();
    wait_for("service", || (client.call(&["SET", "k", "w"]) == ok()).then_some(()));
    let heard =
        |at: usize| std::fs::metadata(cluster.plans[at].data.join("starts")).unwrap().len() >= 24 + 2 * 32;
    wait_for("the others to hear of that start", || (heard(0) && heard(1)).then_some(()));
    cluster.take(2).kill();
    std::fs::remove_dir_all(&cluster.plans[2].data).unwrap();
    std::fs::rename(&older, &cluster.plans[2].data).unwrap();
    cluster.restart(2);
    let notice = stands(&cluster, 2, "refused");
    assert!(notice.contains("an older copy") && notice.contains("`quorate members rebuild 3`"), "{notice}");
    rebuild(&cluster, "3");
    is_healthy(&mut cluster, 2, "w");
    let names = std::fs::read_dir(&cluster.plans[2].data).unwrap().map(|file| file.unwrap().file_name());
    assert!(
        names.into_iter().any(|name| name.to_string_lossy().starts_with("before-")),
        "what was there is kept"
    );
}
