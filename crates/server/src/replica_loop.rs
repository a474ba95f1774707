//! The loop: takes all that has happened, steps the replica once, carries out what it asks. Must not know what happens
//! inside the replica, and never blocks.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use quorate_replica::command::Operation;
use quorate_replica::replica::{Actions, Event, Notice, Request, TICK_MS};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::connection::Connection;
use crate::disk_thread::{DiskThread, Done};
use crate::keeper_thread::KeeperThread;
use crate::shared::{Counters, Shared};

/// Turns of the sockets that one turn of the loop waits for while each brings writes.
const GATHER_TURNS_MAX: usize = 2;

/// Time that one turn of the loop writes answers for; those that are left are written by their connections' own tasks.
const FLUSH_MAX: Duration = Duration::from_millis(10);
/// Connections that are written to between two looks at the clock.
const FLUSHES_PER_LOOK: usize = 8;

/// Why the loop has ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The disk failed, with a sentence.
    DiskFailed(String),
    /// The data folder begins anew: another process is to take the place of this one.
    BeginsAnew,
    /// This server cannot go on, with a sentence.
    Halted(String),
}

/// The one owner of the replica's steps.
pub(crate) struct ReplicaLoop<'a> {
    shared: &'a Rc<Shared>,
    disk: &'a mut DiskThread,
    keeper: &'a mut KeeperThread,
    ticks: Interval,
    last_tick: Instant,
    slowness: Slowness,
    /// The replica has more to do, whatever happens.
    goes_on: bool,
    /// What happens in this turn; kept for its capacity.
    events: Vec<Event>,
    /// Writes of the last turn that had any.
    writes_before: usize,
    /// Connections that were answered in this turn; kept for its capacity.
    answered: Vec<Rc<Connection>>,
}

impl<'a> ReplicaLoop<'a> {
    /// A loop over this replica and this disk.
    pub(crate) fn new(
        shared: &'a Rc<Shared>,
        disk: &'a mut DiskThread,
        keeper: &'a mut KeeperThread,
    ) -> Self {
        let mut ticks = interval(Duration::from_millis(TICK_MS));
        // After a pause one tick is enough: time that this process did not see is no sign of a dead leader.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            shared,
            disk,
            keeper,
            ticks,
            last_tick: Instant::now(),
            slowness: Slowness::default(),
            goes_on: false,
            events: Vec::new(),
            writes_before: 0,
            answered: Vec::new(),
        }
    }

    /// Runs until something makes it end. `first` is what the replica asked for when it was made.
    pub(crate) async fn run(&mut self, first: Actions) -> Ended {
        if let Some(ended) = self.carry_out(first) {
            return ended;
        }
        loop {
            if self.goes_on {
                // Sockets have their turn in between.
                tokio::task::yield_now().await;
            }
            if let Some(ended) = poll_fn(|context| self.wait(context)).await {
                return ended;
            }
            self.gather().await;
            let begun = Instant::now();
            let actions = self.shared.step(now_ms(), &mut self.events);
            self.events.clear();
            let stepped = Instant::now();
            if let Some(ended) = self.carry_out(actions) {
                return ended;
            }
            self.slowness.report("the replica's step", stepped - begun);
            self.slowness.report("carrying out a step", stepped.elapsed());
            Counters::note_longest(&self.shared.counters.longest_turn_us, begun.elapsed());
        }
    }

    /// Waits until there are events, and takes all there are.
    fn wait(&mut self, context: &mut Context<'_>) -> Poll<Option<Ended>> {
        self.shared.inbox.take(&mut self.events, context);
        if let Some(sentence) = self.shared.inbox.failure() {
            return Poll::Ready(Some(Ended::Halted(sentence)));
        }
        while let Poll::Ready(Some(done)) = self.disk.done.poll_recv(context) {
            match done {
                Done::Persisted { write, send_after } => {
                    for envelope in send_after {
                        self.shared.peers.send(&envelope, &self.shared.counters);
                    }
                    self.events.push(Event::Persisted(write));
                }
                Done::IdentityStored => self.events.push(Event::IdentityStored),
                Done::BeginsAnew => return Poll::Ready(Some(Ended::BeginsAnew)),
                Done::StartsStored => self.events.push(Event::StartsStored),
                Done::Looked(space) => self.events.push(Event::DiskSpace(space)),
                Done::Failed(sentence) => return Poll::Ready(Some(Ended::DiskFailed(sentence))),
            }
        }
        while let Poll::Ready(Some(news)) = self.keeper.news.poll_recv(context) {
            match news {
                Ok(news) => self.events.push(Event::Snapshot(news)),
                Err(sentence) => return Poll::Ready(Some(Ended::DiskFailed(sentence))),
            }
        }
        if self.ticks.poll_tick(context).is_ready() {
            let now = Instant::now();
            let gap = now - std::mem::replace(&mut self.last_tick, now);
            self.slowness.report("a tick of the loop", gap);
            let late = gap.saturating_sub(Duration::from_millis(TICK_MS));
            Counters::note_longest(&self.shared.counters.latest_tick_us, late);
            self.events.push(Event::Tick);
        }
        if self.events.is_empty() && !self.goes_on { Poll::Pending } else { Poll::Ready(None) }
    }

    /// Where several clients write, those that have just been answered mostly write again together: who comes while the
    /// first are being read shares their entry, and so its sync and its messages. Who writes alone waits for nobody.
    async fn gather(&mut self) {
        let mut writes = writes_among(&self.events);
        if writes == 0 {
            return;
        }
        if writes.max(self.writes_before) > 1 {
            for _ in 0..GATHER_TURNS_MAX {
                tokio::task::yield_now().await;
                let known = self.events.len();
                poll_fn(|context| Poll::Ready(self.shared.inbox.take(&mut self.events, context))).await;
                let more = writes_among(&self.events[known..]);
                writes += more;
                if more == 0 {
                    break;
                }
            }
        }
        self.writes_before = writes;
    }

    fn carry_out(&mut self, actions: Actions) -> Option<Ended> {
        self.goes_on = actions.goes_on;
        for notice in actions.notices {
            match notice {
                Notice::Info(text) => info!("{text}"),
                Notice::Warn(text) => warn!("{text}"),
            }
        }
        if let Some(sentence) = actions.halt {
            return Some(Ended::Halted(sentence));
        }
        if let Some(identity) = actions.store_identity {
            self.disk.store_identity(identity);
        }
        if let Some(starts) = actions.store_starts {
            self.disk.store_starts(starts);
        }
        if let Some(identity) = actions.begin_anew {
            self.disk.begin_anew(identity);
        }
        for write in actions.persist {
            self.disk.write(write);
        }
        if let Some(compaction) = actions.compact {
            self.disk.compact(compaction);
        }
        for job in actions.snapshot_jobs {
            self.keeper.submit(job);
        }
        // First the ways, then what is sent on them.
        if let Some(members) = &actions.routes {
            self.shared.peers.set_members(members, self.shared);
        }
        for envelope in &actions.send {
            self.shared.peers.send(envelope, &self.shared.counters);
        }
        for envelope in actions.announce {
            self.shared.peers.announce(envelope);
        }
        self.shared.peers.flush();
        let mut last: Option<Rc<Connection>> = None;
        for answer in actions.answers {
            // Answers of one connection mostly come together.
            let connection = match &last {
                Some(connection) if connection.id == answer.connection => Rc::clone(connection),
                Some(_) | None => {
                    let Some(connection) = self.shared.connections.get(answer.connection.0) else { continue };
                    self.answered.push(Rc::clone(&connection));
                    last.insert(connection).clone()
                }
            };
            connection.answer(answer.tag, answer.reply);
        }
        let begun = Instant::now();
        let mut is_over = false;
        for (number, connection) in self.answered.drain(..).enumerate() {
            is_over |= number % FLUSHES_PER_LOOK == FLUSHES_PER_LOOK - 1 && begun.elapsed() >= FLUSH_MAX;
            if is_over {
                connection.wake();
            } else {
                connection.flush(&self.shared.buffers);
            }
        }
        self.shared.leaving.tell(actions.left);
        let has_room = self.shared.has_room();
        self.shared.inbox.turned(has_room);
        None
    }
}

fn writes_among(events: &[Event]) -> usize {
    let is_write =
        |event: &&Event| matches!(event, Event::Request(Request { operation: Operation::Write(_), .. }));
    events.iter().filter(is_write).count()
}

/// Says, now and then, that the loop was slow: past a good part of an election timeout the other servers notice, so the
/// operator should know why.
#[derive(Default)]
struct Slowness {
    last: Option<Instant>,
}

impl Slowness {
    fn report(&mut self, what: &str, took: Duration) {
        const SLOW: Duration = Duration::from_millis(200);
        const REPORT_EVERY: Duration = Duration::from_secs(5);
        if took < SLOW || self.last.is_some_and(|last| last.elapsed() < REPORT_EVERY) {
            return;
        }
        self.last = Some(Instant::now());
        warn!(
            "{what} took {} ms: this machine is overloaded or was paused, and leaders change over it",
            took.as_millis()
        );
    }
}

/// Milliseconds since 1970 by this machine's clock, which may jump.
pub(crate) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
