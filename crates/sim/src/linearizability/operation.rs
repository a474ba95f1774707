//! One operation of a key, made cheap for the search. Knows no order.

use bytes::Bytes;
use quorate_replica::command::Condition;

use super::values::{State, Values};
use crate::history::{Action, Outcome, Stamp};

/// What an operation does.
#[derive(Clone, Debug)]
pub(super) enum Effect {
    Put { value: State, condition: Condition, get: bool },
    Append { suffix: Bytes },
    Delete,
    Get,
    Length,
}

/// What an operation was answered, or would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Ok,
    Nil,
    Integer(usize),
    /// The value at this place; none where the history knows no such answer.
    Value(Option<usize>),
    /// Nothing that an operation answers.
    Absurd,
}

impl Effect {
    pub(super) fn of(action: &Action, values: &Values) -> Self {
        match action {
            Action::Put { value, condition, get } => {
                Self::Put { value: values.holding(value), condition: *condition, get: *get }
            }
            Action::Append { value } => Self::Append { suffix: value.clone() },
            Action::Delete { .. } => Self::Delete,
            Action::Get => Self::Get,
            Action::Length => Self::Length,
        }
    }

    /// The state after it, and what it answers.
    pub(super) fn apply(&self, state: State, values: &Values) -> (State, Answer) {
        let is_there = state != State::Absent;
        let value = || if is_there { Answer::Value(values.exactly(state)) } else { Answer::Nil };
        match self {
            Self::Put { value: new, condition, get } => {
                let holds = match condition {
                    Condition::Always => true,
                    Condition::IfAbsent => !is_there,
                    Condition::IfPresent => is_there,
                };
                let after = if holds { *new } else { state };
                let plain = if holds { Answer::Ok } else { Answer::Nil };
                (after, if *get { value() } else { plain })
            }
            Self::Append { suffix } => {
                let after = values.appended(state, suffix);
                (after, Answer::Integer(after.bytes()))
            }
            Self::Delete => (State::Absent, Answer::Integer(usize::from(is_there))),
            Self::Get => (state, value()),
            Self::Length => (state, Answer::Integer(state.bytes())),
        }
    }

    /// Whether the operation, answered so, changes nothing in **whatever** state it meets. (A `Put` of the value
    /// that is there already is no such operation: it may be meant for a later state.)
    pub(super) fn is_observation(&self, answer: Answer) -> bool {
        match self {
            Self::Put { condition: Condition::Always, .. } | Self::Append { .. } => false,
            Self::Put { condition: Condition::IfAbsent, get, .. } => (answer == Answer::Nil) != *get,
            Self::Put { condition: Condition::IfPresent, .. } => answer == Answer::Nil,
            Self::Delete => answer == Answer::Integer(0),
            Self::Get | Self::Length => true,
        }
    }

    /// What a value begins with where it begins with this operation.
    pub(super) fn begins(&self, values: &Values) -> Option<State> {
        match self {
            Self::Put { value, .. } => Some(*value),
            Self::Append { suffix } => Some(values.holding(suffix)),
            Self::Delete => Some(State::Absent),
            Self::Get | Self::Length => None,
        }
    }

    /// Whether its answer is the whole value, so that it says in which state it ran.
    pub(super) fn shows_value(&self) -> bool {
        match self {
            Self::Get | Self::Put { get: true, .. } => true,
            Self::Put { get: false, .. } | Self::Append { .. } | Self::Delete | Self::Length => false,
        }
    }
}

/// `None`: the outcome is not known.
pub(super) fn answer_of(outcome: &Outcome, values: &Values) -> Option<Answer> {
    match outcome {
        Outcome::Ok => Some(Answer::Ok),
        Outcome::Nil => Some(Answer::Nil),
        Outcome::Integer(number) => Some(usize::try_from(*number).map_or(Answer::Absurd, Answer::Integer)),
        Outcome::Value(bytes) => Some(Answer::Value(Some(values.place(bytes)))),
        Outcome::NotExecuted | Outcome::Unknown => None,
    }
}

/// An operation in the order that the search builds, by its place among those of its sort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Placed {
    Known(usize),
    Open(usize),
}

/// A completed operation.
#[derive(Debug)]
pub(super) struct Known {
    /// Its place in the input.
    pub(super) input: usize,
    pub(super) call: Stamp,
    pub(super) returned: Stamp,
    pub(super) effect: Effect,
    pub(super) answer: Answer,
    /// When it took effect, by suggestion.
    pub(super) rank: Option<u64>,
    /// Stands for the operation in the exclusive-or that names a set of placed operations.
    pub(super) mark: u128,
}

/// A write that may take effect at any time after its call, or never.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) call: Stamp,
    pub(super) effect: Effect,
    /// When it took effect, by suggestion.
    pub(super) rank: Option<u64>,
    /// Those of one class can stand for each other.
    pub(super) class: Class,
}

/// What an open operation does to the state, as far as any answer can tell.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    Put {
        value: State,
        if_absent: bool,
        if_present: bool,
    },
    Append {
        suffix: Bytes,
    },
    /// An append of bytes that no answered value has in it.
    Lengthen {
        bytes: usize,
    },
    Delete,
}

impl Class {
    /// `None` where it changes nothing.
    pub(super) fn of(effect: &Effect, values: &Values) -> Option<Self> {
        match effect {
            Effect::Put { value, condition, .. } => Some(Self::Put {
                value: *value,
                if_absent: *condition == Condition::IfAbsent,
                if_present: *condition == Condition::IfPresent,
            }),
            Effect::Append { suffix } if values.hold(suffix) => Some(Self::Append { suffix: suffix.clone() }),
            Effect::Append { suffix } => Some(Self::Lengthen { bytes: suffix.len() }),
            Effect::Delete => Some(Self::Delete),
            Effect::Get | Effect::Length => None,
        }
    }
}
