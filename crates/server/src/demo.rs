//! `quorate demo`: a cluster of three servers on this machine, as child processes. Must not know what a server does.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use quorate_resp::Frame;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::runtime::LocalRuntime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{sleep, timeout};

use crate::config::Address;
use crate::shell::{ask, complain};

const HOST: &str = "127.0.0.1";
const SERVERS: u16 = 3;
const PORT_DEFAULT: u16 = 6379;
/// Ports for the servers among themselves lie so far above the clients', or below where there is no room above.
const PEER_PORT_DISTANCE: u16 = 10_000;
/// How long the cluster may take to serve: it may have a long log to read.
const SERVING_WAIT: Duration = Duration::from_secs(120);
/// The pause between two looks at whether it serves.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long a server may take to stop.
const STOP_WAIT: Duration = Duration::from_secs(5);
/// Lines of log that wait to be shown.
const LINES_WAITING_MAX: usize = 1_024;
const EXIT_FAILED: u8 = 1;

/// `quorate demo`.
#[derive(Args, Debug)]
pub(crate) struct DemoArgs {
    /// First of three ports for clients: N, N+1, N+2
    #[arg(long, value_name = "N", default_value_t = PORT_DEFAULT, value_parser = clap::value_parser!(u16).range(1..=65_533))]
    port: u16,
    /// Folder of the three servers' data
    #[arg(long, value_name = "DIR", default_value = "./quorate-demo")]
    data: PathBuf,
}

/// What happens while the demo runs.
enum News {
    /// A server says something to its operator.
    Line(u16, String),
    /// A server's standard output has ended, and with it the server.
    Ended(u16),
}

/// Runs the cluster until Ctrl-C.
pub(crate) fn demo(args: &DemoArgs) -> ExitCode {
    let result = LocalRuntime::new()
        .context("the runtime")
        .and_then(|runtime| runtime.block_on(async { Demo::start(args)?.run().await }));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::from(EXIT_FAILED)
        }
    }
}

struct Demo {
    port: u16,
    data: PathBuf,
    binary: PathBuf,
    servers: BTreeMap<u16, Child>,
    news: Receiver<News>,
}

impl Demo {
    /// Starts the servers, or nothing at all if a port is taken.
    fn start(args: &DemoArgs) -> anyhow::Result<Self> {
        let binary = std::env::current_exe().context("the path of this program")?;
        let ports = (0..SERVERS).map(|at| args.port + at);
        for port in ports.clone().chain(ports.map(peer_port)) {
            check_free(port, args.port, &binary)?;
        }
        let (report, news) = channel(LINES_WAITING_MAX);
        let mut demo =
            Self { port: args.port, data: args.data.clone(), binary, servers: BTreeMap::new(), news };
        for id in 1..=SERVERS {
            let child = demo.spawn(id, &report)?;
            demo.servers.insert(id, child);
        }
        Ok(demo)
    }

    fn spawn(&self, id: u16, report: &Sender<News>) -> anyhow::Result<Child> {
        let port = self.port + id - 1;
        let peers: Vec<String> =
            (1..=SERVERS).map(|peer| format!("{peer}={HOST}:{}", peer_port(self.port + peer - 1))).collect();
        let mut command = Command::new(&self.binary);
        // What is in the environment is meant for one server, not for all three of them.
        for (name, _) in std::env::vars_os() {
            let is_setting = name.to_str().is_some_and(|name| name.starts_with("QUORATE_"));
            if is_setting && name != "QUORATE_LOG" {
                command.env_remove(name);
            }
        }
        let mut child = command
            .arg("serve")
            .args(["--id", &id.to_string()])
            .arg("--data")
            .arg(self.data.join(id.to_string()))
            .args(["--listen", &format!("{HOST}:{port}")])
            .args(["--peer-listen", &format!("{HOST}:{}", peer_port(port))])
            .args(["--peers", &peers.join(",")])
            .arg("--exit-on-stdin-close")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own: Ctrl-C reaches the demo alone, which stops its servers in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("server {id}"))?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        if let (Some(out), Some(err)) = (out, err) {
            tokio::task::spawn_local(follow(id, err, report.clone(), false));
            tokio::task::spawn_local(follow(id, out, report.clone(), true));
        }
        Ok(child)
    }

    async fn run(mut self) -> anyhow::Result<()> {
        let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
        let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
        let result = tokio::select! {
            result = self.watch() => result,
            _ = interrupt.recv() => Ok(()),
            _ = terminate.recv() => Ok(()),
        };
        say("\nStopping the three servers; the data stays.\n")?;
        self.stop().await;
        result
    }

    /// Waits until the cluster serves, says how to use it, and follows its log.
    async fn watch(&mut self) -> anyhow::Result<()> {
        say(&format!("Starting three servers; data in {}.\n", self.data.display()))?;
        let mut held = Vec::new();
        let served = timeout(SERVING_WAIT, self.wait_until_it_serves(&mut held)).await;
        if !matches!(served, Ok(Ok(()))) {
            held.iter().for_each(|line| show(line));
        }
        served
            .with_context(|| format!("the cluster does not serve within {} s", SERVING_WAIT.as_secs()))??;
        say(&self.instructions())?;
        held.iter().for_each(|line| show(line));
        while let Some(news) = self.news.recv().await {
            match news {
                News::Line(id, line) => show(&prefixed(id, &line)),
                News::Ended(id) => {
                    let status = self.reap(id).await;
                    complain(&format!("server {id} has ended ({status}); see its last lines"));
                    if self.servers.is_empty() {
                        bail!("no server is left");
                    }
                }
            }
        }
        Ok(())
    }

    async fn wait_until_it_serves(&mut self, held: &mut Vec<String>) -> anyhow::Result<()> {
        let mut waiting: Vec<u16> = (0..SERVERS).map(|at| self.port + at).collect();
        while !waiting.is_empty() {
            waiting.retain(|port| !serves(*port));
            while let Ok(news) = self.news.try_recv() {
                match news {
                    News::Line(id, line) => held.push(prefixed(id, &line)),
                    News::Ended(id) => {
                        // Its last words may still be on their way.
                        sleep(LOOK_EVERY).await;
                        while let Ok(News::Line(id, line)) = self.news.try_recv() {
                            held.push(prefixed(id, &line));
                        }
                        let status = self.reap(id).await;
                        bail!("server {id} has ended before it served ({status})");
                    }
                }
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    async fn reap(&mut self, id: u16) -> String {
        let Some(mut child) = self.servers.remove(&id) else { return "gone".to_owned() };
        child.wait().await.map_or_else(|error| error.to_string(), |status: ExitStatus| status.to_string())
    }

    /// Lines to copy: each runs as it is.
    fn instructions(&self) -> String {
        let ports: Vec<String> = (0..SERVERS).map(|at| (self.port + at).to_string()).collect();
        let binary = quoted(&self.binary.display().to_string());
        let servers = match self.port {
            PORT_DEFAULT => String::new(),
            _ => format!(" --servers {HOST}:{}", ports.join(&format!(",{HOST}:"))),
        };
        let mut text =
            format!("Three servers serve on {HOST}, ports {}. In another terminal:\n\n", ports.join(", "));
        if is_in_path("redis-cli") {
            for (port, command) in
                ports.iter().zip(["SET greeting hello", "APPEND greeting ' world'", "GET greeting"])
            {
                text.push_str(&format!("  redis-cli -p {port} {command}\n"));
            }
            text.push('\n');
        }
        for command in ["put greeting hello", "append greeting ' world'", "get greeting", "status"] {
            text.push_str(&format!("  {binary} {command}{servers}\n"));
        }
        text.push_str("\nCtrl-C stops them; the data stays. Their log follows.\n\n");
        text
    }

    /// Stops all in order: they end when their standard input does.
    async fn stop(&mut self) {
        for child in self.servers.values_mut() {
            drop(child.stdin.take());
        }
        for child in self.servers.values_mut() {
            if timeout(STOP_WAIT, child.wait()).await.is_err() {
                // It is killed when it is dropped, too.
                let _ = child.start_kill();
            }
        }
    }
}

/// Passes on what a server says, line by line.
async fn follow(id: u16, stream: impl AsyncRead + Unpin, report: Sender<News>, is_stdout: bool) {
    let mut lines = BufReader::new(stream).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        // Standard output carries `ready`, which is for programs.
        if !is_stdout && report.send(News::Line(id, line)).await.is_err() {
            return;
        }
    }
    if is_stdout {
        // If nobody listens, the demo is ending.
        let _ = report.send(News::Ended(id)).await;
    }
}

fn peer_port(port: u16) -> u16 {
    port.checked_add(PEER_PORT_DISTANCE).unwrap_or_else(|| port - PEER_PORT_DISTANCE)
}

fn check_free(port: u16, first: u16, binary: &Path) -> anyhow::Result<()> {
    match TcpListener::bind((HOST, port)) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let other = if first < 50_000 { first + 1_000 } else { first - 1_000 };
            bail!(
                "port {port} is in use; nothing was started. Choose other ports with --port N (N, N+1, N+2), such as:\n  \
                 {} demo --port {other}",
                quoted(&binary.display().to_string())
            )
        }
        Err(error) => Err(error).with_context(|| format!("port {port}")),
    }
}

/// Whether this server answers a read, for which it needs a leader.
fn serves(port: u16) -> bool {
    let server = Address { host: HOST.to_owned(), port };
    matches!(ask(&server, &["DBSIZE"], Duration::from_millis(500)), Ok(Frame::Integer(_)))
}

fn is_in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// As a shell reads it back.
fn quoted(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+,:=@%".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn prefixed(id: u16, line: &str) -> String {
    format!("[{id}] {line}\n")
}

fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// To standard error; there is no other place if that fails.
fn show(line: &str) {
    let _ = io::stderr().lock().write_all(line.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_quoted_only_where_a_shell_needs_it() {
        assert_eq!(quoted("/usr/bin/quorate"), "/usr/bin/quorate");
        assert_eq!(quoted("dir/a b/it's"), r"'dir/a b/it'\''s'");
    }

    #[test]
    fn peer_ports_stay_in_range() {
        assert_eq!(peer_port(6379), 16379);
        assert_eq!(peer_port(65_535), 55_535);
    }
}
