//! What a node remembers: its identity, a write-ahead log of hard state and entries in segments, and snapshots.
//!
//! It knows nothing of Raft's rules, of time, of threads or of async code, and touches the world only through
//! [`Disk`]. The format byte by byte, the rules and the assumptions about media are in `docs/storage.md`.
//!
//! The order of the files: [`disk`] is the door to the world and [`SimDisk`] the one in memory; [`identity`]
//! says whose folder it is, [`starts`] what was heard of others; `record` is the layout of one record; `recovery` reads a log and judges it;
//! [`Wal`] writes it, [`snapshot`] what takes the place of its beginning; [`restore`] begins with another cluster's, which
//! an [`Origin`] names, and [`survivor`] with what is left of one; and [`Folder`] opens all of it in the one right order.
#![forbid(unsafe_code)]

pub mod anew;
mod aside;
pub mod disk;
mod folder;
pub mod identity;
mod origin;
mod record;
mod recovery;
pub mod restore;
pub mod sabotage;
mod segment;
mod sim_disk;
mod sim_file;
pub mod snapshot;
pub mod starts;
pub mod survivor;
mod usage;
pub mod verify;
mod wal;

pub use disk::{Disk, DiskError, DiskFile, DiskOperation, FolderLock};
pub use folder::{Folder, FolderConfig, FolderError};
pub use identity::{ClusterId, Identity, IdentityError, Incarnation, Member};
pub use origin::Origin;
pub use record::{ENTRY_BYTES_MAX, FORMAT_VERSION, LogOffset, RECORD_PAYLOAD_BYTES_MAX};
pub use recovery::{Cut, Damage, LogError, Outcome};
pub use sim_disk::{DiskBug, SimDisk};
pub use snapshot::{
    SnapshotCheck, SnapshotError, SnapshotFile, SnapshotReader, SnapshotReceiver, SnapshotWriter, StateError,
    StreamCheck,
};
pub use starts::{Start, Starts, StartsError};
pub use wal::{
    IfMissing, OpenError, PREPARE_STEP_BYTES, SEGMENT_BYTES_DEFAULT, SEGMENT_BYTES_MIN, Wal, WalConfig,
    WriteError,
};
