//! Ports for servers under test. One scheme for all test programs of the workspace: those of `sim` include this file.

use std::fs::File;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// A port that no other test has, and nobody listens on.
///
/// They lie below the range from which the system draws ports for outgoing connections, and a lock on a file per port
/// keeps tests in other processes away for as long as this process lives.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 21_000;
    const COUNT: u16 = 9_000;
    let folder = std::env::temp_dir().join("quorate-test-ports");
    std::fs::create_dir_all(&folder).unwrap();
    let seed = u16::try_from(std::process::id() * 37 % u32::from(COUNT)).unwrap();
    for _ in 0..COUNT {
        let port = FIRST + (seed + NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let file = File::options().create(true).append(true).open(folder.join(port.to_string())).unwrap();
        if file.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            // Leaked on purpose: the port is ours until the process ends.
            std::mem::forget(file);
            return port;
        }
    }
    panic!("no port is free");
}
