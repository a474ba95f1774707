//! What a scenario measures, beside the course's limit and ours. Knows nothing of how it is measured.

use std::fmt;

use crate::schedule::{MS, Micros};

/// One measured number and what it may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figure {
    /// What was measured, with its unit.
    pub what: &'static str,
    /// How much.
    pub measured: u64,
    /// The course demands at most this, if it demands anything.
    pub lab: Option<u64>,
    /// We demand at most this, if anything.
    pub ours: Option<u64>,
    /// And at least this.
    pub at_least: u64,
}

impl Figure {
    /// A number with the course's limit and ours.
    ///
    /// # Panics
    /// If ours is not the tighter one.
    pub fn new(what: &'static str, measured: u64, lab: u64, ours: u64) -> Self {
        assert!(ours <= lab, "our limit of {what} is looser than the course's");
        Self { what, measured, lab: Some(lab), ours: Some(ours), at_least: 0 }
    }

    /// A number that only we limit.
    pub fn of_ours(what: &'static str, measured: u64, ours: u64) -> Self {
        Self { what, measured, lab: None, ours: Some(ours), at_least: 0 }
    }

    /// A number that nobody limits.
    pub fn seen(what: &'static str, measured: u64) -> Self {
        Self { what, measured, lab: None, ours: None, at_least: 0 }
    }

    /// A time, in milliseconds, rounded up.
    pub fn ms(what: &'static str, measured: Micros, lab_ms: u64, ours_ms: u64) -> Self {
        Self::new(what, measured.div_ceil(MS), lab_ms, ours_ms)
    }

    /// The same, but no less than this.
    #[must_use]
    pub fn at_least(self, at_least: u64) -> Self {
        Self { at_least, ..self }
    }

    /// Whether it is what it may be.
    pub fn is_within(&self) -> bool {
        let is_at_most = |limit: Option<u64>| limit.is_none_or(|limit| self.measured <= limit);
        self.measured >= self.at_least && is_at_most(self.lab) && is_at_most(self.ours)
    }
}

/// `election messages 14 (lab 30, ours 20)`.
impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, measured, lab, ours, at_least } = self;
        let least = (*at_least > 0).then(|| format!("at least {at_least}"));
        let lab = lab.map(|lab| format!("lab {lab}"));
        let ours = ours.map(|ours| format!("ours {ours}"));
        let limits: Vec<String> = [least, lab, ours].into_iter().flatten().collect();
        write!(f, "{what} {measured}")?;
        if limits.is_empty() { Ok(()) } else { write!(f, " ({})", limits.join(", ")) }
    }
}
