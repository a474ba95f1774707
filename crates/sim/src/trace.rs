//! One line an event, for the person with a failing seed. Off, it costs nothing; on, it changes nothing.

use std::fmt::{self, Write as _};

use crate::schedule::Micros;

/// How to read a trace; printed above it.
pub const LEGEND: &str = "\
# seconds.micros  who       what
#   n2@5 leader commit=9 applied=8     node 2 in term 5; printed whenever role, term, commit or applied changed
#   n1 → n2 …                          a message leaves;  ⇥ it is lost;  ⇉ it is doubled
#   n2 ← n1 …                          a message arrives
#   n2 ⇓ w7 2..4                       a write is handed to the disk;  n2 ⇩ w7  it is synced
#   c3 → n2 #4 append a1 …             client 3 sends operation 4 to node 2;  c3 ← #4 …  its answer
#   ‼ …                                a fault begins or ends
";

/// The lines of a run, if anyone wants them.
#[derive(Debug, Default)]
pub struct Trace {
    text: Option<String>,
}

impl Trace {
    /// A trace that keeps its lines.
    pub fn kept() -> Self {
        Self { text: Some(String::new()) }
    }

    /// Whether lines are kept.
    pub fn is_on(&self) -> bool {
        self.text.is_some()
    }

    /// One line. The arguments are formatted only if the trace is on.
    pub fn line(&mut self, now: Micros, what: fmt::Arguments<'_>) {
        if let Some(text) = &mut self.text {
            let written = writeln!(text, "{:>4}.{:06} {what}", now / 1_000_000, now % 1_000_000);
            written.expect("a String takes every line");
        }
    }

    /// The lines so far.
    pub fn text(&self) -> &str {
        self.text.as_deref().unwrap_or_default()
    }
}
