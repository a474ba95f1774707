//! Sessions: every command runs once, however often it is sent. Knows nothing of keys and values; part of the
//! replicated state, so it reads no clock: time is the replicated time of the entry that is applied.
//!
//! Two kinds share one table of deadlines. A **client's** session numbers commands as the client likes, within a window
//! above what it has acknowledged. A **gateway's** session numbers every write that enters one server, and applies them
//! without gaps, so that commands of one connection can never overtake each other when they are sent again.
//!
//! Admission is asked in one place (`admit_*`, which changes nothing) and recorded in another (`record_*`, which asserts
//! what admission said).

use std::collections::{BTreeMap, BTreeSet};

use quorate_raft::NodeId;

use crate::clients::{Client, Clients};
use crate::command::{Reply, ReplyError, Seq, SessionKey};
use crate::entry::StateLimits;
use crate::replies::{REPLY_OVERHEAD_BYTES, Recorded, Replies};
use crate::sabotage::Bug;
use crate::shard::mix;

/// What the table says of a client's command, before it runs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Run it and record its reply.
    Fresh,
    /// It ran; this was its reply.
    Repeat(Reply),
    /// It must not run.
    Refused(ReplyError),
}

/// What the table says of a gateway's command, before it runs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum GatewayAdmission {
    /// Run it and record its reply.
    Fresh,
    /// It ran.
    Repeat,
    /// A sequence before it has not run: skip it, the gateway sends again.
    Gap,
}

/// All sessions of the cluster.
#[derive(Clone, Debug, Default)]
pub struct Sessions {
    clients: Clients,
    gateways: BTreeMap<SessionKey, Gateway>,
    gateway_of: BTreeMap<NodeId, SessionKey>,
    deadlines: BTreeSet<(u64, SessionKey)>,
    /// Of all replies that clients' sessions keep.
    reply_bytes: u64,
    digest: u64,
}

/// One gateway's session.
#[derive(Clone, Debug)]
pub(crate) struct Gateway {
    pub(crate) node: NodeId,
    pub(crate) start: u64,
    pub(crate) nonce: u64,
    pub(crate) deadline_ms: u64,
    /// The last sequence that ran; all before it ran too.
    pub(crate) last: Seq,
}

impl Sessions {
    /// How many clients' sessions are open.
    pub fn clients(&self) -> u64 {
        self.clients.count()
    }

    /// What the replies cost that clients' sessions keep.
    pub fn reply_bytes(&self) -> u64 {
        self.reply_bytes
    }

    /// Whether a command of a client has run, and its reply is kept.
    pub(crate) fn is_recorded(&self, key: SessionKey, seq: Seq) -> bool {
        self.clients.get(key).is_some_and(|client| client.replies.get(seq).is_some())
    }

    /// The wrapping sum of a digest of each session.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// When the next session expires, in replicated milliseconds.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// The last sequence of a gateway's session that ran.
    pub fn gateway_last(&self, key: SessionKey) -> Option<Seq> {
        self.gateways.get(&key).map(|gateway| gateway.last)
    }

    // --- clients ---

    /// Opens a client's session.
    ///
    /// # Errors
    /// Where it would live too long, or the cluster holds as many as it may. None is evicted.
    pub(crate) fn open_client(
        &mut self,
        key: SessionKey,
        ttl_ms: Option<u64>,
        now_ms: u64,
        limits: &StateLimits,
    ) -> Result<(), ReplyError> {
        if self.clients() >= limits.sessions_max {
            return Err(ReplyError::SessionsFull { limit: limits.sessions_max });
        }
        check_ttl(ttl_ms, limits)?;
        let ttl_ms = ttl_ms.unwrap_or(limits.session_ttl_ms);
        let deadline_ms = now_ms.saturating_add(ttl_ms);
        let client = Client { ttl_ms, deadline_ms, floor: Seq(0), replies: Replies::default() };
        self.digest = self.digest.wrapping_add(client.digest(key));
        self.clients.insert(key, client);
        self.deadlines.insert((deadline_ms, key));
        Ok(())
    }

    /// Closes a client's session; one that is not there stays closed.
    pub(crate) fn close_client(&mut self, key: SessionKey) {
        if let Some(client) = self.clients.remove(key) {
            self.deadlines.remove(&(client.deadline_ms, key));
            self.digest = self.digest.wrapping_sub(client.digest(key));
            self.reply_bytes -= client.replies.bytes();
            for (seq, recorded) in client.replies.iter() {
                self.digest = self.digest.wrapping_sub(reply_digest(key, seq, recorded));
            }
        }
    }

    /// What is to be done with a client's command whose reply would hold `reply_bytes`.
    pub(crate) fn admit_client(
        &self,
        key: SessionKey,
        (seq, acknowledged, checksum): (Seq, Seq, u32),
        reply_bytes: u64,
        now_ms: u64,
        limits: &StateLimits,
    ) -> Admission {
        let Some(client) = self.clients.get(key).filter(|client| client.deadline_ms > now_ms) else {
            return Admission::Refused(ReplyError::SessionExpired);
        };
        if seq <= client.floor {
            return Admission::Refused(ReplyError::StaleSequence { seq });
        }
        match client.replies.get(seq) {
            Some(recorded) if recorded.checksum == checksum => return Admission::Repeat(recorded.reply()),
            Some(_) => return Admission::Refused(ReplyError::SequenceReused { seq }),
            None => {}
        }
        let floor = client.floor.max(acknowledged);
        if seq.0 - floor.0 > limits.session_window {
            return Admission::Refused(ReplyError::WindowFull { limit: limits.session_window });
        }
        let kept = client.replies.bytes() - client.replies.bytes_upto(floor);
        if kept + REPLY_OVERHEAD_BYTES + reply_bytes > limits.session_reply_bytes_max {
            return Admission::Refused(ReplyError::RepliesFull { limit: limits.session_reply_bytes_max });
        }
        Admission::Fresh
    }

    /// Records the reply of a command that was admitted as fresh and has run.
    pub(crate) fn record_client(
        &mut self,
        key: SessionKey,
        (seq, acknowledged, checksum): (Seq, Seq, u32),
        reply: Reply,
        now_ms: u64,
    ) {
        let client = self.clients.get_mut(key).expect("a reply for a session that admitted nothing");
        assert!(client.floor < seq && acknowledged < seq, "a command was applied below its floor");
        self.digest = self.digest.wrapping_sub(client.digest(key));
        self.reply_bytes -= client.replies.bytes();
        client.floor = client.floor.max(acknowledged);
        while let Some((seq, recorded)) = client.replies.take_first(client.floor) {
            self.digest = self.digest.wrapping_sub(reply_digest(key, seq, &recorded));
        }
        let recorded = Recorded::new(checksum, reply);
        self.digest = self.digest.wrapping_add(reply_digest(key, seq, &recorded));
        client.replies.insert(seq, recorded);
        self.reply_bytes += client.replies.bytes();
        client.put_off(now_ms, key, &mut self.deadlines);
        self.digest = self.digest.wrapping_add(client.digest(key));
    }

    /// Puts a client's deadline off: it has written, or has sent a write again.
    pub(crate) fn touch_client(&mut self, key: SessionKey, now_ms: u64) {
        let Some(client) = self.clients.get_mut(key) else { return };
        self.digest = self.digest.wrapping_sub(client.digest(key));
        client.put_off(now_ms, key, &mut self.deadlines);
        self.digest = self.digest.wrapping_add(client.digest(key));
    }

    // --- gateways ---

    /// Whose gateway has this session, if it is there.
    pub(crate) fn gateway_node(&self, key: SessionKey) -> Option<NodeId> {
        self.gateways.get(&key).map(|gateway| gateway.node)
    }

    /// Whether a server's gateway has its session from this very opening, so that a copy of it changes nothing.
    pub(crate) fn is_opened(&self, node: NodeId, start: u64, nonce: u64) -> bool {
        let gateway = self.gateway_of.get(&node).and_then(|key| self.gateways.get(key));
        gateway.is_some_and(|gateway| (gateway.start, gateway.nonce) == (start, nonce))
    }

    /// Opens the session of a server's gateway and closes the one it had.
    pub(crate) fn open_gateway(
        &mut self,
        key: SessionKey,
        (node, start, nonce): (NodeId, u64, u64),
        now_ms: u64,
        limits: &StateLimits,
    ) {
        if let Some(old) = self.gateway_of.insert(node, key) {
            self.close_gateway(old);
        }
        let deadline_ms = now_ms.saturating_add(limits.gateway_ttl_ms);
        let gateway = Gateway { node, start, nonce, deadline_ms, last: Seq(0) };
        self.digest = self.digest.wrapping_add(gateway.digest(key));
        let previous = self.gateways.insert(key, gateway);
        assert!(previous.is_none(), "two sessions under one key");
        self.deadlines.insert((deadline_ms, key));
    }

    fn close_gateway(&mut self, key: SessionKey) {
        let gateway = self.gateways.remove(&key).expect("the table of gateways names one that is not there");
        self.deadlines.remove(&(gateway.deadline_ms, key));
        self.digest = self.digest.wrapping_sub(gateway.digest(key));
    }

    /// Whether commands of this gateway may run at all.
    pub(crate) fn is_gateway_alive(&self, key: SessionKey, now_ms: u64) -> bool {
        self.gateways.get(&key).is_some_and(|gateway| gateway.deadline_ms > now_ms)
    }

    /// Begins a run: puts the deadline off. The session is alive.
    pub(crate) fn begin_run(&mut self, key: SessionKey, now_ms: u64, limits: &StateLimits) {
        self.change_gateway(key, |gateway| {
            gateway.deadline_ms = gateway.deadline_ms.max(now_ms.saturating_add(limits.gateway_ttl_ms));
        });
    }

    /// What is to be done with a gateway's command.
    pub(crate) fn admit_gateway(&self, key: SessionKey, seq: Seq) -> GatewayAdmission {
        let gateway = self.gateways.get(&key).expect("a run of a session that is not there");
        if seq <= gateway.last {
            GatewayAdmission::Repeat
        } else if Bug::AppliesWithGaps.spoils(seq.0 == gateway.last.0 + 1, || true) {
            GatewayAdmission::Fresh
        } else {
            GatewayAdmission::Gap
        }
    }

    /// Records that so many commands, admitted as fresh, have run in order. Their replies are not kept: a repeat comes
    /// from a gateway that has applied the first run itself.
    pub(crate) fn record_gateway(&mut self, key: SessionKey, first: Seq, count: u64) {
        self.change_gateway(key, |gateway| {
            assert_eq!(gateway.last.0 + 1, first.0, "a gateway's command was applied twice, or with a gap");
            gateway.last = Seq(gateway.last.0 + count);
        });
    }

    fn change_gateway(&mut self, key: SessionKey, edit: impl FnOnce(&mut Gateway)) {
        let gateway = self.gateways.get_mut(&key).expect("a run of a session that is not there");
        self.digest = self.digest.wrapping_sub(gateway.digest(key));
        let deadline_ms = gateway.deadline_ms;
        edit(gateway);
        self.digest = self.digest.wrapping_add(gateway.digest(key));
        if gateway.deadline_ms != deadline_ms {
            self.deadlines.remove(&(deadline_ms, key));
            self.deadlines.insert((gateway.deadline_ms, key));
        }
    }

    // --- snapshots ---

    /// What a snapshot needs of all this: the rest follows from it. Clients are shared, and gateways are few.
    pub(crate) fn parts(&self) -> (Clients, BTreeMap<SessionKey, Gateway>) {
        (self.clients.clone(), self.gateways.clone())
    }

    /// Adds a client's session of a snapshot.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn load_client(&mut self, key: SessionKey, client: Client) -> Result<(), &'static str> {
        self.check_is_new(key)?;
        self.digest = self.digest.wrapping_add(client.digest(key));
        self.reply_bytes += client.replies.bytes();
        for (seq, recorded) in client.replies.iter() {
            self.digest = self.digest.wrapping_add(reply_digest(key, seq, recorded));
        }
        self.deadlines.insert((client.deadline_ms, key));
        self.clients.insert(key, client);
        Ok(())
    }

    /// Adds a gateway's session of a snapshot.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn load_gateway(&mut self, key: SessionKey, gateway: Gateway) -> Result<(), &'static str> {
        self.check_is_new(key)?;
        if self.gateway_of.insert(gateway.node, key).is_some() {
            return Err("a server has two gateways");
        }
        self.digest = self.digest.wrapping_add(gateway.digest(key));
        self.deadlines.insert((gateway.deadline_ms, key));
        self.gateways.insert(key, gateway);
        Ok(())
    }

    fn check_is_new(&self, key: SessionKey) -> Result<(), &'static str> {
        let is_new = self.clients.get(key).is_none() && !self.gateways.contains_key(&key);
        if is_new { Ok(()) } else { Err("a session is there twice") }
    }

    // --- time ---

    /// Removes sessions whose deadline has come, at most `count_max`, in order of (deadline, key). Those that are left
    /// over are dead all the same: admission compares their deadline.
    pub(crate) fn expire(&mut self, now_ms: u64, count_max: usize) {
        for _ in 0..count_max {
            let Some((_, key)) = self.deadlines.first().copied().filter(|(deadline, _)| *deadline <= now_ms)
            else {
                return;
            };
            if let Some(gateway) = self.gateways.get(&key) {
                self.gateway_of.remove(&gateway.node);
                self.close_gateway(key);
            } else {
                self.close_client(key);
            }
        }
    }
}

fn reply_digest(key: SessionKey, seq: Seq, recorded: &Recorded) -> u64 {
    let reply = reply_checksum(&recorded.reply());
    mix(key_digest(key) ^ mix(seq.0) ^ mix(u64::from(recorded.checksum) << 32 | u64::from(reply)))
}

impl Client {
    fn put_off(&mut self, now_ms: u64, key: SessionKey, deadlines: &mut BTreeSet<(u64, SessionKey)>) {
        let deadline_ms = self.deadline_ms.max(now_ms.saturating_add(self.ttl_ms));
        if deadline_ms != self.deadline_ms {
            deadlines.remove(&(self.deadline_ms, key));
            deadlines.insert((deadline_ms, key));
            self.deadline_ms = deadline_ms;
        }
    }

    fn digest(&self, key: SessionKey) -> u64 {
        mix(key_digest(key)
            ^ mix(self.deadline_ms)
            ^ mix(self.floor.0).rotate_left(1)
            ^ mix(self.ttl_ms).rotate_left(2))
    }
}

impl Gateway {
    fn digest(&self, key: SessionKey) -> u64 {
        let who = mix(self.node.get()) ^ mix(self.start).rotate_left(1) ^ mix(self.nonce).rotate_left(2);
        mix(key_digest(key) ^ who ^ mix(self.deadline_ms).rotate_left(3) ^ mix(self.last.0).rotate_left(4))
    }
}

fn key_digest(key: SessionKey) -> u64 {
    mix(key.index ^ mix(u64::from(key.place)))
}

fn reply_checksum(reply: &Reply) -> u32 {
    match reply {
        Reply::Ok => 1,
        Reply::Nil => 2,
        // Lengths and counts: nearly every reply there is.
        Reply::Integer(number) => (mix(number.cast_unsigned() ^ mix(3)) >> 32) as u32,
        Reply::Value(value) => value.checksum_onto(4),
        // A client's session records replies of commands only, and those are of the kinds above and errors.
        Reply::Values(_) | Reply::Session(_) | Reply::Members(_) => 5,
        Reply::Error(error) => crc32c::crc32c_append(6, error.to_string().as_bytes()),
    }
}

/// Whether a session may live as long as it asks for.
pub(crate) fn check_ttl(ttl_ms: Option<u64>, limits: &StateLimits) -> Result<(), ReplyError> {
    match ttl_ms.filter(|ttl_ms| *ttl_ms > limits.session_ttl_ms_max) {
        Some(ttl_ms) => Err(ReplyError::TtlTooLong { ttl_ms, limit_ms: limits.session_ttl_ms_max }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: SessionKey = SessionKey { index: 5, place: 0 };

    fn limits() -> StateLimits {
        StateLimits {
            session_window: 4,
            session_reply_bytes_max: 3 * REPLY_OVERHEAD_BYTES,
            ..StateLimits::default()
        }
    }

    /// One client's session as its documentation says it, without a thought for speed.
    struct Model {
        floor: u64,
        ran: Vec<(u64, u32)>,
        deadline_ms: u64,
    }

    #[derive(Debug, PartialEq, Eq)]
    enum Said {
        Fresh,
        Repeat,
        Refused(ReplyError),
    }

    impl Model {
        fn send(&mut self, seq: u64, acknowledged: u64, checksum: u32, now_ms: u64) -> Said {
            let limits = limits();
            if self.deadline_ms <= now_ms {
                return Said::Refused(ReplyError::SessionExpired);
            }
            if seq <= self.floor {
                return Said::Refused(ReplyError::StaleSequence { seq: Seq(seq) });
            }
            if let Some((_, ran)) = self.ran.iter().find(|(ran, _)| *ran == seq) {
                if *ran != checksum {
                    return Said::Refused(ReplyError::SequenceReused { seq: Seq(seq) });
                }
                self.deadline_ms = self.deadline_ms.max(now_ms + limits.session_ttl_ms);
                return Said::Repeat;
            }
            let floor = self.floor.max(acknowledged);
            if seq > floor + limits.session_window {
                return Said::Refused(ReplyError::WindowFull { limit: limits.session_window });
            }
            let kept = self.ran.iter().filter(|(ran, _)| *ran > floor).count() as u64;
            if (kept + 1) * REPLY_OVERHEAD_BYTES > limits.session_reply_bytes_max {
                return Said::Refused(ReplyError::RepliesFull { limit: limits.session_reply_bytes_max });
            }
            self.floor = floor;
            self.ran.retain(|(ran, _)| *ran > floor);
            self.ran.push((seq, checksum));
            self.deadline_ms = self.deadline_ms.max(now_ms + limits.session_ttl_ms);
            Said::Fresh
        }
    }

    proptest! {
        #[test]
        fn a_clients_session_does_what_the_model_does(
            sends in proptest::collection::vec((1u64..12, 0u64..11, 0u32..2, 0u64..2_000_000), 0..60)
        ) {
            let limits = limits();
            let mut sessions = Sessions::default();
            sessions.open_client(KEY, None, 0, &limits).unwrap();
            let mut model = Model { floor: 0, ran: Vec::new(), deadline_ms: limits.session_ttl_ms };
            let mut now_ms = 0;
            for (seq, acknowledged, checksum, pause_ms) in sends {
                let acknowledged = acknowledged.min(seq - 1);
                now_ms += pause_ms;
                let number = (Seq(seq), Seq(acknowledged), checksum);
                let said = match sessions.admit_client(KEY, number, 0, now_ms, &limits) {
                    Admission::Fresh => Said::Fresh,
                    Admission::Repeat(reply) => {
                        prop_assert_eq!(reply, Reply::Integer(i64::try_from(seq).unwrap()));
                        Said::Repeat
                    }
                    Admission::Refused(error) => Said::Refused(error),
                };
                match said {
                    Said::Fresh => {
                        let reply = Reply::Integer(i64::try_from(seq).unwrap());
                        sessions.record_client(KEY, number, reply, now_ms);
                    }
                    Said::Repeat => sessions.touch_client(KEY, now_ms),
                    Said::Refused(_) => {}
                }
                prop_assert_eq!(said, model.send(seq, acknowledged, checksum, now_ms));
            }
            sessions.close_client(KEY);
            prop_assert_eq!((sessions.digest(), sessions.next_deadline_ms(), sessions.clients()), (0, None, 0));
        }
    }

    #[test]
    fn a_gateways_sequences_have_no_gaps() {
        let limits = StateLimits::default();
        let node = NodeId::new(1).unwrap();
        let mut sessions = Sessions::default();
        sessions.open_gateway(KEY, (node, 7, 1), 0, &limits);
        assert_eq!(sessions.admit_gateway(KEY, Seq(2)), GatewayAdmission::Gap);
        assert_eq!(sessions.admit_gateway(KEY, Seq(1)), GatewayAdmission::Fresh);
        sessions.record_gateway(KEY, Seq(1), 2);
        assert_eq!(sessions.admit_gateway(KEY, Seq(2)), GatewayAdmission::Repeat);
        assert_eq!(sessions.admit_gateway(KEY, Seq(3)), GatewayAdmission::Fresh);
        assert_eq!(sessions.gateway_last(KEY), Some(Seq(2)));
    }

    #[test]
    fn opening_a_gateway_closes_the_one_before_and_a_copy_changes_nothing() {
        let limits = StateLimits::default();
        let node = NodeId::new(1).unwrap();
        let mut sessions = Sessions::default();
        sessions.open_gateway(KEY, (node, 7, 1), 0, &limits);
        assert!(sessions.is_opened(node, 7, 1) && !sessions.is_opened(node, 7, 2));
        let next = SessionKey { index: 6, place: 0 };
        sessions.open_gateway(next, (node, 8, 1), 0, &limits);
        assert!(!sessions.gateways.contains_key(&KEY) && sessions.gateways.contains_key(&next));
        assert!(!sessions.is_gateway_alive(next, limits.gateway_ttl_ms));
        sessions.expire(limits.gateway_ttl_ms, 1);
        assert_eq!((sessions.digest(), sessions.next_deadline_ms()), (0, None));
    }

    #[test]
    fn at_the_limit_of_sessions_none_is_evicted() {
        let limits = StateLimits { sessions_max: 1, ..StateLimits::default() };
        let mut sessions = Sessions::default();
        sessions.open_client(KEY, None, 0, &limits).unwrap();
        let refused = sessions.open_client(SessionKey { index: 6, place: 0 }, None, 0, &limits);
        assert_eq!(refused, Err(ReplyError::SessionsFull { limit: 1 }));
        assert_eq!(sessions.clients(), 1);
    }

    /// Or a hundred thousand clients could fill the table for ever.
    #[test]
    fn a_lifetime_has_a_limit() {
        let limits = StateLimits { session_ttl_ms_max: 2_000, ..StateLimits::default() };
        let mut sessions = Sessions::default();
        let refused = sessions.open_client(KEY, Some(2_001), 0, &limits);
        assert_eq!(refused, Err(ReplyError::TtlTooLong { ttl_ms: 2_001, limit_ms: 2_000 }));
        assert_eq!((sessions.clients(), sessions.next_deadline_ms()), (0, None));
        sessions.open_client(KEY, Some(2_000), 0, &limits).unwrap();
        assert_eq!(sessions.next_deadline_ms(), Some(2_000));
    }
}
