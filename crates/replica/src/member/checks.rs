//! A member and the comparisons of its state with that of the others: when it asks for one, and what it does not do any
//! more where it cannot trust its state. What the reports say is in [`crate::checks`].

use quorate_raft::{Input, NodeId, Position};

use super::Member;
use crate::checks::{Agreement, CheckStatus, Council, Report};
use crate::command::{Reply, ReplyError};
use crate::entry;
use crate::pending::WaitingRead;
use crate::replica::{Answer, Notice, Outbox};
use crate::sabotage::Bug;
use crate::wire::PeerMessage;

impl Member {
    /// What the comparisons say of this server's state.
    pub(crate) fn agreement(&self) -> &Agreement {
        self.checks.agreement()
    }

    /// What the newest checks came to.
    pub(crate) fn check_status(&self) -> CheckStatus {
        self.checks.status()
    }

    /// Whether a majority says that this server's state is wrong. Then the state is left as it is: what follows from a wrong
    /// state may break any rule. The log goes on, with all that it promises.
    pub(super) fn has_diverged(&self) -> bool {
        matches!(self.checks.agreement(), Agreement::Diverged { .. })
    }

    /// Whether its state is nothing to show to clients, or to give to other servers.
    pub(super) fn is_in_doubt(&self) -> bool {
        *self.checks.agreement() != Agreement::Sound
    }

    /// Never executed: it goes no further.
    pub(super) fn not_serving(&self) -> ReplyError {
        ReplyError::NotServing(self.checks.agreement().to_string())
    }

    /// An entry that asks for it was applied.
    pub(super) fn checked(&mut self, position: Position, digest: u64) {
        self.checks.applied(Report { position, digest }, self.uptime_ms);
    }

    pub(super) fn receive_report(&mut self, from: NodeId, report: Report, asks: bool, out: &mut Outbox) {
        let council = Council { own: out.id, membership: self.node.membership() };
        if let Some(Report { position, digest }) = self.checks.heard(from, report, asks, council) {
            out.send(from, PeerMessage::CheckReport { position, digest, asks: false });
        }
    }

    /// The leader asks all to compare themselves, where anything was applied since they last did.
    pub(super) fn propose_check(&mut self, out: &mut Outbox) {
        let council = Council { own: out.id, membership: self.node.membership() };
        let is_due = self.checks.is_due(self.uptime_ms, self.machine.applied(), council);
        if !self.is_leader() || !is_due || self.machine.limits().is_none() {
            return;
        }
        let payload = entry::batch(self.next_stamp(), &[entry::check()]);
        if let Some(Ok(_)) = self.step(Input::Propose { payload }, out) {
            self.checks.proposed(self.uptime_ms);
            self.time_entry_ms = self.uptime_ms;
        }
    }

    /// Tells the others what is new here, and draws the consequences of what they have told.
    pub(super) fn compare(&mut self, out: &mut Outbox) {
        if Bug::ReportsLaterState.is_put_back() {
            self.checks.spoil_untold(self.machine.digest());
        }
        let council = Council { own: out.id, membership: self.node.membership() };
        for (to, Report { position, digest }, asks) in self.checks.tell_next(self.uptime_ms, council) {
            out.send(to, PeerMessage::CheckReport { position, digest, asks });
        }
        match self.checks.judge(self.uptime_ms, council) {
            None => {}
            Some(Agreement::Sound) => {
                let text =
                    "a majority of the servers has the same state as this one: it serves again".to_owned();
                out.actions.notices.push(Notice::Info(text));
            }
            Some(agreement @ (Agreement::Undecided { .. } | Agreement::Diverged { .. })) => {
                out.actions.notices.push(Notice::Warn(format!("NOT SERVING: {agreement}")));
                self.stop_serving(out);
            }
        }
    }

    /// Nobody is answered from this state any more. What was sent may take effect on the others, and whoever waits for it
    /// is told just that; what was not sent is gone.
    fn stop_serving(&mut self, out: &mut Outbox) {
        let why = self.not_serving();
        self.answer_all(&why, out);
        if self.has_diverged() {
            self.staged.clear();
            self.staged_bytes = 0;
            self.step(Input::Withdraw, out);
        }
    }

    /// Whoever waits for an answer is told this, or that what was sent is in doubt.
    fn answer_all(&mut self, why: &ReplyError, out: &mut Outbox) {
        self.gateway.stop_serving(why);
        for WaitingRead { connection, tag, .. } in self.reads.take_older(u64::MAX) {
            self.backups.forget((connection, tag));
            out.actions.answers.push(Answer { connection, tag, reply: Reply::Error(why.clone()) });
        }
    }

    /// This server takes part no more: its clients hear why, and nobody else hears anything.
    pub(crate) fn silence(&mut self, why: &str, out: &mut Outbox) {
        let why = ReplyError::NotServing(why.to_owned());
        self.answer_all(&why, out);
        for (connection, tag) in self.backups.take_waiting() {
            out.actions.answers.push(Answer { connection, tag, reply: Reply::Error(why.clone()) });
        }
        out.actions.answers.append(&mut self.gateway.answers);
    }

    #[cfg(feature = "sabotage")]
    pub(crate) fn machine_mut(&mut self) -> &mut crate::machine::Machine {
        &mut self.machine
    }
}
