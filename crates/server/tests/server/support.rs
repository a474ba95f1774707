//! Starts real servers on free ports with folders of their own, talks to them over raw sockets, and waits for
//! conditions, never for time.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use quorate_resp::{Frame, ReplyDecoder, ReplyLimits, encode_command};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::ports::free_port;

/// How long anything may take that should happen soon. The machine may be busy with other tests.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// The binary under test.
pub(crate) const QUORATE: &str = env!("CARGO_BIN_EXE_quorate");

/// Polls until the condition gives something, or fails with what was waited for.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        pause();
    }
}

/// Between two looks at a condition.
#[expect(clippy::disallowed_methods, reason = "the one place where a test yields between two looks")]
fn pause() {
    std::thread::sleep(Duration::from_millis(5));
}

/// One server, as a child process. It is killed when it is dropped.
pub(crate) struct Server {
    child: Child,
    /// The port for clients.
    pub(crate) port: u16,
    /// Its log so far.
    log: Arc<Mutex<String>>,
}

/// What a server is started with.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) id: u64,
    pub(crate) port: u16,
    pub(crate) peer_port: u16,
    pub(crate) peers: String,
    pub(crate) data: PathBuf,
    pub(crate) flags: Vec<String>,
}

impl Plan {
    /// A server that is a cluster of its own.
    pub(crate) fn alone(data: &Path) -> Self {
        let (port, peer_port) = (free_port(), free_port());
        let peers = format!("1=127.0.0.1:{peer_port}");
        Self { id: 1, port, peer_port, peers, data: data.to_owned(), flags: Vec::new() }
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(QUORATE);
        command
            .arg("serve")
            .args(["--id", &self.id.to_string()])
            .arg("--data")
            .arg(&self.data)
            .args(["--listen", &format!("127.0.0.1:{}", self.port)])
            .args((!self.peers.is_empty()).then(|| ["--peers", &self.peers]).into_iter().flatten())
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Starts it and waits until it is ready.
    #[track_caller]
    pub(crate) fn start(&self) -> Server {
        let mut server = self.spawn();
        server.ready(self.id);
        server
    }

    /// Starts it, and waits for nothing.
    pub(crate) fn spawn(&self) -> Server {
        self.spawn_as(&mut self.command())
    }

    /// As this command, made of its own, says.
    pub(crate) fn spawn_as(&self, command: &mut Command) -> Server {
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (err, into) = (child.stderr.take().unwrap(), Arc::clone(&log));
        std::thread::spawn(move || {
            for line in BufReader::new(err).lines().map_while(Result::ok) {
                let mut log = into.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        Server { child, port: self.port, log }
    }

    /// Starts it and expects that it refuses; its exit status and what it said.
    #[track_caller]
    pub(crate) fn refused(&self) -> (i32, String) {
        let output = self.command().output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "it must not get ready");
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

impl Server {
    /// Waits until it says that it is ready, once.
    #[track_caller]
    pub(crate) fn ready(&mut self, id: u64) {
        let line = self.ready_line();
        let expected = format!("ready id={id} listen=127.0.0.1:{}\n", self.port);
        assert_eq!(line, expected, "the log says:\n{}", self.log());
    }

    /// Waits until it says that it is ready, once; what it says.
    pub(crate) fn ready_line(&mut self) -> String {
        let out = self.child.stdout.take().expect("it is waited for once");
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line).unwrap();
        line
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.port)
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and how it ended.
    pub(crate) fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.child.wait().unwrap()
    }

    /// Waits until it ends by itself; its exit status and its log.
    #[track_caller]
    pub(crate) fn ended(mut self) -> (Option<i32>, String) {
        let status = wait_for("the end of the server", || self.child.try_wait().unwrap());
        (status.code(), self.log())
    }

    /// Waits until it answers a read.
    #[track_caller]
    pub(crate) fn serving(&self) {
        wait_for("a server that serves", || {
            matches!(self.client().call(&["DBSIZE"]), Frame::Integer(_)).then_some(())
        });
    }

    /// One field of INFO.
    #[track_caller]
    pub(crate) fn info(&self, field: &str) -> String {
        self.client().info(field)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A cluster on this machine.
pub(crate) struct Cluster {
    pub(crate) plans: Vec<Plan>,
    /// By place, not id; `None` while it is down.
    pub(crate) servers: Vec<Option<Server>>,
    _folder: TempDir,
}

impl Cluster {
    pub(crate) fn start(count: usize) -> Self {
        Self::start_with(count, &[])
    }

    /// Each server with these flags.
    pub(crate) fn start_with(count: usize, flags: &[&str]) -> Self {
        let mut cluster = Self::plan(count, flags);
        cluster.servers = cluster.plans.iter().map(|plan| Some(plan.start())).collect();
        cluster.servers.iter().flatten().for_each(Server::serving);
        cluster
    }

    /// One of which no server runs yet.
    pub(crate) fn plan(count: usize, flags: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let ports: Vec<(u16, u16)> = (0..count).map(|_| (free_port(), free_port())).collect();
        let peers: Vec<String> =
            ports.iter().enumerate().map(|(at, (_, peer))| format!("{}=127.0.0.1:{peer}", at + 1)).collect();
        let plan = |(at, (port, peer_port)): (usize, &(u16, u16))| Plan {
            id: at as u64 + 1,
            port: *port,
            peer_port: *peer_port,
            peers: peers.join(","),
            data: folder.path().join((at + 1).to_string()),
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
        };
        let plans: Vec<Plan> = ports.iter().enumerate().map(plan).collect();
        let servers = plans.iter().map(|_| None).collect();
        Self { plans, servers, _folder: folder }
    }

    #[track_caller]
    pub(crate) fn server(&self, at: usize) -> &Server {
        self.servers[at].as_ref().expect("it is up")
    }

    pub(crate) fn take(&mut self, at: usize) -> Server {
        self.servers[at].take().expect("it is up")
    }

    #[track_caller]
    pub(crate) fn restart(&mut self, at: usize) {
        assert!(self.servers[at].is_none(), "it is up");
        self.servers[at] = Some(self.plans[at].start());
    }

    /// The place of the server that leads and is followed, once there is one.
    #[track_caller]
    pub(crate) fn leader(&self) -> usize {
        wait_for("a leader", || {
            let up: Vec<usize> = (0..self.servers.len()).filter(|at| self.servers[*at].is_some()).collect();
            up.into_iter().find(|at| {
                let mut client = self.server(*at).client();
                client.info("raft_role") == "leader" && matches!(client.call(&["DBSIZE"]), Frame::Integer(_))
            })
        })
    }

    /// A place other than this, where a server is up.
    pub(crate) fn other(&self, than: usize) -> usize {
        (0..self.servers.len()).find(|at| *at != than && self.servers[*at].is_some()).expect("another server")
    }

    pub(crate) fn addresses(&self) -> String {
        let addresses: Vec<String> =
            self.plans.iter().map(|plan| format!("127.0.0.1:{}", plan.port)).collect();
        addresses.join(",")
    }
}

/// A connection without a client library.
pub(crate) struct Client {
    stream: TcpStream,
    decoder: ReplyDecoder,
    buffer: BytesMut,
}

impl Client {
    #[track_caller]
    pub(crate) fn connect(port: u16) -> Self {
        Self::try_connect(port).expect("a server that listens")
    }

    /// `None` if nobody listens.
    pub(crate) fn try_connect(port: u16) -> Option<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        Some(Self { stream, decoder: ReplyDecoder::new(ReplyLimits::default()), buffer: BytesMut::new() })
    }

    /// Sends bytes as they are.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends bytes as they are, unless the server has closed the connection.
    pub(crate) fn try_send_raw(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    pub(crate) fn send<A: AsRef<[u8]>>(&mut self, command: &[A]) {
        let mut bytes = BytesMut::new();
        encode_command(&mut bytes, command);
        self.send_raw(&bytes);
    }

    /// The next reply, or `None` if the connection was closed.
    #[track_caller]
    pub(crate) fn receive(&mut self) -> Option<Frame> {
        self.receive_raw().map(|(frame, _)| frame)
    }

    /// The next reply with its bytes, or `None` if the connection was closed.
    #[track_caller]
    pub(crate) fn receive_raw(&mut self) -> Option<(Frame, Vec<u8>)> {
        let mut raw = Vec::new();
        loop {
            let before = self.buffer.clone();
            let frame = self.decoder.decode(&mut self.buffer).expect("a well-formed reply");
            raw.extend_from_slice(&before[..before.len() - self.buffer.len()]);
            if let Some(frame) = frame {
                return Some((frame, raw));
            }
            if !self.fill() {
                return None;
            }
        }
    }

    /// Reads what has arrived, at least a byte; false if the connection was closed.
    #[track_caller]
    fn fill(&mut self) -> bool {
        let mut scrap = vec![0; 64 << 10];
        match self.stream.read(&mut scrap) {
            Ok(0) => false,
            Ok(count) => {
                self.buffer.extend_from_slice(&scrap[..count]);
                true
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => false,
            Err(error) => panic!("no reply: {error}"),
        }
    }

    /// All that comes until the connection is closed.
    pub(crate) fn receive_raw_bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.stream.read_to_end(&mut bytes) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
            Err(error) => panic!("the connection stays open: {error}"),
        }
        bytes
    }

    /// The same connection, for a thread that sends while this one receives.
    pub(crate) fn sender(&self) -> TcpStream {
        self.stream.try_clone().unwrap()
    }

    #[track_caller]
    pub(crate) fn call<A: AsRef<[u8]>>(&mut self, command: &[A]) -> Frame {
        self.send(command);
        self.receive().expect("a reply, not the end of the connection")
    }

    /// As [`Client::call`]; `None` if the connection is gone, before or during the call.
    pub(crate) fn try_call<A: AsRef<[u8]>>(&mut self, command: &[A]) -> Option<Frame> {
        let mut bytes = BytesMut::new();
        encode_command(&mut bytes, command);
        self.stream.write_all(&bytes).ok()?;
        self.receive()
    }

    /// One field of INFO.
    #[track_caller]
    pub(crate) fn info(&mut self, field: &str) -> String {
        let info = text(&self.call(&["INFO"]));
        let value = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value.unwrap_or_else(|| panic!("INFO has no {field}:\n{info}")).to_owned()
    }
}

/// The text of a string reply or an error.
#[track_caller]
pub(crate) fn text(frame: &Frame) -> String {
    let bytes = if let Frame::Error(text) = frame { Some(text) } else { frame.as_text() };
    let bytes = bytes.unwrap_or_else(|| panic!("no text: {frame:?}"));
    String::from_utf8_lossy(bytes).into_owned()
}

/// A bulk string.
pub(crate) fn bulk(text: &str) -> Frame {
    Frame::bulk(text.to_owned())
}

/// `OK`.
pub(crate) fn ok() -> Frame {
    Frame::simple("OK")
}

/// Runs the binary to its end: exit status, standard output, standard error.
pub(crate) fn run(arguments: &[&str], stdin: &[u8]) -> (i32, String, String) {
    let mut child = Command::new(QUORATE)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stdin).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}
