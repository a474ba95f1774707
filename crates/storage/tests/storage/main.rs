//! What storage promises, tried on a disk in memory: formats, round trips, crashes, damage, failing disks.
#![allow(clippy::unwrap_used, reason = "clippy sees functions beside the tests as product code")]

mod anew;
mod bugs;
mod compaction;
mod crash;
mod damage;
mod faults;
mod folder;
mod golden;
mod lives;
mod model;
mod restore;
mod sim_disk;
mod snapshot;
mod support;
mod survivor;
