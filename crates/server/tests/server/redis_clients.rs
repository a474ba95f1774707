//! Real client libraries with their defaults do SET, APPEND and GET against every server. The libraries are installed
//! below the target folder, once; that takes the package registries, and a machine without them fails here.

use std::path::{Path, PathBuf};
use std::process::Command;

use redis::Commands;

use crate::support::Cluster;

const REDIS_PY: &str = "redis==8.1.0";
const IOREDIS: &str = "ioredis@6.0.0";
const NODE_REDIS: &str = "redis@6.3.1";

/// Runs a program to its end and gives its standard output.
#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}\n{err}", output.status);
    out.into_owned()
}

/// A folder for what `install` puts there; made whole or not at all, and kept for the next run.
fn installed(name: &str, install: impl FnOnce(&Path)) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients").join(name.replace(['=', '@'], "-"));
    if !folder.exists() {
        std::fs::create_dir_all(folder.parent().unwrap()).unwrap();
        let aside = tempfile::tempdir_in(folder.parent().unwrap()).unwrap();
        install(aside.path());
        // Another test process may have been faster; then its folder serves.
        if std::fs::rename(aside.path(), &folder).is_err() {
            assert!(folder.exists());
        }
    }
    folder
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name)
}

fn ports(cluster: &Cluster) -> Vec<String> {
    cluster.plans.iter().map(|plan| plan.port.to_string()).collect()
}

#[test]
fn redis_cli_one_shot_and_interactive() {
    let cluster = Cluster::start(3);
    let out = run(Command::new("python3").arg(script("redis_cli.py")).args(ports(&cluster)));
    assert_eq!(out, "redis-cli ok\n");
}

#[test]
fn redis_py() {
    let packages = installed(REDIS_PY, |folder| {
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"];
        run(Command::new("python3").args(pip).arg(folder).arg(REDIS_PY));
    });
    let cluster = Cluster::start(3);
    let out = run(Command::new("python3")
        .env("PYTHONPATH", packages)
        .arg(script("redis_py.py"))
        .args(ports(&cluster)));
    assert_eq!(out, "redis-py 8.1.0 ok\n");
}

#[track_caller]
fn node(package: &str, name: &str, expected: &str) {
    let packages = installed(package, |folder| {
        let quiet = ["install", "--silent", "--no-audit", "--no-fund", "--prefix"];
        run(Command::new("npm").args(quiet).arg(folder).arg(package));
    });
    let cluster = Cluster::start(3);
    let out = run(Command::new("node")
        .env("NODE_PATH", packages.join("node_modules"))
        .arg(script(name))
        .args(ports(&cluster)));
    assert_eq!(out, expected);
}

#[test]
fn ioredis() {
    node(IOREDIS, "ioredis.cjs", "ioredis 6.0.0 ok\n");
}

#[test]
fn node_redis() {
    node(NODE_REDIS, "node_redis.cjs", "node-redis 6.3.1 ok\n");
}

#[test]
fn the_rust_redis_crate() {
    let cluster = Cluster::start(3);
    for plan in &cluster.plans {
        let client = redis::Client::open(("127.0.0.1", plan.port)).unwrap();
        let mut connection = client.get_connection().unwrap();
        let key = format!("redis-rs:{}", plan.port);
        let () = connection.set(&key, "hello").unwrap();
        let length: usize = connection.append(&key, " world").unwrap();
        let value: String = connection.get(&key).unwrap();
        assert_eq!((length, value.as_str()), (11, "hello world"));
        let (length, value, deleted, nothing): (usize, String, usize, Option<String>) =
            redis::pipe().append(&key, "!").get(&key).del(&key).get(&key).query(&mut connection).unwrap();
        assert_eq!((length, value.as_str(), deleted, nothing), (12, "hello world!", 1, None));
    }
}

#[test]
fn redis_benchmark_against_leader_and_follower() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader();
    for at in [leader, cluster.other(leader)] {
        let port = cluster.plans[at].port.to_string();
        for pipeline in ["1", "16"] {
            let load = ["-t", "set,get", "-n", "20000", "-c", "50", "-P", pipeline, "--csv"];
            let out = run(Command::new("redis-benchmark").args(["-p", &port]).args(load));
            assert!(out.contains("\"SET\"") && out.contains("\"GET\"") && !out.contains("rror"), "{out}");
        }
    }
}
