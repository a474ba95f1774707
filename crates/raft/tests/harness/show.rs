//! The notation of the scripts: one event a line, `node@term` first, `→` for a change and for what is sent,
//! `⇥` for a message that was dropped.

use std::fmt::Write as _;

use quorate_raft::{
    Body, Dropped, Effects, Entry, Envelope, Fetch, Index, Input, Membership, Node, NodeId, Payload,
    Position, ReadOutcome, Refusal, Role, Term,
};

use super::{Cluster, Flight};

/// What a step may change, as it was.
pub(crate) struct Before {
    role: Role,
    term: Term,
    last: Position,
    commit: Index,
    base: Position,
    snapshot: Position,
    leader: Option<NodeId>,
    dropped: Dropped,
}

impl Before {
    pub(crate) fn of(node: &Node) -> Self {
        Self {
            role: node.role(),
            term: node.term(),
            last: node.last(),
            commit: node.commit(),
            base: node.base(),
            snapshot: node.snapshot(),
            leader: node.leader(),
            dropped: node.dropped().clone(),
        }
    }
}

pub(crate) fn kind(body: &Body) -> &'static str {
    match body {
        Body::PreVote { .. } => "prevote",
        Body::PreVoteReply { .. } => "prevotereply",
        Body::Vote { .. } => "vote",
        Body::VoteReply { .. } => "votereply",
        Body::Append { .. } => "append",
        Body::InstallSnapshot { .. } => "snapshot",
        Body::TimeoutNow => "timeoutnow",
        Body::Appended { .. } => "appended",
        Body::Rejected { .. } => "rejected",
        Body::Heartbeat { .. } => "heartbeat",
        Body::HeartbeatReply { .. } => "heartbeatreply",
    }
}

pub(crate) fn entry(entry: &Entry) -> String {
    match &entry.payload {
        Payload::Noop => format!("{} no-op", entry.position),
        Payload::Membership(membership) => format!("{} {}", entry.position, self::membership(membership)),
        Payload::Data(data) if data.len() > 16 => format!("{} {} bytes", entry.position, data.len()),
        Payload::Data(data) => format!("{} \"{}\"", entry.position, String::from_utf8_lossy(data)),
    }
}

/// `voters n1 n2 | leaving n1 n2 n3 | learners n4 | joining n4`.
pub(crate) fn membership(membership: &Membership) -> String {
    let list = |ids: &mut dyn Iterator<Item = String>| ids.collect::<Vec<_>>().join(" ");
    let mut text = format!("voters {}", list(&mut membership.voters().iter().map(NodeId::to_string)));
    if membership.is_joint() {
        let _ = write!(text, " | from {}", list(&mut membership.outgoing().iter().map(NodeId::to_string)));
    }
    if !membership.learners().is_empty() {
        let _ =
            write!(text, " | learners {}", list(&mut membership.learners().iter().map(NodeId::to_string)));
    }
    if !membership.joining().is_empty() {
        let name = |(id, replaced): (&NodeId, &Option<NodeId>)| match replaced {
            Some(replaced) => format!("{id} for {replaced}"),
            None => id.to_string(),
        };
        let _ = write!(text, " | joining {}", list(&mut membership.joining().iter().map(name)));
    }
    text
}

/// Up to four entries in full, more as a range.
pub(crate) fn entries(list: &[Entry]) -> String {
    match list {
        [first, .., last] if list.len() > 4 => format!("{}..{}", first.position, last.position),
        [] | [..] => list.iter().map(entry).collect::<Vec<_>>().join(", "),
    }
}

pub(crate) fn body(body: &Body) -> String {
    let yes = |granted: &bool| if *granted { "granted" } else { "refused" };
    match body {
        Body::PreVote { last } => format!("pre-vote? last={last}"),
        Body::PreVoteReply { granted } => format!("pre-vote {}", yes(granted)),
        Body::Vote { last, is_transfer: false } => format!("vote? last={last}"),
        Body::Vote { last, is_transfer: true } => format!("vote as asked? last={last}"),
        Body::TimeoutNow => "campaign now".to_owned(),
        Body::VoteReply { granted } => format!("vote {}", yes(granted)),
        Body::Append { run, commit } if run.entries().is_empty() => {
            format!("append after {}: nothing, commit={commit}", run.base())
        }
        Body::Append { run, commit } => {
            format!("append after {}: {}, commit={commit}", run.base(), entries(run.entries()))
        }
        Body::InstallSnapshot { last } => format!("snapshot up to {last}"),
        Body::Appended { matched } => format!("appended up to {matched}"),
        Body::Rejected { base, hint } => format!("rejected base {base}, hint {hint}"),
        Body::Heartbeat { round, commit } => format!("heartbeat round={} commit={commit}", round.0),
        Body::HeartbeatReply { round, clock } => format!("echo round={} clock={clock}", round.0),
    }
}

pub(crate) fn refusal(refusal: &Refusal) -> String {
    match refusal {
        Refusal::NotLeader { leader: Some(leader) } => format!("not leader, ask {leader}"),
        Refusal::NotLeader { leader: None } => "not leader".to_owned(),
        Refusal::Busy => "busy".to_owned(),
        Refusal::TooLarge => "too large".to_owned(),
        Refusal::ChangePending => "a change is pending".to_owned(),
        Refusal::NotReady => "not ready".to_owned(),
    }
}

pub(crate) fn flight(flight: &Flight) -> String {
    let Flight { from, to, message } = flight;
    format!("{from}@{} → {to} {}", message.term, body(&message.body))
}

fn sends(envelopes: &[Envelope]) -> impl Iterator<Item = String> {
    envelopes
        .iter()
        .map(|Envelope { to, message }| format!("@{} → {to} {}", message.term, body(&message.body)))
}

impl Cluster {
    pub(crate) fn say(&mut self, line: &str) {
        if let Some(trace) = &mut self.trace {
            let _ = writeln!(trace, "{line}");
        }
    }

    pub(crate) fn show_sends(&mut self, id: NodeId, envelopes: &[Envelope]) {
        if self.trace.is_some() {
            for line in sends(envelopes) {
                self.say(&format!("{id}{line}"));
            }
        }
    }

    pub(crate) fn show_step(&mut self, id: NodeId, before: &Before, input: &Input, effects: &Effects) {
        let node = self.node(id);
        let mut lines = changes(before, node, effects);
        lines.extend(drops(before, node, input));
        lines.extend(outcomes(input, effects));
        let who = format!("{id}@{}", node.term());
        for line in lines {
            self.say(&format!("{who} {line}"));
        }
        self.show_sends(id, &effects.send_now);
        if !self.auto_persist
            && let Some(persist) = &effects.persist
        {
            self.say(&format!("{who} writes {}", persist.write));
        }
    }
}

fn changes(before: &Before, node: &Node, effects: &Effects) -> Vec<String> {
    let mut lines = Vec::new();
    if node.role() != before.role {
        lines.push(format!("{} → {}", before.role, node.role()));
    }
    if node.term() != before.term {
        lines.push(format!("term {} → {}", before.term, node.term()));
    }
    if let Some(leader) = node.leader().filter(|&leader| before.leader != Some(leader) && leader != node.id())
    {
        lines.push(format!("follows {leader}"));
    }
    if let Some(persist) = &effects.persist {
        if let Some(hard_state) = persist.hard_state
            && let Some(vote) = hard_state.vote
        {
            lines.push(format!("votes for {vote}"));
        }
        if let Some(base) = persist.reset_to {
            let count = before.last.index.distance_from(before.base.index);
            lines.push(format!("drop {count} entries, begin after {base}"));
        }
        if let Some(first) = persist.entries.first() {
            if first.position.index <= before.last.index && persist.reset_to.is_none() {
                let kept = first.position.index.previous();
                lines.push(format!(
                    "truncate after {kept}: {} entries",
                    before.last.index.distance_from(kept)
                ));
            }
            lines.push(format!("append {}", entries(&persist.entries)));
        }
    }
    if node.commit() != before.commit {
        let position = Position::new(node.term_at(node.commit()).unwrap(), node.commit());
        lines.push(format!("commit {position}"));
    }
    if let Some(snapshot) = effects.install {
        lines.push(format!("installs snapshot {snapshot}"));
    } else if (node.snapshot(), node.base()) != (before.snapshot, before.base) {
        lines.push(format!("snapshot {} base {}", node.snapshot(), node.base()));
    }
    if let Some(Fetch { from, last }) = effects.fetch {
        lines.push(format!("fetches snapshot {last} of {from}"));
    }
    lines
}

fn drops(before: &Before, node: &Node, input: &Input) -> Option<String> {
    let Input::Message { from, message } = input else { return None };
    let reason = node.dropped().iter().find(|(reason, count)| before.dropped.get(reason) != Some(count));
    reason.map(|(reason, _)| format!("⇥ {} of {from}@{}: {reason}", kind(&message.body), message.term))
}

fn outcomes(input: &Input, effects: &Effects) -> Vec<String> {
    let mut lines = Vec::new();
    match &effects.proposed {
        Some(Ok(position)) => lines.push(format!("proposed {position}")),
        Some(Err(why)) => lines.push(format!("proposal refused: {}", refusal(why))),
        None => {}
    }
    if let Input::Read { token } = input
        && effects.reads.is_empty()
    {
        lines.push(format!("read #{} waits", token.0));
    }
    for outcome in &effects.reads {
        lines.push(match outcome {
            ReadOutcome::Confirmed { token, index } => format!("read #{} confirmed at {index}", token.0),
            ReadOutcome::Refused { token, refusal: why } => {
                format!("read #{} refused: {}", token.0, refusal(why))
            }
        });
    }
    lines
}
