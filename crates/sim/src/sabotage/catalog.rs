//! All bugs that can be put back, in the order of the table in `docs/simulation.md`.

use quorate_raft::sabotage::Bug as raft;
use quorate_replica::sabotage::Bug as replica;
use quorate_storage::DiskBug;
use quorate_storage::sabotage::Bug as log;

use super::{Bug, Sabotage, weather};

/// Those that can be put back.
pub const SABOTAGES: &[Sabotage] = &[
    Sabotage {
        name: "commit-without-majority",
        about: "of five servers, what the leader and one other hold is committed",
        bug: Bug::Raft(raft::CommitsWithoutMajority),
        weather: weather::large,
    },
    Sabotage {
        name: "commit-old-term",
        about: "an entry of an old term is committed by counting (figure 8)",
        bug: Bug::Raft(raft::CommitsOldTerm),
        weather: weather::figure_eight,
    },
    Sabotage {
        name: "vote-before-sync",
        about: "a vote leaves before it is durable",
        bug: Bug::Raft(raft::VotesBeforeSync),
        weather: weather::light,
    },
    Sabotage {
        name: "term-before-sync",
        about: "a server speaks in a term before the term is durable",
        bug: Bug::Raft(raft::SpeaksBeforeTerm),
        weather: weather::slow_disks,
    },
    Sabotage {
        name: "stale-acknowledgement",
        about: "an acknowledgement of an earlier term is counted, by its index alone",
        bug: Bug::Raft(raft::CountsStaleAcknowledgements),
        weather: weather::late_acknowledgements,
    },
    Sabotage {
        name: "older-write",
        about: "the end of an older write makes durable what was written anew since",
        bug: Bug::Raft(raft::TrustsOlderWrite),
        weather: weather::slow_disks,
    },
    Sabotage {
        name: "leader-before-sync",
        about: "the leader counts itself before its own sync",
        bug: Bug::Raft(raft::CountsItselfBeforeSync),
        weather: weather::slow_disks,
    },
    Sabotage {
        name: "read-without-round",
        about: "a read is served without a confirmed round",
        bug: Bug::Raft(raft::ReadsWithoutRound),
        weather: weather::reads,
    },
    Sabotage {
        name: "read-before-own-commit",
        about: "a new leader serves reads before it has committed in its term",
        bug: Bug::Raft(raft::ReadsBeforeOwnCommit),
        weather: weather::reads,
    },
    Sabotage {
        name: "read-joins-round",
        about: "a read joins a round whose messages have left",
        bug: Bug::Raft(raft::JoinsRoundUnderWay),
        weather: weather::reads,
    },
    Sabotage {
        name: "old-echo",
        about: "the echo of an older round counts",
        bug: Bug::Raft(raft::CountsOldEchoes),
        weather: weather::late_reads,
    },
    Sabotage {
        name: "old-process-reply",
        about: "the answer to a read of an earlier process counts",
        bug: Bug::Replica(replica::BelievesOldReplies),
        weather: weather::short_lives,
    },
    Sabotage {
        name: "timeout-drawn-once",
        about: "the election timeout is drawn once and never again",
        bug: Bug::Raft(raft::DrawsTimeoutOnce),
        weather: weather::same_start,
    },
    Sabotage {
        name: "silent-pre-vote",
        about: "a pre-vote is refused without a word of the term that it is refused for",
        bug: Bug::Raft(raft::RefusesPreVoteSilently),
        weather: weather::lost_servers,
    },
    Sabotage {
        name: "next-below-match",
        about: "the next index may fall to the match index",
        bug: Bug::Raft(raft::NextBelowMatch),
        weather: weather::late_messages,
    },
    Sabotage {
        name: "repeat-without-reply",
        about: "a command that is sent again is skipped without its answer",
        bug: Bug::Replica(replica::SkipsRepeats),
        weather: weather::resends,
    },
    Sabotage {
        name: "reply-before-effect",
        about: "a reply is recorded before the command has run",
        bug: Bug::Replica(replica::RecordsBeforeEffect),
        weather: weather::resends,
    },
    Sabotage {
        name: "waiters-left",
        about: "who waits is left waiting when leadership is lost",
        bug: Bug::Replica(replica::LeavesWaiters),
        weather: weather::elections,
    },
    Sabotage {
        name: "leave-in-flight",
        about: "a server that is told to stop does so as soon as another leads, whoever waits",
        bug: Bug::Replica(replica::LeavesInFlight),
        weather: weather::leaving,
    },
    Sabotage {
        name: "local-expiry",
        about: "sessions expire by each server's own clock",
        bug: Bug::Replica(replica::ExpiresByLocalClock),
        weather: weather::wrong_clocks,
    },
    Sabotage {
        name: "one-clock",
        about: "replicated time is taken from the leader's clock alone",
        bug: Bug::Raft(raft::BelievesOneClock),
        weather: weather::wrong_clocks,
    },
    Sabotage {
        name: "local-limit",
        about: "a limit is read from a flag when a command is applied",
        bug: Bug::Replica(replica::DecidesByLocalLimits),
        weather: weather::different_flags,
    },
    Sabotage {
        name: "memory-limit-at-apply",
        about: "a write is refused by a server's own limit of memory when it is applied",
        bug: Bug::Replica(replica::DecidesMemoryWhenApplied),
        weather: weather::short_memory,
    },
    Sabotage {
        name: "refused-left-out",
        about: "a write that the leader refuses is left out of its run",
        bug: Bug::Replica(replica::LeavesRefusedOut),
        weather: weather::short_memory,
    },
    Sabotage {
        name: "held-write-promised",
        about: "a write for which the disk has no room counts as written",
        bug: Bug::Replica(replica::PromisesWhatIsHeld),
        weather: weather::full_disks,
    },
    Sabotage {
        name: "compaction-under-held",
        about: "a log is compacted though writes that wait for room reach further back",
        bug: Bug::Replica(replica::CompactsUnderHeld),
        weather: weather::full_disks,
    },
    Sabotage {
        name: "refused-after-send",
        about: "\"not executed\" is said of a command that was sent",
        bug: Bug::Replica(replica::RefusesWhatWasSent),
        weather: weather::long_partitions,
    },
    Sabotage {
        name: "refused-on-resend",
        about: "\"not executed\" is said of a command that is to be sent again",
        bug: Bug::Replica(replica::RefusesWhatIsResent),
        weather: weather::long_partitions,
    },
    Sabotage {
        name: "gateway-gap",
        about: "a gateway's sequences are applied with gaps",
        bug: Bug::Replica(replica::AppliesWithGaps),
        weather: weather::elections,
    },
    Sabotage {
        name: "gateway-floor",
        about: "a gateway's floor is one too high",
        bug: Bug::Replica(replica::FloorTooHigh),
        weather: weather::light,
    },
    Sabotage {
        name: "empty-folder-votes",
        about: "a server on an empty folder votes under a known id",
        bug: Bug::Replica(replica::TakesEmptyFolders),
        weather: weather::wiped_folders,
    },
    Sabotage {
        name: "older-folder-votes",
        about: "a server on an older copy of its folder votes",
        bug: Bug::Replica(replica::TakesOlderFolders),
        weather: weather::older_folders,
    },
    Sabotage {
        name: "start-not-synced",
        about: "a start speaks before it is counted on the disk",
        bug: Bug::Log(log::CountsStartsUnsynced),
        weather: weather::power_cuts,
    },
    Sabotage {
        name: "segment-not-synced",
        about: "a segment is left for the next without its sync",
        bug: Bug::Log(log::RotatesWithoutSync),
        weather: weather::power_cuts,
    },
    Sabotage {
        name: "folder-not-synced",
        about: "the folder is not synced after a file is made or renamed",
        bug: Bug::Disk(DiskBug::SkipsFolderSyncs),
        weather: weather::power_cuts,
    },
    Sabotage {
        name: "sync-error-ignored",
        about: "a sync that failed is taken for done",
        bug: Bug::Disk(DiskBug::HidesSyncErrors),
        weather: weather::failing_syncs,
    },
    Sabotage {
        name: "cut-record-stays",
        about: "a record that was cut off is not overwritten, nor what a segment held before",
        bug: Bug::Disk(DiskBug::ForgetsZeros),
        weather: weather::power_cuts,
    },
    Sabotage {
        name: "unsynced-bytes-trusted",
        about: "recovery trusts bytes that were never synced",
        bug: Bug::Disk(DiskBug::TrustsWhatItReads),
        weather: weather::power_cuts,
    },
    Sabotage {
        name: "snapshot-without-sessions",
        about: "a snapshot does not hold the sessions",
        bug: Bug::Replica(replica::SnapshotWithoutSessions),
        weather: weather::snapshots,
    },
    Sabotage {
        name: "snapshot-without-data",
        about: "a snapshot does not hold keys and values",
        bug: Bug::Replica(replica::SnapshotWithoutData),
        weather: weather::snapshots,
    },
    Sabotage {
        name: "snapshot-over-newer",
        about: "a snapshot is installed although more than it says has been applied",
        bug: Bug::Raft(raft::InstallsOverNewer),
        weather: weather::slow_transfers,
    },
    Sabotage {
        name: "purged-log-to-send",
        about: "a leader whose log does not reach back far enough sends from where it begins",
        bug: Bug::Raft(raft::ProbesWithPurgedLog),
        weather: weather::snapshots,
    },
    Sabotage {
        name: "snapshot-and-log-disagree",
        about: "a log that does not hold the snapshot's position is gone on with",
        bug: Bug::Log(log::KeepsLogWithoutSnapshot),
        weather: weather::slow_transfers,
    },
    Sabotage {
        name: "snapshot-content-not-synced",
        about: "a snapshot gets its name before its content is synced",
        bug: Bug::Log(log::NamesSnapshotBeforeContent),
        weather: weather::snapshots,
    },
    Sabotage {
        name: "snapshot-name-not-synced",
        about: "a snapshot's name is not synced before the log is compacted",
        bug: Bug::Log(log::NamesSnapshotWithoutSync),
        weather: weather::snapshots,
    },
    Sabotage {
        name: "segments-before-header",
        about: "segments are deleted before the header that repeats their vote is synced",
        bug: Bug::Log(log::DeletesBeforeHeader),
        weather: weather::snapshots,
    },
    Sabotage {
        name: "backup-without-round",
        about: "a backup is begun of whatever is applied, without a read index",
        bug: Bug::Replica(replica::BackupWithoutRound),
        weather: weather::backups,
    },
    Sabotage {
        name: "rotten-snapshot-served",
        about: "a snapshot is given to others without a look at whether it has rotted",
        bug: Bug::Replica(replica::ServesRottenSnapshots),
        weather: weather::rotten_snapshots,
    },
    Sabotage {
        name: "report-of-later-state",
        about: "the digest that is reported of a check is that of the state when the server gets to it",
        bug: Bug::Replica(replica::ReportsLaterState),
        weather: weather::comparisons,
    },
    Sabotage {
        name: "reports-of-any-check",
        about: "reports are compared whatever checks they are of",
        bug: Bug::Replica(replica::ComparesAnyCheck),
        weather: weather::comparisons,
    },
];
