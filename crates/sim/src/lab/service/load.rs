//! The course's general test: rounds of load, in each of which servers are partitioned anew again and again, and after
//! each of which all may restart. Knows nothing of what is judged at the end.

use bytes::Bytes;
use quorate_replica::command::Condition;

use crate::history::Action;
use crate::invariants::Violation;
use crate::lab::service::cluster::{LogLimits, Service};
use crate::lab::{Figure, Verdict};
use crate::schedule::{MS, Micros, SECOND};
use crate::world::ClientIndex;

const ROUNDS: usize = 3;
const ROUND: Micros = 5 * SECOND;

/// The election timeout as the course's driver assumes it.
const ELECTION: Micros = SECOND;

/// Calls that a Clerk is told ahead; more than it can make in a round.
const CALLS_AHEAD: usize = 4_000;

/// Ours: after the repair of all, what is under way ends within this. A Clerk that met silence asks the next server
/// after 1 s, then 2 s; an election and a split vote take another.
const ENDS_WITHIN_MS: u64 = 4_000;

/// Ours, where a fifth of all calls and a tenth of all messages are lost still, so that a Clerk may meet its third
/// silence, which is the second doubled.
const ENDS_UNRELIABLY_WITHIN_MS: u64 = 8_000;

/// Ours: without a fault a call costs five ways of 1 ms, the syncs, what is queued before it, and the first one the
/// dialling and the session.
const CALM_CALL_MS: u64 = 25;

/// Ours: with faults a call may meet three partitions of 1.2 s and the silences that double behind them.
const CALL_MS: u64 = 10_000;

/// What a general test has of each fault.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) clients: usize,
    pub(crate) servers: usize,
    pub(crate) is_unreliable: bool,
    pub(crate) is_partitioned: bool,
    pub(crate) restarts: bool,
    /// Everybody uses all keys, and also replaces values.
    pub(crate) has_random_keys: bool,
    /// Servers take snapshots.
    pub(crate) log_limits: Option<LogLimits>,
}

impl Load {
    /// No fault at all.
    pub(crate) const fn calm(clients: usize, servers: usize) -> Self {
        Self {
            clients,
            servers,
            is_unreliable: false,
            is_partitioned: false,
            restarts: false,
            has_random_keys: false,
            log_limits: None,
        }
    }

    /// Runs it.
    pub(crate) fn run(self, seed: u64) -> Verdict {
        let mut service = Service::of_logs(self.servers, self.is_unreliable, self.log_limits, seed)?;
        let clerks: Vec<ClientIndex> = (0..self.clients).map(|_| service.clerk_of_all()).collect();
        let mut slowest_end = 0;
        let mut fewest = u64::MAX;
        for round in 0..ROUNDS {
            let before = service.operations().len();
            self.round(&mut service, &clerks, round)?;
            let took = service.finish(&clerks, 30 * SECOND)?;
            slowest_end = slowest_end.max(took);
            service.look_at_logs();
            let calls = &service.operations()[before..];
            let of =
                |clerk: &ClientIndex| calls.iter().filter(|call| call.client == *clerk as u32).count() as u64;
            fewest = fewest.min(clerks.iter().map(of).min().unwrap_or_default());
            self.check_own_keys(&mut service, &clerks)?;
        }
        let is_calm = !self.is_unreliable && !self.is_partitioned && !self.restarts;
        let slowest_ms = if is_calm { CALM_CALL_MS } else { CALL_MS };
        let ends_within_ms = if self.is_unreliable { ENDS_UNRELIABLY_WITHIN_MS } else { ENDS_WITHIN_MS };
        let slowest = service.operations().iter().map(|call| call.returned_at - call.call_at).max();
        let list = vec![
            // The course asks each client for ten in a round, and warns of less.
            Figure::seen("calls", service.operations().len() as u64)
                .at_least((self.clients * ROUNDS * 10) as u64),
            Figure::seen("a Clerk's fewest in a round", fewest),
            Figure::of_ours("slowest call, ms", slowest.unwrap_or_default().div_ceil(MS), slowest_ms),
            Figure::of_ours("slowest end after repair, ms", slowest_end.div_ceil(MS), ends_within_ms),
        ];
        service.judged(list)
    }

    fn round(self, service: &mut Service, clerks: &[ClientIndex], round: usize) -> Result<(), Violation> {
        for (place, clerk) in clerks.iter().enumerate() {
            let calls: Vec<_> = (0..CALLS_AHEAD).map(|_| self.call(service, place, *clerk)).collect();
            service.tell(*clerk, calls);
        }
        let end = service.now() + ROUND;
        if self.is_partitioned {
            service.run_for(SECOND)?;
            while service.now() < end {
                let groups: Vec<usize> = (0..self.servers).map(|_| service.prng.below(2) as usize).collect();
                service.partition(&groups);
                let lasts = ELECTION + service.prng.below(200) * MS;
                service.run_for(lasts)?;
            }
        } else {
            service.run_for(ROUND)?;
        }
        clerks.iter().for_each(|clerk| service.hush(*clerk));
        if self.is_partitioned {
            service.heal();
            service.run_for(ELECTION)?;
        }
        if self.restarts {
            // The course keeps all that was saved; here every other time the power is lost, and all that was not.
            (0..self.servers).for_each(|host| service.stop(host, round.is_multiple_of(2)));
            service.run_for(ELECTION)?;
            (0..self.servers).for_each(|host| service.start(host));
        }
        Ok(())
    }

    /// Half appends, half reads, and with random keys every tenth of these a put.
    fn call(self, service: &mut Service, place: usize, clerk: ClientIndex) -> (Bytes, Action) {
        let number =
            if self.has_random_keys { service.prng.below(self.clients as u64) } else { place as u64 };
        let key = key_of(number);
        let action = if service.prng.chance(0.5) {
            service.append(clerk)
        } else if self.has_random_keys && service.prng.chance(0.1) {
            Action::Put { value: service.token(clerk), condition: Condition::Always, get: false }
        } else {
            Action::Get
        };
        (key, action)
    }

    /// Where each has a key of its own, it must read there what it appended; that is judged with all the rest.
    fn check_own_keys(self, service: &mut Service, clerks: &[ClientIndex]) -> Result<(), Violation> {
        for (place, clerk) in clerks.iter().enumerate() {
            service.call(*clerk, key_of(place as u64), Action::Get)?;
        }
        Ok(())
    }
}

fn key_of(number: u64) -> Bytes {
    Bytes::from(format!("k{number}"))
}
