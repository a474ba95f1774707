//! The limits of the state, as the founding entry lays them down. Knows nothing of what they limit.

use crate::bytes_read::{Malformed, Reader};

/// The limits that `apply` decides by. They are part of the replicated state, written by the founding entry, so that
/// two servers with different flags cannot diverge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateLimits {
    /// Bytes of a key.
    pub key_bytes_max: u64,
    /// Bytes of a value.
    pub value_bytes_max: u64,
    /// Sequences a client's session admits above the acknowledged one.
    pub session_window: u64,
    /// Bytes of replies kept in a client's session.
    pub session_reply_bytes_max: u64,
    /// Client sessions in the cluster.
    pub sessions_max: u64,
    /// Milliseconds after its last write at which a client's session expires, unless it names another time.
    pub session_ttl_ms: u64,
    /// Milliseconds after its last write at which a gateway's session expires.
    pub gateway_ttl_ms: u64,
    /// Milliseconds that a client's session may name as its lifetime after its last write.
    pub session_ttl_ms_max: u64,
}

impl Default for StateLimits {
    fn default() -> Self {
        Self {
            key_bytes_max: 64 << 10,
            value_bytes_max: 8 << 20,
            session_window: 1_024,
            session_reply_bytes_max: 16 << 20,
            sessions_max: 100_000,
            session_ttl_ms: 3_600_000,
            gateway_ttl_ms: 60_000,
            session_ttl_ms_max: 86_400_000,
        }
    }
}

impl StateLimits {
    /// All of them, in order.
    pub(crate) fn fields(&self) -> [u64; 8] {
        [
            self.key_bytes_max,
            self.value_bytes_max,
            self.session_window,
            self.session_reply_bytes_max,
            self.sessions_max,
            self.session_ttl_ms,
            self.gateway_ttl_ms,
            self.session_ttl_ms_max,
        ]
    }

    /// The inverse of [`StateLimits::fields`].
    pub(crate) fn of_fields(fields: [u64; 8]) -> Self {
        let [
            key_bytes_max,
            value_bytes_max,
            session_window,
            session_reply_bytes_max,
            sessions_max,
            session_ttl_ms,
            gateway_ttl_ms,
            session_ttl_ms_max,
        ] = fields;
        Self {
            key_bytes_max,
            value_bytes_max,
            session_window,
            session_reply_bytes_max,
            sessions_max,
            session_ttl_ms,
            gateway_ttl_ms,
            session_ttl_ms_max,
        }
    }

    pub(super) fn parse(reader: &mut Reader, version: u16) -> Result<Self, Malformed> {
        let mut fields = [u64::MAX; 8];
        let count = if version == 1 { 7 } else { 8 };
        for field in &mut fields[..count] {
            *field = reader.u64()?;
        }
        Ok(Self::of_fields(fields))
    }
}
