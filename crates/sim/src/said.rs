//! Messages in the words of a trace, each short enough for a line. Decides nothing.

use std::fmt;

use quorate_client::Request;
use quorate_raft::{Body, Message};
use quorate_replica::backup::BackupNews;
use quorate_replica::replica::DiskWrite;
use quorate_replica::transfer::SnapshotNews;
use quorate_replica::value::Value;
use quorate_replica::wire::PeerMessage;

/// A message between servers.
pub(crate) struct Said<'a>(pub(crate) &'a PeerMessage);

impl Said<'_> {
    /// Whether it is said again and again while nothing happens.
    pub(crate) fn is_routine(&self) -> bool {
        matches!(
            self.0,
            PeerMessage::Started { .. }
                | PeerMessage::Raft(Message {
                    body: Body::Heartbeat { .. } | Body::HeartbeatReply { .. },
                    ..
                })
        )
    }
}

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            PeerMessage::Raft(Message { term, body }) => {
                write!(f, "@{term} ")?;
                raft(f, body)
            }
            PeerMessage::Started { .. } => f.write_str("started"),
            PeerMessage::Introduce => f.write_str("which start is that?"),
            PeerMessage::Forward { items } => write!(f, "forward {} bytes", items.len()),
            PeerMessage::ReadIndex { start, counter } => write!(f, "read index? {start}.{counter}"),
            PeerMessage::ReadIndexReply { start, counter, index } => {
                write!(f, "read index {start}.{counter} is {index}")
            }
            PeerMessage::FetchSnapshot { last, offset } => write!(f, "snapshot {last} from {offset} on?"),
            PeerMessage::SnapshotChunk { last, offset, total, bytes } => {
                write!(f, "snapshot {last} {offset}+{} of {total}", bytes.len())
            }
            PeerMessage::CheckReport { position, digest, asks } => {
                write!(f, "state at {position} is {digest:016x}{}", if *asks { ", and yours?" } else { "" })
            }
            PeerMessage::DiskRoom(room) => {
                write!(
                    f,
                    "disk {}, {} bytes free",
                    if room.is_short { "full" } else { "fine" },
                    room.free_bytes
                )
            }
            other @ (PeerMessage::Founding { .. }
            | PeerMessage::Founded { .. }
            | PeerMessage::Refused { .. }
            | PeerMessage::Outdated { .. }
            | PeerMessage::Announce { .. }
            | PeerMessage::Welcome { .. }
            | PeerMessage::Unknown { .. }
            | PeerMessage::Removed { .. }) => write!(f, "{other:?}"),
        }
    }
}

fn raft(f: &mut fmt::Formatter<'_>, body: &Body) -> fmt::Result {
    let answer = |granted: &bool| if *granted { "granted" } else { "refused" };
    match body {
        Body::PreVote { last } => write!(f, "pre-vote? last={last}"),
        Body::PreVoteReply { granted } => write!(f, "pre-vote {}", answer(granted)),
        Body::Vote { last, is_transfer: false } => write!(f, "vote? last={last}"),
        Body::Vote { last, is_transfer: true } => write!(f, "vote as asked? last={last}"),
        Body::TimeoutNow => f.write_str("campaign now"),
        Body::VoteReply { granted } => write!(f, "vote {}", answer(granted)),
        Body::Append { run, commit } => {
            write!(f, "append {}+{} commit={commit}", run.base(), run.entries().len())
        }
        Body::InstallSnapshot { last } => write!(f, "snapshot up to {last}"),
        Body::Appended { matched } => write!(f, "appended {matched}"),
        Body::Rejected { base, hint } => write!(f, "rejected {base}, have {hint}"),
        Body::Heartbeat { round, commit } => write!(f, "heartbeat round={} commit={commit}", round.0),
        Body::HeartbeatReply { round, clock } => {
            write!(f, "heartbeat answered round={} clock={clock}", round.0)
        }
    }
}

/// A Clerk's request; the call that it serves has a line of its own.
pub(crate) struct Asked<'a>(pub(crate) &'a Request);

impl fmt::Display for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Request::Once { session, sequence, acknowledged, command: _ } => {
                let session = String::from_utf8_lossy(&session.0);
                // The cluster's number, which all sessions begin with, says nothing.
                let short = session.split_once('-').map_or(session.as_ref(), |(_, short)| short);
                write!(f, "session {short} #{sequence}, had answers up to #{acknowledged}")
            }
            other @ (Request::OpenSession { .. } | Request::CloseSession { .. } | Request::Read(_)) => {
                write!(f, "{other:?}")
            }
        }
    }
}

/// What became of a snapshot.
pub(crate) struct Told<'a>(pub(crate) &'a SnapshotNews);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            SnapshotNews::Taken(position) => write!(f, "snapshot {position} is taken"),
            SnapshotNews::Received { last, bytes } => write!(f, "snapshot {last}: {bytes} bytes are here"),
            SnapshotNews::Complete { last, .. } => write!(f, "snapshot {last} is complete"),
            SnapshotNews::Read { to, last, offset, piece } => {
                let bytes = piece.as_ref().map_or(0, |(_, bytes)| bytes.len());
                write!(f, "snapshot {last}: {bytes} bytes from {offset} on for {to}")
            }
            SnapshotNews::Rotten { to, last, offset: _, why } => {
                write!(f, "snapshot {last} for {to} is rotten: {why}")
            }
            SnapshotNews::NotTaken { position, why } => write!(f, "snapshot {position} is not taken: {why}"),
            SnapshotNews::Backup(BackupNews::Read { number, piece, .. }) => {
                let bytes = piece.as_ref().map_or(0, Value::len);
                write!(f, "backup {number}: {bytes} bytes are read")
            }
            SnapshotNews::Backup(news) => write!(f, "{news:?}"),
            SnapshotNews::Failed { last, why } => write!(f, "snapshot {last} failed: {why}"),
        }
    }
}

/// The positions of the entries of a write, and its term and vote if they are new.
pub(crate) struct Span<'a>(pub(crate) &'a DiskWrite);

impl fmt::Display for Span<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DiskWrite { write, hard_state, entries, .. } = self.0;
        write!(f, "{write}")?;
        if let (Some(first), Some(last)) = (entries.first(), entries.last()) {
            write!(f, " {}..{}", first.position, last.position)?;
        }
        match hard_state {
            None => Ok(()),
            Some(hard_state) => match hard_state.vote {
                Some(vote) => write!(f, " term={} vote={vote}", hard_state.term),
                None => write!(f, " term={}", hard_state.term),
            },
        }
    }
}
