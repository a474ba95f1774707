//! Part 3A and the additions of 2025: whole servers under Clerks, in the simulator's own [`crate::world`], with all of
//! its invariants and checkers.
