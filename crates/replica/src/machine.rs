//! The state machine: [`Machine::apply`] reads nothing but its own state and the entry, so every replica that applies
//! the same entries holds the same state. Knows nothing of who waits for what: a [`Witness`] is told.

use std::sync::Arc;

use quorate_raft::{Entry, Index, Membership, NodeId, Payload, Position};
use quorate_storage::ClusterId;

use crate::command::{Command, Query, Reply, ReplyError, Seq, SessionId, SessionKey};
use crate::entry::{self, EntryPayload, Item, LoggedWrite, OnceName, Run, StateLimits};
use crate::sabotage::{self, Bug};
use crate::session::{Admission, GatewayAdmission, Sessions};
use crate::shard::{PREFETCHED_MAX, Shards, mix};
use crate::shortage::Shortage;
use crate::snapshot::Image;
use crate::value::Value;

/// Sessions removed in one entry at most, so that no entry costs more than its commands and a constant.
const EXPIRED_PER_ENTRY_MAX: usize = 64;

/// What happens to commands while an entry is applied, told to the gateway of the server that holds their
/// connections.
pub trait Witness {
    /// The session of a gateway was opened.
    fn opened(&mut self, node: NodeId, start: u64, nonce: u64, session: SessionKey);
    /// This command runs next, on this state.
    fn before(&mut self, session: SessionKey, seq: Seq, state: &Shards);
    /// This command has run, with this reply, and left this state.
    fn after(&mut self, session: SessionKey, seq: Seq, reply: &Reply, state: &Shards);
    /// This command, and the rest of its run, were skipped: an earlier sequence has not run.
    fn gap(&mut self, session: SessionKey, attempt: u64);
}

/// A witness that does not care: applying without clients.
pub struct Nobody;

impl Witness for Nobody {
    fn opened(&mut self, _: NodeId, _: u64, _: u64, _: SessionKey) {}
    fn before(&mut self, _: SessionKey, _: Seq, _: &Shards) {}
    fn after(&mut self, _: SessionKey, _: Seq, _: &Reply, _: &Shards) {}
    fn gap(&mut self, _: SessionKey, _: u64) {}
}

/// An entry that this version cannot apply: to go on would let replicas diverge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CannotApply {
    /// Where it stands.
    pub position: Position,
    /// What is wrong with it.
    pub why: &'static str,
}

/// The replicated state: keys and values, sessions, limits, time.
#[derive(Clone)]
pub struct Machine {
    cluster: ClusterId,
    shards: Shards,
    sessions: Sessions,
    /// `None` until the founding entry is applied.
    limits: Option<StateLimits>,
    now_ms: u64,
    /// `None` as long as it is that of the founding.
    membership: Option<Arc<Membership>>,
    applied: Position,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine").field("applied", &self.applied).finish_non_exhaustive()
    }
}

impl Machine {
    /// The state before the first entry.
    pub fn new(cluster: ClusterId, seed: u64) -> Self {
        Self {
            cluster,
            shards: Shards::new(seed),
            sessions: Sessions::default(),
            limits: None,
            now_ms: 0,
            membership: None,
            applied: Position::ZERO,
        }
    }

    /// The cluster whose state it is.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The state with which another cluster begins that is restored from this one: keys, values, limits and time as they are,
    /// no session, and the members that found it. A session's id names its cluster, so none of the old ones is ever taken for one of the new; what is
    /// sent under one is refused as expired, and never runs as if it were new.
    #[must_use]
    pub(crate) fn founded_anew(self, cluster: ClusterId) -> Self {
        Self { cluster, sessions: Sessions::default(), membership: None, ..self }
    }

    /// The index of the last entry applied.
    pub fn applied(&self) -> Index {
        self.applied.index
    }

    /// The position of the last entry applied.
    pub fn applied_position(&self) -> Position {
        self.applied
    }

    /// The value of `key`.
    pub fn get(&self, key: &[u8]) -> Option<&Value> {
        self.shards.get(key)
    }

    /// Keys and values.
    pub fn shards(&self) -> &Shards {
        &self.shards
    }

    /// Sessions.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// The limits of the state, once it is founded.
    pub fn limits(&self) -> Option<&StateLimits> {
        self.limits.as_ref()
    }

    /// Who belonged to the cluster when all up to [`Self::applied`] was applied; `None` for the founding members.
    pub fn membership(&self) -> Option<&Arc<Membership>> {
        self.membership.as_ref()
    }

    /// Replicated time, in milliseconds since 1970: the highest stamp applied.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Order-independent digest of everything: equal on all replicas that have applied the same entries.
    pub fn digest(&self) -> u64 {
        self.digest_of(self.shards.digest(), self.sessions.digest())
    }

    fn digest_of(&self, shards: u64, sessions: u64) -> u64 {
        let limits =
            self.limits.map_or(0, |limits| limits.fields().iter().fold(1, |sum, limit| mix(sum ^ limit)));
        let state = shards.wrapping_add(mix(sessions)).wrapping_add(mix(self.now_ms ^ limits));
        match &self.membership {
            None => state,
            Some(membership) => {
                membership.to_bytes().iter().fold(state, |sum, byte| mix(sum ^ u64::from(*byte)))
            }
        }
    }

    /// What this is now, shared until it is written to: clones as many pointers as there are shards.
    pub fn image(&self) -> Image {
        let no_shards = Bug::SnapshotWithoutData.is_put_back().then(|| Shards::new(0));
        let no_sessions = Bug::SnapshotWithoutSessions.is_put_back().then(Sessions::default);
        let shards = no_shards.as_ref().unwrap_or(&self.shards);
        let sessions = no_sessions.as_ref().unwrap_or(&self.sessions);
        let (clients, gateways) = sessions.parts();
        Image {
            cluster: self.cluster,
            position: self.applied,
            digest: self.digest_of(shards.digest(), sessions.digest()),
            now_ms: self.now_ms,
            limits: self.limits,
            membership: Bug::SnapshotWithoutMembership.spoils(self.membership.clone(), || None),
            gateways,
            clients,
            shards: shards.clone(),
        }
    }

    /// The state that a snapshot holds.
    pub(crate) fn of_parts(
        (cluster, applied): (ClusterId, Position),
        (limits, now_ms, membership): (Option<StateLimits>, u64, Option<Arc<Membership>>),
        sessions: Sessions,
        shards: Shards,
    ) -> Self {
        Self { cluster, shards, sessions, limits, now_ms, membership, applied }
    }

    /// Gets at hand what the next questions ask for, [`PREFETCHED_MAX`] of them at most.
    pub(crate) fn prefetch<'a>(&self, queries: impl Iterator<Item = &'a Query>) {
        self.shards.prefetch(queries.flat_map(Query::keys));
    }

    /// Answers a question.
    pub fn answer(&self, query: &Query) -> Reply {
        self.shards.answer(query)
    }

    /// Applies the next entry. Gives the digest of the state behind it, where the entry asks replicas to compare
    /// themselves.
    ///
    /// # Errors
    /// Where this version does not know what the entry means; then nothing has changed.
    ///
    /// # Panics
    /// If it is not the next.
    pub fn apply(&mut self, entry: &Entry, witness: &mut impl Witness) -> Result<Option<u64>, CannotApply> {
        assert_eq!(entry.position.index, self.applied.index.next(), "an entry was applied out of order");
        let mut asks_for_digest = false;
        match &entry.payload {
            Payload::Noop => {}
            Payload::Membership(membership) => self.membership = Some(Arc::clone(membership)),
            Payload::Data(payload) => {
                let payload = entry::parse(payload)
                    .map_err(|malformed| CannotApply { position: entry.position, why: malformed.0 })?;
                match payload {
                    // Two leaders may both have proposed it; the first that commits counts.
                    EntryPayload::Founding(limits) => self.limits = Some(*self.limits.get_or_insert(limits)),
                    EntryPayload::Batch { stamp_ms, items } => {
                        self.apply_batch(entry.position.index, stamp_ms, &items, witness);
                        asks_for_digest = items.contains(&Item::Check);
                    }
                }
            }
        }
        self.applied = entry.position;
        Ok(asks_for_digest.then(|| self.digest()))
    }

    fn apply_batch(&mut self, index: Index, stamp_ms: u64, items: &[Item], witness: &mut impl Witness) {
        self.now_ms = self.now_ms.max(stamp_ms);
        self.expire(self.now_ms);
        // A leader proposes batches only behind the founding entry; without it there are no limits to decide by.
        let Some(limits) = self.limits else { return };
        let limits = Bug::DecidesByLocalLimits.spoils(limits, || sabotage::noted_flags().unwrap_or(limits));
        let mut place = 0;
        for item in items {
            match item {
                Item::OpenGateway { node, start, nonce }
                    if self.sessions.is_opened(*node, *start, *nonce) => {}
                Item::OpenGateway { node, start, nonce } => {
                    let key = next_key(index, &mut place);
                    self.sessions.open_gateway(key, (*node, *start, *nonce), self.now_ms, &limits);
                    witness.opened(*node, *start, *nonce, key);
                }
                Item::Run(run) => self.apply_run(index, &mut place, run, &limits, witness),
                Item::Check => {}
            }
        }
    }

    /// Removes sessions whose deadline is past.
    pub(crate) fn expire(&mut self, now_ms: u64) {
        self.sessions.expire(now_ms, EXPIRED_PER_ENTRY_MAX);
    }

    fn apply_run(
        &mut self,
        index: Index,
        place: &mut u32,
        run: &Run,
        limits: &StateLimits,
        witness: &mut impl Witness,
    ) {
        if !self.sessions.is_gateway_alive(run.session, self.now_ms) {
            return;
        }
        self.sessions.begin_run(run.session, self.now_ms, limits);
        let mut ran = 0;
        let mut first_fresh = None;
        for (offset, write) in run.writes.iter().enumerate() {
            if offset % PREFETCHED_MAX == 0 {
                let coming = run.writes[offset..].iter().take(PREFETCHED_MAX);
                self.shards.prefetch(coming.flat_map(LoggedWrite::keys));
            }
            let seq = Seq(run.first.0 + offset as u64);
            if first_fresh.is_none() {
                match self.sessions.admit_gateway(run.session, seq) {
                    GatewayAdmission::Fresh => first_fresh = Some(seq),
                    GatewayAdmission::Repeat => continue,
                    GatewayAdmission::Gap => {
                        witness.gap(run.session, run.attempt);
                        return;
                    }
                }
            }
            witness.before(run.session, seq, &self.shards);
            let reply = self.perform(index, place, write, limits);
            witness.after(run.session, seq, &reply, &self.shards);
            ran += 1;
        }
        if let Some(first) = first_fresh {
            self.sessions.record_gateway(run.session, first, ran);
        }
    }

    fn perform(&mut self, index: Index, place: &mut u32, write: &LoggedWrite, limits: &StateLimits) -> Reply {
        let is_refused = Bug::DecidesMemoryWhenApplied.spoils(false, || self.is_above_local_limit(write));
        match write {
            _ if is_refused => Reply::Error(ReplyError::InDoubt),
            LoggedWrite::Plain(command) => self.shards.execute(command, limits),
            LoggedWrite::Once { session, seq, acknowledged, checksum, command } => {
                self.perform_once(*session, (*seq, *acknowledged, *checksum), command, limits)
            }
            LoggedWrite::OpenSession { ttl_ms } => {
                let key = next_key(index, place);
                match self.sessions.open_client(key, *ttl_ms, self.now_ms, limits) {
                    Ok(()) => Reply::Session(SessionId { cluster: self.cluster, key }),
                    Err(error) => Reply::Error(error),
                }
            }
            LoggedWrite::CloseSession { session } => {
                self.sessions.close_client(*session);
                Reply::Ok
            }
            LoggedWrite::KeepAlive => Reply::Ok,
            LoggedWrite::Refused { shortage, once } => self.refuse(shortage, once.as_ref(), limits),
        }
    }

    /// The mistake of [`Bug::DecidesMemoryWhenApplied`].
    fn is_above_local_limit(&self, write: &LoggedWrite) -> bool {
        let (limit, growth) = (sabotage::noted_memory_bytes_max(), self.growth(write));
        limit > 0 && growth > 0 && self.memory().total() + growth > limit
    }

    /// Nothing runs, and nothing is recorded in a client's session: the client may send the sequence again when there is
    /// room. But if an earlier send of it has run, its reply is the answer.
    fn refuse(&mut self, shortage: &Shortage, once: Option<&OnceName>, limits: &StateLimits) -> Reply {
        let refused = Reply::Error(ReplyError::Short(Box::new(shortage.clone())));
        let Some(OnceName { session, seq, acknowledged, checksum }) = once.copied() else { return refused };
        let number = (seq, acknowledged, checksum);
        match self.sessions.admit_client(session, number, 0, self.now_ms, limits) {
            Admission::Fresh => refused,
            Admission::Repeat(reply) => {
                self.sessions.touch_client(session, self.now_ms);
                reply
            }
            Admission::Refused(error) => Reply::Error(error),
        }
    }

    fn perform_once(
        &mut self,
        session: SessionKey,
        number: (Seq, Seq, u32),
        command: &Command,
        limits: &StateLimits,
    ) -> Reply {
        let reply_bytes = self.shards.reply_bytes(command);
        match self.sessions.admit_client(session, number, reply_bytes, self.now_ms, limits) {
            Admission::Fresh => {
                let reply = self.shards.execute(command, limits);
                let recorded = Bug::RecordsBeforeEffect.spoils(reply.clone(), || Reply::Integer(0));
                self.sessions.record_client(session, number, recorded, self.now_ms);
                reply
            }
            Admission::Repeat(reply) => {
                let reply = Bug::SkipsRepeats.spoils(reply, || Reply::Nil);
                self.sessions.touch_client(session, self.now_ms);
                reply
            }
            Admission::Refused(error) => Reply::Error(error),
        }
    }
}

#[cfg(feature = "sabotage")]
impl Machine {
    /// Another value than the log says, as an apply would leave it that is not the same everywhere. For the simulator.
    pub fn alter(&mut self, key: &[u8], value: &[u8]) {
        let put = Command::Put {
            key: bytes::Bytes::copy_from_slice(key),
            value: bytes::Bytes::copy_from_slice(value),
            condition: crate::command::Condition::Always,
            get: false,
        };
        let _ = self.shards.execute(&put, &StateLimits::default());
    }
}

fn next_key(index: Index, place: &mut u32) -> SessionKey {
    let key = SessionKey { index: index.0, place: *place };
    *place += 1;
    key
}
