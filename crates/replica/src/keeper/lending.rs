//! Complete snapshots that are read for other servers: each is verified whole, a block at a time, before a transfer begins,
//! and then kept open, so that all who fetch it share one file, also after it has lost its name. Knows nothing of what is in
//! them.

use std::collections::VecDeque;

use quorate_raft::{NodeId, Position};
use quorate_storage::snapshot::file_name;
use quorate_storage::{ClusterId, Disk, DiskError, SnapshotCheck, SnapshotError, SnapshotFile};

use crate::sabotage::Bug;
use crate::transfer::SnapshotNews;

/// Snapshots that are kept open for others: as many as there are names for, and one more that a transfer is in the middle of.
const OPEN_MAX: usize = quorate_storage::snapshot::SNAPSHOTS_KEPT + 1;

/// Somebody wants a piece.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    pub(super) to: NodeId,
    pub(super) cluster: ClusterId,
    pub(super) last: Position,
    pub(super) offset: u64,
    pub(super) length: usize,
}

impl Question {
    fn answer(self, piece: Option<(u64, bytes::Bytes)>) -> SnapshotNews {
        let Self { to, last, offset, .. } = self;
        SnapshotNews::Read { to, last, offset, piece }
    }

    fn rotten(self, why: String) -> SnapshotNews {
        let Self { to, last, offset, .. } = self;
        SnapshotNews::Rotten { to, last, offset, why }
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Lending {
    /// Verified, the one that was asked for last at the end.
    open: Vec<SnapshotFile>,
    checks: VecDeque<Check>,
    /// What came of a check, for each who has waited for it.
    news: VecDeque<SnapshotNews>,
}

/// A snapshot that is being verified.
struct Check {
    check: SnapshotCheck,
    waiting: Vec<Question>,
}

impl Lending {
    /// Answers at once where the snapshot is open or not there at all; else it is verified first. A transfer that begins, also
    /// one that was refused on the other side and begins again, has it verified anew: what has rotted never travels twice.
    pub(super) fn ask(
        &mut self,
        disk: &dyn Disk,
        question: Question,
    ) -> Result<Option<SnapshotNews>, DiskError> {
        let Question { last, offset, .. } = question;
        let open = self.open.iter().position(|file| file.position() == last);
        if let Some(at) = open.filter(|_| offset > 0) {
            let file = self.open.remove(at);
            self.open.push(file);
            return self.read(question).map(Some);
        }
        if let Some(under_way) = self.checks.iter_mut().find(|check| check.check.position() == last) {
            under_way.waiting.push(question);
            return Ok(None);
        }
        // One that has lost its name is verified by what is open of it.
        let file = match open {
            Some(at) => self.open.remove(at),
            None if !disk.exists(&file_name(last))? => return Ok(Some(question.answer(None))),
            None => SnapshotFile::open(disk, question.cluster, last)?,
        };
        if Bug::ServesRottenSnapshots.is_put_back() {
            self.keep_open(file);
            return self.read(question).map(Some);
        }
        self.checks.push_back(Check { check: SnapshotCheck::new(file), waiting: vec![question] });
        Ok(None)
    }

    /// Verifies one block, or gives an answer that was waited for. Says whether there was anything to do.
    pub(super) fn work(&mut self) -> Result<(bool, Option<SnapshotNews>), DiskError> {
        if let Some(news) = self.news.pop_front() {
            return Ok((true, Some(news)));
        }
        let Some(mut first) = self.checks.pop_front() else { return Ok((false, None)) };
        match first.check.goes_on() {
            Ok(true) => self.checks.push_front(first),
            Ok(false) => {
                self.keep_open(first.check.into_file());
                for question in first.waiting {
                    let news = self.read(question)?;
                    self.news.push_back(news);
                }
            }
            Err(SnapshotError::Disk(error)) => return Err(error),
            Err(error) => {
                self.news
                    .extend(first.waiting.into_iter().map(|question| question.rotten(error.to_string())));
            }
        }
        Ok((true, self.news.pop_front()))
    }

    /// Nothing is kept open any more.
    pub(super) fn close(&mut self) {
        self.open.clear();
    }

    fn keep_open(&mut self, file: SnapshotFile) {
        if self.open.len() == OPEN_MAX {
            self.open.remove(0);
        }
        self.open.push(file);
    }

    /// Reads from the one that was asked for last.
    fn read(&self, question: Question) -> Result<SnapshotNews, DiskError> {
        let file = self.open.last().expect("it has just been put there");
        let piece = file.read_at(question.offset, question.length)?;
        Ok(question.answer(Some((file.bytes(), piece))))
    }
}
