//! What recovery may find in a data folder: anything at all, or what was written there and then changed. Knows the
//! format only as far as it repairs checksums.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use quorate_raft::{Entry, HardState, Index, Node, NodeId, Payload, Position, Restored, Term};
use quorate_replica::replica::Config;
use quorate_storage::{
    Folder, FolderConfig, FolderError, Identity, Incarnation, LogOffset, Member, Outcome, SEGMENT_BYTES_MIN,
    SimDisk, Wal, identity,
};

use super::input::Input;

const IDENTITY_FILE: &str = "identity";
/// Changes of a valid folder.
const CHANGES_MAX: usize = 8;
/// Things done to a log before it is changed.
const STEPS_MAX: u8 = 48;

/// A folder of any bytes, or a valid folder with changes, with or without their checksums made right again.
///
/// # Panics
/// If opening it panics; if it gives a log that cannot be gone on with; if it gives another log than the one that was
/// written, or less of it than what is intact proves to be synced.
pub fn recovery(data: &[u8]) {
    let mut input = Input(data);
    match input.byte() % 4 {
        0 => arbitrary(&mut input),
        1 => forged(&mut input),
        _ => changed(&mut input),
    }
}

fn node_id(number: u64) -> NodeId {
    NodeId::new(number).expect("one or more")
}

fn founding() -> [Member; 3] {
    [1, 2, 3].map(|number| Member { id: node_id(number), incarnation: Incarnation(0x100 + number) })
}

fn new_identity() -> Identity {
    Identity::new(node_id(1), founding()[0].incarnation)
}

fn open(disk: &SimDisk) -> Result<Folder, FolderError> {
    let config = FolderConfig {
        node: node_id(1),
        fresh_incarnation: founding()[0].incarnation,
        segment_bytes: SEGMENT_BYTES_MIN,
        tail_bytes: u64::MAX,
    };
    Folder::open(Arc::new(disk.clone()), &config)
}

/// What can be read must be fit to go on with: consensus takes it, and it takes writes, and gives them back.
fn go_on(disk: &SimDisk, folder: Folder) {
    let Folder { mut wal, restored, lock, .. } = folder;
    let voters = founding().iter().map(|member| member.id).collect();
    let limits = Config::default_limits();
    let config = quorate_raft::Config {
        id: node_id(1),
        membership: quorate_raft::Membership::simple(voters),
        own_seat: Bytes::new(),
        limits,
        seed: 1,
    };
    let node = Node::new(config, restored.clone());
    let Ok(entry) = next_entry(node.last(), restored.hard_state.term) else { return };
    let HardState { term, vote } = restored.hard_state;
    let hard_state = if entry.position.term > term {
        HardState { term: entry.position.term, vote: None }
    } else {
        HardState { term, vote }
    };
    wal.append(Some(hard_state), std::slice::from_ref(&entry)).expect("the disk is fine");
    wal.sync().expect("the disk is fine");
    drop((wal, lock));
    disk.crash_process();
    let again = open(disk).map(|folder| folder.restored).expect("what was written is readable");
    assert_eq!(again.hard_state, hard_state);
    let entries: Vec<Entry> = restored.entries.into_iter().chain([entry]).collect();
    assert_eq!(again.entries, entries);
}

/// `Err` at the ends of the number ranges, which only forged numbers reach.
fn next_entry(last: Position, term: Term) -> Result<Entry, ()> {
    let index = last.index.0.checked_add(1).filter(|index| *index < u64::MAX).ok_or(())?;
    let term = term.max(last.term).max(Term(1));
    if term > last.term && term.0 == u64::MAX {
        return Err(());
    }
    Ok(Entry { position: Position::new(term, Index(index)), payload: Payload::Noop })
}

/// Files of any bytes. An identity that is right lets the search come further.
fn arbitrary(input: &mut Input<'_>) {
    let disk = SimDisk::new();
    let kind = input.byte();
    if kind & 1 != 0 {
        let identity = if kind & 2 != 0 { new_identity().founded(&founding()) } else { new_identity() };
        identity::store(&disk, &identity).expect("the disk is fine");
    } else {
        let length = usize::from(input.byte());
        disk.plant(IDENTITY_FILE, Some(input.take(length).to_vec()));
    }
    let count = u64::from(kind >> 6) + 1;
    for segment in 1..=count {
        let length = usize::from(input.number()) % 4_096;
        let mut bytes = input.take(length).to_vec();
        // As long as a segment is, or it is refused for that alone.
        bytes.resize(bytes.len().max(SEGMENT_BYTES_MIN as usize).next_multiple_of(512), 0);
        if kind & 4 != 0 {
            repair(&mut bytes);
        }
        disk.plant(&LogOffset { segment, offset: 0 }.file(), Some(bytes));
    }
    if let Ok(folder) = open(&disk) {
        go_on(&disk, folder);
    }
}

/// A valid folder, changed as a program would that means it: every checksum is right.
fn forged(input: &mut Input<'_>) {
    let written = Written::by(input);
    change(&written.disk, input);
    for name in written.disk.names().iter().filter(|name| *name != IDENTITY_FILE) {
        let mut bytes = written.disk.content(name).expect("it was named");
        repair(&mut bytes);
        written.disk.plant(name, Some(bytes));
    }
    if let Ok(folder) = open(&written.disk) {
        go_on(&written.disk, folder);
    }
}

/// A valid folder, changed as media do.
fn changed(input: &mut Input<'_>) {
    let written = Written::by(input);
    let before = contents(&written.disk);
    change(&written.disk, input);
    let after = contents(&written.disk);
    let synced_min = written.proven(&after);
    let found = open(&written.disk);
    if before == after {
        let folder = found.expect("nothing was changed");
        assert!(matches!(folder.wal.outcome(), Outcome::Clean) || written.is_cut);
        written.check(&folder.restored, written.synced);
        return go_on(&written.disk, folder);
    }
    let Ok(folder) = found else { return };
    if after.get(IDENTITY_FILE) != before.get(IDENTITY_FILE) {
        assert!(after.keys().all(|name| !name.starts_with("log-")), "a log without its identity was opened");
        return;
    }
    written.check(&folder.restored, synced_min);
    go_on(&written.disk, folder);
}

fn contents(disk: &SimDisk) -> BTreeMap<String, Vec<u8>> {
    let names = disk.names().into_iter();
    names.filter_map(|name| disk.content(&name).map(|content| (name, content))).collect()
}

/// Rot, lost sectors, lost files, files of another length, bytes in the wrong place.
fn change(disk: &SimDisk, input: &mut Input<'_>) {
    for _ in 0..CHANGES_MAX {
        if input.is_empty() {
            return;
        }
        let names = disk.names();
        let kind = input.byte();
        let Some(name) = names.get(usize::from(kind >> 4) % names.len().max(1)) else { return };
        let mut bytes = disk.content(name).expect("it was named");
        let at = usize::from(input.number()) % bytes.len().max(1);
        let changed = match kind % 16 {
            0..8 => {
                let mask = input.byte();
                bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= mask);
                Some(bytes)
            }
            8..10 => {
                let end = (at + usize::from(input.byte()) * 8).min(bytes.len());
                bytes[at..end].fill(0);
                Some(bytes)
            }
            10..12 => {
                let with = input.take(8);
                bytes.iter_mut().skip(at).zip(with).for_each(|(byte, with)| *byte = *with);
                Some(bytes)
            }
            12 => {
                bytes.truncate(at);
                Some(bytes)
            }
            13 => {
                bytes.extend(vec![0; usize::from(input.byte()) * 8]);
                Some(bytes)
            }
            14 => {
                let end = (at + 512).min(bytes.len());
                let to = usize::from(input.number()) % bytes.len().max(1);
                let end = end.min(at + bytes.len() - to);
                bytes.copy_within(at..end, to);
                Some(bytes)
            }
            _ => None,
        };
        disk.plant(name, changed);
    }
}

/// What a log holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Content {
    hard_state: HardState,
    entries: Vec<Entry>,
}

/// Bytes of a segment whose last record says that so many writes are synced.
struct Claim {
    segment: u64,
    bytes: Vec<u8>,
    from: usize,
    writes: usize,
}

/// A log that was written, and what is known of it.
struct Written {
    disk: SimDisk,
    /// What it held after each write, the first before any.
    states: Vec<Content>,
    /// How many writes are synced.
    synced: usize,
    claims: Vec<Claim>,
    /// The power failed in the middle of something.
    is_cut: bool,
}

impl Written {
    /// A founded member's log, after steps that the input decides.
    fn by(input: &mut Input<'_>) -> Self {
        let disk = SimDisk::new();
        let folder = open(&disk).expect("an empty folder");
        identity::store(&disk, &new_identity().founded(&founding())).expect("the disk is fine");
        let states = vec![Content::default()];
        let mut written = Self { disk, states, synced: 0, claims: Vec::new(), is_cut: false };
        let Folder { wal, lock, .. } = folder;
        let mut running = Some((wal, lock));
        for _ in 0..input.byte() % STEPS_MAX {
            let Some((wal, _)) = &mut running else { break };
            let kind = input.byte();
            if kind >= 0xF0 {
                drop(running.take());
                written.disk.crash_process();
                match open(&written.disk) {
                    Ok(folder) => {
                        written.restart(&folder.restored);
                        running = Some((folder.wal, folder.lock));
                    }
                    Err(error) => assert!(written.disk.is_crashed(), "nothing was changed: {error}"),
                }
            } else if !written.step(wal, kind, input) {
                running = None;
            }
        }
        drop(running);
        written.is_cut = written.disk.is_crashed();
        written.disk.crash_power(u64::from(input.byte()));
        written
    }

    /// Says whether the log can be gone on with.
    fn step(&mut self, wal: &mut Wal, kind: u8, input: &mut Input<'_>) -> bool {
        let before = wal.synced();
        match kind {
            0..0x80 => {
                let (hard_state, entries) = self.next_write(kind, input);
                // Before the disk sees it: a write that is cut in the middle may be there.
                let mut state = self.states.last().cloned().unwrap_or_default();
                for entry in &entries {
                    state.entries.retain(|known| known.position.index < entry.position.index);
                    state.entries.push(entry.clone());
                }
                state.hard_state = hard_state.unwrap_or(state.hard_state);
                self.states.push(state);
                return wal.append(hard_state, &entries).is_ok();
            }
            0x80..0xB0 => {
                let claimed = self.synced;
                if wal.sync().is_err() {
                    return false;
                }
                self.synced = self.states.len() - 1;
                self.claim(before, wal.synced(), claimed);
            }
            0xB0..0xC0 => {
                if wal.sync().is_err() {
                    return false;
                }
                self.synced = self.states.len() - 1;
                let before = wal.synced();
                if wal.mark_synced().is_err() {
                    return false;
                }
                self.claim(before, wal.synced(), self.synced);
            }
            0xC0..0xD0 => return wal.prepare_next().is_ok(),
            0xD0..0xE0 => return wal.prepare_step().is_ok(),
            _ => {
                let operation = self.disk.operations() + 1 + u64::from(kind % 8);
                self.disk.crash_at(operation, u64::from(input.byte()));
            }
        }
        true
    }

    fn next_write(&self, kind: u8, input: &mut Input<'_>) -> (Option<HardState>, Vec<Entry>) {
        let state = self.states.last().cloned().unwrap_or_default();
        let is_new_term = kind & 1 != 0 || state.hard_state.term == Term::ZERO;
        let term = Term(state.hard_state.term.0 + u64::from(is_new_term));
        let hard_state = is_new_term
            .then(|| HardState { term, vote: NodeId::new(u64::from(kind >> 1 & 3)) })
            .filter(|_| term > Term::ZERO);
        let back = if is_new_term { u64::from(kind >> 3 & 3) } else { 0 };
        let first = (state.entries.len() as u64).saturating_sub(back) + 1;
        let entries = (first..first + u64::from(kind >> 5 & 3)).map(|index| {
            let size = usize::from(input.byte());
            let payload = match size {
                0 => Payload::Noop,
                _ => Payload::Data(Bytes::from(vec![kind; size * 2])),
            };
            Entry { position: Position::new(term, Index(index)), payload }
        });
        (hard_state, entries.collect())
    }

    /// What lies between two ends of the log was written behind what was synced then, and says so.
    fn claim(&mut self, before: LogOffset, after: LogOffset, writes: usize) {
        let from = if before.segment == after.segment { before.offset } else { 0 };
        if from >= after.offset {
            return;
        }
        let content = self.disk.content(&after.file()).unwrap_or_default();
        let (from, to) = (from as usize, after.offset as usize);
        let bytes = content[from..to].to_vec();
        self.claims.push(Claim { segment: after.segment, bytes, from, writes });
    }

    /// The process was killed: what it held in memory alone is gone.
    fn restart(&mut self, restored: &Restored) {
        self.check(restored, self.synced);
        let found = Content { hard_state: restored.hard_state, entries: restored.entries.clone() };
        let last = self.states.iter().rposition(|state| *state == found).unwrap_or(self.synced);
        self.states.truncate(last + 1);
        self.synced = last;
    }

    /// How many writes what is intact proves to be synced.
    fn proven(&self, files: &BTreeMap<String, Vec<u8>>) -> usize {
        let is_intact = |claim: &&Claim| {
            let file = LogOffset { segment: claim.segment, offset: 0 }.file();
            let range = claim.from..claim.from + claim.bytes.len();
            files.get(&file).and_then(|bytes| bytes.get(range)) == Some(&claim.bytes)
        };
        self.claims.iter().filter(is_intact).map(|claim| claim.writes).max().unwrap_or(0)
    }

    /// It is what the log held after one of its writes, and not after an earlier one than `synced_min`.
    fn check(&self, restored: &Restored, synced_min: usize) {
        let found = Content { hard_state: restored.hard_state, entries: restored.entries.clone() };
        let is_one = self.states.iter().skip(synced_min).any(|state| *state == found);
        assert!(
            is_one,
            "{found:?} is nothing that was written after the first {synced_min} of {} writes",
            self.states.len() - 1
        );
    }
}

/// Makes the chain and the checksums of all records right, as a program that means it would.
fn repair(bytes: &mut [u8]) {
    let (mut at, mut previous) = (0, [0; 4]);
    while let Some(head) = bytes.get(at..at + 48).filter(|head| head[8] != 0) {
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let end = at + (48 + length.min(bytes.len())).next_multiple_of(8);
        if end > bytes.len() {
            return;
        }
        if at > 0 {
            bytes[at + 12..at + 16].copy_from_slice(&previous);
        }
        let sum = crc32c::crc32c(&founding()[0].incarnation.0.to_le_bytes());
        let sum = crc32c::crc32c_append(sum, &bytes[at..at + 4]);
        previous = crc32c::crc32c_append(sum, &bytes[at + 8..end]).to_le_bytes();
        bytes[at + 4..at + 8].copy_from_slice(&previous);
        at = end;
    }
}
