//! In which order commands took effect: a machine of the simulator's own applies the committed log, and each
//! write is found again by the token in it. Sees the log, which no client can; judges nothing by itself.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use quorate_raft::{Entry, NodeId, Payload};
use quorate_replica::command::{Command, Reply, Seq, SessionKey};
use quorate_replica::entry::{self, EntryPayload, Item, LoggedWrite};
use quorate_replica::machine::{Machine, Witness};
use quorate_replica::shard::Shards;
use quorate_storage::ClusterId;

/// A place in the order of effects; `EffectNumber(0)` is before all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct EffectNumber(pub u64);

/// A value, by length and hash; `None` is "no such key".
pub type ValuePrint = Option<(usize, u64)>;

/// The print of a value.
pub fn print_of(value: &[u8]) -> (usize, u64) {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3).rotate_left(5);
    (value.len(), value.iter().fold(0xCBF2_9CE4_8422_2325, fold))
}

/// A write that ran, by its token.
#[derive(Clone, Debug, Default)]
pub struct Ran {
    /// Where it ran, as a gateway's command. More than once for a command of a session that was sent again.
    pub at: Vec<EffectNumber>,
    /// How many of these runs changed the key.
    pub changes: usize,
}

/// The order of all effects, as far as the log is committed.
pub struct Effects {
    machine: Machine,
    record: Record,
}

#[derive(Default)]
struct Record {
    number: u64,
    /// Effects of the latest entry, for the trace: key, token, whether the key changed.
    latest: Vec<(Bytes, Option<Bytes>, bool)>,
    /// By key, each content it had and from which effect on.
    versions: BTreeMap<Bytes, Vec<(EffectNumber, ValuePrint)>>,
    ran: BTreeMap<Bytes, Ran>,
    /// The writes of the entry that is being applied.
    writes: BTreeMap<(SessionKey, Seq), LoggedWrite>,
}

/// The key of a command, and its token, if it has one: what no other command of the run holds.
fn named_in(command: &Command) -> Option<(&Bytes, Option<&Bytes>)> {
    match command {
        Command::Put { key, value, .. } | Command::Append { key, value } => Some((key, Some(value))),
        // Plain clients delete a key together with one that never exists and is named once in a run.
        Command::Delete { keys } => keys.first().map(|key| (key, keys.get(1))),
    }
}

/// The token of a command that holds none, under a client's session.
pub fn name_of(session: SessionKey, seq: Seq) -> Bytes {
    Bytes::from(format!("{}-{}/{}", session.index, session.place, seq.0))
}

/// The session of a name that [`name_of`] gave.
pub fn session_in(name: &[u8]) -> &[u8] {
    name.split(|byte| *byte == b'/').next().unwrap_or_default()
}

impl fmt::Debug for Effects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} effects", self.record.number)
    }
}

impl Effects {
    /// Nothing has taken effect.
    pub fn new(cluster: ClusterId) -> Self {
        Self { machine: Machine::new(cluster, 0), record: Record::default() }
    }

    /// The next committed entry.
    ///
    /// # Errors
    /// If the state machine cannot apply it, as a sentence.
    pub fn apply(&mut self, entry: &Entry) -> Result<(), String> {
        self.record.writes.clear();
        self.record.latest.clear();
        if let Payload::Data(payload) = &entry.payload {
            match entry::parse(payload) {
                Ok(EntryPayload::Batch { items, .. }) => self.record.expect(items),
                Ok(EntryPayload::Founding(_)) => {}
                Err(malformed) => return Err(format!("entry {}: {malformed:?}", entry.position)),
            }
        }
        self.machine.apply(entry, &mut self.record).map(|_| ()).map_err(|cannot| format!("{cannot:?}"))
    }

    /// The machine that applied the log.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Effects of the latest entry, for the trace.
    pub fn latest(&self) -> impl Iterator<Item = String> {
        let first = self.record.number - self.record.latest.len() as u64;
        (first + 1..).zip(&self.record.latest).map(|(number, (key, token, changed))| {
            let token = token.clone().unwrap_or_default();
            let sign = if *changed { "" } else { " (changed nothing)" };
            format!("#{number} {} {}{sign}", key.escape_ascii(), token.escape_ascii())
        })
    }

    /// What became of the write with this token.
    pub fn ran(&self, token: &Bytes) -> Option<&Ran> {
        self.record.ran.get(token)
    }

    /// The contents of a key, each with the effect from which on it stood.
    pub fn versions(&self, key: &Bytes) -> &[(EffectNumber, ValuePrint)] {
        self.record.versions.get(key).map(Vec::as_slice).unwrap_or_default()
    }
}

impl Record {
    fn expect(&mut self, items: Vec<Item>) {
        for item in items {
            let Item::Run(run) = item else { continue };
            for (seq, write) in (run.first.0..).zip(run.writes) {
                let place = self.writes.entry((run.session, Seq(seq)));
                // The leader may refuse the copy of a write that it has just taken, in one entry. A refusal is answered
                // with an error, so what is answered otherwise is the write.
                if matches!(write, LoggedWrite::Refused { .. }) {
                    place.or_insert(write);
                } else {
                    place.insert_entry(write);
                }
            }
        }
    }
}

impl Witness for Record {
    fn opened(&mut self, _: NodeId, _: u64, _: u64, _: SessionKey) {}

    fn before(&mut self, _: SessionKey, _: Seq, _: &Shards) {}

    fn after(&mut self, session: SessionKey, seq: Seq, reply: &Reply, state: &Shards) {
        if matches!(reply, Reply::Error(_)) {
            return;
        }
        let (command, name) = match self.writes.get(&(session, seq)) {
            Some(LoggedWrite::Plain(command)) => (command, None),
            Some(LoggedWrite::Once { session, seq, command, .. }) => (command, Some(name_of(*session, *seq))),
            Some(
                LoggedWrite::OpenSession { .. }
                | LoggedWrite::CloseSession { .. }
                | LoggedWrite::KeepAlive
                | LoggedWrite::Refused { .. },
            )
            | None => return,
        };
        let Some((key, token)) = named_in(command) else { return };
        let token = token.cloned().or(name);
        self.number += 1;
        let at = EffectNumber(self.number);
        let print = state.get(key).map(|value| print_of(&value.to_bytes()));
        let versions = self.versions.entry(key.clone()).or_insert_with(|| vec![(EffectNumber(0), None)]);
        let changed = versions.last().is_none_or(|(_, last)| *last != print);
        if changed {
            versions.push((at, print));
        }
        self.latest.push((key.clone(), token.clone(), changed));
        if let Some(token) = token {
            let ran = self.ran.entry(token).or_default();
            ran.at.push(at);
            ran.changes += usize::from(changed);
        }
    }

    fn gap(&mut self, _: SessionKey, _: u64) {}
}
