//! The Clerk as a pure state machine: which request goes to which server when, and what may be said of its outcome.
//! Must not know clocks, entropy, sockets or the wire: the time and a seed come in, requests go out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::course::{Course, Phase};
use crate::event::{Action, Actions, AttemptId, CallId, Config, Event};
use crate::message::{
    Cause, Class, Failure, Operation, Refusal, Reply, Request, Response, SessionId, Unsent, Why,
};
use crate::pause::{Pauses, doubled};
use crate::servers::Servers;
use crate::session::Session;

/// Who a send is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    /// The session that is being opened.
    Session,
    Call(CallId),
}

/// A write's place: which session of this Clerk, and its number there.
#[derive(Debug, Clone, Copy)]
struct Place {
    generation: u64,
    sequence: u64,
}

#[derive(Debug)]
struct Call {
    operation: Operation,
    deadline_ms: u64,
    /// Of a write that was sent.
    place: Option<Place>,
    /// Of a close.
    closes: Option<SessionId>,
    course: Course,
}

#[derive(Debug)]
struct Attempt {
    owner: Owner,
    server: Arc<str>,
}

/// Puts, appends and gets, each exactly once or with an honest error.
///
/// Invariants:
/// - A sequence names one command for ever: it is never used again, whatever became of it.
/// - `NotExecuted` is said of a write only if it was never sent, or was sent once and that one send was answered with
///   a refusal that promises it. Once a sequence has been sent twice, or once without a certain answer, a refusal
///   proves nothing any more: the write is tried again until its deadline and then is `InDoubt`.
/// - Each send acknowledges all that ended before the oldest write in flight: a write in doubt with nothing older in
///   flight runs before the next write or never.
///
/// Calls that overlap are sent in the order in which they came in, but a resend may let a later one overtake an
/// earlier one: who needs an order between two writes waits for the first.
#[derive(Debug)]
pub struct Clerk {
    config: Config,
    servers: Servers,
    pauses: Pauses,
    now_ms: u64,
    calls: BTreeMap<CallId, Call>,
    /// Writes that have no place yet, for want of a session or of room in its window.
    waiting: BTreeSet<CallId>,
    last_call: Option<CallId>,
    /// The current session is the last; older ones are kept while a write has a place there.
    sessions: BTreeMap<u64, Session>,
    current: Option<u64>,
    last_generation: u64,
    opening: Option<Course>,
    /// Sessions that were found expired since the last write that succeeded.
    expiries: u32,
    attempts: BTreeMap<AttemptId, Attempt>,
    last_attempt: u64,
    timers: BTreeSet<(u64, Owner)>,
    actions: Vec<Action>,
}

/// `MOVED` that is followed without a pause: two servers may each believe that the other leads.
const REDIRECTS_MAX: u32 = 3;

impl Clerk {
    /// A Clerk that has done nothing yet. The same seed and the same events give the same actions.
    ///
    /// # Panics
    /// If the configuration names no server, or a limit is zero.
    #[must_use]
    pub fn new(config: Config, seed: u64) -> Self {
        assert!(config.try_timeout_ms > 0 && config.window > 0, "a limit of nothing");
        Self {
            servers: Servers::new(&config.servers),
            pauses: Pauses::new(config.pause_ms_min, config.pause_ms_max, seed),
            config,
            now_ms: 0,
            calls: BTreeMap::new(),
            waiting: BTreeSet::new(),
            last_call: None,
            sessions: BTreeMap::new(),
            current: None,
            last_generation: 0,
            opening: None,
            expiries: 0,
            attempts: BTreeMap::new(),
            last_attempt: 0,
            timers: BTreeSet::new(),
            actions: Vec::new(),
        }
    }

    /// Takes in what has happened, at this time; a time before an earlier one counts as that one.
    pub fn step(&mut self, now_ms: u64, event: Event) -> Actions {
        self.now_ms = self.now_ms.max(now_ms);
        match event {
            Event::Call { call, operation, deadline_ms } => self.call(call, operation, deadline_ms),
            Event::Answered { attempt, response } => self.answered(attempt, response),
            Event::Unsent { attempt, reason } => self.unsent(attempt, reason),
            Event::Lost { attempt } => self.lost(attempt),
            Event::Tick => {}
        }
        self.run_timers();
        self.place_waiting();
        let wake_at_ms = self.timers.first().map(|(at_ms, _)| *at_ms);
        Actions { list: std::mem::take(&mut self.actions), wake_at_ms }
    }

    /// Calls that have not ended.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.calls.len()
    }

    // ---- calls ------------------------------------------------------------------------------------------------

    fn call(&mut self, id: CallId, operation: Operation, deadline_ms: u64) {
        assert!(self.last_call < Some(id), "the numbers of calls rise");
        self.last_call = Some(id);
        let calls_max = self.config.calls_max;
        if self.calls.len() >= calls_max {
            let outcome = Err(Failure::NotExecuted { why: Why::TooManyCalls { calls_max } });
            self.actions.push(Action::Finish { call: id, outcome });
            return;
        }
        let is_write = matches!(operation, Operation::Write(_));
        let closes = if operation == Operation::Close { self.take_settled_session() } else { None };
        if operation == Operation::Close && closes.is_none() {
            self.actions.push(Action::Finish { call: id, outcome: Ok(Reply::Ok) });
            return;
        }
        self.calls
            .insert(id, Call { operation, deadline_ms, place: None, closes, course: Course::default() });
        if is_write {
            self.waiting.insert(id);
            self.arm(Owner::Call(id));
        } else {
            self.send(Owner::Call(id));
        }
    }

    fn finish(&mut self, id: CallId, outcome: Result<Reply, Failure>) {
        let call = self.calls.remove(&id).expect("an unfinished call");
        self.forget(Owner::Call(id), &call.course);
        self.waiting.remove(&id);
        if let Some(place) = call.place {
            self.leave(place, matches!(outcome, Err(Failure::InDoubt { .. })));
        }
        self.actions.push(Action::Finish { call: id, outcome });
    }

    /// Ends a call without its result. Whether it may have run is what its course says, never what we wish.
    fn fail(&mut self, id: CallId, why: Why) {
        let call = self.calls.get(&id).expect("an unfinished call");
        let in_doubt = matches!(call.operation, Operation::Write(_)) && call.course.may_have_run();
        let failure = if in_doubt { Failure::InDoubt { why } } else { Failure::NotExecuted { why } };
        self.finish(id, Err(failure));
    }

    fn deadline(&mut self, id: CallId) {
        let last = self.calls.get(&id).and_then(|call| call.course.last.clone());
        // A write that waits for a session has nothing to tell of its own.
        let last = last.or_else(|| self.opening.as_ref().and_then(|opening| opening.last.clone()));
        self.fail(id, Why::Deadline { last });
    }

    // ---- sessions ---------------------------------------------------------------------------------------------

    /// Gives waiting writes their places, in the order of their calls, and sends them.
    fn place_waiting(&mut self) {
        while let Some(&id) = self.waiting.first() {
            let Some(generation) = self.current else {
                if self.opening.is_none() {
                    self.open_session();
                }
                return;
            };
            let session = self.sessions.get_mut(&generation).expect("the current session");
            let Some(sequence) = session.begin(self.config.window) else { return };
            self.waiting.remove(&id);
            self.calls.get_mut(&id).expect("a waiting call").place = Some(Place { generation, sequence });
            self.send(Owner::Call(id));
        }
    }

    fn open_session(&mut self) {
        self.opening = Some(Course::default());
        // A cluster that forgets each session at once must not be asked in a tight loop.
        if self.expiries > 1 {
            self.pause(Owner::Session, self.expiries - 1);
        } else {
            self.send(Owner::Session);
        }
    }

    fn opened(&mut self, id: SessionId) {
        self.stop_opening();
        self.last_generation += 1;
        self.current = Some(self.last_generation);
        self.sessions.insert(self.last_generation, Session::new(id));
    }

    fn stop_opening(&mut self) {
        if let Some(opening) = self.opening.take() {
            self.forget(Owner::Session, &opening);
        }
    }

    /// Gives up the current session, if nothing in it is under way or in doubt. The close may be lost, and a write in
    /// doubt could then run after those of the next session.
    fn take_settled_session(&mut self) -> Option<SessionId> {
        let generation = self.current?;
        let is_settled = self.sessions.get(&generation).expect("the current session").is_settled();
        if !is_settled {
            return None;
        }
        self.current = None;
        self.sessions.remove(&generation).map(Session::into_id)
    }

    fn leave(&mut self, place: Place, in_doubt: bool) {
        let session = self.sessions.get_mut(&place.generation).expect("a place in a session we keep");
        session.end(place.sequence, in_doubt);
        if session.is_idle() && self.current != Some(place.generation) {
            self.sessions.remove(&place.generation);
        }
    }

    /// The session of a write is gone, and with it the memory of what was sent under it.
    fn expired(&mut self, id: CallId, server: Arc<str>, refusal: Refusal) {
        let call = self.calls.get_mut(&id).expect("an unfinished call");
        let place = call.place.expect("a write that was sent");
        if self.current == Some(place.generation) {
            self.current = None;
            self.expiries = self.expiries.saturating_add(1);
        }
        if call.course.may_have_run() {
            // Another try can only hear the same again.
            return self.fail(id, Why::Refused { server, refusal });
        }
        // Its only send did not run: nothing was ever done under the old sequence, so it starts anew.
        let old = std::mem::take(&mut call.course);
        call.place = None;
        call.course.last = Some(Cause::Refused { server, refusal });
        self.forget(Owner::Call(id), &old);
        self.leave(place, false);
        self.waiting.insert(id);
        self.arm(Owner::Call(id));
    }

    // ---- tries ------------------------------------------------------------------------------------------------

    fn send(&mut self, owner: Owner) {
        let server = self.servers.preferred();
        let request = self.request(owner);
        self.last_attempt += 1;
        let attempt = AttemptId(self.last_attempt);
        self.attempts.insert(attempt, Attempt { owner, server: server.clone() });
        let Config { try_timeout_ms, try_timeout_ms_max, .. } = self.config;
        let now_ms = self.now_ms;
        let course = self.course_mut(owner);
        let patience_ms = doubled(try_timeout_ms, course.silences, try_timeout_ms_max);
        course.begin(attempt, now_ms.saturating_add(patience_ms));
        self.arm(owner);
        self.actions.push(Action::Send { attempt, server, request });
    }

    fn request(&self, owner: Owner) -> Request {
        let Owner::Call(id) = owner else {
            return Request::OpenSession { ttl_ms: self.config.session_ttl_ms };
        };
        let call = self.calls.get(&id).expect("an unfinished call");
        match &call.operation {
            Operation::Read(query) => Request::Read(query.clone()),
            Operation::Close => {
                Request::CloseSession { session: call.closes.clone().expect("a close names its session") }
            }
            Operation::Write(command) => {
                let place = call.place.expect("a write is placed before it is sent");
                let session = self.sessions.get(&place.generation).expect("a place in a session we keep");
                Request::Once {
                    session: session.id().clone(),
                    sequence: place.sequence,
                    acknowledged: session.acknowledged(),
                    command: command.clone(),
                }
            }
        }
    }

    fn pause(&mut self, owner: Owner, failures: u32) {
        let until_ms = self.now_ms.saturating_add(self.pauses.next_ms(failures));
        self.course_mut(owner).phase = Phase::Pausing { until_ms };
        self.arm(owner);
    }

    /// One more try, after a pause that grows with the number of failed ones.
    fn retry_later(&mut self, owner: Owner) {
        let course = self.course_mut(owner);
        course.failures = course.failures.saturating_add(1);
        let failures = course.failures;
        self.pause(owner, failures);
    }

    // ---- what came of a try -----------------------------------------------------------------------------------

    /// Takes a send off the books; `None` if whoever it was for has long ended.
    fn settle(&mut self, attempt: AttemptId) -> Option<(Attempt, bool)> {
        let settled = self.attempts.remove(&attempt)?;
        let is_current = self.course_mut(settled.owner).settle(attempt);
        Some((settled, is_current))
    }

    fn answered(&mut self, attempt: AttemptId, response: Response) {
        let Some((Attempt { owner, server }, is_current)) = self.settle(attempt) else { return };
        match (owner, response) {
            (Owner::Session, Response::Session(id)) => {
                self.servers.prefer(&server);
                self.opened(id);
            }
            (Owner::Call(id), Response::Reply(reply)) if self.fits(id, &reply) => {
                self.servers.prefer(&server);
                self.expiries = 0;
                self.finish(id, Ok(reply));
            }
            (owner, Response::Refused(refusal)) => self.refused(owner, server, is_current, refusal),
            (owner, Response::Session(_) | Response::Reply(_)) => {
                self.course_mut(owner).doubtful = true;
                self.failed(owner, is_current, Cause::Malformed { server });
            }
        }
    }

    fn fits(&self, id: CallId, reply: &Reply) -> bool {
        self.calls.get(&id).is_some_and(|call| reply.answers(&call.operation))
    }

    fn unsent(&mut self, attempt: AttemptId, reason: Unsent) {
        let Some((Attempt { owner, server }, is_current)) = self.settle(attempt) else { return };
        self.course_mut(owner).revoke();
        let cause = match reason {
            Unsent::ConnectionRefused => Cause::ConnectionRefused { server: server.clone() },
            Unsent::Unreachable => Cause::Unreachable { server: server.clone() },
        };
        let gives_up = !self.config.waits_for_lone_server && self.servers.is_lone();
        if gives_up && reason == Unsent::ConnectionRefused {
            self.give_up(owner, is_current, cause, Why::ConnectionRefused { server });
        } else {
            self.failed(owner, is_current, cause);
        }
    }

    fn lost(&mut self, attempt: AttemptId) {
        let Some((Attempt { owner, server }, is_current)) = self.settle(attempt) else { return };
        self.course_mut(owner).doubtful = true;
        self.failed(owner, is_current, Cause::Lost { server });
    }

    /// A try that failed: the next server, after a pause. An older send that fails changes nothing: a newer one is
    /// under way.
    fn failed(&mut self, owner: Owner, is_current: bool, cause: Cause) {
        self.servers.avoid(cause.server());
        self.course_mut(owner).last = Some(cause);
        if is_current {
            self.retry_later(owner);
        }
    }

    fn refused(&mut self, owner: Owner, server: Arc<str>, is_current: bool, refusal: Refusal) {
        let cause = Cause::Refused { server: server.clone(), refusal: refusal.clone() };
        match refusal.class {
            Class::Moved { ref to } => self.moved(owner, is_current, to, cause),
            Class::ClusterDown | Class::TryAgain => self.failed(owner, is_current, cause),
            Class::InDoubt | Class::Unknown => {
                self.course_mut(owner).doubtful = true;
                self.failed(owner, is_current, cause);
            }
            Class::OutOfMemory | Class::Rejected => {
                self.give_up(owner, is_current, cause, Why::Refused { server, refusal });
            }
            // Neither an opening nor a read has a session: there such an answer means nothing.
            Class::SessionExpired => match self.placed(owner) {
                Some(id) => self.expired(id, server, refusal),
                None => self.failed(owner, is_current, cause),
            },
            // It never runs again, so no further try would tell more.
            Class::StaleSequence => match self.placed(owner) {
                Some(id) => self.fail(id, Why::Refused { server, refusal }),
                None => self.failed(owner, is_current, cause),
            },
        }
    }

    /// The call, if it is a write that was sent.
    fn placed(&self, owner: Owner) -> Option<CallId> {
        let Owner::Call(id) = owner else { return None };
        self.calls.get(&id).and_then(|call| call.place).map(|_| id)
    }

    fn moved(&mut self, owner: Owner, is_current: bool, to: &str, cause: Cause) {
        if !is_current {
            // Old news: the leader may have changed since.
            return;
        }
        let course = self.course_mut(owner);
        course.last = Some(cause);
        course.redirects += 1;
        let goes_at_once = course.redirects <= REDIRECTS_MAX;
        self.servers.prefer(to);
        if goes_at_once {
            self.send(owner);
        } else {
            self.retry_later(owner);
        }
    }

    /// What no further try would change; but who may have run already must not be told that it has not.
    fn give_up(&mut self, owner: Owner, is_current: bool, cause: Cause, why: Why) {
        match owner {
            Owner::Session => {
                self.stop_opening();
                for id in std::mem::take(&mut self.waiting) {
                    self.fail(id, why.clone());
                }
            }
            Owner::Call(id) => {
                let call = self.calls.get(&id).expect("an unfinished call");
                let is_write = matches!(call.operation, Operation::Write(_));
                if is_write && call.course.may_have_run() {
                    self.failed(owner, is_current, cause);
                } else {
                    self.fail(id, why);
                }
            }
        }
    }

    // ---- time -------------------------------------------------------------------------------------------------

    fn run_timers(&mut self) {
        while let Some(&(at_ms, owner)) = self.timers.first()
            && at_ms <= self.now_ms
        {
            self.timers.pop_first();
            self.course_mut(owner).armed_ms = None;
            match owner {
                Owner::Session if self.waiting.is_empty() => self.stop_opening(),
                Owner::Call(id) if self.is_overdue(id) => self.deadline(id),
                Owner::Session | Owner::Call(_) => self.timer(owner),
            }
        }
    }

    fn is_overdue(&self, id: CallId) -> bool {
        self.calls.get(&id).is_some_and(|call| call.deadline_ms <= self.now_ms)
    }

    fn timer(&mut self, owner: Owner) {
        match self.course_mut(owner).phase {
            Phase::Waiting => self.arm(owner),
            Phase::Pausing { .. } => self.send(owner),
            Phase::Trying { attempt, .. } => self.silence(owner, attempt),
        }
    }

    /// Silence was wait enough: the next server is asked at once.
    fn silence(&mut self, owner: Owner, attempt: AttemptId) {
        let server = self.attempts.get(&attempt).expect("the current send").server.clone();
        self.servers.avoid(&server);
        let course = self.course_mut(owner);
        course.silences = course.silences.saturating_add(1);
        course.last = Some(Cause::Silent { server: server.clone() });
        self.actions.push(Action::Suspect { attempt, server });
        self.send(owner);
    }

    /// Sets the one timer of this owner to what it waits for next.
    fn arm(&mut self, owner: Owner) {
        let deadline_ms = match owner {
            Owner::Session => None,
            Owner::Call(id) => self.calls.get(&id).map(|call| call.deadline_ms),
        };
        let course = self.course_mut(owner);
        let phase_ms = match course.phase {
            Phase::Waiting => None,
            Phase::Pausing { until_ms } | Phase::Trying { until_ms, .. } => Some(until_ms),
        };
        let at_ms = [deadline_ms, phase_ms].into_iter().flatten().min();
        let before = std::mem::replace(&mut course.armed_ms, at_ms);
        if let Some(before) = before {
            self.timers.remove(&(before, owner));
        }
        if let Some(at_ms) = at_ms {
            self.timers.insert((at_ms, owner));
        }
    }

    /// Takes all of a course off the books: its sends may still be answered, but nobody asks any more.
    fn forget(&mut self, owner: Owner, course: &Course) {
        if let Some(armed_ms) = course.armed_ms {
            self.timers.remove(&(armed_ms, owner));
        }
        for attempt in course.open_sends() {
            self.attempts.remove(attempt);
        }
    }

    fn course_mut(&mut self, owner: Owner) -> &mut Course {
        match owner {
            Owner::Session => self.opening.as_mut(),
            Owner::Call(id) => self.calls.get_mut(&id).map(|call| &mut call.course),
        }
        .expect("sends and timers end with their owner")
    }
}
