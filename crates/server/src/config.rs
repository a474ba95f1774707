//! What `quorate serve` is told: flags, environment and file, merged and checked once. Must not know what the
//! settings do.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use quorate_raft::NodeId;
use quorate_replica::replica::{LOG_BYTES_MAX, LOG_TAIL_BYTES};
use serde::Deserialize;

mod address;

pub(crate) use address::Address;
use address::{parse_address, parse_members, parse_peer_port};

/// Where clients find a server that is told nothing else.
pub(crate) const LISTEN_DEFAULT: &str = "127.0.0.1:6379";
/// How long a request waits for a leader, unless told otherwise.
pub(crate) const ELECTION_HOLD_DEFAULT: Duration = Duration::from_secs(3);
/// After how long the outcome of a request that was sent is given up, unless told otherwise.
pub(crate) const REQUEST_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
/// Bytes of the log's entries after which a snapshot is taken, at least.
const LOG_MAX_BYTES_MIN: u64 = 1 << 20;
/// Unless told otherwise, the tail of the log that is kept behind a snapshot is so many times smaller than the log.
const LOG_TAIL_PART: u64 = 32;
/// Bytes that must be free for the data folder, unless told otherwise: four segments of the log as it is by default.
const DISK_RESERVE_BYTES: u64 = 256 << 20;
/// Client connections at most, unless told otherwise.
pub(crate) const MAX_CONNECTIONS_DEFAULT: usize = 20_000;
/// The longest duration that a setting takes: a day. Longer is a slip of the pen.
const DURATION_MAX: Duration = Duration::from_secs(24 * 60 * 60);

const _: () = assert!(LOG_BYTES_MAX / LOG_TAIL_PART == LOG_TAIL_BYTES);

/// The flags of `serve`. Each may also stand in the environment or in the file of `--config`; the flag wins over the
/// environment, and the environment over the file.
#[derive(Args, Debug, Default)]
pub(crate) struct ServeArgs {
    /// Who this server is: 1 or more, and no other server's number
    #[arg(long, value_name = "N", env = "QUORATE_ID")]
    id: Option<u64>,
    /// Folder of this server's data; made if missing
    #[arg(long, value_name = "DIR", env = "QUORATE_DATA")]
    data: Option<PathBuf>,
    /// Address for clients [default: 127.0.0.1:6379]
    #[arg(long, value_name = "HOST:PORT", env = "QUORATE_LISTEN")]
    listen: Option<String>,
    /// Address for the other servers to connect to [default: what --peers says for this id]
    #[arg(long, value_name = "HOST:PORT", env = "QUORATE_PEER_LISTEN")]
    peer_listen: Option<String>,
    /// All founding members, and where this server dials each: 1=HOST:PORT,2=HOST:PORT,…
    #[arg(long, value_name = "ID=HOST:PORT,…", env = "QUORATE_PEERS")]
    peers: Option<String>,
    /// A new server for a running cluster: addresses for the other servers, as in --peers, of some of its members. It waits to
    /// be added with `quorate members add`. Of no meaning once it belongs to a cluster
    #[arg(long, value_name = "HOST:PORT,…", env = "QUORATE_JOIN")]
    join: Option<String>,
    /// Address for the other servers as they should be told it, where it differs from --peer-listen and --peers
    #[arg(long, value_name = "HOST:PORT", env = "QUORATE_PEER_ADVERTISE")]
    peer_advertise: Option<String>,
    /// Address for clients as others should name it, where it differs from --listen
    #[arg(long, value_name = "HOST:PORT", env = "QUORATE_ADVERTISE")]
    advertise: Option<String>,
    /// How long a request waits for a leader: 3s, 500ms [default: 3s]
    #[arg(long, value_name = "DURATION", env = "QUORATE_ELECTION_HOLD")]
    election_hold: Option<String>,
    /// After how long a request without a certain outcome is answered INDOUBT: 5s, 800ms [default: 5s]
    #[arg(long, value_name = "DURATION", env = "QUORATE_REQUEST_TIMEOUT")]
    request_timeout: Option<String>,
    /// Client connections at most [default: 20000]
    #[arg(long, value_name = "N", env = "QUORATE_MAX_CONNECTIONS")]
    max_connections: Option<usize>,
    /// Bytes that keys, values and sessions may take while this server leads, past which writes that grow them get OOM:
    /// 8GiB, 512MiB; 0 for no limit [default: 0]
    #[arg(long, value_name = "BYTES", env = "QUORATE_MEMORY_MAX")]
    memory_max: Option<String>,
    /// Bytes that must be free for the data folder, or writes that make the state grow get OOM while this server leads or
    /// is needed: 1GiB, 0 for none [default: 256MiB]
    #[arg(long, value_name = "BYTES", env = "QUORATE_DISK_RESERVE")]
    disk_reserve: Option<String>,
    /// Bytes of log after which a snapshot takes its place: 1GiB, 16MiB [default: 1GiB]
    #[arg(long, value_name = "BYTES", env = "QUORATE_LOG_MAX")]
    log_max: Option<String>,
    /// Bytes of log kept behind a snapshot for servers that are a little behind [default: a 32nd of --log-max]
    #[arg(long, value_name = "BYTES", env = "QUORATE_LOG_TAIL")]
    log_tail: Option<String>,
    /// TOML file with the same settings, named as the flags without the dashes in front
    #[arg(long, value_name = "FILE", env = "QUORATE_CONFIG")]
    config: Option<PathBuf>,
    /// Not supported yet: the port for cluster-aware clients
    #[arg(long, value_name = "HOST:PORT", env = "QUORATE_CLUSTER_LISTEN", hide = true)]
    cluster_listen: Option<String>,
    /// Stop in order when standard input ends: how `demo` takes its servers along however it dies
    #[arg(long, hide = true)]
    exit_on_stdin_close: bool,
}

/// The same settings in the file of `--config`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ServeFile {
    id: Option<u64>,
    data: Option<PathBuf>,
    listen: Option<String>,
    peer_listen: Option<String>,
    peers: Option<FilePeers>,
    join: Option<FileAddresses>,
    peer_advertise: Option<String>,
    advertise: Option<String>,
    election_hold: Option<FileNumber>,
    request_timeout: Option<FileNumber>,
    max_connections: Option<usize>,
    memory_max: Option<FileNumber>,
    disk_reserve: Option<FileNumber>,
    log_max: Option<FileNumber>,
    log_tail: Option<FileNumber>,
    cluster_listen: Option<String>,
}

/// The text of the flag, or a table `[peers]` with one line a member.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum FilePeers {
    Text(String),
    Table(BTreeMap<String, String>),
}

/// The text of the flag, or a list.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum FileAddresses {
    Text(String),
    List(Vec<String>),
}

/// The text of the flag, or a plain number: of milliseconds or bytes.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum FileNumber {
    Number(u64),
    Text(String),
}

/// What a server runs with, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServeConfig {
    /// Who this is.
    pub(crate) id: NodeId,
    /// The data folder.
    pub(crate) data: PathBuf,
    /// For clients.
    pub(crate) listen: Address,
    /// For the other servers.
    pub(crate) peer_listen: Address,
    /// Where each is dialled, whatever the cluster says; unless `join` is there, all founding members, this one among them.
    pub(crate) peers: BTreeMap<NodeId, Address>,
    /// Where members of a running cluster are found that is to take this server in; empty for none.
    pub(crate) join: Vec<Address>,
    /// Where the other servers find this one.
    pub(crate) peer_advertise: Address,
    /// What others are told about `listen`, where it differs from the address that was bound.
    pub(crate) advertise: Option<Address>,
    /// How long a request waits for a leader.
    pub(crate) election_hold: Duration,
    /// After how long an outcome is given up as unknown.
    pub(crate) request_timeout: Duration,
    /// Client connections at most.
    pub(crate) max_connections: usize,
    /// Bytes that the state may grow to while this server leads; 0 for no limit.
    pub(crate) memory_bytes_max: u64,
    /// Bytes that must be free for the data folder.
    pub(crate) disk_reserve_bytes: u64,
    /// Bytes of the log's entries after which a snapshot is taken.
    pub(crate) log_bytes_max: u64,
    /// Bytes of entries that are kept behind a snapshot.
    pub(crate) log_tail_bytes: u64,
    /// Stop when standard input ends.
    pub(crate) exit_on_stdin_close: bool,
}

/// Why a server cannot run with what it was told: wrong usage, as a sentence.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConfigError {
    /// A setting that has no default is missing.
    #[error(
        "--{flag} is missing: give it as a flag, as {} in the environment, or in the file of --config",
        env_name(flag)
    )]
    Missing {
        /// Without dashes.
        flag: &'static str,
    },
    /// It is not said of which cluster this server is, or will be.
    #[error(
        "--peers is missing: give it as a flag, as {} in the environment, or in the file of --config; a new server for a \
         running cluster is given --join instead",
        env_name("peers")
    )]
    NoMembers,
    /// A value cannot be what it is.
    #[error("--{flag} {value}: {problem}")]
    Invalid {
        /// Without dashes.
        flag: &'static str,
        /// As given.
        value: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The setting is designed, but not built.
    #[error("--{flag} is not supported yet: {instead}")]
    NotYet {
        /// Without dashes.
        flag: &'static str,
        /// What to do for now.
        instead: &'static str,
    },
    /// The file cannot be used.
    #[error("--config {file}: {problem}")]
    File {
        /// Its path.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
}

fn env_name(flag: &str) -> String {
    format!("QUORATE_{}", flag.replace('-', "_").to_uppercase())
}

impl ServeArgs {
    /// Merges flags and environment with the file, and checks the result.
    pub(crate) fn resolve(self) -> Result<ServeConfig, ConfigError> {
        let file = match &self.config {
            Some(path) => ServeFile::read(path)?,
            None => ServeFile::default(),
        };
        self.merge(file)
    }

    fn merge(self, file: ServeFile) -> Result<ServeConfig, ConfigError> {
        if self.cluster_listen.or(file.cluster_listen).is_some() {
            let instead = "the port of --listen takes every command on every server";
            return Err(ConfigError::NotYet { flag: "cluster-listen", instead });
        }
        let id = self.id.or(file.id).ok_or(ConfigError::Missing { flag: "id" })?;
        let id = NodeId::new(id).ok_or_else(|| invalid("id", id, "ids are 1 and up"))?;
        let data = self.data.or(file.data).ok_or(ConfigError::Missing { flag: "data" })?;
        let peers = self.peers.or_else(|| file.peers.map(FilePeers::into_text));
        let join = self.join.or_else(|| file.join.map(FileAddresses::into_text));
        let listen = self.listen.or(file.listen).unwrap_or_else(|| LISTEN_DEFAULT.to_owned());
        let (peers, join) = parse_members(id, peers, join)?;
        let peer_listen = self.peer_listen.or(file.peer_listen);
        let peer_advertise = self.peer_advertise.or(file.peer_advertise);
        let (peer_listen, peer_advertise) = parse_peer_port(peers.get(&id), peer_listen, peer_advertise)?;
        let advertise = self.advertise.or(file.advertise);
        let advertise = advertise.map(|text| parse_address("advertise", &text)).transpose()?;
        let hold = self.election_hold.or_else(|| file.election_hold.map(FileNumber::into_text));
        let timeout = self.request_timeout.or_else(|| file.request_timeout.map(FileNumber::into_text));
        let max_connections =
            self.max_connections.or(file.max_connections).unwrap_or(MAX_CONNECTIONS_DEFAULT);
        if max_connections == 0 {
            return Err(invalid("max-connections", 0, "a server without connections serves nobody"));
        }
        let log_max = self.log_max.or_else(|| file.log_max.map(FileNumber::into_text));
        let log_tail = self.log_tail.or_else(|| file.log_tail.map(FileNumber::into_text));
        let (log_bytes_max, log_tail_bytes) = parse_log(log_max, log_tail)?;
        Ok(ServeConfig {
            id,
            data,
            listen: parse_address("listen", &listen)?,
            peer_listen,
            peers,
            join,
            peer_advertise,
            advertise,
            election_hold: parse_setting("election-hold", hold, ELECTION_HOLD_DEFAULT)?,
            request_timeout: parse_setting("request-timeout", timeout, REQUEST_TIMEOUT_DEFAULT)?,
            max_connections,
            disk_reserve_bytes: parse_size(
                "disk-reserve",
                self.disk_reserve,
                file.disk_reserve,
                DISK_RESERVE_BYTES,
            )?,
            memory_bytes_max: parse_size("memory-max", self.memory_max, file.memory_max, 0)?,
            log_bytes_max,
            log_tail_bytes,
            exit_on_stdin_close: self.exit_on_stdin_close,
        })
    }
}

impl ServeFile {
    fn read(path: &std::path::Path) -> Result<Self, ConfigError> {
        let problem = |problem: String| ConfigError::File { file: path.display().to_string(), problem };
        let text = std::fs::read_to_string(path).map_err(|error| problem(error.to_string()))?;
        toml::from_str(&text).map_err(|error| problem(error.to_string().trim_end().to_owned()))
    }
}

impl FilePeers {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Table(table) => {
                let members: Vec<String> =
                    table.iter().map(|(id, address)| format!("{id}={address}")).collect();
                members.join(",")
            }
        }
    }
}

impl FileAddresses {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::List(list) => list.join(","),
        }
    }
}

impl FileNumber {
    fn into_text(self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text,
        }
    }
}

fn invalid(flag: &'static str, value: impl fmt::Display, problem: impl Into<String>) -> ConfigError {
    ConfigError::Invalid { flag, value: value.to_string(), problem: problem.into() }
}

fn parse_setting(
    flag: &'static str,
    text: Option<String>,
    default: Duration,
) -> Result<Duration, ConfigError> {
    text.map_or(Ok(default), |text| parse_duration(&text).map_err(|problem| invalid(flag, text, problem)))
}

/// `--log-max` and `--log-tail`, which must fit each other.
fn parse_log(max: Option<String>, tail: Option<String>) -> Result<(u64, u64), ConfigError> {
    let bytes = |flag, text: &Option<String>| {
        text.as_ref()
            .map(|text| parse_bytes(text).map_err(|problem| invalid(flag, text, problem)))
            .transpose()
    };
    let max_bytes = bytes("log-max", &max)?.unwrap_or(LOG_BYTES_MAX);
    if max_bytes < LOG_MAX_BYTES_MIN {
        return Err(invalid(
            "log-max",
            max.unwrap_or_default(),
            "below 1MiB a server does little but take snapshots",
        ));
    }
    let tail_bytes = bytes("log-tail", &tail)?.unwrap_or(max_bytes / LOG_TAIL_PART);
    if tail_bytes >= max_bytes {
        let problem =
            format!("it must be below --log-max, which is {max_bytes} bytes: it is a part of that log");
        return Err(invalid("log-tail", tail.unwrap_or_default(), problem));
    }
    Ok((max_bytes, tail_bytes))
}

/// A number of bytes, from the flag or else from the file.
fn parse_size(
    flag: &'static str,
    text: Option<String>,
    file: Option<FileNumber>,
    default: u64,
) -> Result<u64, ConfigError> {
    let Some(text) = text.or_else(|| file.map(FileNumber::into_text)) else { return Ok(default) };
    parse_bytes(&text).map_err(|problem| invalid(flag, text, problem))
}

/// `16MiB`, `1GiB`, `512KiB`, or a plain number of bytes.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|unit: char| unit.is_ascii_alphabetic());
    let wrong = || format!("'{text}' is no size: write 16MiB, 1GiB, 512KiB, or a number of bytes");
    let shift = match &text[digits.len()..] {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

/// `3s`, `500ms`, `2m`, or a plain number of milliseconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|unit: char| unit.is_ascii_alphabetic());
    let unit = &text[digits.len()..];
    let wrong = || format!("'{text}' is no duration: write 3s, 500ms, 2m, or a number of milliseconds");
    let milliseconds_each: u64 = match unit {
        "" | "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let duration = number.checked_mul(milliseconds_each).map(Duration::from_millis);
    duration
        .filter(|duration| (Duration::from_millis(1)..=DURATION_MAX).contains(duration))
        .ok_or_else(|| format!("'{text}' is not between 1ms and a day"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(text: &[(&str, &str)]) -> ServeArgs {
        let mut args = ServeArgs::default();
        for (flag, value) in text {
            let value = (*value).to_owned();
            match *flag {
                "id" => args.id = value.parse().ok(),
                "data" => args.data = Some(value.into()),
                "listen" => args.listen = Some(value),
                "peers" => args.peers = Some(value),
                "peer-listen" => args.peer_listen = Some(value),
                "peer-advertise" => args.peer_advertise = Some(value),
                "join" => args.join = Some(value),
                "election-hold" => args.election_hold = Some(value),
                "log-max" => args.log_max = Some(value),
                "log-tail" => args.log_tail = Some(value),
                "cluster-listen" => args.cluster_listen = Some(value),
                other => panic!("{other}"),
            }
        }
        args
    }

    const THREE: &str = "1=127.0.0.1:7001,2=127.0.0.1:7002,3=db3.example:7003";

    #[test]
    fn flags_alone_are_enough() {
        let config =
            args(&[("id", "2"), ("data", "d"), ("peers", THREE)]).merge(ServeFile::default()).unwrap();
        assert_eq!(config.id.get(), 2);
        assert_eq!(config.listen.to_string(), LISTEN_DEFAULT);
        assert_eq!(config.peer_listen.to_string(), "127.0.0.1:7002");
        assert_eq!(config.peers.len(), 3);
        assert_eq!(config.election_hold, ELECTION_HOLD_DEFAULT);
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let file = "id = 1\ndata = \"x\"\nlisten = \"[::1]:9\"\nelection-hold = 250\n[peers]\n1 = \"h:1\"\n2 = \"h:2\"";
        let config = args(&[("id", "2")]).merge(toml::from_str(file).unwrap()).unwrap();
        assert_eq!(config.id.get(), 2);
        assert_eq!(config.listen.to_string(), "[::1]:9");
        assert_eq!(config.peer_listen.to_string(), "h:2");
        assert_eq!(config.election_hold, Duration::from_millis(250));
    }

    #[test]
    fn an_unknown_setting_in_the_file_is_an_error() {
        assert!(toml::from_str::<ServeFile>("lisen = \"a:1\"").unwrap_err().to_string().contains("lisen"));
    }

    #[track_caller]
    fn refused(text: &[(&str, &str)], sentence: &str) {
        let error = args(text).merge(ServeFile::default()).unwrap_err().to_string();
        assert_eq!(error, sentence);
    }

    #[test]
    fn what_is_wrong_is_said_by_name() {
        refused(
            &[],
            "--id is missing: give it as a flag, as QUORATE_ID in the environment, or in the file of --config",
        );
        refused(&[("id", "0")], "--id 0: ids are 1 and up");
        refused(
            &[("id", "4"), ("data", "d"), ("peers", THREE)],
            "--id 4: --peers names no server of this id, and must name all of them; a new server for a running cluster \
             is started with --join",
        );
        refused(
            &[("id", "1"), ("data", "d"), ("peers", "1=a")],
            "--peers 1=a: '1=a': an address is HOST:PORT, such as 127.0.0.1:6379 or [::1]:6379",
        );
        refused(
            &[("id", "1"), ("data", "d"), ("peers", "1=a:1,1=a:2")],
            "--peers 1=a:1,1=a:2: id 1 is there twice",
        );
        refused(
            &[("id", "1"), ("data", "d"), ("peers", "1=a:1,2=a:1")],
            "--peers 1=a:1,2=a:1: two servers have the address a:1",
        );
        refused(
            &[("id", "1"), ("data", "d"), ("peers", "1=a:1"), ("election-hold", "3 s")],
            "--election-hold 3 s: '3 s' is no duration: write 3s, 500ms, 2m, or a number of milliseconds",
        );
        refused(
            &[("cluster-listen", "a:1")],
            "--cluster-listen is not supported yet: the port of --listen takes every command on every server",
        );
    }

    #[test]
    fn a_new_server_joins_by_addresses_and_is_found_at_one() {
        let joins = |flags: &[(&str, &str)], file: &str| {
            let all = [&[("id", "4"), ("data", "d")], flags].concat();
            let config =
                args(&all).merge(toml::from_str(file).unwrap()).map_err(|error| error.to_string())?;
            let text = |addresses: &[Address]| {
                addresses.iter().map(Address::to_string).collect::<Vec<_>>().join(" ")
            };
            Ok((text(&config.join), text(&[config.peer_listen, config.peer_advertise]), config.peers.len()))
        };
        let ok = |join: &str, own: &str, peers| Ok::<_, String>((join.to_owned(), own.to_owned(), peers));
        let (join, listen) = (("join", "a:1,b:2"), ("peer-listen", "0.0.0.0:7"));
        assert_eq!(joins(&[join, ("peer-listen", "c:7")], ""), ok("a:1 b:2", "c:7 c:7", 0));
        assert_eq!(joins(&[join, listen, ("peer-advertise", "c:9")], ""), ok("a:1 b:2", "0.0.0.0:7 c:9", 0));
        // With --peers it joins all the same, and they say where it dials those that they name.
        assert_eq!(joins(&[join, ("peers", "1=x:1,4=c:7")], ""), ok("a:1 b:2", "c:7 c:7", 2));
        assert_eq!(
            joins(&[], "join = [\"a:1\", \"b:2\"]\npeer-listen = \"c:7\""),
            ok("a:1 b:2", "c:7 c:7", 0)
        );
        assert_eq!(joins(&[], "join = \"a:1\"\npeer-listen = \"c:7\""), ok("a:1", "c:7 c:7", 0));
        assert_eq!(joins(&[("peers", "4=0.0.0.0:7")], ""), ok("", "0.0.0.0:7 0.0.0.0:7", 1));
        let wrong = |flags: &[(&str, &str)]| joins(flags, "").unwrap_err();
        assert!(wrong(&[join]).starts_with("--peer-listen is missing"));
        assert!(wrong(&[join, listen]).contains("say with --peer-advertise HOST:PORT at which of them"));
        assert!(
            wrong(&[join, listen, ("peer-advertise", "[::]:7")]).starts_with("--peer-advertise [::]:7: ")
        );
        assert!(wrong(&[("join", ","), listen]).starts_with("--join ,: it names 0 servers"));
        assert!(wrong(&[("join", "a"), listen]).starts_with("--join a: an address is HOST:PORT"));
        assert!(
            wrong(&[listen]).starts_with("--peers is missing") && wrong(&[listen]).contains("--join instead")
        );
    }

    #[test]
    fn the_log_has_a_bound_and_a_smaller_tail() {
        let log = |flags: &[(&str, &str)], file: &str| {
            let all = [&[("id", "1"), ("data", "d"), ("peers", "1=a:1")], flags].concat();
            let config = args(&all).merge(toml::from_str(file).unwrap())?;
            Ok::<_, ConfigError>((config.log_bytes_max, config.log_tail_bytes))
        };
        assert_eq!(log(&[], ""), Ok((1 << 30, 32 << 20)));
        assert_eq!(log(&[("log-max", "16MiB")], ""), Ok((16 << 20, 1 << 19)));
        assert_eq!(log(&[("log-tail", "0")], "log-max = 4194304\nlog-tail = \"2MiB\""), Ok((4 << 20, 0)));
        assert_eq!(log(&[], "log-max = \"4096KiB\"\nlog-tail = 7"), Ok((4 << 20, 7)));
        let wrong = |flags: &[(&str, &str)]| log(flags, "").unwrap_err().to_string();
        assert_eq!(
            wrong(&[("log-max", "1MiB"), ("log-tail", "1048576")]),
            "--log-tail 1048576: it must be below --log-max, which is 1048576 bytes: it is a part of that log"
        );
        assert_eq!(
            wrong(&[("log-max", "1000")]),
            "--log-max 1000: below 1MiB a server does little but take snapshots"
        );
        for text in ["", "MiB", "1.5GiB", "-1", "16MB", "1 GiB", "16777216TiB", "99999999999999999999"] {
            let sentence = format!(
                "--log-max {text}: '{text}' is no size: write 16MiB, 1GiB, 512KiB, or a number of bytes"
            );
            assert_eq!(wrong(&[("log-max", text)]), sentence);
        }
    }

    #[test]
    fn durations_carry_a_unit_or_are_milliseconds() {
        for (text, milliseconds) in [("3s", 3_000), ("500ms", 500), ("750", 750), ("2m", 120_000)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "s", "-1s", "0", "1h", "1.5s", "99999999999999999999", "2000m"] {
            parse_duration(text).unwrap_err();
        }
    }
}
