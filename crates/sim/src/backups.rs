//! A client that takes backups, piece after piece, of any server and over connections that break; now and then it dies in
//! the middle. What it gets is compared with what the log makes: a backup is the state at its index, whole, and its index is
//! behind all that was committed when it was asked for.

use quorate_raft::{Index, Position, Term};
use quorate_replica::backup::{BackupCall, BackupId};
use quorate_replica::command::{Operation, Reply};
use quorate_replica::keeper::{self, RestoreError};
use quorate_replica::value::Value;
use quorate_storage::{ClusterId, SimDisk, SnapshotError, SnapshotFile};

use crate::invariants::{Violation, violation};
use crate::network::HostIndex;
use crate::options::Options;
use crate::prng::Prng;
use crate::schedule::{MS, Micros, SECOND};
use crate::world::{ClientIndex, Happening, Phase, World};

/// Silence after which the connection is given up; longer than a server holds a request.
const PATIENCE: Micros = 12 * SECOND;
/// The longest pause between two questions; between two backups it may be so many times longer.
const PAUSE_MAX: Micros = 100 * MS;
const PAUSES_BETWEEN_MAX: u64 = 40;
/// Bytes of a piece at most.
const PIECE_BYTES_MAX: u64 = 8 << 10;
/// It dies before a question, with this probability.
const DEATH: f64 = 0.01;

/// See the module.
#[derive(Debug)]
pub struct BackupTaker {
    client: ClientIndex,
    prng: Prng,
    hosts: u64,
    host: HostIndex,
    wire: Option<u64>,
    asked: Option<(u64, Micros)>,
    stage: Stage,
}

/// How far it is.
#[derive(Debug)]
enum Stage {
    /// It will ask for one that holds everything that is committed by then.
    Resting,
    /// It was asked when everything up to here was committed.
    Begun { committed: Index },
    /// It has a name.
    Waiting { id: BackupId, committed: Index },
    /// Its bytes are coming.
    Reading(Reading),
}

#[derive(Debug)]
struct Reading {
    id: BackupId,
    committed: Index,
    position: Position,
    cluster: ClusterId,
    total: u64,
    bytes: Vec<u8>,
}

impl BackupTaker {
    /// One that has not dialled.
    pub fn new(client: ClientIndex, options: &Options, prng: Prng) -> Self {
        Self { client, prng, hosts: options.hosts(), host: 0, wire: None, asked: None, stage: Stage::Resting }
    }

    pub(crate) fn wake(&mut self, world: &mut World) {
        let rests = matches!(self.stage, Stage::Resting);
        let pause = PAUSE_MAX * if rests { PAUSES_BETWEEN_MAX } else { 1 };
        let pause = self.prng.between(MS, pause);
        world.schedule.after(pause, Happening::ClientWakes { client: self.client });
        if let (Some(wire), Some((_, at))) = (self.wire, self.asked) {
            if world.now() <= at + PATIENCE {
                return;
            }
            world.hang_up(wire);
            self.lost(wire);
        }
        if world.phase == Phase::Draining {
            return;
        }
        if self.prng.chance(DEATH) {
            self.forget();
        }
        if matches!(self.stage, Stage::Resting) {
            if let Some(wire) = self.wire.take() {
                world.hang_up(wire);
            }
            self.host = self.prng.below(self.hosts) as HostIndex;
        }
        let wire = match self.wire {
            Some(wire) => wire,
            None => *self.wire.insert(world.dial(self.client, self.host)),
        };
        let call = match &self.stage {
            Stage::Resting => {
                // Whatever a client was told by now was committed before.
                self.stage = Stage::Begun { committed: world.invariants.committed.index() };
                BackupCall::Begin
            }
            // Its answer was lost; that backup is nobody's now.
            Stage::Begun { .. } => return self.forget(),
            Stage::Waiting { id, .. } => BackupCall::State(*id),
            Stage::Reading(reading) if reading.bytes.len() as u64 >= reading.total => {
                BackupCall::End(reading.id)
            }
            Stage::Reading(reading) => {
                let count = self.prng.between(1, PIECE_BYTES_MAX) as usize;
                BackupCall::Read { id: reading.id, offset: reading.bytes.len() as u64, count }
            }
        };
        self.asked = world.ask(wire, Operation::Backup(call)).map(|tag| (tag, world.now()));
    }

    pub(crate) fn answered(
        &mut self,
        world: &mut World,
        wire: u64,
        tag: u64,
        reply: &Reply,
    ) -> Result<(), Violation> {
        let is_ours = self.wire == Some(wire) && self.asked.take_if(|(asked, _)| *asked == tag).is_some();
        if !is_ours {
            return Ok(());
        }
        match (std::mem::replace(&mut self.stage, Stage::Resting), reply) {
            (Stage::Begun { committed }, Reply::Values(values)) => match parse(values, 0) {
                Some(id) => self.stage = Stage::Waiting { id, committed },
                None => return violation("backup", format!("begun as {values:?}")),
            },
            (Stage::Waiting { id, committed }, Reply::Values(values)) => {
                self.stage = match ready(values) {
                    None => Stage::Waiting { id, committed },
                    Some((position, total, cluster)) => {
                        let bytes = Vec::new();
                        Stage::Reading(Reading { id, committed, position, cluster, total, bytes })
                    }
                };
            }
            (Stage::Reading(mut reading), Reply::Value(piece)) => {
                if piece.is_empty() {
                    return violation("backup", format!("{:?} ends before its end", reading.id));
                }
                reading.bytes.extend_from_slice(&piece.to_bytes());
                self.stage = Stage::Reading(reading);
            }
            (Stage::Reading(reading), Reply::Ok) => return reading.check(world, self.client, self.host),
            // Not now, or not there any more: another one, some time.
            (_, Reply::Error(_)) => {}
            (stage, reply) => return violation("backup", format!("{stage:?} was answered {reply:?}")),
        }
        Ok(())
    }

    /// A connection has ended; on another one the backup goes on.
    pub(crate) fn lost(&mut self, wire: u64) {
        if self.wire == Some(wire) {
            self.wire = None;
            self.asked = None;
        }
    }

    /// Another begins in its place, and knows nothing.
    pub(crate) fn forget(&mut self) {
        self.wire = None;
        self.asked = None;
        self.stage = Stage::Resting;
    }
}

impl Reading {
    /// It must be what the simulator's own machine was at this index; or visibly damaged, where its server's disk has rotted
    /// while it was read.
    fn check(self, world: &mut World, client: ClientIndex, host: HostIndex) -> Result<(), Violation> {
        let Self { committed, position, cluster, bytes, .. } = self;
        let wrong =
            |what: String| violation("backup", format!("c{client} got one at {position} that {what}"));
        if position.index < committed {
            return wrong(format!("was begun when everything up to {committed} was committed"));
        }
        let disk = SimDisk::new();
        disk.plant("backup", Some(bytes));
        let loaded = SnapshotFile::open_named(&disk, "backup")
            .map_err(|error| RestoreError::File(error.into()))
            .and_then(|file| Ok((file.cluster(), keeper::load(&file, 1)?)));
        let machine = match loaded {
            Ok((of, machine)) if of == cluster => machine,
            Ok((of, _)) => return wrong(format!("is of cluster {of}")),
            Err(RestoreError::File(SnapshotError::Damaged { .. })) if world.hosts[host].is_rotten => {
                world.line(format_args!("c{client} has a backup at {position}, and sees that it is damaged"));
                return Ok(());
            }
            Err(error) => return wrong(error.to_string()),
        };
        if world.invariants.state_machine.digest_at(position.index) != Some(machine.digest()) {
            return wrong("is not what the log makes up to there".to_owned());
        }
        world.counts.backups += 1;
        world.line(format_args!("c{client} has a backup at {position}"));
        Ok(())
    }
}

fn parse<T: std::str::FromStr>(values: &[Option<Value>], at: usize) -> Option<T> {
    let bytes = values.get(at)?.as_ref()?.to_bytes().into_owned();
    String::from_utf8(bytes).ok()?.parse().ok()
}

/// What a backup is, once it is ready.
fn ready(values: &[Option<Value>]) -> Option<(Position, u64, ClusterId)> {
    let cluster: String = parse(values, 4)?;
    let cluster = ClusterId::new(u128::from_str_radix(&cluster, 16).ok()?)?;
    Some((Position::new(Term(parse(values, 2)?), Index(parse(values, 1)?)), parse(values, 3)?, cluster))
}
