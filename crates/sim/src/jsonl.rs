//! A history as JSON lines, one operation a line in the order of the calls, for other checkers and for a person with
//! `jq`. The format is described in `docs/simulation.md`. Knows the history only.

use std::fmt;
use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};

use crate::history::Operation;

#[derive(Serialize)]
struct Written<'a> {
    #[serde(flatten)]
    operation: &'a Operation,
    effect: Option<u64>,
}

#[derive(Deserialize)]
struct Read {
    #[serde(flatten)]
    operation: Operation,
    effect: Option<u64>,
}

/// Why a file is no history.
#[derive(Debug)]
pub enum Malformed {
    /// It cannot be read.
    Io(io::Error),
    /// A line is no operation.
    Line {
        /// Which, from 1.
        number: usize,
        /// Why.
        why: serde_json::Error,
    },
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::Line { number, why } => write!(f, "line {number} is no operation: {why}"),
        }
    }
}

impl std::error::Error for Malformed {}

/// Writes a history, each operation with its place in the order of effects, if it has one.
///
/// # Errors
/// Those of the writer.
pub fn write(to: &mut impl Write, operations: &[Operation], effects: &[Option<u64>]) -> io::Result<()> {
    for (operation, effect) in operations.iter().zip(effects) {
        serde_json::to_writer(&mut *to, &Written { operation, effect: *effect })?;
        writeln!(to)?;
    }
    Ok(())
}

/// Reads what [`write()`] wrote. Empty lines say nothing.
///
/// # Errors
/// At the first line that is no operation.
pub fn read(from: impl BufRead) -> Result<(Vec<Operation>, Vec<Option<u64>>), Malformed> {
    let mut history = (Vec::new(), Vec::new());
    for (line, number) in from.lines().zip(1..) {
        let line = line.map_err(Malformed::Io)?;
        if line.trim().is_empty() {
            continue;
        }
        let read: Read = serde_json::from_str(&line).map_err(|why| Malformed::Line { number, why })?;
        history.0.push(read.operation);
        history.1.push(read.effect);
    }
    Ok(history)
}

/// How bytes are written: as text where they are text, else as hexadecimal digits.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Text {
    Plain(String),
    Digits { hex: String },
}

/// Bytes for serde.
pub(crate) mod text {
    use bytes::Bytes;
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    use super::Text;

    fn written(bytes: &Bytes) -> Text {
        match std::str::from_utf8(bytes) {
            Ok(text) => Text::Plain(text.to_owned()),
            Err(_) => Text::Digits { hex: bytes.iter().map(|byte| format!("{byte:02x}")).collect() },
        }
    }

    fn read(text: Text) -> Option<Bytes> {
        let hex = match text {
            Text::Plain(text) => return Some(text.into()),
            Text::Digits { hex } => hex,
        };
        let digits = |at: usize| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
        (0..hex.len()).step_by(2).map(digits).collect()
    }

    pub(crate) fn serialize<S: Serializer>(bytes: &Bytes, to: S) -> Result<S::Ok, S::Error> {
        written(bytes).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        read(Text::deserialize(from)?).ok_or_else(|| D::Error::custom("these are no hexadecimal digits"))
    }

    /// Bytes that may be none.
    pub(crate) mod or_none {
        use super::{Bytes, Deserializer, Serializer, Text, read, written};
        use serde::de::Error as _;
        use serde::{Deserialize as _, Serialize as _};

        pub(crate) fn serialize<S: Serializer>(bytes: &Option<Bytes>, to: S) -> Result<S::Ok, S::Error> {
            bytes.as_ref().map(written).serialize(to)
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Bytes>, D::Error> {
            let Some(text) = Option::<Text>::deserialize(from)? else { return Ok(None) };
            read(text).map(Some).ok_or_else(|| D::Error::custom("these are no hexadecimal digits"))
        }
    }
}
