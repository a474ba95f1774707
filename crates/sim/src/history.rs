//! What clients did and saw: one record an operation, with the instants of its call and return. Knows nothing
//! of servers; the checkers read nothing else.

use std::collections::BTreeSet;
use std::fmt;

use bytes::Bytes;
use quorate_replica::command::{Condition, Reply, ReplyError};
use serde::{Deserialize, Serialize};

use crate::jsonl::text;
use crate::schedule::Micros;

/// A place in the order of everything that happens in a run; no two calls or returns share one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp(pub u64);

/// What a client asked of one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// `SET`, with its conditions.
    Put {
        /// The new value.
        #[serde(with = "text")]
        value: Bytes,
        /// When it is set.
        #[serde(with = "ConditionName")]
        condition: Condition,
        /// Answer with the old value.
        get: bool,
    },
    /// `APPEND`.
    Append {
        /// What to add.
        #[serde(with = "text")]
        value: Bytes,
    },
    /// `DEL` of one key, and, where the client can, of a second that never exists and names this operation.
    Delete {
        /// The second.
        #[serde(with = "text::or_none")]
        token: Option<Bytes>,
    },
    /// `GET`.
    Get,
    /// `STRLEN`.
    Length,
}

/// What a client was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Done.
    Ok,
    /// There is none, or the condition did not hold.
    Nil,
    /// A length or a count.
    Integer(i64),
    /// A value.
    Value(#[serde(with = "text")] Bytes),
    /// An error whose class promises that nothing happened.
    NotExecuted,
    /// It may have happened, may happen later, or never.
    Unknown,
}

/// How a condition is written in files.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Condition", rename_all = "snake_case")]
enum ConditionName {
    Always,
    IfAbsent,
    IfPresent,
}

impl Action {
    /// What no other action of the run carries.
    fn token(&self) -> Option<&Bytes> {
        match self {
            Self::Put { value, .. } | Self::Append { value } => Some(value),
            Self::Delete { token } => token.as_ref(),
            Self::Get | Self::Length => None,
        }
    }
}

impl Outcome {
    /// The value in it.
    pub fn value(&self) -> Option<&Bytes> {
        match self {
            Self::Value(bytes) => Some(bytes),
            Self::Ok | Self::Nil | Self::Integer(_) | Self::NotExecuted | Self::Unknown => None,
        }
    }

    /// What this answer means for an operation that was sent once.
    pub fn of(reply: &Reply) -> Self {
        match reply {
            Reply::Ok => Self::Ok,
            Reply::Nil => Self::Nil,
            Reply::Integer(number) => Self::Integer(*number),
            Reply::Value(value) => Self::Value(Bytes::copy_from_slice(&value.to_bytes())),
            // No action of the workload is answered so.
            Reply::Values(_) | Reply::Session(_) | Reply::Members(_) => Self::Unknown,
            Reply::Error(error) => Self::of_error(error),
        }
    }

    fn of_error(error: &ReplyError) -> Self {
        match error {
            ReplyError::InDoubt | ReplyError::SessionExpired | ReplyError::StaleSequence { .. } => {
                Self::Unknown
            }
            ReplyError::ClusterDown
            | ReplyError::TooSlow { .. }
            | ReplyError::Short(_)
            | ReplyError::NotServing(_)
            | ReplyError::WindowFull { .. }
            | ReplyError::RepliesFull { .. }
            | ReplyError::SessionsFull { .. }
            | ReplyError::TtlTooLong { .. }
            // No action of the workload is answered so.
            | ReplyError::NoBackup
            | ReplyError::BackupFailed(_)
            | ReplyError::Moved { .. }
            | ReplyError::MembersRefused(_)
            | ReplyError::SequenceReused { .. }
            | ReplyError::KeyTooLarge { .. }
            | ReplyError::ValueTooLarge { .. } => Self::NotExecuted,
        }
    }
}

/// One operation of one client on one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Whose.
    pub client: u32,
    /// Which connection carried it; 0 for a Clerk, whose operations are not tied to one.
    pub connection: u64,
    /// The key.
    #[serde(with = "text")]
    pub key: Bytes,
    /// What.
    pub action: Action,
    /// What no other operation of the run carries; none for a read.
    #[serde(with = "text::or_none")]
    pub token: Option<Bytes>,
    /// Before everything the operation may have caused.
    pub call: Stamp,
    /// After it; `None` where no answer came.
    pub returned: Option<Stamp>,
    /// The answer; `Unknown` until one came.
    pub outcome: Outcome,
    /// When it was called, for people, in microseconds.
    pub call_at: Micros,
    /// When it returned, for people; the instant of the call where it has not.
    pub returned_at: Micros,
}

impl Operation {
    /// Whether the effect and the answer are known.
    pub fn is_complete(&self) -> bool {
        self.returned.is_some() && !matches!(self.outcome, Outcome::NotExecuted | Outcome::Unknown)
    }

    /// Whether it may change the key.
    pub fn is_write(&self) -> bool {
        !matches!(self.action, Action::Get | Action::Length)
    }
}

/// `c3 a1 append 3.17 = 42 (1.200000..1.210000)`.
impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |at: Micros| at as f64 / 1e6;
        write!(f, "c{} {} {}", self.client, self.key.escape_ascii(), self.action)?;
        match &self.returned {
            Some(_) => write!(
                f,
                " = {} ({:.6}..{:.6})",
                self.outcome,
                seconds(self.call_at),
                seconds(self.returned_at)
            ),
            None => write!(f, " = ? ({:.6}..)", seconds(self.call_at)),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put { value, condition, get } => {
                let condition = match condition {
                    Condition::Always => "",
                    Condition::IfAbsent => " if absent",
                    Condition::IfPresent => " if present",
                };
                write!(f, "put {}{condition}{}", Short(value), if *get { " get" } else { "" })
            }
            Self::Append { value } => write!(f, "append {}", Short(value)),
            Self::Delete { token: Some(token) } => write!(f, "delete {}", Short(token)),
            Self::Delete { token: None } => f.write_str("delete"),
            Self::Get => f.write_str("get"),
            Self::Length => f.write_str("length"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("ok"),
            Self::Nil => f.write_str("nil"),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Value(value) => write!(f, "{}", Short(value)),
            Self::NotExecuted => f.write_str("not executed"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

/// The last tokens of a value of the workload, without their padding: `… 3.17 4.18`. Of any other value the end, or all
/// of a short one.
struct Short<'a>(&'a Bytes);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 40;
        const TOKENS: usize = 3;
        if let Some(tokens) = tokens(self.0) {
            let first = tokens.len().saturating_sub(TOKENS);
            let sign = if first > 0 { "… " } else { "" };
            return write!(f, "{sign}{}", tokens[first..].join(" "));
        }
        match self.0.len().checked_sub(SHOWN) {
            None | Some(0) => write!(f, "\"{}\"", self.0.escape_ascii()),
            Some(hidden) => write!(f, "({hidden} bytes and) \"{}\"", self.0[hidden..].escape_ascii()),
        }
    }
}

/// `client.number`, padded with `-` and ended by `;`, once or more.
fn tokens(value: &[u8]) -> Option<Vec<&str>> {
    let text = std::str::from_utf8(value).ok()?.strip_suffix(';')?;
    let tokens: Vec<&str> = text.split(';').map(|token| token.trim_end_matches('-')).collect();
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let is_token = |token: &&str| token.split_once('.').is_some_and(|(a, b)| is_number(a) && is_number(b));
    tokens.iter().all(is_token).then_some(tokens)
}

/// Names an operation in its history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OperationId(pub usize);

/// All operations of a run, in the order of their calls.
#[derive(Debug, Default)]
pub struct History {
    operations: Vec<Operation>,
    completed: usize,
    stamp: u64,
}

impl History {
    fn stamp(&mut self) -> Stamp {
        self.stamp += 1;
        Stamp(self.stamp)
    }

    /// A client calls.
    pub fn call(
        &mut self,
        now: Micros,
        client: u32,
        connection: u64,
        key: Bytes,
        action: Action,
    ) -> OperationId {
        let call = self.stamp();
        self.operations.push(Operation {
            client,
            connection,
            key,
            token: action.token().cloned(),
            action,
            call,
            returned: None,
            outcome: Outcome::Unknown,
            call_at: now,
            returned_at: now,
        });
        OperationId(self.operations.len() - 1)
    }

    /// The answer is there.
    ///
    /// # Panics
    /// If the operation has returned already.
    pub fn returned(&mut self, now: Micros, id: OperationId, outcome: Outcome) {
        let stamp = self.stamp();
        let operation = &mut self.operations[id.0];
        assert!(operation.returned.is_none(), "an operation returned twice");
        operation.returned = Some(stamp);
        operation.returned_at = now;
        operation.outcome = outcome;
        self.completed += usize::from(operation.is_complete());
    }

    /// The token of an operation that had none, or another one, is this.
    pub fn name(&mut self, id: OperationId, token: Bytes) {
        self.operations[id.0].token = Some(token);
    }

    /// All operations that have an id.
    pub fn get(&self, id: OperationId) -> &Operation {
        &self.operations[id.0]
    }

    /// The keys that were named, in order.
    pub fn keys(&self) -> BTreeSet<Bytes> {
        self.operations.iter().map(|operation| operation.key.clone()).collect()
    }

    /// How many have returned with a known outcome.
    pub fn completed(&self) -> usize {
        self.completed
    }

    /// All operations, in the order of their calls.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }
}
