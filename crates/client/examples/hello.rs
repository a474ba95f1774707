//! Three writes and a read, against the cluster that `quorate demo` starts:
//!
//! ```text
//! cargo run -p quorate-client --example hello
//! cargo run -p quorate-client --example hello -- 10.0.0.1:6379 10.0.0.2:6379
//! ```
//!
//! Kill a server while it runs: the numbers go on, none is missing and none comes twice.

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use quorate_client::blocking::Clerk;

const TIMEOUT: Duration = Duration::from_secs(10);

#[expect(clippy::print_stderr, reason = "an example talks to whoever runs it")]
fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]
fn run() -> Result<(), Box<dyn Error>> {
    let mut servers: Vec<String> = std::env::args().skip(1).collect();
    if servers.is_empty() {
        servers = [6379, 6380, 6381].map(|port| format!("127.0.0.1:{port}")).into();
    }
    let clerk = Clerk::connect(servers)?;

    clerk.put("greeting", "hello", TIMEOUT)?;
    let length = clerk.append("greeting", ", world", TIMEOUT)?;
    let greeting = clerk.get("greeting", TIMEOUT)?.unwrap_or_default();
    println!("{} ({length} bytes)", String::from_utf8_lossy(&greeting));

    clerk.delete("numbers", TIMEOUT)?;
    for number in 1..=1_000 {
        clerk.append("numbers", format!("{number} "), TIMEOUT)?;
    }
    let numbers = clerk.get("numbers", TIMEOUT)?.unwrap_or_default();
    let expected: String = (1..=1_000).map(|number| format!("{number} ")).collect();
    println!("1,000 appends, each exactly once: {}", numbers == expected);
    clerk.close(TIMEOUT)?;
    Ok(())
}
