//! The simulated disk itself: what it forgets, what it keeps, and that it does so the same way each time.

use quorate_storage::{Disk, DiskFile, SimDisk};

fn file(disk: &SimDisk, name: &str) -> Box<dyn DiskFile> {
    disk.create(name).unwrap()
}

/// A synced file of three sectors of `a`.
fn three_sectors() -> SimDisk {
    let disk = SimDisk::new();
    let mut file = file(&disk, "f");
    file.write_at(0, &[b'a'; 1536]).unwrap();
    file.sync_data().unwrap();
    disk.sync_folder().unwrap();
    disk
}

#[test]
fn a_killed_process_leaves_unsynced_bytes_readable_and_a_power_cut_takes_them() {
    let disk = three_sectors();
    disk.open("f").unwrap().write_at(500, &[b'b'; 100]).unwrap();
    disk.crash_process();
    assert_eq!(disk.content("f").unwrap()[500..600], [b'b'; 100]);
    disk.crash_power(0);
    assert_eq!(disk.content("f").unwrap(), [b'a'; 1536]);
}

#[test]
fn a_file_without_a_name_lives_as_long_as_it_is_open_or_may_come_back() {
    let disk = three_sectors();
    let open = disk.open("f").unwrap();
    disk.remove("f").unwrap();
    let mut byte = [0];
    open.read_at(1000, &mut byte).unwrap();
    disk.sync_folder().unwrap();
    open.read_at(1000, &mut byte).unwrap();
    assert_eq!((byte, disk.files()), ([b'a'], 1));
    drop(open);
    disk.sync_folder().unwrap();
    assert_eq!(disk.files(), 0);

    let disk = three_sectors();
    disk.remove("f").unwrap();
    let back = disk.fork();
    back.crash_power(0);
    assert_eq!(back.content("f").unwrap().len(), 1536);
    // Renamed over, and made and removed before anybody synced the folder.
    for name in ["g", "h"] {
        drop(file(&disk, name));
    }
    disk.rename("g", "f").unwrap();
    disk.remove("h").unwrap();
    disk.sync_folder().unwrap();
    drop(file(&disk, "g"));
    disk.rename("g", "f").unwrap();
    assert_eq!(disk.files(), 2);
    disk.sync_folder().unwrap();
    assert_eq!((disk.files(), disk.names()), (1, vec!["f".to_owned()]));
}

#[test]
fn a_power_cut_tears_at_sectors_and_keeps_any_subset() {
    let mut images = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let disk = three_sectors();
        disk.open("f").unwrap().write_at(0, &[b'b'; 1536]).unwrap();
        disk.crash_power(seed);
        let content = disk.content("f").unwrap();
        assert_eq!(content.len(), 1536);
        let sectors: Vec<u8> = content.chunks(512).map(|sector| sector[0]).collect();
        for (sector, first) in content.chunks(512).zip(&sectors) {
            assert!(sector.iter().all(|byte| byte == first), "a sector is atomic");
        }
        images.insert(sectors);
    }
    assert_eq!(images.len(), 8, "every subset is drawn");
}

#[test]
fn a_content_between_two_syncs_can_be_the_one_that_survives() {
    let mut images = std::collections::BTreeSet::new();
    for seed in 0..100 {
        let disk = three_sectors();
        let mut file = disk.open("f").unwrap();
        for byte in *b"bcd" {
            file.write_at(0, &[byte; 512]).unwrap();
        }
        disk.crash_power(seed);
        images.insert(disk.content("f").unwrap()[0]);
    }
    assert_eq!(images, b"abcd".iter().copied().collect());
}

#[test]
fn growth_that_was_not_synced_can_be_lost_or_be_zeros() {
    let mut lengths = std::collections::BTreeSet::new();
    for seed in 0..100 {
        let disk = three_sectors();
        disk.open("f").unwrap().write_at(1536, &[b'b'; 700]).unwrap();
        disk.crash_power(seed);
        let content = disk.content("f").unwrap();
        assert!(
            content[1536..]
                .chunks(512)
                .all(|part| part == vec![b'b'; part.len()] || part == vec![0; part.len()])
        );
        lengths.insert(content.len());
    }
    assert_eq!(lengths.into_iter().collect::<Vec<_>>(), [1536, 2048, 2236]);
}

#[test]
fn names_live_and_die_with_the_sync_of_the_folder() {
    let disk = three_sectors();
    file(&disk, "g").sync_data().unwrap();
    disk.rename("f", "h").unwrap();
    assert_eq!(disk.names(), ["g", "h"]);
    assert_eq!(disk.durable_image().names(), ["f"]);
    disk.sync_folder().unwrap();
    assert_eq!(disk.durable_image().names(), ["g", "h"]);
    disk.remove("g").unwrap();
    assert_eq!(disk.durable_image().names(), ["g", "h"]);
    assert_eq!(disk.durable_image().content("h").unwrap(), [b'a'; 1536]);
}

#[test]
fn a_failed_sync_drops_what_it_did_not_write_for_good() {
    let disk = three_sectors();
    let mut file = disk.open("f").unwrap();
    file.write_at(0, &[b'b'; 1536]).unwrap();
    disk.fail_next_sync();
    file.sync_data().unwrap_err();
    file.sync_data().unwrap();
    assert_eq!(disk.content("f").unwrap(), [b'b'; 1536], "readable");
    let durable = disk.durable_image().content("f").unwrap();
    assert!(durable.contains(&b'a'), "and not durable, whatever the second sync said");
    file.write_at(0, &[b'c'; 1536]).unwrap();
    file.sync_data().unwrap();
    assert_eq!(disk.durable_image().content("f").unwrap(), [b'c'; 1536]);
}

#[test]
fn handles_die_with_their_process_and_the_lock_too() {
    let disk = three_sectors();
    let mut file = disk.open("f").unwrap();
    let lock = disk.lock().unwrap();
    assert!(disk.lock().err().unwrap().is_in_use());
    disk.crash_process();
    file.write_at(0, b"x").unwrap_err();
    let _new = disk.lock().unwrap();
    drop(lock);
    assert!(disk.lock().err().unwrap().is_in_use(), "the dead one's lock frees nothing");
}

#[test]
fn a_full_disk_refuses_growth_alone() {
    let disk = three_sectors();
    disk.set_capacity_bytes(Some(2000));
    let mut file = disk.open("f").unwrap();
    assert_eq!(disk.free_bytes().unwrap(), 464);
    assert!(file.write_at(1536, &[0; 465]).unwrap_err().is_full());
    file.write_at(0, &[b'b'; 1536 + 464]).unwrap();
}

#[test]
fn the_same_seeds_give_the_same_disk() {
    let run = || {
        let disk = three_sectors();
        let mut other = file(&disk, "g");
        other.write_at(100, &[b'z'; 3000]).unwrap();
        disk.open("f").unwrap().write_at(1, &[b'b'; 1500]).unwrap();
        disk.crash_at(disk.operations() + 1, 5);
        other.write_at(0, &[b'y'; 3000]).unwrap_err();
        assert!(disk.is_crashed());
        disk.crash_power(12345);
        (disk.names(), disk.content("f"), disk.content("g"))
    };
    assert_eq!(run(), run());
}
