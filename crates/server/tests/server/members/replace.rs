//! A dead server is replaced by one command, whose progress stands on a terminal, on a cluster that holds many keys.
//!
//! `QUORATE_TEST_KEYS=1000000 cargo test --release -p quorate --test server -- --nocapture replaced_on_a_terminal` is the full size.

use std::fs::File;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Instant;

use quorate_resp::{Frame, encode_command};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::cases::{VOTE, column, join};
use crate::support::{Cluster, QUORATE, ok, run, wait_for};

/// Keys, unless `QUORATE_TEST_KEYS` says otherwise.
const KEYS_DEFAULT: usize = 50_000;
/// Bytes of a value.
const VALUE_BYTES: usize = 100;
/// Commands on their way at once.
const PIPELINE: usize = 1_000;

#[test]
fn a_dead_server_is_replaced_on_a_terminal() {
    let keys = std::env::var("QUORATE_TEST_KEYS").map_or(KEYS_DEFAULT, |keys| keys.parse().unwrap());
    // Nothing of the log stays behind a snapshot: whoever comes receives the snapshot.
    let mut cluster = Cluster::start_with(3, &["--log-tail", "0"]);
    let leader = cluster.leader();
    fill(&cluster, leader, keys);
    let (status, _, said) = run(&["snapshot", "--servers", &cluster.addresses(), "--timeout", "60s"], b"");
    assert_eq!(status, 0, "{said}");
    let dead = cluster.other(leader);
    cluster.take(dead).kill();
    let new = join(&mut cluster, 4);
    let begun = Instant::now();
    let (old, address) = ((dead + 1).to_string(), cluster.plans[new].peer_address());
    let servers = cluster.addresses();
    let (status, shown) = on_a_terminal(&["members", "replace", &old, "4", &address, "--servers", &servers]);
    println!("{keys} keys: replaced in {} ms", begun.elapsed().as_millis());
    println!("{}", shown.escape_debug());
    assert_eq!(status, 0, "{shown}");
    assert!(shown.contains("server 4 receives the snapshot (MiB): "), "{shown}");
    assert!(shown.contains(" %, "), "{shown}");
    assert!(shown.ends_with("done\r\n"), "{shown}");
    assert_eq!(column(&cluster, VOTE).get(&4).map(String::as_str), Some("voter"));
    wait_for("all keys", || {
        let size = cluster.server(new).client().call(&["DBSIZE"]);
        (size == Frame::Integer(i64::try_from(keys).unwrap())).then_some(())
    });
}

fn fill(cluster: &Cluster, at: usize, keys: usize) {
    let mut client = cluster.server(at).client();
    let value = "v".repeat(VALUE_BYTES);
    for first in (0..keys).step_by(PIPELINE) {
        let last = keys.min(first + PIPELINE);
        let mut bytes = bytes::BytesMut::new();
        for key in first..last {
            encode_command(&mut bytes, &["SET", &format!("key:{key}"), &value]);
        }
        client.send_raw(&bytes);
        for _ in first..last {
            assert_eq!(client.receive(), Some(ok()));
        }
    }
}

/// Runs the binary with its output on a terminal: exit status, and all that was written there.
fn on_a_terminal(arguments: &[&str]) -> (i32, String) {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let other_end = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    let mut command = Command::new(QUORATE);
    command.args(arguments).stdin(Stdio::null());
    command.stdout(other_end.try_clone().unwrap()).stderr(other_end);
    let mut child = command.spawn().unwrap();
    // It holds the other end as well, and the terminal ends when nobody does.
    drop(command);
    let mut shown = Vec::new();
    // The end of a terminal is an error to who reads it.
    let _ = File::from(terminal).read_to_end(&mut shown);
    let status = child.wait().unwrap().code().unwrap();
    (status, String::from_utf8_lossy(&shown).into_owned())
}
