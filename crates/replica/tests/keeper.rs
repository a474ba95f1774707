//! The keeper of snapshots on a simulated disk: what it must not let count.

use std::sync::Arc;

use quorate_raft::{Index, Position, Term};
use quorate_replica::keeper::{Keeper, Worked};
use quorate_replica::transfer::{SnapshotJob, SnapshotNews};
use quorate_storage::{ClusterId, Disk, SimDisk, SnapshotWriter, snapshot};

fn cluster() -> ClusterId {
    ClusterId::new(7).expect("not zero")
}

fn news(keeper: &mut Keeper) -> SnapshotNews {
    loop {
        match keeper.work().expect("a disk that works") {
            Worked::Done(news) => return news,
            Worked::On => {}
            Worked::Idle => panic!("nothing came of it"),
        }
    }
}

/// All checksums of the file are right, and the state in it is of a format that nobody here knows: a newer version has
/// written it. If it counted, the next start would drop the log for it.
#[test]
fn a_snapshot_whose_state_cannot_be_loaded_never_counts() {
    let last = Position::new(Term(1), Index(100));
    let theirs = Arc::new(SimDisk::new());
    let mut writer = SnapshotWriter::create(Arc::clone(&theirs) as Arc<dyn Disk>, cluster(), last).unwrap();
    writer.block(&[3, 0, 0, 0]).unwrap();
    let file = writer.finish(9).unwrap();
    let bytes = file.read_at(0, usize::MAX).unwrap();

    let ours = Arc::new(SimDisk::new());
    let mut keeper = Keeper::new(Arc::clone(&ours) as Arc<dyn Disk>, 1);
    keeper.push(SnapshotJob::Receive { cluster: cluster(), last });
    assert!(matches!(news(&mut keeper), SnapshotNews::Received { bytes: 0, .. }));
    keeper.push(SnapshotJob::Store { last, offset: 0, bytes });
    let SnapshotNews::Failed { why, .. } = news(&mut keeper) else { panic!("it counts") };
    assert!(why.contains("format 3"), "{why}");
    assert_eq!(snapshot::list(&*ours).unwrap(), []);
    assert_eq!(ours.names(), [""; 0], "nothing of it stays");
}

/// A peer may offer anything.
#[test]
fn a_snapshot_of_an_impossible_position_is_refused() {
    let mut keeper = Keeper::new(Arc::new(SimDisk::new()), 1);
    for (term, index) in [(1, u64::MAX - 1), (1, 1 << 62), (0, 1), (1, 0)] {
        let last = Position::new(Term(term), Index(index));
        keeper.push(SnapshotJob::Receive { cluster: cluster(), last });
        assert!(matches!(news(&mut keeper), SnapshotNews::Failed { .. }), "{last}");
    }
}
