//! The bodies of the fuzz targets: each takes any bytes and must not panic. `fuzz/` runs them under libFuzzer; a test
//! runs them over the committed corpus and seeded changes of it, without any tool. Knows no file and no seed.

mod frames;
mod input;
mod peer;
mod recovery;
mod state;

pub use frames::frames;
pub use peer::peer;
pub use recovery::recovery;
pub use state::state;
