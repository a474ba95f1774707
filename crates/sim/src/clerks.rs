//! A Clerk and its carrier: the client library's own pure machine on simulated connections, one to each server,
//! as its real carriers keep them.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use quorate_client::{self as client, AttemptId, CallId, Clerk, Event};
use quorate_replica::command::{
    Command, Condition, Operation, Query, Reply, ReplyError, Seq, SessionId, Write,
};

use crate::effects::{name_of, session_in};
use crate::history::{self, Action, OperationId, Outcome};
use crate::network::HostIndex;
use crate::options::Options;
use crate::prng::Prng;
use crate::said::Asked;
use crate::workload::Vocabulary;
use crate::world::{ClientIndex, Happening, World};

/// What kind of answer a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    Session,
    Put,
    Append,
    Delete,
    Get,
}

/// A Clerk with its application and its connections.
#[derive(Debug)]
pub struct ClerkClient {
    client: ClientIndex,
    clerk: Clerk,
    prng: Prng,
    depth: usize,
    impatient: f64,
    calls: BTreeMap<CallId, OperationId>,
    last_call: u64,
    /// When the application wants its next call.
    next_call_ms: u64,
    /// When the Clerk wants to be woken.
    wake_at_ms: Option<u64>,
    /// When it will be.
    scheduled_ms: u64,
    wires: BTreeMap<HostIndex, u64>,
    attempts: BTreeMap<(u64, u64), (AttemptId, Question)>,
    /// Calls to come, where somebody says which; where not, the workload does.
    script: Option<VecDeque<(Bytes, Action)>>,
}

/// Milliseconds that a scripted call waits: for ever, as far as a run goes.
const SCRIPTED_PATIENCE_MS: u64 = 600_000;

impl ClerkClient {
    /// A Clerk that has done nothing.
    pub fn new(client: ClientIndex, options: &Options, mut prng: Prng) -> Self {
        let mut servers: Vec<String> = (1..=options.hosts()).map(|id| format!("n{id}:1")).collect();
        prng.shuffle(&mut servers);
        let clerk = Clerk::new(client::Config::new(servers), prng.draw());
        let depth = if prng.chance(0.3) { prng.between(2, 4) as usize } else { 1 };
        Self {
            client,
            clerk,
            depth,
            impatient: options.workload.impatient,
            prng,
            calls: BTreeMap::new(),
            last_call: 0,
            next_call_ms: 0,
            wake_at_ms: None,
            scheduled_ms: 0,
            wires: BTreeMap::new(),
            attempts: BTreeMap::new(),
            script: None,
        }
    }

    /// A Clerk that knows these servers, and calls what it is told, one after the other.
    pub(crate) fn scripted(
        client: ClientIndex,
        options: &Options,
        servers: &[HostIndex],
        mut prng: Prng,
    ) -> Self {
        let mut servers: Vec<String> = servers.iter().map(|host| format!("n{}:1", host + 1)).collect();
        prng.shuffle(&mut servers);
        let clerk = Clerk::new(client::Config::new(servers), prng.draw());
        Self { clerk, depth: 1, script: Some(VecDeque::new()), ..Self::new(client, options, prng) }
    }

    /// Its process is gone; that of another Clerk begins, without any memory.
    pub(crate) fn replace(&mut self, world: &mut World) {
        let prng = self.prng.fork();
        *self = Self::new(self.client, &world.options, prng);
        self.schedule(world);
    }

    /// The calls to come of a scripted Clerk.
    pub(crate) fn script(&mut self) -> &mut VecDeque<(Bytes, Action)> {
        self.script.get_or_insert_default()
    }

    /// Whether a scripted Clerk has calls to come.
    pub(crate) fn has_script(&self) -> bool {
        self.script.as_ref().is_some_and(|script| !script.is_empty())
    }

    /// Whether there is a call to come and room for it.
    fn wants_call(&self, world: &World) -> bool {
        let is_told = self.script.as_ref().is_none_or(|script| !script.is_empty());
        is_told && world.has_work() && self.calls.len() < self.depth
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.calls.is_empty()
    }

    pub(crate) fn wake(&mut self, world: &mut World) {
        let now_ms = world.now() / 1_000;
        if self.wake_at_ms.is_some_and(|at_ms| at_ms <= now_ms) {
            self.step(world, Event::Tick);
        }
        if self.wants_call(world) && self.next_call_ms <= now_ms {
            self.call(world);
        }
        self.schedule(world);
    }

    /// Sees to it that the next thing to do is not slept through.
    fn schedule(&mut self, world: &mut World) {
        let now_ms = world.now() / 1_000;
        let call_ms = self.wants_call(world).then_some(self.next_call_ms);
        let Some(at_ms) = self.wake_at_ms.into_iter().chain(call_ms).min() else { return };
        let at_ms = at_ms.max(now_ms + 1);
        if self.scheduled_ms <= now_ms || at_ms < self.scheduled_ms {
            self.scheduled_ms = at_ms;
            world.schedule.at(at_ms * 1_000, Happening::ClientWakes { client: self.client });
        }
    }

    fn call(&mut self, world: &mut World) {
        let told = self.script.as_mut().map(|script| script.pop_front().expect("there is a call to come"));
        let is_told = told.is_some();
        let (key, action) =
            told.unwrap_or_else(|| world.workload.next(self.client as u32, Vocabulary::Clerk));
        let operation = operation(&key, &action);
        let now_ms = world.now() / 1_000;
        let patience_ms = match is_told {
            true => SCRIPTED_PATIENCE_MS,
            false if self.prng.chance(self.impatient) => self.prng.between(5, 500),
            false => 20_000,
        };
        self.last_call += 1;
        let call = CallId(self.last_call);
        if world.trace.is_on() {
            world.line(format_args!("c{} calls {} {action}", self.client, key.escape_ascii()));
        }
        let now = world.now();
        let id = world.history.call(now, self.client as u32, 0, key, action);
        self.calls.insert(call, id);
        self.next_call_ms = now_ms + world.workload.think() / 1_000;
        self.step(world, Event::Call { call, operation, deadline_ms: now_ms + patience_ms });
    }

    fn step(&mut self, world: &mut World, event: Event) {
        let actions = self.clerk.step(world.now() / 1_000, event);
        self.wake_at_ms = actions.wake_at_ms;
        for action in actions.list {
            match action {
                client::Action::Send { attempt, server, request } => {
                    self.send(world, attempt, &server, &request);
                }
                client::Action::Suspect { server, .. } => self.suspect(world, &server),
                client::Action::Finish { call, outcome } => self.finish(world, call, outcome),
            }
        }
        self.schedule(world);
    }

    fn send(&mut self, world: &mut World, attempt: AttemptId, server: &str, request: &client::Request) {
        let host = host_named(server);
        let wire = match self.wires.get(&host) {
            Some(wire) => *wire,
            None => {
                let wire = world.dial(self.client, host);
                self.wires.insert(host, wire);
                wire
            }
        };
        if world.trace.is_on() {
            world.line(format_args!("c{} → {server} {}", self.client, Asked(request)));
        }
        let (question, operation) = translated(request);
        if let Some(Operation::Write(Write::Once {
            session, seq, command: Command::Delete { keys }, ..
        })) = &operation
        {
            self.name_delete(world, &keys[0], name_of(session.key, *seq));
        }
        let tag = operation.and_then(|operation| world.ask(wire, operation));
        match tag {
            Some(tag) => {
                self.attempts.insert((wire, tag), (attempt, question));
            }
            None => {
                // A session of another cluster: the server answers by itself, before the replica.
                let response = response(question, &Reply::Error(ReplyError::SessionExpired));
                self.step(world, Event::Answered { attempt, response });
            }
        }
    }

    /// A deletion carries no token, so it is known by its place in its session. Deletions of one key are sent in
    /// the order of their calls.
    fn name_delete(&self, world: &mut World, key: &Bytes, name: Bytes) {
        let deletes = self.calls.values().filter(|id| {
            let history::Operation { key: deleted, action, .. } = world.history.get(**id);
            deleted == key && matches!(action, Action::Delete { .. })
        });
        let deletes: Vec<OperationId> = deletes.copied().collect();
        if deletes.iter().any(|id| world.history.get(*id).token.as_ref() == Some(&name)) {
            return;
        }
        // One with a name of another session is sent anew, under a new one: its first place never ran.
        let session = session_in(&name);
        let is_named_here = |id: &OperationId| {
            world.history.get(*id).token.as_ref().is_some_and(|token| session_in(token) == session)
        };
        if let Some(id) = deletes.iter().find(|id| !is_named_here(id)) {
            world.history.name(*id, name);
        }
    }

    /// A connection on which nothing has come is dialled anew by the next send; what is open on the old one may
    /// still be answered there.
    fn suspect(&mut self, world: &mut World, server: &str) {
        if self.prng.chance(0.5) {
            self.wires.remove(&host_named(server));
        } else if let Some(wire) = self.wires.get(&host_named(server)).copied() {
            world.hang_up(wire);
            self.ended(world, wire, |attempt| Event::Lost { attempt });
        }
    }

    fn finish(&mut self, world: &mut World, call: CallId, outcome: Result<client::Reply, client::Failure>) {
        let outcome = match outcome {
            Ok(client::Reply::Ok) => Outcome::Ok,
            Ok(client::Reply::Length(length)) => Outcome::Integer(length as i64),
            Ok(client::Reply::Deleted(any)) => Outcome::Integer(i64::from(any)),
            Ok(client::Reply::Value(None)) => Outcome::Nil,
            Ok(client::Reply::Value(Some(value))) => Outcome::Value(value),
            Err(client::Failure::NotExecuted { .. }) => Outcome::NotExecuted,
            Err(client::Failure::InDoubt { .. }) => Outcome::Unknown,
        };
        let Some(id) = self.calls.remove(&call) else { return };
        if world.trace.is_on() {
            world.line(format_args!("c{} ← {outcome}", self.client));
        }
        let now = world.now();
        world.history.returned(now, id, outcome);
    }

    pub(crate) fn answered(&mut self, world: &mut World, wire: u64, tag: u64, reply: &Reply) {
        let Some((attempt, question)) = self.attempts.remove(&(wire, tag)) else { return };
        let response = response(question, reply);
        self.step(world, Event::Answered { attempt, response });
    }

    pub(crate) fn refused(&mut self, world: &mut World, wire: u64) {
        let reason = client::Unsent::ConnectionRefused;
        self.ended(world, wire, |attempt| Event::Unsent { attempt, reason });
    }

    pub(crate) fn lost(&mut self, world: &mut World, wire: u64) {
        self.ended(world, wire, |attempt| Event::Lost { attempt });
    }

    fn ended(&mut self, world: &mut World, wire: u64, event: impl Fn(AttemptId) -> Event) {
        self.wires.retain(|_, open| *open != wire);
        let open = self.attempts.range((wire, 0)..=(wire, u64::MAX)).map(|(key, _)| *key);
        for key in open.collect::<Vec<_>>() {
            if let Some((attempt, _)) = self.attempts.remove(&key) {
                self.step(world, event(attempt));
            }
        }
    }
}

fn host_named(server: &str) -> HostIndex {
    let digits: String = server.chars().filter(char::is_ascii_digit).collect();
    // "n3:1"
    digits[..1].parse::<usize>().expect("a server of this simulation") - 1
}

fn operation(key: &Bytes, action: &Action) -> client::Operation {
    let key = key.clone();
    match action.clone() {
        Action::Put { value, .. } => client::Operation::Write(client::Command::Put { key, value }),
        Action::Append { value } => client::Operation::Write(client::Command::Append { key, value }),
        Action::Delete { .. } => client::Operation::Write(client::Command::Delete { key }),
        Action::Get | Action::Length => client::Operation::Read(client::Query::Get { key }),
    }
}

/// What a server makes of a Clerk's request; nothing where it answers without its replica.
fn translated(request: &client::Request) -> (Question, Option<Operation>) {
    match request {
        client::Request::OpenSession { ttl_ms } => {
            (Question::Session, Some(Operation::Write(Write::OpenSession { ttl_ms: *ttl_ms })))
        }
        client::Request::CloseSession { session } => {
            let close = session_of(session).map(|session| Operation::Write(Write::CloseSession { session }));
            (Question::Session, close)
        }
        client::Request::Read(client::Query::Get { key }) => {
            (Question::Get, Some(Operation::Read(Query::Get { key: key.clone() })))
        }
        client::Request::Once { session, sequence, acknowledged, command } => {
            let (question, command) = match command.clone() {
                client::Command::Put { key, value } => {
                    (Question::Put, Command::Put { key, value, condition: Condition::Always, get: false })
                }
                client::Command::Append { key, value } => (Question::Append, Command::Append { key, value }),
                client::Command::Delete { key } => (Question::Delete, Command::Delete { keys: vec![key] }),
            };
            let write = session_of(session).map(|session| {
                let (seq, acknowledged) = (Seq(*sequence), Seq(*acknowledged));
                Operation::Write(Write::Once { session, seq, acknowledged, command })
            });
            (question, write)
        }
    }
}

fn session_of(session: &client::SessionId) -> Option<SessionId> {
    std::str::from_utf8(&session.0).ok()?.parse().ok()
}

/// What a Clerk reads in a server's answer.
fn response(question: Question, reply: &Reply) -> client::Response {
    let reply = match (question, reply) {
        (_, Reply::Error(error)) => {
            return client::Response::Refused(client::Refusal::parse(&error.to_string()));
        }
        (_, Reply::Session(session)) => {
            return client::Response::Session(client::SessionId(Bytes::from(session.to_string())));
        }
        (Question::Append, Reply::Integer(length)) => client::Reply::Length(*length as u64),
        (Question::Delete, Reply::Integer(count)) => client::Reply::Deleted(*count > 0),
        (_, Reply::Value(value)) => client::Reply::Value(Some(Bytes::copy_from_slice(&value.to_bytes()))),
        (_, Reply::Nil) => client::Reply::Value(None),
        (_, Reply::Ok | Reply::Integer(_) | Reply::Values(_) | Reply::Members(_)) => client::Reply::Ok,
    };
    client::Response::Reply(reply)
}
