//! One line an event, for the person with a failing seed. Off, it costs nothing; on, it changes nothing. A line goes
//! out as its event happens and is not kept, except for tests.

use std::fmt::{self, Write as _};
use std::io;
use std::ops::Range;

use crate::schedule::Micros;

/// How to read a trace; printed above it.
pub const LEGEND: &str = "\
# seconds.micros  who       what
#   n2@5 leader last=9 commit=9 …      node 2 leads in term 5; printed whenever role or term change
#   n2 ← n1 …                          a message of node 1 arrives at node 2
#   n1 ⇥ n2 …                          a message is lost on the way;  ⇉ it is doubled
#   n2 ⇩ w7 2@1..4@1                   write 7, entries 2 to 4 of term 1, is synced by the disk
#   c3 calls a1 append …               client 3 calls;  c3 → n2 …  it sends;  c3 ← …  it has its answer
#   committed 4@1 #17 a1 3.9;          entry 4 is committed: effect 17, of the write with the token 3.9;
#   ‼ …                                a fault begins or ends;  ✗ …  a property does not hold
";

/// What [`LEGEND`] leaves out; printed below it where everything is asked for.
pub const LEGEND_OF_ALL: &str = "\
#   n1 → n2 …                          a message leaves
#   n2 ⇓ w7 2@1..4@1                   a write is handed to the disk
#   heartbeats, and each step that moved last, commit or applied
";

#[derive(Default)]
enum Sink {
    #[default]
    Off,
    Kept(String),
    Streamed(Box<dyn io::Write>),
}

/// Where the lines of a run go, if anyone wants them.
pub struct Trace {
    sink: Sink,
    window: Range<Micros>,
    has_all: bool,
    line: String,
}

/// Nobody wants them.
impl Default for Trace {
    fn default() -> Self {
        Self { sink: Sink::Off, window: 0..Micros::MAX, has_all: false, line: String::new() }
    }
}

impl Trace {
    /// Keeps every line, for tests.
    pub fn kept() -> Self {
        Self { sink: Sink::Kept(String::new()), has_all: true, ..Self::default() }
    }

    /// Hands each line on when it happens, by one call, and keeps nothing. Without what is always the same:
    /// heartbeats, departures of what arrives.
    pub fn streamed(to: impl io::Write + 'static) -> Self {
        Self { sink: Sink::Streamed(Box::new(to)), ..Self::default() }
    }

    /// The same with every line.
    #[must_use]
    pub fn with_all(mut self) -> Self {
        self.has_all = true;
        self
    }

    /// Only what happens from the one instant up to the other.
    #[must_use]
    pub fn within(mut self, window: Range<Micros>) -> Self {
        self.window = window;
        self
    }

    /// Whether lines are wanted.
    pub fn is_on(&self) -> bool {
        !matches!(self.sink, Sink::Off)
    }

    /// Whether all lines are wanted.
    pub fn has_all(&self) -> bool {
        self.has_all && self.is_on()
    }

    /// One line. The arguments are formatted only if the trace is on.
    pub fn line(&mut self, now: Micros, what: fmt::Arguments<'_>) {
        if !self.is_on() || !self.window.contains(&now) {
            return;
        }
        self.line.clear();
        let written = writeln!(self.line, "{:>4}.{:06} {what}", now / 1_000_000, now % 1_000_000);
        written.expect("a String takes every line");
        match &mut self.sink {
            Sink::Off => {}
            Sink::Kept(text) => text.push_str(&self.line),
            Sink::Streamed(to) => {
                // Nobody listens any more (`| head`): the run goes on without a word.
                if to.write_all(self.line.as_bytes()).is_err() {
                    self.sink = Sink::Off;
                }
            }
        }
    }

    /// The lines, if they were kept.
    pub fn into_text(self) -> String {
        match self.sink {
            Sink::Kept(text) => text,
            Sink::Off | Sink::Streamed(_) => String::new(),
        }
    }
}
