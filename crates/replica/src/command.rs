//! What a client can ask, and what it is told. Knows nothing of frames, sockets or the log.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use quorate_storage::ClusterId;

use crate::backup::{BACKUP_IDLE_MS, BackupCall};
use crate::members::{MembersCall, MembersReply};
use crate::shortage::Shortage;
use crate::value::Value;

/// A session: the cluster, the index of the entry that opened it, and its place among the openings of that
/// entry. No other session ever has it, not even after a recovery that lost a suffix of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId {
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    /// Where in the log it was opened.
    pub key: SessionKey,
}

/// A session within its cluster: (index, place), in the order of opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey {
    /// The index of the entry that opened it.
    pub index: u64,
    /// Which opening of that entry, from 0.
    pub place: u32,
}

/// The number of a command within its session, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

/// A change to keys and values. Keys and values are bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `SET key value`.
    Put {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
        /// When it is set at all.
        condition: Condition,
        /// Answer with the old value instead of `Ok` (`SET … GET`).
        get: bool,
    },
    /// `APPEND key value`: a missing key counts as empty.
    Append {
        /// The key.
        key: Bytes,
        /// What to add at its end.
        value: Bytes,
    },
    /// `DEL key …`.
    Delete {
        /// The keys, each counted once where it existed.
        keys: Vec<Bytes>,
    },
}

impl Command {
    /// Bytes of its keys and values.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Put { key, value, .. } | Self::Append { key, value } => key.len() + value.len(),
            Self::Delete { keys } => keys.iter().map(Bytes::len).sum(),
        }
    }

    /// The keys it names.
    pub(crate) fn keys(&self) -> &[Bytes] {
        match self {
            Self::Put { key, .. } | Self::Append { key, .. } => std::slice::from_ref(key),
            Self::Delete { keys } => keys,
        }
    }
}

/// When a `Put` takes effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// In any case.
    #[default]
    Always,
    /// Only if there is no such key (`NX`).
    IfAbsent,
    /// Only if there is such a key (`XX`).
    IfPresent,
}

/// A write as it enters a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// A plain client's command; exactly once under the gateway's session as long as the server lives.
    Plain(Command),
    /// `ONCE session seq acknowledged command`: exactly once under the client's own session.
    Once {
        /// The client's session.
        session: SessionId,
        /// The command's number in it.
        seq: Seq,
        /// The client asks for no sequence up to this one again. Below `seq`.
        acknowledged: Seq,
        /// What to do.
        command: Command,
    },
    /// `SESSION OPEN`.
    OpenSession {
        /// Milliseconds of replicated time after its last write at which it expires; `None` for the default.
        ttl_ms: Option<u64>,
    },
    /// `SESSION CLOSE`.
    CloseSession {
        /// Which.
        session: SessionId,
    },
}

/// A question to the state machine. Changes nothing, so it is never stored in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// `GET key`.
    Get {
        /// The key.
        key: Bytes,
    },
    /// `MGET key …`.
    GetMany {
        /// The keys.
        keys: Vec<Bytes>,
    },
    /// `EXISTS key …`: a key named twice counts twice.
    Exists {
        /// The keys.
        keys: Vec<Bytes>,
    },
    /// `STRLEN key`.
    Length {
        /// The key.
        key: Bytes,
    },
    /// `DBSIZE`.
    Size,
}

impl Query {
    /// The keys it names.
    pub fn keys(&self) -> &[Bytes] {
        match self {
            Self::Get { key } | Self::Length { key } => std::slice::from_ref(key),
            Self::GetMany { keys } | Self::Exists { keys } => keys,
            Self::Size => &[],
        }
    }

    /// What it costs to keep while it waits: the bytes of its keys, and a constant for itself and each of them.
    pub fn bytes(&self) -> usize {
        const OVERHEAD_BYTES: usize = 64;
        OVERHEAD_BYTES + self.keys().iter().map(|key| OVERHEAD_BYTES + key.len()).sum::<usize>()
    }
}

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Goes through the log.
    Write(Write),
    /// Answered from a confirmed read index.
    Read(Query),
    /// Concerns this server's backups.
    Backup(BackupCall),
    /// Concerns who belongs to the cluster. Answered by the leader.
    Members(Box<MembersCall>),
}

/// The answer to one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Done.
    Ok,
    /// There is none.
    Nil,
    /// A count or a length.
    Integer(i64),
    /// A value, shared with the state machine, not copied.
    Value(Value),
    /// One answer a key.
    Values(Vec<Option<Value>>),
    /// The session that was opened.
    Session(SessionId),
    /// The members, or what becomes of a change to them.
    Members(Box<MembersReply>),
    /// Refused, or the outcome is not known.
    Error(ReplyError),
}

/// An error a client sees. The text's first word is its class, and the class is a promise
/// (`docs/semantics.md`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplyError {
    /// Not executed: no leader is known, and none was found in time.
    ClusterDown,
    /// Not executed: this server does not serve (yet); the text says why.
    NotServing(String),
    /// Not executed: more than the window of sequences are above the session's floor.
    WindowFull {
        /// The limit, in commands.
        limit: u64,
    },
    /// Not executed: the replies kept in the session are at their limit.
    RepliesFull {
        /// The limit, in bytes.
        limit: u64,
    },
    /// Not executed: the cluster holds as many sessions as it may.
    SessionsFull {
        /// The limit, in sessions.
        limit: u64,
    },
    /// Not executed: the session would live too long after its last write.
    TtlTooLong {
        /// What was asked for, in milliseconds.
        ttl_ms: u64,
        /// The limit, in milliseconds.
        limit_ms: u64,
    },
    /// Not executed: the leader, though known, did not get to it in time.
    TooSlow {
        /// The limit, in milliseconds.
        limit_ms: u64,
    },
    /// Not executed: the state may not grow.
    Short(Box<Shortage>),
    /// There is no such backup at this server.
    NoBackup,
    /// The snapshot of a backup could not be taken or read; the text says why.
    BackupFailed(String),
    /// Not executed: the leader answers this, at this address.
    Moved {
        /// Where clients find it.
        leader: Box<str>,
    },
    /// Not executed: as things are, the members may not be changed so; the text says why.
    MembersRefused(String),
    /// May or may not take effect, now or later.
    InDoubt,
    /// Not executed under this call; whether an earlier send was, is no longer known.
    SessionExpired,
    /// The sequence was acknowledged by the client itself, its reply is forgotten.
    StaleSequence {
        /// Which.
        seq: Seq,
    },
    /// Not executed: the same sequence was used for another command.
    SequenceReused {
        /// Which.
        seq: Seq,
    },
    /// Not executed: the key is too long.
    KeyTooLarge {
        /// Its bytes.
        bytes: u64,
        /// The limit, in bytes.
        limit: u64,
    },
    /// Not executed: the value is, or would become, too long.
    ValueTooLarge {
        /// Its bytes.
        bytes: u64,
        /// The limit, in bytes.
        limit: u64,
    },
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClusterDown => f.write_str(
                "CLUSTERDOWN no leader: too few servers are alive or connected; not executed, try again",
            ),
            Self::NotServing(why) => write!(f, "TRYAGAIN {why}"),
            Self::WindowFull { limit } => {
                write!(
                    f,
                    "TRYAGAIN window full: a session admits {limit} sequences above the acknowledged one"
                )
            }
            Self::RepliesFull { limit } => {
                write!(f, "TRYAGAIN replies full: a session keeps {limit} bytes of replies; acknowledge some")
            }
            Self::SessionsFull { limit } => {
                write!(
                    f,
                    "TRYAGAIN sessions full: the cluster holds {limit} sessions; close some or let them expire"
                )
            }
            Self::TtlTooLong { ttl_ms, limit_ms } => {
                write!(f, "ERR session TTL of {ttl_ms} ms is above the limit of {limit_ms} ms")
            }
            Self::TooSlow { limit_ms } => {
                write!(
                    f,
                    "TRYAGAIN overloaded: no turn within --request-timeout of {limit_ms} ms; not executed"
                )
            }
            Self::Short(shortage) => shortage.fmt(f),
            Self::NoBackup => write!(
                f,
                "ERR no such backup at this server: it was ended, or not asked for within {} s, or the server was started \
                 again; begin another",
                BACKUP_IDLE_MS / 1_000
            ),
            Self::BackupFailed(why) => write!(f, "ERR the snapshot of this backup is not to be had: {why}"),
            Self::Moved { leader } => write!(f, "MOVED 0 {leader}"),
            Self::MembersRefused(why) => write!(f, "ERR {why}"),
            Self::InDoubt => f.write_str(
                "INDOUBT no confirmation in time: the command may or may not take effect, now or later",
            ),
            Self::SessionExpired => f.write_str(
                "SESSIONEXPIRED the session is unknown, closed or expired; open a new one and decide",
            ),
            Self::StaleSequence { seq } => {
                write!(
                    f,
                    "STALESEQ sequence {} was acknowledged by the client; its reply is forgotten",
                    seq.0
                )
            }
            Self::SequenceReused { seq } => write!(f, "ERR sequence {} was used for another command", seq.0),
            Self::KeyTooLarge { bytes, limit } => {
                write!(f, "ERR key of {bytes} bytes is above the limit of {limit} bytes of a key")
            }
            Self::ValueTooLarge { bytes, limit } => {
                write!(f, "ERR value of {bytes} bytes is above the limit of {limit} bytes of a value")
            }
        }
    }
}

/// `cluster-index-place`: 32 hexadecimal digits and two decimal numbers.
impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.cluster, self.key.index, self.key.place)
    }
}

/// The text is not a session's id, so no session has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotASession;

impl FromStr for SessionId {
    type Err = NotASession;

    fn from_str(text: &str) -> Result<Self, NotASession> {
        let mut parts = text.split('-');
        let (Some(cluster), Some(index), Some(place), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(NotASession);
        };
        Ok(Self {
            cluster: parse_cluster(cluster).ok_or(NotASession)?,
            key: SessionKey {
                index: index.parse().map_err(|_| NotASession)?,
                place: place.parse().map_err(|_| NotASession)?,
            },
        })
    }
}

fn parse_cluster(text: &str) -> Option<ClusterId> {
    let is_canonical =
        text.len() == 32 && text.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    let number = is_canonical.then(|| u128::from_str_radix(text, 16).ok()).flatten()?;
    ClusterId::new(number)
}
