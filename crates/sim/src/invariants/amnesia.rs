//! A server that has lost its folder, or has an older copy of it, has forgotten what it promised: no answer of it counts for
//! anybody (thesis §3.8), unless a membership names its new folder. And nobody who remembers is refused. (Whoever takes itself
//! for removed may be wrong for a while, and serves in the end: see [`crate::liveness`].)

use std::collections::BTreeMap;

use quorate_raft::{Membership, NodeId, Payload, Role};
use quorate_replica::Standing;
use quorate_replica::replica::DiskWrite;
use quorate_replica::seat::Seat;
use quorate_storage::{Incarnation, Start};

use super::{Violation, violation};
use crate::host::{Host, Process, host_of};
use crate::network::HostIndex;

/// An answer of consensus that a server has counted.
pub struct Counted {
    from: HostIndex,
    incarnation: Incarnation,
    start: Start,
    /// A membership that was the server's latest in this step names this folder.
    is_named: bool,
}

fn seats(membership: &Membership) -> BTreeMap<NodeId, Incarnation> {
    let seat = |id: NodeId| Some((id, Seat::of(membership, id)?.incarnation));
    membership.members().into_iter().filter_map(seat).collect()
}

/// What a server has counted in its last step, which wrote this. It may have a reason not to take part.
///
/// # Errors
/// If it is refused, and has forgotten nothing.
pub fn look(
    hosts: &mut [Host],
    host: HostIndex,
    has_reason: bool,
    written: &[DiskWrite],
) -> Result<Vec<Counted>, Violation> {
    let Host { process, is_lost, .. } = &mut hosts[host];
    let Some(Process { replica, named, .. }) = process else { return Ok(Vec::new()) };
    if let Standing::Refused { why } | Standing::Joining { why } = replica.standing()
        && !*is_lost
        && !has_reason
    {
        violation("refusal", format!("n{} has forgotten nothing, and says: {why}", host + 1))?;
    }
    // One step takes many messages, and a membership among them: what was counted before it, the one before decides.
    let now = replica.raft().map(|node| seats(node.membership())).unwrap_or_default();
    let before = std::mem::replace(named, now);
    let between = written.iter().flat_map(|write| &write.entries).filter_map(|entry| match &entry.payload {
        Payload::Membership(membership) => Some(seats(membership)),
        Payload::Noop | Payload::Data(_) => None,
    });
    let latest: Vec<_> = between.chain([before, named.clone()]).collect();
    let seen = replica.take_counted().into_iter().map(|(id, incarnation, start)| Counted {
        from: host_of(id),
        incarnation,
        start,
        is_named: latest.iter().any(|seats| seats.get(&id) == Some(&incarnation)),
    });
    Ok(seen.collect())
}

/// # Errors
/// If an amnesiac was counted, or was helped by one who remembers.
pub fn check(hosts: &[Host], host: HostIndex, counted: &[Counted]) -> Result<(), Violation> {
    // To who follows an answer is nothing: late ones are for the process before, which remembered.
    let raft =
        hosts.get(host).and_then(|host| host.process.as_ref()).and_then(|process| process.replica.raft());
    let asks = raft.is_none_or(|node| node.role() != Role::Follower);
    let forgets = asks && hosts.get(host).is_some_and(Host::is_older_copy);
    for Counted { from, incarnation, start, is_named } in counted {
        let amnesia = hosts.get(*from).and_then(|from| from.amnesia.as_ref());
        let has_forgotten = amnesia.is_some_and(|amnesia| {
            amnesia.draws.contains(&start.draw) && (*incarnation == amnesia.incarnation || !is_named)
        });
        // Older copies that start together know nothing of each other's later starts. They may count each other: with their
        // own votes they are fewer than half of every membership that may count (`members_bear`), and whoever remembers does
        // not help them, which is what is checked here.
        let (who, what) = match (forgets, has_forgotten) {
            (false, true) => ("amnesiac helps", "which has forgotten what it promised"),
            (true, false) => ("amnesiac is helped", "and has itself forgotten what it promised"),
            (true, true) | (false, false) => continue,
        };
        let story =
            format!("n{} counted an answer of n{}, start {}, {what}", host + 1, from + 1, start.number);
        return violation(who, story);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::host::Amnesia;

    #[test]
    fn an_amnesiac_that_is_counted_is_found() {
        let (old, fresh) = (Incarnation(1), Incarnation(2));
        let forgetful = Host {
            amnesia: Some(Amnesia { draws: BTreeSet::from([7]), incarnation: old }),
            ..Host::default()
        };
        let hosts = [Host::default(), forgetful];
        let counted = |from, incarnation, draw, is_named| {
            let start = Start { number: 1, draw };
            check(&hosts, 0, &[Counted { from, incarnation, start, is_named }])
        };
        assert!(counted(1, old, 7, true).is_err(), "an older copy");
        assert!(counted(1, fresh, 7, false).is_err(), "an empty folder");
        counted(1, old, 6, true).expect("what it said before");
        counted(1, fresh, 7, true).expect("it was taken in anew");
        counted(0, old, 7, true).expect("another server");

        let own = Host { incarnation: old, amnesia: hosts[1].amnesia.clone(), ..Host::default() };
        let [_, other] = hosts;
        let all = [own, other, Host::default()];
        let by_itself = |from| {
            let start = Start { number: 1, draw: 7 };
            check(&all, 0, &[Counted { from, incarnation: old, start, is_named: true }])
        };
        by_itself(1).expect("one that has forgotten too");
        assert!(by_itself(2).is_err(), "one that remembers");
    }
}
