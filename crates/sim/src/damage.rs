//! Damage that a cluster survives while it hits fewer than half of the servers: folders that are lost, servers that
//! do not come back; and syncs that fail, after which a process must end. Knows nothing of what is stored.

use quorate_storage::SimDisk;

use crate::host::Host;
use crate::invariants::Violation;
use crate::network::HostIndex;
use crate::schedule::MS;
use crate::world::{Happening, Phase, World};

impl World {
    /// Servers that are not lost.
    pub(crate) fn living(&self) -> impl Iterator<Item = (HostIndex, &Host)> {
        self.hosts.iter().enumerate().filter(|(_, host)| !host.is_lost)
    }

    /// Whether one more may be lost.
    fn budget_is_left(&self) -> bool {
        (self.hosts.len() - self.living().count() + 1) * 2 < self.hosts.len()
    }

    /// All disks imitate the bug of the options, if there is one.
    pub(crate) fn put_disk_bug_back(&self) {
        for host in &self.hosts {
            if let Some(bug) = self.options.faults.disk_bug {
                host.disk.put_back(bug);
            }
        }
    }

    pub(crate) fn fail_sync(&mut self, host: HostIndex) {
        if self.hosts[host].process.is_some() {
            self.hosts[host].disk.fail_next_sync();
            self.hosts[host].sync_fails = true;
            self.line(format_args!("‼ the next sync of n{} fails", host + 1));
        }
    }

    /// What is on its disk is not known any more, so the process has ended.
    pub(crate) fn stop_after_failed_sync(&mut self, host: HostIndex) -> Result<(), Violation> {
        self.crash(host, false);
        let down = if self.phase == Phase::Faulty { self.down_for() } else { 10 * MS };
        self.schedule.after(down, Happening::Start { host });
        Ok(())
    }

    /// A member of the cluster loses its folder and starts on an empty one.
    pub(crate) fn wipe(&mut self, host: HostIndex) {
        let is_member =
            self.hosts[host].process.as_ref().is_some_and(|process| process.replica.raft().is_some());
        if !is_member || self.hosts[host].is_lost || !self.budget_is_left() {
            return;
        }
        self.crash(host, true);
        self.hosts[host].disk = SimDisk::new();
        self.put_disk_bug_back();
        self.hosts[host].is_lost = true;
        self.invariants.ledger.wiped(host);
        self.line(format_args!("‼ n{} loses its folder", host + 1));
        let down = self.down_for();
        self.schedule.after(down, Happening::Start { host });
    }

    /// The faults end, and some do not come back.
    pub(crate) fn lose_for_good(&mut self) {
        for _ in 0..self.options.faults.lost {
            let host = self.chance.faults.below(self.hosts.len() as u64) as HostIndex;
            if !self.hosts[host].is_lost && self.budget_is_left() {
                self.crash(host, true);
                (self.hosts[host].is_lost, self.hosts[host].is_gone) = (true, true);
                self.line(format_args!("‼ n{} does not come back", host + 1));
            }
        }
    }
}
