//! Servers that are told to stop: they hand over, finish what their clients have under way, and end. Knows nothing of how.

use quorate_replica::Event;
use quorate_replica::command::{Reply, ReplyError};
use quorate_replica::replica::Left;

use crate::invariants::Violation;
use crate::network::HostIndex;
use crate::world::World;

/// Of those that are told to stop, so many lead; the others are anybody.
const LEADERS: f64 = 0.7;

impl World {
    pub(crate) fn tell_to_stop(&mut self, host: HostIndex) {
        let leader = self.leading().filter(|_| self.chance.faults.chance(LEADERS));
        let host = leader.unwrap_or(host);
        let Some(process) = self.hosts[host].process.as_mut().filter(|process| !process.is_leaving) else {
            return;
        };
        process.is_leaving = true;
        self.mark(Some(host), format!("n{} is told to stop", host + 1));
        self.give(host, Event::Leave);
    }

    /// After a step, and after all of its answers have left: the process ends if it may.
    ///
    /// # Errors
    /// If it says that nothing is under way, and somebody waits.
    pub(crate) fn end_if_left(&mut self, host: HostIndex, left: Option<Left>) -> Result<(), Violation> {
        let (Some(process), Some(left)) = (&self.hosts[host].process, left) else { return Ok(()) };
        // What clients have said, and was not stepped yet, is answered first.
        if left == Left::InOrder && !process.backlog.is_empty() {
            return Ok(());
        }
        if left == Left::InOrder {
            let waits = process.accepted.iter().find(|(_, accepted)| accepted.answered < accepted.asked);
            if let Some((connection, accepted)) = waits {
                let story = format!(
                    "n{} has left, and has not answered #{} of connection {connection}",
                    host + 1,
                    accepted.answered + 1
                );
                return Err(Violation { invariant: "nobody is left waiting", story });
            }
            self.counts.left += 1;
        }
        self.line(format_args!("n{} has left ({left:?})", host + 1));
        self.crash_for_a_while(host, false);
        Ok(())
    }

    /// Counts what a client should not hear of a cluster that it can reach, once all servers take part.
    pub(crate) fn count_error(&mut self, reply: &Reply) {
        let is_of_servers = matches!(
            reply,
            Reply::Error(
                ReplyError::ClusterDown
                    | ReplyError::InDoubt
                    | ReplyError::TooSlow { .. }
                    | ReplyError::NotServing(_)
            )
        );
        if is_of_servers && self.hosts.iter().all(|host| host.was_member) {
            self.counts.errors += 1;
        }
    }
}
