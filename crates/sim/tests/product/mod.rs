//! The product as its users build it: apart from the simulator, whose features would bring bugs into it that can be
//! put back. Knows nothing of what it is used for.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds the program `quorate` beside the simulator's own, where nobody has yet.
///
/// # Panics
/// If it cannot be built.
pub(crate) fn built() -> PathBuf {
    let simulator = Path::new(env!("CARGO_BIN_EXE_quorate-sim"));
    let target = simulator.parent().and_then(Path::parent).expect("target/<profile>/quorate-sim");
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--release", "--locked", "--quiet", "--target-dir"]).arg(target);
    let status = build.current_dir(workspace).status().expect("cargo can be run");
    assert!(status.success(), "the product cannot be built");
    target.join("release/quorate")
}
