//! Reads the log's bytes and judges them: clean, torn, or damaged. Knows no folder, and changes nothing.
//!
//! Each valid record names an offset up to which the log was synced when it was written. Those claims are
//! true for ever, because nothing below a claim is ever cut. So the first place where the chain of records
//! breaks is **damage** if it lies below any claim of any valid record, also of one behind the break; and a
//! **torn tail** otherwise: what was being written when the power failed, of which nobody has been promised
//! anything.
//!
//! Four more claims are made without a record's field:
//! - a segment's header claims all segments before it, because they are synced whole before it is written;
//! - a seal, the last record of a full segment, claims that the next segment's file exists;
//! - the file of segment n claims the header of segment n-1, because that is synced before the file is made;
//! - a first segment other than number 1 claims its own header, because those before it are deleted after that.
//!
//! The log goes on from the newest snapshot, whose position is given: segments that it covers may be gone.

mod error;
mod window;

use std::collections::VecDeque;

use quorate_raft::{Entry, HardState, Index, Position, Term};

use crate::disk::DiskError;
use crate::identity::Incarnation;
use crate::record::{
    self, ALIGNMENT, Body, HEAD_BYTES, HEADER_RECORD_BYTES, LogOffset, NoRecord, Record, SEGMENT_FIELD_END,
    SegmentHeader,
};
use crate::usage::{Older, Usage};
pub(crate) use error::snapshot_lost;
pub use error::{Damage, LogError};
pub(crate) use window::{Buffer, Window};

/// Above the numbers of all records and segments that a log can reach.
const NUMBER_MAX: u64 = u64::MAX / 4;

/// A torn tail: what was being written when the power failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The log ends here; all bytes from here on are overwritten with zeros.
    pub at: LogOffset,
    /// The index that the next entry will have.
    pub index: Index,
}

/// How a readable log was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It ends with a whole record, and zeros.
    Clean,
    /// It ends with something that was never promised.
    Torn(Cut),
}

/// A log that can be gone on with.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) outcome: Outcome,
    pub(crate) hard_state: HardState,
    /// Before the first of the entries.
    pub(crate) base: Position,
    /// What the last header calls the base.
    pub(crate) reset: Position,
    pub(crate) last: Position,
    pub(crate) entries: Vec<Entry>,
    /// The log goes on from the snapshot: it holds its position, with its term.
    pub(crate) holds_snapshot: bool,
    /// Segments whose content a snapshot covers, left over from a deletion.
    pub(crate) left_over: Vec<u64>,
    /// The segments before that of `end`.
    pub(crate) older: VecDeque<Older>,
    pub(crate) usage: Usage,
    /// The last record's number and checksum.
    pub(crate) number: u64,
    pub(crate) checksum: u32,
    /// Behind the last record.
    pub(crate) end: LogOffset,
    /// Bytes of that segment's file.
    pub(crate) segment_bytes: u64,
    /// The last record is a seal: the next one begins a new segment.
    pub(crate) sealed: bool,
    /// In the segment of `end`: what is not known to be synced, up to `end`.
    pub(crate) tail: Vec<u8>,
    /// The last record is a marker.
    pub(crate) marked: bool,
    /// The segment after that of `end`.
    pub(crate) next: Option<Unused>,
    /// The highest claim that is left once the torn tail is cut.
    pub(crate) claimed: LogOffset,
}

/// A segment without a record that counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unused {
    /// Nothing but zeros.
    pub(crate) is_blank: bool,
    /// The length of its file.
    pub(crate) bytes: u64,
}

/// Why a segment was not taken.
#[derive(Debug)]
pub(crate) enum Stop {
    /// It was not read.
    Disk(DiskError),
    /// It was, and is not to be gone on with.
    Log(LogError),
}

impl From<DiskError> for Stop {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

impl From<LogError> for Stop {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

/// Bytes that are looked at for a record behind a break, at once.
const SEARCH_BYTES: usize = 4_096;

/// Takes the segments in order, then judges.
pub(crate) struct Scan {
    owner: Incarnation,
    /// The newest snapshot, or (0, 0).
    snapshot: Position,
    /// What is held at most of what it covers.
    tail_bytes: u64,
    /// What is held of it now.
    covered_bytes: u64,
    /// Before the first of the entries.
    base: Position,
    /// What the last header calls the base: where the log was begun anew, or (0, 0).
    reset: Position,
    left_over: Vec<u64>,
    /// The first segment at which the log cannot begin, because the snapshot ends before it.
    uncovered: Option<u64>,
    older: VecDeque<Older>,
    usage: Usage,
    hard_state: HardState,
    last: Position,
    entries: VecDeque<Entry>,
    number: u64,
    checksum: u32,
    sealed: bool,
    /// Behind the last record of the chain.
    end: LogOffset,
    /// Bytes of the file of the segment of `end`.
    segment_bytes: u64,
    /// The bytes of that segment before `end` that were not known to be synced when it was read.
    tail: Vec<u8>,
    /// The first place where the chain breaks.
    broken: Option<LogOffset>,
    /// The first place where something else than zeros follows a break.
    torn: Option<LogOffset>,
    /// A segment that is not begun.
    next: Option<Unused>,
    marked: bool,
    /// What the last seal says about the next segment's file.
    next_bytes: u64,
    /// The highest claim of any valid record.
    synced: LogOffset,
    /// The highest one outside of the torn tail.
    claimed: LogOffset,
    /// The last segment that was given.
    segment: u64,
}

impl Scan {
    pub(crate) fn new(owner: Incarnation, snapshot: Position, tail_bytes: u64, usage: Usage) -> Self {
        Self {
            owner,
            snapshot,
            tail_bytes,
            covered_bytes: 0,
            base: Position::ZERO,
            reset: Position::ZERO,
            left_over: Vec::new(),
            uncovered: None,
            older: VecDeque::new(),
            usage,
            hard_state: HardState::default(),
            last: Position::ZERO,
            entries: VecDeque::new(),
            number: 0,
            checksum: 0,
            sealed: false,
            end: LogOffset::default(),
            segment_bytes: 0,
            tail: Vec::new(),
            broken: None,
            torn: None,
            next: None,
            marked: false,
            next_bytes: 0,
            synced: LogOffset::default(),
            claimed: LogOffset::default(),
            segment: 0,
        }
    }

    /// A segment that only a deletion can have left over, because one behind it is missing.
    pub(crate) fn left_over(&mut self, number: u64) {
        self.left_over.push(number);
    }

    /// Reads the next segment. The first that counts may have any number, if a snapshot covers all before it.
    pub(crate) fn segment(&mut self, number: u64, window: &mut Window<'_>) -> Result<(), Stop> {
        self.check_owner(number, window)?;
        if self.segment == 0 {
            if !self.is_beginning(number, window)? {
                self.left_over(number);
                return Ok(());
            }
        } else if number != self.segment + 1 {
            return Err(self.missing(self.segment + 1).into());
        } else {
            // The file is made after the header of the segment before it was synced.
            self.claim(LogOffset::new(self.segment, 1));
        }
        self.segment = number;
        // The log goes on in another segment only behind a seal.
        if self.number > 0 && !self.sealed {
            self.broken.get_or_insert(self.end);
        } else if self.number > 0 && self.end.segment + 1 == number {
            // It was whole before the seal was written, whatever stands behind the seal now.
            self.check_length(number, self.next_bytes, window.bytes())?;
        }
        let end = if self.broken.is_some() { 0 } else { self.follow(number, window)? };
        let rest = LogOffset::new(number, end);
        let is_blank = window.is_blank_from(end)?;
        if !is_blank {
            self.broken.get_or_insert(rest);
            self.torn.get_or_insert(rest);
            self.search(number, end, window)?;
        }
        if end == 0 {
            self.broken.get_or_insert(rest);
            self.next = Some(Unused { is_blank, bytes: window.bytes() });
        }
        Ok(())
    }

    /// Whether the log can begin with this segment: it is the first of all, or a snapshot covers all before it.
    fn is_beginning(&mut self, number: u64, window: &mut Window<'_>) -> Result<bool, Stop> {
        if number == 1 {
            return Ok(true);
        }
        let place = LogOffset::new(number, 0);
        if number > NUMBER_MAX {
            return Err(self.senseless(place, "its number is one that no log reaches").into());
        }
        if window.is_blank_from(0)? {
            return Err(self.missing(self.uncovered.unwrap_or(number) - 1).into());
        }
        if let Some(Record { body: Body::Header(header), .. }) = self.read(place, window)?
            && header.last.index > self.snapshot.index
        {
            self.uncovered.get_or_insert(number);
            return Ok(false);
        }
        // What was before it was deleted only once its header was synced.
        self.claim(LogOffset::new(number, HEADER_RECORD_BYTES as u64));
        Ok(true)
    }

    /// Says what it all means. `None` if there is no record at all and none is missed.
    pub(crate) fn judge(mut self) -> Result<Option<Recovered>, LogError> {
        if let Some(at) = self.broken
            && at < self.synced
        {
            let damage = Damage { at, synced: self.synced, index: self.lost() };
            return Err(LogError::Damaged(damage));
        }
        if self.sealed && self.end.segment == self.segment {
            return Err(self.missing(self.segment + 1));
        }
        if self.number == 0 {
            return match self.uncovered {
                Some(number) => Err(self.missing(number - 1)),
                None => Ok(None),
            };
        }
        let index = self.last.index.next();
        let outcome = self.torn.map_or(Outcome::Clean, |at| Outcome::Torn(Cut { at, index }));
        // What was found to be synced since needs not be written again.
        let written = usize::try_from(self.end.offset - self.known()).expect("bytes in memory");
        let tail = self.tail.split_off(self.tail.len() - written);
        let holds_snapshot = self.holds(self.snapshot);
        if !holds_snapshot && self.snapshot.index <= self.reset.index {
            return Err(self.senseless(self.end, "the log begins behind another snapshot of that index"));
        }
        let mut usage = self.usage;
        usage.cover(self.snapshot.index);
        Ok(Some(Recovered {
            outcome,
            hard_state: self.hard_state,
            base: self.base,
            reset: self.reset,
            last: self.last,
            entries: self.entries.into(),
            holds_snapshot,
            left_over: self.left_over,
            older: self.older,
            usage,
            number: self.number,
            checksum: self.checksum,
            end: self.end,
            segment_bytes: self.segment_bytes,
            sealed: self.sealed,
            tail,
            next: self.next,
            marked: self.marked,
            claimed: self.claimed,
        }))
    }

    fn holds(&self, position: Position) -> bool {
        if position.index <= self.base.index {
            return position == self.base;
        }
        let at =
            usize::try_from(position.index.distance_from(self.base.index)).expect("entries in memory") - 1;
        self.entries.get(at).is_some_and(|entry| entry.position == position)
    }

    fn check_owner(&self, number: u64, window: &mut Window<'_>) -> Result<(), Stop> {
        let bytes = record::whole_bytes(window.get(0, HEAD_BYTES)?, number).unwrap_or(0);
        match record::header_owner(window.get(0, bytes.max(HEADER_RECORD_BYTES))?, number) {
            Some(found) if found != self.owner => {
                let file = LogOffset::new(number, 0).file();
                Err(LogError::Foreign { file, found, expected: self.owner }.into())
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Follows the chain from the segment's beginning; returns where it ends.
    fn follow(&mut self, number: u64, window: &mut Window<'_>) -> Result<u64, Stop> {
        let mut at = 0;
        window.keep_from(0);
        // The log's very first segment follows nothing; every other one follows a seal.
        let mut open = self.number == 0 || self.sealed;
        while open && at < window.bytes() {
            let place = LogOffset::new(number, at);
            let Some(record) = self.read(place, window)? else { break };
            let follows =
                record.head.number == self.number + 1 && record.head.previous_checksum == self.checksum;
            // What the first one follows is deleted.
            let is_first = self.number == 0 && number > 1;
            if is_first && !(number..NUMBER_MAX).contains(&record.head.number) {
                return Err(self.senseless(place, "its number is one that no log reaches").into());
            }
            if !is_first && !follows {
                if at == 0 {
                    let what = "this segment does not follow the one before it";
                    return Err(self.senseless(place, what).into());
                }
                break;
            }
            if (at == 0) != matches!(record.body, Body::Header(_)) {
                return Err(self.senseless(place, "a segment header is not where a segment begins").into());
            }
            at += record.bytes as u64;
            self.take(place, record, is_first, window.bytes())?;
            open = !self.sealed;
            window.keep_from(self.known());
        }
        if at > 0 {
            let known = self.known();
            self.tail = window.get(known, usize::try_from(at - known).expect("bytes in memory"))?.to_vec();
            self.segment_bytes = window.bytes();
        }
        window.keep_from(u64::MAX);
        Ok(at)
    }

    /// Takes the next record of the chain, in a file of so many bytes.
    fn take(
        &mut self,
        place: LogOffset,
        record: Record,
        is_first: bool,
        file_bytes: u64,
    ) -> Result<(), LogError> {
        self.claim(record.head.synced);
        self.number = record.head.number;
        self.checksum = record.checksum;
        let bytes = record.bytes as u64;
        self.end = LogOffset::new(place.segment, place.offset + bytes);
        self.sealed = matches!(record.body, Body::Seal { .. });
        self.marked = matches!(record.body, Body::Marker);
        match record.body {
            Body::Header(header) if is_first => self.first_header(place, &header, file_bytes)?,
            Body::Header(header) => self.header(place, &header, file_bytes)?,
            Body::Write { hard_state, entries } => {
                self.write(place, hard_state, entries)?;
                self.usage.add(self.last.index, bytes);
            }
            Body::Seal { next_bytes } => self.next_bytes = next_bytes,
            Body::Marker => {}
        }
        Ok(())
    }

    /// In the segment of the end: up to where it is known to be synced.
    fn known(&self) -> u64 {
        if self.synced.segment < self.end.segment { 0 } else { self.synced.min(self.end).offset }
    }

    /// Looks behind a break for records that claim something.
    fn search(&mut self, number: u64, from: u64, window: &mut Window<'_>) -> Result<(), Stop> {
        let mut at = from;
        while at + HEAD_BYTES as u64 <= window.bytes() {
            // Where zeros stand for the number of the segment no record begins.
            let zeros = window::zeros(window.get(at, SEARCH_BYTES)?);
            if let Some(more) = zeros.checked_sub(SEGMENT_FIELD_END) {
                at += (more / ALIGNMENT * ALIGNMENT + ALIGNMENT) as u64;
                continue;
            }
            at += match self.read(LogOffset::new(number, at), window)? {
                Some(record) => {
                    // If all of it turns out to be a torn tail, this claim is cut with it.
                    self.synced = self.synced.max(record.head.synced);
                    record.bytes as u64
                }
                None => ALIGNMENT as u64,
            };
        }
        Ok(())
    }

    fn read(&self, place: LogOffset, window: &mut Window<'_>) -> Result<Option<Record>, Stop> {
        let head = window.get(place.offset, HEAD_BYTES)?;
        let Some(bytes) = record::whole_bytes(head, place.segment) else { return Ok(None) };
        match record::decode(window.get(place.offset, bytes)?, self.owner, place.segment) {
            Ok(record) => Ok(Some(record)),
            Err(NoRecord::Invalid) => Ok(None),
            Err(NoRecord::Newer { found }) => Err(LogError::NewerFormat { at: place, found }.into()),
            Err(NoRecord::Senseless(what)) => Err(self.senseless(place, what).into()),
        }
    }

    /// The header of the first segment that is left says where the log begins.
    fn first_header(&mut self, place: LogOffset, header: &SegmentHeader, found: u64) -> Result<(), LogError> {
        self.check_length(place.segment, header.segment_bytes, found)?;
        let SegmentHeader { hard_state, base, last, .. } = *header;
        if base.index > last.index || last.term > hard_state.term {
            return Err(self.senseless(place, "a segment header contradicts itself"));
        }
        self.hard_state = hard_state;
        self.reset = base;
        self.base = last;
        self.last = last;
        Ok(())
    }

    fn header(&mut self, place: LogOffset, header: &SegmentHeader, found: u64) -> Result<(), LogError> {
        self.check_length(place.segment, header.segment_bytes, found)?;
        // What the header repeats is what the log before it has said.
        if header.hard_state != self.hard_state {
            return Err(self.senseless(place, "a segment header contradicts the segment before it"));
        }
        if place.segment > 1 {
            let bytes = self.segment_bytes;
            self.older.push_back(Older { number: place.segment - 1, bytes, last: header.last });
        }
        if header.base != self.reset {
            return self.begin_anew(place, header);
        }
        if header.last != self.last {
            return Err(
                self.senseless(place, "a segment begins at another entry than the one before it ended with")
            );
        }
        Ok(())
    }

    /// A header with another base: what was before it is dropped, and the log begins at a snapshot.
    fn begin_anew(&mut self, place: LogOffset, header: &SegmentHeader) -> Result<(), LogError> {
        let base = header.base;
        if base != header.last || base.index <= self.reset.index || base.term > self.hard_state.term {
            return Err(self.senseless(place, "a segment header moves the log's base to where it cannot be"));
        }
        if base.index > self.snapshot.index {
            return Err(LogError::MissingSnapshot { at: place, snapshot: base });
        }
        self.reset = base;
        self.base = base;
        self.last = base;
        self.truncate(0);
        Ok(())
    }

    fn write(
        &mut self,
        place: LogOffset,
        hard_state: Option<HardState>,
        entries: Vec<Entry>,
    ) -> Result<(), LogError> {
        if let Some(hard_state) = hard_state {
            if hard_state.term < self.hard_state.term {
                return Err(self.senseless(place, "the term goes back"));
            }
            self.hard_state = hard_state;
        }
        let Some(first) = entries.first() else { return Ok(()) };
        if first.position.index > self.last.index.next() || first.position.index <= self.reset.index {
            return Err(self.senseless(place, "entries are missing before it"));
        }
        let sinks = first.position.index <= self.base.index;
        if sinks {
            // The header's last entry was truncated later, and the segments before it are deleted since: what
            // stands before this write is covered by the snapshot, like this entry itself.
            self.truncate(0);
            self.last = Position::new(Term::ZERO, first.position.index.previous());
        } else {
            let keep = first.position.index.previous().distance_from(self.base.index);
            self.truncate(usize::try_from(keep).expect("entries in memory"));
            self.last = self.entries.back().map_or(self.base, |entry| entry.position);
        }
        for entry in &entries {
            if entry.position.index != self.last.index.next() || entry.position.term < self.last.term {
                return Err(self.senseless(place, "its entries do not follow each other"));
            }
            if entry.position.term == Term::ZERO {
                return Err(self.senseless(place, "an entry is of term zero, in which nobody leads"));
            }
            if entry.position.term > self.hard_state.term {
                return Err(self.senseless(place, "an entry is of a later term than the hard state"));
            }
            self.last = entry.position;
        }
        let mut entries = entries.into_iter();
        if sinks {
            self.base = entries.next().map_or(self.base, |entry| entry.position);
        }
        for entry in entries {
            self.covered_bytes += self.covered_cost(&entry);
            self.entries.push_back(entry);
        }
        self.leave_to_snapshot();
        Ok(())
    }

    /// Keeps so many entries.
    fn truncate(&mut self, keep: usize) {
        let cut: u64 = self.entries.iter().skip(keep).map(|entry| self.covered_cost(entry)).sum();
        self.covered_bytes -= cut;
        self.entries.truncate(keep);
    }

    /// Bytes of an entry that the snapshot covers.
    fn covered_cost(&self, entry: &Entry) -> u64 {
        if entry.position.index <= self.snapshot.index { entry.cost() as u64 } else { 0 }
    }

    /// Lets go what stands too far behind the snapshot. It was read and judged like all else; in memory it would be of use
    /// to nobody, and the log of a start is long.
    fn leave_to_snapshot(&mut self) {
        while self.covered_bytes > self.tail_bytes
            && let Some(entry) = self.entries.pop_front()
        {
            self.covered_bytes -= self.covered_cost(&entry);
            self.base = entry.position;
        }
    }

    fn check_length(&self, segment: u64, expected: u64, found: u64) -> Result<(), LogError> {
        if expected == found {
            return Ok(());
        }
        let file = LogOffset::new(segment, 0).file();
        Err(LogError::WrongLength { file, expected, found, index: self.lost() })
    }

    fn claim(&mut self, synced: LogOffset) {
        self.synced = self.synced.max(synced);
        self.claimed = self.claimed.max(synced);
    }

    /// The first index that may be lost: what the snapshot covers is not.
    fn lost(&self) -> Index {
        self.last.index.max(self.snapshot.index).next()
    }

    fn missing(&self, segment: u64) -> LogError {
        LogError::MissingSegment { file: LogOffset::new(segment, 0).file(), index: self.lost() }
    }

    fn senseless(&self, at: LogOffset, what: &'static str) -> LogError {
        LogError::Senseless { at, what, index: self.lost() }
    }
}
