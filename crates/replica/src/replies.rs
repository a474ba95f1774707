//! The replies that one client's session keeps, in the order of their sequences. Knows nothing of sessions: what may be
//! kept and forgotten is decided there.
//!
//! A cluster holds many sessions, and nearly all of them keep the one reply of a client's latest write. So that one
//! stands inside, without an allocation of its own, and a reply is kept in two words: a client that has written once
//! and is gone costs less than 200 bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::command::{Reply, ReplyError, Seq};
use crate::value::Value;

/// What a recorded reply counts against the limit of a session besides a value that it holds.
pub(crate) const REPLY_OVERHEAD_BYTES: u64 = 64;

/// The reply of a command that ran, and what the command was.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    /// Of the command.
    pub(crate) checksum: u32,
    reply: Kept,
}

/// A reply in two words. What a command is answered as a rule stands inside.
#[derive(Clone, Debug)]
enum Kept {
    Ok,
    Nil,
    Integer(i64),
    Value(Box<Value>),
    Error(Box<ReplyError>),
}

impl Recorded {
    pub(crate) fn new(checksum: u32, reply: Reply) -> Self {
        let reply = match reply {
            Reply::Ok => Kept::Ok,
            Reply::Nil => Kept::Nil,
            Reply::Integer(number) => Kept::Integer(number),
            Reply::Value(value) => Kept::Value(Box::new(value)),
            Reply::Error(error) => Kept::Error(Box::new(error)),
            Reply::Values(_) | Reply::Session(_) | Reply::Members(_) => {
                unreachable!("no command is answered like this")
            }
        };
        Self { checksum, reply }
    }

    pub(crate) fn reply(&self) -> Reply {
        match &self.reply {
            Kept::Ok => Reply::Ok,
            Kept::Nil => Reply::Nil,
            Kept::Integer(number) => Reply::Integer(*number),
            Kept::Value(value) => Reply::Value((**value).clone()),
            Kept::Error(error) => Reply::Error((**error).clone()),
        }
    }

    /// What it counts against [`StateLimits::session_reply_bytes_max`](crate::entry::StateLimits).
    fn bytes(&self) -> u64 {
        let value_bytes = match &self.reply {
            Kept::Value(value) => value.len() as u64,
            Kept::Ok | Kept::Nil | Kept::Integer(_) | Kept::Error(_) => 0,
        };
        REPLY_OVERHEAD_BYTES + value_bytes
    }
}

/// Replies by sequence.
#[derive(Clone, Debug, Default)]
pub(crate) enum Replies {
    #[default]
    None,
    One(Seq, Recorded),
    /// Shared with snapshots until it is changed.
    Many(Arc<Many>),
}

/// Two replies or more.
#[derive(Clone, Debug)]
pub(crate) struct Many {
    replies: BTreeMap<Seq, Recorded>,
    bytes: u64,
}

impl Replies {
    pub(crate) fn get(&self, seq: Seq) -> Option<&Recorded> {
        match self {
            Self::One(one, recorded) if *one == seq => Some(recorded),
            Self::None | Self::One(..) => None,
            Self::Many(many) => many.replies.get(&seq),
        }
    }

    /// Keeps a reply under a sequence that has none.
    ///
    /// # Panics
    /// If it has one: a command was applied twice.
    pub(crate) fn insert(&mut self, seq: Seq, recorded: Recorded) {
        assert!(self.get(seq).is_none(), "a command was applied twice");
        *self = match std::mem::take(self) {
            Self::None => Self::One(seq, recorded),
            Self::One(other, before) => {
                let bytes = before.bytes() + recorded.bytes();
                Self::Many(Arc::new(Many {
                    replies: BTreeMap::from([(other, before), (seq, recorded)]),
                    bytes,
                }))
            }
            Self::Many(mut shared) => {
                let many = Arc::make_mut(&mut shared);
                many.bytes += recorded.bytes();
                many.replies.insert(seq, recorded);
                Self::Many(shared)
            }
        };
    }

    /// Takes the lowest, if it is not above `floor`.
    pub(crate) fn take_first(&mut self, floor: Seq) -> Option<(Seq, Recorded)> {
        if self.iter().next().is_none_or(|(first, _)| first > floor) {
            return None;
        }
        match std::mem::take(self) {
            Self::None => None,
            Self::One(seq, recorded) => Some((seq, recorded)),
            Self::Many(mut shared) => {
                let many = Arc::make_mut(&mut shared);
                let first = many.replies.pop_first()?;
                many.bytes -= first.1.bytes();
                *self = match many.replies.len() {
                    1 => many
                        .replies
                        .pop_first()
                        .map_or(Self::None, |(seq, recorded)| Self::One(seq, recorded)),
                    _ => Self::Many(shared),
                };
                Some(first)
            }
        }
    }

    /// All, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Seq, &Recorded)> {
        let (one, many) = match self {
            Self::None => (None, None),
            Self::One(seq, recorded) => (Some((*seq, recorded)), None),
            Self::Many(many) => (None, Some(&many.replies)),
        };
        let many = many.into_iter().flatten().map(|(seq, recorded)| (*seq, recorded));
        one.into_iter().chain(many)
    }

    /// Bytes of all.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::None => 0,
            Self::One(_, recorded) => recorded.bytes(),
            Self::Many(many) => many.bytes,
        }
    }

    /// Bytes of those up to `floor`.
    pub(crate) fn bytes_upto(&self, floor: Seq) -> u64 {
        self.iter().take_while(|(seq, _)| *seq <= floor).map(|(_, recorded)| recorded.bytes()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_reply_is_given_back_as_it_was() {
        let error = Reply::Error(ReplyError::InDoubt);
        for reply in [Reply::Ok, Reply::Nil, Reply::Integer(-7), Reply::Value(Value::copy_from(b"v")), error]
        {
            assert_eq!(Recorded::new(1, reply.clone()).reply(), reply);
        }
    }

    proptest! {
        #[test]
        fn the_first_and_the_others_are_one_map(
            steps in proptest::collection::vec((0u64..16, any::<bool>()), 0..60)
        ) {
            let mut replies = Replies::default();
            let mut model = BTreeMap::new();
            for (number, is_insert) in steps {
                let seq = Seq(number);
                if is_insert && !model.contains_key(&seq) {
                    let value = Value::copy_from(&vec![0; number as usize]);
                    replies.insert(seq, Recorded::new(number as u32, Reply::Value(value)));
                    model.insert(seq, number as u32);
                } else if !is_insert {
                    let taken = replies.take_first(seq).map(|(seq, recorded)| (seq, recorded.checksum));
                    let is_due = model.first_key_value().is_some_and(|(first, _)| *first <= seq);
                    prop_assert_eq!(taken, if is_due { model.pop_first() } else { None });
                }
                let held: Vec<_> = replies.iter().map(|(seq, recorded)| (seq, recorded.checksum)).collect();
                prop_assert_eq!(held, model.clone().into_iter().collect::<Vec<_>>());
                let bytes = |upto: u64| {
                    let kept = model.keys().filter(|seq| seq.0 <= upto);
                    kept.map(|seq| REPLY_OVERHEAD_BYTES + seq.0).sum::<u64>()
                };
                prop_assert_eq!((replies.bytes(), replies.bytes_upto(Seq(7))), (bytes(16), bytes(7)));
                prop_assert!((0..16).all(|n| replies.get(Seq(n)).is_some() == model.contains_key(&Seq(n))));
            }
        }
    }
}
