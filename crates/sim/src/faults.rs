//! Faults that begin by themselves, each kind in its own rhythm: crashes, pauses, partitions, clocks, slow disks,
//! broken connections. All of it is drawn from the seed; none begins once the fault phase is over.

use quorate_raft::Role;

use crate::chronicle::Kind;
use crate::clients::Client;
use crate::invariants::Violation;
use crate::network::HostIndex;
use crate::schedule::{MS, Micros};
use crate::world::{Happening, Phase, World};

/// What can begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Of one server.
    ProcessCrash,
    /// Of one server.
    PowerCrash,
    /// Everybody at one instant.
    AllCrash,
    /// Whoever leads.
    LeaderCrash,
    /// A server is told to stop.
    Leave,
    /// A server that has just started crashes again.
    CrashAgain {
        /// Which.
        host: HostIndex,
        /// In which life.
        life: u64,
    },
    /// A server stands still.
    Pause,
    /// Servers cannot reach each other.
    Partition,
    /// A partition that comes and goes.
    Flap {
        /// How often still.
        left: u64,
    },
    /// A link breaks and is there again.
    LinkReset,
    /// A wall clock jumps.
    ClockJump,
    /// A disk is slow for a while.
    SlowDisk,
    /// A processor is slow for a while.
    SlowNode,
    /// A disk is full for a while.
    FullDisk,
    /// And has room again.
    FreeDisk {
        /// Which.
        host: HostIndex,
        /// The how manieth time it was full.
        time: u64,
    },
    /// A bit turns.
    Rot,
    /// A client's connection breaks.
    ConnectionCut,
    /// A client dies, and another takes its place.
    ClientDeath,
    /// A sync fails.
    SyncFailure,
    /// A folder is lost.
    Wipe,
    /// A folder is put back to what it was.
    PutBack,
    /// The members are to change.
    Change,
    /// Another server is to lead.
    Transfer,
}

impl World {
    fn every(&self, fault: Fault) -> Option<Micros> {
        let faults = &self.options.faults;
        match fault {
            Fault::ProcessCrash => faults.process_crash,
            Fault::PowerCrash => faults.power_crash,
            Fault::AllCrash => faults.all_crash,
            Fault::LeaderCrash => faults.leader_crash,
            Fault::Leave => faults.leave,
            Fault::Pause => faults.pause,
            Fault::Partition => faults.partition,
            Fault::LinkReset => faults.link_reset,
            Fault::ClockJump => faults.clock_jump,
            Fault::SlowDisk => faults.slow_disk,
            Fault::SlowNode => faults.slow_node,
            Fault::FullDisk => faults.full_disk,
            Fault::Rot => faults.rot,
            Fault::ConnectionCut => self.options.workload.connection_cut,
            Fault::ClientDeath => self.options.workload.death,
            Fault::SyncFailure => faults.sync_failure,
            Fault::Wipe => faults.wipe,
            Fault::PutBack => faults.put_back,
            Fault::Change => faults.change,
            Fault::Transfer => faults.transfer,
            // These follow from others.
            Fault::CrashAgain { .. } | Fault::Flap { .. } | Fault::FreeDisk { .. } => None,
        }
    }

    pub(crate) fn schedule_faults(&mut self) {
        for fault in [
            Fault::ProcessCrash,
            Fault::PowerCrash,
            Fault::AllCrash,
            Fault::LeaderCrash,
            Fault::Leave,
            Fault::Pause,
            Fault::Partition,
            Fault::LinkReset,
            Fault::ClockJump,
            Fault::SlowDisk,
            Fault::SlowNode,
            Fault::FullDisk,
            Fault::Rot,
            Fault::ConnectionCut,
            Fault::ClientDeath,
            Fault::SyncFailure,
            Fault::Wipe,
            Fault::PutBack,
            Fault::Change,
            Fault::Transfer,
        ] {
            self.schedule_fault(fault);
        }
    }

    fn schedule_fault(&mut self, fault: Fault) {
        if let Some(every) = self.every(fault) {
            let delay = self.chance.faults.between(every / 4, every * 7 / 4);
            self.schedule.after(delay, Happening::Fault(fault));
        }
    }

    pub(crate) fn strike(&mut self, fault: Fault) -> Result<(), Violation> {
        if self.phase != Phase::Faulty {
            return Ok(());
        }
        self.schedule_fault(fault);
        self.counts.faults += 1;
        let host = self.chance.faults.below(self.hosts.len() as u64) as HostIndex;
        match fault {
            Fault::ProcessCrash => self.crash_for_a_while(host, false),
            Fault::PowerCrash => self.crash_for_a_while(host, true),
            Fault::AllCrash => self.crash_all(),
            Fault::LeaderCrash => self.crash_leader(),
            Fault::Leave => self.tell_to_stop(host),
            Fault::CrashAgain { host, life } if self.hosts[host].life == life => {
                let power = self.chance.faults.chance(0.5);
                self.crash_for_a_while(host, power);
            }
            Fault::CrashAgain { .. } => {}
            Fault::Pause => self.pause(host),
            Fault::Partition => self.begin_partition(),
            Fault::Flap { left } => self.flap(left),
            Fault::LinkReset => self.reset_link(host),
            Fault::ClockJump => self.jump(host),
            Fault::SlowDisk => {
                let until = self.now() + self.down_for();
                self.hosts[host].slow_until = until;
                self.band(
                    Kind::SlowDisk,
                    Some(host),
                    format!("the disk of n{} is slow", host + 1),
                    Some(until),
                );
            }
            Fault::SlowNode => {
                self.hosts[host].slow_steps_until = self.now() + self.down_for();
                self.mark(Some(host), format!("the processor of n{} is slow", host + 1));
            }
            Fault::FullDisk => self.fill_disk(host),
            Fault::FreeDisk { host, time } => self.free_disk(host, time),
            Fault::Rot => self.turn_a_bit(host),
            Fault::ConnectionCut => self.cut_connection(),
            Fault::ClientDeath => self.kill_client(),
            Fault::SyncFailure => self.fail_sync(host),
            Fault::Wipe => self.wipe(host),
            Fault::PutBack => self.put_back(host),
            Fault::Change => self.operator_changes()?,
            Fault::Transfer => self.operator_transfers()?,
        }
        Ok(())
    }

    /// How long something stays broken.
    pub(crate) fn down_for(&mut self) -> Micros {
        self.chance.faults.between(self.options.faults.lasts_min, self.options.faults.lasts_max)
    }

    // --- crashes ---

    /// A process is gone, with the power or without.
    pub(crate) fn crash(&mut self, host: HostIndex, power: bool) {
        let had_process = self.hosts[host].process.take().is_some();
        self.invariants.steady.disturbed();
        if power {
            let seed = self.chance.disks.draw();
            // The extremes deserve more than their share: nothing survives, everything survives.
            let seed = if self.chance.disks.chance(0.3) { seed % 2 } else { seed };
            self.hosts[host].disk.crash_power(seed);
        } else {
            self.hosts[host].disk.crash_process();
        }
        self.hosts[host].announced = None;
        self.hosts[host].lost_power = power;
        self.hosts[host].sync_fails = false;
        self.hosts[host].life += 1;
        self.counts.crashes += u64::from(had_process);
        self.break_all_wires_of(host, power);
        if had_process && !power {
            self.close_links(host);
        }
        let what = if power { "power" } else { "its process" };
        let now = self.now();
        self.chronicle.end(Kind::Leader, Some(host), now);
        self.chronicle.end(Kind::Paused, Some(host), now);
        self.band(Kind::Down, Some(host), format!("n{} loses {what}", host + 1), None);
    }

    pub(crate) fn crash_for_a_while(&mut self, host: HostIndex, power: bool) {
        if self.hosts[host].process.is_none() {
            return;
        }
        self.crash(host, power);
        // One that was told to stop may be done with it only after all faults have ended.
        let down = if self.phase == Phase::Faulty { self.down_for() } else { 10 * MS };
        self.schedule.after(down, Happening::Start { host });
    }

    fn crash_all(&mut self) {
        let power = self.chance.faults.chance(0.5);
        for host in 0..self.hosts.len() {
            self.crash_for_a_while(host, power);
        }
    }

    /// Whoever leads in the highest term.
    pub(crate) fn leading(&self) -> Option<HostIndex> {
        let leads = |host: HostIndex| {
            let node = self.hosts[host].process.as_ref()?.replica.raft()?;
            (node.role() == Role::Leader).then(|| (node.term(), host))
        };
        (0..self.hosts.len()).filter_map(leads).max().map(|(_, leader)| leader)
    }

    fn crash_leader(&mut self) {
        if let Some(leader) = self.leading() {
            let power = self.chance.faults.chance(0.5);
            self.crash_for_a_while(leader, power);
        }
    }

    /// A process has started; in a crash loop it does not live long.
    pub(crate) fn may_crash_again(&mut self, host: HostIndex) {
        if self.phase == Phase::Faulty && self.chance.faults.chance(self.options.faults.crash_again) {
            let delay = self.chance.faults.between(1, 400_000);
            let life = self.hosts[host].life;
            self.schedule.after(delay, Happening::Fault(Fault::CrashAgain { host, life }));
        }
    }

    // --- time ---

    fn pause(&mut self, host: HostIndex) {
        let end = self.now() + self.chance.faults.between(50, 4_000) * MS;
        let end = end.min(self.options.faults_last);
        self.hosts[host].asleep_until = end;
        self.band(Kind::Paused, Some(host), format!("n{} stands still", host + 1), Some(end));
    }

    fn jump(&mut self, host: HostIndex) {
        let most = self.options.faults.clock_jump_ms;
        let by = self.chance.faults.between(0, 2 * most) as i64 - most as i64;
        self.hosts[host].clock.offset_ms += by;
        self.mark(Some(host), format!("the clock of n{} jumps by {by} ms", host + 1));
    }

    // --- network ---

    fn begin_partition(&mut self) {
        if self.hosts.len() < 2 {
            return;
        }
        if self.chance.faults.chance(0.2) {
            let left = self.chance.faults.between(3, 15);
            return self.flap(left);
        }
        let lasts = self.down_for();
        self.cut_somehow(lasts);
    }

    fn flap(&mut self, left: u64) {
        let lasts = self.chance.faults.between(20, 400) * MS;
        self.cut_somehow(lasts);
        if left > 0 {
            let pause = self.chance.faults.between(20, 400) * MS;
            self.schedule.after(lasts + pause, Happening::Fault(Fault::Flap { left: left - 1 }));
        }
    }

    /// One of the shapes: halves, one alone, one-directional, a ring in which each sees another majority, or just any
    /// links in any direction.
    fn cut_somehow(&mut self, lasts: Micros) {
        let count = self.hosts.len();
        let mut order: Vec<HostIndex> = (0..count).collect();
        self.chance.faults.shuffle(&mut order);
        let place = |host: HostIndex| order.iter().position(|other| *other == host).unwrap_or_default();
        let size = self.chance.faults.between(1, count as u64 - 1) as usize;
        let shape = self.chance.faults.below(5);
        let is_cut = |from: HostIndex, to: HostIndex| {
            let (from, to) = (place(from), place(to));
            match shape {
                0 => (from < size) != (to < size),
                1 => from == 0 || to == 0,
                2 => from < size && to >= size,
                3 => from == 0 && to == 1,
                _ => {
                    let apart = from.abs_diff(to);
                    // A ring; with three it is a chain, or nothing would be cut.
                    if count == 3 { apart > 1 } else { apart.min(count - apart) > count / 4 }
                }
            }
        };
        let mut cut: Vec<bool> = (0..count * count).map(|link| is_cut(link / count, link % count)).collect();
        let is_odd = self.chance.faults.chance(self.options.faults.odd_cuts);
        if is_odd {
            cut.iter_mut().for_each(|link| *link = self.chance.faults.chance(0.5));
        }
        let opened = self.network.cut(|from, to| cut[from * count + to]);
        self.partition += 1;
        self.counts.partitions += 1;
        let partition = self.partition;
        let names = |hosts: &[HostIndex]| {
            hosts.iter().map(|host| format!("n{}", host + 1)).collect::<Vec<_>>().join(" ")
        };
        let (near, far) = order.split_at(size);
        let text = if is_odd {
            let links = (0..count * count).filter(|link| cut[*link] && link / count != link % count);
            let links = links.map(|link| format!("n{}→n{}", link / count + 1, link % count + 1));
            format!("any links, {}", links.collect::<Vec<_>>().join(" "))
        } else {
            match shape {
                0 => format!("two groups, {} | {}", names(near), names(far)),
                1 => format!("{} alone", names(&order[..1])),
                2 => format!("{} mute towards {}", names(near), names(far)),
                3 => {
                    format!("one link, one way, {} cannot reach {}", names(&order[..1]), names(&order[1..2]))
                }
                _ => format!("a ring, each reaches its neighbours, {}", names(&order)),
            }
        };
        self.end_partition_bands();
        self.band(Kind::Partition, None, format!("partition: {text}"), None);
        self.note_cut_off(&cut);
        self.announce_links(&opened);
        self.schedule.after(lasts, Happening::Heal { partition });
    }

    pub(crate) fn end_partition(&mut self, partition: u64) {
        if partition == self.partition {
            let opened = self.network.cut(|_, _| false);
            self.end_partition_bands();
            self.line(format_args!("‼ the partition ends"));
            self.announce_links(&opened);
        }
    }

    pub(crate) fn announce_links(&mut self, opened: &[(HostIndex, HostIndex)]) {
        for (from, to) in opened {
            self.announce_link(*from, *to);
        }
    }

    fn reset_link(&mut self, host: HostIndex) {
        let peer = self.chance.faults.below(self.hosts.len() as u64) as HostIndex;
        if peer != host {
            self.network.reset(host, peer);
            self.link_down(host, peer);
            self.link_down(peer, host);
            self.mark(Some(host), format!("the link of n{} and n{} breaks", host + 1, peer + 1));
            self.announce_link(host, peer);
        }
    }

    fn kill_client(&mut self) {
        let client = self.chance.faults.below(self.clients.len() as u64) as usize;
        self.mark(None, format!("c{client} dies, and another takes its place"));
        for wire in self.wires.of_client(client) {
            self.hang_up(wire);
        }
        self.with_client(client, Client::replace);
    }

    fn cut_connection(&mut self) {
        let client = self.chance.faults.below(self.clients.len() as u64) as usize;
        for wire in self.wires.of_client(client) {
            self.mark(None, format!("connection {wire} of c{client} breaks"));
            self.break_wire(wire);
        }
    }
}
