//! A plain client: one connection to one server, commands sent without waiting. When the connection ends, the
//! outcome of all that was not answered is unknown, and it is never sent again.

use std::collections::VecDeque;

use bytes::Bytes;
use quorate_replica::command::{Command, Operation, Query, Reply, Write};

use crate::history::{Action, OperationId, Outcome};
use crate::invariants::Violation;
use crate::network::HostIndex;
use crate::options::Options;
use crate::prng::Prng;
use crate::schedule::{MS, Micros, SECOND};
use crate::workload::Vocabulary;
use crate::world::{ClientIndex, Happening, World};

/// Silence after which a client gives its connection up; longer than a server holds and doubts a request.
const PATIENCE: Micros = 12 * SECOND;

/// A pipeline carries many operations, so it comes less often than a single call of a Clerk.
const THOUGHTS_A_PIPELINE: u64 = 4;

/// A plain client.
#[derive(Debug)]
pub struct Pipeliner {
    client: ClientIndex,
    depth: usize,
    prng: Prng,
    wire: Option<u64>,
    host: HostIndex,
    hosts: u64,
    outstanding: VecDeque<(u64, OperationId, Micros)>,
}

impl Pipeliner {
    /// A client that has not dialled.
    pub fn new(client: ClientIndex, options: &Options, prng: Prng) -> Self {
        let depth = options.workload.pipeline_depth as usize;
        Self {
            client,
            depth,
            prng,
            wire: None,
            host: 0,
            hosts: options.hosts(),
            outstanding: VecDeque::new(),
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.outstanding.is_empty()
    }

    pub(crate) fn wake(&mut self, world: &mut World) {
        let think = world.workload.think() * THOUGHTS_A_PIPELINE;
        world.schedule.after(think.max(MS), Happening::ClientWakes { client: self.client });
        let oldest = self.outstanding.front().map(|(_, _, at)| *at);
        if let (Some(wire), Some(at)) = (self.wire, oldest)
            && world.now() > at + PATIENCE
        {
            world.hang_up(wire);
            self.forget();
        }
        if !world.has_work() {
            return;
        }
        let wire = match self.wire {
            Some(wire) => wire,
            None => {
                self.host = self.prng.below(self.hosts) as HostIndex;
                *self.wire.insert(world.dial(self.client, self.host))
            }
        };
        let room = self.depth.saturating_sub(self.outstanding.len()) as u64;
        for _ in 0..self.prng.between(0, room) {
            if !world.has_work() {
                break;
            }
            let (key, action) = world.workload.next(self.client as u32, Vocabulary::Plain);
            self.ask(world, wire, key, action);
        }
    }

    /// Asks this at once, of this server if there is no connection yet.
    pub(crate) fn submit(&mut self, world: &mut World, host: HostIndex, key: Bytes, action: Action) {
        let wire = match self.wire {
            Some(wire) => wire,
            None => {
                self.host = host;
                *self.wire.insert(world.dial(self.client, host))
            }
        };
        self.ask(world, wire, key, action);
    }

    fn ask(&mut self, world: &mut World, wire: u64, key: Bytes, action: Action) {
        let operation = operation(&key, &action);
        let now = world.now();
        if world.trace.is_on() {
            let (client, host) = (self.client, self.host + 1);
            world.line(format_args!("c{client} → n{host} {} {action}", key.escape_ascii()));
        }
        let id = world.history.call(now, self.client as u32, wire, key, action);
        if let Some(tag) = world.ask(wire, operation) {
            self.outstanding.push_back((tag, id, now));
        }
    }

    pub(crate) fn answered(
        &mut self,
        world: &mut World,
        wire: u64,
        tag: u64,
        reply: &Reply,
    ) -> Result<(), Violation> {
        if self.wire != Some(wire) {
            return Ok(());
        }
        let Some((expected, id, _)) = self.outstanding.pop_front().filter(|(expected, ..)| *expected == tag)
        else {
            let story = format!("c{} was answered #{tag} out of turn", self.client);
            return Err(Violation { invariant: "answers in order", story });
        };
        let outcome = Outcome::of(reply);
        if world.trace.is_on() {
            world.line(format_args!("c{} ← #{expected} {outcome}", self.client));
        }
        let now = world.now();
        world.history.returned(now, id, outcome);
        Ok(())
    }

    /// Nothing has left: what was asked did not happen.
    pub(crate) fn refused(&mut self, world: &mut World, wire: u64) {
        if self.wire == Some(wire) {
            let now = world.now();
            for (_, id, _) in &self.outstanding {
                world.history.returned(now, *id, Outcome::NotExecuted);
            }
            self.forget();
        }
    }

    pub(crate) fn lost(&mut self, world: &mut World, wire: u64) {
        if self.wire == Some(wire) {
            world.line(format_args!(
                "c{} lost its connection, {} unknown",
                self.client,
                self.outstanding.len()
            ));
            self.forget();
        }
    }

    pub(crate) fn forget(&mut self) {
        self.wire = None;
        self.outstanding.clear();
    }
}

fn operation(key: &Bytes, action: &Action) -> Operation {
    let key = key.clone();
    let plain = |command| Operation::Write(Write::Plain(command));
    match action.clone() {
        Action::Put { value, condition, get } => plain(Command::Put { key, value, condition, get }),
        Action::Append { value } => plain(Command::Append { key, value }),
        Action::Delete { token } => plain(Command::Delete { keys: [key].into_iter().chain(token).collect() }),
        Action::Get => Operation::Read(Query::Get { key }),
        Action::Length => Operation::Read(Query::Length { key }),
    }
}
