//! All clients of a run behind one face: Clerks, plain connections that pipeline, and takers of backups. What they do is in
//! `clerks`, `pipeliners` and `backups`.

use quorate_replica::command::Reply;

use crate::backups::BackupTaker;
use crate::clerks::ClerkClient;
use crate::invariants::Violation;
use crate::options::Options;
use crate::pipeliners::Pipeliner;
use crate::prng::Prng;
use crate::world::{ClientIndex, Happening, Phase, World};

/// One client.
#[derive(Debug)]
pub enum Client {
    /// A Clerk and its carrier.
    Clerk(Box<ClerkClient>),
    /// A plain connection.
    Pipeliner(Pipeliner),
    /// One that takes backups.
    Backups(BackupTaker),
    /// It is acting at this moment.
    Acting,
}

impl Client {
    /// The clients of a run.
    pub fn all(options: &Options, prng: &mut Prng) -> Vec<Self> {
        let mut clients = Vec::new();
        for _ in 0..options.workload.clerks {
            let client = clients.len();
            clients.push(Self::Clerk(Box::new(ClerkClient::new(client, options, prng.fork()))));
        }
        for _ in 0..options.workload.pipeliners {
            let client = clients.len();
            clients.push(Self::Pipeliner(Pipeliner::new(client, options, prng.fork())));
        }
        for _ in 0..options.workload.backups {
            let client = clients.len();
            clients.push(Self::Backups(BackupTaker::new(client, options, prng.fork())));
        }
        clients
    }

    fn wake(&mut self, world: &mut World) {
        match self {
            Self::Clerk(clerk) => clerk.wake(world),
            Self::Pipeliner(pipeliner) => pipeliner.wake(world),
            Self::Backups(taker) => taker.wake(world),
            Self::Acting => {}
        }
    }

    /// It is gone, whatever it was doing; nobody will ever hear what came of that. Another begins in its place.
    pub fn replace(&mut self, world: &mut World) {
        match self {
            Self::Clerk(clerk) => clerk.replace(world),
            Self::Pipeliner(pipeliner) => pipeliner.forget(),
            Self::Backups(taker) => taker.forget(),
            Self::Acting => {}
        }
    }

    /// An answer has arrived.
    ///
    /// # Errors
    /// If it is none to the question.
    pub fn answered(
        &mut self,
        world: &mut World,
        wire: u64,
        tag: u64,
        reply: &Reply,
    ) -> Result<(), Violation> {
        match self {
            Self::Clerk(clerk) => {
                clerk.answered(world, wire, tag, reply);
                Ok(())
            }
            Self::Pipeliner(pipeliner) => pipeliner.answered(world, wire, tag, reply),
            Self::Backups(taker) => taker.answered(world, wire, tag, reply),
            Self::Acting => Ok(()),
        }
    }

    /// Nobody listened; nothing that was asked on this connection has left.
    pub fn refused(&mut self, world: &mut World, wire: u64) {
        match self {
            Self::Clerk(clerk) => clerk.refused(world, wire),
            Self::Pipeliner(pipeliner) => pipeliner.refused(world, wire),
            Self::Backups(taker) => taker.lost(wire),
            Self::Acting => {}
        }
    }

    /// A connection has ended.
    pub fn lost(&mut self, world: &mut World, wire: u64) {
        match self {
            Self::Clerk(clerk) => clerk.lost(world, wire),
            Self::Pipeliner(pipeliner) => pipeliner.lost(world, wire),
            Self::Backups(taker) => taker.lost(wire),
            Self::Acting => {}
        }
    }

    /// Whether nothing that it asked is open.
    pub fn is_idle(&self) -> bool {
        match self {
            Self::Clerk(clerk) => clerk.is_idle(),
            Self::Pipeliner(pipeliner) => pipeliner.is_idle(),
            // Nobody waits for what it asked.
            Self::Backups(_) => true,
            Self::Acting => false,
        }
    }
}

impl World {
    pub(crate) fn client_wakes(&mut self, client: ClientIndex) {
        self.with_client(client, Client::wake);
    }

    /// Whether clients may begin something new.
    pub(crate) fn has_work(&self) -> bool {
        match (self.phase, self.options.workload.operations_max) {
            (Phase::Draining, _) => false,
            (Phase::Faulty | Phase::Healed, None) => true,
            (Phase::Faulty, Some(most)) => (self.history.operations().len() as u64) < most,
            // Service must be seen again; more would only make the history longer.
            (Phase::Healed, Some(_)) => !self.has_served_since(self.healed_at),
        }
    }

    /// Those who had nothing to do any more see whether there is something again.
    pub(crate) fn wake_idle_clerks(&mut self) {
        for client in 0..self.clients.len() {
            if matches!(self.clients[client], Client::Clerk(_)) {
                self.schedule.after(0, Happening::ClientWakes { client });
            }
        }
    }

    /// Lets a client act on the world that it is part of.
    pub(crate) fn with_client<R>(
        &mut self,
        client: ClientIndex,
        act: impl FnOnce(&mut Client, &mut Self) -> R,
    ) -> R {
        let mut acting = std::mem::replace(&mut self.clients[client], Client::Acting);
        let result = act(&mut acting, self);
        self.clients[client] = acting;
        result
    }
}
