//! Breadth first through all states of the whole: the first violation is reached by as few events as can be. Knows
//! what can happen, not what it does.

use std::collections::BTreeSet;

use quorate_raft::{Index, Node};

use super::catalog::{Catalog, Event, RENAMINGS, Step};
use super::judge::History;
use super::local::{Act, Local, NODES, node_id, place_of};
use super::{Bounds, Report, Sabotage, Violation};

/// What may still happen.
#[derive(Clone, Copy, Debug)]
struct Left {
    crashes: u8,
    proposals: u8,
    heartbeats: u8,
    duplicates: u8,
    reads: u8,
    compactions: u8,
}

/// A state of the whole, in numbers of the catalog.
#[derive(Clone, Debug)]
struct World {
    locals: [u32; NODES],
    history: u32,
    left: Left,
    /// Ascending; a set.
    flying: Vec<u32>,
}

/// An event of the whole.
#[derive(Clone, Copy, Debug)]
struct Move {
    place: u8,
    event: Event,
    /// The message that arrives stays in flight.
    stays: bool,
}

struct Search<'a> {
    bounds: &'a Bounds,
    catalog: Catalog,
    seen: BTreeSet<u128>,
    /// For each state in the order of discovery: where it was reached from, and how.
    ways: Vec<(u32, Move)>,
    report: Report,
}

/// Searches until all states within the bounds are seen, or one is wrong.
pub(super) fn search(bounds: &Bounds, sabotage: Option<Sabotage>) -> Report {
    let mut search = Search {
        bounds,
        catalog: Catalog::new(sabotage, bounds.granted_pre_votes),
        seen: BTreeSet::new(),
        ways: Vec::new(),
        report: Report::default(),
    };
    search.all();
    let Search { catalog, seen, mut report, .. } = search;
    report.states = seen.len();
    report.node_states = catalog.locals();
    report.messages = catalog.packets();
    report
}

impl Search<'_> {
    fn all(&mut self) {
        let root = self.root();
        let name = self.name(&root);
        self.seen.insert(name);
        let mut layer = vec![(root, u32::MAX)];
        while !layer.is_empty() {
            let mut next = Vec::new();
            for (world, number) in &layer {
                for event in self.moves(world) {
                    self.report.transitions += 1;
                    match self.follow(world, event) {
                        Ok(Some(reached)) => self.reach(reached, (*number, event), &mut next),
                        Ok(None) => {}
                        Err(claim) => {
                            let trace = self.trace((*number, event));
                            self.report.violation = Some(Violation { claim, trace });
                            return;
                        }
                    }
                }
                if self.seen.len() >= self.bounds.states_max {
                    return;
                }
            }
            self.report.depth += usize::from(!next.is_empty());
            layer = next;
        }
        self.report.is_complete = true;
    }

    fn root(&mut self) -> World {
        let locals = [0, 1, 2].map(|place| self.catalog.keep_local(Local::new(node_id(place))));
        let history = self.catalog.keep_history(History::default());
        let Bounds { crashes, proposals, heartbeats, duplicates, reads, compactions, .. } = *self.bounds;
        let left = Left { crashes, proposals, heartbeats, duplicates, reads, compactions };
        World { locals, history, left, flying: Vec::new() }
    }

    fn reach(&mut self, world: World, way: (u32, Move), next: &mut Vec<(World, u32)>) {
        let is_late = |local: &u32| self.catalog.local(*local).node.term().0 > self.bounds.terms;
        if world.flying.len() > self.bounds.in_flight || world.locals.iter().any(is_late) {
            self.report.cut += 1;
            return;
        }
        let name = self.name(&world);
        if self.seen.insert(name) {
            let number = self.ways.len() as u32;
            self.ways.push(way);
            next.push((world, number));
        }
    }

    /// All that can happen.
    fn moves(&self, world: &World) -> Vec<Move> {
        let Left { crashes, proposals, heartbeats, duplicates, reads, compactions } = world.left;
        let can_read = reads > 0 && !self.catalog.history(world.history).is_reading();
        let acts = [
            (true, Act::TimeOut),
            (self.bounds.granted_pre_votes, Act::GrantPreVote),
            (true, Act::Sync),
            (heartbeats > 0, Act::Heartbeat),
            (proposals > 0, Act::Propose(proposals)),
            (can_read, Act::Read),
            (crashes > 0, Act::Crash),
            (compactions > 0, Act::Compact),
            (true, Act::Install),
        ];
        let mut moves = Vec::new();
        for (place, &local) in world.locals.iter().enumerate() {
            let local = self.catalog.local(local);
            let possible =
                acts.iter().filter(|(allowed, act)| *allowed && local.can(*act, self.bounds.terms));
            moves.extend(possible.map(|&(_, act)| Move {
                place: place as u8,
                event: Event::Act(act),
                stays: false,
            }));
        }
        for &packet in &world.flying {
            let place = place_of(self.catalog.packet(packet).to) as u8;
            let arrives = Move { place, event: Event::Deliver(packet), stays: false };
            moves.push(arrives);
            if duplicates > 0 {
                moves.push(Move { stays: true, ..arrives });
            }
            if self.bounds.in_flight < usize::MAX {
                moves.push(Move { event: Event::Lose(packet), ..arrives });
            }
        }
        moves
    }

    /// The world after an event; `None` if it can do nothing that this world cannot.
    fn follow(&mut self, world: &World, event: Move) -> Result<Option<World>, String> {
        let place = usize::from(event.place);
        let mut after = world.clone();
        if let Event::Lose(packet) = event.event {
            after.flying.retain(|&flying| flying != packet);
            return Ok(Some(after));
        }
        if let Event::Deliver(packet) = event.event
            && !event.stays
        {
            after.flying.retain(|&flying| flying != packet);
        }
        let step = self.catalog.step(world.locals[place], event.event)?;
        let Step { local, mut sent, mut reads, installed } = step;
        self.report.installed += u64::from(installed.is_some());
        after.locals[place] = local;
        while self.catalog.local(after.locals[place]).pending.len() > self.bounds.writes_waiting {
            let synced = self.catalog.step(after.locals[place], Event::Act(Act::Sync))?;
            after.locals[place] = synced.local;
            sent.extend(synced.sent);
            reads.extend(synced.reads);
        }
        let has_sent = self.send(&mut after, sent);
        if after.locals == world.locals && !has_sent && reads.is_empty() {
            return Ok(None);
        }
        let changed = self.catalog.local(after.locals[place]);
        after.flying.retain(|&packet| {
            let packet = self.catalog.packet(packet);
            place_of(packet.to) != place || !packet.is_dead_at(changed, self.bounds)
        });
        spend(&mut after.left, event);
        self.judge(&mut after, event, &reads)?;
        Ok(Some(after))
    }

    /// Puts into flight what is not in flight yet and is of use. Says whether there was any.
    fn send(&self, world: &mut World, sent: Vec<u32>) -> bool {
        let mut has_sent = false;
        for number in sent {
            let packet = self.catalog.packet(number);
            let receiver = self.catalog.local(world.locals[place_of(packet.to)]);
            if packet.is_dead_at(receiver, self.bounds) {
                continue;
            }
            if let Err(at) = world.flying.binary_search(&number) {
                world.flying.insert(at, number);
                has_sent = true;
            }
        }
        has_sent
    }

    fn judge(
        &mut self,
        world: &mut World,
        event: Move,
        reads: &[quorate_raft::ReadOutcome],
    ) -> Result<(), String> {
        let place = usize::from(event.place);
        let mut history = self.catalog.history(world.history).clone();
        match event.event {
            Event::Act(Act::Crash) => history.crashed(node_id(place)),
            Event::Act(Act::Read) => history.read_asked(node_id(place)),
            Event::Act(_) | Event::Deliver(_) | Event::Lose(_) => {}
        }
        if history.read_settled(reads)? {
            self.report.reads_confirmed += 1;
        }
        history.judge(world.locals.map(|local| &self.catalog.local(local).node), place)?;
        self.report.terms_led = self.report.terms_led.max(history.terms_led());
        self.report.committed = self.report.committed.max(history.committed());
        world.history = self.catalog.keep_history(history);
        Ok(())
    }

    /// A name that is equal for worlds that are equal up to the names of their nodes: the least of its names under
    /// all renamings. 128 bits: among 10^9 states two share one by chance with a probability below 10^-20.
    fn name(&self, world: &World) -> u128 {
        let mut names = RENAMINGS.iter().enumerate().map(|(way, renaming)| {
            let mut locals = [0; NODES];
            for (&place, &local) in renaming.iter().zip(&world.locals) {
                locals[place] = self.catalog.local_names(local)[way];
            }
            let mut flying: Vec<u32> =
                world.flying.iter().map(|&packet| self.catalog.packet_names(packet)[way]).collect();
            flying.sort_unstable();
            let Left { crashes, proposals, heartbeats, duplicates, reads, compactions } = world.left;
            let left = [crashes, proposals, heartbeats, duplicates, reads, compactions].map(u32::from);
            let history = self.catalog.history_names(world.history)[way];
            let words = locals.into_iter().chain([history]).chain(left).chain(flying);
            words.fold(0x6A09_E667_F3BC_C908_B2FB_1366_EA95_7D3E, mix)
        });
        let first = names.next().unwrap_or_default();
        names.fold(first, u128::min)
    }

    /// The events that led here, each with what its node is then.
    fn trace(&mut self, last: (u32, Move)) -> Vec<String> {
        let mut moves = vec![last.1];
        let mut at = last.0;
        while let Some(&(from, event)) = self.ways.get(at as usize) {
            moves.push(event);
            at = from;
        }
        let mut world = self.root();
        let mut lines = Vec::new();
        for event in moves.into_iter().rev() {
            let line = self.line(event);
            match self.follow(&world, event) {
                Ok(Some(after)) => world = after,
                Ok(None) => {}
                Err(_) => {
                    // The node itself may be fine, and the whole wrong.
                    if let Ok(step) = self.catalog.step(world.locals[usize::from(event.place)], event.event) {
                        world.locals[usize::from(event.place)] = step.local;
                    }
                }
            }
            let node = &self.catalog.local(world.locals[usize::from(event.place)]).node;
            lines.push(format!("{line:<58} {}", shown(node)));
        }
        lines
    }

    fn line(&self, event: Move) -> String {
        let id = node_id(usize::from(event.place));
        match event.event {
            Event::Act(Act::TimeOut) => format!("{id} times out"),
            Event::Act(Act::GrantPreVote) => format!("{id} may campaign"),
            Event::Act(Act::Heartbeat) => format!("{id} ticks"),
            Event::Act(Act::Sync) => format!("{id} syncs its oldest write"),
            Event::Act(Act::Crash) => format!("{id} crashes and starts"),
            Event::Act(Act::Propose(number)) => format!("{id} is proposed {number}"),
            Event::Act(Act::Read) => format!("{id} is asked to read"),
            Event::Act(Act::Compact) => format!("{id} takes a snapshot"),
            Event::Act(Act::Install) => format!("{id} has fetched a snapshot"),
            Event::Deliver(packet) | Event::Lose(packet) => {
                let packet = self.catalog.packet(packet);
                let is_lost = matches!(event.event, Event::Lose(_));
                let stays = if is_lost {
                    " (lost)"
                } else if event.stays {
                    " (a copy stays)"
                } else {
                    ""
                };
                let (from, term, body) = (packet.from, packet.message.term, &packet.message.body);
                format!("{from} → {id} in {term}: {}{stays}", told(body))
            }
        }
    }
}

fn spend(left: &mut Left, event: Move) {
    match event.event {
        Event::Act(Act::Heartbeat) => left.heartbeats -= 1,
        Event::Act(Act::Crash) => left.crashes -= 1,
        Event::Act(Act::Propose(_)) => left.proposals -= 1,
        Event::Act(Act::Read) => left.reads -= 1,
        Event::Act(Act::Compact) => left.compactions -= 1,
        Event::Deliver(_) if event.stays => left.duplicates -= 1,
        Event::Act(Act::TimeOut | Act::GrantPreVote | Act::Sync | Act::Install)
        | Event::Deliver(_)
        | Event::Lose(_) => {}
    }
}

fn mix(hash: u128, word: u32) -> u128 {
    // Multiplication moves differences up, the rotation moves them down again.
    let mixed = (hash ^ u128::from(word)).wrapping_mul(0x2360_ED05_1FC6_5DA4_4385_DF64_9FCC_F645);
    mixed ^ mixed.rotate_right(47) ^ mixed.rotate_left(29)
}

fn shown(node: &Node) -> String {
    let log: Vec<String> =
        node.entries_after(Index::ZERO).map(|entry| entry.position.term.to_string()).collect();
    let vote = node.vote().map_or("-".to_owned(), |id| id.to_string());
    format!(
        "{}@{} {} vote={vote} base={} log=[{}] commit={}",
        node.id(),
        node.term(),
        node.role(),
        node.base(),
        log.join(" "),
        node.commit()
    )
}

fn told(body: &quorate_raft::Body) -> String {
    use quorate_raft::Body;
    let answer = |granted: bool| if granted { "yes" } else { "no" };
    match body {
        Body::PreVote { last } => format!("pre-vote? last={last}"),
        Body::PreVoteReply { granted } => format!("pre-vote {}", answer(*granted)),
        Body::Vote { last, is_transfer: false } => format!("vote? last={last}"),
        Body::Vote { last, is_transfer: true } => format!("vote as asked? last={last}"),
        Body::TimeoutNow => "campaign now".to_owned(),
        Body::VoteReply { granted } => format!("vote {}", answer(*granted)),
        Body::Append { run, commit } => {
            format!("append after {} to {} commit={commit}", run.base(), run.last())
        }
        Body::InstallSnapshot { last } => format!("snapshot up to {last}"),
        Body::Appended { matched } => format!("appended up to {matched}"),
        Body::Rejected { base, hint } => format!("rejects base {base}, hint {hint}"),
        Body::Heartbeat { round, commit } => format!("heartbeat round={} commit={commit}", round.0),
        Body::HeartbeatReply { round, .. } => format!("heartbeat echo round={}", round.0),
    }
}
