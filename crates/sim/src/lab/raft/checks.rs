//! What the course's own test driver asks of a cluster: who leads, do the terms agree, does everybody agree on a
//! command, and within its times. Polls more often than the course, so that what is measured is the cluster.

use bytes::Bytes;
use quorate_raft::{Role, Term};

use crate::invariants::Violation;
use crate::lab::raft::cluster::{Cluster, Started, roles};
use crate::lab::{Figure, Figures};
use crate::schedule::{MS, Micros, SECOND};

/// The election timeout as the course's driver assumes it.
pub(crate) const ELECTION: Micros = SECOND;

/// An agreement that has not come within this never will.
const AGREEMENT_MAX: Micros = 10 * SECOND;

/// A command that was taken but not committed within this is proposed again.
const PROPOSED_MAX: Micros = 2 * SECOND;

/// How often an agreement is looked for. The course looks every 20 ms.
const POLL: Micros = MS;

/// Ours: the longest election timeout, 500 ms, and once more for one split vote.
pub(crate) const LEADER_WITHIN_MS: u64 = 1_000;

/// A sentence of what a test did not find.
pub(crate) fn failed<T>(story: String) -> Result<T, Violation> {
    Err(Violation { invariant: "lab", story })
}

/// A demand of a test, and the sentence if it does not hold.
pub(crate) fn demand(holds: bool, story: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds { Ok(()) } else { failed(story()) }
}

/// `one()`: a command on its way to agreement, looked after step by step, so that several can be on their way.
pub(crate) struct Agreement {
    pub(crate) command: Bytes,
    servers: usize,
    retry: bool,
    began: Micros,
    started: Option<(Started, Micros)>,
    try_again_at: Micros,
}

impl Agreement {
    /// Wants `servers` to apply `command`; proposes it again where `retry` says so.
    pub(crate) fn new(cluster: &Cluster, command: Bytes, servers: usize, retry: bool) -> Self {
        let began = cluster.now();
        Self { command, servers, retry, began, started: None, try_again_at: began }
    }

    /// One look. Gives the index once agreed.
    pub(crate) fn poll(&mut self, cluster: &mut Cluster) -> Result<Option<usize>, Violation> {
        let now = cluster.now();
        if now - self.began > AGREEMENT_MAX {
            let servers = self.servers;
            return failed(format!("{servers} servers did not agree within 10 s; {}", roles(cluster)));
        }
        let Some((Started { index, .. }, since)) = self.started else {
            if now >= self.try_again_at {
                self.started = self.propose(cluster)?.map(|started| (started, now));
                self.try_again_at = now + 50 * MS;
            }
            return Ok(None);
        };
        let (count, command) = cluster.committed(index);
        if count >= self.servers && command == Some(&self.command) {
            cluster.slowest_agreement = cluster.slowest_agreement.max(now - self.began);
            return Ok(Some(index));
        }
        if now - since >= PROPOSED_MAX {
            demand(self.retry, || format!("no agreement within 2 s of the proposal; {}", roles(cluster)))?;
            self.started = None;
            self.try_again_at = now;
        }
        Ok(None)
    }

    /// Asks one after the other, not always the same first.
    fn propose(&self, cluster: &mut Cluster) -> Result<Option<Started>, Violation> {
        for _ in 0..cluster.count() {
            cluster.next_asked = (cluster.next_asked + 1) % cluster.count();
            let server = cluster.next_asked;
            if !cluster.network.is_connected(server) {
                continue;
            }
            if let Some(started) = cluster.propose(server, &self.command)? {
                return Ok(Some(started));
            }
        }
        Ok(None)
    }
}

impl Cluster {
    /// `one()`: a fresh command is agreed by this many servers. Gives its index.
    pub(crate) fn one(&mut self, servers: usize, retry: bool) -> Result<usize, Violation> {
        let command = self.command(8);
        self.one_of(command, servers, retry)
    }

    /// The same with a given command.
    pub(crate) fn one_of(&mut self, command: Bytes, servers: usize, retry: bool) -> Result<usize, Violation> {
        let mut agreement = Agreement::new(self, command, servers, retry);
        loop {
            if let Some(index) = agreement.poll(self)? {
                return Ok(index);
            }
            self.run_for(POLL)?;
        }
    }

    /// `one()` that must come to stand at `index`.
    pub(crate) fn one_at(&mut self, index: usize, servers: usize) -> Result<(), Violation> {
        let at = self.one(servers, false)?;
        demand(at == index, || format!("a command came to stand at {at}, not at {index}"))
    }

    /// `Start()` on a server that must take it.
    pub(crate) fn must_propose(&mut self, server: usize) -> Result<Started, Violation> {
        let command = self.command(8);
        match self.propose(server, &command)? {
            Some(started) => Ok(started),
            None => failed(format!("the leader n{} refused a command; {}", server + 1, roles(self))),
        }
    }

    /// The leader of the latest term among the servers that are reached.
    fn leader_now(&self) -> Result<Option<usize>, Violation> {
        let mut leaders: Vec<(Term, usize)> = Vec::new();
        for server in (0..self.count()).filter(|server| self.network.is_connected(*server)) {
            if let Some((Role::Leader, term)) = self.state(server) {
                demand(leaders.iter().all(|(other, _)| *other != term), || {
                    format!("two leaders in term {term}")
                })?;
                leaders.push((term, server));
            }
        }
        Ok(leaders.into_iter().max().map(|(_, server)| server))
    }

    /// `checkOneLeader`: looks after about half a second, and up to ten times. Gives the leader, and remembers when
    /// it was there first.
    pub(crate) fn one_leader(&mut self) -> Result<usize, Violation> {
        let began = self.now();
        let mut found_at = None;
        for _ in 0..10 {
            let look_at = self.now() + self.prng.between(450, 550) * MS;
            while self.now() < look_at {
                if found_at.is_none() && self.leader_now()?.is_some() {
                    found_at = Some(self.now());
                }
                self.run_for(POLL)?;
            }
            if let Some(leader) = self.leader_now()? {
                let after = found_at.unwrap_or(self.now()) - began;
                self.slowest_leader = self.slowest_leader.max(after);
                return Ok(leader);
            }
        }
        failed(format!("no leader after ten looks; {}", roles(self)))
    }

    /// `checkNoLeader`, among the servers that are reached.
    pub(crate) fn no_leader(&self) -> Result<(), Violation> {
        match self.leader_now()? {
            None => Ok(()),
            Some(leader) => failed(format!("n{} leads without a majority", leader + 1)),
        }
    }

    /// `checkTerms`: all that are reached are in one term. Gives it.
    pub(crate) fn one_term(&self) -> Result<Term, Violation> {
        let reached = (0..self.count()).filter(|server| self.network.is_connected(*server));
        let mut terms: Vec<Term> =
            reached.filter_map(|server| self.state(server)).map(|(_, term)| term).collect();
        terms.dedup();
        match terms.as_slice() {
            [term] => Ok(*term),
            terms => failed(format!("the servers are in different terms: {terms:?}")),
        }
    }

    /// `wait`: at least `servers` have applied `index`. Gives the command; `None` if the term is not `term` any more.
    pub(crate) fn wait(
        &mut self,
        index: usize,
        servers: usize,
        term: Option<Term>,
    ) -> Result<Option<Bytes>, Violation> {
        let mut pause = 10 * MS;
        for _ in 0..30 {
            if self.committed(index).0 >= servers {
                break;
            }
            self.run_for(pause)?;
            pause = (pause * 2).min(SECOND);
            let is_later =
                |server| self.state(server).is_some_and(|(_, now)| term.is_some_and(|term| now > term));
            if (0..self.count()).any(is_later) {
                return Ok(None);
            }
        }
        let (count, command) = self.committed(index);
        demand(count >= servers, || format!("only {count} servers hold command {index}; wanted {servers}"))?;
        Ok(command.cloned())
    }

    /// Nobody has applied a command at `index`.
    pub(crate) fn nothing_at(&self, index: usize) -> Result<(), Violation> {
        let (count, _) = self.committed(index);
        demand(count == 0, || format!("{count} servers applied command {index} without a majority"))
    }

    /// How long agreement took at most, and the rest of a scenario's figures.
    pub(crate) fn figures(&self, agreement_ms: u64, mut list: Vec<Figure>) -> Figures {
        if self.slowest_agreement > 0 {
            list.insert(0, Figure::ms("slowest agreement, ms", self.slowest_agreement, 10_000, agreement_ms));
        }
        if self.slowest_leader > 0 {
            list.insert(0, Figure::ms("slowest leader, ms", self.slowest_leader, 5_000, LEADER_WITHIN_MS));
        }
        Figures { list, took: self.now() }
    }
}
