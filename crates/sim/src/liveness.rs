//! After all faults: one leader, service, every operation complete, equal states, and after one more loss of
//! power everywhere all of it again. Then the histories are judged.

use bytes::Bytes;
use quorate_raft::{Index, Node, NodeId, Role};
use quorate_replica::Standing;

use crate::chronicle::Kind;
use crate::clients::Client;
use crate::history::{Action, Operation, Outcome};
use crate::host::{Host, host_of, node_id};
use crate::invariants::{Violation, connection_order, exactly_once};
use crate::network::HostIndex;
use crate::schedule::{MS, Micros, SECOND};
use crate::verdict;
use crate::world::{Happening, Phase, World};

/// The longest election timeout with default settings.
pub const ELECTION_TIMEOUT: Micros = 500 * MS;

/// Election timeouts within which the cluster serves again.
const SERVES_WITHIN: Micros = 10 * ELECTION_TIMEOUT;

/// How long one server that is no member keeps a client from looking elsewhere: as long as it waits for a leader.
const LOOKS_ELSEWHERE: Micros = 3 * SECOND;

/// How long clients go on in health.
const CLIENTS_GO_ON: Micros = 3 * SECOND;

/// Within which every operation has ended: longer than a Clerk's caller waits.
const DRAINS_WITHIN: Micros = 25 * SECOND;

/// Within which all servers hold the same.
const CONVERGES_WITHIN: Micros = 10 * SECOND;

impl World {
    /// From the end of the faults to the verdict. Gives how long the cluster took to serve.
    ///
    /// # Errors
    /// The first property that does not hold.
    pub fn recover(&mut self) -> Result<Micros, Violation> {
        self.heal();
        let healed = self.now();
        let operations = self.history.operations().len();
        self.healed_at = operations;
        self.is_short_of_memory = false;
        if self.options.workload.operations_max.is_some() {
            self.wake_idle_clerks();
        }
        let committed = self.invariants.committed.index();
        // A Clerk in doubt whose write is refused for want of memory asks on until its deadline, and all of them may be:
        // that is no lack of a leader, and no time makes memory. But of one that commits something, or a leader that nobody
        // follows would pass for service.
        let is_served = move |world: &Self| {
            let is_led = world.invariants.committed.index() > committed;
            world.has_served_since(operations) || world.is_short_of_memory && is_led
        };
        let serves_within = SERVES_WITHIN + self.strangers() * LOOKS_ELSEWHERE;
        if !self.run_until(healed + serves_within, is_served)? {
            return self.is_not_live("no operation was served within 10 election timeouts");
        }
        let served = self.now() - healed;
        self.run_until(self.now() + CLIENTS_GO_ON, |_| false)?;
        self.phase = Phase::Draining;
        if !self.run_until(self.now() + DRAINS_WITHIN, |world| world.clients.iter().all(Client::is_idle))? {
            return self.is_not_live("an operation never ended");
        }
        self.converge()?;
        let committed = self.invariants.committed.index();
        let living: Vec<_> = self.living().map(|(host, _)| host).collect();
        for host in living {
            self.crash(host, true);
            self.schedule.after(100 * MS, Happening::Start { host });
        }
        self.converge()?;
        if self.invariants.committed.index() < committed {
            return self.is_not_live("the log is shorter after a loss of power");
        }
        self.judge()?;
        Ok(served)
    }

    /// Nothing goes wrong any more.
    fn heal(&mut self) {
        self.phase = Phase::Healed;
        self.mark(None, "all faults end".to_owned());
        self.end_partition_bands();
        self.options.host = self.options.host.without_faults();
        self.options.workload = self.options.workload.without_faults();
        let opened = self.network.heal();
        self.announce_links(&opened);
        self.lose_for_good();
        for host in 0..self.hosts.len() {
            self.make_room(host);
            let Host { slow_until, slow_steps_until, process, disk, is_lost, .. } = &mut self.hosts[host];
            (*slow_until, *slow_steps_until) = (0, 0);
            self.chronicle.end(Kind::SlowDisk, Some(host), self.schedule.now());
            // What was ordered for an operation to come is cancelled: no disk counts so far.
            disk.crash_at(u64::MAX, 0);
            if process.is_none() && !*is_lost {
                self.schedule.after(10 * MS, Happening::Start { host });
            }
        }
    }

    pub(crate) fn has_served_since(&self, operations: usize) -> bool {
        self.history.operations()[operations..].iter().any(Operation::is_complete)
    }

    pub(crate) fn converge(&mut self) -> Result<(), Violation> {
        if self.run_until(self.now() + CONVERGES_WITHIN, Self::has_converged)? {
            return Ok(());
        }
        self.is_not_live("the servers do not come to the same state under one leader")
    }

    /// Who leads, if it is one alone, by a membership in which nothing is under way.
    fn settled_leader(&self) -> Option<&Node> {
        let nodes = self.living().filter_map(|(_, host)| host.process.as_ref()?.replica.raft());
        let mut leaders = nodes.filter(|node| node.role() == Role::Leader);
        let leader = leaders.next().filter(|_| leaders.next().is_none())?;
        let membership = leader.membership();
        let waits = |id: &NodeId| !self.hosts[host_of(*id)].is_lost && self.has_seat_in(membership, *id);
        let is_settled = !leader.is_change_pending()
            && membership.voters().contains(&leader.id())
            && !membership.joining().keys().any(waits);
        is_settled.then_some(leader)
    }

    /// The members that are not lost.
    fn living_members(&self) -> impl Iterator<Item = (HostIndex, &Host)> {
        let (_, membership) = self.invariants.members.committed();
        self.living().filter(|(host, _)| {
            let id = node_id(*host);
            membership.contains(id) && self.has_seat_in(membership, id)
        })
    }

    /// Servers that run and are no members, by what is committed: who asks them is kept waiting for a leader that they know.
    fn strangers(&self) -> u64 {
        let (_, membership) = self.invariants.members.committed();
        self.living().filter(|(host, _)| !membership.contains(node_id(*host))).count() as u64
    }

    /// One leader, and all members hold and have applied the same. (Who is none any more may be anywhere.)
    fn has_converged(&self) -> bool {
        if self.settled_leader().is_none() {
            return false;
        }
        let mut state = None;
        for (_, host) in self.living_members() {
            let Some(process) = &host.process else { return false };
            let (Some(node), Some(machine)) = (process.replica.raft(), process.replica.machine()) else {
                return false;
            };
            let applied = machine.applied();
            if matches!(process.replica.standing(), Standing::Removed { .. }) {
                return false;
            }
            let own = (node.last(), node.commit(), applied, machine.digest());
            if node.last().index != applied || applied == Index::ZERO || *state.get_or_insert(own) != own {
                return false;
            }
        }
        true
    }

    fn is_not_live<T>(&self, what: &str) -> Result<T, Violation> {
        let mut story = what.to_owned();
        for (host, shown) in self.shown.iter().enumerate() {
            let standing = self.hosts[host].process.as_ref().map(|process| process.replica.standing());
            match shown {
                Some(view) => story.push_str(&format!("; {view}")),
                None => story.push_str(&format!("; n{} {standing:?}", host + 1)),
            }
        }
        for (client, busy) in self.clients.iter().enumerate().filter(|(_, client)| !client.is_idle()) {
            story.push_str(&format!("; c{client} waits: {busy:?}"));
            story.truncate(2_000);
        }
        Err(Violation { invariant: "liveness", story })
    }

    /// The verdict over all that clients saw.
    pub(crate) fn judge(&mut self) -> Result<(), Violation> {
        let Some(effects) = &self.effects else {
            return Err(Violation { invariant: "liveness", story: "nothing was ever committed".to_owned() });
        };
        let first = self.living_members().next().map_or(0, |(host, _)| host);
        let Some(machine) = self.hosts[first].process.as_ref().and_then(|process| process.replica.machine())
        else {
            return Err(Violation {
                invariant: "liveness",
                story: format!("n{} does not take part", first + 1),
            });
        };
        if machine.digest() != effects.machine().digest() {
            let story = "the servers' state is not what the committed log makes of an empty one".to_owned();
            return Err(Violation { invariant: "state machine safety", story });
        }
        exactly_once::check(self.history.operations(), effects)?;
        connection_order::check(self.history.operations(), effects)?;
        let now = self.now();
        for key in self.history.keys() {
            let outcome = machine
                .get(&key)
                .map_or(Outcome::Nil, |value| Outcome::Value(Bytes::copy_from_slice(&value.to_bytes())));
            let id = self.history.call(now, u32::MAX, 0, key, Action::Get);
            self.history.returned(now, id, outcome);
        }
        let operations = self.history.operations();
        verdict::check_keys(operations, &verdict::ranks(operations, effects)).map_err(|guilty| {
            self.blame = guilty.blame;
            guilty.violation
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;
    use crate::prng::Prng;
    use crate::trace::Trace;

    /// Three servers that have no memory for anything, with a leader.
    fn refusing(seed: u64) -> World {
        let mut prng = Prng::new(seed);
        let mut options = Options::swarm(&mut prng).without_faults();
        options.nodes = 3;
        options.workload.operations_max = None;
        options.faults.flags.memory_bytes_max = Some(2);
        let mut world = World::new(options, &mut prng, Trace::default());
        let is_led =
            |world: &World| world.invariants.committed.index() > Index::ZERO && world.is_short_of_memory;
        assert_eq!(world.run_until(30 * SECOND, is_led), Ok(true));
        world
    }

    #[test]
    fn refusals_are_service_of_a_cluster_that_has_a_leader() {
        refusing(1).recover().unwrap();
    }

    /// Its refusals are all that anybody hears, until it knows that it leads no longer.
    #[test]
    fn refusals_of_a_leader_that_nobody_follows_are_no_service() {
        let mut world = refusing(1);
        let leads = |world: &World, host: usize| {
            let node = world.hosts[host].process.as_ref().and_then(|process| process.replica.raft());
            node.is_some_and(|node| node.role() == Role::Leader)
        };
        for host in 0..3 {
            if !leads(&world, host) {
                world.crash(host, false);
                world.hosts[host].is_lost = true;
            }
        }
        let violation = world.recover().unwrap_err();
        assert!(world.is_short_of_memory, "it has refused");
        assert_eq!(violation.invariant, "liveness");
        assert!(violation.story.starts_with("no operation was served"), "{}", violation.story);
    }
}
