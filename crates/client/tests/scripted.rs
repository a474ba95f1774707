//! One Clerk, servers that do as they are told, and a clock that the test moves: each way a call can go.

use bytes::Bytes;
use quorate_client::{
    Action, AttemptId, CallId, Cause, Clerk, Command, Config, Event, Failure, Operation, Query, Refusal,
    Reply, Request, Response, SessionId, Unsent, Why,
};

/// A Clerk with the story of what it did, one line an action.
struct Stage {
    clerk: Clerk,
    now_ms: u64,
    wake_at_ms: Option<u64>,
    calls: u64,
    sends: Vec<AttemptId>,
    outcomes: Vec<(u64, Result<Reply, Failure>)>,
    story: Vec<String>,
}

impl Stage {
    fn new(config: Config) -> Self {
        Self {
            clerk: Clerk::new(config, 1),
            now_ms: 0,
            wake_at_ms: None,
            calls: 0,
            sends: Vec::new(),
            outcomes: Vec::new(),
            story: Vec::new(),
        }
    }

    fn three() -> Self {
        Self::new(Config::new(["a:1", "b:1", "c:1"]))
    }

    /// A stage on which the session `s` is open, by way of the first server.
    fn with_session() -> Self {
        let mut stage = Self::three();
        stage.put("warm", "up", 10_000);
        stage.expect(&["→ a:1 open"]);
        stage.session(1, "s");
        stage.expect(&["→ a:1 once s 1/0 put warm"]);
        stage.reply(2, Reply::Ok);
        stage.expect(&["call 1: Ok(Ok)"]);
        stage
    }

    fn step(&mut self, event: Event) {
        let actions = self.clerk.step(self.now_ms, event);
        self.wake_at_ms = actions.wake_at_ms;
        for action in actions.list {
            match action {
                Action::Send { attempt, server, request } => {
                    self.sends.push(attempt);
                    self.story.push(format!("→ {server} {}", tell(&request)));
                }
                Action::Suspect { server, .. } => self.story.push(format!("{server} is silent")),
                Action::Finish { call, outcome } => {
                    let CallId(number) = call;
                    self.story.push(match &outcome {
                        Ok(reply) => format!("call {number}: Ok({reply:?})"),
                        Err(failure) => format!("call {number}: {failure}"),
                    });
                    self.outcomes.push((number, outcome));
                }
            }
        }
    }

    #[track_caller]
    fn expect(&mut self, story: &[&str]) {
        assert_eq!(std::mem::take(&mut self.story), story, "at {} ms", self.now_ms);
    }

    fn call(&mut self, operation: Operation, within_ms: u64) {
        self.calls += 1;
        let deadline_ms = self.now_ms + within_ms;
        self.step(Event::Call { call: CallId(self.calls), operation, deadline_ms });
    }

    fn put(&mut self, key: &'static str, value: &'static str, within_ms: u64) {
        let command = Command::Put { key: Bytes::from(key), value: Bytes::from(value) };
        self.call(Operation::Write(command), within_ms);
    }

    fn get(&mut self, key: &'static str, within_ms: u64) {
        self.call(Operation::Read(Query::Get { key: Bytes::from(key) }), within_ms);
    }

    /// The `number`th send, counted from 1.
    fn send(&self, number: usize) -> AttemptId {
        self.sends[number - 1]
    }

    fn answer(&mut self, number: usize, response: Response) {
        let attempt = self.send(number);
        self.step(Event::Answered { attempt, response });
    }

    fn session(&mut self, number: usize, id: &'static str) {
        self.answer(number, Response::Session(SessionId(Bytes::from(id))));
    }

    fn reply(&mut self, number: usize, reply: Reply) {
        self.answer(number, Response::Reply(reply));
    }

    fn refuse(&mut self, number: usize, text: &str) {
        self.answer(number, Response::Refused(Refusal::parse(text)));
    }

    fn lose(&mut self, number: usize) {
        let attempt = self.send(number);
        self.step(Event::Lost { attempt });
    }

    fn unsent(&mut self, number: usize, reason: Unsent) {
        let attempt = self.send(number);
        self.step(Event::Unsent { attempt, reason });
    }

    /// Lets time pass to the next moment that the Clerk waits for.
    fn sleep(&mut self) {
        self.now_ms = self.wake_at_ms.expect("something to wait for");
        self.step(Event::Tick);
    }

    /// Lets time pass, event by event, until every call has ended; answers nothing.
    fn sleep_to_the_end(&mut self) {
        while self.clerk.unfinished() > 0 {
            self.sleep();
        }
    }

    fn last_outcome(&self) -> &Result<Reply, Failure> {
        &self.outcomes.last().expect("an outcome").1
    }
}

fn tell(request: &Request) -> String {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    match request {
        Request::OpenSession { .. } => "open".to_owned(),
        Request::Once { session: SessionId(session), sequence, acknowledged, command } => {
            let command = match command {
                Command::Put { key, .. } => format!("put {}", text(key)),
                Command::Append { key, .. } => format!("append {}", text(key)),
                Command::Delete { key } => format!("delete {}", text(key)),
            };
            format!("once {} {sequence}/{acknowledged} {command}", text(session))
        }
        Request::Read(Query::Get { key }) => format!("get {}", text(key)),
        Request::CloseSession { session: SessionId(session) } => format!("close {}", text(session)),
    }
}

fn is_in_doubt(outcome: &Result<Reply, Failure>) -> bool {
    matches!(outcome, Err(Failure::InDoubt { .. }))
}

fn is_not_executed(outcome: &Result<Reply, Failure>) -> bool {
    matches!(outcome, Err(Failure::NotExecuted { .. }))
}

#[test]
fn a_session_is_opened_by_the_first_write_and_kept() {
    let mut stage = Stage::with_session();
    stage.put("k", "v", 1_000);
    stage.expect(&["→ a:1 once s 2/1 put k"]);
    stage.reply(3, Reply::Ok);
    stage.expect(&["call 2: Ok(Ok)"]);
    assert_eq!(stage.wake_at_ms, None, "nothing is left to wait for");
}

#[test]
fn a_read_needs_no_session() {
    let mut stage = Stage::three();
    stage.get("k", 1_000);
    stage.expect(&["→ a:1 get k"]);
    stage.reply(1, Reply::Value(None));
    stage.expect(&["call 1: Ok(Value(None))"]);
}

#[test]
fn a_lost_reply_is_asked_for_again_under_the_same_sequence() {
    let mut stage = Stage::with_session();
    stage.put("k", "v", 5_000);
    stage.lose(3);
    stage.sleep();
    stage.expect(&["→ a:1 once s 2/1 put k", "→ b:1 once s 2/1 put k"]);
    stage.reply(4, Reply::Ok);
    stage.expect(&["call 2: Ok(Ok)"]);
}

#[test]
fn a_silent_server_is_left_and_its_late_answer_still_counts() {
    let mut stage = Stage::with_session();
    stage.put("k", "v", 60_000);
    stage.sleep();
    stage.expect(&["→ a:1 once s 2/1 put k", "a:1 is silent", "→ b:1 once s 2/1 put k"]);
    assert_eq!(stage.now_ms, 1_000);
    stage.sleep();
    stage.expect(&["b:1 is silent", "→ c:1 once s 2/1 put k"]);
    assert_eq!(stage.now_ms, 3_000, "patience doubles");
    stage.reply(3, Reply::Ok);
    stage.expect(&["call 2: Ok(Ok)"]);
    stage.reply(4, Reply::Ok);
    stage.reply(5, Reply::Ok);
    stage.expect(&[]);
}

#[test]
fn moved_is_followed_at_once_and_remembered() {
    let mut stage = Stage::with_session();
    stage.put("k", "v", 5_000);
    stage.refuse(3, "MOVED 0 d:1");
    stage.expect(&["→ a:1 once s 2/1 put k", "→ d:1 once s 2/1 put k"]);
    stage.reply(4, Reply::Ok);
    stage.get("k", 5_000);
    stage.expect(&["call 2: Ok(Ok)", "→ d:1 get k"]);
    // When that one fails, the named ones are the way back.
    stage.unsent(5, Unsent::ConnectionRefused);
    stage.sleep();
    stage.expect(&["→ a:1 get k"]);
}

#[test]
fn two_servers_that_point_to_each_other_are_not_asked_in_a_tight_loop() {
    let mut stage = Stage::with_session();
    stage.get("k", 1_000);
    for hop in 0..10 {
        let sends = stage.sends.len();
        stage.refuse(sends, if hop % 2 == 0 { "MOVED 0 b:1" } else { "MOVED 0 a:1" });
        if stage.sends.len() == sends {
            assert!(hop >= 3);
            stage.sleep();
        }
        assert_eq!(stage.sends.len(), sends + 1);
    }
    assert!(stage.now_ms > 0);
}

#[test]
fn a_change_of_leader_is_invisible_but_for_the_time_it_takes() {
    let mut stage = Stage::with_session();
    stage.put("k", "v", 5_000);
    stage.lose(3);
    stage.sleep();
    stage.refuse(4, "CLUSTERDOWN no leader");
    stage.sleep();
    stage.refuse(5, "MOVED 0 b:1");
    stage.reply(6, Reply::Ok);
    stage.expect(&[
        "→ a:1 once s 2/1 put k",
        "→ b:1 once s 2/1 put k",
        "→ c:1 once s 2/1 put k",
        "→ b:1 once s 2/1 put k",
        "call 2: Ok(Ok)",
    ]);
    stage.put("k", "w", 5_000);
    stage.expect(&["→ b:1 once s 3/2 put k"]);
}

#[test]
fn what_was_never_sent_did_not_run() {
    let mut stage = Stage::with_session();
    stage.put("k", "v", 3_000);
    for number in 3.. {
        if stage.clerk.unfinished() == 0 {
            break;
        }
        stage.unsent(number, Unsent::ConnectionRefused);
        stage.sleep();
    }
    assert!(is_not_executed(stage.last_outcome()), "{:?}", stage.last_outcome());
    assert_eq!(stage.now_ms, 3_000);
}

#[test]
fn without_a_session_nothing_was_sent_and_nothing_ran() {
    let mut stage = Stage::three();
    stage.put("k", "v", 3_000);
    stage.sleep_to_the_end();
    assert!(is_not_executed(stage.last_outcome()));
    assert_eq!(
        stage.story.last().unwrap(),
        "call 1: not executed: the deadline has passed; last, b:1 did not answer in time"
    );
}

#[test]
fn one_send_with_a_certain_refusal_did_not_run() {
    let mut stage = Stage::with_session();
    stage.put("k", "v", 1_000);
    stage.refuse(3, "OOM the memory limit of 1 GiB is reached");
    assert!(is_not_executed(stage.last_outcome()));
    stage.put("k", "v", 1_000);
    stage.refuse(4, "ERR value of 9 bytes exceeds the limit of 8 bytes");
    assert!(is_not_executed(stage.last_outcome()));
    // The deadline comes during the pause: the only send had its certain answer.
    stage.put("k", "v", 1);
    stage.refuse(5, "TRYAGAIN too many waiting clients");
    stage.sleep_to_the_end();
    assert_eq!(stage.sends.len(), 5);
    assert!(is_not_executed(stage.last_outcome()));
}

#[test]
fn one_send_without_an_answer_is_in_doubt_at_the_deadline() {
    let mut stage = Stage::with_session();
    stage.put("k", "v", 500);
    stage.sleep();
    assert_eq!(stage.sends.len(), 3);
    assert!(is_in_doubt(stage.last_outcome()));
}

/// A refusal speaks of its own send alone: after a lost reply none of them proves anything.
#[test]
fn after_a_lost_reply_no_refusal_is_believed() {
    for refusal in
        ["TRYAGAIN x", "CLUSTERDOWN x", "OOM x", "ERR x", "NOAUTH x", "INDOUBT x", "WRONGTYPE x", "HUH x"]
    {
        let mut stage = Stage::with_session();
        stage.put("k", "v", 3_000);
        stage.lose(3);
        stage.sleep();
        let mut number = 4;
        while stage.clerk.unfinished() > 0 {
            stage.refuse(number, refusal);
            number += 1;
            if stage.clerk.unfinished() > 0 {
                stage.sleep();
            }
        }
        assert!(is_in_doubt(stage.last_outcome()), "{refusal}");
        assert_eq!(stage.now_ms, 3_000, "{refusal}: it tries until its deadline");
        assert!(number > 6, "{refusal}: {number} sends");
    }
}

#[test]
fn after_two_sends_no_refusal_is_believed() {
    let mut stage = Stage::with_session();
    stage.put("k", "v", 1_000);
    stage.refuse(3, "MOVED 0 b:1");
    stage.refuse(4, "OOM x");
    assert_eq!(stage.clerk.unfinished(), 1);
    stage.sleep();
    stage.reply(5, Reply::Ok);
    assert_eq!(stage.last_outcome(), &Ok(Reply::Ok), "the recorded reply counts");
}

#[test]
fn in_doubt_from_a_server_is_asked_again() {
    let mut stage = Stage::with_session();
    stage.put("k", "v", 5_000);
    stage.refuse(3, "INDOUBT no answer within 5 s");
    stage.sleep();
    stage.reply(4, Reply::Ok);
    stage.expect(&["→ a:1 once s 2/1 put k", "→ b:1 once s 2/1 put k", "call 2: Ok(Ok)"]);
}

#[test]
fn an_expired_session_is_replaced_for_a_command_that_was_surely_not_executed() {
    let mut stage = Stage::with_session();
    stage.put("k", "v", 5_000);
    stage.refuse(3, "SESSIONEXPIRED s");
    stage.expect(&["→ a:1 once s 2/1 put k", "→ a:1 open"]);
    stage.session(4, "t");
    stage.expect(&["→ a:1 once t 1/0 put k"]);
    stage.reply(5, Reply::Ok);
    stage.expect(&["call 2: Ok(Ok)"]);
}

#[test]
fn an_expired_session_after_a_lost_reply_leaves_doubt() {
    let mut stage = Stage::with_session();
    stage.put("k", "v", 5_000);
    stage.lose(3);
    stage.sleep();
    stage.refuse(4, "SESSIONEXPIRED s");
    assert!(is_in_doubt(stage.last_outcome()));
    stage.put("k", "w", 5_000);
    assert_eq!(stage.story.last().unwrap(), "→ b:1 open", "the next call begins a new session");
}

#[test]
fn calls_of_an_expired_session_keep_their_order_in_the_new_one() {
    let mut stage = Stage::with_session();
    stage.put("a", "", 5_000);
    stage.put("b", "", 5_000);
    stage.refuse(3, "SESSIONEXPIRED s");
    stage.refuse(4, "SESSIONEXPIRED s");
    stage.put("c", "", 5_000);
    stage.story.clear();
    stage.session(5, "t");
    stage.expect(&["→ a:1 once t 1/0 put a", "→ a:1 once t 2/0 put b", "→ a:1 once t 3/0 put c"]);
}

#[test]
fn a_cluster_that_forgets_every_session_is_not_asked_in_a_tight_loop() {
    let mut stage = Stage::with_session();
    stage.put("k", "v", 60_000);
    for round in 0..8 {
        let sends = stage.sends.len();
        stage.refuse(sends, "SESSIONEXPIRED s");
        if stage.sends.len() == sends {
            assert!(round > 0);
            stage.sleep();
        }
        stage.session(sends + 1, "t");
    }
    assert!(stage.now_ms > 100, "{} ms", stage.now_ms);
}

#[test]
fn a_lost_reply_to_an_open_costs_another_session() {
    let mut stage = Stage::three();
    stage.put("k", "v", 5_000);
    stage.lose(1);
    stage.sleep();
    stage.expect(&["→ a:1 open", "→ b:1 open"]);
    stage.session(2, "t");
    stage.reply(3, Reply::Ok);
    stage.expect(&["→ b:1 once t 1/0 put k", "call 1: Ok(Ok)"]);
}

#[test]
fn an_open_that_is_refused_for_good_ends_those_who_wait() {
    let mut stage = Stage::three();
    stage.put("a", "", 5_000);
    stage.put("b", "", 5_000);
    stage.refuse(1, "NOAUTH Authentication required.");
    stage.expect(&[
        "→ a:1 open",
        "call 1: not executed: a:1 answered: NOAUTH Authentication required.",
        "call 2: not executed: a:1 answered: NOAUTH Authentication required.",
    ]);
}

#[test]
fn nobody_opens_a_session_for_calls_that_have_ended() {
    let mut stage = Stage::three();
    stage.put("k", "v", 100);
    stage.lose(1);
    stage.sleep_to_the_end();
    while stage.wake_at_ms.is_some() {
        stage.sleep();
    }
    assert_eq!(stage.sends.len(), 2, "the try that was under way is the last");
    stage.put("k", "v", 100);
    assert!(stage.story.last().unwrap().ends_with("open"));
}

#[test]
fn a_session_is_closed_when_nothing_is_under_way_in_it() {
    let mut stage = Stage::with_session();
    stage.put("k", "v", 5_000);
    stage.call(Operation::Close, 5_000);
    stage.expect(&["→ a:1 once s 2/1 put k", "call 3: Ok(Ok)"]);
    stage.reply(3, Reply::Ok);
    stage.call(Operation::Close, 5_000);
    stage.expect(&["call 2: Ok(Ok)", "→ a:1 close s"]);
    // The next write does not wait for that, nor does it use the session.
    stage.put("k", "w", 5_000);
    stage.expect(&["→ a:1 open"]);
    stage.lose(4);
    stage.sleep();
    stage.reply(6, Reply::Ok);
    stage.expect(&["→ b:1 close s", "call 4: Ok(Ok)"]);
    let mut stage = Stage::three();
    stage.call(Operation::Close, 5_000);
    stage.expect(&["call 1: Ok(Ok)"]);
}

/// The close may be lost like anything else; then a write in doubt could run after one of the next session.
#[test]
fn a_session_with_a_write_in_doubt_is_not_closed() {
    let mut stage = Stage::with_session();
    stage.put("k", "v", 50);
    stage.lose(3);
    stage.sleep_to_the_end();
    assert!(is_in_doubt(stage.last_outcome()));
    stage.story.clear();
    stage.call(Operation::Close, 5_000);
    stage.put("k", "w", 5_000);
    assert_eq!(stage.story[0], "call 3: Ok(Ok)");
    assert!(stage.story[1].ends_with("once s 3/2 put k"), "{}", stage.story[1]);
}

#[test]
fn the_window_holds_back_what_a_server_would_not_admit() {
    let mut stage = Stage::new(Config { window: 2, ..Config::new(["a:1"]) });
    for key in ["a", "b", "c", "d"] {
        stage.put(key, "", 5_000);
    }
    stage.session(1, "s");
    stage.expect(&["→ a:1 open", "→ a:1 once s 1/0 put a", "→ a:1 once s 2/0 put b"]);
    stage.reply(3, Reply::Ok);
    stage.expect(&["call 2: Ok(Ok)"]);
    stage.reply(2, Reply::Ok);
    stage.expect(&["call 1: Ok(Ok)", "→ a:1 once s 3/2 put c", "→ a:1 once s 4/2 put d"]);
}

#[test]
fn too_many_calls_are_refused_before_anything_is_sent() {
    let mut stage = Stage::new(Config { calls_max: 1, ..Config::new(["a:1"]) });
    stage.get("a", 5_000);
    stage.put("b", "", 5_000);
    stage.expect(&["→ a:1 get a", "call 2: not executed: calls_max: 1 calls are unfinished"]);
}

#[test]
fn a_lone_server_that_refuses_the_connection_is_not_waited_for_if_so_set() {
    let config = || Config { waits_for_lone_server: false, ..Config::new(["a:1"]) };
    for write in [true, false] {
        let mut stage = Stage::new(config());
        if write {
            stage.put("k", "v", 10_000);
        } else {
            stage.get("k", 10_000);
        }
        stage.unsent(1, Unsent::ConnectionRefused);
        let why = Why::ConnectionRefused { server: "a:1".into() };
        assert_eq!(stage.last_outcome(), &Err(Failure::NotExecuted { why }));
        assert_eq!(stage.now_ms, 0);
    }
    // But who may have run is not told that it has not.
    let mut stage = Stage::new(config());
    stage.put("k", "v", 10_000);
    stage.session(1, "s");
    stage.lose(2);
    stage.sleep();
    stage.unsent(3, Unsent::ConnectionRefused);
    assert_eq!(stage.clerk.unfinished(), 1);
}

#[test]
fn by_default_a_lone_server_is_waited_for() {
    let mut stage = Stage::new(Config::new(["a:1"]));
    stage.get("k", 1_000);
    stage.unsent(1, Unsent::ConnectionRefused);
    stage.sleep();
    stage.reply(2, Reply::Value(Some(Bytes::from("v"))));
    assert_eq!(stage.last_outcome(), &Ok(Reply::Value(Some(Bytes::from("v")))));
}

#[test]
fn an_answer_to_another_question_is_no_answer() {
    let mut stage = Stage::with_session();
    stage.put("k", "v", 1_000);
    stage.reply(3, Reply::Length(7));
    stage.sleep();
    assert_eq!(stage.sends.len(), 4);
    stage.refuse(4, "ERR x");
    stage.sleep_to_the_end();
    assert!(is_in_doubt(stage.last_outcome()));
}

#[test]
fn a_failure_names_what_went_wrong_last() {
    let mut stage = Stage::with_session();
    stage.get("k", 50);
    stage.refuse(3, "CLUSTERDOWN no leader");
    stage.sleep_to_the_end();
    let Err(Failure::NotExecuted { why: Why::Deadline { last: Some(cause) } }) = stage.last_outcome() else {
        panic!("{:?}", stage.last_outcome())
    };
    assert!(matches!(cause, Cause::Refused { .. }), "{cause}");
}

#[test]
fn time_that_goes_backward_changes_nothing() {
    let mut stage = Stage::with_session();
    stage.now_ms = 5_000;
    stage.get("k", 1_000);
    stage.now_ms = 0;
    stage.step(Event::Tick);
    assert_eq!(stage.clerk.unfinished(), 1);
    assert_eq!(stage.wake_at_ms, Some(6_000));
}
