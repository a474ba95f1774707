//! Both carriers against small servers on real sockets that lose replies, fall silent, and point elsewhere.

#![expect(clippy::unwrap_used, reason = "the servers are part of the test: where they fail, it fails")]

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use quorate_client::{Config, Failure, Why, blocking, tcp};
use quorate_resp::{CommandDecoder, CommandLimits, Encoder, Frame, Incoming, Protocol};

const LONG: Duration = Duration::from_secs(30);

/// What befalls a command with a session.
#[derive(Debug, Clone)]
enum Fault {
    /// It runs; then the connection ends without the reply.
    LoseReply,
    /// It does not run, and the connection ends.
    LoseRequest,
    /// It runs; no reply comes, and the connection stays.
    FallSilent,
    /// It does not run; this is the error.
    Refuse(String),
    /// It runs; the reply is no reply.
    Garble,
}

/// What the servers of one cluster agree on.
#[derive(Default)]
struct Store {
    values: BTreeMap<Bytes, BytesMut>,
    replies: BTreeMap<(Bytes, Bytes), Frame>,
    sessions: u64,
    closed: u64,
    /// What befalls the next commands, wherever they arrive.
    faults: VecDeque<Fault>,
}

#[derive(Clone, Default)]
struct Cluster(Arc<Mutex<Store>>);

impl Cluster {
    fn with_faults(faults: impl IntoIterator<Item = Fault>) -> Self {
        let cluster = Self::default();
        cluster.0.lock().unwrap().faults.extend(faults);
        cluster
    }

    /// One more server of this cluster; its address. It ends with the process.
    fn server(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let cluster = self.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let cluster = cluster.clone();
                thread::spawn(move || cluster.serve(stream.unwrap()));
            }
        });
        address
    }

    fn serve(&self, mut stream: TcpStream) {
        let mut decoder = CommandDecoder::new(CommandLimits::default());
        let (mut input, mut chunk) = (BytesMut::new(), vec![0; 1 << 16]);
        loop {
            while let Some(Incoming::Command(command)) = decoder.decode(&mut input).unwrap() {
                let mut output = BytesMut::new();
                match self.0.lock().unwrap().answer(command.arguments()) {
                    Answer::Reply(reply) => Encoder::new(&mut output, Protocol::Resp2).frame(&reply),
                    Answer::Garbage => output.extend_from_slice(b"what?\r\n"),
                    Answer::Nothing => {}
                    Answer::End => return,
                }
                if stream.write_all(&output).is_err() {
                    return;
                }
            }
            match stream.read(&mut chunk) {
                Ok(bytes) if bytes > 0 => input.extend_from_slice(&chunk[..bytes]),
                Ok(_) | Err(_) => return,
            }
        }
    }

    fn value(&self, key: &'static str) -> Option<String> {
        let store = self.0.lock().unwrap();
        store.values.get(&Bytes::from(key)).map(|value| String::from_utf8_lossy(value).into_owned())
    }
}

enum Answer {
    Reply(Frame),
    Garbage,
    Nothing,
    End,
}

impl Store {
    fn answer(&mut self, arguments: &[Bytes]) -> Answer {
        match arguments {
            [name, verb, _] if name == "SESSION" && verb == "CLOSE" => {
                self.closed += 1;
                Answer::Reply(Frame::simple("OK"))
            }
            [name, ..] if name == "SESSION" => {
                self.sessions += 1;
                Answer::Reply(Frame::bulk(format!("s{}", self.sessions)))
            }
            [name, session, sequence, _, command @ ..] if name == "ONCE" => {
                self.once(session, sequence, command)
            }
            [name, key] if name == "GET" => Answer::Reply(match self.values.get(key) {
                Some(value) => Frame::bulk(value.clone().freeze()),
                None => Frame::Null,
            }),
            other => panic!("unexpected {other:?}"),
        }
    }

    fn once(&mut self, session: &Bytes, sequence: &Bytes, command: &[Bytes]) -> Answer {
        let fault = self.faults.pop_front();
        match fault {
            Some(Fault::LoseRequest) => return Answer::End,
            Some(Fault::Refuse(text)) => return Answer::Reply(Frame::Error(text.into())),
            Some(Fault::LoseReply | Fault::FallSilent | Fault::Garble) | None => {}
        }
        let place = (session.clone(), sequence.clone());
        let reply = match self.replies.get(&place) {
            Some(recorded) => recorded.clone(),
            None => self.execute(command),
        };
        self.replies.insert(place, reply.clone());
        match fault {
            Some(Fault::LoseReply) => Answer::End,
            Some(Fault::FallSilent) => Answer::Nothing,
            Some(Fault::Garble) => Answer::Garbage,
            Some(Fault::LoseRequest | Fault::Refuse(_)) | None => Answer::Reply(reply),
        }
    }

    fn execute(&mut self, command: &[Bytes]) -> Frame {
        match command {
            [name, key, value] if name == "SET" => {
                self.values.insert(key.clone(), BytesMut::from(&value[..]));
                Frame::simple("OK")
            }
            [name, key, value] if name == "APPEND" => {
                let whole = self.values.entry(key.clone()).or_default();
                whole.extend_from_slice(value);
                Frame::Integer(i64::try_from(whole.len()).unwrap())
            }
            [name, key] if name == "DEL" => Frame::Integer(i64::from(self.values.remove(key).is_some())),
            other => panic!("unexpected {other:?}"),
        }
    }
}

/// An address at which nobody listens.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// Little patience, for servers that will be silent.
fn impatient(servers: impl IntoIterator<Item = String>) -> Config {
    Config { try_timeout_ms: 100, ..Config::new(servers) }
}

#[test]
fn every_operation_through_the_blocking_carrier() {
    let clerk = blocking::Clerk::connect([Cluster::default().server()]).unwrap();
    assert_eq!(clerk.get("k", LONG), Ok(None));
    assert_eq!(clerk.put("k", "v", LONG), Ok(()));
    assert_eq!(clerk.append("k", "w", LONG), Ok(2));
    assert_eq!(clerk.get("k", LONG), Ok(Some(Bytes::from("vw"))));
    assert_eq!(clerk.delete("k", LONG), Ok(true));
    assert_eq!(clerk.delete("k", LONG), Ok(false));
    assert_eq!(clerk.get("k", LONG), Ok(None));
}

#[tokio::test]
async fn every_operation_through_the_async_carrier() {
    let clerk = tcp::Clerk::connect([Cluster::default().server()]);
    assert_eq!(clerk.get("k", LONG).await, Ok(None));
    assert_eq!(clerk.put("k", "v", LONG).await, Ok(()));
    assert_eq!(clerk.append("k", "w", LONG).await, Ok(2));
    assert_eq!(clerk.get("k", LONG).await, Ok(Some(Bytes::from("vw"))));
    assert_eq!(clerk.delete("k", LONG).await, Ok(true));
}

#[test]
fn keys_and_values_are_bytes() {
    let clerk = blocking::Clerk::connect([Cluster::default().server()]).unwrap();
    let key = Bytes::from_static(b"\0\r\n\xff");
    let big = Bytes::from(vec![b'\n'; 8 << 20]);
    assert_eq!(clerk.put(key.clone(), big.clone(), LONG), Ok(()));
    assert_eq!(clerk.append(key.clone(), "", LONG), Ok(8 << 20));
    assert_eq!(clerk.get(key, LONG), Ok(Some(big)));
    assert_eq!(clerk.put("", "", LONG), Ok(()));
    assert_eq!(clerk.get("", LONG), Ok(Some(Bytes::new())));
}

#[test]
fn whatever_befalls_an_append_it_runs_once() {
    for fault in [Fault::LoseReply, Fault::LoseRequest, Fault::FallSilent, Fault::Garble] {
        for servers in 1..=2 {
            let cluster = Cluster::with_faults([fault.clone(), fault.clone(), fault.clone()]);
            let servers: Vec<String> = (0..servers).map(|_| cluster.server()).collect();
            let clerk = blocking::Clerk::with_config(impatient(servers)).unwrap();
            assert_eq!(clerk.append("k", "x", LONG), Ok(1), "{fault:?}");
            assert_eq!(clerk.append("k", "y", LONG), Ok(2), "{fault:?}");
            assert_eq!(cluster.value("k").as_deref(), Some("xy"), "{fault:?}");
        }
    }
}

#[test]
fn moved_is_followed_to_a_server_that_nobody_named() {
    let cluster = Cluster::default();
    let refusal = format!("MOVED 0 {}", cluster.server());
    cluster.0.lock().unwrap().faults.push_back(Fault::Refuse(refusal));
    let clerk = blocking::Clerk::connect([cluster.server()]).unwrap();
    assert_eq!(clerk.put("k", "v", LONG), Ok(()));
    assert_eq!(cluster.value("k").as_deref(), Some("v"));
}

#[test]
fn a_dead_server_costs_a_try() {
    let cluster = Cluster::default();
    let clerk = blocking::Clerk::connect([nobody(), cluster.server()]).unwrap();
    assert_eq!(clerk.put("k", "v", LONG), Ok(()));
    // No such host, and a name that is none.
    let servers = ["no-such-host.invalid:1".to_owned(), "nonsense".to_owned(), cluster.server()];
    let clerk = blocking::Clerk::connect(servers).unwrap();
    assert_eq!(clerk.get("k", LONG), Ok(Some(Bytes::from("v"))));
}

#[test]
fn a_lone_server_that_refuses_the_connection_is_named_at_once_if_so_set() {
    let server = nobody();
    let config = Config { waits_for_lone_server: false, ..Config::new([server.clone()]) };
    let clerk = blocking::Clerk::with_config(config).unwrap();
    let why = Why::ConnectionRefused { server: server.into() };
    assert_eq!(clerk.get("k", LONG), Err(Failure::NotExecuted { why: why.clone() }));
    assert_eq!(clerk.put("k", "v", LONG), Err(Failure::NotExecuted { why }));
}

#[test]
fn the_deadline_tells_what_is_known() {
    let soon = Duration::from_millis(300);
    let clerk = blocking::Clerk::connect([nobody()]).unwrap();
    let outcome = clerk.put("k", "v", soon);
    assert!(matches!(outcome, Err(Failure::NotExecuted { why: Why::Deadline { .. } })), "{outcome:?}");

    let cluster = Cluster::with_faults(vec![Fault::FallSilent; 100]);
    let clerk = blocking::Clerk::with_config(impatient([cluster.server()])).unwrap();
    let outcome = clerk.put("k", "v", soon);
    assert!(matches!(outcome, Err(Failure::InDoubt { why: Why::Deadline { .. } })), "{outcome:?}");
}

#[test]
fn a_refusal_is_told_as_it_is() {
    let cluster = Cluster::with_faults([Fault::Refuse("OOM memory limit".into())]);
    let server = cluster.server();
    let clerk = blocking::Clerk::connect([server.clone()]).unwrap();
    let failure = clerk.put("k", "v", LONG).unwrap_err();
    assert_eq!(failure.to_string(), format!("not executed: {server} answered: OOM memory limit"));
}

#[tokio::test]
async fn calls_overlap_on_one_connection_and_each_runs_once() {
    let mut faults = vec![Fault::LoseReply; 3];
    faults.extend(vec![Fault::LoseRequest; 3]);
    let cluster = Cluster::with_faults(faults);
    let clerk = tcp::Clerk::connect([cluster.server(), cluster.server()]);
    let calls: Vec<_> = (0..500)
        .map(|_| {
            let clerk = clerk.clone();
            tokio::spawn(async move { clerk.append("k", "x", LONG).await })
        })
        .collect();
    let mut lengths = Vec::new();
    for call in calls {
        lengths.push(call.await.unwrap().unwrap());
    }
    lengths.sort_unstable();
    assert_eq!(lengths, (1..=500).collect::<Vec<u64>>());
}

#[test]
fn a_closed_session_is_followed_by_a_new_one() {
    let cluster = Cluster::default();
    let clerk = blocking::Clerk::connect([cluster.server()]).unwrap();
    for round in 1..=2 {
        clerk.put("k", "v", LONG).unwrap();
        clerk.close(LONG).unwrap();
        let store = cluster.0.lock().unwrap();
        assert_eq!((store.sessions, store.closed), (round, round));
    }
}

#[test]
fn threads_may_share_a_blocking_clerk() {
    let cluster = Cluster::default();
    let clerk = blocking::Clerk::connect([cluster.server()]).unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..25 {
                    clerk.append("k", "x", LONG).unwrap();
                }
            });
        }
    });
    assert_eq!(cluster.value("k").map(|value| value.len()), Some(100));
}
