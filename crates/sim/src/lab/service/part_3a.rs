//! Part 3A: a key/value service that survives everything but the loss of a majority.

use bytes::Bytes;
use quorate_replica::command::Condition;

use crate::history::{Action, Outcome};
use crate::lab::raft::checks::demand;
use crate::lab::service::cluster::Service;
use crate::lab::service::load::Load;
use crate::lab::{Figure, Verdict};
use crate::network::HostIndex;
use crate::schedule::SECOND;
use crate::world::ClientIndex;

const KEY: Bytes = Bytes::from_static(b"1");

/// One client, no fault.
pub(crate) fn basic(seed: u64) -> Verdict {
    Load::calm(1, 5).run(seed)
}

/// Five clients, no fault.
pub(crate) fn concurrent(seed: u64) -> Verdict {
    Load::calm(5, 5).run(seed)
}

/// Five clients over an unreliable network.
pub(crate) fn unreliable(seed: u64) -> Verdict {
    Load { is_unreliable: true, ..Load::calm(5, 5) }.run(seed)
}

/// One client under partitions.
pub(crate) fn many_partitions_one_client(seed: u64) -> Verdict {
    Load { is_partitioned: true, ..Load::calm(1, 5) }.run(seed)
}

/// Five clients under partitions.
pub(crate) fn many_partitions_many_clients(seed: u64) -> Verdict {
    Load { is_partitioned: true, ..Load::calm(5, 5) }.run(seed)
}

/// One client, restarts.
pub(crate) fn persist_one_client(seed: u64) -> Verdict {
    Load { restarts: true, ..Load::calm(1, 5) }.run(seed)
}

/// Five clients, restarts.
pub(crate) fn persist_concurrent(seed: u64) -> Verdict {
    Load { restarts: true, ..Load::calm(5, 5) }.run(seed)
}

/// Five clients, restarts, an unreliable network.
pub(crate) fn persist_concurrent_unreliable(seed: u64) -> Verdict {
    Load { restarts: true, is_unreliable: true, ..Load::calm(5, 5) }.run(seed)
}

/// Five clients, restarts, partitions.
pub(crate) fn persist_partition(seed: u64) -> Verdict {
    Load { restarts: true, is_partitioned: true, ..Load::calm(5, 5) }.run(seed)
}

/// Five clients, restarts, partitions, an unreliable network.
pub(crate) fn persist_partition_unreliable(seed: u64) -> Verdict {
    Load { restarts: true, is_partitioned: true, is_unreliable: true, ..Load::calm(5, 5) }.run(seed)
}

/// Fifteen clients on seven servers, all faults, random keys.
pub(crate) fn persist_partition_unreliable_linearizable(seed: u64) -> Verdict {
    let load = Load { restarts: true, is_partitioned: true, ..Load::calm(15, 7) };
    Load { is_unreliable: true, has_random_keys: true, ..load }.run(seed)
}

/// A thousand appends, one after the other.
pub(crate) fn speed(seed: u64) -> Verdict {
    thousand_appends(Service::new(3, false, seed)?)
}

/// See [`speed`].
pub(crate) fn thousand_appends(mut service: Service) -> Verdict {
    const APPENDS: u64 = 1_000;
    // The longer way: through a server that does not lead.
    let leader = service.leader()?;
    let clerk = service.clerk(&[(leader + 1) % 3]);
    // The session and the connections are there before the clock runs, as the course has it.
    let first = service.append(clerk);
    service.call(clerk, KEY, first)?;
    let messages = service.world.counts().messages;
    let appends: Vec<_> = (0..APPENDS).map(|_| (KEY, service.append(clerk))).collect();
    service.tell(clerk, appends);
    let took = service.finish(&[clerk], 60 * SECOND)?;
    let messages = service.world.counts().messages - messages;
    let list = vec![
        // 1 ms each: to the server, to the leader, append, acknowledgement, notice of the commit, answer; the sync; and
        // up to 1 ms until the Clerk makes its next call.
        Figure::ms("1000 appends, ms", took, 33_300, 7_500),
        // Forwarded (1), appended and acknowledged (4), commit told and answered (4): 9; and heartbeats, which are few.
        Figure::of_ours("messages between servers", messages, 10 * APPENDS),
    ];
    service.judged(list)
}

/// Five clients append to one key over an unreliable network: no loss, no duplicate, each in its own order.
pub(crate) fn unreliable_one_key(seed: u64) -> Verdict {
    const CLIENTS: usize = 5;
    const APPENDS: usize = 10;
    let mut service = Service::new(3, true, seed)?;
    let clerks: Vec<ClientIndex> = (0..CLIENTS).map(|_| service.clerk_of_all()).collect();
    for clerk in &clerks {
        let appends: Vec<_> = (0..APPENDS).map(|_| (KEY, service.append(*clerk))).collect();
        service.tell(*clerk, appends);
    }
    let took = service.finish(&clerks, 60 * SECOND)?;
    let value = service.call(clerks[0], KEY, Action::Get)?;
    let text = value.value().map(|value| String::from_utf8_lossy(value).into_owned()).unwrap_or_default();
    let tokens: Vec<&str> = text.split_terminator(';').collect();
    demand(tokens.len() == CLIENTS * APPENDS, || format!("{} appends are there: {text}", tokens.len()))?;
    for clerk in clerks {
        let prefix = format!("{clerk}.");
        let numbers = tokens.iter().filter_map(|token| token.strip_prefix(&prefix)?.parse::<u64>().ok());
        let numbers: Vec<u64> = numbers.collect();
        let is_in_order = numbers.len() == APPENDS && numbers.is_sorted_by(|a, b| a < b);
        demand(is_in_order, || format!("client {clerk}'s appends: {numbers:?}"))?;
    }
    // Ten calls of about 100 ms, with a fifth of them lost somewhere and asked again.
    service.judged(vec![Figure::ms("all appends, ms", took, 120_000, 12_000)])
}

fn put(text: &'static [u8]) -> Action {
    Action::Put { value: Bytes::from_static(text), condition: Condition::Always, get: false }
}

fn must_read(
    service: &mut Service,
    clerk: ClientIndex,
    text: &'static [u8],
) -> Result<(), crate::invariants::Violation> {
    let read = service.call(clerk, KEY, Action::Get)?;
    demand(read == Outcome::Value(Bytes::from_static(text)), || {
        format!("read {read}, not {}", text.escape_ascii())
    })
}

/// The majority goes on; what is asked of the minority ends only after the partition, and then soon.
pub(crate) fn one_partition(seed: u64) -> Verdict {
    let mut service = Service::new(5, false, seed)?;
    let all = service.clerk_of_all();
    service.call(all, KEY, put(b"13"))?;
    let leader = service.leader()?;
    let minority: Vec<HostIndex> = vec![leader, (leader + 1) % 5];
    let majority: Vec<HostIndex> = (2..5).map(|other| (leader + other) % 5).collect();
    let groups: Vec<usize> = (0..5).map(|host| usize::from(minority.contains(&host))).collect();
    service.partition(&groups);
    let (clerk, putter, getter) =
        (service.clerk(&majority), service.clerk(&minority), service.clerk(&minority));
    let began = service.now();
    service.call(clerk, KEY, put(b"14"))?;
    let served = service.now() - began;
    must_read(&mut service, clerk, b"14")?;
    service.tell(putter, [(KEY, put(b"15"))]);
    service.tell(getter, [(KEY, Action::Get)]);
    service.run_for(SECOND)?;
    demand(!service.is_idle(putter) && !service.is_idle(getter), || "the minority has served".to_owned())?;
    must_read(&mut service, clerk, b"14")?;
    service.call(clerk, KEY, put(b"16"))?;
    must_read(&mut service, clerk, b"16")?;
    service.heal();
    let ended = service.finish(&[putter, getter], 4 * SECOND)?;
    must_read(&mut service, all, b"15")?;
    let list = vec![
        Figure::ms("the majority serves after, ms", served, 10_000, 1_200),
        // The gateways learn of the leader by its next heartbeat, or by a link that works again, and ask at once.
        Figure::ms("the minority's calls end after, ms", ended, 4_000, 1_000),
    ];
    service.judged(list)
}
