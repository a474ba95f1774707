//! The state of servers altered behind their backs, each in another way, as an apply would leave it that is not the same
//! everywhere: replicas must find that out by comparing themselves. A fault that no seed draws: until it is found, such a
//! server may answer with what never was, and no checker of histories could allow that. So the key that is altered is one
//! that no client asks for, and the rest of the run is judged like any other.

use quorate_raft::Role;
use quorate_replica::Agreement;
use quorate_replica::replica::Event;

use crate::invariants::Violation;
use crate::network::HostIndex;
use crate::options::{NO_SNAPSHOTS, Options};
use crate::prng::Prng;
use crate::schedule::{MS, Micros, SECOND};
use crate::trace::Trace;
use crate::world::{Happening, World};

/// A key that no client asks for.
const KEY: &[u8] = b"\0altered";

/// Within which a cluster has a leader, serves, and has compared itself.
const STARTS_WITHIN: Micros = 20 * SECOND;
/// Within which what was lost of reports has been asked for and come.
const REPORTS_WITHIN: Micros = 5 * SECOND;
/// Within which the others serve, and a server that was started again is one of them.
const RECOVERS_WITHIN: Micros = 15 * SECOND;

/// A run under way.
pub struct Alteration {
    world: World,
    interval: Micros,
}

impl Alteration {
    /// A cluster of `nodes` servers that serves and has compared itself. Messages are lost and late as the seed says; nothing
    /// else goes wrong. Snapshots are taken as it says where `has_snapshots`.
    ///
    /// # Errors
    /// The first property that does not hold.
    pub fn begin(seed: u64, nodes: u64, has_snapshots: bool) -> Result<Self, Violation> {
        let mut prng = Prng::new(seed);
        let swarm = Options::swarm(&mut prng);
        let mut options = Options { nodes, ..swarm.without_faults() };
        options.network = swarm.network;
        options.network.delay_cap = options.network.delay_cap.min(200 * MS);
        options.network.corruption = 0.0;
        if !has_snapshots {
            options.host.log_bytes_max = NO_SNAPSHOTS;
        }
        let interval = options.host.check_interval_ms * MS;
        let mut begun = Self { world: World::new(options, &mut prng, Trace::default()), interval };
        begun.until(STARTS_WITHIN, "did not come to compare itself", |world| {
            (0..world.hosts.len()).all(|host| agreed_on(world, host) > 0) && world.has_served_since(0)
        })?;
        Ok(begun)
    }

    /// Who leads.
    pub fn leader(&self) -> Option<HostIndex> {
        let leads = |host: &HostIndex| {
            let process = self.world.hosts[*host].process.as_ref();
            process.and_then(|process| process.replica.raft()).is_some_and(|raft| raft.role() == Role::Leader)
        };
        (0..self.world.hosts.len()).find(leads)
    }

    /// The state of a server is another one from now on.
    pub fn alter(&mut self, host: HostIndex) {
        let process = self.world.hosts[host].process.as_mut();
        if let Some(machine) = process.and_then(|process| process.replica.machine_mut()) {
            machine.alter(KEY, &[host as u8]);
            self.world.hosts[host].is_altered = true;
        }
    }

    /// It writes a snapshot of what it holds now.
    ///
    /// # Errors
    /// If that is not done in time, or another property does not hold.
    pub fn take_snapshot(&mut self, host: HostIndex) -> Result<(), Violation> {
        let before = snapshots_taken(&self.world, host);
        self.world.give(host, Event::TakeSnapshot);
        self.until(RECOVERS_WITHIN, "took no snapshot", |world| snapshots_taken(world, host) > before)
    }

    /// These find that their state is another one than that of a majority, and nobody else does, within two intervals and
    /// what lost messages cost.
    ///
    /// # Errors
    /// If they do not.
    pub fn found(&mut self, altered: &[HostIndex]) -> Result<(), Violation> {
        self.until(2 * self.interval + REPORTS_WITHIN, "an altered server goes on", |world| {
            (0..world.hosts.len()).all(|host| altered.contains(&host) == has_diverged(world, host))
        })
    }

    /// Everybody finds that there is no majority, likewise.
    ///
    /// # Errors
    /// If somebody does not.
    pub fn no_majority(&mut self) -> Result<(), Violation> {
        self.until(2 * self.interval + REPORTS_WITHIN, "somebody goes on without a majority", |world| {
            (0..world.hosts.len())
                .all(|host| matches!(agreement(world, host), Some(Agreement::Undecided { .. })))
        })
    }

    /// For so long nothing is served.
    ///
    /// # Errors
    /// If something is.
    pub fn nothing_is_served(&mut self, time: Micros) -> Result<(), Violation> {
        // What was answered may still be on its way.
        self.world.run_until(self.world.now() + SECOND, |_| false)?;
        let before = self.world.history().completed();
        self.world.run_until(self.world.now() + time, |_| false)?;
        let served = self.world.history().completed() - before;
        if served == 0 { Ok(()) } else { self.failed(&format!("{served} operations were served")) }
    }

    /// A server that is not altered leads, and clients are served.
    ///
    /// # Errors
    /// If that does not come about.
    pub fn others_serve(&mut self) -> Result<(), Violation> {
        let operations = self.world.history().operations().len();
        self.until(RECOVERS_WITHIN, "nobody is served", |world| world.has_served_since(operations))?;
        match self.leader() {
            Some(leader) if has_diverged(&self.world, leader) => self.failed("who has diverged leads"),
            Some(_) | None => Ok(()),
        }
    }

    /// The process of a server ends, and another begins on its folder.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn restart(&mut self, host: HostIndex) -> Result<(), Violation> {
        self.world.crash(host, false);
        self.world.schedule.after(10 * MS, Happening::Start { host });
        self.until(RECOVERS_WITHIN, "did not start again", |world| agreement(world, host).is_some())
    }

    /// What a server holds is what the log makes of it again: from now on it must be.
    ///
    /// # Errors
    /// If it does not come to agree with a majority.
    pub fn is_sound(&mut self, host: HostIndex) -> Result<(), Violation> {
        self.until(RECOVERS_WITHIN, "does not agree with a majority", |world| {
            agreement(world, host) == Some(&Agreement::Sound) && agreed_on(world, host) > 0
        })?;
        self.world.hosts[host].is_altered = false;
        Ok(())
    }

    /// How many snapshots a server has taken since its process began.
    pub fn snapshots_taken(&self, host: HostIndex) -> u64 {
        snapshots_taken(&self.world, host)
    }

    /// The end of the run, as of any other: convergence, service, and a verdict on what clients saw.
    ///
    /// # Errors
    /// The first property that does not hold.
    pub fn finish(mut self) -> Result<(), Violation> {
        self.world.recover().map(|_| ())
    }

    fn until(&mut self, time: Micros, what: &str, done: impl Fn(&World) -> bool) -> Result<(), Violation> {
        if done(&self.world) || self.world.run_until(self.world.now() + time, done)? {
            return Ok(());
        }
        self.failed(what)
    }

    fn failed(&self, what: &str) -> Result<(), Violation> {
        let hosts = 0..self.world.hosts.len();
        let each: Vec<String> =
            hosts.map(|host| format!("n{}: {:?}", host + 1, agreement(&self.world, host))).collect();
        Err(Violation { invariant: "comparison", story: format!("{what}; {}", each.join("; ")) })
    }
}

fn agreement(world: &World, host: HostIndex) -> Option<&Agreement> {
    world.hosts[host].process.as_ref()?.replica.agreement()
}

fn has_diverged(world: &World, host: HostIndex) -> bool {
    matches!(agreement(world, host), Some(Agreement::Diverged { .. }))
}

fn agreed_on(world: &World, host: HostIndex) -> u64 {
    world.hosts[host].process.as_ref().map_or(0, |process| process.replica.status().checks.agreed)
}

fn snapshots_taken(world: &World, host: HostIndex) -> u64 {
    world.hosts[host].process.as_ref().map_or(0, |process| process.replica.status().snapshots.taken)
}
