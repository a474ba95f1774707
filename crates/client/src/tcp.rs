//! The Clerk over TCP, for programs that run on tokio. Must not decide anything: it is the clock, the seed and the
//! sockets of the pure Clerk.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use crate::clerk::Clerk as Machine;
use crate::connection::{self, Order};
use crate::event::{Action, Actions, CallId, Config, Event};
use crate::message::{Command, Failure, Operation, Query, Reply, Why};

/// Puts, appends, gets and deletes on a cluster, each exactly once or with an honest error.
///
/// Cheap to clone; all clones share one session and one connection to each server. Calls that are awaited one after
/// the other take effect in that order; calls that overlap have none among them. A call whose future is dropped goes
/// on to its end.
///
/// The work is done by a task of the runtime on which the Clerk was made; it ends with the last clone.
#[derive(Debug, Clone)]
pub struct Clerk {
    asks: UnboundedSender<Ask>,
}

struct Ask {
    operation: Operation,
    timeout: Duration,
    answer: oneshot::Sender<Result<Reply, Failure>>,
}

impl Clerk {
    /// A Clerk for the cluster of these servers, each as host and port. Nothing is dialled before the first call.
    ///
    /// # Panics
    /// If no server is named, or outside of a tokio runtime.
    #[must_use]
    pub fn connect<S: Into<String>>(servers: impl IntoIterator<Item = S>) -> Self {
        Self::with_config(Config::new(servers))
    }

    /// A Clerk that is set otherwise than by default.
    ///
    /// # Panics
    /// If no server is named, or outside of a tokio runtime.
    #[must_use]
    pub fn with_config(config: Config) -> Self {
        let (asks, inbox) = unbounded_channel();
        tokio::spawn(Driver::new(config, inbox).run());
        Self { asks }
    }

    /// Sets a value.
    ///
    /// # Errors
    /// It did not run, or it may have: the failure says which.
    pub async fn put(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
        timeout: Duration,
    ) -> Result<(), Failure> {
        let command = Command::Put { key: key.into(), value: value.into() };
        self.call(Operation::Write(command), timeout).await.map(|_| ())
    }

    /// Adds to the end of a value; the length after it, in bytes.
    ///
    /// # Errors
    /// It did not run, or it may have: the failure says which.
    pub async fn append(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
        timeout: Duration,
    ) -> Result<u64, Failure> {
        let command = Command::Append { key: key.into(), value: value.into() };
        match self.call(Operation::Write(command), timeout).await? {
            Reply::Length(length) => Ok(length),
            Reply::Ok | Reply::Deleted(_) | Reply::Value(_) => {
                unreachable!("the Clerk matches replies to operations")
            }
        }
    }

    /// Removes a value; whether there was one.
    ///
    /// # Errors
    /// It did not run, or it may have: the failure says which.
    pub async fn delete(&self, key: impl Into<Bytes>, timeout: Duration) -> Result<bool, Failure> {
        match self.call(Operation::Write(Command::Delete { key: key.into() }), timeout).await? {
            Reply::Deleted(existed) => Ok(existed),
            Reply::Ok | Reply::Length(_) | Reply::Value(_) => {
                unreachable!("the Clerk matches replies to operations")
            }
        }
    }

    /// Reads a value.
    ///
    /// # Errors
    /// No server answered within the time, or one refused for good.
    pub async fn get(&self, key: impl Into<Bytes>, timeout: Duration) -> Result<Option<Bytes>, Failure> {
        match self.call(Operation::Read(Query::Get { key: key.into() }), timeout).await? {
            Reply::Value(value) => Ok(value),
            Reply::Ok | Reply::Length(_) | Reply::Deleted(_) => {
                unreachable!("the Clerk matches replies to operations")
            }
        }
    }

    /// Ends the session, so that the cluster may forget it: a short-lived program does so before it exits. Where a write
    /// is under way or in doubt nothing happens.
    ///
    /// # Errors
    /// The session stays until it expires.
    pub async fn close(&self, timeout: Duration) -> Result<(), Failure> {
        self.call(Operation::Close, timeout).await.map(|_| ())
    }

    /// Any operation.
    ///
    /// # Errors
    /// It did not run, or it may have: the failure says which.
    pub async fn call(&self, operation: Operation, timeout: Duration) -> Result<Reply, Failure> {
        let (answer, outcome) = oneshot::channel();
        if self.asks.send(Ask { operation, timeout, answer }).is_err() {
            return Err(Failure::NotExecuted { why: Why::Closed });
        }
        // The runtime went down with the call under way.
        outcome.await.unwrap_or(Err(Failure::InDoubt { why: Why::Closed }))
    }
}

/// The task behind all clones of one Clerk: the only place that waits.
struct Driver {
    machine: Machine,
    inbox: UnboundedReceiver<Ask>,
    reports: UnboundedSender<Event>,
    events: UnboundedReceiver<Event>,
    connections: BTreeMap<Arc<str>, UnboundedSender<Order>>,
    answers: BTreeMap<CallId, oneshot::Sender<Result<Reply, Failure>>>,
    last_call: u64,
    dial_timeout: Duration,
    begun: Instant,
    wake_at_ms: Option<u64>,
}

impl Driver {
    fn new(config: Config, inbox: UnboundedReceiver<Ask>) -> Self {
        let (reports, events) = unbounded_channel();
        Self {
            // Shorter than the Clerk's patience, so that what was never sent is known as such before it turns away.
            dial_timeout: Duration::from_millis((config.try_timeout_ms - config.try_timeout_ms / 10).max(1)),
            machine: Machine::new(config, seed()),
            inbox,
            reports,
            events,
            connections: BTreeMap::new(),
            answers: BTreeMap::new(),
            last_call: 0,
            begun: now(),
            wake_at_ms: None,
        }
    }

    async fn run(mut self) {
        while let Some(event) = self.wait().await {
            let actions = self.machine.step(self.now_ms(), event);
            self.perform(actions);
        }
    }

    /// The next event; `None` once the last clone is gone.
    async fn wait(&mut self) -> Option<Event> {
        let wake_at = self.begun + Duration::from_millis(self.wake_at_ms.unwrap_or_default());
        let ask = tokio::select! {
            biased;
            event = self.events.recv() => return event,
            ask = self.inbox.recv() => ask?,
            () = sleep_until(wake_at), if self.wake_at_ms.is_some() => return Some(Event::Tick),
        };
        self.last_call += 1;
        let call = CallId(self.last_call);
        self.answers.insert(call, ask.answer);
        let timeout_ms = u64::try_from(ask.timeout.as_millis()).unwrap_or(u64::MAX);
        let deadline_ms = self.now_ms().saturating_add(timeout_ms);
        Some(Event::Call { call, operation: ask.operation, deadline_ms })
    }

    fn perform(&mut self, actions: Actions) {
        self.wake_at_ms = actions.wake_at_ms;
        for action in actions.list {
            match action {
                Action::Send { attempt, server, request } => {
                    self.order(server, Order::Send { attempt, request });
                }
                Action::Suspect { attempt, server } => {
                    if let Some(connection) = self.connections.get(&server) {
                        // A connection that has ended is suspected of nothing.
                        drop(connection.send(Order::Suspect { attempt }));
                    }
                }
                Action::Finish { call, outcome } => {
                    let answer = self.answers.remove(&call).expect("a call ends once");
                    // Who no longer waits is not told.
                    drop(answer.send(outcome));
                }
            }
        }
    }

    /// Hands an order to the connection with that server, a new one if it has ended.
    fn order(&mut self, server: Arc<str>, order: Order) {
        let order = match self.connections.get(&server) {
            None => order,
            Some(connection) => match connection.send(order) {
                Ok(()) => return,
                Err(unsent) => unsent.0,
            },
        };
        let (orders, inbox) = unbounded_channel();
        drop(orders.send(order));
        tokio::spawn(connection::run(server.clone(), self.dial_timeout, inbox, self.reports.clone()));
        self.connections.insert(server, orders);
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(now().duration_since(self.begun).as_millis()).unwrap_or(u64::MAX)
    }
}

#[expect(clippy::disallowed_methods, reason = "a carrier is the clock of its Clerk")]
fn now() -> Instant {
    Instant::now()
}

/// Only pauses are drawn from it: without entropy two Clerks may keep in step, and nothing worse.
#[expect(clippy::disallowed_methods, reason = "a carrier draws the seed of its Clerk")]
fn seed() -> u64 {
    getrandom::u64().unwrap_or_default()
}
