//! The server without its shell: [`Replica::step`] takes what has happened and says what is owed for it.
//! Knows no socket, no clock, no thread, no file.

use std::collections::BTreeMap;

use quorate_raft::{Entry, HardState, Index, Membership, NodeId, Position, Restored, WriteId};
use quorate_storage::{ClusterId, Identity, Incarnation, Start, Starts};

use crate::backup::BackupNews;
use crate::checks::Agreement;
use crate::command::{Operation, Reply};
use crate::founding::Founding;
use crate::machine::Machine;
use crate::member::Member;
use crate::seat::Seat;
use crate::status::Status;
use crate::transfer::{SnapshotJob, SnapshotNews};
use crate::versions::{Greeted, Programs};
use crate::wire::{PeerEnvelope, PeerMessage};
use entering::Joining;
use hearing::Hearing;
use who::Removal;

mod config;
mod entering;
mod hearing;
mod members;
mod routes;
mod who;

pub use crate::member::leaving::Left;
pub use config::{Config, LOG_BYTES_MAX, LOG_MEMORY_BYTES, LOG_MEMORY_PART, LOG_TAIL_BYTES, WRITE_BYTES_MAX};

/// A client's connection, as its server numbers it. Never used twice in a process's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// One request of a connection. Requests of one connection are stepped in the order they were sent.
#[derive(Clone, Debug)]
pub struct Request {
    /// Whose.
    pub connection: ConnectionId,
    /// Given back with the answer; answers of one connection may come in another order than the requests, and
    /// the connection puts them back in order.
    pub tag: u64,
    /// What.
    pub operation: Operation,
}

/// The answer to the request of this connection and tag: exactly one each, unless the connection is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whose.
    pub connection: ConnectionId,
    /// Which request.
    pub tag: u64,
    /// What to say.
    pub reply: Reply,
}

/// Everything that can happen to a replica.
#[derive(Debug)]
pub enum Event {
    /// The shell's timer, every [`TICK_MS`] milliseconds.
    Tick,
    /// A client asks. Offer no more while [`Replica::has_room`] says no.
    Request(Request),
    /// A client is gone: its answers have no taker any more. What it asked may still take effect.
    Disconnected(ConnectionId),
    /// Another server says something; decoded from the wire, not yet trusted.
    Peer(PeerEnvelope),
    /// The way to this server works again: what was sent before may be lost.
    LinkUp(NodeId),
    /// Another server has greeted, and says what program it runs.
    Greeted(Greeted),
    /// The way to this server is broken, and what is sent there is lost until it works again. That need not be told.
    LinkDown(NodeId),
    /// This server is about to stop: another is to lead, and what its clients have under way is to be finished. Offer no new
    /// connections' requests. Where it stands say [`Actions::left`] from then on.
    Leave,
    /// The write of this number, and all before it, are synced.
    Persisted(WriteId),
    /// The identity of [`Actions::store_identity`] is synced.
    IdentityStored,
    /// The starts of [`Actions::store_starts`] are synced.
    StartsStored,
    /// Somebody wants a snapshot of what is applied now.
    TakeSnapshot,
    /// What became of one of [`Actions::snapshot_jobs`].
    Snapshot(SnapshotNews),
    /// Somebody has looked at the disk: about once a second, more often while there is little room.
    DiskSpace(DiskSpace),
}

/// What was seen of the disk of this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSpace {
    /// Bytes that can still be written.
    pub free_bytes: u64,
    /// Bytes of entries that wait for room.
    pub held_bytes: u64,
    /// Writes wait for room.
    pub is_held: bool,
}

/// What the shell owes after one [`Replica::step`].
///
/// `send` and `persist` may be carried out side by side; answers leave at any time. Order within each field
/// is kept.
#[must_use = "dropping actions loses votes, acknowledgements and answers"]
#[derive(Debug, Default)]
pub struct Actions {
    /// Send these now; each may be lost.
    pub send: Vec<PeerEnvelope>,
    /// Send each of these to every server that can be reached, under its id: `to` stands for nobody yet.
    pub announce: Vec<PeerEnvelope>,
    /// From now on these are the other members of the cluster, each with its folder and its peer address as the log has
    /// them. The shell keeps a way to each.
    pub routes: Option<BTreeMap<NodeId, Seat>>,
    /// Queue these behind all writes before them.
    pub persist: Vec<DiskWrite>,
    /// Once all writes handed over so far are written, let the log go up to here.
    pub compact: Option<Compaction>,
    /// Do these to snapshots, in order and away from the loop; what becomes of each is an [`Event::Snapshot`].
    pub snapshot_jobs: Vec<SnapshotJob>,
    /// Store this identity, synced, then step [`Event::IdentityStored`].
    pub store_identity: Option<Identity>,
    /// Store these starts of others, synced, then step [`Event::StartsStored`].
    pub store_starts: Option<Starts>,
    /// Nothing that the folder holds counts any more: decide that it begins anew as this ([`quorate_storage::anew`]), and let a
    /// new process, on it, take the place of this one.
    pub begin_anew: Option<Identity>,
    /// Tell clients.
    pub answers: Vec<Answer>,
    /// Say these to the operator.
    pub notices: Vec<Notice>,
    /// There is more to do than one step should: step again soon, with whatever has happened till then, or nothing.
    pub goes_on: bool,
    /// After [`Event::Leave`]: whether the process may end, as of this step.
    pub left: Option<Left>,
    /// Our own bookkeeping is broken, with a sentence that says how: stop the process.
    pub halt: Option<String>,
}

/// One numbered write to the log; writes complete in order.
#[derive(Debug)]
pub struct DiskWrite {
    /// Its number, for [`Event::Persisted`].
    pub write: WriteId,
    /// Term and vote, where they changed.
    pub hard_state: Option<HardState>,
    /// The log is dropped and begins at this position, that of a durable snapshot; `entries` follow it.
    pub reset_to: Option<Position>,
    /// Entries; the first may truncate what is on the disk.
    pub entries: Vec<Entry>,
    /// Send these once this write is synced, never before.
    pub send_after: Vec<PeerEnvelope>,
}

/// What the log is not needed for any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compaction {
    /// A durable snapshot.
    pub snapshot: Position,
    /// Entries up to here may go; at most to the snapshot's.
    pub through: Index,
}

/// What an operator should read in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// As it should be.
    Info(String),
    /// Someone should look.
    Warn(String),
}

/// Milliseconds between two [`Event::Tick`]s.
pub const TICK_MS: u64 = 10;

/// Whether this server takes part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Waits for the founding members named.
    Founding {
        /// Whom it has not heard from, or who does not agree.
        missing: Vec<NodeId>,
        /// Why it will wait for ever, as far as is known, and what to do.
        conflict: Option<String>,
    },
    /// It has no part in the cluster, and waits until it is taken in.
    Joining {
        /// What it waits for, and what to do.
        why: String,
    },
    /// Votes and serves.
    Member,
    /// Its state differs from that of a majority, or there is no majority with the same: it votes, and keeps the log, but
    /// serves nobody.
    InDoubt {
        /// What differs, and what to do.
        why: String,
    },
    /// The others have heard a later start of its folder: it votes for nothing and acknowledges nothing.
    Refused {
        /// What happened and what to do.
        why: String,
    },
    /// The others have removed it, as far as it has heard: it serves nobody.
    Removed {
        /// What to do.
        why: String,
    },
}

/// The server without its shell. See [`Replica::step`].
pub struct Replica {
    config: Config,
    identity: Identity,
    hearing: Hearing,
    stage: Stage,
    ticks: u64,
    now_ms: u64,
    outbox: Outbox,
    dropped_messages: u64,
    /// It is about to stop.
    is_leaving: bool,
    /// See [`Replica::take_counted`].
    #[cfg(feature = "sabotage")]
    counted: Vec<(NodeId, Incarnation, Start)>,
    /// A membership of this server's log has named this folder.
    was_named: bool,
    /// What it was told, as long as its own log says nothing else.
    removal: Option<Removal>,
    /// When it came to take part.
    entered_tick: u64,
    /// Where the membership stood that was looked at last, and whether it was to change.
    seen_membership: Option<(Index, bool)>,
    /// The membership of which [`Actions::routes`] told last.
    routes: Option<Membership>,
    programs: Programs,
}

/// How far this server has come.
enum Stage {
    /// The cluster is not founded.
    Founding {
        founding: Box<Founding>,
        /// The conflict that was told last.
        told: Option<String>,
        /// What the log held, for the member to come.
        restored: Box<Restored>,
        /// The state of the snapshot that the log goes on from.
        machine: Option<Box<Machine>>,
        /// The identity that is on its way to the disk.
        storing: Option<Box<Identity>>,
    },
    /// It belongs to no cluster, and one is to take it in.
    Joining(Box<Joining>),
    /// What it has of the cluster does not count any more. It would be taken in with another folder.
    Refused {
        why: String,
        /// The incarnation of that folder; `None` where it is on its way.
        fresh: Option<Incarnation>,
    },
    /// Votes and serves.
    Member(Box<Member>),
}

/// Ticks between two announcements of a member that is not founded.
const ANNOUNCE_TICKS: u64 = 10;

/// Ticks between two words of a member that tell of its start and nothing else.
const STARTED_TICKS: u64 = 100;

/// What to send, under which name.
pub(crate) struct Outbox {
    pub(crate) id: NodeId,
    pub(crate) cluster: Option<ClusterId>,
    pub(crate) incarnation: Incarnation,
    pub(crate) start: Start,
    pub(crate) actions: Actions,
}

impl Outbox {
    pub(crate) fn envelope(&self, to: NodeId, message: PeerMessage) -> PeerEnvelope {
        let Self { cluster, id: from, incarnation, start, .. } = *self;
        PeerEnvelope { cluster, from, to, incarnation, start, message }
    }

    pub(crate) fn send(&mut self, to: NodeId, message: PeerMessage) {
        let envelope = self.envelope(to, message);
        self.actions.send.push(envelope);
    }

    fn warn(&mut self, text: String) {
        self.actions.notices.push(Notice::Warn(text));
    }

    fn inform(&mut self, text: String) {
        self.actions.notices.push(Notice::Info(text));
    }
}

impl Replica {
    /// A server on a data folder that holds this identity, these starts of others and this log, all durable, and the state
    /// of the snapshot that the log goes on from, if there is one.
    ///
    /// # Panics
    /// If that state is not at `restored.snapshot`: they are of one folder.
    pub fn new(
        config: Config,
        identity: Identity,
        starts: Starts,
        restored: Restored,
        machine: Option<Box<Machine>>,
        now_ms: u64,
    ) -> (Self, Actions) {
        let position = machine.as_ref().map_or(Position::ZERO, |machine| machine.applied_position());
        assert_eq!(position, restored.snapshot, "a state and a log that do not belong together");
        let outbox = Outbox {
            id: config.id,
            cluster: identity.cluster(),
            incarnation: identity.incarnation,
            start: identity.start(),
            actions: Actions::default(),
        };
        let own = (config.id, identity.incarnation);
        let founding = Box::new(Founding::new(own, identity.origin, config.members.clone()));
        let restored = Box::new(restored);
        let stage = Stage::Founding { founding, told: None, restored, machine, storing: None };
        let mut replica = Self {
            config,
            identity,
            hearing: Hearing::new(starts),
            stage,
            ticks: 0,
            now_ms,
            outbox,
            dropped_messages: 0,
            is_leaving: false,
            #[cfg(feature = "sabotage")]
            counted: Vec::new(),
            was_named: false,
            removal: None,
            entered_tick: 0,
            seen_membership: None,
            routes: None,
            programs: Programs::default(),
        };
        replica.enter();
        replica.tell_routes();
        let actions = std::mem::take(&mut replica.outbox.actions);
        (replica, actions)
    }

    /// Takes all events that wait, in order, at this time of the wall clock; says what is owed for them. All requests
    /// among them become as few log entries as their size allows. Safety does not depend on the clock, which may jump:
    /// waiting is counted in ticks.
    pub fn step(&mut self, now_ms: u64, events: &mut Vec<Event>) -> Actions {
        self.now_ms = now_ms;
        for event in events.drain(..) {
            match event {
                Event::Tick => self.tick(),
                Event::Peer(envelope) => self.receive(envelope),
                Event::IdentityStored => self.identity_stored(),
                Event::StartsStored => {
                    self.hearing.stored_now().into_iter().for_each(|envelope| self.receive(envelope));
                }
                Event::Request(mut request) => {
                    self.inform_members(&mut request);
                    let is_removed = self.is_removed();
                    match &mut self.stage {
                        Stage::Member(member) if !is_removed => member.request(request, &mut self.outbox),
                        Stage::Member(_)
                        | Stage::Founding { .. }
                        | Stage::Joining(_)
                        | Stage::Refused { .. } => self.refuse((request.connection, request.tag)),
                    }
                }
                Event::Disconnected(connection) => {
                    self.with_member(|member, _| member.disconnected(connection));
                }
                Event::Greeted(greeted) => self.programs.note(greeted),
                Event::LinkUp(node) => self.link_up(node),
                Event::LinkDown(node) => self.with_member(|member, out| member.link_down(node, out)),
                Event::Leave => self.is_leaving = true,
                Event::TakeSnapshot => self.with_member(|member, _| member.ask_for_snapshot()),
                Event::Snapshot(SnapshotNews::Backup(BackupNews::Read { to, .. }))
                    if self.member().is_none() =>
                {
                    self.refuse(to);
                }
                Event::Snapshot(news) => self.with_member(|member, out| member.snapshot_news(news, out)),
                Event::DiskSpace(space) => self.with_member(|member, out| member.disk_space(space, out)),
                Event::Persisted(write) => self.with_member(|member, out| member.persisted(write, out)),
            }
        }
        if self.is_leaving {
            // Who has no part in anything has left.
            self.outbox.actions.left = Some(Left::InOrder);
            self.with_member(|member, _| member.leave());
        }
        self.with_member(Member::flush);
        self.look_for_removal();
        self.tell_routes();
        std::mem::take(&mut self.outbox.actions)
    }

    /// Whether more requests may be offered. While not, the shell reads no more from its clients.
    pub fn has_room(&self) -> bool {
        self.member().is_none_or(Member::has_room)
    }

    /// Consensus, once this server takes part in it.
    pub fn raft(&self) -> Option<&quorate_raft::Node> {
        self.member().map(Member::node)
    }

    /// The state machine, once this server takes part.
    pub fn machine(&self) -> Option<&Machine> {
        self.member().map(Member::machine)
    }

    /// What the comparisons with the other servers say of the state, once this server takes part.
    pub fn agreement(&self) -> Option<&Agreement> {
        self.member().map(Member::agreement)
    }

    /// The state machine, to be altered behind everybody's back.
    #[cfg(feature = "sabotage")]
    pub fn machine_mut(&mut self) -> Option<&mut Machine> {
        match &mut self.stage {
            Stage::Member(member) => Some(member.machine_mut()),
            Stage::Founding { .. } | Stage::Joining(_) | Stage::Refused { .. } => None,
        }
    }

    /// Whether this server takes part.
    pub fn standing(&self) -> Standing {
        match &self.stage {
            Stage::Founding { founding, .. } => {
                Standing::Founding { missing: founding.missing(), conflict: founding.conflict() }
            }
            Stage::Joining(joining) => Standing::Joining { why: joining.why().to_owned() },
            Stage::Refused { why, .. } => Standing::Refused { why: why.clone() },
            Stage::Member(_) if self.is_removed() => Standing::Removed { why: self.why_removed() },
            Stage::Member(member) => match member.agreement() {
                Agreement::Sound => Standing::Member,
                doubt @ (Agreement::Undecided { .. } | Agreement::Diverged { .. }) => {
                    Standing::InDoubt { why: doubt.to_string() }
                }
            },
        }
    }

    /// A look at everything.
    pub fn status(&self) -> Status {
        let dropped = self.dropped_messages + self.raft().map_or(0, |node| node.dropped().values().sum());
        let status = Status::new(&self.identity, self.standing(), self.member(), dropped);
        Status { programs: self.programs.all(), level: self.level(), ..status }
    }

    fn member(&self) -> Option<&Member> {
        match &self.stage {
            Stage::Member(member) => Some(member),
            Stage::Founding { .. } | Stage::Joining(_) | Stage::Refused { .. } => None,
        }
    }

    fn with_member(&mut self, act: impl FnOnce(&mut Member, &mut Outbox)) {
        if let Stage::Member(member) = &mut self.stage {
            act(member, &mut self.outbox);
        }
    }

    fn tick(&mut self) {
        self.ticks += 1;
        match &mut self.stage {
            Stage::Member(member) => {
                member.tick(self.now_ms, &mut self.outbox);
                let age_ticks = self.ticks - self.entered_tick;
                // At first often: the others must store it before they listen, and may soon have no room to.
                let often = if age_ticks < STARTED_TICKS { ANNOUNCE_TICKS } else { STARTED_TICKS };
                if age_ticks % often == 1 {
                    self.tell_start();
                }
                self.tick_removal();
            }
            Stage::Founding { .. } | Stage::Joining(_) | Stage::Refused { .. } => {}
        }
        if self.ticks % ANNOUNCE_TICKS == 1 {
            self.announce();
        }
    }
}
