//! A value: bytes that append in place and are shared with replies without a copy.

use std::fmt;
use std::sync::Arc;

/// The bytes of one key. Cloning shares them; appending costs the length of the argument, unless a clone is
/// alive: then the bytes are copied once, so that the clone keeps what it saw.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Value(Arc<Vec<u8>>);

impl Value {
    /// A value of its own, copied from `bytes`.
    pub fn copy_from(bytes: &[u8]) -> Self {
        Self(Arc::new(bytes.to_vec()))
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds `bytes` at the end.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        Arc::make_mut(&mut self.0).extend_from_slice(bytes);
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}
