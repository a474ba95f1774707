//! A member and its backups: when one may begin, and what is done for it. What one is, is in [`crate::backup`].

use quorate_raft::Position;
use quorate_storage::snapshot::BLOCK_BYTES_MAX;

use super::Member;
use crate::backup::{
    Asked, BACKUP_PIECE_BYTES_MAX, BACKUPS_MAX, BackupCall, BackupId, BackupJob, BackupNews, Stage,
};
use crate::command::{Query, Reply, ReplyError};
use crate::pending::WaitingRead;
use crate::replica::{Answer, ConnectionId, Outbox};
use crate::sabotage::Bug;
use crate::transfer::SnapshotJob;
use crate::value::Value;

const _: () = assert!(BACKUP_PIECE_BYTES_MAX <= 2 * BLOCK_BYTES_MAX);

impl Member {
    /// Backups under way.
    pub(crate) fn backup_count(&self) -> usize {
        self.backups.count()
    }

    pub(super) fn backup(&mut self, to: (ConnectionId, u64), call: BackupCall, out: &mut Outbox) {
        let now_ms = self.uptime_ms;
        let reply = match call {
            BackupCall::Begin => match self.backup_begin(to) {
                Ok(()) => return,
                Err(error) => Reply::Error(error),
            },
            BackupCall::State(id) => self.backup_state(id),
            BackupCall::Read { id, offset, count } => {
                let number = self.backup_number(id);
                match number.and_then(|number| Some((number, self.backups.touch(number, now_ms)?))) {
                    Some((number, backup)) if matches!(backup.stage, Stage::Ready { .. }) => {
                        if backup.begin_read() {
                            let count = count.min(BACKUP_PIECE_BYTES_MAX);
                            submit(BackupJob::Read { number, to, offset, count }, out);
                            return;
                        }
                        let why = "too many pieces of this backup are asked for at once; wait for some";
                        Reply::Error(ReplyError::NotServing(why.to_owned()))
                    }
                    Some(_) => {
                        let why = "the snapshot of this backup is not ready: BACKUP STATE says when it is";
                        Reply::Error(ReplyError::NotServing(why.to_owned()))
                    }
                    None => Reply::Error(ReplyError::NoBackup),
                }
            }
            BackupCall::End(id) => {
                if let Some(number) = self.backup_number(id)
                    && self.backups.open.remove(&number).is_some()
                {
                    submit(BackupJob::Close { number }, out);
                }
                Reply::Ok
            }
        };
        let (connection, tag) = to;
        out.actions.answers.push(Answer { connection, tag, reply });
    }

    /// Waits for a read index, as a read that nothing rides on.
    fn backup_begin(&mut self, to: (ConnectionId, u64)) -> Result<(), ReplyError> {
        if !self.backups.has_room() {
            let text = format!("backups full: {BACKUPS_MAX} are under way at this server; end one or wait");
            return Err(ReplyError::NotServing(text));
        }
        let (connection, tag) = to;
        let order = self.connections.get(&connection);
        let last_write = order.and_then(|order| order.last_write);
        let after = last_write.filter(|ticket| self.gateway.is_unresolved(*ticket));
        let is_confirmed = Bug::BackupWithoutRound.is_put_back();
        if !is_confirmed {
            let arrived_ms = self.uptime_ms;
            self.reads.push(WaitingRead { connection, tag, query: Query::Size, arrived_ms, after: None });
        }
        self.backups.asked.push(Asked { to, after, is_confirmed });
        Ok(())
    }

    fn backup_state(&mut self, id: BackupId) -> Reply {
        let number = self.backup_number(id);
        let cluster = self.cluster;
        let now_ms = self.uptime_ms;
        let Some((number, backup)) =
            number.and_then(|number| Some((number, self.backups.touch(number, now_ms)?)))
        else {
            return Reply::Error(ReplyError::NoBackup);
        };
        match &backup.stage {
            Stage::Taking | Stage::Opening => texts(&["taking".to_owned(), backup.floor.0.to_string()]),
            Stage::Ready { position, bytes } => {
                let (index, term) = (position.index.0.to_string(), position.term.0.to_string());
                texts(&["ready".to_owned(), index, term, bytes.to_string(), cluster.to_string()])
            }
            Stage::Failed(why) => {
                let error = ReplyError::BackupFailed(why.clone());
                self.backups.open.remove(&number);
                Reply::Error(error)
            }
        }
    }

    /// The number of a backup of this process.
    fn backup_number(&self, id: BackupId) -> Option<u64> {
        (id.start == self.start).then_some(id.number)
    }

    /// At the end of a step: what was confirmed begins with what is applied now.
    pub(super) fn begin_backups(&mut self, out: &mut Outbox) {
        let mut at = 0;
        while let Some(asked) = self.backups.asked.get(at).copied() {
            let is_behind = asked.after.is_none_or(|ticket| !self.gateway.is_unresolved(ticket));
            if !asked.is_confirmed || !is_behind {
                at += 1;
                continue;
            }
            self.backups.asked.remove(at);
            let (connection, tag) = asked.to;
            if self.is_in_doubt() {
                let reply = Reply::Error(self.not_serving());
                out.actions.answers.push(Answer { connection, tag, reply });
                continue;
            }
            let floor = self.machine.applied();
            let number = self.backups.begin(floor, self.uptime_ms);
            let id = BackupId { start: self.start, number };
            let reply = texts(&[id.to_string(), floor.0.to_string()]);
            out.actions.answers.push(Answer { connection, tag, reply });
        }
    }

    /// Opens what is there by now, has a snapshot taken for the rest, and gives up what nobody asks for.
    pub(super) fn tick_backups(&mut self, out: &mut Outbox) {
        for number in self.backups.take_idle(self.uptime_ms) {
            submit(BackupJob::Close { number }, out);
        }
        let (cluster, position) = (self.cluster, self.node.snapshot());
        let (mut is_wanted, mut is_missed) = (false, false);
        for (number, backup) in &mut self.backups.open {
            if backup.stage != Stage::Taking {
                continue;
            }
            if position.index < backup.floor || position.index.0 == 0 {
                is_wanted = true;
            } else if backup.looked_for == Some(position) {
                is_missed = true;
            } else {
                (backup.stage, backup.looked_for) = (Stage::Opening, Some(position));
                submit(BackupJob::Open { number: *number, cluster, position }, out);
            }
        }
        // Where it has failed, not at once again, however often a backup is begun.
        if is_wanted && self.transfers.may_take(self.uptime_ms) {
            self.transfers.ask();
        }
        if is_missed {
            self.replace_snapshot(out);
        }
    }

    /// A snapshot of this position was written: one that was not there is now.
    pub(super) fn look_again(&mut self, position: Position) {
        for backup in self.backups.open.values_mut() {
            backup.looked_for.take_if(|looked_for| *looked_for == position);
        }
    }

    pub(super) fn backup_news(&mut self, news: BackupNews, out: &mut Outbox) {
        match news {
            BackupNews::Open { number, position, bytes } => match self.backups.open.get_mut(&number) {
                Some(backup) => backup.stage = Stage::Ready { position, bytes },
                // It was ended meanwhile.
                None => submit(BackupJob::Close { number }, out),
            },
            BackupNews::NotThere { number } => {
                if let Some(backup) = self.backups.open.get_mut(&number) {
                    backup.stage = Stage::Taking;
                }
            }
            BackupNews::Read { number, to: (connection, tag), piece } => {
                let backup = self.backups.touch(number, self.uptime_ms);
                if let Some(backup) = backup {
                    backup.reading -= 1;
                }
                let reply = match piece {
                    // Its file is closed: this is not its end.
                    Ok(_) if !self.backups.open.contains_key(&number) => Reply::Error(ReplyError::NoBackup),
                    Ok(piece) => Reply::Value(piece),
                    Err(why) => Reply::Error(ReplyError::BackupFailed(why)),
                };
                out.actions.answers.push(Answer { connection, tag, reply });
            }
        }
    }
}

fn submit(job: BackupJob, out: &mut Outbox) {
    out.actions.snapshot_jobs.push(SnapshotJob::Backup(job));
}

fn texts(texts: &[String]) -> Reply {
    Reply::Values(texts.iter().map(|text| Some(Value::copy_from(text.as_bytes()))).collect())
}
