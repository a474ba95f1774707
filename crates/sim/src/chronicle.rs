//! What happened to the servers, as intervals and instants: who led, who was down, who was cut off. Written for
//! people; no check reads it, and nothing depends on it.

use quorate_raft::Role;

use crate::invariants::View;
use crate::network::HostIndex;
use crate::schedule::Micros;
use crate::world::World;

/// What goes on for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A server leads a term.
    Leader,
    /// There is no process.
    Down,
    /// A process stands still.
    Paused,
    /// A server cannot speak and listen to a majority.
    CutOff,
    /// A disk is slow.
    SlowDisk,
    /// Some servers cannot reach some others.
    Partition,
}

impl Kind {
    /// Its name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Down => "down",
            Self::Paused => "paused",
            Self::CutOff => "cut off",
            Self::SlowDisk => "slow disk",
            Self::Partition => "partition",
        }
    }
}

/// Something that goes on for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Band {
    /// What.
    pub kind: Kind,
    /// On which server; `None` for what is between them.
    pub host: Option<HostIndex>,
    /// In words.
    pub text: String,
    /// Since when.
    pub from: Micros,
    /// Until when; `None` while it goes on.
    pub to: Option<Micros>,
}

/// Something that happens at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// On which server, if on one.
    pub host: Option<HostIndex>,
    /// In words.
    pub text: String,
    /// When.
    pub at: Micros,
}

/// A run as a person tells it.
#[derive(Clone, Debug, Default)]
pub struct Chronicle {
    /// In the order of their beginnings.
    pub bands: Vec<Band>,
    /// In order.
    pub marks: Vec<Mark>,
}

impl Chronicle {
    /// Something begins, and ends at an instant that is known, or not yet. What goes on of the kind ends with it.
    pub fn begin(
        &mut self,
        kind: Kind,
        host: Option<HostIndex>,
        text: String,
        from: Micros,
        to: Option<Micros>,
    ) {
        self.end(kind, host, from);
        self.bands.push(Band { kind, host, text, from, to });
    }

    /// It ends now, if it goes on.
    pub fn end(&mut self, kind: Kind, host: Option<HostIndex>, now: Micros) {
        // Of a kind on a server only the latest can go on still.
        let latest = self.bands.iter_mut().rev().find(|band| band.kind == kind && band.host == host);
        if let Some(band) = latest
            && band.to.is_none_or(|to| to > now)
        {
            band.to = Some(now);
        }
    }

    /// Whether it goes on.
    pub fn goes_on(&self, kind: Kind, host: HostIndex, now: Micros) -> bool {
        let latest = self.bands.iter().rev().find(|band| band.kind == kind && band.host == Some(host));
        latest.is_some_and(|band| band.to.is_none_or(|to| to > now))
    }
}

impl World {
    /// A fault of one instant: a line of the trace, and a mark.
    pub(crate) fn mark(&mut self, host: Option<HostIndex>, text: String) {
        self.line(format_args!("‼ {text}"));
        let at = self.now();
        self.chronicle.marks.push(Mark { host, text, at });
    }

    /// A fault that lasts: a line of the trace, and a band. Without a known end it lasts until it is ended.
    pub(crate) fn band(&mut self, kind: Kind, host: Option<HostIndex>, text: String, until: Option<Micros>) {
        self.line(format_args!("‼ {text}"));
        let now = self.now();
        self.chronicle.begin(kind, host, text, now, until);
    }

    /// A server has another role, or is in another term.
    pub(crate) fn note_role(&mut self, view: View) {
        let (host, now) = (Some(view.host), self.now());
        if view.role == Role::Leader {
            let text = format!("n{} leads term {}", view.host + 1, view.term);
            self.chronicle.begin(Kind::Leader, host, text, now, None);
        } else {
            self.chronicle.end(Kind::Leader, host, now);
        }
    }

    /// Nobody is cut off any more, and there is no partition.
    pub(crate) fn end_partition_bands(&mut self) {
        let now = self.now();
        self.chronicle.end(Kind::Partition, None, now);
        for host in 0..self.hosts.len() {
            self.chronicle.end(Kind::CutOff, Some(host), now);
        }
    }

    /// Servers that cannot speak and listen to a majority, themselves included.
    pub(crate) fn note_cut_off(&mut self, cut: &[bool]) {
        let (count, now) = (self.hosts.len(), self.now());
        for host in 0..count {
            let reaches =
                |peer: &HostIndex| *peer == host || !cut[host * count + peer] && !cut[peer * count + host];
            if (0..count).filter(reaches).count() * 2 <= count {
                let text = format!("n{} is cut off from a majority", host + 1);
                self.chronicle.begin(Kind::CutOff, Some(host), text, now, None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_ends_once() {
        let mut chronicle = Chronicle::default();
        chronicle.begin(Kind::Paused, Some(1), "n2 stands still".to_owned(), 10, Some(50));
        assert!(chronicle.goes_on(Kind::Paused, 1, 49) && !chronicle.goes_on(Kind::Paused, 1, 50));
        chronicle.end(Kind::Paused, Some(0), 20);
        chronicle.end(Kind::Paused, Some(1), 30);
        chronicle.end(Kind::Paused, Some(1), 40);
        assert_eq!(chronicle.bands[0].to, Some(30), "a crash ends a pause early, and nothing lengthens it");
        chronicle.begin(Kind::Leader, Some(1), "term 3".to_owned(), 60, None);
        chronicle.begin(Kind::Leader, Some(1), "term 5".to_owned(), 70, None);
        assert_eq!(chronicle.bands[1].to, Some(70));
        assert_eq!(chronicle.bands[2].to, None);
    }
}
