//! Memory and disks have an end: what grows is refused by name, reads and deletes go on, and so does everything once there
//! is room again, without a restart.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use quorate_resp::Frame;
use tempfile::TempDir;

use crate::support::{Client, Cluster, Plan, bulk, ok, run, text, wait_for};

#[test]
fn past_the_memory_limit_what_grows_is_refused_and_the_rest_goes_on() {
    let cluster = Cluster::start_with(3, &["--memory-max", "1MiB"]);
    let value = "x".repeat(100_000);
    let leader = cluster.leader();
    for at in [leader, cluster.other(leader)] {
        let mut client = cluster.server(at).client();
        let mut keys = 0;
        let refused = loop {
            match client.call(&["SET", &format!("k{keys}"), &value]) {
                answer if answer == ok() => keys += 1,
                answer => break text(&answer),
            }
        };
        assert_eq!(keys, 10, "{refused}");
        assert!(
            refused.starts_with("OOM memory full: ") && refused.contains("--memory-max 1048576 bytes"),
            "{refused}"
        );
        assert!(text(&client.call(&["APPEND", "k0", &value])).starts_with("OOM memory"));
        assert_eq!(client.call(&["SET", "k0", &value.replace('x', "y")]), ok(), "no larger than it was");
        assert_eq!(client.call(&["GET", "k9"]), bulk(&value));
        let number = |field: &str| cluster.server(leader).info(field).parse::<u64>().unwrap();
        let (used, data) = (number("used_memory"), number("used_memory_dataset"));
        assert_eq!((number("maxmemory"), data), (1 << 20, 1_000_020));
        assert_eq!(used, data + number("used_memory_overhead"));
        assert_eq!(
            number("used_memory_overhead"),
            number("quorate_memory_keys_overhead") + number("quorate_memory_sessions")
        );
        assert!(
            number("quorate_memory_log") > data && number("used_memory_rss") > number("quorate_memory_log")
        );
        for key in 0..keys {
            assert_eq!(client.call(&["DEL", &format!("k{key}")]), Frame::Integer(1));
        }
    }
    let (status, _, error) =
        run(&["put", "big", &"x".repeat(60_000), "--servers", &cluster.addresses()], b"");
    assert_eq!(status, 0, "{error}");
}

/// What a test says where it cannot be carried out.
const NOT_TRIED: &str = "this user may not mount a small file system; nothing was tried";

/// A file system of this size, while it lives.
struct Mounted(PathBuf);

impl Mounted {
    /// `None` where this user may not mount.
    fn new(folder: &Path, bytes: u64) -> Option<Self> {
        std::fs::create_dir_all(folder).unwrap();
        let options = format!("size={bytes}");
        let status =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "quorate-test"]).arg(folder).status();
        if status.is_ok_and(|status| status.success()) {
            return Some(Self(folder.to_owned()));
        }
        None
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    /// Takes all room but for `bytes`, also what has become free since the last time.
    fn fill_but(&self, bytes: u64) {
        let mut ballast = File::options().create(true).append(true).open(self.ballast()).unwrap();
        let piece = [1; 4096];
        while ballast.write_all(&piece).is_ok() {}
        let size = ballast.metadata().unwrap().len();
        ballast.set_len(size.saturating_sub(bytes)).unwrap();
    }

    fn make_room(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

fn set(client: &mut Client, key: &str, value: &str) -> String {
    text(&client.call(&["SET", key, value]))
}

/// Service comes back by itself. What was sent before the server knew may be in doubt.
#[track_caller]
fn wait_for_service(client: &mut Client, key: &str, value: &str) {
    wait_for("service", || {
        let answer = set(client, key, value);
        let is_expected = answer.starts_with("OOM disk full: ") || answer.starts_with("INDOUBT ");
        assert!(answer == "OK" || is_expected, "{answer}");
        (answer == "OK").then_some(())
    });
}

/// These disks have so much room and no more: writes are refused, once that is known.
#[track_caller]
fn wait_for_refusal(client: &mut Client, disks: &[(&Mounted, u64)], key: &str) -> String {
    let mut number = 0;
    wait_for("a refusal", || {
        disks.iter().for_each(|(disk, bytes)| disk.fill_but(*bytes));
        number += 1;
        let answer = set(client, key, &"v".repeat(number));
        let is_expected = answer == "OK" || answer.starts_with("INDOUBT ");
        assert!(is_expected || answer.starts_with("OOM disk full: "), "{answer}");
        (!is_expected).then_some(answer)
    })
}

#[test]
fn a_full_disk_is_said_by_name_and_is_no_end() {
    let folder = TempDir::new().unwrap();
    let Some(mounted) = Mounted::new(&folder.path().join("m"), 64 << 20) else {
        return println!("{NOT_TRIED}");
    };
    let mut plan = Plan::alone(&mounted.0.join("data"));
    plan.flags = ["--log-max", "4MiB", "--disk-reserve", "8MiB"].map(str::to_owned).into();
    let server = plan.start();
    server.serving();
    let mut client = server.client();
    let value = "x".repeat(1 << 20);
    let mut keys = 0;
    let refused = loop {
        match set(&mut client, &format!("k{keys}"), &value) {
            // A snapshot that is being written may take the room before the server knows.
            answer if answer == "OK" || answer.starts_with("INDOUBT ") => keys += 1,
            answer => break answer,
        }
        assert!(keys < 64, "more than the disk can hold");
    };
    println!("after {keys} MiB: {refused}");
    assert!(refused.starts_with("OOM disk full: ") && refused.contains("of server 1"), "{refused}");
    assert!(refused.contains(&mounted.0.join("data").display().to_string()), "{refused}");
    assert!(refused.contains("--disk-reserve is 8388608 bytes"), "{refused}");
    assert_eq!(client.call(&["GET", "k0"]), bulk(&value));
    assert_eq!(set(&mut client, "k0", "smaller"), "OK");
    assert_eq!(server.info("quorate_disk_full"), "1");
    let free: u64 = server.info("quorate_disk_free_bytes").parse().unwrap();
    assert!(free < 8 << 20, "{free}");
    let (status, table, _) = run(&["status", "--servers", &format!("127.0.0.1:{}", plan.port)], b"");
    assert!(status == 0 && table.contains("DISK-FREE") && table.contains("disk full: "), "{table}");
    // Deletes alone make room: the log goes once a snapshot of what is left stands for it.
    for key in 0..keys {
        let answer = client.call(&["DEL", &format!("k{key}")]);
        assert!(matches!(answer, Frame::Integer(_)), "{answer:?}");
    }
    wait_for_service(&mut client, "after", &value);
    // Nothing at all is left, not even for the log.
    wait_for_refusal(&mut client, &[(&mounted, 0)], "grows");
    assert_eq!(client.call(&["GET", "after"]), bulk(&value));
    mounted.make_room();
    wait_for_service(&mut client, "again", "v");
    assert_eq!(server.info("quorate_disk_full"), "0");
    // All of it is there.
    server.kill();
    let server = plan.start();
    server.serving();
    let mut client = server.client();
    assert_eq!(client.call(&["GET", "after"]), bulk(&value));
    assert_eq!(client.call(&["GET", "again"]), bulk("v"));
}

/// Three servers, each on a small disk of its own.
struct SmallDisks {
    // Before the disks, which are busy while the servers live.
    cluster: Cluster,
    disks: Vec<Mounted>,
    _folder: TempDir,
}

impl SmallDisks {
    fn start() -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let mut cluster = Cluster::start_with(3, &["--log-max", "1MiB", "--disk-reserve", "4MiB"]);
        let mut disks = Vec::new();
        for at in 0..3 {
            cluster.take(at).kill();
            let disk = Mounted::new(&folder.path().join(format!("disk{at}")), 32 << 20)?;
            cluster.plans[at].data = disk.0.join("data");
            disks.push(disk);
        }
        (0..3).for_each(|at| cluster.restart(at));
        cluster.leader();
        Some(Self { cluster, disks, _folder: folder })
    }

    fn client(&self, at: usize) -> Client {
        self.cluster.server(at).client()
    }

    /// All of them hold the same.
    #[track_caller]
    fn converge(&self) {
        wait_for("one state", || {
            let state = |at: usize| {
                let server = self.cluster.server(at);
                (server.info("raft_applied"), server.info("quorate_digest"), server.info("quorate_disk_full"))
            };
            let first = state(0);
            (first.2 == "0" && state(1) == first && state(2) == first).then_some(())
        });
    }
}

/// Enough for the log to leave the segments that were made before.
fn write_a_megabyte(client: &mut Client, prefix: &str) {
    let value = "x".repeat(10_000);
    for number in 0..100 {
        assert_eq!(set(client, &format!("{prefix}{number}"), &value), "OK");
    }
}

#[test]
fn a_majority_with_room_goes_on_and_one_without_says_so() {
    let Some(small) = SmallDisks::start() else { return println!("{NOT_TRIED}") };
    let leader = small.cluster.leader();
    let [one, other] = [(leader + 1) % 3, (leader + 2) % 3];
    let mut clients = [0, 1, 2].map(|at| small.client(at));

    small.disks[one].fill_but(0);
    write_a_megabyte(&mut clients[other], "a");
    write_a_megabyte(&mut clients[one], "b");
    assert_eq!(clients[one].call(&["GET", "a99"]), clients[leader].call(&["GET", "a99"]));
    wait_for("the shortage", || (clients[one].info("quorate_disk_full") == "1").then_some(()));
    assert_ne!(clients[one].info("quorate_disk_held_bytes"), "0");

    // With two of three there is no majority with room.
    for at in [leader, one, other] {
        let full = [(&small.disks[one], 0), (&small.disks[other], 1 << 20)];
        let refused = wait_for_refusal(&mut clients[at], &full, &format!("c{at}"));
        let names = [one, other].map(|at| format!("of server {}", at + 1));
        assert!(names.iter().any(|name| refused.contains(name)), "{refused}");
        assert_eq!(clients[at].call(&["EXISTS", "a0"]), Frame::Integer(1));
        assert_eq!(clients[at].call(&["DEL", &format!("b{at}")]), Frame::Integer(1));
    }
    small.disks[other].make_room();
    wait_for_service(&mut clients[leader], "d", "v");
    small.disks[one].make_room();
    small.converge();

    // And the leader's own.
    let leader = small.cluster.leader();
    let one = small.cluster.other(leader);
    for at in [one, leader] {
        let refused = wait_for_refusal(&mut clients[at], &[(&small.disks[leader], 0)], &format!("e{at}"));
        assert!(refused.contains(&format!("of server {}", leader + 1)), "{refused}");
        assert_eq!(clients[at].call(&["DEL", &format!("a{at}")]), Frame::Integer(1));
    }
    small.disks[leader].make_room();
    wait_for_service(&mut clients[leader], "f", "v");
    small.converge();
}

#[test]
fn all_disks_full_and_a_leader_that_dies_meanwhile() {
    let Some(mut small) = SmallDisks::start() else { return println!("{NOT_TRIED}") };
    let leader = small.cluster.leader();
    let other = small.cluster.other(leader);
    let mut client = small.client(other);
    write_a_megabyte(&mut client, "a");
    let full: Vec<_> = small.disks.iter().map(|disk| (disk, 0)).collect();
    wait_for_refusal(&mut client, &full, "b");
    assert_eq!(client.call(&["DEL", "a0"]), Frame::Integer(1));
    small.cluster.take(leader).kill();
    let answer = wait_for("a leader", || {
        let answer = text(&client.call(&["GET", "a1"]));
        (!answer.starts_with("CLUSTERDOWN")).then_some(answer)
    });
    assert_eq!(answer.len(), 10_000);
    small.disks.iter().for_each(Mounted::make_room);
    wait_for("service", || (set(&mut client, "b", "w") == "OK").then_some(()));
    small.cluster.restart(leader);
    small.converge();
    assert_eq!(client.call(&["DBSIZE"]), Frame::Integer(100));
}
