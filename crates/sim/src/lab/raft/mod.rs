//! Parts 2A to 2D: consensus alone, on real nodes, real wire bytes and a simple disk, under the course's network.
//! [`cluster`] is the machinery, [`snapshots`] a part of it, [`network`] the ways, [`checks`] what the course's own test driver asks; the parts
//! are one file each.

pub(crate) mod checks;
pub(crate) mod cluster;
pub(crate) mod network;
pub(crate) mod part_2a;
pub(crate) mod part_2b;
pub(crate) mod part_2b_counts;
pub(crate) mod part_2c;
pub(crate) mod part_2c_wild;
pub(crate) mod part_2d;
pub(crate) mod snapshots;
