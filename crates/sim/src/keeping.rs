//! Snapshots on a server: its keeper does one piece of work after the other, away from the steps, and the log goes only
//! behind all that was written before. A crash may strike around each piece, and inside it.

use quorate_replica::keeper::Worked;
use quorate_replica::replica::{Compaction, Event};
use quorate_replica::transfer::{SnapshotJob, SnapshotNews};

use crate::invariants::Violation;
use crate::network::HostIndex;
use crate::said::Told;
use crate::schedule::MS;
use crate::world::{Internal, World};

impl World {
    /// A replica wants something done to snapshots.
    pub(crate) fn take_jobs(&mut self, host: HostIndex, jobs: Vec<SnapshotJob>) {
        let Some(process) = self.hosts[host].process.as_mut().filter(|_| !jobs.is_empty()) else { return };
        for job in jobs {
            process.keeper.push(job);
        }
        if !std::mem::replace(&mut process.is_keeping, true) {
            self.keep_on(host);
        }
    }

    fn keep_on(&mut self, host: HostIndex) {
        let delay = self.chance.disks.between(MS / 10, 5 * MS);
        self.inside_after(host, delay, Internal::Keeping);
    }

    /// One piece of work.
    pub(crate) fn keep(&mut self, host: HostIndex) -> Result<(), Violation> {
        self.draw_crash_at_an_operation(host);
        let Some(process) = self.hosts[host].process.as_mut() else { return Ok(()) };
        let worked = match process.keeper.work() {
            Ok(worked) => worked,
            Err(error) => return self.disk_failed(host, &error),
        };
        if self.crash_here() {
            return self.crash_at_effect(host);
        }
        let Some(process) = self.hosts[host].process.as_mut() else { return Ok(()) };
        match worked {
            Worked::Idle => process.is_keeping = false,
            Worked::On => self.keep_on(host),
            Worked::Done(news) => {
                self.line(format_args!("n{} ⌸ {}", host + 1, Told(&news)));
                self.counts.snapshots += 1;
                self.counts.received += u64::from(matches!(news, SnapshotNews::Complete { .. }));
                self.give(host, Event::Snapshot(news));
                self.keep_on(host);
            }
        }
        Ok(())
    }

    /// The log is compacted once all that was handed over before is synced.
    pub(crate) fn compact_later(
        &mut self,
        host: HostIndex,
        compaction: Option<Compaction>,
    ) -> Result<(), Violation> {
        let Some(compaction) = compaction else { return Ok(()) };
        let Some(process) = self.hosts[host].process.as_mut() else { return Ok(()) };
        process.queue.compact_later(compaction);
        self.compact(host)
    }

    /// Where nothing is being synced, the log goes as far as it may.
    pub(crate) fn compact(&mut self, host: HostIndex) -> Result<(), Violation> {
        let Some(process) = self.hosts[host].process.as_mut() else { return Ok(()) };
        if !process.syncing.is_empty() {
            return Ok(());
        }
        match process.queue.compact(&mut process.wal) {
            Ok(None) => Ok(()),
            Ok(Some(through)) => {
                self.line(format_args!("n{} ⌸ the log goes up to {through}", host + 1));
                Ok(())
            }
            Err(error) => self.disk_failed(host, &error),
        }
    }
}
