//! A durable promise before its message: no vote, no acknowledgement and no word in a term leaves a server whose disk,
//! if the power failed at this instant, would not hold what it promises (Raft paper, figure 2: "updated on stable storage
//! before responding"; thesis §3.8).

use quorate_raft::{Body, Message, Position};
use quorate_replica::wire::{PeerEnvelope, PeerMessage};

use super::{Violation, violation};
use crate::ledger::HostLedger;
use crate::network::HostIndex;

/// # Errors
/// If the message promises what is not durable.
pub fn check(host: HostIndex, ledger: &HostLedger, envelope: &PeerEnvelope) -> Result<(), Violation> {
    let PeerMessage::Raft(Message { term, body }) = &envelope.message else { return Ok(()) };
    let durable = ledger.durable_hard_state;
    let broken = match body {
        Body::VoteReply { granted: true } => {
            let stands = durable.term > *term || durable.term == *term && durable.vote == Some(envelope.to);
            (!stands).then(|| format!("a vote in term {term} for {}", envelope.to))
        }
        Body::Vote { .. } => {
            let stands = durable.term > *term || durable.term == *term && durable.vote == Some(envelope.from);
            (!stands).then(|| format!("a candidacy in term {term}, which is a vote for itself"))
        }
        Body::Appended { matched } => {
            // What it held when it promised; a later leader may have had it replaced since, in a later term.
            let holds = ledger.durable_log.last().index >= *matched || durable.term > *term;
            let stands = durable.term >= *term && holds;
            (!stands).then(|| format!("an acknowledgement up to {matched} in term {term}"))
        }
        // These speak of a term that nobody has entered.
        Body::PreVote { .. } | Body::PreVoteReply { granted: true } => None,
        Body::PreVoteReply { granted: false }
        | Body::VoteReply { granted: false }
        | Body::Append { .. }
        | Body::InstallSnapshot { .. }
        | Body::TimeoutNow
        | Body::Rejected { .. }
        | Body::Heartbeat { .. }
        | Body::HeartbeatReply { .. } => {
            (durable.term < *term).then(|| format!("a message in term {term}, which it may forget"))
        }
    };
    let Some(promise) = broken else { return Ok(()) };
    let Position { term: last_term, index } = ledger.durable_log.last();
    let story = format!(
        "n{} sent {promise}; on its disk are term={} vote={:?} last={index}@{last_term}",
        host + 1,
        durable.term,
        durable.vote,
    );
    violation("durable promise", story)
}
