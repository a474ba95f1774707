//! How it goes, while it goes: one line that changes on a terminal, a line a second otherwise. Must not know how it ends.

use std::io::{self, IsTerminal, Write};

use super::engine::View;
use super::figures::{latency, rate, whole};
use super::gate::{Extent, NANOS};
use super::plan::Load;

/// Between two pictures on a terminal, and what they show of.
const DRAW_EVERY_NANOS: u64 = NANOS / 5;
/// Between two lines where there is no terminal; what is shown is of this time, too.
const SAY_EVERY_NANOS: u64 = NANOS;
/// Characters of the bar.
const BAR_WIDTH: u64 = 20;

/// See the module. What is drawn is taken away when it is dropped.
pub(super) struct Live {
    name: String,
    extent: Extent,
    is_terminal: bool,
    is_drawn: bool,
    next: u64,
}

impl Live {
    /// Of this workload.
    pub(super) fn new(name: String, load: &Load) -> Self {
        Self { name, extent: load.extent, is_terminal: io::stderr().is_terminal(), is_drawn: false, next: 0 }
    }

    /// How it is now.
    pub(super) fn show(&mut self, view: &View<'_>) {
        let every = if self.is_terminal { DRAW_EVERY_NANOS } else { SAY_EVERY_NANOS };
        if view.now < self.next {
            return;
        }
        // The first line says nothing yet.
        let is_first = self.next == 0;
        self.next = view.now + every;
        if is_first {
            return;
        }
        let line = self.line(view);
        // There is no other place to say it if that fails.
        let _ = if self.is_terminal {
            self.is_drawn = true;
            let filled = usize::try_from(self.done(view) * BAR_WIDTH / 1_000).unwrap_or(0);
            write!(io::stderr().lock(), "\r\x1b[K[{:20}] {line}", "#".repeat(filled))
        } else {
            writeln!(io::stderr().lock(), "{line}")
        };
    }

    /// How much is done, in a thousandth.
    fn done(&self, view: &View<'_>) -> u64 {
        let (part, all) = match self.extent {
            Extent::Time(span) => (view.measured.unwrap_or(0), span),
            Extent::Requests(count) => (view.record.answers() + view.record.errors().sum(), count),
        };
        part.saturating_mul(1_000).checked_div(all).unwrap_or(1_000).min(1_000)
    }

    fn line(&self, view: &View<'_>) -> String {
        let Some(measured) = view.measured else { return format!("{}: warming up", self.name) };
        let (recent, span) = view.record.series().since(view.now.saturating_sub(SAY_EVERY_NANOS), view.now);
        let per_second = recent.latencies.len() as f64 * NANOS as f64 / span.max(1) as f64;
        let at = |quantile| latency(recent.latencies.value_at_quantile(quantile) as f64 / 1e6);
        let mut line = format!("{}: {:.1} s", self.name, measured as f64 / NANOS as f64);
        line.push_str(&format!(", {} a second", rate(per_second)));
        if recent.latencies.is_empty() {
            line.push_str(", no answers");
        } else {
            line.push_str(&format!(", p50 {}, p99 {}, max {}", at(0.5), at(0.99), at(1.0)));
        }
        let errors = view.record.errors().sum();
        for (count, what) in [(view.behind, "behind"), (errors, "errors")] {
            if count > 0 {
                line.push_str(&format!(", {} {what}", whole(count)));
            }
        }
        if view.up == 0 {
            line.push_str(", no connection");
        }
        line
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if self.is_drawn {
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
        }
    }
}
