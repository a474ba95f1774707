//! Part 3B: the service with snapshots. The course's tests look
//! at the log where a round ends, ours after every event.

use bytes::Bytes;
use quorate_raft::{Index, Node};
use quorate_replica::command::Condition;

use crate::history::{Action, Outcome};
use crate::invariants::Violation;
use crate::lab::raft::checks::demand;
use crate::lab::service::cluster::{LOG_BYTES_MAX, LogLimits, Service};
use crate::lab::service::load::Load;
use crate::lab::service::part_3a;
use crate::lab::{Figure, Verdict};
use crate::schedule::SECOND;
use crate::world::ClientIndex;

/// The course lets the log grow to eight times its `maxraftstate`.
const LOG_LAB_MAX: u64 = 8_000;

/// Ours: half of it, and at any instant this.
const fn logs(ever: u64) -> LogLimits {
    LogLimits { log_bytes_max: LOG_BYTES_MAX, lab: LOG_LAB_MAX, ours: LOG_LAB_MAX / 2, ever }
}

/// Puts a value that no other equals. Gives it.
fn put(service: &mut Service, clerk: ClientIndex, key: &str) -> Result<Bytes, Violation> {
    let value = service.token(clerk);
    let action = Action::Put { value: value.clone(), condition: Condition::Always, get: false };
    let outcome = service.call(clerk, Bytes::from(key.to_owned()), action)?;
    demand(outcome == Outcome::Ok, || format!("a put of {key} gave {outcome}"))?;
    Ok(value)
}

fn must_read(service: &mut Service, clerk: ClientIndex, key: &str, value: &Bytes) -> Result<(), Violation> {
    let read = service.call(clerk, Bytes::from(key.to_owned()), Action::Get)?;
    demand(read == Outcome::Value(value.clone()), || format!("{key} is {read}, not {}", value.escape_ascii()))
}

/// A majority goes on until its logs do not reach back far enough for the third; then that is needed for a quorum.
pub(crate) fn rpc(seed: u64) -> Verdict {
    const LAGS: usize = 2;
    let mut service = Service::of_logs(3, false, Some(logs(4_000)), seed)?;
    let all = service.clerk_of_all();
    let a = put(&mut service, all, "a")?;
    must_read(&mut service, all, "a", &a)?;
    service.partition(&[0, 0, 1]);
    let majority = service.clerk(&[0, 1]);
    let mut numbers = Vec::new();
    for number in 0..50 {
        numbers.push(put(&mut service, majority, &number.to_string())?);
    }
    service.run_for(SECOND)?;
    let b = put(&mut service, majority, "b")?;
    service.look_at_logs();
    let index_of = |service: &Service, host, index: fn(&Node) -> Index| service.raft(host).map(index);
    let last = index_of(&service, LAGS, |node| node.last().index);
    let gone = (0..LAGS).map(|host| index_of(&service, host, |node| node.base().index)).min().flatten();
    demand(gone > last, || {
        format!("{last:?} is the last on n3, and the logs of others begin behind {gone:?}")
    })?;
    let received = service.world.counts().received;
    service.partition(&[0, 1, 0]);
    let other = service.clerk(&[0, LAGS]);
    let began = service.now();
    let c = put(&mut service, other, "c")?;
    let served = service.now() - began;
    put(&mut service, other, "d")?;
    for (key, value) in [("a", &a), ("b", &b), ("1", &numbers[1]), ("49", &numbers[49])] {
        must_read(&mut service, other, key, value)?;
    }
    let snapshot = index_of(&service, LAGS, |node| node.snapshot().index);
    let is_installed = snapshot >= gone && service.world.counts().received > received;
    demand(is_installed, || format!("n3 has caught up without a snapshot; its own is of {snapshot:?}"))?;
    service.heal();
    let e = put(&mut service, all, "e")?;
    for (key, value) in [("c", &c), ("e", &e), ("1", &numbers[1])] {
        must_read(&mut service, all, key, value)?;
    }
    // An election, with one split vote; the offer, and the pieces.
    service.judged(vec![Figure::ms("served by who lagged after, ms", served, 10_000, 1_500)])
}

/// Two hundred times two puts and two gets of one key: neither the log nor the snapshot grows.
pub(crate) fn size(seed: u64) -> Verdict {
    const SNAPSHOT_BYTES_MAX: u64 = 500;
    let mut service = Service::of_logs(3, false, Some(logs(4_000)), seed)?;
    let clerk = service.clerk_of_all();
    let mut largest = 0;
    for _ in 0..200 {
        for _ in 0..2 {
            let value = put(&mut service, clerk, "x")?;
            must_read(&mut service, clerk, "x", &value)?;
        }
        largest = largest.max(service.largest_snapshot());
    }
    let largest = Figure::new("largest snapshot, bytes", largest, SNAPSHOT_BYTES_MAX, 400).at_least(1);
    service.judged(vec![largest])
}

/// A thousand appends, one after the other, no slower than without snapshots.
pub(crate) fn speed(seed: u64) -> Verdict {
    part_3a::thousand_appends(Service::of_logs(3, false, Some(logs(4_000)), seed)?)
}

/// One client, restarts.
pub(crate) fn recover(seed: u64) -> Verdict {
    Load { restarts: true, log_limits: Some(logs(4_000)), ..Load::calm(1, 5) }.run(seed)
}

/// Twenty clients, restarts.
pub(crate) fn recover_many_clients(seed: u64) -> Verdict {
    Load { restarts: true, log_limits: Some(logs(10_000)), ..Load::calm(20, 5) }.run(seed)
}

/// Five clients over an unreliable network.
pub(crate) fn unreliable(seed: u64) -> Verdict {
    Load { is_unreliable: true, log_limits: Some(logs(4_000)), ..Load::calm(5, 5) }.run(seed)
}

/// Five clients over an unreliable network, restarts.
pub(crate) fn unreliable_recover(seed: u64) -> Verdict {
    let load = Load { restarts: true, is_unreliable: true, ..Load::calm(5, 5) };
    Load { log_limits: Some(logs(4_000)), ..load }.run(seed)
}

/// Five clients over an unreliable network, restarts, partitions.
pub(crate) fn unreliable_recover_partition(seed: u64) -> Verdict {
    let load = Load { restarts: true, is_unreliable: true, is_partitioned: true, ..Load::calm(5, 5) };
    Load { log_limits: Some(logs(6_000)), ..load }.run(seed)
}

/// Fifteen clients on seven servers, all faults, random keys.
pub(crate) fn unreliable_recover_partition_linearizable(seed: u64) -> Verdict {
    let load = Load { restarts: true, is_unreliable: true, is_partitioned: true, ..Load::calm(15, 7) };
    Load { has_random_keys: true, log_limits: Some(logs(8_000)), ..load }.run(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bound of the log must be able to refuse.
    #[test]
    fn a_log_that_no_snapshot_shortens_is_too_long() -> Result<(), Violation> {
        let limits = LogLimits { log_bytes_max: u64::MAX, ..logs(LOG_LAB_MAX) };
        let mut service = Service::of_logs(3, false, Some(limits), 1)?;
        let clerk = service.clerk_of_all();
        for _ in 0..100 {
            put(&mut service, clerk, "x")?;
        }
        let figures = service.judged(Vec::new())?;
        assert!(figures.list.iter().any(|figure| !figure.is_within()), "{:?}", figures.list);
        Ok(())
    }
}
