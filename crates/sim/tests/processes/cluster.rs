//! Real servers as child processes: started, killed, paused, asked. Knows nothing of what clients do.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use quorate_resp::{Frame, ReplyDecoder, ReplyLimits, encode_command};
use rustix::process::{Pid, Signal, kill_process};

use crate::Violation;
use crate::ports::free_port;

/// How long anything may take that should happen soon. The machine may be busy with other tests.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// How long a server is waited for while faults are under way: it may be paused or stuck, and that is no news.
const GLANCE: Duration = Duration::from_millis(150);

/// Lines of each server's log that are shown when something is wrong.
const LOG_LINES_SHOWN: usize = 60;

/// A server's flags and folders, and its process while it is up.
pub(crate) struct Server {
    /// From 1.
    pub(crate) id: usize,
    /// For clients, without any relay.
    pub(crate) port: u16,
    command: Vec<String>,
    log: PathBuf,
    process: Option<Process>,
    /// How often it was started.
    pub(crate) starts: u32,
}

struct Process {
    child: Child,
    is_paused: bool,
}

/// All servers, and where they live.
pub(crate) struct Cluster {
    product: PathBuf,
    /// By place, not id.
    pub(crate) servers: Vec<Server>,
}

impl Cluster {
    /// Servers that are not started. Each dials the others where `ways` says, by places and the real port.
    pub(crate) fn new(
        product: &Path,
        folder: &Path,
        request_timeouts_ms: &[u64],
        mut way: impl FnMut(usize, usize, u16) -> u16,
    ) -> Self {
        let count = request_timeouts_ms.len();
        let ports: Vec<(u16, u16)> = (0..count).map(|_| (free_port(), free_port())).collect();
        let server = |at: usize| {
            let (port, peer_port) = ports[at];
            let mut peers = String::new();
            for (to, (_, to_port)) in ports.iter().enumerate() {
                let dialled = if to == at { peer_port } else { way(at, to, *to_port) };
                let _ = write!(peers, "{}=127.0.0.1:{dialled},", to + 1);
            }
            let data = folder.join(format!("server-{}", at + 1));
            let command = vec![
                "serve".to_owned(),
                format!("--id={}", at + 1),
                format!("--data={}", data.display()),
                format!("--listen=127.0.0.1:{port}"),
                format!("--peer-listen=127.0.0.1:{peer_port}"),
                format!("--peers={peers}"),
                format!("--request-timeout={}ms", request_timeouts_ms[at]),
                // As little as it can be: snapshots are taken all the time, and who was away gets one.
                "--log-max=1MiB".to_owned(),
                "--log-tail=16KiB".to_owned(),
                // It ends with the test, however that ends.
                "--exit-on-stdin-close".to_owned(),
            ];
            let log = folder.join(format!("server-{}.log", at + 1));
            Server { id: at + 1, port, command, log, process: None, starts: 0 }
        };
        Self { product: product.to_owned(), servers: (0..count).map(server).collect() }
    }

    /// Starts all that are down.
    pub(crate) fn start_all(&mut self) {
        for server in &mut self.servers {
            if server.process.is_none() {
                server.start(&self.product);
            }
        }
    }

    pub(crate) fn start(&mut self, at: usize) {
        self.servers[at].start(&self.product);
    }

    /// # Errors
    /// If a server is down that nobody has killed.
    pub(crate) fn are_as_they_should(&mut self) -> Result<(), Violation> {
        self.servers.iter_mut().try_for_each(Server::is_as_it_should)
    }

    /// The place of a server that says it leads.
    pub(crate) fn leader(&self) -> Option<usize> {
        let is_leader =
            |server: &Server| server.info(GLANCE).is_ok_and(|info| field(&info, "raft_role") == "leader");
        self.servers.iter().position(|server| server.is_running() && is_leader(server))
    }

    /// One leader, all servers on the same log and the same state; how each stands otherwise.
    pub(crate) fn has_converged(&self) -> Result<(), String> {
        let mut seen = Vec::new();
        for server in &self.servers {
            let info = server.info(SOON).map_err(|error| format!("server {}: {error}", server.id))?;
            let fields =
                ["raft_role", "raft_term", "raft_commit", "raft_applied", "raft_last", "quorate_digest"];
            seen.push(fields.map(|name| field(&info, name)));
        }
        let leaders = seen.iter().filter(|fields| fields[0] == "leader").count();
        let is_same = seen.windows(2).all(|pair| pair[0][1..] == pair[1][1..]);
        if leaders == 1 && is_same { Ok(()) } else { Err(format!("{seen:?}")) }
    }

    /// The ends of all logs, for people.
    pub(crate) fn logs(&self) -> String {
        let mut text = String::new();
        for server in &self.servers {
            let log = std::fs::read(&server.log).unwrap_or_default();
            let log = String::from_utf8_lossy(&log);
            let lines: Vec<&str> = log.lines().collect();
            let shown = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
            let _ = writeln!(text, "--- server {}: the last of {} lines", server.id, lines.len());
            for line in shown {
                let _ = writeln!(text, "{line}");
            }
        }
        text
    }

    /// # Errors
    /// If a log says that a server's own books were broken.
    pub(crate) fn logs_are_sane(&self) -> Result<(), Violation> {
        for server in &self.servers {
            let log = std::fs::read(&server.log).unwrap_or_default();
            let log = String::from_utf8_lossy(&log);
            if let Some(line) = log.lines().find(|line| line.contains("panicked at")) {
                return Err(Violation::new("no panic", format!("server {}: {line}", server.id)));
            }
        }
        Ok(())
    }
}

impl Server {
    fn start(&mut self, product: &Path) {
        assert!(self.process.is_none(), "it is up");
        let log = File::options().create(true).append(true).open(&self.log).expect("its log can be written");
        let out = log.try_clone().expect("one more file");
        let mut command = Command::new(product);
        command.args(&self.command).stdin(Stdio::piped()).stdout(out).stderr(log);
        let child = command.spawn().expect("the product can be started");
        self.process = Some(Process { child, is_paused: false });
        self.starts += 1;
    }

    pub(crate) fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// Up, and not paused.
    pub(crate) fn is_running(&self) -> bool {
        self.process.as_ref().is_some_and(|process| !process.is_paused)
    }

    /// `kill -9`, paused or not.
    pub(crate) fn kill(&mut self) {
        let mut process = self.process.take().expect("it is up");
        process.child.kill().expect("our own child");
        process.child.wait().expect("our own child");
    }

    pub(crate) fn pause(&mut self) {
        let process = self.process.as_mut().expect("it is up");
        kill_process(Pid::from_child(&process.child), Signal::STOP).expect("our own child");
        process.is_paused = true;
    }

    pub(crate) fn go_on(&mut self) {
        let process = self.process.as_mut().expect("it is up");
        kill_process(Pid::from_child(&process.child), Signal::CONT).expect("our own child");
        process.is_paused = false;
    }

    /// SIGTERM, and how it ended.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("it is up");
        kill_process(Pid::from_child(&process.child), Signal::TERM).expect("our own child");
        process.child.wait().expect("our own child")
    }

    fn is_as_it_should(&mut self) -> Result<(), Violation> {
        let Some(process) = &mut self.process else { return Ok(()) };
        match process.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => {
                let story = format!("server {} has ended by itself: {status}", self.id);
                Err(Violation::new("a server goes on until it is killed", story))
            }
            Err(error) => panic!("our own child: {error}"),
        }
    }

    /// All fields of `INFO`.
    fn info(&self, within: Duration) -> io::Result<String> {
        let frame = self.ask(&["INFO"], within)?;
        let text = frame.as_text().ok_or_else(|| io::Error::other(format!("no text: {frame:?}")))?;
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    /// Whether it has taken a snapshot, or does before the time is over.
    pub(crate) fn has_snapshot_within(&self, limit: Duration) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < limit {
            if self.info(limit).is_ok_and(|info| field(&info, "raft_snapshot") != "0") {
                return true;
            }
            look_again();
        }
        false
    }

    /// One command on a connection of its own, without any relay.
    pub(crate) fn ask(&self, command: &[&str], within: Duration) -> io::Result<Frame> {
        let mut connection = Connection::open(self.port, within)?;
        connection.send(&[command])?;
        connection.receive()
    }

    /// Waits until it answers a read; how long that took.
    ///
    /// # Errors
    /// If it does not within this time.
    pub(crate) fn serves_within(&self, limit: Duration) -> Result<Duration, Violation> {
        let begun = Instant::now();
        let mut last = String::new();
        while begun.elapsed() < limit {
            match self.ask(&["DBSIZE"], limit) {
                Ok(Frame::Integer(_)) => return Ok(begun.elapsed()),
                Ok(other) => last = format!("{other:?}"),
                Err(error) => last = error.to_string(),
            }
            look_again();
        }
        let story = format!("server {} answers no read within {limit:?}; the last answer: {last}", self.id);
        Err(Violation::new("service", story))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // It may have ended already.
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
    }
}

fn field(info: &str, name: &str) -> String {
    let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.unwrap_or_default().trim_end().to_owned()
}

/// Between two looks at a condition.
pub(crate) fn look_again() {
    std::thread::sleep(Duration::from_millis(10));
}

/// A connection without a client library.
pub(crate) struct Connection {
    stream: TcpStream,
    decoder: ReplyDecoder,
    buffer: BytesMut,
}

impl Connection {
    /// To this port; silence longer than `patience` is an error.
    pub(crate) fn open(port: u16, patience: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), patience)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        Ok(Self { stream, decoder: ReplyDecoder::new(ReplyLimits::default()), buffer: BytesMut::new() })
    }

    /// Sends commands in one go.
    pub(crate) fn send<C: AsRef<[A]>, A: AsRef<[u8]>>(&mut self, commands: &[C]) -> io::Result<()> {
        let mut bytes = BytesMut::new();
        for command in commands {
            encode_command(&mut bytes, command.as_ref());
        }
        self.stream.write_all(&bytes)
    }

    /// The next reply.
    pub(crate) fn receive(&mut self) -> io::Result<Frame> {
        let mut scrap = [0; 16 << 10];
        loop {
            let malformed =
                |error| io::Error::new(io::ErrorKind::InvalidData, format!("what is no reply: {error}"));
            if let Some(frame) = self.decoder.decode(&mut self.buffer).map_err(malformed)? {
                return Ok(frame);
            }
            match self.stream.read(&mut scrap)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.buffer.extend_from_slice(&scrap[..count]),
            }
        }
    }
}
