//! Damage that a cluster survives while it hits fewer than half of the servers: folders that are lost, bits that turn,
//! servers that do not come back; and what any number may suffer, after which a process must end: syncs that fail;
//! and disks without room, with which it must go on.

use std::collections::BTreeSet;

use quorate_storage::identity::IDENTITY_FILE;
use quorate_storage::starts::STARTS_FILE;
use quorate_storage::{Incarnation, LogOffset, SimDisk, Starts};

use crate::faults::Fault;
use crate::host::{Amnesia, Host, node_id};
use crate::invariants::Violation;
use crate::network::HostIndex;
use crate::schedule::MS;
use crate::world::{Happening, Phase, World};

/// Whether this is the name of a complete snapshot.
fn is_complete(name: &str) -> bool {
    name.starts_with("snapshot-") && name.ends_with(".snap")
}

impl World {
    /// Servers that are not lost.
    pub(crate) fn living(&self) -> impl Iterator<Item = (HostIndex, &Host)> {
        self.hosts.iter().enumerate().filter(|(_, host)| !host.is_lost)
    }

    /// Whether this server may be hit by what it may not recover from: no member must be needed any more to found the
    /// cluster, and with this one fewer than half may have been hit of the voters of each membership that may count.
    fn may_be_lost(&self, host: HostIndex) -> bool {
        let founders = &self.hosts[..self.options.nodes as usize];
        let all_took_part = founders.iter().all(|host| host.was_member);
        let (_, membership) = self.invariants.members.committed();
        let id = node_id(host);
        let is_itself = !membership.contains(id) || self.has_seat_in(membership, id);
        all_took_part && is_itself && !self.hosts[host].is_hit() && self.members_bear(Some(host))
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
            self.mark(Some(host), format!("the next sync of n{} fails", host + 1));
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
        if !self.may_be_lost(host) {
            return;
        }
        self.crash(host, true);
        self.hosts[host].disk = SimDisk::new();
        self.put_disk_bug_back();
        self.hosts[host].copy = None;
        let incarnation = self.hosts[host].incarnation;
        self.hosts[host].amnesia = Some(Amnesia { draws: BTreeSet::new(), incarnation });
        self.hosts[host].incarnation = Incarnation::default();
        self.invariants.ledger.wiped(host);
        self.mark(Some(host), format!("n{} loses its folder", host + 1));
        let down = self.down_for();
        self.schedule.after(down, Happening::Start { host });
    }

    /// A member of the cluster starts on an older copy of its folder. Whoever is not lost has stored the process that the copy
    /// is older than, or nobody could know: that is the budget of this fault.
    pub(crate) fn put_back(&mut self, host: HostIndex) {
        let Some(copy) = &self.hosts[host].copy else { return };
        let (id, incarnation, number) = (node_id(host), copy.incarnation, copy.start_number);
        let has_stored = |other: &Host| {
            let stored = Starts::load(&other.disk.durable_image()).ok();
            stored.and_then(|starts| starts.get(id, incarnation)).is_some_and(|start| start.number >= number)
        };
        let all_know = self.living().filter(|(other, _)| *other != host).all(|(_, other)| has_stored(other));
        if !all_know || !self.may_be_lost(host) {
            return;
        }
        self.crash(host, true);
        let copy = self.hosts[host].copy.take().expect("as above");
        self.hosts[host].disk = copy.disk;
        self.put_disk_bug_back();
        self.hosts[host].is_lost = true;
        self.hosts[host].amnesia = Some(Amnesia { draws: BTreeSet::new(), incarnation });
        self.invariants.ledger.put_back(host, copy.ledger);
        self.mark(Some(host), format!("n{} has an older copy of its folder", host + 1));
        let down = self.down_for();
        self.schedule.after(down, Happening::Start { host });
    }

    /// The faults end, and some do not come back.
    pub(crate) fn lose_for_good(&mut self) {
        for _ in 0..self.options.faults.lost {
            let host = self.chance.faults.below(self.hosts.len() as u64) as HostIndex;
            if self.may_be_lost(host) {
                self.crash(host, true);
                (self.hosts[host].is_lost, self.hosts[host].is_gone) = (true, true);
                self.mark(Some(host), format!("n{} does not come back", host + 1));
            }
        }
    }

    /// A disk has room for little more than it holds.
    pub(crate) fn fill_disk(&mut self, host: HostIndex) {
        let room = self.chance.faults.between(0, 2 * self.options.host.segment_bytes);
        let Host { disk, is_full, full_times, .. } = &mut self.hosts[host];
        disk.set_capacity_bytes(Some(disk.used_bytes() + room));
        *is_full = true;
        *full_times += 1;
        let time = *full_times;
        let lasts = self.down_for();
        self.mark(Some(host), format!("the disk of n{} has room for {room} bytes", host + 1));
        self.schedule.after(lasts, Happening::Fault(Fault::FreeDisk { host, time }));
    }

    pub(crate) fn free_disk(&mut self, host: HostIndex, time: u64) {
        if self.hosts[host].full_times == time {
            self.make_room(host);
        }
    }

    /// A disk has room again.
    pub(crate) fn make_room(&mut self, host: HostIndex) {
        let Host { disk, is_full, .. } = &mut self.hosts[host];
        disk.set_capacity_bytes(None);
        if std::mem::take(is_full) {
            self.mark(Some(host), format!("the disk of n{} has room again", host + 1));
        }
    }

    /// A process that finds no room for its start has ended, and somebody starts it again.
    pub(crate) fn stop_without_room(&mut self, host: HostIndex) -> Result<(), Violation> {
        self.stop_after_failed_sync(host)
    }

    /// One bit turns, in what is known to be synced of the log, in a complete snapshot or in the identity. (That rot of a log's very last write,
    /// before anything says that it was synced, looks like a torn tail is an assumption that storage states.)
    pub(crate) fn turn_a_bit(&mut self, host: HostIndex) {
        if !self.may_be_lost(host) {
            return;
        }
        let Host { disk, process, .. } = &self.hosts[host];
        let Some(process) = process else { return };
        let claimed = process.wal.claimed();
        let files = disk.names().into_iter().filter_map(|name| {
            let size = disk.content(&name).map_or(0, |content| content.len() as u64);
            let sound = match LogOffset::segment_of(&name) {
                Some(segment) if segment > claimed.segment => 0,
                Some(segment) if segment == claimed.segment => claimed.offset,
                // What is not complete is nothing that anything rests on.
                None if name != IDENTITY_FILE && name != STARTS_FILE && !is_complete(&name) => 0,
                Some(_) | None => size,
            };
            (sound > 0).then_some((name, sound))
        });
        let mut files: Vec<(String, u64)> = files.collect();
        // Among many segments the few snapshots would hardly ever be hit.
        if self.chance.faults.chance(0.5) && files.iter().any(|(name, _)| is_complete(name)) {
            files.retain(|(name, _)| is_complete(name));
        }
        let (name, size) = &files[self.chance.faults.below(files.len() as u64) as usize];
        let (offset, bit) = (self.chance.faults.below(*size), self.chance.faults.below(8) as u8);
        disk.flip_bit(name, offset, bit);
        self.hosts[host].is_rotten = true;
        self.mark(Some(host), format!("a bit of {name} of n{} turns, in byte {offset}", host + 1));
    }

    /// A server has found its folder damaged: it must not start, and the others go on without it.
    pub(crate) fn stays_away(&mut self, host: HostIndex, why: &dyn std::fmt::Display) {
        self.line(format_args!("n{} does not start: {why}", host + 1));
        self.counts.refusals += 1;
        self.crash(host, false);
        (self.hosts[host].is_lost, self.hosts[host].is_gone) = (true, true);
    }
}
