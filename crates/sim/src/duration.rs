//! Virtual times as a person writes them: `5s`, `300ms`, `57us`. How serde reads and writes the times among the
//! options.

use serde::de::Error as _;
use serde::{Deserialize as _, Deserializer, Serializer};
use serde_json::Value;

use crate::schedule::{MS, Micros, SECOND};

/// The largest unit in which it is a whole number.
pub fn written(time: Micros) -> String {
    match time {
        0 => "0s".to_owned(),
        _ if time.is_multiple_of(SECOND) => format!("{}s", time / SECOND),
        _ if time.is_multiple_of(MS) => format!("{}ms", time / MS),
        _ => format!("{time}us"),
    }
}

/// A whole number and its unit.
pub fn read(text: &str) -> Option<Micros> {
    let digits = text.trim_end_matches(|last: char| last.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "s" => SECOND,
        "ms" => MS,
        "us" => 1,
        _ => return None,
    };
    digits.parse::<Micros>().ok()?.checked_mul(unit)
}

/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(time: &Micros, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&written(*time))
}

/// # Errors
/// If it is no text, or no time.
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Micros, D::Error> {
    let value = Value::deserialize(from)?;
    let time = value.as_str().and_then(read);
    time.ok_or_else(|| D::Error::custom(format!("{value} is no time such as 30s, 300ms or 57us")))
}

/// The time from one to the next, or nothing.
pub mod or_off {
    use super::{Deserializer, Micros, Serializer, Value};
    use serde::Deserialize as _;
    use serde::de::Error as _;

    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(time: &Option<Micros>, to: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => super::serialize(time, to),
            None => to.serialize_none(),
        }
    }

    /// # Errors
    /// If it is neither nothing nor a time.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Micros>, D::Error> {
        let value = Value::deserialize(from)?;
        if value.is_null() {
            return Ok(None);
        }
        // A fault that comes again after no time would be the end of time.
        let time = value.as_str().and_then(super::read).filter(|time| *time > 0);
        let no_time =
            || D::Error::custom(format!("{value} is neither off nor a time such as 5s, 300ms or 57us"));
        time.map(Some).ok_or_else(no_time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for time in [0, 1, 999, 1_000, 1_500, 57_000, 1_000_000, 25_000_000, 1_000_001] {
            assert_eq!(read(&written(time)), Some(time));
        }
        assert_eq!([written(57), written(2_000), written(3_000_000)], ["57us", "2ms", "3s"]);
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["", "s", "5", "5 s", "-5s", "1.5s", "5h", "99999999999999999999s", "99999999999999999s"]
        {
            assert_eq!(read(text), None, "{text:?}");
        }
    }
}
