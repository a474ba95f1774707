//! The servers that are measured: where they are, which of them leads, and what they say they are. Standard commands only. Must
//! not know what is measured.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use quorate_resp::Frame;

use super::plan::Whereto;
use crate::config::Address;
use crate::shell::{ask, ask_info};

/// How long one server may take to say what it is.
const ASK_WAIT_MAX: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Servers {
    /// Where connections go.
    pub(super) addresses: Vec<SocketAddr>,
    /// How those were named.
    pub(super) names: Vec<String>,
    /// What the first of them runs: `quorate 0.1.0`.
    pub(super) program: Option<String>,
}

impl Servers {
    /// Looks the servers up, and asks them who leads if that matters. One that does not answer is used all the same where all
    /// are: that it does not is what the report will say.
    pub(super) fn find(servers: &[Address], to: Whereto, timeout: Duration) -> Result<Self, String> {
        let wait = timeout.min(ASK_WAIT_MAX);
        let used: Vec<&Address> = match to {
            Whereto::All => servers.iter().collect(),
            Whereto::Leader => vec![leader(servers, wait)?],
        };
        let addresses = used.iter().map(|server| reachable(server, wait)).collect::<Result<_, _>>()?;
        let program = used.iter().find_map(|server| program(server, wait));
        Ok(Self { addresses, names: used.iter().map(ToString::to_string).collect(), program })
    }
}

/// The one that calls itself master, as `ROLE` has it.
fn leader(servers: &[Address], wait: Duration) -> Result<&Address, String> {
    let mut said = Vec::new();
    for server in servers {
        match ask(server, &["ROLE"], wait) {
            Ok(Frame::Array(items)) => match items.first().and_then(Frame::as_text) {
                Some(role) if role.as_ref() == b"master" => return Ok(server),
                Some(role) => said.push(format!("{server}: {}", role.escape_ascii())),
                None => said.push(format!("{server}: no role")),
            },
            Ok(Frame::Error(text)) => said.push(format!("{server}: {}", text.escape_ascii())),
            Ok(_) => said.push(format!("{server}: no role")),
            Err(error) => said.push(format!("{server}: {error}")),
        }
    }
    Err(format!("none of the servers leads: {}", said.join("; ")))
}

/// Of the addresses of a name the first that answers; the first of all if none does.
fn reachable(server: &Address, wait: Duration) -> Result<SocketAddr, String> {
    let resolved = (server.host.as_str(), server.port).to_socket_addrs();
    let all: Vec<SocketAddr> = resolved.map_err(|error| format!("{server}: {error}"))?.collect();
    match all[..] {
        [] => Err(format!("{server}: the name has no address")),
        [only] => Ok(only),
        [first, ..] => {
            let answers = |address: &&SocketAddr| TcpStream::connect_timeout(address, wait).is_ok();
            Ok(all.iter().find(answers).copied().unwrap_or(first))
        }
    }
}

/// Name and version, if it says any.
fn program(server: &Address, wait: Duration) -> Option<String> {
    let info = ask_info(server, wait).ok()?;
    let names = [("quorate_version", "quorate"), ("valkey_version", "valkey"), ("redis_version", "redis")];
    names.iter().find_map(|(field, name)| Some(format!("{name} {}", info.get(*field)?)))
}
