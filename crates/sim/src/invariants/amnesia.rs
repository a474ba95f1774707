//! A server that has lost its folder, or has an older copy of it, has forgotten what it promised: no answer of it counts for
//! anybody (thesis §3.8), unless a membership names its new folder. And nobody who remembers is refused. (Whoever takes itself
//! for removed may be wrong for a while, and serves in the end: see [`crate::liveness`].)

use quorate_replica::Standing;
use quorate_replica::replica::Replica;
use quorate_replica::seat::Seat;
use quorate_storage::{Incarnation, Start};

use super::members::Members;
use super::{Violation, violation};
use crate::host::{Host, host_of, node_id};
use crate::network::HostIndex;

/// An answer of consensus that a server has counted.
pub struct Counted {
    from: HostIndex,
    incarnation: Incarnation,
    start: Start,
    /// The server's latest membership names this folder.
    is_named: bool,
}

/// What a server has counted in its last step. It may have a reason not to take part.
///
/// # Errors
/// If it is refused, and has forgotten nothing.
pub fn look(hosts: &mut [Host], host: HostIndex, has_reason: bool) -> Result<Vec<Counted>, Violation> {
    let Host { process, is_lost, .. } = &mut hosts[host];
    let Some(process) = process else { return Ok(Vec::new()) };
    if let Standing::Refused { why } | Standing::Joining { why } = process.replica.standing()
        && !*is_lost
        && !has_reason
    {
        violation("refusal", format!("n{} has forgotten nothing, and says: {why}", host + 1))?;
    }
    let counted = process.replica.take_counted();
    let named = |replica: &Replica, id| {
        let membership = replica.raft()?.membership();
        Seat::of(membership, id).map(|seat| seat.incarnation)
    };
    let seen = counted.into_iter().map(|(id, incarnation, start)| Counted {
        from: host_of(id),
        incarnation,
        start,
        is_named: named(&process.replica, id) == Some(incarnation),
    });
    Ok(seen.collect())
}

/// # Errors
/// If an amnesiac was counted.
pub fn check(
    hosts: &[Host],
    host: HostIndex,
    counted: &[Counted],
    members: &Members,
) -> Result<(), Violation> {
    // Whoever has forgotten may count another that has: they are fewer than half, and nobody else answers either.
    let forgets =
        |host: &Host| host.amnesia.as_ref().is_some_and(|amnesia| amnesia.incarnation == host.incarnation);
    if hosts.get(host).is_some_and(forgets) {
        return Ok(());
    }
    for Counted { from, incarnation, start, is_named } in counted {
        let Some(amnesia) = hosts.get(*from).and_then(|from| from.amnesia.as_ref()) else { continue };
        let has_forgotten = amnesia.draws.contains(&start.draw);
        // It may be named no more by what this very step has brought.
        let is_named = *is_named || members.has_named(node_id(*from), *incarnation);
        if has_forgotten && (*incarnation == amnesia.incarnation || !is_named) {
            let story = format!(
                "n{} counted an answer of n{}, start {}, which has forgotten what it promised",
                host + 1,
                from + 1,
                start.number
            );
            return violation("amnesiac helps", story);
        }
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
            check(&hosts, 0, &[Counted { from, incarnation, start, is_named }], &Members::new(2))
        };
        assert!(counted(1, old, 7, true).is_err(), "an older copy");
        assert!(counted(1, fresh, 7, false).is_err(), "an empty folder");
        counted(1, old, 6, true).expect("what it said before");
        counted(1, fresh, 7, true).expect("it was taken in anew");
        counted(0, old, 7, true).expect("another server");
        let own = Host { incarnation: old, amnesia: hosts[1].amnesia.clone(), ..Host::default() };
        let both = [own, Host { amnesia: hosts[1].amnesia.clone(), ..Host::default() }];
        let start = Start { number: 1, draw: 7 };
        let by_itself = [Counted { from: 1, incarnation: old, start, is_named: true }];
        check(&both, 0, &by_itself, &Members::new(2)).expect("one that has forgotten too");
    }
}
