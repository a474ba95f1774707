//! One reply as a value, and the two versions of the protocol. Knows no bytes on the wire.

use bytes::Bytes;

/// The version of the protocol that a connection speaks; `HELLO` changes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// What a connection begins with.
    #[default]
    Resp2,
    /// After `HELLO 3`: maps, sets, doubles, booleans, pushes.
    Resp3,
}

impl Protocol {
    /// The version named by the argument of `HELLO`, if there is such a version.
    #[must_use]
    pub fn from_number(number: i64) -> Option<Self> {
        match number {
            2 => Some(Self::Resp2),
            3 => Some(Self::Resp3),
            _ => None,
        }
    }

    /// The number by which `HELLO` names this version.
    #[must_use]
    pub fn number(self) -> i64 {
        match self {
            Self::Resp2 => 2,
            Self::Resp3 => 3,
        }
    }
}

/// One reply. What RESP2 cannot say ([`Frame::Map`], [`Frame::Double`], …) is encoded for it as Redis does.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// A status such as `OK`.
    Simple(Bytes),
    /// An error; its first word is its class.
    Error(Bytes),
    /// A number.
    Integer(i64),
    /// A string of bytes.
    Bulk(Bytes),
    /// Nothing there: RESP2's null bulk string and null array, RESP3's null.
    Null,
    /// A list.
    Array(Vec<Frame>),
    /// Pairs, in the order sent.
    Map(Vec<(Frame, Frame)>),
    /// A list whose order means nothing.
    Set(Vec<Frame>),
    /// A floating point number.
    Double(f64),
    /// A truth value.
    Boolean(bool),
    /// Text with a format of three letters, such as `txt` or `mkd`.
    Verbatim {
        /// The three letters.
        format: [u8; 3],
        /// The text itself.
        text: Bytes,
    },
    /// A message that answers no command.
    Push(Vec<Frame>),
    /// An integer of any size, as its digits.
    BigNumber(Bytes),
}

impl Frame {
    /// A status.
    #[must_use]
    pub fn simple(text: &'static str) -> Self {
        Self::Simple(Bytes::from_static(text.as_bytes()))
    }

    /// A string of bytes.
    #[must_use]
    pub fn bulk(text: impl Into<Bytes>) -> Self {
        Self::Bulk(text.into())
    }

    /// The bytes of any kind of string: simple, bulk, verbatim.
    #[must_use]
    pub fn as_text(&self) -> Option<&Bytes> {
        match self {
            Self::Simple(text) | Self::Bulk(text) | Self::Verbatim { text, .. } => Some(text),
            Self::Error(_)
            | Self::Integer(_)
            | Self::Null
            | Self::Array(_)
            | Self::Map(_)
            | Self::Set(_)
            | Self::Double(_)
            | Self::Boolean(_)
            | Self::Push(_)
            | Self::BigNumber(_) => None,
        }
    }
}
