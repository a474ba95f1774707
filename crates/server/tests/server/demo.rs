//! `quorate demo`: the lines it prints run as they are, the data stays, and the servers end however it ends.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::ports::free_port;
use crate::support::{Client, QUORATE, wait_for};

struct Demo {
    child: Child,
    out: BufReader<ChildStdout>,
    port: u16,
}

impl Demo {
    fn start(folder: &Path, port: u16) -> Self {
        let mut child = Command::new(QUORATE)
            .args(["demo", "--port", &port.to_string()])
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out, port }
    }

    /// The commands that it prints.
    fn commands(&mut self) -> Vec<String> {
        let mut commands = Vec::new();
        let mut line = String::new();
        while !line.contains("Ctrl-C") {
            line.clear();
            assert!(self.out.read_line(&mut line).unwrap() > 0, "it has ended");
            if let Some(command) = line.strip_prefix("  ") {
                commands.push(command.trim_end().to_owned());
            }
        }
        commands
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn wait_until_no_server_is_left(&self) {
        wait_for("the end of all servers", || {
            (0..3)
                .all(|at| std::net::TcpStream::connect(("127.0.0.1", self.port + at)).is_err())
                .then_some(())
        });
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Three client ports in a row, and three peer ports in a row, that nobody uses.
fn free_row() -> u16 {
    let is_free = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
    loop {
        let port = free_port();
        if (port..port + 3).all(|port| is_free(port) && is_free(port + 10_000)) {
            return port;
        }
    }
}

fn shell(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn its_lines_run_as_they_are_and_its_data_stays() {
    let folder = TempDir::new().unwrap();
    let port = free_row();
    let mut demo = Demo::start(folder.path(), port);
    let commands = demo.commands();
    let quorate: Vec<&String> = commands.iter().filter(|command| command.starts_with(QUORATE)).collect();
    let outputs: Vec<String> = quorate.iter().map(|command| shell(command)).collect();
    assert_eq!(outputs[..3], ["OK\n", "11\n", "hello world\n"]);
    assert!(outputs[3].contains("leader"), "{}", outputs[3]);
    // Where there is a redis-cli, its lines do the same.
    let redis: Vec<String> = commands
        .iter()
        .filter(|command| command.starts_with("redis-cli"))
        .map(|command| shell(command))
        .collect();
    assert!(redis.is_empty() || redis == ["OK\n", "11\n", "hello world\n"], "{redis:?}");
    demo.signal(Signal::INT);
    assert_eq!(demo.child.wait().unwrap().code(), Some(0));
    demo.wait_until_no_server_is_left();
    assert!(folder.path().join("quorate-demo/3/identity").exists());

    let mut again = Demo::start(folder.path(), port);
    again.commands();
    let mut client = Client::connect(port + 2);
    assert_eq!(client.call(&["GET", "greeting"]), crate::support::bulk("hello world"));
    // However it ends.
    again.child.kill().unwrap();
    again.wait_until_no_server_is_left();
}

#[test]
fn a_port_in_use_is_an_error_before_anything_starts() {
    let folder = TempDir::new().unwrap();
    let port = free_row();
    let _taken = std::net::TcpListener::bind(("127.0.0.1", port + 1)).unwrap();
    let output = Command::new(QUORATE)
        .args(["demo", "--port", &port.to_string()])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(err.contains(&format!("port {} is in use", port + 1)) && err.contains("--port N"), "{err}");
    assert!(!folder.path().join("quorate-demo").exists());
}
