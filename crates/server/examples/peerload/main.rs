//! A closed-loop load for `scripts/compare`: the same keys, values and clock against any Redis (and so against Quorate),
//! etcd and `ZooKeeper`. Must not be needed by the product: it is an example, built with the development dependencies.
//!
//! One thread drives all clients. Each client sends one batch (`--pipeline` commands), waits for all its answers, and
//! sends the next; the time of a batch is the time of each command in it. The clock starts when all are connected. An
//! answer other than the expected one ends the run: a load that counts refusals as work measures nothing.
//!
//! ```text
//! cargo run --release --example peerload -- --target etcd --server 127.0.0.1:2379 --do set --clients 64 --seconds 2
//! ```

#![forbid(unsafe_code)]

mod draw;
mod etcd;
mod resp;
mod tally;
mod zookeeper;

use std::io::Write;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};
use draw::Draw;
use tally::Tally;
use tokio::task::LocalSet;

/// What is spoken to the server.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Target {
    /// The Redis protocol: Redis, Quorate
    Redis,
    /// gRPC: `Put`, `Range` (linearizable), and for `fill` `Txn`s of puts
    Etcd,
    /// `setData`, `getData` on the same server, and for `fill` `create`
    Zookeeper,
}

/// What each command does.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Work {
    /// Writes a random key
    Set,
    /// Reads a random key, which must be there
    Get,
    /// Adds a value to the end of a random key (Redis protocol)
    Append,
    /// Writes each key once, in order, and ends
    Fill,
}

#[derive(Parser)]
#[command(max_term_width = 100)]
struct Args {
    /// What is spoken to the server
    #[arg(long, value_enum, default_value_t = Target::Redis)]
    target: Target,
    /// Where all clients connect to
    #[arg(long, value_name = "HOST:PORT")]
    server: String,
    /// What each command does
    #[arg(long = "do", value_enum, default_value_t = Work::Set)]
    work: Work,
    /// Clients, each with one batch under way
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// Commands in a batch
    #[arg(long, default_value_t = 1)]
    pipeline: usize,
    /// Different keys, `key:000000000000` and on
    #[arg(long, default_value_t = 100_000)]
    keys: u64,
    /// One key for all commands instead
    #[arg(long)]
    key: Option<String>,
    /// Length of a value
    #[arg(long, default_value_t = 100)]
    value_bytes: usize,
    /// How long (`fill` ends by itself)
    #[arg(long, default_value_t = 2.0, conflicts_with = "count")]
    seconds: f64,
    /// That many commands at least, instead of a time
    #[arg(long)]
    count: Option<u64>,
    /// Redis: after each batch of writes, `WAIT` for so many replicas
    #[arg(long, default_value_t = 0)]
    wait: usize,
    /// `ZooKeeper`: send a `sync` before each read, in the same write
    #[arg(long)]
    sync: bool,
    /// etcd: clients that share a connection
    #[arg(long, default_value_t = 1)]
    share: usize,
    /// Redis: connections that are open beside and say nothing
    #[arg(long, default_value_t = 0)]
    idle: usize,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// One client's way to the server.
trait Session {
    /// Sends one batch and waits for all answers. Whatever is not the expected answer is an error.
    async fn batch(&mut self, draw: &mut Draw) -> Result<()>;
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => LocalSet::new().block_on(&runtime, measure(&args)),
        Err(error) => Err(error.into()),
    };
    let (text, code) = match result {
        Ok(line) => (line, ExitCode::SUCCESS),
        Err(error) => (format!("peerload: {error:#}"), ExitCode::FAILURE),
    };
    let written = if code == ExitCode::SUCCESS {
        writeln!(std::io::stdout(), "{text}")
    } else {
        writeln!(std::io::stderr(), "{text}")
    };
    if written.is_ok() { code } else { ExitCode::FAILURE }
}

async fn measure(args: &Args) -> Result<String> {
    ensure!(args.clients > 0 && args.pipeline > 0 && args.keys > 0 && args.share > 0, "0 of something");
    ensure!(args.work != Work::Append || args.target == Target::Redis, "append is of the Redis protocol");
    let _idle = resp::idle(&args.server, args.idle).await?;
    match args.target {
        Target::Redis => drive(resp::connect(args).await?, args).await,
        Target::Etcd => drive(etcd::connect(args).await?, args).await,
        Target::Zookeeper => drive(zookeeper::connect(args).await?, args).await,
    }
}

/// When a client stops.
#[derive(Clone, Copy)]
enum End {
    At(Instant),
    /// The shared count is used up.
    Count,
}

async fn drive<S: Session + 'static>(sessions: Vec<S>, args: &Args) -> Result<String> {
    let batch = args.pipeline as u64;
    let count = if args.work == Work::Fill { Some(args.keys) } else { args.count };
    let share = Rc::new(draw::Share::new(count.unwrap_or(u64::MAX)));
    let start = Instant::now();
    let end = match count {
        Some(_) => End::Count,
        None => End::At(start + Duration::from_secs_f64(args.seconds)),
    };
    let mut clients = Vec::new();
    for (number, session) in (1..).zip(sessions) {
        let draw = Draw::new(args, number, Rc::clone(&share));
        clients.push(tokio::task::spawn_local(client(session, draw, batch, end)));
    }
    let mut tally = Tally::default();
    for client in clients {
        tally.add(client.await??);
    }
    Ok(tally.line(args.pipeline, start.elapsed()))
}

async fn client<S: Session>(mut session: S, mut draw: Draw, batch: u64, end: End) -> Result<Tally> {
    let mut tally = Tally::default();
    loop {
        let from = Instant::now();
        match end {
            End::At(end) if from >= end => return Ok(tally),
            End::Count if !draw.take(batch) => return Ok(tally),
            End::At(_) | End::Count => {}
        }
        session.batch(&mut draw).await?;
        tally.record(from.elapsed());
    }
}
