//! Replicas compare themselves: each tells the others which digest its state had behind a check entry, and each decides
//! for itself what the reports of all say of its own state. Knows nothing of how an entry gets into the log, of what a
//! digest is of, or of what it means not to serve.
//!
//! A digest behind an entry that is committed cannot differ between replicas that have applied the same log to the same
//! state: where it does, something other than the log has made one of them. Which one, only a majority can say. Every
//! replica hears all reports, because the leader may be the one that is wrong.
//!
//! | reports of the voters on one entry | what a replica concludes |
//! |---|---|
//! | a majority has its digest | its state is right |
//! | a majority has another one | its state is wrong, for the life of the process |
//! | two differ, and no majority agrees yet | undecided: after [`DISPUTE_MS`] nobody who sees this serves |
//! | no majority can agree any more | undecided: nobody serves, at once |
//! | neither | nothing |
//!
//! Undecided ends when a majority agrees on this entry or a later one: a server that was slow reports late, and one that
//! was started again has built its state anew from its log.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use quorate_raft::{Index, Membership, NodeId, Position};

use crate::sabotage::Bug;

/// Milliseconds between two checks, unless configured.
pub const CHECK_INTERVAL_MS: u64 = 10_000;
/// Milliseconds after which a report that has not come is asked for. Doubles with each time, up to the second figure.
const ASK_MS: u64 = 1_000;
const ASK_MS_MAX: u64 = 8_000;
/// Milliseconds that servers may disagree without a majority having spoken before those who see it stop serving: time
/// for the reports of the others, and to ask for them once.
pub const DISPUTE_MS: u64 = 2_000;
/// Checks whose reports are kept, of each server.
const CHECKS_KEPT: usize = 4;

const _: () = assert!(ASK_MS < DISPUTE_MS && DISPUTE_MS < CHECK_INTERVAL_MS);

/// What one replica says of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) position: Position,
    pub(crate) digest: u64,
}

/// What the comparisons say of this replica.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Agreement {
    /// Nothing speaks against its state.
    #[default]
    Sound,
    /// Some say one thing, some another, and no majority the same.
    Undecided {
        /// Behind which entry.
        position: Position,
        /// Who says what.
        digests: BTreeMap<NodeId, u64>,
    },
    /// A majority says something else.
    Diverged {
        /// Behind which entry.
        position: Position,
        /// This replica's digest there.
        own: u64,
        /// That of the majority.
        majority: u64,
    },
}

/// Why this server does not serve, for its log, `INFO` and clients.
impl fmt::Display for Agreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sound => f.write_str("its state is that of the others"),
            Self::Undecided { position, digests } => {
                write!(f, "the servers differ in their state at {position}, and no majority has the same (")?;
                for (place, (node, digest)) in digests.iter().enumerate() {
                    let comma = if place == 0 { "" } else { ", " };
                    write!(f, "{comma}{}: {digest:016x}", node.get())?;
                }
                f.write_str("): nobody who sees this serves until one has")
            }
            Self::Diverged { position, own, majority } => write!(
                f,
                "this server's state at {position} has the digest {own:016x}, that of a majority {majority:016x}: it \
                 serves and leads no more. Keep a copy of its folder for examination, then start it again; the others \
                 serve"
            ),
        }
    }
}

/// What the newest checks came to, for `INFO`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckStatus {
    /// The index of the last check entry that was applied since the process began; 0 before the first.
    pub last: u64,
    /// The digest there.
    pub digest: u64,
    /// The last one behind which a majority had the same state as this server; 0 before the first.
    pub agreed: u64,
}

/// Who speaks and who decides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Council<'a> {
    pub(crate) own: NodeId,
    pub(crate) membership: &'a Membership,
}

/// What one check says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finding {
    Open,
    Agreed,
    Disputed { is_final: bool },
    Diverged { majority: u64 },
}

#[derive(Debug)]
struct Dispute {
    position: Position,
    since_ms: u64,
    is_final: bool,
    digests: BTreeMap<NodeId, u64>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Checks {
    interval_ms: u64,
    /// Of this replica, the newest at the end.
    own: VecDeque<Report>,
    /// Of the others, in the order they came: at most [`CHECKS_KEPT`] each.
    others: BTreeMap<NodeId, VecDeque<Report>>,
    /// When a check was last applied or proposed.
    checked_ms: u64,
    /// The newest own report is still to be told.
    is_untold: bool,
    /// When reports on the newest check were last asked for, and how long to wait until the next time.
    asked_ms: u64,
    ask_ms: u64,
    agreed: Index,
    dispute: Option<Dispute>,
    agreement: Agreement,
    /// A report has come since it was last judged.
    is_news: bool,
}

impl Checks {
    pub(crate) fn new(interval_ms: u64) -> Self {
        Self {
            interval_ms,
            own: VecDeque::new(),
            others: BTreeMap::new(),
            checked_ms: 0,
            is_untold: false,
            asked_ms: 0,
            ask_ms: ASK_MS,
            agreed: Index::ZERO,
            dispute: None,
            agreement: Agreement::Sound,
            is_news: false,
        }
    }

    /// What the comparisons say of this replica.
    pub(crate) fn agreement(&self) -> &Agreement {
        &self.agreement
    }

    /// A look at them.
    pub(crate) fn status(&self) -> CheckStatus {
        let last = self.own.back();
        CheckStatus {
            last: last.map_or(0, |report| report.position.index.0),
            digest: last.map_or(0, |report| report.digest),
            agreed: self.agreed.0,
        }
    }

    /// Whether a leader should propose a check: one is due, there is anybody to compare with, and anything was applied
    /// since the last one.
    pub(crate) fn is_due(&self, now_ms: u64, applied: Index, council: Council<'_>) -> bool {
        let last = self.own.back().map_or(Index::ZERO, |report| report.position.index);
        now_ms.saturating_sub(self.checked_ms) >= self.interval_ms
            && applied > last
            && council.membership.voters().len() > 1
    }

    /// A check is on its way.
    pub(crate) fn proposed(&mut self, now_ms: u64) {
        self.checked_ms = now_ms;
    }

    /// A check entry was applied here.
    pub(crate) fn applied(&mut self, report: Report, now_ms: u64) {
        self.checked_ms = now_ms;
        push(&mut self.own, report);
        self.is_untold = true;
        self.is_news = true;
    }

    /// [`Bug::ReportsLaterState`].
    pub(crate) fn spoil_untold(&mut self, digest: u64) {
        if let Some(newest) = self.own.back_mut().filter(|_| self.is_untold) {
            newest.digest = digest;
        }
    }

    /// The state is another one: what was said of the one before says nothing of it.
    pub(crate) fn installed(&mut self) {
        self.own.clear();
        self.is_untold = false;
        self.dispute = None;
        if !matches!(self.agreement, Agreement::Diverged { .. }) {
            self.agreement = Agreement::Sound;
        }
    }

    /// Another server reports. Gives the own report on the same check, if it is asked for and there is one.
    pub(crate) fn heard(
        &mut self,
        from: NodeId,
        report: Report,
        asks: bool,
        council: Council<'_>,
    ) -> Option<Report> {
        if from == council.own || !council.membership.is_voter(from) {
            return None;
        }
        let reports = self.others.entry(from).or_default();
        reports.retain(|known| known.position != report.position);
        push(reports, report);
        self.is_news = true;
        let is_same = |own: &&Report| own.position == report.position;
        self.own.iter().find(is_same).copied().filter(|_| asks)
    }

    /// Whom to tell the newest own report now, and whether to ask each for its own: everybody once, and then, with growing
    /// patience, those who have not reported. Only the newest: who replays a log meets many.
    pub(crate) fn tell_next(&mut self, now_ms: u64, council: Council<'_>) -> Vec<(NodeId, Report, bool)> {
        let Some(newest) = self.own.back().copied() else { return Vec::new() };
        if self.is_untold {
            self.is_untold = false;
            (self.asked_ms, self.ask_ms) = (now_ms, ASK_MS);
            let others = council.membership.others(council.own);
            return others.into_iter().map(|to| (to, newest, false)).collect();
        }
        if now_ms.saturating_sub(self.asked_ms) < self.ask_ms {
            return Vec::new();
        }
        (self.asked_ms, self.ask_ms) = (now_ms, (self.ask_ms * 2).min(ASK_MS_MAX));
        let voters = council.membership.voters().iter().copied();
        let silent = voters.filter(|id| self.digest_of(*id, newest, council).is_none());
        silent.map(|to| (to, newest, true)).collect()
    }

    /// What the reports say now. Gives the agreement if it is another than before.
    pub(crate) fn judge(&mut self, now_ms: u64, council: Council<'_>) -> Option<&Agreement> {
        let is_settled = matches!(self.agreement, Agreement::Diverged { .. });
        if is_settled || !std::mem::take(&mut self.is_news) && self.dispute.is_none() {
            return None;
        }
        let mut disputed = None;
        for own in &self.own {
            match self.finding(*own, council) {
                Finding::Open => {}
                Finding::Agreed => {
                    self.agreed = self.agreed.max(own.position.index);
                    disputed = None;
                }
                Finding::Disputed { is_final } => disputed = Some((*own, is_final)),
                Finding::Diverged { majority } => {
                    let (position, own) = (own.position, own.digest);
                    self.agreement = Agreement::Diverged { position, own, majority };
                    return Some(&self.agreement);
                }
            }
        }
        let agreed = self.agreed;
        self.dispute.take_if(|dispute| dispute.position.index <= agreed);
        if let Some((own, is_final)) = disputed {
            let since_ms = self.dispute.as_ref().map_or(now_ms, |dispute| dispute.since_ms);
            // That reports on a later entry are still to come is no reason to serve again.
            let is_final = is_final || self.dispute.as_ref().is_some_and(|dispute| dispute.is_final);
            let said = |id: &NodeId| self.digest_of(*id, own, council).map(|digest| (*id, digest));
            let digests = council.membership.voters().iter().filter_map(said).collect();
            self.dispute = Some(Dispute { position: own.position, since_ms, is_final, digests });
        }
        let has_lasted =
            |dispute: &&Dispute| dispute.is_final || now_ms.saturating_sub(dispute.since_ms) >= DISPUTE_MS;
        let agreement = match self.dispute.as_ref().filter(has_lasted) {
            None => Agreement::Sound,
            Some(Dispute { position, digests, .. }) => {
                Agreement::Undecided { position: *position, digests: digests.clone() }
            }
        };
        if agreement == self.agreement {
            return None;
        }
        self.agreement = agreement;
        Some(&self.agreement)
    }

    /// The digest that a voter has reported on the check of this own report.
    fn digest_of(&self, id: NodeId, own: Report, council: Council<'_>) -> Option<u64> {
        if id == council.own {
            return Some(own.digest);
        }
        let is_same =
            |report: &&Report| Bug::ComparesAnyCheck.spoils(report.position == own.position, || true);
        self.others.get(&id)?.iter().rev().find(is_same).map(|report| report.digest)
    }

    fn finding(&self, own: Report, council: Council<'_>) -> Finding {
        let Council { membership, .. } = council;
        let digest_of = |id| self.digest_of(id, own, council);
        let digests: BTreeSet<u64> = membership.voters().iter().filter_map(|id| digest_of(*id)).collect();
        let has_majority = |digest: &&u64| membership.reached(|id| digest_of(id) == Some(**digest));
        match digests.iter().find(has_majority) {
            Some(digest) if *digest == own.digest => return Finding::Agreed,
            Some(majority) => return Finding::Diverged { majority: *majority },
            None if digests.len() < 2 => return Finding::Open,
            None => {}
        }
        let could_have =
            |digest: &u64| membership.reached(|id| digest_of(id).is_none_or(|other| other == *digest));
        let could_be_another = membership.reached(|id| digest_of(id).is_none());
        Finding::Disputed { is_final: !could_be_another && !digests.iter().any(could_have) }
    }
}

fn push(reports: &mut VecDeque<Report>, report: Report) {
    reports.push_back(report);
    if reports.len() > CHECKS_KEPT {
        reports.pop_front();
    }
}

#[cfg(test)]
mod tests;
