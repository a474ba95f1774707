//! What a node does with the messages of its leader. Knows nothing of elections.

use crate::member::Member;
use crate::message::{Body, Run};
use crate::types::{Entry, Index, NodeId, Round};
use crate::verdict::{DropReason, Verdict};

/// What an append asks of this log.
enum Fit {
    /// The base is not here.
    Rejected,
    /// All of it is here already, up to this index.
    Known,
    /// These entries are new at the end.
    Extends(Vec<Entry>),
    /// The log differs from the first of these on.
    Replaces(Vec<Entry>),
}

/// Takes entries from the leader and answers it.
pub(crate) fn on_append(member: &mut Member, from: NodeId, run: Run, leader_commit: Index) -> Verdict {
    let base = run.base();
    let matched = run.last().index;
    if run.last().term > member.term() {
        return Err(DropReason::TermAhead);
    }
    match fit(member, run)? {
        Fit::Rejected => {
            // It is not below our base: that would not have been rejected.
            let hint = member.log.highest_not_above(base).unwrap_or(member.log.base());
            member.promise(from, Body::Rejected { base: base.index, hint });
            return Ok(());
        }
        Fit::Known => {}
        Fit::Extends(entries) => member.append(entries),
        Fit::Replaces(entries) => member.rewrite(entries),
    }
    // Not this log's end: a tail left by an old leader is unproven.
    let commit = leader_commit.min(matched).max(member.log.commit());
    member.log.commit_to(commit);
    member.acknowledge(from, matched);
    Ok(())
}

/// Decides; changes nothing. Only a real conflict replaces anything: an append that was overtaken by a longer
/// one is no reason to cut what the longer one brought.
fn fit(member: &Member, run: Run) -> Result<Fit, DropReason> {
    let log = &member.log;
    let (base, mut entries) = run.into_parts();
    if base.index > log.last().index {
        return Ok(Fit::Rejected);
    }
    // What is below our base is committed, so it is equal in the log of any leader.
    if base.index >= log.base().index && !log.holds(base) {
        return if base.index <= log.commit() {
            Err(DropReason::ContradictsCommitted)
        } else {
            Ok(Fit::Rejected)
        };
    }
    let is_here = |entry: &Entry| entry.position.index < log.base().index || log.holds(entry.position);
    let known = entries.iter().take_while(|entry| is_here(entry)).count();
    let new = entries.split_off(known);
    let Some(first) = new.first().map(|entry| entry.position.index) else { return Ok(Fit::Known) };
    if first > log.last().index {
        return Ok(Fit::Extends(new));
    }
    if first <= log.commit() {
        return Err(DropReason::ContradictsCommitted);
    }
    Ok(Fit::Replaces(new))
}

/// Learns the commit index and echoes the round.
pub(crate) fn on_heartbeat(member: &mut Member, from: NodeId, round: Round, commit: Index) -> Verdict {
    if commit > member.log.last().index {
        return Err(DropReason::BeyondLog);
    }
    // The leader names only what it knows this log to hold, so unlike an append it needs no proof.
    let commit = commit.max(member.log.commit());
    member.log.commit_to(commit);
    let clock = member.clock;
    member.promise(from, Body::HeartbeatReply { round, clock });
    Ok(())
}
