//! A Clerk against a model of the cluster and a network that loses, delays, repeats and reorders: what it says of a
//! call is what happened to it.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use quorate_client::{
    Action, Actions, AttemptId, CallId, Clerk, Command, Config, Event, Failure, Operation, Query, Refusal,
    Reply, Request, Response, SessionId, Unsent,
};

const WINDOW: u64 = 3;
const CALLS_MAX: u64 = 8;
const REFUSALS: [&str; 7] = [
    "MOVED 0 b:1",
    "MOVED 0 d:1",
    "CLUSTERDOWN no leader",
    "TRYAGAIN overloaded",
    "OOM memory",
    "ERR no",
    "NOAUTH no",
];

/// What the servers agree on: one copy, and a table of sessions that runs a sequence at most once.
#[derive(Default)]
struct Cluster {
    sessions: BTreeMap<Bytes, Table>,
    opened: u64,
    /// The call of each command that was executed, in order; a call is known by the value it writes.
    executed: Vec<u64>,
}

#[derive(Default)]
struct Table {
    floor: u64,
    replies: BTreeMap<u64, (Command, Reply)>,
}

fn refused(text: &str) -> Response {
    Response::Refused(Refusal::parse(text))
}

impl Cluster {
    fn apply(&mut self, request: &Request) -> Response {
        match request {
            Request::OpenSession { .. } => {
                self.opened += 1;
                let id = Bytes::from(format!("s{}", self.opened));
                self.sessions.insert(id.clone(), Table::default());
                Response::Session(SessionId(id))
            }
            Request::Read(Query::Get { .. }) => Response::Reply(Reply::Value(None)),
            Request::CloseSession { session: SessionId(session) } => {
                self.sessions.remove(session);
                Response::Reply(Reply::Ok)
            }
            Request::Once { session: SessionId(session), sequence, acknowledged, command } => {
                self.once(session, *sequence, *acknowledged, command)
            }
        }
    }

    fn once(&mut self, session: &Bytes, sequence: u64, acknowledged: u64, command: &Command) -> Response {
        assert!(acknowledged < sequence, "an acknowledged sequence is sent");
        let Some(table) = self.sessions.get_mut(session) else { return refused("SESSIONEXPIRED") };
        if sequence <= table.floor {
            return refused("STALESEQ");
        }
        table.floor = table.floor.max(acknowledged);
        table.replies = table.replies.split_off(&(table.floor + 1));
        if let Some((recorded, reply)) = table.replies.get(&sequence) {
            assert_eq!(recorded, command, "a sequence was used for another command");
            return Response::Reply(reply.clone());
        }
        if sequence > table.floor + WINDOW {
            return refused("TRYAGAIN window");
        }
        let reply = match command {
            Command::Put { value, .. } => {
                self.executed.push(call_of(value));
                Reply::Ok
            }
            Command::Append { value, .. } => {
                self.executed.push(call_of(value));
                Reply::Length(self.executed.len() as u64)
            }
            Command::Delete { .. } => unreachable!("the test writes values only"),
        };
        table.replies.insert(sequence, (command.clone(), reply.clone()));
        Response::Reply(reply)
    }
}

fn call_of(value: &Bytes) -> u64 {
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).expect("the number of a call")
}

/// A request under way. A ghost has no one left to answer to, and may arrive all the same.
struct Message {
    attempt: Option<AttemptId>,
    request: Request,
}

/// What became of a call.
struct Fate {
    begun_at: usize,
    ended_at: Option<usize>,
    outcome: Option<Result<Reply, Failure>>,
    is_write: bool,
}

struct World {
    clerk: Clerk,
    cluster: Cluster,
    now_ms: u64,
    wake_at_ms: Option<u64>,
    requests: Vec<Message>,
    events: Vec<Event>,
    fates: BTreeMap<u64, Fate>,
    moment: usize,
    trace: Vec<Actions>,
}

impl World {
    fn new() -> Self {
        let config = Config { window: WINDOW, ..Config::new(["a:1", "b:1", "c:1"]) };
        Self {
            clerk: Clerk::new(config, 1),
            cluster: Cluster::default(),
            now_ms: 0,
            wake_at_ms: None,
            requests: Vec::new(),
            events: Vec::new(),
            fates: BTreeMap::new(),
            moment: 0,
            trace: Vec::new(),
        }
    }

    fn step(&mut self, event: Event) {
        self.moment += 1;
        let actions = self.clerk.step(self.now_ms, event);
        self.trace.push(actions.clone());
        self.wake_at_ms = actions.wake_at_ms;
        for action in actions.list {
            match action {
                Action::Send { attempt, request, .. } => {
                    self.requests.push(Message { attempt: Some(attempt), request });
                }
                Action::Suspect { .. } => {}
                Action::Finish { call: CallId(call), outcome } => {
                    let fate = self.fates.get_mut(&call).expect("a call that was begun");
                    assert!(fate.outcome.is_none(), "a call ends once");
                    fate.outcome = Some(outcome);
                    fate.ended_at = Some(self.moment);
                }
            }
        }
    }

    /// One thing happens; `choice` says which.
    fn happen(&mut self, choice: u32) {
        let (what, how) = (choice % 16, (choice / 16) as usize);
        match what {
            0 | 1 => self.call(how),
            2..=8 if !self.requests.is_empty() => {
                let message = self.requests.remove(how % self.requests.len());
                self.arrive(message, how / 16);
            }
            9..=12 if !self.events.is_empty() => {
                let event = self.events.remove(how % self.events.len());
                self.step(event);
            }
            13 if how.is_multiple_of(4) => self.cluster.sessions.clear(),
            _ => {
                if let Some(wake_at_ms) = self.wake_at_ms {
                    self.now_ms = wake_at_ms;
                    self.step(Event::Tick);
                }
            }
        }
    }

    fn call(&mut self, how: usize) {
        let call = self.fates.len() as u64 + 1;
        if call > CALLS_MAX {
            return;
        }
        let (key, value) = (Bytes::from_static(b"k"), Bytes::from(call.to_string()));
        let operation = match how % 6 {
            0 | 1 => Operation::Write(Command::Put { key, value }),
            2 | 3 => Operation::Write(Command::Append { key, value }),
            4 => Operation::Close,
            _ => Operation::Read(Query::Get { key }),
        };
        let is_write = matches!(operation, Operation::Write(_));
        self.fates.insert(call, Fate { begun_at: self.moment + 1, ended_at: None, outcome: None, is_write });
        let deadline_ms = self.now_ms + [5, 500, 5_000, 50_000][how / 6 % 4];
        self.step(Event::Call { call: CallId(call), operation, deadline_ms });
    }

    /// A request meets its fate. Every answer that promises "not executed" keeps its promise for this send.
    fn arrive(&mut self, message: Message, fate: usize) {
        let Message { attempt, request } = message;
        let Some(attempt) = attempt else {
            self.cluster.apply(&request);
            return;
        };
        let ghost = Message { attempt: None, request: request.clone() };
        match fate % 12 {
            0 => {}
            1 => self.events.push(Event::Lost { attempt }),
            2 => self.events.push(Event::Unsent { attempt, reason: Unsent::ConnectionRefused }),
            3 => self.events.push(Event::Unsent { attempt, reason: Unsent::Unreachable }),
            4 | 5 => {
                let response = refused(REFUSALS[fate / 12 % REFUSALS.len()]);
                self.events.push(Event::Answered { attempt, response });
            }
            6 => {
                self.requests.push(ghost);
                self.events.push(Event::Answered { attempt, response: refused("INDOUBT") });
            }
            7 => {
                self.requests.push(ghost);
                self.events.push(Event::Lost { attempt });
            }
            8 => {
                self.cluster.apply(&request);
                self.events.push(Event::Lost { attempt });
            }
            9 => {
                let response = self.cluster.apply(&request);
                // A refusal that was given must stay true: no ghost of it runs.
                if !matches!(response, Response::Refused(_)) {
                    self.requests.push(ghost);
                }
                self.events.push(Event::Answered { attempt, response });
            }
            _ => {
                let response = self.cluster.apply(&request);
                self.events.push(Event::Answered { attempt, response });
            }
        }
    }

    /// Every call comes to its end, and then every request that is still under way arrives.
    fn end(&mut self) {
        while self.clerk.unfinished() > 0 {
            self.now_ms = self.wake_at_ms.expect("an unfinished call has a deadline");
            self.step(Event::Tick);
        }
        for message in std::mem::take(&mut self.requests) {
            self.cluster.apply(&message.request);
        }
        for event in std::mem::take(&mut self.events) {
            self.step(event);
        }
    }

    fn check(&self) {
        let places = |call: u64| {
            let executed = self.cluster.executed.iter().enumerate();
            executed.filter(move |(_, executed)| **executed == call).map(|(place, _)| place)
        };
        for (call, fate) in &self.fates {
            let times = places(*call).count();
            let outcome = fate.outcome.as_ref().expect("every call has ended");
            let allowed = match outcome {
                Ok(_) if fate.is_write => 1..=1,
                Ok(_) | Err(Failure::NotExecuted { .. }) => 0..=0,
                Err(Failure::InDoubt { .. }) => {
                    assert!(fate.is_write, "only a write is ever in doubt");
                    0..=1
                }
            };
            assert!(allowed.contains(&times), "call {call} was executed {times} times: {outcome:?}");
            if let Ok(Reply::Length(length)) = outcome {
                assert_eq!(
                    Some(*length as usize),
                    places(*call).next().map(|place| place + 1),
                    "call {call}"
                );
            }
            for (later, later_fate) in self.fates.range(call + 1..) {
                if self.is_bound_to_precede(fate, later_fate, *later) {
                    let in_order = places(*call).all(|place| places(*later).all(|after| place < after));
                    assert!(in_order, "call {later} began after call {call} had ended, and ran before it");
                }
            }
        }
    }

    /// A call that has its result runs before all that begin after it. One in doubt does so if nothing older was in
    /// flight by then: the next send acknowledges it, and it runs before that or never.
    fn is_bound_to_precede(&self, fate: &Fate, later_fate: &Fate, later: u64) -> bool {
        let has_ended = |fate: &Fate| fate.ended_at.is_some_and(|ended_at| ended_at < later_fate.begun_at);
        let older_have_ended = || self.fates.range(..later).all(|(_, older)| has_ended(older));
        has_ended(fate) && (matches!(fate.outcome, Some(Ok(_))) || older_have_ended())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]

    #[test]
    fn what_a_clerk_says_of_a_call_is_what_happened_to_it(script in prop::collection::vec(any::<u32>(), 0..300)) {
        let mut world = World::new();
        for choice in script {
            world.happen(choice);
        }
        world.end();
        world.check();
    }

    #[test]
    fn the_same_events_give_the_same_actions(script in prop::collection::vec(any::<u32>(), 0..100)) {
        let trace = || {
            let mut world = World::new();
            for choice in &script {
                world.happen(*choice);
            }
            world.end();
            world.trace
        };
        prop_assert_eq!(trace(), trace());
    }
}

/// The test above would prove little if most calls never came to anything.
#[test]
fn the_model_sees_every_kind_of_outcome() {
    let mut seen = [0; 3];
    let mut state = 1_u64;
    for _ in 0..200 {
        let mut world = World::new();
        for _ in 0..150 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            world.happen((state >> 32) as u32);
        }
        world.end();
        world.check();
        for fate in world.fates.values().filter(|fate| fate.is_write) {
            seen[match fate.outcome.as_ref().unwrap() {
                Ok(_) => 0,
                Err(Failure::NotExecuted { .. }) => 1,
                Err(Failure::InDoubt { .. }) => 2,
            }] += 1;
        }
    }
    assert!(seen.iter().all(|count| *count > 50), "done, not executed, in doubt: {seen:?}");
}
