//! One seed run twice at once, each line of the one compared with that of the other as it comes: nothing is kept, and
//! the first line that differs is known.

use std::cell::RefCell;
use std::io::{self, BufWriter, Write};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use quorate_sim::run::run;
use quorate_sim::trace::Trace;

/// Bytes that the run ahead collects before it hands them over.
const BLOCK_BYTES: usize = 64 << 10;

/// Blocks that it may be ahead.
const BLOCKS_AHEAD: usize = 4;

/// What the comparison found.
#[derive(Debug, Default)]
struct Found {
    lines: u64,
    bytes: u64,
    /// The first two lines that differ.
    difference: Option<[String; 2]>,
}

/// Runs a seed twice. True if both gave the same trace.
///
/// # Errors
/// If nobody listens.
pub(crate) fn compare(out: &mut impl Write, seed: u64) -> io::Result<bool> {
    let found = run_both(|to| run_into(seed, to), |to| run_into(seed, to));
    match found.difference {
        None => {
            let Found { lines, bytes, .. } = found;
            writeln!(out, "seed {seed}: the same trace twice, {lines} lines, {bytes} bytes")?;
            Ok(true)
        }
        Some([first, second]) => {
            writeln!(out, "seed {seed}: the traces differ from line {} on:", found.lines + 1)?;
            writeln!(out, "  {first}\n  {second}")?;
            Ok(false)
        }
    }
}

fn run_into(seed: u64, to: impl Write + 'static) {
    run(seed, Trace::streamed(to).with_all());
}

/// Lets both write, a line by each call, and compares.
#[expect(clippy::disallowed_methods, reason = "two runs, each of them one thread")]
fn run_both(first: impl FnOnce(Ahead) + Send, second: impl FnOnce(Behind)) -> Found {
    let (sender, receiver) = sync_channel(BLOCKS_AHEAD);
    std::thread::scope(|scope| {
        scope.spawn(move || first(BufWriter::with_capacity(BLOCK_BYTES, Sender(sender))));
        let found = Rc::new(RefCell::new(Found::default()));
        let other = Rc::new(RefCell::new(Other { receiver, block: Vec::new(), at: 0 }));
        second(Behind { other: Rc::clone(&other), found: Rc::clone(&found) });
        // The run ahead may have said more.
        if let Some(line) = other.borrow_mut().next_line() {
            found.borrow_mut().differs(&line, b"(its end)");
        }
        // Who still writes is told that nobody listens.
        drop(other);
        found.take()
    })
}

/// Where the run ahead writes.
type Ahead = BufWriter<Sender>;

/// Hands over whole lines: a `BufWriter` never splits what is written by one call, unless it is longer than a block, and
/// then passes it on by itself.
struct Sender(SyncSender<Vec<u8>>);

impl Write for Sender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the run ahead has written.
struct Other {
    receiver: Receiver<Vec<u8>>,
    block: Vec<u8>,
    at: usize,
}

impl Other {
    fn next_line(&mut self) -> Option<Vec<u8>> {
        if self.at == self.block.len() {
            self.block = self.receiver.recv().ok()?;
            self.at = 0;
        }
        let rest = &self.block[self.at..];
        let length = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |end| end + 1);
        self.at += length;
        Some(rest[..length].to_vec())
    }
}

/// Where the run behind writes: each call is a line.
struct Behind {
    other: Rc<RefCell<Other>>,
    found: Rc<RefCell<Found>>,
}

impl Write for Behind {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut found = self.found.borrow_mut();
        let other = self.other.borrow_mut().next_line();
        if other.as_deref() == Some(line) {
            found.lines += 1;
            found.bytes += line.len() as u64;
            return Ok(line.len());
        }
        found.differs(other.as_deref().unwrap_or(b"(its end)"), line);
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Found {
    /// Only the first difference counts.
    fn differs(&mut self, first: &[u8], second: &[u8]) {
        let text = |line: &[u8]| String::from_utf8_lossy(line).trim_end().to_owned();
        self.difference.get_or_insert([text(first), text(second)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(first: &[&str], second: &[&str]) -> Found {
        let say = |lines: &[&str], to: &mut dyn Write| {
            for line in lines {
                if writeln_at_once(to, line).is_err() {
                    break;
                }
            }
        };
        run_both(|mut to| say(first, &mut to), |mut to| say(second, &mut to))
    }

    fn writeln_at_once(to: &mut dyn Write, line: &str) -> io::Result<()> {
        to.write_all(format!("{line}\n").as_bytes())
    }

    #[test]
    fn equal_traces_are_equal() {
        let long = "x".repeat(3 * BLOCK_BYTES);
        let found = compared(&["a", &long, "c"], &["a", &long, "c"]);
        assert_eq!((found.lines, found.difference), (3, None));
    }

    #[test]
    fn the_first_line_that_differs_is_named() {
        let differs = |first: &[&str], second: &[&str], line: u64, texts: [&str; 2]| {
            let found = compared(first, second);
            assert_eq!(found.lines + 1, line);
            assert_eq!(found.difference, Some(texts.map(str::to_owned)));
        };
        differs(&["a", "b", "c"], &["a", "x", "c"], 2, ["b", "x"]);
        differs(&["a", "b"], &["a"], 2, ["b", "(its end)"]);
        differs(&["a"], &["a", "b"], 2, ["(its end)", "b"]);
        let many: Vec<String> = (0..100_000).map(|number| number.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        differs(&many, &["0", "one"], 2, ["1", "one"]);
    }
}
