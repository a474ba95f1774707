//! Finds the end of a line in bytes that arrive piece by piece. Knows neither commands nor replies.

/// Remembers how far a line that has not ended yet was searched: no byte is searched twice, so a line that drips in
/// byte by byte costs its length, not its square.
///
/// Invariant: no terminator stands in the first `scanned` bytes of the buffer.
#[derive(Debug, Default)]
pub(crate) struct LineScan {
    scanned: usize,
}

/// What is known about the line at the front of the buffer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// It ends before this offset, where its terminator begins.
    Ends(usize),
    /// Its end has not arrived.
    Partial,
    /// It has more bytes than allowed.
    TooLong,
    /// `\r` without `\n`.
    Malformed,
}

impl LineScan {
    /// A line that ends with `\r\n`, of at most `bytes_max` bytes without them.
    pub(crate) fn crlf(&mut self, buffer: &[u8], bytes_max: usize) -> Line {
        let found = self.terminator(buffer, b'\r', bytes_max);
        let Line::Ends(at) = found else { return found };
        match buffer.get(at + 1) {
            Some(b'\n') => Line::Ends(at),
            Some(_) => Line::Malformed,
            None => {
                self.scanned = at;
                Line::Partial
            }
        }
    }

    /// A line that ends with `\n`, of at most `bytes_max` bytes without it.
    pub(crate) fn newline(&mut self, buffer: &[u8], bytes_max: usize) -> Line {
        self.terminator(buffer, b'\n', bytes_max)
    }

    fn terminator(&mut self, buffer: &[u8], terminator: u8, bytes_max: usize) -> Line {
        // The window, not the buffer: the verdict must not depend on how much has arrived beyond it.
        let window = buffer.get(..=bytes_max).unwrap_or(buffer);
        let fresh = window.get(self.scanned..).unwrap_or_default();
        if let Some(at) = memchr::memchr(terminator, fresh) {
            let end = self.scanned + at;
            self.scanned = 0;
            return Line::Ends(end);
        }
        self.scanned = window.len();
        if window.len() > bytes_max { Line::TooLong } else { Line::Partial }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_limit_passes_and_one_more_byte_does_not() {
        assert_eq!(LineScan::default().newline(b"abc\n", 3), Line::Ends(3));
        assert_eq!(LineScan::default().newline(b"abc", 3), Line::Partial);
        assert_eq!(LineScan::default().newline(b"abcd", 3), Line::TooLong);
        assert_eq!(LineScan::default().newline(b"abcd\n", 3), Line::TooLong);
    }

    #[test]
    fn the_verdict_on_a_carriage_return_waits_for_its_newline() {
        let mut scan = LineScan::default();
        assert_eq!(scan.crlf(b"ab\r", 3), Line::Partial);
        assert_eq!(scan.crlf(b"ab\r\n", 3), Line::Ends(2));
        assert_eq!(LineScan::default().crlf(b"ab\rx", 3), Line::Malformed);
    }
}
