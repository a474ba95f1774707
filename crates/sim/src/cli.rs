//! What the program does for a person with a failing seed: shows a run, writes its files, compares it with itself. Part
//! of the program, not of the library: it writes files and starts threads, and a run may not.

pub(crate) mod lockstep;
pub(crate) mod look;
pub(crate) mod smaller;
pub(crate) mod tell;
