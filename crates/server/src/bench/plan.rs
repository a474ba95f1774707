//! What is to be measured, as it was asked for and as it can be done. Must not know how it is done.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::commands::{Mix, Sizes};
use super::gate::Extent;
use crate::config::{Address, parse_bytes, parse_duration};
use crate::shell::SERVERS_DEFAULT;

/// What may wait to be sent and answered at once: all connections, each with a full pipeline.
const UNDER_WAY_BYTES_MAX: usize = 1 << 30;
/// Requests a second at most: the schedule counts nanoseconds.
const RATE_MAX: u64 = 100_000_000;
/// Commands of a pipeline while the keys are filled, where there are fewer in the plan.
pub(super) const FILL_PIPELINE: usize = 16;

/// `bench`.
#[derive(Args, Debug)]
pub(crate) struct BenchArgs {
    /// What to measure, one after the other: set, get, append, or a mix such as set=1,get=9
    #[arg(value_name = "WORKLOAD", default_values = ["set", "get"])]
    workloads: Vec<Mix>,
    /// Servers of the cluster, or any server that speaks the Redis protocol
    #[arg(long, value_name = "HOST:PORT,…", env = "QUORATE_SERVERS", default_value = SERVERS_DEFAULT, value_delimiter = ',')]
    servers: Vec<Address>,
    /// Where the connections go: to all of the servers in turn, or to the one of them that leads
    #[arg(long, value_enum, default_value = "all")]
    to: Whereto,
    /// Connections
    #[arg(short, long, value_name = "N", default_value = "64", value_parser = clap::value_parser!(u32).range(1..=50_000))]
    connections: u32,
    /// Requests that a connection sends before it waits for their answers
    #[arg(short = 'P', long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pipeline: u32,
    /// How long to measure each workload: 10s, 500ms [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, conflicts_with = "requests")]
    duration: Option<Duration>,
    /// How many requests to measure of each workload, in the place of a duration
    #[arg(short = 'n', long, value_name = "N")]
    requests: Option<NonZeroU64>,
    /// Open loop: so many requests a second, however long the answers take. Without it a connection sends when it was answered
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=RATE_MAX))]
    rate: Option<u64>,
    /// How long to send before it is measured; 0 for not at all
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_pause)]
    warm_up: Duration,
    /// Keys that there are; each request takes one of them at random
    #[arg(long, value_name = "N", default_value = "100000")]
    keys: NonZeroU64,
    /// Bytes of a key
    #[arg(long, value_name = "SIZE", default_value = "16", value_parser = parse_bytes)]
    key_size: u64,
    /// Bytes of a value, and of what is appended: 100, 16KiB
    #[arg(short = 'd', long, value_name = "SIZE", default_value = "100", value_parser = parse_bytes)]
    value_size: u64,
    /// Do not set all the keys before the first workload that reads them
    #[arg(long)]
    no_fill: bool,
    /// How long an answer may take, and a connection
    #[arg(long, value_name = "DURATION", env = "QUORATE_TIMEOUT", default_value = "10s", value_parser = parse_duration)]
    timeout: Duration,
    /// Write the results as JSON; `-` for standard output
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the results as a page, with pictures
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Where the connections go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Whereto {
    /// To each server in turn.
    All,
    /// To the one that leads when it begins.
    Leader,
}

impl Whereto {
    /// As on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Leader => "leader",
        }
    }
}

/// What is to be done, checked.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// One after the other.
    pub(super) workloads: Vec<Mix>,
    /// As they were named.
    pub(super) servers: Vec<Address>,
    /// Which of them are used.
    pub(super) to: Whereto,
    /// How each workload is sent.
    pub(super) load: Load,
    /// Whether the keys are set before they are read.
    pub(super) is_filled: bool,
    /// Where the results go as JSON.
    pub(super) json: Option<PathBuf>,
    /// Where they go as a page.
    pub(super) html: Option<PathBuf>,
}

/// How a workload is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Load {
    /// How many connections.
    pub(super) connections: usize,
    /// Requests of each that are under way at once.
    pub(super) pipeline: usize,
    /// How long.
    pub(super) extent: Extent,
    /// Requests a second, in an open loop.
    pub(super) rate: Option<u64>,
    /// Before it counts.
    pub(super) warm_up: Duration,
    /// Keys and values.
    pub(super) sizes: Sizes,
    /// For an answer, and for a connection.
    pub(super) timeout: Duration,
}

impl BenchArgs {
    /// The plan, or what is wrong with it.
    pub(super) fn resolve(self) -> Result<Plan, String> {
        let keys = self.keys.get();
        let sizes = Sizes {
            key_bytes: size("key-size", self.key_size)?,
            value_bytes: size("value-size", self.value_size)?,
            keys,
        };
        let digits = Sizes::digits(keys);
        if sizes.key_bytes < digits {
            return Err(format!(
                "--key-size {}: {keys} keys have {digits} digits; give them more bytes, or have fewer --keys",
                sizes.key_bytes
            ));
        }
        let span = self.duration.unwrap_or(DURATION_DEFAULT);
        let extent = match self.requests {
            Some(count) => Extent::Requests(count.get()),
            None => Extent::Time(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)),
        };
        let load = Load {
            connections: self.connections as usize,
            pipeline: self.pipeline as usize,
            extent,
            rate: self.rate,
            warm_up: self.warm_up,
            sizes,
            timeout: self.timeout,
        };
        // Filling uses longer pipelines, and so does not come first to its limit.
        if load.under_way_bytes() > UNDER_WAY_BYTES_MAX {
            return Err(format!(
                "{} connections with {} requests of {} bytes each would have {} MiB under way, and {} MiB are the most: \
                 fewer --connections, a shorter --pipeline or a smaller --value-size",
                load.connections,
                load.pipeline,
                sizes.command_bytes_max(),
                load.under_way_bytes() >> 20,
                UNDER_WAY_BYTES_MAX >> 20
            ));
        }
        Ok(Plan {
            workloads: self.workloads,
            servers: self.servers,
            to: self.to,
            load,
            is_filled: !self.no_fill,
            json: self.json,
            html: self.html,
        })
    }
}

/// How long a workload is measured, unless something else is said.
const DURATION_DEFAULT: Duration = Duration::from_secs(10);

impl Load {
    fn under_way_bytes(&self) -> usize {
        self.sizes.command_bytes_max().saturating_mul(self.connections).saturating_mul(self.pipeline)
    }

    /// How the keys are set before they are read: each once, with longer pipelines if that is not too much at once.
    pub(super) fn filling(self) -> Self {
        let pipeline = self.pipeline.max(FILL_PIPELINE);
        let fill = Self {
            pipeline,
            extent: Extent::Requests(self.sizes.keys),
            rate: None,
            warm_up: Duration::ZERO,
            ..self
        };
        if fill.under_way_bytes() > UNDER_WAY_BYTES_MAX {
            Self { pipeline: self.pipeline, ..fill }
        } else {
            fill
        }
    }
}

fn size(flag: &str, bytes: u64) -> Result<usize, String> {
    /// As much as Redis takes.
    const SIZE_BYTES_MAX: u64 = 512 << 20;
    let wrong = || format!("--{flag} {bytes}: at most {SIZE_BYTES_MAX} bytes");
    usize::try_from(bytes).ok().filter(|_| bytes <= SIZE_BYTES_MAX).ok_or_else(wrong)
}

/// A duration that may be none.
fn parse_pause(text: &str) -> Result<Duration, String> {
    if matches!(text, "0" | "0s" | "0ms" | "0m") { Ok(Duration::ZERO) } else { parse_duration(text) }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        bench: BenchArgs,
    }

    fn plan(arguments: &[&str]) -> Result<Plan, String> {
        let all = std::iter::once("bench").chain(arguments.iter().copied());
        Cli::try_parse_from(all).map_err(|error| error.to_string())?.bench.resolve()
    }

    #[test]
    fn what_is_asked_for_is_what_is_planned() {
        let all = plan(&[]).unwrap();
        assert_eq!(all.workloads, ["set", "get"].map(|mix| mix.parse().unwrap()));
        assert_eq!((all.load.connections, all.load.pipeline, all.load.rate), (64, 1, None));
        assert_eq!(all.load.extent, Extent::Time(10_000_000_000));
        let some =
            plan(&["append", "-c", "2", "-P", "3", "-n", "4", "--rate", "5", "--warm-up", "0", "-d", "1KiB"])
                .unwrap();
        assert_eq!(some.workloads, ["append".parse().unwrap()]);
        assert_eq!((some.load.connections, some.load.pipeline, some.load.rate), (2, 3, Some(5)));
        assert_eq!((some.load.extent, some.load.warm_up), (Extent::Requests(4), Duration::ZERO));
        assert_eq!(some.load.sizes, Sizes { key_bytes: 16, value_bytes: 1_024, keys: 100_000 });
        let fill = some.load.filling();
        assert_eq!((fill.pipeline, fill.extent, fill.rate), (FILL_PIPELINE, Extent::Requests(100_000), None));
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        for (arguments, said) in [
            (&["del"][..], "'del' is not measured"),
            (&["-c", "0"], "--connections"),
            (&["--rate", "0"], "--rate"),
            (&["-n", "0"], "--requests"),
            (&["-n", "1", "--duration", "1s"], "--requests"),
            (&["--duration", "1h"], "'1h' is no duration"),
            (&["--servers", "x"], "an address is HOST:PORT"),
            (&["--keys", "1000", "--key-size", "2"], "1000 keys have 3 digits"),
            (&["--value-size", "1GiB"], "--value-size 1073741824"),
            (&["--value-size", "100MiB", "-c", "64"], "MiB under way"),
        ] {
            let error = plan(arguments).unwrap_err();
            assert!(error.contains(said), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn filling_does_not_come_to_a_limit_of_its_own() {
        let large = plan(&["--value-size", "10MiB", "-c", "64"]).unwrap();
        assert_eq!(large.load.filling().pipeline, 1);
    }

    #[test]
    fn each_flag_is_explained_in_the_documentation() {
        let documentation = include_str!("../../../../docs/bench.md");
        for argument in Cli::command().get_arguments().filter_map(clap::Arg::get_long) {
            assert!(argument == "help" || documentation.contains(&format!("`--{argument}")), "--{argument}");
        }
    }
}
