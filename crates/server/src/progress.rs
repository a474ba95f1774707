//! How far something is that takes long: a bar on a terminal, a line now and then otherwise. Must not know what it is.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Between two pictures of the bar.
const DRAW_EVERY: Duration = Duration::from_millis(100);
/// Between two lines where there is no terminal.
const SAY_EVERY: Duration = Duration::from_secs(2);
/// Characters of the bar.
const BAR_WIDTH: u64 = 30;

/// See the module. A bar is taken away when it is dropped.
pub(crate) struct Progress<'a> {
    what: String,
    is_terminal: bool,
    last: Instant,
    is_drawn: bool,
    say: &'a dyn Fn(&str),
}

impl<'a> Progress<'a> {
    /// Nothing is shown of what is done in a moment. `say` takes the lines for who has no terminal.
    pub(crate) fn new(what: String, say: &'a dyn Fn(&str)) -> Self {
        let is_terminal = io::stderr().is_terminal();
        Self { what, is_terminal, last: Instant::now(), is_drawn: false, say }
    }

    /// From here on it is about something else.
    pub(crate) fn rename(&mut self, what: String) {
        self.what = what;
    }

    /// So many bytes of so many are done.
    pub(crate) fn at(&mut self, done: u64, total: u64) {
        let pause = if self.is_terminal { DRAW_EVERY } else { SAY_EVERY };
        if self.last.elapsed() < pause {
            return;
        }
        self.last = Instant::now();
        self.show(&line(&self.what, done, total), done, total);
    }

    /// A step, and how far it is if that is known: so many of so many, in the unit that it names. A new one is shown at once.
    pub(crate) fn step(&mut self, what: &str, how_far: Option<(u64, u64)>) {
        let pause = if self.is_terminal { DRAW_EVERY } else { SAY_EVERY };
        let is_new = self.what != what;
        if !is_new && (how_far.is_none() || self.last.elapsed() < pause) {
            return;
        }
        self.last = Instant::now();
        what.clone_into(&mut self.what);
        match how_far {
            Some((done, total)) => {
                let percent = done.saturating_mul(100).checked_div(total).unwrap_or(0);
                self.show(&format!("{what}: {percent} %, {done} of {total}"), done, total);
            }
            None if self.is_terminal => {
                self.is_drawn = true;
                // There is no other place to say it if that fails.
                let _ = write!(io::stderr().lock(), "\r\x1b[K{what}");
            }
            None => (self.say)(what),
        }
    }

    fn show(&mut self, line: &str, done: u64, total: u64) {
        if self.is_terminal {
            self.is_drawn = true;
            let filled = done.saturating_mul(BAR_WIDTH).checked_div(total).unwrap_or(0).min(BAR_WIDTH);
            let bar = "#".repeat(usize::try_from(filled).unwrap_or(0));
            // There is no other place to say it if that fails.
            let _ = write!(io::stderr().lock(), "\r\x1b[K[{bar:30}] {line}");
        } else {
            (self.say)(line);
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        if self.is_drawn {
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
        }
    }
}

fn line(what: &str, done: u64, total: u64) -> String {
    let percent = done.saturating_mul(100).checked_div(total).unwrap_or(0);
    format!("{what}: {percent} %, {} of {} MiB", done >> 20, total >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_it_is() {
        assert_eq!(line("x", 0, 0), "x: 0 %, 0 of 0 MiB");
        assert_eq!(line("x", 5 << 20, 20 << 20), "x: 25 %, 5 of 20 MiB");
    }
}
