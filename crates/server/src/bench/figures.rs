//! Numbers as people read them. Must not know what they are of.

/// `1,234,567`.
pub(super) fn whole(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A rate: `23,412`, and `0.8` where it is that low.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is rounded, and no rate is negative"
)]
pub(super) fn rate(number: f64) -> String {
    if number < 10.0 { format!("{number:.1}") } else { whole(number.round() as u64) }
}

/// Milliseconds to three digits, with their unit: `0.042 ms`, `1.23 ms`, `12.3 ms`, `123 ms`, `1.23 s`.
pub(super) fn latency(ms: f64) -> String {
    match ms {
        ms if ms < 1.0 => format!("{ms:.3} ms"),
        ms if ms < 10.0 => format!("{ms:.2} ms"),
        ms if ms < 100.0 => format!("{ms:.1} ms"),
        ms if ms < 1_000.0 => format!("{ms:.0} ms"),
        ms => format!("{:.2} s", ms / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_people_read_them() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(whole(number), text);
        }
        for (number, text) in [(0.0, "0.0"), (9.87, "9.9"), (10.4, "10"), (23_411.6, "23,412")] {
            assert_eq!(rate(number), text);
        }
        for (ms, text) in [
            (0.042, "0.042 ms"),
            (1.234, "1.23 ms"),
            (12.34, "12.3 ms"),
            (123.4, "123 ms"),
            (1_234.0, "1.23 s"),
        ] {
            assert_eq!(latency(ms), text);
        }
    }
}
