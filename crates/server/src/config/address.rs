//! Addresses, as they stand in flags. Must not know who is found there.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use quorate_raft::NodeId;

use super::{ConfigError, invalid};

/// Members of a cluster at most.
const MEMBERS_MAX: usize = 7;

/// A host, by name or number, and a port. Names are resolved when they are used, each time anew.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Address {
    /// A name, an IPv4 address, or an IPv6 address without its brackets.
    pub(crate) host: String,
    /// The port.
    pub(crate) port: u16,
}

/// `--peers`.
pub(super) fn parse_peers(text: &str) -> Result<BTreeMap<NodeId, Address>, ConfigError> {
    let wrong = |problem: String| invalid("peers", text, problem);
    let mut peers = BTreeMap::new();
    for member in text.split(',').filter(|member| !member.is_empty()) {
        let (id, address) =
            member.split_once('=').ok_or_else(|| wrong(format!("'{member}' is not ID=HOST:PORT")))?;
        let id = id.trim().parse().ok().and_then(NodeId::new);
        let id =
            id.ok_or_else(|| wrong(format!("'{member}' does not begin with an id; ids are 1 and up")))?;
        let address: Address =
            address.trim().parse().map_err(|problem: BadAddress| wrong(format!("'{member}': {problem}")))?;
        if peers.values().any(|other| *other == address) {
            return Err(wrong(format!("two servers have the address {address}")));
        }
        if peers.insert(id, address).is_some() {
            return Err(wrong(format!("id {} is there twice", id.get())));
        }
    }
    match peers.len() {
        0 => Err(wrong("it names no server".to_owned())),
        1..=MEMBERS_MAX => Ok(peers),
        count => Err(wrong(format!("it names {count} servers; a cluster has at most {MEMBERS_MAX}"))),
    }
}

/// The text is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadAddress {
    /// There is no colon, or nothing before it.
    #[error("an address is HOST:PORT, such as 127.0.0.1:6379 or [::1]:6379")]
    NoHostAndPort,
    /// What follows the colon is no port.
    #[error("a port is a number from 1 to 65535")]
    NoPort,
}

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let (host, port) = text.rsplit_once(':').ok_or(BadAddress::NoHostAndPort)?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        // An IPv6 address without brackets would lose its last group to the port.
        if bracketed.is_none() && host.contains(':') {
            return Err(BadAddress::NoHostAndPort);
        }
        let host = bracketed.unwrap_or(host);
        if host.is_empty() || host.contains(char::is_whitespace) {
            return Err(BadAddress::NoHostAndPort);
        }
        let port = port.parse().ok().filter(|port| *port != 0).ok_or(BadAddress::NoPort)?;
        Ok(Self { host: host.to_owned(), port })
    }
}

/// As it is written in a flag: IPv6 addresses in brackets.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Address {
    /// Whether only this machine can reach it.
    pub(crate) fn is_loopback(&self) -> bool {
        self.host == "localhost"
            || self.host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_a_host_and_a_port() {
        for text in ["127.0.0.1:1", "[::1]:65535", "db.example:6379"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for text in ["", "a", ":1", "a:", "a:0", "a:65536", "::1:1", "a b:1"] {
            text.parse::<Address>().unwrap_err();
        }
        assert!("localhost:1".parse::<Address>().unwrap().is_loopback());
        assert!("[::1]:1".parse::<Address>().unwrap().is_loopback());
        assert!(!"0.0.0.0:1".parse::<Address>().unwrap().is_loopback());
    }
}
