//! The disk's side of the shell: all writes that wait are appended and synced together; promises leave after the
//! sync, never before; a crash may strike around and inside each operation.

use std::fmt;

use quorate_replica::disk_queue::NoRoom;
use quorate_replica::replica::{DiskSpace, DiskWrite, Event};
use quorate_storage::{Disk, WriteError, anew, identity};

use crate::host::Host;
use crate::invariants::Violation;
use crate::network::HostIndex;
use crate::said::Span;
use crate::schedule::{MS, Micros};
use crate::world::{Happening, Internal, World};

/// Milliseconds after which writes that have found no room are tried again.
const AGAIN_MS: u64 = 100;
/// How long a disk is idle before the log's synced end is marked.
const IDLE_MS: u64 = 10;

impl World {
    /// How long the next sync of a server takes.
    pub(crate) fn sync_delay(&mut self, host: HostIndex) -> Micros {
        let options = &self.options.host;
        let is_slow = self.now() < self.hosts[host].slow_until || self.chance.disks.chance(options.slow_sync);
        if is_slow {
            return options.sync_slow;
        }
        self.chance.disks.between(options.sync_min, options.sync_max)
    }

    pub(crate) fn queue_writes(&mut self, host: HostIndex, writes: Vec<DiskWrite>) -> Result<(), Violation> {
        let Some(process) = self.hosts[host].process.as_mut() else { return Ok(()) };
        writes.into_iter().for_each(|write| process.queue.push(write));
        self.disk_turn(host)
    }

    /// If the disk is free, it takes all that waits.
    fn disk_turn(&mut self, host: HostIndex) -> Result<(), Violation> {
        let Some(process) = self.hosts[host].process.as_mut() else { return Ok(()) };
        if !process.syncing.is_empty() || process.queue.is_empty() {
            return Ok(());
        }
        match process.queue.append(&mut process.wal) {
            Ok(appended) => process.syncing = appended,
            Err(error) => return self.disk_failed(host, &error),
        }
        process.disk_turns += 1;
        if let Some(NoRoom { needed, free }) = process.queue.no_room() {
            self.counts.held += 1;
            self.line(format_args!("n{} ⇓ has no room for {needed} bytes, {free} are free", host + 1));
            self.try_again_later(host);
        }
        if self.hosts[host].process.as_ref().is_none_or(|process| process.syncing.is_empty()) {
            return self.compact(host);
        }
        if self.trace.has_all() {
            let process = self.hosts[host].process.as_ref().expect("checked above");
            let writes = spans(&process.syncing);
            self.line(format_args!("n{} ⇓ {writes}", host + 1));
        }
        let delay = self.sync_delay(host);
        self.inside_after(host, delay, Internal::Synced);
        Ok(())
    }

    /// Writes that find no room are held, and tried again.
    fn try_again_later(&mut self, host: HostIndex) {
        let Some(process) = self.hosts[host].process.as_mut() else { return };
        if !std::mem::replace(&mut process.is_retrying, true) {
            self.inside_after(host, AGAIN_MS * MS, Internal::Room);
        }
    }

    pub(crate) fn try_again(&mut self, host: HostIndex) -> Result<(), Violation> {
        self.draw_crash_at_an_operation(host);
        let Some(process) = self.hosts[host].process.as_mut() else { return Ok(()) };
        process.is_retrying = false;
        self.disk_turn(host)
    }

    /// A server is told of the room on its disk while there is little, and once more when there is enough again.
    pub(crate) fn look_at_room(&mut self, host: HostIndex) {
        let Host { process: Some(process), disk, is_full, .. } = &mut self.hosts[host] else { return };
        let Ok(free_bytes) = disk.free_bytes() else { return };
        if !std::mem::replace(&mut process.is_told_of_room, *is_full) && !*is_full {
            return;
        }
        let (held_bytes, is_held) = (process.queue.held_bytes(), process.queue.no_room().is_some());
        self.give(host, Event::DiskSpace(DiskSpace { free_bytes, held_bytes, is_held }));
    }

    pub(crate) fn synced(&mut self, host: HostIndex) -> Result<(), Violation> {
        self.draw_crash_at_an_operation(host);
        let Some(process) = self.hosts[host].process.as_mut() else { return Ok(()) };
        if let Err(error) = process.wal.sync() {
            return self.disk_failed(host, &error);
        }
        let writes = std::mem::take(&mut process.syncing);
        process.disk_turns += 1;
        let turn = process.disk_turns;
        let last = writes.last().map(|write| write.write);
        last.into_iter().for_each(|last| self.invariants.synced(host, last));
        if self.crash_here() {
            return self.crash_at_effect(host);
        }
        self.compact(host)?;
        if self.trace.is_on() {
            self.line(format_args!("n{} ⇩ {}", host + 1, spans(&writes)));
        }
        for write in writes {
            self.send_all(host, write.send_after)?;
        }
        if let Some(last) = last {
            self.give(host, Event::Persisted(last));
        }
        self.inside_after(host, IDLE_MS * MS, Internal::Idle { turn });
        self.disk_turn(host)
    }

    pub(crate) fn idle(&mut self, host: HostIndex, turn: u64) -> Result<(), Violation> {
        let prepares = self.options.host.prepares_segments;
        let Some(process) = self.hosts[host].process.as_mut() else { return Ok(()) };
        if process.disk_turns != turn || !process.syncing.is_empty() {
            return Ok(());
        }
        let mut done = process.wal.mark_synced();
        if prepares {
            done = done.and_then(|()| match process.wal.prepare_next() {
                Err(WriteError::Full { .. }) => Ok(()),
                other => other,
            });
        }
        done.or_else(|error| self.disk_failed(host, &error))
    }

    pub(crate) fn identity_due(&mut self, host: HostIndex) -> Result<(), Violation> {
        self.draw_crash_at_an_operation(host);
        let Some(process) = self.hosts[host].process.as_mut() else { return Ok(()) };
        let Some(identity) = process.storing.take() else { return Ok(()) };
        if let Err(error) = identity::store(&self.hosts[host].disk, &identity) {
            if error.is_full() {
                self.hosts[host].process.as_mut().expect("as above").storing = Some(identity);
                self.inside_after(host, AGAIN_MS * MS, Internal::IdentityDue);
                return Ok(());
            }
            return self.disk_failed(host, &error);
        }
        self.line(format_args!("n{} ⇩ identity", host + 1));
        self.give(host, Event::IdentityStored);
        Ok(())
    }

    pub(crate) fn starts_due(&mut self, host: HostIndex) -> Result<(), Violation> {
        self.draw_crash_at_an_operation(host);
        let Some(process) = self.hosts[host].process.as_mut() else { return Ok(()) };
        let Some(starts) = process.storing_starts.take() else { return Ok(()) };
        if let Err(error) = starts.store(&self.hosts[host].disk) {
            if error.is_full() {
                self.hosts[host].process.as_mut().expect("as above").storing_starts = Some(starts);
                self.inside_after(host, AGAIN_MS * MS, Internal::StartsDue);
                return Ok(());
            }
            return self.disk_failed(host, &error);
        }
        if self.trace.has_all() {
            self.line(format_args!("n{} ⇩ starts", host + 1));
        }
        self.give(host, Event::StartsStored);
        Ok(())
    }

    /// A folder begins anew, with a process of its own.
    pub(crate) fn anew_due(&mut self, host: HostIndex) -> Result<(), Violation> {
        self.draw_crash_at_an_operation(host);
        let Some(process) = self.hosts[host].process.as_mut() else { return Ok(()) };
        let Some(identity) = process.beginning.take() else { return Ok(()) };
        if let Err(error) = anew::decide(&self.hosts[host].disk, &identity) {
            if error.is_full() {
                self.hosts[host].process.as_mut().expect("as above").beginning = Some(identity);
                self.inside_after(host, AGAIN_MS * MS, Internal::AnewDue);
                return Ok(());
            }
            return self.disk_failed(host, &error);
        }
        self.line(format_args!("n{} ⇩ its folder begins anew", host + 1));
        self.crash(host, false);
        self.invariants.ledger.wiped(host);
        self.schedule.after(10 * MS, Happening::Start { host });
        Ok(())
    }

    /// A disk said no: that is a crash if we ordered one, and a bug of the code under test if not.
    pub(crate) fn disk_failed(&mut self, host: HostIndex, error: &dyn fmt::Display) -> Result<(), Violation> {
        if self.hosts[host].disk.is_crashed() {
            return self.crash_at_effect(host);
        }
        if self.hosts[host].sync_fails {
            return self.stop_after_failed_sync(host);
        }
        // A process that runs goes on without room; one that starts may need some.
        if self.hosts[host].is_full && self.hosts[host].process.is_none() {
            return self.stop_without_room(host);
        }
        Err(Violation { invariant: "disk", story: format!("n{}: {error}", host + 1) })
    }

    /// Sometimes one of the next operations of a disk is cut in its middle.
    pub(crate) fn draw_crash_at_an_operation(&mut self, host: HostIndex) {
        if self.crash_here() {
            let disk = &self.hosts[host].disk;
            let operation = disk.operations() + self.chance.disks.between(1, 6);
            disk.crash_at(operation, self.chance.disks.draw());
        }
    }

    /// Whether a crash strikes at this boundary between two effects.
    pub(crate) fn crash_here(&mut self) -> bool {
        let probability = self.options.host.crash_at_effect;
        self.chance.disks.chance(probability)
    }

    pub(crate) fn crash_at_effect(&mut self, host: HostIndex) -> Result<(), Violation> {
        let power = self.chance.disks.chance(self.options.host.crash_is_power);
        self.crash(host, power);
        let down = self.down_for();
        self.schedule.after(down, Happening::Start { host });
        Ok(())
    }
}

fn spans(writes: &[DiskWrite]) -> String {
    writes.iter().map(|write| Span(write).to_string()).collect::<Vec<_>>().join(", ")
}
