//! What the programs of two servers can, and whether they can work together. Must not know bytes or sockets.

use std::fmt;

use quorate_replica::versions::{LEVEL_MAX, LEVEL_MIN};
use quorate_replica::wire::{PROTOCOL_VERSION, PROTOCOL_VERSION_MIN};

/// Versions from the oldest to the newest, both of them included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) oldest: u16,
    pub(super) newest: u16,
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { oldest, newest } = self;
        if oldest == newest { write!(f, "{newest}") } else { write!(f, "{oldest} to {newest}") }
    }
}

impl Range {
    fn holds(self, version: u16) -> bool {
        (self.oldest..=self.newest).contains(&version)
    }

    /// The newest version that both know.
    fn common(self, other: Self) -> Option<u16> {
        let newest = self.newest.min(other.newest);
        (self.holds(newest) && other.holds(newest)).then_some(newest)
    }
}

/// What a program can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Versions {
    /// Versions of the protocol between servers.
    pub(super) protocol: Range,
    /// Levels it can act at: what it can read and write in log and snapshots ([`quorate_replica::versions`]).
    pub(super) levels: Range,
    /// The level at which its cluster acts, where it knows that.
    pub(super) acts_at: Option<u16>,
    /// What its makers call it.
    pub(super) program: String,
}

/// Who has to do something.
enum TooOld {
    This,
    Other,
}

impl Versions {
    /// Of this program, in a cluster that acts at this level.
    pub(super) fn own(acts_at: Option<u16>) -> Self {
        Self {
            protocol: Range { oldest: PROTOCOL_VERSION_MIN, newest: PROTOCOL_VERSION },
            levels: Range { oldest: LEVEL_MIN, newest: LEVEL_MAX },
            acts_at,
            program: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// The version of the protocol that these two speak with each other.
    ///
    /// # Errors
    /// A sentence for the operator of this server, where they cannot work together; `other` is the name of the other one.
    pub(super) fn meet(&self, theirs: &Self, other: &str) -> Result<u16, String> {
        let (own, their) = (&self.program, &theirs.program);
        let Some(spoken) = self.protocol.common(theirs.protocol) else {
            let who = too_old(self.protocol, theirs.protocol.oldest);
            return Err(format!(
                "{other} runs quorate {their} and speaks version {} of the protocol between servers; this server runs quorate \
                 {own} and speaks {}: {}",
                theirs.protocol,
                self.protocol,
                advice(&who, other)
            ));
        };
        for (acts_at, range, is_ours) in
            [(theirs.acts_at, self.levels, true), (self.acts_at, theirs.levels, false)]
        {
            let Some(level) = acts_at.filter(|level| !range.holds(*level)) else { continue };
            let who = match (range.newest < level, is_ours) {
                (true, true) | (false, false) => TooOld::This,
                (true, false) | (false, true) => TooOld::Other,
            };
            let subject = if is_ours {
                format!("this server, quorate {own},")
            } else {
                format!("{other}, quorate {their},")
            };
            return Err(format!(
                "the cluster acts at level {level} of the formats, and {subject} knows {range}: {}",
                advice(&who, other)
            ));
        }
        if self.levels.common(theirs.levels).is_none() {
            let who = too_old(self.levels, theirs.levels.oldest);
            return Err(format!(
                "{other} runs quorate {their} and knows level {} of the formats of log and snapshots; this server runs \
                 quorate {own} and knows {}: {}",
                theirs.levels,
                self.levels,
                advice(&who, other)
            ));
        }
        Ok(spoken)
    }
}

fn too_old(own: Range, their_oldest: u16) -> TooOld {
    if own.newest < their_oldest { TooOld::This } else { TooOld::Other }
}

fn advice(who: &TooOld, other: &str) -> String {
    match who {
        TooOld::This => {
            "this server is too old for it: stop it, and start it with the program that the others run"
                .to_owned()
        }
        TooOld::Other => format!(
            "{other} is too old for this server: stop it, and start it with the program that the others run, or, if most of \
             them run the older one, this server with that one"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(protocol: (u16, u16), levels: (u16, u16), acts_at: u16) -> Versions {
        let range = |(oldest, newest)| Range { oldest, newest };
        Versions {
            protocol: range(protocol),
            levels: range(levels),
            acts_at: (acts_at > 0).then_some(acts_at),
            program: format!("0.{}.0", protocol.1),
        }
    }

    #[test]
    fn the_newest_version_that_both_know_is_spoken() {
        let own = versions((3, 5), (1, 2), 0);
        for (theirs, spoken) in [((3, 5), 5), ((1, 4), 4), ((4, 9), 5), ((1, 3), 3), ((5, 7), 5)] {
            assert_eq!(own.meet(&versions(theirs, (1, 1), 0), "node 2"), Ok(spoken));
        }
    }

    /// What both say: that one of them is too old, and which.
    #[track_caller]
    fn refused(one: &Versions, two: &Versions, reason: &str, old_is_one: bool) {
        for (own, theirs, is_own) in [(one, two, old_is_one), (two, one, !old_is_one)] {
            let sentence = own.meet(theirs, "node 9").unwrap_err();
            assert!(sentence.contains(reason), "{sentence}");
            let who = if is_own { "this server is too old" } else { "node 9 is too old" };
            assert!(sentence.contains(who), "{sentence}");
        }
    }

    #[test]
    fn without_a_common_version_both_say_who_is_too_old() {
        let one = versions((3, 5), (1, 2), 0);
        refused(&one, &versions((6, 8), (1, 2), 0), "protocol between servers", true);
        refused(&one, &versions((1, 2), (1, 2), 0), "protocol between servers", false);
        refused(&one, &versions((3, 6), (3, 4), 0), "of the formats of log and snapshots", true);
    }

    #[test]
    fn who_cannot_act_as_the_cluster_does_is_refused() {
        let older = versions((3, 3), (1, 2), 0);
        assert_eq!(older.meet(&versions((3, 4), (1, 3), 2), "node 9"), Ok(3), "it acts as if it were older");
        refused(&older, &versions((3, 4), (1, 3), 3), "acts at level 3 of the formats", true);
        // A program so new that it has forgotten the level of the cluster.
        let cluster = versions((3, 4), (1, 3), 1);
        refused(&cluster, &versions((4, 5), (2, 4), 0), "acts at level 1 of the formats", true);
    }
}
