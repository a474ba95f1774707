//! Part 3A and the additions of 2025: whole servers under Clerks, in the simulator's own [`crate::world`], with all of
//! its invariants and checkers. [`cluster`] is what a script may do, [`load`] the course's general test, and the parts
//! are one file each.

pub(crate) mod cluster;
pub(crate) mod load;
pub(crate) mod memory;
pub(crate) mod part_3a;
pub(crate) mod part_3b;
pub(crate) mod rsm;
