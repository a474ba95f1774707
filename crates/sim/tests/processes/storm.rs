//! Carries a plan out on real processes and real wires, in real time, and keeps account of what really happened.
//! Knows nothing of clients.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::Violation;
use crate::cluster::Cluster;
use crate::plan::{Fault, Plan, SERVERS, Step, Target, Ways};
use crate::relay::{Trouble, Way};

/// All ways that can be hit.
pub(crate) struct Net {
    /// By who dials and who is dialled.
    pub(crate) links: BTreeMap<(usize, usize), Arc<Way>>,
    /// By client, then server.
    pub(crate) clients: Vec<Vec<Arc<Way>>>,
}

/// How often each fault really happened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) kills: u32,
    pub(crate) pauses: u32,
    pub(crate) cuts: u32,
    pub(crate) holds: u32,
    pub(crate) delays: u32,
}

/// The carrying out of one plan.
pub(crate) struct Storm<'a> {
    cluster: &'a mut Cluster,
    net: &'a Net,
    begun: Instant,
    /// What ends when; the number tells those of one instant apart.
    ends: BTreeMap<(u64, usize), End>,
    counts: Counts,
    account: Vec<String>,
}

enum End {
    Start { server: usize },
    GoOn { server: usize, starts: u32 },
    Calm { ways: Vec<Arc<Way>>, troubles: Vec<Trouble>, breaks: bool },
}

impl<'a> Storm<'a> {
    pub(crate) fn new(cluster: &'a mut Cluster, net: &'a Net) -> Self {
        let (counts, account) = (Counts::default(), Vec::new());
        Self { cluster, net, begun: Instant::now(), ends: BTreeMap::new(), counts, account }
    }

    /// Carries out the plan and ends all that is still wrong at its end. Its account stays, also where it failed.
    ///
    /// # Errors
    /// If a server ended that nobody killed.
    pub(crate) fn rage(&mut self, plan: &Plan, length_ms: u64) -> Result<Counts, Violation> {
        self.begun = Instant::now();
        for (number, step) in plan.steps.iter().enumerate() {
            self.end_all_until(step.at_ms)?;
            self.wait_until(step.at_ms);
            self.begin(step, number)?;
        }
        self.end_all_until(length_ms)?;
        self.wait_until(length_ms);
        // The rest ends now, in its order.
        while let Some((_, end)) = self.ends.pop_first() {
            self.end(end)?;
        }
        self.note(format_args!("all faults are over"));
        Ok(self.counts)
    }

    /// What really happened.
    pub(crate) fn account(&self) -> String {
        self.account.join("\n")
    }

    fn end_all_until(&mut self, at_ms: u64) -> Result<(), Violation> {
        while let Some(entry) = self.ends.first_entry()
            && entry.key().0 <= at_ms
        {
            let ((due_ms, _), end) = entry.remove_entry();
            self.wait_until(due_ms);
            self.end(end)?;
        }
        Ok(())
    }

    /// The plan is a matter of time; nothing is waited for here.
    fn wait_until(&self, at_ms: u64) {
        let due = self.begun + Duration::from_millis(at_ms);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }

    fn note(&mut self, what: fmt::Arguments<'_>) {
        self.account.push(format!("{:>7} ms: {what}", self.begun.elapsed().as_millis()));
    }

    fn begin(&mut self, step: &Step, number: usize) -> Result<(), Violation> {
        self.cluster.are_as_they_should()?;
        let until = (step.at_ms + step.for_ms, number);
        match step.fault {
            Fault::Kill(target) => {
                let server = self.place(target);
                self.kill(server, until);
            }
            Fault::KillAll => {
                for server in 0..SERVERS {
                    // They come back one after the other.
                    self.kill(server, (until.0 + 37 * server as u64, number));
                }
            }
            Fault::Pause(target) => self.pause(target, until),
            Fault::Cut(ways) => {
                self.counts.cuts += 1;
                self.trouble(step, ways, vec![Trouble::Cut], false, until);
            }
            Fault::Break(ways) => {
                self.counts.cuts += 1;
                self.note(format_args!("{:?}", step.fault));
                self.ways(ways).iter().for_each(|way| way.breaks());
            }
            Fault::Hold { ways, directions, loses } => {
                self.counts.holds += 1;
                let troubles = directions.iter().map(|direction| Trouble::Hold(*direction)).collect();
                self.trouble(step, ways, troubles, loses, until);
            }
            Fault::Delay { ways, directions, by_ms } => {
                self.counts.delays += 1;
                let troubles = directions.iter().map(|direction| Trouble::Delay(*direction, by_ms)).collect();
                self.trouble(step, ways, troubles, false, until);
            }
        }
        Ok(())
    }

    fn kill(&mut self, server: usize, until: (u64, usize)) {
        if !self.cluster.servers[server].is_up() {
            return;
        }
        self.note(format_args!("kill server {}", server + 1));
        self.counts.kills += 1;
        self.cluster.servers[server].kill();
        // One fault may kill all: each of its ends has a name of its own.
        let name = (until.0, until.1 * SERVERS + server);
        self.ends.insert(name, End::Start { server });
    }

    fn pause(&mut self, target: Target, until: (u64, usize)) {
        let server = self.place(target);
        if !self.cluster.servers[server].is_running() {
            return;
        }
        self.note(format_args!("pause server {}", server + 1));
        self.counts.pauses += 1;
        self.cluster.servers[server].pause();
        let starts = self.cluster.servers[server].starts;
        self.ends.insert((until.0, until.1 * SERVERS), End::GoOn { server, starts });
    }

    fn trouble(&mut self, step: &Step, on: Ways, troubles: Vec<Trouble>, breaks: bool, until: (u64, usize)) {
        let ways = self.ways(on);
        self.note(format_args!("{:?}, for {} ms", step.fault, step.for_ms));
        for trouble in &troubles {
            ways.iter().for_each(|way| way.begins(*trouble));
        }
        self.ends.insert((until.0, until.1 * SERVERS), End::Calm { ways, troubles, breaks });
    }

    fn end(&mut self, end: End) -> Result<(), Violation> {
        self.cluster.are_as_they_should()?;
        match end {
            End::Start { server } => {
                self.note(format_args!("start server {}", server + 1));
                self.cluster.start(server);
            }
            End::GoOn { server, starts } => {
                let paused = &mut self.cluster.servers[server];
                // Killed since: what runs now was never paused by this fault.
                if paused.is_up() && paused.starts == starts {
                    paused.go_on();
                    self.note(format_args!("server {} goes on", server + 1));
                }
            }
            End::Calm { ways, troubles, breaks } => {
                for way in &ways {
                    if breaks {
                        way.breaks();
                    }
                    troubles.iter().for_each(|trouble| way.ends(*trouble));
                }
            }
        }
        Ok(())
    }

    fn place(&self, target: Target) -> usize {
        match target {
            Target::Leader(otherwise) => self.cluster.leader().unwrap_or(otherwise),
            Target::Server(server) => server,
        }
    }

    fn ways(&self, ways: Ways) -> Vec<Arc<Way>> {
        let links = |hit: &dyn Fn(usize, usize) -> bool| {
            let hit = self.net.links.iter().filter(|((from, to), _)| hit(*from, *to));
            hit.map(|(_, way)| Arc::clone(way)).collect::<Vec<_>>()
        };
        let clients_of = |server: usize| self.net.clients.iter().map(move |ways| Arc::clone(&ways[server]));
        match ways {
            Ways::Link { from, to } => links(&|a, b| (a, b) == (from, to)),
            Ways::From(target) => {
                let place = self.place(target);
                links(&|from, _| from == place)
            }
            Ways::To(target) => {
                let place = self.place(target);
                links(&|_, to| to == place)
            }
            Ways::Around(target) => {
                let place = self.place(target);
                links(&|from, to| from == place || to == place)
            }
            Ways::All(target) => {
                let place = self.place(target);
                links(&|from, to| from == place || to == place).into_iter().chain(clients_of(place)).collect()
            }
            Ways::ClientsOf(target) => clients_of(self.place(target)).collect(),
            Ways::Client(client) => self.net.clients[client].clone(),
            Ways::ClientTo { client, server } => vec![Arc::clone(&self.net.clients[client][server])],
        }
    }
}
