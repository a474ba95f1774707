//! Raft consensus as a pure step function: [`Node::step`] takes one [`Input`] and gives the [`Effects`] that are
//! owed for it. It reads no clock, draws no entropy, opens nothing and waits for nothing; whoever calls it owns the
//! timer, the disk and the network. The same inputs give the same effects, always.
//!
//! This page tells the protocol once, in the order of the files. The files refer to it, and to Ongaro's thesis
//! (*Consensus: Bridging Theory and Practice*, 2014), by section.
//!
//! # The caller's part
//!
//! After each step, in the order of the fields of [`Effects`]: send `send_now`; queue `persist` behind all writes
//! before it, and once it is **synced** send its `send_after` and step [`Input::Persisted`] with its number; change
//! the state machine to the snapshot of `install`, and hand it `apply`; answer `reads` once it is that far; see to it
//! that the snapshot of `fetch` comes. Sending and writing may run side by side. Messages may be lost, repeated, delayed and delivered in any order; writes may not: they complete in the
//! order of their numbers. A process that cannot sync must end.
//!
//! # Numbers, messages, effects (`types`, `message`, `effects`)
//!
//! A log entry is named by its [`Position`], the term in which a leader created it and its index. What a peer sends
//! becomes a [`Run`] at the gate, which is a slice of a log that cannot be malformed; whoever holds one need not ask.
//!
//! A promise is a message that other nodes may rely on after this one crashes: a granted vote, an acknowledgement of
//! entries, or just speaking in a term. It must not leave before what it rests on is durable, so it lies **inside**
//! the write that makes it so ([`Persist::send_after`]) and cannot be reached before. Where an answer rests on a write
//! that is under way already, an empty write behind it carries the answer; where all is durable, it leaves at once.
//!
//! # One step (`node`, `member`, `role`, `verdict`)
//!
//! A node is a `Member` (term and vote, log, writes under way, timer, and the effects of the step in progress) in one
//! of four roles. The term rule stands in one place for all of them: a message of a later term makes this node enter
//! that term as a follower; one of an earlier term is dropped, and its sender told. At the end of a step all that
//! must be written is one write.
//!
//! Peers are weather. What a message asks that cannot be is dropped and counted ([`Node::dropped`]), and no message
//! panics. This node's own bookkeeping is not weather: its invariants are asserted, in release builds too, because a
//! node that doubts its memory must stop.
//!
//! # Elections (`election`)
//!
//! A follower that does not hear from a leader for an election timeout asks first whether it **could** win
//! (pre-vote, §9.6): nobody's term changes by that. With a majority of answers it enters the next term, votes for
//! itself, and asks for votes; requests and own vote count only once that is durable. Votes go to logs that are at
//! least as complete (§3.6.1), one in each term. The timeout is drawn anew each time, so that split votes end.
//!
//! A refusal carries the term of who refuses: a node whose term is behind learns it and asks again at once, so that
//! no pre-vote is refused for ever for its term alone. A node that hears from its leader ignores campaigns and their
//! terms (§4.2.3); a leader that has not heard from a majority for the longest election timeout steps down (§6.2).
//! Together they let a node that is cut off, or hears only half the group, return without deposing anybody. A node
//! that did enter a later term answers the leader's messages with it; that costs one election.
//!
//! A follower to whom its leader's end closes the way is told so ([`Input::Unreachable`]): it waits for a short time instead of
//! an election timeout, long enough to hear a leader that lives, and asks for pre-votes then. A candidate that is refused in the
//! first term after a leader's does likewise, for most likely the vote was split. Neither stands for anybody's vote.
//!
//! A node whose caller does not trust its state machine any more is told to withdraw ([`Input::Withdraw`]): it follows,
//! and campaigns no more. Its votes and acknowledgements speak of its log alone, and go on.
//!
//! # Following (`follower`, `log`, `writes`)
//!
//! An append says what it follows. A follower that does not hold that rejects it, and hints at the highest position
//! of its own that could be common; the leader takes the highest of its own at or below the hint. So one rejection
//! skips a whole term of conflict on either side (§3.5). Entries are replaced only from the first **real** conflict
//! on: an append that was overtaken by a longer one truncates nothing.
//!
//! An entry that was replaced while its write was under way is durable by its newer write alone: pending writes are
//! clamped when the log is rewritten, and an acknowledgement waits for a number, never for a position.
//!
//! A follower commits at most what an append has proven equal, not its own end of the log. It hands committed
//! entries over at once, even if its own sync is still under way: committed is what a majority has.
//!
//! # Leading (`leader`, `progress`, `quorum`)
//!
//! A term begins with a no-op: only an entry of its own term can a leader commit by counting, and with it all before
//! (§3.6.2, figure 8). It sends entries while its own disk writes them, and counts itself only up to its own durable
//! index.
//!
//! A follower is **probed**, one append at a time, until one is accepted; then appends are **replicated** without
//! waiting, within bounds of messages and bytes. On a network without loss each entry goes to each follower once. If
//! an append is unanswered for a heartbeat while the follower answers heartbeats, the leader asks for its last index
//! without entries: the answer acknowledges, or rejects and leads back to probing. An unreachable follower costs
//! heartbeats only.
//!
//! Every append carries the commit index. When it advances and nothing is in flight to a follower, a heartbeat tells
//! it at once, since followers answer clients from what they have applied; while something is in flight, the answer
//! to that is the moment. A heartbeat names a commit index at most as far as the follower is known to hold the log.
//!
//! # Linearizable reads (`read`)
//!
//! A leader that has committed an entry of its own term notes its commit index and asks, in a numbered **round** that
//! heartbeats carry, whether it still leads; when a majority has echoed it in this term the index is confirmed (§6.4).
//! A read joins a round only before its first message has left. One round is in flight at a time; what arrives
//! meanwhile shares the next. Those that confirmed the last round are asked alone, if they are enough; where one of them
//! lets a tick go by, everyone is asked, and the heartbeat tick repeats a round that was lost. When leadership is lost
//! all waiting reads are refused at once. No lease, no clock.
//!
//! Heartbeat answers also carry each follower's clock, an opaque number; [`Node::majority_clock`] is what a majority
//! of the clocks has reached, by the function that finds the commit index.
//!
//! # Members (`membership`, `change`)
//!
//! Who belongs to the group is an entry of the log like any other, and counts as soon as it is in a log, committed or
//! not; where the entry is replaced, the one before it counts again (§4.1). The founding members are given at the start,
//! and a snapshot carries what was applied.
//!
//! Where the voters change, two sets must agree in between (joint consensus, §4.3): the leader appends a joint
//! configuration and, once both sets have committed it, the new one. Whoever leads then does the second step, so a
//! change is completed or has never been, whatever crashes. One at a time, and none before the leader has committed in
//! its term. A learner gets the log and never counts. One that is joining becomes a voter by itself when it is at most
//! two heartbeats behind, and another may leave in the same step.
//!
//! Questions are taken from anybody, since a log that lags may not name its leader yet; answers count from members alone
//! (§4.2.2). For an election whoever has lost its vote by a change that is not committed may be needed still, and
//! campaigns (figure 4.6). A leader that has lost its vote leads until that is committed, without counting itself, hands
//! over, and leaves. Pre-vote and lively leaders keep out who is removed and does not know.
//!
//! A seat is what the caller knows a member by. Consensus only compares: with another seat it is another server, and
//! nothing that was known of the one before counts. In a joint configuration the old seat goes with the old vote.
//!
//! # Leaving leadership to another (`transfer`)
//!
//! A leader that wants another to lead (§3.10) proposes nothing more, waits until the other holds all of its log, and
//! tells it to campaign at once: without pre-vote, and with a vote request that says so, since everybody hears from a
//! leader and would refuse any other. The order may be lost and is repeated; after the longest election timeout the
//! leader goes on. Its own votes and promises are as ever: a transfer only chooses the moment of an election.
//!
//! # Snapshots (`snapshot`, `log`)
//!
//! A log cannot grow for ever, so now and then the caller takes a snapshot of its state machine, and once that is
//! durable [`Input::Compact`] lets the entries go that it stands for (§5, figure 5.1). What is left of them is the
//! base: the position that the next entry follows, by which appends and votes go on as if the log were whole.
//!
//! Entries may leave the memory sooner ([`Input::Forget`]), once they are applied and on the node's own disk: then the base
//! is ahead of the newest snapshot. Nothing that is committed is ever asked of the log again but by a follower that lags.
//!
//! A follower whose next entry is gone is offered the leader's newest snapshot instead (§5, figure 5.3), again and
//! again with growing patience, while heartbeats keep it calm. The offer names a position and carries no data. Where
//! (Where that snapshot ends below the base it is not offered: the follower waits, as [`ProgressState::Snapshot`], until the
//! caller has taken a newer one.) Where
//! the follower has as much already, or its log holds that position, which is committed, it says so. Otherwise its
//! caller pulls the bytes ([`Effects::fetch`]) and steps [`Input::Install`] once the snapshot is durable here. If the
//! log has come so far in the meantime, by another leader's entries, nothing is installed; if not, all of it is void:
//! it is too short, or holds another entry at a position that is committed. So it is dropped whole, on the disk by
//! [`Persist::reset_to`], and begins at the snapshot; state machine, base, commit index and applied index change in
//! one step. Whatever the way, the follower's next acknowledgement says what it holds, and entries follow.
//!
//! A snapshot is durable before the log is told of it, and each in a file of its own. So a crash may leave a snapshot
//! that is ahead of the log: recovery drops a log that does not hold its position, as an installation would have
//! ([`Restored`]); and one of a later term than the last that was stored: then nobody has this node's vote in it.
//!
//! # Limits
//!
//! [`Limits`] bounds an entry, an append, what is in flight to one follower, what is not committed, what one step hands
//! over to the state machine, and the reads that wait. Past what is not committed and the reads the answer is
//! [`Refusal::Busy`].
//!
//! # What is not here
//!
//! - **A preference among equal candidates.**
//! - **Byzantine peers.** A wrong message stops nobody, but a peer that lies consistently can make a group lie.

#![forbid(unsafe_code)]

mod canonical;
mod change;
mod effects;
mod election;
mod follower;
mod leader;
mod limits;
mod log;
mod member;
mod membership;
mod message;
mod node;
mod prng;
mod progress;
mod quorum;
mod read;
mod role;
pub mod sabotage;
mod snapshot;
mod sparing;
mod transfer;
mod types;
mod verdict;
mod writes;

pub use effects::*;
pub use limits::*;
pub use membership::{MEMBERS_MAX, MalformedMembership, Membership, SEAT_BYTES_MAX};
pub use message::*;
pub use node::*;
pub use progress::{Progress, ProgressState};
pub use quorum::{joint_majority, majority};
pub use role::Role;
pub use types::*;
pub use verdict::{DropReason, Dropped};
