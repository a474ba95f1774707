//! Addresses, as they stand in flags. Must not know who is found there.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use quorate_raft::NodeId;

use super::{ConfigError, invalid};

/// Members of a cluster at most.
const MEMBERS_MAX: usize = 7;
/// Addresses of `--join` at most.
const JOIN_MAX: usize = 16;

/// A host, by name or number, and a port. Names are resolved when they are used, each time anew.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Address {
    /// A name, an IPv4 address, or an IPv6 address without its brackets.
    pub(crate) host: String,
    /// The port.
    pub(crate) port: u16,
}

/// The address that is the value of this flag.
pub(super) fn parse_address(flag: &'static str, text: &str) -> Result<Address, ConfigError> {
    text.parse().map_err(|problem: BadAddress| invalid(flag, text, problem.to_string()))
}

/// `--peers` and `--join`, one of which must be there: a server founds a cluster with others, or is taken in by one. Where both
/// are there it joins, and `--peers` says no more than how it dials the servers that are named there.
pub(super) fn parse_members(
    id: NodeId,
    peers: Option<String>,
    join: Option<String>,
) -> Result<(BTreeMap<NodeId, Address>, Vec<Address>), ConfigError> {
    let Some(join) = join else {
        let peers = parse_peers(&peers.ok_or(ConfigError::NoMembers)?)?;
        if !peers.contains_key(&id) {
            return Err(invalid(
                "id",
                id.get(),
                "--peers names no server of this id, and must name all of them; a new server for a running cluster is \
                 started with --join",
            ));
        }
        return Ok((peers, Vec::new()));
    };
    let members: Vec<&str> = join.split(',').map(str::trim).filter(|member| !member.is_empty()).collect();
    if members.is_empty() || members.len() > JOIN_MAX {
        let problem = format!("it names {} servers; one is enough, {JOIN_MAX} are the most", members.len());
        return Err(invalid("join", &join, problem));
    }
    let addresses =
        members.into_iter().map(|member| parse_address("join", member)).collect::<Result<_, _>>()?;
    Ok((peers.map(|peers| parse_peers(&peers)).transpose()?.unwrap_or_default(), addresses))
}

/// `--peer-listen`, and what other servers are told of it: both are `own`, what `--peers` says, where they are not there.
pub(super) fn parse_peer_port(
    own: Option<&Address>,
    listen: Option<String>,
    advertise: Option<String>,
) -> Result<(Address, Address), ConfigError> {
    let listen = match (listen, own) {
        (Some(text), _) => parse_address("peer-listen", &text)?,
        (None, Some(own)) => own.clone(),
        (None, None) => return Err(ConfigError::Missing { flag: "peer-listen" }),
    };
    let advertise = match (advertise, own) {
        (Some(text), _) => {
            let address = parse_address("peer-advertise", &text)?;
            if address.is_unspecified() {
                return Err(invalid(
                    "peer-advertise",
                    text,
                    "it stands for all addresses, and so for none to dial",
                ));
            }
            address
        }
        (None, Some(own)) => own.clone(),
        (None, None) if listen.is_unspecified() => {
            let problem = "it stands for all addresses of this machine: say with --peer-advertise HOST:PORT at which of them \
                           the other servers find this one";
            return Err(invalid("peer-listen", listen, problem));
        }
        (None, None) => listen.clone(),
    };
    Ok((listen, advertise))
}

/// `--peers`.
fn parse_peers(text: &str) -> Result<BTreeMap<NodeId, Address>, ConfigError> {
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
    /// Whether it stands for all addresses of a machine, and so for none that another can dial.
    pub(crate) fn is_unspecified(&self) -> bool {
        self.host.parse().is_ok_and(|address: std::net::IpAddr| address.is_unspecified())
    }

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
