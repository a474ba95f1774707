//! Lives of a whole folder: a log that is written, truncated, compacted and begun anew, behind snapshots that are taken
//! and received. Wherever they are cut, the folder opens, what was synced is there, and what is there was written.

use std::sync::{Arc, OnceLock};

use proptest::collection::vec;
use proptest::prelude::*;
use quorate_raft::{Entry, HardState, Index, Payload, Position, Restored};
use quorate_storage::{
    ClusterId, Disk, DiskBug, Folder, FolderError, FolderLock, Identity, Incarnation, Member, SimDisk,
    SnapshotError, SnapshotFile, SnapshotReceiver, SnapshotWriter, Wal, identity,
};

use crate::support::{Content, Dice, entry, node, open_folder, vote};

fn members() -> Vec<Member> {
    let member = |id| Member { id: node(id), incarnation: Incarnation(id * 11) };
    (1..=3).map(member).collect()
}

fn cluster() -> ClusterId {
    ClusterId::of(&members())
}

fn open(disk: &SimDisk) -> Result<Folder, FolderError> {
    open_folder(disk, 1, 99)
}

/// A founded folder with nothing in its log.
pub(crate) fn founded() -> SimDisk {
    static DISK: OnceLock<SimDisk> = OnceLock::new();
    let disk = DISK.get_or_init(|| {
        let disk = SimDisk::new();
        let founded = Identity::new(node(1), Incarnation(11)).founded(&members());
        // As founding does: an identity, a log, the founding.
        identity::store(&disk, &Identity { founding: Vec::new(), ..founded.clone() }).unwrap();
        drop(open(&disk).unwrap());
        identity::store(&disk, &founded).unwrap();
        disk.crash_power(0);
        disk
    });
    disk.fork()
}

/// The state up to a position: all entries up to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Snapshot(Vec<Entry>);

impl Snapshot {
    fn of(content: &Content, index: u64) -> Self {
        Self(content.entries[..index as usize].to_vec())
    }

    fn position(&self) -> Position {
        self.0.last().map_or(Position::ZERO, |entry| entry.position)
    }

    fn write(&self, disk: &Arc<dyn Disk>) -> Option<SnapshotFile> {
        let mut writer = SnapshotWriter::create(Arc::clone(disk), cluster(), self.position()).ok()?;
        for entry in &self.0 {
            let Payload::Data(data) = &entry.payload else { panic!("entries here hold data") };
            let term = entry.position.term.0.to_le_bytes();
            writer.block(&[&term[..], &data[..]].concat()).ok()?;
        }
        writer.finish(self.0.len() as u64).ok()
    }

    fn read(file: &SnapshotFile) -> Self {
        let mut entries = Vec::new();
        let mut reader = file.reader();
        while let Some(block) = reader.block().unwrap() {
            let (term, data) = block.split_at(8);
            let term = u64::from_le_bytes(term.try_into().unwrap());
            entries.push(entry(entries.len() as u64 + 1, term, data));
        }
        assert_eq!(reader.digest(), Some(entries.len() as u64));
        let snapshot = Self(entries);
        assert_eq!(snapshot.position(), file.position());
        snapshot
    }

    /// The bytes that another server would send.
    fn bytes(&self) -> Vec<u8> {
        let disk = SimDisk::new();
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let file = self.write(&shared).unwrap();
        disk.content(file.name()).unwrap()
    }

    /// What a log is worth behind it.
    fn under(&self, content: &Content) -> Content {
        let position = self.position();
        let holds = content.entries.iter().any(|entry| entry.position == position);
        if holds || position == Position::ZERO {
            return content.clone();
        }
        let mut hard_state = content.hard_state;
        if position.term > hard_state.term {
            hard_state = vote(position.term.0, 0);
        }
        Content { hard_state, entries: self.0.clone() }
    }
}

/// One thing that is done to a folder.
#[derive(Clone, Debug)]
enum Deed {
    Append(Option<HardState>, Vec<Entry>),
    Sync,
    Mark,
    Prepare,
    Piece,
    Take(u64),
    Compact(u64),
    Receive(Snapshot),
    /// The kill of the process, and a new one.
    Reopen,
}

/// Plans deeds that a server could do.
struct Plan {
    dice: Dice,
    content: Content,
    commit: u64,
    snapshot: u64,
}

impl Plan {
    /// One deed per number, so that a run of them can be made smaller.
    fn by(numbers: &[u16]) -> Vec<Deed> {
        let mut plan = Self { dice: Dice::new(0), content: Content::default(), commit: 0, snapshot: 0 };
        let deed = |number: &u16| {
            plan.dice = Dice::new(u64::from(*number) + 1);
            plan.next()
        };
        numbers.iter().map(deed).collect()
    }

    fn of(seed: u64, count: usize) -> Vec<Deed> {
        let mut plan = Self { dice: Dice::new(seed), content: Content::default(), commit: 0, snapshot: 0 };
        (0..count).map(|_| plan.next()).collect()
    }

    fn next(&mut self) -> Deed {
        let length = self.content.entries.len() as u64;
        match self.dice.below(20) {
            0..7 => self.append(),
            7..10 => Deed::Sync,
            10 => Deed::Mark,
            11 => Deed::Prepare,
            12 => Deed::Piece,
            // A leader applies on the acknowledgements of others, before its own sync.
            13..15 if length > self.snapshot => {
                self.commit += self.dice.below(length - self.commit + 1);
                if self.commit == self.snapshot {
                    return Deed::Sync;
                }
                self.snapshot = self.commit;
                Deed::Take(self.commit)
            }
            13..17 => Deed::Compact(self.snapshot.saturating_sub(self.dice.below(4))),
            17 => self.receive(),
            _ => Deed::Reopen,
        }
    }

    fn append(&mut self) -> Deed {
        let dice = &mut self.dice;
        let content = &mut self.content;
        let length = content.entries.len() as u64;
        let is_new = content.hard_state.term.0 == 0 || dice.below(4) == 0;
        let term = content.hard_state.term.0 + u64::from(is_new);
        let back = if is_new { dice.below(4) } else { 0 };
        let first = length.saturating_sub(back).max(self.commit) + 1;
        let count = dice.below(4);
        let entries: Vec<Entry> = (first..first + count)
            .map(|index| entry(index, term, vec![dice.below(256) as u8; 1 + dice.below(300) as usize]))
            .collect();
        let hard_state = is_new.then(|| vote(term, dice.below(4)));
        content.write(hard_state, &entries);
        Deed::Append(hard_state, entries)
    }

    /// From a leader, who has committed more than this server knows: what it holds, or something else.
    fn receive(&mut self) -> Deed {
        let length = self.content.entries.len() as u64;
        let index = self.commit + 1 + self.dice.below(6);
        let snapshot = if index <= length && self.dice.below(2) == 0 {
            Snapshot::of(&self.content, index)
        } else {
            let mut snapshot = Snapshot::of(&self.content, self.commit);
            let term = self.content.hard_state.term.0 + 1;
            snapshot.0.extend((self.commit + 1..=index).map(|index| entry(index, term, [index as u8; 90])));
            snapshot
        };
        self.commit = index;
        self.snapshot = index;
        self.content = snapshot.under(&self.content);
        Deed::Receive(snapshot)
    }
}

/// How far a life has come.
struct Life {
    /// The log, as if it were never compacted, after 0, 1, 2, … writes.
    contents: Vec<Content>,
    synced: usize,
    /// Durable.
    snapshot: Snapshot,
    /// Being written: it may be there.
    coming: Option<Snapshot>,
    receiving: Option<Snapshot>,
}

type Running = (Wal, Box<dyn FolderLock>);

impl Life {
    fn new(content: Content, snapshot: Snapshot) -> Self {
        Self { contents: vec![content], synced: 0, snapshot, coming: None, receiving: None }
    }

    /// Does the deeds until the disk crashes or fails, or to the end; says whether it is the end.
    fn run(&mut self, disk: &SimDisk, deeds: &[Deed]) -> bool {
        let Ok(folder) = open(disk) else { return false };
        let mut running = Some((folder.wal, folder.lock));
        deeds.iter().all(|deed| self.deed(disk, &mut running, deed).is_some())
    }

    fn deed(&mut self, disk: &SimDisk, running: &mut Option<Running>, deed: &Deed) -> Option<()> {
        let (wal, _) = running.as_mut().expect("put back by each deed");
        match deed {
            Deed::Append(hard_state, entries) => self.append(wal, *hard_state, entries)?,
            Deed::Sync => {
                wal.sync().ok()?;
                self.synced = self.written();
            }
            Deed::Mark => {
                wal.mark_synced().ok()?;
                self.synced = self.written();
            }
            Deed::Prepare => wal.prepare_next().ok()?,
            Deed::Piece => wal.prepare_step().ok()?,
            Deed::Take(index) => {
                let snapshot = Snapshot::of(self.last(), *index);
                self.coming = Some(snapshot.clone());
                let file = snapshot.write(&shared(disk))?;
                self.is_durable(&file);
            }
            Deed::Compact(through) => {
                wal.compact(self.snapshot.position(), Index(*through)).ok()?;
            }
            Deed::Receive(snapshot) => self.receive(disk, wal, snapshot)?,
            Deed::Reopen => {
                wal.sync().ok()?;
                self.synced = self.written();
                *running = None;
                let folder = open(disk).ok()?;
                let found = whole(&self.snapshot, &folder.restored, "reopened");
                assert_eq!(found, self.snapshot.under(self.last()));
                *running = Some((folder.wal, folder.lock));
            }
        }
        Some(())
    }

    fn append(&mut self, wal: &mut Wal, hard_state: Option<HardState>, entries: &[Entry]) -> Option<()> {
        let mut content = self.last().clone();
        content.write(hard_state, entries);
        self.contents.push(content);
        wal.append(hard_state, entries).ok()
    }

    fn receive(&mut self, disk: &SimDisk, wal: &mut Wal, snapshot: &Snapshot) -> Option<()> {
        let position = snapshot.position();
        if position.term > self.last().hard_state.term {
            // Not synced yet when the snapshot is.
            self.append(wal, Some(vote(position.term.0, 0)), &[])?;
        }
        self.receiving = Some(snapshot.clone());
        let mut receiver = SnapshotReceiver::open(shared(disk), cluster(), position).ok()?;
        let bytes = snapshot.bytes();
        for piece in bytes[receiver.received() as usize..].chunks(100) {
            receiver.chunk(receiver.received(), piece).ok()?;
        }
        self.coming = Some(snapshot.clone());
        let file = receiver.finish().ok()?;
        self.is_durable(&file);
        self.receiving = None;
        let after = snapshot.under(self.last());
        if after != *self.last() {
            self.contents.push(after);
            wal.write(None, Some(position), &[]).ok()?;
            self.synced = self.written();
        }
        Some(())
    }

    fn is_durable(&mut self, file: &SnapshotFile) {
        self.snapshot = self.coming.take().expect("set before it was written");
        assert_eq!(Snapshot::read(file), self.snapshot);
    }

    fn last(&self) -> &Content {
        self.contents.last().expect("at least one")
    }

    fn written(&self) -> usize {
        self.contents.len() - 1
    }

    /// Opens the folder, and checks what comes back; `None` if the disk crashed meanwhile.
    fn recover(&self, disk: &SimDisk, what: &str) -> Option<(Running, Content, Snapshot)> {
        let folder = match open(disk) {
            Ok(folder) => folder,
            Err(_) if disk.is_crashed() => return None,
            Err(error) => panic!("{what}: {error}"),
        };
        let snapshot = folder.snapshot.as_ref().map(Snapshot::read).unwrap_or_default();
        let may_be = self.coming.as_ref().is_some_and(|coming| *coming == snapshot);
        assert!(snapshot == self.snapshot || may_be, "{what}: another snapshot: {snapshot:?}");
        let content = whole(&snapshot, &folder.restored, what);
        let legal = &self.contents[self.synced..];
        let is_legal = legal.iter().any(|written| snapshot.under(written) == content);
        assert!(is_legal, "{what}: {content:?} behind {:?} is none of {legal:?}", snapshot.position());
        Some(((folder.wal, folder.lock), content, snapshot))
    }
}

fn shared(disk: &SimDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

/// Snapshot and log together, as a state machine would see them.
fn whole(snapshot: &Snapshot, restored: &Restored, what: &str) -> Content {
    let covered = snapshot.0.len();
    let base = restored.base.index.0 as usize;
    assert!(base <= covered, "{what}: entries are missing between the snapshot and the log");
    let at_base = base.checked_sub(1).map_or(Position::ZERO, |at| snapshot.0[at].position);
    assert_eq!(restored.base, at_base, "{what}: the log begins behind what never was");
    assert_eq!(restored.snapshot, snapshot.position(), "{what}");
    let both = (covered - base).min(restored.entries.len());
    assert_eq!(restored.entries[..both], snapshot.0[base..base + both], "{what}: log and snapshot disagree");
    let mut entries = snapshot.0.clone();
    entries.extend_from_slice(&restored.entries[both..]);
    Content { hard_state: restored.hard_state, entries }
}

/// After a recovery: what it returned survives the worst power cut, and the folder goes on behind it.
fn check_promises(
    disk: &SimDisk,
    running: Running,
    content: &Content,
    snapshot: &Snapshot,
    life: &Life,
    what: &str,
) {
    let image = disk.durable_image();
    let known = Life::new(content.clone(), snapshot.clone());
    known.recover(&image, &format!("{what}, again"));

    let mut next = Life::new(content.clone(), snapshot.clone());
    let mut running = Some(running);
    let term = content.hard_state.term.0 + 1;
    let length = content.entries.len() as u64;
    let mut deeds = vec![
        Deed::Append(
            Some(vote(term, 1)),
            vec![entry(length + 1, term, [9; 10]), entry(length + 2, term, [9; 700])],
        ),
        Deed::Sync,
        Deed::Take(length + 1),
        Deed::Compact(length + 1),
    ];
    // What was being received is gone on with.
    if let Some(receiving) = life.receiving.as_ref().filter(|receiving| receiving.0.len() as u64 > length + 2)
    {
        deeds.push(Deed::Receive(receiving.clone()));
    }
    for deed in &deeds {
        assert!(next.deed(disk, &mut running, deed).is_some(), "{what}: {deed:?} fails");
    }
    disk.crash_power(0);
    next.recover(disk, &format!("{what}, and on"));
}

/// Lets `judge` look at a crash at each operation of some deeds.
fn at_each_operation(seed: u64, count: usize, mut judge: impl FnMut(u64, &SimDisk, &Life)) {
    let deeds = Plan::of(seed, count);
    let start = founded();
    let whole = start.fork();
    assert!(Life::new(Content::default(), Snapshot::default()).run(&whole, &deeds));
    for operation in start.operations() + 1..=whole.operations() {
        let disk = start.fork();
        disk.crash_at(operation, seed.wrapping_mul(1000) + operation);
        let mut life = Life::new(Content::default(), Snapshot::default());
        life.run(&disk, &deeds);
        assert!(disk.is_crashed());
        judge(operation, &disk, &life);
    }
}

/// A life that ends in a crash or a failed operation, and a second that recovers and goes on; panics where something is
/// wrong.
pub(crate) fn two_lives(seed: u64, bug: Option<DiskBug>) {
    let disk = founded();
    if let Some(bug) = bug {
        disk.put_back(bug);
    }
    let at = disk.operations() + 5 + seed * 7 % 150;
    if seed.is_multiple_of(2) {
        disk.crash_at(at, seed);
    } else {
        disk.fail_at(at);
    }
    let mut life = Life::new(Content::default(), Snapshot::default());
    life.run(&disk, &Plan::of(seed, 60));
    if seed.is_multiple_of(3) {
        disk.crash_power(seed);
    } else {
        disk.crash_process();
    }
    let what = format!("seed {seed}");
    let (running, content, snapshot) = life.recover(&disk, &what).expect("no crash is planned");
    check_promises(&disk, running, &content, &snapshot, &life, &what);
    // Rot in the newest snapshot is never passed over.
    let newest = disk.names().into_iter().rfind(|name| name.ends_with(".snap")).expect("one was taken");
    assert!(disk.flip_bit(&newest, seed % 120, 0));
    disk.crash_process();
    let is_refused = matches!(open(&disk), Err(FolderError::Snapshot(SnapshotError::Damaged { .. })));
    assert!(is_refused, "{what}: rot in {newest} went unnoticed");
}

/// What the plans are made of: all of it happens, and more than once.
#[test]
fn plans_do_everything() {
    let (mut taken, mut reset, mut held, mut deleted) = (0, 0, 0, 0);
    for seed in 0..8 {
        let disk = founded();
        let mut life = Life::new(Content::default(), Snapshot::default());
        let folder = open(&disk).unwrap();
        let mut running = Some((folder.wal, folder.lock));
        for deed in Plan::of(seed, 60) {
            let before = (disk.names(), life.contents.len());
            life.deed(&disk, &mut running, &deed).unwrap();
            let is_gone = |name: &&String| name.starts_with("log-") && !disk.names().contains(name);
            match deed {
                Deed::Take(_) => taken += 1,
                Deed::Receive(_) if before.0.iter().any(|name| is_gone(&name)) => reset += 1,
                Deed::Receive(_) => held += 1,
                Deed::Compact(_) => deleted += before.0.iter().filter(is_gone).count(),
                Deed::Append(..) | Deed::Sync | Deed::Mark | Deed::Prepare | Deed::Piece | Deed::Reopen => {}
            }
        }
    }
    let counts =
        format!("{taken} taken, {reset} received and begun anew, {held} held, {deleted} segments deleted");
    assert!(taken > 20 && reset > 10 && held > 3 && deleted > 20, "{counts}");
}

#[test]
fn a_killed_process_loses_nothing() {
    for seed in 0..4 {
        at_each_operation(seed, 60, |operation, disk, life| {
            let what = format!("seed {seed}, killed at {operation}");
            disk.crash_process();
            let (running, content, snapshot) = life.recover(disk, &what).unwrap();
            check_promises(disk, running, &content, &snapshot, life, &what);
        });
    }
}

#[test]
fn a_power_cut_loses_nothing() {
    for seed in 0..4 {
        at_each_operation(seed, 60, |operation, disk, life| {
            for power in 0..5 {
                let what = format!("seed {seed}, power {power} cut at {operation}");
                let disk = disk.fork();
                disk.crash_power(power + operation * 5 * u64::from(power > 1));
                let (running, content, snapshot) = life.recover(&disk, &what).unwrap();
                check_promises(&disk, running, &content, &snapshot, life, &what);
            }
        });
    }
}

/// Opening the folder is cut at each of its own operations, after a crash of either kind; then the power fails.
#[test]
fn a_crash_while_the_folder_is_opened_loses_nothing() {
    for seed in 0..2 {
        at_each_operation(seed, 24, |operation, disk, life| {
            for first in [None, Some(0), Some(operation + 2)] {
                let disk = disk.fork();
                first.map_or_else(|| disk.crash_process(), |power| disk.crash_power(power));
                for cut in 1.. {
                    let disk = disk.fork();
                    disk.crash_at(disk.operations() + cut, operation * 7 + cut);
                    let what = format!("seed {seed}, {first:?} at {operation}, opening cut at {cut}");
                    if life.recover(&disk, &what).is_some() {
                        break;
                    }
                    for power in [0, 1, operation * 31 + cut + 2] {
                        let disk = disk.fork();
                        disk.crash_power(power);
                        let what = format!("{what}, then power {power}");
                        let (running, content, snapshot) = life.recover(&disk, &what).unwrap();
                        check_promises(&disk, running, &content, &snapshot, life, &what);
                    }
                }
            }
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is written, truncated, compacted, begun anew and reopened: snapshot and log together hold what a plain
    /// list would.
    #[test]
    fn a_folder_equals_a_list(numbers in vec(any::<u16>(), 1..120)) {
        let disk = founded();
        let mut life = Life::new(Content::default(), Snapshot::default());
        let mut deeds = Plan::by(&numbers);
        deeds.push(Deed::Reopen);
        let folder = open(&disk).unwrap();
        let mut running = Some((folder.wal, folder.lock));
        for deed in &deeds {
            prop_assert!(life.deed(&disk, &mut running, deed).is_some(), "{:?} fails", deed);
            let (wal, _) = running.as_ref().unwrap();
            let segments = disk.names().into_iter().filter(|name| name.starts_with("log-"));
            let bytes: usize = segments.map(|name| disk.content(&name).unwrap().len()).sum();
            prop_assert_eq!(wal.file_bytes(), bytes as u64);
        }
        disk.crash_power(0);
        let (_, content, snapshot) = life.recover(&disk, "at the end").unwrap();
        prop_assert_eq!(content, snapshot.under(life.last()));
    }
}
