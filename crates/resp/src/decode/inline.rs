//! Splits an inline command into its arguments by Redis's quoting rules. Knows one line; must not know its source.

use bytes::{BufMut, Bytes, BytesMut};

/// A quote that does not close, or that closes in the middle of a word.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unbalanced;

/// The arguments of one line. A word without quotes is a slice of the line; one with quotes is copied.
///
/// `"…"` knows `\n \r \t \b \a \xHH` and takes any other byte after `\` as itself; `'…'` knows `\'` alone. After a
/// closing quote the word must end.
pub(crate) fn split(line: &Bytes) -> Result<Vec<Bytes>, Unbalanced> {
    let mut arguments = Vec::new();
    let mut rest = skip_blanks(line, 0);
    while rest < line.len() {
        let plain = word_end(line, rest);
        match line.get(plain) {
            Some(b'"' | b'\'') => {
                let (word, end) = quoted_word(line, rest)?;
                arguments.push(word);
                rest = end;
            }
            Some(_) | None => {
                arguments.push(line.slice(rest..plain));
                rest = plain;
            }
        }
        rest = skip_blanks(line, rest);
    }
    Ok(arguments)
}

/// The end of a word that begins at `from`, or its first quote.
fn word_end(line: &[u8], from: usize) -> usize {
    let is_end = |byte: &u8| matches!(byte, b'"' | b'\'') || ends_word(*byte);
    line.iter().skip(from).position(is_end).map_or(line.len(), |at| from + at)
}

/// A word with at least one quote: its bytes, and where it ends.
fn quoted_word(line: &[u8], from: usize) -> Result<(Bytes, usize), Unbalanced> {
    let mut word = BytesMut::new();
    let mut at = from;
    while let Some(&byte) = line.get(at) {
        match byte {
            b'"' => return double_quoted(line, at + 1, word),
            b'\'' => return single_quoted(line, at + 1, word),
            _ => word.put_u8(byte),
        }
        at += 1;
    }
    Err(Unbalanced)
}

fn double_quoted(line: &[u8], from: usize, mut word: BytesMut) -> Result<(Bytes, usize), Unbalanced> {
    let mut at = from;
    loop {
        match line.get(at..).unwrap_or_default() {
            [] => return Err(Unbalanced),
            [b'\\', b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                word.put_u8(hex_digit(*high) << 4 | hex_digit(*low));
                at += 4;
            }
            [b'\\', escaped, ..] => {
                word.put_u8(unescape(*escaped));
                at += 2;
            }
            [b'"', ..] => return closed(line, at + 1, word),
            [byte, ..] => {
                word.put_u8(*byte);
                at += 1;
            }
        }
    }
}

fn single_quoted(line: &[u8], from: usize, mut word: BytesMut) -> Result<(Bytes, usize), Unbalanced> {
    let mut at = from;
    loop {
        match line.get(at..).unwrap_or_default() {
            [] => return Err(Unbalanced),
            [b'\\', b'\'', ..] => {
                word.put_u8(b'\'');
                at += 2;
            }
            [b'\'', ..] => return closed(line, at + 1, word),
            [byte, ..] => {
                word.put_u8(*byte);
                at += 1;
            }
        }
    }
}

fn closed(line: &[u8], at: usize, word: BytesMut) -> Result<(Bytes, usize), Unbalanced> {
    match line.get(at) {
        Some(byte) if !is_blank(*byte) => Err(Unbalanced),
        Some(_) | None => Ok((word.freeze(), at)),
    }
}

fn skip_blanks(line: &[u8], from: usize) -> usize {
    line.iter().skip(from).position(|byte| !is_blank(*byte)).map_or(line.len(), |at| from + at)
}

/// The blanks of C's `isspace`, which separate words …
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c)
}

/// … of which Redis lets fewer end a word.
fn ends_word(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

fn hex_digit(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        b'A'..=b'F' => digit - b'A' + 10,
        _ => unreachable!("the caller matched a hex digit"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &'static str, words: &[&[u8]]) {
        let split = split(&Bytes::from_static(line.as_bytes())).unwrap();
        assert_eq!(split, words, "{line}");
    }

    #[track_caller]
    fn unbalanced(line: &'static str) {
        assert_eq!(split(&Bytes::from_static(line.as_bytes())), Err(Unbalanced), "{line}");
    }

    #[test]
    fn words_are_split_at_blanks() {
        check("", &[]);
        check(" \t ", &[]);
        check("PING", &[b"PING"]);
        check("  SET  k\tv ", &[b"SET", b"k", b"v"]);
        check("HELLO 3", &[b"HELLO", b"3"]);
    }

    #[test]
    fn quotes_keep_blanks_and_know_escapes() {
        check(r#"SET k "a b""#, &[b"SET", b"k", b"a b"]);
        check(r#""\x00\xfF\n\r\t\b\a\q\"\\""#, &[b"\x00\xff\n\r\t\x08\x07q\"\\"]);
        check(r#""\xg1" "\x1""#, &[b"xg1", b"x1"]);
        check(r"'a \n b' 'it\'s'", &[br"a \n b", b"it's"]);
        check(r#""" ''"#, &[b"", b""]);
        check(r#"foo"bar" a'b'"#, &[b"foobar", b"ab"]);
    }

    #[test]
    fn a_quote_must_close_and_end_its_word() {
        unbalanced(r#"SET k "v"#);
        unbalanced(r"SET k 'v");
        unbalanced(r#""a"b"#);
        unbalanced(r"'a'b");
        unbalanced(r#""a\"#);
        unbalanced(r#"""""#);
        // Outside of quotes a backslash is a byte like any other: the quote after it opens.
        unbalanced(r#"a\"b"#);
    }
}
