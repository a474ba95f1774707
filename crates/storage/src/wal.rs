//! Writes the log: records into segments that were filled with zeros ahead of use. Knows nothing of what
//! entries mean, and decides neither when to sync nor on which thread.
//!
//! The caller's round: [`Wal::append`] for every write that waits, one [`Wal::sync`], then the promises of
//! all of them; in idle moments [`Wal::mark_synced`] and [`Wal::prepare_next`], and where there are none
//! [`Wal::prepare_step`].

mod compaction;

use std::collections::VecDeque;
use std::sync::Arc;

use quorate_raft::{Entry, HardState, Index, Position, Restored, Term};

use crate::disk::{Disk, DiskError, DiskFile};
use crate::identity::Incarnation;
use crate::record::{
    ENTRY_BYTES_MAX, Encoder, HEADER_RECORD_BYTES, Head, LogOffset, MARKER_RECORD_BYTES,
    RECORD_PAYLOAD_BYTES_MAX, SEAL_RECORD_BYTES, SegmentHeader, WRITE_FIXED_BYTES, record_bytes,
    write_payload_bytes,
};
use crate::recovery::{Buffer, Damage, LogError, Outcome, Recovered, Scan, Stop, Window};
use crate::sabotage::Bug;
use crate::segment::{NextSegment, last_run, segments};
use crate::usage::{Older, Usage};

/// Bytes of a segment, unless configured.
pub const SEGMENT_BYTES_DEFAULT: u64 = 64 << 20;
/// Bytes of the smallest segment.
pub const SEGMENT_BYTES_MIN: u64 = 1 << 10;
/// Kept free at the end of each segment: a marker and the seal.
const CLOSING_BYTES: u64 = (MARKER_RECORD_BYTES + SEAL_RECORD_BYTES) as u64;
/// Zeros that one [`Wal::prepare_step`] writes at most.
pub const PREPARE_STEP_BYTES: u64 = 1 << 20;
/// Segments end where a sector does.
const SEGMENT_ALIGNMENT: u64 = 512;
/// Capacity that the buffer may keep between syncs.
const BUFFER_BYTES_KEPT: usize = 4 << 20;

const _: () = assert!(HEADER_RECORD_BYTES as u64 + CLOSING_BYTES < SEGMENT_BYTES_MIN);
const _: () = assert!((RECORD_PAYLOAD_BYTES_MAX as u64) < SEGMENT_BYTES_DEFAULT);

/// How to open a log.
#[derive(Clone, Debug)]
pub struct WalConfig {
    /// The incarnation of the data folder, mixed into every checksum: a segment of another folder is refused.
    pub owner: Incarnation,
    /// Bytes of a segment; at least [`SEGMENT_BYTES_MIN`]. A larger record gets a segment of its own size.
    /// May differ from start to start.
    pub segment_bytes: u64,
    /// What a folder without a log means.
    pub if_missing: IfMissing,
    /// The newest snapshot of the folder, which is durable; (0, 0) if there is none. The log is recovered against
    /// it: segments below it may be gone, and a log that does not hold it is dropped.
    pub snapshot: Position,
    /// Of the entries that the snapshot covers the newest come back, up to so many bytes ([`Entry::cost`]).
    pub tail_bytes: u64,
}

/// What a folder without a log means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfMissing {
    /// The node has promised nothing yet (it is not founded): begin a log.
    Create,
    /// The node may have voted: refuse.
    Refuse,
}

/// Why a log was not opened. Refusals ([`OpenError::Log`]) have changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk failed: see to it, start again.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The log is not readable: see [`LogError`].
    #[error(transparent)]
    Log(#[from] LogError),
    /// The log is readable, and could not be made ready for writing: see [`WriteError`].
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl From<Stop> for OpenError {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Disk(error) => Self::Disk(error),
            Stop::Log(error) => Self::Log(error),
        }
    }
}

/// Why the log was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// There is no room for the next segment. Nothing of this call is promised and nothing is broken: free
    /// space and call again with the same write, or end the process.
    #[error(
        "the disk is full: the log's next segment needs {needed} bytes and {free} are free; free some space"
    )]
    Full {
        /// Bytes that the segment needs.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// An entry is above [`ENTRY_BYTES_MAX`]. Nothing of this call was taken.
    #[error("an entry of {bytes} bytes is above the limit of {ENTRY_BYTES_MAX} bytes")]
    EntryTooLarge {
        /// Its payload.
        bytes: usize,
    },
    /// A write or a sync failed. What is on the disk is not known any more: end the process, acknowledge
    /// nothing.
    #[error("{0}; what is on the disk is not known any more, so this server must stop")]
    Failed(#[source] DiskError),
    /// One has failed before: end the process.
    #[error("the log has failed before and is not used any more; this server must stop")]
    Poisoned,
}

/// The write-ahead log of one data folder.
///
/// - All that was appended before a successful [`Wal::sync`] is there after any crash; of what came after it,
///   a prefix may be there.
/// - Numbers of records rise by one without gaps, over all segments; each names the checksum of the one
///   before.
/// - Behind the last record its segment holds nothing but zeros.
/// - A segment is begun only once all before it are synced; its file is there, filled and synced, before the
///   segment before it is sealed, and made only once the header of that one is synced.
/// - A segment is deleted only once the header of one behind it, which repeats the hard state, is synced, and a
///   snapshot covers what that header calls the log's last position.
/// - After a failed write or sync it does nothing any more.
pub struct Wal {
    disk: Arc<dyn Disk>,
    owner: Incarnation,
    segment_bytes: u64,
    file: Box<dyn DiskFile>,
    segment: u64,
    /// Length of the segment's file.
    size: u64,
    /// Offset up to which the segment is written; the buffer belongs behind it.
    written: u64,
    buffer: Vec<u8>,
    /// The last record's number and checksum.
    number: u64,
    checksum: u32,
    synced: LogOffset,
    /// See [`Wal::claimed`].
    claimed: LogOffset,
    /// Nothing but a marker came after the last sync of a write.
    marked: bool,
    sealed: bool,
    next: Option<NextSegment>,
    hard_state: HardState,
    /// Where the log was begun anew, behind a snapshot; (0, 0) if never.
    base: Position,
    last: Position,
    /// Nothing at or below this is ever truncated: a snapshot covers it.
    floor: Index,
    /// The segments before this one.
    older: VecDeque<Older>,
    usage: Usage,
    poisoned: bool,
    outcome: Outcome,
}

impl Wal {
    /// Reads the log of the folder and makes it ready for writing. When it returns, all of what it returns is
    /// durable.
    ///
    /// # Panics
    /// If `segment_bytes` is below [`SEGMENT_BYTES_MIN`].
    pub fn open(disk: Arc<dyn Disk>, config: &WalConfig) -> Result<(Self, Restored), OpenError> {
        Self::open_reporting(disk, config, &mut |_| {})
    }

    /// The same, for who waits: `progress` hears of the bytes of each segment that is read.
    pub(crate) fn open_reporting(
        disk: Arc<dyn Disk>,
        config: &WalConfig,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(Self, Restored), OpenError> {
        assert!(config.segment_bytes >= SEGMENT_BYTES_MIN, "segments below their smallest size");
        let Some(recovered) = read_log(&*disk, config, progress)? else {
            return Self::create(disk, config);
        };
        let holds_snapshot = recovered.holds_snapshot;
        let (mut wal, mut restored) = Self::resume(disk, config, recovered)?;
        wal.follow_snapshot(config.snapshot, holds_snapshot, &mut restored)?;
        Ok((wal, restored))
    }

    /// Begins a log.
    fn create(disk: Arc<dyn Disk>, config: &WalConfig) -> Result<(Self, Restored), OpenError> {
        let segment_bytes = config.segment_bytes.next_multiple_of(SEGMENT_ALIGNMENT);
        let mut first = NextSegment::begin(&*disk, 1, segment_bytes)?;
        first.fill(&*disk, u64::MAX)?;
        let size = first.size();
        let mut wal = Self {
            owner: config.owner,
            segment_bytes,
            file: first.into_file(),
            segment: 1,
            size,
            written: 0,
            buffer: Vec::new(),
            number: 0,
            checksum: 0,
            synced: LogOffset::new(1, 0),
            claimed: LogOffset::new(1, 0),
            marked: false,
            sealed: false,
            next: None,
            hard_state: HardState::default(),
            base: Position::ZERO,
            last: Position::ZERO,
            floor: Index::ZERO,
            older: VecDeque::new(),
            usage: Usage::new(segment_bytes),
            poisoned: false,
            outcome: Outcome::Clean,
            disk,
        };
        wal.encode_header();
        wal.sync()?;
        let mut restored = Restored::default();
        wal.follow_snapshot(config.snapshot, config.snapshot == Position::ZERO, &mut restored)?;
        Ok((wal, restored))
    }

    /// Goes on behind what recovery found.
    fn resume(
        disk: Arc<dyn Disk>,
        config: &WalConfig,
        recovered: Recovered,
    ) -> Result<(Self, Restored), OpenError> {
        let segment_bytes = config.segment_bytes.next_multiple_of(SEGMENT_ALIGNMENT);
        let end = recovered.end;
        let mut file = disk.open(&end.file())?;
        // After the kill of a process these bytes may be in the page cache only, or, after a failed sync, in
        // there for ever: they are written anew before anything rests on them.
        file.write_at(end.offset - recovered.tail.len() as u64, &recovered.tail)?;
        if recovered.outcome != Outcome::Clean {
            // Or a record that is cut off now would stand behind a new one of the same length.
            file.write_zeros(end.offset, recovered.segment_bytes - end.offset)?;
        }
        file.sync_data()?;
        let next = match recovered.next {
            Some(found) => {
                let mut next = NextSegment::found(&*disk, end.segment + 1, found)?;
                // What a seal has said of its length holds.
                next.grow(if recovered.sealed { 0 } else { segment_bytes });
                Some(next)
            }
            None => None,
        };
        // A name that is seen may be the cache's only, too.
        disk.sync_folder()?;
        for number in &recovered.left_over {
            disk.remove(&LogOffset::new(*number, 0).file())?;
        }
        let mut wal = Self {
            owner: config.owner,
            segment_bytes,
            file,
            segment: end.segment,
            size: recovered.segment_bytes,
            written: end.offset,
            buffer: Vec::new(),
            number: recovered.number,
            checksum: recovered.checksum,
            synced: end,
            claimed: recovered.claimed,
            marked: recovered.marked,
            sealed: recovered.sealed,
            next,
            hard_state: recovered.hard_state,
            base: recovered.reset,
            last: recovered.last,
            floor: Index::ZERO,
            older: recovered.older,
            usage: recovered.usage,
            poisoned: false,
            outcome: recovered.outcome,
            disk,
        };
        if wal.sealed {
            wal.rotate(0)?;
            wal.sync()?;
        }
        let Recovered { hard_state, base, entries, .. } = recovered;
        Ok((wal, Restored { hard_state, base, entries, snapshot: base, membership: None }))
    }

    /// Takes one write: hard state where it changed, and entries without a gap. If the first stands at or
    /// below the end of the log, all from its index on is truncated.
    ///
    /// It goes into a buffer; the disk sees it at the next [`Wal::sync`]. Only where the segment is full does
    /// this call write and sync by itself: what was appended before, and the next segment if
    /// [`Wal::prepare_next`] has not made it. A write above [`RECORD_PAYLOAD_BYTES_MAX`] spans several
    /// records, cut between entries; the hard state is in the first. A crash may leave a prefix of them:
    /// safe, since the write was not promised.
    ///
    /// # Panics
    /// If term or vote go back, entries leave a gap, or one is of a later term than the hard state: the caller's
    /// own mistake, which must not reach the disk.
    pub fn append(&mut self, hard_state: Option<HardState>, entries: &[Entry]) -> Result<(), WriteError> {
        self.check_usable()?;
        if let Some(entry) = entries.iter().find(|entry| entry.payload.len() > ENTRY_BYTES_MAX) {
            return Err(WriteError::EntryTooLarge { bytes: entry.payload.len() });
        }
        self.assert_follows(hard_state, entries);
        let mut hard_state = hard_state;
        let mut rest = entries;
        while hard_state.is_some() || !rest.is_empty() {
            let (now, later) = rest.split_at(fitting(rest));
            self.append_record(hard_state.take(), now)?;
            rest = later;
        }
        Ok(())
    }

    /// Writes what was appended, at once, and syncs it: one write, one `fdatasync`. When it returns, all that
    /// was appended is durable.
    pub fn sync(&mut self) -> Result<(), WriteError> {
        self.check_usable()?;
        if self.buffer.is_empty() {
            return Ok(());
        }
        let mut written = self.file.write_at(self.written, &self.buffer);
        if !(self.sealed && Bug::RotatesWithoutSync.is_put_back()) {
            written = written.and_then(|()| self.file.sync_data());
        }
        if let Err(error) = written {
            return Err(self.poison(error));
        }
        self.written = self.end().offset;
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_BYTES_KEPT);
        // All records of the buffer have named this one.
        self.claimed = self.synced;
        self.synced = self.end();
        Ok(())
    }

    /// To be called when nothing has followed a sync for a while (10 ms): writes and syncs a marker that
    /// names what is synced, unless the log ends with one. From then on rot in the last write is told from a
    /// torn tail.
    pub fn mark_synced(&mut self) -> Result<(), WriteError> {
        self.check_usable()?;
        if self.marked {
            return Ok(());
        }
        self.sync()?;
        let head = self.next_head();
        self.checksum = self.encoder().marker(head);
        self.took_record();
        self.marked = true;
        self.sync()
    }

    /// To be called when idle: makes the next segment ready, so that no write has to wait for it. Costs a
    /// segment's length of zeros where there is none yet, and nothing otherwise. It is no substitute for
    /// [`Wal::sync`].
    pub fn prepare_next(&mut self) -> Result<(), WriteError> {
        self.check_usable()?;
        self.prepare(self.segment_bytes)
    }

    /// To be called after each [`Wal::sync`] of a log that is never idle: makes a piece of the next segment
    /// ready, at most [`PREPARE_STEP_BYTES`], so that no write has to wait for all of it at once. Does
    /// nothing while the segment is less than half full, or the next one is as far ahead as that calls for.
    pub fn prepare_step(&mut self) -> Result<(), WriteError> {
        self.check_usable()?;
        let due = self.end().offset.saturating_sub(self.size / 2).saturating_mul(2);
        if due == 0 || self.next.as_ref().is_some_and(|next| next.is_ready() || next.filled() >= due) {
            return Ok(());
        }
        self.begin_next(self.segment_bytes)?;
        self.fill_next(PREPARE_STEP_BYTES)
    }

    /// How recovery found the log.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// The position of the last entry that was appended, or the base.
    pub fn last(&self) -> Position {
        self.last
    }

    /// Up to where the log is synced.
    pub fn synced(&self) -> LogOffset {
        self.synced
    }

    /// Up to where the files themselves say that the log is synced: the highest claim that a restart would find
    /// now. Rot below it is damage; rot at or above it looks like a torn tail, until [`Wal::mark_synced`].
    /// Where there is no claim yet (offset 0 of segment 1), the identity of a founded folder claims the header.
    pub fn claimed(&self) -> LogOffset {
        self.claimed
    }

    fn append_record(&mut self, hard_state: Option<HardState>, entries: &[Entry]) -> Result<(), WriteError> {
        let bytes = record_bytes(write_payload_bytes(entries)) as u64;
        if self.end().offset + bytes + CLOSING_BYTES > self.size {
            self.rotate(bytes)?;
        }
        let head = self.next_head();
        self.checksum = self.encoder().write(head, hard_state, entries);
        self.took_record();
        self.hard_state = hard_state.unwrap_or(self.hard_state);
        self.last = entries.last().map_or(self.last, |entry| entry.position);
        self.usage.add(self.last.index, bytes);
        Ok(())
    }

    /// Begins the next segment, with room for a record of `bytes`.
    fn rotate(&mut self, bytes: u64) -> Result<(), WriteError> {
        self.prepare(HEADER_RECORD_BYTES as u64 + bytes + CLOSING_BYTES)?;
        if !self.sealed {
            let next_bytes = self.next.as_ref().expect("prepared above").size();
            let head = self.next_head();
            self.checksum = self.encoder().seal(head, next_bytes);
            self.took_record();
            self.sealed = true;
        }
        // The next segment's header claims all of this one.
        self.sync()?;
        let next = self.next.take().expect("prepared above");
        self.older.push_back(Older { number: self.segment, bytes: self.size, last: self.last });
        self.size = next.size();
        self.file = next.into_file();
        self.segment += 1;
        self.written = 0;
        self.synced = self.end();
        self.sealed = false;
        self.encode_header();
        Ok(())
    }

    /// Has a next segment of at least `bytes` ready, or leaves everything as it was.
    fn prepare(&mut self, bytes: u64) -> Result<(), WriteError> {
        let size = bytes.max(self.segment_bytes).next_multiple_of(SEGMENT_ALIGNMENT);
        if self.next.as_ref().is_some_and(|next| next.is_ready() && next.size() >= bytes) {
            return Ok(());
        }
        self.begin_next(size)?;
        self.fill_next(u64::MAX)
    }

    fn begin_next(&mut self, size: u64) -> Result<(), WriteError> {
        if let Some(next) = &mut self.next {
            next.grow(if self.sealed { 0 } else { size });
            return Ok(());
        }
        // The file of a segment claims the header of the one before it.
        self.sync()?;
        match NextSegment::begin(&*self.disk, self.segment + 1, size) {
            Ok(next) => {
                self.next = Some(next);
                self.claimed = self.claimed.max(LogOffset::new(self.segment, 1));
                Ok(())
            }
            Err(error) => Err(self.poison_unless_full(error)),
        }
    }

    fn fill_next(&mut self, bytes_max: u64) -> Result<(), WriteError> {
        let next = self.next.as_mut().expect("begun before");
        match next.fill(&*self.disk, bytes_max) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.poison_unless_full(error)),
        }
    }

    fn encode_header(&mut self) {
        let header = SegmentHeader {
            owner: self.owner,
            segment_bytes: self.size,
            hard_state: self.hard_state,
            base: self.base,
            last: self.last,
        };
        let head = self.next_head();
        self.checksum = self.encoder().header(head, &header);
        self.took_record();
    }

    fn next_head(&self) -> Head {
        Head {
            previous_checksum: self.checksum,
            segment: self.segment,
            number: self.number + 1,
            synced: self.synced,
        }
    }

    fn encoder(&mut self) -> Encoder<'_> {
        Encoder { owner: self.owner, buffer: &mut self.buffer }
    }

    fn took_record(&mut self) {
        assert!(self.end().offset <= self.size, "a record beyond its segment's end");
        self.number += 1;
        self.marked = false;
    }

    fn end(&self) -> LogOffset {
        LogOffset::new(self.segment, self.written + self.buffer.len() as u64)
    }

    fn assert_follows(&self, hard_state: Option<HardState>, entries: &[Entry]) {
        if let Some(new) = hard_state {
            let old = self.hard_state;
            assert!(new.term >= old.term, "the term goes back");
            let keeps_vote = old.vote.is_none() || new.vote == old.vote;
            assert!(new.term > old.term || keeps_vote, "a vote is taken back");
        }
        let Some(first) = entries.first() else { return };
        assert!(first.position.index > self.floor, "an entry below what a snapshot covers");
        assert!(first.position.index <= self.last.index.next(), "entries leave a gap");
        let term = hard_state.unwrap_or(self.hard_state).term;
        for entry in entries {
            assert!(entry.position.term > Term::ZERO, "an entry of term zero");
            assert!(entry.position.term <= term, "an entry of a later term than the hard state");
        }
        for pair in entries.windows(2) {
            assert!(pair[1].position.index == pair[0].position.index.next(), "entries leave a gap");
            assert!(pair[1].position.term >= pair[0].position.term, "terms of entries go back");
        }
    }

    fn check_usable(&self) -> Result<(), WriteError> {
        if self.poisoned { Err(WriteError::Poisoned) } else { Ok(()) }
    }

    fn poison_unless_full(&mut self, error: WriteError) -> WriteError {
        match error {
            WriteError::Failed(error) => self.poison(error),
            WriteError::Full { .. } | WriteError::EntryTooLarge { .. } | WriteError::Poisoned => error,
        }
    }

    fn poison(&mut self, error: DiskError) -> WriteError {
        self.poisoned = true;
        WriteError::Failed(error)
    }
}

/// Reads the log and judges it, and changes nothing; `None` where there is none yet. `progress` hears of the bytes of each
/// segment that is read.
pub(crate) fn read_log(
    disk: &dyn Disk,
    config: &WalConfig,
    progress: &mut dyn FnMut(u64),
) -> Result<Option<Recovered>, OpenError> {
    let segments = segments(disk)?;
    let usage = Usage::new(config.segment_bytes);
    let mut scan = Scan::new(config.owner, config.snapshot, config.tail_bytes, usage);
    let (left_over, run) = segments.split_at(last_run(&segments));
    left_over.iter().for_each(|number| scan.left_over(*number));
    let mut buffer = Buffer::default();
    for number in run {
        let file = disk.open_to_read(&LogOffset::new(*number, 0).file())?;
        let mut window = Window::new(&*file, &mut buffer)?;
        scan.segment(*number, &mut window)?;
        progress(window.bytes());
    }
    match (scan.judge()?, config.if_missing) {
        (None, IfMissing::Refuse) => Err(missing(segments.is_empty()).into()),
        (judged, _) => Ok(judged),
    }
}

/// How many of the entries go into one record: as many as its limit allows, and at least one.
fn fitting(entries: &[Entry]) -> usize {
    let mut bytes = WRITE_FIXED_BYTES;
    let fits = |entry: &&Entry| {
        bytes += entry.cost();
        bytes <= RECORD_PAYLOAD_BYTES_MAX
    };
    entries.iter().take_while(fits).count()
}

fn missing(is_empty: bool) -> LogError {
    let first = LogOffset::new(1, 0);
    let index = Position::ZERO.index.next();
    if is_empty {
        return LogError::MissingSegment { file: first.file(), index };
    }
    LogError::Damaged(Damage { at: first, synced: LogOffset::new(1, HEADER_RECORD_BYTES as u64), index })
}
