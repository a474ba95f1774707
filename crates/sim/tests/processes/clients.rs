//! The clients: Clerks of the client library, blocking and not, and plain Redis connections that pipeline. Each writes
//! down what it asked and what it was told. Knows servers by their addresses alone.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_client::{Command, Failure, Operation, Query, Reply, blocking, tcp};
use quorate_replica::command::Condition;
use quorate_resp::Frame;
use quorate_sim::history::{Action, OperationId, Outcome};
use quorate_sim::prng::Prng;

use crate::Violation;
use crate::cluster::Connection;
use crate::recorder::{Recorder, Vocabulary};

/// Blocking Clerks, one call at a time.
pub(crate) const CLERKS: usize = 4;
/// Clerks with several callers at once.
pub(crate) const SHARED_CLERKS: usize = 2;
/// Callers of each of those.
const CALLERS: usize = 4;
/// Plain connections.
pub(crate) const PLAIN: usize = 3;
/// All who dial.
pub(crate) const CLIENTS: usize = CLERKS + SHARED_CLERKS + PLAIN;

/// How long a patient caller waits: longer than any fault lasts.
const PATIENT: Duration = Duration::from_secs(60);
/// After how many calls an impatient caller leaves its Clerk and its session behind, with what is under way.
const CALLS_A_CLERK: u64 = 60;
/// Commands that a plain connection sends in one go.
const PIPELINE_MAX: u64 = 8;
/// Bursts on one plain connection; then it is closed and another server dialled.
const BURSTS_A_CONNECTION: u64 = 40;
/// Silence after which a plain client gives its connection up; longer than a server holds and doubts a request.
const SILENCE_MAX: Duration = Duration::from_secs(12);
/// A client thinks for up to this long between two calls, in microseconds.
const THINKS_US_MAX: u64 = 8_000;
/// A plain client for longer: it asks more at a time.
const PLAIN_THINKS_US_MAX: u64 = 24_000;
/// After a connection broke it waits for up to this long, or it would ask thousands of questions of nobody.
const DIALS_US_MAX: u64 = 200_000;

/// Starts all clients. Each dials servers at the ports that are its own, and goes on until the recorder says that it
/// is over.
pub(crate) fn start(recorder: &Arc<Recorder>, ports: &[Vec<u16>], seed: u64) {
    assert_eq!(ports.len(), CLIENTS, "each has ports of its own");
    let mut seeds = Prng::new(seed);
    for (client, ports) in ports.iter().enumerate() {
        let (prng, ports) = (seeds.fork(), ports.clone());
        let me = Me { client: client as u32, ports, recorder: Arc::clone(recorder), prng };
        recorder.client_begins();
        std::thread::spawn(move || {
            // Dropped when the client panics, too: one that ends so is missed by its panic, not as one that hangs.
            let _ends = Ends(Arc::clone(&me.recorder));
            match client {
                0..CLERKS => me.calls(),
                CLERKS..PLAIN_FROM => me.calls_at_once(),
                _ => me.pipelines(),
            }
        });
    }
}

const PLAIN_FROM: usize = CLERKS + SHARED_CLERKS;

struct Ends(Arc<Recorder>);

impl Drop for Ends {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.complain(Violation::new("a client does not panic", "see its own words".to_owned()));
        }
        self.0.client_ends();
    }
}

struct Me {
    client: u32,
    ports: Vec<u16>,
    recorder: Arc<Recorder>,
    prng: Prng,
}

impl Me {
    fn servers(&self) -> Vec<String> {
        self.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect()
    }

    /// A Clerk, one call after the other. Every other client is impatient.
    fn calls(mut self) {
        let is_patient = self.client.is_multiple_of(2);
        while !self.recorder.is_over() {
            let clerk = blocking::Clerk::connect(self.servers()).expect("files for a runtime");
            let connection = self.recorder.connection();
            let mut calls = 0;
            while !self.recorder.is_over() && (is_patient || calls < CALLS_A_CLERK) {
                let patience = patience(is_patient, &mut self.prng);
                let (key, action) = self.recorder.next(self.client, Vocabulary::Clerk, &mut self.prng);
                let operation = operation(&key, &action);
                let id = self.recorder.calls(self.client, connection, key, action);
                let result = clerk.call(operation, patience);
                self.recorder.returned(id, told(result));
                std::thread::sleep(Duration::from_micros(self.prng.below(THINKS_US_MAX)));
                calls += 1;
            }
        }
    }

    /// A Clerk with several callers at once.
    fn calls_at_once(mut self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("files for a runtime").block_on(async {
            let clerk = tcp::Clerk::connect(self.servers());
            let caller = |number: usize| {
                let (clerk, recorder) = (clerk.clone(), Arc::clone(&self.recorder));
                let (client, prng) = (self.client, self.prng.fork());
                tokio::spawn(caller(clerk, recorder, client, prng, number.is_multiple_of(2)))
            };
            let callers: Vec<_> = (0..CALLERS).map(caller).collect();
            for caller in callers {
                caller.await.expect("a caller does not panic");
            }
        });
    }

    /// One connection after the other, without a client library.
    fn pipelines(mut self) {
        while !self.recorder.is_over() {
            let port = *self.prng.pick(&self.ports).expect("servers");
            let Ok(mut connection) = Connection::open(port, SILENCE_MAX) else { continue };
            let number = self.recorder.connection();
            for _ in 0..BURSTS_A_CONNECTION {
                std::thread::sleep(Duration::from_micros(self.prng.below(PLAIN_THINKS_US_MAX)));
                if self.recorder.is_over() {
                    return;
                }
                if self.burst(&mut connection, number).is_break() {
                    std::thread::sleep(Duration::from_micros(self.prng.below(DIALS_US_MAX)));
                    break;
                }
            }
        }
    }

    /// Some commands at once; breaks when the connection is of no more use. What has no answer then stays open.
    fn burst(&mut self, connection: &mut Connection, number: u64) -> ControlFlow<()> {
        let mut commands = Vec::new();
        let mut asked: Vec<(OperationId, Action)> = Vec::new();
        for _ in 0..self.prng.between(1, PIPELINE_MAX) {
            let (key, action) = self.recorder.next(self.client, Vocabulary::Plain, &mut self.prng);
            commands.push(words(&key, &action));
            asked.push((self.recorder.calls(self.client, number, key, action.clone()), action));
        }
        let mut is_broken = connection.send(&commands).is_err();
        for (id, action) in asked {
            match if is_broken { Ok(None) } else { connection.receive().map(Some) } {
                Ok(None) => self.recorder.never_returned(id),
                Ok(Some(frame)) => match answered(&action, &frame) {
                    Some(outcome) => self.recorder.returned(id, outcome),
                    None => {
                        let story = format!("{action} was answered {frame:?}");
                        self.recorder.complain(Violation::new("replies answer the question", story));
                    }
                },
                Err(error) => {
                    if error.kind() == io::ErrorKind::InvalidData {
                        self.recorder.complain(Violation::new("replies are well-formed", error.to_string()));
                    }
                    self.recorder.never_returned(id);
                    is_broken = true;
                }
            }
        }
        if is_broken {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}

async fn caller(clerk: tcp::Clerk, recorder: Arc<Recorder>, client: u32, mut prng: Prng, is_patient: bool) {
    while !recorder.is_over() {
        let patience = patience(is_patient, &mut prng);
        let (key, action) = recorder.next(client, Vocabulary::Clerk, &mut prng);
        let operation = operation(&key, &action);
        // Calls that overlap have no order among them.
        let id = recorder.calls(client, 0, key, action);
        let result = clerk.call(operation, patience).await;
        recorder.returned(id, told(result));
        tokio::time::sleep(Duration::from_micros(prng.below(THINKS_US_MAX))).await;
    }
}

fn patience(is_patient: bool, prng: &mut Prng) -> Duration {
    if is_patient { PATIENT } else { Duration::from_millis(prng.between(5, 1_500)) }
}

fn operation(key: &Bytes, action: &Action) -> Operation {
    let key = key.clone();
    match action.clone() {
        Action::Put { value, .. } => Operation::Write(Command::Put { key, value }),
        Action::Append { value } => Operation::Write(Command::Append { key, value }),
        Action::Delete { .. } => Operation::Write(Command::Delete { key }),
        Action::Get => Operation::Read(Query::Get { key }),
        Action::Length => unreachable!("no Clerk is asked for a length"),
    }
}

fn told(result: Result<Reply, Failure>) -> Outcome {
    match result {
        Ok(Reply::Ok) => Outcome::Ok,
        Ok(Reply::Length(length)) => Outcome::Integer(length as i64),
        Ok(Reply::Deleted(existed)) => Outcome::Integer(i64::from(existed)),
        Ok(Reply::Value(value)) => value.map_or(Outcome::Nil, Outcome::Value),
        Err(Failure::NotExecuted { .. }) => Outcome::NotExecuted,
        Err(Failure::InDoubt { .. }) => Outcome::Unknown,
    }
}

fn words(key: &Bytes, action: &Action) -> Vec<Bytes> {
    let word = Bytes::from_static;
    let key = key.clone();
    match action.clone() {
        Action::Put { value, condition, get } => {
            let condition = match condition {
                Condition::Always => None,
                Condition::IfAbsent => Some(word(b"NX")),
                Condition::IfPresent => Some(word(b"XX")),
            };
            let get = get.then(|| word(b"GET"));
            [word(b"SET"), key, value].into_iter().chain(condition).chain(get).collect()
        }
        Action::Append { value } => vec![word(b"APPEND"), key, value],
        Action::Delete { .. } => vec![word(b"DEL"), key],
        Action::Get => vec![word(b"GET"), key],
        Action::Length => vec![word(b"STRLEN"), key],
    }
}

/// What a reply to this means; `None` where it can mean nothing.
pub(crate) fn answered(action: &Action, frame: &Frame) -> Option<Outcome> {
    if let Frame::Error(text) = frame {
        let class = text.split(|byte| *byte == b' ').next().unwrap_or_default();
        return match class {
            b"INDOUBT" => Some(Outcome::Unknown),
            b"CLUSTERDOWN" | b"TRYAGAIN" => Some(Outcome::NotExecuted),
            _ => None,
        };
    }
    let is_value = matches!(action, Action::Get | Action::Put { get: true, .. });
    match (action, frame) {
        (Action::Put { get: false, .. }, Frame::Simple(text)) if text == "OK" => Some(Outcome::Ok),
        (
            Action::Put { condition: Condition::IfAbsent | Condition::IfPresent, .. } | Action::Get,
            Frame::Null,
        )
        | (Action::Put { get: true, .. }, Frame::Null) => Some(Outcome::Nil),
        (_, Frame::Bulk(value)) if is_value => Some(Outcome::Value(value.clone())),
        (Action::Append { .. } | Action::Delete { .. } | Action::Length, Frame::Integer(number)) => {
            Some(Outcome::Integer(*number))
        }
        _ => None,
    }
}
