//! Whether there is room for writes that make the state grow. Decided by the leader before it proposes, never at apply:
//! servers with different limits must not come to different states. Knows nothing of who waits for a refusal.
//!
//! A write that was given a sequence cannot be left out of the log, or its gateway's order would have a hole. So the leader
//! puts [`LoggedWrite::Refused`] in its place: the sequence is used, every server answers it alike, and a copy of the
//! write that comes later is a repeat.

use std::collections::VecDeque;

use bytes::Bytes;
use quorate_raft::{Index, NodeId};

use super::Member;
use crate::command::{Reply, ReplyError};
use crate::entry::{self, Item, LoggedWrite, REFUSED_PLAIN_BYTES_MAX, Run, RunHead};
use crate::gateway::RUN_BYTES_MAX;
use crate::machine::Machine;
use crate::replica::WRITE_BYTES_MAX;
use crate::sabotage::Bug;
use crate::shortage::Shortage;

/// Bytes of the smallest write that can be refused: an append to the empty key.
const WRITE_BYTES_MIN: usize = 1 + 4 + 4;
/// Bytes of what is proposed, where all of it is refused.
const REFUSED_BATCH_BYTES_MAX: usize = RUN_BYTES_MAX / WRITE_BYTES_MIN * REFUSED_PLAIN_BYTES_MAX;

const _: () = assert!(REFUSED_BATCH_BYTES_MAX < WRITE_BYTES_MAX + RUN_BYTES_MAX);

/// What this server lets the state grow to.
#[derive(Debug)]
pub(super) struct Room {
    /// `--memory-max`, in bytes; 0 for none.
    memory_bytes_max: u64,
    /// By how much the entries proposed here will make the state grow, of those that are not applied.
    growing: VecDeque<(Index, u64)>,
    growing_bytes: u64,
}

impl Room {
    pub(super) fn new(memory_bytes_max: u64) -> Self {
        Self { memory_bytes_max, growing: VecDeque::new(), growing_bytes: 0 }
    }

    /// The limit, in bytes; 0 for none.
    pub(super) fn memory_bytes_max(&self) -> u64 {
        self.memory_bytes_max
    }

    /// This entry was proposed.
    fn proposed(&mut self, index: Index, growth: u64) {
        if growth > 0 {
            self.growing.push_back((index, growth));
            self.growing_bytes += growth;
        }
    }

    /// All up to here is applied, and counted in the state.
    pub(super) fn applied(&mut self, index: Index) {
        while let Some((_, growth)) = self.growing.pop_front_if(|(proposed, _)| *proposed <= index) {
            self.growing_bytes -= growth;
        }
    }

    /// What was proposed here may never be committed.
    pub(super) fn forget_proposed(&mut self) {
        self.growing.clear();
        self.growing_bytes = 0;
    }

    /// Whether the state may grow by `needed`, behind writes that make it grow by `before`.
    fn check(&self, machine: &Machine, needed: u64, before: u64) -> Result<(), Shortage> {
        let used = machine.memory().total() + self.growing_bytes + before;
        if self.memory_bytes_max > 0 && used + needed > self.memory_bytes_max {
            return Err(Shortage::Memory { needed, used, limit: self.memory_bytes_max });
        }
        Ok(())
    }
}

/// Whoever judges the writes of one moment.
struct Judge<'a> {
    member: &'a Member,
    /// The disk that nothing can be committed without, and that has no room.
    disk: Option<Shortage>,
    /// By how much the writes that were let pass make the state grow.
    growth: u64,
}

impl Member {
    /// The answer to a write that was not sent yet and would be refused: it need not go through the log for that. A client's
    /// numbered write must: another of its sends may be on its way, and what is recorded first is the answer to both.
    pub(super) fn refusal(&self, write: &LoggedWrite, id: NodeId) -> Option<Reply> {
        if matches!(write, LoggedWrite::Once { .. }) {
            return None;
        }
        let shortage = self.judge(id)?.admit(write).err()?;
        Some(Reply::Error(ReplyError::Short(Box::new(shortage))))
    }

    /// What was proposed at `index` will make the state grow.
    pub(super) fn note_growth(&mut self, index: Index, growth: u64) {
        if index > self.machine.applied() {
            self.room.proposed(index, growth);
        }
    }

    /// The items as they may be proposed, each with refusals in the place of what there is no room for, and by how much
    /// they make the state grow.
    pub(super) fn admitted(&self, items: Vec<Bytes>, id: NodeId) -> (Vec<Bytes>, u64) {
        let Some(mut judge) = self.judge(id) else { return (items, 0) };
        let admitted = items.into_iter().filter_map(|items| judge.admit_items(items)).collect();
        (admitted, judge.growth)
    }

    /// `None` where nothing can be refused. Of memory the leader alone has a say; of disks, whoever was told.
    fn judge(&self, id: NodeId) -> Option<Judge<'_>> {
        let leader = self.node.leader()?;
        let disk = self.disks.shortage(id, leader, self.node.membership());
        let is_limited = disk.is_some() || self.is_leader() && self.room.memory_bytes_max > 0;
        is_limited.then_some(Judge { member: self, disk, growth: 0 })
    }
}

impl Judge<'_> {
    fn admit(&mut self, write: &LoggedWrite) -> Result<(), Shortage> {
        let Member { room, machine, .. } = self.member;
        let needed = machine.growth(write);
        // What does not grow is how one gets out of a shortage.
        if needed == 0 {
            return Ok(());
        }
        if let Some(disk) = &self.disk {
            return Err(disk.clone());
        }
        if self.member.is_leader() {
            room.check(machine, needed, self.growth)?;
        }
        self.growth += needed;
        Ok(())
    }

    fn admit_items(&mut self, bytes: Bytes) -> Option<Bytes> {
        let items = entry::parse_items(&bytes).expect("items that were read before they were staged");
        let mut has_refused = false;
        let mut admitted = Vec::with_capacity(items.len());
        for item in items {
            admitted.push(match item {
                Item::Run(run) => Item::Run(self.admit_run(run, &mut has_refused)),
                other @ (Item::OpenGateway { .. } | Item::Check) => other,
            });
        }
        if !has_refused {
            return Some(bytes);
        }
        let laid_out: Vec<Bytes> = admitted.iter().map(lay_out).collect();
        let laid_out = Bytes::from(laid_out.concat());
        // No gateway has as many writes in one run; whoever sends this has to send less.
        (laid_out.len() <= WRITE_BYTES_MAX + RUN_BYTES_MAX).then_some(laid_out)
    }

    fn admit_run(&mut self, mut run: Run, has_refused: &mut bool) -> Run {
        let ran = self.member.machine.sessions().gateway_last(run.session).unwrap_or_default();
        let mut seq = run.first;
        run.writes.retain_mut(|write| {
            // A repeat is skipped, whatever it is.
            let is_repeat = seq <= ran;
            seq.0 += 1;
            if is_repeat {
                return true;
            }
            match self.admit(write) {
                Ok(()) => true,
                Err(shortage) => {
                    *has_refused = true;
                    *write = write.refused(shortage);
                    Bug::LeavesRefusedOut.spoils(true, || false)
                }
            }
        });
        run
    }
}

fn lay_out(item: &Item) -> Bytes {
    match item {
        Item::Check => entry::check(),
        Item::OpenGateway { node, start, nonce } => entry::open_gateway(*node, *start, *nonce),
        Item::Run(Run { session, attempt, acknowledged, first, writes }) => {
            let (session, attempt, acknowledged, first) = (*session, *attempt, *acknowledged, *first);
            let writes: Vec<Bytes> = writes.iter().map(entry::encode_write).collect();
            entry::run(RunHead { session, attempt, acknowledged, first }, writes.iter())
        }
    }
}
