//! Whoever leads goes on leading, whatever it and the others have to do: write to disks on which one sync takes half a second,
//! carry values of 8 MiB, take snapshots, serve clients that do not read, that are many, or that want much.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use quorate_resp::Frame;

use crate::support::{Client, Cluster, ok, wait_for};

const MIB: usize = 1 << 20;

/// Who leads in which term, by each server's own account.
fn led(cluster: &Cluster) -> Vec<(String, String)> {
    let servers = cluster.servers.iter().flatten();
    servers.map(|server| (server.info("raft_leader"), server.info("raft_term"))).collect()
}

/// Nobody else leads after this than before, and no term has passed.
#[track_caller]
fn is_steady(cluster: &Cluster, trouble: impl FnOnce()) {
    cluster.leader();
    let before = wait_for("one leader by all accounts", || {
        let led = led(cluster);
        led.iter().all(|account| *account == led[0]).then_some(led)
    });
    trouble();
    assert_eq!(led(cluster), before, "leaders and terms");
}

/// Writes small values to every server, one at a time, as long as the work lasts; how many.
fn while_others_write<T>(cluster: &Cluster, work: impl FnOnce() -> T) -> (T, usize) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let write = |mut client: Client| {
            let over = &over;
            scope.spawn(move || {
                let mut count = 0;
                while !over.load(Ordering::Relaxed) {
                    assert_eq!(client.call(&["SET", "small", "value"]), ok());
                    count += 1;
                }
                count
            })
        };
        let writers: Vec<_> = cluster.servers.iter().flatten().map(|server| write(server.client())).collect();
        let done = work();
        over.store(true, Ordering::Relaxed);
        (done, writers.into_iter().map(|writer| writer.join().unwrap()).sum())
    })
}

/// A library that slows syncs down, for as long as a file is there.
fn slow_disk(folder: &Path) -> PathBuf {
    let library = folder.join("slow_disk.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/server/slow_disk.c");
    // Where Rust programs are linked, there is one.
    let status =
        Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).status();
    assert!(status.expect("a C compiler").success());
    library
}

#[test]
fn a_sync_of_half_a_second_costs_no_leader() {
    let folder = tempfile::tempdir().unwrap();
    let (library, switch) = (slow_disk(folder.path()), folder.path().join("slow"));
    let mut cluster = Cluster::plan(3, &[]);
    cluster.servers = cluster
        .plans
        .iter()
        .map(|plan| {
            let mut command = plan.command();
            let mut server =
                plan.spawn_as(command.env("LD_PRELOAD", &library).env("QUORATE_TEST_SLOW_DISK", &switch));
            server.ready(plan.id);
            Some(server)
        })
        .collect();
    cluster.servers.iter().flatten().for_each(crate::support::Server::serving);
    is_steady(&cluster, || {
        std::fs::write(&switch, "").unwrap();
        let mut client = cluster.server(cluster.leader()).client();
        let ((), others) = while_others_write(&cluster, || {
            for _ in 0..6 {
                assert_eq!(client.call(&["SET", "k", "v"]), ok());
            }
        });
        let syncs = std::fs::metadata(&switch).unwrap().len();
        std::fs::remove_file(&switch).unwrap();
        println!("{others} other writes, {syncs} slow syncs");
        // Each of the six waited for two servers at least.
        assert!(syncs >= 12, "{syncs}");
    });
}

#[test]
fn values_of_8_mib_cost_no_leader() {
    const VALUES: usize = 12;
    let cluster = Cluster::start(3);
    is_steady(&cluster, || {
        let value = vec![b'x'; 8 * MIB - 64];
        let ((), others) = while_others_write(&cluster, || {
            std::thread::scope(|scope| {
                for server in cluster.servers.iter().flatten() {
                    let (mut client, value) = (server.client(), &value);
                    scope.spawn(move || {
                        for number in 0..VALUES {
                            let key = format!("big{}", number % 2);
                            assert_eq!(client.call(&[b"SET", key.as_bytes(), value]), ok());
                        }
                    });
                }
            });
        });
        println!("{others} small writes beside {} of 8 MiB", 3 * VALUES);
        assert!(others > 0);
    });
}

#[test]
fn snapshots_of_many_keys_cost_no_leader() {
    const KEYS: usize = 100_000;
    const BATCH: usize = 1_000;
    let cluster = Cluster::start(3);
    let mut client = cluster.server(cluster.leader()).client();
    for first in (0..KEYS).step_by(BATCH) {
        for key in first..first + BATCH {
            client.send(&["SET", &format!("key:{key:012}"), &"x".repeat(100)]);
        }
        for _ in 0..BATCH {
            assert_eq!(client.receive(), Some(ok()));
        }
    }
    is_steady(&cluster, || {
        let taken = || -> u64 {
            let servers = cluster.servers.iter().flatten();
            servers
                .map(|server| server.info("quorate_snapshots_taken").parse::<u64>().unwrap())
                .min()
                .unwrap()
        };
        let before = taken();
        let ((), others) = while_others_write(&cluster, || {
            for server in cluster.servers.iter().flatten() {
                server.client().call(&["BGSAVE"]);
            }
            wait_for("a snapshot of each", || (taken() > before).then_some(()));
        });
        println!("{others} writes while all three took a snapshot");
    });
}

/// Each asks for far more than the connection holds, and reads nothing of it.
#[test]
fn clients_that_do_not_read_cost_no_leader() {
    const READS: usize = 200;
    let cluster = Cluster::start(3);
    let value = vec![b'x'; MIB];
    assert_eq!(cluster.server(0).client().call(&[b"SET", b"big".as_slice(), &value]), ok());
    is_steady(&cluster, || {
        let deaf: Vec<Client> = cluster
            .servers
            .iter()
            .flatten()
            .flat_map(|server| [server.client(), server.client()])
            .map(|mut client| {
                (0..READS).for_each(|_| client.send(&["GET", "big"]));
                client
            })
            .collect();
        let mut client = cluster.server(cluster.leader()).client();
        let ((), others) = while_others_write(&cluster, || {
            for number in 0..2_000 {
                assert_eq!(client.call(&["SET", "k", &number.to_string()]), ok());
            }
        });
        assert!(others > 0);
        for mut client in deaf {
            assert!(matches!(client.receive(), Some(Frame::Bulk(_))), "it was served all the same");
        }
    });
}

/// All at once; what they are owed is many times what the loop may write in one turn.
#[test]
fn many_clients_that_ask_for_large_values_cost_no_leader() {
    const CLIENTS: usize = 800;
    let cluster = Cluster::start(3);
    let leader = cluster.server(cluster.leader());
    let value = vec![b'x'; MIB];
    assert_eq!(leader.client().call(&[b"SET", b"big".as_slice(), &value]), ok());
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| leader.client()).collect();
    is_steady(&cluster, || {
        for _ in 0..3 {
            clients.iter_mut().for_each(|client| client.send(&["GET", "big"]));
            for client in &mut clients {
                let Some(Frame::Bulk(bytes)) = client.receive() else { panic!("no value") };
                assert!(bytes == value);
            }
        }
    });
}

/// Answers that the loop has no part in: it has its turn behind all connections.
#[test]
fn commands_that_are_answered_on_the_spot_cost_no_leader() {
    const IDLE: usize = 500;
    const BUSY: usize = 200;
    let cluster = Cluster::start(3);
    let leader = cluster.server(cluster.leader());
    let idle: Vec<Client> = (0..IDLE).map(|_| leader.client()).collect();
    let mut busy: Vec<Client> = (0..BUSY).map(|_| leader.client()).collect();
    is_steady(&cluster, || {
        let mut silent = leader.client();
        silent.send(&["CLIENT", "REPLY", "OFF"]);
        silent.send_raw(&b"CLIENT LIST\r\n".repeat(4_000));
        silent.send(&["CLIENT", "REPLY", "ON"]);
        let pings = b"PING\r\n".repeat(10_000);
        busy.iter_mut().for_each(|client| client.send_raw(&pings));
        for client in &mut busy {
            for _ in 0..10_000 {
                assert_eq!(client.receive(), Some(Frame::Simple("PONG".into())));
            }
        }
        assert_eq!(silent.receive(), Some(ok()));
    });
    drop(idle);
}
