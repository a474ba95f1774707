//! The simulator's shell around a replica: starts it, steps it with all that waits, and carries out what it asks,
//! in the order the contract allows, any of which a crash may cut short. Its second shell is the server.

use std::sync::Arc;

use bytes::BytesMut;
use quorate_raft::{Index, Role};
use quorate_replica::Standing;
use quorate_replica::keeper::{self, Keeper};
use quorate_replica::replica::{Actions, Answer, Config, DiskWrite, Event, Notice, Replica, Request};
use quorate_replica::seat::Seat;
use quorate_replica::wire::{self, PeerEnvelope, PeerMessage};
use quorate_storage::identity::IDENTITY_FILE;
use quorate_storage::{ClusterId, Folder, FolderConfig, Identity, Incarnation, SnapshotReader, Starts};

use crate::chronicle::Kind;
use crate::effects::Effects;
use crate::host::{FolderCopy, Host, Process, host_of, node_id};
use crate::invariants::{View, Violation, amnesia, answered, false_alarm};
use crate::network::{Flight, HostIndex};
use crate::options::{HostOptions, SLOW_WAKE_MAX};
use crate::said::Said;
use crate::schedule::MS;
use crate::world::{Happening, Internal, World};

/// Requests that one step takes at most; the rest waits for the next, so that the replica's bound is asked again.
const REQUESTS_A_STEP: usize = 256;

/// Ticks between two looks at the room on a disk.
const LOOK_TICKS: u64 = 25;

/// Parts of a step's actions that have no order among each other.
const PARTS: usize = 3;

impl World {
    /// A server starts, on whatever its disk holds.
    pub(crate) fn start(&mut self, host: HostIndex) -> Result<(), Violation> {
        if self.hosts[host].process.is_some() || self.hosts[host].is_gone {
            return Ok(());
        }
        self.draw_crash_at_an_operation(host);
        let config = self.folder_config(host);
        // Nothing that counts depends on it.
        let seed = self.starts;
        let mut machine = None;
        let mut load = |reader: &mut SnapshotReader<'_>| {
            machine = Some(keeper::restore(reader, seed)?);
            Ok(())
        };
        let disk = Arc::new(self.hosts[host].disk.clone());
        let identity_before = self.hosts[host].disk.content(IDENTITY_FILE);
        let folder = match Folder::open_loading(disk, &config, &mut load, &mut |_, _| {}) {
            Ok(folder) => folder,
            Err(error) if self.hosts[host].is_rotten && error.is_refusal() => {
                self.stays_away(host, &error);
                return Ok(());
            }
            Err(error) => return self.disk_failed(host, &error),
        };
        self.opened(host, folder.identity.incarnation);
        self.invariants.restarted(host, &folder.restored)?;
        self.line(format_args!(
            "n{} starts  last={} term={} ({:?})",
            host + 1,
            folder.wal.last(),
            folder.restored.hard_state.term,
            folder.wal.outcome(),
        ));
        let now_ms = self.hosts[host].clock.now_ms(self.now());
        let config = self.config(host);
        self.keep_copy(host, &folder.identity, identity_before);
        let Folder { identity, starts, wal, restored, snapshot: _, lock } = folder;
        let disk = Arc::new(self.hosts[host].disk.clone());
        let keeper = Keeper::new(disk, config.seed);
        let (replica, actions) = Replica::new(config, identity, starts, restored, machine, now_ms);
        let process = Process {
            replica,
            wal,
            lock,
            inbox: Vec::new(),
            backlog: Default::default(),
            is_waking: false,
            is_leaving: false,
            queue: Default::default(),
            is_retrying: false,
            is_told_of_room: false,
            syncing: Vec::new(),
            ticks: 0,
            disk_turns: 0,
            keeper,
            is_keeping: false,
            storing: None,
            storing_starts: None,
            beginning: None,
            named: Default::default(),
            accepted: Default::default(),
        };
        self.hosts[host].life += 1;
        self.hosts[host].process = Some(process);
        self.hosts[host].asleep_until = 0;
        self.chronicle.end(Kind::Down, Some(host), self.schedule.now());
        self.shown[host] = None;
        self.inside_after(host, 0, Internal::Tick);
        for peer in (0..self.hosts.len()).filter(|peer| *peer != host) {
            self.announce_link(host, peer);
        }
        self.may_crash_again(host);
        self.perform(host, actions)
    }

    /// A process starts on this folder.
    fn opened(&mut self, host: HostIndex, incarnation: Incarnation) {
        if self.hosts[host].opened(incarnation) {
            self.invariants.ledger.wiped(host);
        }
    }

    /// Keeps what the folder is now, but for the start that was just counted.
    fn keep_copy(&mut self, host: HostIndex, identity: &Identity, before: Option<Vec<u8>>) {
        let Host { disk, copy, is_rotten, is_lost, .. } = &mut self.hosts[host];
        *copy = None;
        if before.is_none() || *is_rotten || *is_lost || identity.cluster().is_none() {
            return;
        }
        let image = disk.durable_image();
        image.plant(IDENTITY_FILE, before);
        let ledger = self.invariants.ledger.host(host).clone();
        let (incarnation, start_number) = (identity.incarnation, identity.start_number);
        *copy = Some(FolderCopy { disk: image, ledger, incarnation, start_number });
    }

    fn config(&mut self, host: HostIndex) -> Config {
        self.starts += 1;
        let founders = self.options.nodes as usize;
        let members = (0..founders).map(node_id).collect();
        let seed = self.chance.hosts.draw();
        let mut config = Config::new(node_id(host), members, self.starts, seed);
        // Where the cluster may have gone on elsewhere, founders that have lost their folders would found another one.
        let has_changed = self.invariants.members.committed().0 > Index::ZERO;
        config.joins =
            host >= founders || self.hosts[host].amnesia.is_some() && (has_changed || founders == 1);
        config.address = format!("n{}:2", host + 1).into();
        config.founding_limits.gateway_ttl_ms = self.options.host.gateway_ttl_ms;
        config.log_bytes_max = self.options.host.log_bytes_max;
        config.log_tail_bytes = self.options.host.log_tail_bytes;
        config.log_memory_bytes = self.options.host.log_memory_bytes;
        // However large the state is.
        config.log_memory_part = u64::MAX;
        config.check_interval_ms = self.options.host.check_interval_ms;
        let HostOptions { snapshot_chunk_bytes, snapshot_chunks_per_second, .. } = self.options.host;
        config.snapshot_chunk_bytes = snapshot_chunk_bytes;
        config.snapshot_bytes_per_second = snapshot_chunk_bytes as u64 * snapshot_chunks_per_second;
        // What a server keeps free of a disk differs from start to start.
        config.disk_reserve_bytes =
            self.options.host.segment_bytes * [0, 1, 2, 4][(self.starts % 4) as usize];
        config.folder = format!("n{}", host + 1).into();
        let flags = &self.options.faults.flags;
        if let Some((min, max)) = flags.election_ticks {
            (config.raft.election_ticks_min, config.raft.election_ticks_max) = (min, max);
        }
        config.raft.append_bytes_max = flags.append_bytes_max.unwrap_or(config.raft.append_bytes_max);
        if flags.limits_differ {
            config.founding_limits.gateway_ttl_ms = self.chance.hosts.between(2_000, 60_000);
        }
        if let Some(most) = self.options.faults.flags.memory_bytes_max {
            let is_limited = self.chance.hosts.chance(0.8);
            config.memory_bytes_max = if is_limited { self.chance.hosts.between(most / 2, most) } else { 0 };
        }
        config
    }

    /// The folder that a server is started on.
    fn folder_config(&mut self, host: HostIndex) -> FolderConfig {
        let draw = self.chance.hosts.draw();
        if let Some(amnesia) = &mut self.hosts[host].amnesia {
            amnesia.draws.insert(draw);
        }
        FolderConfig {
            node: node_id(host),
            fresh_incarnation: Incarnation(draw),
            segment_bytes: self.options.host.segment_bytes,
            tail_bytes: self.options.host.log_tail_bytes,
        }
    }

    /// Lets something happen in the present process of a server.
    pub(crate) fn inside_after(&mut self, host: HostIndex, delay: u64, what: Internal) {
        let life = self.hosts[host].life;
        self.schedule.after(delay, Happening::Process { host, life, what });
    }

    /// Both ends of a link learn that it works, if they live and it does.
    pub(crate) fn announce_link(&mut self, a: HostIndex, b: HostIndex) {
        for (host, peer) in [(a, b), (b, a)] {
            if self.network.is_open(host, peer) {
                let delay = self.chance.hosts.between(1, 200) * MS / 10;
                self.schedule.after(delay, Happening::LinkUp { host, peer });
            }
        }
    }

    pub(crate) fn link_up(&mut self, host: HostIndex, peer: HostIndex) {
        if self.hosts[host].process.is_some()
            && self.hosts[peer].process.is_some()
            && self.network.is_open(host, peer)
        {
            self.give(host, Event::LinkUp(node_id(peer)));
        }
    }

    /// A process is dead, and its machine closes what it had open. (One that loses power closes nothing.)
    pub(crate) fn close_links(&mut self, host: HostIndex) {
        let life = self.hosts[host].life;
        for other in (0..self.hosts.len()).filter(|other| *other != host) {
            let delay = self.chance.links.between(1, 50) * MS / 10;
            if self.network.is_open(host, other) {
                self.schedule.after(delay, Happening::LinkDown { host: other, peer: host, life });
            }
        }
    }

    /// A server's way to another is closed.
    pub(crate) fn link_down(&mut self, host: HostIndex, peer: HostIndex) {
        self.give(host, Event::LinkDown(node_id(peer)));
    }

    /// Bytes arrive from another server.
    pub(crate) fn arrival(&mut self, flight: &Flight) -> Result<(), Violation> {
        let Flight { from, to, .. } = *flight;
        if !self.network.arrives(flight) || self.hosts[to].process.is_none() {
            return Ok(());
        }
        match wire::decode(&flight.bytes) {
            Ok(envelope) if flight.is_spoiled => {
                let story = format!("n{} took a spoiled message for {envelope:?}", to + 1);
                Err(Violation { invariant: "wire checksum", story })
            }
            Ok(envelope) => {
                let said = Said(&envelope.message);
                if self.trace.has_all() || self.trace.is_on() && !said.is_routine() {
                    self.line(format_args!("n{} ← n{} {said}", to + 1, from + 1));
                }
                self.give(to, Event::Peer(envelope));
                Ok(())
            }
            Err(_) if flight.is_spoiled => {
                // As the server does: garbage is dropped and counted, and its connection closed.
                self.counts.garbage += 1;
                self.network.reset(from, to);
                self.link_down(from, to);
                self.announce_link(from, to);
                Ok(())
            }
            Err(malformed) => {
                let story = format!("n{} could not read what n{} said: {malformed:?}", to + 1, from + 1);
                Err(Violation { invariant: "wire round trip", story })
            }
        }
    }

    /// A server's timer ticks.
    pub(crate) fn ticks(&mut self, host: HostIndex) -> Result<(), Violation> {
        let Some(process) = &mut self.hosts[host].process else { return Ok(()) };
        process.ticks += 1;
        for (connection, accepted) in &process.accepted {
            answered::check(host, process.ticks, *connection, accepted)?;
        }
        let ticks = process.ticks;
        self.give(host, Event::Tick);
        if ticks % LOOK_TICKS == 0 {
            self.look_at_room(host);
        }
        Ok(())
    }

    /// Something happens to a replica; it is stepped a little later, with all that has come till then.
    pub(crate) fn give(&mut self, host: HostIndex, event: Event) {
        if let Some(process) = &mut self.hosts[host].process {
            process.inbox.push(event);
            self.wake_soon(host);
        }
    }

    /// A client asks.
    pub(crate) fn give_request(&mut self, host: HostIndex, request: Request) {
        if let Some(process) = &mut self.hosts[host].process {
            process.backlog.push_back(request);
            self.wake_soon(host);
        }
    }

    fn wake_soon(&mut self, host: HostIndex) {
        let Some(process) = &mut self.hosts[host].process else { return };
        if !process.is_waking {
            process.is_waking = true;
            let is_slow = self.schedule.now() < self.hosts[host].slow_steps_until;
            let longest = if is_slow { SLOW_WAKE_MAX } else { self.options.host.wake_max };
            let delay = self.chance.hosts.between(self.options.host.wake_min, longest);
            self.inside_after(host, delay, Internal::Wake);
        }
    }

    /// One step with all that waits.
    pub(crate) fn wake(&mut self, host: HostIndex) -> Result<(), Violation> {
        let now_ms = self.hosts[host].clock.now_ms(self.schedule.now());
        let Some(process) = &mut self.hosts[host].process else { return Ok(()) };
        self.invariants.replicated_time.shown(host, now_ms);
        process.is_waking = false;
        let mut events = std::mem::take(&mut process.inbox);
        if process.replica.has_room() {
            let taken = process.backlog.len().min(REQUESTS_A_STEP);
            let asked = process.backlog.drain(..taken).map(Event::Request);
            if self.chance.hosts.chance(self.options.faults.clients_first) {
                events.splice(0..0, asked);
            } else {
                events.extend(asked);
            }
        }
        let more = !process.backlog.is_empty() && process.replica.has_room();
        let actions = process.replica.step(now_ms, &mut events);
        if more {
            self.wake_soon(host);
        }
        self.perform(host, actions)
    }

    /// Carries out what a step asks. Sends, writes and answers have no order among each other, so it is drawn;
    /// and a crash may strike before any of them.
    pub(crate) fn perform(&mut self, host: HostIndex, actions: Actions) -> Result<(), Violation> {
        let Actions {
            send,
            announce,
            routes: _,
            persist,
            compact,
            snapshot_jobs,
            store_identity,
            store_starts,
            begin_anew,
            answers,
            notices,
            goes_on,
            left,
            halt,
        } = actions;
        if let Some(why) = halt {
            return Err(Violation { invariant: "halt", story: format!("n{}: {why}", host + 1) });
        }
        if goes_on {
            self.wake_soon(host);
        }
        for notice in notices {
            let (Notice::Info(text) | Notice::Warn(text)) = notice;
            self.line(format_args!("n{} says: {text}", host + 1));
        }
        self.invariants.steps(host);
        for write in &persist {
            self.invariants.wrote(host, write)?;
        }
        self.check(host, &persist)?;
        if let Some(identity) = store_identity {
            let process = self.hosts[host].process.as_mut().expect("it has just been stepped");
            process.storing = Some(identity);
            let delay = self.sync_delay(host);
            self.inside_after(host, delay, Internal::IdentityDue);
        }
        self.store_soon(host, store_starts, begin_anew);
        // Here every server can reach every other by its id.
        let mut send = send;
        for envelope in announce {
            if let PeerMessage::Announce { incarnation, .. } = &envelope.message {
                self.hosts[host].announced = Some(*incarnation);
            }
            let others = (0..self.hosts.len()).filter(|other| *other != host).map(node_id);
            send.extend(others.map(|to| PeerEnvelope { to, ..envelope.clone() }));
        }
        self.take_jobs(host, snapshot_jobs);
        let crash = self.crash_here().then(|| self.chance.disks.below(PARTS as u64 + 1) as usize);
        let first = self.chance.hosts.below(PARTS as u64) as usize;
        let mut parts = (Some(send), Some(persist), Some(answers));
        for turn in 0..PARTS {
            if crash == Some(turn) {
                return self.crash_at_effect(host);
            }
            match (first + turn) % PARTS {
                0 => self.send_all(host, parts.0.take().unwrap_or_default())?,
                1 => self.queue_writes(host, parts.1.take().unwrap_or_default())?,
                _ => self.answer_all(host, parts.2.take().unwrap_or_default())?,
            }
        }
        if crash == Some(PARTS) {
            return self.crash_at_effect(host);
        }
        self.compact_later(host, compact)?;
        self.end_if_left(host, left)
    }

    /// What a server has to remember of others, and what its folder is to become, is on its way to the disk.
    fn store_soon(&mut self, host: HostIndex, starts: Option<Starts>, anew: Option<Identity>) {
        let process = self.hosts[host].process.as_mut().expect("it has just been stepped");
        let (has_starts, begins_anew) = (starts.is_some(), anew.is_some());
        process.storing_starts = starts.or_else(|| process.storing_starts.take());
        process.beginning = anew.or_else(|| process.beginning.take());
        for (is_due, what) in [(has_starts, Internal::StartsDue), (begins_anew, Internal::AnewDue)] {
            if is_due {
                let delay = self.sync_delay(host);
                self.inside_after(host, delay, what);
            }
        }
    }

    /// Messages leave a server.
    pub(crate) fn send_all(
        &mut self,
        host: HostIndex,
        envelopes: Vec<PeerEnvelope>,
    ) -> Result<(), Violation> {
        for envelope in envelopes {
            self.invariants.sends(host, &envelope)?;
            let to = host_of(envelope.to);
            if to >= self.hosts.len() {
                // Somebody who is nobody: it votes where it is not known who does.
                continue;
            }
            let mut bytes = BytesMut::new();
            wire::encode(&envelope, &mut bytes);
            self.counts.messages += 1;
            let flights = self.network.send(self.schedule.now(), host, to, &bytes.freeze());
            let said = Said(&envelope.message);
            if self.trace.has_all() || self.trace.is_on() && flights.len() != 1 && !said.is_routine() {
                let fate = match flights.len() {
                    0 => "⇥",
                    1 => "→",
                    _ => "⇉",
                };
                self.line(format_args!("n{} {fate} n{} {said}", host + 1, to + 1));
            }
            for (at, flight) in flights {
                self.schedule.at(at, Happening::Arrival(flight));
            }
        }
        Ok(())
    }

    fn answer_all(&mut self, host: HostIndex, answers: Vec<Answer>) -> Result<(), Violation> {
        for Answer { connection, tag, reply } in answers {
            self.count_error(&reply);
            let Some(process) = self.hosts[host].process.as_mut() else { return Ok(()) };
            // A connection that is gone has no taker for its answers.
            let Some(accepted) = process.accepted.get_mut(&connection.0) else { continue };
            let is_new = tag > accepted.answered && tag <= accepted.asked;
            if !is_new || accepted.ready.insert(tag, reply).is_some() {
                let story =
                    format!("n{} answered #{tag} of connection {} unasked or twice", host + 1, connection.0);
                return Err(Violation { invariant: "one answer each", story });
            }
            let mut leaving = Vec::new();
            while let Some(first) =
                accepted.ready.first_entry().filter(|first| *first.key() == accepted.answered + 1)
            {
                accepted.answered += 1;
                accepted.asked_ticks.pop_front();
                leaving.push(first.remove_entry());
            }
            for (tag, reply) in leaving {
                self.answer_leaves(connection.0, tag, reply);
            }
        }
        Ok(())
    }

    /// Whether a server may wait to be taken in: it has lost its folder, or nobody names the one that it has, or it is to learn
    /// that somebody does.
    fn has_reason_to_wait(&self, host: HostIndex) -> bool {
        let Host { incarnation, amnesia, was_member, process, .. } = &self.hosts[host];
        let (index, membership) = self.invariants.members.committed();
        let seat = Seat::of(membership, node_id(host)).map(|seat| seat.incarnation);
        let joins = process.as_ref().is_some_and(|process| {
            matches!(process.replica.standing(), Standing::Joining { .. }) && index > Index::ZERO
        });
        amnesia.is_some() || !was_member || joins || seat != Some(*incarnation)
    }

    /// All properties, as far as this server's step can have touched them.
    fn check(&mut self, host: HostIndex, written: &[DiskWrite]) -> Result<(), Violation> {
        let has_reason = self.has_reason_to_wait(host);
        let known = amnesia::look(&mut self.hosts, host, has_reason, written)?;
        amnesia::check(&self.hosts, host, &known)?;
        let Some(process) = &self.hosts[host].process else { return Ok(()) };
        let (Some(node), Some(machine)) = (process.replica.raft(), process.replica.machine()) else {
            return Ok(());
        };
        let is_altered = self.hosts[host].is_altered;
        let any_altered = self.hosts.iter().any(|host| host.is_altered);
        false_alarm::check(host, process.replica.agreement(), is_altered, any_altered)?;
        let view = View::new(host, node, machine.applied(), machine.digest());
        if self.shown[host] == Some(view) {
            return Ok(());
        }
        let acts_by = (self.hosts[host].life, node.membership_index());
        if self.hosts[host].acted_by != Some(acts_by) {
            // Before it has the log, a server that joins knows no more than who founded the cluster.
            let is_founder = node.membership().contains(node.id());
            if acts_by.1 == Index::ZERO && is_founder {
                self.invariants.members.founded(node.membership());
            }
            if acts_by.1 > Index::ZERO || is_founder {
                self.invariants.acts_by(host, acts_by.1, node.membership())?;
            }
        }
        let committed = self.invariants.committed.index();
        self.invariants.stepped(view)?;
        self.invariants.steady.stepped(view, self.schedule.now())?;
        if view.commit > committed {
            let cluster = process.replica.status().cluster;
            let cluster =
                cluster.and_then(|text| u128::from_str_radix(&text, 16).ok()).and_then(ClusterId::new);
            let effects = match (&mut self.effects, cluster) {
                (Some(effects), _) => effects,
                (empty, Some(cluster)) => empty.insert(Effects::new(cluster)),
                (None, None) => return Ok(()),
            };
            let fresh = node.entries_after(committed).take_while(|entry| entry.position.index <= view.commit);
            for entry in fresh {
                effects.apply(entry).map_err(|story| Violation { invariant: "log is applicable", story })?;
                self.invariants.state_machine.committed(effects.machine().digest());
                if self.trace.is_on() {
                    let ran = effects.latest().collect::<Vec<_>>().join(", ");
                    self.trace.line(self.schedule.now(), format_args!("committed {} {ran}", entry.position));
                }
            }
            self.invariants.stamped(effects.machine().now_ms())?;
        }
        if !is_altered {
            self.invariants.state_machine.stepped(view)?;
        }
        // It takes part: nobody can take it in any more.
        if !matches!(process.replica.standing(), Standing::Removed { .. }) {
            self.hosts[host].announced = None;
        }
        self.hosts[host].acted_by = Some(acts_by);
        self.hosts[host].was_member = true;
        let shown = self.shown[host].replace(view);
        let role_is_new = shown.is_none_or(|shown| shown.role != view.role || shown.term != view.term);
        if role_is_new {
            self.note_role(view);
        }
        if role_is_new || self.trace.has_all() {
            let sign = if role_is_new && view.role == Role::Leader { "  ⇨ leader" } else { "" };
            self.line(format_args!("{view}{sign}"));
        }
        Ok(())
    }

    pub(crate) fn line(&mut self, what: std::fmt::Arguments<'_>) {
        self.trace.line(self.schedule.now(), what);
    }
}
